//! Which descendants died of a signal before the job ended.
//!
//! The proc connector reports all, from just before the start of the job; where it is refused,
//! PIDFD_GET_INFO reports those that a sample has seen. Never both at the same time, so that no death
//! is counted twice.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};

use crate::model::findings::{BY_PIDFD, Death, Deaths};
use crate::model::outcome::{Termination, WaitStatus};
use crate::model::process::Pid;
use crate::model::sample::Seen;
use crate::model::time::Moment;
use crate::observe::watch::SampleCallback;
use crate::run::exits::Exits;
use crate::run::lineage::Lineage;
use crate::sys::proc_events::{DeathNotice, ProcEvents};
use crate::sys::reaper::{self, Tree};
use crate::sys::wait::{self, Waited};
use crate::sys::{SysError, clock, pidfd_info};

/// At most this number of deaths is taken in before anything else is looked at again: more than the
/// socket's buffer holds by default.
const NOTICES_MAX: usize = 512;

/// The end of a job is known to waitid(2) within this time after the kernel reported the end of its first
/// thread, unless other threads of it run on.
const REAPED_WITHIN: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub(super) struct DeathWatch {
    events: Result<ProcEvents, String>,
    /// Whether a filter lets through only what concerns us. Until then nobody waits for the events: they
    /// are read at the end of the job.
    is_filtered: bool,
    lineage: Arc<Lineage>,
    is_lossy: bool,
    /// Whether the other source is in force, or why not.
    exits_in_force: Result<(), String>,
    /// Of this attempt, once it is sampled.
    exits: Option<Arc<Exits>>,
    deaths: Deaths,
    /// When the first thread of the job ended.
    job_ended_at: Option<Moment>,
    /// Threads of the job that ended of a signal, its first one apart; the last of them.
    threads: Vec<Pid>,
    /// Whether ptrace(2) reports all of them, and nothing else is asked.
    is_traced: bool,
    /// Deaths after that are of parent-death signals, unless the job has threads that are still running.
    later: Vec<Death>,
}

impl DeathWatch {
    pub(super) fn new() -> DeathWatch {
        DeathWatch {
            events: Err("not open".to_owned()),
            is_filtered: false,
            lineage: Arc::default(),
            is_lossy: false,
            exits_in_force: Err("not needed".to_owned()),
            exits: None,
            deaths: Deaths::default(),
            job_ended_at: None,
            threads: Vec::new(),
            later: Vec::new(),
            is_traced: false,
        }
    }

    /// Whether all descendants are traced: then the tracer reports each death, and nobody else does.
    pub(super) fn set_traced(&mut self, is_traced: bool) {
        if is_traced {
            self.close();
        }
        self.is_traced = is_traced;
    }

    /// Takes in a death that the tracer saw. One that came with or after the end of the job, which is still a
    /// zombie, was not a reason for that.
    pub(super) fn traced(&mut self, death: Death, job: Option<Pid>) {
        let has_ended =
            |job: Pid| matches!(wait::look_at(job), Ok(Waited::Changed(_, WaitStatus::Ended(_))));
        if !job.is_some_and(has_ended) {
            self.deaths.add(death);
        }
    }

    /// To be called just before an attempt is started, and `open` before the first one.
    pub(super) fn begin_attempt(&mut self) {
        self.exits = None;
        self.deaths = Deaths::default();
        self.job_ended_at = None;
        self.threads = Vec::new();
        self.later = Vec::new();
    }

    pub(super) fn open(&mut self) {
        self.events = ProcEvents::open().map_err(|error| reason(&error));
    }

    /// Gives the descriptor of the proc connector up.
    pub(super) fn close(&mut self) {
        self.events = Err("no descriptor is left for it".to_owned());
    }

    /// Has only what concerns this job reported, from now on as it happens. Later than the start of the
    /// first job, so that a short one does not pay for it.
    pub(super) fn follow(&mut self, job: Pid) {
        if self.is_traced {
            return;
        }
        if self.events.is_ok() {
            // Before the filter, so that no end is missed in between.
            self.lineage.open();
        }
        match self.events.as_ref().map(|events| events.follow(job)) {
            Ok(Ok(())) => self.is_filtered = true,
            Ok(Err(error)) => self.fall_back(&error),
            Err(_) => self.turn_to_exits(),
        }
    }

