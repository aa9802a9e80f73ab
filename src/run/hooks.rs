//! `--on-failure`, `--on-success`, `--on-end`: commands of the user that are run once the end is known.
//!
//! A hook never changes the exit status. It leads a session of its own, and is ended with its process group when its
//! time is over or a signal asks us to stop.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use crate::model::history::AttemptHistory;
use crate::model::outcome::{Termination, WaitStatus};
use crate::model::signal::Signal;
use crate::plan::HookPlan;
use crate::run::environment::Variable;
use crate::supervisor::Outcome;
use crate::sys::entry::Given;
use crate::sys::signals::{self, SignalFd};
use crate::sys::spawn::{Child, Program, Setting};
use crate::sys::wait::Waited;
use crate::sys::{clock, poll, spawn, wait};

/// How long a hook that was killed is waited for.
const KILL_PATIENCE: Duration = Duration::from_secs(1);

/// What a hook finds in its environment, and its standard input.
pub(super) struct HookFacts<'a> {
    pub(super) run_id: String,
    /// `--name`, or the base name of the program.
    pub(super) name: String,
    pub(super) outcome: &'a Outcome,
    pub(super) attempt: AttemptHistory,
    pub(super) log: Option<&'a Path>,
    /// What the job wrote (`--quiet-success`): the hook's standard input.
    pub(super) output: Option<File>,
}

/// Runs the hooks that are asked for, one after the other; returns what went wrong, a line each.
pub(super) fn run(
    plan: &HookPlan,
    facts: &HookFacts<'_>,
    given: &Given,
    signals: &SignalFd,
) -> Vec<String> {
    let has_failed = facts.outcome.exit_status != 0;
    let own = if has_failed {
        ("on-failure", &plan.on_failure)
    } else {
        ("on-success", &plan.on_success)
    };
    let hooks = [own, ("on-end", &plan.on_end)];
    let asked = hooks.into_iter().filter_map(|(name, command)| Some((name, command.as_ref()?)));
    let environment = variables(facts);
    let mut complaints = Vec::new();
    for (name, command) in asked {
        if let Err(why) = run_one(command, (&environment, facts), (given, signals), plan.timeout) {
            complaints.push(format!("--{name}: {why}"));
        }
    }
    complaints
}

fn variables(facts: &HookFacts<'_>) -> Vec<Variable> {
    let HookFacts { outcome, attempt, .. } = facts;
    let verdict = &outcome.verdict;
    let signal = match attempt.end {
        Some(Termination::Signaled { signal, .. }) => Some(signal.to_string()),
        _ => None,
    };
    let evidence =
        verdict.evidence.iter().map(|one| one.fact.as_str()).collect::<Vec<_>>().join("; ");
    let log = facts.log.and_then(|log| std::path::absolute(log).ok());
    let values = [
        ("RUN_ID", Some(facts.run_id.clone())),
        ("ATTEMPT", Some(attempt.number.to_string())),
        ("JOB_NAME", Some(facts.name.clone())),
        ("VERDICT", Some(verdict.kind.word().to_owned())),
        ("CONFIDENCE", Some(verdict.confidence.to_string())),
        ("EVIDENCE", Some(evidence)),
        ("EXIT_STATUS", Some(outcome.exit_status.to_string())),
        ("SIGNAL", signal),
        ("LOG_FILE", log.map(|log| log.to_string_lossy().into_owned())),
        ("PREVIOUS_VERDICT", None),
    ];
    // A NUL byte cannot be in a variable.
    let whole = |value: String| value.replace('\0', "\\0");
    values.map(|(name, value)| (format!("CHILDMINDER_{name}"), value.map(whole))).into()
}

fn run_one(
    command: &OsString,
    (environment, facts): (&[Variable], &HookFacts<'_>),
    (given, signals): (&Given, &SignalFd),
    timeout: Duration,
) -> Result<(), String> {
    let input = match &facts.output {
        // Each hook reads it from the beginning.
        Some(output) => reopened(output),
        None => File::open("/dev/null"),
    };
    let input = input.map_err(|error| format!("open its standard input: {error}"))?;
    let words = ["/bin/sh".into(), "-c".into(), command.clone()];
    let setting = Setting {
        environment,
        standard: [Some(input.as_fd()), None, None],
        directory: None,
        new_session: true,
        given,
        cgroup: None,
        umask: None,
        user: None,
        trace: None,
    };
    let child = spawn::spawn(&Program::new(&words, None), &setting)
        .map_err(|failure| format!("it was not started: {failure}"))?;
    let deadline = clock::now() + timeout;
    loop {
        let fds = [Some(child.pidfd.as_fd()), Some(signals.as_fd())];
        let [has_ended, has_signals] = poll::wait(fds, Some(deadline)).unwrap_or([false; 2]);
        if has_ended {
            return ended(&child);
        }
        let is_stopped = has_signals && signals.ask_to_stop();
        if is_stopped || clock::now() >= deadline {
            end(&child);
            let why = if is_stopped {
                "a signal asked to stop"
            } else {
                "it took longer than --hook-timeout"
            };
            return Err(format!("it was killed: {why}"));
        }
    }
}

/// The file has no name: it is opened again through its descriptor, for an offset of its own.
fn reopened(file: &File) -> std::io::Result<File> {
    use std::os::fd::AsRawFd;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn ended(child: &Child) -> Result<(), String> {
    match wait::take(child.pid) {
        Ok((Waited::Changed(_, WaitStatus::Ended(Termination::Exited(0))), _)) => Ok(()),
        Ok((Waited::Changed(_, WaitStatus::Ended(end)), _)) => Err(format!("it {end}")),
        _ => Err("its status was lost".into()),
    }
}

/// Ends the hook and what is in its process group, and reaps it.
fn end(child: &Child) {
    // It leads the group, and is not reaped: the number is its own.
    signals::send_to_group(child.pid, Signal::KILL).ok();
    let deadline = clock::now() + KILL_PATIENCE;
    poll::wait([Some(child.pidfd.as_fd())], Some(deadline)).ok();
    wait::take(child.pid).ok();
}
