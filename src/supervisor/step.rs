//! The transitions: for each input, what it means in each state.

use std::time::Duration;

use crate::model::event::Event;
use crate::model::facts::{EndedByUs, Facts, Reach};
use crate::model::findings::Death;
use crate::model::outcome::{AttemptEnd, SpawnFailure, Termination};
use crate::model::process::Pid;
use crate::model::sample::Peaks;
use crate::model::signal::{Origin, Signal, SignalInfo};
use crate::model::time::Moment;
use crate::model::usage::ResourceUsage;
use crate::supervisor::clearing_state::{Clearing, EndedAttempt, Phase};
use crate::supervisor::job::{Job, is_due};
use crate::supervisor::restart::Next;
use crate::supervisor::{
    Action, AttemptContext, EndReport, Input, Received, State, Supervisor, Target,
};

/// At most this number of orphans is logged one by one; the others are only counted.
const ORPHANS_NAMED: u64 = 20;

/// A job that timed out is ended this long after it at the latest, with or without a report about what
/// it waited for.
const STALL_REPORT_MAX: Duration = Duration::from_millis(750);

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
                self.not_started(now, failure);
            }
            (State::Running(job), Input::JobEnded(end, usage, report)) => {
                self.job_over(now, job, (end, usage, *report));
            }
            (State::Running(mut job), Input::AlsoReceived(signal)) => {
                self.also_received(now, &mut job, signal);
                self.state = State::Running(job);
            }
            (State::Running(job), Input::JobLost) => self.job_lost(now, job),
            (State::Running(job), Input::JobStopped(signal)) => self.stopped(now, job, signal),
            (State::Running(job), Input::JobContinued) => self.continued(now, job),
            (State::Running(job), Input::Woken) => self.job_deadlines(now, job),
            (state, Input::StallReport(report)) => self.stall_reported(now, state, report),
            (state, Input::News(event)) => {
                self.publish(event);
                self.state = state;
            }
            (state, Input::Signal(received)) => self.signal(now, state, received),
            (state, Input::OrphanEnded(pid, end, usage)) => {
                self.orphan_ended(now, state, (pid, end, usage));
            }
            (State::Judging { end, lasted, kill_at, failure_context }, Input::Judged(verdict)) => {
                if !verdict.kind.is_success() {
                    failure_context.into_iter().for_each(|event| self.publish(event));
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
            // A job is only reported in Running, an answer only where it was asked for; a wake-up
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

    fn job_lost(&mut self, now: Moment, job: Box<Job>) {
        self.publish(Event::StatusLost { pid: job.pid });
        self.attempt_over(now, job, AttemptEnd::StatusLost, EndReport::default());
    }

    fn job_over(
        &mut self,
        now: Moment,
        job: Box<Job>,
        (end, usage, mut report): (Termination, ResourceUsage, EndReport),
    ) {
        let findings = &mut report.findings;
        let shown = findings.memory.without_floor(usage, findings.peaks);
        self.job_ended(job.pid, end, (shown, findings.peaks));
        findings.memory.job_peak_bytes = Some(usage.max_rss_kib * 1024);
        findings.output_bytes = usage.output_blocks * 512;
        std::mem::take(&mut report.open_files).into_iter().for_each(|one| self.publish(one));
        self.attempt_over(now, job, AttemptEnd::Ended(end), report);
    }

    /// The attempt could not be started: there is no job and nothing to kill.
    fn not_started(&mut self, now: Moment, failure: SpawnFailure) {
        let attempt = self.attempt;
        self.publish(Event::StartFailed { attempt, failure: failure.clone() });
        let end = AttemptEnd::NotStarted(failure);
        self.actions.push(Action::Judge(Box::new(Facts::new(None, end.clone(), now))));
        self.state = State::Judging {
            end,
            lasted: Duration::ZERO,
            kill_at: None,
            failure_context: Vec::new(),
        };
    }

    fn attempt_over(&mut self, now: Moment, mut job: Box<Job>, end: AttemptEnd, report: EndReport) {
        let EndReport { mut findings, failure_context, .. } = report;
        self.settle_unclear(&mut job);
        // Where every death is known with its time, what was reaped after the job's end is not news.
        if !findings.deaths.is_complete {
            job.deaths.kept().cloned().for_each(|one| findings.deaths.add(one));
        }
        self.actions.push(Action::Judge(Box::new(Facts {
            ended_by_us: job.ended_by_us,
            ending_since: job.ending_since,
            stop_request: job.stop_request,
            heard: job.heard,
            findings,
            ..Facts::new(Some(job.pid), end.clone(), now)
        })));
        let (lasted, kill_at) = (now - job.started, job.kill_at);
        self.state = State::Judging { end, lasted, kill_at, failure_context };
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
            // The kernel's word that a child changed: waitid(2) has the rest.
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
                let is_awaiting = clearing.is_awaiting();
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
                    self.conclude(last);
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
        let is_meant = info.origin == Origin::Kernel || self.job_receives(info, reach);
        if is_meant && can_suspend && info.signal.is_terminal_stop() {
            self.suspend_ourselves();
        }
    }

    fn job_deadlines(&mut self, now: Moment, mut job: Box<Job>) {
        if is_due(job.timeout_at, now) {
            job.timeout_at = None;
            let limit = self.policy.timeout.unwrap_or_default();
            self.publish(Event::TimedOut { limit });
            // What it waited for is gone once it is ended.
            job.report_until = Some(now + STALL_REPORT_MAX);
            self.actions.push(Action::Inspect);
        }
        if is_due(job.report_until, now) {
            self.end_of_time(now, &mut job);
        }
        if is_due(job.kill_at, now) {
            job.kill_at = None;
            job.ended_by_us = job.ended_by_us.or(Some(EndedByUs::StopRequestIgnored));
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

    /// The report that a job that timed out waits for.
    fn stall_reported(&mut self, now: Moment, mut state: State, report: Vec<Event>) {
        report.into_iter().for_each(|event| self.publish(event));
        // It may have ended by itself meanwhile.
        if let State::Running(job) = &mut state
            && job.report_until.is_some()
        {
            self.end_of_time(now, job);
        }
        self.state = state;
    }

    fn end_of_time(&mut self, now: Moment, job: &mut Job) {
        job.report_until = None;
        let limit = self.policy.timeout.unwrap_or_default();
        self.end_job(now, job, EndedByUs::TimedOut(limit), "it timed out");
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
