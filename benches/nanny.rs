//! What nanny's questions cost on a record of a million runs (three rows each): time by the clock and
//! the largest resident set.
//!
//! Run by `cargo bench --bench nanny [runs...]`. The record is made once for each size and kept in
//! target/tmp, 1.5 GB for a million runs. One run of a hundred failed. Budget: a second and 100 MiB for
//! a million runs, with the file in the page cache.

#![expect(clippy::disallowed_methods, reason = "it starts nanny")]
#![expect(clippy::zombie_processes, reason = "wait::take reaps it, with its usage")]
#![expect(clippy::disallowed_macros, reason = "it prints its table")]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use childminder::internals::process::Pid;
use childminder::internals::time::WallTime;
use childminder::internals::{Column, Header, Row, RowEvent};
use childminder::internals::{clock, wait};

const DEFAULT_RUNS: u64 = 1_000_000;

/// One run of so many failed.
const FAILED_EVERY: u64 = 100;

/// So many times each question is asked; the median counts.
const TURNS: usize = 3;

/// For a million runs.
const BUDGET: Duration = Duration::from_secs(1);
const BUDGET_KIB: u64 = 100 * 1024;

/// A run begins every 50 ms, and the first one so long after 1970.
const STEP_MS: u64 = 50;
const BEGIN_MS: u64 = 1_795_000_000_000;

fn row(number: u64, event: RowEvent) -> Row {
    let at = BEGIN_MS + number * STEP_MS;
    let is_failed = number.is_multiple_of(FAILED_EVERY);
    let mut row = Row::default();
    row.set(Column::Schema, "1");
    let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0xffff_ffff_ffff;
    let (high, low) = (at >> 16, at & 0xffff);
    row.show(Column::RunId, format!("{high:08x}-{low:04x}-7abc-8def-{random:012x}"));
    row.set(Column::Event, event.word());
    row.set(Column::Time, WallTime(Duration::from_millis(at)).rfc3339());
    row.show(Column::Host, format!("node{}", number % 64));
    row.set(Column::BootId, "3fe5750d-7add-4472-8647-679cf347e6e3");
    row.set(Column::User, "alice");
    row.show(Column::Pid, 1000 + number % 30_000);
    row.set(Column::Name, "train");
    row.show(Column::Batch, format!("batch{}", number / 1000));
    row.set(Column::WorkingDirectory, "/home/alice/project/experiments");
    let command = format!("python3 train.py --seed {number} --note 'one, two \"three\"'");
    row.set(Column::Command, command);
    row.set(Column::Redacted, "false");
    row.set(Column::Options, "--batch=b --central-log=/shared/all.csv --output=out.txt");
    row.set(Column::Limits, "core=0 memlock=8388608 nofile=20000 nproc=96365 stack=8388608");
    row.set(Column::LogFile, "/home/alice/project/experiments/log/python3-node7-001234.txt");
    if event != RowEvent::Start {
        row.set(Column::ExitCode, if is_failed { "3" } else { "0" });
        row.set(Column::Verdict, if is_failed { "exit_nonzero" } else { "success" });
        row.set(Column::Confidence, "certain");
        row.set(Column::Evidence, if is_failed { "exit status 3" } else { "exit status 0" });
        row.set(Column::WallSeconds, "61.204113");
        row.set(Column::UserSeconds, "58.100000");
        row.set(Column::MaxRssKib, "1048576");
    }
    row
}

/// Returns a record of so many runs.
fn record(runs: u64) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("record-{runs}.csv"));
    if path.exists() {
        return path;
    }
    let making = path.with_extension("making");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&making).expect("a file"));
    file.write_all(&Header::ours().to_csv_line()).expect("room");
    for number in 0..runs {
        for event in [RowEvent::Start, RowEvent::Attempt, RowEvent::End] {
            file.write_all(&row(number, event).to_csv_line()).expect("room");
        }
    }
    file.flush().expect("room");
    fs::rename(&making, &path).expect("ours");
    path
}

/// Asks once; returns how long it took and the largest resident set in KiB.
fn ask(record: &Path, words: &[&str]) -> (Duration, u64) {
    let mut nanny = Command::new(env!("CARGO_BIN_EXE_nanny"));
    nanny.arg("--central-log").arg(record).args(words).stdout(Stdio::null()).stderr(Stdio::null());
    let before = clock::now();
    let child = nanny.spawn().expect("nanny starts");
    let pid = Pid(i32::try_from(child.id()).expect("a pid"));
    loop {
        let (waited, usage) = wait::take(pid).expect("our child");
        if matches!(waited, wait::Waited::Changed(..)) {
            return (clock::now() - before, usage.max_rss_kib);
        }
        std::thread::yield_now();
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` runs us as well, without the word that `cargo bench` adds.
    if !words.iter().any(|word| word == "--bench") {
        println!("nanny: nothing to do; it is run by `cargo bench`");
        return;
    }
    let sizes: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![DEFAULT_RUNS] } else { sizes };
    println!("{:<32} {:>10} {:>10} {:>10}  budget", "question", "runs", "median s", "peak MiB");
    for runs in sizes {
        let record = record(runs);
        let id =
            String::from_utf8_lossy(row(runs / 2, RowEvent::End).get(Column::RunId)).into_owned();
        for question in [
            &["runs", "--failed"][..],
            &["runs", "--failed", "--batch", "batch7"],
            &["why"],
            &["why", &id],
            &["runs", "-n", "20"],
            &["runs", "--lost"],
            &["rerun", "--dry-run"],
        ] {
            let mut asked: Vec<_> = (0..TURNS).map(|_| ask(&record, question)).collect();
            asked.sort_unstable();
            let (time, peak) = asked[TURNS / 2];
            let is_met = time <= BUDGET && peak <= BUDGET_KIB;
            let verdict = match runs {
                DEFAULT_RUNS => {
                    if is_met {
                        "met"
                    } else {
                        "MISSED"
                    }
                }
                _ => "",
            };
            let (seconds, mib) = (time.as_secs_f64(), peak as f64 / 1024.0);
            let question = question.join(" ");
            println!("{question:<32.32} {runs:>10} {seconds:>10.3} {mib:>10.1}  {verdict}");
        }
    }
}
