//! A child that waits before its first step until it is traced.
//!
//! The parent must run meanwhile, so the child does not borrow its memory (CLONE_VM, CLONE_VFORK): it has a copy, and
//! reports through a pipe. That costs more than the usual way, and is used only for tracing.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read, write};

use crate::model::outcome::WaitStatus;
use crate::model::process::Pid;
use crate::model::trace_stop::TraceStop;
use crate::sys::ptrace::{self, Stopped};
use crate::sys::spawn::step::ChildReport;
use crate::sys::wait::{self, Waited};

/// How a process is to be traced, from before it executes its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceRequest {
    /// Whether its threads and its descendants are traced as well.
    pub follows: bool,
    /// Whether it is not started if tracing is refused.
    pub is_required: bool,
}

/// What became of a [`TraceRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    NotRequested,
    /// By this thread.
    Traced,
    Refused(Errno),
}

/// The child's ends of two pipes, both close-on-exec.
#[derive(Clone, Copy)]
pub(super) struct Hold {
    /// Where the word comes from to go on.
    go: c_int,
    /// The parent's end of that, of which the child has a copy.
    going: c_int,
    /// Where it reports to.
    report: c_int,
}

impl Hold {
    /// In the child: sends a report. It is written whole (PIPE_BUF of pipe(7)).
    pub(super) fn send(&self, report: &ChildReport) {
        // SAFETY: the buffer is ours and of that size.
        unsafe { libc::write(self.report, report.as_ptr().cast(), REPORT_BYTES) };
    }

    /// Waits for the word; ends the child if none comes, as when the parent has gone.
    pub(super) fn wait(&self) {
        // SAFETY: plain integer; nobody uses this copy.
        unsafe { libc::close(self.going) };
        let mut byte = 0_u8;
        loop {
            // SAFETY: the buffer is one byte of ours.
            let got = unsafe { libc::read(self.go, (&raw mut byte).cast(), 1) };
            if got == 1 {
                return;
            }
            if got == 0 || Errno::last() != Errno::EINTR {
                // SAFETY: ends this process without running what belongs to the parent.
                unsafe { libc::_exit(127) };
            }
        }
    }
}

const REPORT_BYTES: usize = size_of::<ChildReport>();

/// The parent's ends.
pub(super) struct Held {
    going: OwnedFd,
    reports: OwnedFd,
    /// The child's ends, until it has been made.
    of_child: (OwnedFd, OwnedFd),
}

impl Held {
    /// Makes the pipes: before the child is made.
    pub(super) fn new() -> Result<(Held, Hold), Errno> {
        let (go, going) = pipe2(OFlag::O_CLOEXEC)?;
        let (reports, report) = pipe2(OFlag::O_CLOEXEC)?;
        let hold =
            Hold { go: go.as_raw_fd(), going: going.as_raw_fd(), report: report.as_raw_fd() };
        Ok((Held { going, reports, of_child: (go, report) }, hold))
    }

    /// Traces the child and lets it go on. Returns once it has executed or ended, with its last report; the end is not
    /// taken. Where tracing is refused and was required, the child ends.
    pub(super) fn release(self, pid: Pid, request: TraceRequest) -> (Tracing, Option<ChildReport>) {
        drop(self.of_child);
        let tracing = match ptrace::seize(pid, request.follows) {
            Ok(()) => Tracing::Traced,
            Err(errno) => Tracing::Refused(errno),
        };
        if request.is_required && tracing != Tracing::Traced {
            return (tracing, None);
        }
        // A child that was killed meanwhile reads nothing, and that is found out below.
        write(&self.going, &[1]).ok();
        drop(self.going);
        if tracing == Tracing::Traced {
            follow_to_exec(pid);
        }
        (tracing, last_report(&self.reports))
    }
}

/// Answers the stops of a traced child until it has executed its program or ended; the end is not taken.
fn follow_to_exec(pid: Pid) {
    while let Ok(Waited::Changed(_, WaitStatus::Traced(stop))) = wait::await_change(pid) {
        let stopped = Stopped::new(pid, stop);
        match stop {
            TraceStop::Group(_) => stopped.listen(),
            _ => stopped.resume(),
        }
        if stop == TraceStop::Exec {
            return;
        }
    }
}

/// The pipe is at its end once the child has executed or ended.
fn last_report(reports: &OwnedFd) -> Option<ChildReport> {
    let mut last = None;
    loop {
        let mut bytes = [0; REPORT_BYTES];
        match read(reports, &mut bytes) {
            Ok(REPORT_BYTES) => {
                let mut words = bytes.chunks_exact(size_of::<usize>());
                last = Some(std::array::from_fn(|_| {
                    let word = words.next().and_then(|bytes| bytes.try_into().ok());
                    usize::from_ne_bytes(word.unwrap_or_default())
                }));
            }
            Err(Errno::EINTR) => {}
            _ => return last,
        }
    }
}
