//! The one call in which the supervising thread sleeps (ppoll(2)).

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use nix::errno::Errno;

use crate::model::time::Moment;
use crate::sys::{SysError, clock};

/// Waits until one of the descriptors can be read, or the deadline has passed; returns which.
///
/// Being interrupted, as by SIGSTOP and SIGCONT, counts as nothing to read.
///
/// # Errors
///
/// None that ppoll(2) lists can occur but lack of memory.
pub fn wait<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    deadline: Option<Moment>,
) -> Result<[bool; N], SysError> {
    let fds = fds.map(|fd| (fd.map_or(-1, |fd| fd.as_raw_fd()), libc::POLLIN));
    poll(fds, deadline)
}

/// The same, where each descriptor comes with the events of poll(2) that are waited for.
///
/// # Errors
///
/// As [`wait`].
pub fn ready<const N: usize>(
    fds: [(BorrowedFd<'_>, libc::c_short); N],
    deadline: Option<Moment>,
) -> Result<[bool; N], SysError> {
    poll(fds.map(|(fd, events)| (fd.as_raw_fd(), events)), deadline)
}

fn poll<const N: usize>(
    fds: [(i32, libc::c_short); N],
    deadline: Option<Moment>,
) -> Result<[bool; N], SysError> {
    // The kernel passes over a negative descriptor.
    let mut fds = fds.map(|(fd, events)| libc::pollfd { fd, events, revents: 0 });
    let timeout = deadline.map(|at| timespec(at - clock::now()));
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let count = N as libc::nfds_t;
    // SAFETY: the array is ours and its length is passed; the timeout is null or one timespec.
    let ready = unsafe { libc::ppoll(fds.as_mut_ptr(), count, timeout, ptr::null()) };
    if ready < 0 && Errno::last() != Errno::EINTR {
        return Err(SysError::new("wait for signals", Errno::last()));
    }
    Ok(fds.map(|fd| ready > 0 && fd.revents != 0))
}

/// Sleeps until the deadline where ppoll(2) itself fails (clock_nanosleep(2)); a signal does not
/// end it.
pub fn sleep_until(deadline: Moment) {
    let span = timespec(deadline - clock::now());
    // SAFETY: the first pointer is to one timespec; the second may be null.
    unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &raw const span, ptr::null_mut()) };
}

fn timespec(span: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    }
}
