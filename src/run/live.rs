//! The real world: processes, signals and time.

mod incoming;
mod traced;
mod tree;
mod wait_state;
mod waiting;

use std::collections::{BTreeSet, VecDeque};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::model::event::Event;
use crate::model::outcome::{Termination, WaitStatus};
use crate::model::policy::Stragglers;
use crate::model::process::{Pid, RunId};
use crate::model::signal::Signal;
use crate::model::time::Moment;
use crate::model::usage::ResourceUsage;
use crate::plan::{JobPlan, Observation, TraceMode};
use crate::run::environment::{self, RUN_ID, Variable};
use crate::run::evidence::{EvidenceGatherer, LATE, OnSample};
use crate::run::kept_output::KeptOutput;
use crate::run::live::wait_state::WaitState;
use crate::run::place::JobPlace;
use crate::run::prepare::StandardFiles;
use crate::run::quarantine::PathsBefore;
use crate::run::run_id;
use crate::run::senders::Senders;
use crate::run::stall::StallReports;
use crate::run::tracing::Tracer;
use crate::run::world::{World, contained};
use crate::supervisor::{AttemptContext, EndReport, Input, Target};
use crate::sys::cgroup::AttemptCgroup;
use crate::sys::entry::Given;
use crate::sys::reaper::Tree;
use crate::sys::signal_probe::SignalProbe;
use crate::sys::signals::{RawSignal, SignalFd};
use crate::sys::spawn::{Child, Program, Setting, TraceRequest};
use crate::sys::wait::Waited;
use crate::sys::{SysError, clock, descriptors, spawn, terminal, wait};

/// At most this number of inputs may wait for the supervisor before no more signals are read ahead of it.
const PENDING_MAX: usize = 16 * 1024;

/// See [`World`].
pub(super) struct Live {
    pub(super) run_id: RunId,
    program: Program,
    directory: Option<CString>,
    files: StandardFiles,
    new_session: bool,
    wants_cgroup: bool,
    pub(super) given: Given,
    pub(super) signals: SignalFd,
    /// What gets each sample of the job's tree.
    pub(super) on_sample: Option<OnSample>,
    senders: Senders,
    stall_reports: StallReports,
    /// When who asks for a report can be heard: a short job does not pay for it.
    listen_at: Option<Moment>,
    /// Under a batch system, from the first start on.
    signal_probe: Option<SignalProbe>,
    batch: Vec<RawSignal>,
    tree: Tree,
    child: Option<Child>,
    cgroup: Option<AttemptCgroup>,
    /// Whether the kernel refused the last signal by which the job was to be ended or asked to stop.
    is_out_of_reach: bool,
    /// Refusals that were reported: those of each further round are the same.
    refusals: BTreeSet<String>,
    is_blindness_logged: bool,
    pending: VecDeque<Input>,
    waiting: WaitState,
    /// While the job, or what is left of it, is traced.
    tracer: Option<Tracer>,
    /// From the first start on.
    gatherer: Option<EvidenceGatherer>,
    observation: Observation,
    /// Where --clean-written moves files to.
    quarantine: PathBuf,
    /// What there was when the attempt began, if files may have to be moved.
    before: Option<PathsBefore>,
    directory_of_job: PathBuf,
    /// PWD, if -w or --child-directory moves the job.
    pub(super) moved_to: Option<Variable>,
    /// Whether the log is written to our standard output.
    pub(super) needs_output: bool,
    may_restart: bool,
    /// When descriptors that only the job needs are given up.
    release_at: Option<Moment>,
    /// Directories of the files of -o and -e.
    written: Vec<PathBuf>,
}

impl Live {
    /// Returns the last lines that the last attempt wrote to the file of standard error, if there is one.
    pub(super) fn last_words(&self) -> Vec<String> {
        self.files.last_words()
    }

    /// Returns what the job wrote, if it was kept (`--quiet-success`).
    pub(super) fn take_kept_output(&mut self) -> Option<KeptOutput> {
        self.files.take_kept()
    }

