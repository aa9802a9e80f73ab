//! `nanny report`: all runs of a record as one page of HTML.

use std::io::Write;

use crate::model::shell;
use crate::model::time::WallTime;
use crate::nanny::failure::{Failure, NOTHING};
use crate::nanny::notes::note;
use crate::nanny::source::index::{self, Matcher, Rank};
use crate::nanny::source::parts::Parts;
use crate::nanny::source::{damage, request};
use crate::nanny::statistics::summary::{EndedRun, Summary, Way};
use crate::nanny::view::output::write_file;
use crate::nanny::view::report::{Subject, page};
use crate::nanny::view::screen::Screen;
use crate::question::Report;
use crate::record::read::{RawRow, Record};
use crate::record::row::{Column, csv};
use crate::sys::clock;

pub fn answer(report: &Report, out: &mut dyn Write, screen: &Screen) -> Result<u8, Failure> {
    if report.output.is_none() && screen.is_terminal {
        return Err(Failure::Refused(
            "a page does not go to a terminal: name a file with --output FILE".into(),
        ));
    }
    let record = index::open(&report.files)?;
    let now = clock::wall();
    let matcher = Matcher::new(&report.filter, now);
    let (summary, unfinished, is_incomplete) = summary(&record, &matcher)?;
    if summary.tally.runs == 0 {
        note(if unfinished == 0 { "no run matches" } else { "no run has ended" });
        return Ok(NOTHING);
    }
    let source = source(report);
    let page = page(&summary, &Subject { source: &source, now, unfinished });
    match &report.output {
        Some(path) => write_file(path, &page).map_err(|source| Failure::File {
            action: "write",
            path: path.clone(),
            source,
        })?,
        None => out.write_all(page.as_bytes())?,
    }
    Ok(if is_incomplete { NOTHING } else { 0 })
}

/// Counts all runs that match; also returns how many have not ended, and whether rows may be missing.
fn summary(record: &Record, matcher: &Matcher) -> Result<(Summary, usize, bool), Failure> {
    let parts = Parts::<Summary>::new();
    let visit = |_: &mut (), row: &RawRow<'_>| parts.add(|part| add(part, row, matcher));
    let (_, skipped) = record.scan(|| (), visit)?;
    let mut summary = Summary::default();
    parts.totals().for_each(|part| summary.merge(part));
    let ended_after_all = index::ended_after_all(record, &summary.marked().collect())?;
    let unfinished = summary.finish(&ended_after_all);
    Ok((summary, unfinished, damage::is_incomplete(record, &skipped, matcher)?))
}

fn add(summary: &mut Summary, row: &RawRow<'_>, matcher: &Matcher) {
    let Some(rank) = index::rank(row) else { return };
    if !matcher.is_in_time(row) || !matcher.is_job(row) || !row.is_whole() {
        return;
    }
    let Some(id) = index::run_of(row) else { return };
    if rank == Rank::Started {
        summary.started(id);
        return;
    }
    let [time, host, user, name, verdict, exit_code, signal, sender, crash] = row.several([
        Column::Time,
        Column::Host,
        Column::User,
        Column::Name,
        Column::Verdict,
        Column::ExitCode,
        Column::Signal,
        Column::SenderCommand,
        Column::CrashSignature,
    ]);
    let [wall, rss, peak, calls, limit, request] = row.several([
        Column::WallSeconds,
        Column::MaxRssKib,
        Column::TreePeakRssBytes,
        Column::Calls,
        Column::CgroupMemoryBytes,
        Column::SchedulerRequest,
    ]);
    let Some(time) = std::str::from_utf8(time).ok().and_then(WallTime::from_rfc3339) else {
        return;
    };
    let process = number(rss).map_or(0.0, |kib| kib * 1024.0);
    let peak = process.max(number(peak).unwrap_or(0.0));
    let run = EndedRun {
        time: time.0.as_secs(),
        is_failed: rank != Rank::Succeeded,
        verdict,
        host,
        user,
        name,
        way: Way { exit_code, signal, sender, crash },
        wall_seconds: number(wall),
        peak_bytes: (peak > 0.0).then_some(peak),
        memory_limit: requested_bytes(request).or_else(|| number(limit)),
        calls: number(calls),
    };
    if rank == Rank::Lost { summary.lost(id, &run) } else { summary.ended(id, &run) }
}

/// Reads a number; nothing else than a finite one that is not negative.
fn number(cell: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(cell).ok()?.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

/// Returns the memory that a batch system was asked for.
fn requested_bytes(request: &[u8]) -> Option<f64> {
    if request.is_empty() {
        return None;
    }
    request::memory_bytes(&shell::split(&csv::text_of(request))?)
}

/// Names the files and what was asked for.
fn source(report: &Report) -> String {
    let mut words: Vec<String> =
        report.files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
    let filter = &report.filter;
    let wanted = [("batch", &filter.batch), ("host", &filter.host), ("name", &filter.name)];
    words.extend(
        wanted.into_iter().filter_map(|(what, value)| Some(format!("{what} {}", value.as_ref()?))),
    );
    words.join(", ")
}
