//! What the wait remembers from one time to the next.

use std::time::Duration;

use crate::model::time::Moment;
use crate::sys::clock;

/// After a system call that failed, nothing is looked at for this long: it may fail again at once.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// See the module's documentation.
#[derive(Default)]
pub(super) struct WaitState {
    /// More children may have changed than one round takes in.
    pub(super) has_more_changes: bool,
    /// A system call failed: until then nothing is looked at.
    pub(super) retry_at: Option<Moment>,
    /// The job has ended and waitid(2) does not say how, for a tracer holds the zombie (ptrace(2)):
    /// the pidfd stays readable, so it is not waited for. SIGCHLD comes when the tracer lets go.
    pub(super) look_again_at: Option<Moment>,
    /// How often waitid(2) failed after the job had ended.
    pub(super) failures: u32,
    /// Failures that were logged already.
    pub(super) logged: Vec<String>,
}

impl WaitState {
    pub(super) fn begin_attempt(&mut self) {
        self.look_again_at = None;
        self.failures = 0;
    }

    /// Looks at nothing for a while.
    pub(super) fn pause(&mut self) {
        self.retry_at = Some(clock::now() + RETRY_AFTER);
    }
}
