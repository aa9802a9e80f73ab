//! DESIGN, sections 2, 5 and 11: processes of the job that are not its first: those that outlive
//! it, those whose parents have gone, and those that are not the job's at all.

mod support;

use support::{Done, Place, is_alive, is_root, kill, messages, name, skip, state, wait_until};

/// The pid that a file holds.
fn pid_in(place: &Place, file: &str) -> i32 {
    wait_until(&format!("{file} holds a pid"), || place.text(file).ends_with('\n'));
    place.text(file).trim().parse().expect("a pid")
}

/// Waits in sh until the process that was started last is the program it was started for.
const BEGUN: &str = "until grep -q sleep /proc/$!/comm; do :; done";

/// "`--stragglers leave|wait|kill` (descendants that outlive the job; default leave, always
/// reported)". PEERS, T11: one that holds the pipe does not keep childminder.
#[test]
fn by_default_what_outlives_the_job_is_reported_and_left() {
    for options in [&[][..], &["--stragglers", "leave"]] {
        let place = Place::new();
        let job = format!("sleep 300 & {BEGUN}; echo $! > left; exit 3");
        let mut running = place.start(options.iter().chain(&["sh", "-c", &job]));
        // Its standard output and error, which are pipes of ours, stay open in the process left.
        wait_until("childminder ends before what the job left", || running.has_ended());
        let left = pid_in(&place, "left");
        assert!(is_alive(left), "left alone");
        place.await_log(&format!("1 process(es) of the job outlive it (leave): {left} (sleep)"));
        kill(left, "KILL");
        let done = running.end();
        assert_eq!(done.code(), 3, "{done:?}");
        assert!(done.verdict().starts_with("exit_nonzero "), "{done:?}");
    }
}

/// "`--stragglers wait`"
#[test]
fn with_wait_childminder_ends_when_the_last_process_has() {
    let place = Place::new();
    let job = "( setsid sh -c 'until [ -e go ]; do sleep 0.02; done; echo > last' & ); exit 3";
    let running = place.start(["--stragglers", "wait", "sh", "-c", job]);
    place.await_log(" of the job outlive it (wait): ");
    place.write("go", "");
    let done = running.end();
    assert_eq!(done.code(), 3);
    assert_eq!(place.text("last"), "\n", "it ended before: {done:?}");
    assert!(done.count(" orphan(s) reaped, rusage info -- ") == 1, "{done:?}");
}

/// Section 4: "A supervisor is asked to stop by a signal, and the job must hear of it": also what
/// remains of it.
#[test]
fn what_is_waited_for_hears_of_a_request_to_stop() {
    let place = Place::new();
    let running = place.start(["--stragglers", "wait", "sh", "-c", "sleep 300 & exit 0"]);
    place.await_log("1 process(es) of the job outlive it (wait): ");
    running.signal("TERM");
    let done = running.end();
    assert_eq!(done.code(), 0, "{done:?}");
    done.message(" terminated by signal 15 (SIGTERM) (a descendant whose parent had gone)");
}

/// One process that heeds SIGTERM, one in a session of its own that ignores it, and one that
/// starts another one in its place when it comes.
const STUBBORN: &str = r#"
    use POSIX ();
    sub ready { open my $file, ">>", "ready"; print $file "$$\n"; close $file }
    unless (fork) { ready; sleep 300 while 1 }
    unless (fork) { POSIX::setsid(); $SIG{TERM} = "IGNORE"; ready; sleep 300 while 1 }
    my $between = fork;
    unless ($between) {
        POSIX::setsid();
        fork and exit;
        $SIG{TERM} = sub { fork and POSIX::_exit(0); ready };
        ready; sleep 300 while 1;
    }
    waitpid $between, 0;
    do { select undef, undef, undef, 0.01 } until -e "ready" && `wc -l < ready` == 3;
"#;

