//! What counts OOM kills, read before and after an attempt, and at each sample of it.
//!
//! Used by `run/evidence`; what the counts mean, `diagnose` decides.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::model::findings::{MemoryFindings, OomCounter};
use crate::model::process::Pid;
use crate::model::sample::Seen;
use crate::model::shared::lock;
use crate::model::time::Moment;
use crate::observe::cgroup::MemoryCgroup;
use crate::observe::host;
use crate::sys::reaper::Tree;
use crate::sys::{clock, wait};

/// The counters, as they were before the attempt.
#[derive(Default)]
pub(super) struct OomCounters {
    cgroup: Option<MemoryCgroup>,
    own_before: Option<u64>,
    own_sampled: Arc<Mutex<Sampled>>,
    /// Whether nobody else was in our cgroup when we first looked.
    was_private: bool,
    host_before: Option<u64>,
    stalled_before: Option<Duration>,
    /// Our own largest resident set, in bytes.
    pub(super) floor_bytes: u64,
}

/// The counter of our cgroup as the last sample saw it.
#[derive(Clone, Copy, Default)]
struct Sampled {
    value: Option<u64>,
    rose_at: Option<Moment>,
    /// Whether the job had left that cgroup.
    has_left: bool,
}

impl OomCounters {
    /// Reads them for the first time.
    pub(super) fn open(root: &Path, tree: &Tree) -> OomCounters {
        let mut counters = OomCounters::of_the_end(root);
        counters.was_private = counters.is_private(tree);
        counters.read(root);
        counters
    }

    /// Finds them when the job has ended already: all that can be said is what never rose.
    pub(super) fn of_the_end(root: &Path) -> OomCounters {
        OomCounters {
            cgroup: MemoryCgroup::find(root),
            floor_bytes: wait::own_usage().max_rss_kib * 1024,
            ..OomCounters::default()
        }
    }

    /// Reads them before another attempt.
    pub(super) fn read(&mut self, root: &Path) {
        self.own_before = self.cgroup.as_ref().and_then(MemoryCgroup::oom_kills);
        self.own_sampled = Arc::default();
        self.host_before = host::oom_kills(root);
        self.stalled_before = host::memory_stalled(root);
    }

    /// Returns what is to be done at each sample: to look whether the counter of our cgroup rose, and
    /// whether the job is still in it. A kill that was counted seconds before the end is not the end.
    pub(super) fn on_sample(&self, root: PathBuf, job: Pid) -> Option<impl FnMut(Moment) + use<>> {
        let cgroup = self.cgroup.clone()?;
        let sampled = Arc::clone(&self.own_sampled);
        lock(&sampled).value = self.own_before;
        Some(move |at| {
            let value = cgroup.oom_kills();
            let has_left = cgroup.holds(&root, job) == Some(false);
            let mut sampled = lock(&sampled);
            if value != sampled.value {
                (sampled.value, sampled.rose_at) = (value, Some(at));
            }
            sampled.has_left |= has_left;
        })
    }

    /// Fills in what our cgroup says. `dead` is the job, which was not reaped yet.
    pub(super) fn look_at_own(
        &self,
        memory: &mut MemoryFindings,
        (root, dead): (&Path, Pid),
        tree: &Tree,
    ) {
        let Some(cgroup) = &self.cgroup else { return };
        let sampled = *lock(&self.own_sampled);
        if sampled.has_left || cgroup.holds(root, dead) == Some(false) {
            return;
        }
        let Some(after) = cgroup.oom_kills() else { return };
        memory.own = counter(cgroup.counter_name(), self.own_before, after);
        memory.is_read_too_late |= memory.own.is_none();
        if sampled.value == Some(after) {
            memory.own_rose_at = sampled.rose_at;
        }
        if memory.own.as_ref().is_some_and(|own| own.rise() > 0) {
            memory.own_is_private = self.was_private && self.is_private(tree);
        }
    }

    /// Fills in what the host says, and the sizes. The attempt began at `began`.
    pub(super) fn look_at_host(
        &self,
        memory: &mut MemoryFindings,
        root: &Path,
        (seen, began): (&Seen, Moment),
    ) {
        if let Some(after) = host::oom_kills(root) {
            memory.host = counter("oom_kill of /proc/vmstat".into(), self.host_before, after);
            memory.is_read_too_late |= memory.host.is_none();
        }
        let limit = self.cgroup.as_ref().and_then(MemoryCgroup::limit_bytes);
        memory.limit_bytes = limit.or_else(|| host::memory_bytes(root));
        memory.limit_is_hosts = limit.is_none();
        memory.tree_peak_bytes = (seen.samples > 0).then_some(seen.peaks.rss_bytes);
        let stalled = self.stalled_before.zip(host::memory_stalled(root));
        memory.pressure_full = stalled.map(|(before, after)| {
            let lasted = (clock::now() - began).as_secs_f64();
            100.0 * after.saturating_sub(before).as_secs_f64() / lasted
        });
    }

    /// Calls `note` with each source, with whether it is in force.
    pub(super) fn report(&self, mut note: impl FnMut(String, bool)) {
        match &self.cgroup {
            Some(cgroup) => note(cgroup.counter_name(), self.own_before.is_some()),
            None => note("OOM counter of a cgroup".into(), false),
        }
        note("oom_kill of /proc/vmstat".into(), self.host_before.is_some());
        note("/proc/pressure".into(), self.stalled_before.is_some());
    }

    fn is_private(&self, tree: &Tree) -> bool {
        self.cgroup.as_ref().is_some_and(|cgroup| cgroup.is_private(|pid| tree.contains(pid)))
    }
}

/// A counter that is zero now was zero before, also if that was not read.
fn counter(name: String, before: Option<u64>, after: u64) -> Option<OomCounter> {
    let before = before.or((after == 0).then_some(0))?;
    Some(OomCounter { name, before, after })
}
