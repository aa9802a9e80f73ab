//! What the user sees on standard error: nothing as long as all is well, and the verdict when the
//! job failed.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{self, PathBuf};
use std::sync::Mutex;

use crate::model::event::Event;
use crate::model::history::{AttemptHistory, RunHistory};
use crate::model::shared::lock;
use crate::model::text::{Escaped, Printable};
use crate::model::time::{Moment, Stamp};
use crate::model::verdict::{Verdict, VerdictKind};
use crate::model::wrap::wrapped;
use crate::sink::outlet::Outlet;
use crate::sink::{Sink, SinkError};
use crate::sys::signals::SignalFd;
use crate::sys::{environment, terminal};

/// Standard error. A process has one, and what several threads write to it stays in lines.
static STDERR: Mutex<Outlet> = Mutex::new(Outlet::new());

/// Writes a line to standard error, as it is.
///
/// # Errors
///
/// See [`Outlet::put`].
pub(super) fn put(line: &[u8]) -> io::Result<()> {
    lock(&STDERR).put(io::stderr().as_fd(), line)
}

/// Writes a line of our own, led by our name as is usual. Does not wait for a reader.
///
/// # Errors
///
/// See [`Outlet::put`]: there is nowhere else to report it.
pub fn say(text: &str) -> io::Result<()> {
    put_words(format!("childminder: {}", Printable(text)))
}

/// Writes text of the job: lines as they are.
///
/// # Errors
///
/// See [`Outlet::put`].
pub fn put_text(text: &[u8]) -> io::Result<()> {
    put(text)
}

/// Writes one line, on a terminal broken between words.
///
/// # Errors
///
/// See [`Outlet::put`].
pub fn put_words(mut line: String) -> io::Result<()> {
    if let Some(width) = terminal::columns(io::stderr()) {
        line = wrapped(&line, width, INDENT);
    }
    line.push('\n');
    put(line.as_bytes())
}

/// Columns that the second and later lines of a broken one begin with.
const INDENT: usize = 2;

/// As [`say`], for a panic: gives up if this thread is just writing there.
pub fn say_of_panic(text: &str) {
    if let Ok(mut outlet) = STDERR.try_lock() {
        let line = format!("childminder: {text}\n");
        // Standard error is the last place to complain.
        outlet.put(io::stderr().as_fd(), line.as_bytes()).ok();
    }
}

/// Tries again to write what waits for a reader; returns whether something still waits.
pub fn retry() -> bool {
    let mut outlet = lock(&STDERR);
    // What was lost is counted, and said at the end.
    outlet.retry(io::stderr().as_fd()).ok();
    outlet.is_waiting()
}

/// Waits for a reader at the end of the run; see [`Outlet::drain`].
pub fn drain(deadline: Moment, signals: &SignalFd) -> u64 {
    lock(&STDERR).drain(io::stderr().as_fd(), deadline, signals)
}

/// The longest line about the job, in bytes: a pipe takes so much whole (PIPE_BUF in pipe(7)), and lines
/// of jobs that share one do not mix.
const LINE_BYTES_MAX: usize = 4096;

/// The few events that are worth a line there. Each line says whose it is.
#[derive(Default)]
pub struct Console {
    /// `--name`, or the base name of the program.
    pub name: String,
    /// The file of the log, if it is one that stays after a failure.
    pub log: Option<PathBuf>,
    /// Whether there may be several attempts: then each is named.
    pub may_restart: bool,
    /// With `--quiet-success`: lines that wait until it is known how the run ends.
    pub held: Option<Vec<String>>,
}

impl Console {
    /// Returns the lines that were held back; the next ones are written at once.
    pub fn take_held(&mut self) -> Option<Vec<String>> {
        self.held.take()
    }

    fn line(&self, event: &Event, attempt: &AttemptHistory, is_coloured: bool) -> Option<String> {
        let message = match event {
            Event::Judged(verdict) => self.verdict(verdict, attempt.number, is_coloured)?,
            Event::RestartsExhausted { .. }
            | Event::RestartRefused { .. }
            | Event::WantsTerminal { .. } => event.to_string(),
            _ => return None,
        };
        let mut line = format!("childminder: {}", Escaped(&self.name));
        if let Some(pid) = attempt.pid {
            // Memory alone can fail, and that aborts.
            write!(line, "[{pid}]").unwrap_or(());
        }
        Some(format!("{line}: {message}"))
    }

    fn verdict(&self, verdict: &Verdict, attempt: u32, is_coloured: bool) -> Option<String> {
        if verdict.kind.is_success() && verdict.evidence.len() <= 1 {
            return None;
        }
        let (kind, whole) = (verdict.kind.word(), Printable(&verdict.to_string()).to_string());
        let reason = whole.strip_prefix(kind).unwrap_or(&whole);
        let place = self.place(attempt);
        let name = Escaped(&self.name).to_string();
        let room = LINE_BYTES_MAX.saturating_sub(name.len() + place.len() + 128);
        let shown = &reason[..reason.floor_char_boundary(room)];
        let cut = if shown.len() < reason.len() { "..." } else { "" };
        Some(match is_coloured {
            true => format!("{}{kind}\x1b[0m{shown}{cut}{place}", colour(verdict.kind)),
            false => format!("{kind}{shown}{cut}{place}"),
        })
    }

