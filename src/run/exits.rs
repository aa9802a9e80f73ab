//! Deaths of descendants where the proc connector is refused: those that a sample has seen are
//! held by pidfds, and the kernel is asked what became of them (`sys::pidfd_info`).
//!
//! The observing thread looks after each sample and `run` when the job has died, so nobody is
//! woken for it. What came and went between two samples is not known here.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::model::findings::{BY_PIDFD, Death};
use crate::model::outcome::Termination;
use crate::model::process::{Pid, ProcessKey};
use crate::model::shared::lock;
use crate::observe::members::ProcessLine;
use crate::sys::clock;
use crate::sys::pidfd_info::{self, End, HeldProcess};

/// At most this number of processes is held at the same time.
const HELD_MAX: usize = 256;

/// At most this part of the descriptors that RLIMIT_NOFILE (getrlimit(2)) allows.
const SHARE: u64 = 8;

/// At most this number of deaths waits for the end of the job; their number needs no bound beyond that of what is
/// reported of them.
const DEATHS_MAX: usize = 1024;

/// What is held, and what was learned.
#[derive(Default)]
pub(super) struct Exits {
    /// Whether anything is held.
    is_on: AtomicBool,
    held_max: usize,
    state: Mutex<ExitsState>,
}

#[derive(Default)]
struct ExitsState {
    held: HashMap<ProcessKey, (HeldProcess, ProcessLine)>,
    /// Of the last sample, those about which there is nothing to learn any more.
    settled: HashSet<ProcessKey>,
    deaths: Vec<Death>,
    /// From this one on they were learned of in the last round.
    fresh_from: usize,
    /// Children of ours that were reaped while the thread opened pidfds.
    reaped_meanwhile: Vec<Pid>,
    is_opening: bool,
}

impl Exits {
    /// `soft_limit` is that of RLIMIT_NOFILE.
    pub(super) fn new(soft_limit: u64, is_on: bool) -> Exits {
        let share = usize::try_from(soft_limit / SHARE).unwrap_or(HELD_MAX);
        let held_max = share.min(HELD_MAX);
        Exits { is_on: AtomicBool::new(is_on), held_max, state: Mutex::default() }
    }

    /// Begins with the next sample.
    pub(super) fn turn_on(&self) {
        self.is_on.store(true, Ordering::Release);
    }

    /// Looks at the processes of a sample: called by the observing thread.
    pub(super) fn look(&self, rows: &[ProcessLine]) {
        if !self.is_on.load(Ordering::Acquire) {
            return;
        }
        let newcomers = self.lock().begin(rows, self.held_max);
        // Reading /proc may take its time, and nobody shall wait for that.
        let opened: Vec<_> =
            newcomers.into_iter().map(|row| (row, pidfd_info::hold(row.key()))).collect();
        self.lock().finish(opened);
    }

    /// Forgets a child of ours that was reaped: its end is known to us by waitid(2).
    pub(super) fn reaped(&self, pid: Pid) {
        if self.is_on.load(Ordering::Acquire) {
            self.lock().reaped(pid);
        }
    }

    /// Returns the deaths by signal that became known since it was asked last.
    pub(super) fn take(&self) -> Vec<Death> {
        let mut state = self.lock();
        state.collect();
        std::mem::take(&mut state.deaths)
    }

    /// Nobody panics while holding the lock.
    fn lock(&self) -> MutexGuard<'_, ExitsState> {
        lock(&self.state)
    }
}

impl ExitsState {
    /// Takes in what has ended and returns those of the sample that are to be held from now on.
    fn begin(&mut self, rows: &[ProcessLine], held_max: usize) -> Vec<ProcessLine> {
        self.collect();
        let shown: HashSet<ProcessKey> = rows.iter().map(ProcessLine::key).collect();
        self.settled.retain(|key| shown.contains(key));
        self.is_opening = true;
        let room = held_max.saturating_sub(self.held.len());
        let mut newcomers = Vec::new();
        for row in rows {
            if let Some((_, known)) = self.held.get_mut(&row.key()) {
                // A process has another name after execve(2).
                *known = *row;
            } else if newcomers.len() < room && !self.settled.contains(&row.key()) {
                newcomers.push(*row);
            }
        }
        newcomers
    }

    fn finish(&mut self, opened: Vec<(ProcessLine, Option<HeldProcess>)>) {
        self.is_opening = false;
        let reaped = std::mem::take(&mut self.reaped_meanwhile);
        for (row, held) in opened {
            match held.filter(|_| !reaped.contains(&row.key().pid)) {
                Some(held) => drop(self.held.insert(row.key(), (held, row))),
                None => drop(self.settled.insert(row.key())),
            }
        }
    }

    fn collect(&mut self) {
        self.fresh_from = self.deaths.len();
        let ExitsState { held, settled, deaths, .. } = self;
        let at = clock::now();
        held.retain(|key, (pidfd, row)| {
            let end = pidfd.end();
            if let End::Known(end @ Termination::Signaled { .. }) = end
                && deaths.len() < DEATHS_MAX
            {
                let name = Some(row.seen(1).name);
                deaths.push(Death { pid: key.pid, name, end, source: BY_PIDFD, at });
            }
            if end != End::NotYet {
                settled.insert(*key);
            }
            end == End::NotYet
        });
    }

    fn reaped(&mut self, pid: Pid) {
        self.held.retain(|key, _| key.pid != pid);
        // The thread may have been faster than the report; older ones had that pid before.
        let fresh = self.deaths.split_off(self.fresh_from.min(self.deaths.len()));
        self.deaths.extend(fresh.into_iter().filter(|death| death.pid != pid));
        if self.is_opening {
            self.reaped_meanwhile.push(pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::observe::sampler::Sampler;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "processes of the test's own")]
    fn few_are_held_and_a_child_that_was_reaped_is_forgotten() {
        let mut shell = Command::new("sh");
        let script =
            "for i in 1 2 3 4 5; do sleep 60 & p=\"$p $!\"; done; echo up; read x; kill $p";
        let shell = shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "up");
        let root = Pid(shell.id().cast_signed());
        let mut sampler = Sampler::new(Path::new("/proc"), root, 0).unwrap();
        assert_eq!(sampler.sample(clock::now()).processes, 5);
        let mut rows = Vec::new();
        sampler.seen(&mut rows);
        let exits = Exits::new(16, false);
        exits.look(&rows);
        assert!(exits.lock().held.is_empty(), "it is not on");
        exits.turn_on();
        exits.look(&rows);
        exits.look(&rows);
        assert_eq!(exits.lock().held.len(), 2, "an eighth of 16");
        let key = *exits.lock().held.keys().next().unwrap();
        exits.reaped(key.pid);
        assert_eq!(exits.lock().held.len(), 1);
        // One that was reaped while it was being opened is not held, either.
        let newcomers = exits.lock().begin(&rows, 6);
        exits.reaped(key.pid);
        let opened = newcomers.into_iter().map(|row| (row, pidfd_info::hold(row.key()))).collect();
        exits.lock().finish(opened);
        {
            let state = exits.lock();
            assert!(!state.held.contains_key(&key) && state.settled.contains(&key));
            assert_eq!(state.held.len(), 4);
        }
        assert!(exits.take().is_empty(), "all of them live");
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }
}