    fn fall_back(&mut self, error: &SysError) {
        self.events = Err(reason(error));
        self.turn_to_exits();
    }

    fn turn_to_exits(&mut self) {
        self.exits_in_force = pidfd_info::probe().map_err(|error| reason(&error));
        if let (Ok(()), Some(exits)) = (&self.exits_in_force, &self.exits) {
            exits.turn_on();
        }
    }

    /// What to wait for.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().ok().filter(|_| self.is_filtered).map(AsFd::as_fd)
    }

    /// Returns what receives every sample of this attempt.
    pub(super) fn sample_callback(&mut self) -> SampleCallback {
        let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let exits = Arc::new(Exits::new(soft, self.exits_in_force.is_ok()));
        self.exits = Some(Arc::clone(&exits));
        let lineage = Arc::clone(&self.lineage);
        Box::new(move |_, rows| {
            exits.look(rows);
            lineage.read();
        })
    }

    /// To be called after a child of ours was reaped.
    pub(super) fn reaped(&self, pid: Pid) {
        if let Some(exits) = &self.exits {
            exits.reaped(pid);
        }
    }

    /// Takes in deaths by signal, and keeps those of the job's descendants. `job` itself is known
    /// to us by waitid(2).
    pub(super) fn take_in(&mut self, tree: &Tree, job: Option<Pid>, seen: impl FnOnce() -> Seen) {
        if self.is_traced {
            return;
        }
        let Ok(events) = &self.events else {
            let deaths = self.exits.as_ref().map(|exits| exits.take());
            deaths.unwrap_or_default().into_iter().for_each(|death| self.deaths.add(death));
            return;
        };
        let mut notices = Vec::new();
        match events.read(NOTICES_MAX, &mut notices) {
            Ok(is_lossy) => self.is_lossy |= is_lossy,
            Err(error) => self.fall_back(&error),
        }
        // Until the filter is there, ordinary ends are among them.
        self.lineage.note(&notices);
        let has_killed = notices.iter().any(|one| matches!(one.end, Termination::Signaled { .. }));
        if has_killed
            && !self.is_filtered
            && let Err(error) = ProcEvents::check_pids()
        {
            return self.fall_back(&error);
        }
        let mut seen = Some(seen);
        let mut known = None;
        for notice in notices {
            if let Some(thread) = notice.thread {
                if Some(notice.pid) == job && self.threads.len() < NOTICES_MAX {
                    self.threads.push(thread);
                }
                continue;
            }
            if Some(notice.pid) == job {
                self.job_ended_at = self.job_ended_at.or(Some(notice.at));
                continue;
            }
            if matches!(notice.end, Termination::Exited(_)) {
                // From before the filter was attached.
                continue;
            }
            // First what /proc says: it is gone in a moment.
            let kin = match kin(&notice, tree, &self.lineage) {
                kin @ DeadKin::Ours(Some(_)) => kin,
                kin => {
                    let known = known.get_or_insert_with(|| seen.take().map(|seen| seen()));
                    name_in(known.as_ref(), notice.pid)
                        .map_or(kin, |name| DeadKin::Ours(Some(name)))
                }
            };
            let DeathNotice { pid, end, at, .. } = notice;
            let death = |name| Death { pid, name, end, source: "proc connector", at };
            let death = match kin {
                DeadKin::Ours(name) => death(name),
                DeadKin::Unclear => {
                    self.note_unclear(death(None));
                    continue;
                }
                DeadKin::Strange => continue,
            };
            match self.job_ended_at {
                Some(ended_at) if ended_at <= at && self.later.len() < NOTICES_MAX => {
                    self.later.push(death);
                }
                _ => self.deaths.add(death),
            }
        }
    }

    fn note_unclear(&mut self, death: Death) {
        let is_later = self.job_ended_at.is_some_and(|ended_at| ended_at <= death.at);
        if is_later {
            return;
        }
        match self.deaths.unclear.len() {
            NOTICES_MAX.. => self.is_lossy = true,
            _ => self.deaths.unclear.push(death),
        }
    }

    /// Returns the threads of the job that ended with it, the first one apart.
    pub(super) fn threads(&self) -> Vec<Pid> {
        self.threads.clone()
    }

    /// Returns how long ago the first thread of the job ended, as far as that was reported.
    pub(super) fn time_since_end(&self) -> Duration {
        self.job_ended_at.map_or(Duration::ZERO, |at| clock::now() - at)
    }

    /// Returns the deaths of this attempt before the job ended, and forgets them.
    pub(super) fn take(&mut self) -> Deaths {
        let later = std::mem::take(&mut self.later);
        // Long after its first thread the job itself cannot have ended by then.
        if self.job_ended_at.is_some_and(|at| clock::now() - at > REAPED_WITHIN) {
            later.into_iter().for_each(|death| self.deaths.add(death));
        }
        let is_complete = self.is_traced || self.events.is_ok() && !self.is_lossy;
        let deaths = std::mem::take(&mut self.deaths);
        let (orphaned, lost): (Vec<Death>, Vec<Death>) =
            deaths.kept().cloned().partition(|death| self.died_of_the_end(death));
        if orphaned.is_empty() {
            return Deaths { is_complete, ..deaths };
        }
        let mut rest = Deaths { is_complete, unclear: deaths.unclear, ..Deaths::default() };
        lost.into_iter().for_each(|death| rest.add(death));
        rest
    }

    /// Whether a process died as the job ended and is ours to reap: nobody waited for it. The kernel
    /// sends parent-death signals just before it reports the parent's end.
    fn died_of_the_end(&self, death: &Death) -> bool {
        let is_at_end = self.job_ended_at.is_some_and(|at| at - death.at < AS_IT_ENDED);
        is_at_end && matches!(wait::look_at(death.pid), Ok(Waited::Changed(..)))
    }

    /// Returns whether the kernel had to drop some.
    pub(super) fn is_lossy(&self) -> bool {
        self.is_lossy
    }

    /// Calls `note` with each source, with whether it is in force.
    pub(super) fn report(&self, mut note: impl FnMut(String, bool)) {
        if self.is_traced {
            return note("signals and ends of all descendants by ptrace(2)".to_owned(), true);
        }
        let Err(refused) = &self.events else {
            return note("deaths of descendants by the proc connector".to_owned(), true);
        };
        note(format!("proc connector ({refused})"), false);
        match &self.exits_in_force {
            Ok(()) => note(format!("deaths of descendants by {}", BY_PIDFD), true),
            Err(refused) => note(format!("{} ({refused})", BY_PIDFD), false),
        }
    }
}

