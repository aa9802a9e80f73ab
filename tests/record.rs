//! DESIGN, section 8: the central record. "Never loses a row silently, never tears one".

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "tests start programs, read the clock and speak to each other on stdout"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use childminder::internals::Recorder;
use childminder::internals::shell;
use childminder::internals::time::Moment;
use childminder::internals::{Column, Header, Row};
use childminder::internals::{Kept, Writer};
use support::{Done, Place, is_root, kill, lock, skip, wait_until};

/// The variable that makes an actor of the test executable: what to do, and with what.
const ACTOR: &str = "MINDED_RECORD_ACTOR";

fn now() -> Moment {
    static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    Moment(BEGIN.get_or_init(Instant::now).elapsed())
}

/// The rows of a file; each line of it must be one.
#[track_caller]
fn rows_of(path: &Path) -> Vec<Row> {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text.ends_with(b"\r\n"), "the last line of {} is torn", path.display());
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let header = Header::parse(lines.next().expect("a header")).expect("a header of a record");
    let row = |line: &[u8]| {
        let shown = String::from_utf8_lossy(line).into_owned();
        Row::parse(&header, line).unwrap_or_else(|error| panic!("{error}: {shown}"))
    };
    lines.map(row).collect()
}

fn events(rows: &[Row]) -> Vec<String> {
    rows.iter().map(|row| row.text(Column::Event).into_owned()).collect()
}

/// A row of a writer that is not a childminder.
fn row(id: &str) -> Row {
    let mut row = Row::default();
    row.set(Column::RunId, id);
    row.set(Column::Event, "end");
    row.set(Column::Time, "2026-11-22T15:59:59.000042Z");
    row.set(Column::Command, "x".repeat(200));
    row
}

fn writer(file: &Path, name: &str) -> Writer {
    Writer::new(file, name.to_owned(), now)
}

fn spool_of(file: &Path) -> PathBuf {
    file.with_extension("csv.d")
}

/// The files beside a record.
fn spooled(file: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(spool_of(file)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).append(true).create(true).open(path).expect("opened")
}

/// Does as it is told if it is an actor, and nothing as a test.
#[test]
fn actor() {
    let Some(told) = std::env::var_os(ACTOR) else { return };
    let told = told.into_string().expect("text");
    let words: Vec<&str> = told.split(' ').collect();
    match words[..] {
        ["hold", file] => {
            let file = open(Path::new(file));
            lock(&file, libc::F_WRLCK);
            println!("ready");
            // Until whoever told us goes away.
            std::io::stdin().read_to_end(&mut Vec::new()).expect("a pipe");
        }
        ["write", file, name, count, acks, patience] => {
            let patience = Duration::from_millis(patience.parse().expect("a number"));
            let mut writer = writer(Path::new(file), name).patient(patience);
            let mut acks = open(Path::new(acks));
            for number in 0..count.parse().expect("a number") {
                let id = format!("{name}:{number}");
                writer.keep(&[row(&id), row(&format!("{id}b"))]).expect("kept");
                acks.write_all(format!("{id}\n{id}b\n").as_bytes()).expect("told");
            }
        }
        _ => panic!("{told}"),
    }
}

fn act(place: &Place, told: &str) -> Child {
    let mut command = place.command(std::env::current_exe().expect("ourselves"));
    command.args(["--exact", "actor", "--nocapture"]).env(ACTOR, told);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("an actor")
}

