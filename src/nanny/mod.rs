//! What nanny answers: `commands` has one file for each command. Rows come from `source`, numbers from
//! `statistics`, and `view` turns them into text.
//!
//! Answers are written to the `out` that is given; notes about what could not be read go to standard error.
//! Only `rerun` starts anything, and only `collect` and `rerun` write to a record.

use std::io::Write;

use crate::nanny::commands::{
    collect, dist, ids, import, patterns, report, rerun, runs, stacks, why,
};
use crate::nanny::failure::Failure;
use crate::nanny::view::screen::Screen;
use crate::question::Question;
use crate::sys::entry::Given;

mod commands;
pub mod failure;
pub mod notes;
mod source;
mod statistics;
pub mod view;

/// Answers a question and returns the exit status.
///
/// # Errors
///
/// There is no answer, or it cannot be written.
pub fn answer(
    question: &Question,
    given: &Given,
    out: &mut dyn Write,
    screen: &Screen,
) -> Result<u8, Failure> {
    match question {
        Question::Runs(runs) => runs::answer(runs, out, screen),
        Question::Why(why) => why::answer(why, out, screen),
        Question::Dist(dist) => dist::answer(dist, out, screen),
        Question::Patterns(patterns) => patterns::answer(patterns, out),
        Question::Report(report) => report::answer(report, out, screen),
        Question::Stacks(target) => stacks::answer(target, out),
        Question::Ids(files) => ids::answer(files, out),
        Question::Import(import) => import::answer(import, out),
        Question::Rerun(rerun) => rerun::answer(rerun, given, out),
        Question::Collect(collect) => collect::answer(collect, out, screen),
    }
}

/// Reads a log as `why` does; returns what it would show.
#[cfg(any(test, fuzzing))]
pub(crate) fn log_lines(text: &[u8]) -> Vec<String> {
    let summary = source::log_summary::of(text).unwrap_or_default();
    let events = summary.events.into_iter().map(|(at, message)| format!("{at} {message}"));
    let events = events.chain(summary.crashes);
    events.chain(summary.words).chain(summary.peak).chain(summary.neighbours).collect()
}

/// Shows a row as `runs` and `why` do; returns all that they would show.
#[cfg(any(test, fuzzing))]
pub(crate) fn row_texts(row: &crate::record::row::Row) -> Vec<String> {
    let verdict = row.text(crate::record::row::Column::Verdict);
    let now = crate::model::time::WallTime(std::time::Duration::from_secs(1_800_000_000));
    let cells = [&*verdict, "running"].map(|state| runs::cells(row, state, now)).into_iter();
    let cells = cells.flatten().chain([runs::json(row, &verdict).to_string()]);
    cells.chain(view::advice::advice(&verdict, row)).collect()
}
