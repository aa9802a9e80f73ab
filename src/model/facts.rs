//! What is known when an attempt has ended; the judge sees nothing else.

use std::time::Duration;

use crate::model::findings::Findings;
use crate::model::outcome::AttemptEnd;
use crate::model::process::Pid;
use crate::model::signal::{Signal, SignalInfo};
use crate::model::time::Moment;

/// The facts of one ended attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The process that we started; `None` if it could not be started.
    pub pid: Option<Pid>,
    pub end: AttemptEnd,
    /// When childminder learned of the end.
    pub ended_at: Moment,
    /// Whether we ended it, and why.
    pub ended_by_us: Option<EndedByUs>,
    /// When we began to end it, if we did.
    pub ending_since: Option<Moment>,
    /// The last request to stop that came to childminder during this attempt.
    pub stop_request: Option<Heard>,
    /// The last of each signal that the job got from us or together with us.
    pub heard: Vec<Heard>,
    /// What was read when it ended. The deaths are those of the whole attempt, orphans included.
    pub findings: Findings,
}

impl Facts {
    /// Returns the facts of an attempt of which nothing else is known.
    #[must_use]
    pub fn new(pid: Option<Pid>, end: AttemptEnd, ended_at: Moment) -> Facts {
        Facts {
            pid,
            end,
            ended_at,
            ended_by_us: None,
            ending_since: None,
            stop_request: None,
            heard: Vec::new(),
            findings: Findings::default(),
        }
    }
}

/// Why childminder itself ended a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedByUs {
    /// It reached `--timeout`.
    TimedOut(Duration),
    /// It stayed stopped by that signal, and `-p` was given.
    Stopped(Signal),
    /// It did not end within `--kill-after` of a request to stop.
    StopRequestIgnored,
}

/// A signal that childminder received and the job got as well.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// The signal as childminder received it.
    pub info: SignalInfo,
    /// How the job got it.
    pub reach: Reach,
    /// When childminder read it.
    pub at: Moment,
}

/// Which processes received a signal that childminder received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Only childminder: the job receives it if we forward it.
    OnlyUs,
    /// The kernel sent it to the whole process group, and the job is in it.
    WholeGroup,
    /// It came from a program of that name, which signals one process of a job or all of them:
    /// whether the job received it as well is not known yet.
    Unclear(&'static str),
    /// It came from a program of that name, and was seen to reach every process of the job.
    WholeJob(&'static str),
    /// A process of the job sent it.
    FromJob {
        /// Whether the job is in our process group, which is what such a process signals.
        is_in_group: bool,
    },
    /// We caused it ourselves, by a write to a closed pipe or beyond a limit.
    OurFault,
}
