//! What the job finds in its environment besides ours.

use std::path::{Component, Path};

use crate::model::process::RunId;
use crate::supervisor::AttemptContext;
use crate::sys::environment;

/// The variable by which a process is known to be of this run.
pub(super) const RUN_ID: &str = "CHILDMINDER_RUN_ID";

/// A name and its value; without one the variable is taken out.
pub(super) type Variable = (String, Option<String>);

/// Returns PWD as `cd` would have set it for the job, if an option moves it. We are in the directory
/// of -w by now; a name that is not text is left to the job to find out.
pub(super) fn moved_to(working: Option<&Path>, child: Option<&Path>) -> Option<Variable> {
    let named = child.or(working)?;
    let is_plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    let path = match child {
        _ if named.is_absolute() && named.components().all(is_plain) => Ok(named.to_owned()),
        Some(child) => child.canonicalize(),
        None => std::env::current_dir(),
    };
    Some(("PWD".to_owned(), path.ok().and_then(|path| path.to_str().map(str::to_owned))))
}

/// Returns whether childminder was given that variable.
pub(super) fn is_set(name: &str) -> bool {
    let is_it = |entry: &[u8]| {
        entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'='))
    };
    environment::entries().any(is_it)
}

/// Returns names and values for an attempt; what has no value is taken out, for what a childminder
/// further out set for us is not set again.
pub(super) fn of_attempt(run_id: RunId, attempt: AttemptContext) -> Vec<Variable> {
    let previous = attempt.previous.map(|verdict| verdict.word().to_owned());
    vec![
        (RUN_ID.to_owned(), Some(run_id.to_string())),
        ("CHILDMINDER_ATTEMPT".to_owned(), Some(attempt.attempt.to_string())),
        ("CHILDMINDER_PREVIOUS_VERDICT".to_owned(), previous),
    ]
}
