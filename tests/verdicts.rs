//! DESIGN, section 7: each kind of verdict, from a real death, with the confidence that its
//! evidence allows.

mod support;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use support::{Done, Place, is_root, kill, skip, wait_until};

/// Runs a shell script as the job, without core dumps.
fn script(place: &Place, text: &str) -> Done {
    // What tells of descendants and memory begins ten milliseconds after the job.
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
    assert_verdict(&done, "exit_nonzero (certain): exit status 137", &["no signal ended the job"]);
    assert!(done.stderr.contains("verdict: exit_nonzero"), "{}", done.stderr);
}

/// "SIGKILL alone is never OOM": with counters that did not rise, it was a process.
#[test]
fn a_kill_by_a_person_is_told_from_want_of_memory() {
    let place = Place::new();
    let run = place.start(["sh", "-c", "echo ready > ready; sleep 600"]);
    place.await_line("ready", "ready");
    kill(run.job(), "KILL");
    place.processes().into_iter().filter(|pid| *pid != run.pid()).for_each(|pid| kill(pid, "KILL"));
    let done = run.end();
    assert_eq!(done.code(), 137);
    let verdict = done.verdict();
    let is_known =
        verdict.starts_with("killed_by_process (likely): SIGKILL; not for want of memory");
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
    assert_verdict(&done, "file_size_limit (certain): SIGXFSZ; RLIMIT_FSIZE was 512 bytes", &[]);
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

/// Programs end each other in good order every day: that is no loss.
#[test]
fn a_pipeline_and_a_terminated_helper_are_a_full_success() {
    let place = Place::new();
    let done = script(&place, "yes | head -n 1 >/dev/null; sleep 60 & kill $!; wait $!; exit 0");
    assert_eq!(done.code(), 0);
    assert_eq!(done.verdict(), "success (certain): exit status 0");
    assert_eq!(done.stderr.lines().filter(|line| line.contains("verdict")).count(), 0);
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
        let mut command = place.childminder(words);
        let procs = self.directory.join("cgroup.procs");
        // SAFETY: opens and writes a file before exec; the process has one thread.
        #[expect(unsafe_code, reason = "the cgroup is entered before childminder begins")]
        unsafe {
            command.pre_exec(move || fs::write(&procs, "0"));
        }
        let run = place.start_command(command);
        run.end()
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
fn a_worker_that_ran_out_of_memory_is_told_whatever_its_parent_returns() {
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
    assert!(done.message("recorder -0.0").contains("processes"));
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
