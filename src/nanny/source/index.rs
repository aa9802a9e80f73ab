//! What became of each run: an index of the rows that say so, as small as the question allows.
//!
//! A run has a `start` row and an `end` row; `collect` adds an `end` row that says `lost`, and the real
//! one may come after all, from a host that was cut off. So rows have ranks: the real end, then the
//! lost one, then the start.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::time::WallTime;
use crate::model::verdict::VerdictKind;
use crate::nanny::failure::Failure;
use crate::nanny::notes::note;
use crate::question::{Filter, Since};
use crate::record::read::{RawRow, ReadError, Record};
use crate::record::row::{Column, Row};
use crate::record::row_place::RowPlace;
use crate::record::skipped::Skipped;

/// The verdict that only nanny gives: a start without an end.
pub const LOST: &str = "lost";

/// At most this many files that were skipped are named: others may have put them there.
const LISTED_MAX: usize = 20;

/// States of runs without an end.
const UNFINISHED: [&str; 4] = ["running", LOST, "unfinished", "unknown"];

/// How much a row says about its run, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    Started,
    /// It was given up for lost.
    Lost,
    Failed,
    /// It did what it should.
    Succeeded,
}

/// A row that says something about a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The run: a UUIDv7, so that the order of ids is that of the starts.
    pub run: [u8; 16],
    /// Where the row is.
    pub place: RowPlace,
    pub rank: Rank,
    /// Whether it is one of those that were asked for.
    is_match: bool,
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Failure {
        Failure::File { action: "read", path: error.path, source: error.source }
    }
}

/// Opens the records; what beside them cannot be read is reported.
pub fn open(files: &[PathBuf]) -> Result<Record, Failure> {
    let record = Record::open(files)?;
    for error in record.foreign.iter().take(LISTED_MAX) {
        note(&format!("skipped {}: {}", error.path.display(), error.source));
    }
    if let Some(more @ 1..) = record.foreign.len().checked_sub(LISTED_MAX) {
        note(&format!("skipped {more} more"));
    }
    Ok(record)
}

/// Returns the rank of a row; `None` for one that says nothing about the whole run.
#[must_use]
pub fn rank(row: &RawRow<'_>) -> Option<Rank> {
    match row.raw(Column::Event) {
        b"start" => Some(Rank::Started),
        b"end" => Some(rank_of_end(row.raw(Column::Verdict))),
        _ => None,
    }
}

fn rank_of_end(verdict: &[u8]) -> Rank {
    let is_success = |kind: &VerdictKind| kind.is_success() && kind.word().as_bytes() == verdict;
    match verdict {
        // A built-in function has no verdict.
        b"" => Rank::Succeeded,
        verdict if verdict == LOST.as_bytes() => Rank::Lost,
        _ if VerdictKind::ALL.iter().any(is_success) => Rank::Succeeded,
        _ => Rank::Failed,
    }
}

/// Reads the id of a row's run.
#[must_use]
pub fn run_of(row: &RawRow<'_>) -> Option<[u8; 16]> {
    uuid::Uuid::try_parse_ascii(row.raw(Column::RunId)).ok().map(uuid::Uuid::into_bytes)
}

/// What the rows are compared with.
pub struct Matcher {
    filter: Filter,
    /// RFC 3339, so that instants compare as texts do.
    since: Option<String>,
}

impl Matcher {
    /// Counts a span back from `now`.
    #[must_use]
    pub fn new(filter: &Filter, now: WallTime) -> Matcher {
        let since = filter.since.as_ref().map(|since| instant(since, now));
        Matcher { filter: filter.clone(), since }
    }

    /// Returns the instant that rows must not be older than, as RFC 3339.
    #[must_use]
    pub fn since(&self) -> Option<&str> {
        self.since.as_deref()
    }

    /// Returns whether a row is of a job that was asked for: the answer is the same for all rows of a run.
    #[must_use]
    pub fn is_job(&self, row: &RawRow<'_>) -> bool {
        let Filter { batch, host, name, .. } = &self.filter;
        let wanted = [(Column::Batch, batch), (Column::Host, host), (Column::Name, name)];
        wanted
            .into_iter()
            .all(|(column, text)| text.as_ref().is_none_or(|text| row.is(column, text)))
    }

    /// Returns whether a row was written in the time that was asked for.
    #[must_use]
    pub fn is_in_time(&self, row: &RawRow<'_>) -> bool {
        self.since.as_ref().is_none_or(|since| row.raw(Column::Time) >= since.as_bytes())
    }

