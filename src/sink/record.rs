//! The rows of a run, made of its events: one when it begins, one for each attempt that ended, one
//! when it ends. The recording thread keeps them.

use std::time::Duration;

use crate::model::event::Event;
use crate::model::outcome::Termination;
use crate::model::process::{Pid, Sender, SenderProcess};
use crate::model::redact::Redactor;
use crate::model::sample::Peaks;
use crate::model::signal::Signal;
use crate::model::time::Seconds;
use crate::model::usage::ResourceUsage;
use crate::model::verdict::{Confidence, Verdict, VerdictKind};
use crate::record::recorder::{self, KeepReport, MakeBase, Recorder};
use crate::record::row::{Column, Row, RowEvent, SCHEMA};
use crate::record::write::Writer;
use crate::sink::{Sink, SinkError, Stamp};
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
    pub fn finish(mut self, stamp: Stamp, within: Duration) -> KeepReport {
        if let Some(row) = self.rows.end(stamp) {
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
    fn publish(&mut self, stamp: Stamp, event: &Event) -> Result<(), SinkError> {
        if let Some(row) = self.rows.take(stamp, event) {
            self.hand_over(row);
        }
        Ok(())
    }
}

/// What is known of the run so far.
#[derive(Default)]
struct Rows {
    redactor: Redactor,
    has_begun: bool,
    attempt: AttemptCells,
    /// Of attempts that are over, or of the built-in function.
    total: ResourceUsage,
    peaks: Option<Peaks>,
    orphans: Option<(u64, ResourceUsage)>,
    calls: Option<u64>,
    /// Whether a call failed or gave a wrong answer.
    has_failed_calls: bool,
}

/// What is known of an attempt.
#[derive(Default)]
struct AttemptCells {
    number: u32,
    pid: Option<Pid>,
    began: Duration,
    ended: Option<Duration>,
    end: Option<Termination>,
    core_dumped: bool,
    usage: Option<ResourceUsage>,
    peaks: Option<Peaks>,
    /// Who sent the last signal of each kind that may end a job.
    senders: Vec<(Signal, SenderProcess)>,
    verdict: Option<Verdict>,
}

/// At most this number is kept.
const SENDERS_MAX: usize = 8;

impl Rows {
    fn take(&mut self, stamp: Stamp, event: &Event) -> Option<Row> {
        match event {
            Event::Started { attempt, pid, .. } => return self.begin(stamp, *attempt, Some(*pid)),
            Event::StartFailed { attempt, .. } => {
                let row = self.begin(stamp, *attempt, None);
                self.attempt.ended = Some(stamp.elapsed);
                return row;
            }
            // A built-in function begins with this.
            Event::Trapped { .. } if !self.has_begun => {
                self.has_begun = true;
                return Some(self.row(stamp, RowEvent::Start));
            }
            Event::Received(info) => {
                if let Sender::Process(sender) = &info.sender {
                    self.attempt.heard(info.signal, sender);
                }
            }
            Event::Exited { status, .. } => {
                self.attempt.over(stamp, Some(Termination::Exited(*status)));
            }
            Event::Signaled { signal, .. } => {
                let end = Termination::Signaled { signal: *signal, core_dumped: false };
                self.attempt.over(stamp, Some(end));
            }
            Event::DumpedCore { .. } => self.attempt.core_dumped = true,
            Event::StatusLost { .. } => self.attempt.over(stamp, None),
            Event::Usage { usage, peaks, .. } => {
                self.attempt.usage = Some(*usage);
                self.attempt.peaks = *peaks;
                self.total += *usage;
                self.peaks = higher(self.peaks, *peaks);
            }
            Event::OrphansSummary { count, usage } => self.orphans = Some((*count, *usage)),
            Event::Called { is_right: false, .. } => self.has_failed_calls = true,
            Event::Calls { count } => self.calls = Some(*count),
            Event::Judged(verdict) => {
                self.attempt.verdict = Some(verdict.clone());
                return Some(self.attempt_row(stamp));
            }
            _ => {}
        }
        None
    }

    fn begin(&mut self, stamp: Stamp, number: u32, pid: Option<Pid>) -> Option<Row> {
        self.attempt =
            AttemptCells { number, pid, began: stamp.elapsed, ..AttemptCells::default() };
        if std::mem::replace(&mut self.has_begun, true) {
            return None;
        }
        let mut row = self.row(stamp, RowEvent::Start);
        self.show_attempt(&mut row);
        Some(row)
    }

    fn attempt_row(&self, stamp: Stamp) -> Row {
        let mut row = self.row(stamp, RowEvent::Attempt);
        self.show_attempt(&mut row);
        self.show_end(&mut row);
        let lasted = self.attempt.ended.unwrap_or(stamp.elapsed).saturating_sub(self.attempt.began);
        row.show(Column::WallSeconds, Seconds(lasted));
        show_usage(&mut row, self.attempt.usage, self.attempt.peaks);
        row
    }

    /// Returns the last row; `None` if the run never had a first one.
    fn end(&self, stamp: Stamp) -> Option<Row> {
        if !self.has_begun {
            return None;
        }
        let mut row = self.row(stamp, RowEvent::End);
        if self.attempt.number > 0 {
            self.show_attempt(&mut row);
            self.show_end(&mut row);
        } else {
            let kind = match self.has_failed_calls {
                true => VerdictKind::ExitNonzero,
                false => VerdictKind::Success,
            };
            row.set(Column::Verdict, kind.word());
            row.show(Column::Confidence, Confidence::Certain);
        }
        row.show(Column::WallSeconds, Seconds(stamp.elapsed));
        let is_known = self.attempt.usage.is_some() || self.attempt.number > 1;
        show_usage(&mut row, is_known.then_some(self.total), self.peaks);
        if let Some((count, usage)) = self.orphans {
            row.show(Column::Orphans, count);
            row.show(Column::OrphanCpuSeconds, Seconds(usage.user + usage.system));
        }
        self.calls.iter().for_each(|calls| row.show(Column::Calls, calls));
        Some(row)
    }

    fn row(&self, stamp: Stamp, event: RowEvent) -> Row {
        let mut row = Row::default();
        row.show(Column::Schema, SCHEMA);
        row.set(Column::Event, event.word());
        row.set(Column::Time, stamp.wall.rfc3339());
        row.show(Column::Restarts, self.attempt.number.saturating_sub(1));
        row
    }

    fn show_attempt(&self, row: &mut Row) {
        row.show(Column::Attempt, self.attempt.number);
        self.attempt.pid.iter().for_each(|pid| row.show(Column::ChildPid, pid));
    }

    fn show_end(&self, row: &mut Row) {
        let attempt = &self.attempt;
        match attempt.end {
            Some(Termination::Exited(status)) => row.show(Column::ExitCode, status),
            Some(Termination::Signaled { signal, .. }) => {
                row.show(Column::Signal, signal.number());
                row.show(Column::CoreDumped, attempt.core_dumped);
            }
            None => {}
        }
        let Some(verdict) = &attempt.verdict else { return };
        row.set(Column::Verdict, verdict.kind.word());
        row.show(Column::Confidence, verdict.confidence);
        let facts: Vec<&str> = verdict.evidence.iter().map(|one| one.fact.as_str()).collect();
        // Command lines of senders and descendants are quoted there.
        row.set(Column::Evidence, self.redactor.blurred(&facts.join("; ")));
        if let Some(sender) = attempt.sender() {
            row.show(Column::SenderPid, sender.pid);
            row.show(Column::SenderUid, sender.uid);
            let command = sender.command.as_deref().unwrap_or_default();
            row.set(Column::SenderCommand, self.redactor.blurred(command));
        }
    }
}

impl AttemptCells {
    fn over(&mut self, stamp: Stamp, end: Option<Termination>) {
        self.end = end;
        self.ended = Some(stamp.elapsed);
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
    fn sender(&self) -> Option<&SenderProcess> {
        let latest = |is_it: &dyn Fn(Signal) -> bool| {
            let found = self.senders.iter().rev().find(|(signal, _)| is_it(*signal));
            found.map(|(_, sender)| sender)
        };
        let is_stopped =
            self.verdict.as_ref().is_some_and(|one| one.kind == VerdictKind::StopRequested);
        match self.end {
            Some(Termination::Signaled { signal, .. }) => latest(&|one| one == signal)
                .or_else(|| latest(&|one| is_stopped && one.asks_to_stop())),
            _ => latest(&|one| is_stopped && one.asks_to_stop()),
        }
    }
}

fn higher(one: Option<Peaks>, other: Option<Peaks>) -> Option<Peaks> {
    let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
    Some(Peaks {
        processes: one.processes.max(other.processes),
        threads: one.threads.max(other.threads),
        rss_bytes: one.rss_bytes.max(other.rss_bytes),
        open_fds: one.open_fds.max(other.open_fds),
    })
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
