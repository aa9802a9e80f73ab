//! DESIGN, section 5: when a job is started again, how often, and that there are never two of it.

mod support;

use std::process::Child;

use support::{Done, Place, is_alive, wait_until};

/// No waits between attempts.
const AT_ONCE: [&str; 2] = ["--backoff", "0..0"];

/// Runs a job of sh that counts its attempts in the file `runs`.
fn run(place: &Place, options: &[&str], job: &str) -> Done {
    let job = format!("echo $CHILDMINDER_ATTEMPT >> runs; {job}");
    place.run(options.iter().chain(&AT_ONCE).chain(&["sh", "-c", &job]))
}

/// The attempts that really were made.
fn runs(place: &Place) -> Vec<u32> {
    place.text("runs").lines().map(|line| line.parse().expect("a number")).collect()
}

/// "`-t` bounds all restarts together. 'restarts exhausted' is logged"
#[test]
fn a_job_is_restarted_as_often_as_n_allows_and_no_more() {
    for (options, limit) in [
        (&["-s"][..], 4),
        (&["-s", "-t", "2"], 2),
        (&["-s", "--n-restarts", "1"], 1),
        (&["-s", "-t", "0"], 0),
    ] {
        let place = Place::new();
        let done = run(&place, options, "kill -KILL $$");
        assert_eq!(done.code(), 137, "{done:?}");
        assert_eq!(runs(&place), (1..=limit + 1).collect::<Vec<_>>());
        assert_eq!(done.count(" started in process "), limit as usize + 1);
        assert_eq!(done.count(" rusage info -- "), limit as usize + 1);
        for attempt in 2..=limit + 1 {
            let left = limit + 1 - attempt;
            let line =
                format!("attempt {attempt} in 0.000 seconds, {left} more restart(s) allowed");
            done.message(&format!("restarting: {line}"));
        }
        done.message("restarts exhausted");
        assert!(done.stderr.contains("restarts exhausted"), "{done:?}");
    }
}

/// PEERS, T30: "count all restarts", whatever their causes and however long an attempt lasted.
#[test]
fn the_limit_counts_restarts_for_all_causes_and_of_stable_attempts() {
    let place = Place::new();
    let job = "case $CHILDMINDER_ATTEMPT in 2) kill -KILL $$;; *) exit 75;; esac";
    let options = ["-s", "-r", "-p", "--restart-on", "exit:75,timeout", "-t", "2", "--stable", "0"];
    let done = run(&place, &options, job);
    assert_eq!((done.code(), runs(&place)), (75, vec![1, 2, 3]), "{done:?}");
    done.message("restarts exhausted");
}

/// "`-s`, `--restart-on`: decided by the verdict", and `--never-on` wins.
#[test]
fn what_an_attempt_ended_of_decides_whether_there_is_another() {
    let again = 3;
    let cases: [(&[&str], &str, usize); 25] = [
        (&["-s"], "kill -KILL $$", again),
        (&["-s"], "kill -USR1 $$", again),
        (&["-s"], "exit 137", 1),
        (&["-s"], "exit 1", 1),
        (&[], "kill -KILL $$", 1),
        (&["-r", "-p", "-c"], "kill -KILL $$", 1),
        (&["-r", "-p", "-c"], "exit 1", 1),
        (&["--restart-on", "exit:75"], "exit 75", again),
        (&["--restart-on", "exit:75"], "exit 1", 1),
        (&["--restart-on", "exit:1,exit:75"], "exit 75", again),
        (&["--restart-on", "exit:137"], "kill -KILL $$", 1),
        (&["--restart-on", "signal:KILL"], "kill -KILL $$", again),
        (&["--restart-on", "signal:KILL"], "kill -TERM $$", 1),
        (&["--restart-on", "signal:KILL"], "exit 137", 1),
        (&["--restart-on", "signal"], "kill -TERM $$", again),
        (&["--restart-on", "failure"], "exit 1", again),
        (&["--restart-on", "failure"], "kill -KILL $$", again),
        (&["--restart-on", "failure"], "exit 0", 1),
        (&["--restart-on", "crash"], "kill -ABRT $$", again),
        (&["--restart-on", "crash"], "kill -KILL $$", 1),
        (&["--restart-on", "exit_nonzero"], "exit 9", again),
        (&["--restart-on", "failure", "--never-on", "exit:2"], "exit 2", 1),
        (&["--restart-on", "failure", "--never-on", "exit:2"], "exit 3", again),
        (&["-s", "--never-on", "signal:KILL"], "kill -KILL $$", 1),
        (&["--restart-on", "signal:KILL", "--never-on", "signal"], "kill -KILL $$", 1),
    ];
    for (options, end, attempts) in cases {
        let place = Place::new();
        let job = format!("ulimit -c 0; [ $CHILDMINDER_ATTEMPT = {again} ] || {end}");
        let done = run(&place, options, &job);
        assert_eq!(runs(&place).len(), attempts, "{options:?} {end}: {done:?}");
        assert_eq!(done.code() == 0, attempts == again || end == "exit 0", "{options:?} {end}");
    }
}

