//! What `nanny why` shows of one run: all that the record has about it and, if it is still there, the
//! log. On a terminal long lines are broken between words.

use std::io::Write;
use std::path::Path;

use crate::model::text::Escaped;
use crate::model::text::byte_size;
use crate::model::text::plural;
use crate::model::wrap::wrapped;
use crate::nanny::failure::Failure;
use crate::nanny::source::index::{LOST, Rank};
use crate::nanny::source::log_summary::{self, LogSummary};
use crate::nanny::source::presence::{RunState, ThisHost};
use crate::nanny::view::headings::colour;
use crate::nanny::view::screen::Screen;
use crate::nanny::view::table::{ALWAYS, TableColumn as Heading, TextTable};
use crate::nanny::view::{advice, words};
use crate::record::row::{Column, Row, RowEvent};
use crate::sys::clock;

/// All that the record has about a run.
pub struct Run {
    start: Option<Row>,
    attempts: Vec<Row>,
    /// The real end, else the one that says it was lost.
    end: Option<Row>,
}

impl Run {
    /// `None` if there is no row.
    pub fn of(rows: Vec<Row>) -> Option<Run> {
        let mut run = Run { start: None, attempts: Vec::new(), end: None };
        let is_lost = |row: &Row| row.text(Column::Verdict) == LOST;
        for row in rows {
            match row.event() {
                Some(RowEvent::Start) => run.start = Some(row),
                Some(RowEvent::Attempt) => run.attempts.push(row),
                Some(RowEvent::End) if run.end.is_none() || !is_lost(&row) => run.end = Some(row),
                _ => {}
            }
        }
        // What was merged while we read is there twice.
        run.attempts.sort_unstable();
        run.attempts.dedup();
        run.attempts.sort_by_key(|row| row.number::<u32>(Column::Attempt));
        let is_known = run.rows().next().is_some();
        is_known.then_some(run)
    }

