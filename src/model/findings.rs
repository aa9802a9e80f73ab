//! What was found about the end of an attempt while the job was still a zombie.
//!
//! Numbers and short texts with a known source, no events of the log. `run` fills them in from what
//! `sys` and `observe` could read. What could not be read is `None`: the verdict is then less
//! certain, and nothing else changes.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::model::outcome::Termination;
use crate::model::process::Pid;
use crate::model::sample::Peaks;
use crate::model::signal::Signal;
use crate::model::text::Escaped;
use crate::model::time::Moment;
use crate::model::tracing::FatalSignal;
use crate::model::usage::ResourceUsage;

/// At most this number of deaths of descendants is kept; the rest are counted.
const DEATHS_KEPT: usize = 16;

/// The source of deaths that knows only processes that a sample has seen.
pub const BY_PIDFD: &str = "PIDFD_GET_INFO";

/// Everything that was read about the end of one attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Evidence about the OOM killer.
    pub memory: MemoryFindings,
    /// Descendants that died of a signal before the job ended.
    pub deaths: Deaths,
    /// The resource limits that the job died under; only looked up if it failed.
    pub limits: Option<Limits>,
    /// CPU time of the job itself, its waited-for children apart.
    pub cpu: Option<Duration>,
    /// What became of its core dump; only looked up if a signal ended it that makes one.
    pub core: Option<CoreDump>,
    /// The last lines of its standard error, if that is a file of ours.
    pub last_words: Vec<String>,
    /// Whether `timeout` stands in its command line.
    pub names_timeout: bool,
    /// What the job did with signals at its end; only looked up if it failed or a stop was requested.
    pub dispositions: Option<Dispositions>,
    /// What it and the children that it waited for wrote to filesystems on block devices, in bytes.
    pub output_bytes: u64,
    /// Whether its main thread was scheduled as SCHED_FIFO or SCHED_RR (sched(7)).
    pub is_real_time: Option<bool>,
    /// A regular file of just the size RLIMIT_FSIZE that was written during the attempt; only looked
    /// for after SIGXFSZ.
    pub file_at_limit: Option<PathBuf>,
    /// A smaller regular file that was written, cut or created just before the end; only looked for after
    /// SIGXFSZ.
    pub file_just_touched: Option<PathBuf>,
    /// Lines of the kernel's log about faults and seccomp kills during the attempt.
    pub kernel_lines: Vec<KernelLine>,
    /// Threads of the job that ended with it, its first one apart, as far as the proc connector reported them.
    pub threads: Vec<Pid>,
    /// Places it may have been writing to that have no room left.
    pub full: Vec<PathBuf>,
    /// The highest values that were sampled.
    pub peaks: Option<Peaks>,
    /// Signals that the job and its descendants died of, as far as they were traced.
    pub fatal: Vec<FatalSignal>,
    /// Whether the kernel refused the last signal by which the job was to be ended or asked to stop.
    pub is_out_of_reach: bool,
}

