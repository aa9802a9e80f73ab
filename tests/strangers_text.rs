//! SECURITY.md: text of strangers (answers, endpoints, paths, variables, output, records) reaches standard
//! error, logs, tables, JSON and CSV without anything that a terminal would obey, and forges no line.

mod support;

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

use support::{Done, Place};

/// Sets the title, clears the screen, C1 (in UTF-8), DEL, a bell, right-to-left, and two lines that look
/// like ours.
const EVIL: &str = "\x1b]0;title\x07\x1b[2J\u{9b}31m\u{7f}\u{202e}\r\
    childminder: sh[7]: success (certain): x\n20261122T165222.650415 [+0.000436](node7): verdict: success";

/// Nothing that a terminal obeys, but the ends of lines.
#[track_caller]
fn is_plain(what: &str, text: &str) {
    let is_odd = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!text.contains(is_odd), "{what}: {text:?}");
}

/// Each line on standard error and in the log is ours, and none is forged.
#[track_caller]
fn is_well(what: &str, place: &Place, done: &Done) {
    assert_eq!(done.code(), 3, "{what}: {done:?}");
    is_plain(what, &done.stderr);
    let is_ours = |line: &str| line.starts_with("childminder: ");
    assert!(done.stderr.lines().all(is_ours), "{what}: {done:?}");
    assert_eq!(done.stderr.matches("\nchildminder: sh[7]: success").count(), 0, "{what}: {done:?}");
    for log in place.logs() {
        let log = std::fs::read(log).expect("the log");
        let log = String::from_utf8(log).expect("a log is UTF-8");
        is_plain(what, &log);
        assert!(!log.contains("\n20261122T"), "{what}: {log}");
    }
}

const JOB: [&str; 3] = ["sh", "-c", "exit 3"];

fn run(
    place: &Place,
    options: &[&OsStr],
    job: &[&OsStr],
    change: impl FnOnce(&mut Command),
) -> Done {
    let mut command = place.childminder(options.iter().chain(job));
    change(&mut command);
    place.run_command(command)
}

