//! Traces the job (ptrace(2)): reads in each stop what is to be known about it, answers it, and reports.
//!
//! Everything is done on the supervising thread, which is the one that traces. Nothing is kept from the job: every
//! signal is delivered, every stop of a process lasts until its SIGCONT.

use std::collections::VecDeque;

use crate::model::event::Event;
use crate::model::outcome::Termination;
use crate::model::process::{Pid, Sender, SenderProcess};
use crate::model::signal::{Origin, SignalInfo};
use crate::model::time::Moment;
use crate::model::trace_stop::TraceStop;
use crate::model::tracing::{Author, Delivery, FatalSignal, TraceEvent, TracedProcess};
use crate::plan::TraceMode;
use crate::run::crashes::Crashes;
use crate::run::senders::{NoJob, Senders};
use crate::supervisor::Input;
use crate::sys::ptrace::Stopped;
use crate::sys::signals::RawSignal;
use crate::sys::{clock, proc, ptrace, reaper, terminal};
use crate::trace::journal::{Bursts, Journal};
use crate::trace::tracee::{TraceInput, TraceReply, TraceReport, Tracees};

/// Signals that descendants died of are kept for the verdict up to this number.
const FATAL_MAX: usize = 64;

/// See the module's documentation.
pub(super) struct Tracer {
    job: Pid,
    mode: TraceMode,
    ourselves: Pid,
    tracees: Tracees,
    journal: Journal,
    bursts: Bursts,
    senders: Senders,
    fatal: VecDeque<FatalSignal>,
    crashes: Crashes,
    /// Until its end is reported.
    is_job_alive: bool,
}

impl Tracer {
    /// The job was seized before it executed its program, and has done so by now.
    pub(super) fn new(job: Pid, mode: TraceMode) -> Tracer {
        let mut tracees = Tracees::default();
        tracees.begin(job, proc::comm(job).unwrap_or_default());
        Tracer {
            job,
            mode,
            ourselves: Pid(nix::unistd::getpid().as_raw()),
            tracees,
            journal: Journal::default(),
            bursts: Bursts::default(),
            senders: Senders::new(),
            fatal: VecDeque::new(),
            crashes: Crashes::default(),
            is_job_alive: true,
        }
    }

    /// Returns whether each descendant is traced.
    pub(super) fn knows_descendants(&self) -> bool {
        self.mode != TraceMode::Main
    }

    /// Returns all threads that are traced.
    pub(super) fn threads(&self) -> Vec<Pid> {
        self.tracees.threads()
    }

