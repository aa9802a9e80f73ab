//! What is known of the threads that are traced, and how each stop is answered.
//!
//! Pure: what happened and what was read in the stop come in; how it is answered and what is to be reported come
//! out. The order of the kernel's reports is not that of the events: a new thread may stop, and even end, before the
//! one that made it reports it.

use std::collections::{HashMap, HashSet};

use crate::model::outcome::Termination;
use crate::model::process::Pid;
use crate::model::signal::Signal;
use crate::model::time::Moment;
use crate::model::tracing::{Author, Delivery, FatalSignal, TraceCounts, TracedProcess};

/// More threads are not traced at the same time: waitid(2) looks at all of them each time.
const THREADS_MAX: usize = 20_000;

/// Ends that came before the report of the maker; more are forgotten.
const EARLY_ENDS_MAX: usize = 4_096;

/// A stop, with what was read in it.
#[derive(Clone, Debug, PartialEq)]
pub enum TraceInput {
    /// A signal is about to be delivered; `None` if nothing could be read about it.
    Signal(Option<(Delivery, Author)>),
    Group(Signal),
    /// `owner` is the process of a thread that is not known yet.
    Trap {
        owner: Option<Pid>,
    },
    /// It made that thread, or that process.
    Made {
        thread: Option<Pid>,
        is_thread: bool,
    },
    /// Its process executed a program; `former` is the number that the thread had before.
    Executed {
        former: Option<Pid>,
        name: Option<String>,
    },
    Other,
}

/// How a stop is answered. A signal is always delivered: nothing is kept from the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceReply {
    Resume,
    /// It stays stopped, until SIGCONT.
    Listen,
    /// It goes on, and is traced no longer.
    Detach,
}

/// What a stop means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceReport {
    /// The signal goes to this process.
    Delivered(TracedProcess),
    Stopped(TracedProcess, Signal),
    Continued(TracedProcess),
    /// With its name until then, and from then on.
    Executed(TracedProcess, String),
}

/// A process of the job that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct EndedTracee {
    pub process: TracedProcess,
    /// What it died of, if that was a signal and was seen.
    pub fatal: Option<FatalSignal>,
    /// Whether the process that made it is traced and alive, and so waits for it.
    pub has_parent: bool,
}

#[derive(Debug, Default)]
struct Tracee {
    name: String,
    parent: Option<Pid>,
    threads: u32,
    is_stopped: bool,
    /// Whether the report of its maker has come.
    is_claimed: bool,
    /// The last one of each signal.
    deliveries: Vec<LastDelivery>,
}

#[derive(Debug)]
struct LastDelivery {
    delivery: Delivery,
    author: Author,
    at: Moment,
    /// The last one that the process did not send to itself.
    foreign: Option<(Delivery, Author, Moment)>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Tracees {
    processes: HashMap<Pid, Tracee>,
    /// The process of each thread, also of the first one of each.
    owners: HashMap<Pid, Pid>,
    early_ends: HashSet<Pid>,
    counts: TraceCounts,
}

impl Tracees {
    /// Begins with a job of one thread.
    pub fn begin(&mut self, job: Pid, name: String) {
        *self = Tracees::default();
        self.adopt(job, job);
        let tracee = self.processes.entry(job).or_default();
        (tracee.name, tracee.is_claimed) = (name, true);
    }

    #[must_use]
    pub fn knows(&self, thread: Pid) -> bool {
        self.owners.contains_key(&thread)
    }

    /// Returns the process of a thread; one that is not known stands for itself.
    #[must_use]
    pub fn owner(&self, thread: Pid) -> Pid {
        self.owners.get(&thread).copied().unwrap_or(thread)
    }

    #[must_use]
    pub fn threads(&self) -> Vec<Pid> {
        self.owners.keys().copied().collect()
    }

    #[must_use]
    pub fn counts(&self) -> TraceCounts {
        self.counts
    }

