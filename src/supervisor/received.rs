//! What a signal that childminder received means for the job: noted, passed on, or a request to stop.

use crate::model::event::Event;
use crate::model::facts::{Heard, Reach};
use crate::model::signal::{Signal, SignalInfo};
use crate::model::time::Moment;
use crate::supervisor::job::Job;
use crate::supervisor::{Action, Received, Supervisor, Target};

impl Supervisor {
    /// Returns whether the job gets that signal, from us or together with us.
    pub(super) fn job_receives(&self, info: &SignalInfo, reach: Reach) -> bool {
        match reach {
            Reach::OnlyUs | Reach::Unclear(_) | Reach::FromJob { is_in_group: false } => {
                self.policy.forward.includes(info.signal)
            }
            Reach::WholeGroup | Reach::WholeJob(_) | Reach::FromJob { is_in_group: true } => true,
            Reach::OurFault => false,
        }
    }

    /// Returns whether it asks us to stop, and if so remembers that nothing is to be restarted.
    pub(super) fn note_stop_request(&mut self, info: &SignalInfo, reach: Reach) -> bool {
        let is_from_job = matches!(reach, Reach::FromJob { .. });
        let is_request =
            !is_from_job && self.job_receives(info, reach) && info.signal.asks_to_stop();
        // SIGHUP may also mean "read your files again": only a death by it forbids a restart.
        self.is_stop_requested |= is_request && info.signal != Signal::HUP;
        is_request
    }

    /// Acts on a signal of which it is known which processes it reached.
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
        if self.job_receives(info, reach) {
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
        let is_resumption = signal == Signal::CONT && job.suspension.takes_continue(now);
        let has_run = job.stop.is_none() || job.suspension.has_job_run();
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
}
