//! A job that stops: suspended together with us, continued, restarted, or only watched.

use crate::model::event::Event;
use crate::model::facts::{EndedByUs, Reach};
use crate::model::signal::{Signal, SignalInfo};
use crate::model::time::Moment;
use crate::supervisor::job::{
    CONTINUE_RESET, CONTINUE_TRIES, Job, SETTLE, SUSPEND_WINDOW, Stop, Suspension,
};
use crate::supervisor::{Action, State, Supervisor, Target};

impl Supervisor {
    /// The terminal, or somebody on purpose, asked us to stop: we do so once the job has.
    pub(super) fn expect_suspension(
        &mut self,
        now: Moment,
        job: &mut Job,
        info: &SignalInfo,
        reach: Reach,
    ) {
        if !self.job_receives(info, reach) {
            return;
        }
        if job.stop.is_some() {
            self.suspend(job);
        } else {
            job.suspend_until = Some(now + SUSPEND_WINDOW);
        }
    }

    fn suspend(&mut self, job: &mut Job) {
        if let Some(stop) = &mut job.stop {
            // Who stopped us both will continue us both: there is nothing to mend.
            stop.act_at = None;
            let signal = stop.signal;
            if matches!(signal, Signal::TTIN | Signal::TTOU) {
                self.log_terminal_wanted(job, signal);
            }
        }
        job.suspend_until = None;
        job.suspension = Suspension::AwaitingContinue { has_job_run: false };
        self.suspend_ourselves();
    }

    /// Stops us until somebody continues us.
    pub(super) fn suspend_ourselves(&mut self) {
        self.publish(Event::Suspended);
        self.actions.push(Action::Send(Target::Ourselves, Signal::STOP));
        self.publish(Event::Resumed);
    }

    pub(super) fn stopped(&mut self, now: Moment, mut job: Box<Job>, signal: Signal) {
        let pid = job.pid;
        if job.stop.as_ref().is_some_and(|stop| stop.is_continue_sent) {
            // It ran, and stopped again before anybody could see it run.
            self.publish(Event::ContinueConfirmed { pid });
        }
        // A job that was stopped and is stopped again has run in between.
        if job.stop.is_some() {
            job.suspension.job_ran();
        }
        self.publish(Event::Stopped { pid, signal });
        let ran_well = job.continued_at.is_none_or(|at| now - at >= CONTINUE_RESET);
        if ran_well {
            job.continue_tries = 0;
        }
        job.stop = Some(Stop { signal, since: now, is_continue_sent: false, act_at: None });
        let is_suspension = job.suspend_until.is_some_and(|until| now <= until);
        if is_suspension {
            self.suspend(&mut job);
        } else if self.policy.continue_stopped || self.policy.restart_stopped {
            // Tries in a row wait longer and longer, also over a short run between two stops.
            let wait = SETTLE * 2_u32.saturating_pow(job.continue_tries.min(CONTINUE_TRIES));
            if let Some(stop) = &mut job.stop {
                stop.act_at = Some(now + wait);
            }
        } else if matches!(signal, Signal::TTIN | Signal::TTOU) {
            self.log_terminal_wanted(&mut job, signal);
        }
        self.state = State::Running(job);
    }

    fn log_terminal_wanted(&mut self, job: &mut Job, signal: Signal) {
        if !job.is_terminal_logged {
            job.is_terminal_logged = true;
            self.publish(Event::WantsTerminal { pid: job.pid, signal });
        }
    }

    pub(super) fn continued(&mut self, now: Moment, mut job: Box<Job>) {
        let pid = job.pid;
        job.suspension.job_ran();
        let stop = job.stop.take();
        if stop.as_ref().is_some_and(|stop| stop.is_continue_sent) {
            self.publish(Event::ContinueConfirmed { pid });
        }
        let stopped_for = stop.map(|stop| now - stop.since);
        self.publish(Event::Continued { pid, stopped_for });
        job.continued_at = Some(now);
        job.suspend_until = None;
        self.state = State::Running(job);
    }

    /// Does what `-c` and `-p` ask for about a stop that lasts.
    pub(super) fn mend_stop(&mut self, now: Moment, job: &mut Job, signal: Signal) {
        let wants_terminal = matches!(signal, Signal::TTIN | Signal::TTOU);
        if wants_terminal {
            self.log_terminal_wanted(job, signal);
        }
        let mut act_at = None;
        let mut is_sent = false;
        if self.policy.continue_stopped && !wants_terminal && job.continue_tries < CONTINUE_TRIES {
            self.actions.push(Action::Send(Target::StoppedInTree, Signal::CONT));
            (is_sent, job.continued_at) = (true, Some(now));
            job.continue_tries += 1;
            act_at = Some(now + SETTLE * 2_u32.saturating_pow(job.continue_tries));
        } else {
            if job.continue_tries > 0 {
                let (pid, tries) = (job.pid, job.continue_tries);
                self.publish(Event::ContinueGivenUp { pid, tries });
            }
            if self.policy.restart_stopped {
                self.end_job(now, job, EndedByUs::Stopped(signal), "it stays stopped");
            }
        }
        if let Some(stop) = &mut job.stop {
            stop.is_continue_sent = is_sent;
            stop.act_at = act_at;
        }
    }
}
