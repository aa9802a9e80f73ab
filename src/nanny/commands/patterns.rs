//! `nanny patterns`: what failures have in common.

use std::collections::HashSet;
use std::io::Write;

use crate::model::shell;
use crate::model::signal::Signal;
use crate::model::text::byte_size;
use crate::model::time::WallTime;
use crate::nanny::failure::{Failure, NOTHING};
use crate::nanny::notes::note;
use crate::nanny::source::index::{self, Matcher, Rank};
use crate::nanny::source::parts::Parts;
use crate::nanny::source::{damage, request};
use crate::nanny::statistics::names::folded;
use crate::nanny::statistics::patterns::patterns;
use crate::nanny::statistics::run_table::{BadFacts, RunFacts, RunTable};
use crate::nanny::view::findings;
use crate::question::{Condition, Patterns};
use crate::record::read::{RawRow, Record};
use crate::record::row::{Column, csv};
use crate::sys::clock;

pub fn answer(question: &Patterns, out: &mut dyn Write) -> Result<u8, Failure> {
    let record = index::open(&question.files)?;
    let now = clock::wall();
    let matcher = Matcher::new(&question.filter, now);
    let sets = Sets::new(question, now);
    let (table, is_incomplete) = table(&record, &matcher, &sets)?;
    if table.len() == 0 {
        note("no run matches");
        return Ok(NOTHING);
    }
    let found = patterns(&table);
    if question.is_json {
        findings::json(&table, &found, out)?;
    } else {
        findings::text(&table, &found, &sets.words, out)?;
    }
    Ok(if is_incomplete { NOTHING } else { 0 })
}

/// The runs that are asked about, and those that they are compared with.
struct Sets {
    bad: Vec<Test>,
    /// `None`: all others.
    against: Option<Vec<Test>>,
    words: findings::SetWords,
}

/// A condition with its instants as the record has them.
enum Test {
    Failed(bool),
    Verdict(Vec<u8>),
    Slower(f64),
    Since(String),
    Before(String),
}

impl Sets {
    fn new(question: &Patterns, now: WallTime) -> Sets {
        let tests = |conditions: &[Condition]| -> Vec<Test> {
            let test = |condition: &Condition| match condition {
                Condition::Failed => Test::Failed(true),
                Condition::Succeeded => Test::Failed(false),
                Condition::Verdict(word) => Test::Verdict(word.as_bytes().to_vec()),
                Condition::Slower(span) => Test::Slower(span.as_secs_f64()),
                Condition::Since(since) => Test::Since(index::instant(since, now)),
                Condition::Before(since) => Test::Before(index::instant(since, now)),
            };
            conditions.iter().map(test).collect()
        };
        let is_usual = question.bad == [Condition::Failed];
        Sets {
            bad: tests(&question.bad),
            against: question.against.as_deref().map(tests),
            words: if is_usual { findings::FAILURES } else { findings::CHOSEN },
        }
    }
}

impl Test {
    fn is_met(&self, rank: Rank, row: &RawRow<'_>) -> bool {
        match self {
            Test::Failed(is_failed) => (rank != Rank::Succeeded) == *is_failed,
            Test::Verdict(word) => row.raw(Column::Verdict) == word,
            Test::Slower(seconds) => number(row.raw(Column::WallSeconds)) > *seconds,
            Test::Since(instant) => row.raw(Column::Time) >= instant.as_bytes(),
            Test::Before(instant) => row.raw(Column::Time) < instant.as_bytes(),
        }
    }
}

