//! The jobs of a record: runs of the same command, in the same directory, of the same name and with
//! the same files, are runs of the same job. Which of them failed and have not succeeded since?

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use crate::nanny::failure::Failure;
use crate::nanny::source::damage;
use crate::nanny::source::index::{self, Matcher, Rank};
use crate::nanny::source::proof::{Doubt, Proof};
use crate::record::read::{RawRow, Record};
use crate::record::row::Column;
use crate::record::row_place::RowPlace;

/// What makes two runs the same job.
const IDENTITY: [Column; 7] = [
    Column::Uid,
    Column::Command,
    Column::WorkingDirectory,
    Column::Name,
    Column::Input,
    Column::Output,
    Column::Error,
];

/// A job, by a hash of what it is: 64 bits, so that among a million jobs two are alike by chance in one
/// record of forty million.
pub type JobIdentity = u64;

/// What happened last to a job.
#[derive(Clone, Debug, Default)]
pub struct RecordedJob {
    /// Its last end in each series of rows.
    ends: Vec<DecidingEnd>,
    /// Its runs that have no end.
    started: Vec<Start>,
}

/// An end that decides.
#[derive(Clone, Copy, Debug)]
struct DecidingEnd {
    at: At,
    is_success: bool,
    is_match: bool,
}

/// A run without an end.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Where its row is.
    pub place: RowPlace,
    /// Whether it is proven to be the user's.
    pub is_proven: bool,
    at: At,
    is_match: bool,
}

/// When a row was written: the digits of its time, without the century.
type Order = u64;

/// Where a row stands in time. In one file, the rows of one host stand in the order in which they were
/// written, whatever its clock said; rows of different series can only be compared by their times.
#[derive(Clone, Copy, Debug)]
struct At {
    /// A hash of file and host; [`APART`] for rows that came into the file later.
    series: u32,
    order: Order,
    place: RowPlace,
}

/// The series of rows that were kept in files of their own first: these only have their times.
const APART: u32 = 0;

impl At {
    fn is_before(&self, other: &At) -> bool {
        match self.series {
            APART => (self.order, self.place) < (other.order, other.place),
            _ => self.place < other.place,
        }
    }
}

/// A row whose run is to be found.
#[derive(Clone, Copy)]
struct PendingRow {
    run: [u8; 16],
    at: At,
    /// 0 for a start: few are needed in the end.
    job: JobIdentity,
    rank: Rank,
    is_match: bool,
}

/// An end that is not proven to be the user's.
#[derive(Clone, Debug)]
pub struct Doubted {
    /// Whose it claims to be.
    pub job: JobIdentity,
    /// Where its row is.
    pub place: RowPlace,
    /// Why it is not believed.
    pub doubt: Doubt,
    order: Order,
    is_success: bool,
}

/// What a record says about jobs.
pub struct Jobs {
    /// Those that failed or have no end, and those that were wanted.
    pub by_identity: HashMap<JobIdentity, RecordedJob>,
    /// Ends that are not believed.
    pub doubted: Vec<Doubted>,
    /// How many runs of other users failed.
    pub of_others: u64,
    /// Whether there are lines that cannot be read and may be of jobs that were asked for.
    pub is_damaged: bool,
}

/// Hashes are the same within one run of nanny, and differ in any other.
pub struct Identifier(RandomState);

impl Identifier {
    #[must_use]
    pub fn new() -> Identifier {
        Identifier(RandomState::new())
    }

    fn of(&self, row: &RawRow<'_>) -> JobIdentity {
        self.0.hash_one(IDENTITY.map(|column| row.raw(column)))
    }

    fn at(&self, row: &RawRow<'_>) -> At {
        let series = match row.raw(Column::Apart) {
            b"true" => APART,
            _ => (self.0.hash_one((row.place.file(), row.raw(Column::Host))) as u32).max(1),
        };
        At { series, order: order(row.raw(Column::Time)), place: row.place }
    }
}

impl RecordedJob {
    /// Returns the row of its last failure if it has not succeeded since and was asked for; whether it
    /// is going on again is another matter.
    #[must_use]
    pub fn to_run_again(&self) -> Option<RowPlace> {
        let last = self.last().filter(|last| !last.is_success && last.is_match)?;
        Some(last.at.place)
    }