    #[must_use]
    pub fn process(&self, pid: Pid) -> TracedProcess {
        let name = self.processes.get(&pid).map(|tracee| tracee.name.clone());
        TracedProcess { pid, name: name.unwrap_or_default() }
    }

    /// Returns whether the process that made that one is traced and alive.
    #[must_use]
    pub fn has_parent(&self, pid: Pid) -> bool {
        let parent = self.processes.get(&pid).and_then(|tracee| tracee.parent);
        parent.is_some_and(|parent| self.processes.contains_key(&parent))
    }

    /// Takes in a stop.
    pub fn stopped(
        &mut self,
        now: Moment,
        thread: Pid,
        input: TraceInput,
    ) -> (TraceReply, Option<TraceReport>) {
        let owner = self.owner(thread);
        let report = match input {
            TraceInput::Signal(Some((delivery, author))) => {
                self.counts.signals += 1;
                self.note(now, owner, (delivery, author));
                Some(TraceReport::Delivered(self.process(owner)))
            }
            TraceInput::Group(signal) => return (TraceReply::Listen, self.halt(thread, signal)),
            TraceInput::Trap { owner } if !self.knows(thread) => {
                if self.owners.len() >= THREADS_MAX {
                    return (TraceReply::Detach, None);
                }
                self.adopt(thread, owner.unwrap_or(thread));
                None
            }
            TraceInput::Trap { .. } => self.go_on(thread),
            TraceInput::Made { thread: Some(made), is_thread } => {
                self.made(owner, made, is_thread);
                None
            }
            TraceInput::Executed { former, name } => Some(self.executed(thread, former, name)),
            TraceInput::Signal(None)
            | TraceInput::Made { thread: None, .. }
            | TraceInput::Other => None,
        };
        (TraceReply::Resume, report)
    }

    /// Takes in the end of a thread; returns the process that ended with it, if it was the last one.
    pub fn ended(&mut self, now: Moment, thread: Pid, end: Termination) -> Option<EndedTracee> {
        let owner = self.owners.remove(&thread)?;
        if owner != thread {
            if let Some(tracee) = self.processes.get_mut(&owner) {
                tracee.threads = tracee.threads.saturating_sub(1);
            }
            return None;
        }
        let tracee = self.processes.remove(&owner)?;
        if tracee.threads > 1 {
            self.owners.retain(|_, of| *of != owner);
        }
        if !tracee.is_claimed && self.early_ends.len() < EARLY_ENDS_MAX {
            self.early_ends.insert(owner);
        }
        let has_parent = tracee.parent.is_some_and(|parent| self.processes.contains_key(&parent));
        let fatal = tracee.fatal(owner, now, end);
        let process = TracedProcess { pid: owner, name: tracee.name };
        Some(EndedTracee { process, fatal, has_parent })
    }

    /// Returns what a process that just ended died of, as far as that was seen, and keeps the process.
    #[must_use]
    pub fn fatal(&self, pid: Pid, now: Moment, end: Termination) -> Option<FatalSignal> {
        self.processes.get(&pid)?.fatal(pid, now, end)
    }

    fn adopt(&mut self, thread: Pid, owner: Pid) {
        self.owners.insert(thread, owner);
        let is_new_process = thread == owner;
        self.counts.processes += u64::from(is_new_process);
        self.counts.threads += u64::from(!is_new_process);
        self.processes.entry(owner).or_default().threads += 1;
    }

    fn made(&mut self, maker: Pid, made: Pid, is_thread: bool) {
        let is_over = self.early_ends.remove(&made);
        if !self.knows(made) && (is_over || self.owners.len() >= THREADS_MAX) {
            return;
        }
        if !self.knows(made) {
            self.adopt(made, if is_thread { maker } else { made });
        }
        let name = self.processes.get(&maker).map(|tracee| tracee.name.clone());
        if let Some(tracee) = self.processes.get_mut(&made) {
            tracee.is_claimed = true;
            tracee.parent = Some(maker);
            if tracee.name.is_empty() {
                tracee.name = name.unwrap_or_default();
            }
        }
    }

