//! Gives each event to every sink, and reports their failures once.

use std::error::Error;
use std::io::{self, IsTerminal};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, absolute};
use std::time::Duration;

use crate::model::event::Event;
use crate::model::history::RunHistory;
use crate::model::outcome::RunEnd;
use crate::model::time::{Moment, Stamp};
use crate::plan::{LogPlan, LogTarget, RunPlan, Work};
use crate::record::recorder::{DEADLINE, KeepReport};
use crate::run::environment::Variable;
use crate::run::kept_output::KeptOutput;
use crate::run::recording;
use crate::run::telemetry::TelemetrySink;
use crate::sink::console::{self, Console};
use crate::sink::log_file::LogFile;
use crate::sink::record::RecordSink;
use crate::sink::{Sink, SinkError};
use crate::sys::clock;
use crate::sys::signals::SignalFd;

/// How long the end of the run waits for whoever reads the log or standard error.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long each piece of the job's output waits for a reader.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(10);

/// How long the verdict waits for the first rows, which a file on this machine takes in a millisecond.
const ROW_PATIENCE: Duration = Duration::from_millis(100);

/// How often lines that wait for a reader are tried again.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// All consumers of one run's events.
pub(super) struct Sinks {
    begun: Moment,
    history: RunHistory,
    log: LogFile,
    /// Not where the log itself goes to standard error.
    console: Option<Console>,
    telemetry: Option<TelemetrySink>,
    record: Option<RecordSink>,
    /// What is run, until the first line of the log.
    header: Option<RunPlan>,
    is_log_stdout: bool,
    delete_on_success: bool,
    failures: u64,
    /// Whether the log has rows that are nowhere else.
    has_rows: bool,
}

impl Sinks {
    pub(super) fn new(log: LogFile, plan: &LogPlan) -> Sinks {
        let (is_stderr, file) = (log.is_stderr(), log.file().map(Path::to_owned));
        Sinks {
            begun: clock::now(),
            history: RunHistory::default(),
            log,
            console: (!is_stderr).then(|| Console { log: file, ..Console::default() }),
            telemetry: None,
            record: None,
            header: None,
            is_log_stdout: plan.target == LogTarget::Stdout,
            delete_on_success: plan.delete_on_success,
            failures: 0,
            has_rows: false,
        }
    }

    /// Of this run: its log begins with what is run, and what is said on standard error names it.
    pub(super) fn of(mut self, plan: &RunPlan) -> Sinks {
        if let Some(console) = &mut self.console {
            console.name = recording::name_of(plan).to_string_lossy().into_owned();
            console.may_restart = matches!(&plan.work, Work::Job(job) if job.policy.may_restart());
            let is_quiet = matches!(&plan.work, Work::Job(job) if job.quiet_success.is_some());
            console.held = is_quiet.then(Vec::new);
        }
        self.header = Some(plan.clone());
        self
    }

    /// Exports telemetry, too.
    pub(super) fn with_telemetry(self, telemetry: Option<TelemetrySink>) -> Sinks {
        Sinks { telemetry, ..self }
    }

    /// Keeps rows in the central record, too.
    pub(super) fn with_record(self, record: Option<RecordSink>) -> Sinks {
        Sinks { record, ..self }
    }

    /// An attempt is about to start: returns the variables by which the job finds its span.
    pub(super) fn begin_attempt(&mut self, attempt: u32) -> Vec<Variable> {
        self.telemetry
            .as_mut()
            .map(|telemetry| telemetry.begin_attempt(attempt))
            .unwrap_or_default()
    }

    /// Returns the file of the log, if it is one.
    pub(super) fn log_file(&self) -> Option<&Path> {
        self.log.file()
    }

    /// Returns what became of the run so far.
    pub(super) fn history(&self) -> &RunHistory {
        &self.history
    }

    fn stamp(&self) -> Stamp {
        Stamp { wall: clock::wall(), elapsed: clock::now() - self.begun }
    }

