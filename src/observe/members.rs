//! The processes of the job that are known, in the order in which they were found.
//!
//! Parents come before their children there, and that order is kept: CPU time moves from a child
//! to its parent when it is waited for, so a reader that takes the parent first can miss some for one sample
//! but never counts it twice. Who belongs here is the sampler's matter.

use std::collections::HashMap;
use std::fs::File;
use std::io;

use crate::model::proc_stat::{self, ProcStat};
use crate::model::process::{Pid, ProcessKey};
use crate::model::sample::{IoBytes, SeenProcess};
use crate::observe::procfs::{self, Procfs};

/// More processes than this are not followed; every thousand takes about 300 kB with ours and
/// the kernel's part of an open file.
pub const MEMBERS_MAX: usize = 65_536;

/// A process of the job.
pub struct Member {
    pub key: ProcessKey,
    /// Its parent, when it was read last.
    pub parent: Pid,
    /// Its /proc/PID/stat, if it is kept open.
    pub stat: Option<File>,
    /// Its name and memory, when it was read last.
    pub row: ProcessLine,
    /// CPU time of its own, in clock ticks.
    pub own_ticks: u64,
    /// CPU time of the children that it waited for, in clock ticks.
    pub children_ticks: u64,
    /// The same in the sample before.
    pub children_ticks_before: u64,
    /// Its children that left in the last sample.
    pub left: LeftChildren,
    /// How many threads it has; none if it is a zombie.
    pub threads: u64,
    /// Whether it was not a zombie when it was read last.
    pub is_alive: bool,
    /// How many descriptors it has, or had when that could be read last.
    pub open_fds: u64,
    /// What went through it, when that was read last.
    pub io: IoBytes,
    /// How often in a row it could not be read though it was there.
    pub failures: u8,
}

/// CPU time of children that left, which the parent may or may not have waited for.
#[derive(Clone, Copy, Default)]
pub struct LeftChildren {
    /// What they had used when they were seen last, in clock ticks.
    pub ticks: u64,
    /// What the parent's ended children had used, in clock ticks, when they were still there.
    pub before: u64,
}

/// What is shown of a process, in a form that is copied without allocating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessLine {
    key: ProcessKey,
    name: [u8; 16],
    name_length: u8,
    /// Resident memory, in pages.
    rss_pages: u64,
}

impl ProcessLine {
    fn new(key: ProcessKey, stat: &ProcStat<'_>) -> ProcessLine {
        let mut row = ProcessLine { key, name: [0; 16], name_length: 0, rss_pages: stat.rss_pages };
        for (to, from) in row.name.iter_mut().zip(stat.name) {
            *to = *from;
            row.name_length += 1;
        }
        row
    }

    /// Returns which process it is.
    #[must_use]
    pub fn key(&self) -> ProcessKey {
        self.key
    }

    /// Returns it with the types that others use.
    #[must_use]
    pub fn seen(&self, page_bytes: u64) -> SeenProcess {
        let name = self.name.get(..usize::from(self.name_length)).unwrap_or_default();
        SeenProcess {
            key: self.key,
            name: String::from_utf8_lossy(name).into_owned(),
            rss_bytes: self.rss_pages.saturating_mul(page_bytes),
        }
    }
}

impl Member {
    /// Begins to follow a process by its first reading.
    #[must_use]
    pub fn new(pid: Pid, stat: &ProcStat<'_>) -> Member {
        let key = ProcessKey { pid, start_ticks: stat.start_ticks };
        let mut member = Member {
            key,
            parent: stat.parent,
            stat: None,
            row: ProcessLine::new(key, stat),
            own_ticks: 0,
            children_ticks: 0,
            children_ticks_before: 0,
            left: LeftChildren::default(),
            threads: 0,
            is_alive: true,
            open_fds: 0,
            io: IoBytes::default(),
            failures: 0,
        };
        member.note(stat);
        member.children_ticks_before = member.children_ticks;
        member
    }

