//! What the page about the job shows: the answer at `/status.json`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;

use crate::model::history::{RunHistory, RunOutcome};
use crate::model::process::Pid;
use crate::model::redact::Redactor;
use crate::model::shared::lock;
use crate::model::text::printable_json;
use crate::model::verdict::{Verdict, VerdictKind};
use crate::sink::past::{self, ChartPoint, Past};
use crate::sink::stats::Stats;
use crate::telemetry::identity::TelemetryIdentity;
use crate::telemetry::metrics::readings::SelfReading;

/// What a page shows besides the numbers of the metrics.
#[derive(Default)]
pub struct Page {
    pub about: About,
    /// What happened so far.
    pub past: Arc<Mutex<Past>>,
    /// Hides secrets in lines of the log.
    pub redactor: Redactor,
    /// The lines of the log with their secrets hidden: each is looked at once.
    pub hidden: Mutex<VecDeque<past::Line>>,
}

/// What is run, with secrets hidden.
#[derive(Default)]
pub struct About {
    /// The command line in the words of a shell, or the built-in function.
    pub command: String,
    pub directory: String,
    /// The file of the log; `None` if it goes to a stream.
    pub log: Option<String>,
    /// Whether it is a built-in function: then childminder itself is the process that works.
    pub is_canary: bool,
}

impl Page {
    /// Adds a point to the charts. A built-in function has no process of its own.
    pub fn remember(&self, elapsed: Duration, stats: &Stats) {
        let own = self.about.is_canary.then(SelfReading::take).flatten();
        let own = own.map(|own| (own.cpu, own.resident_bytes));
        lock(&self.past).remember(elapsed, stats, own);
    }

    /// Returns the last lines of the log. Command lines of strangers in them have lost the bounds of
    /// their words.
    fn lines(&self, past: &Past) -> Vec<TimedText> {
        let mut hidden = lock(&self.hidden);
        let first = past.lines.front().map_or(u64::MAX, |line| line.number);
        while hidden.front().is_some_and(|line| line.number < first) {
            hidden.pop_front();
        }
        let known = hidden.back().map_or(0, |line| line.number);
        let new = past.lines.iter().filter(|line| line.number > known);
        hidden.extend(new.map(|line| past::Line {
            text: self.redactor.blurred(&line.text).into(),
            ..line.clone()
        }));
        texts(&hidden)
    }
}

fn texts(lines: &VecDeque<past::Line>) -> Vec<TimedText> {
    lines.iter().map(|line| TimedText(seconds(line.at.0), line.text.to_string())).collect()
}

/// Who is asked, and when.
pub struct Asked<'a> {
    pub identity: &'a TelemetryIdentity,
    pub stats: &'a Stats,
    pub page: &'a Page,
    pub ourselves: Pid,
    /// Since the run began.
    pub elapsed: Duration,
}

