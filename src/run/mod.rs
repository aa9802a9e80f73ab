//! Where the edges meet: the plan, the world, the supervisor and the sinks.
//!
//! Decides nothing. Called by `bin/childminder.rs`.

mod canary;
mod deaths;
mod environment;
mod exits;
mod fate;
mod lineage;
mod live;
mod oom_counters;
mod place;
mod prepare;
mod quarantine;
mod recording;
mod senders;
mod sinks;
mod telemetry;
mod witness;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::diagnose;
use crate::model::event::Event;
use crate::model::outcome::{OWN_FAILURE, RunEnd, Termination};
use crate::model::process::RunId;
use crate::model::signal::Signal;
use crate::model::text::{Escaped, ShellQuoted};
use crate::model::time::Moment;
use crate::model::verdict::{Confidence, Evidence, Quality, Verdict, VerdictKind};
use crate::plan::{JobPlan, LogTarget, RunPlan, Work};
use crate::run::fate::LastAttempt;
use crate::run::live::Live;
use crate::run::prepare::StandardFiles;
use crate::run::sinks::Sinks;
use crate::sink::log_file::{LogFile, LogName};
use crate::sink::{SinkError, console};
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
            StartError::Log(error) => write!(f, "{error} (-l)"),
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
    /// Starts an attempt; the answer is `Spawned` or `SpawnFailed`. What runs between the start of the
    /// process and the answer cannot fail.
    fn spawn(&mut self, attempt: AttemptContext) -> Input;
    /// Begins to observe the attempt that was just started, once the loop knows its pid: a failure here
    /// costs evidence and nothing else.
    fn follow(&mut self);
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
    report_panics();
    // Without a directory that can be named the record does without.
    let began_in = plan.record.as_ref().and_then(|_| std::env::current_dir().ok());
    if let Some(directory) = &plan.working_directory {
        std::env::set_current_dir(directory)
            .map_err(StartError::file("change to working directory", directory))?;
    }
    let signals = SignalFd::open()?;
    match &plan.work {
        Work::Canary(canary) => {
            let word = canary.function.word();
            let log = LogFile::open(&plan.log, &log_name(word)).map_err(StartError::Log)?;
            let run_id = run_id();
            let told = telemetry::prepare(plan, run_id, log.file());
            let ids = (run_id, told.as_ref().and_then(|told| told.borrow().trace_id()));
            let record = recording::sink(plan, ids, began_in, log.file());
            let sinks = Sinks::new(log, &plan.log).of(plan);
            let mut sinks = sinks.with_record(record).with_telemetry(told);
            match canary::run(canary, &signals, &mut sinks) {
                Ok(status) => {
                    let end = RunEnd { exit_status: status, is_full_success: status == 0 };
                    sinks.close(end, &signals);
                    Ok(status)
                }
                Err(error) => {
                    sinks.undo();
                    Err(error.into())
                }
            }
        }
        Work::Job(job) => {
            // To open a FIFO takes until somebody opens its other end: we can be ended meanwhile.
            let files = given.mask.while_restored(|| StandardFiles::open(job))??;
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
            let told = telemetry::prepare(plan, world.run_id, log.file());
            world.telemetry.clone_from(&told);
            world.moved_to =
                environment::moved_to(plan.working_directory.as_deref(), job.directory.as_deref());
            world.needs_output = plan.log.target == LogTarget::Stdout;
            let ids = (world.run_id, told.as_ref().and_then(|told| told.borrow().trace_id()));
            let record = recording::sink(plan, ids, began_in, log.file());
            let sinks = Sinks::new(log, &plan.log).of(plan);
            let mut sinks = sinks.with_record(record).with_telemetry(told);
            let outcome = mind(job, &mut world, &mut sinks);
            let is_full_success = outcome.verdict.kind == VerdictKind::Success;
            let end = RunEnd { exit_status: outcome.exit_status, is_full_success };
            sinks.close(end, &world.signals);
            Ok(outcome.exit_status)
        }
    }
}

/// Reports each panic of any thread on standard error; what fails each time that it is tried, once.
fn report_panics() {
    let reported = Mutex::new(BTreeSet::new());
    panic::set_hook(Box::new(move |panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        if reported.try_lock().is_ok_and(|mut reported| !reported.insert(at.clone())) {
            return;
        }
        let reason = panic.payload_as_str().unwrap_or("unknown reason");
        console::say_of_panic(&format!("internal error at {at}: {}", Escaped(reason)));
    }));
}

/// Says on standard error that nothing was started, and why; waits for a reader for a second at most.
pub fn refuse(line: &str) {
    // If standard error is closed, the status still tells.
    console::say(line).ok();
    if let Ok(signals) = SignalFd::open() {
        console::drain(clock::now() + REFUSAL_PATIENCE, &signals);
    }
}

