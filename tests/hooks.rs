//! `--on-failure`, `--on-success`, `--on-end` (docs/hooks.md).

#![allow(missing_docs, reason = "the names say it")]

mod support;

use support::{Place, is_alive, wait_until};

/// Writes what a hook is told into the file `told`.
const TELL: &str = "echo \"$CHILDMINDER_VERDICT $CHILDMINDER_CONFIDENCE $CHILDMINDER_EXIT_STATUS \
    ${CHILDMINDER_SIGNAL-none} $CHILDMINDER_JOB_NAME $CHILDMINDER_ATTEMPT\" >> told";

#[test]
fn the_hook_of_the_end_that_came_is_run_and_then_that_of_any_end() {
    for (job, status, expected) in [
        ("exit 0", 0, "success certain 0 none sh 1\nend\n"),
        ("exit 3", 3, "failed\nend\n"),
        ("kill -KILL $$", 137, "failed\nend\n"),
    ] {
        let place = Place::new();
        let words = ["--on-failure", "echo failed >> told", "--on-success", TELL];
        let more = ["--on-end", "echo end >> told", "sh", "-c", job];
        let done = place.run(words.iter().chain(&more));
        assert_eq!((done.code(), place.text("told").as_str()), (status, expected), "{done:?}");
    }
}

#[test]
fn a_hook_is_told_what_happened() {
    let place = Place::new();
    let hook = format!(
        "{TELL}; echo \"$CHILDMINDER_EVIDENCE\" >> told; cp \"$CHILDMINDER_LOG_FILE\" copy; env > variables"
    );
    let restart = ["--restart-on", "failure", "-t", "1", "--backoff", "0..0"];
    let job = ["--name", "night", "--on-failure", &hook, "sh", "-c", "kill -SEGV $$"];
    let done = place.run(restart.iter().chain(&job));
    assert_eq!(done.code(), 139, "{done:?}");
    let told = place.text("told");
    let (first, evidence) = told.split_once('\n').expect("two lines");
    assert!(first.starts_with("crashed ") || first.starts_with("killed_by_process "), "{told}");
    assert!(first.ends_with(" 139 SIGSEGV night 2"), "{told}");
    assert!(evidence.contains("SIGSEGV"), "{told}");
    assert!(place.text("copy").contains("trapped "), "the log so far");
    let variables = place.text("variables");
    assert!(
        variables.contains("CHILDMINDER_RUN_ID=") && !variables.contains("PREVIOUS_VERDICT"),
        "{variables}"
    );
}

#[test]
fn a_hook_reads_what_the_job_wrote_if_that_is_kept() {
    let place = Place::new();
    let hooks = ["--on-failure", "cat > one", "--on-end", "cat > two"];
    let job = ["--quiet-success", "sh", "-c", "echo out; echo err >&2; exit 3"];
    let done = place.run(hooks.iter().chain(&job));
    assert_eq!(
        (place.text("one").as_str(), place.text("two").as_str()),
        ("out\nerr\n", "out\nerr\n")
    );
    assert!(done.stderr.starts_with("out\nerr\nchildminder: sh"), "{done:?}");
    let place = Place::new();
    place.run(["--on-end", "cat > one", "sh", "-c", "echo out"]);
    assert_eq!(place.text("one"), "", "else there is nothing to read");
}

#[test]
fn a_hook_that_fails_changes_nothing_and_is_reported_once() {
    for (hook, words) in [("exit 7", "exited with status 7"), ("kill -9 $$", "SIGKILL")] {
        let place = Place::new();
        let done = place.run(["--on-success", hook, "true"]);
        assert_eq!((done.code(), done.stderr.lines().count()), (0, 1), "{done:?}");
        assert!(
            done.stderr.contains("--on-success: it ") && done.stderr.contains(words),
            "{done:?}"
        );
        assert_eq!(done.count("--on-success: "), 1, "{done:?}");
    }
}

#[test]
fn a_hook_that_takes_too_long_is_killed_with_its_group() {
    let place = Place::new();
    let hook = "sleep 1000 & echo $! > pid; wait";
    let done = place.run(["--hook-timeout", "1s", "--on-end", hook, "true"]);
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(done.stderr.contains("longer than --hook-timeout"), "{done:?}");
    let pid: i32 = place.text("pid").trim().parse().expect("a pid");
    wait_until("the sleep is gone", || !is_alive(pid));
}

#[test]
fn a_signal_ends_a_hook() {
    let place = Place::new();
    let running = place.start(["--on-end", "echo > begun; sleep 1000", "true"]);
    wait_until("the hook runs", || place.file("begun").exists());
    running.signal("TERM");
    let done = running.end();
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(done.stderr.contains("a signal asked to stop"), "{done:?}");
}

/// What Kubernetes shows of a container that failed.
#[test]
fn the_termination_log_has_the_verdict_and_the_last_lines() {
    let place = Place::new();
    let job = ["-e", "err", "sh", "-c", "echo no room >&2; exit 3"];
    let done = place.run(["--termination-log", "why"].iter().chain(&job));
    assert_eq!(done.code(), 3, "{done:?}");
    let why = place.text("why");
    assert!(why.starts_with("exit_nonzero (certain): ") && why.ends_with("\nno room\n"), "{why}");
    let done = place.run(["--termination-log", "not", "true"]);
    assert!(done.code() == 0 && !place.file("not").exists(), "{done:?}");
    let done = place.run(["--termination-log", "no/why", "false"]);
    assert!(done.code() == 1 && done.stderr.contains("could not write no/why"), "{done:?}");
}

#[test]
fn the_variables_of_a_hook_are_not_taken_for_options() {
    let place = Place::new();
    let hook = format!("'{}' -l stderr true 2> inner", support::program().display());
    let done = place.run(["--on-end", &hook, "true"]);
    assert_eq!((done.code(), done.stderr.as_str()), (0, ""));
    assert!(!place.text("inner").contains("unknown variable"), "{}", place.text("inner"));
}