/// "`--stragglers kill`": SIGTERM, the grace period, SIGKILL, to every process, also
/// "double-forked and setsid ones".
#[test]
fn with_kill_every_process_is_gone_when_childminder_ends() {
    let place = Place::new();
    let running =
        place.start(["--stragglers", "kill", "--kill-after", "300ms", "perl", "-e", STUBBORN]);
    let pid = running.pid();
    let done = running.end();
    assert_eq!(done.code(), 0, "{done:?}");
    let left: Vec<i32> =
        place.text("ready").lines().map(|pid| pid.parse().expect("a pid")).collect();
    assert_eq!(left.len(), 4, "the third one did what it does");
    assert!(!left.iter().copied().any(is_alive), "{done:?}");
    let report = done.message("3 process(es) of the job outlive it (kill): ");
    assert!(left[..3].iter().all(|pid| report.contains(&format!("{pid} (perl)"))), "{report}");
    done.message(
        "sending SIGTERM to every process of the job (--stragglers kill); SIGKILL in 0.300",
    );
    done.message("sending SIGKILL to every process of the job (--stragglers kill)");
    // What we end ourselves is not a loss.
    assert!(done.verdict().starts_with("success (certain)"), "{done:?}");
    if is_root() {
        // Only who may make cgroups leaves some behind.
        let mut find = place.command("find");
        find.args(["/sys/fs/cgroup", "-name", &format!("childminder-{pid}-*")]);
        assert_eq!(String::from_utf8_lossy(&find.output().expect("find starts").stdout), "");
    }
}

/// "always reported": by name, and when there are many, by their number.
#[test]
fn many_processes_that_outlive_the_job_are_counted() {
    let place = Place::new();
    let job = format!("for i in 1 2 3 4 5 6 7 8 9 10 11; do sleep 300 & {BEGUN}; done; exit 0");
    let done = place.run(["--stragglers", "kill", "sh", "-c", &job]);
    let report = done.message("11 process(es) of the job outlive it (kill): ");
    assert_eq!(report.matches(" (sleep)").count(), 8, "{report}");
    assert!(report.ends_with(" and 3 more"), "{report}");
    assert_eq!(done.count("sending SIGKILL"), 0, "they heed SIGTERM: {done:?}");
}

/// "orphans of the job come to childminder, are reaped, counted and named, and their rusage is
/// added, marked as theirs" (PEERS, T22)
#[test]
fn orphans_are_reaped_named_and_counted() {
    let place = Place::new();
    let job = "i=0; while [ $i -lt 25 ]; do \
         ( sh -c 'until [ -e gone ]; do sleep 0.02; done; exit 7' & ); i=$((i+1)); done; echo > gone; \
         until [ -e go ]; do sleep 0.02; done; exit 0";
    let running = place.start(["sh", "-c", job]);
    let (pid, job) = (running.pid(), running.job());
    wait_until("twenty orphans are named", || {
        let log = messages(&place.log());
        log.iter().filter(|line| line.starts_with("orphan ")).count() == 20
    });
    // None of the rest stays a zombie, either.
    let children = || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    wait_until("only the job is left", || children().expect("it runs").trim() == job.to_string());
    place.write("go", "");
    let done = running.end();
    let exited = " exited with status 7 (a descendant whose parent had gone)";
    assert_eq!(done.count(exited), 20, "{done:?}");
    assert!(
        done.message("25 orphan(s) reaped")
            .starts_with("25 orphan(s) reaped, rusage info -- system")
    );
    // That they failed is their parents' business.
    assert!(done.verdict().starts_with("success (certain)"), "{done:?}");
}

/// "orphans of the job come to childminder, are reaped, counted and named": also those that we
/// end, however many of them end at the same time.
#[test]
fn every_process_that_is_ended_after_the_job_is_reaped_and_counted() {
    let place = Place::new();
    let job = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18; do sleep 300 & done; exit 0";
    let done = place.run(["--stragglers", "kill", "sh", "-c", job]);
    done.message("18 process(es) of the job outlive it (kill): ");
    assert_eq!(done.count(" terminated by signal 15 (SIGTERM) (a descendant"), 18, "{done:?}");
    done.message("18 orphan(s) reaped, rusage info -- ");
}

/// A job that ends well after a process of it, whose parent had gone, ended so.
fn after_an_orphan(end: &str) -> Done {
    let job = format!(
        "ulimit -c 0; ( sh -c 'until [ -e gone ]; do sleep 0.02; done; {end}' & ); echo > gone; \
         until grep -q '): [o]rphan ' log/*; do sleep 0.02; done"
    );
    Place::new().run(["sh", "-c", &job])
}