    /// Returns the last end: the latest of those that end a series.
    fn last(&self) -> Option<&DecidingEnd> {
        self.ends.iter().max_by_key(|end| (end.at.order, end.at.place))
    }

    /// Returns two rows of different hosts in one file of which the later one has the earlier time,
    /// if that decides whether the job is run again.
    #[must_use]
    pub fn disagreement(&self) -> Option<[RowPlace; 2]> {
        let last = self.last()?;
        let contradicts = |end: &&DecidingEnd| {
            let is_later = end.at.place > last.at.place && end.at.order < last.at.order;
            let is_ordered = end.at.series != APART && last.at.series != APART;
            let is_one_file = end.at.place.file() == last.at.place.file();
            is_later && is_ordered && is_one_file && end.is_success != last.is_success
        };
        let other = self.ends.iter().find(contradicts)?;
        Some([last.at.place, other.at.place])
    }

    fn add(&mut self, entry: &PendingRow) {
        let PendingRow { at, rank, is_match, .. } = *entry;
        match rank {
            Rank::Started => {
                self.started.push(Start { place: at.place, is_proven: true, at, is_match });
            }
            _ => self.ended(DecidingEnd { at, is_success: rank == Rank::Succeeded, is_match }),
        }
    }

    fn ended(&mut self, end: DecidingEnd) {
        match self.ends.iter_mut().find(|one| one.at.series == end.at.series) {
            Some(one) if one.at.is_before(&end.at) => *one = end,
            Some(_) => {}
            None => self.ends.push(end),
        }
    }

    /// Returns its runs without an end.
    #[must_use]
    pub fn started(&self) -> &[Start] {
        &self.started
    }

    /// Returns whether it has succeeded at all.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.ends.iter().any(|end| end.is_success)
    }

    /// A run without an end that is known to be lost has failed like any other.
    pub fn give_up(&mut self, start: Start) {
        self.started.retain(|one| one.place != start.place);
        self.ended(DecidingEnd { at: start.at, is_success: false, is_match: start.is_match });
    }
}

impl Jobs {
    /// Returns ends that say that a job succeeded, later than what is believed of it.
    pub fn claims(&self) -> impl Iterator<Item = &Doubted> {
        let is_news = |one: &&Doubted| {
            let job = self.by_identity.get(&one.job).and_then(RecordedJob::last);
            one.is_success && job.is_some_and(|last| !last.is_success && last.at.order < one.order)
        };
        self.doubted.iter().filter(is_news)
    }

    /// Returns failures that are not run again because nothing proves whose they are: of each job the
    /// last one.
    #[must_use]
    pub fn unproven(&self) -> Vec<&Doubted> {
        let mut last: HashMap<JobIdentity, &Doubted> = HashMap::new();
        for one in &self.doubted {
            let known = last.entry(one.job).or_insert(one);
            if known.order <= one.order {
                *known = one;
            }
        }
        let is_open = |one: &&Doubted| {
            let known = self.by_identity.get(&one.job).and_then(RecordedJob::last);
            !one.is_success && known.is_none_or(|last| last.is_success && last.at.order < one.order)
        };
        let mut found: Vec<&Doubted> = last.into_values().filter(is_open).collect();
        found.sort_by_key(|one| one.place);
        found
    }
}

