//! One sample after another of the processes below childminder, cheap and bounded.
//!
//! The tree is not walked. Whoever is known is read again, by a descriptor that stays open where
//! there are enough of them; whoever is new has a pid that was given out since the last sample,
//! and /proc/loadavg has the newest. A process once found is followed until it ends.
//!
//! It is one thread's, reads no clock and sends nothing anywhere; `watch` calls it.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};

use crate::model::proc_stat;
use crate::model::process::{Pid, ProcessKey};
use crate::model::sample::{HostLoad, IoBytes, TreeSample};
use crate::model::time::Moment;
use crate::observe::members::{Member, Members, ProcessLine};
use crate::observe::pressure::{HostFiles, LoadAverage};
use crate::observe::procfs::{self, LINE_BYTES, Procfs};
use crate::observe::strangers::Strangers;

/// Once in this number of samples /proc/PID/io is read, which takes as long as all the rest.
const IO_EVERY: u64 = 5;

/// Once in this number of samples all of /proc is looked through, should a newcomer ever have been missed.
const SCAN_EVERY: u64 = 60;

/// After such a pause the pids may have gone round once: 32,768 of them is the kernel's default.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// This number of new pids is always tried one by one; more only where the host has more threads, since
/// a number that is free again costs a tenth of a process that is looked at in vain.
const PROBES: u64 = 256;

/// A pid is given out a moment before its process can be seen (`copy_process` in kernel/fork.c),
/// so of the newest this many are tried a second time if they were free.
const PROBED_AGAIN: usize = 64;

/// A process that is there but cannot be read this number of times in a row is given up.
const FAILURES_MAX: u8 = 5;

/// Parents are looked for again at most this number of times, where the children have the lower pids.
const DEEPEST: usize = 1024;

/// The processes that left last and are still shown.
const DEPARTED_MAX: usize = 256;

/// At most this number of processes is shown.
const ROWS_MAX: usize = 1024;

/// Returns how many descriptors the sampler may keep, of those that RLIMIT_NOFILE (getrlimit(2))
/// allows: half of them, and not more than the memory in the kernel is worth, 4 kB for each.
#[must_use]
pub fn kept_max(soft_limit: u64) -> usize {
    usize::try_from(soft_limit / 2).unwrap_or(usize::MAX).min(8192)
}

/// What is known of the job's processes.
pub struct Sampler {
    proc: Procfs,
    host: HostFiles,
    ourselves: Pid,
    members: Members,
    strangers: Strangers,
    departed: VecDeque<ProcessLine>,
    kept: usize,
    kept_max: usize,
    samples: u64,
    samples_since_scan: u64,
    errors: u64,
    last: Option<Moment>,
    newest: Option<Pid>,
    probe_again: Vec<Pid>,
    reaped: Duration,
    lost_ticks: u64,
    cpu: Duration,
    io_at_first: IoBytes,
    io: Option<IoBytes>,
    page_bytes: u64,
    ticks_per_second: u64,
}

/// What a look at a pid brought.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PidLook {
    /// No process has this pid.
    Free,
    /// It is known now whether it belongs to the job.
    Settled,
    /// It belongs to the job if this parent does.
    Parent(Pid),
}

/// The pids among which there may be new processes.
enum Newcomers {
    Among(std::ops::RangeInclusive<i32>),
    Anywhere,
}