fn words(words: &[&'static str]) -> Vec<&'static OsStr> {
    words.iter().map(|word| OsStr::new(*word)).collect()
}

/// Answers one request with a body, and then is gone.
fn answering(body: String) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("childminder comes");
        let mut buffer = [0; 65536];
        assert!(stream.read(&mut buffer).expect("a request") > 0);
        let length = body.len();
        write!(stream, "HTTP/1.1 400 Bad\r\ncontent-length: {length}\r\n\r\n{body}")
            .expect("it reads");
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    (address, thread)
}

#[test]
fn the_answer_of_a_pushgateway_is_shown_as_text() {
    for format in ["text", "json"] {
        let place = Place::new();
        let (address, thread) = answering(format!("{EVIL}\n"));
        let url = format!("http://{address}");
        let options = ["--log-format", format, "--pushgateway", &url].map(OsStr::new);
        let done = {
            let mut command = place.childminder(options.iter().chain(&words(&JOB)));
            command.env("LANG", "C.UTF-8");
            let output = command.output().expect("it starts");
            Done::without_log(output)
        };
        thread.join().expect("it answered");
        assert!(done.stderr.contains(": it answered 400"), "{done:?}");
        is_well("a Pushgateway", &place, &done);
    }
}

#[test]
fn variables_and_options_are_shown_as_text() {
    let variables = [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_TRACES_EXPORTER",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_METRIC_EXPORT_INTERVAL",
        "OTEL_CONFIG_FILE",
    ];
    for name in variables {
        let place = Place::new();
        let done =
            run(&place, &words(&["--otel-flush-timeout", "300ms"]), &words(&JOB), |command| {
                command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:9").env(name, EVIL);
            });
        is_well(name, &place, &done);
    }
    let evil = OsStr::new(EVIL);
    for option in [
        "--pushgateway",
        "--textfile-directory",
        "--web.file-sd",
        "--web.config.file",
        "--web.listen-address",
        "--central-log",
        "--name",
        "--batch",
    ] {
        let place = Place::new();
        let mut options = vec![OsStr::new("--otel-flush-timeout"), OsStr::new("300ms")];
        if option.starts_with("--web.") {
            options.extend(words(&["--web.listen-address", "127.0.0.1:0"]));
        }
        options.extend([OsStr::new(option), evil]);
        let mut command = place.childminder(options.iter().chain(&words(&JOB)));
        let done = Done::without_log(command.output().expect("it starts"));
        is_plain(option, &done.stderr);
        let is_ours = |line: &str| line.starts_with("childminder: ");
        assert!(done.stderr.lines().all(is_ours), "{option}: {done:?}");
        match done.code() {
            // What makes no sense at all is refused.
            125 => assert_eq!(done.stderr.lines().count(), 1, "{option}: {done:?}"),
            _ => is_well(option, &place, &done),
        }
    }
}

#[test]
fn what_the_job_is_called_and_writes_is_shown_as_text() {
    for format in ["text", "json"] {
        let place = Place::new();
        let script = "printf '%s\\n' \"$1\" >&2; kill -USR1 $PPID; exit 3";
        let mut job = words(&["sh", "-c"]);
        job.extend([OsStr::new(script), OsStr::new("sh"), OsStr::new(EVIL)]);
        let options = ["--log-format", format, "-e", "errors", "--forward", "none"].map(OsStr::new);
        let mut command = place.childminder(options.iter().chain(&job));
        let done = Done::without_log(command.output().expect("it starts"));
        is_well(format, &place, &done);
        let program = OsString::from_vec(b"./\x1b[2J\xff\xc2\x9b\n\xe2\x80\xae".to_vec());
        let place = Place::new();
        let options = ["--log-format", format].map(OsStr::new);
        let mut command = place.childminder(options.iter().copied().chain([program.as_os_str()]));
        let done = Done::without_log(command.output().expect("it starts"));
        assert_eq!(done.code(), 127, "{done:?}");
        is_plain("a program", &done.stderr);
        let log = std::fs::read_to_string(&place.logs()[0]).expect("a log of UTF-8");
        is_plain("its log", &log);
        assert_eq!(log.lines().count(), done_lines(&log), "{log}");
        is_plain("its name", &place.logs()[0].to_string_lossy());
    }
}

/// The lines that begin as each line of a log does.
fn done_lines(log: &str) -> usize {
    log.lines().filter(|line| line.starts_with('{') || line.starts_with("20")).count()
}

/// JSON has text only: a file of any name is told all the same.
#[test]
fn files_of_any_name_are_in_the_log() {
    for format in ["text", "json"] {
        let place = Place::new();
        let name = OsStr::from_bytes(b"f\xff\x1b[2J\xe2\x80\xae\n20261122T");
        let script = "exec 4> \"$1\"; sleep 1; exit 3";
        let options = ["--log-format", format, "--files", "--sample", "50ms"].map(OsStr::new);
        let job = words(&["sh", "-c"]);
        let more = [OsStr::new(script), OsStr::new("sh"), name];
        let mut command = place.childminder(options.iter().chain(&job).chain(&more));
        let done = Done::without_log(command.output().expect("it starts"));
        is_well("a file", &place, &done);
        let log = std::fs::read_to_string(&place.logs()[0]).expect("a log of UTF-8");
        assert!(log.contains("written by process"), "{log}");
    }
}

/// A record that somebody wrote by hand.
#[test]
fn a_record_is_shown_as_text() {
    let place = Place::new();
    let evil = "\x1b]0;title\x07\u{9b}2J\u{7f}\u{202e}\rx";
    let id = "01900000-0000-7000-8000-000000000001";
    let header =
        "run_id,event,time,host,name,batch,verdict,confidence,evidence,command,log_file,user";
    let row = format!(
        "{id},end,2026-11-22T16:52:22Z{evil},h{evil},n{evil},b{evil},exit_nonzero,c{evil},e{evil},sh{evil},/l{evil},u{evil}"
    );
    place.write("record.csv", &format!("{header}\r\n{row}\r\n"));
    for command in [
        &["runs"][..],
        &["runs", "--csv"],
        &["runs", "--json"],
        &["runs", "--failed"],
        &["why"],
        &["why", id],
        &["rerun", "--dry-run"],
    ] {
        let mut nanny = place.nanny(command);
        nanny.env("CHILDMINDER_CENTRAL_LOG", "record.csv");
        let output = nanny.output().expect("it starts");
        assert!(output.status.code() < Some(2), "{command:?}: {output:?}");
        let done = Done::without_log(output);
        is_plain(&format!("{command:?}"), &done.stdout.replace("\r\n", "\n"));
        is_plain(&format!("{command:?}"), &done.stderr);
        if command.contains(&"--json") {
            let value: serde_json::Value = serde_json::from_str(&done.stdout).expect("JSON");
            assert_eq!(value["name"], format!("n{evil}"), "{done:?}");
        }
        if command[0] == "runs" {
            assert!(done.stdout.contains("exit_nonzero"), "{command:?}: {done:?}");
        }
    }
}

/// A program may be called anything: its name is in the metrics, and they are looked at in terminals.
#[test]
fn what_is_published_is_shown_as_text() {
    let place = Place::new();
    let name = "j\x1b[2J\u{9b}\u{7f}\u{202e}\t";
    place.executable(name, "#!/bin/sh\n: > ready; until test -e go; do sleep 0.02; done; exit 3\n");
    let options = ["--textfile-directory", ".", "--web.file-sd", "jobs.json"];
    let listen = ["--web.listen-address", "127.0.0.1:0", "-l", "stderr"];
    let program = format!("./{name}");
    let words = options.into_iter().chain(listen).chain([program.as_str()]);
    let running = place.start(words);
    support::wait_until("the job is announced", || {
        place.file("ready").exists() && place.text("jobs.json").contains("127.0.0.1:")
    });
    let announced = place.text("jobs.json");
    is_plain("jobs.json", &announced);
    let list: serde_json::Value = serde_json::from_str(&announced).expect("JSON");
    assert_eq!(list[0]["labels"]["job_name"], name, "{announced}");
    let address = list[0]["targets"][0].as_str().expect("an address").to_owned();
    let get = |path: &str, accept: &str| {
        let mut stream = std::net::TcpStream::connect(&address).expect("it is served");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer in UTF-8");
        answer.replace("\r\n", "\n")
    };
    for (path, accept, expected) in [
        ("/metrics", "text/plain", r#"job_name="j\\x1b[2J\\x9b\\x7f\\x202e\\t""#),
        ("/metrics", "application/openmetrics-text", r#"job_name="j\\x1b[2J\\x9b\\x7f\\x202e\\t""#),
        ("/status.json", "*/*", r"\u009b\u007f\u202e"),
        ("/", "*/*", "<html"),
    ] {
        let answer = get(path, accept);
        assert!(answer.contains(expected), "{path}: {answer}");
        is_plain(path, &answer);
    }
    place.write("go", "");
    let done = running.end_without_log();
    assert_eq!(done.code(), 3, "{done:?}");
    is_plain("standard error", &done.stderr);
    let files =
        std::fs::read_dir(place.path()).expect("ours").map(|entry| entry.expect("an entry"));
    let files: Vec<_> =
        files.filter(|file| file.path().extension() == Some(OsStr::new("prom"))).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let text = std::fs::read_to_string(files[0].path()).expect("the text file");
    assert!(text.contains(r#"job_name="j\\x1b[2J"#), "{text}");
    is_plain("the text file", &text);
}