impl Asked<'_> {
    pub fn json(&self) -> String {
        let past = lock(&self.page.past).clone();
        let text = serde_json::to_string(&self.status(&past)).unwrap_or_default();
        printable_json(&text).into_owned()
    }

    fn status<'a>(&'a self, past: &'a Past) -> Status<'a> {
        let Asked { identity, stats, page, elapsed, .. } = self;
        let About { command, directory, log, is_canary } = &page.about;
        let (history, ended) = (&stats.history, stats.history.ended);
        let own = is_canary.then(SelfReading::take).flatten();
        let lasted = ended.map_or(*elapsed, |ended| ended.stamp.elapsed);
        let restart = past.restart.filter(|_| ended.is_none());
        Status {
            job: &identity.name,
            command,
            directory,
            log: log.as_deref(),
            host: &identity.host,
            user: &identity.user,
            run_id: &identity.run_id,
            version: env!("CARGO_PKG_VERSION"),
            state: self.state(past),
            is_builtin: *is_canary,
            pid: history
                .child()
                .or(own.filter(|_| ended.is_none()).map(|_| self.ourselves))
                .map(|pid| pid.0),
            attempt: history.attempt.number,
            restarts: history.restarts(),
            restart: restart.map(|next| NextAttempt {
                attempt: next.attempt,
                in_seconds: seconds(next.at.saturating_sub(*elapsed)),
                restarts_left: next.left,
            }),
            began: seconds(stats.begun),
            ended: ended.map(|ended| seconds(ended.stamp.wall.0)),
            uptime_seconds: seconds(lasted),
            stops: history.stops,
            stopped_seconds: seconds(history.stopped),
            exit_status: ended.map(|ended| ended.exit_status),
            verdict: past.verdict().map(ShownVerdict::of),
            attempts: past.attempts.iter().map(AttemptStatus::of).collect(),
            signals: history.received.iter().map(|(signal, n)| (signal.to_string(), *n)).collect(),
            last_signals: texts(&past.signals),
            calls: stats.calls.iter().map(|(word, calls)| (*word, calls.calls)).collect(),
            failed_calls: history.failed_calls,
            processes: stats.tree.map(|tree| tree.processes).filter(|count| *count > 0),
            resident_bytes: stats
                .tree
                .map(|tree| tree.rss_bytes)
                .or(own.map(|own| own.resident_bytes)),
            cpu_seconds: seconds(own.map_or_else(|| past::cpu(stats), |own| own.cpu)),
            history: past.points.iter().map(point).collect(),
            durations: durations(&past.points),
            log_lines: page.lines(past),
        }
    }

    fn state(&self, past: &Past) -> &'static str {
        let history = &self.stats.history;
        match &history.ended {
            Some(ended) if ended.exit_status == 0 => "succeeded",
            Some(ended) if ended.outcome == RunOutcome::Stopped && was_asked(history) => {
                "ended on request"
            }
            Some(_) => "failed",
            None if history.is_stopped => "stopped",
            None if history.child().is_some() || self.page.about.is_canary => "running",
            None if history.attempt.number == 0 => "starting",
            None if past.restart.is_some() => "restarting",
            None => "ending",
        }
    }
}

fn was_asked(history: &RunHistory) -> bool {
    let asked = [VerdictKind::StopRequested, VerdictKind::KilledByTerminal];
    history.attempt.verdict.is_some_and(|kind| asked.contains(&kind))
}

/// A number in seconds, to a millisecond: the answer is sent every two seconds.
fn seconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e3).round() / 1e3
}

fn point(point: &ChartPoint) -> (f64, f64, u64, u64) {
    (seconds(point.elapsed), seconds(point.cpu), point.rss_bytes, point.calls)
}

/// The series of each function, to a microsecond.
fn durations(points: &VecDeque<ChartPoint>) -> Vec<(&'static str, Vec<(f64, f64)>)> {
    let mut all: Vec<(&'static str, Vec<(f64, f64)>)> = Vec::new();
    for point in points {
        for (function, mean) in &point.means {
            let one = (seconds(point.elapsed), (mean * 1e6).round() / 1e6);
            match all.iter_mut().find(|(name, _)| name == function) {
                Some((_, series)) => series.push(one),
                None => all.push((function, vec![one])),
            }
        }
    }
    all.sort_by_key(|(name, _)| *name);
    all
}

/// Unix time and a text.
#[derive(Serialize)]
struct TimedText(f64, String);

/// What the page shows. Times are Unix times in seconds.
#[derive(Serialize)]
struct Status<'a> {
    job: &'a str,
    command: &'a str,
    directory: &'a str,
    log: Option<&'a str>,
    host: &'a str,
    user: &'a str,
    run_id: &'a str,
    version: &'static str,
    /// `starting`, `running`, `stopped` (by a signal such as SIGSTOP), `restarting` (waits for its next
    /// attempt), `ending` (waits for descendants), `succeeded`, `failed` or `ended on request`.
    state: &'static str,
    /// Whether it is a built-in function (`-f`), which runs in childminder itself.
    is_builtin: bool,
    pid: Option<i32>,
    attempt: u32,
    restarts: u32,
    restart: Option<NextAttempt>,
    began: f64,
    ended: Option<f64>,
    /// From the start of the run to now or to its end.
    uptime_seconds: f64,
    stops: u64,
    stopped_seconds: f64,
    exit_status: Option<u8>,
    /// Of the last attempt that ended.
    verdict: Option<ShownVerdict<'a>>,
    /// The last 50, oldest first.
    attempts: Vec<AttemptStatus<'a>>,
    /// How many of each were received.
    signals: Vec<(String, u64)>,
    last_signals: Vec<TimedText>,
    calls: Vec<(&'static str, u64)>,
    failed_calls: u64,
    processes: Option<u64>,
    resident_bytes: Option<u64>,
    cpu_seconds: f64,
    /// Since the run began, CPU seconds, resident bytes, calls.
    history: Vec<(f64, f64, u64, u64)>,
    /// For each built-in function: since the run began, mean seconds of a call since the point before.
    durations: Vec<(&'static str, Vec<(f64, f64)>)>,
    /// The last 60 lines, oldest first.
    log_lines: Vec<TimedText>,
}

#[derive(Serialize)]
struct NextAttempt {
    attempt: u32,
    in_seconds: f64,
    restarts_left: u32,
}

#[derive(Serialize)]
struct ShownVerdict<'a> {
    kind: &'static str,
    confidence: String,
    evidence: Vec<&'a str>,
}

impl ShownVerdict<'_> {
    fn of(verdict: &Verdict) -> ShownVerdict<'_> {
        ShownVerdict {
            kind: verdict.kind.word(),
            confidence: verdict.confidence.to_string(),
            evidence: verdict.evidence.iter().map(|one| one.fact.as_str()).collect(),
        }
    }
}

