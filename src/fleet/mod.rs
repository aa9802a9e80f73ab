//! What nanny answers: each file one command, from records and logs to text.
//!
//! Writes to the `out` that it is given; notes about what could not be read go to standard error.
//! Only `rerun` starts anything, and only `collect` and `rerun` write to a record.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::model::text::Escaped;
use crate::model::wrap::wrapped;
use crate::question::Question;
use crate::sys::entry::Given;
use crate::sys::terminal;

mod advice;
mod collect;
mod damage;
mod dist;
mod ids;
mod index;
mod jobs;
mod lock;
mod plot;
mod post_mortem;
mod presence;
mod proof;
mod rerun;
mod runs;
mod story;
mod table;
mod task;
mod why;
mod words;
mod workers;

/// The exit status of an answer that is empty, as grep(1) has it, or of a rerun that failed.
pub const NOTHING: u8 = 1;

/// What the answer is shown on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Screen {
    /// The columns of the terminal; `None` if it is none, and lines may be as long as they are.
    pub width: Option<usize>,
    /// Whether colours are welcome.
    pub is_coloured: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// Something that was named cannot be read or written.
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The answer cannot be written.
    Write(io::Error),
    /// It cannot be done, and why.
    Refused(String),
}

impl Failure {
    /// Returns whether nobody reads the answer any more.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::File { action, path, .. } => {
                write!(f, "{action} {}", Escaped(&path.to_string_lossy()))
            }
            Failure::Write(_) => f.write_str("write the answer"),
            Failure::Refused(why) => write!(f, "{}", Escaped(why)),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Failure::File { source, .. } | Failure::Write(source) => Some(source),
            Failure::Refused(_) => None,
        }
    }
}

impl From<io::Error> for Failure {
    /// For writes to `out`; whatever else can fail names its file.
    fn from(error: io::Error) -> Failure {
        Failure::Write(error)
    }
}

/// Answers a question and returns the exit status.
///
/// # Errors
///
/// There is no answer, or it cannot be written.
pub fn answer(
    question: &Question,
    given: &Given,
    out: &mut dyn Write,
    screen: &Screen,
) -> Result<u8, Failure> {
    match question {
        Question::Runs(runs) => runs::answer(runs, out, screen),
        Question::Why(why) => why::answer(why, out, screen),
        Question::Dist(dist) => dist::answer(dist, out, screen),
        Question::Ids(files) => ids::answer(files, out),
        Question::Rerun(rerun) => rerun::answer(rerun, given, out),
        Question::Collect(collect) => collect::answer(collect, out, screen),
    }
}

/// Says something beside the answer, on one line of standard error.
fn note(text: &str) {
    complain(&Escaped(text).to_string());
}

/// Writes one line to standard error; on a terminal it is broken between words. The text holds no
/// control characters.
pub fn complain(text: &str) {
    let mut line = format!("nanny: {text}");
    if let Some(width) = terminal::columns(io::stderr()) {
        line = wrapped(&line, width, 2);
    }
    line.push('\n');
    // In one write: others write there, too. If standard error is closed, the status still says it.
    io::stderr().write_all(line.as_bytes()).ok();
}

/// Reads a log as `why` does; returns what it would show.
#[cfg(any(test, fuzzing))]
pub(crate) fn log_lines(text: &[u8]) -> Vec<String> {
    let story = story::of(text).unwrap_or_default();
    let events = story.events.into_iter().map(|(at, message)| format!("{at} {message}"));
    events.chain(story.words).chain(story.peak).chain(story.neighbours).collect()
}

/// Shows a row as `runs` and `why` do; returns all that they would show.
#[cfg(any(test, fuzzing))]
pub(crate) fn row_texts(row: &crate::record::row::Row) -> Vec<String> {
    let verdict = row.text(crate::record::row::Column::Verdict);
    let now = crate::model::time::WallTime(std::time::Duration::from_secs(1_800_000_000));
    let cells = [&*verdict, "running"].map(|state| runs::cells(row, state, now)).into_iter();
    let cells = cells.flatten().chain([runs::json(row, &verdict).to_string()]);
    cells.chain(advice::advice(&verdict, row)).collect()
}

/// Returns what makes a noun plural.
fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}