/// "Never loses a row silently, never tears one": 256 writers, half of which are killed at any
/// moment; every fourth has no patience with the lock, so that spools are made and merged all the time.
#[test]
fn what_was_acknowledged_is_there_once_whoever_is_killed() {
    const WRITERS: usize = 256;
    let place = Place::new();
    let file = place.file("r.csv");
    let mut actors = Vec::new();
    for index in 0..WRITERS {
        let patience = if index % 4 == 0 { 0 } else { 60_000 };
        let acks = place.file(&format!("acks-{index}"));
        let told = format!("write {} w{index} 12 {} {patience}", file.display(), acks.display());
        // Each is to die after another number of rows, most of them in the midst of something.
        let dies_after = (index % 2 == 0).then_some(index * 7 % 24);
        actors.push((act(&place, &told), acks, dies_after));
    }
    let acknowledged = |acks: &Path| -> Vec<String> {
        fs::read_to_string(acks).unwrap_or_default().lines().map(str::to_owned).collect()
    };
    wait_until("those who are to die have written enough", || {
        for (child, acks, dies_after) in &mut actors {
            if dies_after.is_some_and(|count| acknowledged(acks).len() >= count) {
                child.kill().expect("our child");
                *dies_after = None;
            }
        }
        actors.iter().all(|(_, _, dies_after)| dies_after.is_none())
    });
    let mut promised = BTreeSet::new();
    for (index, (child, acks, _)) in actors.iter_mut().enumerate() {
        let status = child.wait().expect("our child");
        assert!(index % 2 == 0 || status.success(), "writer {index}: {status}");
        promised.extend(acknowledged(acks));
    }
    // Whoever comes next brings in what was spooled.
    let mut last = writer(&file, "last");
    for number in 0..20 {
        last.keep(&[row(&format!("last:{number}"))]).expect("kept");
    }
    let mut seen = BTreeMap::new();
    for row in rows_of(&file) {
        *seen.entry(row.text(Column::RunId).into_owned()).or_insert(0) += 1;
        assert_eq!(row.get(Column::Command).len(), 200);
    }
    assert!(promised.len() > WRITERS / 2 * 24, "{} rows were acknowledged", promised.len());
    let lost: Vec<&String> = promised.iter().filter(|id| !seen.contains_key(*id)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}; beside: {:?}", spooled(&file));
    let doubled: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "doubled: {doubled:?}");
    // Unacknowledged are at most the two that each of the killed had in hand.
    assert!(seen.len() <= promised.len() + 20 + WRITERS, "{} rows", seen.len());
    let left = spooled(&file);
    let is_debris = |path: &PathBuf| {
        path.to_string_lossy().contains(".tmp") || path.extension().is_some_and(|end| end == "torn")
    };
    assert!(left.iter().all(is_debris), "{left:?}");
}

/// "one row `start` written just after the job was started, one row `attempt` per ended attempt, one
/// row `end`": of many runs at once.
#[test]
fn fifty_runs_at_once_have_their_three_rows_each() {
    let place = Place::new();
    let script = "i=0; while [ $i -lt 50 ]; do \
        \"$CM\" --central-log r.csv --name n$i sh -c \"exit $((i % 3))\" 2>>errors & i=$((i + 1)); \
        done; wait";
    let done = place.run_command(place.shell(script));
    assert!(done.status.success(), "{done:?}");
    let mut runs: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows_of(&place.file("r.csv")) {
        runs.entry(row.text(Column::RunId).into_owned()).or_default().push(row);
    }
    assert_eq!(runs.len(), 50, "{}", place.text("errors"));
    for rows in runs.values() {
        assert_eq!(events(rows), ["start", "attempt", "end"]);
        let number: u8 = rows[0].text(Column::Name)[1..].parse().expect("a number");
        assert_eq!(rows[0].get(Column::ExitCode), b"");
        for row in &rows[1..] {
            assert_eq!(row.number(Column::ExitCode), Some(number % 3));
            let verdict = if number.is_multiple_of(3) { "success" } else { "exit_nonzero" };
            assert_eq!(row.text(Column::Verdict), verdict);
        }
    }
    assert_eq!(spooled(&place.file("r.csv")), Vec::<PathBuf>::new());
}

#[test]
fn an_attempt_has_one_row_also_if_the_wait_for_the_next_one_is_broken_off() {
    let place = Place::new();
    let options = ["--central-log", "r.csv", "-s", "--backoff", "60s..60s"];
    let running = place.start(options.iter().chain(&["sh", "-c", "kill -KILL $$"]));
    wait_until("the back-off", || {
        place
            .logs()
            .iter()
            .any(|log| fs::read_to_string(log).is_ok_and(|text| text.contains("restarting: ")))
    });
    running.signal("TERM");
    let done = running.end();
    assert_eq!(done.code(), 137, "{done:?}");
    assert!(done.log.last().is_some_and(|line| line.starts_with("verdict: ")), "{done:?}");
    assert_eq!(events(&rows_of(&place.file("r.csv"))), ["start", "attempt", "end"]);
    assert_eq!(done.stderr.matches("killed_by_process (").count(), 1, "once: {done:?}");
}

