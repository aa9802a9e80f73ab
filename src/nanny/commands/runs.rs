//! `nanny runs`: which runs there were, the newest last.

use std::io::Write;

use serde_json::{Map, Value};

use crate::model::text::byte_size;
use crate::model::text::printable_json;
use crate::model::time::WallTime;
use crate::nanny::failure::{Failure, NOTHING};
use crate::nanny::notes::note;
use crate::nanny::source::damage;
use crate::nanny::source::index::{self, IndexEntry, LOST, Matcher, Rank};
use crate::nanny::source::presence::{RunState, ThisHost};
use crate::nanny::view::headings::{BEGAN, COMMAND, colour};
use crate::nanny::view::screen::Screen;
use crate::nanny::view::table::{ALWAYS, TableColumn as Heading, TextTable};
use crate::nanny::view::words;
use crate::question::{Filter, ListForm as Shown, Runs};
use crate::record::read::Record;
use crate::record::row::{CellForm, Column, Header, Row};
use crate::sys::clock;

/// Rows from which the widths of the columns follow; a list may have millions.
const MEASURED_ROWS: usize = 1000;

/// What a reader needs to see what happened to which job always stays: name, verdict, end and time.
const HEADINGS: [Heading; 10] = [
    BEGAN,
    Heading::words("RUN", 6),
    Heading::words("HOST", 3),
    Heading::words("BATCH", 2),
    Heading::words("NAME", ALWAYS).cut_to(8),
    Heading::words("VERDICT", ALWAYS).cut_to(12),
    Heading::words("END", ALWAYS),
    Heading::numbers("TIME", ALWAYS),
    Heading::numbers("PEAK", 1),
    COMMAND,
];

pub fn answer(runs: &Runs, out: &mut dyn Write, screen: &Screen) -> Result<u8, Failure> {
    let record = index::open(&runs.files)?;
    let now = clock::wall();
    let matcher = Matcher::new(&runs.filter, now);
    let (entries, skipped) = index::runs(&record, &matcher)?;
    let is_incomplete = damage::is_incomplete(&record, &skipped, &matcher)?;
    // Only what has no end needs a look at this host.
    let here = entries.iter().any(|entry| entry.rank == Rank::Started).then(ThisHost::look);
    let wanted = runs.filter.verdict.as_deref().or(runs.filter.is_lost.then_some(LOST));
    let mut list = List { record: &record, now, here, wanted: wanted.unwrap_or_default() };
    let newest = runs.limit.unwrap_or(usize::MAX);
    let entries = list.newest(&entries, newest)?;
    if entries.is_empty() {
        let is_filtered = runs.filter != Filter::default();
        note(if is_filtered { "no run matches" } else { "the record has no runs" });
        return Ok(NOTHING);
    }
    match runs.form {
        Shown::Table => list.table(&entries, out, screen)?,
        Shown::Json => list.each(&entries, |row, state| {
            Ok(writeln!(out, "{}", printable_json(&json(row, state).to_string()))?)
        })?,
        Shown::Csv => {
            out.write_all(&Header::ours().to_csv_line())?;
            list.each(&entries, |row, _| Ok(out.write_all(&row.to_csv_line())?))?;
        }
    }
    // Rows that cannot be read may be of runs that were asked for.
    Ok(if is_incomplete { NOTHING } else { 0 })
}

/// The state of a run that goes on.
const RUNNING: &str = "running";

struct List<'a> {
    record: &'a Record,
    now: WallTime,
    here: Option<ThisHost>,
    /// The verdict or state that was asked for; empty for any.
    wanted: &'a str,
}

