//! Gives each event to every sink, and tells their trouble once.

use std::error::Error;
use std::io::{self, IsTerminal};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::model::event::Event;
use crate::model::time::Moment;
use crate::plan::{LogPlan, LogTarget};
use crate::record::recorder::{Account, DEADLINE};
use crate::run::telemetry::Shared;
use crate::sink::console::{self, Console};
use crate::sink::log_file::LogFile;
use crate::sink::record::Record;
use crate::sink::{Sink, SinkError, Stamp};
use crate::sys::clock;
use crate::sys::signals::SignalFd;

/// How long the end of the run waits for whoever reads the log or standard error.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often lines that wait for a reader are tried again.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// All consumers of one run's events.
pub(super) struct Sinks {
    begun: Moment,
    log: LogFile,
    /// Not where the log itself goes to standard error.
    console: Option<Console>,
    telemetry: Option<Shared>,
    record: Option<Record>,
    is_log_stdout: bool,
    delete_on_success: bool,
    failures: u64,
    /// When lines that wait for a reader are tried again.
    retry_at: Option<Moment>,
}

impl Sinks {
    pub(super) fn new(log: LogFile, plan: &LogPlan) -> Sinks {
        Sinks {
            begun: clock::now(),
            log,
            console: (plan.target != LogTarget::Stderr).then_some(Console),
            telemetry: None,
            record: None,
            is_log_stdout: plan.target == LogTarget::Stdout,
            delete_on_success: plan.delete_on_success,
            failures: 0,
            retry_at: None,
        }
    }

    /// Tells others, too.
    pub(super) fn with_telemetry(self, telemetry: Option<Shared>) -> Sinks {
        Sinks { telemetry, ..self }
    }

    /// Keeps rows in the central record, too.
    pub(super) fn with_record(self, record: Option<Record>) -> Sinks {
        Sinks { record, ..self }
    }

    fn stamp(&self) -> Stamp {
        Stamp { wall: clock::wall(), elapsed: clock::now() - self.begun }
    }

    /// Gives an event to every sink. A panic in one of them costs that event and nothing else.
    pub(super) fn publish(&mut self, event: &Event) {
        let published = catch_unwind(AssertUnwindSafe(|| self.publish_to_all(event)));
        self.failures += u64::from(published.is_err());
        self.retry();
    }

    /// Returns when [`Sinks::retry`] is due.
    pub(super) fn next_retry(&self) -> Option<Moment> {
        self.retry_at
    }

    /// Tries again to write what waits for a reader.
    pub(super) fn retry(&mut self) {
        let is_waiting = self.log.retry() | console::retry();
        self.retry_at = is_waiting.then(|| clock::now() + RETRY_EVERY);
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
        let written = self.log.publish(stamp, event);
        self.note(written);
        if let Some(console) = &mut self.console {
            let written = console.publish(stamp, event);
            self.note(written);
        }
        let news = self.telemetry.as_ref().map(|telemetry| {
            let mut telemetry = telemetry.borrow_mut();
            telemetry.publish(stamp, event);
            telemetry.take_news()
        });
        for text in news.unwrap_or_default() {
            let written = self.log.publish(stamp, &Event::Notice { text });
            self.note(written);
        }
        if let Some(record) = &mut self.record {
            let written = record.publish(stamp, event);
            self.note(written);
        }
    }

    /// Returns whether a progress bar on standard error would get between lines of the log.
    pub(super) fn is_log_on_terminal(&self) -> bool {
        self.console.is_none() || (self.is_log_stdout && io::stdout().is_terminal())
    }

    /// The end of the run, whose exit status is fixed: with `-d` the log of a full success goes.
    pub(super) fn close(mut self, (exit_status, is_full_success): (u8, bool), signals: &SignalFd) {
        // The status is fixed, whatever fails here.
        let closed = AssertUnwindSafe(|| self.close_all((exit_status, is_full_success), signals));
        catch_unwind(closed).ok();
    }

    fn close_all(&mut self, (exit_status, is_full_success): (u8, bool), signals: &SignalFd) {
        let telemetry = self.telemetry.take();
        if let Some(telemetry) = &telemetry {
            telemetry.borrow_mut().finish(exit_status);
        }
        // While that is on its way.
        if let Some(record) = self.record.take() {
            let account = record.finish(self.stamp(), DEADLINE);
            self.tell(account);
        }
        let lost = telemetry.and_then(|told| told.borrow_mut().await_flush(signals));
        if let Some(text) = lost {
            self.publish(&Event::Notice { text });
        }
        let deadline = clock::now() + PATIENCE;
        let unread = console::drain(deadline, signals);
        if unread > 0 && self.console.is_some() {
            let text = format!("{unread} line(s) could not be written to standard error");
            self.publish(&Event::Notice { text });
        }
        let unwritten = self.log.drain(deadline, signals).max(self.failures);
        if self.delete_on_success && is_full_success && unwritten == 0 {
            let deleted = self.log.delete();
            self.note(deleted);
        }
        if unwritten > 1 || (unwritten > 0 && self.failures == 0) {
            // Standard error is the last place to complain.
            console::say(&format!("in all {unwritten} line(s) could not be written")).ok();
            console::drain(deadline, signals);
        }
    }

    /// What could be kept nowhere else is kept in the log, and told.
    fn tell(&mut self, account: Account) {
        for text in account.apart {
            self.publish(&Event::Notice { text });
        }
        let mut told = None;
        for (row, reason) in account.lost {
            let line = row.to_csv_line();
            let line = String::from_utf8_lossy(&line);
            let text = format!("row not recorded ({reason}): {}", line.trim_end());
            // Standard error is the last place to complain.
            if self.console.is_some() {
                if told.as_ref() != Some(&reason) {
                    console::say(&format!("{reason}; these rows are nowhere else:")).ok();
                    told = Some(reason);
                }
                console::say(&format!("row: {}", line.trim_end())).ok();
            }
            self.publish(&Event::Notice { text });
        }
    }

    /// Takes back the log, because nothing was started after all.
    pub(super) fn undo(self) {
        self.log.undo();
    }

    /// The first failure is told at once, on standard error; the job goes on.
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
