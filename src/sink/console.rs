//! What the user sees on standard error: nothing as long as all is well, and the verdict when the
//! job failed.

use std::io;
use std::os::fd::AsFd;
use std::sync::Mutex;

use crate::model::event::Event;
use crate::model::shared::lock;
use crate::model::text::Printable;
use crate::model::time::Moment;
use crate::sink::outlet::Outlet;
use crate::sink::{Sink, SinkError, Stamp};
use crate::sys::signals::SignalFd;

/// Standard error. A process has one, and what several threads write to it stays in lines.
static STDERR: Mutex<Outlet> = Mutex::new(Outlet::new());

/// Writes a line to standard error, as it is.
///
/// # Errors
///
/// See [`Outlet::put`].
pub(super) fn put(line: &[u8]) -> io::Result<()> {
    lock(&STDERR).put(io::stderr().as_fd(), line)
}

/// Writes a line of our own, led by our name as is usual. Does not wait for a reader.
///
/// # Errors
///
/// See [`Outlet::put`]: nobody else is left to be told.
pub fn say(text: &str) -> io::Result<()> {
    put(format!("childminder: {}\n", Printable(text)).as_bytes())
}

/// As [`say`], for a panic: gives up if this thread is just writing there.
pub fn say_of_panic(text: &str) {
    if let Ok(mut outlet) = STDERR.try_lock() {
        let line = format!("childminder: {text}\n");
        // Standard error is the last place to complain.
        outlet.put(io::stderr().as_fd(), line.as_bytes()).ok();
    }
}

/// Tries again to write what waits for a reader; returns whether something still waits.
pub fn retry() -> bool {
    let mut outlet = lock(&STDERR);
    // What was lost is counted, and said at the end.
    outlet.retry(io::stderr().as_fd()).ok();
    outlet.is_waiting()
}

/// Waits for a reader at the end of the run; see [`Outlet::drain`].
pub fn drain(deadline: Moment, signals: &SignalFd) -> u64 {
    lock(&STDERR).drain(io::stderr().as_fd(), deadline, signals)
}

/// The few events that are worth a line there.
#[derive(Default)]
pub struct Console;

impl Sink for Console {
    fn publish(&mut self, _: Stamp, event: &Event) -> Result<(), SinkError> {
        let is_news = match event {
            Event::Judged(verdict) => !verdict.kind.is_success() || verdict.evidence.len() > 1,
            Event::RestartsExhausted { .. } | Event::RestartRefused { .. } => true,
            Event::WantsTerminal { .. } => true,
            _ => false,
        };
        if !is_news {
            return Ok(());
        }
        say(&event.to_string()).map_err(|source| SinkError {
            action: "write to",
            target: "stderr".into(),
            source,
        })
    }
}
