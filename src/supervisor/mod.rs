//! Decides what is done about a job, from its first attempt to its last.
//!
//! Pure: no clock, no file, no process, no log. It is given an [`Input`] and the time, and answers
//! with [`Action`]s; `run` carries them out, and what comes of them returns as the next input.
//!
//! ```text
//!              Spawned                 job ended, judged
//!  Starting ------------> Running ------------------------> Clearing
//!     ^  \                                                   |    |
//!     |   \ SpawnFailed, judged                  restart: the|    | nothing left to do
//!     |    `------------------------------------> old tree is|    v
//!     |                                            proven gone  Finished
//!     `------------------ Waiting <--------------------------'    ^
//!        back-off is over    |      asked to stop                 |
//!                            `------------------------------------'
//! ```

mod clearing;
mod clearing_state;
mod job;
mod messages;
mod reach;
mod received;
mod restart;
mod step;
mod stops;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::model::event::Event;
use crate::model::outcome::AttemptEnd;
use crate::model::policy::Policy;
use crate::model::time::Moment;
use crate::model::usage::ResourceUsage;
use crate::supervisor::clearing_state::{Clearing, EndedAttempt};
use crate::supervisor::job::Job;
use crate::supervisor::restart::Budget;

pub use crate::supervisor::messages::{
    Action, AttemptContext, EndReport, Input, Outcome, Received, Remaining, Target,
};

/// Where the run is.
#[derive(Clone, Debug)]
enum State {
    /// An attempt was asked for; the one before it ended so.
    Starting { last: Option<EndedAttempt> },
    /// The job lives, as far as we know.
    Running(Box<Job>),
    /// The attempt is over; what it died of is being judged.
    Judging {
        end: AttemptEnd,
        lasted: Duration,
        kill_at: Option<Moment>,
        failure_context: Vec<Event>,
    },
    /// It was judged; its remaining processes are looked at, waited for or ended.
    Clearing(Clearing),
    /// Nothing of the job lives; the next attempt begins at `until`.
    Waiting { until: Moment, last: EndedAttempt },
    /// The outcome was given.
    Finished,
}

/// The decision core. See the module's documentation.
#[derive(Debug)]
pub struct Supervisor {
    policy: Policy,
    command: String,
    state: State,
    attempt: u32,
    budget: Budget,
    orphans: Orphans,
    /// Whether a request to stop forbids any restart.
    is_stop_requested: bool,
    actions: Vec<Action>,
}

/// What became of descendants whose parents had gone, over the whole run.
#[derive(Clone, Copy, Debug, Default)]
struct Orphans {
    count: u64,
    usage: ResourceUsage,
}

impl Supervisor {
    /// Makes one for a command (as the log shows it). `seed` chooses the jitter of the back-off.
    #[must_use]
    pub fn new(policy: Policy, command: String, seed: u64) -> Supervisor {
        Supervisor {
            budget: Budget::new(&policy, seed),
            policy,
            command,
            state: State::Starting { last: None },
            attempt: 0,
            orphans: Orphans::default(),
            is_stop_requested: false,
            actions: Vec::new(),
        }
    }

    /// Returns when to wake us at the latest with [`Input::Woken`]; `None` is never.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        match &self.state {
            State::Starting { .. } | State::Judging { .. } | State::Finished => None,
            State::Running(job) => job.next_deadline(),
            State::Clearing(clearing) => clearing.next_deadline(),
            State::Waiting { until, .. } => Some(*until),
        }
    }
}
