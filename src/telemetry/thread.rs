//! The telemetry thread, as the supervising thread sees it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use nix::sys::eventfd::{EfdFlags, EventFd};
use opentelemetry::trace::SpanContext;
use tokio::sync::mpsc::{self, Sender};

use crate::model::history::Ended;
use crate::model::pipeline::Pipeline;
use crate::model::shared::lock;
use crate::sys::threads;
use crate::telemetry::messages::{Begin, Farewell, Finish, Inbox, News, Note, Until};
use crate::telemetry::published::Published;
use crate::telemetry::worker;

/// At most this number of events may wait for the telemetry thread.
const EVENTS_MAX: usize = 4096;

/// Room for a TLS handshake and the parsers, which go deepest.
const STACK_BYTES: usize = 512 * 1024;

/// What the thread needs besides: the runtime, TLS, and a snapshot in several formats.
const HEAP_BYTES: u64 = 16 * 1024 * 1024;

/// The telemetry thread, as the supervising thread sees it.
pub struct Telemetry {
    notes: Sender<Note>,
    /// Apart from the events: these may fill their queue.
    finish: Sender<Finish>,
    dropped: Arc<AtomicU64>,
    farewell: Arc<Farewell>,
    done: Arc<EventFd>,
    thread: JoinHandle<()>,
    published: Arc<Published>,
    news: News,
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
        let (dropped, published) = (Arc::new(AtomicU64::new(0)), Arc::clone(&begin.published));
        let (news, farewell) = (News::default(), Arc::new(Farewell::default()));
        let for_thread = Arc::clone(&news);
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
            runtime.block_on(worker::run(begin, inbox, &for_thread));
            // A name that is still looked up must not hold us up.
            runtime.shutdown_background();
        })?;
        Ok(Telemetry { notes, finish, dropped, farewell, done, thread, published, news })
    }

    /// Passes an event on; if the queue is full it is dropped and counted.
    pub fn publish(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes what is to be logged.
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
        let health = self.published.health();
        let counts = |pipeline| (health.failures[pipeline], health.dropped[pipeline]);
        let lost = Pipeline::ALL.into_iter().filter(|pipeline| counts(*pipeline) != (0, 0));
        let mut parts: Vec<String> = lost
            .map(|pipeline| {
                let (failed, dropped) = counts(pipeline);
                let name = pipeline.word();
                format!("{name} ({failed} export(s) failed, {dropped} item(s) dropped)")
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