    #[expect(clippy::disallowed_methods, reason = "PATH is where the job is looked for")]
    pub(super) fn new(
        job: &JobPlan,
        files: StandardFiles,
        signals: SignalFd,
        given: Given,
    ) -> Result<Live, SysError> {
        let has_children = wait::look()? != Waited::NoChild;
        terminal::become_subreaper()?;
        let policy = &job.policy;
        let path = std::env::var_os("PATH");
        let run_id = run_id::new();
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
            on_sample: None,
            senders: Senders::new(),
            stall_reports: StallReports::default(),
            listen_at: None,
            signal_probe: None,
            batch: Vec::new(),
            tree: Tree::new(has_children, format!("{RUN_ID}={run_id}")),
            child: None,
            cgroup: None,
            is_out_of_reach: false,
            refusals: BTreeSet::new(),
            is_blindness_logged: false,
            pending: VecDeque::new(),
            waiting: WaitState::default(),
            tracer: None,
            gatherer: None,
            observation: job.observation.clone(),
            quarantine: PathBuf::from(format!("childminder-quarantine-{run_id}")),
            before: None,
            directory_of_job: job.directory.clone().unwrap_or_else(|| PathBuf::from(".")),
            moved_to: None,
            needs_output: true,
            may_restart: policy.may_restart(),
            release_at: None,
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

    /// Gives up, when it is time, what only the job needs: who reads or writes the other end waits for
    /// the job alone.
    fn release_descriptors(&mut self) {
        if self.release_at.take_if(|at| *at <= clock::now()).is_some() {
            contained(|| self.files.release());
            contained(|| descriptors::release(self.needs_output));
        }
    }

    fn read_ahead(&mut self) -> Result<(), SysError> {
        if self.read_signals()? { self.collect_changes() } else { Ok(()) }
    }

    /// Takes in stops and continuations of the job, and not its end: what it died of may be among
    /// the signals that are still to be looked at.
    fn collect_stops(&mut self) -> Result<(), SysError> {
        if self.tracer.is_some() {
            return self.answer_stops();
        }
        let Some(child) = &self.child else { return Ok(()) };
        while let Waited::Changed(_, status) = wait::take_stop(child.pid)? {
            match status {
                WaitStatus::Stopped(signal) => self.pending.push_back(Input::JobStopped(signal)),
                WaitStatus::Continued => self.pending.push_back(Input::JobContinued),
                WaitStatus::Ended(_) | WaitStatus::Traced(_) => {}
            }
        }
        Ok(())
    }

    /// Reads what explains the end of the job, while it is still a zombie.
    fn examine(&mut self, pid: Pid, waited: &Waited) -> EndReport {
        let job = self.child.as_ref().map(|child| child.pid);
        match (waited, &mut self.gatherer) {
            (Waited::Changed(_, WaitStatus::Ended(end)), Some(gatherer)) if job == Some(pid) => {
                gatherer.take_deaths(&self.tree, job);
                let has_failed = *end != Termination::Exited(0);
                let place = JobPlace {
                    tree: &self.tree,
                    directory: &self.directory_of_job,
                    written: &self.written,
                    last_words: if has_failed { self.files.last_words() } else { Vec::new() },
                };
                let mut report = gatherer.examine(pid, *end, &place);
                report.findings.names_timeout = self.program.names("timeout");
                report.findings.fatal = match &mut self.tracer {
                    Some(tracer) => tracer.take_fatal(pid, *end),
                    None => Vec::new(),
                };
                report
            }
            _ => EndReport::default(),
        }
    }

    /// Begins to watch before the attempt: what is counted from the beginning begins before it, for a job
    /// may die in its first moment.
    fn begin_to_watch(&mut self) {
        match &mut self.gatherer {
            Some(gatherer) => gatherer.begin_attempt(),
            None => {
                let gatherer = EvidenceGatherer::new(&self.observation, &self.tree);
                self.gatherer = Some(gatherer.with_sample_callback(self.on_sample.clone()));
            }
        }
    }

    /// Returns the end of the job, if that is what happened to it.
    fn job_changed(
        &mut self,
        status: WaitStatus,
        usage: ResourceUsage,
        mut report: EndReport,
    ) -> Option<Input> {
        match status {
            WaitStatus::Stopped(signal) => self.pending.push_back(Input::JobStopped(signal)),
            WaitStatus::Continued => self.pending.push_back(Input::JobContinued),
            // It was answered.
            WaitStatus::Traced(_) => {}
            WaitStatus::Ended(end) => {
                self.child = None;
                report.findings.is_out_of_reach = self.is_out_of_reach;
                return Some(Input::JobEnded(end, usage, Box::new(report)));
            }
        }
        None
    }
}

impl World for Live {
    fn now(&self) -> Moment {
        clock::now()
    }

