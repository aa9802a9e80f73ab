//! What is left of the job, and how its processes are reached: all that concerns more than the one
//! process that we started.

use std::os::fd::AsFd;

use nix::errno::Errno;

use crate::model::event::Event;
use crate::model::process::Descendant;
use crate::model::signal::Signal;
use crate::run::live::Live;
use crate::run::quarantine::{self, PathsBefore, Rules};
use crate::run::world::contained;
use crate::supervisor::{Input, Remaining, Target};
use crate::sys::cgroup::AttemptCgroup;
use crate::sys::{SysError, children, proc, reaper, signals, terminal};

/// How often children that ended meanwhile are reaped before those that nobody sees are taken for
/// living ones.
const LOOKS_MAX: u32 = 16;

impl Live {
    /// Sends a signal; a refusal of SIGKILL is returned once.
    pub(super) fn signal(
        &mut self,
        to: Target,
        signal: Signal,
        value: Option<i32>,
    ) -> Result<(), SysError> {
        let sent = match to {
            Target::Job => return self.send_to_job(signal, value),
            Target::Tree => self.send_to_tree(signal),
            Target::StoppedInTree => self.send_to_stopped(signal),
            Target::Ourselves => terminal::stop_ourselves(),
        };
        match sent {
            // It is repeated until all have gone.
            Err(error) if signal == Signal::KILL && !self.refusals.insert(error.to_string()) => {
                Ok(())
            }
            sent => sent,
        }
    }

    /// Returns what is left of the job. What has died by now is reaped, and reported before the answer
    /// that may end the run.
    pub(super) fn remaining(&mut self) -> Remaining {
        let mut remaining = Remaining { is_gone: self.is_gone(), ..Remaining::default() };
        for _ in 0..LOOKS_MAX {
            if remaining.is_gone || !remaining.seen.is_empty() {
                break;
            }
            self.log_blindness();
            if let Err(error) = self.collect_changes() {
                self.failed(&error);
            }
            remaining.seen = self.living();
            remaining.is_gone = self.is_gone();
        }
        remaining.has_no_child = !remaining.is_gone && self.tree.is_gone();
        let pids = remaining.seen.iter().map(|process| process.key.pid);
        remaining.dying = pids.filter(|pid| proc::is_dying(*pid)).collect();
        remaining
    }

    /// `--clean-written`, when nothing of the old attempt lives any more.
    fn clean_written(&mut self, attempt: u32) {
        let (Some(gatherer), Some(before)) = (&self.gatherer, self.before.take()) else { return };
        let (files, since) = gatherer.last_files();
        let rules = Rules {
            before: &before,
            ours: self.files.ids(),
            since,
            quarantine: self.quarantine.join(format!("attempt-{attempt}")),
        };
        self.pending.extend(quarantine::clean(files, &rules).into_iter().map(Input::News));
    }

    /// Notes what there is before an attempt whose files may have to be moved.
    pub(super) fn note_files(&mut self, attempt: u32) {
        if self.observation.clean_written {
            if attempt > 1 {
                self.clean_written(attempt - 1);
            }
            let directories = self.observation.clean_within.iter().chain([&self.directory_of_job]);
            let within = directories.filter_map(|one| one.canonicalize().ok()).collect();
            self.before = Some(PathsBefore::note(within));
        }
    }

    fn living(&self) -> Vec<Descendant> {
        let mut living = self.tree.living();
        let others = self.cgroup.as_ref().map(AttemptCgroup::pids).unwrap_or_default();
        for pid in others {
            if living.iter().all(|known| known.key.pid != pid) {
                living.extend(reaper::describe(pid));
            }
        }
        living
    }

    /// Without a child of ours there is no descendant: orphans become our children.
    fn is_gone(&self) -> bool {
        self.tree.is_gone() && self.cgroup.as_ref().is_none_or(AttemptCgroup::is_empty)
    }

    /// Says once that /proc does not help.
    fn log_blindness(&mut self) {
        if !self.is_blindness_logged && !proc::is_usable() {
            self.is_blindness_logged = true;
            let text =
                "/proc is not readable or of another pid namespace: the job's processes are \
                        found by pidfd and waitid(2) only"
                    .to_owned();
            self.pending.push_back(Input::News(Event::Notice { text }));
        }
    }

    /// Signals the job by its pidfd or, where that is refused, by its number, which is its own
    /// until we reap it.
    fn send_to_job(&mut self, signal: Signal, value: Option<i32>) -> Result<(), SysError> {
        let Some(child) = &self.child else { return Ok(()) };
        let sent = match signals::send(child.pidfd.as_fd(), signal, value) {
            Err(_) if children::is_child(child.pid) => {
                signals::send_to_child(child.pid, signal, value)
            }
            sent => sent,
        };
        if signal == Signal::KILL || signal.asks_to_stop() {
            self.is_out_of_reach = sent.is_err();
        }
        sent.map(|_| ())
    }

    fn send_to_tree(&mut self, signal: Signal) -> Result<(), SysError> {
        self.log_blindness();
        if let (Signal::KILL, Some(cgroup)) = (signal, &self.cgroup) {
            // The walk below is for what left the cgroup, or for all if this fails.
            cgroup.kill().ok();
        }
        let job = self.child.as_ref().map(|child| child.pid);
        let sent = self.send_to_job(signal, None);
        sent.and(self.send_to_those(signal, |process| Some(process.key.pid) != job))
    }

    /// One whose state is not visible may be stopped.
    fn send_to_stopped(&mut self, signal: Signal) -> Result<(), SysError> {
        let is_stopped = |process: &Descendant| matches!(process.state, 'T' | 't' | '?');
        let job = self.child.as_ref().map(|child| child.pid);
        let sent = match job.map(reaper::describe) {
            Some(described) if described.as_ref().is_none_or(is_stopped) => {
                self.send_to_job(signal, None)
            }
            _ => Ok(()),
        };
        let is_other = |process: &Descendant| Some(process.key.pid) != job;
        sent.and(self.send_to_those(signal, |process| is_other(process) && is_stopped(process)))
    }

    /// Signals the processes of the job that are found; that they cannot be looked for costs nothing else.
    fn send_to_those(
        &self,
        signal: Signal,
        wanted: impl Fn(&Descendant) -> bool,
    ) -> Result<(), SysError> {
        contained(|| self.tree.send(signal, wanted))
            .unwrap_or_else(|| Err(SysError::new("look for the processes of the job", Errno::EIO)))
    }
}
