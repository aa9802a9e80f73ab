//! Gives each event to every sink, and tells their trouble once.

use std::error::Error;
use std::io::{self, IsTerminal};

use crate::model::event::Event;
use crate::model::time::Moment;
use crate::plan::{LogPlan, LogTarget};
use crate::record::recorder::{Account, DEADLINE};
use crate::run::telemetry::Shared;
use crate::sink::console::Console;
use crate::sink::log_file::LogFile;
use crate::sink::record::Record;
use crate::sink::{Sink, SinkError, Stamp};
use crate::sys::clock;
use crate::sys::signals::SignalFd;

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

    pub(super) fn publish(&mut self, event: &Event) {
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
        if self.delete_on_success && is_full_success {
            let deleted = self.log.delete();
            self.note(deleted);
        }
        if self.failures > 1 {
            let text = format!("in all {} lines could not be written", self.failures);
            // Standard error is the last place to complain.
            Console.say(&text).ok();
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
                    Console.say(&format!("{reason}; these rows are nowhere else:")).ok();
                    told = Some(reason);
                }
                Console.say(&format!("row: {}", line.trim_end())).ok();
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
            Console.say(&format!("could not {error}: {reason}; the job goes on")).ok();
        }
    }
}
