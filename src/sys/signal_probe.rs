//! A process beside the job that reports each signal that it receives.
//!
//! A batch system signals either one process of a job or all of them, and nothing in a siginfo
//! says which. This process has our signal mask and does nothing but sigwaitinfo(2): what it
//! receives was sent to every process.
//!
//! Its exit signal is 0, so that waitid(2) without `__WALL` does not see it: "no child" still means
//! that nothing of the job is left.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::model::process::Pid;
use crate::model::signal::Signal;
use crate::sys::{SysError, check, signals};

/// The highest descriptor that is closed one by one where the kernel has no close_range(2).
const LAST_FD: RawFd = 1024;

/// The running process; it is ended when this value is dropped, and when we end.
pub struct SignalProbe {
    pid: Pid,
    reports: OwnedFd,
}

impl SignalProbe {
    /// Starts the process. It stays in our process group, or begins a session of its own where the
    /// job is not in our group: what is sent to a group reaches both or none.
    ///
    /// All signals are blocked by now, and the caller is the only thread that forks.
    ///
    /// # Errors
    ///
    /// Of pipe2(2) and clone(2): no descriptor, no process or no memory left.
    pub fn start(own_session: bool) -> Result<SignalProbe, SysError> {
        let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let (reports, reporting) = nix::unistd::pipe2(flags)
            .map_err(|errno| SysError::new("open a pipe for the signal probe", errno))?;
        let parent = nix::unistd::getpid().as_raw();
        // SAFETY: without flags this is fork(2) with exit signal 0: nothing is shared, and the
        // child calls async-signal-safe functions only (signal-safety(7)).
        let pid = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
        match check("start the signal probe", pid)? {
            0 => run(parent, reporting.as_raw_fd(), own_session),
            pid => Ok(SignalProbe { pid: Pid(i32::try_from(pid).unwrap_or(0)), reports }),
        }
    }

    /// Returns the process, which is not the job's.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns the signals that it has received since the last call; `None` if it has ended.
    #[must_use]
    pub fn received(&self) -> Option<Vec<Signal>> {
        let mut numbers = [0_u8; 256];
        match nix::unistd::read(&self.reports, &mut numbers) {
            Ok(0) => None,
            Ok(length) => {
                Some(numbers.iter().take(length).filter_map(|n| Signal::new((*n).into())).collect())
            }
            Err(_) => Some(Vec::new()),
        }
    }
}

impl AsFd for SignalProbe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reports.as_fd()
    }
}

impl Drop for SignalProbe {
    fn drop(&mut self) {
        // Without a descriptor for it, it ends with us (PR_SET_PDEATHSIG).
        let Some(pidfd) = signals::open_pidfd(self.pid) else { return };
        if signals::send(pidfd.as_fd(), Signal::KILL, None).is_err() {
            return;
        }
        // SAFETY: plain integers and no status; only our own child is waited for.
        while unsafe { libc::waitpid(self.pid.0, ptr::null_mut(), libc::__WALL) } < 0
            && Errno::last() == Errno::EINTR
        {}
    }
}

/// The process. It holds no descriptor but the pipe, so that nobody waits for its end.
fn run(parent: i32, reporting: RawFd, own_session: bool) -> ! {
    if own_session {
        // SAFETY: plain call; it cannot fail, because a new process leads no group.
        unsafe { libc::setsid() };
    }
    // SAFETY: plain integers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: plain integers; the copy has neither flag of the descriptor.
    let is_ready = unsafe { libc::dup2(reporting, 0) } == 0;
    close_from(1);
    let all = signals::trappable_set();
    // SAFETY: plain call.
    if !is_ready || unsafe { libc::getppid() } != parent {
        // SAFETY: ends this process without running what belongs to the parent.
        unsafe { libc::_exit(0) };
    }
    loop {
        // SAFETY: the set is ours; a null pointer asks for the number only.
        let signal = unsafe { libc::sigwaitinfo(&raw const all, ptr::null_mut()) };
        let Ok(number) = u8::try_from(signal) else {
            // Interrupted by SIGSTOP and SIGCONT.
            continue;
        };
        // SAFETY: the buffer is one byte of ours.
        if unsafe { libc::write(0, (&raw const number).cast(), 1) } < 0
            && Errno::last() == Errno::EPIPE
        {
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
    }
}

fn close_from(first: RawFd) {
    // SAFETY: plain integers; this process uses none of those descriptors.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if closed < 0 {
        for fd in first..=LAST_FD {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}
