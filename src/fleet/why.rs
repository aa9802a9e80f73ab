//! `nanny why`: the post-mortem of one run, from the record and, if it is still there, the log.

use std::io::Write;
use std::path::Path;

use crate::fleet::index::{self, LOST, Rank};
use crate::fleet::presence::{Fate, Here};
use crate::fleet::story::{self, Story};
use crate::fleet::table::{Column as Heading, Table};
use crate::fleet::{Failure, NOTHING, Screen, advice, note, plural, words};
use crate::model::text::Escaped;
use crate::question::Why;
use crate::record::read::{Place, RawRow, Record};
use crate::record::row::{Column, Row, RowEvent};

/// So many runs that a beginning fits are named.
const NAMED_MAX: usize = 5;

/// A word that is shorter fits too many runs by accident.
const ID_BYTES_MIN: usize = 4;

pub(super) fn answer(why: &Why, out: &mut dyn Write, screen: &Screen) -> Result<u8, Failure> {
    let record = index::open(&why.files)?;
    let wanted = match &why.run {
        Some(text) => text.to_ascii_lowercase(),
        None => match index::last_failed(&record)? {
            Some(entry) => uuid::Uuid::from_bytes(entry.run).to_string(),
            None => {
                note("no run has failed");
                return Ok(NOTHING);
            }
        },
    };
    let rows = rows_of(&record, &wanted)?;
    let Some(run) = Run::of(rows) else {
        note(&format!("no run has an id like '{wanted}'"));
        return Ok(NOTHING);
    };
    PostMortem { run: &run, screen }.write(out)?;
    Ok(0)
}

/// Returns the rows of the one run that is meant, in the order of the record.
fn rows_of(record: &Record, wanted: &str) -> Result<Vec<Row>, Failure> {
    if wanted.len() < ID_BYTES_MIN {
        return Err(Failure::Refused(format!("'{wanted}' is too short for the id of a run")));
    }
    let visit = |found: &mut Vec<(Vec<u8>, Place)>, row: &RawRow<'_>| {
        let id = row.raw(Column::RunId);
        if is_meant(id, wanted.as_bytes()) && row.is_whole() {
            found.push((id.to_vec(), row.place));
        }
    };
    let (found, _) = record.scan(Vec::new, visit)?;
    let found = found.concat();
    let mut ids: Vec<&[u8]> = found.iter().map(|(id, _)| id.as_slice()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > 1 {
        let named = ids.iter().take(NAMED_MAX).map(|id| String::from_utf8_lossy(id));
        let named: Vec<_> = named.collect();
        let count = ids.len();
        let message = format!("'{wanted}' fits {count} runs, such as {}", named.join(", "));
        return Err(Failure::Refused(message));
    }
    let mut rows = Vec::with_capacity(found.len());
    for (_, place) in &found {
        rows.extend(record.row_at(*place)?);
    }
    Ok(rows)
}

/// Returns whether an id begins like that, or its last group, which is what `runs` shows.
fn is_meant(id: &[u8], wanted: &[u8]) -> bool {
    let last = id.iter().rposition(|byte| *byte == b'-').map_or(0, |hyphen| hyphen + 1);
    id.starts_with(wanted) || id[last..].starts_with(wanted)
}

/// All that the record has about a run.
struct Run {
    start: Option<Row>,
    attempts: Vec<Row>,
    /// The real end, else the one that says it was lost.
    end: Option<Row>,
}

impl Run {
    /// `None` if there is no row.
    fn of(rows: Vec<Row>) -> Option<Run> {
        let mut run = Run { start: None, attempts: Vec::new(), end: None };
        let is_lost = |row: &Row| row.text(Column::Verdict) == LOST;
        for row in rows {
            match row.event() {
                Some(RowEvent::Start) => run.start = Some(row),
                // What was merged while we read is there twice.
                Some(RowEvent::Attempt) if !run.attempts.contains(&row) => run.attempts.push(row),
                Some(RowEvent::End) if run.end.is_none() || !is_lost(&row) => run.end = Some(row),
                _ => {}
            }
        }
        run.attempts.sort_by_key(|row| row.number::<u32>(Column::Attempt));
        let is_known = run.rows().next().is_some();
        is_known.then_some(run)
    }

