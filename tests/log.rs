//! DESIGN, section 8, 'Log': where it is, how its lines look, and that trouble with it is the
//! log's alone.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use support::{Done, Place, is_header, kill, messages, skip, verdicts, wait_until};

fn host() -> String {
    nix::unistd::gethostname().expect("a host name").to_string_lossy().into_owned()
}

fn are_digits(text: &str, count: usize) -> bool {
    text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Takes a line apart: its time, its span in microseconds, and its message.
fn parsed<'a>(line: &'a str, host: &str) -> (&'a str, u64, &'a str) {
    let parts = || {
        let (time, rest) = line.split_once(" [+")?;
        let (span, rest) = rest.split_once("](")?;
        let message = rest.strip_prefix(host)?.strip_prefix("): ")?;
        let (date, clock) = time.split_once('T')?;
        let (clock, micros) = clock.split_once('.')?;
        let (seconds, fraction) = span.split_once('.')?;
        let is_time = are_digits(date, 8) && are_digits(clock, 6) && are_digits(micros, 6);
        let is_span = are_digits(seconds, seconds.len()) && are_digits(fraction, 6);
        let span = seconds.parse::<u64>().ok()? * 1_000_000 + fraction.parse::<u64>().ok()?;
        (is_time && is_span && !message.is_empty()).then_some((time, span, message))
    };
    parts().unwrap_or_else(|| panic!("no line of the log: {line:?}"))
}

/// The present in UTC as the log writes it.
fn utc(place: &Place) -> String {
    let output = place.command("date").args(["-u", "+%Y%m%dT%H%M%S.%6N"]).output();
    String::from_utf8_lossy(&output.expect("date starts").stdout).trim().to_owned()
}

/// Every number becomes N.
fn without_numbers(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        match c.is_ascii_digit() {
            true if shown.ends_with('N') => {}
            true => shown.push('N'),
            false => shown.push(c),
        }
    }
    shown
}

/// "Log: `<log dir>/<command>-<host>-<pid, 6 digits>.txt`, as the original."
#[test]
fn the_log_is_named_after_command_host_and_our_pid() {
    for (options, directory, word, name) in [
        (&[][..], "log", "/bin/sh", "sh"),
        (&["-l", "logs/of/mine"], "logs/of/mine", "sh", "sh"),
        (&["-w", "sub", "-l", "l"], "sub/l", "./a job", "a job"),
        (&["-w", "sub", "-f", "0.000001"], "sub/log", "math-int", "math-int"),
    ] {
        let place = Place::new();
        fs::create_dir(place.file("sub")).expect("a directory");
        symlink("/bin/sh", place.file("sub/a job")).expect("a link");
        let mut command = place.childminder(options.iter().chain(&[word]));
        let mut child = command.spawn().expect("it starts");
        assert!(child.wait().expect("our child").success());
        let file = format!("{directory}/{name}-{}-{:06}.txt", host(), child.id());
        assert!(place.file(&file).is_file(), "{file} in {:?}", place.contents().keys());
    }
}

/// "An existing file of that name is never overwritten (`-2`, `-3`... before `.txt`)."
#[test]
fn a_log_that_exists_is_stepped_over() {
    let place = Place::new();
    // The pid stays the same over exec, so the name is known before.
    let script = "mkdir log; p=log/true-$(uname -n)-$(printf %06d $$); echo precious > $p.txt; \
         ln -s nowhere $p-2.txt; echo $p > name; exec \"$CM\" true";
    assert_eq!(place.shell(script).status().expect("sh starts").code(), Some(0));
    let name = place.text("name").trim().to_owned();
    assert_eq!(place.text(&format!("{name}.txt")), "precious\n");
    assert!(place.file(&format!("{name}-2.txt")).is_symlink());
    assert!(place.text(&format!("{name}-3.txt")).contains("verdict: success"));
    assert_eq!(fs::read_dir(place.file("log")).expect("the directory").count(), 3);
}

