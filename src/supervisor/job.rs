//! The job while it lives: its deadlines, its stops, and our ending it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::facts::{EndedByUs, Heard};
use crate::model::findings::Deaths;
use crate::model::process::Pid;
use crate::model::signal::Signal;
use crate::model::time::Moment;
use crate::supervisor::messages::Received;

/// How long after a stop we wait before we act on it: the terminal's Ctrl-Z, which stops us as
/// well, may reach us after the stop of the job.
pub(super) const SETTLE: Duration = Duration::from_millis(100);

/// How long after a terminal stop signal the job may take to stop, so that we stop with it: it may
/// first put its screen or its files in order.
pub(super) const SUSPEND_WINDOW: Duration = Duration::from_secs(30);

/// A stopped job is sent SIGCONT this many times; the waits between double from [`SETTLE`], so
/// that this takes three seconds.
pub(super) const CONTINUE_TRIES: u32 = 5;

/// A SIGCONT within this time after we were continued belongs to that: shells send several.
pub(super) const RESUMPTION: Duration = Duration::from_secs(1);

/// A job that ran for this long after it was continued has all its tries again.
pub(super) const CONTINUE_RESET: Duration = Duration::from_secs(10);

/// The attempt that runs.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) pid: Pid,
    pub(super) started: Moment,
    /// When `--timeout` is reached.
    pub(super) timeout_at: Option<Moment>,
    /// When it is ended without the report about what it waits for.
    pub(super) report_until: Option<Moment>,
    /// When SIGKILL follows a SIGTERM of ours or one that we passed on.
    pub(super) kill_at: Option<Moment>,
    pub(super) ended_by_us: Option<EndedByUs>,
    /// When we began to end it.
    pub(super) ending_since: Option<Moment>,
    pub(super) stop: Option<Stop>,
    /// SIGCONTs sent in a row; kept over a short run between two stops.
    pub(super) continue_tries: u32,
    pub(super) continued_at: Option<Moment>,
    /// Until when a stop of the job is taken for a suspension of both.
    pub(super) suspend_until: Option<Moment>,
    pub(super) suspension: Suspension,
    /// Whether the log says that the job wants the terminal: said once.
    pub(super) is_terminal_logged: bool,
    pub(super) stop_request: Option<Heard>,
    /// The last of each signal.
    pub(super) heard: Vec<Heard>,
    /// Signals of which we do not know yet whether the job received them as well.
    pub(super) unclear: VecDeque<UnclearSignal>,
    /// What a process beside the job received, and when, as long as nobody asked for it.
    pub(super) also_received: Vec<(Signal, Moment)>,
    /// Orphans that died of a signal.
    pub(super) deaths: Deaths,
}

/// A stop that lasts.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    pub(super) signal: Signal,
    pub(super) since: Moment,
    /// Whether we have sent SIGCONT because of it.
    pub(super) is_continue_sent: bool,
    /// When to do something about it.
    pub(super) act_at: Option<Moment>,
}

/// The last time that childminder was stopped together with the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suspension {
    /// It was never stopped with this attempt.
    None,
    /// It was stopped, and has not read the SIGCONT that ended that.
    AwaitingContinue { has_job_run: bool },
    /// It has read that SIGCONT.
    Resumed { at: Moment, has_job_run: bool },
}

impl Suspension {
    /// Notes that the job has run since then.
    pub(super) fn job_ran(&mut self) {
        match self {
            Suspension::None => {}
            Suspension::AwaitingContinue { has_job_run }
            | Suspension::Resumed { has_job_run, .. } => *has_job_run = true,
        }
    }

    /// Takes in a SIGCONT; returns whether it is one of those that ended the suspension.
    pub(super) fn takes_continue(&mut self, now: Moment) -> bool {
        if let Suspension::AwaitingContinue { has_job_run } = *self {
            *self = Suspension::Resumed { at: now, has_job_run };
        }
        matches!(*self, Suspension::Resumed { at, .. } if now - at < RESUMPTION)
    }

    /// Returns whether the job has run since.
    pub(super) fn has_job_run(self) -> bool {
        match self {
            Suspension::None => false,
            Suspension::AwaitingContinue { has_job_run }
            | Suspension::Resumed { has_job_run, .. } => has_job_run,
        }
    }
}

impl Job {
    pub(super) fn new(pid: Pid, now: Moment, timeout: Option<Duration>) -> Job {
        Job {
            pid,
            started: now,
            timeout_at: timeout.map(|span| now + span),
            report_until: None,
            kill_at: None,
            ended_by_us: None,
            ending_since: None,
            stop: None,
            continue_tries: 0,
            continued_at: None,
            suspend_until: None,
            suspension: Suspension::None,
            is_terminal_logged: false,
            stop_request: None,
            heard: Vec::new(),
            unclear: VecDeque::new(),
            also_received: Vec::new(),
            deaths: Deaths::default(),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let stop = self.stop.as_ref().and_then(|stop| stop.act_at);
        let unclear = self.unclear.front().map(|one| one.decide_at);
        [self.timeout_at, self.report_until, self.kill_at, stop, unclear]
            .into_iter()
            .flatten()
            .min()
    }
}

/// A signal that is held back until it is known which processes it reached.
#[derive(Clone, Debug)]
pub(super) struct UnclearSignal {
    pub(super) received: Received,
    pub(super) sender: &'static str,
    pub(super) received_at: Moment,
    pub(super) decide_at: Moment,
}

/// Says whether an instant that may not be set has come.
pub(super) fn is_due(deadline: Option<Moment>, now: Moment) -> bool {
    deadline.is_some_and(|at| at <= now)
}
