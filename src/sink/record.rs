//! The rows of a run, made of its events: one when it begins, one for each attempt that ended, one
//! when it ends. The recording thread keeps them.

use std::time::Duration;

use crate::model::event::Event;
use crate::model::history::{AttemptHistory, RunHistory};
use crate::model::outcome::Termination;
use crate::model::process::{Sender, SenderProcess};
use crate::model::redact::Redactor;
use crate::model::sample::Peaks;
use crate::model::signal::Signal;
use crate::model::time::{Seconds, Stamp};
use crate::model::tracing::TraceEvent;
use crate::model::usage::ResourceUsage;
use crate::model::verdict::{Confidence, VerdictKind};
use crate::record::recorder::{self, KeepReport, MakeBase, Recorder};
use crate::record::row::{Column, Row, RowEvent, SCHEMA};
use crate::record::write::Writer;
use crate::sink::{Sink, SinkError};
use crate::sys::threads;

/// Makes rows and hands them to a thread that it starts with the first one.
pub struct RecordSink {
    rows: Rows,
    /// Until the thread is started.
    prepared: Option<(Writer, MakeBase)>,
    recorder: Option<Recorder>,
    /// Whether rows were once waited for in vain.
    is_slow: bool,
    /// Rows that could not be handed over.
    account: KeepReport,
}

impl RecordSink {
    /// Prepares; touches no file. `make_base` gives what all rows of the run have in common.
    #[must_use]
    pub fn new(writer: Writer, make_base: MakeBase, redactor: Redactor) -> RecordSink {
        let rows = Rows { redactor, ..Rows::default() };
        RecordSink {
            rows,
            prepared: Some((writer, make_base)),
            recorder: None,
            is_slow: false,
            account: KeepReport::default(),
        }
    }

    /// Returns what there is to say about the rows so far, before the verdict ends the log. A record that does
    /// not answer in time is not waited for again.
    #[must_use]
    pub fn take_news(&mut self, within: Duration) -> Vec<String> {
        let Some(recorder) = &self.recorder else { return Vec::new() };
        let within = if self.is_slow { Duration::ZERO } else { within };
        let (news, is_done) = recorder.take_news(within);
        self.is_slow |= !is_done;
        news
    }

    /// The end of the run: returns what became of its rows, at the latest after that time.
    #[must_use]
    pub fn finish(mut self, history: &RunHistory, within: Duration) -> KeepReport {
        if let Some(row) = self.rows.end(history) {
            self.hand_over(row);
        }
        let mut account = self.recorder.map(|one| one.finish(within)).unwrap_or_default();
        account.lost.append(&mut self.account.lost);
        account
    }

    fn hand_over(&mut self, row: Row) {
        // After the job was started: it does not wait for us.
        if let Some((writer, make_base)) = self.prepared.take() {
            let room = recorder::STACK_BYTES as u64 + threads::HEAP_BYTES;
            let started = threads::check_room(room);
            match started.and_then(|()| Recorder::start(writer, make_base)) {
                Ok(recorder) => self.recorder = Some(recorder),
                Err(error) => {
                    self.account.lost.push((row, format!("central log: no thread: {error}")));
                    return;
                }
            }
        }
        let refused = match &self.recorder {
            Some(recorder) => recorder.hand_over(row).err(),
            None => Some(Box::new(row)),
        };
        if let Some(row) = refused {
            self.account.lost.push((*row, "central log: too many rows wait".to_owned()));
        }
    }
}

impl Sink for RecordSink {
    fn publish(
        &mut self,
        stamp: Stamp,
        event: &Event,
        history: &RunHistory,
    ) -> Result<(), SinkError> {
        if let Some(row) = self.rows.take(stamp, event, history) {
            self.hand_over(row);
        }
        Ok(())
    }
}

/// What only rows have, besides the history of the run.
#[derive(Default)]
struct Rows {
    redactor: Redactor,
    has_begun: bool,
    /// Who sent the last signal of each kind during this attempt.
    senders: Vec<(Signal, SenderProcess)>,
    /// Why the attempt ended as it did, with secrets hidden.
    evidence: String,
    calls: Option<u64>,
    /// Of the crash of the job in this attempt.
    crash_signature: String,
}

/// At most this number is kept.
const SENDERS_MAX: usize = 8;

