//! DESIGN, section 7: each kind of verdict, from a real death, with the confidence that its
//! evidence allows.

mod support;

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Done, Place, is_root, kill, skip, wait_until};

/// Runs a shell script as the job, without core dumps.
fn script(place: &Place, text: &str) -> Done {
    // The OOM counters are first read ten milliseconds after the start of the job.
    place.run(["sh", "-c", &format!("ulimit -c 0; sleep 0.1; {text}")])
}

#[track_caller]
fn assert_verdict(done: &Done, begin: &str, words: &[&str]) {
    let verdict = done.verdict();
    assert!(verdict.starts_with(begin), "'{begin}' is not the beginning of '{verdict}'");
    for word in words {
        assert!(verdict.contains(word), "'{word}' is not in '{verdict}'");
    }
}

/// "exit 137 alone is never SIGKILL"
#[test]
fn a_program_that_returns_137_was_not_killed() {
    let place = Place::new();
    let done = script(&place, "exit 137");
    assert_eq!(done.code(), 137);
    assert_verdict(&done, "exit_nonzero (", &["exit status 137", "no signal ended the job"]);
    assert!(done.stderr.contains("]: exit_nonzero (certain)"), "{}", done.stderr);
}

/// "SIGKILL alone is never OOM": with counters that did not rise, it was a process.
#[test]
fn a_kill_by_a_person_is_told_from_the_oom_killer() {
    let place = Place::new();
    let run = place.start(["sh", "-c", "echo ready > ready; sleep 600"]);
    place.await_line("ready", "ready");
    kill(run.job(), "KILL");
    place.processes().into_iter().filter(|pid| *pid != run.pid()).for_each(|pid| kill(pid, "KILL"));
    let done = run.end();
    assert_eq!(done.code(), 137);
    let verdict = done.verdict();
    let is_known =
        verdict.starts_with("killed_by_process (likely): SIGKILL; not by the kernel's OOM killer");
    // A machine that tells nobody its counters leaves it open, and one whose other jobs ran out of
    // memory meanwhile does, too.
    let is_open = verdict.starts_with("unknown (possible): SIGKILL");
    assert!(is_known || is_open, "{verdict}");
}

/// "`cpu_limit`"
#[test]
fn the_limits_of_cpu_time_are_recognised_hard_and_soft() {
    let busy = "exec sh -c 'while :; do :; done'";
    let place = Place::new();
    let done = script(&place, &format!("ulimit -t 1; {busy}"));
    assert_eq!(done.code(), 137);
    assert_verdict(&done, "cpu_limit (likely): SIGKILL; RLIMIT_CPU (hard) of 1 s reached", &[]);
    let place = Place::new();
    let done = script(&place, &format!("ulimit -St 1; {busy}"));
    assert_eq!(done.code(), 128 + 24);
    assert_verdict(&done, "cpu_limit (certain): SIGXCPU", &["RLIMIT_CPU (soft)"]);
}

/// "`file_size_limit`"
#[test]
fn the_limit_of_a_files_size_is_recognised() {
    let place = Place::new();
    let done = script(&place, "ulimit -f 1; exec dd if=/dev/zero of=big bs=4096 count=100");
    assert_eq!(done.code(), 128 + 25);
    let words = ["/big has just that size"];
    assert_verdict(&done, "file_size_limit (certain): SIGXFSZ; RLIMIT_FSIZE was 512 bytes", &words);
}

/// The signals of limits that were not reached: a person sent them.
#[test]
fn the_signal_of_a_limit_that_was_not_reached_is_not_a_limit() {
    for (job, confidence, words) in [
        ("kill -XCPU $$", "likely", "RLIMIT_CPU is unlimited"),
        ("ulimit -St 3600; kill -XCPU $$", "likely", "RLIMIT_CPU (soft) was 3600 s, 0.0"),
        ("kill -XFSZ $$", "likely", "RLIMIT_FSIZE is unlimited"),
        // A write far beyond the end of a smaller file leaves no file of that size.
        ("ulimit -f 9999; kill -XFSZ $$", "possible", "no file of that size was found"),
    ] {
        let place = Place::new();
        let done = script(&place, job);
        assert_verdict(&done, &format!("killed_by_process ({confidence}): SIGX"), &[words]);
    }
}

