//! Each pair of state and input once, as a line; and what holds for any sequence of inputs.

use super::*;
use crate::model::facts::Reach;
use crate::model::outcome::{SpawnFailure, Termination};
use crate::model::process::{Descendant, Pid};
use crate::model::signal::{Signal, SignalInfo};

use crate::diagnose;
use crate::model::policy::{Backoff, Forward, RestartCause, Stragglers};
use crate::model::process::{ProcessKey, Sender};
use crate::model::signal::Origin;
use crate::model::verdict::Confidence;
use proptest::prelude::*;

const PID: Pid = Pid(100);

/// A supervisor and the time that it is given.
struct Bench {
    supervisor: Supervisor,
    now: Moment,
}

impl Bench {
    fn new(policy: Policy) -> Bench {
        let supervisor = Supervisor::new(policy, "job".into(), 1);
        Bench { supervisor, now: Moment(Duration::from_secs(1_000)) }
    }

    /// One whose job runs.
    fn running(policy: Policy) -> Bench {
        let mut bench = Bench::new(policy);
        bench.input(Input::Begin);
        bench.input(Input::Spawned(PID));
        bench
    }

    /// Gives an input, and the verdicts that `run` gives by itself; returns all actions.
    fn actions(&mut self, input: Input) -> Vec<Action> {
        let mut all = Vec::new();
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for action in self.supervisor.step(self.now, input) {
                if let Action::Judge(facts) = &action {
                    inputs.push(Input::Judged(diagnose::judge(facts)));
                }
                all.push(action);
            }
        }
        all
    }

    /// Gives an input and returns the actions, each as a short word.
    fn input(&mut self, input: Input) -> String {
        let words: Vec<String> = self.actions(input).iter().map(word).collect();
        words.join(" ")
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    /// Lets the time pass until the supervisor wants to be woken, and wakes it.
    fn wake(&mut self) -> String {
        self.now = self.supervisor.next_deadline().expect("a deadline");
        self.input(Input::Woken)
    }
}

fn word(action: &Action) -> String {
    match action {
        Action::Spawn(context) => format!("spawn#{}", context.attempt),
        Action::Send(to, signal) => format!("send({to:?},{signal})"),
        Action::Forward(signal, _) => format!("forward({signal})"),
        Action::Inspect => "inspect".into(),
        Action::Look => "look".into(),
        Action::Judge(_) => "judge".into(),
        Action::Publish(event) => {
            let json = serde_json::to_value(event).expect("events serialise");
            json["event"].as_str().expect("a tag").to_owned()
        }
        Action::Finish(outcome) => {
            format!("finish({},{})", outcome.exit_status, outcome.verdict.kind.word())
        }
    }
}

fn received(signal: Signal, reach: Reach) -> Input {
    let (origin, sender) = match reach {
        Reach::WholeGroup => (Origin::Kernel, Sender::Kernel),
        _ => (Origin::Kill, Sender::OutsideNamespace),
    };
    let info = SignalInfo { signal, origin, sender, value: None };
    Input::Signal(Received { info, reach, can_suspend: true })
}

fn exited(status: u8) -> Input {
    Input::JobEnded(Termination::Exited(status), ResourceUsage::default(), Box::default())
}

fn killed(signal: Signal) -> Input {
    let end = Termination::Signaled { signal, core_dumped: false };
    Input::JobEnded(end, ResourceUsage::default(), Box::default())
}

/// What a look brings if all that is left is seen.
fn tree(pids: &[i32]) -> Input {
    remaining(pids, pids.is_empty())
}

/// Something is left, and it cannot be seen what.
fn unseen() -> Input {
    remaining(&[], false)
}

fn remaining(pids: &[i32], is_gone: bool) -> Input {
    let process = |pid: &i32| Descendant {
        key: ProcessKey { pid: Pid(*pid), start_ticks: 1 },
        name: "w".into(),
        state: 'S',
    };
    let seen = pids.iter().map(process).collect();
    Input::Tree(Remaining { seen, is_gone, ..Remaining::default() })
}

fn no_wait() -> Policy {
    let backoff = Backoff { min: Duration::ZERO, max: Duration::ZERO };
    Policy { backoff, ..Policy::default() }
}

fn restarting() -> Policy {
    Policy { restart_signalled: true, max_restarts: 1, ..no_wait() }
}

#[test]
fn the_log_has_the_context_of_a_failure_and_the_open_files_in_any_case() {
    let notice = |text: &str| vec![Event::Notice { text: text.into() }];
    let texts = |status| {
        let report = EndReport {
            open_files: notice("a file"),
            failure_context: notice("a sample"),
            ..EndReport::default()
        };
        let mut bench = Bench::running(Policy::default());
        let usage = ResourceUsage::default();
        let end = Input::JobEnded(Termination::Exited(status), usage, Box::new(report));
        let actions = bench.actions(end).into_iter().filter_map(|action| match action {
            Action::Publish(Event::Notice { text }) => Some(text),
            _ => None,
        });
        actions.collect::<Vec<_>>()
    };
    assert_eq!(texts(0), ["a file"]);
    assert_eq!(texts(1), ["a file", "a sample"]);
}