    /// Gives an event to every sink; see [`Sinks::flush`]. A panic in one of them costs that event and
    /// nothing else.
    pub(super) fn publish(&mut self, event: &Event) {
        let published = catch_unwind(AssertUnwindSafe(|| self.publish_to_all(event)));
        self.failures += u64::from(published.is_err());
    }

    /// Writes what was published: to be called before anything that takes time. Returns when to try
    /// again, if something waits for a reader.
    pub(super) fn flush(&mut self) -> Option<Moment> {
        let flushed = self.log.flush();
        let is_waiting = *flushed.as_ref().unwrap_or(&false) | console::retry();
        self.note(flushed.map(drop));
        is_waiting.then(|| clock::now() + RETRY_EVERY)
    }

    /// Says what is wrong in the log and on standard error.
    pub(super) fn complain(&mut self, text: String) {
        if self.console.is_some() {
            // Standard error is the last place to complain.
            console::say(&text).ok();
        }
        self.publish(&Event::Notice { text });
    }

    fn publish_to_all(&mut self, event: &Event) {
        let stamp = self.stamp();
        self.history.apply(stamp, event);
        if let Some(plan) = self.header.take() {
            // The job was started by now, and did not wait for this.
            self.log_only(stamp, &Event::Runs(recording::header(&plan)));
        }
        let is_verdict = matches!(event, Event::Judged(_) | Event::Concluded(_));
        if is_verdict {
            self.report_news(stamp);
        }
        let Sinks { history, log, console, telemetry, record, .. } = self;
        let sinks: [Option<&mut dyn Sink>; 4] = [
            Some(log),
            console.as_mut().map(|sink| sink as _),
            telemetry.as_mut().map(|sink| sink as _),
            record.as_mut().map(|sink| sink as _),
        ];
        let written = sinks.map(|sink| sink.map(|sink| sink.publish(stamp, event, history)));
        written.into_iter().flatten().for_each(|written| self.note(written));
        if !is_verdict {
            self.log_telemetry_news(stamp);
        }
    }

    fn log_only(&mut self, stamp: Stamp, event: &Event) {
        let written = self.log.publish(stamp, event, &self.history);
        self.note(written);
    }

    /// Logs what is known so far of telemetry and of the rows: the verdict ends the log.
    fn report_news(&mut self, stamp: Stamp) {
        self.log_telemetry_news(stamp);
        let news = self.record.as_mut().map(|record| record.take_news(ROW_PATIENCE));
        for text in news.unwrap_or_default() {
            self.log_only(stamp, &Event::Notice { text });
        }
    }

    fn log_telemetry_news(&mut self, stamp: Stamp) {
        let news = self.telemetry.as_mut().map(TelemetrySink::take_news);
        for text in news.unwrap_or_default() {
            self.log_only(stamp, &Event::Notice { text });
        }
    }

    /// Returns whether a progress bar on standard error would get between lines of the log.
    pub(super) fn is_log_on_terminal(&self) -> bool {
        self.console.is_none() || (self.is_log_stdout && io::stdout().is_terminal())
    }

    /// The end of a run with `--quiet-success`: after a failure shows what the job wrote, and then the lines that were
    /// held back. A signal that is not ignored ends the showing.
    pub(super) fn conclude_quietly(
        &mut self,
        kept: &KeptOutput,
        has_failed: bool,
        signals: &SignalFd,
    ) {
        let lines = self.console.as_mut().and_then(Console::take_held).unwrap_or_default();
        if !has_failed {
            return;
        }
        self.flush();
        let shown = kept.show(|bytes| {
            console::put_text(bytes)?;
            let unread = console::drain(clock::now() + OUTPUT_PATIENCE, signals);
            if unread == 0 { Ok(()) } else { Err(io::Error::other("nobody reads standard error")) }
        });
        if let Err(error) = shown {
            self.publish(&Event::Notice {
                text: format!("the job's output is not shown: {error}"),
            });
        }
        // Standard error is the last place to complain.
        lines.into_iter().for_each(|line| drop(console::put_words(line)));
    }

