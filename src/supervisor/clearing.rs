//! After the job: its remaining processes are reported, waited for, or ended and proven gone.

use std::time::Duration;

use crate::model::event::Event;
use crate::model::outcome::{AttemptEnd, LOSSES, SpawnFailure, TIMED_OUT};
use crate::model::policy::Stragglers;
use crate::model::signal::Signal;
use crate::model::time::Moment;
use crate::model::verdict::VerdictKind;
use crate::supervisor::clearing_state::{Clearing, EndedAttempt, Phase};
use crate::supervisor::restart::Next;
use crate::supervisor::{Action, Outcome, Remaining, State, Supervisor, Target};

/// The longest wait between two looks at a tree that is being ended. The first is a tenth of it.
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(100);

/// How long processes may live after SIGKILL; then there is no restart.
pub(super) const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// How often processes are looked at whose end is not reported.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The end of a descendant is reported; that of another process in the job's cgroup is not.
fn await_end(now: Moment, tree: &Remaining) -> Phase {
    Phase::AwaitingEnd { look_at: tree.has_no_child.then(|| now + LOOK_AGAIN_AFTER) }
}

impl Supervisor {
    /// The result of a look at the tree while the attempt is being cleared away.
    pub(super) fn tree_seen(&mut self, now: Moment, mut clearing: Clearing, tree: Remaining) {
        if tree.is_gone {
            return self.tree_is_gone(now, clearing);
        }
        let must_end = clearing.must_end(self.policy.stragglers);
        match (clearing.phase, must_end) {
            (Phase::Looking, Some(why)) => {
                self.report_stragglers(tree);
                let grace = self.policy.grace();
                let kill_at = clearing.kill_at.unwrap_or(now + grace);
                self.publish(Event::Terminating { why, grace: kill_at - now });
                self.terminate_tree();
                let interval = LOOK_INTERVAL_MAX / 10;
                clearing.phase = Phase::Terminating { kill_at, look_at: now + interval, interval };
                self.state = State::Clearing(clearing);
            }
            (Phase::Looking, None) if self.policy.stragglers == Stragglers::Wait => {
                clearing.phase = await_end(now, &tree);
                self.report_stragglers(tree);
                self.state = State::Clearing(clearing);
            }
            (Phase::Looking, None) => {
                self.report_stragglers(tree);
                self.give_up_restart(&clearing);
                self.finish(clearing.last);
            }
            (Phase::AwaitingEnd { .. }, _) => {
                clearing.phase = await_end(now, &tree);
                self.state = State::Clearing(clearing);
            }
            (Phase::Terminating { kill_at, .. }, _) if kill_at <= now => {
                let why = must_end.unwrap_or("they were asked to end");
                self.publish(Event::Killing { why });
                self.kill_again(now, clearing, now + KILL_DEADLINE);
            }
            (Phase::Terminating { kill_at, interval, .. }, _) => {
                let interval = (interval * 2).min(LOOK_INTERVAL_MAX);
                clearing.phase = Phase::Terminating { kill_at, look_at: now + interval, interval };
                self.state = State::Clearing(clearing);
            }
            (Phase::Killing { give_up_at, .. }, _) if give_up_at <= now => {
                self.publish(Event::TreeRemains { processes: tree.seen });
                self.give_up_restart(&clearing);
                self.finish(clearing.last);
            }
            (Phase::Killing { give_up_at, .. }, _) => self.kill_again(now, clearing, give_up_at),
        }
    }

    /// What fork(2) made since the last look is caught by the next SIGKILL.
    fn kill_again(&mut self, now: Moment, mut clearing: Clearing, give_up_at: Moment) {
        self.actions.push(Action::Send(Target::Tree, Signal::KILL));
        let interval = match clearing.phase {
            Phase::Killing { interval, .. } => (interval * 2).min(LOOK_INTERVAL_MAX),
            _ => LOOK_INTERVAL_MAX / 10,
        };
        clearing.phase = Phase::Killing { give_up_at, look_at: now + interval, interval };
        self.state = State::Clearing(clearing);
    }

    /// A stopped process acts on SIGTERM only once it is continued.
    pub(super) fn terminate_tree(&mut self) {
        self.actions.push(Action::Send(Target::Tree, Signal::TERM));
        self.actions.push(Action::Send(Target::StoppedInTree, Signal::CONT));
    }

    /// What was killed already does not outlive the job.
    fn report_stragglers(&mut self, tree: Remaining) {
        let Remaining { seen: mut processes, dying, .. } = tree;
        processes.retain(|process| !dying.contains(&process.key.pid));
        if processes.is_empty() && !dying.is_empty() {
            return;
        }
        let policy = self.policy.stragglers.word();
        self.publish(Event::Stragglers { policy, processes });
    }

    /// Says why there is no restart although one was asked for, if that is so.
    fn give_up_restart(&mut self, clearing: &Clearing) {
        match clearing.next {
            Next::Finish => {}
            Next::Exhausted => {
                self.publish(Event::RestartsExhausted { limit: self.policy.max_restarts });
            }
            Next::Restart => {
                let reason = "processes of the old attempt are still there";
                self.publish(Event::RestartRefused { reason });
            }
        }
    }

    /// The next attempt was due and could not be made: the last one is the end of the run.
    pub(super) fn restart_failed(&mut self, last: EndedAttempt, failure: &SpawnFailure) {
        let text = format!("attempt {} could not be started: {failure}", self.attempt);
        self.publish(Event::Notice { text });
        self.publish(Event::RestartRefused { reason: "the next attempt could not be started" });
        self.conclude(last);
    }

    /// Nothing of the attempt lives: the only place from which another one can begin.
    fn tree_is_gone(&mut self, now: Moment, clearing: Clearing) {
        match clearing.next {
            Next::Finish | Next::Exhausted => {
                self.give_up_restart(&clearing);
                self.finish(clearing.last);
            }
            Next::Restart if self.is_stop_requested => {
                self.publish(Event::RestartRefused { reason: "childminder was asked to stop" });
                self.finish(clearing.last);
            }
            Next::Restart => {
                self.publish(Event::Judged(clearing.last.verdict.clone()));
                let delay = self.budget.take(&self.policy, clearing.lasted);
                let (attempt, left) = (self.attempt + 1, self.budget.left());
                self.publish(Event::Restarting { attempt, left, delay });
                self.state = State::Waiting { until: now + delay, last: clearing.last };
            }
        }
    }

    /// Ends the run with the last attempt's status and verdict.
    pub(super) fn finish(&mut self, last: EndedAttempt) {
        let verdict = Event::Judged(last.verdict.clone());
        self.end_run(last, verdict);
    }

    /// The same after the wait for another attempt: the verdict was published before it.
    pub(super) fn conclude(&mut self, last: EndedAttempt) {
        let verdict = Event::Concluded(last.verdict.clone());
        self.end_run(last, verdict);
    }

    fn end_run(&mut self, last: EndedAttempt, verdict: Event) {
        if self.orphans.count > 0 {
            let (count, usage) = (self.orphans.count, self.orphans.usage);
            self.publish(Event::OrphansSummary { count, usage });
        }
        self.publish(verdict);
        let exit_status = match (last.verdict.kind, &last.end) {
            (VerdictKind::TimedOut, AttemptEnd::Ended(_)) => TIMED_OUT,
            (VerdictKind::SuccessWithLosses, _) if self.policy.loss_is_failure => LOSSES,
            (_, end) => end.exit_status(),
        };
        self.actions.push(Action::Finish(Outcome { exit_status, verdict: last.verdict }));
        self.state = State::Finished;
    }
}