    /// Its rows, the one that says most first.
    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.end.iter().chain(self.attempts.iter().rev()).chain(&self.start)
    }

    /// What is known of it, by whichever row knows.
    fn text(&self, column: Column) -> String {
        let known = self.rows().find(|row| !row.get(column).is_empty());
        known.map(|row| row.text(column).into_owned()).unwrap_or_default()
    }

    fn last(&self) -> &Row {
        self.rows().next().expect("a run has rows")
    }

    /// The verdict and how sure it is; of a run without an end what can be seen of it from here.
    fn verdict(&self) -> (String, String, String) {
        let Some(end) = &self.end else {
            let row = self.start.as_ref().unwrap_or_else(|| self.last());
            return match Here::look().fate(row) {
                Fate::Running => ("running".into(), String::new(), "it has not ended yet".into()),
                Fate::Orphaned => (
                    "running".into(),
                    String::new(),
                    "childminder is gone, but processes of the job are there".into(),
                ),
                Fate::Lost(why, is_certain) => {
                    let sure = if is_certain { "certain" } else { "likely" };
                    (LOST.into(), sure.into(), format!("{}: {why}", advice::verdict(LOST)))
                }
                Fate::Unknown(why) => ("unknown".into(), String::new(), why),
                Fate::Elsewhere => {
                    let words = "it has no end in the record; only its own host can say why";
                    ("unfinished".into(), String::new(), words.into())
                }
            };
        };
        let word = match end.text(Column::Verdict).into_owned() {
            word if word.is_empty() => "success".to_owned(),
            word => word,
        };
        let meaning = advice::verdict(&word).to_owned();
        (word, end.text(Column::Confidence).into_owned(), meaning)
    }

    /// The rank that its verdict has, for its colour.
    fn rank(&self, verdict: &str) -> Rank {
        match verdict {
            "running" | "unfinished" => Rank::Started,
            LOST => Rank::Lost,
            "success" | "success_with_losses" => Rank::Succeeded,
            _ => Rank::Failed,
        }
    }
}

struct PostMortem<'a> {
    run: &'a Run,
    screen: &'a Screen,
}

