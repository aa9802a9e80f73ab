//! `nanny collect`: puts a record in order. Rows that wait beside it are merged, a torn end is mended,
//! and runs that will never have an end get one that says so.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::model::text::plural;
use crate::nanny::failure::{Failure, NOTHING};
use crate::nanny::notes::note;
use crate::nanny::source::damage;
use crate::nanny::source::index::{self, IndexEntry, LOST, Matcher, Rank};
use crate::nanny::source::presence::{RunState, ThisHost};
use crate::nanny::source::proof::Proof;
use crate::nanny::view::headings::{BEGAN, COMMAND};
use crate::nanny::view::screen::Screen;
use crate::nanny::view::table::{ALWAYS, TableColumn as Heading, TextTable};
use crate::nanny::view::words;
use crate::question::{Collect, Filter};
use crate::record::key;
use crate::record::read::{RawRow, Record, folder_beside};
use crate::record::row::{Column, Row, RowEvent};
use crate::record::write::{self, Kept, Writer};
use crate::sys::{account, clock};

/// Nobody waits for us but the user.
const PATIENCE: Duration = Duration::from_secs(30);

/// A merge takes a limited number of files at a time, so it is repeated as long as some go; this ends it whatever
/// other writers add.
const MERGES_MAX: usize = 10_000;

/// At most this many files that cannot be merged are reported one by one.
const LISTED_MAX: usize = 20;

/// Lost rows that are written at a time.
const BATCH: usize = 256;

/// Cells that are about the start row, and not about the run.
const NOT_OF_THE_END: [Column; 4] = [Column::Event, Column::Time, Column::Apart, Column::Seal];

pub fn answer(collect: &Collect, out: &mut dyn Write, screen: &Screen) -> Result<u8, Failure> {
    let mut table = TextTable::new(&HEADINGS, screen);
    let mut status = 0;
    for file in &collect.files {
        let merged = merge(file)?;
        let (unfinished, is_damaged) = unfinished(file, &collect.gone_hosts)?;
        if is_damaged {
            status = NOTHING;
        }
        let lost: Vec<(Row, bool)> =
            unfinished.iter().filter_map(|(_, lost)| lost.clone()).collect();
        mark(file, &lost)?;
        for (cells, _) in &unfinished {
            table.push(cells);
        }
        let (file_path, file, marked) = (file, file.display(), lost.len() as u64);
        let without = unfinished.len() as u64;
        writeln!(
            out,
            "{file}: {} file{} merged; {without} run{} without an end, {marked} of them lost",
            merged.done,
            plural(merged.done),
            plural(without)
        )?;
        if merged.left > 0 {
            note(&format!("{} file{} could not be merged", merged.left, plural(merged.left)));
            status = NOTHING;
            report_unfit(file_path);
        }
        if !unfinished.is_empty() {
            table.write(out, |_| None)?;
            table = TextTable::new(&HEADINGS, screen);
        }
    }
    Ok(status)
}

const HEADINGS: [Heading; 6] = [
    BEGAN,
    Heading::words("RUN", 6),
    Heading::words("HOST", 1),
    Heading::words("NAME", ALWAYS).cut_to(8),
    Heading::words("STATE", ALWAYS).cut_to(12),
    COMMAND,
];

struct Merged {
    done: u64,
    left: u64,
}

/// Merges what waits beside a record.
fn merge(file: &Path) -> Result<Merged, Failure> {
    let folder = folder_beside(file);
    let before = waiting(&folder);
    let mut left = before;
    for _ in 0..MERGES_MAX {
        if left == 0 {
            break;
        }
        // To keep no rows merges and mends all the same.
        keep(file, &[], false)?;
        match waiting(&folder) {
            less if less < left => left = less,
            _ => break,
        }
    }
    Ok(Merged { done: before.saturating_sub(left), left })
}