#[test]
fn a_row_says_what_was_asked_for_and_what_became_of_it() {
    let place = Place::new();
    let options = ["--central-log", "r.csv", "--batch", "night", "--tag", "team=a b", "-o", "out"];
    let job = ["-s", "-t", "1", "--backoff", "0..0", "sh", "-c", "kill -KILL $$", "--token=geheim"];
    let mut command = place.childminder(options.iter().chain(&job));
    command.env("SLURM_JOB_ID", "77").env("SLURM_MEM_PER_NODE", "4096");
    command.env("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let done = place.run_command(command);
    assert_eq!(done.code(), 137, "{done:?}");
    let text = place.text("r.csv");
    assert!(!text.contains("geheim"), "{text}");
    let rows = rows_of(&place.file("r.csv"));
    assert_eq!(events(&rows), ["start", "attempt", "attempt", "end"]);
    let attempts: Vec<_> = rows.iter().map(|row| row.number::<u32>(Column::Attempt)).collect();
    assert_eq!(attempts, [Some(1), Some(1), Some(2), Some(2)]);
    let end = &rows[3];
    let os = |words: &[&str]| Some(words.iter().map(std::ffi::OsString::from).collect::<Vec<_>>());
    assert_eq!(end.words(Column::Tags), os(&["team=a b"]));
    assert_eq!(end.words(Column::Command), os(&["sh", "-c", "kill -KILL $$", "--token=[hidden]"]));
    let expected = [
        (Column::Batch, "night"),
        (Column::Redacted, "true"),
        (Column::Output, "out"),
        (Column::ExitCode, ""),
        (Column::Signal, "9"),
        (Column::CoreDumped, "false"),
        // Without counters of OOM kills to be read it is unknown.
        (Column::Verdict, done.verdict().split(' ').next().expect("a word")),
        (Column::Restarts, "1"),
        (Column::Scheduler, "slurm"),
        (Column::SchedulerJob, "77"),
        (Column::SchedulerRequest, "SLURM_MEM_PER_NODE=4096"),
        (Column::TraceId, "4bf92f3577b34da6a3ce929d0e0e4736"),
    ];
    for (column, value) in expected {
        assert_eq!(end.text(column), value, "{}", column.name());
    }
    let directory = fs::canonicalize(place.path()).expect("it is there");
    assert_eq!(end.text(Column::WorkingDirectory), directory.to_string_lossy());
    assert!(Path::new(&*end.text(Column::LogFile)).is_file());
    let sum = |column| {
        rows[1..3].iter().map(|row| row.number::<f64>(column).expect("a number")).sum::<f64>()
    };
    let total: f64 = end.number(Column::UserSeconds).expect("a number");
    assert!((sum(Column::UserSeconds) - total).abs() < 1e-5);
}

/// "secrets in the command line redacted by default", and `--redact`.
#[test]
fn what_was_hidden_is_nowhere_in_the_record() {
    let place = Place::new();
    let options = ["--central-log", "r.csv", "--redact", "geheim*", "--tag", "token=geheim1"];
    let job = ["sh", "-c", "TOKEN=hush true --password hush", "geheim2", "x=geheim3"];
    assert_eq!(place.run(options.iter().chain(&job)).code(), 0);
    let text = place.text("r.csv");
    assert!(!text.contains("hush") && !text.contains("geheim1"), "{text}");
    assert!(!text.contains("geheim2") && !text.contains("geheim3"), "{text}");
    let rows = rows_of(&place.file("r.csv"));
    assert!(rows.iter().all(|row| row.text(Column::Redacted) == "true"));
    // The pattern itself is not a secret, and a rerun needs it.
    assert!(rows[0].text(Column::Options).contains("--redact=geheim*"), "{text}");
    let job = ["--central-log", "s.csv", "--redact", "geheim*", "true"];
    assert_eq!(place.run_command(place.childminder(job)).code(), 0);
    assert_eq!(rows_of(&place.file("s.csv"))[0].text(Column::Redacted), "false");
}

/// "`-f`": rows for the beginning and the end, named after the function.
#[test]
fn a_canary_has_two_rows() {
    let place = Place::new();
    let done = place.run(["--central-log", "r.csv", "-f", "0.05", "sleep"]);
    assert_eq!(done.code(), 0, "{done:?}");
    let rows = rows_of(&place.file("r.csv"));
    assert_eq!(events(&rows), ["start", "end"]);
    assert_eq!(rows[1].text(Column::Name), "sleep");
    assert_eq!(rows[1].number(Column::Calls), Some(1));
}

/// Who sent the signal that the job obeyed.
#[test]
fn the_sender_of_the_last_word_is_named() {
    let place = Place::new();
    let script = "trap 'exit 7' TERM; echo > ready; while :; do sleep 0.02; done";
    let running = place.start(["--central-log", "r.csv", "sh", "-c", script]);
    wait_until("the job is ready", || place.file("ready").exists());
    running.signal("TERM");
    assert_eq!(running.end().code(), 7);
    let rows = rows_of(&place.file("r.csv"));
    assert_eq!(rows[2].text(Column::Verdict), "stop_requested");
    assert_eq!(rows[2].number(Column::SenderUid), Some(nix::unistd::geteuid().as_raw()));
    assert!(rows[2].number::<i32>(Column::SenderPid).is_some_and(|pid| pid > 1));
}

/// What a run leaves when nothing can be kept anywhere: the rows in the log, and one line on standard error
/// that says where they are and what to do.
#[track_caller]
fn assert_told(place: &Place, done: &Done, code: i32, reason: &str) {
    assert_eq!(done.code(), code, "{done:?}");
    for event in [",start,", ",attempt,", ",end,"] {
        let is_it = |line: &str| line.contains("row") && line.contains(event);
        assert!(!done.stderr.lines().any(is_it), "{event}: {done:?}");
        assert!(place.log().lines().any(is_it), "{event}: {}", place.log());
    }
    let troubles = support::troubles(done);
    assert_eq!(troubles.len(), 1, "{done:?}");
    let log = &place.logs()[0];
    for words in [reason, &format!("row(s) are in {} alone", log.display()), "--central-log FILE"] {
        assert!(troubles[0].contains(words), "no {words}: {done:?}");
    }
}

/// `-d` keeps a log that has rows which are nowhere else.
#[test]
fn a_log_with_rows_that_are_nowhere_else_is_kept() {
    let place = Place::new();
    let done = place.run(["-d", "--central-log", "/dev/null/r.csv", "true"]);
    assert_told(&place, &done, 0, "/dev/null/r.csv");
}

/// What somebody planted there is not written to, and does not hold anybody up.
#[test]
fn links_fifos_and_strange_files_are_refused() {
    let place = Place::new();
    let victim = place.write("victim", "precious\n");
    symlink(&victim, place.file("link")).expect("a link");
    symlink("nowhere", place.file("dangling")).expect("a link");
    nix::unistd::mkfifo(&place.file("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    for (name, reason) in [
        ("link", "it is a symbolic link"),
        ("dangling", "it is a symbolic link"),
        ("fifo", "it is not a regular file"),
        ("victim", "it is not a record of childminder"),
        ("/dev/null", "it is not a regular file"),
        (".", "it is a directory"),
    ] {
        let done = place.run(["--central-log", name, "sh", "-c", "exit 3"]);
        assert_told(&place, &done, 3, reason);
        fs::remove_dir_all(place.file("log")).expect("a log");
    }
    assert_eq!(place.text("victim"), "precious\n");
    assert!(!place.file("nowhere").exists());
}

/// "another user's, in a directory that all may write to"
#[test]
fn a_file_of_another_user_is_refused_where_all_may_make_files() {
    if !is_root() {
        return skip("a file of another user", "only root can make one");
    }
    let place = Place::new();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o1777)).expect("ours");
    let file = place.file("r.csv");
    fs::write(&file, Header::ours().to_csv_line()).expect("written");
    std::os::unix::fs::chown(&file, Some(54321), Some(54321)).expect("root may");
    let before = fs::read(&file).expect("text");
    let done = place.run(["--central-log", "r.csv", "sh", "-c", "exit 3"]);
    assert_told(&place, &done, 3, "it is another user's");
    assert_eq!(fs::read(&file).expect("text"), before);
    // In a directory that not all may write to it is the group's.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    fs::remove_dir_all(place.file("log")).expect("a log");
    assert_eq!(place.run(["--central-log", "r.csv", "sh", "-c", "exit 3"]).code(), 3);
    assert_eq!(rows_of(&file).len(), 3);
}

