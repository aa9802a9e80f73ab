//! What the loop itself knows of the job, for the case that the supervisor fails.

use crate::model::event::Event;
use crate::model::outcome::Termination;
use crate::model::process::Pid;
use crate::supervisor::Input;

/// What became of the last attempt, as far as the loop has heard.
#[derive(Clone, Copy, Default)]
pub(super) struct LastAttempt {
    pub(super) runs: Option<Pid>,
    pub(super) is_stopped: bool,
    pub(super) ended: Option<Termination>,
    /// The job that ended, until the log says so.
    unlogged: Option<Pid>,
}

impl LastAttempt {
    pub(super) fn note(&mut self, input: &Input) {
        match input {
            Input::Spawned(pid) => {
                *self = LastAttempt { runs: Some(*pid), ..LastAttempt::default() }
            }
            Input::JobEnded(end, ..) => {
                *self = LastAttempt {
                    ended: Some(*end),
                    unlogged: self.runs,
                    ..LastAttempt::default()
                };
            }
            Input::JobStopped(_) => self.is_stopped = true,
            Input::JobContinued => self.is_stopped = false,
            Input::JobLost | Input::SpawnFailed(_) => self.runs = None,
            _ => {}
        }
    }

    /// To be called after each event that was published.
    pub(super) fn note_published(&mut self, event: &Event) {
        if matches!(event, Event::Exited { .. } | Event::Signaled { .. }) {
            self.unlogged = None;
        }
    }

    /// Returns the line about the end of the job that the log does not have yet.
    pub(super) fn take_unlogged(&mut self) -> Option<Event> {
        let pid = self.unlogged.take()?;
        Some(match self.ended? {
            Termination::Exited(status) => Event::Exited { pid, status },
            Termination::Signaled { signal, .. } => Event::Signaled { pid, signal },
        })
    }
}
