//! DESIGN, section 10: what nanny answers about a record, asked of the real programs.

#![allow(missing_docs, reason = "the names say it")]

#[path = "support/pty.rs"]
mod pty;
mod support;

use std::fs;

use childminder::internals::key;
use childminder::internals::{Column, Header, Row};
use pty::{CTRL_C, Shell};
use serde_json::Value;
use support::{Done, Place, is_alive, kill, lock, wait_until};

const RECORD: &str = "all.csv";

/// A job that leaves a mark of each of its runs, and fails as long as there is no file `fixed` if
/// its number says so: 3 of 20 do.
const JOB: &str =
    "echo x >> ran.$1; test -e fixed || test $(($1 % 20)) -ge 3 || { echo no room >&2; exit 3; }";

fn nanny(place: &Place, words: &[&str]) -> Done {
    let mut command = place.nanny(words);
    command.env("CHILDMINDER_CENTRAL_LOG", RECORD);
    place.start_command(command).end_without_log()
}

/// Runs a script of sh in which `cm` minds a job for the record, and quietly.
fn prepare(place: &Place, script: &str) {
    let record = place.file(RECORD).display().to_string();
    let script = format!("cm() {{ \"$CM\" --central-log {record} \"$@\" 2>>told; }}\n{script}");
    let output = place.shell(&script).env("JOB", JOB).output().expect("sh starts");
    assert!(output.stderr.is_empty(), "{output:?}");
}

