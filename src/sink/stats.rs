//! What all telemetry reads: one snapshot of numbers, the history of the run and what only metrics count.
//!
//! Pure: it reads neither clocks nor files. The supervising thread writes it, the telemetry thread
//! copies it, and both hold its lock for a moment only.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::event::Event;
use crate::model::histogram::Histogram;
use crate::model::history::{RunHistory, RunOutcome};
use crate::model::sample::{HostLoad, TreeSample};
use crate::model::signal::Signal;
#[cfg(test)]
use crate::model::time::Stamp;
use crate::model::verdict::VerdictKind;

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

/// The numbers of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Rises with every change.
    pub generation: u64,
    /// When the run began, by the time of day.
    pub begun: Duration,
    /// As it was after the last event.
    pub history: RunHistory,
    /// Ended attempts by outcome, in the order of [`RunOutcome::ALL`].
    pub attempts: [u64; 6],
    /// Attempts that exited, by status.
    pub exits: BTreeMap<u8, u64>,
    /// Exits with a status beyond the first [`EXIT_CODES_MAX`].
    pub other_exits: u64,
    /// Attempts that a signal ended.
    pub deaths: BTreeMap<Signal, u64>,
    /// Signals that it sent.
    pub sent: BTreeMap<(Signal, SendReason), u64>,
    pub verdicts: BTreeMap<VerdictKind, u64>,
    /// How long attempts took.
    pub durations: Option<Histogram>,
    pub calls: BTreeMap<&'static str, Calls>,
    /// The last sample of the tree, and the CPU time of trees that are gone.
    pub tree: Option<TreeSample>,
    /// CPU time of the trees of ended attempts.
    pub trees_cpu: Duration,
    /// The host's load in the last sample before the last failure.
    pub load_at_death: Option<HostLoad>,
    has_timed_out: bool,
}

impl Stats {
    /// The numbers of a run that began then, since 1970.
    #[must_use]
    pub fn new(begun: Duration) -> Stats {
        Stats { begun, ..Stats::default() }
    }

    /// Takes in an event, which the history has already.
    pub fn apply(&mut self, event: &Event, history: &RunHistory) {
        self.generation += 1;
        self.history.clone_from(history);
        match event {
            Event::Started { .. } => self.has_timed_out = false,
            Event::StartFailed { .. } => {
                self.has_timed_out = false;
                self.end_attempt();
            }
            Event::StatusLost { .. } => self.end_attempt(),
            Event::Exited { status, .. } => {
                self.note_exit(*status);
                self.end_attempt();
            }
            Event::Signaled { signal, .. } => {
                *self.deaths.entry(*signal).or_default() += 1;
                self.end_attempt();
            }
            Event::Forwarded { signal, .. } => self.note_sent(*signal, SendReason::Forward),
            Event::TimedOut { .. } => self.has_timed_out = true,
            Event::Terminating { .. } => self.note_sent(Signal::TERM, self.origin_of_end()),
            Event::Killing { .. } => self.note_sent(Signal::KILL, self.origin_of_end()),
            Event::ContinueConfirmed { .. } => self.note_sent(Signal::CONT, SendReason::Continue),
            Event::PastSample { sample, .. } => self.load_at_death = Some(sample.host),
            Event::Judged(verdict) => {
                *self.verdicts.entry(verdict.kind).or_default() += 1;
                let outcome = RunOutcome::of(verdict.kind, history.attempt.end);
                self.attempts[outcome as usize] += 1;
            }
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
    pub fn finish(&mut self, history: &RunHistory) {
        self.generation += 1;
        self.history.clone_from(history);
    }

    /// Returns the CPU time of all trees.
    #[must_use]
    pub fn tree_cpu(&self) -> Duration {
        self.trees_cpu + self.tree.map(|tree| tree.cpu).unwrap_or_default()
    }

    fn end_attempt(&mut self) {
        // The next attempt's samples count from nothing again.
        self.trees_cpu = self.tree_cpu();
        self.tree = None;
        let lasted = self.history.attempt.lasted(Duration::ZERO);
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

    fn called(&mut self, function: &'static str, took: Duration, is_right: bool) {
        let new = || Calls { calls: 0, failures: 0, durations: Histogram::new(CALL_BOUNDS) };
        let calls = self.calls.entry(function).or_insert_with(new);
        calls.calls += 1;
        calls.failures += u64::from(!is_right);
        calls.durations.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
impl Stats {
    /// Takes in an event as a run does: the history first.
    pub fn fold(&mut self, stamp: Stamp, event: &Event) {
        let mut history = self.history.clone();
        history.apply(stamp, event);
        self.apply(event, &history);
    }

    /// Ends the run.
    pub fn end(&mut self, stamp: Stamp, exit_status: u8) {
        let mut history = self.history.clone();
        history.finish(stamp, exit_status);
        self.finish(&history);
    }
}

#[cfg(test)]
mod tests {
    use crate::model::process::Pid;
    use crate::model::time::WallTime;
    use crate::model::verdict::{Confidence, Verdict};

    use super::*;

    fn stamp(seconds: u64) -> Stamp {
        let elapsed = Duration::from_secs(seconds);
        Stamp { wall: WallTime(elapsed), elapsed }
    }

    fn stats_of(events: impl IntoIterator<Item = Event>) -> Stats {
        let mut stats = Stats::default();
        for (second, event) in (0..).zip(events) {
            stats.fold(stamp(second), &event);
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
        stats.end(stamp(9), 0);
        assert_eq!(stats.history.restarts(), 1);
        assert_eq!(stats.attempts, [1, 0, 1, 0, 0, 0]);
        assert_eq!(stats.deaths[&Signal::KILL], 1);
        assert_eq!(stats.exits[&0], 1);
        assert_eq!(stats.verdicts[&VerdictKind::OomKilled], 1);
        assert_eq!(stats.durations.map(|one| one.count()), Some(2));
        assert_eq!(stats.history.ended.map(|ended| ended.outcome), Some(RunOutcome::Success));
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
        stats.fold(stamp(1), &Event::Exited { pid: PID, status: 1 });
        assert_eq!(stats.tree_cpu(), Duration::from_secs(10));
        stats.sampled(sample(2));
        assert_eq!(stats.tree_cpu(), Duration::from_secs(12));
    }
}
