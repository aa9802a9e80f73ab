//! The real world: processes, signals and time.

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::model::facts::Reach;
use crate::model::outcome::{Termination, WaitStatus};
use crate::model::policy::Stragglers;
use crate::model::process::{Descendant, Pid, RunId};
use crate::model::scene::Scene;
use crate::model::signal::{Origin, Signal};
use crate::model::time::Moment;
use crate::model::usage::ResourceUsage;
use crate::plan::{JobPlan, Observation};
use crate::run::environment::{self, RUN_ID};
use crate::run::prepare::Files;
use crate::run::quarantine::{self, Rules};
use crate::run::senders::Senders;
use crate::run::telemetry::Shared;
use crate::run::witness::{Place, Witness};
use crate::run::{World, run_id};
use crate::supervisor::{AttemptContext, Input, Received, Target};
use crate::sys::cgroup::AttemptCgroup;
use crate::sys::entry::Given;
use crate::sys::reaper::{self, Tree};
use crate::sys::signals::{RawSignal, SignalFd};
use crate::sys::spawn::{Child, Program, Setting};
use crate::sys::wait::Waited;
use crate::sys::{SysError, clock, poll, signals, spawn, terminal, wait};

/// So many inputs may wait for the supervisor before no more signals are read ahead of it.
const PENDING_MAX: usize = 16 * 1024;

/// So many changes of children are taken in before signals are looked at again.
const CHANGES_MAX: usize = 256;

/// See [`World`].
pub(super) struct Live {
    pub(super) run_id: RunId,
    program: Program,
    directory: Option<CString>,
    files: Files,
    new_session: bool,
    wants_cgroup: bool,
    given: Given,
    pub(super) signals: SignalFd,
    /// Whom the attempts are told to, besides the sinks.
    pub(super) telemetry: Option<Shared>,
    senders: Senders,
    batch: Vec<RawSignal>,
    tree: Tree,
    child: Option<Child>,
    cgroup: Option<AttemptCgroup>,
    pending: VecDeque<Input>,
    /// More children may have changed than one round takes in.
    has_more_changes: bool,
    /// From the first start on.
    witness: Option<Witness>,
    observation: Observation,
    /// Where --clean-written moves files to.
    quarantine: PathBuf,
    directory_of_job: PathBuf,
    /// Directories of the files of -o and -e.
    written: Vec<PathBuf>,
}

impl Live {
    #[expect(clippy::disallowed_methods, reason = "PATH is where the job is looked for")]
    pub(super) fn new(
        job: &JobPlan,
        files: Files,
        signals: SignalFd,
        given: Given,
    ) -> Result<Live, SysError> {
        let has_children = wait::look()? != Waited::NoChild;
        terminal::become_subreaper()?;
        let policy = &job.policy;
        let path = std::env::var_os("PATH");
        let run_id = run_id();
        Ok(Live {
            run_id,
            program: Program::new(&job.command, path.as_deref()),
            // The directory was found, so its name has no NUL byte.
            directory: job
                .directory
                .as_ref()
                .and_then(|dir| CString::new(dir.as_os_str().as_bytes()).ok()),
            files,
            new_session: policy.new_session,
            // Only where trees are ended does a cgroup of one's own do any good.
            wants_cgroup: policy.may_restart()
                || policy.timeout.is_some()
                || policy.stragglers == Stragglers::Kill,
            given,
            signals,
            telemetry: None,
            senders: Senders::new(),
            batch: Vec::new(),
            tree: Tree::new(has_children, format!("{RUN_ID}={run_id}")),
            child: None,
            cgroup: None,
            pending: VecDeque::new(),
            has_more_changes: false,
            witness: None,
            observation: job.observation.clone(),
            quarantine: PathBuf::from(format!("childminder-quarantine-{run_id}")),
            directory_of_job: job.directory.clone().unwrap_or_else(|| PathBuf::from(".")),
            written: [&job.output, &job.error]
                .into_iter()
                .flatten()
                .map(|file| file.parent().unwrap_or(Path::new("")).join("."))
                .collect(),
        })
    }

    /// Sets files aside beside the log, if that is a file.
    pub(super) fn quarantine_beside(&mut self, log: &Path) {
        self.quarantine = log.with_extension("quarantine");
    }

    fn try_wait(&mut self, deadline: Option<Moment>) -> Result<(), SysError> {
        let late = self.witness.as_ref().and_then(Witness::next_deadline);
        let deadline = match self.has_more_changes {
            true => Some(clock::now()),
            false => [deadline, late].into_iter().flatten().min(),
        };
        let pidfd = self.child.as_ref().map(|child| child.pidfd.as_fd());
        let deaths = self.witness.as_ref().and_then(Witness::fd);
        let [has_signals, has_ended, has_deaths] =
            poll::wait([Some(self.signals.as_fd()), pidfd, deaths], deadline)?;
        if let Some(witness) = &mut self.witness {
            if has_deaths {
                witness.take_deaths(&self.tree, self.child.as_ref().map(|one| one.pid));
            }
            self.pending.extend(witness.begin_late(clock::now()).map(Input::News));
        }
        let mut has_changes = has_ended || self.has_more_changes;
        if has_signals {
            has_changes |= self.read_signals()?;
        }
        if has_changes {
            self.collect_changes()?;
        }
        Ok(())
    }

