//! Who tells us which descendants died of a signal, and which of the dead were ours.
//!
//! The proc connector tells of all; where it is refused, PIDFD_GET_INFO tells of those that a
//! sample has seen. Never both at the same time, so that nobody dies twice.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};

use crate::model::process::Pid;
use crate::model::sample::Seen;
use crate::model::scene::{BY_PIDFD, Death, Deaths};
use crate::observe::watch::Onlooker;
use crate::run::exits::Exits;
use crate::sys::proc_events::{DeathNotice, ProcEvents};
use crate::sys::reaper::Tree;
use crate::sys::{SysError, pidfd_info};

/// So many deaths are taken in before anything else is looked at again.
const NOTICES_MAX: usize = 256;

/// See the module's documentation.
pub(super) struct DeathWatch {
    events: Result<ProcEvents, String>,
    is_lossy: bool,
    /// Whether the other source is in force, or why not.
    exits_in_force: Result<(), String>,
    /// Of this attempt, once it is sampled.
    exits: Option<Arc<Exits>>,
    deaths: Deaths,
}

impl DeathWatch {
    pub(super) fn new() -> DeathWatch {
        DeathWatch {
            events: Err("not open".to_owned()),
            is_lossy: false,
            exits_in_force: Err("not needed".to_owned()),
            exits: None,
            deaths: Deaths::default(),
        }
    }

    pub(super) fn begin_attempt(&mut self) {
        self.exits = None;
        self.deaths = Deaths::default();
    }

    /// Opens what is to be had.
    pub(super) fn open(&mut self) {
        match ProcEvents::open() {
            Ok(events) => self.events = Ok(events),
            Err(error) => self.fall_back(&error),
        }
    }

    fn fall_back(&mut self, error: &SysError) {
        self.events = Err(reason(error));
        self.exits_in_force = pidfd_info::probe().map_err(|error| reason(&error));
        if let (Ok(()), Some(exits)) = (&self.exits_in_force, &self.exits) {
            exits.turn_on();
        }
    }

    /// What to wait for.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().ok().map(AsFd::as_fd)
    }

    /// Returns what shall look at every sample of this attempt.
    pub(super) fn onlooker(&mut self) -> Onlooker {
        let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let exits = Arc::new(Exits::new(soft, self.exits_in_force.is_ok()));
        self.exits = Some(Arc::clone(&exits));
        Box::new(move |_, rows| exits.look(rows))
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
        let Ok(events) = &self.events else {
            let told = self.exits.as_ref().map(|exits| exits.take());
            told.unwrap_or_default().into_iter().for_each(|death| self.deaths.add(death));
            return;
        };
        let mut notices = Vec::new();
        match events.read(NOTICES_MAX, &mut notices) {
            Ok(is_lossy) => self.is_lossy |= is_lossy,
            Err(error) => self.fall_back(&error),
        }
        notices.retain(|notice| Some(notice.pid) != job);
        if notices.is_empty() {
            return;
        }
        let seen = seen();
        for notice in notices {
            if let Some(name) = name_if_ours(&notice, tree, &seen) {
                let DeathNotice { pid, end, .. } = notice;
                self.deaths.add(Death { pid, name, end, source: "proc connector" });
            }
        }
    }

    /// Returns the deaths of this attempt, and forgets them.
    pub(super) fn take(&mut self) -> Deaths {
        std::mem::take(&mut self.deaths)
    }

    /// Returns whether the kernel had to drop some.
    pub(super) fn is_lossy(&self) -> bool {
        self.is_lossy
    }

    /// Tells `note` each source, with whether it is in force.
    pub(super) fn tell(&self, mut note: impl FnMut(String, bool)) {
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

/// Decides whether a dead process was one of ours, and returns its name if it can still be read:
/// it is mostly a zombie whose parent has not waited yet, or its parent still leads to us.
fn name_if_ours(notice: &DeathNotice, tree: &Tree, seen: &Seen) -> Option<Option<String>> {
    if let Some(name) = tree.name_of_own(notice.pid) {
        return Some(Some(name));
    }
    if let Some(known) = seen.processes.iter().find(|known| known.key.pid == notice.pid) {
        return Some(Some(known.name.clone()));
    }
    notice.parent.is_some_and(|parent| tree.contains(parent)).then_some(None)
}
