//! Lines of a record that cannot be read: reported once for each answer, with their place, and
//! whether the answer depends on them.

use std::collections::HashMap;

use crate::model::text::plural;
use crate::nanny::failure::Failure;
use crate::nanny::notes::note;
use crate::nanny::source::index::Matcher;
use crate::record::read::{RawRow, Record};
use crate::record::row::Column;
use crate::record::row_place::RowPlace;
use crate::record::skipped::Skipped;

/// Reports lines that were skipped, and returns whether rows that the matcher lets pass may be among
/// them. Only a time limit excludes that: nothing else is known of a line that cannot be read.
///
/// # Errors
///
/// The record cannot be read.
pub fn is_incomplete(
    record: &Record,
    skipped: &Skipped,
    matcher: &Matcher,
) -> Result<bool, Failure> {
    if record.is_overtaken() {
        note("rows beside the record were merged while they were read: runs may be missing");
        return Ok(true);
    }
    if skipped.lines == 0 {
        return Ok(false);
    }
    let is_older = match matcher.since() {
        Some(since) => is_older(record, skipped, since)?,
        None => false,
    };
    report(skipped, if is_older { "they are older than --since" } else { "runs may be missing" });
    Ok(!is_older)
}

/// Writes one line: how many lines were skipped, where the first of them is, and what that means for
/// the answer.
pub fn report(skipped: &Skipped, meaning: &str) {
    let Some((path, line)) = &skipped.first else { return };
    let (count, s, path) = (skipped.lines, plural(skipped.lines), path.display());
    let line = line.map(|line| format!(":{line}")).unwrap_or_default();
    let place = if count == 1 { "at" } else { "the first at" };
    note(&format!(
        "skipped {count} line{s} that cannot be read as rows, {place} {path}{line}: {meaning}"
    ));
}

/// Returns whether a row that is older than `since` stands behind the last such line of each file: rows
/// are appended, so all before it are older as well. Rows that were kept apart first do not count.
fn is_older(record: &Record, skipped: &Skipped, since: &str) -> Result<bool, Failure> {
    let visit = |last: &mut Option<RowPlace>, row: &RawRow<'_>| {
        let time = row.raw(Column::Time);
        let is_old = !time.is_empty() && time < since.as_bytes();
        if is_old && row.raw(Column::Apart) != b"true" && row.is_whole() {
            *last = Some(row.place);
        }
    };
    let (found, _) = record.scan(Default::default, visit)?;
    // In the order of the record: the last one of each file stays.
    let old: HashMap<usize, RowPlace> =
        found.into_iter().flatten().map(|place| (place.file(), place)).collect();
    let is_behind = |last: &RowPlace| old.get(&last.file()).is_some_and(|old| old > last);
    Ok(skipped.last.iter().all(is_behind))
}
