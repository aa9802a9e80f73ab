//! The transitions: for each input, what it means in each state.

use crate::model::event::Event;
use crate::model::facts::{EndedByUs, Facts, Heard, Reach};
use crate::model::outcome::{AttemptEnd, Termination};
use crate::model::process::Pid;
use crate::model::sample::Peaks;
use crate::model::scene::{Death, Scene};
use crate::model::signal::{Origin, Signal, SignalInfo};
use crate::model::time::Moment;
use crate::model::usage::ResourceUsage;
use crate::supervisor::clearing::{Clearing, Phase};
use crate::supervisor::job::{Job, RESUMPTION, is_due};
use crate::supervisor::restart::Next;
use crate::supervisor::{
    Action, AttemptContext, EndedAttempt, Input, Received, State, Supervisor, Target,
};

/// So many orphans are logged one by one; the rest are counted and summed up at the end.
const ORPHANS_NAMED: u64 = 20;

fn is_part_of_resumption(job: &mut Job, now: Moment) -> bool {
    if std::mem::take(&mut job.is_resuming) {
        job.resumed_at = Some(now);
    }
    job.resumed_at.is_some_and(|at| now - at < RESUMPTION)
}

impl Supervisor {
    /// Takes in what happened and returns what is to be done, in that order.
    #[must_use]
    pub fn step(&mut self, now: Moment, input: Input) -> Vec<Action> {
        let state = std::mem::replace(&mut self.state, State::Finished);
        match (state, input) {
            // A run that gave its outcome has nothing more to say.
            (State::Finished, _) => {}
            (state, Input::Begin) => {
                self.state = state;
                self.spawn(None);
            }
            (State::Starting { .. }, Input::Spawned(pid)) => self.started(now, pid),
            // That we cannot make another process says nothing about the job.
            (State::Starting { last: Some(last) }, Input::SpawnFailed(failure))
                if !failure.is_exec =>
            {
                self.restart_failed(last, &failure);
            }
            (State::Starting { .. }, Input::SpawnFailed(failure)) => {
                let attempt = self.attempt;
                self.publish(Event::StartFailed { attempt, failure: failure.clone() });
                let job = Box::new(Job::new(Pid(0), now, None));
                self.attempt_over(now, job, AttemptEnd::NotStarted(failure), Scene::default());
            }
            (State::Running(job), Input::JobEnded(end, usage, scene)) => {
                let mut scene = *scene;
                let shown = scene.memory.without_floor(usage, scene.peaks);
                self.job_ended(job.pid, end, (shown, scene.peaks));
                scene.memory.job_peak_bytes = Some(usage.max_rss_kib * 1024);
                scene.output_bytes = usage.output_blocks * 512;
                std::mem::take(&mut scene.inventory).into_iter().for_each(|one| self.publish(one));
                self.attempt_over(now, job, AttemptEnd::Ended(end), scene);
            }
            (State::Running(mut job), Input::AlsoReceived(signal)) => {
                self.also_received(now, &mut job, signal);
                self.state = State::Running(job);
            }
            (State::Running(job), Input::JobLost) => {
                self.publish(Event::StatusLost { pid: job.pid });
                self.attempt_over(now, job, AttemptEnd::StatusLost, Scene::default());
            }
            (State::Running(job), Input::JobStopped(signal)) => self.stopped(now, job, signal),
            (State::Running(job), Input::JobContinued) => self.continued(now, job),
            (State::Running(job), Input::Woken) => self.job_deadlines(now, job),
            (state, Input::News(event)) => {
                self.publish(event);
                self.state = state;
            }
            (state, Input::Signal(received)) => self.signal(now, state, received),
            (state, Input::OrphanEnded(pid, end, usage)) => {
                self.orphan_ended(now, state, (pid, end, usage));
            }
            (State::Judging { end, lasted, kill_at, testimony }, Input::Judged(verdict)) => {
                if !verdict.kind.is_success() {
                    testimony.into_iter().for_each(|event| self.publish(event));
                }
                let last = EndedAttempt { end, verdict };
                let (next, phase) = (Next::Finish, Phase::Looking);
                self.judged(Clearing { last, next, lasted, kill_at, phase });
            }
            (State::Clearing(clearing), Input::Tree(tree)) => self.tree_seen(now, clearing, tree),
            (State::Clearing(clearing), Input::Woken) => {
                self.state = State::Clearing(clearing);
                self.actions.push(Action::Look);
            }
            (State::Waiting { until, last }, Input::Woken) if until <= now => {
                self.spawn(Some(last));
            }
            // A job is only told of in Running, an answer only where it was asked for; a wake-up
            // with no deadline due changes nothing.
            (
                state,
                Input::Spawned(_)
                | Input::SpawnFailed(_)
                | Input::JobEnded(..)
                | Input::JobLost
                | Input::JobStopped(_)
                | Input::JobContinued
                | Input::AlsoReceived(_)
                | Input::Tree(_)
                | Input::Judged(_)
                | Input::Woken,
            ) => self.state = state,
        }
        std::mem::take(&mut self.actions)
    }