    /// Returns whether the record has its end.
    pub fn is_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Its rows, the one that says most first.
    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.end.iter().chain(self.attempts.iter().rev()).chain(&self.start)
    }

    /// What is known of it, from any of its rows.
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
            return match ThisHost::look().fate(row) {
                RunState::Running => {
                    ("running".into(), String::new(), "it has not ended yet".into())
                }
                RunState::Orphaned => (
                    "running".into(),
                    String::new(),
                    "childminder is gone, but processes of the job are there".into(),
                ),
                RunState::Lost(why, is_certain) => {
                    let sure = if is_certain { "certain" } else { "likely" };
                    (LOST.into(), sure.into(), format!("{}: {why}", advice::verdict(LOST)))
                }
                RunState::Unknown(why) => ("unknown".into(), String::new(), why),
                RunState::Elsewhere => {
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

/// A run as it is shown.
pub struct PostMortem<'a> {
    pub run: &'a Run,
    pub screen: &'a Screen,
}

/// Columns that the names of the facts take, with the blanks around them.
const NAME_COLUMNS: usize = 13;

impl PostMortem<'_> {
    /// Writes all that is known.
    ///
    /// # Errors
    ///
    /// Of `out`.
    pub fn write(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let (verdict, confidence, meaning) = self.run.verdict();
        let sure = if confidence.is_empty() { String::new() } else { format!(" ({confidence})") };
        let name = self.run.text(Column::Name);
        let colour = colour(self.run.rank(&verdict));
        let line = format!("{name}: {verdict}{sure}: {meaning}");
        let line = self.fitted(&Escaped(&line).to_string(), 2);
        writeln!(out, "{}", self.shown(&line, colour))?;
        self.facts(out, &verdict)?;
        self.evidence(out)?;
        self.attempts(out)?;
        let summary = self.summary(out)?;
        self.events(out, &summary)?;
        self.crashes(out, &summary)?;
        self.last_words(out, &summary)?;
        let advice = advice::advice(&verdict, self.run.last());
        if !advice.is_empty() {
            self.heading(out, "what to try")?;
            advice.iter().try_for_each(|line| self.line(out, &format!("  {line}"), 4))?;
        }
        Ok(())
    }

    fn shown(&self, text: &str, colour: Option<&str>) -> String {
        match colour.filter(|_| self.screen.is_coloured) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }

    /// Breaks a line between words if the screen is narrower; later lines are indented by that much.
    fn fitted(&self, line: &str, indent: usize) -> String {
        match self.screen.width {
            Some(width) => wrapped(line, width, indent),
            None => line.to_owned(),
        }
    }

    fn line(&self, out: &mut dyn Write, line: &str, indent: usize) -> Result<(), Failure> {
        Ok(writeln!(out, "{}", self.fitted(line, indent))?)
    }

    fn heading(&self, out: &mut dyn Write, title: &str) -> Result<(), Failure> {
        Ok(writeln!(out, "\n{}", self.shown(title, Some("1")))?)
    }

    /// One line for each fact that is known.
    fn facts(&self, out: &mut dyn Write, verdict: &str) -> Result<(), Failure> {
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
            ("run", words::last_group(&text(Column::RunId)).to_owned()),
            ("command", text(Column::Command)),
            ("directory", text(Column::WorkingDirectory)),
            ("options", text(Column::Options)),
            ("batch", text(Column::Batch)),
            ("tags", text(Column::Tags)),
            ("host", text(Column::Host) + &scheduler),
            ("user", text(Column::User)),
            ("time", format!("{began}{ended} UTC{}", self.running_for(verdict))),
            ("used", self.used()),
            ("limits", text(Column::Limits)),
            ("sender", self.sender()),
            ("signature", text(Column::CrashSignature)),
        ];
        for (name, fact) in facts.iter().filter(|(_, fact)| !fact.is_empty()) {
            self.line(out, &format!("  {name:<10} {}", Escaped(fact)), NAME_COLUMNS)?;
        }
        Ok(())
    }

    /// Says how long a run goes on by now.
    fn running_for(&self, verdict: &str) -> String {
        let start = self.run.start.as_ref().filter(|_| verdict == "running");
        let age = start.map(|row| words::age(row, clock::wall()));
        age.map(|age| format!(", running for {age}")).unwrap_or_default()
    }

    /// The peaks, and what it used altogether.
    fn used(&self) -> String {
        let row = self.run.last();
        let limit = row.number(Column::CgroupMemoryBytes).map(byte_size);
        let limit = limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
        let peaks = self.run.rows().filter_map(words::peak_bytes).max();
        let processes: Option<u64> =
            self.run.rows().filter_map(|row| row.number(Column::TreePeakProcesses)).max();
        let seconds = |column| row.number::<f64>(column).map(words::span);
        let parts = [
            seconds(Column::WallSeconds).map(|wall| format!("{wall} wall")),
            seconds(Column::UserSeconds).map(|user| format!("{user} user")),
            seconds(Column::SystemSeconds).map(|system| format!("{system} system")),
            peaks.map(|peak| format!("{} memory at most{limit}", byte_size(peak))),
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
        let facts = evidence.split("; ").map(|fact| format!("  {}", Escaped(fact)));
        facts.into_iter().try_for_each(|fact| self.line(out, &fact, 4))
    }

    /// Only where there was more than one.
    fn attempts(&self, out: &mut dyn Write) -> Result<(), Failure> {
        if self.run.attempts.len() < 2 {
            return Ok(());
        }
        self.heading(out, "attempts")?;
        // The evidence of the last attempt is shown whole above.
        let columns = [
            Heading::numbers("  #", ALWAYS),
            Heading::words("ENDED (UTC)", 2).or_shorter(words::short_moment),
            Heading::words("END", ALWAYS),
            Heading::numbers("TIME", ALWAYS),
            Heading::numbers("PEAK", 1),
            Heading::words("VERDICT", ALWAYS).cut_to(12),
            Heading::words("EVIDENCE", 5).cut_to(12),
        ];
        let mut table = TextTable::new(&columns, self.screen);
        for row in &self.run.attempts {
            let verdict =
                format!("{} ({})", row.text(Column::Verdict), row.text(Column::Confidence));
            table.push([
                format!("  {}", row.text(Column::Attempt)),
                words::moment(&row.text(Column::Time)),
                words::end(row),
                words::wall(row),
                words::peak_bytes(row).map(byte_size).unwrap_or_default(),
                verdict,
                row.text(Column::Evidence).into_owned(),
            ]);
        }
        table.write(out, |_| None)?;
        Ok(())
    }

    /// Reads the log if it is there, and says where it is or that it is gone.
    fn summary(&self, out: &mut dyn Write) -> Result<LogSummary, Failure> {
        let log = self.run.text(Column::LogFile);
        if log.is_empty() {
            return Ok(LogSummary::default());
        }
        let (summary, error) = match log_summary::read(Path::new(&log)) {
            Ok(summary) => (summary, String::new()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                (LogSummary::default(), " (not here: removed, or on its host)".to_owned())
            }
            Err(error) => (LogSummary::default(), format!(" ({error})")),
        };
        writeln!(out, "\n{}{}{error}", self.shown("log ", Some("1")), Escaped(&log))?;
        Ok(summary)
    }

    fn events(&self, out: &mut dyn Write, summary: &LogSummary) -> Result<(), Failure> {
        if summary.left_out > 0 {
            let count = summary.left_out as u64;
            writeln!(out, "  ... {count} event{} before", plural(count))?;
        }
        for (elapsed, message) in &summary.events {
            self.line(out, &format!("  +{elapsed} {}", Escaped(message)), 4)?;
        }
        if let Some(peak) = &summary.peak {
            self.heading(out, "flight recorder at its highest, before the end")?;
            self.line(out, &format!("  {}", Escaped(peak)), 4)?;
        }
        if let Some(neighbours) = &summary.neighbours {
            writeln!(out)?;
            self.line(out, &Escaped(neighbours).to_string(), 2)?;
        }
        Ok(())
    }

    fn crashes(&self, out: &mut dyn Write, summary: &LogSummary) -> Result<(), Failure> {
        if !summary.crashes.is_empty() {
            self.heading(out, "where it crashed")?;
            let lines = summary.crashes.iter().map(|line| format!("  {}", Escaped(line)));
            lines.into_iter().try_for_each(|line| self.line(out, &line, 4))?;
        }
        Ok(())
    }

    fn last_words(&self, out: &mut dyn Write, summary: &LogSummary) -> Result<(), Failure> {
        if !summary.words.is_empty() {
            self.heading(out, "the last lines of its standard error")?;
            summary.words.iter().try_for_each(|line| writeln!(out, "  {}", Escaped(line)))?;
        }
        Ok(())
    }
}
