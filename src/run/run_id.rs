//! The name of a run.

use crate::model::process::RunId;
use crate::sys::clock;

/// A new name for a run.
pub(super) fn new() -> RunId {
    let unix_ms = clock::wall().0.as_millis();
    RunId::new(u64::try_from(unix_ms).unwrap_or(u64::MAX), &clock::random())
}
