//! `--quiet-success`: cron's mail has something in it if, and only if, the run failed.

#![allow(missing_docs, reason = "the names say it")]

mod support;

use std::fs;

use support::{Done, Place};

/// Runs a script of sh quietly, with TMPDIR in its own directory, in which nothing may stay.
fn quietly(place: &Place, options: &[&str], script: &str) -> Done {
    let temporary = place.file("tmp");
    fs::create_dir_all(&temporary).expect("a directory");
    let words =
        ["--quiet-success"].into_iter().chain(options.iter().copied()).chain(["sh", "-c", script]);
    let mut command = place.childminder(words);
    command.env("TMPDIR", &temporary);
    let done = place.run_command(command);
    assert_eq!(fs::read_dir(&temporary).expect("a directory").count(), 0, "{done:?}");
    assert_eq!(done.stdout, "", "{done:?}");
    done
}

#[test]
fn nothing_is_shown_of_a_success() {
    let place = Place::new();
    let done = quietly(&place, &[], "echo out; echo err >&2; head -c 300000 /dev/zero");
    assert_eq!((done.code(), done.stderr.as_str()), (0, ""));
}

#[test]
fn a_failure_shows_the_output_in_its_order_and_the_verdict_last() {
    let place = Place::new();
    let done = quietly(&place, &[], "echo 1; echo 2 >&2; echo 3; echo 4 >&2; printf 5; exit 3");
    assert_eq!(done.code(), 3);
    let (output, verdict) = done.stderr.split_at("1\n2\n3\n4\n5\n".len());
    assert_eq!(output, "1\n2\n3\n4\n5\n", "{done:?}");
    assert!(
        verdict.starts_with("childminder: sh[") && verdict.contains("exit_nonzero"),
        "{done:?}"
    );
    assert_eq!(verdict.lines().count(), 1, "{done:?}");
    // The log has the last lines, as with -e.
    assert!(done.log.iter().any(|line| line.contains('4')), "{done:?}");
}

#[test]
fn a_long_output_is_shown_in_part() {
    let place = Place::new();
    let done = quietly(&place, &["--keep-output", "1K"], "seq 100000; exit 1");
    assert!(done.stderr.starts_with("1\n2\n3\n"), "{done:?}");
    assert!(done.stderr.contains(" bytes of output are not shown (--keep-output)\n"), "{done:?}");
    assert!(done.stderr.contains("\n99999\n100000\nchildminder: sh["), "{done:?}");
    assert!(done.stderr.len() < 1500, "{}", done.stderr.len());
}

#[test]
fn attempts_that_failed_before_a_success_are_not_shown() {
    let restart = ["--restart-on", "failure", "-t", "2", "--backoff", "0..0"];
    let script = "echo attempt $CHILDMINDER_ATTEMPT; test $CHILDMINDER_ATTEMPT = 2";
    let place = Place::new();
    let done = quietly(&place, &restart, script);
    assert_eq!((done.code(), done.stderr.as_str()), (0, ""));
    let place = Place::new();
    let done = quietly(&place, &restart, "echo attempt $CHILDMINDER_ATTEMPT; exit 7");
    assert_eq!(done.code(), 7);
    assert!(
        done.stderr.starts_with("attempt 1\nattempt 2\nattempt 3\nchildminder: sh"),
        "{done:?}"
    );
    assert_eq!(done.stderr.matches("exit status 7").count(), 3, "{done:?}");
}

#[test]
fn what_is_redirected_is_not_kept() {
    let place = Place::new();
    let done = quietly(&place, &["-o", "out"], "echo out; echo err >&2; exit 1");
    assert_eq!(place.text("out"), "out\n");
    assert!(done.stderr.starts_with("err\nchildminder: "), "{done:?}");
    let done = quietly(&place, &["-o", "out", "-e", "err"], "exit 1");
    assert_eq!((done.code(), done.stderr.lines().count()), (125, 1), "{done:?}");
    assert!(done.stderr.contains("nothing to keep"), "{done:?}");
    let done = quietly(&place, &["--keep-output", "big"], "exit 1");
    assert!(done.code() == 125 && done.stderr.contains("'big' is not a size"), "{done:?}");
}

/// A process that has the output open after the job ended, as daemons do, delays nothing.
#[test]
fn a_descendant_that_keeps_the_output_open_delays_nothing() {
    let place = Place::new();
    let done = quietly(&place, &["--stragglers", "kill"], "sleep 1000 & echo x; exit 3");
    assert!(done.code() == 3 && done.stderr.starts_with("x\n"), "{done:?}");
}

#[test]
fn a_job_whose_output_cannot_be_kept_is_not_started() {
    let place = Place::new();
    let mut command = place.childminder(["--quiet-success", "sh", "-c", "echo > began"]);
    command.env("TMPDIR", place.file("nowhere"));
    let done = place.run_command(command);
    assert_eq!((done.code(), done.stderr.lines().count()), (125, 1), "{done:?}");
    assert!(done.stderr.contains("nowhere") && !place.file("began").exists(), "{done:?}");
}

#[test]
fn a_command_that_is_not_found_is_shown() {
    let place = Place::new();
    let done = place.run(["--quiet-success", "no-such-command"]);
    assert!(done.code() == 127 && done.stderr.contains("no-such-command"), "{done:?}");
}
