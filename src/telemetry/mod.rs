//! Tells other machines about the run: metrics to whoever scrapes, OTLP to a collector, and files.
//!
//! On a thread of its own with one runtime, started after the job and only if asked for. All that it
//! knows comes from the one snapshot (`site`) and from a bounded queue; it may fall behind, be
//! dropped and be counted, and is waited for at the very end only, for a bounded time.

mod attempt_span;
pub mod catalogue;
pub mod client;
pub mod exposition;
mod failures;
pub mod file_sd;
pub mod identity;
pub mod instruments;
pub mod logs;
pub mod metrics;
pub mod otlp;
mod partial;
pub mod pushgateway;
pub mod readings;
mod served;
pub mod site;
pub mod status;
pub mod textfile;
pub mod traces;
pub mod warn;
pub mod web;
mod worker;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nix::sys::eventfd::{EfdFlags, EventFd};
use opentelemetry::trace::SpanContext;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::watch;

use crate::model::event::Event;
use crate::model::shared::lock;
use crate::model::time::Moment;
use crate::plan::TelemetryPlan;
use crate::sink::Stamp;
use crate::sink::stats::Ended;
use crate::sys::threads;
use crate::telemetry::metrics::PIPELINES;
use crate::telemetry::site::Site;
use crate::telemetry::traces::SpanQueue;

/// So many events may wait for the telemetry thread.
const EVENTS_MAX: usize = 4096;

/// Room for a TLS handshake and the parsers, which go deepest.
const STACK_BYTES: usize = 512 * 1024;

/// What the thread needs besides: the runtime, TLS, and a snapshot in several formats.
const HEAP_BYTES: u64 = 16 * 1024 * 1024;

/// An event, and the span that it belongs to.
struct Note(Stamp, Box<Event>, Option<SpanContext>);

/// The end of the run, and its span.
struct Finish {
    ended: Ended,
    context: Option<SpanContext>,
    until: Until,
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
struct Farewell {
    /// Asks the telemetry thread to end at once.
    leave: watch::Sender<bool>,
    /// All was sent, or given up.
    is_flushed: AtomicBool,
    /// The time for a scrape of the last numbers is over, and nobody came.
    is_unscraped: AtomicBool,
}

/// The telemetry thread, as the supervising thread sees it.
pub struct Telemetry {
    notes: Sender<Note>,
    /// Apart from the events: these may fill their queue.
    finish: Sender<Finish>,
    dropped: Arc<AtomicU64>,
    farewell: Arc<Farewell>,
    done: Arc<EventFd>,
    thread: JoinHandle<()>,
    site: Arc<Site>,
    news: News,
}

/// What the log shall tell of the thread's doings.
type News = Arc<Mutex<Vec<String>>>;

/// What comes to the thread.
struct Inbox {
    notes: Receiver<Note>,
    finish: Receiver<Finish>,
    farewell: Arc<Farewell>,
    /// Notes that found no room.
    dropped: Arc<AtomicU64>,
}

/// All that the thread works with.
pub struct Begin {
    /// What was asked for.
    pub plan: TelemetryPlan,
    /// Where the numbers are.
    pub site: Arc<Site>,
    /// Where ended spans wait.
    pub spans: Option<Arc<SpanQueue>>,
    /// When the run began, and its span.
    pub began: (Stamp, Option<SpanContext>),
    /// Writes a line for the user.
    pub say: fn(&str),
}

impl Telemetry {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// No thread, descriptor or runtime is to be had.
    pub fn start(begin: Begin) -> io::Result<Telemetry> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let done = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let (notes, received) = mpsc::channel(EVENTS_MAX);
        let (finish, finished) = mpsc::channel(1);
        let (dropped, site) = (Arc::new(AtomicU64::new(0)), Arc::clone(&begin.site));
        let (news, farewell) = (News::default(), Arc::new(Farewell::default()));
        let told = Arc::clone(&news);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .thread_stack_size(STACK_BYTES)
            .build()?;
        let (theirs, signal) = (Arc::clone(&dropped), Arc::clone(&done));
        let inbox = Inbox {
            notes: received,
            finish: finished,
            farewell: Arc::clone(&farewell),
            dropped: theirs,
        };
        threads::check_room(STACK_BYTES as u64 + HEAP_BYTES)?;
        let builder = thread::Builder::new().name("telemetry".to_owned()).stack_size(STACK_BYTES);
        let thread = builder.spawn(move || {
            // A panic in here ends this thread and not the program; then, too, nobody waits for it.
            let _announce = Announce(signal);
            runtime.block_on(worker::run(begin, inbox, &told));
            // A name that is still looked up must not hold us up.
            runtime.shutdown_background();
        })?;
        Ok(Telemetry { notes, finish, dropped, farewell, done, thread, site, news })
    }

    /// Passes an event on; if the queue is full it is dropped and counted.
    pub fn publish(&self, stamp: Stamp, event: &Event, context: Option<SpanContext>) {
        let note = Note(stamp, Box::new(event.clone()), context);
        if self.notes.try_send(note).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes what there is to tell in the log.
    #[must_use]
    pub fn take_news(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.news))
    }

    /// Asks for the final flush, which is not waited for longer than until then.
    pub fn finish(&self, ended: Ended, context: Option<SpanContext>, until: Until) {
        // It has room for one, and there is one.
        self.finish.try_send(Finish { ended, context, until }).ok();
    }

    /// Asks it to end at once, and not to wait for anybody.
    pub fn leave(&self) {
        self.farewell.leave.send_replace(true);
    }

    /// Returns whether all was sent, or given up.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.farewell.is_flushed.load(Ordering::SeqCst)
    }

    /// Becomes readable when the thread is done.
    #[must_use]
    pub fn done(&self) -> &EventFd {
        &self.done
    }

    /// Returns whether the thread is done: also where the eventfd could not be written.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// Returns what did not reach anybody, as a sentence; `None` if all did.
    #[must_use]
    pub fn losses(&self) -> Option<String> {
        let health = self.site.health();
        let lost = |index: usize| health.failures[index] > 0 || health.dropped[index] > 0;
        let mut parts: Vec<String> = (0..PIPELINES.len())
            .filter(|index| lost(*index))
            .map(|index| {
                let (failed, dropped) = (health.failures[index], health.dropped[index]);
                format!(
                    "{} ({failed} export(s) failed, {dropped} item(s) dropped)",
                    PIPELINES[index]
                )
            })
            .collect();
        if self.farewell.is_unscraped.load(Ordering::SeqCst) {
            parts.push("nobody scraped the last metrics".to_owned());
        }
        (!parts.is_empty()).then(|| format!("telemetry was lost: {}", parts.join(", ")))
    }
}

/// Says that the thread is done, however it ends.
struct Announce(Arc<EventFd>);

impl Drop for Announce {
    fn drop(&mut self) {
        // An eventfd takes a one at any time.
        self.0.write(1).ok();
    }
}
