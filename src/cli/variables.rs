//! The `CHILDMINDER_*` variables: each long option without a letter has one.

use clap::Command;

/// An outer childminder sets these for its job and its hooks. They are not options.
pub(super) const FOR_JOBS: [&str; 10] = [
    "CHILDMINDER_RUN_ID",
    "CHILDMINDER_ATTEMPT",
    "CHILDMINDER_PREVIOUS_VERDICT",
    // For hooks.
    "CHILDMINDER_JOB_NAME",
    "CHILDMINDER_VERDICT",
    "CHILDMINDER_CONFIDENCE",
    "CHILDMINDER_EVIDENCE",
    "CHILDMINDER_EXIT_STATUS",
    "CHILDMINDER_SIGNAL",
    "CHILDMINDER_LOG_FILE",
];

/// The common beginning of their names.
pub(super) const PREFIX: &str = "CHILDMINDER_";

/// Two names that share less than this (0 to 1) are not taken for a misspelling of each other.
const SIMILAR: f64 = 0.85;

#[expect(clippy::disallowed_methods, reason = "the environment is part of what was typed")]
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns the table of options in which a variable that is set to an empty text counts as unset.
pub(super) fn without_empty(command: Command) -> Command {
    command.mut_args(|argument| match argument.get_env().map(is_empty) {
        Some(true) => argument.env(None::<&str>),
        _ => argument,
    })
}

#[expect(clippy::disallowed_methods, reason = "the environment is part of what was typed")]
fn is_empty(name: &std::ffi::OsStr) -> bool {
    std::env::var_os(name).is_some_and(|value| value.is_empty())
}

/// Returns a warning for each variable of the environment whose name looks like ours and is not.
pub(super) fn unknown(command: &Command, names: &[String]) -> Vec<String> {
    let ours = || command.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
    let known = || ours().chain(FOR_JOBS);
    let unknown = names
        .iter()
        .filter(|name| name.starts_with(PREFIX) && !known().any(|known| known == *name));
    unknown
        .map(|name| {
            let rated = known().map(|known| (strsim::jaro_winkler(tail(known), tail(name)), known));
            let nearest = rated.max_by(|a, b| a.0.total_cmp(&b.0));
            match nearest.filter(|(similarity, _)| *similarity >= SIMILAR) {
                Some((_, nearest)) => {
                    format!("unknown variable {name} in the environment; did you mean {nearest}?")
                }
                None => format!("unknown variable {name} in the environment"),
            }
        })
        .collect()
}

/// The part of a name that differs.
fn tail(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}
