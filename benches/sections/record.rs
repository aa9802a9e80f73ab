//! The central record: rows per second of many writers beside the least that C can do, and jobs per
//! second with it.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use childminder::internals::time::Moment;
use childminder::internals::{Column, Header, Row};
use childminder::internals::{Kept, Writer};

use crate::Fallible;
use crate::harness::process::{self, Running};
use crate::harness::report::{Line, Verdict};
use crate::harness::statistics::{median, paired_ratio};
use crate::harness::stopwatch::{Race, Rounds, Timing, time};
use crate::harness::workshop::{Kind, TINI, Workshop, Wrapper};

pub const TITLE: &str =
    "rows/s of whole runs by 1, 64 and 256 writers, median of 5 rounds with C; 500 jobs with it";

/// The variable that makes a writer of this program: `FILE NAME ROWS`.
pub const WRITER: &str = "CHILDMINDER_BENCH_WRITER";

/// Rows of each writer in a round, and of one that is alone; so many that its start does not count.
const ROWS: usize = 999;
const ROWS_ALONE: usize = 60_000;
/// A run has three, and writes them in two goes.
const ROWS_OF_RUN: usize = 3;
const ROUNDS: usize = 5;
const JOBS: u32 = 500;
const WITHIN: Duration = Duration::from_secs(120);

/// All begin together, when they have had time to start.
const START: Duration = Duration::from_millis(300);

/// In x the C reference, and x tini.
const BUDGET: f64 = 0.8;

pub fn run(workshop: &Workshop) -> Fallible<Vec<Line>> {
    let place = workshop.place("record")?;
    let mut lines = Vec::new();
    for writers in [1, 64, 256] {
        lines.push(rows_per_second(workshop, &place, writers)?);
    }
    lines.extend(jobs_per_second(workshop)?);
    Ok(lines)
}

fn rows_per_second(workshop: &Workshop, place: &Path, writers: usize) -> Fallible<Line> {
    let (mut ours, mut references) = (Vec::new(), Vec::new());
    let rows = if writers == 1 { ROWS_ALONE } else { ROWS };
    for _ in 0..ROUNDS {
        ours.push(our_rate(place, writers, rows)?);
        let mut command = process::command(workshop.c_program("append")?, place);
        command.args([writers.to_string(), rows.to_string(), "c.csv".to_owned()]);
        references.push(process::output(&mut command, WITHIN)?.0.trim().parse()?);
    }
    let (rate, reference) = (median(&ours), median(&references));
    let measured = format!("{rate:.0} rows/s, C {reference:.0} rows/s");
    let ratio = paired_ratio(&ours, &references);
    let line =
        Line::new(format!("{writers} writer(s)"), measured).ratio(Some(ratio), "C reference");
    Ok(line.at_least(BUDGET, Some(ratio), "x C reference"))
}