/// The umask says who may write to it: that a group shares it is what it is for.
#[test]
fn a_new_file_is_as_the_umask_says() {
    let place = Place::new();
    for (umask, mode) in [("022", 0o644), ("002", 0o664), ("077", 0o600)] {
        let script = format!("umask {umask}; exec \"$CM\" --central-log {umask}.csv true");
        assert_eq!(place.run_command(place.shell(&script)).code(), 0);
        let meta = fs::metadata(place.file(&format!("{umask}.csv"))).expect("a record");
        assert_eq!(meta.mode() & 0o777, mode);
    }
}

/// logrotate moves the file away while the job runs.
#[test]
fn a_file_that_was_rotated_is_begun_anew() {
    let place = Place::new();
    let script = "echo > ready; until [ -e go ]; do sleep 0.02; done";
    let running = place.start(["--central-log", "r.csv", "sh", "-c", script]);
    let (file, old) = (place.file("r.csv"), place.file("r.csv.1"));
    wait_until("the first row is there", || fs::metadata(&file).is_ok_and(|meta| meta.len() > 0));
    fs::rename(&file, &old).expect("rotated");
    place.write("go", "");
    assert_eq!(running.end().code(), 0);
    assert_eq!(events(&rows_of(&old)), ["start"]);
    assert_eq!(events(&rows_of(&file)), ["attempt", "end"]);
}