impl List<'_> {
    /// Returns the last ones, up to this number; of those without an end only the ones that were asked for.
    fn newest(&mut self, entries: &[IndexEntry], count: usize) -> Result<Vec<IndexEntry>, Failure> {
        let mut chosen = Vec::new();
        for entry in entries.iter().rev() {
            if chosen.len() == count {
                break;
            }
            let is_asked_for = entry.rank != Rank::Started || self.wanted.is_empty() || {
                let row = index::row_of(self.record, entry)?;
                row.is_some_and(|row| {
                    let state = self.state(&row, entry.rank);
                    state == self.wanted || (self.wanted == "unfinished" && state != LOST)
                })
            };
            if is_asked_for {
                chosen.push(*entry);
            }
        }
        chosen.reverse();
        Ok(chosen)
    }

    /// Returns the verdict of a run or, if it has none, what is known of it.
    fn state(&self, row: &Row, rank: Rank) -> String {
        if rank != Rank::Started {
            let verdict = row.text(Column::Verdict).into_owned();
            // A built-in function has done what it should.
            return if verdict.is_empty() { "success".into() } else { verdict };
        }
        match self.here.as_ref().map(|here| here.fate(row)) {
            Some(RunState::Running | RunState::Orphaned) => RUNNING,
            Some(RunState::Lost(..)) => LOST,
            Some(RunState::Unknown(_)) => "unknown",
            Some(RunState::Elsewhere) | None => "unfinished",
        }
        .to_owned()
    }

    fn each(
        &self,
        entries: &[IndexEntry],
        mut show: impl FnMut(&Row, &str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for entry in entries {
            if let Some(row) = index::row_of(self.record, entry)? {
                show(&row, &self.state(&row, entry.rank))?;
            }
        }
        Ok(())
    }

    fn table(
        &self,
        entries: &[IndexEntry],
        out: &mut dyn Write,
        screen: &Screen,
    ) -> Result<(), Failure> {
        let mut headings = HEADINGS;
        // The oldest run stands first. Where years differ they must be seen.
        let year = |entry: Option<&IndexEntry>| {
            entry.and_then(|one| Some(words::began_by_id(one.run).get(..4)?.to_owned()))
        };
        if year(entries.first()) != year(entries.last()) {
            headings[0] = BEGAN.or_shorter(words::day);
        }
        let mut table = TextTable::new(&headings, screen);
        let mut ranks = Vec::new();
        let (measured, rest) = entries.split_at(entries.len().min(MEASURED_ROWS));
        for entry in measured {
            self.each(&[*entry], |row, state| {
                table.push(cells(row, state, self.now));
                ranks.push(entry.rank);
                Ok(())
            })?;
        }
        let layout = table.write(out, |index| colour(ranks[index]))?;
        for entry in rest {
            self.each(&[*entry], |row, state| {
                let colour = colour(entry.rank);
                Ok(table.write_more(out, &cells(row, state, self.now), &layout, colour)?)
            })?;
        }
        Ok(())
    }
}

/// Returns the cells of a run in the table.
pub fn cells(row: &Row, state: &str, now: WallTime) -> [String; 10] {
    let text = |column| row.text(column).into_owned();
    [
        words::began(row),
        words::short_id(row),
        text(Column::Host),
        text(Column::Batch),
        text(Column::Name),
        state.to_owned(),
        words::end(row),
        if state == RUNNING { words::age(row, now) } else { words::wall(row) },
        words::peak_bytes(row).map(byte_size).unwrap_or_default(),
        text(Column::Command),
    ]
}

/// Returns a row as JSON, with `state`: its verdict or, without an end, `running`, `lost` or
/// `unfinished`. What is empty is left out.
pub fn json(row: &Row, state: &str) -> Value {
    let mut object = Map::new();
    object.insert("state".into(), state.into());
    let filled = Column::ALL.iter().filter(|column| !row.get(**column).is_empty());
    object.extend(filled.map(|column| (column.name().into(), json_value(row, *column))));
    Value::Object(object)
}

fn json_value(row: &Row, column: Column) -> Value {
    let text = row.text(column);
    // Ids and times may look like numbers but are not.
    let is_name = matches!(
        column,
        Column::RunId
            | Column::BootId
            | Column::TraceId
            | Column::Time
            | Column::Umask
            | Column::Seal
    );
    match column.form() {
        CellForm::Plain if !is_name => match serde_json::from_str(&text) {
            Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
            _ => text.into(),
        },
        CellForm::Words if column != Column::Command => match row.words(column) {
            Some(words) => words.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            None => text.into(),
        },
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_numbers_as_numbers_and_ids_as_texts() {
        let mut row = Row::default();
        row.set(Column::RunId, "01900000-0000-7000-8000-000000000001");
        row.set(Column::TraceId, "12345678901234567890123456789012");
        row.set(Column::ExitCode, "3");
        row.set(Column::WallSeconds, "1.500000");
        row.set(Column::CoreDumped, "false");
        row.set(Column::Name, "12");
        row.set(Column::Tags, "team=physics 'note=a b'");
        row.set(Column::Command, "sh -c 'exit 3'");
        let value = json(&row, "exit_nonzero");
        assert_eq!(value["exit_code"], 3);
        assert_eq!(value["wall_seconds"], 1.5);
        assert_eq!(value["core_dumped"], false);
        assert_eq!(value["name"], "12");
        assert_eq!(value["trace_id"], "12345678901234567890123456789012");
        assert_eq!(value["tags"], serde_json::json!(["team=physics", "note=a b"]));
        assert_eq!(value["command"], "sh -c 'exit 3'");
        assert_eq!(value["state"], "exit_nonzero");
        assert_eq!(value.get("batch"), None);
    }
}