/// "Lines: `YYYYMMDDTHHMMSS.uuuuuu [+S.uuuuuu](host): message`, UTC"
#[test]
fn every_line_has_time_in_utc_span_host_and_message() {
    let place = Place::new();
    let before = utc(&place);
    let mut command = place.childminder(["-s", "-t", "1", "--backoff", "50ms..50ms"]);
    command.args(["sh", "-c", "kill -KILL $$"]).env("TZ", "Pacific/Kiritimati");
    assert_eq!(place.run_command(command).code(), 137);
    let after = utc(&place);
    let (log, host) = (place.log(), host());
    assert!(log.ends_with('\n'));
    let lines: Vec<_> = log.lines().map(|line| parsed(line, &host)).collect();
    assert!(lines.len() > 8, "{log}");
    assert!(before.as_str() <= lines[0].0 && lines[lines.len() - 1].0 <= after.as_str(), "{log}");
    for pair in lines.windows(2) {
        assert!(pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1, "{pair:?}");
    }
    // The span is time that passed: here the wait before the restart.
    let at = |words: &str| lines.iter().find(|line| line.2.contains(words)).expect(words).1;
    let restarted = lines.iter().rfind(|line| line.2.contains(" started in ")).expect("attempts").1;
    assert!(restarted - at("restarting:") >= 50_000, "{log}");
}

/// "The messages that the original wrote keep its words": those of a whole run, in their order.
#[test]
fn a_run_reads_as_the_original_wrote_it() {
    let place = Place::new();
    // A run of more than 10 ms tells which evidence is in force, if it is sampled.
    let done = place.run(["--sample", "0", "sh", "-c", "exit 3"]);
    let shown: Vec<String> = done.log.iter().map(|line| without_numbers(line)).collect();
    assert_eq!(shown[0], "child sh -c 'exit N' started in process N");
    assert!(shown[1].starts_with("trapped SIGHUP SIGINT "), "{shown:?}");
    assert_eq!(shown[2], "child N exited with status N");
    assert_eq!(
        shown[3],
        "child N rusage info -- system time: N.Ns, user time: N.Ns, memory: Nk, \
         minor/major page faults: N / N, swaps: N, signals: N, I/O: N / N, \
         in/voluntary context switches: N / N"
    );
    assert_eq!(shown[4..], ["verdict: exit_nonzero (certain): exit status N"]);
    let pid = done.log[0].rsplit(' ').next().expect("a pid");
    assert_eq!(done.log[2], format!("child {pid} exited with status 3"));
    assert!(done.log[3].starts_with(&format!("child {pid} rusage info -- ")));
}

/// The first line says what is run, by whom and where, in either form.
#[test]
fn the_log_begins_with_what_is_run() {
    let options = ["-s", "--name", "a b", "--log-format"];
    for (format, field) in [("text", ""), ("json", "\"event\":\"runs\"")] {
        let place = Place::new();
        let mut command = place.childminder(options.iter().chain(&[format, "sh", "-c", "exit 0"]));
        command.env("TZ", "Asia/Tokyo").output().expect("it starts");
        let log = place.log();
        let first = log.lines().next().expect("a line");
        let directory = place.path().display();
        let uid = nix::unistd::geteuid();
        for words in [
            &format!(
                "childminder {} runs sh -c 'exit 0' in {directory}",
                env!("CARGO_PKG_VERSION")
            ),
            &format!(" as user {uid} ("),
            " with options ",
            "'--name=a b' --restart-signalled",
            "; times are UTC",
            field,
        ] {
            assert!(first.contains(words), "no {words} in {first}");
        }
    }
    let place = Place::new();
    place.run(["true"]);
    assert!(
        place.log().lines().next().expect("a line").ends_with(" without options; times are UTC")
    );
}

/// "each line is one write": what many jobs say to one pipe stays in lines.
#[test]
fn verdicts_of_parallel_jobs_do_not_mix() {
    let place = Place::new();
    let script = "for i in 1 2 3 4 5 6 7 8; do \"$CM\" --name job$i sh -c \"exit $i\" & done; wait";
    let done = Done::without_log(place.shell(script).output().expect("sh starts"));
    let mut told = verdicts(&done.stderr);
    told.sort_unstable();
    assert_eq!((told.len(), done.stderr.lines().count()), (8, 8), "{done:?}");
    for (index, (name, said)) in told.iter().enumerate() {
        let number = index + 1;
        assert!(name.starts_with(&format!("job{number}[")), "{done:?}");
        assert!(said.starts_with(&format!("exit_nonzero (certain): exit status {number} (log: ")));
    }
}