#[test]
fn an_attempt_that_never_ran_has_no_pid() {
    let mut bench = Bench::new(Policy::default());
    bench.input(Input::Begin);
    let failure = SpawnFailure {
        step: "execute 'x'".into(),
        errno: libc::ENOENT,
        is_exec: true,
        is_found: false,
        cause: None,
    };
    let actions = bench.actions(Input::SpawnFailed(failure));
    let judged = actions.iter().find_map(|action| match action {
        Action::Judge(facts) => Some(facts.pid),
        _ => None,
    });
    assert_eq!(judged, Some(None));
}

#[test]
fn a_job_that_ends_well_is_started_once_and_finished() {
    let mut bench = Bench::new(Policy::default());
    assert_eq!(bench.input(Input::Begin), "spawn#1");
    assert_eq!(bench.input(Input::Spawned(PID)), "started trapped");
    assert_eq!(bench.supervisor.next_deadline(), None, "a waiting supervisor sleeps");
    assert_eq!(bench.input(exited(0)), "exited usage judge look");
    assert_eq!(bench.input(tree(&[])), "judged finish(0,success)");
    assert_eq!(bench.input(exited(0)), "", "nothing follows the end");
}

#[test]
fn a_job_that_cannot_be_executed_is_finished_with_its_number() {
    let mut bench = Bench::new(Policy { restart_on: vec![RestartCause::Failure], ..restarting() });
    bench.input(Input::Begin);
    let failure = SpawnFailure {
        step: "execute 'x'".into(),
        errno: libc::ENOENT,
        is_exec: true,
        is_found: false,
        cause: None,
    };
    assert_eq!(bench.input(Input::SpawnFailed(failure)), "start_failed judge look");
    assert_eq!(bench.input(tree(&[])), "judged finish(127,exec_failed)");
}

#[test]
fn a_lost_status_is_not_a_success_and_restarts_only_if_asked() {
    let mut bench = Bench::running(restarting());
    assert_eq!(bench.input(Input::JobLost), "status_lost judge look");
    assert_eq!(bench.input(tree(&[])), "judged finish(125,status_lost)");
    let mut bench = Bench::running(Policy { restart_lost: true, ..no_wait() });
    bench.input(Input::JobLost);
    assert_eq!(bench.input(tree(&[])), "judged restarting");
    assert_eq!(bench.wake(), "spawn#2");
}

#[test]
fn a_signal_from_a_process_is_logged_and_passed_on() {
    let mut bench = Bench::running(Policy::default());
    assert_eq!(
        bench.input(received(Signal::TERM, Reach::OnlyUs)),
        "received forward(SIGTERM) forwarded"
    );
    bench.input(killed(Signal::TERM));
    assert_eq!(bench.input(tree(&[])), "judged finish(143,stop_requested)");
}

#[test]
fn what_the_job_has_already_is_not_passed_on_again() {
    let mut bench = Bench::running(Policy::default());
    assert_eq!(bench.input(received(Signal::INT, Reach::WholeGroup)), "received");
    let cancelled = received(Signal::TERM, Reach::WholeJob("slurmstepd"));
    assert_eq!(bench.input(cancelled), "received not_forwarded");
    assert_eq!(bench.input(received(Signal::PIPE, Reach::OurFault)), "received");
    let mut bench = Bench::running(Policy { forward: Forward::None, ..Policy::default() });
    assert_eq!(bench.input(received(Signal::TERM, Reach::OnlyUs)), "received");
}

const SLURM: Reach = Reach::Unclear("slurmstepd");

#[test]
fn what_the_batch_system_sent_to_us_alone_is_passed_on_after_a_moment() {
    let mut bench = Bench::running(Policy::default());
    assert_eq!(bench.input(received(Signal::CONT, SLURM)), "received");
    bench.pass(Duration::from_millis(4));
    assert_eq!(bench.input(received(Signal::TERM, SLURM)), "received");
    assert_eq!(bench.wake(), "forward(SIGCONT) forwarded");
    assert_eq!(bench.wake(), "forward(SIGTERM) forwarded");
    assert_eq!(bench.supervisor.next_deadline(), None);
    bench.input(killed(Signal::TERM));
    assert_eq!(bench.input(tree(&[])), "judged finish(143,stop_requested)");
}

#[test]
fn what_the_batch_system_sent_to_all_is_not_passed_on_in_either_order_of_news() {
    let mut bench = Bench::running(Policy::default());
    assert_eq!(bench.input(received(Signal::USR1, SLURM)), "received");
    assert_eq!(bench.input(Input::AlsoReceived(Signal::USR1)), "not_forwarded");
    assert_eq!(bench.supervisor.next_deadline(), None);
    assert_eq!(bench.input(Input::AlsoReceived(Signal::TERM)), "");
    assert_eq!(bench.input(received(Signal::TERM, SLURM)), "received not_forwarded");
    // The next one needs a sign of its own.
    assert_eq!(bench.input(received(Signal::TERM, SLURM)), "received");
    assert_eq!(bench.wake(), "forward(SIGTERM) forwarded");
}

#[test]
fn another_signal_or_an_old_one_says_nothing_about_this_one() {
    let mut bench = Bench::running(Policy::default());
    bench.input(Input::AlsoReceived(Signal::TERM));
    bench.pass(reach::DECIDE_WITHIN);
    assert_eq!(bench.input(received(Signal::TERM, SLURM)), "received");
    assert_eq!(bench.input(Input::AlsoReceived(Signal::USR1)), "");
    assert_eq!(bench.wake(), "forward(SIGTERM) forwarded");
}

