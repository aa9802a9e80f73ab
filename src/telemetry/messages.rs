//! What the supervising thread and the telemetry thread pass to each other.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::trace::SpanContext;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;

use crate::model::event::Event;
use crate::model::history::Ended;
use crate::model::time::Moment;
use crate::model::time::Stamp;
use crate::plan::TelemetryPlan;
use crate::telemetry::otlp::spans::SpanQueue;
use crate::telemetry::published::Published;

/// An event that became true.
pub struct Note {
    pub stamp: Stamp,
    pub event: Box<Event>,
    /// How long the attempt has lasted by then, or lasted in all if that was its end.
    pub attempt_lasted: Duration,
    /// The span that it belongs to.
    pub context: Option<SpanContext>,
}

/// The end of the run, and its span.
pub(super) struct Finish {
    pub(super) ended: Ended,
    pub(super) context: Option<SpanContext>,
    pub(super) until: Until,
}

/// How long the program waits after the end of the run.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// For what is still to be sent.
    pub flush: Moment,
    /// For one scrape of the last numbers (`--web.linger`).
    pub linger: Option<Moment>,
}

/// What the two threads say to each other after the end of the run.
#[derive(Default)]
pub(super) struct Farewell {
    /// Asks the telemetry thread to end at once.
    pub(super) leave: watch::Sender<bool>,
    /// All was sent, or given up.
    pub(super) is_flushed: AtomicBool,
    /// The time for a scrape of the last numbers is over, and nobody came.
    pub(super) is_unscraped: AtomicBool,
}

/// What the log should have about the thread's work.
pub(super) type News = Arc<Mutex<Vec<String>>>;

/// What comes to the thread.
pub(super) struct Inbox {
    pub(super) notes: Receiver<Note>,
    pub(super) finish: Receiver<Finish>,
    pub(super) farewell: Arc<Farewell>,
    /// Notes that found no room.
    pub(super) dropped: Arc<AtomicU64>,
}

/// All that the thread works with.
pub struct Begin {
    /// What was asked for.
    pub plan: TelemetryPlan,
    /// Where the numbers are.
    pub published: Arc<Published>,
    /// Where ended spans wait.
    pub spans: Option<Arc<SpanQueue>>,
    /// When the run began, and its span.
    pub began: (Stamp, Option<SpanContext>),
    /// Writes a line for the user.
    pub say: fn(&str),
}