/// "Trapped: 1 to 64 except SIGKILL, SIGSTOP and the two glibc keeps (32, 33); the log lists them
/// by name (the original lost half to an alias bug)."
#[test]
fn the_log_lists_sixty_trapped_signals_by_name() {
    let place = Place::new();
    let done = place.run(["true"]);
    let names: Vec<&str> = done.message("trapped ").split(' ').skip(1).collect();
    assert_eq!(names.len(), 60, "{names:?}");
    let standard = "HUP INT QUIT ILL TRAP ABRT BUS FPE USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD \
         CONT TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";
    let standard: Vec<String> = standard.split(' ').map(|name| format!("SIG{name}")).collect();
    assert_eq!(names[..29], standard);
    assert_eq!((names[29], names[30], names[59]), ("SIGRTMIN", "SIGRTMIN+1", "SIGRTMAX"));
}

/// "With `stderr` or `stdout` no directory and no file are made."
#[test]
fn a_log_on_a_stream_makes_no_file() {
    for (target, options) in
        [("stderr", &[][..]), ("stdout", &[]), ("stderr", &["-d"]), ("stdout", &["-d"])]
    {
        let place = Place::new();
        // A run of more than 10 ms tells which evidence is in force, if it is sampled.
        let job = ["--sample", "0", "sh", "-c", "echo mine; exit 3"];
        let done = place.run(["-l", target].iter().chain(options).chain(&job));
        assert_eq!(done.code(), 3);
        assert_eq!(place.contents().len(), 0, "{target}");
        let log = if target == "stderr" { &done.stderr } else { &done.stdout };
        let lines: Vec<&str> = log.lines().filter(|line| *line != "mine").collect();
        let mut shown: Vec<&str> = lines.iter().map(|line| parsed(line, &host()).2).collect();
        // A job that lasts longer than usual has that line as well.
        shown.retain(|message| !message.starts_with("evidence in force"));
        assert_eq!(shown.len(), 6, "{done:?}");
        assert!(is_header(shown[0]), "{shown:?}");
        assert!(shown[5].starts_with("verdict: exit_nonzero"), "{shown:?}");
        assert_eq!(done.stdout.lines().filter(|line| *line == "mine").count(), 1);
        let told = if target == "stderr" { 0 } else { 1 };
        assert_eq!(verdicts(&done.stderr).len(), told, "{done:?}");
    }
}

/// A job that ends well after a process of it was killed whose parent had gone before.
const LOSES_ONE: &str = "( sh -c 'until [ -e gone ]; do sleep 0.02; done; kill -KILL $$' & ); \
    echo > gone; until grep -q '): [o]rphan ' log/*; do sleep 0.02; done";

/// "`-d` removes it only after exit status 0 with nothing lost."
#[test]
fn the_log_is_deleted_after_a_full_success_only() {
    let logs_after = |job: &[&str]| {
        let place = Place::new();
        let done = place.run(["-d"].iter().chain(job));
        (done.code(), place.logs().len())
    };
    assert_eq!(logs_after(&["true"]), (0, 0));
    assert_eq!(logs_after(&["sh", "-c", "exit 1"]), (1, 1));
    assert_eq!(logs_after(&["sh", "-c", "kill -KILL $$"]), (137, 1));
    assert_eq!(logs_after(&["./missing"]), (127, 1));
    assert_eq!(
        logs_after(&[
            "--timeout",
            "0.1",
            "sh",
            "-c",
            "trap 'exit 0' TERM; while :; do sleep 0.05; done"
        ]),
        (124, 1)
    );
    assert_eq!(logs_after(&["sh", "-c", LOSES_ONE]), (0, 1));
    assert_eq!(logs_after(&["-f", "0.000001", "math-int"]), (0, 0));
}