/// How long a refusal waits for a reader.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);

/// Does what may fail without costing the job anything: a panic in it is reported by the hook of [`run`],
/// and there is no result.
fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Minds the job. A panic of ours never costs its status: what follows is waited for without the
/// supervisor.
fn mind(job: &JobPlan, world: &mut impl World, sinks: &mut Sinks) -> Outcome {
    let mut fate = LastAttempt::default();
    let minded = catch_unwind(AssertUnwindSafe(|| mind_all(job, world, sinks, &mut fate)));
    minded.unwrap_or_else(|_| {
        sinks.complain("internal error: the job is waited for, and not restarted".to_owned());
        mind_the_rest(job, world, sinks, &mut fate)
    })
}

/// The loop: waits, asks the supervisor, does what it is told.
fn mind_all(
    job: &JobPlan,
    world: &mut impl World,
    sinks: &mut Sinks,
    fate: &mut LastAttempt,
) -> Outcome {
    let command = ShellQuoted(&job.command).to_string();
    // The jitter is for restarts only.
    let seed = if job.policy.may_restart() { u64::from_ne_bytes(clock::random()) } else { 0 };
    let mut supervisor = Supervisor::new(job.policy.clone(), command, seed);
    let mut answers = VecDeque::from([Input::Begin]);
    let mut was_due = false;
    loop {
        let deadline = supervisor.next_deadline();
        let input = match answers.pop_front() {
            Some(answer) => answer,
            // Not even a storm of signals holds up what is due, nor does that hold up what has happened.
            None if !was_due && deadline.is_some_and(|at| at <= world.now()) => {
                was_due = true;
                Input::Woken
            }
            None => {
                was_due = false;
                let retry = sinks.flush();
                world.wait([deadline, retry].into_iter().flatten().min())
            }
        };
        fate.note(&input);
        let mut is_sent = true;
        for action in supervisor.step(world.now(), input) {
            match action {
                Action::Spawn(attempt) => {
                    sinks.flush();
                    let answer = world.spawn(attempt);
                    fate.note(&answer);
                    if fate.runs.is_some() {
                        world.follow();
                    }
                    answers.push_back(answer);
                }
                Action::Send(to, signal) => {
                    if to == Target::Ourselves {
                        sinks.flush();
                    }
                    is_sent = told(world.send(to, signal, None), sinks);
                }
                Action::Forward(signal, value) => {
                    is_sent = told(world.send(Target::Job, signal, value), sinks);
                }
                Action::Look => answers.push_back(world.look()),
                Action::Judge(facts) => answers.push_back(Input::Judged(diagnose::judge(&facts))),
                // What the kernel refused was not forwarded.
                Action::Publish(Event::Forwarded { .. }) if !is_sent => {}
                Action::Publish(event) => {
                    sinks.publish(&event);
                    fate.note_published(&event);
                }
                Action::Finish(outcome) => return outcome,
            }
        }
    }
}