    /// A thread that executes a program takes the number of the first thread of its process. The others end, and
    /// report it, but the number that it had is not reported again.
    fn executed(&mut self, thread: Pid, former: Option<Pid>, name: Option<String>) -> TraceReport {
        self.counts.execs += 1;
        let former = former.filter(|former| *former != thread);
        let is_known = former.is_some_and(|former| self.owners.remove(&former).is_some());
        if !self.knows(thread) {
            self.adopt(thread, thread);
        }
        let before = self.process(thread);
        let tracee = self.processes.entry(thread).or_default();
        if is_known {
            tracee.threads = tracee.threads.saturating_sub(1);
        }
        tracee.deliveries.clear();
        tracee.is_stopped = false;
        if let Some(name) = name {
            tracee.name = name;
        }
        TraceReport::Executed(before, tracee.name.clone())
    }

    fn halt(&mut self, thread: Pid, signal: Signal) -> Option<TraceReport> {
        // Each thread reports it; that of the first one stands for the process.
        let tracee = self.processes.get_mut(&thread)?;
        if std::mem::replace(&mut tracee.is_stopped, true) {
            return None;
        }
        self.counts.stops += 1;
        Some(TraceReport::Stopped(self.process(thread), signal))
    }

    fn go_on(&mut self, thread: Pid) -> Option<TraceReport> {
        let tracee = self.processes.get_mut(&thread)?;
        let was_stopped = std::mem::replace(&mut tracee.is_stopped, false);
        was_stopped.then(|| TraceReport::Continued(self.process(thread)))
    }

