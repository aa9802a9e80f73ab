//! The one place where telemetry gets its numbers: the snapshot of the run, read under a lock that
//! is held for a moment, and texts made of it, kept as long as nothing changed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::Notify;

use crate::model::process::Pid;
use crate::model::shared::lock;
use crate::model::time::Moment;
use crate::sink::stats::Stats;
use crate::telemetry::exposition::{self, Clamp, Collected, Exemplar};
use crate::telemetry::identity::Identity;
use crate::telemetry::metrics::{Health, Snapshot};
use crate::telemetry::readings::{ChildReading, SelfReading};

/// So long a text is given out again if nothing happened: the job's own process is then read
/// ten times in a second at most, however many ask.
const FRESH: Duration = Duration::from_millis(100);

/// The forms of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The text format 0.0.4 of Prometheus.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// See the module's documentation.
pub struct Site {
    /// Who tells.
    pub identity: Identity,
    /// Our own pid, the parent of the job.
    pub ourselves: Pid,
    /// CLOCK_MONOTONIC, as `sys::clock` reads it.
    pub now: fn() -> Moment,
    /// When the run began.
    pub begun: Moment,
    stats: Arc<Mutex<Stats>>,
    state: Mutex<State>,
    /// Holds a permit once a client has the metrics of the run's end.
    end_scraped: Notify,
}

#[derive(Default)]
struct State {
    health: Health,
    clamp: Clamp,
    exemplar: Option<Exemplar>,
    texts: [Option<Text>; 2],
}

struct Text {
    made: Moment,
    generation: u64,
    bytes: Bytes,
}

impl Site {
    /// Makes it over the snapshot that the sinks keep up to date.
    #[must_use]
    pub fn new(
        identity: Identity,
        ourselves: Pid,
        (now, begun): (fn() -> Moment, Moment),
        stats: Arc<Mutex<Stats>>,
    ) -> Site {
        let (state, end_scraped) = (Mutex::default(), Notify::new());
        Site { identity, ourselves, now, begun, stats, state, end_scraped }
    }

    /// Returns a copy of the run's numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        lock(&self.stats).clone()
    }

    /// Returns whether the run is over: what is read afterwards has its last numbers.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        lock(&self.stats).ended.is_some()
    }

    /// Notes that a client has received the metrics of the run's end.
    pub fn note_end_scraped(&self) {
        self.end_scraped.notify_one();
    }

    /// Waits for [`Site::note_end_scraped`]; returns at once if it was called before.
    pub async fn end_scraped(&self) {
        self.end_scraped.notified().await;
    }

    /// Returns the numbers of all metrics now.
    #[must_use]
    pub fn collect(&self) -> Collected {
        let stats = self.stats();
        let child = stats.child.and_then(|pid| ChildReading::take(pid, self.ourselves));
        let mut state = lock(&self.state);
        let snapshot = Snapshot {
            stats: &stats,
            identity: &self.identity,
            child,
            itself: SelfReading::take(),
            health: state.health,
        };
        Collected::of(&snapshot, &mut state.clamp)
    }

    /// Returns the metrics as text.
    #[must_use]
    pub fn text(&self, form: Form) -> Bytes {
        let (now, generation) = ((self.now)(), lock(&self.stats).generation);
        if let Some(text) = &lock(&self.state).texts[form as usize]
            && text.generation == generation
            && now - text.made < FRESH
        {
            return text.bytes.clone();
        }
        let families = exposition::families(&self.collect(), &self.identity);
        let mut state = lock(&self.state);
        let bytes = Bytes::from(match form {
            Form::Text => exposition::text(&families),
            Form::OpenMetrics => exposition::openmetrics(&families, state.exemplar.as_ref()),
        });
        state.texts[form as usize] = Some(Text { made: now, generation, bytes: bytes.clone() });
        bytes
    }

    /// Adds a point to the charts of the page.
    pub fn remember(&self) {
        lock(&self.stats).remember((self.now)() - self.begun);
    }

    /// Sets the trace that exemplars lead to.
    pub fn set_exemplar(&self, exemplar: Exemplar) {
        lock(&self.state).exemplar = Some(exemplar);
    }

    /// Changes the account of telemetry itself.
    pub fn note_health(&self, change: impl FnOnce(&mut Health)) {
        change(&mut lock(&self.state).health);
    }

    /// Returns the account of telemetry itself.
    #[must_use]
    pub fn health(&self) -> Health {
        lock(&self.state).health
    }

    /// Returns what the page about the job shows, as JSON.
    #[must_use]
    pub fn status(&self) -> String {
        let stats = self.stats();
        let elapsed = (self.now)() - self.begun;
        let state = match &stats {
            Stats { ended: Some(_), .. } => "ended",
            Stats { is_stopped: true, .. } => "stopped",
            Stats { child: Some(_), .. } => "running",
            Stats { attempt: 0, calls, .. } if !calls.is_empty() => "running",
            Stats { attempt: 0, .. } => "starting",
            _ => "between attempts",
        };
        let status = Status {
            job: &self.identity.name,
            host: &self.identity.host,
            user: &self.identity.user,
            run_id: &self.identity.run_id,
            version: env!("CARGO_PKG_VERSION"),
            state,
            pid: stats.child.map(|pid| pid.0),
            attempt: stats.attempt,
            restarts: stats.restarts,
            uptime_seconds: elapsed.as_secs_f64(),
            stops: stats.stops,
            stopped_seconds: stats.stopped.as_secs_f64(),
            exit_status: stats.ended.map(|ended| ended.exit_status),
            verdict: stats.verdict.as_ref().map(ToString::to_string),
            signals: stats.received.iter().map(|(signal, n)| (signal.to_string(), *n)).collect(),
            calls: stats
                .calls
                .iter()
                .map(|(word, calls)| ((*word).to_owned(), calls.calls))
                .collect(),
            processes: stats.tree.map(|tree| tree.processes),
            resident_bytes: stats.tree.map(|tree| tree.rss_bytes),
            cpu_seconds: stats.tree_cpu().as_secs_f64(),
            history: stats
                .history
                .iter()
                .map(|one| {
                    let (at, cpu) = (one.elapsed.as_secs_f64(), one.cpu.as_secs_f64());
                    (at, cpu, one.rss_bytes, one.calls)
                })
                .collect(),
        };
        serde_json::to_string(&status).unwrap_or_default()
    }
}