    pub(super) fn publish(&mut self, event: Event) {
        self.actions.push(Action::Publish(event));
    }

    fn spawn(&mut self, last: Option<EndedAttempt>) {
        self.attempt += 1;
        let previous = last.as_ref().map(|last| last.verdict.kind);
        self.state = State::Starting { last };
        self.actions.push(Action::Spawn(AttemptContext { attempt: self.attempt, previous }));
    }

    fn started(&mut self, now: Moment, pid: Pid) {
        let (attempt, command) = (self.attempt, self.command.clone());
        self.publish(Event::Started { attempt, pid, command });
        if attempt == 1 {
            self.publish(Event::Trapped { signals: Signal::trappable().collect() });
        }
        self.state = State::Running(Box::new(Job::new(pid, now, self.policy.timeout)));
    }

    fn job_ended(
        &mut self,
        pid: Pid,
        end: Termination,
        (usage, peaks): (ResourceUsage, Option<Peaks>),
    ) {
        match end {
            Termination::Exited(status) => self.publish(Event::Exited { pid, status }),
            Termination::Signaled { signal, core_dumped } => {
                self.publish(Event::Signaled { pid, signal });
                if core_dumped {
                    self.publish(Event::DumpedCore { pid });
                }
            }
        }
        self.publish(Event::Usage { pid: Some(pid), usage, peaks });
    }

    fn attempt_over(&mut self, now: Moment, mut job: Box<Job>, end: AttemptEnd, mut scene: Scene) {
        self.settle_unclear(&mut job);
        // Where every death is known with its time, what was reaped after the job's end is no news.
        if !scene.deaths.is_complete {
            job.deaths.kept().cloned().for_each(|one| scene.deaths.add(one));
        }
        let testimony = std::mem::take(&mut scene.testimony);
        self.actions.push(Action::Judge(Box::new(Facts {
            pid: job.pid,
            end: end.clone(),
            ended_at: now,
            ended_by_us: job.ended_by_us,
            ending_since: job.ending_since,
            stop_request: job.stop_request,
            heard: job.heard,
            scene,
        })));
        let (lasted, kill_at) = (now - job.started, job.kill_at);
        self.state = State::Judging { end, lasted, kill_at, testimony };
    }

    fn judged(&mut self, mut clearing: Clearing) {
        let last = &clearing.last;
        clearing.next = match self.budget.decide(&self.policy, &last.end, &last.verdict) {
            _ if self.is_stop_requested => Next::Finish,
            next => next,
        };
        self.state = State::Clearing(clearing);
        self.actions.push(Action::Look);
    }