/// Lets that many processes write, and counts what came of it.
fn our_rate(place: &Path, writers: usize, rows: usize) -> Fallible<f64> {
    let file = place.join("ours.csv");
    // The first time nothing is there.
    fs::remove_file(&file).ok();
    let (gate, opener) = std::io::pipe()?;
    let mut running = Vec::new();
    for index in 0..writers {
        let mut command = process::command(std::env::current_exe()?, place);
        command.env(WRITER, format!("ours.csv w{index} {rows}"));
        command.stdin(Stdio::from(gate.try_clone()?));
        running.push(Running::start(&mut command)?);
    }
    drop(gate);
    std::thread::sleep(START);
    let begun = Instant::now();
    drop(opener);
    // Waited for closely: a look every 20 ms would be most of the time.
    let deadline = begun + WITHIN;
    while running.iter_mut().any(|one| !one.has_ended()) {
        if Instant::now() > deadline {
            return Err("the writers do not end".into());
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    let seconds = begun.elapsed().as_secs_f64();
    check(&file, writers * rows)?;
    Ok((writers * rows) as f64 / seconds)
}

/// A fast writer that loses a row is none.
fn check(file: &Path, rows: usize) -> Fallible<()> {
    let text = fs::read(file)?;
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let header = lines.next().and_then(Header::parse).ok_or("no header")?;
    let whole = lines.filter(|line| Row::parse(&header, line).is_ok()).count();
    if whole == rows { Ok(()) } else { Err(format!("{whole} rows in place of {rows}").into()) }
}

/// What a writer does; the row is about as long as that of C.
pub fn write(told: &OsStr) -> ExitCode {
    match told.to_str().and_then(try_write) {
        Some(()) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

fn try_write(told: &str) -> Option<()> {
    let words: Vec<&str> = told.split(' ').collect();
    let [file, name, rows] = words[..] else { return None };
    let mut row = Row::default();
    for (column, text) in [
        (Column::RunId, "01a204d8-0402-7dcc-b5b3-92ee4009fd16"),
        (Column::Event, "end"),
        (Column::Time, "2026-11-22T19:59:55.400183Z"),
        (Column::Host, "node7"),
        (Column::WorkingDirectory, "/home/somebody/work"),
        (Column::Evidence, "exit status 3"),
        (Column::Limits, "core=0 memlock=8388608 nofile=20000 nproc=96365 stack=8388608"),
    ] {
        row.set(column, text);
    }
    row.set(Column::Command, "x".repeat(210));
    // All begin when the gate is closed.
    std::io::stdin().read_to_end(&mut Vec::new()).ok()?;
    let last = [row.clone(), row.clone()];
    let runs: usize = rows.parse::<usize>().ok()? / ROWS_OF_RUN;
    for run in 0..runs {
        let writer = Writer::new(Path::new(file), format!("{name}-{run}"), now);
        let mut writer = writer.patient(WITHIN);
        // When it begins, and when it has ended.
        for rows in [std::slice::from_ref(&row), &last] {
            match writer.keep(rows) {
                Ok(Kept::Shared) => {}
                _ => return None,
            }
        }
    }
    Some(())
}

fn now() -> Moment {
    childminder::internals::clock::now()
}

fn jobs_per_second(workshop: &Workshop) -> Fallible<Vec<Line>> {
    let place = workshop.place("record-jobs")?;
    let mut words = String::new();
    (0..JOBS).try_for_each(|job| writeln!(words, "{job}"))?;
    fs::write(place.join("words"), words)?;
    let mut wrappers: Vec<Wrapper> =
        workshop.peers().into_iter().filter(|peer| peer.name == TINI).collect();
    wrappers.extend(workshop.ours(&["--central-log", "r.csv"]));
    let command = |wrapper: Wrapper| {
        let xargs = ["xargs", "-a", "words", "-P2", "-n1"].map(OsString::from);
        let words = [&xargs[..], &wrapper.around(&["/bin/true".into()])].concat();
        (wrapper, words)
    };
    let commands = wrappers.into_iter().map(command).collect();
    let rounds = Rounds { timed: 8, warm_up: 0 };
    let timings = time(workshop, &place, Race { commands, rounds, stamp: None })?;
    Ok(timings.iter().map(|timing| line(timing, &timings)).collect())
}

fn line(timing: &Timing, all: &[Timing]) -> Line {
    let rate = f64::from(JOBS) / timing.median(Timing::wall) * 1e6;
    // Twice the time is half the rate.
    let to_tini = timing.ratio(Timing::wall, all, TINI).map(|ratio| 1.0 / ratio);
    let line = Line::new(&timing.wrapper.name, format!("{rate:.0} jobs/s")).ratio(to_tini, TINI);
    match (timing.wrapper.kind, to_tini) {
        (Kind::Other, _) => line,
        (_, None) => line.verdict("at least 0.8 x tini -s", Verdict::Skipped),
        _ => line.at_least(BUDGET, to_tini, "x tini -s"),
    }
}
