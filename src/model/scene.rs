//! What was found at the scene of a death, before the body was taken away.
//!
//! Filled by `run` from what `sys` and `observe` could read; whatever could not be read is `None`,
//! and costs evidence, never function.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::model::event::Event;
use crate::model::outcome::Termination;
use crate::model::process::Pid;
use crate::model::sample::Peaks;
use crate::model::signal::Signal;
use crate::model::text::Escaped;

/// So many deaths of descendants are kept one by one; the rest are counted.
const DEATHS_KEPT: usize = 16;

/// The source of deaths that knows only those whom a sample has seen.
pub const BY_PIDFD: &str = "PIDFD_GET_INFO";

/// The scene of one attempt's end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    /// What speaks for or against want of memory.
    pub memory: Memory,
    /// Descendants that died of a signal, as the kernel told us of each.
    pub deaths: Deaths,
    /// The resource limits that the job died under; only looked up if it failed.
    pub limits: Option<Limits>,
    /// CPU time of the job itself, its waited-for children apart.
    pub cpu: Option<Duration>,
    /// What became of its core dump; only looked up if a signal ended it that makes one.
    pub core: Option<CoreDump>,
    /// The kernel's own line about a fault of the job (`segfault at ...`), where we may read it.
    pub fault_line: Option<String>,
    /// Places it may have been writing to that have no room left.
    pub full: Vec<PathBuf>,
    /// The highest values that were sampled.
    pub peaks: Option<Peaks>,
    /// Whether the kernel refused the last signal by which the job was to be ended or asked to stop.
    pub is_out_of_reach: bool,
    /// What is told in the log in any case.
    pub inventory: Vec<Event>,
    /// What is told in the log if the attempt failed.
    pub testimony: Vec<Event>,
}

/// Evidence about memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// The counter of OOM kills of our own cgroup.
    pub own: Option<OomCounter>,
    /// The same of the whole host (/proc/vmstat).
    pub host: Option<OomCounter>,
    /// Processes that the kernel's log names as killed for want of memory, during the attempt.
    pub victims: Vec<Pid>,
    /// The limit of our cgroup or, without one, the host's memory, in bytes.
    pub limit_bytes: Option<u64>,
    /// The highest use of our cgroup, in bytes; it may be older than the attempt.
    pub peak_bytes: Option<u64>,
    /// The largest resident set of the job's tree that was seen, in bytes.
    pub tree_peak_bytes: Option<u64>,
    /// Share of the last ten seconds in which all tasks waited for memory, in percent.
    pub pressure_full: Option<f64>,
}

/// A counter of OOM kills, before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomCounter {
    /// Which, in the words of its file.
    pub name: String,
    /// When the attempt began.
    pub before: u64,
    /// When it had ended.
    pub after: u64,
}

impl OomCounter {
    /// Returns by how much it rose.
    #[must_use]
    pub fn rise(&self) -> u64 {
        self.after.saturating_sub(self.before)
    }
}

/// A descendant that died of a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Death {
    /// Its pid when it lived.
    pub pid: Pid,
    /// Its name, if it could still be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How it ended.
    pub end: Termination,
    /// Who told us: `proc connector`, `PIDFD_GET_INFO` or `waitid(2)`.
    pub source: &'static str,
}

impl Death {
    /// Returns the signal that it died of.
    #[must_use]
    pub fn signal(&self) -> Option<Signal> {
        match self.end {
            Termination::Signaled { signal, .. } => Some(signal),
            Termination::Exited(_) => None,
        }
    }

    /// Returns whether work was lost by it: it was killed or crashed. Programs end each other by
    /// SIGTERM, SIGPIPE and their like in good order every day.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        self.signal().is_some_and(|signal| {
            signal.is_fault() || matches!(signal, Signal::KILL | Signal::XCPU | Signal::XFSZ)
        })
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "'{}' (pid {}) ", Escaped(name), self.pid)?,
            None => write!(f, "pid {} ", self.pid)?,
        }
        match self.end {
            Termination::Signaled { signal, .. } => write!(f, "was killed by {signal}"),
            Termination::Exited(status) => write!(f, "exited with status {status}"),
        }
    }
}