#[derive(Serialize)]
struct AttemptStatus<'a> {
    number: u32,
    began: f64,
    lasted_seconds: Option<f64>,
    pid: Option<i32>,
    /// How it ended, in the words of the log.
    end: Option<String>,
    verdict: Option<ShownVerdict<'a>>,
    /// Of the process and the children that it waited for.
    cpu_seconds: Option<f64>,
    max_rss_bytes: Option<u64>,
}

impl AttemptStatus<'_> {
    fn of(past: &past::PastAttempt) -> AttemptStatus<'_> {
        let attempt = &past.attempt;
        let lasted = attempt.ended.map(|ended| attempt.lasted(ended.elapsed));
        AttemptStatus {
            number: attempt.number,
            began: attempt.began.map_or(0.0, |began| seconds(began.wall.0)),
            lasted_seconds: lasted.map(seconds),
            pid: attempt.pid.map(|pid| pid.0),
            end: attempt.end.map(|end| end.to_string()),
            verdict: past.verdict.as_ref().map(ShownVerdict::of),
            cpu_seconds: attempt.usage.map(|usage| seconds(usage.user + usage.system)),
            max_rss_bytes: attempt.usage.map(|usage| usage.max_rss_kib * 1024),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::model::event::Event;
    use crate::model::time::Stamp;
    use crate::model::time::WallTime;
    use crate::model::verdict::{Confidence, Evidence, Quality};
    use crate::telemetry::prometheus::exposition::tests::identity;

    use super::*;

    const PID: Pid = Pid(7);

    fn stamp(seconds: u64) -> Stamp {
        let elapsed = Duration::from_secs(seconds);
        Stamp { wall: WallTime(Duration::from_secs(1_000) + elapsed), elapsed }
    }

    fn started(attempt: u32) -> Event {
        Event::Started { attempt, pid: PID, command: "x".into() }
    }

    fn judged(kind: VerdictKind) -> Event {
        let fact = Evidence { fact: "a fact".into(), source: "a test", quality: Quality::Exact };
        Event::Judged(Verdict { kind, confidence: Confidence::Likely, evidence: vec![fact] })
    }

    /// One event a second; with a status the run has ended then.
    fn after(events: &[Event], exit_status: Option<u8>, is_canary: bool) -> Value {
        let (mut stats, page) = (Stats::new(Duration::from_secs(1_000)), Page::default());
        let page = Page { about: About { is_canary, ..About::default() }, ..page };
        for (second, event) in (0..).zip(events) {
            stats.fold(stamp(second), event);
            lock(&page.past).apply(stamp(second), event, &stats.history);
        }
        if let Some(exit_status) = exit_status {
            stats.end(stamp(50), exit_status);
        }
        page.remember(Duration::from_secs(60), &stats);
        let (identity, elapsed) = (identity(), Duration::from_secs(60));
        let asked =
            Asked { identity: &identity, stats: &stats, page: &page, ourselves: Pid(99), elapsed };
        serde_json::from_str(&asked.json()).expect("JSON")
    }

    #[test]
    fn each_state_has_its_word() {
        let exited = |status| Event::Exited { pid: PID, status };
        let failed = [started(1), exited(3), judged(VerdictKind::ExitNonzero)];
        let mut waits = failed.to_vec();
        waits.push(Event::Restarting { attempt: 2, left: 4, delay: Duration::from_secs(100) });
        let stopped = Event::Stopped { pid: PID, signal: crate::model::signal::Signal::STOP };
        let asked = [started(1), exited(143), judged(VerdictKind::StopRequested)];
        for (events, exit_status, word) in [
            (&[][..], None, "starting"),
            (&[started(1)], None, "running"),
            (&[started(1), stopped], None, "stopped"),
            (&failed, None, "ending"),
            (&waits, None, "restarting"),
            (&failed, Some(3), "failed"),
            (&asked, Some(143), "ended on request"),
            (&[started(1), exited(0), judged(VerdictKind::Success)], Some(0), "succeeded"),
        ] {
            assert_eq!(after(events, exit_status, false)["state"], word, "{events:?}");
        }
        let next = &after(&waits, None, false)["restart"];
        assert_eq!((&next["attempt"], &next["restarts_left"]), (&2.into(), &4.into()));
        // 100 seconds after the third event, a minute after the run began.
        assert_eq!(next["in_seconds"], 43.0);
    }

    #[test]
    fn an_attempt_is_shown_with_its_verdict_and_the_clock_stops_at_the_end() {
        let events =
            [started(1), Event::Exited { pid: PID, status: 3 }, judged(VerdictKind::ExitNonzero)];
        let status = after(&events, Some(3), false);
        let attempt = &status["attempts"][0];
        assert_eq!((&attempt["number"], &attempt["pid"]), (&1.into(), &7.into()));
        assert_eq!((&attempt["began"], &attempt["lasted_seconds"]), (&1000.0.into(), &1.0.into()));
        assert_eq!(attempt["end"], "exited with status 3");
        let verdict = serde_json::json!(
            { "kind": "exit_nonzero", "confidence": "likely", "evidence": ["a fact"] }
        );
        assert_eq!((&attempt["verdict"], &status["verdict"]), (&verdict, &verdict));
        assert_eq!(status["uptime_seconds"], 50.0);
        assert_eq!((&status["ended"], &status["pid"]), (&1050.0.into(), &Value::Null));
        let lines: Vec<_> = status["log_lines"].as_array().expect("lines").iter().collect();
        assert_eq!(lines[1], &serde_json::json!([1001.0, "child 7 exited with status 3"]));
    }

    /// childminder itself is the process that works.
    #[test]
    fn a_built_in_function_has_a_process_and_its_time() {
        let took = Duration::from_millis(20);
        let call = |function| Event::Called { function, took, is_right: true };
        let status = after(&[call("file"), call("memory"), call("file")], None, true);
        assert_eq!((&status["state"], &status["pid"]), (&"running".into(), &99.into()));
        let bytes = status["history"][0][2].as_u64();
        assert!(bytes.is_some_and(|bytes| bytes > 0), "{status}");
        let durations = serde_json::json!([["file", [[60.0, 0.02]]], ["memory", [[60.0, 0.02]]]]);
        assert_eq!(status["durations"], durations);
    }

    #[test]
    fn secrets_in_the_log_are_hidden_and_each_line_is_looked_at_once() {
        let page = Page::default();
        for number in 0..200 {
            let text = format!("line {number} of curl --password=hush{number} x");
            lock(&page.past).apply(stamp(number), &Event::Notice { text }, &RunHistory::default());
            if number % 7 == 0 {
                let past = lock(&page.past).clone();
                page.lines(&past);
            }
        }
        let past = lock(&page.past).clone();
        let texts: Vec<String> = page.lines(&past).into_iter().map(|line| line.1).collect();
        assert_eq!(texts.len(), past.lines.len());
        assert!(texts.iter().all(|text| !text.contains("hush")), "{texts:?}");
        assert!(texts.last().is_some_and(|text| text.starts_with("line 199 of curl")), "{texts:?}");
        assert!(texts[0].starts_with("line 140 "), "{texts:?}");
    }
}