/// Returns the jobs of a record that failed or have no end, and those that are `wanted` in any case.
/// Which runs were asked for only decides which failures count: a success is one whenever it was.
///
/// # Errors
///
/// The record cannot be read.
pub fn jobs(
    record: &Record,
    matcher: &Matcher,
    (identifier, proof): (&Identifier, &Proof),
    wanted: &HashSet<JobIdentity>,
) -> Result<Jobs, Failure> {
    let visit = |found: &mut RunRows, row: &RawRow<'_>| {
        let Some(rank) = index::rank(row) else { return };
        let Some(run) = index::run_of(row).filter(|_| row.is_whole()) else { return };
        let is_match = matcher.is_job(row) && matcher.is_in_time(row);
        let Some(uid) = proof.claimed(row) else {
            found.of_others += u64::from(rank == Rank::Failed && is_match);
            return;
        };
        let at = identifier.at(row);
        // Starts are looked at below: of the runs that have ended nobody needs them.
        if rank == Rank::Started {
            return found.push(PendingRow { run, at, job: 0, rank, is_match });
        }
        let job = identifier.of(row);
        let (place, order, is_success) = (at.place, at.order, rank == Rank::Succeeded);
        match proof.check(row, uid) {
            Ok(()) => found.push(PendingRow { run, at, job, rank, is_match }),
            // That a run is lost is seen by its start as well.
            Err(doubt) if rank != Rank::Lost && (is_match || is_success) => {
                found.doubted.push(Doubted { job, place, doubt, order, is_success });
            }
            Err(_) => {}
        }
    };
    let (found, skipped) = record.scan(RunRows::default, visit)?;
    let is_damaged = damage::is_incomplete(record, &skipped, matcher)?;
    let of_others = found.iter().map(|found| found.of_others).sum();
    let (lists, doubted): (Vec<_>, Vec<_>) =
        found.into_iter().map(|found| (found.list, found.doubted)).unzip();
    let doubted = index::joined(doubted);
    let mut found = index::joined(lists);
    keep_best(&mut found);
    let mut by_identity: HashMap<JobIdentity, RecordedJob> = HashMap::new();
    for entry in found.iter().filter(|entry| entry.rank == Rank::Started) {
        let look = |row: &RawRow<'_>| (identifier.of(row), proof.proves(row));
        let Some((job, is_proven)) = record.look_at(entry.at.place, look)? else { continue };
        let (at, is_match) = (entry.at, entry.is_match);
        let start = Start { place: at.place, is_proven, at, is_match };
        by_identity.entry(job).or_default().started.push(start);
    }
    let has_failed = |entry: &&PendingRow| matches!(entry.rank, Rank::Failed | Rank::Lost);
    for entry in found.iter().filter(has_failed) {
        by_identity.entry(entry.job).or_default().add(entry);
    }
    let doubts: HashSet<JobIdentity> = doubted.iter().map(|one| one.job).collect();
    // Of most jobs nothing else is known than that they succeeded: that needs no memory.
    for entry in found.iter().filter(|entry| entry.rank == Rank::Succeeded) {
        match by_identity.get_mut(&entry.job) {
            Some(job) => job.add(entry),
            None if wanted.contains(&entry.job) || doubts.contains(&entry.job) => {
                by_identity.entry(entry.job).or_default().add(entry);
            }
            None => {}
        }
    }
    Ok(Jobs { by_identity, doubted, of_others, is_damaged })
}

/// Rows of runs, of which those are dropped now and then that are known to be superseded.
#[derive(Default)]
struct RunRows {
    list: Vec<PendingRow>,
    /// Its largest length until then.
    limit: usize,
    doubted: Vec<Doubted>,
    of_others: u64,
}

impl RunRows {
    fn push(&mut self, entry: PendingRow) {
        if self.list.len() >= self.limit.max(SOME) {
            keep_best(&mut self.list);
            self.limit = self.list.len() * 2;
        }
        self.list.push(entry);
    }
}

/// Fewer entries need not be looked through.
const SOME: usize = 10_000;

/// Keeps of each run the row that says most or, if it has no end, all its starts: which of them is
/// proven is not known yet. Of two alike the first one stays, so that a row that somebody wrote again
/// moves nothing to the end.
fn keep_best(entries: &mut Vec<PendingRow>) {
    // Nearly sorted already, which the stable sort makes use of.
    entries.sort_by_key(|entry| (entry.run, Reverse(entry.rank), entry.at.place));
    entries.dedup_by(|later, first| {
        let is_start = first.rank == Rank::Started && later.at.place != first.at.place;
        later.run == first.run && !is_start
    });
}

