//! The loop: waits for an input, asks the supervisor, and carries out its actions. Decides nothing.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::diagnose;
use crate::model::event::Event;
use crate::model::outcome::{OWN_FAILURE, Termination};
use crate::model::signal::Signal;
use crate::model::text::ShellQuoted;
use crate::model::verdict::{Confidence, Evidence, Quality, Verdict, VerdictKind};
use crate::plan::JobPlan;
use crate::run::fate::LastAttempt;
use crate::run::sinks::Sinks;
use crate::run::world::{World, contained};
use crate::supervisor::{Action, Input, Outcome, Supervisor, Target};
use crate::sys::{SysError, clock};

/// Minds the job. A panic of ours never costs its status: what follows is waited for without the
/// supervisor.
pub(super) fn mind(job: &JobPlan, world: &mut impl World, sinks: &mut Sinks) -> Outcome {
    let mut fate = LastAttempt::default();
    let minded = catch_unwind(AssertUnwindSafe(|| mind_all(job, world, sinks, &mut fate)));
    minded.unwrap_or_else(|_| {
        sinks.complain("internal error: the job is waited for, and not restarted".to_owned());
        mind_the_rest(job, world, sinks, &mut fate)
    })
}

/// The loop with the supervisor.
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
                    let variables = sinks.begin_attempt(attempt.attempt);
                    let answer = world.spawn(attempt, variables);
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
                    is_sent = is_done(world.send(to, signal, None), sinks);
                }
                Action::Forward(signal, value) => {
                    is_sent = is_done(world.send(Target::Job, signal, value), sinks);
                }
                Action::Inspect => answers.extend(world.inspect()),
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