/// The same, between the moment when a writer opened the file and that in which it gets the lock.
#[test]
fn a_file_that_was_rotated_under_a_waiting_writer_is_opened_again() {
    let place = Place::new();
    let (file, old) = (place.file("r.csv"), place.file("r.csv.1"));
    writer(&file, "a").keep(&[row("first")]).expect("kept");
    let held = open(&file);
    lock(&held, libc::F_WRLCK);
    let theirs = file.clone();
    let waiting = std::thread::spawn(move || {
        writer(&theirs, "b").patient(support::PATIENCE).keep(&[row("second")]).map(|_| ())
    });
    let is_open = || {
        let fds = fs::read_dir("/proc/self/fd").expect("proc");
        let links = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        // Ours, the one that it holds until the row is kept, and the one that it locks.
        links.filter(|link| link.starts_with(&file)).count() == 3
    };
    wait_until("the writer has opened the file", is_open);
    fs::rename(&file, &old).expect("rotated");
    drop(held);
    waiting.join().expect("no panic").expect("kept");
    assert_eq!(rows_of(&old).len(), 1);
    assert_eq!(rows_of(&file).len(), 1);
}

/// A file of another version: never rows of two widths in one file, and no cell lost.
#[test]
fn a_file_with_other_columns_is_respected() {
    let place = Place::new();
    let names: Vec<&str> = Column::ALL.iter().rev().map(|column| column.name()).collect();
    let wide = format!("of_the_future,{}\r\n", names.join(","));
    place.write("wide.csv", &wide);
    assert_eq!(place.run(["--central-log", "wide.csv", "true"]).code(), 0);
    assert!(place.text("wide.csv").starts_with(&wide));
    let rows = rows_of(&place.file("wide.csv"));
    assert_eq!(events(&rows), ["start", "attempt", "end"]);
    assert_eq!(rows[2].text(Column::Verdict), "success");

    let narrow = "schema,run_id,event,time,verdict\r\n0,x,end,T,success\r\n";
    place.write("narrow.csv", narrow);
    for _ in 0..2 {
        assert_eq!(
            place.run_command(place.childminder(["--central-log", "narrow.csv", "true"])).code(),
            0
        );
    }
    assert_eq!(place.text("narrow.csv"), narrow);
    let rows = rows_of(&place.file("narrow.csv.d/schema-3.csv"));
    assert_eq!(rows.len(), 6);
    assert_eq!(spooled(&place.file("narrow.csv")).len(), 1);
}

/// "torn last line mended by the next writer"
#[test]
fn a_torn_last_line_is_set_aside() {
    let place = Place::new();
    let file = place.file("r.csv");
    for (index, torn) in ["1,0190", "1,\"open", "\0\0\0", "é"].into_iter().enumerate() {
        writer(&file, &format!("a{index}")).keep(&[row("whole")]).expect("kept");
        open(&file).write_all(torn.as_bytes()).expect("written");
        writer(&file, &format!("b{index}")).keep(&[row("next")]).expect("kept");
        assert_eq!(place.text(&format!("r.csv.d/b{index}-1.torn")), torn);
    }
    assert_eq!(rows_of(&file).len(), 8);
    // Half of a line end: the row is whole.
    let text = fs::read(&file).expect("text");
    fs::write(&file, &text[..text.len() - 1]).expect("written");
    writer(&file, "c").keep(&[row("next")]).expect("kept");
    assert_eq!(rows_of(&file).len(), 9);
    // A file that was made and not written, or only begun.
    let header = Header::ours().to_csv_line();
    for length in [0, 1, 40, header.len() - 1, header.len()] {
        fs::write(&file, &header[..length]).expect("written");
        writer(&file, "d").keep(&[row("next")]).expect("kept");
        assert_eq!(rows_of(&file).len(), 1, "{length}");
    }
}

