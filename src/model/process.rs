//! Who a process is, and what is known of the sender of a signal.

use std::fmt;

use serde::Serialize;

use crate::model::text::Escaped;

/// A process id in our pid namespace, always positive.
///
/// The kernel uses it again once the process was reaped, so what outlives one call is named by
/// [`ProcessKey`] or held by a pidfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Pid(pub i32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A process for ever: its pid and its start time in clock ticks since boot, field 22 of
/// /proc/PID/stat (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ProcessKey {
    /// Its id while it lives.
    pub pid: Pid,
    /// Distinguishes it from another process that gets the same id later.
    pub start_ticks: u64,
}

/// Returns whether a proc file system numbers processes as our pid namespace does, by the text of
/// its `self/status`: `NSpid` has one number for each pid namespace from that of the mount to that
/// of the reader (proc(5)).
#[must_use]
pub fn is_proc_of_our_namespace(status: &str, ourselves: Pid) -> bool {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    // A kernel without pid namespaces has no such line.
    let numbers = field("NSpid:").or_else(|| field("Pid:")).unwrap_or_default();
    numbers.split_ascii_whitespace().eq([ourselves.to_string().as_str()])
}

/// A process of the job below the one that we started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Descendant {
    #[serde(flatten)]
    pub key: ProcessKey,
    /// Its name, at most 15 bytes (`comm` in proc(5)).
    pub name: String,
    /// Its state letter in proc(5), such as `S` or `T`.
    pub state: char,
}

impl fmt::Display for Descendant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.key.pid, Escaped(&self.name))
    }
}

/// The process that sent a signal, as far as it could still be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SenderProcess {
    pub pid: Pid,
    /// Its real user id.
    pub uid: u32,
    /// The name of that user, from /etc/passwd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its command line, or its name in brackets; `None` if it had gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Whether it was there, and /proc did not show it to us (hidepid in proc(5)).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_hidden: bool,
}

impl fmt::Display for SenderProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {} (", self.uid)?;
        match &self.user {
            Some(user) => write!(f, "{}", Escaped(user))?,
            None => f.write_str("name unknown")?,
        }
        write!(f, ") in process {} (", self.pid)?;
        match &self.command {
            Some(command) => write!(f, "{})", Escaped(command)),
            None if self.is_hidden => f.write_str("not visible to us)"),
            None => f.write_str("already gone)"),
        }
    }
}

/// Where a signal came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sender {
    /// No process sent it.
    Kernel,
    /// A process that has no pid here (pid_namespaces(7)).
    OutsideNamespace,
    /// A process of ours to name.
    Process(SenderProcess),
}

/// The program by which Slurm starts and signals the processes of a job.
pub const SLURMSTEPD: &str = "slurmstepd";

impl Sender {
    /// Returns whether Slurm sent it: its program sets its command line to `slurmstepd: [JOB.STEP]`.
    #[must_use]
    pub fn is_slurm(&self) -> bool {
        let Sender::Process(SenderProcess { command: Some(command), .. }) = self else {
            return false;
        };
        command.split([':', ' ']).next().is_some_and(|word| word.ends_with(SLURMSTEPD))
    }
}

/// The name of one run over all files and all hosts: a UUIDv7 (RFC 9562), so ordered by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunId(uuid::Uuid);

impl RunId {
    /// Makes the id from milliseconds since 1970 and ten random bytes.
    #[must_use]
    pub fn new(unix_ms: u64, random: &[u8; 10]) -> RunId {
        RunId(uuid::Builder::from_unix_timestamp_millis(unix_ms, random).into_uuid())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl Serialize for RunId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The most processes that one line names.
const NAMED_AT_MOST: usize = 8;

/// Names processes in one line.
pub struct NamedDescendants<'a>(pub &'a [Descendant]);

impl fmt::Display for NamedDescendants<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, process) in self.0.iter().take(NAMED_AT_MOST).enumerate() {
            write!(f, "{}{process}", if index == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(NAMED_AT_MOST) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_sort_by_time_and_say_version_seven() {
        let early = RunId::new(1_000, &[0xff; 10]).to_string();
        let late = RunId::new(1_001, &[0x00; 10]).to_string();
        assert!(early < late, "{early} {late}");
        assert_eq!(early.as_bytes()[14], b'7');
    }

    #[test]
    fn a_proc_of_another_namespace_has_another_number_or_two() {
        let is_ours = |status| is_proc_of_our_namespace(status, Pid(37));
        assert!(is_ours("Name:\tx\nPid:\t37\nNSpid:\t37\n"));
        assert!(is_ours("Name:\tx\nPid:\t37\n"));
        for foreign in ["NSpid:\t1200\t37\n", "NSpid:\t37\t37\n", "Pid:\t5\n", ""] {
            assert!(!is_ours(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_sender_that_left_is_still_named_by_uid_and_pid() {
        let gone =
            SenderProcess { pid: Pid(7), uid: 1001, user: None, command: None, is_hidden: false };
        assert_eq!(gone.to_string(), "user 1001 (name unknown) in process 7 (already gone)");
        let hidden = SenderProcess { is_hidden: true, ..gone };
        assert!(hidden.to_string().ends_with("in process 7 (not visible to us)"), "{hidden}");
    }
}
