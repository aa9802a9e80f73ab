//! `nanny ids`: the newest runs of the record, for the completions of shells. Somebody waits for it with
//! a finger on the Tab key, so only the ends of the files are read.

use std::io::Write;
use std::path::PathBuf;

use crate::model::text::Escaped;
use crate::nanny::failure::{Failure, NOTHING};
use crate::nanny::source::index::{self, Matcher, Rank};
use crate::nanny::view::words;
use crate::question::Filter;
use crate::record::read::Record;
use crate::record::row::Column;
use crate::sys::clock;

/// Of each file, that much is read: some thousand rows.
const TAIL_BYTES: u64 = 1 << 20;

/// A longer list is of no use to a reader.
const IDS_MAX: usize = 100;

/// Writes a line for each run, the newest first: the id as `runs` shows it, a blank, and what it was. What
/// cannot be read is left out.
pub fn answer(files: &[PathBuf], out: &mut dyn Write) -> Result<u8, Failure> {
    let record = Record::open_tail(files, TAIL_BYTES)?;
    let (entries, _) = index::runs(&record, &Matcher::new(&Filter::default(), clock::wall()))?;
    for entry in entries.iter().rev().take(IDS_MAX) {
        let Some(row) = index::row_of(&record, entry)? else { continue };
        let end = match entry.rank {
            Rank::Started => "no end yet".into(),
            _ => row.text(Column::Verdict),
        };
        let (id, name, began) = (words::short_id(&row), row.text(Column::Name), words::began(&row));
        writeln!(out, "{id} {} {end}, {began}", Escaped(&name))?;
    }
    Ok(if entries.is_empty() { NOTHING } else { 0 })
}
