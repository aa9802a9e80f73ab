//! Gives each event to every sink, and tells their trouble once.

use std::error::Error;
use std::io::{self, IsTerminal};

use crate::model::event::Event;
use crate::model::time::Moment;
use crate::plan::{LogPlan, LogTarget};
use crate::run::telemetry::Shared;
use crate::sink::console::Console;
use crate::sink::log_file::LogFile;
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
            is_log_stdout: plan.target == LogTarget::Stdout,
            delete_on_success: plan.delete_on_success,
            failures: 0,
        }
    }

    /// Tells others, too.
    pub(super) fn with_telemetry(self, telemetry: Option<Shared>) -> Sinks {
        Sinks { telemetry, ..self }
    }

    pub(super) fn publish(&mut self, event: &Event) {
        let stamp = Stamp { wall: clock::wall(), elapsed: clock::now() - self.begun };
        let written = self.log.publish(stamp, event);
        self.note(written);
        if let Some(console) = &mut self.console {
            let written = console.publish(stamp, event);
            self.note(written);
        }
        if let Some(telemetry) = &self.telemetry {
            telemetry.borrow_mut().publish(stamp, event);
        }
    }

    /// Returns whether a progress bar on standard error would get between lines of the log.
    pub(super) fn is_log_on_terminal(&self) -> bool {
        self.console.is_none() || (self.is_log_stdout && io::stdout().is_terminal())
    }

    /// The end of the run, whose exit status is fixed: with `-d` the log of a full success goes.
    pub(super) fn close(mut self, (exit_status, is_full_success): (u8, bool), signals: &SignalFd) {
        if let Some(telemetry) = self.telemetry.take() {
            telemetry.borrow_mut().finish(exit_status);
            if let Some(text) = telemetry.borrow_mut().await_flush(signals) {
                self.publish(&Event::Notice { text });
            }
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