/// RLIMIT_RTTIME has the signal of RLIMIT_CPU.
#[test]
fn the_limit_of_real_time_is_named() {
    let place = Place::new();
    let real_time = ["--rttime=100000:9000000", "chrt", "-f", "1"];
    let possible = place.command("prlimit").args(real_time).arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        return skip("RLIMIT_RTTIME", "no real-time scheduling for us here");
    }
    let job = ["sh", "-c", "while :; do :; done"];
    let done = place.run(["prlimit"].iter().chain(&real_time).chain(&job));
    assert_eq!(done.code(), 128 + 24);
    assert_verdict(&done, "cpu_limit (likely): SIGXCPU; RLIMIT_RTTIME (soft) was 0.1 s", &[]);
}

/// Timers of the program's own, and the reader of its output: nobody killed it.
#[test]
fn a_timer_of_its_own_and_a_broken_pipe_are_not_kill_by_a_process() {
    for (job, begin) in [
        ("alarm 1; sleep 60", "unknown (likely): SIGALRM; a timer that the program itself had set"),
        ("pipe R, W; close R; syswrite W, 1", "broken_pipe (likely): SIGPIPE; broken pipe"),
    ] {
        let place = Place::new();
        let done = place.run(["perl", "-e", job]);
        assert_verdict(&done, begin, &[]);
    }
}

/// In the strict mode of seccomp(2) the kernel sends SIGKILL for a system call.
#[test]
fn a_kill_by_seccomp_is_a_crash() {
    if cfg!(not(target_arch = "x86_64")) {
        return skip("seccomp", "the numbers of its system calls are those of x86_64");
    }
    let place = Place::new();
    let done = place.run(["perl", "-e", "syscall 157, 22, 1, 0, 0, 0; syscall 39; sleep 9"]);
    if done.code() == 0 {
        return skip("seccomp", "the strict mode is refused here");
    }
    assert_eq!(done.code(), 137);
    let verdict = done.verdict();
    let is_known = verdict.starts_with("crashed (certain): SIGKILL; the kernel's log: ")
        || verdict.starts_with("crashed (likely): SIGKILL; the kernel marked it as ended by")
        || verdict.starts_with("crashed (likely): SIGKILL; in the strict mode of seccomp(2)");
    // A machine whose counters had risen before cannot exclude the OOM killer so early.
    assert!(is_known || verdict.contains("(possible): SIGKILL"), "{verdict}");
}

/// "`crashed`"
#[test]
fn faults_are_crashes_and_a_missing_core_is_explained() {
    for (signal, number) in [("SEGV", 11), ("ABRT", 6), ("FPE", 8), ("BUS", 7)] {
        let place = Place::new();
        let done = script(&place, &format!("kill -{signal} $$"));
        assert_eq!(done.code(), 128 + number);
        let begin = format!("crashed (likely): SIG{signal}");
        assert_verdict(&done, &begin, &["no core dump: "]);
    }
}

/// "core dump found and named"
#[test]
fn a_core_dump_is_named_where_it_is() {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("a pattern");
    if pattern.trim_end() != "core" {
        return skip("a core dump by name", "core_pattern is not 'core'");
    }
    let place = Place::new();
    let done = place.run(["sh", "-c", "ulimit -c unlimited && kill -SEGV $$"]);
    let begin = "crashed (likely): SIGSEGV, core dumped";
    let core = format!("core dump {}", place.file("core").display());
    assert_verdict(&done, begin, &[&core]);
}

/// Whether this machine tells us of the deaths of descendants.
fn has_proc_events(place: &Place) -> bool {
    let done = place.run(["-l", "stdout", "sleep", "0.05"]);
    let is_in_force = done.stdout.contains("in force")
        && !done.stdout.contains("proc connector (")
        && done.stdout.contains("proc connector");
    if !is_in_force {
        skip("deaths of descendants", "no proc connector here");
    }
    is_in_force
}

/// "descendant_killed (certain): sh exited 137 after its child ... was killed by SIGKILL"
#[test]
fn a_shell_that_returns_137_for_its_killed_child_is_explained() {
    let place = Place::new();
    if !has_proc_events(&place) {
        return;
    }
    let done = script(&place, "sh -c 'kill -KILL $$'; exit $?");
    assert_eq!(done.code(), 137);
    assert_verdict(&done, "descendant_killed (certain): exit status 137", &["killed by SIGKILL"]);
}

