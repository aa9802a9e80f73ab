//! What the page about a run shows of its past: attempts, signals, the last lines of the log, and points
//! of its charts. Kept only where a page is served.
//!
//! Pure, as `stats`. Every list is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::model::event::Event;
use crate::model::history::{AttemptHistory, RunHistory};
use crate::model::time::Stamp;
use crate::model::time::WallTime;
use crate::model::verdict::Verdict;
use crate::sink::stats::Stats;

/// The most attempts that are kept; the oldest go first.
const ATTEMPTS_MAX: usize = 50;

/// The most lines of the log that are kept.
const LINES_MAX: usize = 60;

/// A longer line of the log is cut, in bytes.
const LINE_BYTES_MAX: usize = 500;

/// The most received signals that are kept.
const SIGNALS_MAX: usize = 10;

/// The most points of the charts that are kept.
const POINTS_MAX: usize = 300;

/// An attempt, from its start on.
#[derive(Clone, Debug, PartialEq)]
pub struct PastAttempt {
    pub attempt: AttemptHistory,
    pub verdict: Option<Verdict>,
}

/// A text with the time it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its running number in this run.
    pub number: u64,
    pub at: WallTime,
    pub text: Arc<str>,
}

/// A restart that is waited for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Restart {
    /// The number of the attempt that will begin.
    pub attempt: u32,
    /// When, since the run began.
    pub at: Duration,
    /// How many restarts are left after that one.
    pub left: u32,
}

/// A point of the charts.
#[derive(Clone, Debug, PartialEq)]
pub struct ChartPoint {
    /// Since the run began.
    pub elapsed: Duration,
    /// CPU time since the run began.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    /// Calls of built-in functions since the run began.
    pub calls: u64,
    /// The mean duration of the calls since the point before, in seconds, of each function that was
    /// called.
    pub means: Vec<(&'static str, f64)>,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// The last attempts, oldest first.
    pub attempts: VecDeque<PastAttempt>,
    /// The last lines of the log, oldest first.
    pub lines: VecDeque<Line>,
    /// The last signals that were received, oldest first.
    pub signals: VecDeque<Line>,
    /// The restart that is waited for, if any.
    pub restart: Option<Restart>,
    /// Points of the charts, oldest first.
    pub points: VecDeque<ChartPoint>,
    lines_ever: u64,
    signals_ever: u64,
    /// Calls and their total duration in seconds at the last point.
    called: BTreeMap<&'static str, (u64, f64)>,
}

impl Past {
    /// Takes in an event, which the history has already.
    pub fn apply(&mut self, stamp: Stamp, event: &Event, history: &RunHistory) {
        // The long list of trapped signals is the same in every run.
        if event.is_for_log() && !matches!(event, Event::Trapped { .. }) {
            let text = cut(event.to_string());
            self.lines_ever += 1;
            let line = Line { number: self.lines_ever, at: stamp.wall, text };
            push(&mut self.lines, line, LINES_MAX);
        }
        let attempt = history.attempt;
        match event {
            Event::Started { .. } | Event::StartFailed { .. } => {
                self.restart = None;
                push(&mut self.attempts, PastAttempt { attempt, verdict: None }, ATTEMPTS_MAX);
            }
            Event::Judged(verdict) => {
                if let Some(last) = self.attempts.back_mut() {
                    last.verdict = Some(verdict.clone());
                }
            }
            Event::Received(info) => {
                let text = cut(info.to_string());
                self.signals_ever += 1;
                let line = Line { number: self.signals_ever, at: stamp.wall, text };
                push(&mut self.signals, line, SIGNALS_MAX);
            }
            Event::Restarting { attempt, left, delay } => {
                let at = stamp.elapsed.saturating_add(*delay);
                self.restart = Some(Restart { attempt: *attempt, at, left: *left });
            }
            Event::RestartRefused { .. } | Event::RestartsExhausted { .. } => self.restart = None,
            _ => {}
        }
        if let Some(last) = self.attempts.back_mut() {
            last.attempt = attempt;
        }
    }

    /// Returns the verdict on the last attempt that was judged.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        self.attempts.iter().rev().find_map(|attempt| attempt.verdict.as_ref())
    }

    /// Adds a point to the charts. `own` is what childminder itself has used, where that is the job.
    pub fn remember(&mut self, elapsed: Duration, stats: &Stats, own: Option<(Duration, u64)>) {
        let of_tree = || (cpu(stats), stats.tree.map_or(0, |tree| tree.rss_bytes));
        let (cpu, rss_bytes) = own.unwrap_or_else(of_tree);
        let mut means = Vec::new();
        for (function, calls) in &stats.calls {
            let (count, seconds) = (calls.calls, calls.durations.sum);
            let before = self.called.insert(function, (count, seconds)).unwrap_or_default();
            if count > before.0 {
                means.push((*function, (seconds - before.1) / (count - before.0) as f64));
            }
        }
        let calls = stats.calls.values().map(|calls| calls.calls).sum();
        push(&mut self.points, ChartPoint { elapsed, cpu, rss_bytes, calls, means }, POINTS_MAX);
    }
}

/// Returns the CPU time of all attempts. What an attempt used between two samples is known once it was
/// reaped.
#[must_use]
pub fn cpu(stats: &Stats) -> Duration {
    let reaped = stats.history.usage.user + stats.history.usage.system;
    stats.trees_cpu.max(reaped) + stats.tree.map(|tree| tree.cpu).unwrap_or_default()
}

fn push<T>(list: &mut VecDeque<T>, item: T, max: usize) {
    if list.len() >= max {
        list.pop_front();
    }
    list.push_back(item);
}

