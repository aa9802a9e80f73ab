//! What is seen of the processes of a job by tracing them (`--trace`, ptrace(2)).

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::model::outcome::Termination;
use crate::model::process::{Pid, Sender, SenderProcess};
use crate::model::signal::{Origin, Signal, SignalInfo};
use crate::model::text::Escaped;

/// A process of the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TracedProcess {
    pub pid: Pid,
    /// `comm` in proc(5) when it last executed a program.
    pub name: String,
}

impl fmt::Display for TracedProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, Escaped(&self.name))
    }
}

/// A signal that was delivered to a process of the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Delivery {
    #[serde(flatten)]
    pub info: SignalInfo,
    /// `si_code` of sigaction(2).
    pub code: i32,
    /// Where the fault was; only for those that the kernel reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<u64>,
}

impl Delivery {
    /// Returns whether the kernel sent it for a fault of the program itself.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        self.info.signal.is_fault() && self.code > 0
    }

    /// Returns the process that sent it.
    #[must_use]
    pub fn sender(&self) -> Option<&SenderProcess> {
        match &self.info.sender {
            Sender::Process(sender) => Some(sender),
            Sender::Kernel | Sender::OutsideNamespace => None,
        }
    }
}

/// Says where it came from.
impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.info.sender {
            Sender::OutsideNamespace => f.write_str("from outside this pid namespace"),
            Sender::Process(sender) => {
                write!(f, "from {}", SenderWords(sender))?;
                match self.info.origin {
                    Origin::Queue => f.write_str(" [as the sender states it: sigqueue can lie]"),
                    _ => Ok(()),
                }
            }
            Sender::Kernel => {
                f.write_str("from the kernel")?;
                match fault_words(self.info.signal, self.code) {
                    Some(words) => write!(f, ": {words}")?,
                    None if self.info.origin != Origin::Kernel => {
                        write!(f, ": {}", self.info.origin)?;
                    }
                    None => {}
                }
                match self.address {
                    Some(address) if self.info.signal != Signal::SYS => {
                        write!(f, ", address {address:#x}")
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

/// A sender in the order in which a reader asks: which process, which program, whose.
struct SenderWords<'a>(&'a SenderProcess);

impl fmt::Display for SenderWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SenderProcess { pid, uid, user, command, is_hidden } = self.0;
        write!(f, "process {pid} (")?;
        match command {
            Some(command) => write!(f, "{}", Escaped(command))?,
            None if *is_hidden => f.write_str("not visible to us")?,
            None => f.write_str("already gone")?,
        }
        write!(f, ") user {uid}")?;
        user.as_ref().map_or(Ok(()), |user| write!(f, " ({})", Escaped(user)))
    }
}

/// Returns `si_code` of a fault in words (sigaction(2)).
fn fault_words(signal: Signal, code: i32) -> Option<&'static str> {
    Some(match (signal, code) {
        (Signal::SEGV, 1) => "address not mapped",
        (Signal::SEGV, 2) => "access not permitted",
        (Signal::SEGV, 3) => "bounds check failed",
        (Signal::SEGV, 4) => "denied by a memory protection key",
        (Signal::SEGV, 8 | 9) => "memory tag mismatch",
        (Signal::SEGV, 10) => "control protection (shadow stack)",
        (Signal::SEGV, libc::SI_KERNEL) => {
            "general protection (an address that is not canonical, or a privileged instruction)"
        }
        (Signal::BUS, 1) => "misaligned address",
        (Signal::BUS, 2) => "no memory behind the mapping",
        (Signal::BUS, 3) => "hardware error",
        (Signal::BUS, 4 | 5) => "hardware memory error (machine check)",
        (Signal::FPE, 1) => "integer division by zero",
        (Signal::FPE, 2) => "integer overflow",
        (Signal::FPE, 3) => "floating-point division by zero",
        (Signal::FPE, 4) => "floating-point overflow",
        (Signal::FPE, 5) => "floating-point underflow",
        (Signal::FPE, 6) => "inexact floating-point result",
        (Signal::FPE, 7) => "invalid floating-point operation",
        (Signal::ILL, 1) => "illegal opcode",
        (Signal::ILL, 2) => "illegal operand",
        (Signal::ILL, 5) => "privileged opcode",
        (Signal::TRAP, 1 | libc::SI_KERNEL) => "breakpoint instruction",
        (Signal::TRAP, 2) => "single step",
        (Signal::SYS, 1) => "system call denied by seccomp",
        _ => return None,
    })
}

