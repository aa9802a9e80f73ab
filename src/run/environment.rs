//! What the job finds in its environment besides ours.

use crate::model::process::RunId;
use crate::run::telemetry::Shared;
use crate::supervisor::AttemptContext;

/// The variable by which a process is known to be of this run.
pub(super) const RUN_ID: &str = "CHILDMINDER_RUN_ID";

/// Returns names and values for an attempt; what has no value is taken out, for what a childminder
/// further out told us is not told again.
pub(super) fn of_attempt(
    run_id: RunId,
    attempt: AttemptContext,
    telemetry: Option<&Shared>,
) -> Vec<(String, Option<String>)> {
    let previous = attempt.previous.map(|verdict| verdict.word().to_owned());
    let mut told = vec![
        (RUN_ID.to_owned(), Some(run_id.to_string())),
        ("CHILDMINDER_ATTEMPT".to_owned(), Some(attempt.attempt.to_string())),
        ("CHILDMINDER_PREVIOUS_VERDICT".to_owned(), previous),
    ];
    if let Some(telemetry) = telemetry {
        told.extend(telemetry.borrow_mut().begin_attempt(attempt.attempt));
    }
    told
}
