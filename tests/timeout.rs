//! DESIGN, sections 2 and 3: `--timeout` ends an attempt that takes longer, whatever it does.

mod support;

use support::{Done, Place, is_alive, kill, state, wait_until};

/// Scripts in the place: one that ignores SIGTERM, and one that tells when it comes.
fn place_with_scripts() -> Place {
    let place = Place::new();
    place.write("ignores", "trap '' TERM; echo $$ >> ready; while :; do sleep 0.02; done");
    place.write(
        "tells",
        "trap 'echo >> heard' TERM; echo $$ >> ready; while :; do sleep 0.02; done",
    );
    place
}

#[track_caller]
fn assert_timed_out(done: &Done, limit: &str, end: &str) {
    assert_eq!(done.code(), 124, "{done:?}");
    done.message(&format!("time limit of {limit} seconds reached"));
    let verdict = format!("timed_out (certain): ended by --timeout after {limit} seconds; {end}");
    assert_eq!(done.verdict(), verdict);
    assert!(done.stderr.contains(&verdict), "{done:?}");
}

/// "124 | `--timeout` ended it"
#[test]
fn a_job_that_takes_too_long_is_ended_by_sigterm() {
    let place = Place::new();
    let done = place.run(["--timeout", "200ms", "sleep", "300"]);
    assert_timed_out(&done, "0.200", "SIGTERM");
    done.message(
        "sending SIGTERM to every process of the job (it timed out); SIGKILL in 30.000 seconds",
    );
    assert_eq!(done.count("sending SIGKILL"), 0);
    done.message(" terminated by signal 15 (SIGTERM)");
}

/// "124 | `--timeout` ended it": whatever the job then returns.
#[test]
fn a_job_that_ends_in_good_order_at_its_limit_has_timed_out_all_the_same() {
    for status in [0, 3] {
        let place = Place::new();
        let job = format!("trap 'exit {status}' TERM; while :; do sleep 0.02; done");
        let done = place.run(["--timeout", "1s", "sh", "-c", &job]);
        assert_timed_out(&done, "1.000", &format!("exit status {status}"));
    }
}

/// "the job's own | it exited": before the limit, the option changes nothing.
#[test]
fn a_job_that_ends_before_its_limit_is_left_alone() {
    for (job, status) in [("exit 3", 3), ("kill -KILL $$", 137), ("exit 0", 0)] {
        let place = Place::new();
        let done = place.run(["--timeout", "1h", "--kill-after", "0", "sh", "-c", job]);
        assert_eq!((done.code(), done.count("time limit")), (status, 0), "{done:?}");
    }
}

/// "`--kill-after DURATION`": SIGTERM first, then SIGKILL, to all processes of the job.
#[test]
fn a_job_that_ignores_sigterm_is_killed_with_its_whole_tree() {
    let place = place_with_scripts();
    let job = "sh tells & setsid sh ignores & ( setsid sh ignores & ); exec sh ignores";
    let done = place.run(["--timeout", "2s", "--kill-after", "500ms", "sh", "-c", job]);
    assert_timed_out(&done, "2.000", "SIGKILL");
    done.message(
        "sending SIGTERM to every process of the job (it timed out); SIGKILL in 0.500 seconds",
    );
    assert!(done.count("sending SIGKILL to every process of the job") >= 1, "{done:?}");
    assert_eq!(place.text("heard"), "\n", "SIGTERM came once, before SIGKILL");
    let pids: Vec<i32> =
        place.text("ready").lines().map(|pid| pid.parse().expect("a pid")).collect();
    assert_eq!(pids.len(), 4, "all ran before the limit");
    assert!(!pids.into_iter().any(is_alive), "{done:?}");
}

/// "124 | `--timeout` ended it": the limit is the whole job's, not only its first process's.
#[test]
fn processes_that_outlive_a_job_which_timed_out_are_ended_too() {
    let place = place_with_scripts();
    let words = ["--timeout", "1500ms", "--kill-after", "400ms", "--stragglers", "leave"];
    let job = ["sh", "-c", "setsid sh ignores & exec sleep 300"];
    let done = place.run(words.iter().chain(&job));
    assert_timed_out(&done, "1.500", "SIGTERM");
    let left: i32 = place.text("ready").trim().parse().expect("a pid");
    assert!(done.message("outlive it").contains(&format!("{left} (sh)")), "{done:?}");
    assert!(!is_alive(left));
}

/// "124 | `--timeout` ended it": a stopped process cannot heed SIGTERM until it is continued.
#[test]
fn a_stopped_job_times_out_like_any_other() {
    let place = Place::new();
    let running = place.start(["--timeout", "2s", "--kill-after", "20", "sleep", "300"]);
    let job = running.job();
    kill(job, "STOP");
    wait_until("the job has stopped", || state(job) == Some('T'));
    assert_timed_out(&running.end(), "2.000", "SIGTERM");
}

/// "`--timeout` ...": each attempt has the whole time.
#[test]
fn every_attempt_has_its_own_limit() {
    let place = Place::new();
    let words = ["--timeout", "200ms", "--restart-on", "timeout", "-t", "1", "--backoff", "0..0"];
    let done = place.run(words.iter().chain(&["sleep", "300"]));
    assert_eq!(done.code(), 124, "{done:?}");
    assert_eq!(done.count("time limit of 0.200 seconds reached"), 2);
    assert_eq!(done.count(" started in process "), 2);
    done.message("restarts exhausted");
}

/// "124 | `--timeout` ended it": a flood of signals must not keep the limit from being noticed.
#[test]
fn a_storm_of_signals_does_not_delay_the_limit() {
    let place = Place::new();
    let mut running =
        place.start(["--timeout", "500ms", "--forward", "none", "sh", "-c", "exec sleep 300"]);
    running.job();
    // Until childminder has gone, or the test has.
    let storm = "1 while getppid != 1 and kill 34 => $ARGV[0] and kill USR1 => $ARGV[0]";
    let mut perl = place.command("perl");
    let mut perl =
        perl.args(["-e", storm, &running.pid().to_string()]).spawn().expect("perl starts");
    wait_until("the limit is noticed in a storm of signals", || running.has_ended());
    perl.wait().expect("our child");
    assert_timed_out(&running.end(), "0.500", "SIGTERM");
}