/// Says why files were not merged.
fn report_unfit(file: &Path) {
    match write::unfit(file) {
        Ok(unfit) => unfit.iter().take(LISTED_MAX).for_each(|(path, why)| {
            note(&format!("not merged: {}: {why}", path.display()));
        }),
        Err(error) => note(&format!("not merged: {}: {error}", folder_beside(file).display())),
    }
}

/// Counts the files of rows in the folder beside a record.
fn waiting(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let is_rows = |name: &str| {
        let is_table = name.starts_with("schema-");
        !name.starts_with('.')
            && !is_table
            && (name.ends_with(".csv") || name.ends_with(".merging"))
    };
    entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_rows)).count() as u64
}

fn keep(file: &Path, rows: &[Row], is_sealed: bool) -> Result<(), Failure> {
    let random = u64::from_ne_bytes(clock::random());
    let name = format!("nanny-{random:016x}");
    let uid = nix::unistd::geteuid().as_raw();
    let own_key =
        move || key::read_or_make(&key::directory(&account::state_directories(), uid)?, uid);
    let writer = Writer::new(file, name, clock::now).synced(true).patient(PATIENCE);
    let mut writer = if is_sealed { writer.sealed(Box::new(own_key)) } else { writer };
    match writer.keep(rows) {
        Ok(Kept::Shared) => Ok(()),
        Ok(Kept::Apart(path, error)) => {
            if !rows.is_empty() {
                note(&format!("{error}; the rows are in {}", path.display()));
            }
            Ok(())
        }
        Err(error) => Err(Failure::Refused(error.to_string())),
    }
}

/// What is shown of a run without an end and, if it is lost, the row to say so and whether its start is
/// proven to be ours.
type Unfinished = ([String; 6], Option<(Row, bool)>);

/// The start of a run, what became of it, and whether the row is proven to be ours.
type StartedRun = (Row, RunState, bool);

fn is_gone(row: &Row, gone_hosts: &[String]) -> bool {
    gone_hosts.iter().any(|host| row.text(Column::Host) == *host)
}

/// Returns our own runs on those hosts that another user marked as lost: whoever reruns them believes
/// his own rows only.
fn marked_by_others(
    record: &Record,
    entries: &[IndexEntry],
    gone_hosts: &[String],
    proof: &Proof,
) -> Result<Vec<StartedRun>, Failure> {
    let mut runs = HashSet::new();
    for entry in entries.iter().filter(|entry| entry.rank == Rank::Lost) {
        let is_open = |row: &RawRow<'_>| {
            let is_there = row.row().is_some_and(|row| is_gone(&row, gone_hosts));
            is_there && proof.claimed(row).is_some() && !proof.proves(row)
        };
        if record.look_at(entry.place, is_open)? == Some(true) {
            runs.insert(entry.run);
        }
    }
    // The row that marks it may say anything: only the start is ours.
    let see = |found: &mut Vec<Row>, row: &RawRow<'_>| {
        let is_meant = index::run_of(row).is_some_and(|run| runs.contains(&run));
        if is_meant && index::rank(row) == Some(Rank::Started) && proof.proves(row) {
            found.extend(row.row());
        }
    };
    let (starts, _) = record.scan(Vec::new, see)?;
    let fate = || RunState::Lost("its host is gone (--host-gone)".into(), true);
    Ok(starts.concat().into_iter().map(|start| (start, fate(), true)).collect())
}