fn number(cell: &[u8]) -> f64 {
    std::str::from_utf8(cell).ok().and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

/// The runs that were read so far; and which of them are marked as lost, but may have ended after all.
#[derive(Default)]
struct ReadRuns {
    table: RunTable,
    lost: Vec<([u8; 16], usize)>,
}

/// Reads the runs; also returns whether rows may be missing.
fn table(record: &Record, matcher: &Matcher, sets: &Sets) -> Result<(RunTable, bool), Failure> {
    let parts = Parts::<ReadRuns>::new();
    let visit = |_: &mut (), row: &RawRow<'_>| {
        let Some(rank @ (Rank::Lost | Rank::Failed | Rank::Succeeded)) = index::rank(row) else {
            return;
        };
        if matcher.is_in_time(row) && matcher.is_job(row) && row.is_whole() {
            parts.add(|read| add(read, rank, row, sets));
        }
    };
    let (_, skipped) = record.scan(|| (), visit)?;
    let mut all = ReadRuns::default();
    for part in parts.totals() {
        if all.table.len() == 0 {
            all = part;
            continue;
        }
        let before = all.table.len();
        all.lost.extend(part.lost.iter().map(|(run, at)| (*run, before + at)));
        all.table.merge(&part.table);
    }
    let lost: HashSet<[u8; 16]> = all.lost.iter().map(|(run, _)| *run).collect();
    let ended = index::ended_after_all(record, &lost)?;
    let twice = all.lost.iter().filter(|(run, _)| ended.contains(run)).map(|(_, at)| *at);
    all.table.remove(twice.collect());
    Ok((all.table, damage::is_incomplete(record, &skipped, matcher)?))
}

fn add(read: &mut ReadRuns, rank: Rank, row: &RawRow<'_>, sets: &Sets) {
    let Some(id) = index::run_of(row) else { return };
    let is = |tests: &[Test]| tests.iter().all(|test| test.is_met(rank, row));
    let is_bad = is(&sets.bad);
    if !is_bad && !sets.against.as_deref().is_none_or(is) {
        return;
    }
    let [time, host, boot, user, name, batch, directory] = row.several([
        Column::Time,
        Column::Host,
        Column::BootId,
        Column::User,
        Column::Name,
        Column::Batch,
        Column::WorkingDirectory,
    ]);
    let [verdict, exit_code, signal, sender, wall, limit, asked] = row.several([
        Column::Verdict,
        Column::ExitCode,
        Column::Signal,
        Column::SenderCommand,
        Column::WallSeconds,
        Column::CgroupMemoryBytes,
        Column::SchedulerRequest,
    ]);
    let Some(time) = std::str::from_utf8(time).ok().and_then(WallTime::from_rfc3339) else {
        return;
    };
    let asked = if asked.is_empty() { None } else { shell::split(&csv::text_of(asked)) };
    let asked = asked.unwrap_or_default();
    let memory = request::memory_bytes(&asked).or(Some(number(limit)).filter(|bytes| *bytes > 0.0));
    let memory = memory.map(|bytes| byte_size(bytes as u64)).unwrap_or_default();
    let boot = match boot.get(..8) {
        Some(boot) => [host, b" since boot ", boot].concat(),
        None => Vec::new(),
    };
    let words = if is_bad { ending(verdict, exit_code, signal) } else { Vec::new() };
    if rank == Rank::Lost {
        read.lost.push((id, read.table.len()));
    }
    read.table.add(&RunFacts {
        time: time.0.as_secs(),
        user,
        command: &folded(name),
        batch,
        directory: &folded(directory),
        queue: request::queue(&asked).as_bytes(),
        memory: memory.as_bytes(),
        host,
        boot: &boot,
        bad: is_bad.then_some(BadFacts { words: &words, sender, wall_seconds: number(wall) }),
    });
}

/// Returns a verdict with the exit status or the signal.
fn ending(verdict: &[u8], exit_code: &[u8], signal: &[u8]) -> Vec<u8> {
    let number = std::str::from_utf8(signal).ok().and_then(|text| text.parse().ok());
    let mut words = verdict.to_vec();
    match number.and_then(Signal::new) {
        Some(signal) => words.extend_from_slice(format!(" {signal}").as_bytes()),
        None if exit_code.is_empty() || exit_code == b"0" => {}
        None => words.extend_from_slice(&[b" status ", exit_code].concat()),
    }
    words
}