/// "`success_with_losses` (exit 0, but a descendant was killed or crashed)"
#[test]
fn an_orphan_that_dies_of_a_signal_spoils_a_success() {
    for (signal, number) in [("SEGV", 11), ("KILL", 9)] {
        let done = after_an_orphan(&format!("kill -{signal} $$"));
        assert_eq!(done.code(), 0, "{done:?}");
        let end = format!(" terminated by signal {number} (SIG{signal})");
        let line = done.message(&format!("{end} (a descendant whose parent had gone)"));
        let orphan = line.strip_prefix("orphan ").and_then(|line| line.split(' ').next());
        let pid = orphan.expect("a pid");
        let verdict = done.verdict();
        assert!(verdict.starts_with("success_with_losses (certain): exit status 0; "), "{verdict}");
        assert!(verdict.contains(pid), "{verdict}");
        assert!(verdict.contains(&format!("was killed by SIG{signal}")), "{verdict}");
        assert!(done.stderr.contains(verdict), "{done:?}");
    }
    let done = after_an_orphan("exit 1");
    assert_eq!(done.verdict(), "success (certain): exit status 0");
}

/// "No process is signalled that is not ours": what a shell had started before it became
/// childminder is its child, and not the job's.
#[test]
fn children_from_before_the_job_are_neither_signalled_nor_waited_for() {
    let leaves_new = "sleep 300 & echo $! > new; exit 0";
    let cases = [
        ("--stragglers kill --kill-after 0.2", leaves_new, 0),
        ("--stragglers wait", "exit 0", 0),
        ("--timeout 0.5 --kill-after 0.2", "sleep 300 & echo $! > new; sleep 300", 124),
        (
            "-s --backoff 0..0 --kill-after 0.2",
            "[ -e new ] && exit 3; sleep 300 & echo $! > new; kill -KILL $$",
            3,
        ),
    ];
    for (options, job, status) in cases {
        let place = Place::new();
        // A child, one in a session of its own, and one below a child.
        let script = format!(
            "sleep 300 & echo $! > old1; setsid sleep 300 & echo $! > old2; \
             sh -c 'sleep 300 & echo $! > old3; wait' & \
             until [ -s old3 ]; do sleep 0.02; done; exec \"$CM\" {options} sh -c '{job}'"
        );
        let mut running = place.start_command(place.shell(&script));
        wait_until(&format!("{options} ends"), || running.has_ended());
        let old: Vec<i32> = ["old1", "old2", "old3"].map(|file| pid_in(&place, file)).into();
        let (old_live, new) = (old.iter().copied().all(is_alive), place.text("new"));
        let new_lives = new.trim().parse().is_ok_and(is_alive);
        place.processes().into_iter().for_each(|pid| kill(pid, "KILL"));
        let done = running.end();
        assert_eq!(done.code(), status, "{options}: {done:?}");
        assert!(old_live, "{options}: {done:?}");
        assert!(!new_lives && new.is_empty() != job.contains("new"), "{options}: {done:?}");
        for pid in old {
            assert_eq!(done.count(&format!("{pid} (s")), 0, "{options}: {done:?}");
        }
    }
}

/// "No process is signalled that is not ours": what such a child starts later is not the job's
/// either, although it comes to childminder when its parent ends.
#[test]
fn grandchildren_from_before_the_job_are_not_signalled() {
    let place = Place::new();
    let stranger = "until [ -e begun ]; do sleep 0.02; done; sleep 300 & echo $! > late";
    let job = "echo > begun; until [ -s late ]; do sleep 0.02; done; \
         until grep -q \"^PPid:.$PPID\\$\" /proc/$(cat late)/status; do sleep 0.02; done; \
         until grep -q sleep /proc/$(cat late)/comm; do sleep 0.02; done; exit 0";
    let mut script =
        place.shell("sh -c \"$0\" & exec \"$CM\" --stragglers kill --kill-after 0.2 sh -c \"$1\"");
    script.args([stranger, job]);
    let mut running = place.start_command(script);
    wait_until("childminder ends", || running.has_ended());
    let late = pid_in(&place, "late");
    let (lives, called) = (is_alive(late), name(late));
    kill(late, "KILL");
    let done = running.end();
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(lives, "a stranger was killed: {done:?}");
    assert_eq!(called.as_deref(), Some("sleep"));
}