    fn spawn(&mut self, attempt: AttemptContext, variables: Vec<Variable>) -> Input {
        if attempt.attempt > 1 {
            self.files.rewind();
        }
        self.is_out_of_reach = false;
        self.refusals.clear();
        contained(|| self.note_files(attempt.attempt));
        contained(|| self.begin_to_watch());
        let create = || AttemptCgroup::create(attempt.attempt);
        self.cgroup = self.wants_cgroup.then(|| contained(create)).flatten().flatten();
        let mut environment = environment::of_attempt(self.run_id, attempt);
        environment.extend(variables);
        environment.extend(self.moved_to.clone());
        let setting = Setting {
            environment: &environment,
            standard: self.files.standard(),
            directory: self.directory.as_deref(),
            new_session: self.new_session,
            given: &self.given,
            cgroup: self.cgroup.as_ref().map(AttemptCgroup::procs),
            umask: None,
            user: None,
            trace: (self.observation.trace != TraceMode::Off).then_some(TraceRequest {
                follows: self.observation.trace != TraceMode::Main,
                is_required: self.observation.trace == TraceMode::Required,
            }),
        };
        let started = match spawn::spawn(&self.program, &setting) {
            Err(failure) if failure.errno == Errno::EMFILE as i32 && !failure.is_exec => {
                // What only adds evidence makes room for the job's pidfd.
                self.gatherer.iter_mut().for_each(EvidenceGatherer::release_descriptor);
                spawn::spawn(&self.program, &setting)
            }
            started => started,
        };
        match started {
            Ok(child) => {
                self.waiting.begin_attempt();
                self.tree.started(child.pid);
                contained(|| self.begin_tracing(&child));
                // A short job, whose descriptors ours go with, does not pay for looking for them.
                self.release_at = (!self.may_restart).then(|| clock::now() + LATE);
                self.listen_at = Some(clock::now() + LATE);
                Input::Spawned(self.child.insert(child).pid)
            }
            Err(failure) => Input::SpawnFailed(failure),
        }
    }

    fn follow(&mut self) {
        let Some(child) = &self.child else { return };
        let (pid, is_in_cgroup) = (child.pid, child.is_in_cgroup);
        contained(|| self.gatherer.iter_mut().for_each(|gatherer| gatherer.follow(pid)));
        // A cgroup that cannot be entered is empty, and goes.
        contained(|| drop(self.cgroup.take_if(|_| !is_in_cgroup)));
        contained(|| self.start_signal_probe(pid));
    }

    fn wait(&mut self, deadline: Option<Moment>) -> Input {
        let taken_in = contained(|| match self.pending.len() {
            0 => self.try_wait(deadline),
            // Standard signals coalesce in the kernel while we write about others.
            1..PENDING_MAX => self.read_ahead(),
            _ => Ok(()),
        });
        match taken_in {
            Some(Ok(())) => {}
            Some(Err(error)) => self.failed(&error),
            // What the hook has reported may happen again at once.
            None => self.waiting.pause(),
        }
        self.pending.pop_front().unwrap_or(Input::Woken)
    }

    fn send(&mut self, to: Target, signal: Signal, value: Option<i32>) -> Result<(), SysError> {
        self.signal(to, signal, value)
    }

    fn inspect(&mut self) -> Option<Input> {
        let begun = contained(|| self.stall_reports.begin(&self.tree));
        let text = match begun {
            Some(Ok(())) => return None,
            Some(Err(error)) => format!("the job's stacks cannot be read: {error}"),
            None => "the job's stacks cannot be read".to_owned(),
        };
        Some(Input::StallReport(vec![Event::Notice { text }]))
    }

    fn look(&mut self) -> Input {
        // What could not be looked at is not taken for gone.
        let remaining = contained(|| self.remaining()).unwrap_or_default();
        self.pending.push_back(Input::Tree(remaining));
        self.pending.pop_front().unwrap_or(Input::Woken)
    }
}
