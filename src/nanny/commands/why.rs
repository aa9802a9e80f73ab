//! `nanny why`: finds the one run that is meant, and whether the record can be read well enough to
//! say.

use std::io::Write;

use crate::model::text::plural;
use crate::nanny::commands::why::post_mortem::{PostMortem, Run};
use crate::nanny::failure::{Failure, NOTHING};
use crate::nanny::notes::note;
use crate::nanny::source::damage;
use crate::nanny::source::index;
use crate::nanny::view::screen::Screen;
use crate::nanny::view::words;
use crate::question::Why;
use crate::record::read::{RawRow, Record};
use crate::record::row::{Column, Row};
use crate::record::row_place::RowPlace;
use crate::record::skipped::Skipped;

mod post_mortem;

/// Runs that a beginning fits and that are named, at most.
const NAMED_MAX: usize = 5;

/// Rows of a run that are read at most; it has one for each attempt and two more.
const ROWS_MAX: usize = 10_000;

/// A word that is shorter fits too many runs by accident.
const ID_BYTES_MIN: usize = 4;

pub fn answer(why: &Why, out: &mut dyn Write, screen: &Screen) -> Result<u8, Failure> {
    let record = index::open(&why.files)?;
    let (wanted, of_search) = match &why.run {
        Some(text) => (text.trim().to_ascii_lowercase(), None),
        None => match index::last_failed(&record)? {
            (Some(entry), skipped) => {
                (uuid::Uuid::from_bytes(entry.run).to_string(), Some(skipped))
            }
            (None, skipped) => {
                damage::report(&skipped, "a failure may be among them");
                note("no run has failed");
                return Ok(NOTHING);
            }
        },
    };
    let (rows, of_rows) = rows_of(&record, &wanted)?;
    let run = Run::of(rows);
    let is_ended = run.as_ref().is_some_and(Run::is_ended);
    // Which run failed last depends on every line; of a run that was named and has an end nothing else
    // is needed.
    let is_named = of_search.is_none();
    let skipped = of_search.unwrap_or(of_rows);
    damage::report(
        &skipped,
        match (is_named, is_ended) {
            (false, _) => "a later failure may be among them",
            (true, false) => "its rows may be among them",
            (true, true) => "the end of this run is not among them",
        },
    );
    let is_incomplete = skipped.lines > 0 && !(is_named && is_ended);
    let Some(run) = run else {
        note(&format!("no run has an id like '{wanted}'"));
        return Ok(NOTHING);
    };
    PostMortem { run: &run, screen }.write(out)?;
    Ok(if is_incomplete { NOTHING } else { 0 })
}

/// Returns the rows of the one run that is meant, in the order of the record, and the lines that cannot
/// be read.
fn rows_of(record: &Record, wanted: &str) -> Result<(Vec<Row>, Skipped), Failure> {
    if wanted.len() < ID_BYTES_MIN {
        return Err(Failure::Refused(format!("'{wanted}' is too short for the id of a run")));
    }
    let visit = |found: &mut Vec<(Vec<u8>, RowPlace)>, row: &RawRow<'_>| {
        let id = row.raw(Column::RunId);
        if words::is_id_like(id, wanted.as_bytes()) && row.is_whole() {
            found.push((id.to_vec(), row.place));
        }
    };
    let (found, skipped) = record.scan(Vec::new, visit)?;
    let found = found.concat();
    let mut ids: Vec<&[u8]> = found.iter().map(|(id, _)| id.as_slice()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > 1 {
        let short = |id: &&[u8]| words::last_group(&String::from_utf8_lossy(id)).to_owned();
        let named: Vec<_> = ids.iter().take(NAMED_MAX).map(short).collect();
        let count = ids.len();
        let message = format!("'{wanted}' fits {count} runs, such as {}", named.join(", "));
        return Err(Failure::Refused(message));
    }
    if let Some(more @ 1..) = found.len().checked_sub(ROWS_MAX) {
        note(&format!("{more} more row{} of that run", plural(more as u64)));
    }
    let mut rows = Vec::new();
    for (_, place) in found.iter().take(ROWS_MAX) {
        rows.extend(record.row_at(*place)?);
    }
    Ok((rows, skipped))
}
