//! The parents of processes that have gone: whose child a dead process was, if its parent ended just after it.
//!
//! The kernel queues the ends of all processes of the machine, and nobody is woken for them. In the first moments
//! of a job they are among the events of `run/deaths`; then they have a queue of their own: the observing thread
//! reads it after each sample, and `run` when it has to know. What does not fit into the queue
//! meanwhile is not known, which costs evidence on a machine on which hundreds of processes end in a second.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock};

use nix::sys::resource::{Resource, getrlimit};

use crate::model::process::Pid;
use crate::model::shared::lock;
use crate::model::time::Moment;
use crate::sys::proc_events::{DeathNotice, ProcEvents};

/// At most this number of ends is read at once and kept.
const ENDS_MAX: usize = 2048;

/// With fewer descriptors (RLIMIT_NOFILE of getrlimit(2)) none is taken for this.
const DESCRIPTORS_MIN: u64 = 64;

/// More generations are not looked up.
const GENERATIONS_MAX: usize = 64;

/// The end of a process with its parent at that time.
#[derive(Clone, Copy)]
struct ProcessEnd {
    pid: Pid,
    parent: Pid,
    at: Moment,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Lineage {
    events: OnceLock<ProcEvents>,
    ends: Mutex<VecDeque<ProcessEnd>>,
}

impl Lineage {
    /// Opens the queue, once, unless the kernel refuses or descriptors are few.
    pub(super) fn open(&self) {
        let limit = getrlimit(Resource::RLIMIT_NOFILE);
        if self.events.get().is_none()
            && limit.is_ok_and(|(soft, _)| soft >= DESCRIPTORS_MIN)
            && let Ok(events) = ProcEvents::open_ends()
        {
            self.events.set(events).ok();
        }
    }

    /// Takes in ends that came another way.
    pub(super) fn note(&self, notices: &[DeathNotice]) {
        note(&mut lock(&self.ends), notices);
    }

    /// Reads what the kernel has queued.
    pub(super) fn read(&self) {
        let Some(events) = self.events.get() else { return };
        let mut notices = Vec::new();
        let mut ends = lock(&self.ends);
        // Only what was dropped is missing.
        events.read(ENDS_MAX, &mut notices).ok();
        note(&mut ends, &notices);
    }

    /// Returns the nearest ancestor of a process that is not known to have ended. The process ended at that time
    /// as a child of `parent`.
    pub(super) fn ancestor(&self, parent: Pid, at: Moment) -> Pid {
        self.read();
        ancestor(&lock(&self.ends), parent, at)
    }
}

fn note(ends: &mut VecDeque<ProcessEnd>, notices: &[DeathNotice]) {
    for notice in notices {
        if let (None, Some(parent)) = (notice.thread, notice.parent) {
            ends.push_back(ProcessEnd { pid: notice.pid, parent, at: notice.at });
        }
    }
    ends.drain(..ends.len().saturating_sub(ENDS_MAX));
}

fn ancestor(ends: &VecDeque<ProcessEnd>, parent: Pid, at: Moment) -> Pid {
    let (mut pid, mut at) = (parent, at);
    for _ in 0..GENERATIONS_MAX {
        // An earlier end is that of another process with this number.
        let Some(end) = ends.iter().find(|end| end.pid == pid && end.at >= at) else { break };
        (pid, at) = (end.parent, end.at);
    }
    pid
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::outcome::Termination;

    fn ends(all: &[(i32, i32, u64)]) -> VecDeque<ProcessEnd> {
        let notice = |&(pid, parent, at): &(i32, i32, u64)| DeathNotice {
            pid: Pid(pid),
            thread: None,
            parent: Some(Pid(parent)),
            at: Moment(Duration::from_millis(at)),
            end: Termination::Exited(0),
        };
        let mut ends = VecDeque::new();
        note(&mut ends, &all.iter().map(notice).collect::<Vec<_>>());
        ends
    }

    #[test]
    fn parents_that_ended_lead_to_one_that_lives() {
        let known = ends(&[(30, 20, 5), (20, 10, 6), (31, 21, 7)]);
        let from = |parent, at| ancestor(&known, Pid(parent), Moment(Duration::from_millis(at))).0;
        assert_eq!(from(30, 4), 10);
        assert_eq!(from(21, 4), 21, "not known to have ended");
        assert_eq!(from(30, 6), 30, "what ended before has left its number to another process");
        assert_eq!(from(10, 4), 10);
    }

    #[test]
    fn the_last_ends_are_kept() {
        let all: Vec<(i32, i32, u64)> = (1..=3000).map(|pid| (pid, pid + 1, 9)).collect();
        let known = ends(&all);
        assert_eq!(known.len(), ENDS_MAX);
        assert_eq!(known.back().map(|end| end.pid), Some(Pid(3000)));
        let circle = ends(&[(1, 2, 9), (2, 1, 9)]);
        assert!(ancestor(&circle, Pid(1), Moment(Duration::ZERO)).0 <= 2, "it ends");
    }
}