impl Findings {
    /// Returns where the signal came from that a process died of, if that was seen.
    #[must_use]
    pub fn fatal_of(&self, pid: Pid, signal: Signal) -> Option<&FatalSignal> {
        let is_it = |one: &&FatalSignal| one.process == pid && one.delivery.info.signal == signal;
        self.fatal.iter().rfind(is_it)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryFindings {
    /// The counter of OOM kills of our own cgroup; `None` also if the job had left it.
    pub own: Option<OomCounter>,
    /// Whether only childminder and the job were in that cgroup whenever we looked.
    pub own_is_private: bool,
    /// When a sample first saw the value that the counter still had at the end.
    pub own_rose_at: Option<Moment>,
    /// The OOM kills of the whole host (/proc/vmstat).
    pub host: Option<OomCounter>,
    /// Whether a counter exists whose value before the attempt is not known, because the job ended
    /// before it was first read.
    pub is_read_too_late: bool,
    /// Processes that the kernel's log names as killed by the OOM killer during the attempt.
    pub victims: Vec<Pid>,
    /// Whether those are all: the log can be read, and none of its records of the attempt were overwritten.
    pub names_all_victims: bool,
    /// The limit of our cgroup or, without one, the host's memory, in bytes.
    pub limit_bytes: Option<u64>,
    /// Whether that is the host's memory.
    pub limit_is_hosts: bool,
    /// The largest resident set of the job's tree that was sampled, in bytes.
    pub tree_peak_bytes: Option<u64>,
    /// The largest resident set of the job or of a child that it waited for (`ru_maxrss` of getrusage(2)), in bytes.
    pub job_peak_bytes: Option<u64>,
    /// Our own largest resident set, in bytes: `job_peak_bytes` is never below it (getrusage(2)).
    pub floor_bytes: u64,
    /// Share of the attempt in which all tasks of the host waited for memory, in percent.
    pub pressure_full: Option<f64>,
}

impl MemoryFindings {
    /// Returns the largest resident set that is known to be the job's, in bytes.
    #[must_use]
    pub fn peak_bytes(&self) -> Option<u64> {
        let own = self.job_peak_bytes.filter(|peak| *peak > self.floor_bytes);
        self.tree_peak_bytes.max(own)
    }

    /// Returns the rusage of the job without our own size in its peak, if samples know better.
    #[must_use]
    pub fn without_floor(&self, usage: ResourceUsage, sampled: Option<Peaks>) -> ResourceUsage {
        let is_ours = usage.max_rss_kib * 1024 <= self.floor_bytes;
        let known = sampled.filter(|peaks| is_ours && peaks.rss_bytes > 0);
        let max_rss_kib = known.map_or(usage.max_rss_kib, |peaks| peaks.rss_bytes / 1024);
        ResourceUsage { max_rss_kib, ..usage }
    }
}

/// What a process did with signals (`SigIgn`, `SigCgt`, `SigBlk`, `SigPnd`, `ShdPnd` and `Seccomp` of /proc/PID/status
/// in proc(5)): bit N - 1 stands for signal N.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dispositions {
    pub ignored: u64,
    /// Caught by a handler.
    pub caught: u64,
    /// Blocked, and waiting to be delivered.
    pub blocked_pending: u64,
    /// Whether it was in the strict mode of seccomp(2), in which the kernel answers most system calls by SIGKILL.
    pub is_seccomp_strict: bool,
    /// Whether its first thread ended by a system call that seccomp(2) forbids (SECCOMP_MODE_DEAD, Linux 5.16).
    pub is_seccomp_dead: bool,
}

impl Dispositions {
    /// Returns whether that signal had no effect on the process.
    #[must_use]
    pub fn had_no_effect(self, signal: Signal) -> bool {
        (self.ignored | self.blocked_pending) & 1 << (signal.number() - 1) != 0
    }
}

/// A line of the kernel's log about a process or thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelLine {
    /// The id of the thread, which is the pid for the first thread of a process.
    pub thread: Pid,
    /// The signal that the kernel sent for it; `None` if the line does not say.
    pub signal: Option<Signal>,
    pub text: String,
}

impl KernelLine {
    /// Returns whether it explains the end of one of those threads by that signal.
    #[must_use]
    pub fn explains(&self, threads: &[Pid], signal: Signal) -> bool {
        threads.contains(&self.thread) && self.signal.is_none_or(|known| known == signal)
    }
}

/// A counter of OOM kills, before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomCounter {
    /// The name of the counter and of its file.
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
    pub end: Termination,
    /// Where we learned of it: `proc connector`, `PIDFD_GET_INFO` or `waitid(2)`.
    pub source: &'static str,
    /// When; the proc connector states when it happened, the others are up to one sample late.
    #[serde(skip)]
    pub at: Moment,
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
    /// SIGTERM, SIGPIPE and similar signals in normal operation.
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
    /// The first of them; ordinary ends make room for losses.
    pub first: Vec<Death>,
    /// The one that came last.
    pub last: Option<Death>,
    /// How many were losses (see [`Death::is_loss`]).
    pub losses: u64,
    /// Whether every death by signal of the attempt was reported; some may be among the unclear ones.
    pub is_complete: bool,
    /// Processes of which it is not known whether they were descendants: each died of a signal, and had
    /// gone, with its parent, before their parents could be read.
    pub unclear: Vec<Death>,
}

impl Deaths {
    /// Adds one, unless that process is known to be dead already.
    pub fn add(&mut self, death: Death) {
        if self.first.iter().chain(&self.last).any(|known| known.pid == death.pid) {
            return;
        }
        self.losses += u64::from(death.is_loss());
        if self.first.len() == DEATHS_KEPT
            && death.is_loss()
            && let Some(ordinary) = self.first.iter().rposition(|known| !known.is_loss())
        {
            self.first.remove(ordinary);
        }
        if self.first.len() < DEATHS_KEPT {
            self.first.push(death.clone());
        }
        self.last = Some(death);
    }

