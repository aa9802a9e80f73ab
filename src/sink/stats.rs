//! What all telemetry reads: one snapshot of numbers, brought up to date by each event.
//!
//! Pure: it reads neither clocks nor files. The supervising thread writes it, the telemetry thread
//! copies it, and both hold its lock for a moment only.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::event::Event;
use crate::model::histogram::Histogram;
use crate::model::outcome::Termination;
use crate::model::process::Pid;
use crate::model::sample::{HostLoad, TreeSample};
use crate::model::signal::Signal;
use crate::model::usage::ResourceUsage;
use crate::model::verdict::{Verdict, VerdictKind};
use crate::sink::Stamp;

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

/// Why childminder sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SendReason {
    /// It passed one on.
    Forward,
    /// The time limit was reached.
    Timeout,
    /// The tree had to end for another reason.
    Shutdown,
    /// A stopped job was continued (`-c`).
    Continue,
}

impl SendReason {
    pub const ALL: [SendReason; 4] =
        [SendReason::Forward, SendReason::Timeout, SendReason::Shutdown, SendReason::Continue];

    /// Returns the label's value.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            SendReason::Forward => "forward",
            SendReason::Timeout => "timeout",
            SendReason::Shutdown => "shutdown",
            SendReason::Continue => "continue",
        }
    }
}

/// Bounds for the wall time of attempts, in seconds: from a millisecond to a day.
pub const ATTEMPT_BOUNDS: &[f64] =
    &[0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 1_800.0, 3_600.0, 14_400.0, 86_400.0];

/// Bounds for one call of a built-in function, in seconds, evenly spread on a logarithmic scale.
pub const CALL_BOUNDS: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// More different exit statuses than these are counted together.
pub const EXIT_CODES_MAX: usize = 32;

/// The calls of one built-in function.
#[derive(Clone, Debug, PartialEq)]
pub struct Calls {
    /// Those that ended.
    pub calls: u64,
    /// Those that failed or had a wrong answer.
    pub failures: u64,
    /// How long each took.
    pub durations: Histogram,
}

/// A run that is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ended {
    pub stamp: Stamp,
    pub exit_status: u8,
    pub outcome: RunOutcome,
}

/// The numbers of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Rises with every change.
    pub generation: u64,
    /// When the run began, by the time of day.
    pub begun: Duration,
    /// The running number of the attempt; 0 before the first.
    pub attempt: u32,
    /// The job, while it lives, as far as we know.
    pub child: Option<Pid>,
    /// When the attempt began, since the run began.
    pub attempt_began: Duration,
    /// How the attempt ended.
    pub end: Option<Termination>,
    /// Whether the job is stopped.
    pub is_stopped: bool,
    /// Ended attempts by outcome, in the order of [`RunOutcome::ALL`].
    pub attempts: [u64; 6],
    /// Starts after the first.
    pub restarts: u64,
    /// Attempts that exited, by status.
    pub exits: BTreeMap<u8, u64>,
    /// Exits with a status beyond the first [`EXIT_CODES_MAX`].
    pub other_exits: u64,
    /// Attempts that a signal ended.
    pub deaths: BTreeMap<Signal, u64>,
    /// Signals that childminder received.
    pub received: BTreeMap<Signal, u64>,
    /// Signals that it sent.
    pub sent: BTreeMap<(Signal, SendReason), u64>,
    /// Times the job was stopped, and for how long in all.
    pub stops: u64,
    /// How long it was stopped, in all.
    pub stopped: Duration,
    /// Orphans that were reaped.
    pub orphans: u64,
    pub verdicts: BTreeMap<VerdictKind, u64>,
    pub verdict: Option<Verdict>,
    /// What ended attempts used.
    pub usage: ResourceUsage,
    /// How long attempts took.
    pub durations: Option<Histogram>,
    pub calls: BTreeMap<&'static str, Calls>,
    /// The last sample of the tree, and the CPU time of trees that are gone.
    pub tree: Option<TreeSample>,
    /// CPU time of the trees of ended attempts.
    pub trees_cpu: Duration,
    /// The host's load in the last sample before the last failure.
    pub load_at_death: Option<HostLoad>,
    /// How the run ended.
    pub ended: Option<Ended>,
    has_timed_out: bool,
}