impl Rows {
    fn take(&mut self, stamp: Stamp, event: &Event, history: &RunHistory) -> Option<Row> {
        match event {
            Event::Started { .. } | Event::StartFailed { .. } => {
                self.senders.clear();
                self.evidence.clear();
                self.crash_signature.clear();
                return self.begin(stamp, history);
            }
            // A built-in function begins with this.
            Event::Trapped { .. } => return self.begin(stamp, history),
            Event::Received(info) => {
                if let Sender::Process(sender) = &info.sender {
                    self.heard(info.signal, sender);
                }
            }
            Event::Traced(TraceEvent::Ended { is_job: true, cause: Some(cause), .. }) => {
                if let Some(sender) = cause.sender() {
                    self.heard(cause.info.signal, sender);
                }
            }
            Event::Crashed(report) if history.attempt.pid == Some(report.pid) => {
                self.crash_signature.clone_from(&report.signature);
            }
            Event::Calls { count } => self.calls = Some(*count),
            Event::Judged(verdict) => {
                let facts: Vec<&str> =
                    verdict.evidence.iter().map(|one| one.fact.as_str()).collect();
                // Command lines of senders and descendants are quoted there.
                self.evidence = self.redactor.blurred(&facts.join("; "));
                return Some(self.attempt_row(stamp, &history.attempt));
            }
            _ => {}
        }
        None
    }

    /// Returns the first row, once.
    fn begin(&mut self, stamp: Stamp, history: &RunHistory) -> Option<Row> {
        if std::mem::replace(&mut self.has_begun, true) {
            return None;
        }
        let mut row = row(stamp, RowEvent::Start, &history.attempt);
        if history.attempt.number > 0 {
            show_attempt(&mut row, &history.attempt);
        }
        Some(row)
    }

    fn attempt_row(&self, stamp: Stamp, attempt: &AttemptHistory) -> Row {
        let mut row = row(stamp, RowEvent::Attempt, attempt);
        show_attempt(&mut row, attempt);
        self.show_end(&mut row, attempt);
        row.show(Column::WallSeconds, Seconds(attempt.lasted(stamp.elapsed)));
        show_usage(&mut row, attempt.usage, attempt.peaks);
        row
    }

    /// Returns the last row; `None` if the run never had a first one, or goes on.
    fn end(&self, history: &RunHistory) -> Option<Row> {
        let (attempt, stamp) = (&history.attempt, history.ended.filter(|_| self.has_begun)?.stamp);
        let mut row = row(stamp, RowEvent::End, attempt);
        if attempt.number > 0 {
            show_attempt(&mut row, attempt);
            self.show_end(&mut row, attempt);
        } else {
            let kind = match history.failed_calls {
                0 => VerdictKind::Success,
                _ => VerdictKind::ExitNonzero,
            };
            row.set(Column::Verdict, kind.word());
            row.show(Column::Confidence, Confidence::Certain);
        }
        row.show(Column::WallSeconds, Seconds(stamp.elapsed));
        let is_known = attempt.usage.is_some() || attempt.number > 1;
        show_usage(&mut row, is_known.then_some(history.usage), history.peaks);
        if let Some(usage) = history.orphan_usage {
            row.show(Column::Orphans, history.orphans);
            row.show(Column::OrphanCpuSeconds, Seconds(usage.user + usage.system));
        }
        self.calls.iter().for_each(|calls| row.show(Column::Calls, calls));
        Some(row)
    }

    fn show_end(&self, row: &mut Row, attempt: &AttemptHistory) {
        match attempt.end {
            Some(Termination::Exited(status)) => row.show(Column::ExitCode, status),
            Some(Termination::Signaled { signal, core_dumped }) => {
                row.show(Column::Signal, signal.number());
                row.show(Column::CoreDumped, core_dumped);
            }
            None => {}
        }
        let Some(verdict) = attempt.verdict else { return };
        row.set(Column::Verdict, verdict.word());
        attempt.confidence.iter().for_each(|known| row.show(Column::Confidence, known));
        row.set(Column::Evidence, self.evidence.clone());
        row.set(Column::CrashSignature, self.crash_signature.clone());
        if let Some(sender) = self.sender(attempt) {
            row.show(Column::SenderPid, sender.pid);
            row.show(Column::SenderUid, sender.uid);
            let command = sender.command.as_deref().unwrap_or_default();
            row.set(Column::SenderCommand, self.redactor.blurred(command));
        }
    }

    fn heard(&mut self, signal: Signal, sender: &SenderProcess) {
        self.senders.retain(|(known, _)| *known != signal);
        self.senders.push((signal, sender.clone()));
        if self.senders.len() > SENDERS_MAX {
            self.senders.remove(0);
        }
    }

    /// Returns who ended the attempt, as far as we know: the sender of the signal that it died of or,
    /// if it was asked to stop, of the last such request.
    fn sender(&self, attempt: &AttemptHistory) -> Option<&SenderProcess> {
        let latest = |is_it: &dyn Fn(Signal) -> bool| {
            let found = self.senders.iter().rev().find(|(signal, _)| is_it(*signal));
            found.map(|(_, sender)| sender)
        };
        let is_stopped = attempt.verdict == Some(VerdictKind::StopRequested);
        match attempt.end {
            Some(Termination::Signaled { signal, .. }) => latest(&|one| one == signal)
                .or_else(|| latest(&|one| is_stopped && one.asks_to_stop())),
            _ => latest(&|one| is_stopped && one.asks_to_stop()),
        }
    }
}

