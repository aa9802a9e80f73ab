//! Signals of a batch system that may have reached the job as well: each is passed on unless a
//! process beside the job received it too.

use std::time::Duration;

use crate::model::facts::Reach;
use crate::model::signal::Signal;
use crate::model::time::Moment;
use crate::supervisor::job::{Job, UnclearSignal, is_due};
use crate::supervisor::{Received, Supervisor};

/// How far apart two processes may see a signal that was sent to both. A sender signals all of
/// them in one loop; the rest is for a machine that is busy.
pub(super) const DECIDE_WITHIN: Duration = Duration::from_millis(200);

impl Supervisor {
    /// Acts on a signal, at once or as soon as it is known which processes it reached.
    pub(super) fn take_signal(&mut self, now: Moment, job: &mut Job, received: Received) {
        let signal = received.info.signal;
        let Reach::Unclear(sender) = received.reach else {
            return self.act_on_signal(now, job, &received);
        };
        if self.policy.forward.lists(signal) {
            return self.act_on_signal(now, job, &Received { reach: Reach::OnlyUs, ..received });
        }
        let is_known =
            |known: &(Signal, Moment)| known.0 == signal && now - known.1 < DECIDE_WITHIN;
        if let Some(index) = job.also_received.iter().position(is_known) {
            job.also_received.remove(index);
            let reach = Reach::WholeJob(sender);
            return self.act_on_signal(now, job, &Received { reach, ..received });
        }
        let decide_at = now + DECIDE_WITHIN;
        job.unclear.push_back(UnclearSignal { received, sender, received_at: now, decide_at });
    }

    /// A process beside the job received a signal.
    pub(super) fn also_received(&mut self, now: Moment, job: &mut Job, signal: Signal) {
        job.also_received.retain(|(_, at)| now - *at < DECIDE_WITHIN);
        let is_it = |one: &UnclearSignal| one.received.info.signal == signal;
        match job.unclear.iter().position(is_it).and_then(|index| job.unclear.remove(index)) {
            Some(one) => self.reached_job(now, job, one),
            None => job.also_received.push((signal, now)),
        }
    }

    fn reached_job(&mut self, now: Moment, job: &mut Job, one: UnclearSignal) {
        let reach = Reach::WholeJob(one.sender);
        self.act_on_signal(now, job, &Received { reach, ..one.received });
    }

    /// Nobody else received them in time: they were meant for us alone.
    pub(super) fn decide_unclear(&mut self, now: Moment, job: &mut Job) {
        while is_due(job.unclear.front().map(|one| one.decide_at), now) {
            let Some(one) = job.unclear.pop_front() else { return };
            self.act_on_signal(now, job, &Received { reach: Reach::OnlyUs, ..one.received });
        }
    }

    /// The job ended before we passed them on: what it reacted to came to it directly.
    pub(super) fn settle_unclear(&mut self, job: &mut Job) {
        for one in std::mem::take(&mut job.unclear) {
            self.note_received(
                one.received_at,
                job,
                &one.received.info,
                Reach::WholeJob(one.sender),
            );
        }
    }
}