#[test]
fn an_explicit_list_is_passed_on_whoever_received_it_and_at_once() {
    let list = Forward::Only(vec![Signal::USR1, Signal::TERM]);
    let mut bench = Bench::running(Policy { forward: list, ..Policy::default() });
    let passed_on = "received forward(SIGUSR1) forwarded";
    assert_eq!(bench.input(received(Signal::USR1, SLURM)), passed_on);
    bench.input(Input::AlsoReceived(Signal::USR1));
    assert_eq!(bench.input(received(Signal::USR1, SLURM)), passed_on);
    let own = Reach::FromJob { is_in_group: true };
    assert_eq!(bench.input(received(Signal::USR1, own)), passed_on);
    // What is not in it is only watched.
    assert_eq!(bench.input(received(Signal::HUP, SLURM)), "received");
    assert_eq!(bench.wake(), "");
}

#[test]
fn a_job_that_dies_before_we_know_was_asked_by_the_batch_system() {
    let policy = Policy { forward: Forward::None, ..restarting() };
    for policy in [policy, restarting()] {
        let mut bench = Bench::running(policy);
        bench.input(received(Signal::TERM, SLURM));
        assert_eq!(bench.input(killed(Signal::TERM)), "signaled usage judge look");
        assert_eq!(bench.input(tree(&[])), "judged finish(143,stop_requested)");
    }
}

#[test]
fn a_signal_from_the_job_itself_is_not_a_request_and_is_not_sent_back() {
    let grace = Some(Duration::from_secs(3));
    let mut bench = Bench::running(Policy { kill_after: grace, ..restarting() });
    let own = Reach::FromJob { is_in_group: true };
    assert_eq!(bench.input(received(Signal::TERM, own)), "received");
    assert_eq!(bench.supervisor.next_deadline(), None);
    bench.input(killed(Signal::SEGV));
    assert_eq!(bench.input(tree(&[])), "judged restarting");
    // A job in a group of its own signals us on purpose.
    let mut bench = Bench::running(restarting());
    let own = Reach::FromJob { is_in_group: false };
    assert_eq!(bench.input(received(Signal::USR1, own)), "received forward(SIGUSR1) forwarded");
}

#[test]
fn only_a_sigterm_starts_the_grace_period() {
    let grace = Some(Duration::from_secs(3));
    let mut bench = Bench::running(Policy { kill_after: grace, ..Policy::default() });
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT] {
        bench.input(received(signal, Reach::OnlyUs));
        assert_eq!(bench.supervisor.next_deadline(), None, "{signal}");
    }
    bench.input(received(Signal::TERM, Reach::OnlyUs));
    assert!(bench.supervisor.next_deadline().is_some());
}

#[test]
fn the_kernels_word_about_a_child_is_not_a_signal_to_log() {
    let info = SignalInfo {
        signal: Signal::CHLD,
        origin: Origin::Child,
        sender: Sender::Kernel,
        value: None,
    };
    let input = Input::Signal(Received { info, reach: Reach::OnlyUs, can_suspend: false });
    assert_eq!(Bench::running(Policy::default()).input(input), "");
}

#[test]
fn without_an_option_a_stop_is_logged_and_waited_for() {
    let mut bench = Bench::running(Policy::default());
    assert_eq!(bench.input(Input::JobStopped(Signal::STOP)), "stopped");
    assert_eq!(bench.supervisor.next_deadline(), None);
    bench.pass(Duration::from_secs(7));
    assert_eq!(bench.input(Input::JobContinued), "continued");
    assert_eq!(bench.input(Input::JobContinued), "continued", "a stop too short to see");
}

#[test]
fn ctrl_z_suspends_us_after_the_job_in_either_order_of_news() {
    let suspended = "suspended send(Ourselves,SIGSTOP) resumed";
    let all = Policy { continue_stopped: true, restart_stopped: true, ..Policy::default() };
    for policy in [Policy::default(), all] {
        let mut bench = Bench::running(policy.clone());
        assert_eq!(bench.input(received(Signal::TSTP, Reach::WholeGroup)), "received");
        assert_eq!(bench.input(Input::JobStopped(Signal::TSTP)), format!("stopped {suspended}"));
        assert_eq!(bench.supervisor.next_deadline(), None, "-c leaves a suspended job alone");
        let mut bench = Bench::running(policy);
        assert_eq!(bench.input(Input::JobStopped(Signal::TSTP)), "stopped");
        let late = bench.input(received(Signal::TSTP, Reach::WholeGroup));
        assert_eq!(late, format!("received {suspended}"));
        assert_eq!(bench.supervisor.next_deadline(), None);
    }
}

#[test]
fn a_stop_long_after_ctrl_z_was_refused_is_not_a_suspension() {
    let mut bench = Bench::running(Policy::default());
    bench.input(received(Signal::TSTP, Reach::WholeGroup));
    bench.pass(job::SUSPEND_WINDOW + Duration::from_secs(1));
    assert_eq!(bench.input(Input::JobStopped(Signal::STOP)), "stopped");
}

#[test]
fn in_an_orphaned_group_we_never_stop_for_nobody_would_wake_us() {
    let mut bench = Bench::running(Policy::default());
    let Input::Signal(tstp) = received(Signal::TSTP, Reach::OnlyUs) else { unreachable!() };
    let orphaned = Input::Signal(Received { can_suspend: false, ..tstp });
    assert_eq!(bench.input(orphaned), "received forward(SIGTSTP) forwarded");
    assert_eq!(bench.input(Input::JobStopped(Signal::TSTP)), "stopped");
}