/// "counted and named": a child from before the job that ends is not an orphan of the job.
#[test]
fn a_child_from_before_the_job_that_ends_is_not_an_orphan_of_it() {
    let place = Place::new();
    let job = "until [ ! -e /proc/$(cat old) ]; do sleep 0.02; done; exit 3";
    let script = format!(
        "sh -c 'until [ -e log ]; do sleep 0.02; done; kill -KILL $$' & echo $! > old; \
         exec \"$CM\" sh -c '{job}'"
    );
    let done = place.run_command(place.shell(&script));
    assert_eq!((done.code(), done.count("orphan")), (3, 0), "{done:?}");
}

/// "their rusage is added, marked as theirs": what an orphan used is not said to be the job's.
#[test]
fn what_orphans_used_is_told_apart_from_what_the_job_used() {
    let place = Place::new();
    place.write(
        "burn",
        "do { select undef, undef, undef, 0.01 } until -e 'gone'; 1 while (times)[0] < 0.4;",
    );
    let job =
        "( perl burn & ); echo > gone; until grep -q '): [o]rphan ' log/*; do sleep 0.1; done";
    let done = place.run(["sh", "-c", job]);
    assert_eq!(done.code(), 0, "{done:?}");
    let user_seconds = |line: &str| -> f64 {
        let rest = line.split("user time: ").nth(1).and_then(|rest| rest.split('s').next());
        rest.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no usage: {line}"))
    };
    let is_jobs = |line: &&String| line.starts_with("child ") && line.contains(" rusage info -- ");
    let job = done.log.iter().find(is_jobs).expect("the job's own");
    assert!(user_seconds(job) < 0.35, "{done:?}");
    assert!(user_seconds(done.message("1 orphan(s) reaped, rusage info -- ")) >= 0.4, "{done:?}");
}

/// A process that is killed, and its parent, which ends at once.
const GONE_WITH_PARENT: &str = r#"sh -c 'sh -c "kill -9 \$\$"; exit 0'"#;

/// Runs a job that succeeds, and a script while childminder is stopped: of whoever dies meanwhile nothing is left
/// when it looks. Returns the verdict; `None` where the kernel does not report deaths.
fn verdict_after(job: &str, script: &str) -> Option<String> {
    let place = Place::new();
    let job = format!(
        "until [ -e go ]; do sleep 0.02; done; {job}; echo > done; \
         until [ -e end ]; do sleep 0.02; done; exit 0"
    );
    let running = place.start(["sh", "-c", &job]);
    let evidence = place.await_log("evidence in force");
    let is_reported = evidence.contains("deaths of descendants by the proc connector");
    running.signal("STOP");
    wait_until("childminder is stopped", || state(running.pid()) == Some('T'));
    assert!(place.shell(script).output().expect("sh starts").status.success());
    place.write("go", "");
    wait_until("it has happened", || place.file("done").exists());
    running.signal("CONT");
    place.await_log("(SIGCONT) from kill(2)");
    place.write("end", "");
    let done = running.end();
    assert_eq!(done.code(), 0, "{done:?}");
    is_reported.then(|| done.verdict().to_owned())
}

/// Section 7: "`certain` means that the evidence excludes every other cause". Whose a process was is known from
/// the end of its parent, though both have gone.
#[test]
fn what_died_with_its_parent_is_known_as_a_descendant_or_a_stranger() {
    let cases = [
        (GONE_WITH_PARENT, "true", "success_with_losses (certain): "),
        ("true", GONE_WITH_PARENT, "success (certain): exit status 0"),
    ];
    for (job, script, right) in cases {
        // On a busy machine the ends of others may have filled the queue of the kernel meanwhile.
        let verdicts: Vec<_> = (0..5).map(|_| verdict_after(job, script)).collect();
        if verdicts.contains(&None) {
            return skip("deaths of descendants", "the proc connector is not available");
        }
        let verdicts: Vec<String> = verdicts.into_iter().flatten().collect();
        assert!(verdicts.iter().any(|verdict| verdict.starts_with(right)), "{verdicts:?}");
        assert!(
            verdicts.iter().all(|one| one.starts_with(right) || !one.contains("(certain)")),
            "{verdicts:?}"
        );
    }
}
