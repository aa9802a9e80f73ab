//! Writing to descriptors that others read, and perhaps do not (write(2), send(2)): it never blocks.
//!
//! O_NONBLOCK belongs to the open file description, which a standard stream shares with the job and
//! the shell, so it is never set there.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::sys::stat::fstat;
use nix::unistd;

use crate::model::time::Moment;
use crate::sys::signals::SignalFd;
use crate::sys::{clock, poll};

/// What a pipe with room takes as a whole (pipe(7)).
const PIPE_BUF: usize = 4096;

/// How a descriptor is written without blocking. It is passed to each call: a standard stream needs
/// no copy, which is more than a process may have descriptors left for.
pub struct Stream {
    /// What is written in its place; never closed, for it lives until the program ends.
    own: Option<ManuallyDrop<File>>,
    kind: StreamKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamKind {
    /// A pipe, terminal or device, with an open file description of our own.
    Reopened,
    /// A socket: each call says that it must not block.
    Socket,
    /// A pipe, terminal or device that could not be opened again: poll(2) says when it has room.
    Polled,
    /// A file or block device: writing waits for the disk at most.
    File,
    /// A file that nobody else writes.
    OwnFile,
}

impl Stream {
    /// Opens the same file again where that is needed.
    ///
    /// # Errors
    ///
    /// The descriptor is closed.
    pub fn of(shared: BorrowedFd<'_>) -> io::Result<Stream> {
        let kind = match fstat(shared)?.st_mode & libc::S_IFMT {
            libc::S_IFREG | libc::S_IFBLK => StreamKind::File,
            libc::S_IFSOCK => StreamKind::Socket,
            _ => StreamKind::Reopened,
        };
        if kind != StreamKind::Reopened {
            return Ok(Stream { own: None, kind });
        }
        let again = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(format!("/proc/self/fd/{}", shared.as_raw_fd()));
        Ok(match again {
            Ok(file) => Stream { own: Some(ManuallyDrop::new(file)), kind },
            // No /proc, no descriptor left, or a file that this user may not open.
            Err(_) => Stream { own: None, kind: StreamKind::Polled },
        })
    }

    /// A file of our own, which nobody else writes.
    #[must_use]
    pub fn file(file: File) -> Stream {
        Stream { own: Some(ManuallyDrop::new(file)), kind: StreamKind::OwnFile }
    }

    fn fd<'a>(&'a self, shared: BorrowedFd<'a>) -> BorrowedFd<'a> {
        self.own.as_ref().map_or(shared, |own| own.as_fd())
    }

    /// Cuts off the last bytes that were written.
    ///
    /// # Errors
    ///
    /// Of ftruncate(2); `Unsupported` where others may have written since.
    pub fn cut_off(&self, bytes: u64) -> io::Result<()> {
        let (Some(file), StreamKind::OwnFile) = (&self.own, self.kind) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        file.set_len(file.metadata()?.len().saturating_sub(bytes))
    }

    /// Writes what fits, at least one byte.
    ///
    /// # Errors
    ///
    /// Of write(2) and send(2); `WouldBlock` if nothing fits now.
    pub fn write(&self, shared: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        let fd = self.fd(shared);
        let written = match self.kind {
            StreamKind::Reopened | StreamKind::File | StreamKind::OwnFile => {
                unistd::write(fd, bytes)
            }
            StreamKind::Socket => return send(fd, bytes),
            StreamKind::Polled => {
                let ready = poll::ready([(fd, libc::POLLOUT)], Some(clock::now()));
                if ready.map_err(|error| error.source)? == [false] {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                unistd::write(fd, &bytes[..bytes.len().min(PIPE_BUF)])
            }
        };
        Ok(written?)
    }

    /// Waits until more can be written or the deadline has passed; returns `false` after that, and
    /// if a signal asked us to stop.
    pub fn await_room(&self, shared: BorrowedFd<'_>, deadline: Moment, signals: &SignalFd) -> bool {
        let fds = [(self.fd(shared), libc::POLLOUT), (signals.as_fd(), libc::POLLIN)];
        loop {
            match poll::ready(fds, Some(deadline)) {
                Ok([_, true]) if signals.ask_to_stop() => return false,
                Ok([true, _]) => return true,
                Ok(_) if clock::now() < deadline => {}
                _ => return false,
            }
        }
    }
}

fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the buffer is borrowed for the call, and its length is passed with it.
    let sent = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent.unsigned_abs()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(fd: BorrowedFd<'_>) -> i32 {
        nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL).expect("flags")
    }

    #[test]
    fn a_full_pipe_does_not_block_and_keeps_its_flags() {
        let (_reader, writer) = io::pipe().expect("a pipe");
        let before = flags(writer.as_fd());
        let stream = Stream::of(writer.as_fd()).expect("a stream");
        let mut written = 0;
        let error = loop {
            match stream.write(writer.as_fd(), &[b'x'; 1000]) {
                Ok(count) => written += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(written >= PIPE_BUF, "{written}");
        assert_eq!(flags(writer.as_fd()), before, "others share these");
    }

    #[test]
    fn a_pipe_that_cannot_be_opened_again_is_polled() {
        let (_reader, writer) = io::pipe().expect("a pipe");
        let stream = Stream { own: None, kind: StreamKind::Polled };
        let error = loop {
            if let Err(error) = stream.write(writer.as_fd(), &[b'x'; 10_000]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_full_socket_does_not_block() {
        let (_reader, writer) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let stream = Stream::of(writer.as_fd()).expect("a stream");
        assert_eq!(stream.kind, StreamKind::Socket);
        let error = loop {
            if let Err(error) = stream.write(writer.as_fd(), &[b'x'; 10_000]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(flags(writer.as_fd()) & libc::O_NONBLOCK, 0);
    }
}
