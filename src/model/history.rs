//! What became of a run so far: brought up to date by each event once, and read by every sink.
//!
//! Numbers only. Texts of events may hold secrets: who keeps or shows them hides those first.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::event::Event;
use crate::model::outcome::Termination;
use crate::model::process::Pid;
use crate::model::sample::Peaks;
use crate::model::signal::Signal;
use crate::model::time::Stamp;
use crate::model::usage::ResourceUsage;
use crate::model::verdict::{Confidence, VerdictKind};

/// One run, with all its attempts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunHistory {
    /// The last attempt; number 0 before the first.
    pub attempt: AttemptHistory,
    /// Whether the job is stopped.
    pub is_stopped: bool,
    /// Times the job was stopped.
    pub stops: u64,
    /// How long it was stopped, in all.
    pub stopped: Duration,
    /// Signals that childminder received.
    pub received: BTreeMap<Signal, u64>,
    /// Of attempts that are over, or of the built-in function.
    pub usage: ResourceUsage,
    /// The highest values that were sampled.
    pub peaks: Option<Peaks>,
    /// Orphans that were reaped.
    pub orphans: u64,
    /// What they used, once the run is over.
    pub orphan_usage: Option<ResourceUsage>,
    /// Calls of built-in functions that failed or had a wrong answer.
    pub failed_calls: u64,
    pub ended: Option<Ended>,
}

/// One attempt, from its start on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AttemptHistory {
    /// Its running number, from 1.
    pub number: u32,
    /// Its process; `None` if it could not be started.
    pub pid: Option<Pid>,
    pub began: Option<Stamp>,
    pub ended: Option<Stamp>,
    /// How it ended; `None` also if nobody can say.
    pub end: Option<Termination>,
    /// What it used, once it was reaped.
    pub usage: Option<ResourceUsage>,
    /// The highest values that were sampled.
    pub peaks: Option<Peaks>,
    pub verdict: Option<VerdictKind>,
    pub confidence: Option<Confidence>,
}

impl AttemptHistory {
    /// Returns its wall time, up to `now` if it goes on.
    #[must_use]
    pub fn lasted(&self, now: Duration) -> Duration {
        let elapsed = |stamp: Option<Stamp>| stamp.map(|stamp| stamp.elapsed);
        elapsed(self.ended).unwrap_or(now).saturating_sub(elapsed(self.began).unwrap_or_default())
    }

    fn over(&mut self, stamp: Stamp, end: Option<Termination>) {
        (self.ended, self.end) = (Some(stamp), end);
    }
}

impl RunHistory {
    /// Takes in an event.
    pub fn apply(&mut self, stamp: Stamp, event: &Event) {
        let attempt = &mut self.attempt;
        match event {
            Event::Started { attempt, pid, .. } => self.begin(*attempt, stamp, Some(*pid)),
            Event::StartFailed { attempt, .. } => {
                self.begin(*attempt, stamp, None);
                self.attempt.over(stamp, None);
            }
            Event::Received(info) => *self.received.entry(info.signal).or_default() += 1,
            Event::Stopped { .. } => {
                self.stops += 1;
                self.is_stopped = true;
            }
            Event::Continued { stopped_for, .. } => {
                self.is_stopped = false;
                self.stopped += stopped_for.unwrap_or_default();
            }
            Event::Exited { status, .. } => attempt.over(stamp, Some(Termination::Exited(*status))),
            Event::Signaled { signal, .. } => {
                let end = Termination::Signaled { signal: *signal, core_dumped: false };
                attempt.over(stamp, Some(end));
            }
            Event::DumpedCore { .. } => {
                if let Some(Termination::Signaled { core_dumped, .. }) = &mut attempt.end {
                    *core_dumped = true;
                }
            }
            Event::StatusLost { .. } => attempt.over(stamp, None),
            Event::Usage { usage, peaks, .. } => {
                (attempt.usage, attempt.peaks) = (Some(*usage), *peaks);
                self.usage += *usage;
                self.peaks = Peaks::highest(self.peaks, *peaks);
            }
            Event::OrphanEnded { .. } => self.orphans += 1,
            Event::OrphansSummary { count, usage } => {
                (self.orphans, self.orphan_usage) = (*count, Some(*usage));
            }
            Event::Called { is_right, .. } => self.failed_calls += u64::from(!is_right),
            Event::Judged(verdict) => {
                attempt.verdict = Some(verdict.kind);
                attempt.confidence = Some(verdict.confidence);
            }
            _ => {}
        }
    }

