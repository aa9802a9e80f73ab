//! Processes that are below childminder and yet not the job's: they were there before it.
//!
//! What a stranger starts is a stranger too, also when it comes to us as an orphan.

use std::collections::HashMap;

use crate::model::proc_stat;
use crate::model::process::{Pid, ProcessKey};
use crate::observe::procfs::{self, LINE_BYTES, Procfs};

/// At most this number is distinguished.
const STRANGERS_MAX: usize = 4096;

/// The strangers that are known.
#[derive(Default)]
pub struct Strangers {
    start_ticks: HashMap<Pid, u64>,
}

impl Strangers {
    /// Adds one; whoever is one too many is taken for a process of the job.
    pub fn add(&mut self, key: ProcessKey) {
        if self.start_ticks.len() < STRANGERS_MAX {
            self.start_ticks.insert(key.pid, key.start_ticks);
        }
    }

    /// Returns whether that process is one.
    #[must_use]
    pub fn contains(&self, key: ProcessKey) -> bool {
        self.start_ticks.get(&key.pid) == Some(&key.start_ticks)
    }

    /// Returns whether one has that pid or had it.
    #[must_use]
    pub fn had_pid(&self, pid: Pid) -> bool {
        self.start_ticks.contains_key(&pid)
    }

    /// Returns whether the process that has that pid now is one.
    #[must_use]
    pub fn has_pid(&self, pid: Pid, proc: &Procfs) -> bool {
        let Some(start_ticks) = self.start_ticks.get(&pid) else { return false };
        let mut buffer = [0; LINE_BYTES];
        let file = proc.open_file(pid, "stat").ok().flatten();
        let line = file.and_then(|file| procfs::read_start(&file, &mut buffer).ok().flatten());
        line.and_then(proc_stat::parse).is_some_and(|stat| stat.start_ticks == *start_ticks)
    }
}
