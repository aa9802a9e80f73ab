//! The events of a run. What sinks know is made of them; the wording of the log is the `Display` here.
//!
//! The messages that the original program wrote keep its words, so that tools made for its logs
//! still read ours.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::model::crash::CrashReport;
use crate::model::header::LogHeader;
use crate::model::outcome::{SpawnFailure, Termination};
use crate::model::process::{Descendant, NamedDescendants, Pid};
use crate::model::sample::{FileUse, Neighbour, Peaks, TreeSample};
use crate::model::signal::{Signal, SignalInfo};
use crate::model::text::Escaped;
use crate::model::tracing::TraceEvent;
use crate::model::usage::ResourceUsage;
use crate::model::verdict::Verdict;

/// A fact about the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Runs(LogHeader),
    Started {
        attempt: u32,
        pid: Pid,
        command: String,
    },
    StartFailed {
        attempt: u32,
        #[serde(flatten)]
        failure: SpawnFailure,
    },
    Trapped {
        signals: Vec<Signal>,
    },
    Received(SignalInfo),
    Forwarded {
        pid: Pid,
        signal: Signal,
    },
    NotForwarded {
        signal: Signal,
        reason: &'static str,
    },
    Stopped {
        pid: Pid,
        signal: Signal,
    },
    Continued {
        pid: Pid,
        #[serde(serialize_with = "opt_seconds", rename = "stopped_seconds")]
        stopped_for: Option<Duration>,
    },
    ContinueConfirmed {
        pid: Pid,
    },
    ContinueGivenUp {
        pid: Pid,
        tries: u32,
    },
    WantsTerminal {
        pid: Pid,
        signal: Signal,
    },
    Suspended,
    Resumed,
    Exited {
        pid: Pid,
        status: u8,
    },
    Signaled {
        pid: Pid,
        signal: Signal,
    },
    DumpedCore {
        pid: Pid,
    },
    StatusLost {
        pid: Pid,
    },
    Usage {
        #[serde(skip_serializing_if = "Option::is_none")]
        pid: Option<Pid>,
        #[serde(flatten)]
        usage: ResourceUsage,
        #[serde(skip_serializing_if = "Option::is_none")]
        peaks: Option<Peaks>,
    },
    OrphanEnded {
        pid: Pid,
        end: Termination,
        #[serde(flatten)]
        usage: ResourceUsage,
    },
    TimedOut {
        #[serde(serialize_with = "seconds", rename = "limit_seconds")]
        limit: Duration,
    },
    Terminating {
        why: &'static str,
        #[serde(serialize_with = "seconds", rename = "grace_seconds")]
        grace: Duration,
    },
    Killing {
        why: &'static str,
    },
    Stragglers {
        policy: &'static str,
        processes: Vec<Descendant>,
    },
    TreeRemains {
        processes: Vec<Descendant>,
    },
    Restarting {
        attempt: u32,
        left: u32,
        #[serde(serialize_with = "seconds", rename = "delay_seconds")]
        delay: Duration,
    },
    RestartsExhausted {
        limit: u32,
    },
    RestartRefused {
        reason: &'static str,
    },
    OrphansSummary {
        count: u64,
        #[serde(flatten)]
        usage: ResourceUsage,
    },
    Judged(Verdict),
    /// The verdict that was published already, as the line that ends the log.
    Concluded(Verdict),
    Answer {
        function: &'static str,
        answer: String,
    },
    Called {
        function: &'static str,
        #[serde(serialize_with = "seconds", rename = "took_seconds")]
        took: Duration,
        is_right: bool,
    },
    SleepInterrupted {
        #[serde(serialize_with = "seconds", rename = "remaining_seconds")]
        remaining: Duration,
    },
    Calls {
        count: u64,
    },
    /// Which sources of evidence can be read, and which cannot and why.
    #[serde(rename = "evidence")]
    EvidenceSources {
        in_force: Vec<String>,
        missing: Vec<String>,
    },
    FileUsed {
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
        #[serde(flatten)]
        file: FileUse,
    },
    Quarantined {
        #[serde(serialize_with = "lossy")]
        from: PathBuf,
        #[serde(serialize_with = "lossy")]
        to: PathBuf,
    },
    Neighbours {
        processes: Vec<Neighbour>,
    },
    /// A sample from shortly before a failed attempt ended.
    #[serde(rename = "recorded")]
    PastSample {
        #[serde(serialize_with = "seconds", rename = "seconds_before")]
        before: Duration,
        #[serde(flatten)]
        sample: TreeSample,
    },
    StderrLine {
        text: String,
    },
    Traced(TraceEvent),
    /// A process of the job died of a signal that it raised itself, or the kernel for it.
    Crashed(Box<CrashReport>),
    /// A line of the report about where the job's processes wait.
    Stack {
        text: String,
    },
    Notice {
        text: String,
    },
}

impl Event {
    /// Returns the lines that follow its own in a log for people.
    #[must_use]
    pub fn details(&self) -> Vec<String> {
        match self {
            Event::Crashed(report) => report.details(),
            _ => Vec::new(),
        }
    }