/// Reads `2026-11-22T14:05:09.123456Z` as a number that grows with time.
fn order(time: &[u8]) -> Order {
    let digits = time.iter().skip(2).filter(|byte| byte.is_ascii_digit()).take(18);
    digits.fold(0, |order, digit| order * 10 + u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An end at that place of a file, of that series and with that time.
    fn entry((place, series, order): (u64, u32, u64), rank: Rank) -> PendingRow {
        let at = At { series, order, place: RowPlace::at(place) };
        PendingRow { run: [0; 16], at, job: 0, rank, is_match: true }
    }

    fn job(entries: &[((u64, u32, u64), Rank)]) -> RecordedJob {
        let mut job = RecordedJob::default();
        entries.iter().for_each(|(at, rank)| job.add(&entry(*at, *rank)));
        job
    }

    fn again(entries: &[((u64, u32, u64), Rank)]) -> Option<RowPlace> {
        job(entries).to_run_again()
    }

    #[test]
    fn of_one_host_in_one_file_the_order_of_the_rows_decides() {
        use Rank::{Failed, Lost, Succeeded};
        assert_eq!(again(&[((1, 1, 1), Failed)]), Some(RowPlace::at(1)));
        assert_eq!(again(&[((1, 1, 1), Failed), ((2, 1, 2), Succeeded)]), None);
        // The clock was set back between the two.
        assert_eq!(again(&[((1, 1, 9), Failed), ((2, 1, 2), Succeeded)]), None);
        assert_eq!(again(&[((1, 1, 9), Succeeded), ((2, 1, 2), Failed)]), Some(RowPlace::at(2)));
        assert_eq!(
            again(&[((2, 1, 2), Succeeded), ((1, 1, 1), Failed)]),
            None,
            "read out of order"
        );
        let lost = [((1, 1, 1), Failed), ((3, 1, 3), Lost), ((2, 1, 2), Succeeded)];
        assert_eq!(again(&lost), Some(RowPlace::at(3)));
    }

    #[test]
    fn rows_that_were_kept_apart_first_only_have_their_times() {
        use Rank::{Failed, Succeeded};
        // The failure was merged after the success.
        assert_eq!(again(&[((1, 1, 5), Succeeded), ((2, APART, 4), Failed)]), None);
        assert_eq!(again(&[((1, APART, 5), Succeeded), ((2, APART, 4), Failed)]), None);
        let late = job(&[((1, 1, 5), Succeeded), ((2, APART, 4), Failed)]);
        assert_eq!(late.disagreement(), None);
    }

    #[test]
    fn of_several_hosts_the_time_decides_and_a_contradiction_is_seen() {
        use Rank::{Failed, Succeeded};
        let agreed = [((1, 1, 1), Failed), ((2, 2, 2), Succeeded)];
        assert_eq!((again(&agreed), job(&agreed).disagreement()), (None, None));
        let fast = job(&[((1, 1, 9), Succeeded), ((2, 2, 2), Failed)]);
        assert_eq!(fast.to_run_again(), None);
        assert_eq!(fast.disagreement(), Some([RowPlace::at(1), RowPlace::at(2)]));
        // Two that say the same decide nothing.
        assert_eq!(job(&[((1, 1, 9), Failed), ((2, 2, 2), Failed)]).disagreement(), None);
        // The end of each host is what its own order says.
        let both = [((1, 1, 9), Succeeded), ((2, 1, 3), Failed), ((3, 2, 2), Succeeded)];
        assert_eq!(again(&both), Some(RowPlace::at(2)));
    }

    #[test]
    fn a_start_counts_once_it_is_given_up() {
        let mut job = RecordedJob::default();
        job.add(&entry((1, 1, 1), Rank::Succeeded));
        job.add(&entry((2, 1, 2), Rank::Started));
        assert_eq!(job.to_run_again(), None);
        job.give_up(job.started()[0]);
        assert_eq!(job.to_run_again(), Some(RowPlace::at(2)));
    }

    #[test]
    fn a_row_that_is_there_twice_counts_where_it_stood_first() {
        let of_run =
            |run: u8, place, rank| PendingRow { run: [run; 16], ..entry((place, 1, 5), rank) };
        let mut entries = vec![
            of_run(1, 1, Rank::Failed),
            of_run(2, 2, Rank::Succeeded),
            of_run(1, 3, Rank::Failed),
            of_run(3, 4, Rank::Started),
            of_run(3, 5, Rank::Started),
            of_run(2, 6, Rank::Started),
        ];
        keep_best(&mut entries);
        let kept: Vec<_> = entries.iter().map(|one| (one.run[0], one.at.place)).collect();
        let at = |run, place| (run, RowPlace::at(place));
        assert_eq!(kept, [at(1, 1), at(2, 2), at(3, 4), at(3, 5)]);
    }

    #[test]
    fn times_are_ordered_by_their_digits() {
        let at = |text: &str| order(text.as_bytes());
        assert!(at("2026-11-22T14:05:09.123456Z") < at("2026-11-22T14:05:09.123457Z"));
        assert!(at("2026-11-22T14:05:09.999999Z") < at("2027-01-01T00:00:00.000000Z"));
    }
}