    fn read_ahead(&mut self) -> Result<(), SysError> {
        if self.read_signals()? { self.collect_changes() } else { Ok(()) }
    }

    /// Takes in the pending signals and returns whether a SIGCHLD was among them.
    fn read_signals(&mut self) -> Result<bool, SysError> {
        self.batch.clear();
        self.signals.read(&mut self.batch)?;
        self.senders.begin_batch(clock::now());
        let mut has_changes = false;
        let batch = std::mem::take(&mut self.batch);
        let is_about_stops =
            |raw: &RawSignal| raw.signal.is_terminal_stop() || raw.signal == Signal::CONT;
        if batch.iter().any(is_about_stops) {
            // Whether the job has stopped, or runs again, must be known before that is judged.
            self.collect_stops()?;
        }
        for raw in batch {
            if self.senders.is_our_fault(&raw) {
                continue;
            }
            has_changes |= raw.signal == Signal::CHLD;
            let child = self.child.as_ref().map(|child| child.pid);
            let is_in_group = || {
                // The kernel tells a hang-up to the leader of the session alone.
                let is_for_us = raw.signal == Signal::HUP && terminal::leads_session();
                !is_for_us && child.is_some_and(terminal::is_in_our_group)
            };
            let is_from_child = raw.signal == Signal::CHLD && raw.origin == Origin::Child;
            let (info, reach) = if is_from_child {
                continue;
            } else {
                self.senders.resolve(raw, is_in_group)
            };
            let can_suspend = raw.signal.is_terminal_stop()
                && reach != Reach::OurFault
                && terminal::can_be_continued();
            self.pending.push_back(Input::Signal(Received { info, reach, can_suspend }));
        }
        Ok(has_changes)
    }

    /// Takes in stops and continuations of the job, and not its end: what it died of may be among
    /// the signals that are still to be looked at.
    fn collect_stops(&mut self) -> Result<(), SysError> {
        let Some(child) = &self.child else { return Ok(()) };
        while let Waited::Changed(_, status) = wait::take_stop(child.pid)? {
            match status {
                WaitStatus::Stopped(signal) => self.pending.push_back(Input::JobStopped(signal)),
                WaitStatus::Continued => self.pending.push_back(Input::JobContinued),
                WaitStatus::Ended(_) => {}
            }
        }
        Ok(())
    }

    /// Takes in what became of children, the job itself last: what its orphans died of is known
    /// before the job is judged.
    fn collect_changes(&mut self) -> Result<(), SysError> {
        let mut job_ended = None;
        self.has_more_changes = true;
        for _ in 0..CHANGES_MAX {
            let waited = wait::look()?;
            let Waited::Changed(pid, _) = waited else {
                self.has_more_changes = false;
                break;
            };
            let is_stranger = self.tree.is_stranger(pid);
            let scene = self.examine(pid, &waited);
            let (Waited::Changed(_, status), usage) = wait::take(pid)? else { continue };
            if let (WaitStatus::Ended(_), Some(witness)) = (status, &self.witness) {
                witness.reaped(pid, &usage);
            }
            if self.child.as_ref().is_some_and(|child| child.pid == pid) {
                job_ended = job_ended.or(self.job_changed(status, usage, scene));
            } else if let (WaitStatus::Ended(end), false) = (status, is_stranger) {
                self.pending.push_back(Input::OrphanEnded(pid, end, usage));
            }
        }
        self.pending.extend(job_ended);
        self.notice_lost_job()
    }

    /// Looks at the scene of the job's end, while it is still a zombie.
    fn examine(&mut self, pid: Pid, waited: &Waited) -> Scene {
        let job = self.child.as_ref().map(|child| child.pid);
        match (waited, &mut self.witness) {
            (Waited::Changed(_, WaitStatus::Ended(end)), Some(witness)) if job == Some(pid) => {
                witness.take_deaths(&self.tree, job);
                let has_failed = *end != Termination::Exited(0);
                let place = Place {
                    directory: &self.directory_of_job,
                    written: &self.written,
                    last_words: if has_failed { self.files.last_words() } else { Vec::new() },
                };
                witness.examine(pid, *end, &place)
            }
            _ => Scene::default(),
        }
    }

