//! Logs of other programs, a run at a time: sacct(1), PBS accounting, the standard workload format, and the job log
//! of GNU parallel.
//!
//! A reader gets one line after the other and says what it is. It makes no guess: what a log does not say stays empty.

use std::ffi::OsString;
use std::time::Duration;

use uuid::Uuid;

use crate::model::shell;
use crate::model::time::WallTime;
use crate::model::verdict::VerdictKind;
use crate::record::row::{Column, Row, SCHEMA};

pub mod job_log;
pub mod pbs;
pub mod sacct;
pub mod swf;

/// What a line of a log was.
#[derive(Debug, PartialEq)]
pub enum ForeignLine {
    Run(Box<ForeignRun>),
    /// Nothing to keep: a comment, a heading, part of another line's run.
    Nothing,
    /// A run that has not ended.
    Unfinished,
    /// It cannot be read, and why.
    Bad(String),
}

/// Reads the lines of one file, in their order.
pub trait ForeignLog {
    fn line(&mut self, line: &str) -> ForeignLine;

    /// Returns what was held back until the end of the file.
    fn end(&mut self) -> ForeignLine {
        ForeignLine::Nothing
    }
}

/// One run in a log of another program. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForeignRun {
    /// Its name in the log: the same job gets the same run id whenever it is imported.
    pub id: String,
    pub began: f64,
    pub ended: f64,
    pub host: String,
    pub user: String,
    pub uid: String,
    pub name: String,
    pub batch: String,
    pub directory: String,
    /// For a shell.
    pub command: String,
    /// `None`: the log says that the host was lost.
    pub verdict: Option<VerdictKind>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub evidence: String,
    pub sender_uid: String,
    pub cpu_seconds: Option<f64>,
    pub peak_bytes: Option<u64>,
    /// `NAME=VALUE` each.
    pub request: Vec<String>,
}

impl ForeignRun {
    /// Says how it ended by an exit status and a signal, either 0 if there was none.
    pub fn end_by(&mut self, status: i32, signal: i32) {
        self.exit_code = (signal == 0).then_some(status);
        self.signal = (signal != 0).then_some(signal);
        // Who sent a signal is not in such a log, nor whether it was a crash.
        self.verdict = Some(match (status, signal) {
            (0, 0) => VerdictKind::Success,
            (_, 0) => VerdictKind::ExitNonzero,
            _ => VerdictKind::Unknown,
        });
    }

    /// Returns its `end` row.
    #[must_use]
    pub fn row(&self, scheduler: &str) -> Row {
        let mut row = Row::default();
        row.show(Column::Schema, SCHEMA);
        row.set(Column::Event, "end");
        row.show(Column::RunId, run_id(self.began, &format!("{scheduler} {}", self.id)));
        row.set(Column::Time, instant(self.ended).rfc3339());
        let texts = [
            (Column::Host, &self.host),
            (Column::User, &self.user),
            (Column::Uid, &self.uid),
            (Column::Name, &self.name),
            (Column::Batch, &self.batch),
            (Column::WorkingDirectory, &self.directory),
            (Column::Evidence, &self.evidence),
            (Column::SenderUid, &self.sender_uid),
            (Column::SchedulerJob, &self.id),
        ];
        texts.into_iter().for_each(|(column, text)| row.set(column, text.as_bytes()));
        if !self.command.is_empty() {
            let words = ["sh", "-c", &self.command].map(OsString::from);
            row.set(Column::Command, shell::words(&words));
        }
        row.set(Column::Verdict, self.verdict.map_or("lost", VerdictKind::word));
        row.set(Column::Confidence, "certain");
        row.set(Column::Attempt, "1");
        row.set(Column::Scheduler, scheduler);
        let request: Vec<OsString> = self.request.iter().map(OsString::from).collect();
        row.set(Column::SchedulerRequest, shell::words(&request));
        self.exit_code.iter().for_each(|code| row.show(Column::ExitCode, code));
        self.signal.iter().for_each(|signal| row.show(Column::Signal, signal));
        row.set(Column::WallSeconds, format!("{:.6}", (self.ended - self.began).max(0.0)));
        self.cpu_seconds.iter().for_each(|cpu| row.set(Column::UserSeconds, format!("{cpu:.6}")));
        self.peak_bytes.iter().for_each(|peak| row.show(Column::TreePeakRssBytes, peak));
        row
    }
}

fn instant(seconds: f64) -> WallTime {
    // Beyond the year 9999 nothing can be written.
    WallTime(Duration::from_secs_f64(seconds.clamp(0.0, 253_402_300_799.0)))
}

/// Returns a UUIDv7 of that time; the bits that are random elsewhere follow from the name.
fn run_id(began: f64, name: &str) -> Uuid {
    let mut bytes = *Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).as_bytes();
    let millis = instant(began).0.as_millis() as u64;
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    bytes[6] = 0x70 | bytes[6] & 0x0f;
    bytes[8] = 0x80 | bytes[8] & 0x3f;
    Uuid::from_bytes(bytes)
}

/// Reads `[D-]H:M:S`, `M:S` or seconds, with fractions.
#[must_use]
pub fn span(text: &str) -> Option<f64> {
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (days.parse::<u32>().ok()?, rest),
        None => (0, text),
    };
    let mut seconds = 0.0;
    for part in rest.split(':') {
        let part: f64 = part.parse().ok().filter(|part: &f64| part.is_finite() && *part >= 0.0)?;
        seconds = seconds * 60.0 + part;
    }
    Some(f64::from(days) * 86_400.0 + seconds)
}

/// Reads a size with a unit of 1024: `4096`, `3000kb`, `4G`, `4.5Gn`; a plain number is in units of `unit` bytes.
#[must_use]
pub fn size(text: &str, unit: u64) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let scale = match suffix.to_ascii_lowercase().trim_end_matches(['b', 'n', 'c', 'w']) {
        "" if suffix.is_empty() => unit,
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        "p" => 1 << 50,
        _ => return None,
    };
    Some((number * scale as f64) as u64)
}

/// Returns the base name of the first word of a command.
#[must_use]
pub fn name_of(command: &str) -> String {
    let word = command.split_whitespace().next().unwrap_or_default();
    word.rsplit('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