/// "`success_with_losses` (exit 0, but a descendant was killed or crashed)"
#[test]
fn a_success_that_lost_a_worker_says_so_and_can_be_made_a_failure() {
    let place = Place::new();
    if !has_proc_events(&place) {
        return;
    }
    let job = ["sh", "-c", "sleep 0.1; sh -c 'kill -KILL $$'; exit 0"];
    let done = place.run(job);
    assert_eq!(done.code(), 0);
    assert_verdict(&done, "success_with_losses (certain): exit status 0", &["SIGKILL"]);
    assert!(done.stderr.contains("success_with_losses"), "{}", done.stderr);
    let place = Place::new();
    let done = place.run(["--on-descendant-loss", "fail"].into_iter().chain(job));
    assert_eq!(done.code(), 1);
}

/// Deaths in the first milliseconds count.
#[test]
fn a_loss_in_the_first_moment_is_known() {
    let place = Place::new();
    if !has_proc_events(&place) {
        return;
    }
    let place = Place::new();
    let done = place.run(["sh", "-c", "sh -c 'kill -KILL $$'; exit 0"]);
    assert_verdict(&done, "success_with_losses (certain): exit status 0", &["SIGKILL"]);
    let place = Place::new();
    let done = place.run(["sh", "-c", "sh -c 'kill -KILL $$'; exit $?"]);
    assert_verdict(&done, "descendant_killed (certain): exit status 137", &["SIGKILL"]);
}

/// What happened seconds before the end does not explain it.
#[test]
fn a_helper_that_was_killed_long_before_is_mentioned_and_not_the_cause() {
    let place = Place::new();
    if !has_proc_events(&place) {
        return;
    }
    let lost = "sh -c 'kill -KILL $$'";
    let place = Place::new();
    let done = place.run(["sh", "-c", &format!("{lost}; sleep 1.5; exit 3")]);
    assert_verdict(
        &done,
        "exit_nonzero (likely): exit status 3",
        &["SIGKILL 1.", "before the end"],
    );
    let place = Place::new();
    let done = place.run(["sh", "-c", &format!("{lost}; exit 3")]);
    assert_verdict(&done, "descendant_killed (likely): exit status 3", &["SIGKILL"]);
    // A pool that hangs because of it.
    let place = Place::new();
    let done = place.run(["--timeout", "1500ms", "sh", "-c", &format!("{lost}; sleep 600")]);
    assert_verdict(&done, "timed_out (certain): ", &["killed by SIGKILL 1.", "before the end"]);
}

/// Parent-death signals come after the end of the job: nothing was lost by them.
#[test]
fn what_dies_because_the_job_ended_is_not_a_loss() {
    let place = Place::new();
    if !has_proc_events(&place) {
        return;
    }
    if cfg!(not(target_arch = "x86_64")) {
        return skip("parent-death signals", "the number of prctl(2) is that of x86_64");
    }
    let place = Place::new();
    // A child that asks for SIGKILL at its parent's end, and says so before that.
    let job =
        "pipe R, W; if (!fork) { syscall 157, 1, 9; syswrite W, 1; sleep 60 } sysread R, $_, 1";
    let done = place.run(["perl", "-e", job]);
    assert_eq!(done.verdict(), "success (certain): exit status 0");
}

/// "A straggler that crashes while waited for is a loss."
#[test]
fn a_straggler_that_crashes_while_it_is_waited_for_is_a_loss() {
    let place = Place::new();
    let job =
        "(until [ -e go ]; do sleep 0.01; done; ulimit -c 0; exec sh -c 'kill -SEGV $$') & exit 0";
    let run = place.start(["--stragglers", "wait", "sh", "-c", job]);
    place.await_log("outlive it (wait)");
    place.write("go", "");
    let done = run.end();
    assert_eq!(done.code(), 0);
    let words = ["that outlived the job was waited for", "SIGSEGV"];
    assert_verdict(&done, "success_with_losses (certain): exit status 0", &words);
}

