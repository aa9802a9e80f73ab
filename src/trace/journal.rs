//! What of all that is traced becomes a line of the log. Runtimes signal themselves by the hundred thousand, and a
//! storm of signals must not fill a disk.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::model::process::Pid;
use crate::model::signal::{Origin, Signal};
use crate::model::time::Moment;
use crate::model::tracing::{
    Author, Delivery, TraceEvent, TracedProcess, UnloggedSignals, WhyUnlogged,
};

/// Signals are counted over this span.
const WINDOW: Duration = Duration::from_secs(1);

/// In one window, this number is logged of one signal by one sender, and of all together.
const OF_ONE_SENDER: u32 = 10;
const OF_ALL: u32 = 100;

/// Lines about ordinary executions and ends in one attempt, and about stops, failures and deaths.
const ORDINARY_MAX: u64 = 200;
const OTHERS_MAX: u64 = 1_000;

/// What of one attempt was logged, and what was only counted.
#[derive(Debug, Default)]
pub struct Journal {
    window: Option<Moment>,
    of_all: u32,
    of_sender: HashMap<(Option<Pid>, Signal), u32>,
    unlogged: BTreeMap<(i32, WhyUnlogged), (Signal, u64)>,
    ordinary: u64,
    others: u64,
}

impl Journal {
    /// Returns whether a signal that was delivered is logged.
    pub fn takes_signal(&mut self, now: Moment, delivery: &Delivery, author: Author) -> bool {
        let why = self.why_not(now, delivery, author);
        if let Some(why) = why {
            let signal = delivery.info.signal;
            self.unlogged.entry((signal.number(), why)).or_insert((signal, 0)).1 += 1;
        }
        why.is_none()
    }

    fn why_not(&mut self, now: Moment, delivery: &Delivery, author: Author) -> Option<WhyUnlogged> {
        if delivery.info.signal == Signal::CHLD && delivery.info.origin == Origin::Child {
            return Some(WhyUnlogged::Child);
        }
        if author == Author::Itself {
            return Some(WhyUnlogged::Itself);
        }
        if delivery.is_fault() {
            return Some(WhyUnlogged::Fault);
        }
        if self.window.is_none_or(|since| now - since >= WINDOW) {
            self.window = Some(now);
            self.of_all = 0;
            self.of_sender.clear();
        }
        let sender = delivery.sender().map(|sender| sender.pid);
        if self.of_all >= OF_ALL {
            return Some(WhyUnlogged::Flood);
        }
        let of_sender = self.of_sender.entry((sender, delivery.info.signal)).or_default();
        if *of_sender >= OF_ONE_SENDER {
            return Some(WhyUnlogged::Flood);
        }
        *of_sender += 1;
        self.of_all += 1;
        None
    }

    /// Returns whether an execution, a stop or an end is logged; ordinary ones leave room for others.
    pub fn takes_line(&mut self, is_ordinary: bool) -> bool {
        let (lines, most) = match is_ordinary {
            true => (&mut self.ordinary, ORDINARY_MAX),
            false => (&mut self.others, OTHERS_MAX),
        };
        *lines += 1;
        *lines <= most
    }

    /// Returns what was not logged, and forgets all.
    pub fn finish(&mut self) -> (Vec<UnloggedSignals>, u64) {
        let all = std::mem::take(self);
        let signals = all.unlogged.into_iter();
        let signals = signals
            .map(|((_, why), (signal, count))| UnloggedSignals { signal, count, why })
            .collect();
        let ordinary = all.ordinary.saturating_sub(ORDINARY_MAX);
        (signals, ordinary + all.others.saturating_sub(OTHERS_MAX))
    }
}

/// What one sender sends to several processes within this span counts as sent at once: on a busy machine the last
/// of a group may have to wait for a processor.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Senders that are followed at the same time.
const BURSTS_MAX: usize = 64;

/// Processes that are named.
const NAMED_MAX: usize = 8;

/// Which signals reach several processes at once.
#[derive(Debug, Default)]
pub struct Bursts {
    open: VecDeque<Burst>,
}

#[derive(Debug)]
struct Burst {
    sender: Pid,
    signal: Signal,
    began: Moment,
    reached: Vec<TracedProcess>,
    count: u64,
    last: Pid,
    /// The process group of all so far; `None` if it is not one.
    group: Option<Pid>,
}

impl Bursts {
    /// Takes in a signal of another process; `group` is that of the process that gets it.
    pub fn add(
        &mut self,
        now: Moment,
        process: &TracedProcess,
        delivery: &Delivery,
        group: Option<Pid>,
    ) {
        let Some(sender) = delivery.sender().map(|sender| sender.pid) else { return };
        let signal = delivery.info.signal;
        let same = |burst: &&mut Burst| burst.sender == sender && burst.signal == signal;
        if let Some(burst) = self.open.iter_mut().find(same) {
            let is_known = burst.last == process.pid
                || burst.reached.iter().any(|known| known.pid == process.pid);
            if is_known {
                return;
            }
            burst.count += 1;
            burst.last = process.pid;
            burst.group = burst.group.filter(|known| Some(*known) == group);
            if burst.reached.len() < NAMED_MAX {
                burst.reached.push(process.clone());
            }
        } else if self.open.len() < BURSTS_MAX {
            let (reached, last) = (vec![process.clone()], process.pid);
            self.open.push_back(Burst {
                sender,
                signal,
                began: now,
                reached,
                count: 1,
                last,
                group,
            });
        }
    }

