//! Where the edges meet: the plan, the world, the supervisor and the sinks.
//!
//! Decides nothing. Called by `bin/childminder.rs`.

mod deaths;
mod environment;
mod exits;
mod live;
mod oom_counters;
mod prepare;
mod probe;
mod quarantine;
mod recording;
mod senders;
mod sinks;
mod telemetry;
mod witness;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::diagnose;
use crate::model::event::Event;
use crate::model::process::RunId;
use crate::model::signal::Signal;
use crate::model::text::{Escaped, ShellQuoted};
use crate::model::time::Moment;
use crate::model::verdict::VerdictKind;
use crate::plan::{JobPlan, LogTarget, RunPlan, Work};
use crate::run::live::Live;
use crate::run::prepare::Files;
use crate::run::sinks::Sinks;
use crate::sink::SinkError;
use crate::sink::log_file::{LogFile, LogName};
use crate::supervisor::{Action, AttemptContext, Input, Outcome, Supervisor, Target};
use crate::sys::entry::Given;
use crate::sys::signals::SignalFd;
use crate::sys::{SysError, clock};

/// What could not be done before the job was started. Nothing is left behind.
#[derive(Debug)]
pub enum StartError {
    /// A file or directory of the plan.
    File {
        /// What we tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The log.
    Log(SinkError),
    /// The kernel.
    System(SysError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::File { action, path, .. } => {
                write!(f, "{action} '{}'", Escaped(&path.to_string_lossy()))
            }
            StartError::Log(error) => error.fmt(f),
            StartError::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::File { source, .. } => Some(source),
            StartError::Log(error) => error.source(),
            StartError::System(error) => error.source(),
        }
    }
}

impl From<SysError> for StartError {
    fn from(error: SysError) -> StartError {
        StartError::System(error)
    }
}

impl StartError {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError {
        let path = path.to_owned();
        move |source| StartError::File { action, path, source }
    }
}

/// What the supervisor acts on: the real one, or a scripted one in tests.
pub trait World {
    /// Returns the time.
    fn now(&self) -> Moment;
    /// Starts an attempt; the answer is `Spawned` or `SpawnFailed`.
    fn spawn(&mut self, attempt: AttemptContext) -> Input;
    /// Sleeps until something happens, at the latest until the deadline.
    fn wait(&mut self, deadline: Option<Moment>) -> Input;
    /// Sends a signal; an integer goes with it as sigqueue(3) sends it.
    ///
    /// # Errors
    ///
    /// The kernel refused; a process that has gone is no error.
    fn send(&mut self, to: Target, signal: Signal, value: Option<i32>) -> Result<(), SysError>;
    /// Looks which processes of the job live.
    fn look(&mut self) -> Input;
}

