//! Where the edges meet: the plan, the world, the supervisor and the sinks.
//!
//! Decides nothing. Called by `programs`.

mod canary;
mod canary_calls;
mod crashes;
mod deaths;
mod doctor;
mod environment;
mod evidence;
mod exits;
mod fate;
mod hooks;
mod kept_output;
mod lineage;
mod live;
mod mind;
mod oom_counters;
mod place;
mod prepare;
mod quarantine;
mod recording;
mod run_id;
mod senders;
mod sinks;
mod stall;
mod start_error;
mod telemetry;
mod termination_log;
mod tracing;
mod world;

use std::collections::BTreeSet;
use std::panic;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use crate::model::outcome::RunEnd;
use crate::model::text::Escaped;
use crate::model::verdict::VerdictKind;
use crate::plan::{CanaryPlan, JobPlan, LogTarget, RunPlan, Work};
use crate::run::hooks::HookFacts;
use crate::run::live::Live;
use crate::run::mind::mind;
use crate::run::prepare::StandardFiles;
use crate::run::sinks::Sinks;
use crate::run::start_error::StartError;
use crate::run::telemetry::TelemetrySink;
use crate::sink::console;
use crate::sink::log_file::{LogFile, LogName};
use crate::supervisor::Outcome;
use crate::sys::entry::Given;
use crate::sys::signals::SignalFd;
use crate::sys::{clock, host};

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
        Work::Canary(canary) => run_canary(plan, canary, &signals, began_in),
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
            let exporter = telemetry::prepare(plan, world.run_id, log.file());
            world.on_sample = exporter.as_ref().and_then(TelemetrySink::on_sample);
            world.moved_to =
                environment::moved_to(plan.working_directory.as_deref(), job.directory.as_deref());
            world.needs_output = plan.log.target == LogTarget::Stdout || job.hooks.is_asked();
            let ids = (world.run_id, exporter.as_ref().and_then(TelemetrySink::trace_id));
            let record = recording::sink(plan, ids, began_in, log.file());
            let sinks = Sinks::new(log, &plan.log).of(plan);
            let mut sinks = sinks.with_record(record).with_telemetry(exporter);
            let outcome = mind(job, &mut world, &mut sinks);
            let is_full_success = outcome.verdict.kind == VerdictKind::Success;
            let end = RunEnd { exit_status: outcome.exit_status, is_full_success };
            conclude(plan, job, &outcome, (&mut world, &mut sinks));
            sinks.close(end, &world.signals);
            Ok(outcome.exit_status)
        }
    }
}

/// Shows what was kept of a job that failed, and runs the hooks.
fn conclude(
    plan: &RunPlan,
    job: &JobPlan,
    outcome: &Outcome,
    (world, sinks): (&mut Live, &mut Sinks),
) {
    let kept = world.take_kept_output();
    if let Some(kept) = &kept {
        sinks.conclude_quietly(kept, outcome.exit_status != 0, &world.signals);
    }
    if outcome.exit_status != 0
        && let Some(place) = termination_log::place(job.termination_log.as_deref())
        && let Err(error) = termination_log::write(&place, &outcome.verdict, &world.last_words())
    {
        sinks.complain(format!("could not write {}: {error}", place.display()));
    }
    if !job.hooks.is_asked() {
        return;
    }
    sinks.flush();
    let facts = HookFacts {
        run_id: world.run_id.to_string(),
        name: recording::name_of(plan).to_string_lossy().into_owned(),
        outcome,
        attempt: sinks.history().attempt,
        log: sinks.log_file(),
        output: kept.and_then(|kept| kept.descriptor().ok()),
    };
    let complaints = hooks::run(&job.hooks, &facts, &world.given, &world.signals);
    complaints.into_iter().for_each(|text| sinks.complain(text));
}

pub use crate::run::doctor::doctor;

/// Runs built-in functions; they have no job.
fn run_canary(
    plan: &RunPlan,
    canary: &CanaryPlan,
    signals: &SignalFd,
    began_in: Option<PathBuf>,
) -> Result<u8, StartError> {
    let log = LogFile::open(&plan.log, &log_name(&canary.name())).map_err(StartError::Log)?;
    let run_id = run_id::new();
    let exporter = telemetry::prepare(plan, run_id, log.file());
    let ids = (run_id, exporter.as_ref().and_then(TelemetrySink::trace_id));
    let record = recording::sink(plan, ids, began_in, log.file());
    let sinks = Sinks::new(log, &plan.log).of(plan);
    let mut sinks = sinks.with_record(record).with_telemetry(exporter);
    match canary::run(canary, signals, &mut sinks) {
        Ok(status) => {
            let end = RunEnd { exit_status: status, is_full_success: status == 0 };
            sinks.close(end, signals);
            Ok(status)
        }
        Err(error) => {
            sinks.undo();
            Err(error.into())
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
    // If standard error is closed, the status still says it.
    console::say(line).ok();
    if let Ok(signals) = SignalFd::open() {
        console::drain(clock::now() + REFUSAL_PATIENCE, &signals);
    }
}

/// How long a refusal waits for a reader.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);

fn log_name(command: &str) -> LogName {
    let host = host::name().to_string_lossy().into_owned();
    LogName { command: command.to_owned(), host, pid: nix::unistd::getpid().as_raw() }
}