/// Section 7: "One line that ends the log, and stderr when the job failed"
#[test]
fn the_verdict_ends_the_log_and_is_told_when_the_job_failed() {
    let cases: [(&[&str], &str, bool); 6] = [
        (&["true"], "success (certain): exit status 0", false),
        (&["sh", "-c", "exit 3"], "exit_nonzero (certain): exit status 3", true),
        (&["sh", "-c", "kill -ABRT $$"], "crashed (likely): SIGABRT", true),
        (&["./missing"], "exec_failed (certain): ", true),
        (&["sh", "-c", LOSES_ONE], "success_with_losses (certain): exit status 0; ", true),
        (&["-s", "-t", "1", "--backoff", "0..0", "sh", "-c", "kill -KILL $$"], "", true),
    ];
    for (words, verdict, is_told) in cases {
        let place = Place::new();
        let mut command = place.shell("ulimit -c 0; exec \"$CM\" \"$@\"");
        command.arg("sh").args(words);
        let done = place.run_command(command);
        assert!(done.verdict().starts_with(verdict), "{words:?}: {done:?}");
        let log = &place.logs()[0];
        let attempt = if words.contains(&"-s") { "attempt 2; " } else { "" };
        let told = format!("{} ({attempt}log: {})", done.verdict(), log.display());
        let (name, said) = verdicts(&done.stderr).last().copied().unwrap_or_default();
        assert_eq!(said == told, is_told, "{done:?}");
        let job = done.log.iter().rev().find_map(|line| line.split_once(" started in process "));
        let whose = job.map(|(_, pid)| format!("{}[{pid}]", if is_told { "sh" } else { "" }));
        assert!(!is_told || name == whose.as_deref().unwrap_or("missing"), "{done:?}");
        assert!(is_told || done.stderr.is_empty(), "{done:?}");
    }
}

/// The same run with a log in either form.
fn in_both_forms(words: &[&str]) -> (Vec<String>, Vec<serde_json::Value>) {
    let logged = |format: &str| {
        let place = Place::new();
        let mut command: Command = place.childminder(["--log-format", format, "--sample", "0"]);
        command.args(words).output().expect("it starts");
        place.log()
    };
    let json = logged("json");
    let object = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    (messages(&logged("text")), json.lines().map(object).skip(1).collect())
}

/// "`--log-format text|json`": one object a line, with the message of the text and its parts.
#[test]
fn the_json_log_says_the_same_in_fields() {
    let cases: [&[&str]; 5] = [
        &["sh", "-c", "exit 3", "a\n\u{1}\"\\b"],
        &["--restart-on", "exit:75", "-t", "1", "--backoff", "0..0", "sh", "-c", "exit 75"],
        &["--timeout", "0.1", "sh", "-c", "exec sleep 300"],
        &["./missing"],
        &["-f", "0.05", "sleep"],
    ];
    for words in cases {
        let (text, json) = in_both_forms(words);
        let message = |line: &serde_json::Value| line["message"].as_str().expect("text").to_owned();
        let said: Vec<String> = json.iter().map(|line| without_numbers(&message(line))).collect();
        let expected: Vec<String> = text.iter().map(|line| without_numbers(line)).collect();
        assert_eq!(said, expected, "{words:?}");
        for line in &json {
            let time = line["time"].as_str().expect("text");
            assert_eq!(without_numbers(time), "N-N-NTN:N:N.NZ");
            assert!(line["elapsed_seconds"].as_f64().is_some_and(|span| span >= 0.0), "{line}");
            assert_eq!(line["host"], host());
            assert!(line["event"].is_string(), "{line}");
            if line["event"] == "started" {
                let pid = line["pid"].as_i64().expect("a number");
                assert!(message(line).ends_with(&format!(" process {pid}")), "{line}");
            }
        }
    }
    let (_, json) = in_both_forms(&["sh", "-c", "exit 3"]);
    let of = |event: &str| json.iter().find(|line| line["event"] == event).expect(event);
    assert_eq!(of("exited")["status"], 3);
    assert!(of("usage")["user_seconds"].is_number() && of("usage")["max_rss_kib"].is_number());
    assert_eq!(of("judged")["verdict"], "exit_nonzero");
}