/// Minds what the plan says and returns the exit status. `given` is what our own parent gave us;
/// all signals are blocked by now.
///
/// # Errors
///
/// Something could not be prepared; nothing was started, and nothing is left behind.
pub fn run(plan: &RunPlan, given: Given) -> Result<u8, StartError> {
    // Without a directory that can be named the record does without.
    let began_in = plan.record.as_ref().and_then(|_| std::env::current_dir().ok());
    if let Some(directory) = &plan.working_directory {
        std::env::set_current_dir(directory)
            .map_err(StartError::file("change to working directory", directory))?;
    }
    let signals = SignalFd::open()?;
    match &plan.work {
        Work::Probe(probe) => {
            let word = probe.function.word();
            let log = LogFile::open(&plan.log, &log_name(word)).map_err(StartError::Log)?;
            let run_id = run_id();
            let told = telemetry::prepare(plan, run_id);
            let ids = (run_id, told.as_ref().and_then(|told| told.borrow().trace_id()));
            let record = recording::sink(plan, ids, began_in, log.file());
            let mut sinks = Sinks::new(log, &plan.log).with_record(record).with_telemetry(told);
            match probe::run(probe, &signals, &mut sinks) {
                Ok(()) => {
                    sinks.close((0, true), &signals);
                    Ok(0)
                }
                Err(error) => {
                    sinks.undo();
                    Err(error.into())
                }
            }
        }
        Work::Job(job) => {
            // To open a FIFO takes until somebody opens its other end: we can be ended meanwhile.
            let files = given.mask.while_restored(|| Files::open(job))??;
            let command = job.command.first().map(|word| word.to_string_lossy());
            let log = match LogFile::open(&plan.log, &log_name(&command.unwrap_or_default())) {
                Ok(log) => log,
                Err(error) => {
                    files.undo();
                    return Err(StartError::Log(error));
                }
            };
            // The last step that can fail: from here on the job gets its run.
            let mut world = match files
                .ready(job.append)
                .and_then(|files| Live::new(job, files, signals, given).map_err(StartError::from))
            {
                Ok(world) => world,
                Err(error) => {
                    log.undo();
                    return Err(error);
                }
            };
            if let Some(file) = log.file() {
                world.quarantine_beside(file);
            }
            let told = telemetry::prepare(plan, world.run_id);
            world.telemetry.clone_from(&told);
            world.moved_to =
                environment::moved_to(plan.working_directory.as_deref(), job.directory.as_deref());
            world.needs_output = plan.log.target == LogTarget::Stdout;
            let ids = (world.run_id, told.as_ref().and_then(|told| told.borrow().trace_id()));
            let record = recording::sink(plan, ids, began_in, log.file());
            let mut sinks = Sinks::new(log, &plan.log).with_record(record).with_telemetry(told);
            let outcome = mind(job, &mut world, &mut sinks);
            let is_full_success = outcome.verdict.kind == VerdictKind::Success;
            sinks.close((outcome.exit_status, is_full_success), &world.signals);
            Ok(outcome.exit_status)
        }
    }
}

/// The loop: waits, asks the supervisor, does what it is told.
fn mind(job: &JobPlan, world: &mut impl World, sinks: &mut Sinks) -> Outcome {
    let command = ShellQuoted(&job.command).to_string();
    // The jitter is for restarts only.
    let seed = if job.policy.may_restart() { u64::from_ne_bytes(clock::random()) } else { 0 };
    let mut supervisor = Supervisor::new(job.policy.clone(), command, seed);
    let mut answers = VecDeque::from([Input::Begin]);
    loop {
        let deadline = supervisor.next_deadline();
        let input = match answers.pop_front() {
            Some(answer) => answer,
            // Not even a storm of signals holds up what is due.
            None if deadline.is_some_and(|at| at <= world.now()) => Input::Woken,
            None => world.wait(deadline),
        };
        let mut is_sent = true;
        for action in supervisor.step(world.now(), input) {
            match action {
                Action::Spawn(attempt) => answers.push_back(world.spawn(attempt)),
                Action::Send(to, signal) => is_sent = told(world.send(to, signal, None), sinks),
                Action::Forward(signal, value) => {
                    is_sent = told(world.send(Target::Job, signal, value), sinks);
                }
                Action::Look => answers.push_back(world.look()),
                Action::Judge(facts) => answers.push_back(Input::Judged(diagnose::judge(&facts))),
                // What the kernel refused was not forwarded.
                Action::Publish(Event::Forwarded { .. }) if !is_sent => {}
                Action::Publish(event) => sinks.publish(&event),
                Action::Finish(outcome) => return outcome,
            }
        }
    }
}

/// Reports a refusal of the kernel; returns whether there was none.
fn told(result: Result<(), SysError>, sinks: &mut Sinks) -> bool {
    if let Err(error) = &result {
        let text = format!("could not {error}: {}", error.source.desc());
        sinks.publish(&Event::Notice { text });
    }
    result.is_ok()
}

/// A new name for a run.
fn run_id() -> RunId {
    let unix_ms = clock::wall().0.as_millis();
    RunId::new(u64::try_from(unix_ms).unwrap_or(u64::MAX), &clock::random())
}

fn log_name(command: &str) -> LogName {
    let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    LogName { command: command.to_owned(), host, pid: nix::unistd::getpid().as_raw() }
}