impl PostMortem<'_> {
    fn write(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let (verdict, confidence, meaning) = self.run.verdict();
        let sure = if confidence.is_empty() { String::new() } else { format!(" ({confidence})") };
        let name = self.run.text(Column::Name);
        let colour = super::runs::colour(self.run.rank(&verdict));
        let line = format!("{name}: {verdict}{sure}: {meaning}");
        writeln!(out, "{}", self.shown(&Escaped(&line).to_string(), colour))?;
        self.facts(out)?;
        self.evidence(out)?;
        self.attempts(out)?;
        let story = self.story(out)?;
        self.events(out, &story)?;
        self.last_words(out, &story)?;
        let advice = advice::advice(&verdict, self.run.last());
        if !advice.is_empty() {
            self.heading(out, "what to try")?;
            advice.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
        }
        Ok(())
    }

    fn shown(&self, text: &str, colour: Option<&str>) -> String {
        match colour.filter(|_| self.screen.is_coloured) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }

    fn heading(&self, out: &mut dyn Write, title: &str) -> Result<(), Failure> {
        Ok(writeln!(out, "\n{}", self.shown(title, Some("1")))?)
    }

    /// One line for each fact that is known.
    fn facts(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let text = |column| self.run.text(column);
        let began = self.run.start.as_ref().map(|row| words::moment(&row.text(Column::Time)));
        let began = began.unwrap_or_else(|| words::began(self.run.last()));
        let ended = self.run.end.as_ref().map(|row| words::moment(&row.text(Column::Time)));
        let ended = ended.map(|ended| format!(" to {ended}")).unwrap_or_default();
        let scheduler = match text(Column::Scheduler) {
            scheduler if scheduler.is_empty() => String::new(),
            scheduler => format!(" ({scheduler} job {})", text(Column::SchedulerJob)),
        };
        let facts = [
            ("run", text(Column::RunId)),
            ("command", text(Column::Command)),
            ("directory", text(Column::WorkingDirectory)),
            ("options", text(Column::Options)),
            ("batch", text(Column::Batch)),
            ("tags", text(Column::Tags)),
            ("host", text(Column::Host) + &scheduler),
            ("user", text(Column::User)),
            ("time", format!("{began}{ended} UTC")),
            ("used", self.used()),
            ("limits", text(Column::Limits)),
            ("sender", self.sender()),
        ];
        for (name, fact) in facts.iter().filter(|(_, fact)| !fact.is_empty()) {
            writeln!(out, "  {name:<10} {}", Escaped(fact))?;
        }
        Ok(())
    }

    /// The peaks, and what it used altogether.
    fn used(&self) -> String {
        let row = self.run.last();
        let limit = row.number(Column::CgroupMemoryBytes).map(words::bytes);
        let limit = limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
        let peaks = self.run.rows().filter_map(words::peak_bytes).max();
        let processes: Option<u64> =
            self.run.rows().filter_map(|row| row.number(Column::TreePeakProcesses)).max();
        let seconds = |column| row.number::<f64>(column).map(words::span);
        let parts = [
            seconds(Column::WallSeconds).map(|wall| format!("{wall} wall")),
            seconds(Column::UserSeconds).map(|user| format!("{user} user")),
            seconds(Column::SystemSeconds).map(|system| format!("{system} system")),
            peaks.map(|peak| format!("{} memory at most{limit}", words::bytes(peak))),
            processes.map(|count| format!("{count} process{}", if count == 1 { "" } else { "es" })),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn sender(&self) -> String {
        let [pid, uid, command] = [Column::SenderPid, Column::SenderUid, Column::SenderCommand]
            .map(|column| self.run.text(column));
        if pid.is_empty() { String::new() } else { format!("pid {pid}, uid {uid}: {command}") }
    }

    fn evidence(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let evidence = self.run.text(Column::Evidence);
        if evidence.is_empty() {
            return Ok(());
        }
        self.heading(out, "evidence")?;
        evidence.split("; ").try_for_each(|fact| writeln!(out, "  {}", Escaped(fact)))?;
        Ok(())
    }

    /// Only where there was more than one.
    fn attempts(&self, out: &mut dyn Write) -> Result<(), Failure> {
        if self.run.attempts.len() < 2 {
            return Ok(());
        }
        self.heading(out, "attempts")?;
        let columns = [
            Heading::numbers("  #", 9),
            Heading::words("ENDED (UTC)", 2),
            Heading::words("END", 3),
            Heading::numbers("TIME", 4),
            Heading::numbers("PEAK", 5),
            Heading::words("VERDICT", 6),
            Heading::words("EVIDENCE", 0),
        ];
        let mut table = Table::new(&columns, self.screen);
        for row in &self.run.attempts {
            let verdict =
                format!("{} ({})", row.text(Column::Verdict), row.text(Column::Confidence));
            table.push([
                format!("  {}", row.text(Column::Attempt)),
                words::moment(&row.text(Column::Time)),
                words::end(row),
                words::wall(row),
                words::peak_bytes(row).map(words::bytes).unwrap_or_default(),
                verdict,
                row.text(Column::Evidence).into_owned(),
            ]);
        }
        table.write(out, |_| None)?;
        Ok(())
    }

    /// Reads the log if it is there, and says where it is or that it is gone.
    fn story(&self, out: &mut dyn Write) -> Result<Story, Failure> {
        let log = self.run.text(Column::LogFile);
        if log.is_empty() {
            return Ok(Story::default());
        }
        let (story, trouble) = match story::read(Path::new(&log)) {
            Ok(story) => (story, String::new()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (Story::default(), " (not here: removed, or on its host)".to_owned())
            }
            Err(error) => (Story::default(), format!(" ({error})")),
        };
        writeln!(out, "\n{}{}{trouble}", self.shown("log ", Some("1")), Escaped(&log))?;
        Ok(story)
    }

    fn events(&self, out: &mut dyn Write, story: &Story) -> Result<(), Failure> {
        if story.left_out > 0 {
            let count = story.left_out as u64;
            writeln!(out, "  ... {count} event{} before", plural(count))?;
        }
        for (elapsed, message) in &story.events {
            writeln!(out, "  +{elapsed} {}", Escaped(message))?;
        }
        if let Some(peak) = &story.peak {
            self.heading(out, "flight recorder at its highest, before the end")?;
            writeln!(out, "  {}", Escaped(peak))?;
        }
        if let Some(neighbours) = &story.neighbours {
            writeln!(out, "\n{}", Escaped(neighbours))?;
        }
        Ok(())
    }

    fn last_words(&self, out: &mut dyn Write, story: &Story) -> Result<(), Failure> {
        if !story.words.is_empty() {
            self.heading(out, "the last lines of its standard error")?;
            story.words.iter().try_for_each(|line| writeln!(out, "  {}", Escaped(line)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_by_the_beginning_of_its_id_or_of_its_last_group() {
        let id = b"01a204e0-2768-7f0c-8f43-9fa94d990baf";
        for wanted in ["01a2", "01a204e0-2768", "9fa9", "9fa94d990baf"] {
            assert!(is_meant(id, wanted.as_bytes()), "{wanted}");
        }
        for wanted in ["0baf", "2768", "9fa94d990baf0", "ffff"] {
            assert!(!is_meant(id, wanted.as_bytes()), "{wanted}");
        }
        assert!(is_meant(b"odd", b"od"));
    }
}
