//! `nanny collect`: puts a record in order. Rows that wait beside it are merged, a torn end is mended,
//! and runs that will never have an end get one that says so.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::fleet::index::{self, Entry, LOST, Rank, Sieve};
use crate::fleet::presence::{Fate, Here};
use crate::fleet::table::{Column as Heading, Table};
use crate::fleet::{Failure, Screen, note, plural, words};
use crate::question::{Collect, Filter};
use crate::record::key;
use crate::record::read::{Record, folder_beside};
use crate::record::row::{Column, Row, RowEvent};
use crate::record::write::{Kept, Writer};
use crate::sys::{account, clock};

/// Nobody waits for us but the user.
const PATIENCE: Duration = Duration::from_secs(30);

/// A merge takes so many files at a time, so it is repeated as long as some go; this ends it whatever
/// other writers add.
const MERGES_MAX: usize = 10_000;

/// So many lost rows are written at a time.
const BATCH: usize = 256;

/// What cells of the start row tell of the start, and not of the run.
const OF_THE_START: [Column; 2] = [Column::Event, Column::Time];

pub(super) fn answer(
    collect: &Collect,
    out: &mut dyn Write,
    screen: &Screen,
) -> Result<u8, Failure> {
    let mut table = Table::new(&HEADINGS, screen);
    let mut status = 0;
    for file in &collect.files {
        let merged = merge(file)?;
        let unfinished = unfinished(file, &collect.gone_hosts)?;
        let lost: Vec<Row> = unfinished.iter().filter_map(|(_, lost)| lost.clone()).collect();
        mark(file, &lost)?;
        for (cells, _) in &unfinished {
            table.push(cells);
        }
        let (file, marked) = (file.display(), lost.len() as u64);
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
            status = super::NOTHING;
        }
        if !unfinished.is_empty() {
            table.write(out, |_| None)?;
            table = Table::new(&HEADINGS, screen);
        }
    }
    Ok(status)
}

const HEADINGS: [Heading; 6] = [
    Heading::words("BEGAN (UTC)", 2),
    Heading::words("RUN", 3),
    Heading::words("HOST", 1),
    Heading::words("NAME", 4),
    Heading::words("STATE", 0),
    Heading::words("COMMAND", 0),
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
        keep(file, &[])?;
        match waiting(&folder) {
            less if less < left => left = less,
            _ => break,
        }
    }
    Ok(Merged { done: before.saturating_sub(left), left })
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

fn keep(file: &Path, rows: &[Row]) -> Result<(), Failure> {
    let random = u64::from_ne_bytes(clock::random());
    let name = format!("nanny-{random:016x}");
    // Rows of our own user: those of others cannot have a seal from us.
    let uid = nix::unistd::geteuid().as_raw();
    let own_key =
        move || key::read_or_make(&key::directory(&account::state_directories(), uid)?, uid);
    let writer = Writer::new(file, name, clock::now).synced(true).patient(PATIENCE);
    let mut writer = if rows.is_empty() { writer } else { writer.sealed(Box::new(own_key)) };
    match writer.keep(rows) {
        Ok(Kept::Shared) => Ok(()),
        Ok(Kept::Apart(path, trouble)) => {
            if !rows.is_empty() {
                note(&format!("{trouble}; the rows are in {}", path.display()));
            }
            Ok(())
        }
        Err(trouble) => Err(Failure::Refused(trouble.to_string())),
    }
}

type Unfinished = ([String; 6], Option<Row>);

/// Returns the runs without an end as they are shown and, of each that is lost, the row to say so.
fn unfinished(file: &Path, gone_hosts: &[String]) -> Result<Vec<Unfinished>, Failure> {
    let record = index::open(&[file.to_owned()])?;
    let filter = Filter { is_lost: true, ..Filter::default() };
    let entries = index::runs(&record, &Sieve::new(&filter, clock::wall()))?;
    let started = |entry: &&Entry| entry.rank == Rank::Started;
    // Looked at after the record was read: what ended meanwhile is seen again below.
    let here = Here::look();
    let mut found = Vec::new();
    for entry in entries.iter().filter(started) {
        let Some(start) = index::row_of(&record, entry)? else { continue };
        let fate = match here.fate(&start) {
            Fate::Elsewhere if gone_hosts.iter().any(|host| start.text(Column::Host) == *host) => {
                Fate::Lost("its host is gone, as nanny was told".into(), true)
            }
            other => other,
        };
        found.push((start, fate));
    }
    let ended = ended_meanwhile(file, &found)?;
    let shown = |(start, fate): (Row, Fate)| {
        let (state, lost) = match &fate {
            Fate::Running => ("running".to_owned(), None),
            Fate::Orphaned => ("childminder is gone, the job still runs".to_owned(), None),
            Fate::Unknown(why) => (format!("unknown: {why}"), None),
            Fate::Elsewhere => ("only its host can say".to_owned(), None),
            Fate::Lost(why, is_certain) => {
                (format!("lost: {why}"), Some(lost_row(&start, why, *is_certain)))
            }
        };
        let text = |column| start.text(column).into_owned();
        let [host, name, command] = [Column::Host, Column::Name, Column::Command].map(text);
        ([words::began(&start), words::short_id(&start), host, name, state, command], lost)
    };
    let is_open =
        |(start, _): &(Row, Fate)| !ended.contains(&start.text(Column::RunId).into_owned());
    Ok(found.into_iter().filter(is_open).map(shown).collect())
}

/// A run may write its end between our look at the record and our look at its process.
fn ended_meanwhile(file: &Path, found: &[(Row, Fate)]) -> Result<Vec<String>, Failure> {
    if !found.iter().any(|(_, fate)| matches!(fate, Fate::Lost(..))) {
        return Ok(Vec::new());
    }
    let record: Record = index::open(&[file.to_owned()])?;
    let ids: Vec<String> =
        found.iter().map(|(start, _)| start.text(Column::RunId).into_owned()).collect();
    let (ended, _) = record.scan(Vec::new, |ended: &mut Vec<String>, row| {
        if index::rank(row) > Some(Rank::Started) {
            let id = String::from_utf8_lossy(row.raw(Column::RunId)).into_owned();
            ended.extend(ids.contains(&id).then_some(id));
        }
    })?;
    Ok(ended.concat())
}

/// Makes the end of a run that has none: who it was, and why it is lost.
fn lost_row(start: &Row, why: &str, is_certain: bool) -> Row {
    let mut row = start.clone();
    OF_THE_START.into_iter().for_each(|column| row.set(column, ""));
    row.set(Column::Event, RowEvent::End.word());
    row.set(Column::Time, clock::wall().rfc3339());
    row.set(Column::Verdict, LOST);
    row.set(Column::Confidence, if is_certain { "certain" } else { "likely" });
    row.set(Column::Evidence, why);
    row
}

fn mark(file: &Path, lost: &[Row]) -> Result<(), Failure> {
    lost.chunks(BATCH).try_for_each(|rows| keep(file, rows))
}
