//! What the loop itself knows of the job, for the case that the supervisor fails.

use crate::model::event::Event;
use crate::model::history::RunHistory;
use crate::model::outcome::Termination;
use crate::model::process::Pid;
use crate::supervisor::Input;

/// What became of the last attempt, as far as the loop knows.
#[derive(Clone, Copy, Default)]
pub(super) struct LastAttempt {
    pub(super) runs: Option<Pid>,
    pub(super) is_stopped: bool,
    pub(super) ended: Option<Termination>,
    /// The job that ended.
    ran: Option<Pid>,
}

impl LastAttempt {
    pub(super) fn note(&mut self, input: &Input) {
        match input {
            Input::Spawned(pid) => {
                *self = LastAttempt { runs: Some(*pid), ..LastAttempt::default() }
            }
            Input::JobEnded(end, ..) => {
                *self = LastAttempt { ended: Some(*end), ran: self.runs, ..LastAttempt::default() };
            }
            Input::JobStopped(_) => self.is_stopped = true,
            Input::JobContinued => self.is_stopped = false,
            Input::JobLost | Input::SpawnFailed(_) => self.runs = None,
            _ => {}
        }
    }

    /// Returns the event of the job's end, if that was not published yet.
    pub(super) fn unpublished_end(&self, history: &RunHistory) -> Option<Event> {
        let pid = self.ran?;
        if history.attempt.pid == Some(pid) && history.attempt.end.is_some() {
            return None;
        }
        Some(match self.ended? {
            Termination::Exited(status) => Event::Exited { pid, status },
            Termination::Signaled { signal, .. } => Event::Signaled { pid, signal },
        })
    }
}