impl Stats {
    /// The numbers of a run that began then, since 1970.
    #[must_use]
    pub fn new(begun: Duration) -> Stats {
        Stats { begun, ..Stats::default() }
    }

    /// Takes in an event.
    pub fn apply(&mut self, stamp: Stamp, event: &Event) {
        self.generation += 1;
        match event {
            Event::Started { attempt, pid, .. } => {
                self.begin_attempt(*attempt, stamp);
                self.child = Some(*pid);
            }
            Event::StartFailed { attempt, .. } => {
                self.begin_attempt(*attempt, stamp);
                self.end_attempt(stamp, None);
            }
            Event::Received(info) => *self.received.entry(info.signal).or_default() += 1,
            Event::Forwarded { signal, .. } => self.note_sent(*signal, SendReason::Forward),
            Event::TimedOut { .. } => self.has_timed_out = true,
            Event::Terminating { .. } => self.note_sent(Signal::TERM, self.origin_of_end()),
            Event::Killing { .. } => self.note_sent(Signal::KILL, self.origin_of_end()),
            Event::ContinueConfirmed { .. } => self.note_sent(Signal::CONT, SendReason::Continue),
            Event::Stopped { .. } => {
                self.stops += 1;
                self.is_stopped = true;
            }
            Event::Continued { stopped_for, .. } => {
                self.is_stopped = false;
                self.stopped += stopped_for.unwrap_or_default();
            }
            Event::Exited { status, .. } => {
                self.note_exit(*status);
                self.end_attempt(stamp, Some(Termination::Exited(*status)));
            }
            Event::Signaled { signal, .. } => {
                *self.deaths.entry(*signal).or_default() += 1;
                let end = Termination::Signaled { signal: *signal, core_dumped: false };
                self.end_attempt(stamp, Some(end));
            }
            Event::StatusLost { .. } => self.end_attempt(stamp, None),
            Event::Usage { usage, .. } => self.usage += *usage,
            Event::OrphanEnded { .. } => self.orphans += 1,
            Event::OrphansSummary { count, .. } => self.orphans = *count,
            Event::PastSample { sample, .. } => self.load_at_death = Some(sample.host),
            Event::Judged(verdict) => self.judged(verdict),
            Event::Called { function, took, is_right } => self.called(function, *took, *is_right),
            _ => {}
        }
    }

    /// Takes in a sample of the tree.
    pub fn sampled(&mut self, sample: TreeSample) {
        self.generation += 1;
        self.tree = Some(sample);
    }

    /// The run is over.
    pub fn finish(&mut self, stamp: Stamp, exit_status: u8) {
        self.generation += 1;
        self.child = None;
        let outcome = match &self.verdict {
            Some(verdict) => RunOutcome::of(verdict.kind, self.end),
            None if exit_status == 0 => RunOutcome::Success,
            None => RunOutcome::Failure,
        };
        self.ended = Some(Ended { stamp, exit_status, outcome });
    }

    /// Returns the CPU time of all trees.
    #[must_use]
    pub fn tree_cpu(&self) -> Duration {
        self.trees_cpu + self.tree.map(|tree| tree.cpu).unwrap_or_default()
    }

    fn begin_attempt(&mut self, attempt: u32, stamp: Stamp) {
        self.restarts += u64::from(attempt > 1);
        self.attempt = attempt;
        self.attempt_began = stamp.elapsed;
        self.end = None;
        self.is_stopped = false;
        self.has_timed_out = false;
    }

    fn end_attempt(&mut self, stamp: Stamp, end: Option<Termination>) {
        self.child = None;
        self.end = end;
        // The next attempt's samples count from nothing again.
        self.trees_cpu = self.tree_cpu();
        self.tree = None;
        let lasted = stamp.elapsed.saturating_sub(self.attempt_began);
        let durations = self.durations.get_or_insert_with(|| Histogram::new(ATTEMPT_BOUNDS));
        durations.observe(lasted.as_secs_f64());
    }

    fn origin_of_end(&self) -> SendReason {
        if self.has_timed_out { SendReason::Timeout } else { SendReason::Shutdown }
    }

    fn note_sent(&mut self, signal: Signal, origin: SendReason) {
        *self.sent.entry((signal, origin)).or_default() += 1;
    }

    fn note_exit(&mut self, status: u8) {
        if self.exits.len() < EXIT_CODES_MAX || self.exits.contains_key(&status) {
            *self.exits.entry(status).or_default() += 1;
        } else {
            self.other_exits += 1;
        }
    }