    /// Returns those that are kept, each once.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = &Death> {
        let last = self.last.iter().filter(|last| self.first.iter().all(|one| one.pid != last.pid));
        self.first.iter().chain(last)
    }

    /// Returns whether each descendant that died of that signal is known.
    #[must_use]
    pub fn knows_all_of(&self, signal: Signal) -> bool {
        self.is_complete && self.unclear.iter().all(|death| death.signal() != Some(signal))
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
    /// RLIMIT_RTTIME, soft: SIGXCPU; in microseconds.
    pub real_time_soft_us: Option<u64>,
    /// RLIMIT_RTTIME, hard: SIGKILL; in microseconds.
    pub real_time_hard_us: Option<u64>,
    /// RLIMIT_CORE, soft.
    pub core_bytes: Option<u64>,
    /// RLIMIT_AS.
    pub address_space_bytes: Option<u64>,
}

/// What became of a core dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreDump {
    Found(PathBuf),
    /// It is there and not whole, for this reason.
    Cut(PathBuf, String),
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
            CoreDump::Cut(path, reason) => {
                write!(f, "core dump {}, cut: {reason}", path.display())
            }
            CoreDump::Piped(program) => write!(f, "core dump given to {}", Escaped(program)),
            CoreDump::NotFound(pattern) => {
                let pattern = Escaped(pattern);
                write!(
                    f,
                    "core dump made, and not in the directory in which the job began (core_pattern \
                     '{pattern}')"
                )
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
        let at = Moment(Duration::from_secs(1));
        Death { pid: Pid(pid), name: None, end, source: "waitid(2)", at }
    }

    fn losses(deaths: &Deaths) -> Vec<i32> {
        deaths.kept().filter(|death| death.is_loss()).map(|death| death.pid.0).collect()
    }

    #[test]
    fn ordinary_ends_are_deaths_but_no_losses() {
        let mut deaths = Deaths::default();
        deaths.add(death(1, Signal::PIPE));
        deaths.add(death(2, Signal::TERM));
        assert_eq!((deaths.losses, losses(&deaths)), (0, vec![]));
        deaths.add(death(3, Signal::KILL));
        deaths.add(death(3, Signal::KILL));
        assert_eq!(deaths.losses, 1, "one process dies once, whichever source reports it");
        assert_eq!(losses(&deaths), [3]);
    }

    #[test]
    fn of_many_deaths_the_first_and_the_last_are_kept() {
        let mut deaths = Deaths::default();
        (1..=1000).for_each(|pid| deaths.add(death(pid, Signal::SEGV)));
        assert_eq!((deaths.first.len(), deaths.losses), (DEATHS_KEPT, 1000));
        assert_eq!(deaths.kept().next_back().map(|last| last.pid), Some(Pid(1000)));
    }

    #[test]
    fn ordinary_ends_do_not_push_out_a_loss() {
        let mut deaths = Deaths::default();
        (1..=100).for_each(|pid| deaths.add(death(pid, Signal::PIPE)));
        deaths.add(death(101, Signal::KILL));
        deaths.add(death(102, Signal::PIPE));
        assert_eq!((losses(&deaths), deaths.losses), (vec![101], 1));
        assert_eq!(deaths.kept().count(), DEATHS_KEPT + 1);
    }

    #[test]
    fn a_signal_that_was_ignored_or_blocked_had_no_effect() {
        let term = 1 << (15 - 1);
        let caught = Dispositions { caught: term, ..Dispositions::default() };
        assert!(!caught.had_no_effect(Signal::TERM));
        let ignored = Dispositions { ignored: term, ..Dispositions::default() };
        assert!(ignored.had_no_effect(Signal::TERM) && !ignored.had_no_effect(Signal::INT));
        assert!(Dispositions { blocked_pending: term, ..caught }.had_no_effect(Signal::TERM));
    }

    #[test]
    fn a_peak_that_is_our_own_size_is_not_the_jobs() {
        let memory =
            MemoryFindings { job_peak_bytes: Some(3), floor_bytes: 3, ..MemoryFindings::default() };
        assert_eq!(memory.peak_bytes(), None);
        let sampled = MemoryFindings { tree_peak_bytes: Some(1), ..memory.clone() };
        assert_eq!(sampled.peak_bytes(), Some(1));
        assert_eq!(MemoryFindings { job_peak_bytes: Some(9), ..sampled }.peak_bytes(), Some(9));
        let memory = MemoryFindings { floor_bytes: 4096 * 1024, ..MemoryFindings::default() };
        let peaks = Some(Peaks { rss_bytes: 1024 * 1024, ..Peaks::default() });
        for (max_rss_kib, sampled, expected) in
            [(4096, peaks, 1024), (4096, None, 4096), (5000, peaks, 5000)]
        {
            let usage = ResourceUsage { max_rss_kib, ..ResourceUsage::default() };
            assert_eq!(memory.without_floor(usage, sampled).max_rss_kib, expected);
        }
    }
}