/// Waits for a job that runs, without the supervisor: requests to stop are passed on, with `-c` it is
/// continued, and nothing else is done.
fn mind_the_rest(
    job: &JobPlan,
    world: &mut impl World,
    sinks: &mut Sinks,
    fate: &mut LastAttempt,
) -> Outcome {
    let send = |world: &mut dyn World, sinks: &mut Sinks, signal| {
        contained(|| told(world.send(Target::Job, signal, None), sinks));
    };
    while fate.runs.is_some() {
        // Also what had stopped it before.
        if fate.is_stopped && job.policy.continue_stopped {
            fate.is_stopped = false;
            send(world, sinks, Signal::CONT);
        }
        let retry = sinks.flush();
        let input = contained(|| world.wait(retry)).unwrap_or(Input::Woken);
        fate.note(&input);
        match input {
            Input::Signal(received) if received.info.signal.asks_to_stop() => {
                send(world, sinks, received.info.signal);
            }
            _ => {}
        }
    }
    if let Some(event) = fate.take_unlogged() {
        sinks.publish(&event);
    }
    let fact = match fate.ended {
        Some(end) => format!("the job {end}; childminder failed and did not judge it"),
        None => "childminder failed before the job ran".to_owned(),
    };
    let verdict = Verdict {
        kind: if fate.ended.is_some_and(Termination::is_success) {
            VerdictKind::Success
        } else {
            VerdictKind::Unknown
        },
        confidence: Confidence::Possible,
        evidence: vec![Evidence { fact, source: "waitid(2)", quality: Quality::Exact }],
    };
    sinks.publish(&Event::Judged(verdict.clone()));
    Outcome { exit_status: fate.ended.map_or(OWN_FAILURE, Termination::exit_status), verdict }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::policy::Policy;
    use crate::model::process::Pid;
    use crate::model::usage::ResourceUsage;
    use crate::plan::{LogFormat, LogPlan, LogTarget, Observation};

    /// A world that panics where a script says so.
    #[derive(Default)]
    struct Scripted {
        inputs: VecDeque<Option<Input>>,
        spawned: u32,
        sent: Vec<Signal>,
        cannot_follow: bool,
    }

    impl World for Scripted {
        fn now(&self) -> Moment {
            Moment(Duration::ZERO)
        }

        fn spawn(&mut self, _: AttemptContext) -> Input {
            self.spawned += 1;
            Input::Spawned(Pid(7))
        }

        fn follow(&mut self) {
            if self.cannot_follow {
                panic!("a fault of the test's own");
            }
        }

        fn wait(&mut self, _: Option<Moment>) -> Input {
            self.inputs.pop_front().expect("the script goes on").expect("a fault of the test's own")
        }

        fn send(&mut self, _: Target, signal: Signal, _: Option<i32>) -> Result<(), SysError> {
            self.sent.push(signal);
            Ok(())
        }

        fn look(&mut self) -> Input {
            panic!("a fault of the test's own")
        }
    }

    /// Minds a scripted job with a restart policy; returns the outcome and the log.
    fn minded(inputs: Vec<Option<Input>>) -> (Outcome, String) {
        minded_in(&mut Scripted { inputs: inputs.into(), ..Scripted::default() })
    }

    fn minded_in(world: &mut Scripted) -> (Outcome, String) {
        let dir = tempfile::tempdir().expect("a directory");
        let target = LogTarget::Directory(dir.path().to_owned());
        let plan = LogPlan { target, format: LogFormat::Text, delete_on_success: false };
        let name = LogName { command: "job".into(), host: "h".into(), pid: 1 };
        let log = LogFile::open(&plan, &name).expect("a log");
        let path = log.file().expect("a file").to_owned();
        let job = JobPlan {
            command: vec!["job".into()],
            input: None,
            output: None,
            error: None,
            append: false,
            directory: None,
            policy: Policy { continue_stopped: true, ..Policy::default() },
            observation: Observation::default(),
        };
        let mut sinks = Sinks::new(log, &plan);
        let outcome = mind(&job, world, &mut sinks);
        sinks.flush();
        assert_eq!(world.spawned, 1, "never a second copy");
        (outcome, std::fs::read_to_string(path).expect("the log"))
    }

    fn ended(end: Termination) -> Option<Input> {
        Some(Input::JobEnded(end, ResourceUsage::default(), Box::default()))
    }

    #[test]
    fn a_panic_while_the_job_runs_leaves_it_minded() {
        let killed = Termination::Signaled { signal: Signal::KILL, core_dumped: false };
        let (outcome, log) = minded(vec![Some(Input::Woken), None, None, ended(killed)]);
        assert_eq!((outcome.exit_status, outcome.verdict.kind), (137, VerdictKind::Unknown));
        assert!(log.contains("internal error: the job is waited for"), "{log}");
        assert!(log.contains("child 7 terminated by signal 9 (SIGKILL)"), "{log}");
    }

    /// Whatever fails after the start of the process, the job is known.
    #[test]
    fn a_job_that_cannot_be_followed_is_minded() {
        let inputs = VecDeque::from([ended(Termination::Exited(5))]);
        let mut world = Scripted { inputs, cannot_follow: true, ..Scripted::default() };
        let (outcome, log) = minded_in(&mut world);
        assert_eq!(outcome.exit_status, 5);
        assert!(log.contains("child 7 exited with status 5"), "{log}");
    }

    #[test]
    fn a_job_that_stopped_before_a_panic_is_continued() {
        let stopped = || Some(Input::JobStopped(Signal::STOP));
        for inputs in [vec![stopped(), None], vec![None, stopped()]] {
            let inputs = inputs.into_iter().chain([ended(Termination::Exited(5))]).collect();
            let mut world = Scripted { inputs, ..Scripted::default() };
            let (outcome, _) = minded_in(&mut world);
            assert_eq!((outcome.exit_status, world.sent.last()), (5, Some(&Signal::CONT)));
        }
    }

    #[test]
    fn a_panic_after_the_job_has_ended_does_not_cost_its_status() {
        let (outcome, log) = minded(vec![ended(Termination::Exited(3))]);
        assert_eq!(outcome.exit_status, 3);
        assert_eq!(log.matches("child 7 exited with status 3").count(), 1, "{log}");
        assert!(
            log.contains("verdict: unknown (possible): the job exited with status 3;"),
            "{log}"
        );
        let (outcome, _) = minded(vec![ended(Termination::Exited(0))]);
        assert_eq!((outcome.exit_status, outcome.verdict.kind), (0, VerdictKind::Success));
    }
}
