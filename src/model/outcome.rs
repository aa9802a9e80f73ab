//! From the kernel's wait status to the number that childminder returns: the one table.

use std::fmt;

use serde::Serialize;

use crate::model::signal::Signal;
use crate::model::text::Escaped;
use crate::model::trace_stop::TraceStop;

/// The job returned 0, but lost descendants, and `--on-descendant-loss fail` was given.
pub const LOSSES: u8 = 1;
/// A call of `-f` failed, or its answer was wrong.
pub const CANARY_FAILED: u8 = 1;
/// `--timeout` ended the job, as timeout(1) says it.
pub const TIMED_OUT: u8 = 124;
/// childminder itself could not do what was asked.
pub const OWN_FAILURE: u8 = 125;
/// The job was found and could not be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The job was not found.
pub const NOT_FOUND: u8 = 127;

/// How a process ended. The two ways are never folded into one number before the last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Termination {
    /// It called exit with this status (the low eight bits of it).
    Exited(u8),
    /// A signal ended it.
    Signaled {
        signal: Signal,
        /// Whether the kernel says that it wrote a core dump; it errs both ways.
        core_dumped: bool,
    },
}

impl Termination {
    /// Returns the shell's number for it: the status, or 128 + the signal.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Termination::Exited(status) => status,
            // Signals end at 64, so this cannot pass 192.
            Termination::Signaled { signal, .. } => 128 + signal.number().unsigned_abs() as u8,
        }
    }

    /// Returns whether it is exit status 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Termination::Exited(0)
    }
}

impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Termination::Exited(status) => write!(f, "exited with status {status}"),
            Termination::Signaled { signal, .. } => {
                write!(f, "terminated by signal {} ({signal})", signal.number())
            }
        }
    }
}

/// What waitid(2) says about a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitStatus {
    /// It is a zombie, or was just reaped.
    Ended(Termination),
    /// It was stopped by that signal.
    Stopped(Signal),
    Continued,
    /// It is a thread that we trace, and waits for our answer.
    Traced(TraceStop),
}

/// Decodes `si_code` and `si_status` of waitid(2).
///
/// Returns `None` for a pair that the manual does not list.
#[must_use]
pub fn from_wait_status(code: i32, status: i32) -> Option<WaitStatus> {
    match code {
        libc::CLD_EXITED => Some(WaitStatus::Ended(Termination::Exited((status & 0xff) as u8))),
        libc::CLD_KILLED | libc::CLD_DUMPED => Some(WaitStatus::Ended(Termination::Signaled {
            signal: Signal::new(status)?,
            core_dumped: code == libc::CLD_DUMPED,
        })),
        libc::CLD_STOPPED => Some(WaitStatus::Stopped(Signal::new(status & 0x7f)?)),
        libc::CLD_TRAPPED => Some(WaitStatus::Traced(TraceStop::from_status(status))),
        libc::CLD_CONTINUED => Some(WaitStatus::Continued),
        _ => None,
    }
}

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It ran, and was reaped.
    Ended(Termination),
    /// It never ran.
    NotStarted(SpawnFailure),
    /// It is gone, and nobody can say how: the status went to somebody else (ECHILD).
    StatusLost,
}

/// How a run ended, for what comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// The status with which childminder exits.
    pub exit_status: u8,
    /// Whether `-d` may delete the log: the job succeeded, and nothing was lost on the way.
    pub is_full_success: bool,
}

impl AttemptEnd {
    /// Returns the number for it, before `--timeout` has its say.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            AttemptEnd::Ended(termination) => termination.exit_status(),
            AttemptEnd::NotStarted(failure) => failure.exit_status(),
            AttemptEnd::StatusLost => OWN_FAILURE,
        }
    }
}

/// Why no process of the job came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpawnFailure {
    /// What we tried, with its object: `execute ./job`.
    pub step: String,
    /// `errno` of the call that failed.
    pub errno: i32,
    /// Whether the job itself was at fault (126, 127), and not the machine (125).
    pub is_exec: bool,
    /// Whether there is a file of that name, which could not be executed.
    pub is_found: bool,
    /// The true cause, where the words of `errno` do not name it: a missing interpreter, for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

impl SpawnFailure {
    /// Returns 127 if nothing of that name exists, 126 if it cannot be executed, 125 otherwise.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match (self.is_exec, self.errno) {
            (true, libc::ENOENT | libc::ENOTDIR) if !self.is_found => NOT_FOUND,
            (true, _) => NOT_EXECUTABLE,
            (false, _) => OWN_FAILURE,
        }
    }
}

impl fmt::Display for SpawnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = nix::errno::Errno::from_raw(self.errno).desc();
        match &self.cause {
            Some(cause) => write!(f, "{}: {} ({reason})", Escaped(&self.step), Escaped(cause)),
            None => write!(f, "{}: {reason}", Escaped(&self.step)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_status_is_kept() {
        for status in 0..=255 {
            let ended = Termination::Exited(status as u8);
            assert_eq!(from_wait_status(libc::CLD_EXITED, status), Some(WaitStatus::Ended(ended)));
            assert_eq!(ended.exit_status(), status as u8);
        }
    }

    #[test]
    fn every_signal_is_kept_apart_from_every_exit_status() {
        for signal in (1..=64).filter_map(Signal::new) {
            for (code, core_dumped) in [(libc::CLD_KILLED, false), (libc::CLD_DUMPED, true)] {
                let ended = Termination::Signaled { signal, core_dumped };
                let decoded = from_wait_status(code, signal.number());
                assert_eq!(decoded, Some(WaitStatus::Ended(ended)));
                assert_eq!(i32::from(ended.exit_status()), 128 + signal.number());
            }
            let stopped = from_wait_status(libc::CLD_STOPPED, signal.number());
            assert_eq!(stopped, Some(WaitStatus::Stopped(signal)));
        }
        let returned = Termination::Exited(137);
        let killed = Termination::Signaled { signal: Signal::KILL, core_dumped: false };
        assert_eq!(returned.exit_status(), killed.exit_status());
        assert_ne!(returned, killed);
    }

    #[test]
    fn pairs_that_no_manual_lists_are_refused() {
        for (code, status) in [(0, 0), (libc::CLD_KILLED, 0), (libc::CLD_KILLED, 65), (99, 9)] {
            assert_eq!(from_wait_status(code, status), None);
        }
    }

    #[test]
    fn a_job_that_never_ran_says_why_by_its_number() {
        let failure = |errno, is_exec| SpawnFailure {
            step: "execute x".into(),
            errno,
            is_exec,
            is_found: false,
            cause: None,
        };
        assert_eq!(failure(libc::ENOENT, true).exit_status(), 127);
        assert_eq!(failure(libc::ENOTDIR, true).exit_status(), 127);
        let cause = Some("the interpreter '/no\r' does not exist".to_owned());
        let incomplete = SpawnFailure { is_found: true, cause, ..failure(libc::ENOENT, true) };
        assert_eq!(incomplete.exit_status(), 126);
        let text = "execute x: the interpreter '/no\\r' does not exist (No such file or directory)";
        assert_eq!(incomplete.to_string(), text);
        assert_eq!(failure(libc::EACCES, true).exit_status(), 126);
        assert_eq!(failure(libc::EAGAIN, false).exit_status(), 125);
        assert_eq!(AttemptEnd::StatusLost.exit_status(), 125);
    }
}