/// "`-s`, `--restart-on`: decided by the verdict": a job that never ran failed for good, unless
/// it is named.
#[test]
fn a_job_that_does_not_start_is_started_again_only_if_that_is_asked_for() {
    for (cause, attempts) in [("failure", 1), ("exec_failed", 3)] {
        let place = Place::new();
        let words = ["-s", "-t", "2", "--restart-on", cause];
        let done = place.run(words.iter().chain(&AT_ONCE).chain(&["./missing"]));
        assert_eq!(done.code(), 127);
        assert_eq!(done.count("child not started"), attempts, "{done:?}");
    }
}

/// A job that waits, and what it does with a request to stop.
const OBEYS: &str = "exec sleep 300";
const ANSWERS: &str = "trap 'exit 3' TERM INT QUIT; while :; do sleep 0.02; done";
const IGNORES: &str = "trap '' TERM INT QUIT; while :; do sleep 0.02; done";

/// Section 7: "stop_requested": who asks childminder to stop does not want the job again.
#[test]
fn a_job_that_was_asked_to_stop_through_childminder_is_not_restarted() {
    for (job, signal, status) in [
        (OBEYS, "TERM", 143),
        (OBEYS, "INT", 130),
        (OBEYS, "QUIT", 131),
        (ANSWERS, "TERM", 3),
        (IGNORES, "TERM", 137),
    ] {
        let place = Place::new();
        let options = ["-s", "--restart-on", "failure,exit:3", "--kill-after", "300ms"];
        let job = format!("ulimit -c 0; echo $CHILDMINDER_ATTEMPT >> runs; {job}");
        let running = place.start(options.iter().chain(&AT_ONCE).chain(&["sh", "-c", &job]));
        place.await_line("runs", "1");
        let pid = running.job();
        // The traps are set, or the program is another one, once sleep runs.
        wait_until("the job sleeps", || {
            let all = support::descendants(pid);
            all.iter().any(|pid| support::name(*pid).is_some_and(|name| name == "sleep"))
        });
        running.signal(signal);
        let done = running.end();
        assert_eq!((done.code(), runs(&place)), (status, vec![1]), "{job} {signal}: {done:?}");
        assert!(done.verdict().starts_with("stop_requested ("), "{done:?}");
    }
}

/// The picture of section 5: asked to stop, a run that waits for its next attempt is over at once,
/// with the status of the last one.
#[test]
fn a_request_to_stop_ends_the_wait_before_a_restart() {
    for signal in ["TERM", "INT"] {
        let place = Place::new();
        let job = "echo x >> runs; exit 75";
        let words = ["--restart-on", "exit:75", "--backoff", "1h..1h", "sh", "-c", job];
        let running = place.start(words);
        place.await_log("restarting: attempt 2 in 3600.000 seconds, 3 more restart(s) allowed");
        running.signal(signal);
        let done = running.end();
        assert_eq!((done.code(), place.text("runs").as_str()), (75, "x\n"), "{done:?}");
        done.message("not restarted: childminder was asked to stop");
        assert!(done.verdict().starts_with("exit_nonzero (certain): exit status 75"), "{done:?}");
    }
}

/// The same while the processes of the last attempt are being ended.
#[test]
fn a_request_to_stop_while_the_old_tree_is_ended_forbids_the_restart() {
    let place = Place::new();
    let job = "echo $CHILDMINDER_ATTEMPT >> runs; \
         setsid sh -c 'trap \"\" TERM; echo $$ > left; while :; do sleep 0.02; done' & \
         until [ -s left ]; do sleep 0.02; done; kill -KILL $$";
    let words = ["-s", "--kill-after", "3"].iter().chain(&AT_ONCE);
    let running = place.start(words.chain(&["sh", "-c", job]));
    place.await_log("sending SIGTERM to every process of the job (before a restart");
    running.signal("TERM");
    let done = running.end();
    assert_eq!((done.code(), runs(&place)), (137, vec![1]), "{done:?}");
    done.message("not restarted: childminder was asked to stop");
    assert!(!is_alive(place.text("left").trim().parse().expect("a pid")));
}

/// Section 4: "`--forward none` is the original's behaviour: watch and log only".
#[test]
fn what_is_not_forwarded_neither_ends_a_wait_nor_forbids_a_restart() {
    let place = Place::new();
    let job = "echo $CHILDMINDER_ATTEMPT >> runs; [ $CHILDMINDER_ATTEMPT = 2 ] || exit 75";
    let words = ["--forward", "none", "--restart-on", "exit:75", "--backoff", "3s..3s"];
    let running = place.start(words.iter().chain(&["sh", "-c", job]));
    place.await_log("restarting: attempt 2 in 3.000 seconds");
    running.signal("TERM");
    place.await_log("signal 15 (SIGTERM) from kill(2)");
    let done = running.end();
    assert_eq!((done.code(), runs(&place)), (0, vec![1, 2]), "{done:?}");
}

