//! DESIGN, section 2: "Bad usage: one line on stderr saying what and why, then how to get help;
//! exit 125; the job is not started; nothing is created." And the forms that are good usage.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::{Done, Place, is_root, skip};

/// The job of a bad line; it must not run.
const JOB: [&str; 2] = ["touch", "ran"];

/// Each option with a bad value, and what the message must name.
const BAD_VALUES: [(&str, &str, &str); 41] = [
    ("-t", "-1", "-1"),
    ("-t", "1.5", "1.5"),
    ("-t", "4294967296", "4294967296"),
    ("-t", "", "--n-restart"),
    ("--n-restarts", "many", "many"),
    ("--timeout", "0", "--timeout"),
    ("--timeout", "-1", "-1"),
    ("--timeout", "1e3", "1e3"),
    ("--timeout", "nan", "nan"),
    ("--timeout", "inf", "inf"),
    ("--timeout", "5 s", "5 s"),
    ("--timeout", "99999999999999999999999d", "ten years"),
    ("--timeout", "", "--timeout"),
    ("--kill-after", "soon", "soon"),
    ("--kill-after", "-1s", "'-1"),
    ("--stable", "3 days", "3 days"),
    ("--backoff", "5", "--backoff"),
    ("--backoff", "9..1", "--backoff"),
    ("--backoff", "1..", "--backoff"),
    ("--backoff", "0..9999999d", "ten years"),
    ("--forward", "FOO", "FOO"),
    ("--forward", "TERM,,HUP", "--forward"),
    ("--forward", "KILL", "SIGKILL"),
    ("--forward", "STOP", "SIGSTOP"),
    ("--forward", "0", "'0'"),
    ("--forward", "65", "65"),
    ("--forward", "32", "SIG32"),
    ("--forward", "RTMIN+31", "RTMIN+31"),
    ("--restart-on", "sunspots", "sunspots"),
    ("--restart-on", "exit:256", "exit:256"),
    ("--restart-on", "exit:", "exit:"),
    ("--restart-on", "signal:FOO", "FOO"),
    ("--restart-on", "exit:1,sunspots", "sunspots"),
    ("--never-on", "moon", "moon"),
    ("--stragglers", "adopt", "adopt"),
    ("--log-format", "xml", "xml"),
    ("-l", "", "--log-directory"),
    ("-o", "", "--output"),
    ("-w", "", "--working-directory"),
    ("-f", "-5", "-5"),
    ("-f", "long", "long"),
];

/// "one line on stderr saying what and why, then how to get help"
#[test]
fn a_bad_value_is_named_with_its_reason() {
    for (option, value, name) in BAD_VALUES {
        let place = Place::new();
        let line = place.refused(place.childminder([option, value].iter().chain(&JOB)));
        assert!(line.contains(name), "{option} {value}: {line}");
        assert!(line.contains("childminder --help"), "{option} {value}: {line}");
    }
}

/// "one line on stderr saying what and why, then how to get help"
#[test]
fn a_line_that_asks_for_nothing_sensible_is_refused() {
    let cases: [(&[&str], &str); 18] = [
        (&[], "command"),
        (&["-c"], "command"),
        (&["--"], "command"),
        (&[""], "empty"),
        (&["-c", "", "x"], "empty"),
        (&["--bogus", "touch", "ran"], "'--bogus'"),
        (&["-Z", "touch", "ran"], "'-Z'"),
        (&["-cZ", "touch", "ran"], "'-Z'"),
        (&["-c=yes", "touch", "ran"], "'-="),
        (&["-o"], "--output"),
        (&["--timeout"], "--timeout"),
        (&["-t"], "--n-restart"),
        (&["-q", "touch", "ran"], "-q"),
        (&["--stop-on", "INT", "touch", "ran"], "--stop-on"),
        (&["-f", "1"], "function"),
        (&["-f", "1", "mathematics"], "'mathematics'"),
        (&["-f", "1", "sleep", "9"], "'9'"),
        (&["-f", "1", "--stop-on", "INT,KILL", "sleep"], "SIGKILL"),
    ];
    for (words, name) in cases {
        let place = Place::new();
        let line = place.refused(place.childminder(words));
        assert!(line.contains(name), "{words:?}: {line}");
        assert!(line.contains("childminder --help"), "{words:?}: {line}");
    }
}

/// "one line on stderr": whatever was typed.
#[test]
fn control_characters_of_a_bad_line_do_not_reach_the_terminal() {
    let cases: [&[&str]; 7] = [
        &["--bo\ngus", "x"],
        &["-t", "1\n2\x1b[2J", "x"],
        &["--timeout", "1\n2\x1b[2J", "x"],
        &["--restart-on", "a\r\nb", "x"],
        &["--log-format", "\x07", "x"],
        &["-f", "1", "no\nsuch\x1b[2J"],
        &["-f", "1", "sleep", "a\nb"],
    ];
    for words in cases {
        let place = Place::new();
        place.refused(place.childminder(words));
    }
}