    /// When to call [`Bursts::take`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        self.open.front().map(|burst| Moment(burst.began.0 + AT_ONCE))
    }

    /// Returns those that are over; all with `is_end`.
    pub fn take(&mut self, now: Moment, is_end: bool) -> Vec<TraceEvent> {
        let is_over = |burst: &Burst| is_end || now - burst.began >= AT_ONCE;
        let over = self.open.iter().take_while(|burst| is_over(burst)).count();
        let over = self.open.drain(..over).filter(|burst| burst.count > 1);
        over.map(|Burst { sender, signal, reached, count, group, .. }| {
            TraceEvent::DeliveredToMany { signal, sender, processes: reached, count, group }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::{Sender, SenderProcess};
    use crate::model::signal::SignalInfo;

    fn at(milliseconds: u64) -> Moment {
        Moment(Duration::from_millis(10_000 + milliseconds))
    }

    fn sent(pid: i32, signal: Signal) -> Delivery {
        let sender =
            SenderProcess { pid: Pid(pid), uid: 0, user: None, command: None, is_hidden: false };
        let sender = Sender::Process(sender);
        let info = SignalInfo { signal, origin: Origin::Kill, sender, value: None };
        Delivery { info, code: 0, address: None }
    }

    fn process(pid: i32) -> TracedProcess {
        TracedProcess { pid: Pid(pid), name: "p".into() }
    }

    #[test]
    fn a_storm_is_counted_and_does_not_hide_another_sender() {
        let mut journal = Journal::default();
        let storm = sent(7, Signal::TERM);
        let logged =
            (0..5_000).filter(|_| journal.takes_signal(at(1), &storm, Author::Another)).count();
        assert_eq!(logged, 10);
        assert!(journal.takes_signal(at(2), &sent(8, Signal::TERM), Author::Another));
        assert!(journal.takes_signal(at(2), &sent(7, Signal::INT), Author::Another));
        assert!(journal.takes_signal(at(1_002), &storm, Author::Another), "a second later");
        let (unlogged, _) = journal.finish();
        let flood = UnloggedSignals { signal: Signal::TERM, count: 4_990, why: WhyUnlogged::Flood };
        assert_eq!(unlogged, [flood]);
    }

    #[test]
    fn a_thousand_senders_do_not_fill_the_log() {
        let mut journal = Journal::default();
        let logged = (0..1_000)
            .filter(|pid| journal.takes_signal(at(1), &sent(*pid, Signal::TERM), Author::Another))
            .count();
        assert_eq!(logged, 100);
    }

    #[test]
    fn what_a_process_does_to_itself_is_counted_only() {
        let mut journal = Journal::default();
        assert!(!journal.takes_signal(at(1), &sent(7, Signal::TERM), Author::Itself));
        let fault = Delivery {
            info: SignalInfo {
                signal: Signal::SEGV,
                origin: Origin::Other(1),
                sender: Sender::Kernel,
                value: None,
            },
            code: 1,
            address: Some(0),
        };
        assert!(!journal.takes_signal(at(1), &fault, Author::Kernel));
        let mut child = sent(7, Signal::CHLD);
        (child.info.origin, child.info.sender) = (Origin::Child, Sender::Kernel);
        assert!(!journal.takes_signal(at(1), &child, Author::Kernel));
        let whys: Vec<WhyUnlogged> = journal.finish().0.iter().map(|one| one.why).collect();
        assert_eq!(whys, [WhyUnlogged::Fault, WhyUnlogged::Itself, WhyUnlogged::Child]);
    }

    #[test]
    fn lines_about_processes_have_a_bound() {
        let mut journal = Journal::default();
        assert_eq!((0..300).filter(|_| journal.takes_line(true)).count(), 200);
        assert!(journal.takes_line(false), "a failure has room of its own");
        assert_eq!(journal.finish().1, 100);
    }

    #[test]
    fn several_processes_of_one_group_were_signalled_as_a_group() {
        let mut bursts = Bursts::default();
        for (millisecond, pid) in [(0, 1), (1, 2), (1, 2), (5, 3)] {
            let term = sent(9, Signal::TERM);
            bursts.add(at(millisecond), &process(pid), &term, Some(Pid(1)));
        }
        assert_eq!(bursts.next_deadline(), Some(at(100)));
        assert_eq!(bursts.take(at(99), false), []);
        let events = bursts.take(at(100), false);
        let [TraceEvent::DeliveredToMany { count, group, processes, .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((*count, *group, processes.len()), (3, Some(Pid(1)), 3));
        assert_eq!(bursts.next_deadline(), None);
    }

    #[test]
    fn one_process_alone_is_not_a_burst_and_two_groups_are_not_one() {
        let mut bursts = Bursts::default();
        bursts.add(at(0), &process(1), &sent(9, Signal::TERM), Some(Pid(1)));
        bursts.add(at(0), &process(1), &sent(8, Signal::TERM), Some(Pid(1)));
        bursts.add(at(1), &process(5), &sent(8, Signal::TERM), Some(Pid(5)));
        let events = bursts.take(at(2), true);
        let [TraceEvent::DeliveredToMany { sender: Pid(8), group: None, .. }] = &events[..] else {
            panic!("{events:?}")
        };
    }
}