/// Takes the lock `lock`, or tells the file `double` that somebody has it; tells `runs`, waits for
/// the file `go`, and dies of SIGKILL.
const ONLY_ONE: &str = r#"
    use Fcntl ":flock";
    sub note { open my $file, ">>", $_[0]; print $file "$ENV{CHILDMINDER_ATTEMPT}\n"; close $file }
    open my $lock, ">>", "lock" or die;
    flock $lock, LOCK_EX | LOCK_NB or note "double";
    note "runs";
    do { select undef, undef, undef, 0.01 } until -e "go";
    kill KILL => $$;
"#;

/// Sends signals of many kinds to a process, a thousand times unless it goes before.
const STORM: &str = r#"
    my ($pid) = @ARGV;
    for (1 .. 1000) {
        for my $signal (1, 2, 3, 10, 12, 14, 15, 17, 18, 20, 21, 22, 23, 28, 34, 50, 64) {
            kill $signal, $pid or exit;
        }
        select undef, undef, undef, 0.0005;
    }
"#;

fn storm(place: &Place, pid: i32) -> Child {
    let mut perl = place.command("perl");
    perl.args(["-e", STORM, &pid.to_string()]).spawn().expect("perl starts")
}

/// PEERS, T1. "`-r`: an interrupted wait never starts a second copy." Section 11: "Never two
/// copies of the job at once."
#[test]
fn a_storm_of_signals_never_starts_a_second_copy() {
    let place = Place::new();
    let options = ["-r", "-s", "-p", "-t", "12", "--forward", "none"];
    let running = place.start(options.iter().chain(&AT_ONCE).chain(&["perl", "-e", ONLY_ONE]));
    place.await_line("runs", "1");
    let pid = running.pid();
    assert!(storm(&place, pid).wait().expect("perl ends").success());
    place.await_log("signal 64 (SIGRTMAX) from kill(2)");
    assert_eq!(runs(&place), [1], "started again while it lived");
    assert!(is_alive(running.job()));
    // And while attempts end and begin.
    let mut second = storm(&place, pid);
    place.write("go", "");
    let done = running.end();
    second.wait().expect("perl ends");
    assert_eq!(done.code(), 137);
    assert_eq!(place.text("double"), "", "two copies at once");
    assert_eq!(runs(&place), (1..=13).collect::<Vec<_>>());
}

/// The first attempt leaves a process behind that has a session of its own, ignores SIGTERM, and
/// holds the lock; the second one ends with status 9 if that still lives.
const LEAVES_ONE: &str = r#"
    use POSIX (); use Fcntl ":flock";
    open my $lock, ">>", "lock" or die;
    exit(flock($lock, LOCK_EX | LOCK_NB) ? 0 : 9) if $ENV{CHILDMINDER_ATTEMPT} > 1;
    flock $lock, LOCK_EX or die;
    for my $number (1 .. 3) {
        next if fork;
        POSIX::setsid();
        fork and exit if $number == 2;
        $SIG{TERM} = $SIG{HUP} = "IGNORE";
        open my $ready, ">>", "ready"; print $ready "$$\n"; close $ready;
        sleep 300 while 1;
    }
    do { select undef, undef, undef, 0.01 } until -e "ready" && -s "ready" > 3 && `wc -l <ready` == 3;
    kill KILL => $$;
"#;

/// "Before any restart every process of the old attempt is gone ..., and verified gone"
#[test]
fn the_old_tree_is_gone_before_a_new_attempt_begins() {
    let place = Place::new();
    let options = ["-s", "--kill-after", "300ms"];
    let done = place.run(options.iter().chain(&AT_ONCE).chain(&["perl", "-e", LEAVES_ONE]));
    assert_eq!(done.code(), 0, "{done:?}");
    let left: Vec<i32> =
        place.text("ready").lines().map(|pid| pid.parse().expect("a pid")).collect();
    let report = done.message("3 process(es) of the job outlive it");
    for pid in left {
        assert!(report.contains(&format!("{pid} (perl)")), "{report}");
        assert!(!is_alive(pid));
    }
    done.message("sending SIGTERM to every process of the job (before a restart");
    done.message("sending SIGKILL to every process of the job (before a restart");
    // All that before the second attempt.
    let at = |words: &str| done.log.iter().rposition(|line| line.contains(words)).expect(words);
    assert!(at("sending SIGKILL") < at("restarting:") && at("restarting:") < at(" started in "));
}

/// "never copies": what the old attempt left is asked before it is killed.
#[test]
fn what_heeds_sigterm_is_not_killed_before_a_restart() {
    let place = Place::new();
    let job = "[ $CHILDMINDER_ATTEMPT = 2 ] && exit 0; \
         setsid sh -c 'trap \"echo bye >> heard; exit\" TERM; echo >> ready; while :; do sleep 0.02; done' & \
         until [ -e ready ]; do sleep 0.02; done; kill -KILL $$";
    let done =
        place.run(["-s", "--kill-after", "20"].iter().chain(&AT_ONCE).chain(&["sh", "-c", job]));
    assert_eq!((done.code(), place.text("heard").as_str()), (0, "bye\n"), "{done:?}");
    assert_eq!(done.count("sending SIGKILL"), 0);
}