    fn signal(&mut self, now: Moment, state: State, received: Received) {
        if received.info.signal == Signal::CHLD && received.info.origin == Origin::Child {
            // The kernel's word that a child changed: waitid(2) tells the rest.
            self.state = state;
            return;
        }
        self.publish(Event::Received(received.info.clone()));
        let state = match state {
            State::Running(mut job) => {
                self.take_signal(now, &mut job, received);
                self.state = State::Running(job);
                return;
            }
            other => other,
        };
        let Received { info, reach, can_suspend } = received;
        let reach = if matches!(reach, Reach::Unclear(_)) { Reach::OnlyUs } else { reach };
        match state {
            State::Clearing(clearing) => {
                self.note_stop_request(&info, reach);
                let is_awaiting = clearing.phase == Phase::AwaitingEnd;
                if is_awaiting
                    && reach == Reach::OnlyUs
                    && self.policy.forward.includes(info.signal)
                {
                    self.actions.push(Action::Send(Target::Tree, info.signal));
                }
                self.suspend_without_job(&info, reach, can_suspend);
                self.state = State::Clearing(clearing);
            }
            State::Waiting { until, last } => {
                self.note_stop_request(&info, reach);
                if self.is_stop_requested {
                    let reason = "childminder was asked to stop";
                    self.publish(Event::RestartRefused { reason });
                    self.finish(last);
                } else {
                    self.suspend_without_job(&info, reach, can_suspend);
                    self.state = State::Waiting { until, last };
                }
            }
            state @ (State::Starting { .. }
            | State::Running(_)
            | State::Judging { .. }
            | State::Finished) => {
                self.note_stop_request(&info, reach);
                self.state = state;
            }
        }
    }

    /// Where no job has to stop first, we stop at once.
    fn suspend_without_job(&mut self, info: &SignalInfo, reach: Reach, can_suspend: bool) {
        let is_meant = info.origin == Origin::Kernel || self.job_hears(info, reach);
        if is_meant && can_suspend && info.signal.is_terminal_stop() {
            self.suspend_ourselves();
        }
    }

    /// Returns whether the job gets that signal, from us or together with us.
    pub(super) fn job_hears(&self, info: &SignalInfo, reach: Reach) -> bool {
        match reach {
            Reach::OnlyUs | Reach::Unclear(_) | Reach::FromJob { is_in_group: false } => {
                self.policy.forward.includes(info.signal)
            }
            Reach::WholeGroup | Reach::WholeJob(_) | Reach::FromJob { is_in_group: true } => true,
            Reach::OurFault => false,
        }
    }

    /// Returns whether it asks us to stop, and if so remembers that nothing is to be restarted.
    fn note_stop_request(&mut self, info: &SignalInfo, reach: Reach) -> bool {
        let is_from_job = matches!(reach, Reach::FromJob { .. });
        let is_request = !is_from_job && self.job_hears(info, reach) && info.signal.asks_to_stop();
        // SIGHUP may also mean "read your files again": only a death by it forbids a restart.
        self.is_stop_requested |= is_request && info.signal != Signal::HUP;
        is_request
    }

    /// Acts on a signal of which it is known whom it reached.
    pub(super) fn act_on_signal(&mut self, now: Moment, job: &mut Job, received: &Received) {
        let Received { info, reach, can_suspend } = received;
        self.signal_to_job(now, job, info, *reach);
        if *can_suspend && info.signal.is_terminal_stop() {
            self.expect_suspension(now, job, info, *reach);
        }
    }

    /// Notes what the job received, and returns whether it was a request to stop.
    pub(super) fn note_received(
        &mut self,
        now: Moment,
        job: &mut Job,
        info: &SignalInfo,
        reach: Reach,
    ) -> bool {
        if self.job_hears(info, reach) {
            job.heard.retain(|known| known.info.signal != info.signal);
            job.heard.push(Heard { info: info.clone(), reach, at: now });
        }
        let is_request = self.note_stop_request(info, reach);
        if is_request {
            job.stop_request = Some(Heard { info: info.clone(), reach, at: now });
        }
        is_request
    }

    fn signal_to_job(&mut self, now: Moment, job: &mut Job, info: &SignalInfo, reach: Reach) {
        let signal = info.signal;
        // Whoever asked us to stop may change his mind before the job has stopped.
        let is_revoked = signal == Signal::CONT && job.suspend_until.take().is_some();
        // Only an explicit --kill-after makes a request an order, and only SIGTERM is always one:
        // programs reload on SIGHUP, write their state on SIGQUIT, ask back on SIGINT.
        if self.note_received(now, job, info, reach)
            && signal == Signal::TERM
            && let (Some(grace), None) = (self.policy.kill_after, job.kill_at)
        {
            job.kill_at = Some(now + grace);
        }
        let is_resumption = signal == Signal::CONT && is_part_of_resumption(job, now);
        let has_run = job.stop.is_none() || job.has_run_since;
        match reach {
            // The shell woke the whole group. To wake a job that runs could undo its next stop.
            Reach::OnlyUs if is_resumption && has_run && !is_revoked => {}
            Reach::OnlyUs | Reach::FromJob { is_in_group: false }
                if self.policy.forward.includes(signal) =>
            {
                self.forward(job, info);
            }
            // A list is an order also where the job may have the signal already.
            Reach::FromJob { .. } | Reach::WholeJob(_) if self.policy.forward.lists(signal) => {
                self.forward(job, info);
            }
            // Even where nothing is forwarded, who wakes us wakes what we stopped with.
            Reach::OnlyUs if signal == Signal::CONT && job.stop.is_some() => {
                self.forward(job, info);
            }
            Reach::WholeJob(name) => {
                self.publish(Event::NotForwarded { signal, reason: name });
            }
            Reach::OnlyUs
            | Reach::Unclear(_)
            | Reach::FromJob { .. }
            | Reach::WholeGroup
            | Reach::OurFault => {}
        }
    }

