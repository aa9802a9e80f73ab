//! DESIGN, section 5: a job that is stopped: seen, continued, restarted; never in a storm.

mod support;

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::time::Instant;

use support::{Place, Running, is_alive, kill, messages, state, wait_until};

/// The seconds of the only line `child PID continued after S seconds`.
fn seconds_stopped(line: &str) -> f64 {
    let number = line.strip_suffix(" seconds").and_then(|line| line.rsplit(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no span: {line}"))
}

/// "Neither: the stop is logged, with its length when it ends, and childminder keeps waiting, awake
/// to signals." PEERS, T3: nothing is said to be sent that was not.
#[test]
#[expect(clippy::disallowed_methods, reason = "the length of a stop is compared with the clock")]
fn without_an_option_a_stop_is_logged_with_its_length_and_nothing_is_sent() {
    let place = Place::new();
    let running = place.start(["sh", "-c", "until [ -e go ]; do sleep 0.02; done; exit 3"]);
    let job = running.job();
    let before = Instant::now();
    kill(job, "STOP");
    place.await_log(&format!("child {job} stopped by signal 19 (SIGSTOP)"));
    let seen = Instant::now();
    // What is passed on waits until the job is continued; these would not harm it.
    for signal in ["WINCH", "URG"] {
        running.signal(signal);
        place.await_log(&format!("(SIG{signal}) from kill(2)"));
        assert_eq!(state(job), Some('T'));
    }
    let least = seen.elapsed();
    kill(job, "CONT");
    let line = place.await_log(&format!("child {job} continued after "));
    let most = before.elapsed();
    let span = seconds_stopped(&line);
    // It is rounded to milliseconds.
    assert!(span <= most.as_secs_f64() + 0.001, "{span} of {most:?}");
    assert!(span + 0.001 >= least.as_secs_f64(), "{span} of {least:?}");
    place.write("go", "");
    let done = running.end();
    assert_eq!(done.code(), 3, "{done:?}");
    assert_eq!(done.count("successfully sent"), 0, "{done:?}");
}

/// "`-c`: a job stopped ... is continued, with every stopped descendant, and the continue is
/// confirmed by a WCONTINUED status"
#[test]
fn with_c_the_job_and_every_stopped_descendant_are_continued() {
    let place = Place::new();
    place.write("work", "echo $$ >> workers; until [ -e go ]; do sleep 0.02; done");
    let job =
        "sh work & setsid sh work & ( sh work & ); wait; until [ -e go ]; do sleep 0.02; done";
    let running = place.start(["-c", "sh", "-c", job]);
    let job = running.job();
    wait_until("three workers run", || place.text("workers").lines().count() == 3);
    let workers = place.text("workers");
    let workers: Vec<i32> = workers.lines().map(|pid| pid.parse().expect("a pid")).collect();
    // As a batch system does it: first those below.
    for pid in workers.iter().copied().chain([job]) {
        kill(pid, "STOP");
    }
    place.await_log(&format!("child {job} stopped by signal 19 (SIGSTOP)"));
    place.await_log(&format!("successfully sent child {job} SIGCONT"));
    let is_stopped = |pid: &i32| state(*pid) == Some('T');
    wait_until("every worker is continued", || !workers.iter().any(is_stopped));
    assert!(!is_stopped(&job));
    place.write("go", "");
    let done = running.end();
    assert_eq!(done.code(), 0, "{done:?}");
    let at = |words: &str| done.log.iter().position(|line| line.contains(words)).expect(words);
    assert_eq!(at("successfully sent") + 1, at(" continued after "), "told when confirmed");
    done.message("successfully sent");
}

/// Tells the file `stops` each time before it stops itself, again and again in the attempts below
/// the one that is given, until the file `go` is there; then it waits for the file `end`.
const STOPS_ITSELF: &str = r#"
    exit 0 if $ENV{CHILDMINDER_ATTEMPT} >= $ARGV[0];
    while (1) {
        open my $file, ">>", "stops"; print $file "$$\n"; close $file;
        kill STOP => $$;
        last if -e "go";
    }
    do { select undef, undef, undef, 0.02 } until -e "end";
    exit 5;
"#;

/// Runs it with `-c` until it is given up.
fn given_up(place: &Place) -> (Running<'_>, i32) {
    let running = place.start(["-c", "perl", "-e", STOPS_ITSELF, "9"]);
    let job = running.job();
    place.await_log(&format!("child {job} stays stopped after "));
    (running, job)
}

/// "bounded tries with back-off" (PEERS, T3; "the original sent 53,000 SIGCONTs a second")
#[test]
fn with_c_a_job_that_stops_again_and_again_is_continued_a_few_times_only() {
    let place = Place::new();
    let (running, job) = given_up(&place);
    let stops = place.text("stops").lines().count();
    assert!((2..=7).contains(&stops), "{stops} stops: {:?}", messages(&place.log()));
    // It is left as it is, and childminder is awake.
    running.signal("WINCH");
    place.await_log("(SIGWINCH) from kill(2)");
    assert_eq!(state(job), Some('T'));
    kill(job, "KILL");
    let done = running.end();
    assert_eq!(done.code(), 137, "{done:?}");
    assert_eq!(place.text("stops").lines().count(), stops, "continued after it was given up");
    assert!(done.count("successfully sent") < stops, "{done:?}");
}

/// "the continue is confirmed by a WCONTINUED status" (PEERS, T3): if somebody else continues the
/// job, nothing is said to have been sent.
#[test]
fn with_c_what_somebody_else_continued_is_not_said_to_be_ours() {
    let place = Place::new();
    let (running, job) = given_up(&place);
    let count =
        |words: &str| messages(&place.log()).iter().filter(|line| line.contains(words)).count();
    let (sent, continued) = (count("successfully sent"), count(" continued after "));
    place.write("go", "");
    kill(job, "CONT");
    wait_until("it is continued", || count(" continued after ") > continued);
    place.write("end", "");
    let done = running.end();
    assert_eq!((done.code(), done.count("successfully sent")), (5, sent), "{done:?}");
}

/// "`-p`: if a continued job stays stopped, or `-c` was not given, it is restarted (the whole old
/// tree is ended first)."
#[test]
fn with_p_a_job_that_stays_stopped_is_restarted() {
    for options in [&["-p"][..], &["-c", "-p"]] {
        let place = Place::new();
        let fast = ["--kill-after", "5", "--backoff", "0..0", "perl", "-e", STOPS_ITSELF, "2"];
        let done = place.run(options.iter().chain(&fast));
        assert_eq!(done.code(), 0, "{done:?}");
        let stops = place.text("stops").lines().count();
        let most = if options.len() == 1 { 1 } else { 7 };
        assert!((1..=most).contains(&stops), "{options:?}: {stops} stops: {done:?}");
        assert_eq!(done.count(" started in process "), 2, "{done:?}");
        let why = "stopped (certain): stayed stopped by SIGSTOP and was ended (-p); SIGTERM";
        done.message(&format!("verdict: {why}"));
        assert_eq!(done.verdict(), "success (certain): exit status 0");
    }
}

/// "the whole old tree is ended first"
#[test]
fn with_p_nothing_of_the_stopped_attempt_lives_when_the_next_begins() {
    let place = Place::new();
    place.write("stays", "trap '' TERM; echo $$ > worker; while :; do sleep 0.02; done");
    let job = "if [ -e worker ]; then \
           [ -e /proc/$(cat worker)/exe ] && exit 9; [ -e /proc/$(cat first)/exe ] && exit 8; exit 0; \
         fi; echo $$ > first; setsid sh stays & until [ -s worker ]; do sleep 0.02; done; \
         kill -STOP $!; kill -STOP $$; exit 7";
    let done = place.run(["-p", "--kill-after", "300ms", "--backoff", "0..0", "sh", "-c", job]);
    assert_eq!(done.code(), 0, "{done:?}");
    for file in ["worker", "first"] {
        assert!(!is_alive(place.text(file).trim().parse().expect("a pid")), "{file}");
    }
    done.message("sending SIGTERM to every process of the job (it stays stopped)");
}

/// "SIGTTIN/SIGTTOU would stop it again at once: this is said once, with the cure (`-i /dev/null`),
/// never repeated in a loop"
#[test]
fn a_job_that_wants_the_terminal_is_told_of_once_and_not_continued() {
    let cases =
        [("TTIN", 21, &["-c"][..]), ("TTIN", 21, &[]), ("TTOU", 22, &["-c"]), ("TTOU", 22, &[])];
    for (signal, number, options) in cases {
        let place = Place::new();
        let job = format!("for i in 1 2 3; do echo $i >> stops; kill -{signal} $$; done; exit 5");
        let mut command = place.childminder(options.iter().chain(&["sh", "-c", &job]));
        // A group of its own, with a parent outside of it: in an orphaned one the kernel discards
        // these signals.
        command.process_group(0);
        let running = place.start_command(command);
        let job = running.job();
        for time in 1..=3 {
            wait_until("the job has stopped itself", || {
                let log = messages(&place.log());
                let stop = format!("child {job} stopped by signal {number} (SIG{signal})");
                log.iter().filter(|line| **line == stop).count() == time
            });
            let said = place.await_log("wants the terminal");
            assert!(said.contains("-i /dev/null"), "{said}");
            assert_eq!(place.text("stops").lines().count(), time, "continued all the same");
            kill(job, "CONT");
        }
        let done = running.end();
        assert_eq!(done.code(), 5, "{done:?}");
        done.message("wants the terminal");
        assert_eq!(done.count("successfully sent"), 0, "{done:?}");
        assert_eq!(done.stderr.matches("wants the terminal").count(), 1, "{done:?}");
    }
}

/// PEERS, T2: the original never came to look for a core dump. "`child PID dumped core`"
#[test]
fn a_core_dump_is_told_when_the_kernel_says_that_there_is_one() {
    for limit in ["0", "unlimited"] {
        let place = Place::new();
        let script = format!("ulimit -c {limit}; exec \"$@\"");
        let job = ["sh", "-c", "kill -SEGV $$"];
        let mut direct = place.shell(&script);
        let direct = direct.arg("sh").args(job).status().expect("sh starts");
        if direct.signal() != Some(11) {
            support::skip("a core dump", "the limit may not be raised here");
            continue;
        }
        let mut minded = place.shell(&script);
        minded.arg("sh").arg(support::program()).args(job);
        let done = place.run_command(minded);
        assert_eq!(done.code(), 139, "{done:?}");
        assert_eq!(
            done.count(" dumped core"),
            usize::from(direct.core_dumped()),
            "{limit}: {done:?}"
        );
        assert_eq!(done.verdict().contains("core dumped"), direct.core_dumped(), "{done:?}");
    }
}