    /// The end of the run, whose exit status is fixed: with `-d` the log of a full success goes.
    pub(super) fn close(mut self, end: RunEnd, signals: &SignalFd) {
        // The status is fixed, whatever fails here.
        let closed = AssertUnwindSafe(|| self.close_all(end, signals));
        catch_unwind(closed).ok();
    }

    fn close_all(&mut self, end: RunEnd, signals: &SignalFd) {
        self.flush();
        self.history.finish(self.stamp(), end.exit_status);
        let mut telemetry = self.telemetry.take();
        if let Some(telemetry) = &mut telemetry {
            telemetry.finish(&self.history);
        }
        // While that is on its way.
        if let Some(record) = self.record.take() {
            let account = record.finish(&self.history, DEADLINE);
            self.report(account);
        }
        let lost = telemetry.map(|mut telemetry| {
            let lost = telemetry.await_flush(signals);
            telemetry.take_news().into_iter().chain(lost)
        });
        for text in lost.into_iter().flatten() {
            self.publish(&Event::Notice { text });
        }
        self.flush();
        let deadline = clock::now() + PATIENCE;
        let unread = console::drain(deadline, signals);
        if unread > 0 && self.console.is_some() {
            let text = format!("{unread} line(s) could not be written to standard error");
            self.publish(&Event::Notice { text });
        }
        let unwritten = self.log.drain(deadline, signals).max(self.failures);
        if self.delete_on_success && end.is_full_success && unwritten == 0 && !self.has_rows {
            let deleted = self.log.delete();
            self.note(deleted);
        }
        if unwritten > 1 || (unwritten > 0 && self.failures == 0) {
            // Standard error is the last place to complain.
            console::say(&format!("in all {unwritten} line(s) could not be written")).ok();
            console::drain(deadline, signals);
        }
    }

    /// What could be kept nowhere else is kept in the log, and reported.
    fn report(&mut self, account: KeepReport) {
        for text in account.apart {
            self.publish(&Event::Notice { text });
        }
        let Some((_, reason)) = account.lost.first() else { return };
        let (reason, count) = (reason.clone(), account.lost.len());
        let failures = self.failures;
        let mut rows = Vec::new();
        for (row, reason) in account.lost {
            let line = String::from_utf8_lossy(&row.to_csv_line()).trim_end().to_owned();
            self.publish(&Event::Notice { text: format!("row not recorded ({reason}): {line}") });
            rows.push(line);
        }
        if self.console.is_none() {
            return;
        }
        let advice = "make the file writable or name another with --central-log FILE";
        let place = self.log.file().map(|file| absolute(file).unwrap_or_else(|_| file.to_owned()));
        // Standard error is the last place to complain.
        match place {
            _ if self.failures > failures => {
                console::say(&format!("{reason}; these rows are nowhere else:")).ok();
                rows.iter().for_each(|row| drop(console::say(&format!("row: {row}"))));
            }
            Some(log) => {
                self.has_rows = true;
                let log = log.display();
                console::say(&format!("{reason}; {count} row(s) are in {log} alone: {advice}"))
                    .ok();
            }
            None => {
                console::say(&format!("{reason}; {count} row(s) are in the log alone: {advice}"))
                    .ok();
            }
        }
    }

    /// Removes the log, because nothing was started.
    pub(super) fn undo(self) {
        self.log.undo();
    }

    /// The first failure is reported at once, on standard error; the job goes on.
    fn note(&mut self, written: Result<(), SinkError>) {
        let Err(error) = written else { return };
        self.failures += 1;
        if self.failures == 1 {
            let reason = error.source().map(ToString::to_string).unwrap_or_default();
            // Standard error is the last place to complain.
            console::say(&format!("could not {error}: {reason}; the job goes on")).ok();
        }
    }
}