    /// Returns whether it belongs in the log. What another line of the log says does not.
    #[must_use]
    pub fn is_for_log(&self) -> bool {
        !matches!(self, Event::Called { .. })
    }
}

/// Writes a path as text: JSON has no other bytes, and the whole line would be lost.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

fn seconds<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

fn opt_seconds<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match span {
        Some(span) => serializer.serialize_some(&span.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}

impl fmt::Display for Event {
    #[expect(clippy::too_many_lines, reason = "a flat table of messages")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Runs(header) => header.fmt(f),
            Event::Started { pid, command, .. } => {
                write!(f, "child {} started in process {pid}", Escaped(command))
            }
            Event::StartFailed { failure, .. } => {
                write!(f, "child not started: {failure}")
            }
            Event::Trapped { signals } => {
                f.write_str("trapped")?;
                signals.iter().try_for_each(|signal| write!(f, " {signal}"))
            }
            Event::Received(info) => info.fmt(f),
            Event::Traced(event) => event.fmt(f),
            Event::Forwarded { pid, signal } => {
                write!(f, "forwarded signal {} ({signal}) to child {pid}", signal.number())
            }
            Event::NotForwarded { signal, reason } => {
                write!(f, "signal {} ({signal}) not forwarded: {reason}", signal.number())
            }
            Event::Stopped { pid, signal } => {
                write!(f, "child {pid} stopped by signal {} ({signal})", signal.number())
            }
            Event::Continued { pid, stopped_for: Some(span) } => {
                write!(f, "child {pid} continued after {:.3} seconds", span.as_secs_f64())
            }
            Event::Continued { pid, stopped_for: None } => {
                write!(f, "child {pid} continued after a stop too short to see")
            }
            Event::ContinueConfirmed { pid } => {
                write!(f, "successfully sent child {pid} SIGCONT")
            }
            Event::ContinueGivenUp { pid, tries } => {
                write!(f, "child {pid} stays stopped after {tries} times SIGCONT")
            }
            Event::WantsTerminal { pid, signal } => write!(
                f,
                "child {pid} wants the terminal ({signal}) and is not in the foreground: SIGCONT \
                 would only stop it again; bring it to the foreground, or give it -i /dev/null"
            ),
            Event::Suspended => f.write_str("suspended together with the child"),
            Event::Resumed => f.write_str("resumed"),
            Event::Exited { pid, status } => {
                write!(f, "child {pid} exited with status {status}")
            }
            Event::Signaled { pid, signal } => {
                write!(f, "child {pid} terminated by signal {} ({signal})", signal.number())
            }
            Event::DumpedCore { pid } => write!(f, "child {pid} dumped core"),
            Event::StatusLost { pid } => write!(
                f,
                "child {pid} is gone and its status with it (waitid(2): no child to wait for)"
            ),
            Event::Usage { pid: Some(pid), usage, .. } => {
                write!(f, "child {pid} rusage info -- {usage}")
            }
            Event::Usage { pid: None, usage, .. } => write!(f, "rusage info -- {usage}"),
            Event::OrphanEnded { pid, end, .. } => {
                write!(f, "orphan {pid} {end} (a descendant whose parent had gone)")
            }
            Event::TimedOut { limit } => {
                write!(f, "time limit of {:.3} seconds reached", limit.as_secs_f64())
            }
            Event::Terminating { why, grace } => write!(
                f,
                "sending SIGTERM to every process of the job ({why}); SIGKILL in {:.3} seconds",
                grace.as_secs_f64()
            ),
            Event::Killing { why } => {
                write!(f, "sending SIGKILL to every process of the job ({why})")
            }
            Event::Stragglers { policy, processes } if processes.is_empty() => {
                write!(f, "children of the job remain that cannot be seen ({policy})")
            }
            Event::TreeRemains { processes } if processes.is_empty() => f.write_str(
                "children of the old attempt remain that cannot be seen, and cannot be ended",
            ),
            Event::Stragglers { policy, processes } => write!(
                f,
                "{} process(es) of the job outlive it ({policy}): {}",
                processes.len(),
                NamedDescendants(processes)
            ),
            Event::TreeRemains { processes } => write!(
                f,
                "{} process(es) of the old attempt cannot be ended: {}",
                processes.len(),
                NamedDescendants(processes)
            ),
            Event::Restarting { attempt, left, delay } => write!(
                f,
                "restarting: attempt {attempt} in {:.3} seconds, {left} more restart(s) allowed",
                delay.as_secs_f64()
            ),
            Event::RestartsExhausted { .. } => f.write_str("restarts exhausted"),
            Event::RestartRefused { reason } => write!(f, "not restarted: {reason}"),
            Event::OrphansSummary { count, usage } => {
                write!(f, "{count} orphan(s) reaped, rusage info -- {usage}")
            }
            Event::Judged(verdict) | Event::Concluded(verdict) => {
                write!(f, "verdict: {verdict}")
            }
            Event::Answer { function, answer } => write!(f, "({function}) answer is {answer}"),
            Event::SleepInterrupted { remaining } => write!(
                f,
                "sleep interrupted with {} seconds remaining",
                remaining.as_secs_f64().round()
            ),
            Event::Called { function, took, .. } => {
                write!(f, "({function}) took {:.6} seconds", took.as_secs_f64())
            }
            Event::Calls { count } => write!(f, "number of function calls: {count}"),
            Event::EvidenceSources { in_force, missing } => {
                write!(f, "evidence in force: {}", in_force.join(", "))?;
                if !missing.is_empty() {
                    write!(f, "; unavailable: {}", missing.join(", "))?;
                }
                Ok(())
            }
            Event::FileUsed { path, file } => {
                let how = match (file.is_read, file.is_written) {
                    (true, true) => "read and written",
                    (false, true) => "written",
                    _ => "read",
                };
                let (path, at) = (path.to_string_lossy(), file.position_bytes);
                write!(f, "file {}: {how} by process {}, up to byte {at}", Escaped(&path), file.pid)
            }
            Event::Quarantined { from, to } => {
                let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
                write!(f, "moved aside: {} is now {}", Escaped(&from), Escaped(&to))
            }
            Event::Neighbours { processes } => {
                f.write_str("processes of other users: ")?;
                if processes.is_empty() {
                    f.write_str("none")?;
                }
                for (index, one) in processes.iter().enumerate() {
                    let (comma, new) = (
                        if index == 0 { "" } else { ", " },
                        if one.is_recent { " (new)" } else { "" },
                    );
                    write!(f, "{comma}{}x uid {} {}{new}", one.count, one.uid, Escaped(&one.name))?;
                }
                Ok(())
            }
            Event::PastSample { before, sample } => {
                write!(f, "recorder -{:.1} s: {sample}", before.as_secs_f64())
            }
            Event::Crashed(report) => report.fmt(f),
            Event::StderrLine { text } => write!(f, "stderr: {}", Escaped(text)),
            Event::Notice { text } | Event::Stack { text } => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::{ProcessKey, Sender, SenderProcess};
    use crate::model::signal::Origin;

    #[test]
    fn the_messages_of_the_original_keep_its_words() {
        let pid = Pid(4121);
        let shown = |event: Event| event.to_string();
        assert_eq!(
            shown(Event::Started { attempt: 1, pid, command: "ls -lR".into() }),
            "child ls -lR started in process 4121"
        );
        assert_eq!(shown(Event::RestartsExhausted { limit: 4 }), "restarts exhausted");
        assert_eq!(
            shown(Event::Trapped { signals: vec![Signal::HUP, Signal::TERM] }),
            "trapped SIGHUP SIGTERM"
        );
        assert_eq!(shown(Event::Exited { pid, status: 3 }), "child 4121 exited with status 3");
        assert_eq!(
            shown(Event::Signaled { pid, signal: Signal::KILL }),
            "child 4121 terminated by signal 9 (SIGKILL)"
        );
        assert_eq!(shown(Event::DumpedCore { pid }), "child 4121 dumped core");
        assert_eq!(
            shown(Event::Stopped { pid, signal: Signal::STOP }),
            "child 4121 stopped by signal 19 (SIGSTOP)"
        );
        assert_eq!(shown(Event::ContinueConfirmed { pid }), "successfully sent child 4121 SIGCONT");
        assert_eq!(
            shown(Event::Answer { function: "math-int", answer: "7".into() }),
            "(math-int) answer is 7"
        );
        assert_eq!(shown(Event::Calls { count: 12 }), "number of function calls: 12");
        let remaining = Duration::from_secs(9);
        assert_eq!(
            shown(Event::SleepInterrupted { remaining }),
            "sleep interrupted with 9 seconds remaining"
        );
    }

    #[test]
    fn a_received_signal_names_its_sender_on_one_line() {
        let sender = SenderProcess {
            pid: Pid(812),
            uid: 0,
            user: Some("root".into()),
            command: Some("kill -TERM\n1".into()),
            is_hidden: false,
        };
        let info = SignalInfo {
            signal: Signal::TERM,
            origin: Origin::Kill,
            sender: Sender::Process(sender),
            value: None,
        };
        assert_eq!(
            Event::Received(info).to_string(),
            "signal 15 (SIGTERM) from kill(2). Signal sent by user 0 (root) in process 812 \
             (kill -TERM\\n1)"
        );
    }

    #[test]
    fn a_long_list_of_processes_is_cut_and_counted() {
        let process = |pid| Descendant {
            key: ProcessKey { pid: Pid(pid), start_ticks: 1 },
            name: "w".into(),
            state: 'S',
        };
        let event =
            Event::Stragglers { policy: "leave", processes: (1..=10).map(process).collect() };
        let shown = event.to_string();
        assert!(shown.ends_with("7 (w), 8 (w) and 2 more"), "{shown}");
        let unseen = Event::Stragglers { policy: "leave", processes: Vec::new() };
        assert_eq!(unseen.to_string(), "children of the job remain that cannot be seen (leave)");
    }
}