/// A stop that was requested is named where the job ends well, and is not a cause where the job ignored it.
#[test]
fn a_request_to_stop_is_weighed_by_what_the_job_did_with_it() {
    let wait = "echo up > up; until [ -e go ]; do sleep 0.01; done";
    let asked = |job: &str| {
        let place = Place::new();
        let run = place.start(["sh", "-c", job]);
        place.await_line("up", "up");
        run.signal("TERM");
        place.await_log("forwarded signal 15");
        place.write("go", "");
        run.end().verdict().to_owned()
    };
    let verdict = asked(&format!("trap 'exit 0' TERM; {wait}"));
    let begin =
        "success (certain): exit status 0; a stop was requested just before the end: signal 15";
    assert!(verdict.starts_with(begin), "{verdict}");
    let verdict = asked(&format!("trap 'exit 4' TERM; {wait}"));
    assert!(verdict.starts_with("stop_requested (likely): exit status 4; signal 15"), "{verdict}");
    let verdict = asked("echo up > up; exec sleep 600");
    assert!(verdict.starts_with("stop_requested (certain): SIGTERM; signal 15"), "{verdict}");
    let verdict = asked(&format!("trap '' TERM; {wait}; exit 4"));
    assert!(verdict.starts_with("exit_nonzero (certain): exit status 4; a stop was"), "{verdict}");
    assert!(verdict.ends_with(", which the job ignored or blocked"), "{verdict}");
}

/// Programs end each other cleanly every day: that is not a loss.
#[test]
fn a_pipeline_and_a_terminated_helper_are_a_full_success() {
    let place = Place::new();
    let done = script(&place, "yes | head -n 1 >/dev/null; sleep 60 & kill $!; wait $!; exit 0");
    assert_eq!(done.code(), 0);
    assert_eq!(done.verdict(), "success (certain): exit status 0");
    assert_eq!(support::verdicts(&done.stderr).len(), 0, "{done:?}");
}

/// A memory cgroup of a test's own, where root can make one.
struct MemoryCgroup {
    directory: PathBuf,
}

impl MemoryCgroup {
    fn new(limit_bytes: u64) -> Option<MemoryCgroup> {
        let name = format!("childminder-test-{}-{limit_bytes}", std::process::id());
        let (parent, limit) = if Path::new("/sys/fs/cgroup/memory").is_dir() {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            ("/sys/fs/cgroup", "memory.max")
        };
        let directory = Path::new(parent).join(name);
        let made = is_root()
            && fs::create_dir(&directory).is_ok()
            && fs::write(directory.join(limit), limit_bytes.to_string()).is_ok();
        if !made {
            skip("a real death for want of memory", "no memory cgroup can be made here");
            return None;
        }
        Some(MemoryCgroup { directory })
    }

    /// Runs childminder in it.
    fn run(&self, place: &Place, words: &[&str]) -> Done {
        place.start_command(self.holding(place.childminder(words))).end()
    }

    /// Lets a command begin in it.
    fn holding(&self, mut command: Command) -> Command {
        let procs = self.directory.join("cgroup.procs");
        // SAFETY: opens and writes a file before exec; the process has one thread.
        #[expect(unsafe_code, reason = "the cgroup is entered before childminder begins")]
        unsafe {
            command.pre_exec(move || fs::write(&procs, "0"));
        }
        command
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        wait_until("the cgroup is empty", || fs::remove_dir(&self.directory).is_ok());
    }
}

/// Fills memory until it is killed: perl is on every Debian.
const EATER: &str =
    "exec perl -e '$x = \"x\" x (1 << 20); push @a, $x . $_ for 1 .. 400; sleep 60'";

/// "our own cgroup's oom_kill counter rose during the attempt ... (certain)"
#[test]
fn an_oom_kill_in_a_cgroup_is_certain() {
    let Some(cgroup) = MemoryCgroup::new(64 << 20) else { return };
    let place = Place::new();
    let done = cgroup.run(&place, &["sh", "-c", EATER]);
    assert_eq!(done.code(), 137);
    assert_verdict(&done, "oom_killed (certain): SIGKILL", &["limit 64.0 MiB"]);
}

