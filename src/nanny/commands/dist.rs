//! `nanny dist`: how long the calls of built-in functions took, by the logs of `childminder -f`.
//!
//! The plain answer is that of the original's tdist.pl, byte for byte, numbers in its double
//! precision included: `function,machine,pid,usec`, one line a call. A call's time is the span
//! between two answers that follow each other immediately in a log; whatever stands between (a
//! signal, say) makes the next answer the first of a new series.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use crate::files::{self, Links, Owner};
use crate::model::text::Escaped;
use crate::model::wrap::wrapped;
use crate::nanny::failure::{Failure, NOTHING};
use crate::nanny::notes::note;
use crate::nanny::statistics::quantile::{mean, quantile};
use crate::nanny::view::output::write_file;
use crate::nanny::view::plot::{self, Group};
use crate::nanny::view::screen::Screen;
use crate::nanny::view::table::{ALWAYS, TableColumn, TextTable};
use crate::question::Dist;

/// What a log of a built-in function is named after (those with answers).
const FUNCTIONS: [&str; 6] = ["math-int", "math-fp", "string", "memory", "file", "random"];

/// The longest line that is looked at; ours are shorter than 4096 bytes.
const LINE_BYTES_MAX: u64 = 1 << 16;

/// One call of a function.
struct LoggedCall<'a> {
    function: &'a str,
    source: &'a CanaryLog,
    micros: f64,
}

/// A log, and what its name says.
struct CanaryLog {
    path: PathBuf,
    machine: String,
    pid: String,
    /// In a directory that was named, not by its own name.
    is_found: bool,
}

pub fn answer(dist: &Dist, out: &mut dyn Write, screen: &Screen) -> Result<u8, Failure> {
    let sources = sources(&dist.paths)?;
    if sources.is_empty() {
        note(&format!("no log of a built-in function in {}", names(&dist.paths)));
        return Ok(NOTHING);
    }
    if !(dist.percentiles || dist.plot || dist.svg.is_some()) {
        writeln!(out, "function,machine,pid,usec")?;
        each_call(&sources, |call| {
            let LoggedCall { function, source, micros } = call;
            let (machine, pid) = (&source.machine, &source.pid);
            writeln!(out, "{function},{machine},{pid},{}", perl_number(micros))
        })?;
        return Ok(0);
    }
    let groups = groups(&sources)?;
    if groups.is_empty() {
        note("these logs have no two answers in a row");
        return Ok(NOTHING);
    }
    if dist.percentiles {
        percentiles(&groups, out, screen)?;
    }
    if dist.plot {
        plot::on_terminal(&groups, out, screen)?;
    }
    if let Some(path) = &dist.svg {
        let written = write_file(path, &plot::svg(&groups));
        written.map_err(|source| Failure::File { action: "write", path: path.clone(), source })?;
    }
    Ok(0)
}

fn names(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
    names.join(", ")
}

/// Finds the logs: in a directory those that are named after a function, in the order of their
/// names; a file that was named itself is read whatever it is called.
fn sources(paths: &[PathBuf]) -> Result<Vec<CanaryLog>, Failure> {
    let failure =
        |path: &Path, source| Failure::File { action: "read", path: path.to_owned(), source };
    let mut sources = Vec::new();
    for path in paths {
        if !fs::metadata(path).map_err(|error| failure(path, error))?.is_dir() {
            sources.push(CanaryLog::new(path.clone()).unwrap_or_else(|| CanaryLog::unnamed(path)));
            continue;
        }
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).map_err(|error| failure(path, error))? {
            let entry = entry.map_err(|error| failure(path, error))?;
            inside.extend(CanaryLog::new(entry.path()));
        }
        inside.iter_mut().for_each(|source| source.is_found = true);
        inside.sort_by(|one, other| one.path.cmp(&other.path));
        sources.extend(inside);
    }
    Ok(sources)
}

impl CanaryLog {
    /// Reads `FUNCTION-MACHINE-PID.txt`; `None` if it is named after anything else.
    ///
    /// A machine's name may have hyphens: so it begins behind a function's name, not behind the
    /// last word without digits, where the original looked for it. `-2` before the end is a later
    /// run of the same pid, not a pid: those have six digits.
    fn new(path: PathBuf) -> Option<CanaryLog> {
        let name = path.file_name()?.to_str()?.strip_suffix(".txt")?;
        let behind = |function: &&str| name.strip_prefix(*function)?.strip_prefix('-');
        let rest = FUNCTIONS.iter().find_map(behind)?;
        let (mut machine, mut pid) = rest.rsplit_once('-')?;
        if let Some((before, first)) = machine.rsplit_once('-')
            && pid.len() < 6
            && first.len() >= 6
            && is_number(first)
        {
            (machine, pid) = (before, first);
        }
        let (machine, pid) = (machine.to_owned(), pid.to_owned());
        is_number(&pid).then_some(CanaryLog { path, machine, pid, is_found: false })
    }

