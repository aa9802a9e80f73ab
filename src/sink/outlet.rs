//! Where lines go: in order, each whole or not at all, and without waiting for a reader.

use std::io;
use std::os::fd::BorrowedFd;

use crate::model::time::Moment;
use crate::sys::signals::SignalFd;
use crate::sys::stream::Stream;

/// At most this many bytes wait for a reader: some hundreds of lines.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// At most this many bytes are held back to be written with what follows: a pipe takes so much as a
/// whole (PIPE_BUF in pipe(7)).
const HELD_BYTES_MAX: usize = 4096;

/// Lines on their way to a descriptor, which each call names. What a reader does not take now waits, up to a bound;
/// what finds no room is lost and counted.
pub struct Outlet {
    stream: Option<Stream>,
    /// Begins with the rest of the line that was written in part.
    waiting: Vec<u8>,
    /// Whether the last byte in the file is inside of a line whose rest was lost.
    is_torn: bool,
    /// Lines that were reported to no caller: they waited, or found no room.
    lost: u64,
}

impl Outlet {
    /// One that is opened when the first line comes.
    #[must_use]
    pub const fn new() -> Outlet {
        Outlet { stream: None, waiting: Vec::new(), is_torn: false, lost: 0 }
    }

    /// One for a stream that is open.
    #[must_use]
    pub fn with(stream: Stream) -> Outlet {
        Outlet { stream: Some(stream), ..Outlet::new() }
    }

    /// Writes a line, or as much of it as is taken now.
    ///
    /// # Errors
    ///
    /// The line is lost: of fstat(2) and write(2), or `WouldBlock` if too many lines wait already, which
    /// is counted as well.
    pub fn put(&mut self, fd: BorrowedFd<'_>, line: &[u8]) -> io::Result<()> {
        self.take(fd, line)?;
        // This line is reported to the caller.
        let written = self.retry(fd);
        if written.is_err() {
            self.lost = self.lost.saturating_sub(1);
        }
        written
    }

    /// Takes a line that may be written with those that follow, at the latest by [`Outlet::retry`]: fewer
    /// system calls.
    ///
    /// # Errors
    ///
    /// See [`Outlet::put`]; of the lines before this one, too.
    pub fn hold(&mut self, fd: BorrowedFd<'_>, line: &[u8]) -> io::Result<()> {
        let written = match self.waiting.len() + line.len() > HELD_BYTES_MAX {
            true => self.retry(fd),
            false => Ok(()),
        };
        self.take(fd, line).and(written)
    }

    fn take(&mut self, fd: BorrowedFd<'_>, line: &[u8]) -> io::Result<()> {
        if self.stream.is_none() {
            match Stream::of(fd) {
                Ok(stream) => self.stream = Some(stream),
                Err(error) => return Err(error),
            }
        }
        if self.waiting.len() + line.len() > WAITING_BYTES_MAX && !self.waiting.is_empty() {
            self.retry(fd)?;
            if self.waiting.len() + line.len() > WAITING_BYTES_MAX {
                self.lost += 1;
                return Err(io::Error::new(io::ErrorKind::WouldBlock, "nobody reads it"));
            }
        }
        if std::mem::take(&mut self.is_torn) {
            self.waiting.push(b'\n');
        }
        self.waiting.extend_from_slice(line);
        Ok(())
    }