    /// The run is over.
    pub fn finish(&mut self, stamp: Stamp, exit_status: u8) {
        let outcome = match self.attempt.verdict {
            Some(kind) => RunOutcome::of(kind, self.attempt.end),
            None if exit_status == 0 => RunOutcome::Success,
            None => RunOutcome::Failure,
        };
        self.ended = Some(Ended { stamp, exit_status, outcome });
    }

    /// Returns the job, while it lives, as far as we know.
    #[must_use]
    pub fn child(&self) -> Option<Pid> {
        let is_over = self.attempt.ended.is_some() || self.ended.is_some();
        self.attempt.pid.filter(|_| !is_over)
    }

    /// Returns the number of starts after the first.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.attempt.number.saturating_sub(1)
    }

    fn begin(&mut self, number: u32, stamp: Stamp, pid: Option<Pid>) {
        let began = Some(stamp);
        self.attempt = AttemptHistory { number, pid, began, ..AttemptHistory::default() };
        self.is_stopped = false;
    }
}

/// A run that is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    pub stamp: Stamp,
    pub exit_status: u8,
    pub outcome: RunOutcome,
}

/// How a run or an attempt ended, in the few words that a metric may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// Exit status 0.
    Success,
    /// Another exit status.
    Failure,
    /// A signal ended it.
    Signal,
    /// `--timeout` ended it.
    Timeout,
    /// It could not be executed.
    SpawnError,
    /// It was stopped and given up, or was asked to stop.
    Stopped,
}

impl RunOutcome {
    /// All, in the order of their numbers.
    pub const ALL: [RunOutcome; 6] = [
        RunOutcome::Success,
        RunOutcome::Failure,
        RunOutcome::Signal,
        RunOutcome::Timeout,
        RunOutcome::SpawnError,
        RunOutcome::Stopped,
    ];

