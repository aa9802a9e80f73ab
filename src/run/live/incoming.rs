//! Signals to childminder: who sent each, and which processes it reached.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::model::facts::Reach;
use crate::model::outcome::Termination;
use crate::model::process::Pid;
use crate::model::signal::{Origin, Signal};
use crate::run::environment;
use crate::run::live::Live;
use crate::run::senders::{self, Surroundings};
use crate::supervisor::{Input, Received};
use crate::sys::reaper::{self, Tree};
use crate::sys::signal_probe::SignalProbe;
use crate::sys::signals::RawSignal;
use crate::sys::{SysError, clock, poll, terminal};

/// How far apart a batch system signals two processes of a job.
const NEXT_PROCESS: Duration = Duration::from_millis(20);

impl Live {
    /// Takes in the pending signals and returns whether a SIGCHLD was among them.
    pub(super) fn read_signals(&mut self) -> Result<bool, SysError> {
        self.batch.clear();
        self.signals.read(&mut self.batch)?;
        self.senders.begin_batch(clock::now());
        let mut has_changes = false;
        let batch = std::mem::take(&mut self.batch);
        let is_about_stops =
            |raw: &RawSignal| raw.signal.is_terminal_stop() || raw.signal == Signal::CONT;
        if batch.iter().any(is_about_stops) {
            // Whether the job has stopped, or runs again, must be known before that is judged.
            self.collect_stops()?;
        }
        for raw in batch {
            if self.senders.is_our_fault(&raw) {
                continue;
            }
            has_changes |= raw.signal == Signal::CHLD;
            let around = Around {
                job: self.child.as_ref().map(|child| child.pid),
                tree: &self.tree,
                signal: raw.signal,
                can_know_reach: self.signal_probe.is_some(),
            };
            let is_from_child = raw.signal == Signal::CHLD && raw.origin == Origin::Child;
            let (info, reach) = if is_from_child {
                continue;
            } else {
                self.senders.resolve(raw, &around)
            };
            let can_suspend = raw.signal.is_terminal_stop()
                && reach != Reach::OurFault
                && terminal::can_be_continued();
            self.pending.push_back(Input::Signal(Received { info, reach, can_suspend }));
        }
        Ok(has_changes)
    }

    /// Takes in what came before the job ended: what it died of may have been sent to us as well.
    pub(super) fn read_last_signals(&mut self, end: Termination) -> Result<(), SysError> {
        self.read_signals()?;
        let number = match end {
            Termination::Signaled { signal, .. } => signal.number(),
            Termination::Exited(status) => i32::from(status) - 128,
        };
        let is_request = Signal::new(number).is_some_and(Signal::asks_to_stop);
        let is_read = |input: &Input| matches!(input, Input::Signal(received) if received.info.signal.number() == number);
        if is_request && self.signal_probe.is_some() && !self.pending.iter().any(is_read) {
            // A batch system signals one process after the other, and we may be the next.
            poll::wait([Some(self.signals.as_fd())], Some(clock::now() + NEXT_PROCESS))?;
            self.read_signals()?;
        }
        Ok(())
    }

    /// Takes in what the signal probe received.
    pub(super) fn read_signal_probe(&mut self) {
        let Some(received) = self.signal_probe.as_ref().map(SignalProbe::received) else { return };
        match received {
            Some(signals) => self.pending.extend(signals.into_iter().map(Input::AlsoReceived)),
            // Somebody killed it: nothing reports any more.
            None => self.signal_probe = None,
        }
    }

    /// Under a batch system that may signal the job as well as us, finds out what it does signal.
    /// Without that each of its signals is passed on.
    pub(super) fn start_signal_probe(&mut self, job: Pid) {
        let is_under_slurm = self.signal_probe.is_none()
            && environment::is_set("SLURM_JOB_ID")
            && senders::has_whole_job_sender_above();
        if !is_under_slurm {
            return;
        }
        let own_session = !terminal::is_in_our_group(job);
        self.signal_probe = SignalProbe::start(own_session).ok();
        let key = self.signal_probe.as_ref().and_then(|probe| reaper::key(probe.pid()));
        if let Some(key) = key {
            self.tree.leave_out(key.pid);
            self.gatherer.iter_mut().for_each(|gatherer| gatherer.leave_out(key));
        }
    }
}

/// The job as a sender's signal finds it.
struct Around<'a> {
    job: Option<Pid>,
    tree: &'a Tree,
    signal: Signal,
    can_know_reach: bool,
}

impl Surroundings for Around<'_> {
    fn is_in_our_group(&self) -> bool {
        // The kernel reports a hang-up to the leader of the session alone.
        let is_for_us = self.signal == Signal::HUP && terminal::leads_session();
        !is_for_us && self.job.is_some_and(terminal::is_in_our_group)
    }

    fn contains(&self, pid: Pid) -> bool {
        self.job == Some(pid) || self.tree.contains(pid)
    }

    fn can_know_reach(&self) -> bool {
        self.can_know_reach
    }
}