fn cut(mut text: String) -> Arc<str> {
    if text.len() > LINE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
        text.push_str("...");
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use crate::model::outcome::{SpawnFailure, Termination};
    use crate::model::process::Pid;
    use crate::model::signal::Signal;
    use crate::model::usage::ResourceUsage;
    use crate::model::verdict::{Confidence, VerdictKind};

    use super::*;

    const PID: Pid = Pid(7);

    fn stamp(seconds: u64) -> Stamp {
        let elapsed = Duration::from_secs(seconds);
        Stamp { wall: WallTime(Duration::from_secs(1_000 + seconds)), elapsed }
    }

    fn past_of(events: impl IntoIterator<Item = Event>) -> Past {
        past_and_history_of(events).0
    }

    fn past_and_history_of(events: impl IntoIterator<Item = Event>) -> (Past, RunHistory) {
        let (mut past, mut history) = (Past::default(), RunHistory::default());
        for (second, event) in (0..).zip(events) {
            history.apply(stamp(second), &event);
            past.apply(stamp(second), &event, &history);
        }
        (past, history)
    }

    fn started(attempt: u32) -> Event {
        Event::Started { attempt, pid: PID, command: String::new() }
    }

    #[test]
    fn an_attempt_has_its_time_its_end_and_its_verdict() {
        let verdict = Verdict {
            kind: VerdictKind::Crashed,
            confidence: Confidence::Likely,
            evidence: Vec::new(),
        };
        let usage = ResourceUsage { max_rss_kib: 9, ..ResourceUsage::default() };
        let (mut past, mut history) = past_and_history_of([
            started(1),
            Event::Signaled { pid: PID, signal: Signal::SEGV },
            Event::DumpedCore { pid: PID },
            Event::Usage { pid: Some(PID), usage, peaks: None },
            Event::Judged(verdict.clone()),
            Event::Restarting { attempt: 2, left: 3, delay: Duration::from_secs(60) },
        ]);
        let PastAttempt { attempt, verdict: judged } = past.attempts[0].clone();
        assert_eq!(attempt.lasted(Duration::MAX), Duration::from_secs(1));
        let end = Termination::Signaled { signal: Signal::SEGV, core_dumped: true };
        assert_eq!(
            (attempt.end, judged, past.verdict()),
            (Some(end), Some(verdict.clone()), Some(&verdict))
        );
        assert_eq!(attempt.usage.map(|usage| usage.max_rss_kib), Some(9));
        let at = Duration::from_secs(65);
        assert_eq!(past.restart, Some(Restart { attempt: 2, at, left: 3 }));
        history.apply(stamp(65), &started(2));
        past.apply(stamp(65), &started(2), &history);
        assert_eq!((past.restart, past.verdict()), (None, Some(&verdict)));
        assert_eq!(past.attempts[1].attempt.ended, None);
    }

    #[test]
    fn an_attempt_that_was_not_started_has_ended() {
        let failure = SpawnFailure {
            step: "execute x".into(),
            errno: 2,
            is_exec: true,
            is_found: false,
            cause: None,
        };
        let past = past_of([Event::StartFailed { attempt: 1, failure }]);
        let attempt = past.attempts[0].attempt;
        assert_eq!((attempt.pid, attempt.ended), (None, Some(stamp(0))));
        assert_eq!(attempt.lasted(Duration::MAX), Duration::ZERO);
    }

    #[test]
    fn every_list_is_bounded_and_keeps_what_is_new() {
        let notice = |number: u64| Event::Notice { text: format!("{number} {}", "ä".repeat(900)) };
        let past = past_of((0..1_000).map(notice));
        assert_eq!(past.lines.len(), LINES_MAX);
        let last = past.lines.back().expect("a line");
        assert!(last.text.starts_with("999 ä") && last.text.len() <= LINE_BYTES_MAX + 3);
        assert_eq!(last.number, 1_000);
        let past = past_of((1..1_000).map(started));
        assert_eq!(past.attempts.len(), ATTEMPTS_MAX);
        assert_eq!(past.attempts.back().map(|past| past.attempt.number), Some(999));
    }

    #[test]
    fn an_attempt_that_no_sample_saw_counts_once_it_was_reaped() {
        let mut stats = Stats::default();
        let second = Duration::from_secs(1);
        let usage = ResourceUsage { user: second, system: second, ..ResourceUsage::default() };
        stats.fold(stamp(0), &Event::Usage { pid: Some(PID), usage, peaks: None });
        assert_eq!(cpu(&stats), 2 * second);
        let mut past = Past::default();
        past.remember(second, &stats, None);
        assert_eq!(past.points[0].cpu, 2 * second);
    }

    /// `random` calls functions that take very different times.
    #[test]
    fn each_function_has_its_own_mean_and_only_where_it_was_called() {
        let (mut past, mut stats) = (Past::default(), Stats::default());
        let call = |stats: &mut Stats, function, millis| {
            let took = Duration::from_millis(millis);
            stats.fold(stamp(0), &Event::Called { function, took, is_right: true });
        };
        call(&mut stats, "file", 20);
        call(&mut stats, "memory", 400);
        past.remember(Duration::from_secs(2), &stats, None);
        call(&mut stats, "file", 30);
        call(&mut stats, "file", 50);
        past.remember(Duration::from_secs(4), &stats, Some((Duration::from_secs(3), 77)));
        let rounded = |point: &ChartPoint| -> Vec<(&str, u64)> {
            point.means.iter().map(|(name, mean)| (*name, (mean * 1e3).round() as u64)).collect()
        };
        assert_eq!(rounded(&past.points[0]), [("file", 20), ("memory", 400)]);
        assert_eq!(rounded(&past.points[1]), [("file", 40)]);
        assert_eq!((past.points[1].cpu, past.points[1].rss_bytes), (Duration::from_secs(3), 77));
        assert_eq!(past.points[1].calls, 4);
    }
}