#[test]
fn who_wakes_us_wakes_the_job_even_if_nothing_is_forwarded() {
    let mut bench = Bench::running(Policy { forward: Forward::None, ..Policy::default() });
    assert_eq!(bench.input(received(Signal::CONT, Reach::OnlyUs)), "received");
    bench.input(Input::JobStopped(Signal::TSTP));
    let woken = bench.input(received(Signal::CONT, Reach::OnlyUs));
    assert_eq!(woken, "received forward(SIGCONT) forwarded");
}

#[test]
fn a_session_of_its_own_is_stopped_by_sigstop_and_woken_whole() {
    let mut bench = Bench::running(Policy { new_session: true, ..Policy::default() });
    let stop = bench.input(received(Signal::TSTP, Reach::OnlyUs));
    assert_eq!(stop, "received send(Tree,SIGSTOP) forwarded");
    bench.input(Input::JobStopped(Signal::STOP));
    let cont = bench.input(received(Signal::CONT, Reach::OnlyUs));
    assert_eq!(cont, "received send(StoppedInTree,SIGCONT) forwarded");
}

#[test]
fn a_stopped_job_is_continued_and_the_success_is_said_when_it_runs() {
    let mut bench = Bench::running(Policy { continue_stopped: true, ..Policy::default() });
    assert_eq!(bench.input(Input::JobStopped(Signal::STOP)), "stopped");
    assert_eq!(bench.wake(), "send(StoppedInTree,SIGCONT)");
    assert_eq!(bench.input(Input::JobContinued), "continue_confirmed continued");
}

#[test]
fn continuing_is_bounded_also_if_the_job_stops_itself_again_at_once() {
    let mut bench = Bench::running(Policy { continue_stopped: true, ..Policy::default() });
    let mut sent = 0;
    for _ in 0..100 {
        bench.input(Input::JobStopped(Signal::STOP));
        if bench.supervisor.next_deadline().is_some() {
            sent += bench.wake().matches("SIGCONT").count();
        }
        bench.input(Input::JobContinued);
    }
    assert_eq!(sent, job::CONTINUE_TRIES as usize);
    bench.pass(job::CONTINUE_RESET);
    bench.input(Input::JobStopped(Signal::STOP));
    assert_eq!(bench.wake(), "send(StoppedInTree,SIGCONT)", "after a good run it is tried again");
}

#[test]
fn a_job_that_stays_stopped_is_given_up_or_restarted() {
    let policy = Policy { continue_stopped: true, ..no_wait() };
    let mut bench = Bench::running(policy.clone());
    bench.input(Input::JobStopped(Signal::STOP));
    for _ in 0..job::CONTINUE_TRIES {
        assert_eq!(bench.wake(), "send(StoppedInTree,SIGCONT)");
    }
    assert_eq!(bench.wake(), "continue_given_up");
    assert_eq!(bench.supervisor.next_deadline(), None);
    let mut bench = Bench::running(Policy { restart_stopped: true, ..policy });
    bench.input(Input::JobStopped(Signal::STOP));
    (0..job::CONTINUE_TRIES).for_each(|_| drop(bench.wake()));
    let ending = "terminating send(Tree,SIGTERM) send(StoppedInTree,SIGCONT)";
    assert_eq!(bench.wake(), format!("continue_given_up {ending}"));
    bench.input(killed(Signal::TERM));
    assert_eq!(bench.input(tree(&[])), "judged restarting");
}

#[test]
fn a_job_that_wants_the_terminal_is_reported_once_and_never_continued() {
    let policy = Policy { continue_stopped: true, ..Policy::default() };
    let mut bench = Bench::running(policy);
    bench.input(Input::JobStopped(Signal::TTIN));
    assert_eq!(bench.wake(), "wants_terminal");
    assert_eq!(bench.supervisor.next_deadline(), None);
    bench.input(Input::JobContinued);
    bench.input(Input::JobStopped(Signal::TTIN));
    assert_eq!(bench.wake(), "");
    let mut bench = Bench::running(Policy::default());
    assert_eq!(bench.input(Input::JobStopped(Signal::TTOU)), "stopped wants_terminal");
}

#[test]
fn a_time_limit_ends_the_whole_tree_and_gives_124() {
    let second = Duration::from_secs(1);
    let policy = Policy { timeout: Some(second), kill_after: Some(second), ..restarting() };
    let mut bench = Bench::running(policy);
    assert_eq!(bench.wake(), "timed_out inspect");
    let ending = "stack terminating send(Tree,SIGTERM) send(StoppedInTree,SIGCONT)";
    let report = || Input::StallReport(vec![Event::Stack { text: "it waits".into() }]);
    assert_eq!(bench.input(report()), ending);
    assert_eq!(bench.input(report()), "stack", "another that somebody asked for");
    assert_eq!(bench.wake(), "killing send(Tree,SIGKILL)");
    assert_eq!(bench.input(killed(Signal::KILL)), "signaled usage judge look");
    assert_eq!(bench.input(tree(&[])), "judged finish(124,timed_out)");
}

