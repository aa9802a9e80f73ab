//! Gives up descriptors that only the job needs, so that the other end of a pipe is not kept waiting.

use std::fs::{self, OpenOptions};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};

/// Closes the pipes and sockets that childminder was given, except standard error and, if it is
/// needed, standard output; in place of 0 and 1 there is /dev/null.
///
/// Other files stay open: nobody waits for their end, and closing one would release its record
/// locks (fcntl_locking(2)). To be called once the job has them and no other attempt will need them.
pub fn release(needs_output: bool) {
    let standard = [0, 1];
    let wanted = if needs_output { &standard[..1] } else { &standard[..] };
    let wanted: Vec<RawFd> = wanted.iter().copied().filter(|fd| has_other_end(*fd)).collect();
    if !wanted.is_empty() {
        // Without /dev/null they stay as they are.
        if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
            for fd in wanted {
                // SAFETY: plain integers; both are open, and nothing owns a standard descriptor.
                unsafe { libc::dup2(null.as_raw_fd(), fd) };
            }
        }
    }
    for fd in inherited().into_iter().filter(|fd| has_other_end(*fd)) {
        // SAFETY: it was given to us without close-on-exec, which each of our own has: nothing
        // here owns it.
        unsafe { libc::close(fd) };
    }
}

/// The descriptors above standard error that execve(2) handed to us: not close-on-exec.
fn inherited() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|fd| *fd > 2 && is_for_the_job(*fd)).collect()
}

fn is_for_the_job(fd: RawFd) -> bool {
    // SAFETY: borrowed for this call only; one that is closed gives an error and nothing else.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = fcntl(fd, FcntlArg::F_GETFD).map(FdFlag::from_bits_truncate);
    flags.is_ok_and(|flags| !flags.contains(FdFlag::FD_CLOEXEC))
}

fn has_other_end(fd: RawFd) -> bool {
    // SAFETY: as above.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let kind = fstat(fd).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
    kind.is_ok_and(|kind| kind == SFlag::S_IFIFO || kind == SFlag::S_IFSOCK)
}
