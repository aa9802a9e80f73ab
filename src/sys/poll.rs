//! The one call in which the supervising thread sleeps (ppoll(2)).

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::errno::Errno;

use crate::model::time::Moment;
use crate::sys::{SysError, clock};

/// Waits until one of two descriptors can be read, or the deadline has passed; returns which.
///
/// Being interrupted, as by SIGSTOP and SIGCONT, counts as nothing to read.
///
/// # Errors
///
/// None that ppoll(2) lists can occur but lack of memory.
pub fn wait(
    first: BorrowedFd<'_>,
    second: Option<BorrowedFd<'_>>,
    deadline: Option<Moment>,
) -> Result<(bool, bool), SysError> {
    let entry = |fd: i32| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // The kernel passes over a negative descriptor.
    let mut fds = [entry(first.as_raw_fd()), entry(second.map_or(-1, |fd| fd.as_raw_fd()))];
    let timeout = deadline.map(|at| {
        let span = at - clock::now();
        libc::timespec {
            tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: span.subsec_nanos().into(),
        }
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the array is ours and its length is passed; the timeout is null or one timespec.
    let ready = unsafe { libc::ppoll(fds.as_mut_ptr(), 2, timeout, ptr::null()) };
    if ready < 0 && Errno::last() != Errno::EINTR {
        return Err(SysError::new("wait for signals", Errno::last()));
    }
    Ok((ready > 0 && fds[0].revents != 0, ready > 0 && fds[1].revents != 0))
}