/// A report that does not come delays the end by a bounded time, and one that comes late is logged.
#[test]
fn a_time_limit_does_not_wait_for_a_report_for_long() {
    let second = Duration::from_secs(1);
    let policy = Policy { timeout: Some(second), ..Policy::default() };
    let mut bench = Bench::running(policy);
    assert_eq!(bench.wake(), "timed_out inspect");
    let timed_out_at = bench.now;
    let ending = "terminating send(Tree,SIGTERM) send(StoppedInTree,SIGCONT)";
    assert_eq!(bench.wake(), ending);
    assert!(bench.now - timed_out_at < second);
    let late = Input::StallReport(vec![Event::Stack { text: "it waits".into() }]);
    assert_eq!(bench.input(late), "stack");
}

/// A job that ends while the report is made was not ended by the time limit.
#[test]
fn a_job_that_ends_just_at_its_time_limit_has_its_own_status() {
    let policy = Policy { timeout: Some(Duration::from_secs(1)), ..Policy::default() };
    let mut bench = Bench::running(policy);
    assert_eq!(bench.wake(), "timed_out inspect");
    assert_eq!(bench.input(exited(0)), "exited usage judge look");
    assert_eq!(bench.input(tree(&[])), "judged finish(0,success)");
}

#[test]
fn the_grace_period_of_a_time_limit_goes_on_for_what_the_job_leaves() {
    let second = Duration::from_secs(1);
    let policy = Policy { timeout: Some(second), kill_after: Some(second), ..Policy::default() };
    let mut bench = Bench::running(policy);
    bench.wake();
    bench.input(Input::StallReport(Vec::new()));
    bench.pass(second / 2);
    bench.input(killed(Signal::TERM));
    let ending = "stragglers terminating send(Tree,SIGTERM) send(StoppedInTree,SIGCONT)";
    assert_eq!(bench.input(tree(&[7])), ending);
    bench.pass(second / 2);
    assert_eq!(bench.input(Input::Woken), "look");
    assert_eq!(bench.input(tree(&[7])), "killing send(Tree,SIGKILL)");
    assert_eq!(bench.wake(), "look");
    assert_eq!(bench.input(tree(&[])), "judged finish(124,timed_out)");
}

#[test]
fn a_request_that_is_passed_on_becomes_an_order_only_with_kill_after() {
    let mut bench = Bench::running(Policy::default());
    bench.input(received(Signal::TERM, Reach::OnlyUs));
    assert_eq!(bench.supervisor.next_deadline(), None);
    let grace = Some(Duration::from_secs(3));
    let mut bench = Bench::running(Policy { kill_after: grace, ..Policy::default() });
    bench.input(received(Signal::TERM, Reach::OnlyUs));
    assert_eq!(bench.wake(), "killing send(Tree,SIGKILL)");
    bench.input(killed(Signal::KILL));
    assert_eq!(bench.input(tree(&[])), "judged finish(137,stop_requested)");
}

#[test]
fn restarts_are_counted_and_their_end_is_said() {
    let mut bench = Bench::running(restarting());
    assert_eq!(bench.input(killed(Signal::KILL)), "signaled usage judge look");
    assert_eq!(bench.input(tree(&[])), "judged restarting");
    assert_eq!(bench.wake(), "spawn#2");
    assert_eq!(bench.input(Input::Spawned(PID)), "started");
    bench.input(killed(Signal::KILL));
    assert_eq!(bench.input(tree(&[])), "restarts_exhausted judged finish(137,unknown)");
}

#[test]
fn no_attempt_begins_while_a_process_of_the_old_one_lives() {
    let mut bench = Bench::running(Policy { kill_after: Some(Duration::ZERO), ..restarting() });
    bench.input(killed(Signal::KILL));
    let ending = "stragglers terminating send(Tree,SIGTERM) send(StoppedInTree,SIGCONT)";
    assert_eq!(bench.input(tree(&[7])), ending);
    assert_eq!(bench.wake(), "look");
    assert_eq!(bench.input(tree(&[7])), "killing send(Tree,SIGKILL)");
    let mut rounds = 0;
    let last = loop {
        assert_eq!(bench.wake(), "look");
        let answer = bench.input(tree(&[7]));
        rounds += 1;
        if answer != "send(Tree,SIGKILL)" {
            break answer;
        }
    };
    assert_eq!(last, "tree_remains restart_refused judged finish(137,unknown)");
    assert!(rounds > 10, "given up after {rounds} rounds");
}

#[test]
fn what_nobody_sees_is_not_taken_for_gone() {
    let mut bench = Bench::running(Policy { kill_after: Some(Duration::ZERO), ..restarting() });
    bench.input(killed(Signal::KILL));
    let ending = "stragglers terminating send(Tree,SIGTERM) send(StoppedInTree,SIGCONT)";
    assert_eq!(bench.input(unseen()), ending);
    bench.wake();
    assert_eq!(bench.input(unseen()), "killing send(Tree,SIGKILL)");
    let mut last = String::new();
    while !last.contains("finish") {
        assert_eq!(bench.wake(), "look");
        last = bench.input(unseen());
    }
    assert_eq!(last, "tree_remains restart_refused judged finish(137,unknown)");
    let with = |stragglers| Bench::running(Policy { stragglers, ..Policy::default() });
    let mut bench = with(Stragglers::Leave);
    bench.input(exited(0));
    assert_eq!(bench.input(unseen()), "stragglers judged finish(0,success)");
    let mut bench = with(Stragglers::Wait);
    bench.input(exited(0));
    assert_eq!(bench.input(unseen()), "stragglers");
    let orphan = Input::OrphanEnded(Pid(7), Termination::Exited(0), ResourceUsage::default());
    assert_eq!(bench.input(orphan.clone()), "orphan_ended look");
    assert_eq!(bench.input(unseen()), "", "another one is left");
    assert_eq!(bench.input(orphan), "orphan_ended look");
    assert_eq!(bench.input(tree(&[])), "orphans_summary judged finish(0,success)");
}