/// "Locked append (fcntl OFD lock, 2 s deadline ...)", "where the lock cannot be had ... the row goes
/// into its own file in `FILE.d/` ... and is merged by the next writer that gets the lock"
#[test]
fn a_lock_held_by_a_stopped_process_delays_nobody_for_long() {
    let place = Place::new();
    let file = place.file("r.csv");
    let mut holder = act(&place, &format!("hold {}", file.display()));
    let mut said = String::new();
    let mut output = holder.stdout.take().expect("a pipe");
    wait_until("the holder is ready", || {
        let mut byte = [0];
        if output.read(&mut byte).expect("a pipe") == 1 {
            said.push(char::from(byte[0]));
        }
        said.contains("ready")
    });
    let pid = i32::try_from(holder.id()).expect("a pid");
    kill(pid, "STOP");
    let begun = Instant::now();
    let done = place.run(["--central-log", "r.csv", "sh", "-c", "exit 3"]);
    let lasted = begun.elapsed();
    assert_eq!(done.code(), 3, "{done:?}");
    assert!(lasted >= Duration::from_secs(2), "it did not wait for the lock: {lasted:?}");
    // Twice the patience, or the deadline of five seconds on a busy machine.
    assert!(lasted < Duration::from_secs(15), "{lasted:?}");
    assert_eq!(done.stderr.matches("row").count(), 0, "{done:?}");
    assert!(place.log().contains("could not lock it"), "{}", place.log());
    let mut apart: Vec<String> = Vec::new();
    for path in spooled(&file) {
        apart.extend(events(&rows_of(&path)));
    }
    apart.sort();
    assert_eq!(apart, ["attempt", "end", "start"]);
    assert_eq!(fs::metadata(&file).expect("a file").len(), 0);

    kill(pid, "KILL");
    holder.wait().expect("our child");
    assert_eq!(place.run_command(place.childminder(["--central-log", "r.csv", "true"])).code(), 0);
    assert_eq!(rows_of(&file).len(), 6);
    assert!(!spool_of(&file).exists());
}

/// A merger may be killed anywhere: nothing is lost by it and nothing doubled.
#[test]
fn a_merge_that_was_interrupted_is_finished_exactly_once() {
    for in_file in 0..=3 {
        let place = Place::new();
        let file = place.file("r.csv");
        writer(&file, "a").keep(&[row("first")]).expect("kept");
        // What the merger was about to append, and how far it came.
        let rows: Vec<Row> = ["x", "y", "z"].into_iter().map(row).collect();
        let lines: Vec<Vec<u8>> = rows.iter().map(Row::to_csv_line).collect();
        let meta = fs::metadata(&file).expect("a file");
        let begun = format!("spool.{}.{}.merging", meta.ino(), meta.len());
        fs::create_dir(spool_of(&file)).expect("made");
        let text = [Header::ours().to_csv_line(), lines.concat()].concat();
        fs::write(spool_of(&file).join(begun), text).expect("written");
        open(&file).write_all(&lines[..in_file].concat()).expect("written");
        if in_file == 2 {
            open(&file).write_all(&lines[2][..50]).expect("written");
        }
        for _ in 0..2 {
            writer(&file, &format!("b{in_file}")).keep(&[row("next")]).expect("kept");
        }
        let mut ids: Vec<String> =
            rows_of(&file).iter().map(|row| row.text(Column::RunId).into_owned()).collect();
        ids.sort();
        assert_eq!(ids, ["first", "next", "next", "x", "y", "z"], "{in_file} were there");
        let left = spooled(&file);
        assert!(
            left.iter().all(|path| path.extension().is_some_and(|end| end == "torn")),
            "{left:?}"
        );
    }
}

/// What cannot be merged without loss is left alone.
#[test]
fn a_spool_of_a_later_version_stays_where_it_is() {
    let place = Place::new();
    let file = place.file("r.csv");
    let later = "run_id,event,time,of_the_future\r\nx,end,T,precious\r\n";
    let gone = "run_id,event,time\r\nx,end,T\r\n";
    fs::create_dir(spool_of(&file)).expect("made");
    fs::write(spool_of(&file).join("later.csv"), later).expect("written");
    // Its file was rotated: nobody knows whether the rows are in there.
    fs::write(spool_of(&file).join("gone.1.1.merging"), gone).expect("written");
    writer(&file, "a").keep(&[row("mine")]).expect("kept");
    assert_eq!(rows_of(&file).len(), 1);
    assert_eq!(spooled(&file).len(), 2);
}