    fn note(&mut self, now: Moment, owner: Pid, (delivery, author): (Delivery, Author)) {
        let Some(tracee) = self.processes.get_mut(&owner) else { return };
        let signal = delivery.info.signal;
        let known = tracee.deliveries.iter_mut().find(|one| one.delivery.info.signal == signal);
        let foreign = (author != Author::Itself).then(|| (delivery.clone(), author, now));
        let last = LastDelivery { delivery, author, at: now, foreign };
        match known {
            Some(known) => {
                let foreign = last.foreign.clone().or_else(|| known.foreign.take());
                *known = LastDelivery { foreign, ..last };
            }
            None => tracee.deliveries.push(last),
        }
    }
}

impl Tracee {
    fn fatal(&self, pid: Pid, now: Moment, end: Termination) -> Option<FatalSignal> {
        let Termination::Signaled { signal, .. } = end else { return None };
        let last = self.deliveries.iter().find(|one| one.delivery.info.signal == signal)?;
        let earlier = last.foreign.clone().filter(|_| last.author == Author::Itself);
        let earlier = earlier.map(|(delivery, author, at)| (delivery, author, last.at - at));
        let (delivery, author) = (last.delivery.clone(), last.author);
        Some(FatalSignal {
            process: pid,
            delivery,
            author,
            earlier,
            before: now - last.at,
            crash: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::model::process::Sender;
    use crate::model::signal::{Origin, SignalInfo};

    const JOB: Pid = Pid(100);

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    fn delivery(signal: Signal) -> Delivery {
        let info = SignalInfo { signal, origin: Origin::Kill, sender: Sender::Kernel, value: None };
        Delivery { info, code: 0, address: None }
    }

    fn tracees() -> Tracees {
        let mut tracees = Tracees::default();
        tracees.begin(JOB, "job".into());
        tracees
    }

    fn killed(signal: Signal) -> Termination {
        Termination::Signaled { signal, core_dumped: false }
    }

    fn process(pid: i32) -> TracedProcess {
        TracedProcess { pid: Pid(pid), name: "job".into() }
    }

    fn made(pid: i32, is_thread: bool) -> TraceInput {
        TraceInput::Made { thread: Some(Pid(pid)), is_thread }
    }

    #[test]
    fn each_stop_has_its_answer() {
        let exec = TraceInput::Executed { former: Some(JOB), name: Some("ls".into()) };
        for (input, reply) in [
            (
                TraceInput::Signal(Some((delivery(Signal::TERM), Author::Another))),
                TraceReply::Resume,
            ),
            (TraceInput::Signal(None), TraceReply::Resume),
            (TraceInput::Group(Signal::STOP), TraceReply::Listen),
            (TraceInput::Trap { owner: None }, TraceReply::Resume),
            (made(101, false), TraceReply::Resume),
            (made(102, true), TraceReply::Resume),
            (TraceInput::Made { thread: None, is_thread: false }, TraceReply::Resume),
            (exec, TraceReply::Resume),
            (TraceInput::Other, TraceReply::Resume),
        ] {
            let answer = tracees().stopped(at(1), JOB, input.clone());
            assert_eq!(answer.0, reply, "{input:?}");
        }
    }

    #[test]
    fn a_process_stops_once_and_continues_once_however_many_threads_it_has() {
        let mut all = tracees();
        all.stopped(at(1), JOB, made(101, true));
        let stop =
            |all: &mut Tracees, pid| all.stopped(at(1), pid, TraceInput::Group(Signal::TSTP)).1;
        assert_eq!(stop(&mut all, Pid(101)), None);
        assert_eq!(stop(&mut all, JOB), Some(TraceReport::Stopped(process(100), Signal::TSTP)));
        assert_eq!(stop(&mut all, JOB), None);
        let go =
            |all: &mut Tracees, pid| all.stopped(at(2), pid, TraceInput::Trap { owner: None }).1;
        assert_eq!(go(&mut all, JOB), Some(TraceReport::Continued(process(100))));
        assert_eq!(go(&mut all, JOB), None);
        assert_eq!(go(&mut all, Pid(101)), None);
    }

    #[test]
    fn a_death_has_the_signal_that_caused_it_and_what_came_before_its_own() {
        let mut all = tracees();
        let send = |all: &mut Tracees, when, author| {
            all.stopped(at(when), JOB, TraceInput::Signal(Some((delivery(Signal::TERM), author))));
        };
        send(&mut all, 1, Author::Another);
        send(&mut all, 4, Author::Itself);
        assert_eq!(all.fatal(JOB, at(5), killed(Signal::KILL)), None);
        assert_eq!(all.fatal(JOB, at(5), Termination::Exited(0)), None);
        let fatal =
            all.ended(at(5), JOB, killed(Signal::TERM)).expect("the job").fatal.expect("seen");
        assert_eq!((fatal.author, fatal.before), (Author::Itself, Duration::from_secs(1)));
        let (_, author, before) = fatal.earlier.expect("what it reacted to");
        assert_eq!((author, before), (Author::Another, Duration::from_secs(3)));
    }

    #[test]
    fn what_a_thread_got_is_its_processs_and_what_came_before_an_execution_is_forgotten() {
        let mut all = tracees();
        all.stopped(at(1), JOB, made(101, true));
        let input = TraceInput::Signal(Some((delivery(Signal::USR1), Author::Another)));
        all.stopped(at(1), Pid(101), input);
        assert!(all.fatal(JOB, at(2), killed(Signal::USR1)).is_some());
        let exec = TraceInput::Executed { former: Some(Pid(101)), name: Some("ls".into()) };
        let (_, report) = all.stopped(at(2), JOB, exec);
        assert_eq!(report, Some(TraceReport::Executed(process(100), "ls".into())));
        assert!(!all.knows(Pid(101)), "its number is not reported again");
        assert_eq!(all.fatal(JOB, at(2), killed(Signal::USR1)), None);
    }

    #[test]
    fn a_child_may_stop_and_end_before_its_maker_reports_it() {
        let mut all = tracees();
        all.stopped(at(1), Pid(101), TraceInput::Trap { owner: Some(Pid(101)) });
        let early = all.ended(at(1), Pid(101), Termination::Exited(3)).expect("a process");
        assert!(!early.has_parent, "nobody has claimed it");
        all.stopped(at(1), JOB, made(101, false));
        assert!(!all.knows(Pid(101)), "it is over");
        all.stopped(at(1), Pid(102), TraceInput::Trap { owner: Some(Pid(102)) });
        all.stopped(at(1), JOB, made(102, false));
        let claimed = all.ended(at(1), Pid(102), Termination::Exited(3)).expect("a process");
        assert!(claimed.has_parent);
        assert_eq!(claimed.process.name, "job", "that of its maker");
        assert_eq!(all.counts().processes, 3);
    }

    #[test]
    fn an_orphan_has_no_parent() {
        let mut all = tracees();
        all.stopped(at(1), JOB, made(101, false));
        all.stopped(at(1), Pid(101), made(102, false));
        all.ended(at(1), Pid(101), Termination::Exited(0));
        assert!(!all.ended(at(1), Pid(102), Termination::Exited(0)).expect("a process").has_parent);
    }

    #[test]
    fn too_many_threads_are_let_go() {
        let mut all = tracees();
        let number = |index: usize| Pid(1_000 + index as i32);
        let stop = |all: &mut Tracees, index| {
            all.stopped(at(1), number(index), TraceInput::Trap { owner: Some(JOB) }).0
        };
        for index in 1..THREADS_MAX {
            assert_eq!(stop(&mut all, index), TraceReply::Resume);
        }
        assert_eq!(stop(&mut all, THREADS_MAX), TraceReply::Detach);
        all.stopped(at(1), JOB, TraceInput::Made { thread: Some(Pid(7)), is_thread: false });
        assert!(!all.knows(Pid(7)));
    }

    fn any_input() -> impl Strategy<Value = TraceInput> {
        let pid = || (100..110_i32).prop_map(Pid);
        let maybe = || proptest::option::of(pid());
        let signal = || (1..65_i32).prop_map(|number| Signal::new(number).expect("a signal"));
        prop_oneof![
            signal().prop_map(|one| TraceInput::Signal(Some((delivery(one), Author::Itself)))),
            signal().prop_map(|one| TraceInput::Signal(Some((delivery(one), Author::Another)))),
            signal().prop_map(TraceInput::Group),
            maybe().prop_map(|owner| TraceInput::Trap { owner }),
            (maybe(), any::<bool>())
                .prop_map(|(thread, is_thread)| TraceInput::Made { thread, is_thread }),
            maybe().prop_map(|former| TraceInput::Executed { former, name: Some("x".into()) }),
            Just(TraceInput::Other),
        ]
    }

    proptest! {
        /// Whatever comes in whichever order: only a stop of a process is listened to, no signal is kept from
        /// the job, and nothing is kept of what has ended.
        #[test]
        fn any_order_is_survived(
            steps in proptest::collection::vec((100..110_i32, any_input(), any::<bool>()), 0..200)
        ) {
            let mut all = tracees();
            for (thread, input, ends) in steps {
                let is_group = matches!(input, TraceInput::Group(_));
                let (reply, _) = all.stopped(at(1), Pid(thread), input);
                prop_assert_eq!(reply == TraceReply::Listen, is_group);
                prop_assert!(reply != TraceReply::Detach);
                if ends {
                    all.ended(at(2), Pid(thread), killed(Signal::TERM));
                    prop_assert!(!all.knows(Pid(thread)));
                }
            }
            // The first thread of a process is the last whose end is reported.
            for number in (100..110).rev() {
                if all.owner(Pid(number)) != Pid(number) {
                    all.ended(at(3), Pid(number), Termination::Exited(0));
                }
            }
            for number in 100..110 {
                all.ended(at(3), Pid(number), Termination::Exited(0));
            }
            prop_assert!(all.owners.is_empty());
        }
    }
}