/// Deaths in the order in which we learned of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deaths {
    /// The first of them.
    pub first: Vec<Death>,
    /// The one that came last.
    pub last: Option<Death>,
    /// How many were losses (see [`Death::is_loss`]).
    pub losses: u64,
}

impl Deaths {
    /// Adds one, unless that process is known to be dead already.
    pub fn add(&mut self, death: Death) {
        if self.first.iter().chain(&self.last).any(|known| known.pid == death.pid) {
            return;
        }
        self.losses += u64::from(death.is_loss());
        if self.first.len() < DEATHS_KEPT {
            self.first.push(death.clone());
        }
        self.last = Some(death);
    }

    /// Returns whether there may be more than are known of.
    #[must_use]
    pub fn may_be_more(&self) -> bool {
        self.first.iter().chain(&self.last).any(|death| death.source == BY_PIDFD)
    }

    /// Returns the first loss.
    #[must_use]
    pub fn first_loss(&self) -> Option<&Death> {
        self.first.iter().chain(&self.last).find(|death| death.is_loss())
    }

    /// Returns the latest death by that signal.
    #[must_use]
    pub fn latest_by(&self, signal: Signal) -> Option<&Death> {
        let by_signal = |death: &&Death| death.signal() == Some(signal);
        self.last.iter().chain(self.first.iter().rev()).find(by_signal)
    }
}

/// Resource limits (getrlimit(2)); `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// RLIMIT_CPU, soft: SIGXCPU.
    pub cpu_soft_seconds: Option<u64>,
    /// RLIMIT_CPU, hard: SIGKILL.
    pub cpu_hard_seconds: Option<u64>,
    /// RLIMIT_FSIZE: SIGXFSZ.
    pub file_size_bytes: Option<u64>,
    /// RLIMIT_CORE, soft.
    pub core_bytes: Option<u64>,
    /// RLIMIT_AS.
    pub address_space_bytes: Option<u64>,
}

/// What became of a core dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreDump {
    /// It is there.
    Found(PathBuf),
    /// The kernel gave it to a program (`core_pattern` in core(5)).
    Piped(String),
    /// The kernel says that it wrote one, and we cannot find it.
    NotFound(String),
    /// There is none, for this reason.
    None(String),
}

impl fmt::Display for CoreDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoreDump::Found(path) => write!(f, "core dump {}", path.display()),
            CoreDump::Piped(program) => write!(f, "core dump given to {}", Escaped(program)),
            CoreDump::NotFound(pattern) => {
                write!(f, "core dump made, to be looked for as core_pattern '{}'", Escaped(pattern))
            }
            CoreDump::None(reason) => write!(f, "no core dump: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(pid: i32, signal: Signal) -> Death {
        let end = Termination::Signaled { signal, core_dumped: false };
        Death { pid: Pid(pid), name: None, end, source: "waitid(2)" }
    }

    #[test]
    fn ordinary_ends_are_deaths_but_no_losses() {
        let mut deaths = Deaths::default();
        deaths.add(death(1, Signal::PIPE));
        deaths.add(death(2, Signal::TERM));
        assert_eq!((deaths.losses, deaths.first_loss()), (0, None));
        deaths.add(death(3, Signal::KILL));
        deaths.add(death(3, Signal::KILL));
        assert_eq!(deaths.losses, 1, "one process dies once, whoever tells of it");
        assert_eq!(deaths.first_loss().map(|loss| loss.pid), Some(Pid(3)));
    }

    #[test]
    fn of_many_deaths_the_first_and_the_last_are_kept() {
        let mut deaths = Deaths::default();
        (1..=1000).for_each(|pid| deaths.add(death(pid, Signal::SEGV)));
        assert_eq!((deaths.first.len(), deaths.losses), (DEATHS_KEPT, 1000));
        assert_eq!(deaths.latest_by(Signal::SEGV).map(|last| last.pid), Some(Pid(1000)));
    }
}