fn row(stamp: Stamp, event: RowEvent, attempt: &AttemptHistory) -> Row {
    let mut row = Row::default();
    row.show(Column::Schema, SCHEMA);
    row.set(Column::Event, event.word());
    row.set(Column::Time, stamp.wall.rfc3339());
    row.show(Column::Restarts, attempt.number.saturating_sub(1));
    row
}

fn show_attempt(row: &mut Row, attempt: &AttemptHistory) {
    row.show(Column::Attempt, attempt.number);
    attempt.pid.iter().for_each(|pid| row.show(Column::ChildPid, pid));
}

fn show_usage(row: &mut Row, usage: Option<ResourceUsage>, peaks: Option<Peaks>) {
    if let Some(usage) = usage {
        row.show(Column::UserSeconds, Seconds(usage.user));
        row.show(Column::SystemSeconds, Seconds(usage.system));
        row.show(Column::MaxRssKib, usage.max_rss_kib);
        row.show(Column::MinorFaults, usage.minor_faults);
        row.show(Column::MajorFaults, usage.major_faults);
        row.show(Column::InputBlocks, usage.input_blocks);
        row.show(Column::OutputBlocks, usage.output_blocks);
        row.show(Column::VoluntarySwitches, usage.voluntary_switches);
        row.show(Column::InvoluntarySwitches, usage.involuntary_switches);
    }
    if let Some(peaks) = peaks {
        row.show(Column::TreePeakRssBytes, peaks.rss_bytes);
        row.show(Column::TreePeakProcesses, peaks.processes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::SpawnFailure;
    use crate::model::process::Pid;
    use crate::model::signal::{Origin, SignalInfo};
    use crate::model::time::WallTime;
    use crate::model::verdict::{Evidence, Quality, Verdict};

    const PID: Pid = Pid(7);

    fn stamp(seconds: u64) -> Stamp {
        let elapsed = Duration::from_secs(seconds);
        Stamp { wall: WallTime(elapsed), elapsed }
    }

    /// The rows of a run with one event a second, which ends two seconds after the last.
    fn rows_of(events: impl IntoIterator<Item = Event>) -> Vec<Row> {
        let (mut rows, mut history, mut made) = (Rows::default(), RunHistory::default(), vec![]);
        let mut now = 0;
        for event in events {
            history.apply(stamp(now), &event);
            made.extend(rows.take(stamp(now), &event, &history));
            now += 1;
        }
        history.finish(stamp(now + 1), 0);
        made.extend(rows.end(&history));
        made
    }

    fn texts(rows: &[Row], column: Column) -> Vec<String> {
        rows.iter().map(|row| row.text(column).into_owned()).collect()
    }

    fn started(attempt: u32) -> Event {
        Event::Started { attempt, pid: PID, command: String::new() }
    }

    fn judged(kind: VerdictKind, fact: &str) -> Event {
        let evidence =
            vec![Evidence { fact: fact.to_owned(), source: "a test", quality: Quality::Exact }];
        Event::Judged(Verdict { kind, confidence: Confidence::Likely, evidence })
    }

    fn received(signal: Signal, pid: i32) -> Event {
        let sender = SenderProcess {
            pid: Pid(pid),
            uid: 1000,
            user: None,
            command: Some("stop --password=hush".into()),
            is_hidden: false,
        };
        let sender = Sender::Process(sender);
        Event::Received(SignalInfo { signal, origin: Origin::Kill, sender, value: None })
    }

    fn used(seconds: u64) -> Event {
        let usage =
            ResourceUsage { user: Duration::from_secs(seconds), ..ResourceUsage::default() };
        Event::Usage { pid: Some(PID), usage, peaks: None }
    }

    #[test]
    fn a_restarted_job_has_a_row_for_each_attempt_and_one_that_adds_them_up() {
        let rows = rows_of([
            started(1),
            Event::Trapped { signals: Vec::new() },
            Event::Signaled { pid: PID, signal: Signal::SEGV },
            Event::DumpedCore { pid: PID },
            used(3),
            judged(VerdictKind::Crashed, "SIGSEGV"),
            started(2),
            Event::Exited { pid: PID, status: 0 },
            used(4),
            judged(VerdictKind::Success, "exit status 0"),
        ]);
        assert_eq!(texts(&rows, Column::Event), ["start", "attempt", "attempt", "end"]);
        assert_eq!(texts(&rows, Column::Attempt), ["1", "1", "2", "2"]);
        assert_eq!(texts(&rows, Column::Restarts), ["0", "0", "1", "1"]);
        assert_eq!(texts(&rows, Column::Signal), ["", "11", "", ""]);
        assert_eq!(texts(&rows, Column::CoreDumped), ["", "true", "", ""]);
        assert_eq!(texts(&rows, Column::ExitCode), ["", "", "0", "0"]);
        assert_eq!(texts(&rows, Column::Verdict), ["", "crashed", "success", "success"]);
        let evidence = ["", "SIGSEGV", "exit status 0", "exit status 0"];
        assert_eq!(texts(&rows, Column::Evidence), evidence);
        assert_eq!(texts(&rows, Column::WallSeconds), ["", "2.000000", "1.000000", "11.000000"]);
        assert_eq!(texts(&rows, Column::UserSeconds), ["", "3.000000", "4.000000", "7.000000"]);
    }

    #[test]
    fn an_attempt_that_could_not_be_started_has_no_process_and_took_no_time() {
        let failure = SpawnFailure {
            step: "execute x".into(),
            errno: 2,
            is_exec: true,
            is_found: false,
            cause: None,
        };
        let failed = Event::StartFailed { attempt: 1, failure };
        let rows = rows_of([failed, judged(VerdictKind::ExecFailed, "no such file")]);
        assert_eq!(texts(&rows, Column::Event), ["start", "attempt", "end"]);
        assert_eq!(texts(&rows, Column::ChildPid), ["", "", ""]);
        assert_eq!(texts(&rows, Column::WallSeconds), ["", "0.000000", "3.000000"]);
        assert_eq!(texts(&rows, Column::UserSeconds), ["", "", ""]);
    }

    #[test]
    fn a_lost_status_leaves_its_cells_empty() {
        let lost = Event::StatusLost { pid: PID };
        let rows = rows_of([started(1), lost, judged(VerdictKind::Unknown, "gone")]);
        assert_eq!(texts(&rows, Column::ExitCode), ["", "", ""]);
        assert_eq!(texts(&rows, Column::Signal), ["", "", ""]);
        assert_eq!(texts(&rows, Column::WallSeconds), ["", "1.000000", "4.000000"]);
    }

    #[test]
    fn the_sender_is_that_of_the_signal_that_ended_the_attempt() {
        let senders = |end: Event, kind| {
            let events = [started(1), received(Signal::TERM, 40), received(Signal::USR1, 41), end];
            let rows = rows_of(events.into_iter().chain([judged(kind, "a fact")]));
            assert!(!rows[1].text(Column::SenderCommand).contains("hush"));
            rows[1].text(Column::SenderPid).into_owned()
        };
        let died = |signal| Event::Signaled { pid: PID, signal };
        assert_eq!(senders(died(Signal::USR1), VerdictKind::KilledByProcess), "41");
        assert_eq!(senders(died(Signal::KILL), VerdictKind::KilledByProcess), "");
        // It was asked to stop, and was killed because it did not.
        assert_eq!(senders(died(Signal::KILL), VerdictKind::StopRequested), "40");
        let exited = Event::Exited { pid: PID, status: 3 };
        assert_eq!(senders(exited.clone(), VerdictKind::StopRequested), "40");
        assert_eq!(senders(exited, VerdictKind::ExitNonzero), "");
    }

    #[test]
    fn who_signalled_one_attempt_did_not_end_the_next() {
        let rows = rows_of([
            started(1),
            received(Signal::TERM, 40),
            Event::Signaled { pid: PID, signal: Signal::SEGV },
            judged(VerdictKind::Crashed, "SIGSEGV"),
            started(2),
            Event::Signaled { pid: PID, signal: Signal::TERM },
            judged(VerdictKind::KilledByProcess, "SIGTERM"),
        ]);
        assert_eq!(texts(&rows, Column::SenderPid), ["", "", "", ""]);
    }

    #[test]
    fn a_built_in_function_has_a_first_and_a_last_row() {
        let call = |is_right| Event::Called { function: "file", took: Duration::ZERO, is_right };
        for (is_right, verdict) in [(true, "success"), (false, "exit_nonzero")] {
            let trapped = Event::Trapped { signals: Vec::new() };
            let rows = rows_of([trapped, call(is_right), Event::Calls { count: 1 }, used(2)]);
            assert_eq!(texts(&rows, Column::Event), ["start", "end"]);
            assert_eq!(texts(&rows, Column::Attempt), ["", ""]);
            assert_eq!(texts(&rows, Column::Calls), ["", "1"]);
            assert_eq!(texts(&rows, Column::Verdict), ["", verdict]);
            assert_eq!(texts(&rows, Column::UserSeconds), ["", "2.000000"]);
        }
    }

    #[test]
    fn a_run_without_a_beginning_has_no_end() {
        assert!(rows_of([]).is_empty());
    }
}