/// Waits for a job that runs, without the supervisor: requests to stop are passed on, with `-c` it is
/// continued, and nothing else is done.
fn mind_the_rest(
    job: &JobPlan,
    world: &mut impl World,
    sinks: &mut Sinks,
    fate: &mut LastAttempt,
) -> Outcome {
    let send = |world: &mut dyn World, sinks: &mut Sinks, signal| {
        contained(|| is_done(world.send(Target::Job, signal, None), sinks));
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
    if let Some(event) = fate.unpublished_end(sinks.history()) {
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
fn is_done(result: Result<(), SysError>, sinks: &mut Sinks) -> bool {
    if let Err(error) = &result {
        let text = format!("could not {error}: {}", error.source.desc());
        sinks.publish(&Event::Notice { text });
    }
    result.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::model::facts::Reach;
    use crate::model::outcome::SpawnFailure;
    use crate::model::policy::Policy;
    use crate::model::process::{Pid, Sender};
    use crate::model::signal::{Origin, SignalInfo};
    use crate::model::time::Moment;
    use crate::model::usage::ResourceUsage;
    use crate::plan::{LogFormat, LogPlan, LogTarget, Observation};
    use crate::run::environment::Variable;
    use crate::sink::log_file::{LogFile, LogName};
    use crate::supervisor::{AttemptContext, Received, Remaining};

    /// What happens next in a scripted world.
    enum Step {
        Input(Input),
        /// Nothing, until the deadline of the loop.
        Deadline,
        /// The world panics.
        Panic,
    }

    /// A world that follows a script; no process is started and no time passes.
    #[derive(Default)]
    struct Scripted {
        steps: VecDeque<Step>,
        now: Duration,
        /// What becomes of each attempt; it runs where nothing is said.
        spawns: VecDeque<Input>,
        spawned: u32,
        sent: Vec<(Target, Signal)>,
        cannot_follow: bool,
        cannot_look: bool,
    }

    impl World for Scripted {
        fn now(&self) -> Moment {
            Moment(self.now)
        }

        fn spawn(&mut self, _: AttemptContext, _: Vec<Variable>) -> Input {
            self.spawned += 1;
            self.spawns.pop_front().unwrap_or(Input::Spawned(Pid(7)))
        }

        fn follow(&mut self) {
            if self.cannot_follow {
                panic!("a fault of the test's own");
            }
        }

        fn wait(&mut self, deadline: Option<Moment>) -> Input {
            match self.steps.pop_front().expect("the script goes on") {
                Step::Input(input) => input,
                Step::Deadline => {
                    self.now = deadline.expect("there is a deadline").0;
                    Input::Woken
                }
                Step::Panic => panic!("a fault of the test's own"),
            }
        }

        fn send(&mut self, to: Target, signal: Signal, _: Option<i32>) -> Result<(), SysError> {
            self.sent.push((to, signal));
            Ok(())
        }

        fn inspect(&mut self) -> Option<Input> {
            Some(Input::StallReport(Vec::new()))
        }

        fn look(&mut self) -> Input {
            if self.cannot_look {
                panic!("a fault of the test's own");
            }
            Input::Tree(Remaining { is_gone: true, ..Remaining::default() })
        }
    }

    /// Minds a scripted job whose tree cannot be looked at, with `-c`; returns the outcome and the log.
    fn minded(steps: Vec<Step>) -> (Outcome, String) {
        minded_in(&mut Scripted { steps: steps.into(), cannot_look: true, ..Scripted::default() })
    }

    fn minded_in(world: &mut Scripted) -> (Outcome, String) {
        let minded = minded_by(&Policy { continue_stopped: true, ..Policy::default() }, world);
        assert_eq!(world.spawned, 1, "never a second copy");
        minded
    }

    fn minded_by(policy: &Policy, world: &mut Scripted) -> (Outcome, String) {
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
            quiet_success: None,
            hooks: crate::plan::HookPlan::default(),
            termination_log: None,
            directory: None,
            policy: policy.clone(),
            observation: Observation::default(),
        };
        let mut sinks = Sinks::new(log, &plan);
        let outcome = mind(&job, world, &mut sinks);
        sinks.flush();
        assert!(world.steps.is_empty(), "the run ended before the script did");
        (outcome, std::fs::read_to_string(path).expect("the log"))
    }

    /// Minds a job to its end and returns its status, its verdict, the signals that were sent, and the log.
    fn run(policy: &Policy, steps: Vec<Step>) -> (u8, VerdictKind, Vec<(Target, Signal)>, String) {
        let mut world = Scripted { steps: steps.into(), ..Scripted::default() };
        let (outcome, log) = minded_by(policy, &mut world);
        (outcome.exit_status, outcome.verdict.kind, world.sent, log)
    }

    fn requested(signal: Signal) -> Step {
        let sender = Sender::OutsideNamespace;
        let info = SignalInfo { signal, origin: Origin::Kill, sender, value: None };
        Step::Input(Input::Signal(Received { info, reach: Reach::OnlyUs, can_suspend: true }))
    }

    fn killed(signal: Signal) -> Step {
        ended(Termination::Signaled { signal, core_dumped: false })
    }

    fn ended(end: Termination) -> Step {
        Step::Input(Input::JobEnded(end, ResourceUsage::default(), Box::default()))
    }

    #[test]
    fn a_job_starts_and_ends_and_its_status_is_returned() {
        let (status, verdict, sent, log) =
            run(&Policy::default(), vec![ended(Termination::Exited(0))]);
        assert_eq!((status, verdict, sent), (0, VerdictKind::Success, vec![]));
        let lines: Vec<&str> = log.lines().collect();
        assert!(lines[0].ends_with("child job started in process 7"), "{log}");
        assert!(lines.last().is_some_and(|line| line.contains("verdict: success")), "{log}");
    }

    #[test]
    fn a_request_to_stop_is_passed_on_to_the_job() {
        let steps = vec![requested(Signal::TERM), killed(Signal::TERM)];
        let (status, verdict, sent, _) = run(&Policy::default(), steps);
        assert_eq!((status, verdict), (143, VerdictKind::StopRequested));
        assert_eq!(sent, [(Target::Job, Signal::TERM)]);
    }

    #[test]
    fn a_stopped_job_is_continued() {
        let policy = Policy { continue_stopped: true, ..Policy::default() };
        let steps = vec![
            Step::Input(Input::JobStopped(Signal::STOP)),
            Step::Deadline,
            Step::Input(Input::JobContinued),
            ended(Termination::Exited(0)),
        ];
        let (status, _, sent, log) = run(&policy, steps);
        assert_eq!(status, 0);
        assert!(sent.iter().all(|(_, signal)| *signal == Signal::CONT) && !sent.is_empty());
        assert!(log.contains("successfully sent child 7 SIGCONT"), "{log}");
    }

    #[test]
    fn a_failed_job_is_restarted_after_the_back_off() {
        let policy =
            Policy { restart_on: vec!["exit:3".parse().expect("a cause")], ..Policy::default() };
        let exits = |status| ended(Termination::Exited(status));
        let steps = vec![exits(3), Step::Deadline, exits(0)];
        let mut world = Scripted { steps: steps.into(), ..Scripted::default() };
        let (outcome, log) = minded_by(&policy, &mut world);
        assert_eq!((outcome.exit_status, world.spawned), (0, 2), "{log}");
        assert!(world.now >= policy.backoff.min, "it waited {:?}", world.now);
    }

    #[test]
    fn a_job_that_takes_too_long_is_ended() {
        let limit = Duration::from_secs(5);
        let policy = Policy { timeout: Some(limit), ..Policy::default() };
        let mut world = Scripted {
            steps: [Step::Deadline, Step::Deadline, killed(Signal::KILL)].into(),
            ..Scripted::default()
        };
        let (outcome, log) = minded_by(&policy, &mut world);
        assert_eq!((outcome.exit_status, outcome.verdict.kind), (124, VerdictKind::TimedOut));
        let signals: Vec<Signal> = world.sent.iter().map(|(_, signal)| *signal).collect();
        assert_eq!(signals, [Signal::TERM, Signal::CONT, Signal::KILL], "{log}");
        assert_eq!(world.now, limit + policy.grace());
    }

    #[test]
    fn a_job_that_cannot_be_started_gives_127() {
        let failure = SpawnFailure {
            step: "execute job".into(),
            errno: libc::ENOENT,
            is_exec: true,
            is_found: false,
            cause: None,
        };
        let spawns = [Input::SpawnFailed(failure)].into();
        let mut world = Scripted { spawns, ..Scripted::default() };
        let (outcome, log) = minded_in(&mut world);
        assert_eq!((outcome.exit_status, outcome.verdict.kind), (127, VerdictKind::ExecFailed));
        assert!(log.contains("execute job"), "{log}");
    }

    /// waitid(2) says that there is no such child: another process took its status.
    #[test]
    fn a_job_whose_status_is_lost_gives_125() {
        let (status, verdict, ..) = run(&Policy::default(), vec![Step::Input(Input::JobLost)]);
        assert_eq!((status, verdict), (125, VerdictKind::StatusLost));
    }

    #[test]
    fn a_panic_while_the_job_runs_leaves_it_minded() {
        let (outcome, log) =
            minded(vec![Step::Input(Input::Woken), Step::Panic, Step::Panic, killed(Signal::KILL)]);
        assert_eq!((outcome.exit_status, outcome.verdict.kind), (137, VerdictKind::Unknown));
        assert!(log.contains("internal error: the job is waited for"), "{log}");
        assert!(log.contains("child 7 terminated by signal 9 (SIGKILL)"), "{log}");
    }

    /// Whatever fails after the start of the process, the job is known.
    #[test]
    fn a_job_that_cannot_be_followed_is_minded() {
        let steps = VecDeque::from([ended(Termination::Exited(5))]);
        let mut world = Scripted { steps, cannot_follow: true, ..Scripted::default() };
        let (outcome, log) = minded_in(&mut world);
        assert_eq!(outcome.exit_status, 5);
        assert!(log.contains("child 7 exited with status 5"), "{log}");
    }

    #[test]
    fn a_job_that_stopped_before_a_panic_is_continued() {
        let stopped = || Step::Input(Input::JobStopped(Signal::STOP));
        for steps in [vec![stopped(), Step::Panic], vec![Step::Panic, stopped()]] {
            let steps = steps.into_iter().chain([ended(Termination::Exited(5))]).collect();
            let mut world = Scripted { steps, cannot_look: true, ..Scripted::default() };
            let (outcome, _) = minded_in(&mut world);
            assert_eq!(
                (outcome.exit_status, world.sent.last()),
                (5, Some(&(Target::Job, Signal::CONT)))
            );
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