    fn is_outcome(&self, row: &RawRow<'_>, rank: Rank) -> bool {
        let Filter { verdict, is_failed, is_lost, .. } = &self.filter;
        let is_verdict = |word: &String| match rank {
            // Whether it still runs is found out later.
            Rank::Started => UNFINISHED.contains(&word.as_str()),
            _ => row.is(Column::Verdict, word),
        };
        (!is_failed || matches!(rank, Rank::Failed | Rank::Lost))
            && (!is_lost || matches!(rank, Rank::Started | Rank::Lost))
            && verdict.as_ref().is_none_or(is_verdict)
    }

    /// Returns whether only rows that end a run can be the answer: then the others, and what is not
    /// asked for, need no memory.
    fn is_about_ends(&self) -> bool {
        let is_end = |word: &String| !UNFINISHED.contains(&word.as_str());
        self.filter.is_failed || self.filter.verdict.as_ref().is_some_and(is_end)
    }
}

/// Returns an instant as RFC 3339.
#[must_use]
pub fn instant(since: &Since, now: WallTime) -> String {
    const DAY: u64 = 24 * 60 * 60;
    let today = now.0.as_secs() / DAY;
    let back = match since {
        Since::At(instant) => return instant.clone(),
        Since::Ago(span) => return WallTime(now.0.saturating_sub(*span)).rfc3339(),
        Since::DaysBack(days) => *days,
        // 1970 began on a Thursday.
        Since::Weekday(day) => (today + 3 + 7 - day) % 7,
    };
    WallTime(Duration::from_secs(today.saturating_sub(back) * DAY)).rfc3339()
}

/// Returns for each run that was asked for the row that says most about it, the oldest run first, and
/// the lines that cannot be read.
///
/// # Errors
///
/// The record cannot be read.
pub fn runs(record: &Record, matcher: &Matcher) -> Result<(Vec<IndexEntry>, Skipped), Failure> {
    let is_about_ends = matcher.is_about_ends();
    let visit = |found: &mut Vec<IndexEntry>, row: &RawRow<'_>| {
        let Some(rank) = rank(row) else { return };
        if is_about_ends && rank == Rank::Started {
            return;
        }
        let is_match = matcher.is_outcome(row, rank) && matcher.is_in_time(row);
        if (is_match || !is_about_ends) && matcher.is_job(row) && row.is_whole() {
            let entry = |run| IndexEntry { run, place: row.place, rank, is_match };
            found.extend(run_of(row).map(entry));
        }
    };
    let (found, skipped) = record.scan(Vec::new, visit)?;
    let mut best = best_of_each(joined(found));
    if is_about_ends {
        drop_ended_after_all(record, &mut best)?;
    }
    best.retain(|entry| entry.is_match);
    Ok((best, skipped))
}

/// Returns the run that failed last, or was lost: the one whose end has the latest time. Rows that
/// waited elsewhere stand behind later ones. Also returns the lines that cannot be read.
///
/// # Errors
///
/// The record cannot be read.
pub fn last_failed(record: &Record) -> Result<(Option<IndexEntry>, Skipped), Failure> {
    type Timed = (Vec<u8>, IndexEntry);
    let visit = |(failed, lost): &mut (Option<Timed>, Vec<Timed>), row: &RawRow<'_>| {
        let Some(rank @ (Rank::Failed | Rank::Lost)) = rank(row) else { return };
        let time = row.raw(Column::Time);
        let is_older = |(latest, _): &Timed| time < latest.as_slice();
        if rank == Rank::Failed && failed.as_ref().is_some_and(is_older) || !row.is_whole() {
            return;
        }
        let Some(run) = run_of(row) else { return };
        let timed = (time.to_vec(), IndexEntry { run, place: row.place, rank, is_match: true });
        if rank == Rank::Failed {
            *failed = Some(timed);
        } else {
            lost.push(timed);
        }
    };
    let (found, skipped) = record.scan(Default::default, visit)?;
    let (failed, lost): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let mut candidates: Vec<Timed> = failed.into_iter().flatten().collect();
    let mut truly_lost: Vec<IndexEntry> = lost.iter().flatten().map(|(_, entry)| *entry).collect();
    drop_ended_after_all(record, &mut truly_lost)?;
    let truly_lost: HashSet<RowPlace> = truly_lost.iter().map(|entry| entry.place).collect();
    let is_lost = |(_, entry): &Timed| truly_lost.contains(&entry.place);
    candidates.extend(lost.into_iter().flatten().filter(is_lost));
    let last = candidates.into_iter().max_by(|one, other| one.0.cmp(&other.0));
    Ok((last.map(|(_, entry)| entry), skipped))
}

