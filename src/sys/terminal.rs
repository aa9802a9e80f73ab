//! Job control: who else got a signal of the terminal, and stopping ourselves. And how wide it is.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use nix::sys::prctl;
use nix::sys::signal::{Signal as NixSignal, kill};
use nix::unistd::{Pid as NixPid, getpgid, getpgrp, getpid, getppid, getsid};

use crate::model::process::Pid;
use crate::sys::{SysError, reaper};

/// Returns whether that process is in our process group, so that the terminal signals both.
#[must_use]
pub fn is_in_our_group(pid: Pid) -> bool {
    getpgid(Some(NixPid::from_raw(pid.0))) == Ok(getpgrp())
}

/// Returns the process group of a process; `None` if it has gone.
#[must_use]
pub fn group_of(pid: Pid) -> Option<Pid> {
    getpgid(Some(NixPid::from_raw(pid.0))).ok().map(|group| Pid(group.as_raw()))
}

/// Returns whether this process leads its session: the kernel reports a hang-up to such a process.
#[must_use]
pub fn leads_session() -> bool {
    getsid(None) == Ok(getpid())
}

/// Returns how many columns the terminal has; `None` if this is not a terminal, or it does not say.
#[must_use]
pub fn columns(stream: impl AsFd) -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(stream)?;
    Some(usize::from(width.0))
}

/// The longest way up to a shell that is followed.
const ANCESTORS_MAX: usize = 64;

/// Returns whether somebody could continue us if we stopped: the first of our ancestors that is
/// not in our process group is in our session. Otherwise the group is orphaned
/// (credentials(7)), and nobody might.
#[must_use]
pub fn can_be_continued() -> bool {
    let mut ancestor = getppid();
    for _ in 0..ANCESTORS_MAX {
        if ancestor.as_raw() <= 1 || getsid(Some(ancestor)) != getsid(None) {
            return false;
        }
        if getpgid(Some(ancestor)) != Ok(getpgrp()) {
            return true;
        }
        match reaper::parent(Pid(ancestor.as_raw())) {
            Some(parent) => ancestor = NixPid::from_raw(parent.0),
            None => return false,
        }
    }
    false
}

/// Stops this process until somebody sends SIGCONT; not if that has come already.
///
/// # Errors
///
/// None that kill(2) lists can occur.
pub fn stop_ourselves() -> Result<(), SysError> {
    if is_continue_pending() {
        return Ok(());
    }
    // SIGSTOP cannot be blocked: when this returns, we were stopped and continued.
    kill(getpid(), NixSignal::SIGSTOP).map_err(|errno| SysError::new("stop ourselves", errno))
}

/// To stop would discard it, and nobody sends it twice.
fn is_continue_pending() -> bool {
    let mut pending = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the pointer is to memory for one set.
    unsafe { libc::sigpending(pending.as_mut_ptr()) };
    // SAFETY: it was zeroed, and every bit pattern is a set.
    let pending = unsafe { pending.assume_init() };
    // SAFETY: the set is ours and the number is one of a signal.
    unsafe { libc::sigismember(&raw const pending, libc::SIGCONT) == 1 }
}

/// Makes orphaned descendants our children, to be reaped by us (PR_SET_CHILD_SUBREAPER).
///
/// # Errors
///
/// None that prctl(2) lists can occur on a kernel that has pidfds.
pub fn become_subreaper() -> Result<(), SysError> {
    prctl::set_child_subreaper(true).map_err(|errno| SysError::new("become a subreaper", errno))
}
