//! The wait of the loop: what a failing system call, or a tracer that holds the job, must not do is
//! make it spin, hang or lose the job's end.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::model::event::Event;
use crate::model::outcome::WaitStatus;
use crate::model::time::Moment;
use crate::run::evidence::EvidenceGatherer;
use crate::run::live::Live;
use crate::run::tracing::Tracer;
use crate::run::world::contained;
use crate::supervisor::{EndReport, Input};
use crate::sys::ptrace::Stopped;
use crate::sys::wait::Waited;
use crate::sys::{SysError, clock, poll, wait};

/// At most this many changes of children are taken in before signals are looked at again.
const CHANGES_MAX: usize = 256;

/// After this many failures of waitid(2), the status of a job that has ended counts as lost.
const FAILURES_MAX: u32 = 50;

/// How often a job whose end waitid(2) does not report is looked at again, besides after SIGCHLD.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Live {
    /// Waits for the next input. What failed is looked at again after a while.
    pub(super) fn try_wait(&mut self, deadline: Option<Moment>) -> Result<(), SysError> {
        let now = clock::now();
        if let Some(retry_at) = self.waiting.retry_at.take_if(|at| *at > now) {
            self.waiting.retry_at = Some(retry_at);
            poll::sleep_until(deadline.map_or(retry_at, |at| at.min(retry_at)));
            return Ok(());
        }
        let was_failing = self.waiting.retry_at.take().is_some();
        let late = self.gatherer.as_ref().and_then(EvidenceGatherer::next_deadline);
        let deadline = match self.waiting.has_more_changes || was_failing {
            true => Some(now),
            false => {
                let traced = self.tracer.as_ref().and_then(Tracer::next_deadline);
                let ours = [self.waiting.look_again_at, self.release_at, self.listen_at];
                let others = [deadline, late, traced].into_iter().chain(ours);
                others.flatten().min()
            }
        };
        let is_held = self.waiting.look_again_at.is_some();
        let pidfd = self.child.as_ref().filter(|_| !is_held).map(|child| child.pidfd.as_fd());
        let deaths = self.gatherer.as_ref().and_then(EvidenceGatherer::fd);
        let probe = self.signal_probe.as_ref().map(AsFd::as_fd);
        let [asked, report] = self.stall_reports.fds();
        let signals = Some(self.signals.as_fd());
        let polled = poll::wait([signals, pidfd, deaths, probe, asked, report], deadline);
        // Who cannot ask what is ready looks at all: nothing of it blocks.
        let [has_signals, has_ended, has_deaths, has_reports, is_asked, has_stall_report] =
            *polled.as_ref().unwrap_or(&[true, true, true, true, true, false]);
        // What fails here has had its turn, and keeps nothing else from having its own.
        let is_observed = contained(|| self.observe(has_deaths)).is_some();
        self.release_descriptors();
        if let Some(tracer) = &mut self.tracer {
            tracer.take_due(&mut self.pending);
        }
        contained(|| self.attend_to_stacks(is_asked, has_stall_report));
        let mut has_changes = has_ended || self.waiting.has_more_changes || was_failing;
        has_changes |= self.waiting.look_again_at.take_if(|at| *at <= clock::now()).is_some();
        let read = match has_signals {
            true => contained(|| self.read_signals())
                .unwrap_or(Ok(true))
                .map(|has_child_changed| has_changes |= has_child_changed),
            false => Ok(()),
        };
        if has_reports {
            self.read_signal_probe();
        }
        // A signalfd that cannot be read does not keep a job from being reaped.
        let collected = if has_changes { self.collect_changes() } else { Ok(()) };
        if has_changes && (has_ended || is_held) && polled.is_ok() && self.child.is_some() {
            self.not_collected(collected.is_ok());
        }
        if !is_observed {
            self.waiting.pause();
        }
        polled.map(drop).and(read).and(collected)
    }

    /// Answers who asks for stacks, and takes in a report that is finished.
    fn attend_to_stacks(&mut self, is_asked: bool, is_finished: bool) {
        if self.listen_at.take_if(|at| *at <= clock::now()).is_some() {
            self.stall_reports.listen(self.run_id);
        }
        if is_finished && let Some((events, is_awaited)) = self.stall_reports.take() {
            match is_awaited {
                true => self.pending.push_back(Input::StallReport(events)),
                false => self.pending.extend(events.into_iter().map(Input::News)),
            }
        }
        if is_asked {
            self.stall_reports.answer(&self.tree);
        }
    }

    /// Takes in what was observed, and begins what begins later.
    fn observe(&mut self, has_deaths: bool) {
        let Some(gatherer) = &mut self.gatherer else { return };
        if has_deaths {
            gatherer.take_deaths(&self.tree, self.child.as_ref().map(|one| one.pid));
        }
        self.pending.extend(gatherer.begin_late(clock::now(), &self.tree).map(Input::News));
    }

    /// The job has ended, and its status was not collected.
    fn not_collected(&mut self, can_wait: bool) {
        if can_wait {
            self.waiting.look_again_at = Some(clock::now() + LOOK_AGAIN_AFTER);
            return;
        }
        self.waiting.failures += 1;
        if self.waiting.failures >= FAILURES_MAX {
            self.child = None;
            self.pending.push_back(Input::JobLost);
        }
    }

    /// Logs what failed, once for each kind; it is tried again after a while.
    pub(super) fn failed(&mut self, error: &SysError) {
        self.waiting.pause();
        let text = format!("could not {error}: {}; trying again", error.source.desc());
        if !self.waiting.logged.contains(&text) {
            self.waiting.logged.push(text.clone());
            self.pending.push_back(Input::News(Event::Notice { text }));
        }
    }

    /// Takes in what became of children, the job itself last: what its orphans died of is known
    /// before the job is judged.
    pub(super) fn collect_changes(&mut self) -> Result<(), SysError> {
        // What fails or panics here may do so again: then the job is reaped by other means.
        let mut job_ended = None;
        let collected = contained(|| self.collect_into(&mut job_ended));
        if let (None | Some(Err(_)), None, Some(child)) = (&collected, &job_ended, &self.child)
            && let Some((end, usage)) = wait::reap(child.pid)
        {
            self.tree.reaped(child.pid);
            job_ended = self.job_changed(WaitStatus::Ended(end), usage, EndReport::default());
        }
        // Whatever failed meanwhile, the job was reaped.
        self.pending.extend(job_ended);
        match collected {
            Some(collected) => collected.and_then(|()| self.notice_lost_job()),
            None => {
                self.waiting.pause();
                Ok(())
            }
        }
    }

    fn collect_into(&mut self, job_ended: &mut Option<Input>) -> Result<(), SysError> {
        self.waiting.has_more_changes = false;
        for _ in 0..CHANGES_MAX {
            let waited = self.look_for_change()?;
            let Waited::Changed(pid, _) = waited else { return Ok(()) };
            let is_job = self.child.as_ref().is_some_and(|child| child.pid == pid);
            if let (true, Waited::Changed(_, WaitStatus::Ended(end))) = (is_job, &waited)
                && let Err(error) = self.read_last_signals(*end)
            {
                // Evidence that cannot be gathered does not cost the status.
                self.failed(&error);
            }
            let is_anothers = self.tracer.as_ref().is_some_and(|one| one.is_anothers(pid));
            let is_orphan = !is_job && !is_anothers && !self.tree.is_stranger(pid);
            let report = contained(|| self.examine(pid, &waited)).unwrap_or_default();
            let (Waited::Changed(_, status), usage) = wait::take(pid)? else { continue };
            if is_job {
                // Before anything that may fail.
                let ended = self.job_changed(status, usage, report);
                if job_ended.is_none() {
                    *job_ended = ended;
                }
            }
            match status {
                WaitStatus::Ended(end) => {
                    self.tree.reaped(pid);
                    contained(|| self.note_traced_end(pid, end));
                }
                WaitStatus::Traced(stop) => self.answer(Stopped::new(pid, stop)),
                WaitStatus::Stopped(_) | WaitStatus::Continued => {}
            }
            if let (WaitStatus::Ended(end), true) = (status, is_orphan) {
                self.pending.push_back(Input::OrphanEnded(pid, end, usage));
            }
            if let (WaitStatus::Ended(_), Some(gatherer), false) =
                (status, &self.gatherer, is_anothers)
            {
                gatherer.reaped(pid, &usage);
            }
        }
        self.waiting.has_more_changes = true;
        Ok(())
    }

    /// A child that is no longer ours to wait for has ended, and its status went elsewhere.
    fn notice_lost_job(&mut self) -> Result<(), SysError> {
        if let Some(child) = &self.child
            && wait::look_at(child.pid)? == Waited::NoChild
        {
            self.child = None;
            self.pending.push_back(Input::JobLost);
        }
        Ok(())
    }
}