/// Of what is in the cgroup and no descendant of ours no signal reports the end.
#[test]
fn what_is_not_a_descendant_is_looked_at_again() {
    let mut bench = Bench::running(Policy { stragglers: Stragglers::Wait, ..Policy::default() });
    bench.input(exited(0));
    let seen = || {
        let Input::Tree(tree) = tree(&[7]) else { unreachable!("a tree") };
        Input::Tree(Remaining { has_no_child: true, ..tree })
    };
    assert_eq!(bench.input(seen()), "stragglers");
    let first = bench.supervisor.next_deadline().expect("a time to look");
    bench.now = first;
    assert_eq!(bench.input(Input::Woken), "look");
    assert_eq!(bench.input(seen()), "", "it is reported once");
    assert!(bench.supervisor.next_deadline().is_some_and(|next| next > first));
    assert_eq!(bench.input(tree(&[])), "judged finish(0,success)");
}

#[test]
fn the_end_of_the_restarts_is_said_also_if_something_is_left() {
    let mut bench = Bench::running(Policy { max_restarts: 0, ..restarting() });
    bench.input(killed(Signal::KILL));
    let last = bench.input(tree(&[7]));
    assert_eq!(last, "stragglers restarts_exhausted judged finish(137,unknown)");
}

#[test]
fn a_restart_that_cannot_be_made_leaves_the_last_attempt_as_the_end() {
    let failure = |is_exec| {
        Input::SpawnFailed(SpawnFailure {
            step: "start".into(),
            errno: libc::EAGAIN,
            is_exec,
            is_found: false,
            cause: None,
        })
    };
    let mut bench = Bench::running(restarting());
    bench.input(killed(Signal::KILL));
    bench.input(tree(&[]));
    assert_eq!(bench.wake(), "spawn#2");
    let last = bench.input(failure(false));
    assert_eq!(last, "notice restart_refused concluded finish(137,unknown)", "judged once");
    let mut bench = Bench::running(restarting());
    bench.input(killed(Signal::KILL));
    bench.input(tree(&[]));
    bench.wake();
    assert_eq!(bench.input(failure(true)), "start_failed judge look", "a fault of the job's");
}

#[test]
fn stragglers_are_left_waited_for_or_ended_as_the_policy_says() {
    let with = |stragglers| Bench::running(Policy { stragglers, ..Policy::default() });
    let mut bench = with(Stragglers::Leave);
    bench.input(exited(0));
    assert_eq!(bench.input(tree(&[7])), "stragglers judged finish(0,success)");
    let mut bench = with(Stragglers::Wait);
    bench.input(exited(0));
    assert_eq!(bench.input(tree(&[7])), "stragglers");
    assert_eq!(bench.supervisor.next_deadline(), None, "the orphan's end will wake us");
    assert_eq!(bench.input(received(Signal::TERM, Reach::OnlyUs)), "received send(Tree,SIGTERM)");
    let end = Termination::Exited(0);
    let orphan = Input::OrphanEnded(Pid(7), end, ResourceUsage::default());
    assert_eq!(bench.input(orphan), "orphan_ended look");
    assert_eq!(bench.input(tree(&[])), "orphans_summary judged finish(0,success)");
    let mut bench = with(Stragglers::Kill);
    bench.input(exited(3));
    let ending = "stragglers terminating send(Tree,SIGTERM) send(StoppedInTree,SIGCONT)";
    assert_eq!(bench.input(tree(&[7])), ending);
    assert_eq!(bench.wake(), "look");
    assert_eq!(bench.input(tree(&[])), "judged finish(3,exit_nonzero)");
}

#[test]
fn what_was_killed_already_is_not_reported_as_outliving() {
    let with = |dying: &[i32]| {
        let Input::Tree(tree) = tree(&[7, 8]) else { unreachable!() };
        Input::Tree(Remaining { dying: dying.iter().copied().map(Pid).collect(), ..tree })
    };
    let reported = |dying: &[i32]| {
        let mut bench = Bench::running(Policy::default());
        bench.input(exited(0));
        let actions = bench.actions(with(dying));
        actions.into_iter().find_map(|action| match action {
            Action::Publish(Event::Stragglers { processes, .. }) => Some(processes.len()),
            _ => None,
        })
    };
    assert_eq!((reported(&[]), reported(&[8]), reported(&[7, 8])), (Some(2), Some(1), None));
}

#[test]
fn a_request_to_stop_ends_the_wait_for_a_restart() {
    let backoff = Backoff { min: Duration::from_secs(60), max: Duration::from_secs(60) };
    let mut bench = Bench::running(Policy { backoff, ..restarting() });
    bench.input(killed(Signal::KILL));
    assert_eq!(bench.input(tree(&[])), "judged restarting");
    assert_eq!(bench.input(received(Signal::USR1, Reach::OnlyUs)), "received");
    let stopped = bench.input(received(Signal::TERM, Reach::OnlyUs));
    assert_eq!(stopped, "received restart_refused concluded finish(137,unknown)", "judged once");
}