    /// When to call [`Tracer::take_due`].
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.bursts.next_deadline()
    }

    /// Reports what has to wait for a while until it is known.
    pub(super) fn take_due(&mut self, into: &mut VecDeque<Input>) {
        let events = match self.bursts.next_deadline() {
            None => return,
            Some(_) => self.bursts.take(clock::now(), false),
        };
        into.extend(events.into_iter().map(news));
    }

    /// Answers a stop, and reports what it means.
    pub(super) fn answer(&mut self, stopped: Stopped, into: &mut VecDeque<Input>) {
        let now = clock::now();
        let thread = stopped.thread();
        let input = self.read(&stopped, now);
        let delivered = match &input {
            TraceInput::Signal(Some((delivery, author))) => Some((delivery.clone(), *author)),
            _ => None,
        };
        if let Some((delivery, _)) = &delivered {
            let process = self.tracees.owner(thread);
            self.crashes.examine(&stopped, (process, process == self.job), delivery);
        }
        let (reply, report) = self.tracees.stopped(now, thread, input);
        let group = match (&delivered, &report) {
            (Some((_, Author::Another)), Some(TraceReport::Delivered(process))) => {
                terminal::group_of(process.pid)
            }
            _ => None,
        };
        match reply {
            TraceReply::Resume => stopped.resume(),
            TraceReply::Listen => stopped.listen(),
            TraceReply::Detach => stopped.detach(),
        }
        match (report, delivered) {
            (Some(TraceReport::Delivered(process)), Some((delivery, author))) => {
                if author == Author::Another {
                    self.bursts.add(now, &process, &delivery, group);
                }
                if self.journal.takes_signal(now, &delivery, author) {
                    let delivery = Box::new(delivery);
                    into.push_back(news(TraceEvent::Delivered { process, delivery }));
                }
            }
            (Some(report), _) => self.report(report, into),
            (None, _) => {}
        }
    }

    fn report(&mut self, report: TraceReport, into: &mut VecDeque<Input>) {
        let (event, is_ordinary) = match report {
            TraceReport::Stopped(process, signal) if process.pid == self.job => {
                return into.push_back(Input::JobStopped(signal));
            }
            TraceReport::Continued(process) if process.pid == self.job => {
                return into.push_back(Input::JobContinued);
            }
            TraceReport::Stopped(process, signal) => {
                (TraceEvent::Stopped { process, signal }, false)
            }
            TraceReport::Continued(process) => (TraceEvent::Continued { process }, false),
            TraceReport::Executed(process, program) => {
                (TraceEvent::Executed { process, program }, true)
            }
            TraceReport::Delivered(_) => return,
        };
        if self.journal.takes_line(is_ordinary) {
            into.push_back(news(event));
        }
    }

    /// Reads what a stop is about: what the sender of a signal is may be gone in a moment.
    fn read(&mut self, stopped: &Stopped, now: Moment) -> TraceInput {
        let thread = stopped.thread();
        match stopped.stop() {
            TraceStop::Signal(_) => {
                let owner = self.tracees.owner(thread);
                TraceInput::Signal(stopped.signal().map(|(raw, code, address)| {
                    let (info, author) = self.name(raw, owner, now);
                    (Delivery { info, code, address }, author)
                }))
            }
            TraceStop::Group(signal) => TraceInput::Group(signal),
            TraceStop::Trap => {
                let is_known = self.tracees.knows(thread);
                let owner = if is_known { None } else { proc::process_of(thread) };
                TraceInput::Trap { owner }
            }
            TraceStop::Fork | TraceStop::Vfork => {
                TraceInput::Made { thread: stopped.message(), is_thread: false }
            }
            TraceStop::Clone => {
                let made = stopped.message();
                let owner = self.tracees.owner(thread);
                let is_thread = made.is_some_and(|made| ptrace::is_thread_of(made, owner));
                TraceInput::Made { thread: made, is_thread }
            }
            TraceStop::Exec => {
                TraceInput::Executed { former: stopped.message(), name: proc::comm(thread) }
            }
            TraceStop::Other(_) => TraceInput::Other,
        }
    }

    /// Names the sender of a signal to the process `owner`. What a process sends to itself is the most frequent
    /// of all, and nothing has to be looked up for it. That sigqueue(3) can name anybody is said with the sender.
    fn name(&mut self, raw: RawSignal, owner: Pid, now: Moment) -> (SignalInfo, Author) {
        let RawSignal { signal, origin, value, pid, uid } = raw;
        let is_from_process = matches!(origin, Origin::Kill | Origin::Queue | Origin::Thread);
        if !is_from_process {
            let info = SignalInfo { signal, origin, sender: Sender::Kernel, value };
            return (info, Author::Kernel);
        }
        let known = match pid {
            pid if pid == owner.0 => Some((self.tracees.process(owner).name, Author::Itself)),
            pid if pid == self.ourselves.0 => Some(("childminder".to_owned(), Author::Childminder)),
            _ => None,
        };
        if let Some((name, author)) = known {
            let (pid, command) = (Pid(pid), Some(name));
            let sender = SenderProcess { pid, uid, user: None, command, is_hidden: false };
            return (SignalInfo { signal, origin, sender: Sender::Process(sender), value }, author);
        }
        self.senders.begin_batch(now);
        (self.senders.resolve(raw, &NoJob).0, Author::Another)
    }

    /// Returns whether a zombie is not our own child to wait for: a thread, or a process whose parent lives.
    pub(super) fn is_anothers(&self, pid: Pid) -> bool {
        if pid == self.job || !self.tracees.knows(pid) {
            return false;
        }
        self.tracees.owner(pid) != pid
            || self.tracees.has_parent(pid)
            || reaper::parent(pid).is_some_and(|parent| parent != self.ourselves)
    }

    /// Takes in the end of a thread; returns the process if it was a descendant's last one.
    pub(super) fn ended(
        &mut self,
        pid: Pid,
        end: Termination,
        into: &mut VecDeque<Input>,
    ) -> Option<TracedProcess> {
        let now = clock::now();
        let mut ended = self.tracees.ended(now, pid, end)?;
        if let Some(fatal) = &mut ended.fatal {
            fatal.crash = self.crashes.place_and_cause(pid, fatal.delivery.info.signal);
        }
        let is_job = pid == self.job;
        if let Termination::Signaled { signal, .. } = end
            && let Some(report) = self.crashes.take(pid, signal)
        {
            into.push_back(Input::News(Event::Crashed(Box::new(report))));
        }
        let cause = ended.fatal.as_ref().map(|fatal| Box::new(fatal.delivery.clone()));
        let process = ended.process.clone();
        let event = TraceEvent::Ended { process, end, cause, is_job };
        if is_job {
            self.is_job_alive = false;
            into.extend(self.bursts.take(now, true).into_iter().map(news));
            if ended.fatal.is_some() {
                into.push_back(news(event));
            }
            into.push_back(news(self.summary()));
            return None;
        }
        if let Some(fatal) = ended.fatal {
            self.keep(fatal);
        }
        if self.journal.takes_line(end.is_success()) {
            into.push_back(news(event));
        }
        Some(ended.process)
    }

    /// The last ones are those that may explain an end.
    fn keep(&mut self, fatal: FatalSignal) {
        if self.is_job_alive {
            if self.fatal.len() == FATAL_MAX {
                self.fatal.pop_front();
            }
            self.fatal.push_back(fatal);
        }
    }

    fn summary(&mut self) -> TraceEvent {
        let (unlogged, unlogged_lines) = self.journal.finish();
        TraceEvent::Summary { counts: self.tracees.counts(), unlogged, unlogged_lines }
    }

    /// Returns what the descendants died of so far, and the job itself, which is a zombie.
    pub(super) fn take_fatal(&mut self, job: Pid, end: Termination) -> Vec<FatalSignal> {
        let mut own = self.tracees.fatal(job, clock::now(), end);
        if let Some(fatal) = &mut own {
            fatal.crash = self.crashes.place_and_cause(job, fatal.delivery.info.signal);
        }
        self.fatal.drain(..).chain(own).collect()
    }
}

fn news(event: TraceEvent) -> Input {
    Input::News(Event::Traced(event))
}