/// What the page shows.
#[derive(Serialize)]
struct Status<'a> {
    job: &'a str,
    host: &'a str,
    user: &'a str,
    run_id: &'a str,
    version: &'static str,
    state: &'static str,
    pid: Option<i32>,
    attempt: u32,
    restarts: u64,
    uptime_seconds: f64,
    stops: u64,
    stopped_seconds: f64,
    exit_status: Option<u8>,
    verdict: Option<String>,
    signals: Vec<(String, u64)>,
    calls: Vec<(String, u64)>,
    processes: Option<u64>,
    resident_bytes: Option<u64>,
    cpu_seconds: f64,
    /// Since the run began, CPU seconds, resident bytes, calls.
    history: Vec<(f64, f64, u64, u64)>,
}

#[cfg(test)]
mod tests {
    use crate::telemetry::exposition::tests::{identity, stats};

    use super::*;

    fn now() -> Moment {
        Moment(Duration::from_secs(10))
    }

    fn site() -> (Site, Arc<Mutex<Stats>>) {
        let stats = Arc::new(Mutex::new(stats()));
        let begun = Moment(Duration::ZERO);
        (Site::new(identity(), Pid(1), (now, begun), Arc::clone(&stats)), stats)
    }

    #[test]
    fn a_text_is_made_anew_when_something_happened() {
        let (site, stats) = site();
        let first = site.text(Form::Text);
        assert_eq!(first, site.text(Form::Text));
        let mut changed = stats.lock().unwrap();
        changed.restarts += 1;
        changed.generation += 1;
        drop(changed);
        assert_ne!(first, site.text(Form::Text));
    }

    #[test]
    fn the_page_is_told_all_it_shows() {
        let (site, _) = site();
        let status: serde_json::Value = serde_json::from_str(&site.status()).unwrap();
        assert_eq!(status["state"], "ended");
        assert_eq!(status["attempt"], 2);
        assert_eq!(status["calls"][0][0], "file");
        assert_eq!(status["uptime_seconds"], 10.0);
        assert_eq!(status["exit_status"], 0);
        assert_eq!(status["stops"], 0);
    }
}