    fn forward(&mut self, job: &Job, info: &SignalInfo) {
        let signal = info.signal;
        let sent = if self.policy.new_session && signal.is_terminal_stop() {
            // In a session of its own the job's group is orphaned, and the kernel discards all
            // stop signals but this one.
            self.actions.push(Action::Send(Target::Tree, Signal::STOP));
            Signal::STOP
        } else if self.policy.new_session && signal == Signal::CONT {
            self.actions.push(Action::Send(Target::StoppedInTree, Signal::CONT));
            Signal::CONT
        } else {
            self.actions.push(Action::Forward(signal, info.value));
            signal
        };
        self.publish(Event::Forwarded { pid: job.pid, signal: sent });
    }

    fn job_deadlines(&mut self, now: Moment, mut job: Box<Job>) {
        if is_due(job.timeout_at, now) {
            job.timeout_at = None;
            let limit = self.policy.timeout.unwrap_or_default();
            self.publish(Event::TimedOut { limit });
            self.end_job(now, &mut job, EndedByUs::TimedOut(limit), "it timed out");
        }
        if is_due(job.kill_at, now) {
            job.kill_at = None;
            job.ended_by_us = job.ended_by_us.or(Some(EndedByUs::StopNotHeeded));
            job.ending_since = job.ending_since.or(Some(now));
            self.publish(Event::Killing { why: "the grace period is over" });
            self.actions.push(Action::Send(Target::Tree, Signal::KILL));
        }
        self.decide_unclear(now, &mut job);
        let stop = job.stop.as_ref().map(|stop| (stop.signal, stop.act_at));
        if let Some((signal, act_at)) = stop
            && is_due(act_at, now)
        {
            self.mend_stop(now, &mut job, signal);
        }
        self.state = State::Running(job);
    }

    /// Begins to end the job: SIGTERM now, SIGKILL after the grace period.
    pub(super) fn end_job(
        &mut self,
        now: Moment,
        job: &mut Job,
        reason: EndedByUs,
        why: &'static str,
    ) {
        if matches!(job.ended_by_us, Some(EndedByUs::TimedOut(_) | EndedByUs::Stopped(_))) {
            return;
        }
        job.ended_by_us = Some(reason);
        job.ending_since = job.ending_since.or(Some(now));
        let grace = self.policy.grace();
        job.kill_at = Some(job.kill_at.map_or(now + grace, |at| at.min(now + grace)));
        self.publish(Event::Terminating { why, grace });
        self.terminate_tree();
    }

    fn orphan_ended(
        &mut self,
        now: Moment,
        state: State,
        (pid, end, usage): (Pid, Termination, ResourceUsage),
    ) {
        self.orphans.count += 1;
        self.orphans.usage += usage;
        if self.orphans.count <= ORPHANS_NAMED {
            self.publish(Event::OrphanEnded { pid, end, usage });
        }
        self.state = match state {
            State::Running(mut job) => {
                if matches!(end, Termination::Signaled { .. }) {
                    job.deaths.add(Death { pid, name: None, end, source: "waitid(2)", at: now });
                }
                State::Running(job)
            }
            State::Clearing(mut clearing) => {
                clearing.straggler_ended(now, pid, end);
                self.actions.push(Action::Look);
                State::Clearing(clearing)
            }
            other => other,
        };
    }
}