    /// Writes what waits, as far as it is taken now.
    ///
    /// # Errors
    ///
    /// Of write(2): what waited is lost.
    pub fn retry(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let Some(stream) = &self.stream else { return Ok(()) };
        let mut done = 0;
        let error = loop {
            if done == self.waiting.len() {
                self.waiting.clear();
                return Ok(());
            }
            match stream.write(fd, &self.waiting[done..]) {
                Ok(0) => break io::ErrorKind::WriteZero.into(),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.waiting.drain(..done);
                    return Ok(());
                }
                Err(error) => break error,
            }
        };
        self.lost += lines(&self.waiting[done..]);
        // Only whole lines stay, where that is possible.
        let part =
            done - self.waiting[..done].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        self.is_torn = part > 0 && stream.cut_off(part as u64).is_err();
        self.waiting.clear();
        Err(error)
    }

    /// Returns whether lines wait for a reader.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Waits until all is written, until the deadline, or until a signal asks us to stop. Returns
    /// how many lines were lost since the beginning.
    pub fn drain(&mut self, fd: BorrowedFd<'_>, deadline: Moment, signals: &SignalFd) -> u64 {
        while self.is_waiting() && self.retry(fd).is_ok() && self.is_waiting() {
            let Some(stream) = &self.stream else { break };
            if !stream.await_room(fd, deadline, signals) {
                break;
            }
        }
        self.lost += lines(&self.waiting);
        self.waiting.clear();
        std::mem::take(&mut self.lost)
    }
}

/// Counts the lines that end in it; a newline alone ends one that was torn before.
fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().skip(1).filter(|byte| **byte == b'\n').count() as u64
}

impl Default for Outlet {
    fn default() -> Outlet {
        Outlet::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use crate::sys::clock;

    #[test]
    fn what_a_reader_does_not_take_waits_in_order_up_to_a_bound() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let mut outlet = Outlet::new();
        let mut kept = 0;
        let error = loop {
            match outlet.put(writer.as_fd(), format!("{kept:0999}\n").as_bytes()) {
                Ok(()) => kept += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let mut text = String::new();
        let mut page = [0; 4096];
        while text.len() < kept * 1000 {
            outlet.retry(writer.as_fd()).expect("a pipe with a reader");
            let count = reader.read(&mut page).expect("bytes");
            text.push_str(std::str::from_utf8(&page[..count]).expect("digits"));
        }
        let numbers: Vec<usize> = text.lines().map(|line| line.parse().expect("whole")).collect();
        assert_eq!(numbers, (0..kept).collect::<Vec<_>>());
        let signals = SignalFd::open().expect("a signalfd");
        assert_eq!(
            outlet.drain(writer.as_fd(), clock::now(), &signals),
            1,
            "the one that found no room"
        );
    }

    #[test]
    fn lines_that_are_held_are_written_together() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let mut outlet = Outlet::new();
        for number in 0..100 {
            outlet.hold(writer.as_fd(), format!("{number:099}\n").as_bytes()).expect("room");
        }
        let mut page = [0; 64 * 1024];
        assert_eq!(reader.read(&mut page).expect("bytes"), 8000, "two times what is held at most");
        outlet.retry(writer.as_fd()).expect("a pipe with a reader");
        assert_eq!(reader.read(&mut page).expect("bytes"), 2000);
        assert!(!outlet.is_waiting());
    }

    #[test]
    fn the_end_waits_for_a_reader_for_a_bounded_time() {
        let (_reader, writer) = io::pipe().expect("a pipe");
        let mut outlet = Outlet::new();
        while !outlet.is_waiting() {
            outlet.put(writer.as_fd(), b"a line\n".repeat(100).as_slice()).expect("room");
        }
        let signals = SignalFd::open().expect("a signalfd");
        let begun = clock::now();
        let lost = outlet.drain(writer.as_fd(), begun + Duration::from_millis(50), &signals);
        assert!((1..=100).contains(&lost), "{lost}");
        assert!(clock::now() - begun < Duration::from_secs(5));
    }

    #[test]
    fn a_line_that_a_full_disk_tears_is_cut_off() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let file = File::options().append(true).create_new(true).open(&path).expect("a file");
        let stream = Stream::file(file);
        stream.write(io::stdout().as_fd(), b"whole\npart").expect("written");
        stream.cut_off(4).expect("cut");
        assert_eq!(fs::read_to_string(&path).expect("the file"), "whole\n");
    }
}