    /// Says which attempt it was, and where to read more.
    fn place(&self, attempt: u32) -> String {
        let attempt = self.may_restart.then(|| format!("attempt {attempt}"));
        let log = self.log.as_deref().map(|log| {
            let log = path::absolute(log).unwrap_or_else(|_| log.to_owned());
            format!("log: {}", Escaped(&log.to_string_lossy()))
        });
        match [attempt, log].into_iter().flatten().collect::<Vec<_>>() {
            parts if parts.is_empty() => String::new(),
            parts => format!(" ({})", parts.join("; ")),
        }
    }
}

/// Bold: yellow for a success with something to say, else red.
fn colour(kind: VerdictKind) -> &'static str {
    if kind.is_success() { "\x1b[1;33m" } else { "\x1b[1;31m" }
}

/// Whether standard error shows colours (no-color.org: the variable counts if it is not empty).
fn is_coloured() -> bool {
    let is_refused = |entry: &[u8]| entry.strip_prefix(b"NO_COLOR=").is_some_and(|v| !v.is_empty());
    io::stderr().is_terminal() && !environment::entries().any(is_refused)
}

impl Sink for Console {
    fn publish(&mut self, _: Stamp, event: &Event, history: &RunHistory) -> Result<(), SinkError> {
        let is_coloured = is_coloured();
        let Some(line) = self.line(event, &history.attempt, is_coloured) else { return Ok(()) };
        if let Some(held) = &mut self.held {
            held.push(line);
            return Ok(());
        }
        put_words(line).map_err(|source| SinkError {
            action: "write to",
            target: "stderr".into(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process::Pid;
    use crate::model::verdict::{Confidence, Evidence, Quality};

    fn judged(kind: VerdictKind, facts: &[&str]) -> Event {
        let evidence = facts.iter().map(|fact| Evidence {
            fact: (*fact).to_owned(),
            source: "waitid(2)",
            quality: Quality::Exact,
        });
        Event::Judged(Verdict {
            kind,
            confidence: Confidence::Certain,
            evidence: evidence.collect(),
        })
    }

    fn console() -> Console {
        let log = Some("/l/sh.txt".into());
        Console { name: "sh".into(), log, ..Console::default() }
    }

    fn attempt(number: u32) -> AttemptHistory {
        AttemptHistory { number, pid: Some(Pid(7)), ..AttemptHistory::default() }
    }

    #[test]
    fn a_verdict_says_whose_it_is_and_where_the_log_is() {
        let event = judged(VerdictKind::ExitNonzero, &["exit status 3"]);
        let shown =
            |console: &Console, attempt| console.line(&event, &attempt, false).expect("a line");
        let expected = "childminder: sh[7]: exit_nonzero (certain): exit status 3 (log: /l/sh.txt)";
        assert_eq!(shown(&console(), attempt(1)), expected);
        let bare = Console { log: None, ..console() };
        let unborn = AttemptHistory { pid: None, ..attempt(1) };
        assert_eq!(shown(&bare, unborn), "childminder: sh: exit_nonzero (certain): exit status 3");
        let restartable = Console { may_restart: true, ..console() };
        assert!(shown(&restartable, attempt(2)).ends_with("status 3 (attempt 2; log: /l/sh.txt)"));
    }

    #[test]
    fn the_kind_alone_is_coloured() {
        let event = judged(VerdictKind::Crashed, &["SIGSEGV"]);
        let line = console().line(&event, &attempt(1), true).expect("a line");
        let expected = "childminder: sh[7]: \x1b[1;31mcrashed\x1b[0m (certain): SIGSEGV (";
        assert!(line.starts_with(expected), "{line:?}");
    }

    #[test]
    fn a_line_is_never_longer_than_a_pipe_takes_whole_and_keeps_its_end() {
        let long = "\u{e9}".repeat(5000);
        let name = "n".repeat(3000);
        let event = judged(VerdictKind::Unknown, &[&long]);
        let line = Console { name, ..console() }.line(&event, &attempt(1), true).expect("a line");
        assert!(line.len() < LINE_BYTES_MAX, "{}", line.len());
        assert!(line.ends_with("... (log: /l/sh.txt)"), "{line}");
    }

    #[test]
    fn nothing_is_said_of_a_success_and_a_newline_makes_no_line() {
        assert_eq!(
            console().line(&judged(VerdictKind::Success, &["exit status 0"]), &attempt(1), false),
            None
        );
        let event = judged(VerdictKind::Unknown, &["a\nchildminder: x"]);
        assert_eq!(
            console().line(&event, &attempt(1), false).expect("a line").matches('\n').count(),
            0
        );
    }
}
