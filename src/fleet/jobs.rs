//! The jobs of a record: runs of the same command, in the same directory, of the same name and with
//! the same files, are runs of the same job. Which of them failed and have not succeeded since?

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use crate::fleet::Failure;
use crate::fleet::index::{self, Rank, Sieve};
use crate::record::read::{Place, RawRow, Record};
use crate::record::row::Column;

/// What makes two runs the same job.
const IDENTITY: [Column; 6] = [
    Column::Command,
    Column::WorkingDirectory,
    Column::Name,
    Column::Input,
    Column::Output,
    Column::Error,
];

/// A job, by a hash of what it is: 64 bits, so that among a million jobs two are alike by chance in one
/// record of forty million.
pub type Identity = u64;

/// What happened last to a job.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// Its last success, by [`Order`].
    succeeded: Option<Order>,
    /// Its last failure, and where that row is.
    failed: Option<(Order, Place, bool)>,
    /// Its runs that have no end.
    started: Vec<Start>,
}

/// A run without an end.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Where its row is.
    pub place: Place,
    order: Order,
    is_match: bool,
}

/// When a row was written: the digits of its time, without the century.
type Order = u64;

/// A row on its way to its run.
#[derive(Clone, Copy)]
struct Entry {
    run: [u8; 16],
    place: Place,
    /// 0 for a start: few are needed in the end.
    job: Identity,
    order: Order,
    rank: Rank,
    is_match: bool,
}

/// Hashes alike within one run of nanny, and unlike in any other.
pub struct Identifier(RandomState);

impl Identifier {
    /// Makes one.
    #[must_use]
    pub fn new() -> Identifier {
        Identifier(RandomState::new())
    }

    fn of(&self, row: &RawRow<'_>) -> Identity {
        self.0.hash_one(IDENTITY.map(|column| row.raw(column)))
    }
}

impl Job {
    /// Returns the row of its last failure if it has not succeeded since and was asked for; whether it is going on again is another matter.
    #[must_use]
    pub fn to_run_again(&self) -> Option<Place> {
        let (failed, place, is_match) = self.failed?;
        (is_match && self.succeeded.is_none_or(|succeeded| succeeded < failed)).then_some(place)
    }

    fn add(&mut self, entry: &Entry) {
        let order = entry.order;
        match entry.rank {
            Rank::Succeeded => self.succeeded = self.succeeded.max(Some(order)),
            Rank::Failed | Rank::Lost if self.failed.is_none_or(|(last, ..)| last <= order) => {
                self.failed = Some((order, entry.place, entry.is_match));
            }
            Rank::Started => {
                let (place, is_match) = (entry.place, entry.is_match);
                self.started.push(Start { place, order, is_match });
            }
            Rank::Failed | Rank::Lost => {}
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
        self.succeeded.is_some()
    }

    /// A run without an end that is known to be lost has failed like any other.
    pub fn give_up(&mut self, start: Start) {
        self.started.retain(|one| one.place != start.place);
        if self.failed.is_none_or(|(last, ..)| last <= start.order) {
            self.failed = Some((start.order, start.place, start.is_match));
        }
    }
}

/// Returns the jobs of a record that failed or have no end, and those that are `wanted` in any case.
/// Which runs were asked for only tells which failures count: a success is one whenever it was.
///
/// # Errors
///
/// The record cannot be read.
pub fn jobs(
    record: &Record,
    sieve: &Sieve,
    identifier: &Identifier,
    wanted: &HashSet<Identity>,
) -> Result<HashMap<Identity, Job>, Failure> {
    let visit = |found: &mut Entries, row: &RawRow<'_>| {
        let Some(rank) = index::rank(row) else { return };
        let Some(run) = index::run_of(row).filter(|_| row.is_whole()) else { return };
        let is_match = sieve.is_job(row) && sieve.is_in_time(row);
        let job = if rank == Rank::Started { 0 } else { identifier.of(row) };
        let order = order(row.raw(Column::Time));
        found.push(Entry { run, place: row.place, job, order, rank, is_match });
    };
    let (found, skipped) = record.scan(Entries::default, visit)?;
    index::tell_skipped(skipped);
    let mut found = index::joined(found.into_iter().map(|found| found.list).collect());
    keep_best(&mut found);
    for entry in found.iter_mut().filter(|entry| entry.rank == Rank::Started) {
        entry.job = record.look_at(entry.place, |row| identifier.of(row))?.unwrap_or_default();
    }
    let mut jobs: HashMap<Identity, Job> = HashMap::new();
    let has_trouble = |entry: &&Entry| entry.rank != Rank::Succeeded;
    for entry in found.iter().filter(has_trouble) {
        jobs.entry(entry.job).or_default().add(entry);
    }
    // Of most jobs nothing else is known than that they succeeded: that needs no memory.
    for entry in found.iter().filter(|entry| entry.rank == Rank::Succeeded) {
        match jobs.get_mut(&entry.job) {
            Some(job) => job.add(entry),
            None if wanted.contains(&entry.job) => jobs.entry(entry.job).or_default().add(entry),
            None => {}
        }
    }
    Ok(jobs)
}