/// "Every new option also reads CHILDMINDER_<OPTION> from the environment": a bad value there is a
/// mistake that nobody typed, so the message says where it comes from.
#[test]
fn a_bad_variable_is_named() {
    for (name, value) in [
        ("CHILDMINDER_TIMEOUT", "soon"),
        ("CHILDMINDER_TIMEOUT", "0"),
        ("CHILDMINDER_KILL_AFTER", "-1"),
        ("CHILDMINDER_STABLE", "x"),
        ("CHILDMINDER_BACKOFF", "9..1"),
        ("CHILDMINDER_FORWARD", "TERM,FOO"),
        ("CHILDMINDER_RESTART_ON", "exit:1,sunspots"),
        ("CHILDMINDER_NEVER_ON", "exit:256"),
        ("CHILDMINDER_STRAGGLERS", "adopt"),
        ("CHILDMINDER_LOG_FORMAT", "xml"),
        ("CHILDMINDER_APPEND", "perhaps"),
        ("CHILDMINDER_NEW_SESSION", "perhaps"),
    ] {
        let place = Place::new();
        let mut command = place.childminder(JOB);
        command.env(name, value);
        let line = place.refused(command);
        assert!(line.contains(name), "{name}={value}: {line}");
    }
}

/// "Every new option also reads CHILDMINDER_<OPTION> from the environment, so a site can set a
/// default once."
#[test]
fn variables_set_options_and_what_is_typed_wins() {
    let place = Place::new();
    let with = |name: &str, value: &str, words: &[&str]| {
        let mut command = place.childminder(["-l", "stderr"].iter().chain(words));
        command.env(name, value);
        place.run_command(command)
    };
    let long = ["sh", "-c", "exec sleep 300"];
    assert_eq!(with("CHILDMINDER_TIMEOUT", "200ms", &long).code(), 124);
    let typed = ["--timeout", "1h", "sh", "-c", "exit 3"];
    assert_eq!(with("CHILDMINDER_TIMEOUT", "1us", &typed).code(), 3);
    let fails = ["--backoff", "0..0", "-t", "1", "sh", "-c", "exit 3"];
    let done = with("CHILDMINDER_RESTART_ON", "exit:2,exit:3", &fails);
    assert_eq!(done.stderr.matches(" started in process ").count(), 2, "{done:?}");
    let done = with("CHILDMINDER_LOG_FORMAT", "json", &["true"]);
    assert!(done.stderr.starts_with('{'), "{done:?}");

    // Also where no option is typed at all.
    let mut command = place.childminder(["sh", "-c", "exec sleep 300"]);
    command.env("CHILDMINDER_TIMEOUT", "0.2");
    assert_eq!(place.run_command(command).code(), 124);
}

/// "so a site can set a default once": for functions, without harm to jobs.
#[test]
fn a_default_for_functions_does_not_keep_jobs_from_running() {
    let place = Place::new();
    let mut command = place.childminder(["sh", "-c", "exit 3"]);
    command.env("CHILDMINDER_STOP_ON", "INT");
    let done = place.run_command(command);
    assert_eq!(done.code(), 3, "{done:?}");
}

/// "the job is not started; nothing is created": the log directory.
#[test]
fn a_log_directory_that_cannot_be_used_is_refused() {
    let too_long = format!("new/deeper/{}", "x".repeat(300));
    for (directory, reason) in [
        (too_long.as_str(), "file name too long"),
        ("file", "not a directory"),
        ("file/deeper/log", "not a directory"),
        ("/proc", ""),
        ("/proc/childminder/log", "no such file or directory"),
        ("/dev/full", "not a directory"),
    ] {
        let place = Place::new();
        place.write("file", "precious");
        for words in [&JOB[..], &["-f", "0.1", "sleep"]] {
            let line = place.refused(place.childminder(["-l", directory].iter().chain(words)));
            // The absolute path, and the option.
            let path = place.file(directory);
            assert!(line.contains(&format!("'{}' (-l)", path.display())), "{line}");
            assert!(line.to_lowercase().contains(reason), "{line}");
        }
    }
}

/// "125 | ... (usage, a log directory that was asked for)"
#[test]
fn a_log_directory_without_permission_is_refused() {
    if is_root() {
        return skip("a log directory without permission", "root may write anywhere");
    }
    for words in [&["-l", "shut"][..], &["-l", "shut/new"]] {
        let place = Place::new();
        fs::create_dir(place.file("shut")).expect("a directory");
        fs::set_permissions(place.file("shut"), fs::Permissions::from_mode(0o555)).expect("ours");
        let line = place.refused(place.childminder(words.iter().chain(&JOB)));
        assert!(line.contains("Permission denied"), "{words:?}: {line}");
        assert!(line.contains("/shut") && line.contains(" (-l)"), "{words:?}: {line}");
    }
}

