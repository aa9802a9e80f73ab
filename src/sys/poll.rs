//! The one call in which the supervising thread sleeps (ppoll(2)).

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

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
    // The kernel passes over a negative descriptor.
    let mut fds = fds.map(|fd| libc::pollfd {
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    let timeout = deadline.map(|at| {
        let span = at - clock::now();
        libc::timespec {
            tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: span.subsec_nanos().into(),
        }
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let count = N as libc::nfds_t;
    // SAFETY: the array is ours and its length is passed; the timeout is null or one timespec.
    let ready = unsafe { libc::ppoll(fds.as_mut_ptr(), count, timeout, ptr::null()) };
    if ready < 0 && Errno::last() != Errno::EINTR {
        return Err(SysError::new("wait for signals", Errno::last()));
    }
    Ok(fds.map(|fd| ready > 0 && fd.revents != 0))
}