/// A run in a mount namespace of its own, where `full` is a small filesystem; `None` if there may be
/// none.
fn in_namespace(place: &Place, script: &str) -> Option<Done> {
    let setup = "mkdir full && mount -t tmpfs -o size=16k none full || exit 200; ";
    let mut command = place.shell("exec unshare -rm sh -c \"$0\"");
    command.arg(format!("{setup}{script}"));
    let done = place.run_command(command);
    if done.status.code() == Some(200) || done.stderr.contains("unshare: ") {
        skip("a filesystem of a test's own", "no mount namespace may be made here");
        return None;
    }
    Some(done)
}

/// "where even that fails (disk full), the row goes to the log and stderr"
#[test]
fn on_a_full_disk_the_rows_are_told() {
    let place = Place::new();
    let script = "\"$CM\" -l stderr --central-log full/r.csv true 2>first; cp full/r.csv before; \
        cat /dev/zero > full/filler 2>/dev/null; \
        \"$CM\" --central-log full/r.csv sh -c 'exit 3' $(printf %01000d 0); status=$?; \
        cp full/r.csv after; ls -A full > listed; exit $status";
    let Some(done) = in_namespace(&place, script) else { return };
    assert_eq!(done.code(), 3, "{done:?}");
    let rows = rows_of(&place.file("after"));
    assert_eq!(rows_of(&place.file("before")).len(), 3);
    // Some found room in the last page of the file; the others are told whole.
    for event in ["start", "attempt", "end"] {
        let is_there = rows[3..].iter().any(|row| row.text(Column::Event) == event);
        let words = format!(",{event},");
        let is_told = |line: &str| line.contains("row") && line.contains(&words);
        assert!(!done.stderr.lines().any(is_told), "{event}: {done:?}");
        assert_ne!(is_there, place.log().lines().any(is_told), "{event}: {}", place.log());
    }
    assert!(rows.len() < 6, "the disk was not full");
    assert!(done.stderr.contains("could not write to it"), "{done:?}");
}

#[test]
fn on_a_read_only_disk_the_rows_are_told() {
    let place = Place::new();
    let script = "\"$CM\" -l stderr --central-log full/r.csv true 2>first; \
        mount -o remount,ro full || exit 200; \
        exec \"$CM\" --central-log full/r.csv sh -c 'exit 3'";
    let Some(done) = in_namespace(&place, script) else { return };
    assert_told(&place, &done, 3, "Read-only file system");
}

#[test]
fn without_permission_rows_go_into_the_folder_beside_it() {
    if is_root() {
        return skip("a file that may not be written", "root may write to every file");
    }
    let place = Place::new();
    let file = place.file("r.csv");
    fs::write(&file, Header::ours().to_csv_line()).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).expect("ours");
    assert_eq!(place.run(["--central-log", "r.csv", "true"]).code(), 0);
    let apart: usize = spooled(&file).iter().map(|path| rows_of(path).len()).sum();
    assert_eq!(apart, 3);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("ours");
    assert_eq!(place.run_command(place.childminder(["--central-log", "r.csv", "true"])).code(), 0);
    assert_eq!(rows_of(&file).len(), 6);
}

/// "Done away from the supervising thread": whatever hangs there ends nobody's patience but its own.
#[test]
fn rows_that_are_not_kept_in_time_come_back_whole() {
    let place = Place::new();
    let file = place.file("r.csv");
    let held = open(&file);
    lock(&held, libc::F_WRLCK);
    let base = || {
        let mut base = Row::default();
        base.set(Column::Host, "node7");
        base
    };
    let writer = writer(&file, "a").patient(support::PATIENCE);
    let recorder = Recorder::start(writer, Box::new(base)).expect("a thread");
    for id in ["x", "y"] {
        recorder.hand_over(row(id)).expect("there is room");
    }
    let account = recorder.finish(Duration::from_millis(50));
    assert_eq!(account.lost.len(), 2);
    for (row, reason) in &account.lost {
        assert_eq!(row.text(Column::Host), "node7");
        assert!(reason.contains("no answer within 0.05 seconds"), "{reason}");
    }
}

/// With `--central-sync` the rows are there all the same.
#[test]
fn rows_can_be_synced() {
    let place = Place::new();
    assert_eq!(place.run(["--central-sync", "--central-log", "r.csv", "true"]).code(), 0);
    assert_eq!(rows_of(&place.file("r.csv")).len(), 3);
    let mut synced = writer(&place.file("r.csv"), "a").synced(true);
    assert!(matches!(synced.keep(&[row("x")]), Ok(Kept::Shared)));
}