/// "a worker OOM-killed while its parent exits 0"
#[test]
fn a_worker_that_ran_out_of_memory_is_reported_whatever_its_parent_returns() {
    let Some(cgroup) = MemoryCgroup::new(65 << 20) else { return };
    let place = Place::new();
    let worker = EATER.strip_prefix("exec ").expect("the prefix");
    let done = cgroup.run(&place, &["sh", "-c", &format!("{worker}; exit 0")]);
    assert_eq!(done.code(), 0);
    assert_verdict(&done, "success_with_losses (certain)", &["SIGKILL", "memory"]);
    let place = Place::new();
    let done = cgroup.run(&place, &["sh", "-c", &format!("{worker}; exit $?")]);
    assert_eq!(done.code(), 137);
    assert_verdict(&done, "oom_killed (certain): exit status 137; its descendant ", &[]);
}

/// A stranger is killed in the cgroup that we share with it, and then a person kills the job: where the
/// kernel's log names the victim, that is known, and elsewhere it is never certain.
#[test]
fn an_oom_kill_of_a_stranger_in_a_shared_cgroup_is_not_the_jobs() {
    let Some(cgroup) = MemoryCgroup::new(66 << 20) else { return };
    for as_user in [false, true] {
        let place = Place::new();
        let words = ["sh", "-c", "echo up > up; exec sleep 600"];
        let mut command = place.childminder(words);
        if as_user {
            let Some(user) = place.as_another_user(&words) else { return };
            command = user;
        }
        let run = place.start_command(cgroup.holding(command));
        place.await_line("up", "up");
        place.await_log("evidence in force");
        let mut stranger = place.command("sh");
        stranger.args(["-c", EATER]);
        let died = cgroup.holding(stranger).status().expect("it starts");
        assert_eq!(died.signal(), Some(9), "the stranger ran out of memory");
        kill(run.job(), "KILL");
        let done = run.end();
        let sources = done.message("evidence in force");
        let in_force = sources.split_once("; not ").map_or(sources, |(in_force, _)| in_force);
        if !in_force.contains("/dev/kmsg") && !as_user {
            skip("victims by name", "the kernel's log is not readable");
        } else if !as_user {
            let words = ["the kernel's log names other victims"];
            assert_verdict(&done, "killed_by_process (likely): SIGKILL", &words);
        }
        assert!(!done.verdict().contains("(certain)"), "{}", done.verdict());
    }
}

/// "The last 60 seconds of samples, PSI and host load ... written to the log only when the job
/// fails: the flight recorder"
#[test]
fn the_flight_recorder_and_the_last_words_are_told_of_a_failure_only() {
    let place = Place::new();
    let job = "seq 1 30 >&2; sleep 0.5; exit";
    let words = |status: &str| {
        ["--sample", "50ms", "-e", "err", "sh", "-c"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("{job} {status}")])
    };
    let done = place.run(words("3"));
    assert!(done.count("recorder -") >= 3, "{:#?}", done.log);
    let samples: Vec<(f64, &str)> = done
        .log
        .iter()
        .filter_map(|line| line.strip_prefix("recorder -")?.split_once(" s: "))
        .map(|(before, sample)| (before.parse().expect("seconds"), sample))
        .collect();
    assert!(samples.is_sorted_by(|a, b| a.0 >= b.0), "oldest first: {samples:?}");
    assert!(samples.iter().all(|(_, sample)| sample.contains("processes")), "{samples:?}");
    // The job slept for half a second, and the samples reach into it.
    assert!(samples.last().is_some_and(|last| last.0 < 0.5), "{samples:?}");
    let told: Vec<&str> =
        done.log.iter().filter_map(|line| line.strip_prefix("stderr: ")).collect();
    let expected: Vec<String> = (11..=30).map(|number| number.to_string()).collect();
    assert_eq!(told, expected);
    let place = Place::new();
    let done = place.run(words("0"));
    assert_eq!((done.count("recorder -"), done.count("stderr: ")), (0, 0));
}

/// "names only"
#[test]
fn neighbours_are_listed_by_name_when_asked_for() {
    let place = Place::new();
    let done = place.run(["--neighbours", "sh", "-c", "exit 3"]);
    let line = done.message("processes of other users");
    if !is_root() {
        assert!(line.contains("uid 0 "), "{line}");
    }
    let place = Place::new();
    assert_eq!(place.run(["sh", "-c", "exit 3"]).count("processes of other users"), 0);
}