/// "A default `log` that cannot be made is one line on stderr, the log goes there, and the job runs"
#[test]
fn a_default_log_that_cannot_be_made_goes_to_standard_error() {
    // A file of that name hinders root as well.
    let place = Place::new();
    place.write("log", "");
    let done = place.childminder(["sh", "-c", "echo ran; exit 3"]).output().expect("it starts");
    let done = Done::without_log(done);
    assert_eq!((done.code(), done.stdout.as_str()), (3, "ran\n"), "{done:?}");
    let (first, log) = done.stderr.split_once('\n').expect("lines");
    let told = format!("childminder: make a log file in '{}': ", place.file("log").display());
    assert!(first.starts_with(&told) && first.contains("-l DIR"), "{done:?}");
    assert!(log.ends_with("verdict: exit_nonzero (certain): exit status 3\n"), "{done:?}");
    assert!(log.lines().all(|line| line.contains(" [+")), "{done:?}");
    // One that was asked for is needed, also under that name.
    let line = place.refused(place.childminder(["-l", "log", "touch", "ran"]));
    assert!(line.contains("/log' (-l): "), "{line}");
}

/// Section 4: "control characters escaped". A command may hold any byte but NUL.
#[test]
fn a_command_with_control_characters_is_logged_on_one_harmless_line() {
    let place = Place::new();
    let awkward = "a\nb\r\x1b[2J\x07\u{9b}31m\u{202e}\\'\"";
    let done = place.run(["printf", "%s|", awkward, "", "x y"]);
    assert_eq!((done.code(), done.stdout), (0, format!("{awkward}||x y|")), "{:?}", done.log);
    let log = place.log();
    // Every line was one with time and host, or `run` would have failed.
    assert!(!log.contains(|c: char| c.is_control() && c != '\n'), "{log:?}");
    let is_direction_mark = |c: char| ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!log.contains(is_direction_mark), "{log:?}");
    assert!(log.contains("child printf "), "{log}");
}

/// Section 4: "control characters escaped": also in the name of what cannot be executed, which is
/// told on stderr as well.
#[test]
fn a_missing_command_with_control_characters_is_told_on_one_harmless_line() {
    let place = Place::new();
    let done = place.childminder(["./no\nsuch\x1b[2J"]).output().expect("it starts");
    assert_eq!(done.status.code(), Some(127));
    for text in [String::from_utf8_lossy(&done.stderr).into_owned(), place.log()] {
        assert!(text.contains("no\\nsuch"), "{text:?}");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
    assert_eq!(place.log().lines().count(), 3, "{}", place.log());
}

/// "the first word that is not an option is the job"
#[test]
fn words_behind_the_command_are_the_jobs_own() {
    let place = Place::new();
    let show = "printf '%s|' \"$@\"";
    let own = ["-c", "--help", "--", "-t", "x", "--version"];
    for options in [&[][..], &["-c"], &["-cs", "-t2"], &["-d", "--"]] {
        let job = ["sh", "-c", show, "sh"];
        let done = place.run(["-l", "stderr"].iter().chain(options).chain(&job).chain(&own));
        assert_eq!(done.stdout, "-c|--help|--|-t|x|--version|", "{options:?}: {done:?}");
        assert_eq!(done.code(), 0);
    }
}

/// "`-h --help`": on standard output, with every heading, and nothing is created.
#[test]
fn help_and_version_are_shown_and_nothing_is_made() {
    let place = Place::new();
    for (option, words) in [
        ("--help", "Usage: childminder"),
        ("-h", "Exit status:"),
        ("--version", "childminder "),
        ("-V", env!("CARGO_PKG_VERSION")),
    ] {
        let done = place.run([option, "touch", "ran"]);
        assert_eq!((done.code(), done.stderr.as_str()), (0, ""), "{option}");
        assert!(done.stdout.contains(words), "{option}: {}", done.stdout);
        assert_eq!(place.contents().len(), 0);
    }
}

/// Section 3, "125 | childminder itself could not do what was asked": no other number means that.
#[test]
fn help_that_cannot_be_written_is_a_failure_of_our_own() {
    let place = Place::new();
    let done = place.run_command(place.shell("exec \"$CM\" --help > /dev/full"));
    assert_eq!(done.code(), 125, "{done:?}");
}

/// Section 3: the number is told also where nothing else can be.
#[test]
fn closed_and_full_standard_streams_change_no_status() {
    for streams in [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"] {
        for (words, status) in [
            ("--bogus", 125),
            ("-i missing true", 125),
            ("sh -c 'exit 3'", 3),
            ("sh -c 'kill -TERM $$'", 143),
            ("./missing", 127),
            ("-l stderr sh -c 'exit 3'", 3),
            ("-l stdout sh -c 'exit 3'", 3),
            ("-l stderr ./missing", 127),
            ("-f 0.01 sleep", 0),
        ] {
            let place = Place::new();
            let done = place.run_command(place.shell(&format!("exec \"$CM\" {words} {streams}")));
            assert_eq!(done.code(), status, "{words} {streams}: {done:?}");
        }
    }
}
