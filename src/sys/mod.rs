//! System calls, thin and typed: the only folder that may say `unsafe`.
//!
//! Decides nothing and logs nothing. What it returns is in the words of `model`.

use std::fmt;

use nix::errno::Errno;

pub mod account;
pub mod activation;
pub mod cgroup;
pub mod children;
pub mod clock;
pub mod descriptors;
pub mod entry;
pub mod environment;
mod exec;
mod exec_failure;
pub mod host;
pub mod inherited;
pub mod local_socket;
pub mod pidfd_info;
pub mod poll;
pub mod proc;
pub mod proc_events;
pub mod program;
pub mod ptrace;
pub mod reaper;
pub mod signal_probe;
pub mod signals;
pub mod spawn;
pub mod stream;
pub mod terminal;
pub mod threads;
pub mod wait;

/// A system call that the kernel refused.
#[derive(Debug)]
pub struct SysError {
    /// What we tried, with its object.
    pub action: String,
    pub source: Errno,
}

impl SysError {
    /// Describes a failure of one; `action` completes "could not".
    pub fn new(action: impl Into<String>, source: Errno) -> SysError {
        SysError { action: action.into(), source }
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.action)
    }
}

impl std::error::Error for SysError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Turns -1 of a raw call into the error that it left behind.
fn check(action: &'static str, result: libc::c_long) -> Result<libc::c_long, SysError> {
    if result < 0 { Err(SysError::new(action, Errno::last())) } else { Ok(result) }
}