impl Sampler {
    /// Begins to follow the processes below `ourselves` in `root`, which is `/proc`; at most
    /// `kept_max` of their files stay open.
    ///
    /// # Errors
    ///
    /// `root` cannot be opened or is of another pid namespace.
    pub fn new(root: &Path, ourselves: Pid, kept_max: usize) -> io::Result<Sampler> {
        let proc = Procfs::open(root, ourselves)?;
        let host = HostFiles::open(&proc);
        let setting = |name, default| {
            let value = sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok());
            value.filter(|value| *value > 0).unwrap_or(default)
        };
        let io_at_first = proc.io_bytes_of_children(ourselves).ok().flatten().unwrap_or_default();
        Ok(Sampler {
            proc,
            host,
            ourselves,
            members: Members::default(),
            strangers: Strangers::default(),
            departed: VecDeque::new(),
            kept: 0,
            kept_max,
            samples: 0,
            samples_since_scan: 0,
            errors: 0,
            last: None,
            newest: None,
            probe_again: Vec::new(),
            reaped: Duration::ZERO,
            lost_ticks: 0,
            cpu: Duration::ZERO,
            io_at_first,
            io: None,
            page_bytes: setting(SysconfVar::PAGE_SIZE, 4096),
            ticks_per_second: setting(SysconfVar::CLK_TCK, 100),
        })
    }

    /// Leaves out these processes and what they start: they were there before the job.
    pub fn exclude(&mut self, strangers: &[ProcessKey]) {
        strangers.iter().for_each(|key| self.strangers.add(*key));
    }

    /// Adds what a process of the job had used, with the children that it waited for, that
    /// childminder itself has reaped (wait4(2)). To be called after the reaping, never before.
    pub fn reaped(&mut self, cpu: Duration) {
        self.reaped = self.reaped.saturating_add(cpu);
    }

    pub fn sample(&mut self, now: Moment) -> TreeSample {
        let (host, average) = self.host.read();
        // Before the living are read: whoever is reaped meanwhile is then missed for one sample
        // instead of counted twice for ever, since the total never falls.
        let reaped = self.reaped;
        let io_reaped = self.samples.is_multiple_of(IO_EVERY).then(|| self.io_of_reaped());
        self.read_known();
        let newcomers = self.newcomers(now, average);
        self.discover(newcomers);
        if let Some(reaped) = io_reaped {
            self.read_io(reaped);
        }
        self.samples += 1;
        self.total(now, reaped, host)
    }

    /// Returns how many readings failed for another reason than that the process had gone.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// Returns the size of a page, in bytes.
    #[must_use]
    pub fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// Copies the processes of the last sample into `rows`, and those that left last, the latest
    /// first; a bounded number.
    pub fn seen(&self, rows: &mut Vec<ProcessLine>) {
        rows.clear();
        let living = self.members.iter().map(|member| member.row);
        rows.extend(living.take(ROWS_MAX - DEPARTED_MAX));
        rows.extend(self.departed.iter());
    }

    fn total(&mut self, at: Moment, reaped: Duration, host: HostLoad) -> TreeSample {
        let (mut processes, mut threads, mut pages, mut open_fds) = (0, 0_u64, 0_u64, 0_u64);
        let mut ticks = self.lost_ticks;
        for member in self.members.iter() {
            // What a zombie had used counts until somebody waits for it.
            ticks = ticks.saturating_add(member.ticks());
            processes += u64::from(member.is_alive);
            threads = threads.saturating_add(member.threads);
            pages = pages.saturating_add(member.rss_pages());
            open_fds = open_fds.saturating_add(member.open_fds);
        }
        self.cpu = self.cpu.max(reaped.saturating_add(self.span(ticks)));
        let rss_bytes = pages.saturating_mul(self.page_bytes);
        TreeSample { at, processes, threads, cpu: self.cpu, rss_bytes, open_fds, io: self.io, host }
    }

    fn span(&self, ticks: u64) -> Duration {
        let (seconds, rest) = (ticks / self.ticks_per_second, ticks % self.ticks_per_second);
        let nanos = rest * 1_000_000_000 / self.ticks_per_second;
        Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos))
    }

    /// Reads all members again, parents first, and parts from those that left.
    fn read_known(&mut self) {
        let mut buffer = [0; LINE_BYTES];
        let mut left = Vec::new();
        let Sampler { proc, members, departed, kept, kept_max, errors, lost_ticks, .. } = self;
        members.retain(|member| {
            let was_kept = member.stat.is_some();
            let stays = match member.read(proc, &mut buffer, *kept < *kept_max) {
                Ok(true) => {
                    *lost_ticks = lost_ticks.saturating_add(member.take_lost_ticks());
                    true
                }
                Ok(false) => {
                    left.push((member.parent, member.ticks()));
                    departed.truncate(DEPARTED_MAX - 1);
                    departed.push_front(member.row);
                    false
                }
                Err(_) => {
                    *errors += 1;
                    member.failures += 1;
                    member.failures < FAILURES_MAX
                }
            };
            *kept += usize::from(stays && member.stat.is_some());
            *kept -= usize::from(was_kept);
            stays
        });
        for (parent, ticks) in left {
            if let Some(parent) = members.get_mut(parent) {
                parent.note_left(ticks);
            }
        }
    }

    /// Returns where to look for processes that were started since the last sample.
    fn newcomers(&mut self, now: Moment, average: Option<LoadAverage>) -> Newcomers {
        let before = std::mem::replace(&mut self.newest, average.map(|average| average.newest));
        let pause = self.last.replace(now).map_or(Duration::ZERO, |last| now - last);
        self.samples_since_scan += 1;
        if let (Some(before), Some(average)) = (before, average) {
            let given_out = i64::from(average.newest.0) - i64::from(before.0);
            let is_few = u64::try_from(given_out)
                .is_ok_and(|given_out| given_out <= PROBES.max(average.threads));
            if is_few && pause <= LONGEST_PAUSE && self.samples_since_scan < SCAN_EVERY {
                return Newcomers::Among(before.0.saturating_add(1)..=average.newest.0);
            }
        }
        self.samples_since_scan = 0;
        Newcomers::Anywhere
    }

    fn discover(&mut self, newcomers: Newcomers) {
        let mut waiting = Vec::new();
        let newest = self.newest.map_or(0, |newest| newest.0);
        let young = newest.saturating_sub(PROBED_AGAIN as i32) + 1..=newest;
        let again = std::mem::take(&mut self.probe_again);
        match newcomers {
            Newcomers::Among(pids) => {
                self.look_at_all(again.into_iter().chain(pids.clone().map(Pid)), &mut waiting);
                // Those that were tried twice now are done with.
                self.probe_again.retain(|pid| pids.contains(&pid.0) && young.contains(&pid.0));
            }
            Newcomers::Anywhere => {
                let Ok(mut pids) = self.proc.pids() else {
                    self.errors += 1;
                    return;
                };
                pids.sort_unstable();
                self.look_at_all(pids.iter().copied(), &mut waiting);
                self.probe_again.clear();
                let unseen = young.map(Pid).filter(|pid| pids.binary_search(pid).is_err());
                self.probe_again.extend(unseen);
            }
        }
        self.look_again(waiting);
    }

    fn look_at_all(&mut self, pids: impl Iterator<Item = Pid>, waiting: &mut Vec<(Pid, Pid)>) {
        for pid in pids {
            match self.look_at(pid) {
                PidLook::Free => self.probe_again.push(pid),
                PidLook::Settled => {}
                PidLook::Parent(parent) => waiting.push((pid, parent)),
            }
        }
    }

    /// Looks once more at those whose parents were found only after them: the pids went round.
    fn look_again(&mut self, mut waiting: Vec<(Pid, Pid)>) {
        for _ in 0..DEEPEST {
            let is_known = |parent| self.members.contains(parent) || self.strangers.had_pid(parent);
            let (ready, others): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|(_, parent)| is_known(*parent));
            if ready.is_empty() {
                return;
            }
            for (pid, _) in ready {
                self.look_at(pid);
            }
            waiting = others;
        }
    }

    /// Finds out whether a pid is that of a process of the job, and follows it then.
    fn look_at(&mut self, pid: Pid) -> PidLook {
        if pid.0 <= 0 || pid == self.ourselves || self.members.contains(pid) {
            return PidLook::Settled;
        }
        let file = match self.proc.open_file(pid, "stat") {
            Ok(Some(file)) => file,
            Ok(None) => return PidLook::Free,
            Err(error) => return self.note_refusal(&error),
        };
        let mut buffer = [0; LINE_BYTES];
        let Ok(Some(line)) = procfs::read_start(&file, &mut buffer) else {
            return PidLook::Settled;
        };
        let Some(stat) = proc_stat::parse(line) else { return PidLook::Settled };
        let key = ProcessKey { pid, start_ticks: stat.start_ticks };
        if stat.is_thread() || self.strangers.contains(key) {
            return PidLook::Settled;
        }
        if stat.parent != self.ourselves && !self.members.contains(stat.parent) {
            if self.strangers.has_pid(stat.parent, &self.proc) {
                self.strangers.add(key);
                return PidLook::Settled;
            }
            return PidLook::Parent(stat.parent);
        }
        let mut member = Member::new(pid, &stat);
        member.open_fds = self.proc.count_fds(pid).ok().flatten().unwrap_or(0);
        let is_kept = self.kept < self.kept_max;
        member.stat = is_kept.then_some(file);
        if self.members.add(member) {
            self.kept += usize::from(is_kept);
        } else {
            self.errors += 1;
        }
        PidLook::Settled
    }

    /// A process of another user may be hidden (`hidepid` in proc(5)), which is not a failure. If we
    /// have too many files open, half of them are given back and all of /proc is looked through
    /// the next time.
    fn note_refusal(&mut self, error: &io::Error) -> PidLook {
        let errno = error.raw_os_error().map(Errno::from_raw);
        if matches!(errno, Some(Errno::EMFILE | Errno::ENFILE)) {
            self.errors += 1;
            self.kept_max = self.kept / 2;
            self.newest = None;
            for member in self.members.iter_mut() {
                if self.kept > self.kept_max && member.stat.take().is_some() {
                    self.kept -= 1;
                }
            }
        }
        PidLook::Settled
    }

    /// Returns what went through processes of the job that we have reaped: they are in our own
    /// account, where what our living threads did is not.
    fn io_of_reaped(&self) -> IoBytes {
        let now = self.proc.io_bytes_of_children(self.ourselves).ok().flatten().unwrap_or_default();
        IoBytes {
            read: now.read.saturating_sub(self.io_at_first.read),
            written: now.written.saturating_sub(self.io_at_first.written),
        }
    }

    fn read_io(&mut self, reaped: IoBytes) {
        let mut sum = reaped;
        let mut may_read = self.io.is_some();
        for member in self.members.iter_mut() {
            if let (true, Ok(Some(bytes))) = (member.is_alive, self.proc.io_bytes(member.key.pid)) {
                member.io = bytes;
                may_read = true;
            }
            sum.read = sum.read.saturating_add(member.io.read);
            sum.written = sum.written.saturating_add(member.io.written);
        }
        let before = self.io.unwrap_or_default();
        let (read, written) = (sum.read.max(before.read), sum.written.max(before.written));
        self.io = may_read.then_some(IoBytes { read, written });
    }
}

#[cfg(test)]
mod tests;