/// Another reader: Python's csv module.
fn as_python_reads(place: &Place, name: &str) -> Option<Vec<BTreeMap<String, String>>> {
    let script = "import csv, json, sys\n\
        rows = list(csv.DictReader(open(sys.argv[1], newline='', encoding='utf-8'), strict=True))\n\
        print(json.dumps(rows))";
    let output = place.command("python3").args(["-c", script, name]).output();
    match output {
        Ok(output) if output.status.success() => {
            Some(serde_json::from_slice(&output.stdout).expect("JSON of all rows"))
        }
        other => {
            skip("Python as a reader", &format!("python3 does not run here: {other:?}"));
            None
        }
    }
}

/// "newlines, control characters and formula injection (`=cmd`) are made harmless", and come back.
#[test]
fn nasty_text_is_harmless_to_other_readers_and_comes_back() {
    let place = Place::new();
    let nasty = ["=cmd|' /C calc'!A0", "+1", "-1", "@x", "a\nb\r\n,\"", "\t=1", "é\u{202e}", "'"];
    for text in nasty {
        let name = if text.contains(char::is_control) { "x" } else { text };
        let mut command = place.childminder(["--central-log", "r.csv", &format!("--name={name}")]);
        command.args([&format!("--tag=k={text}")[..], "-e=e", "sh", "-c", "exit 0", text]);
        if text.contains([',', '\n']) {
            // A list of tags cannot have a comma, nor a name a line end.
            command = place.childminder(["--central-log", "r.csv", "sh", "-c", "exit 0", text]);
        }
        assert_eq!(place.run_command(command).code(), 0, "{text}");
    }
    let rows = rows_of(&place.file("r.csv"));
    assert_eq!(rows.len(), 3 * nasty.len());
    for (rows, text) in rows.chunks(3).zip(nasty) {
        let words = rows[0].words(Column::Command).expect("words");
        assert_eq!(words[3], *text);
    }
    let lines = place.text("r.csv").lines().count();
    assert_eq!(lines, rows.len() + 1, "a row is one line");
    let Some(read) = as_python_reads(&place, "r.csv") else { return };
    assert_eq!(read.len(), rows.len());
    for (theirs, ours) in read.iter().zip(&rows) {
        assert_eq!(theirs.len(), Column::ALL.len());
        for (name, cell) in theirs {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{name}: {cell}");
        }
        let words = shell::split(&theirs["command"]);
        assert_eq!(words, ours.words(Column::Command));
    }
}

/// childminder-record(5).
const MANUAL: &str = include_str!("../deploy/man/childminder-record.5");

#[test]
fn the_manual_names_every_column() {
    let named: BTreeSet<&str> =
        MANUAL.lines().filter_map(|line| line.strip_prefix(".B ")).collect();
    for column in Column::ALL {
        assert!(named.contains(column.name()), "the manual does not name {}", column.name());
    }
}

/// No formatter has anything to say about any of the pages.
#[test]
fn the_manual_pages_are_well_formed() {
    let place = Place::new();
    let pages = [
        MANUAL,
        include_str!("../deploy/man/childminder.1"),
        include_str!("../deploy/man/nanny.1"),
    ];
    for (formatter, words) in [
        ("groff", &["-man", "-Tutf8", "-ww", "-z", "page"][..]),
        ("mandoc", &["-T", "lint", "-W", "warning", "page"]),
    ] {
        for page in pages {
            place.write("page", page);
            match place.command(formatter).args(words).output() {
                Ok(output) => {
                    let said = [output.stdout, output.stderr].concat();
                    let said = String::from_utf8_lossy(&said);
                    assert!(output.status.success() && said.is_empty(), "{formatter}: {said}");
                }
                Err(error) => skip("the manual pages", &format!("no {formatter}: {error}")),
            }
        }
    }
}

/// Section 7: "One line that ends the log". What is known by then about the rows stands before it, once.
#[test]
fn what_is_known_about_the_rows_is_said_before_the_verdict() {
    for words in
        [&["true"][..], &["-s", "-t", "2", "--backoff", "1ms..1ms", "sh", "-c", "kill -9 $$"]]
    {
        let place = Place::new();
        let directory = place.state_home().join("childminder");
        fs::create_dir_all(&directory).expect("a directory");
        // The key that rows are sealed with is none.
        fs::write(directory.join("seal.key"), "short").expect("written");
        let done = place.run(["--central-log", "r.csv"].iter().chain(words));
        assert_eq!(done.count("central log: rows have no seal"), 1, "{done:?}");
        assert!(done.log.last().is_some_and(|line| line.starts_with("verdict: ")), "{done:?}");
    }
}
