//! Keeps the reports of crashes from the stop at a fatal signal until the process has died of it.
//!
//! A report is made in the stop, because the memory is gone afterwards, and only if the signal has its default action: runtimes
//! catch SIGSEGV by the hundred thousand.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::model::crash::CrashReport;
use crate::model::process::Pid;
use crate::model::signal::Signal;
use crate::model::tracing::Delivery;
use crate::observe::crash::CrashSource;
use crate::sys::clock;
use crate::sys::ptrace::Stopped;
use crate::trace::fault::Fault;
use crate::trace::registers::Registers;

/// At most this number of crashes of one attempt is examined, the job's own apart: each takes a few milliseconds, and a loop that
/// starts a crashing program would be slowed down.
const DESCENDANTS_MAX: u32 = 16;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Crashes {
    reports: HashMap<Pid, CrashReport>,
    descendants: u32,
}

impl Crashes {
    /// Examines the process if that signal ends it.
    pub(super) fn examine(
        &mut self,
        stopped: &Stopped,
        (process, is_job): (Pid, bool),
        delivery: &Delivery,
    ) {
        let signal = delivery.info.signal;
        if !signal.is_fault() || (!is_job && self.descendants >= DESCENDANTS_MAX) {
            return;
        }
        let root = PathBuf::from("/proc");
        let thread = stopped.thread();
        let source = CrashSource { root, pid: process, thread, now: clock::now };
        if !source.is_fatal(signal) {
            return;
        }
        let Some(words) = stopped.registers() else { return };
        let Some(registers) = Registers::from_words(&words) else { return };
        let fault = Fault {
            signal,
            code: delivery.code,
            address: delivery.address.unwrap_or(0),
            syscall: Registers::syscall(&words).unwrap_or(-1),
        };
        if let Ok(report) = source.report(fault, registers) {
            self.descendants += u32::from(!is_job);
            self.reports.insert(process, report);
        }
    }

    /// Returns where and why a process crashed, if that signal ended it.
    pub(super) fn place_and_cause(&self, process: Pid, signal: Signal) -> Option<String> {
        let report = self.reports.get(&process).filter(|report| report.signal == signal)?;
        Some(report.place_and_cause())
    }

    /// Returns the report of a process that has ended by that signal.
    pub(super) fn take(&mut self, process: Pid, signal: Signal) -> Option<CrashReport> {
        self.reports.remove(&process).filter(|report| report.signal == signal)
    }
}