    /// Returns the label's value.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            RunOutcome::Success => "success",
            RunOutcome::Failure => "failure",
            RunOutcome::Signal => "signal",
            RunOutcome::Timeout => "timeout",
            RunOutcome::SpawnError => "spawn_error",
            RunOutcome::Stopped => "stopped",
        }
    }

    /// Returns the outcome that a verdict and the end mean.
    #[must_use]
    pub fn of(kind: VerdictKind, end: Option<Termination>) -> RunOutcome {
        match kind {
            kind if kind.is_success() => RunOutcome::Success,
            VerdictKind::TimedOut => RunOutcome::Timeout,
            VerdictKind::ExecFailed => RunOutcome::SpawnError,
            VerdictKind::Stopped | VerdictKind::StopRequested | VerdictKind::KilledByTerminal => {
                RunOutcome::Stopped
            }
            _ if matches!(end, Some(Termination::Signaled { .. })) => RunOutcome::Signal,
            _ => RunOutcome::Failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::SpawnFailure;
    use crate::model::time::WallTime;
    use crate::model::verdict::Verdict;

    const PID: Pid = Pid(7);

    fn stamp(seconds: u64) -> Stamp {
        let elapsed = Duration::from_secs(seconds);
        Stamp { wall: WallTime(Duration::from_secs(1_000) + elapsed), elapsed }
    }

    /// One event a second.
    fn history_of(events: impl IntoIterator<Item = Event>) -> RunHistory {
        let mut history = RunHistory::default();
        for (second, event) in (0..).zip(events) {
            history.apply(stamp(second), &event);
        }
        history
    }

    fn started(attempt: u32) -> Event {
        Event::Started { attempt, pid: PID, command: String::new() }
    }

    fn judged(kind: VerdictKind) -> Event {
        Event::Judged(Verdict { kind, confidence: Confidence::Likely, evidence: Vec::new() })
    }

    fn used(seconds: u64, rss_bytes: u64) -> Event {
        let user = Duration::from_secs(seconds);
        let usage = ResourceUsage { user, max_rss_kib: seconds, ..ResourceUsage::default() };
        let peaks = Some(Peaks { rss_bytes, ..Peaks::default() });
        Event::Usage { pid: Some(PID), usage, peaks }
    }

    #[test]
    fn nothing_of_an_attempt_is_left_in_the_next_and_sums_go_on() {
        let first = [
            started(1),
            Event::Stopped { pid: PID, signal: Signal::STOP },
            Event::Signaled { pid: PID, signal: Signal::SEGV },
            Event::DumpedCore { pid: PID },
            used(5, 90),
            judged(VerdictKind::Crashed),
        ];
        let history = history_of(first.clone());
        let end = Termination::Signaled { signal: Signal::SEGV, core_dumped: true };
        assert_eq!(history.attempt.end, Some(end));
        assert_eq!(history.attempt.lasted(Duration::from_secs(99)), Duration::from_secs(2));
        assert_eq!(history.attempt.verdict, Some(VerdictKind::Crashed));
        assert_eq!((history.child(), history.restarts()), (None, 0));

        let mut history = history_of(first.into_iter().chain([started(2)]));
        let began = Some(stamp(6));
        let fresh = AttemptHistory { number: 2, pid: Some(PID), began, ..Default::default() };
        assert_eq!(history.attempt, fresh);
        assert_eq!((history.child(), history.restarts()), (Some(PID), 1));
        assert!(!history.is_stopped && history.stops == 1);
        assert_eq!(history.attempt.lasted(Duration::from_secs(9)), Duration::from_secs(3));

        history.apply(stamp(10), &Event::Exited { pid: PID, status: 0 });
        history.apply(stamp(11), &used(2, 40));
        history.apply(stamp(12), &judged(VerdictKind::Success));
        assert_eq!(history.usage.user, Duration::from_secs(7));
        assert_eq!(history.attempt.usage.map(|usage| usage.user), Some(Duration::from_secs(2)));
        assert_eq!(history.peaks.map(|peaks| peaks.rss_bytes), Some(90));
        assert_eq!(history.attempt.peaks.map(|peaks| peaks.rss_bytes), Some(40));
    }

    #[test]
    fn an_attempt_that_could_not_be_started_is_over_at_once() {
        let failure = SpawnFailure {
            step: "execute x".into(),
            errno: 2,
            is_exec: true,
            is_found: false,
            cause: None,
        };
        let failed = Event::StartFailed { attempt: 1, failure };
        let mut history = history_of([failed, judged(VerdictKind::ExecFailed)]);
        assert_eq!((history.attempt.pid, history.attempt.end), (None, None));
        assert_eq!(history.attempt.ended, Some(stamp(0)));
        assert_eq!(history.attempt.lasted(Duration::from_secs(9)), Duration::ZERO);
        history.finish(stamp(3), 127);
        let outcome = RunOutcome::SpawnError;
        assert_eq!(history.ended, Some(Ended { stamp: stamp(3), exit_status: 127, outcome }));
    }

    #[test]
    fn a_lost_status_ends_the_attempt_and_says_not_how() {
        let lost = Event::StatusLost { pid: PID };
        let mut history = history_of([started(1), lost, judged(VerdictKind::Unknown)]);
        assert_eq!((history.child(), history.attempt.end), (None, None));
        assert_eq!(history.attempt.ended, Some(stamp(1)));
        history.finish(stamp(3), 125);
        assert_eq!(history.ended.map(|ended| ended.outcome), Some(RunOutcome::Failure));
    }

    #[test]
    fn a_built_in_function_has_no_attempt_and_its_end_is_the_exit_status() {
        let call = |is_right| Event::Called { function: "file", took: Duration::ZERO, is_right };
        let mut history = history_of([call(true), call(false), used(4, 1)]);
        assert_eq!((history.attempt.number, history.failed_calls), (0, 1));
        assert_eq!(history.usage.user, Duration::from_secs(4));
        for (exit_status, outcome) in [(0, RunOutcome::Success), (1, RunOutcome::Failure)] {
            history.finish(stamp(5), exit_status);
            assert_eq!(history.ended.map(|ended| ended.outcome), Some(outcome));
        }
    }

    #[test]
    fn a_job_that_ended_unseen_lives_no_more_when_the_run_is_over() {
        let mut history = history_of([started(1)]);
        assert_eq!(history.child(), Some(PID));
        history.finish(stamp(3), 125);
        assert_eq!(history.child(), None);
    }

    #[test]
    fn the_last_count_of_orphans_holds() {
        let orphan = || Event::OrphanEnded {
            pid: PID,
            end: Termination::Exited(0),
            usage: ResourceUsage::default(),
        };
        let mut history = history_of([orphan(), orphan()]);
        assert_eq!((history.orphans, history.orphan_usage), (2, None));
        let usage = ResourceUsage { minor_faults: 3, ..ResourceUsage::default() };
        history.apply(stamp(9), &Event::OrphansSummary { count: 5, usage });
        assert_eq!((history.orphans, history.orphan_usage), (5, Some(usage)));
    }

    #[test]
    fn the_time_of_all_stops_is_added_up() {
        let stopped = || Event::Stopped { pid: PID, signal: Signal::STOP };
        let continued = |seconds: Option<u64>| Event::Continued {
            pid: PID,
            stopped_for: seconds.map(Duration::from_secs),
        };
        let history =
            history_of([started(1), stopped(), continued(Some(3)), stopped(), continued(None)]);
        assert_eq!((history.stops, history.stopped), (2, Duration::from_secs(3)));
        assert!(!history.is_stopped);
    }
}