/// Returns the runs without an end as they are shown and, of each that is lost, the row to say so; and
/// whether there are lines that cannot be read: the end of a run may be among them.
fn unfinished(file: &Path, gone_hosts: &[String]) -> Result<(Vec<Unfinished>, bool), Failure> {
    let record = index::open(&[file.to_owned()])?;
    let filter = Filter { is_lost: true, ..Filter::default() };
    let matcher = Matcher::new(&filter, clock::wall());
    let (entries, skipped) = index::runs(&record, &matcher)?;
    let is_damaged = damage::is_incomplete(&record, &skipped, &matcher)?;
    let started = |entry: &&IndexEntry| entry.rank == Rank::Started;
    // Looked at after the record was read: what ended meanwhile is seen again below.
    let here = ThisHost::look();
    let proof = Proof::new(false);
    let mut found = Vec::new();
    for entry in entries.iter().filter(started) {
        let Some(start) = index::row_of(&record, entry)? else { continue };
        let fate = match here.fate(&start) {
            RunState::Elsewhere if is_gone(&start, gone_hosts) => {
                RunState::Lost("its host is gone (--host-gone)".into(), true)
            }
            other => other,
        };
        let is_proven = record.look_at(entry.place, |row| proof.proves(row))? == Some(true);
        found.push((start, fate, is_proven));
    }
    if !gone_hosts.is_empty() {
        found.extend(marked_by_others(&record, &entries, gone_hosts, &proof)?);
    }
    let ended = ended_meanwhile(file, &found)?;
    let shown = |(start, fate, is_proven): StartedRun| {
        let (state, lost) = match &fate {
            RunState::Running => ("running".to_owned(), None),
            RunState::Orphaned => ("childminder is gone, the job still runs".to_owned(), None),
            RunState::Unknown(why) => (format!("unknown: {why}"), None),
            RunState::Elsewhere => ("only its host can say".to_owned(), None),
            RunState::Lost(why, is_certain) => (
                format!("lost: {why}"),
                Some((lost_row(&start, why, *is_certain && !is_damaged), is_proven)),
            ),
        };
        let text = |column| start.text(column).into_owned();
        let [host, name, command] = [Column::Host, Column::Name, Column::Command].map(text);
        ([words::began(&start), words::short_id(&start), host, name, state, command], lost)
    };
    let is_open =
        |(start, ..): &StartedRun| !ended.contains(&start.text(Column::RunId).into_owned());
    Ok((found.into_iter().filter(is_open).map(shown).collect(), is_damaged))
}

/// A run may write its end between our look at the record and our look at its process.
fn ended_meanwhile(file: &Path, found: &[StartedRun]) -> Result<HashSet<String>, Failure> {
    if !found.iter().any(|(_, fate, _)| matches!(fate, RunState::Lost(..))) {
        return Ok(HashSet::new());
    }
    let record: Record = index::open(&[file.to_owned()])?;
    let ids: HashSet<String> =
        found.iter().map(|(start, ..)| start.text(Column::RunId).into_owned()).collect();
    let (ended, _) = record.scan(Vec::new, |ended: &mut Vec<String>, row| {
        if index::rank(row) > Some(Rank::Started) {
            let id = String::from_utf8_lossy(row.raw(Column::RunId)).into_owned();
            ended.extend(ids.contains(&id).then_some(id));
        }
    })?;
    Ok(ended.into_iter().flatten().collect())
}

/// Makes the end of a run that has none: who it was, and why it is lost.
fn lost_row(start: &Row, why: &str, is_certain: bool) -> Row {
    let mut row = start.clone();
    NOT_OF_THE_END.into_iter().for_each(|column| row.set(column, ""));
    row.set(Column::Event, RowEvent::End.word());
    row.set(Column::Time, clock::wall().rfc3339());
    row.set(Column::Verdict, LOST);
    row.set(Column::Confidence, if is_certain { "certain" } else { "likely" });
    row.set(Column::Evidence, why);
    row
}

/// A row that is made of somebody else's start gets no seal of ours: we would vouch for what he wrote.
fn mark(file: &Path, lost: &[(Row, bool)]) -> Result<(), Failure> {
    for is_sealed in [true, false] {
        let rows = lost.iter().filter(|(_, is_proven)| *is_proven == is_sealed);
        let rows: Vec<Row> = rows.map(|(row, _)| row.clone()).collect();
        rows.chunks(BATCH).try_for_each(|rows| keep(file, rows, is_sealed))?;
    }
    Ok(())
}