/// Rows of runs, of which those are dropped now and then that are known to be superseded.
#[derive(Default)]
struct Entries {
    list: Vec<Entry>,
    /// How long it may become until then.
    limit: usize,
}

impl Entries {
    fn push(&mut self, entry: Entry) {
        if self.list.len() >= self.limit.max(SOME) {
            keep_best(&mut self.list);
            self.limit = self.list.len() * 2;
        }
        self.list.push(entry);
    }
}

/// Fewer entries need not be looked through.
const SOME: usize = 10_000;

/// Keeps of each run the row that says most.
fn keep_best(entries: &mut Vec<Entry>) {
    // Nearly sorted already, which the stable sort makes use of.
    entries.sort_by_key(|entry| (entry.run, Reverse((entry.rank, entry.place))));
    entries.dedup_by_key(|entry| entry.run);
}

/// Reads `2026-11-22T14:05:09.123456Z` as a number that grows with time.
fn order(time: &[u8]) -> Order {
    let digits = time.iter().skip(2).filter(|byte| byte.is_ascii_digit()).take(18);
    digits.fold(0, |order, digit| order * 10 + u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(order: u64, rank: Rank) -> Entry {
        let (place, job) = (Place::at(order), 0);
        Entry { run: [0; 16], place, rank, is_match: true, job, order }
    }

    fn again(entries: &[(u64, Rank)]) -> Option<Place> {
        let mut job = Job::default();
        entries.iter().for_each(|(order, rank)| job.add(&entry(*order, *rank)));
        job.to_run_again()
    }

    #[test]
    fn only_a_failure_without_a_later_success_is_run_again() {
        use Rank::{Failed, Lost, Succeeded};
        assert_eq!(again(&[(1, Failed)]), Some(Place::at(1)));
        assert_eq!(again(&[(1, Failed), (2, Succeeded)]), None);
        assert_eq!(again(&[(2, Succeeded), (1, Failed)]), None, "whatever stands first");
        assert_eq!(again(&[(1, Succeeded), (2, Failed)]), Some(Place::at(2)));
        assert_eq!(again(&[(1, Failed), (3, Lost), (2, Succeeded)]), Some(Place::at(3)));
        assert_eq!(again(&[(1, Failed), (3, Failed), (2, Failed)]), Some(Place::at(3)));
    }

    #[test]
    fn a_start_counts_once_it_is_given_up() {
        let mut job = Job::default();
        job.add(&entry(1, Rank::Succeeded));
        job.add(&entry(2, Rank::Started));
        assert_eq!(job.to_run_again(), None);
        job.give_up(job.started()[0]);
        assert_eq!(job.to_run_again(), Some(Place::at(2)));
    }

    #[test]
    fn times_are_ordered_by_their_digits() {
        let at = |text: &str| order(text.as_bytes());
        assert!(at("2026-11-22T14:05:09.123456Z") < at("2026-11-22T14:05:09.123457Z"));
        assert!(at("2026-11-22T14:05:09.999999Z") < at("2027-01-01T00:00:00.000000Z"));
    }
}