/// Who sent the signal that ended a process, as far as that matters to what it died of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// The process itself.
    Itself,
    /// childminder, which passed it on or meant it.
    Childminder,
    /// Another process.
    Another,
    Kernel,
}

/// A signal that a process died of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FatalSignal {
    pub process: Pid,
    pub delivery: Delivery,
    pub author: Author,
    /// When the process had sent the signal to itself: the last one of that number that came from elsewhere,
    /// with its author, and how long before.
    pub earlier: Option<(Delivery, Author, Duration)>,
    /// How long before the end of the process it was delivered.
    pub before: Duration,
    /// Where and why it crashed, if it could be examined.
    pub crash: Option<String>,
}

/// Signals that were not logged one by one, of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UnloggedSignals {
    pub signal: Signal,
    pub count: u64,
    pub why: WhyUnlogged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyUnlogged {
    /// The process sent it to itself: runtimes do so all the time.
    Itself,
    /// The kernel sent it for a fault of the process.
    Fault,
    /// A child of the process changed.
    Child,
    /// There were too many.
    Flood,
}

impl fmt::Display for UnloggedSignals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            WhyUnlogged::Itself => "sent by the process itself",
            WhyUnlogged::Fault => "faults",
            WhyUnlogged::Child => "about children",
            WhyUnlogged::Flood => "too many to log",
        };
        write!(f, "{} {} ({why})", self.count, self.signal)
    }
}

/// How many there were of what, over one attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TraceCounts {
    /// The job itself and its descendants.
    pub processes: u64,
    /// Besides the first of each process.
    pub threads: u64,
    pub execs: u64,
    pub signals: u64,
    pub stops: u64,
}

/// What the tracer reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum TraceEvent {
    Delivered {
        process: TracedProcess,
        #[serde(flatten)]
        delivery: Box<Delivery>,
    },
    /// One sender's signal reached several processes at once.
    DeliveredToMany {
        signal: Signal,
        sender: Pid,
        /// The first of them.
        processes: Vec<TracedProcess>,
        count: u64,
        /// The process group of all of them, if it is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        group: Option<Pid>,
    },
    Stopped {
        process: TracedProcess,
        signal: Signal,
    },
    Continued {
        process: TracedProcess,
    },
    Executed {
        /// With its name until then.
        process: TracedProcess,
        /// The name that it has from now on.
        program: String,
    },
    Ended {
        process: TracedProcess,
        end: Termination,
        /// Where the signal that it died of came from.
        #[serde(skip_serializing_if = "Option::is_none")]
        cause: Option<Box<Delivery>>,
        /// Whether it is the process that childminder started.
        is_job: bool,
    },
    Summary {
        #[serde(flatten)]
        counts: TraceCounts,
        unlogged: Vec<UnloggedSignals>,
        /// Executions, stops and ends that were not logged one by one.
        unlogged_lines: u64,
    },
}

impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TraceEvent::Delivered { process, delivery } => {
                let signal = delivery.info.signal;
                write!(f, "signal {} ({signal}) to {process} {delivery}", signal.number())
            }
            TraceEvent::DeliveredToMany { signal, sender, processes, count, group } => {
                write!(
                    f,
                    "signal {} ({signal}) of process {sender} reached {count} processes at once (",
                    signal.number()
                )?;
                for (index, process) in processes.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{} ({})", process.pid, Escaped(&process.name))?;
                }
                match count.saturating_sub(processes.len() as u64) {
                    0 => f.write_str(")")?,
                    more => write!(f, " and {more} more)")?,
                }
                match group {
                    Some(group) => write!(f, ": as if it was sent to process group {group}"),
                    None => f.write_str(
                        ", of several process groups: as if it was sent to every process (kill(2) with pid -1), or to \
                         one after the other",
                    ),
                }
            }
            TraceEvent::Stopped { process, signal } => {
                write!(f, "{process} stopped by signal {} ({signal})", signal.number())
            }
            TraceEvent::Continued { process } => write!(f, "{process} continued"),
            TraceEvent::Executed { process, program } => {
                write!(f, "{process} executed {}", Escaped(program))
            }
            TraceEvent::Ended { process, end, cause, .. } => {
                write!(f, "{process} {end}")?;
                cause.as_ref().map_or(Ok(()), |cause| write!(f, " {cause}"))
            }
            TraceEvent::Summary { counts, unlogged, unlogged_lines } => {
                let TraceCounts { processes, threads, execs, signals, stops } = counts;
                write!(
                    f,
                    "traced {processes} process(es), {threads} more thread(s), {execs} execution(s), {signals} \
                     signal(s), {stops} stop(s)"
                )?;
                for (index, one) in unlogged.iter().enumerate() {
                    let before =
                        if index == 0 { "; signals not logged one by one: " } else { ", " };
                    write!(f, "{before}{one}")?;
                }
                match unlogged_lines {
                    0 => Ok(()),
                    lines => write!(f, "; {lines} more executions, stops and ends not logged"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(pid: i32, command: &str) -> Delivery {
        let sender = Sender::Process(SenderProcess {
            pid: Pid(pid),
            uid: 0,
            user: Some("root".into()),
            command: Some(command.into()),
            is_hidden: false,
        });
        let info = SignalInfo { signal: Signal::TERM, origin: Origin::Kill, sender, value: None };
        Delivery { info, code: 0, address: None }
    }

    fn process(pid: i32, name: &str) -> TracedProcess {
        TracedProcess { pid: Pid(pid), name: name.into() }
    }

    #[test]
    fn a_delivered_signal_names_both_ends() {
        let event = TraceEvent::Delivered {
            process: process(812, "python3"),
            delivery: Box::new(sent(77, "kill -TERM\n812")),
        };
        assert_eq!(
            event.to_string(),
            "signal 15 (SIGTERM) to process 812 (python3) from process 77 (kill -TERM\\n812) user 0 (root)"
        );
    }

    #[test]
    fn a_fault_has_its_meaning_and_its_address() {
        let info = SignalInfo {
            signal: Signal::SEGV,
            origin: Origin::Other(1),
            sender: Sender::Kernel,
            value: None,
        };
        let delivery = Delivery { info, code: 1, address: Some(8) };
        assert!(delivery.is_fault());
        let end = Termination::Signaled { signal: Signal::SEGV, core_dumped: false };
        let event = TraceEvent::Ended {
            process: process(7, "x"),
            end,
            cause: Some(Box::new(delivery)),
            is_job: false,
        };
        assert_eq!(
            event.to_string(),
            "process 7 (x) terminated by signal 11 (SIGSEGV) from the kernel: address not mapped, address 0x8"
        );
    }

    #[test]
    fn a_signal_to_many_names_the_group_or_says_that_there_are_several() {
        let many = |group| TraceEvent::DeliveredToMany {
            signal: Signal::INT,
            sender: Pid(9),
            processes: vec![process(1, "a"), process(2, "b")],
            count: 5,
            group,
        };
        assert_eq!(
            many(Some(Pid(4))).to_string(),
            "signal 2 (SIGINT) of process 9 reached 5 processes at once (1 (a), 2 (b) and 3 more): as if it was \
             sent to process group 4"
        );
        assert!(many(None).to_string().contains("of several process groups"));
    }

    /// The log as JSON: one object, whose fields do not repeat.
    #[test]
    fn an_event_is_one_object() {
        let event = TraceEvent::Delivered {
            process: process(812, "python3"),
            delivery: Box::new(sent(77, "kill")),
        };
        let value = serde_json::to_value(crate::model::event::Event::Traced(event)).expect("JSON");
        assert_eq!(value["event"], "traced");
        assert_eq!(value["what"], "delivered");
        assert_eq!(value["process"]["pid"], 812);
        assert_eq!(value["sender"]["process"]["pid"], 77);
    }
}