#[test]
fn a_request_to_stop_forbids_a_restart_however_the_job_then_ends() {
    let mut bench =
        Bench::running(Policy { restart_on: vec![RestartCause::Failure], ..restarting() });
    bench.input(received(Signal::TERM, Reach::OnlyUs));
    bench.input(killed(Signal::SEGV));
    assert_eq!(bench.input(tree(&[])), "judged finish(139,crashed)");
}

#[test]
fn a_killed_orphan_is_named_and_spoils_the_success() {
    let mut bench = Bench::running(Policy::default());
    let end = Termination::Signaled { signal: Signal::SEGV, core_dumped: false };
    let orphan = Input::OrphanEnded(Pid(7), end, ResourceUsage::default());
    assert_eq!(bench.input(orphan), "orphan_ended");
    bench.input(exited(0));
    let last = bench.input(tree(&[]));
    assert_eq!(last, "orphans_summary judged finish(0,success_with_losses)");
}

#[test]
fn a_flood_of_orphans_does_not_flood_the_log() {
    let mut bench = Bench::running(Policy::default());
    let orphan =
        |pid| Input::OrphanEnded(Pid(pid), Termination::Exited(0), ResourceUsage::default());
    let reported =
        (0..10_000).filter(|pid| bench.input(orphan(pid + 200)) == "orphan_ended").count();
    assert_eq!(reported, 20);
}

fn any_signal() -> impl Strategy<Value = Signal> {
    prop::sample::select(Signal::trappable().collect::<Vec<_>>())
}

fn any_end() -> impl Strategy<Value = Termination> {
    prop_oneof![
        any::<u8>().prop_map(Termination::Exited),
        (1..=64_i32, any::<bool>()).prop_map(|(number, core_dumped)| Termination::Signaled {
            signal: Signal::new(number).expect("a number of a signal"),
            core_dumped,
        }),
    ]
}

/// What the scripted world does next.
#[derive(Clone, Debug)]
enum Move {
    Signal(Signal, Reach, bool),
    AlsoReceived(Signal),
    Stop(Signal),
    Continue,
    End(Termination),
    Lose,
    Orphan(Termination),
    Fork,
    /// A report about where the job waits, asked for or not.
    Report,
    /// Makes a process that nobody sees, of which that number of SIGKILLs misses.
    Hide(u32),
    Wake,
}

fn any_move() -> impl Strategy<Value = Move> {
    let reach = prop::sample::select(vec![
        Reach::OnlyUs,
        Reach::WholeGroup,
        Reach::WholeJob("slurmstepd"),
        Reach::Unclear("slurmstepd"),
        Reach::FromJob { is_in_group: true },
        Reach::FromJob { is_in_group: false },
        Reach::OurFault,
    ]);
    let stop = prop::sample::select(vec![Signal::STOP, Signal::TSTP, Signal::TTIN, Signal::TTOU]);
    prop_oneof![
        3 => (any_signal(), reach, any::<bool>()).prop_map(|(s, r, c)| Move::Signal(s, r, c)),
        1 => any_signal().prop_map(Move::AlsoReceived),
        2 => stop.prop_map(Move::Stop),
        1 => Just(Move::Continue),
        2 => any_end().prop_map(Move::End),
        1 => Just(Move::Lose),
        1 => any_end().prop_map(Move::Orphan),
        1 => Just(Move::Fork),
        1 => Just(Move::Report),
        1 => (0..200_u32).prop_map(Move::Hide),
        6 => Just(Move::Wake),
    ]
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let flags = any::<[bool; 6]>();
    let stragglers =
        prop::sample::select(vec![Stragglers::Leave, Stragglers::Wait, Stragglers::Kill]);
    let timeout = prop::option::of(1..100_u64);
    let kill_after = prop::option::of(0..50_u64);
    (flags, stragglers, timeout, kill_after, 0..4_u32).prop_map(
        |(flags, stragglers, timeout, kill_after, max_restarts)| Policy {
            continue_stopped: flags[0],
            restart_stopped: flags[1],
            restart_lost: flags[2],
            restart_signalled: flags[3],
            restart_on: if flags[4] { vec![RestartCause::Failure] } else { Vec::new() },
            new_session: flags[5],
            max_restarts,
            timeout: timeout.map(Duration::from_secs),
            kill_after: kill_after.map(Duration::from_secs),
            stragglers,
            ..Policy::default()
        },
    )
}

/// A small world that obeys the kernel's rules: SIGKILL ends what it reaches, nothing happens to
/// a job that does not live.
struct Fake {
    bench: Bench,
    is_job_alive: bool,
    others: Vec<i32>,
    /// A process that nobody sees, and how many SIGKILLs it outruns.
    hidden: Option<u32>,
    spawned: u32,
    finished: u32,
    /// The earliest instant at which SIGKILL is allowed.
    kill_from: Option<Moment>,
}