    /// Reads it again; false if it has left, also if its pid is another process's now. Its file
    /// is opened if it is not, and stays open if it may.
    ///
    /// # Errors
    ///
    /// It is there, but cannot be read.
    pub fn read(&mut self, proc: &Procfs, buffer: &mut [u8], may_keep: bool) -> io::Result<bool> {
        let opened = match &self.stat {
            Some(_) => None,
            None => proc.open_file(self.key.pid, "stat")?,
        };
        let Some(file) = self.stat.as_ref().or(opened.as_ref()) else { return Ok(false) };
        let Some(line) = procfs::read_start(file, buffer)? else { return Ok(false) };
        let stat = proc_stat::parse(line).ok_or(io::ErrorKind::InvalidData)?;
        if stat.start_ticks != self.key.start_ticks {
            return Ok(false);
        }
        self.note(&stat);
        if may_keep && self.stat.is_none() {
            self.stat = opened;
        }
        // We may not look into some; those keep their last number, usually none.
        self.open_fds = match proc.count_fds(self.key.pid) {
            Ok(count) if self.is_alive => count.unwrap_or(0),
            Ok(_) => 0,
            Err(_) => self.open_fds,
        };
        Ok(true)
    }

    /// Takes another reading of the same process.
    fn note(&mut self, stat: &ProcStat<'_>) {
        self.parent = stat.parent;
        self.row = ProcessLine::new(self.key, stat);
        self.own_ticks = stat.own_ticks;
        self.children_ticks_before = self.children_ticks;
        self.children_ticks = stat.children_ticks;
        self.is_alive = stat.is_alive();
        self.threads = if self.is_alive { stat.threads } else { 0 };
        self.failures = 0;
    }

    /// Returns its CPU time and that of the children that it waited for, in clock ticks.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.own_ticks.saturating_add(self.children_ticks)
    }

    /// Returns the resident memory, in pages.
    #[must_use]
    pub fn rss_pages(&self) -> u64 {
        self.row.rss_pages
    }

    /// Returns the CPU time, in clock ticks, of children that left in the last sample and that
    /// this process did not wait for: who ignores SIGCHLD lets the kernel drop it (wait(2)).
    ///
    /// The parent was read before the children were found missing, so only now, one reading
    /// later, its own account must include what it waited for.
    pub fn take_lost_ticks(&mut self) -> u64 {
        let left = std::mem::take(&mut self.left);
        left.ticks.saturating_sub(self.children_ticks.saturating_sub(left.before))
    }

    /// Notes that a child left, and how many ticks it had used.
    pub fn note_left(&mut self, ticks: u64) {
        self.left.ticks = self.left.ticks.saturating_add(ticks);
        self.left.before = self.children_ticks_before;
    }
}

#[derive(Default)]
pub struct Members {
    all: Vec<Member>,
    places: HashMap<Pid, usize>,
}

impl Members {
    /// Returns whether a living process with that pid is one of them.
    #[must_use]
    pub fn contains(&self, pid: Pid) -> bool {
        self.places.contains_key(&pid)
    }

    /// Adds one at the end; returns false if there are too many, and drops it.
    pub fn add(&mut self, member: Member) -> bool {
        if self.all.len() >= MEMBERS_MAX {
            return false;
        }
        self.places.insert(member.key.pid, self.all.len());
        self.all.push(member);
        true
    }

    /// Removes those that `stays` is false for, and keeps the order of the others.
    pub fn retain(&mut self, stays: impl FnMut(&mut Member) -> bool) {
        let before = self.all.len();
        self.all.retain_mut(stays);
        if self.all.len() < before {
            self.places.clear();
            self.places
                .extend(self.all.iter().enumerate().map(|(at, member)| (member.key.pid, at)));
        }
    }

    /// Returns the one with that pid.
    pub fn get_mut(&mut self, pid: Pid) -> Option<&mut Member> {
        self.all.get_mut(*self.places.get(&pid)?)
    }

    /// Returns them, parents first.
    pub fn iter(&self) -> std::slice::Iter<'_, Member> {
        self.all.iter()
    }

    /// Returns them, parents first.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Member> {
        self.all.iter_mut()
    }
}