    fn unnamed(path: &Path) -> CanaryLog {
        let (machine, pid) = (String::new(), String::new());
        CanaryLog { path: path.to_owned(), machine, pid, is_found: false }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Calls `take` for each call in the logs. A log that cannot be read to its end costs the rest of
/// it, and is reported.
fn each_call(
    sources: &[CanaryLog],
    mut take: impl FnMut(LoggedCall<'_>) -> io::Result<()>,
) -> Result<(), Failure> {
    for source in sources {
        // What was named may be a pipe; what was found in a directory must be a file.
        let opened = match source.is_found {
            true => files::open(&source.path, Owner::Anybody, Links::Trusted),
            false => File::open(&source.path),
        };
        let mut log = match opened {
            Ok(file) => BufReader::with_capacity(1 << 16, file),
            Err(error) => {
                note(&format!("skipped {}: {error}", source.path.display()));
                continue;
            }
        };
        let mut previous: Option<f64> = None;
        let mut line = Vec::new();
        while read_line(&mut log, &mut line) {
            let answer = std::str::from_utf8(&line).ok().and_then(AnswerLine::read);
            let this = answer.as_ref().map(|answer| answer.seconds * 1_000_000.0);
            if let (Some(answer), Some(this), Some(previous)) = (answer, this, previous) {
                take(LoggedCall { function: &answer.function, source, micros: this - previous })?;
            }
            previous = this;
        }
    }
    Ok(())
}

/// Reads a line, of a very long one the beginning; the rest then counts as another line.
fn read_line(log: &mut impl BufRead, line: &mut Vec<u8>) -> bool {
    line.clear();
    matches!(io::Read::take(log, LINE_BYTES_MAX).read_until(b'\n', line), Ok(1..))
}

/// A line about an answer.
struct AnswerLine {
    seconds: f64,
    function: String,
}

impl AnswerLine {
    /// Reads `TIME [+SECONDS](HOST): (FUNCTION) answer is ...`, or the same as JSON.
    fn read(line: &str) -> Option<AnswerLine> {
        if line.starts_with('{') {
            return AnswerLine::read_json(line);
        }
        let (time, rest) = line.split_once(" [+")?;
        let (seconds, rest) = rest.split_once("](")?;
        let (before, _) = rest.split_once(") answer is")?;
        let (_, function) = before.rsplit_once("): (")?;
        let is_function = |c: char| c.is_ascii_lowercase() || c == '-';
        let is_answer =
            !time.contains(' ') && !function.is_empty() && function.chars().all(is_function);
        let seconds = seconds.parse().ok()?;
        is_answer.then(|| AnswerLine { seconds, function: function.to_owned() })
    }

    fn read_json(line: &str) -> Option<AnswerLine> {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line.get("event")? == "answer").then_some(())?;
        let function = line.get("function")?.as_str()?.to_owned();
        Some(AnswerLine { seconds: line.get("elapsed_seconds")?.as_f64()?, function })
    }
}

/// Gathers the calls of each function on each machine.
fn groups(sources: &[CanaryLog]) -> Result<Vec<Group>, Failure> {
    let mut calls: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
    each_call(sources, |LoggedCall { function, source, micros }| {
        calls.entry((function.to_owned(), source.machine.clone())).or_default().push(micros);
        Ok(())
    })?;
    let group = |((function, machine), mut micros): (_, Vec<f64>)| {
        micros.sort_by(f64::total_cmp);
        Group { function, machine, micros }
    };
    Ok(calls.into_iter().map(group).collect())
}

/// The columns behind function and machine; times in milliseconds.
const COLUMNS: [&str; 8] = ["N", "MIN ms", "P5", "P50", "P95", "P99", "MAX", "MEAN"];

/// Writes a table, or a block for each group where the screen is too narrow: no column is left out.
fn percentiles(groups: &[Group], out: &mut dyn Write, screen: &Screen) -> io::Result<()> {
    let mut columns =
        vec![TableColumn::words("FUNCTION", ALWAYS), TableColumn::words("MACHINE", ALWAYS)];
    columns.extend(COLUMNS.map(|title| TableColumn::numbers(title, ALWAYS)));
    let mut table = TextTable::new(&columns, screen);
    for group in groups {
        let names = [group.function.clone(), group.machine.clone()];
        table.push(names.into_iter().chain(numbers(group)));
    }
    if table.is_fitting() {
        return table.write(out, |_| None).map(drop);
    }
    for (index, group) in groups.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        let line = |text: &str| wrapped(text, screen.width.unwrap_or(usize::MAX), 2);
        let title = format!("{} on {}", Escaped(&group.function), Escaped(&group.machine));
        writeln!(out, "{}", line(&title))?;
        for (title, number) in COLUMNS.iter().zip(numbers(group)) {
            writeln!(out, "  {title:<7} {number:>12}")?;
        }
    }
    Ok(())
}

/// The cells of [`COLUMNS`].
fn numbers(group: &Group) -> impl Iterator<Item = String> {
    let quantiles = [0.0, 0.05, 0.5, 0.95, 0.99, 1.0].map(|share| quantile(&group.micros, share));
    let times = quantiles.into_iter().chain([mean(&group.micros)]);
    [group.micros.len().to_string()].into_iter().chain(times.map(|us| format!("{:.3}", us / 1e3)))
}

/// Shows a number as Perl prints it: `%.15g` of printf(3).
fn perl_number(value: f64) -> String {
    const DIGITS: i32 = 15;
    let scientific = format!("{value:.*e}", DIGITS as usize - 1);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..DIGITS).contains(&exponent) {
        let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
        return trimmed(&format!("{value:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_as_perl_prints_them() {
        for (value, shown) in [
            (0.0, "0"),
            (1_000_000.0, "1000000"),
            (1_234_567_890_123.5, "1234567890123.5"),
            (0.25, "0.25"),
            (999_999.999_999_999_9, "1000000"),
            (1_000_000.000_000_2, "1000000.0000002"),
            (-3.0, "-3"),
            (1e15, "1e+15"),
            (1.5e-7, "1.5e-07"),
            (123_456_789_012_345.6, "123456789012346"),
        ] {
            assert_eq!(perl_number(value), shown);
        }
    }

    #[test]
    fn names_of_machines_may_have_hyphens_and_digits() {
        let read = |name: &str| {
            CanaryLog::new(PathBuf::from(name)).map(|source| (source.machine, source.pid))
        };
        let some = |machine: &str, pid: &str| Some((machine.to_owned(), pid.to_owned()));
        assert_eq!(read("math-int-node7-004121.txt"), some("node7", "004121"));
        assert_eq!(read("math-fp-login-a-1-004121.txt"), some("login-a-1", "004121"));
        assert_eq!(read("random-node7-004121-2.txt"), some("node7", "004121"));
        assert_eq!(read("string-a.b.c-1234567.txt"), some("a.b.c", "1234567"));
        assert_eq!(read("file-mars-12.txt"), some("mars", "12"));
        for other in
            ["ls-node7-004121.txt", "sleep-x-000001.txt", "math-int-x.txt", "string-x-1.log"]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn only_answers_are_answers() {
        let of =
            |line: &str| AnswerLine::read(line).map(|answer| (answer.seconds, answer.function));
        let line = "20261122T165222.650415 [+1.500000](node7): (math-int) answer is -25";
        assert_eq!(of(line), Some((1.5, "math-int".to_owned())));
        assert_eq!(of("20261122T165222.650415 [+1.5](a): trapped SIGHUP"), None);
        assert_eq!(of("20261122T165222.650415 [+1.5](a): number of function calls: 2"), None);
        assert_eq!(of("x y [+1.5](a): (file) answer is 2"), None);
        let json = r#"{"time":"x","elapsed_seconds":2.25,"host":"a","message":"m","event":"answer","function":"file","answer":"7"}"#;
        assert_eq!(of(json), Some((2.25, "file".to_owned())));
    }

    #[test]
    fn percentiles_keep_their_columns_on_any_screen() {
        let group = |machine: &str| Group {
            function: "math-int".into(),
            machine: machine.into(),
            micros: vec![1_000_001.5, 1_200_000.0, 2_400_000.25],
        };
        let groups = [group("node7"), group("a-host-with-a-long-name")];
        let shown = |width| {
            let mut out = Vec::new();
            let screen = Screen { width, is_terminal: true, is_coloured: false };
            percentiles(&groups, &mut out, &screen).expect("a vector");
            String::from_utf8(out).expect("text")
        };
        for width in [None, Some(200)] {
            assert_eq!(shown(width).lines().count(), 3, "{}", shown(width));
        }
        for width in [80, 40] {
            let text = shown(Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            assert!(text.starts_with("math-int on node7\n  N "), "{text}");
            for title in COLUMNS {
                assert_eq!(text.matches(&format!("\n  {title} ")).count(), 2, "{title}: {text}");
            }
            assert_eq!(text.matches("    2400.000\n").count(), 2, "{text}");
        }
    }
}
