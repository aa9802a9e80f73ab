//! Job control: who else got a signal of the terminal, and stopping ourselves.

use nix::sys::prctl;
use nix::sys::signal::{Signal as NixSignal, kill};
use nix::unistd::{Pid as NixPid, getpgid, getpgrp, getpid, getppid, getsid};

use crate::model::process::Pid;
use crate::sys::SysError;

/// Returns whether that process is in our process group, so that the terminal signals both.
#[must_use]
pub fn is_in_our_group(pid: Pid) -> bool {
    getpgid(Some(NixPid::from_raw(pid.0))) == Ok(getpgrp())
}

/// Returns whether our parent could continue us if we stopped: it is in our session and not in
/// our process group. Otherwise the group is orphaned (credentials(7)), and nobody might.
#[must_use]
pub fn can_be_continued() -> bool {
    let parent = getppid();
    getsid(Some(parent)) == getsid(None) && getpgid(Some(parent)) != Ok(getpgrp())
}

/// Stops this process until somebody sends SIGCONT.
///
/// # Errors
///
/// None that kill(2) lists can occur.
pub fn stop_ourselves() -> Result<(), SysError> {
    // SIGSTOP cannot be blocked: when this returns, we were stopped and continued.
    kill(getpid(), NixSignal::SIGSTOP).map_err(|errno| SysError::new("stop ourselves", errno))
}

/// Makes orphaned descendants our children, to be reaped by us (PR_SET_CHILD_SUBREAPER).
///
/// # Errors
///
/// None that prctl(2) lists can occur on a kernel that has pidfds.
pub fn become_subreaper() -> Result<(), SysError> {
    prctl::set_child_subreaper(true).map_err(|errno| SysError::new("become a subreaper", errno))
}
