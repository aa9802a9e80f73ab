//! Sockets that a service manager opened for us (sd_listen_fds(3)).
//!
//! They are touched only if somebody wants them; else the job inherits them as it always did.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::sys::environment;

/// The variables that announce the sockets: not for the job if we take them.
pub const VARIABLES: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];

/// SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;

/// A service has one or two; a wild number in the environment must not keep us busy.
const SOCKETS_MAX: RawFd = 64;

static ARE_TAKEN: AtomicBool = AtomicBool::new(false);

/// Keeps the sockets from the job; to be called before it is started.
pub fn seal() {
    for fd in passed() {
        close_on_exec(fd);
    }
}

/// Takes the sockets over. The second call finds none.
#[must_use]
pub fn listeners() -> Vec<OwnedFd> {
    if ARE_TAKEN.swap(true, Ordering::Relaxed) { Vec::new() } else { take(passed()) }
}

fn passed() -> std::ops::Range<RawFd> {
    let count = count(environment::entries(), std::process::id());
    FIRST..FIRST + count
}

/// How many sockets the variables promise to the process with that pid.
fn count<'a>(entries: impl Iterator<Item = &'a [u8]>, pid: u32) -> RawFd {
    let (mut for_pid, mut count) = (None, None);
    for entry in entries {
        let number = |prefix: &[u8]| {
            let digits = str::from_utf8(entry.strip_prefix(prefix)?).ok()?;
            digits.parse::<u32>().ok()
        };
        for_pid = for_pid.or_else(|| number(b"LISTEN_PID="));
        count = count.or_else(|| number(b"LISTEN_FDS="));
    }
    let count = count.filter(|_| for_pid == Some(pid)).unwrap_or(0);
    RawFd::try_from(count).map_or(SOCKETS_MAX, |count| count.min(SOCKETS_MAX))
}

/// If the variables lie, a number may be closed or be a descriptor of our own: of ours, none is a
/// listening socket before telemetry begins.
fn take(fds: impl Iterator<Item = RawFd>) -> Vec<OwnedFd> {
    let own = |fd| {
        close_on_exec(fd);
        // SAFETY: it is open, was passed to us, and nobody else owns it: see `ARE_TAKEN`.
        unsafe { OwnedFd::from_raw_fd(fd) }
    };
    fds.filter(|fd| is_listening(*fd)).map(own).collect()
}

fn close_on_exec(fd: RawFd) {
    // SAFETY: borrowed for this call only; one that is closed gives an error and nothing else.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    // What is not open cannot be inherited either.
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok();
}

fn is_listening(fd: RawFd) -> bool {
    let (mut value, mut size): (libc::c_int, _) = (0, size_of::<libc::c_int>() as libc::socklen_t);
    let (option, to) = (libc::SO_ACCEPTCONN, (&raw mut value).cast());
    // SAFETY: the buffer is an integer of ours, as long as the size says.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, option, to, &raw mut size) };
    result == 0 && value == 1
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::IntoRawFd;

    use super::*;

    fn counted(entries: &[&str]) -> RawFd {
        count(entries.iter().map(|entry| entry.as_bytes()), 7)
    }

    #[test]
    fn only_the_process_that_is_meant_takes_them() {
        assert_eq!(counted(&["LISTEN_PID=7", "LISTEN_FDS=2"]), 2);
        assert_eq!(counted(&["LISTEN_FDS=2", "LISTEN_PID=8"]), 0);
        assert_eq!(counted(&["LISTEN_FDS=2"]), 0);
        assert_eq!(counted(&["LISTEN_PID=7", "LISTEN_FDS=x"]), 0);
        assert_eq!(counted(&["LISTEN_PID=7", "LISTEN_FDS=-1"]), 0);
        assert_eq!(counted(&["LISTEN_PID=7", "LISTEN_FDS=4000000000"]), SOCKETS_MAX);
    }

    #[test]
    fn a_listening_socket_is_taken_and_nothing_else() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let file = tempfile::tempfile().unwrap();
        let fd = socket.into_raw_fd();
        let taken = take([fd, file.into_raw_fd(), 1_000_000].into_iter());
        assert_eq!(taken.len(), 1);
        let flags = fcntl(&taken[0], FcntlArg::F_GETFD).unwrap();
        assert_eq!(FdFlag::from_bits_truncate(flags), FdFlag::FD_CLOEXEC);
        let again = TcpListener::from(taken.into_iter().next().unwrap());
        assert_eq!(again.local_addr().unwrap(), address);
    }
}