/// Joins lists, giving up each as soon as it is copied.
#[must_use]
pub fn joined<T>(lists: Vec<Vec<T>>) -> Vec<T> {
    let mut all = Vec::with_capacity(lists.iter().map(Vec::len).sum());
    lists.into_iter().for_each(|list| all.extend(list));
    all
}

/// Keeps for each run the row of the highest rank; of several the last.
#[must_use]
pub fn best_of_each(mut entries: Vec<IndexEntry>) -> Vec<IndexEntry> {
    // Of rows of one run the better one stands in front, and those behind it go.
    // Nearly sorted already, which the stable sort makes use of.
    entries.sort_by_key(|entry| (entry.run, Reverse((entry.rank, entry.place))));
    entries.dedup_by_key(|entry| entry.run);
    entries
}

/// Where only some ends were looked at, the real end of a run that was given up for lost may be among
/// the others.
fn drop_ended_after_all(record: &Record, best: &mut Vec<IndexEntry>) -> Result<(), Failure> {
    let lost = best.iter().filter(|entry| entry.rank == Rank::Lost).map(|entry| entry.run);
    let ended = ended_after_all(record, &lost.collect())?;
    best.retain(|entry| entry.rank != Rank::Lost || !ended.contains(&entry.run));
    Ok(())
}

/// Returns which of the runs that were given up for lost have a real end.
///
/// # Errors
///
/// The record cannot be read.
pub fn ended_after_all(
    record: &Record,
    lost: &HashSet<[u8; 16]>,
) -> Result<HashSet<[u8; 16]>, Failure> {
    if lost.is_empty() {
        return Ok(HashSet::new());
    }
    let visit = |ended: &mut Vec<[u8; 16]>, row: &RawRow<'_>| {
        if rank(row) > Some(Rank::Lost) {
            ended.extend(run_of(row).filter(|run| lost.contains(run)));
        }
    };
    let (ended, _) = record.scan(Vec::new, visit)?;
    Ok(ended.into_iter().flatten().collect())
}

/// Reads the row of an entry; one that was taken out of the record meanwhile is passed over.
///
/// # Errors
///
/// The record cannot be read.
pub fn row_of(record: &Record, entry: &IndexEntry) -> Result<Option<Row>, Failure> {
    Ok(record.row_at(entry.place)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_end_counts_more_than_the_lost_one_whatever_came_first() {
        let entry = |run: u8, place: u64, rank| IndexEntry {
            run: [run; 16],
            place: RowPlace::at(place),
            rank,
            is_match: true,
        };
        let entries = vec![
            entry(2, 1, Rank::Started),
            entry(1, 2, Rank::Failed),
            entry(1, 3, Rank::Lost),
            entry(1, 0, Rank::Started),
            entry(2, 4, Rank::Lost),
        ];
        let best: Vec<_> = best_of_each(entries).iter().map(|one| (one.run[0], one.rank)).collect();
        assert_eq!(best, [(1, Rank::Failed), (2, Rank::Lost)]);
    }

    #[test]
    fn days_begin_at_midnight_in_utc() {
        // A Sunday.
        let now = WallTime::from_rfc3339("2026-11-22T14:05:09.123456Z").expect("a time");
        for (since, date) in [
            (Since::DaysBack(0), "2026-11-22"),
            (Since::DaysBack(1), "2026-11-21"),
            (Since::Weekday(6), "2026-11-22"),
            (Since::Weekday(0), "2026-11-16"),
            (Since::Weekday(5), "2026-11-21"),
        ] {
            assert_eq!(instant(&since, now), format!("{date}T00:00:00.000000Z"), "{since:?}");
        }
    }

    #[test]
    fn only_words_of_success_are_a_success() {
        for (word, expected) in [
            ("success", Rank::Succeeded),
            ("success_with_losses", Rank::Succeeded),
            ("", Rank::Succeeded),
            ("oom_killed", Rank::Failed),
            ("a_word_of_a_later_version", Rank::Failed),
            ("lost", Rank::Lost),
        ] {
            assert_eq!(rank_of_end(word.as_bytes()), expected, "{word}");
        }
    }
}
