//! The one place where telemetry gets its numbers: the snapshot of the run, read under a lock that
//! is held for a moment, and texts made of it, kept as long as nothing changed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::Notify;

use crate::model::process::Pid;
use crate::model::shared::lock;
use crate::model::time::Moment;
use crate::sink::stats::Stats;
use crate::telemetry::identity::TelemetryIdentity;
use crate::telemetry::metrics::metric::{Health, Snapshot};
use crate::telemetry::metrics::readings::{ChildReading, SelfReading};
use crate::telemetry::prometheus::exposition::{self, Clamp, Collected, Exemplar};
use crate::telemetry::web::status::{Asked, Page};

/// For this time a text is given out again if nothing happened: the job's own process is then read
/// ten times in a second at most, however many ask.
const FRESH: Duration = Duration::from_millis(100);

/// The forms of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsForm {
    /// The text format 0.0.4 of Prometheus.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// See the module's documentation.
pub struct Published {
    /// Who the job is.
    pub identity: TelemetryIdentity,
    /// Our own pid, the parent of the job.
    pub ourselves: Pid,
    /// CLOCK_MONOTONIC, as `sys::clock` reads it.
    pub now: fn() -> Moment,
    /// When the run began.
    pub begun: Moment,
    stats: Arc<Mutex<Stats>>,
    page: Page,
    state: Mutex<PublishedState>,
    /// Holds a permit once a client has the metrics of the run's end.
    end_scraped: Notify,
}

#[derive(Default)]
struct PublishedState {
    health: Health,
    clamp: Clamp,
    exemplar: Option<Exemplar>,
    texts: [Option<RenderedText>; 2],
}

struct RenderedText {
    made: Moment,
    generation: u64,
    bytes: Bytes,
}

impl Published {
    /// Makes it over the snapshot that the sinks keep up to date.
    #[must_use]
    pub fn new(
        identity: TelemetryIdentity,
        ourselves: Pid,
        (now, begun): (fn() -> Moment, Moment),
        stats: Arc<Mutex<Stats>>,
    ) -> Published {
        let (state, end_scraped) = (Mutex::default(), Notify::new());
        let page = Page::default();
        Published { identity, ourselves, now, begun, stats, page, state, end_scraped }
    }

    /// Has a page about the job as well.
    #[must_use]
    pub fn with_page(self, page: Page) -> Published {
        Published { page, ..self }
    }

    /// Returns a copy of the run's numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        lock(&self.stats).clone()
    }

    /// Returns whether the run is over: what is read afterwards has its last numbers.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        lock(&self.stats).history.ended.is_some()
    }

    /// Notes that a client has received the metrics of the run's end.
    pub fn note_end_scraped(&self) {
        self.end_scraped.notify_one();
    }

    /// Waits for [`Published::note_end_scraped`]; returns at once if it was called before.
    pub async fn end_scraped(&self) {
        self.end_scraped.notified().await;
    }

    /// Returns the numbers of all metrics now.
    #[must_use]
    pub fn collect(&self) -> Collected {
        let stats = self.stats();
        let child = stats.history.child().and_then(|pid| ChildReading::take(pid, self.ourselves));
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
    pub fn text(&self, form: MetricsForm) -> Bytes {
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
            MetricsForm::Text => exposition::text(&families),
            MetricsForm::OpenMetrics => exposition::openmetrics(&families, state.exemplar.as_ref()),
        });
        state.texts[form as usize] =
            Some(RenderedText { made: now, generation, bytes: bytes.clone() });
        bytes
    }

    /// Adds a point to the charts of the page.
    pub fn remember(&self) {
        let stats = self.stats();
        self.page.remember((self.now)() - self.begun, &stats);
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
        let (stats, elapsed) = (self.stats(), (self.now)() - self.begun);
        let (identity, ourselves) = (&self.identity, self.ourselves);
        Asked { identity, stats: &stats, page: &self.page, ourselves, elapsed }.json()
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::prometheus::exposition::tests::{identity, stats};

    use super::*;

    fn now() -> Moment {
        Moment(Duration::from_secs(10))
    }

    fn published() -> (Published, Arc<Mutex<Stats>>) {
        let stats = Arc::new(Mutex::new(stats()));
        let begun = Moment(Duration::ZERO);
        (Published::new(identity(), Pid(1), (now, begun), Arc::clone(&stats)), stats)
    }

    #[test]
    fn a_text_is_made_again_when_something_happened() {
        let (published, stats) = published();
        let first = published.text(MetricsForm::Text);
        assert_eq!(first, published.text(MetricsForm::Text));
        let mut changed = stats.lock().unwrap();
        changed.history.attempt.number += 1;
        changed.generation += 1;
        drop(changed);
        assert_ne!(first, published.text(MetricsForm::Text));
    }
}
