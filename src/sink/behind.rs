//! A file on another machine, written by a thread of its own: what hangs there keeps nobody waiting.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::model::shared::lock;
use crate::model::time::Moment;
use crate::sys::signals::SignalFd;
use crate::sys::{clock, threads};

/// At most this many bytes wait for the thread.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// Room for the standard library; the text itself is on the heap.
const STACK_BYTES: usize = 128 * 1024;

/// How often the end of the run looks for a request to stop while it waits.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The thread that writes, as long as this exists.
pub struct Behind {
    queue: Arc<Queue>,
    lost: u64,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueuedLines>,
    changed: Condvar,
}

#[derive(Default)]
struct QueuedLines {
    waiting: Vec<u8>,
    /// Lines that wait, or that the thread is writing.
    unwritten: u64,
    /// Lines that could not be written.
    lost: u64,
    /// Why, until somebody asks.
    error: Option<io::Error>,
    is_over: bool,
}

impl Behind {
    /// Starts the thread, which alone writes the file from now on.
    ///
    /// # Errors
    ///
    /// There can be no more threads, or a limit leaves too little memory.
    pub fn start(file: &File) -> io::Result<Behind> {
        threads::check_room(STACK_BYTES as u64 + threads::HEAP_BYTES)?;
        let file = file.try_clone()?;
        let queue = Arc::new(Queue::default());
        let theirs = Arc::clone(&queue);
        thread::Builder::new()
            .name("log".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || theirs.write_to(file))?;
        Ok(Behind { queue, lost: 0 })
    }

    /// Hands a line over.
    ///
    /// # Errors
    ///
    /// The line is lost because too many wait (`WouldBlock`), or an earlier one could not be written.
    pub fn put(&mut self, line: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.queue.state);
        if state.waiting.len() + line.len() > WAITING_BYTES_MAX {
            self.lost += 1;
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "the filesystem does not answer",
            ));
        }
        state.waiting.extend_from_slice(line);
        state.unwritten += 1;
        let earlier = state.error.take();
        drop(state);
        self.queue.changed.notify_all();
        earlier.map_or(Ok(()), Err)
    }

    /// Waits until all is written, until the deadline, or until a signal asks us to stop. Returns
    /// how many lines were not written since the beginning.
    pub fn drain(&mut self, deadline: Moment, signals: &SignalFd) -> u64 {
        let mut state = lock(&self.queue.state);
        while state.unwritten > 0 && clock::now() < deadline && !signals.ask_to_stop() {
            let span = LOOK_EVERY.min(deadline - clock::now());
            let waited = self.queue.changed.wait_timeout(state, span);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let lost = self.lost + state.lost + state.unwritten;
        (self.lost, state.lost) = (0, 0);
        lost
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        lock(&self.queue.state).is_over = true;
        self.queue.changed.notify_all();
    }
}

impl Queue {
    /// Writes what comes, in order, until all is written and nothing more can come.
    fn write_to(&self, mut file: File) {
        loop {
            let is_idle = |state: &mut QueuedLines| state.waiting.is_empty() && !state.is_over;
            let waited = self.changed.wait_while(lock(&self.state), is_idle);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            let text = std::mem::take(&mut state.waiting);
            let lines = state.unwritten;
            drop(state);
            if text.is_empty() {
                return;
            }
            let written = file.write_all(&text);
            let mut state = lock(&self.state);
            state.unwritten -= lines;
            if let Err(error) = written {
                state.lost += lines;
                state.error = Some(error);
                // The rest of a line that was written in part is lost: the next gets its own.
                state.waiting.insert(0, b'\n');
            }
            drop(state);
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    /// A pipe that nobody reads hangs as a dead file server does.
    #[test]
    fn a_file_that_hangs_keeps_nobody_waiting_and_gets_all_in_order_later() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let file = File::from(OwnedFd::from(writer));
        let mut behind = Behind::start(&file).expect("a thread");
        drop(file);
        let mut kept = 0;
        let error = loop {
            match behind.put(format!("{kept:0999}\n").as_bytes()) {
                Ok(()) => kept += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let signals = SignalFd::open().expect("a signalfd");
        let begun = clock::now();
        let lost = behind.drain(begun + Duration::from_millis(100), &signals);
        assert!(clock::now() - begun < Duration::from_secs(5));
        assert!(lost > 1 && lost <= kept + 1, "{lost} of {kept}");
        // The server is back.
        drop(behind);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        let numbers: Vec<u64> = text.lines().map(|line| line.parse().expect("whole")).collect();
        assert_eq!(numbers, (0..kept).collect::<Vec<_>>());
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_said_with_the_next_line() {
        let full = File::options().write(true).open("/dev/full").expect("a full disk");
        let mut behind = Behind::start(&full).expect("a thread");
        behind.put(b"one\n").expect("handed over");
        let signals = SignalFd::open().expect("a signalfd");
        let deadline = clock::now() + Duration::from_secs(30);
        assert_eq!(behind.drain(deadline, &signals), 1);
        let error = behind.put(b"two\n").expect_err("the first failed");
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(behind.drain(deadline, &signals), 1);
    }
}