impl Fake {
    fn input(&mut self, input: Input) -> Result<(), TestCaseError> {
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for action in self.bench.supervisor.step(self.bench.now, input) {
                inputs.extend(self.carry_out(action)?);
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, action: Action) -> Result<Option<Input>, TestCaseError> {
        prop_assert_eq!(self.finished, 0, "{:?} after the end", action);
        Ok(match action {
            Action::Spawn(_) => {
                prop_assert!(!self.is_job_alive, "a second copy of the job");
                prop_assert!(self.others.is_empty(), "a copy beside the old tree");
                prop_assert_eq!(self.hidden, None, "a copy beside what nobody sees");
                self.is_job_alive = true;
                self.spawned += 1;
                self.kill_from = None;
                Some(Input::Spawned(PID))
            }
            Action::Forward(..) => {
                prop_assert!(self.is_job_alive, "a signal to a job that was reaped");
                None
            }
            Action::Send(Target::Tree, Signal::TERM) => {
                let grace = self.bench.supervisor.policy.grace();
                let from = self.bench.now + grace;
                self.kill_from = Some(self.kill_from.map_or(from, |at| at.min(from)));
                None
            }
            Action::Send(Target::Tree, Signal::KILL) => {
                let allowed = self.kill_from.is_some_and(|from| from <= self.bench.now);
                prop_assert!(allowed, "SIGKILL before the grace period is over");
                self.others.clear();
                self.hidden = self.hidden.and_then(|misses| misses.checked_sub(1));
                let end = Termination::Signaled { signal: Signal::KILL, core_dumped: false };
                std::mem::take(&mut self.is_job_alive)
                    .then(|| Input::JobEnded(end, ResourceUsage::default(), Box::default()))
            }
            Action::Send(Target::Ourselves, _) => None,
            Action::Send(Target::Job, signal) => {
                prop_assert!(self.is_job_alive, "{} while no job lives", signal);
                None
            }
            Action::Send(..) => None,
            // The answer is a move of its own, or does not come.
            Action::Inspect => None,
            Action::Look => {
                let is_gone = self.others.is_empty() && self.hidden.is_none();
                Some(remaining(&self.others, is_gone))
            }
            Action::Judge(facts) => Some(Input::Judged(diagnose::judge(&facts))),
            Action::Publish(_) => None,
            Action::Finish(_) => {
                prop_assert!(!self.is_job_alive, "the end while the job lives");
                self.finished += 1;
                None
            }
        })
    }

    fn make(&mut self, next: Move) -> Result<(), TestCaseError> {
        let input = match next {
            Move::Signal(signal, reach, can_suspend) => {
                let Input::Signal(received) = received(signal, reach) else { unreachable!() };
                // A request that is passed on starts the grace period of an explicit --kill-after.
                if let Some(grace) = self.bench.supervisor.policy.kill_after {
                    let from = self.bench.now + grace;
                    self.kill_from = Some(self.kill_from.map_or(from, |at| at.min(from)));
                }
                Input::Signal(Received { can_suspend, ..received })
            }
            Move::Orphan(end) => {
                if self.others.pop().is_none() {
                    self.hidden = None;
                }
                Input::OrphanEnded(Pid(7), end, ResourceUsage::default())
            }
            Move::Wake => {
                match self.bench.supervisor.next_deadline() {
                    Some(deadline) => self.bench.now = self.bench.now.max(deadline),
                    None => self.bench.pass(Duration::from_secs(1)),
                }
                Input::Woken
            }
            _ if !self.is_job_alive => return Ok(()),
            Move::AlsoReceived(signal) => Input::AlsoReceived(signal),
            Move::Stop(signal) => Input::JobStopped(signal),
            Move::Continue => Input::JobContinued,
            Move::Hide(misses) => {
                self.hidden = Some(misses);
                return Ok(());
            }
            Move::Fork => {
                self.others.push(i32::try_from(self.others.len()).unwrap_or(0) + 200);
                return Ok(());
            }
            Move::End(end) => {
                self.is_job_alive = false;
                Input::JobEnded(end, ResourceUsage::default(), Box::default())
            }
            Move::Report => Input::StallReport(Vec::new()),
            Move::Lose => {
                self.is_job_alive = false;
                Input::JobLost
            }
        };
        self.input(input)
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_laws_hold(
        policy in any_policy(),
        moves in prop::collection::vec(any_move(), 0..60),
    ) {
        let limit = policy.max_restarts;
        let mut fake = Fake {
            bench: Bench::new(policy),
            is_job_alive: false,
            others: Vec::new(),
            hidden: None,
            spawned: 0,
            finished: 0,
            kill_from: None,
        };
        fake.input(Input::Begin)?;
        for next in moves {
            fake.make(next)?;
        }
        // Left alone, with a job and orphans that end, every run comes to its end.
        for _ in 0..200 {
            fake.make(Move::End(Termination::Exited(0)))?;
            fake.make(Move::Orphan(Termination::Exited(0)))?;
            fake.make(Move::Wake)?;
        }
        prop_assert_eq!(fake.finished, 1, "runs end exactly once");
        prop_assert!(fake.spawned <= limit + 1, "{} attempts", fake.spawned);
    }

    #[test]
    fn a_finished_run_is_sure_of_its_verdict_or_says_that_it_is_not(end in any_end()) {
        let mut bench = Bench::running(Policy::default());
        bench.actions(Input::JobEnded(end, ResourceUsage::default(), Box::default()));
        let actions = bench.actions(tree(&[]));
        let Some(Action::Finish(outcome)) = actions.last() else {
            return Err(TestCaseError::fail("no end"));
        };
        prop_assert_eq!(outcome.exit_status, end.exit_status());
        prop_assert_eq!(outcome.verdict.kind.is_success(), end.is_success());
        prop_assert!(end.is_success() <= (outcome.verdict.confidence == Confidence::Certain));
    }
}