/// A run in which nearly everything happens that can.
const EVENTFUL: &str = "
    [ $CHILDMINDER_ATTEMPT = 2 ] && exit 0
    ( sh -c 'until [ -e gone ]; do sleep 0.02; done; exit 4' & ); echo > gone
    setsid sleep 300 &
    kill -STOP $$
    until grep -q orphan_ended log/* && grep -q '\"received\"' log/*; do sleep 0.02; done
    kill -KILL $$";

/// "`--log-format text|json`": every event is one object.
#[test]
fn every_line_of_an_eventful_json_log_is_an_object() {
    let place = Place::new();
    let options = ["--log-format", "json", "-c", "-s", "--backoff", "0..0"];
    let mut command = place.childminder(options.iter().chain(&["sh", "-c", EVENTFUL]));
    let mut child = command.stderr(Stdio::null()).spawn().expect("it starts");
    let has = |event: &str| place.log().contains(&format!("\"event\":\"{event}\""));
    wait_until("the job was continued", || has("continue_confirmed"));
    // It asks nothing of the job.
    kill(i32::try_from(child.id()).expect("a pid"), "WINCH");
    assert_eq!(child.wait().expect("our child").code(), Some(0), "{}", place.log());
    for line in place.log().lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(object["message"].is_string() && object["event"].is_string(), "{line}");
    }
    for event in [
        "started",
        "trapped",
        "stopped",
        "continue_confirmed",
        "continued",
        "received",
        "forwarded",
        "orphan_ended",
        "signaled",
        "usage",
        "stragglers",
        "terminating",
        "restarting",
        "exited",
        "orphans_summary",
        "judged",
    ] {
        assert!(has(event), "no {event} in {}", place.log());
    }
}

/// One line for a job with a command of any length: a line stays one that a pipe takes whole.
#[test]
fn a_long_command_is_cut_in_the_log() {
    let place = Place::new();
    let long = "x".repeat(100_000);
    let done = place.run(["true", &long, &long]);
    let line = done.message(" started in process ");
    assert!(line.starts_with("child true xxx") && line.contains("xxx..."), "{line}");
    assert!(line.len() < 3000, "{} bytes", line.len());
}

/// "Telemetry, log and record trouble never change it": the trouble is told once, with the place
/// and the reason, and at most summed up at the end.
#[track_caller]
fn assert_told_once(done: &Done, target: &str) {
    let lines: Vec<&str> = done.stderr.lines().filter(|line| verdicts(line).is_empty()).collect();
    assert!(lines[0].starts_with("childminder: could not write log "), "{done:?}");
    assert!(lines[0].contains(target), "{done:?}");
    assert!(lines.len() <= 2, "{done:?}");
    if let Some(sum) = lines.get(1) {
        let count = sum.split(' ').find_map(|word| word.parse::<u32>().ok());
        assert!(count.is_some_and(|count| count < 30), "a storm of complaints: {done:?}");
    }
}

/// "Telemetry, log and record trouble never change it."
#[test]
fn a_log_beyond_the_file_size_limit_is_told_once() {
    for limit in ["0", "150", "900"] {
        let place = Place::new();
        let cm = support::program();
        let mut command = place.command("prlimit");
        command.arg(format!("--fsize={limit}")).arg(cm).args(["sh", "-c", "sleep 0.3; exit 3"]);
        let output = command.output().expect("prlimit starts");
        let done = Done::without_log(output);
        assert_eq!(done.code(), 3, "{limit}: {done:?}");
        assert_told_once(&done, "log/sh-");
    }
}

/// "Telemetry, log and record trouble never change it."
#[test]
fn a_log_that_nobody_reads_any_more_is_told_once() {
    let place = Place::new();
    let script = "{ until [ -e closed ]; do sleep 0.02; done; \
         \"$CM\" -l stdout sh -c 'sleep 0.3; exit 3' 2>told; echo $? > status; \
         } | { exec <&-; echo > closed; }";
    let done = place.run_command(place.shell(script));
    assert_eq!(place.text("status"), "3\n");
    assert_told_once(&Done { stderr: place.text("told"), ..done }, "stdout");
}

/// "Telemetry, log and record trouble never change it."
#[test]
fn a_full_disk_is_told_once() {
    let place = Place::new();
    let script = "mkdir full && mount -t tmpfs -o size=4k none full || exit 200; \
         head -c 4096 /dev/zero > full/filler; \"$CM\" -l full sh -c 'exit 3'";
    let mut command = place.shell("exec unshare -rm sh -c \"$0\"");
    let output = command.arg(script).output().expect("sh starts");
    let done = Done::without_log(output);
    if done.code() == 200 || done.stderr.contains("unshare") {
        return skip("a log on a full disk", "no mount namespace may be made here");
    }
    assert_eq!(done.code(), 3, "{done:?}");
    assert_told_once(&done, "full/sh-");
}