    fn judged(&mut self, verdict: &Verdict) {
        *self.verdicts.entry(verdict.kind).or_default() += 1;
        let outcome = RunOutcome::of(verdict.kind, self.end);
        self.attempts[outcome as usize] += 1;
        self.verdict = Some(verdict.clone());
    }

    fn called(&mut self, function: &'static str, took: Duration, is_right: bool) {
        let new = || Calls { calls: 0, failures: 0, durations: Histogram::new(CALL_BOUNDS) };
        let calls = self.calls.entry(function).or_insert_with(new);
        calls.calls += 1;
        calls.failures += u64::from(!is_right);
        calls.durations.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use crate::model::time::WallTime;
    use crate::model::verdict::Confidence;

    use super::*;

    fn stamp(seconds: u64) -> Stamp {
        let elapsed = Duration::from_secs(seconds);
        Stamp { wall: WallTime(elapsed), elapsed }
    }

    fn stats_of(events: impl IntoIterator<Item = Event>) -> Stats {
        let mut stats = Stats::default();
        for (second, event) in (0..).zip(events) {
            stats.apply(stamp(second), &event);
        }
        stats
    }

    fn judged(kind: VerdictKind) -> Event {
        Event::Judged(Verdict { kind, confidence: Confidence::Certain, evidence: Vec::new() })
    }

    const PID: Pid = Pid(7);

    #[test]
    fn a_restarted_job_counts_twice() {
        let mut stats = stats_of([
            Event::Started { attempt: 1, pid: PID, command: String::new() },
            Event::Signaled { pid: PID, signal: Signal::KILL },
            judged(VerdictKind::OomKilled),
            Event::Started { attempt: 2, pid: PID, command: String::new() },
            Event::Exited { pid: PID, status: 0 },
            judged(VerdictKind::Success),
        ]);
        stats.finish(stamp(9), 0);
        assert_eq!(stats.restarts, 1);
        assert_eq!(stats.attempts, [1, 0, 1, 0, 0, 0]);
        assert_eq!(stats.deaths[&Signal::KILL], 1);
        assert_eq!(stats.exits[&0], 1);
        assert_eq!(stats.verdicts[&VerdictKind::OomKilled], 1);
        assert_eq!(stats.durations.map(|one| one.count()), Some(2));
        assert_eq!(stats.ended.map(|ended| ended.outcome), Some(RunOutcome::Success));
    }

    #[test]
    fn a_signal_is_sent_for_the_time_limit_or_for_another_reason() {
        let end = |why| Event::Terminating { why, grace: Duration::ZERO };
        let begin = Event::Started { attempt: 1, pid: PID, command: String::new() };
        let limit = Duration::from_secs(1);
        let stats = stats_of([begin.clone(), Event::TimedOut { limit }, end("it timed out")]);
        assert_eq!(stats.sent[&(Signal::TERM, SendReason::Timeout)], 1);
        let stats = stats_of([begin, end("--stragglers kill")]);
        assert_eq!(stats.sent[&(Signal::TERM, SendReason::Shutdown)], 1);
    }

    #[test]
    fn exit_statuses_are_bounded() {
        let exits = (0..=255).chain(0..=255).map(|status| Event::Exited { pid: PID, status });
        let stats = stats_of(exits);
        assert_eq!(stats.exits.len(), EXIT_CODES_MAX);
        let named: u64 = stats.exits.values().sum();
        assert_eq!(named + stats.other_exits, 512);
    }

    #[test]
    fn the_cpu_time_of_the_tree_never_falls_between_attempts() {
        let sample = |seconds| TreeSample {
            at: crate::model::time::Moment(Duration::ZERO),
            processes: 1,
            threads: 1,
            cpu: Duration::from_secs(seconds),
            rss_bytes: 5,
            open_fds: 0,
            io: None,
            host: HostLoad::default(),
        };
        let mut stats = Stats::default();
        stats.sampled(sample(10));
        stats.apply(stamp(1), &Event::Exited { pid: PID, status: 1 });
        assert_eq!(stats.tree_cpu(), Duration::from_secs(10));
        stats.sampled(sample(2));
        assert_eq!(stats.tree_cpu(), Duration::from_secs(12));
    }
}