    /// Returns the end of the job, if that is what happened to it.
    fn job_changed(
        &mut self,
        status: WaitStatus,
        usage: ResourceUsage,
        scene: Scene,
    ) -> Option<Input> {
        match status {
            WaitStatus::Stopped(signal) => self.pending.push_back(Input::JobStopped(signal)),
            WaitStatus::Continued => self.pending.push_back(Input::JobContinued),
            WaitStatus::Ended(end) => {
                self.child = None;
                return Some(Input::JobEnded(end, usage, Box::new(scene)));
            }
        }
        None
    }

    /// A child that is no longer ours to wait for has ended, and its status went elsewhere.
    fn notice_lost_job(&mut self) -> Result<(), SysError> {
        if let Some(child) = &self.child
            && wait::look_at(child.pid)? == Waited::NoChild
        {
            self.child = None;
            self.pending.push_back(Input::JobLost);
        }
        Ok(())
    }

    /// `--clean-written`, when nothing of the old attempt lives any more.
    fn clean_written(&mut self, attempt: u32) {
        let Some(witness) = self.witness.as_ref().filter(|_| self.observation.clean_written) else {
            return;
        };
        let (files, since) = witness.last_files();
        let directories = self.observation.clean_within.iter().chain([&self.directory_of_job]);
        let rules = Rules {
            within: directories.filter_map(|one| one.canonicalize().ok()).collect(),
            ours: self.files.identities(),
            since,
            quarantine: self.quarantine.join(format!("attempt-{attempt}")),
        };
        self.pending.extend(quarantine::clean(files, &rules).into_iter().map(Input::News));
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
}

impl World for Live {
    fn now(&self) -> Moment {
        clock::now()
    }

    fn spawn(&mut self, attempt: AttemptContext) -> Input {
        if attempt.attempt > 1 {
            self.files.rewind();
            self.clean_written(attempt.attempt - 1);
        }
        // What is counted from the beginning begins before it: a job may die in its first moment.
        match &mut self.witness {
            Some(witness) => witness.begin_attempt(),
            None => {
                let on_sample = self.telemetry.as_ref().map(|one| one.borrow().on_sample());
                let witness = Witness::new(&self.observation, &self.tree);
                self.witness = Some(witness.telling(on_sample));
            }
        }
        self.cgroup = if self.wants_cgroup { AttemptCgroup::create(attempt.attempt) } else { None };
        let environment = environment::of_attempt(self.run_id, attempt, self.telemetry.as_ref());
        let setting = Setting {
            environment: &environment,
            standard: self.files.standard(),
            directory: self.directory.as_deref(),
            new_session: self.new_session,
            given: &self.given,
            cgroup: self.cgroup.as_ref().map(AttemptCgroup::procs),
            umask: None,
            user: None,
        };
        match spawn::spawn(&self.program, &setting) {
            Ok(child) => Input::Spawned(self.child.insert(child).pid),
            Err(failure) => Input::SpawnFailed(failure),
        }
    }

    fn wait(&mut self, deadline: Option<Moment>) -> Input {
        let taken_in = match self.pending.len() {
            0 => self.try_wait(deadline),
            // Standard signals coalesce in the kernel while we write about others.
            1..PENDING_MAX => self.read_ahead(),
            _ => Ok(()),
        };
        if let Err(error) = taken_in {
            // Only want of memory gets us here: the loop asks again, and the job goes on.
            debug_assert!(false, "{error}: {}", error.source);
        }
        self.pending.pop_front().unwrap_or(Input::Woken)
    }

    fn send(&mut self, to: Target, signal: Signal, value: Option<i32>) -> Result<(), SysError> {
        match to {
            Target::Job => match &self.child {
                Some(child) => signals::send(child.pidfd.as_fd(), signal, value).map(|_| ()),
                None => Ok(()),
            },
            Target::Tree => {
                if let (Signal::KILL, Some(cgroup)) = (signal, &self.cgroup) {
                    // The walk below is for what left the cgroup, or for all if this fails.
                    cgroup.kill().ok();
                }
                self.tree.send(signal, |_| true)
            }
            Target::StoppedInTree => {
                self.tree.send(signal, |process| matches!(process.state, 'T' | 't'))
            }
            Target::Ourselves => terminal::stop_ourselves(),
        }
    }

    fn look(&mut self) -> Input {
        // Without a child there is no descendant: orphans become our children.
        let living = match wait::look() {
            Ok(Waited::NoChild) if self.cgroup.is_none() && self.pending.is_empty() => {
                return Input::Tree(Vec::new());
            }
            _ => self.living(),
        };
        // What has died by now is reaped and told before the answer that may end the run.
        if let Err(error) = self.collect_changes() {
            debug_assert!(false, "{error}: {}", error.source);
        }
        self.pending.push_back(Input::Tree(living));
        self.pending.pop_front().unwrap_or(Input::Woken)
    }
}
