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
                    is_sent = is_done(world.send(to, signal, None), sinks);
                }
                Action::Forward(signal, value) => {
                    is_sent = is_done(world.send(Target::Job, signal, value), sinks);
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

    use crate::model::policy::Policy;
    use crate::model::process::Pid;
    use crate::model::time::Moment;
    use crate::model::usage::ResourceUsage;
    use crate::plan::{LogFormat, LogPlan, LogTarget, Observation};
    use crate::sink::log_file::{LogFile, LogName};
    use crate::supervisor::AttemptContext;

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