/// The objects of `runs --json`.
fn listed(place: &Place, words: &[&str]) -> Vec<Value> {
    let done = nanny(place, &[&["runs", "--json"], words].concat());
    let told = if done.code() == 1 { "nanny: no run matches\n" } else { "" };
    assert!(done.code() <= 1 && done.stderr == told, "{done:?}");
    assert_eq!(done.code() == 1, done.stdout.is_empty(), "1 says that nothing was found");
    done.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn states(place: &Place, words: &[&str]) -> Vec<String> {
    let runs = listed(place, words);
    runs.iter().map(|run| run["state"].as_str().expect("a word").to_owned()).collect()
}

fn count_of_runs(place: &Place, job: usize) -> usize {
    place.text(&format!("ran.{job}")).lines().count()
}

/// The whole way: a batch of 200 commands of which 30 fail, started from 16 shells at once, is listed,
/// explained and run again.
#[test]
fn a_batch_is_listed_explained_and_its_failures_are_run_again() {
    let place = Place::new();
    prepare(
        &place,
        "for shell in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
             (for i in $(seq $shell 16 199); do
                 cm --batch night --sample 0 -e err.$i sh -c \"$JOB\" sh $i
             done) &
         done; wait",
    );
    assert_eq!(listed(&place, &[]).len(), 200);
    assert_eq!(listed(&place, &["--failed", "--batch", "night"]).len(), 30);
    assert_eq!(listed(&place, &["--failed", "--batch", "day"]).len(), 0);
    assert_eq!(listed(&place, &["--verdict", "success", "--since", "1h"]).len(), 170);

    let why = nanny(&place, &["why"]);
    assert_eq!(why.code(), 0, "{why:?}");
    for words in ["sh: exit_nonzero (certain)", "exit status 3", "  no room", "what to try"] {
        assert!(why.stdout.contains(words), "'{words}' in {}", why.stdout);
    }

    let dry = nanny(&place, &["rerun", "--dry-run"]);
    assert_eq!((dry.code(), dry.stdout.lines().count()), (0, 30), "{dry:?}");
    place.write("fixed", "");
    let rerun = nanny(&place, &["rerun", "-j", "8"]);
    assert_eq!(rerun.stdout, "30 jobs run again: 30 succeeded, 0 failed\n", "{rerun:?}");
    assert_eq!(rerun.code(), 0, "{rerun:?}");
    for job in 0..200 {
        let expected = if job % 20 < 3 { 2 } else { 1 };
        assert_eq!(count_of_runs(&place, job), expected, "job {job}");
    }
    let again = nanny(&place, &["rerun"]);
    assert_eq!((again.code(), again.stdout.as_str()), (0, "nothing to run again\n"));
    let repeated = listed(&place, &["--batch", "night", "-n", "30"]);
    assert!(repeated.iter().all(|run| run["state"] == "success" && run["batch"] == "night"));
    assert!(!place.file("all.csv.d").exists(), "the lock leaves nothing behind");
}

/// A line that a dry run shows does what the rerun would do.
#[test]
fn a_line_of_the_dry_run_can_be_given_to_a_shell() {
    let place = Place::new();
    prepare(&place, "mkdir 'a b'; cm -w 'a b' --tag 'k=it is' -o 'o ut' sh -c \"$JOB\" sh 1");
    let line = nanny(&place, &["rerun", "--dry-run"]).stdout;
    assert_eq!(line.lines().count(), 1, "{line}");
    let mut shell = place.shell(&format!("PATH=$(dirname \"$CM\"):$PATH\n{line}"));
    place.write("a b/fixed", "");
    let output = shell.output().expect("sh starts");
    assert!(output.status.success(), "{line}: {output:?}");
    assert_eq!(place.text("a b/ran.1"), "x\nx\n");
    assert_eq!(listed(&place, &[])[1]["tags"], serde_json::json!(["k=it is"]));
    assert_eq!(nanny(&place, &["rerun"]).stdout, "nothing to run again\n");
}

/// A job that fails at once, and later waits until it is told to go on.
const WAITING: &str =
    "echo x >> ran.$1; test -e patient || exit 3; until test -e go; do sleep 0.02; done";

#[test]
fn two_reruns_never_work_on_one_record_at_once() {
    let place = Place::new();
    prepare(&place, &format!("for i in 1 2; do cm sh -c '{WAITING}' sh $i; done"));
    place.write("patient", "");
    let mut first = place.nanny(["rerun", "-j", "2"]);
    let first = place.start_command_of(first.env("CHILDMINDER_CENTRAL_LOG", RECORD));
    wait_until("both run", || [1, 2].iter().all(|job| count_of_runs(&place, *job) == 2));
    let second = nanny(&place, &["rerun"]);
    assert_eq!(second.code(), 125, "{second:?}");
    assert!(second.stderr.contains("nanny: another rerun (pid "), "{second:?}");
    place.write("go", "");
    let first = first.end_without_log();
    assert_eq!(first.stdout, "2 jobs run again: 2 succeeded, 0 failed\n", "{first:?}");
    assert!([1, 2].iter().all(|job| count_of_runs(&place, *job) == 2));
}

#[test]
fn a_job_that_somebody_runs_is_left_alone() {
    let place = Place::new();
    prepare(&place, &format!("cm sh -c '{WAITING}' sh 1"));
    place.write("patient", "");
    let words = ["--central-log", RECORD, "sh", "-c", WAITING, "sh", "1"];
    let running = place.start_command(place.childminder(words));
    wait_until("it runs", || count_of_runs(&place, 1) == 2);
    wait_until("its start is recorded", || states(&place, &["--verdict", "running"]).len() == 1);
    // It has no end, and shows how long it has been running.
    let table = nanny(&place, &["runs", "--verdict", "running"]).stdout;
    let (heading, row) = table.split_once('\n').expect("two lines");
    let end = heading.find("TIME").expect("a heading") + "TIME".len();
    let age = row[..end].split_whitespace().next_back().expect("an age");
    assert!(age.ends_with('s') && age.starts_with(|c: char| c.is_ascii_digit()), "{table}");
    assert!(nanny(&place, &["why"]).stdout.contains("exit_nonzero"), "the one that failed");
    let id = listed(&place, &["--verdict", "running"])[0]["run_id"].as_str().map(str::to_owned);
    let why = nanny(&place, &["why", &id.expect("an id")]);
    assert!(why.stdout.contains(" UTC, running for "), "{why:?}");
    let done = nanny(&place, &["rerun"]);
    assert_eq!((done.code(), done.stdout.as_str()), (1, "nothing that can be to run again\n"));
    assert!(done.stderr.contains("it still runs"), "{done:?}");
    place.write("go", "");
    assert_eq!(running.end_without_log().code(), 0);
    let done = nanny(&place, &["rerun"]);
    assert_eq!((done.code(), done.stdout.as_str()), (0, "nothing to run again\n"), "{done:?}");
}

/// "stops cleanly on Ctrl-C, and is resumable".
#[test]
fn ctrl_c_stops_a_rerun_and_the_next_one_goes_on() {
    let place = Place::new();
    prepare(&place, &format!("for i in 1 2 3; do cm sh -c '{WAITING}' sh $i; done"));
    place.write("patient", "");
    let mut shell = Shell::bash(&place);
    shell.run(&format!("export CHILDMINDER_CENTRAL_LOG={RECORD}"));
    shell.type_line("nanny rerun");
    wait_until("the first runs", || count_of_runs(&place, 1) == 2);
    shell.press(CTRL_C);
    let answer = shell.prompt();
    assert_eq!(answer.status, 1, "{answer:?}");
    for words in [
        "SIGINT: nothing more is started; waiting for 1",
        "1 job run again: 0 succeeded, 1 failed; 2 not started",
    ] {
        assert!(answer.text.contains(words), "{answer:?}");
    }
    assert_eq!([1, 2, 3].map(|job| count_of_runs(&place, job)), [2, 1, 1]);
    place.write("go", "");
    let answer = shell.run("nanny rerun -j 2");
    assert_eq!(answer.status, 0, "{answer:?}");
    assert!(answer.text.contains("3 jobs run again: 3 succeeded, 0 failed"), "{answer:?}");
    assert_eq!([1, 2, 3].map(|job| count_of_runs(&place, job)), [3, 2, 2]);
    shell.leave();
}

/// A signal that nanny alone gets is passed on to what it started.
#[test]
fn sigterm_to_nanny_ends_its_jobs_as_well() {
    let place = Place::new();
    prepare(&place, &format!("cm sh -c '{WAITING}' sh 1; cm sh -c '{WAITING}' sh 2"));
    place.write("patient", "");
    let mut rerun = place.nanny(["rerun"]);
    let rerun = place.start_command_of(rerun.env("CHILDMINDER_CENTRAL_LOG", RECORD));
    wait_until("the first runs", || count_of_runs(&place, 1) == 2);
    rerun.signal("TERM");
    let done = rerun.end_without_log();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(done.stdout.starts_with("1 job run again: 0 succeeded, 1 failed; 1 not"), "{done:?}");
    assert_eq!(states(&place, &["-n", "1"]), ["stop_requested"]);
}

#[test]
fn what_cannot_be_repeated_is_refused_and_says_why() {
    let place = Place::new();
    prepare(
        &place,
        "mkdir gone; (cd gone; cm false); rm -r gone
         cm sh -c 'exit 1' sh --password=secret",
    );
    let done = nanny(&place, &["rerun"]);
    assert_eq!(done.code(), 1, "{done:?}");
    assert!(done.stderr.contains("a secret in its command line"), "{done:?}");
    assert!(done.stderr.contains("/gone is not there"), "{done:?}");
    assert!(!done.stdout.contains("secret") && !done.stderr.contains("=secret"), "{done:?}");
}

#[test]
fn runs_whose_childminder_was_killed_are_lost_and_found() {
    let place = Place::new();
    let words = ["--central-log", RECORD, "sh", "-c", "echo $$ > pid; exec sleep 300"];
    let running = place.start_command(place.childminder(words));
    wait_until("its start is recorded", || place.text(RECORD).contains(",start,"));
    assert_eq!(states(&place, &[]), ["running"]);
    let job: i32 = {
        wait_until("the job tells its pid", || place.text("pid").ends_with('\n'));
        place.text("pid").trim().parse().expect("a pid")
    };
    running.signal("KILL");
    drop(running);
    let collected = nanny(&place, &["collect"]);
    assert!(collected.stdout.contains("childminder is gone, the job still runs"), "{collected:?}");
    kill(job, "KILL");
    wait_until("the job is gone", || !is_alive(job));
    assert_eq!(states(&place, &["--lost"]), ["lost"], "known before anybody wrote it down");
    assert_eq!(states(&place, &["--failed"]), Vec::<String>::new());
    let collected = nanny(&place, &["collect"]);
    assert_eq!(collected.code(), 0, "{collected:?}");
    assert!(collected.stdout.contains("1 run without an end, 1 of them lost"), "{collected:?}");
    assert_eq!(states(&place, &["--failed"]), ["lost"]);
    assert!(nanny(&place, &["why"]).stdout.starts_with("sh: lost (likely): "));
    let twice = nanny(&place, &["collect"]);
    assert!(twice.stdout.contains("0 runs without an end"), "{twice:?}");
}

/// The rows of the record, to be changed as their own user.
fn change(place: &Place, change: impl Fn(usize, &mut Row)) {
    let uid = nix::unistd::geteuid().as_raw();
    let key = key::read(&place.state_home().join("childminder"), uid).ok();
    let text = fs::read(place.file(RECORD)).expect("a record");
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let mut changed = lines.next().expect("a header").to_vec();
    let header = Header::parse(&changed).expect("a header");
    for (number, line) in lines.enumerate() {
        let mut row = Row::parse(&header, line).expect("a row");
        change(number, &mut row);
        key.iter().for_each(|key| key.seal(&mut row));
        changed.extend(row.to_csv_line());
    }
    fs::write(place.file(RECORD), changed).expect("written");
}

/// A success under a clock that was fast hides no later failure, and the reverse offers no job again.
#[test]
fn the_rows_of_one_host_are_ordered_by_their_places() {
    let place = Place::new();
    prepare(&place, "touch fixed; cm sh -c \"$JOB\" sh 1; rm fixed; cm sh -c \"$JOB\" sh 1");
    let fast = |number: usize, row: &mut Row| {
        if number < 3 {
            row.set(Column::Time, "2099-01-01T00:00:00.000000Z");
        }
    };
    change(&place, fast);
    let dry = nanny(&place, &["rerun", "--dry-run"]);
    assert_eq!((dry.code(), dry.stdout.lines().count()), (0, 1), "{dry:?}");
    // Of two hosts only the times are known, and they contradict the places.
    change(&place, |number, row| {
        if number < 3 {
            row.set(Column::Host, "fast");
        }
    });
    let dry = nanny(&place, &["rerun", "--dry-run"]);
    assert_eq!(dry.stdout, "", "{dry:?}");
    assert!(dry.stderr.contains("nanny: the clocks of fast and "), "{dry:?}");
    // The other way round.
    let place = Place::new();
    prepare(&place, "cm sh -c \"$JOB\" sh 1; touch fixed; cm sh -c \"$JOB\" sh 1");
    change(&place, fast);
    let done = nanny(&place, &["rerun"]);
    assert_eq!((done.code(), done.stdout.as_str()), (0, "nothing to run again\n"), "{done:?}");
}

#[test]
fn a_job_gets_the_umask_of_its_run() {
    let place = Place::new();
    prepare(&place, "umask 0137; cm sh -c 'umask >> masks; exit 3'; umask 0022");
    assert_eq!(listed(&place, &[])[0]["umask"], "0137");
    let done = nanny(&place, &["rerun"]);
    assert_eq!(done.stdout, "1 job run again: 0 succeeded, 1 failed\n", "{done:?}");
    assert_eq!(place.text("masks"), "0137\n0137\n");
}

/// A start that waits for the lock of the record, and then beside it, is a start.
#[test]
fn a_job_whose_first_row_waits_for_the_lock_is_seen() {
    let place = Place::new();
    prepare(&place, &format!("cm sh -c '{WAITING}' sh 1"));
    place.write("patient", "");
    let file = fs::OpenOptions::new().append(true).open(place.file(RECORD)).expect("a record");
    lock(&file, libc::F_WRLCK);
    let words = ["--central-log", RECORD, "sh", "-c", WAITING, "sh", "1"];
    let running = place.start_command(place.childminder(words));
    wait_until("it runs", || count_of_runs(&place, 1) == 2);
    let done = nanny(&place, &["rerun"]);
    assert!(done.stderr.contains("it still runs"), "{done:?}");
    assert_eq!((done.code(), count_of_runs(&place, 1)), (1, 2), "{done:?}");
    drop(file);
    place.write("go", "");
    assert_eq!(running.end_without_log().code(), 0);
}

/// RFC 4180: quotes around any cell, CR LF or LF, a byte order mark.
#[test]
fn a_record_that_another_program_saved_again_is_read() {
    let place = Place::new();
    prepare(&place, "cm --name 'a, \"b\"' sh -c 'exit 3' 'x \"y\"'; cm true");
    let text = place.text(RECORD);
    let mut saved = String::from("\u{feff}");
    for line in text.lines() {
        let header = Header::parse(text.lines().next().expect("a line").as_bytes());
        let cells: Vec<String> = match Row::parse(&header.expect("a header"), line.as_bytes()) {
            Ok(_) => csv_cells(line),
            Err(error) => panic!("{error}"),
        };
        let quoted: Vec<String> =
            cells.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect();
        saved.push_str(&quoted.join(","));
        saved.push('\n');
    }
    place.write(RECORD, &saved);
    assert_eq!(states(&place, &[]), ["exit_nonzero", "success"]);
    assert_eq!(listed(&place, &["--failed"])[0]["name"], "a, \"b\"");
    let dry = nanny(&place, &["rerun", "--dry-run"]);
    assert_eq!((dry.code(), dry.stdout.lines().count()), (0, 1), "the seals hold: {dry:?}");
    // What cannot be read may have failed: the answer is not whole.
    place.write(RECORD, &format!("{saved}\"torn\n"));
    let dry = nanny(&place, &["rerun", "--dry-run"]);
    assert_eq!((dry.code(), dry.stdout.lines().count()), (1, 1), "{dry:?}");
    assert!(dry.stderr.contains("skipped 1 line that cannot be read"), "{dry:?}");
}

/// The cells of a line of RFC 4180, another way than the program takes it apart.
fn csv_cells(line: &str) -> Vec<String> {
    let (mut cells, mut cell, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => cells.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    cells.push(cell);
    cells
}

#[test]
fn a_verdict_that_is_none_is_an_error() {
    let place = Place::new();
    prepare(&place, "cm false");
    let done = nanny(&place, &["runs", "--verdict", "typo"]);
    assert_eq!(done.code(), 125, "{done:?}");
    assert!(done.stderr.contains("'typo'") && done.stderr.contains("oom_killed"), "{done:?}");
    for since in ["yesterday", "monday", "2 hours ago", "20200101"] {
        assert_eq!(listed(&place, &["--since", since]).len(), 1, "{since}");
    }
    assert_eq!(listed(&place, &["--since", "20990101"]).len(), 0);
}

/// Only the run's own host can say what became of it, unless that is gone for good.
#[test]
fn runs_of_another_boot_are_lost_and_those_of_another_host_unfinished() {
    let place = Place::new();
    prepare(&place, "cm --name here true; cm --name there true");
    let host = nix::unistd::gethostname().expect("a name").to_string_lossy().into_owned();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    let is_start = |line: &&str| line.contains(",start,") || line.starts_with("schema,");
    let text = place.text(RECORD);
    let lines = text.split_inclusive('\n').filter(is_start).map(|line| {
        let other = "00000000-0000-4000-8000-000000000000";
        let elsewhere = line.contains(",there,");
        let line = line.replace(boot.trim(), other);
        if elsewhere { line.replace(&format!(",{host},"), ",elsewhere,") } else { line }
    });
    place.write(RECORD, &lines.collect::<String>());
    assert_eq!(states(&place, &[]), ["lost", "unfinished"]);
    let collected = nanny(&place, &["collect"]);
    assert!(collected.stdout.contains("2 runs without an end, 1 of them lost"), "{collected:?}");
    let why = nanny(&place, &["why"]);
    assert!(why.stdout.starts_with("here: lost (certain)"), "{why:?}");
    assert!(why.stdout.contains("  the host was booted since\n"), "{why:?}");
    assert!(nanny(&place, &["rerun", "--name", "there"]).stdout.starts_with("nothing"));
    let gone = nanny(&place, &["collect", "--host-gone", "elsewhere"]);
    assert!(gone.stdout.contains("1 run without an end, 1 of them lost"), "{gone:?}");
    assert_eq!(states(&place, &["--lost", "--host", "elsewhere"]), ["lost"]);
}

#[test]
fn what_is_listed_as_csv_is_a_record_itself() {
    let place = Place::new();
    prepare(&place, "cm --name 'a, \"b\"' sh -c 'exit 4'; cm true");
    let csv = nanny(&place, &["runs", "--failed", "--csv"]);
    place.write("failed.csv", &csv.stdout);
    let read = nanny(&place, &["runs", "--central-log", "failed.csv", "--json"]);
    let run: Value = serde_json::from_str(read.stdout.trim()).expect("one object");
    assert_eq!((&run["name"], &run["exit_code"]), (&"a, \"b\"".into(), &4.into()));
    let both = nanny(&place, &["runs", "--central-log", "failed.csv", "--central-log", RECORD]);
    assert_eq!(both.stdout.lines().count(), 3, "a run is listed once: {both:?}");
}

/// A text without the path of the place: rerun shows it, as its record has one name only.
fn relative(place: &Place, text: &str) -> String {
    text.replace(&format!("{}/", place.path().display()), "")
}

/// A record that was damaged loses what was damaged. That is reported once, with the place, and where
/// an answer depends on it the status is 1.
#[test]
fn lines_that_cannot_be_read_are_reported_and_make_the_status_1() {
    let place = Place::new();
    prepare(&place, "cm true; cm false; printf 'what is this\\n1,x\\n' >> all.csv");
    let skipped = "nanny: skipped 2 lines that cannot be read as rows, the first at all.csv:8: ";
    for (words, lines, told) in [
        (&["runs"][..], 3, "runs may be missing\n"),
        (&["runs", "--json"], 2, "runs may be missing\n"),
        (&["runs", "--csv"], 3, "runs may be missing\n"),
        (&["runs", "--batch", "none"], 0, "runs may be missing\nnanny: no run matches\n"),
        (&["rerun", "--dry-run"], 1, "runs may be missing\n"),
        (&["collect"], 1, "runs may be missing\n"),
        (
            &["why", "ffffffff"],
            0,
            "its rows may be among them\nnanny: no run has an id like 'ffffffff'\n",
        ),
    ] {
        let done = nanny(&place, words);
        let expected = (1, lines, format!("{skipped}{told}"));
        let found = (done.code(), done.stdout.lines().count(), relative(&place, &done.stderr));
        assert_eq!(found, expected, "{words:?}");
    }
    let why = nanny(&place, &["why"]);
    assert!(why.stdout.starts_with("false: exit_nonzero"), "{why:?}");
    assert_eq!(why.code(), 1);
    assert_eq!(why.stderr, format!("{skipped}a later failure may be among them\n"));
    // Of a run that was named and has its end nothing is missing.
    let runs = nanny(&place, &["runs", "--failed", "--json"]).stdout;
    let run: Value = serde_json::from_str(runs.trim()).expect("one object");
    let why = nanny(&place, &["why", run["run_id"].as_str().expect("an id")]);
    assert_eq!(why.stderr, format!("{skipped}the end of this run is not among them\n"));
    assert_eq!(why.code(), 0, "{why:?}");
}

/// What is older than the answer goes back does not matter to it.
#[test]
fn lines_that_are_older_than_the_answer_do_not_matter_to_it() {
    let place = Place::new();
    prepare(&place, "cm --name old true");
    change(&place, |_, row| row.set(Column::Time, "2020-01-01T00:00:00.000000Z"));
    let text = place.text(RECORD);
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines.insert(3, "torn\n");
    place.write(RECORD, &lines.concat());
    prepare(&place, "cm --name new false");
    let all = nanny(&place, &["runs"]);
    assert_eq!((all.code(), all.stdout.lines().count()), (1, 3), "{all:?}");
    assert!(all.stderr.ends_with("at all.csv:4: runs may be missing\n"), "{all:?}");
    let told = "nanny: skipped 1 line that cannot be read as rows, at all.csv:4: they are older than --since\n";
    for words in [&["runs", "--since", "1d"][..], &["rerun", "--dry-run", "--since", "1d"]] {
        let done = nanny(&place, words);
        let found = (done.code(), relative(&place, &done.stderr));
        assert_eq!(found, (0, told.to_owned()), "{words:?}: {done:?}");
    }
    // Behind the last old row there may be anything.
    place.write(RECORD, &format!("{}torn\n", place.text(RECORD)));
    assert_eq!(nanny(&place, &["runs", "--since", "1d"]).code(), 1);
}

#[test]
fn a_missing_record_gets_one_clear_line() {
    let place = Place::new();
    let none = Done::without_log(place.nanny(["runs"]).output().expect("nanny starts"));
    assert_eq!(none.code(), 125);
    assert!(none.stderr.contains("no record was named: give --central-log FILE"), "{none:?}");
    let missing = nanny(&place, &["why"]);
    assert_eq!(missing.code(), 125);
    assert_eq!(missing.stderr, "nanny: read all.csv: No such file or directory\n");
    prepare(&place, "cm true");
    let fine = nanny(&place, &["why"]);
    assert_eq!((fine.code(), fine.stderr.as_str()), (1, "nanny: no run has failed\n"));
    let failed = nanny(&place, &["runs", "--failed"]);
    assert_eq!((failed.code(), failed.stderr.as_str()), (1, "nanny: no run matches\n"));
    let id = nanny(&place, &["why", "ffffffff"]);
    assert_eq!(id.code(), 1, "{id:?}");
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let place = Place::new();
    prepare(&place, "for i in 1 2 3 4 5 6 7 8; do cm true; done");
    let mut script = place.shell(
        "for i in 1 2 3 4 5 6; do cat all.csv; done > big.csv
         { \"$NANNY\" --central-log big.csv runs --json; echo $? >&3; } 3>status | true",
    );
    let output = script.output().expect("sh starts");
    assert!(output.stderr.is_empty(), "{output:?}");
    let status = place.text("status");
    assert!(["0", "141"].contains(&status.trim()), "{status}");
}

#[test]
fn colours_are_for_terminals_that_want_them_and_lines_fit() {
    let place = Place::new();
    prepare(
        &place,
        "cm --batch night sh -c 'exit 1' 'a very long argument that no terminal has room for'",
    );
    assert!(!nanny(&place, &["runs"]).stdout.contains('\x1b'));
    let mut shell = Shell::bash(&place);
    shell.run(&format!("export CHILDMINDER_CENTRAL_LOG={RECORD} TERM=xterm"));
    for columns in [40, 60, 80, 132] {
        shell.run(&format!("stty rows 24 cols {columns}"));
        let why = shell.run("NO_COLOR=1 nanny why");
        let widest = why.text.lines().map(|line| line.trim_end().chars().count()).max();
        assert!(why.text.contains("  command "), "{why:?}");
        assert_eq!(why.text.matches("very").count(), 1, "the command is shown once: {why:?}");
        // A path is not broken.
        let is_path = |line: &&str| line.contains('/');
        let words = why.text.lines().filter(|line| !is_path(line)).map(|line| line.trim_end());
        assert!(words.clone().all(|line| line.chars().count() <= columns), "{widest:?} {why:?}");
        let coloured = shell.run("nanny runs --failed");
        assert!(coloured.text.contains("\x1b[31m"), "{coloured:?}");
        let plain = shell.run("NO_COLOR=1 nanny runs --failed");
        assert!(!plain.text.contains('\x1b'), "{plain:?}");
        let lines: Vec<&str> = plain.text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 2, "{plain:?}");
        assert!(lines.iter().all(|line| line.trim_end().chars().count() <= columns), "{plain:?}");
        for title in ["NAME", "VERDICT", "END", "TIME"] {
            assert!(lines[0].contains(title), "{columns}: {plain:?}");
        }
        assert!(lines[1].contains("sh") && lines[1].contains("exit_nonzero"), "{plain:?}");
    }
    shell.leave();
}

#[test]
fn a_report_is_one_page_about_all_runs() {
    let place = Place::new();
    prepare(
        &place,
        "cm --name '<b>good' true; cm sh -c 'exit 3'; cm sh -c 'kill -9 $$'
         cm --name goes sh -c 'echo > begun; read line < gate' & mkfifo gate; until [ -e begun ]; do :; done
         \"$NANNY\" --central-log all.csv report --output r.html; echo > gate; wait",
    );
    let page = place.text("r.html");
    for text in [
        "<dt>Runs</dt><dd>3</dd>",
        "2 (67 %)",
        "&lt;b&gt;good",
        "SIGKILL",
        "status 3",
        "<dt>Without an end</dt><dd>1</dd>",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(!page.contains("<b>good"), "{page}");
    // To standard output the same page, but for a terminal.
    let done = nanny(&place, &["report", "--name", "sh"]);
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(
        done.stdout.starts_with("<!doctype html>") && !done.stdout.contains("good"),
        "{done:?}"
    );
    let mut shell = Shell::bash(&place);
    let refused = shell.run(&format!("nanny --central-log {RECORD} report; echo =$?"));
    assert!(refused.text.contains("--output FILE") && refused.text.contains("=125"), "{refused:?}");
    shell.leave();
    let nothing = nanny(&place, &["report", "--name", "nobody", "-o", "none.html"]);
    assert_eq!((nothing.code(), nothing.stderr.as_str()), (1, "nanny: no run matches\n"));
    assert!(!place.file("none.html").exists());
    let there = nanny(&place, &["report", "-o", "no/such/x.html"]);
    assert!(there.code() == 125 && there.stderr.contains("no/such/x.html"), "{there:?}");
}

/// The counts of the three logs are those that their own status fields give.
#[test]
fn history_of_other_programs_becomes_a_record() {
    let place = Place::new();
    let logs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/swf");
    for (log, runs, failed, cancelled) in [
        ("LLNL-Atlas-2006-2.1-cln.swf.gz", 43_778, 10_431, 11_432),
        ("LANL-CM5-1994-4.1-cln.swf.gz", 122_060, 20_368, 0),
        ("KTH-SP2-1996-2.1-cln.swf.gz", 28_476, 7_946, 0),
    ] {
        let path = logs.join(log);
        if !path.exists() {
            support::skip("the import of a real log", &format!("{} is not there", path.display()));
            continue;
        }
        let path = path.display().to_string();
        let done = nanny(&place, &["import", "swf", &path, "--output", log]);
        let not_well = failed + cancelled;
        let expected = format!("{runs} runs, {not_well} failed: {log}\n");
        assert_eq!(
            (done.code(), done.stdout.as_str(), done.stderr.as_str()),
            (0, expected.as_str(), "")
        );
        for (verdict, count) in [("unknown", failed), ("stop_requested", cancelled)] {
            let words = ["--central-log", log, "runs", "--verdict", verdict, "--csv"];
            let rows = place.start_command(place.nanny(words)).end_without_log().stdout;
            assert_eq!(rows.lines().count().saturating_sub(1), count, "{log} {verdict}");
        }
    }
    place.write("joblog", "1\t:\t1795341600.1\t2.5\t0\t0\t3\t0\tfalse x\ntorn\n");
    let done = nanny(&place, &["import", "joblog", "joblog", "-o", "own.csv"]);
    assert_eq!((done.code(), done.stdout.as_str()), (1, "1 run, 1 failed: own.csv\n"));
    assert!(done.stderr.contains("joblog:2: not imported: 1 columns in place of 9"), "{done:?}");
    let before = place.text("own.csv");
    let again = nanny(&place, &["import", "joblog", "joblog", "-o", "own.csv"]);
    assert!(again.code() == 125 && again.stderr.contains("own.csv exists"), "{again:?}");
    assert_eq!(place.text("own.csv"), before);
    let nothing = nanny(&place, &["import", "pbs", "joblog", "-o", "none.csv"]);
    assert!(nothing.code() == 1 && !place.file("none.csv").exists(), "{nothing:?}");
    let left = fs::read_dir(place.path()).expect("a directory");
    let names = left.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
    assert!(names.filter(|name| name.contains("tmp")).count() == 0, "no temporary file stays");
}

/// Runs of one user on 8 hosts, of which one is sick; in the form of a record that other programs wrote.
fn record_with_a_sick_host(place: &Place) {
    let mut text = b"run_id,event,time,host,user,name,verdict,exit_code\r\n".to_vec();
    for number in 0..4800_u32 {
        let (host, minute) = (number % 8, number * 6);
        let is_failed = (number / 8) % if host == 5 { 4 } else { 40 } == 0;
        let (day, hour, minute) = (1 + minute / 1440, minute / 60 % 24, minute % 60);
        let time = format!("2026-11-{day:02}T{hour:02}:{minute:02}:00.000000Z");
        let (verdict, code) = if is_failed { ("exit_nonzero", 3) } else { ("success", 0) };
        let run = format!(
            "019a0000-0000-7000-8000-{number:012x},end,{time},n{host},ann,sim-{number:05},{verdict},{code}\r\n"
        );
        text.extend_from_slice(run.as_bytes());
    }
    fs::write(place.file(RECORD), text).expect("a record");
}

#[test]
fn patterns_name_the_sick_host() {
    let place = Place::new();
    record_with_a_sick_host(&place);
    let done = nanny(&place, &["patterns"]);
    assert_eq!((done.code(), done.stderr.as_str()), (0, ""), "{done:?}");
    assert!(done.stdout.starts_with("4800 runs, 255 failed (5.3 %)\n"), "{done:?}");
    for text in ["  host n5: fails ", "150 of 600 runs", "scontrol update NodeName=n5 State=DRAIN"]
    {
        assert!(done.stdout.contains(text), "{text}: {}", done.stdout);
    }
    assert_eq!(done.stdout.matches("host n").count(), 1, "{}", done.stdout);
    let json = nanny(&place, &["patterns", "--json"]);
    let lines: Vec<Value> =
        json.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&lines[0]["runs"], &lines[0]["bad"]), (&4800.into(), &255.into()));
    let factor = lines.iter().find(|line| line["kind"] == "factor").expect("a factor");
    assert_eq!(
        (&factor["factor"], &factor["value"], &factor["bad"]),
        (&"host".into(), &"n5".into(), &150.into())
    );
    let ratio = factor["risk_ratio"].as_f64().expect("a number");
    assert!((8.0..14.0).contains(&ratio), "{factor}");
    // Any two sets: the first day against the second.
    let sets = ["patterns", "--bad", "before=2026-11-02", "--against", "since=2026-11-02"];
    let days = nanny(&place, &sets);
    assert!(days.stdout.starts_with("4800 runs, 240 were chosen (5.0 %)"), "{days:?}");
    let none = nanny(&place, &["patterns", "--name", "nobody"]);
    assert_eq!((none.code(), none.stderr.as_str()), (1, "nanny: no run matches\n"));
}

/// The manual page has every command and every option.
#[test]
fn the_manual_page_names_all_that_can_be_typed() {
    let page = include_str!("../deploy/man/nanny.1").replace("\\-", "-");
    for word in childminder::internals::vocabulary() {
        assert!(page.contains(&word), "nanny.1 lacks {word}");
    }
    for status in ["0", "1", "125"] {
        assert!(page.contains(&format!(".B {status}\n")), "nanny.1 lacks status {status}");
    }
}