fn reason(error: &SysError) -> String {
    format!("{error}: {}", error.source.desc())
}

/// A parent-death signal takes effect within this time before the end of the parent is reported.
const AS_IT_ENDED: Duration = Duration::from_millis(2);

/// Whose a dead process was.
enum DeadKin {
    /// The job's; with its name, if that could still be read.
    Ours(Option<String>),
    Strange,
    /// It has gone, with its parent, and what the parent was a child of is not known.
    Unclear,
}

/// Decides whether a dead process was one of ours: it is mostly a zombie whose parent has not waited yet,
/// or its parent still leads to us.
fn kin(notice: &DeathNotice, tree: &Tree, lineage: &Lineage) -> DeadKin {
    if let Some(name) = tree.name_of_own(notice.pid) {
        return DeadKin::Ours(Some(name));
    }
    let has_gone = |pid: Pid| reaper::key(pid).is_none();
    let Some(mut parent) = notice.parent else {
        return if has_gone(notice.pid) { DeadKin::Unclear } else { DeadKin::Strange };
    };
    if has_gone(parent) {
        parent = lineage.ancestor(parent, notice.at);
    }
    if tree.contains(parent) {
        DeadKin::Ours(None)
    } else if has_gone(parent) && has_gone(notice.pid) {
        DeadKin::Unclear
    } else {
        DeadKin::Strange
    }
}

/// Returns the name of a process of the job that a sample has seen.
fn name_in(seen: Option<&Seen>, pid: Pid) -> Option<String> {
    let mut processes = seen?.processes.iter();
    processes.find(|known| known.key.pid == pid).map(|known| known.name.clone())
}
