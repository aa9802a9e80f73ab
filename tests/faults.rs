//! DESIGN, section 11: the job's exit status is told truthfully, nothing keeps the job from ending, and
//! the loop neither blocks nor spins: with system calls that fail, readers that do not read, tracers
//! that do not let go, and limits that leave little.
//!
//! `CHILDMINDER_TEST_FAULTS=all` runs the whole matrix of failing system calls.

#![expect(clippy::disallowed_methods, reason = "tests start programs and read the clock")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::{Place, Running, is_root, kill, program, skip, wait_until};

/// What childminder is asked to do, and the statuses that are true. Where it could not do its part, it
/// says so by 125.
struct Scenario {
    name: &'static str,
    words: &'static [&'static str],
    statuses: &'static [i32],
}

/// A status besides the first one is true where a signal of ours did not reach the job.
const SCENARIOS: [Scenario; 13] = [
    Scenario { name: "success", words: &["true"], statuses: &[0] },
    Scenario { name: "failure", words: &["sh", "-c", "exit 3"], statuses: &[3] },
    Scenario { name: "killed", words: &["sh", "-c", "kill -9 $$"], statuses: &[137] },
    Scenario {
        name: "restart",
        words: &["-s", "-t", "1", "--backoff", "9ms..9ms", "sh", "-c", "kill -9 $$"],
        statuses: &[137],
    },
    Scenario {
        name: "timeout",
        words: &["--timeout", "0.1", "--kill-after", "0.1", "sleep", "4"],
        statuses: &[124, 0, 137, 143],
    },
    Scenario {
        name: "stragglers",
        words: &["--stragglers", "kill", "--kill-after", "0.1", "sh", "-c", "sleep 4 & exit 4"],
        statuses: &[4],
    },
    Scenario {
        name: "forward",
        // What the job itself sends is passed on if it was asked for.
        words: &["--forward", "TERM", "sh", "-c", "kill -TERM $PPID; exec sleep 4"],
        statuses: &[143, 0],
    },
    Scenario {
        name: "continue",
        words: &[
            "-c",
            "--timeout",
            "5",
            "--kill-after",
            "0.1",
            "sh",
            "-c",
            "kill -STOP $$; exit 5",
        ],
        statuses: &[5, 124],
    },
    Scenario { name: "stderr", words: &["-l", "stderr", "sh", "-c", "exit 6"], statuses: &[6] },
    Scenario {
        name: "record",
        words: &["--central-log", "record.csv", "sh", "-c", "exit 7"],
        statuses: &[7],
    },
    Scenario {
        name: "textfile",
        words: &["--textfile-directory", ".", "sh", "-c", "exit 8"],
        statuses: &[8],
    },
    Scenario {
        name: "sampled",
        words: &["--sample", "20ms", "sh", "-c", "sleep 0.1; exit 9"],
        statuses: &[9],
    },
    Scenario { name: "canary", words: &["-f", "50ms", "string"], statuses: &[0, 1] },
];

/// Calls of the C library before `main`, or whose failure means that there is no memory: the program
/// cannot go on then, and no job was started by the former.
const NOT_OURS: [&str; 15] = [
    "execve",
    "exit_group",
    "exit",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "mprotect",
    "brk",
    "mmap",
    "munmap",
    "mremap",
    "madvise",
    "rt_sigreturn",
    // The C library aborts.
    "futex",
];

const ERRORS: [&str; 3] = ["EIO", "ENOMEM", "EPERM"];

/// A run that makes more system calls than this spins. Most make some hundreds; one that looks for
/// descendants reads some files for each process of the machine, many times.
const CALLS_MAX: usize = 100_000;

/// No scenario takes longer, with every fault, on a machine that has little time for it: the canary computes for
/// a second. By itself none takes more than 12 s: the limit of 5 s, or the same time in which waitid(2) fails,
/// before SIGKILL is given up after 5 s, and the limits at the end.
const LONGEST: Duration = Duration::from_secs(90);

/// The system calls of the supervising thread, in order, as strace(1) prints them.
fn calls(trace: &str) -> Vec<String> {
    let name = |line: &str| Some(line.split_once('(')?.0.to_owned());
    trace.lines().filter(|line| !line.starts_with(['+', '-'])).filter_map(name).collect()
}

/// childminder under strace(1), which traces the supervising thread alone.
fn traced(place: &Place, inject: Option<&str>, words: &[&str]) -> Command {
    let mut command = place.command("strace");
    command.args(["-o", "trace"]);
    if let Some(inject) = inject {
        command.args(["-e", &format!("inject={inject}")]);
    }
    command.arg(program()).args(words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn can_trace() -> bool {
    let mut command = Command::new("strace");
    let done = command.args(["-o", "/dev/null", "-e", "inject=getuid:error=EIO", "true"]).output();
    done.is_ok_and(|output| output.status.success())
}

/// Runs a scenario with a fault; returns what is wrong with it.
fn faulty(scenario: &Scenario, inject: &str) -> Result<(), String> {
    let place = Place::new();
    let begun = Instant::now();
    let child = traced(&place, Some(inject), scenario.words).spawn().expect("strace starts");
    let pid = i32::try_from(child.id()).expect("a pid");
    let waiter = std::thread::spawn(move || child.wait_with_output());
    while !waiter.is_finished() && begun.elapsed() < LONGEST {
        std::thread::sleep(Duration::from_millis(2));
    }
    let hangs = !waiter.is_finished();
    if hangs {
        place.processes().into_iter().for_each(|pid| kill(pid, "KILL"));
        kill(pid, "KILL");
    }
    let output = waiter.join().expect("a thread").expect("output");
    let left = place.processes();
    left.iter().for_each(|pid| kill(*pid, "KILL"));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stderr), place.log());
    let count = calls(&place.text("trace")).len();
    let status = output.status.code();
    let is_true = status.is_some_and(|status| {
        // 125 to 127: it was not started or not known, which it says.
        scenario.statuses.contains(&status) || (matches!(status, 125..=127) && !said.is_empty())
    });
    if hangs {
        return Err(format!("hangs\n{said}"));
    }
    if let Some(signal) = output.status.signal() {
        return Err(format!("died of signal {signal}\n{said}"));
    }
    if !is_true {
        return Err(format!("status {status:?}\n{said}"));
    }
    if count > CALLS_MAX {
        return Err(format!("{count} system calls\n{said}"));
    }
    // What could not be ended is named.
    let is_named = |pid: &i32| said.contains(&pid.to_string()) || said.contains("could not");
    if !left.iter().all(is_named) {
        return Err(format!("left {left:?} behind\n{said}"));
    }
    Ok(())
}

/// "Repeat the system-call fault injection": each system call of each scenario fails once.
#[test]
fn no_failing_system_call_costs_the_status_of_the_job() {
    if !can_trace() {
        skip("failing system calls", "strace is missing or may not trace here");
        return;
    }
    let is_all = std::env::var_os("CHILDMINDER_TEST_FAULTS").is_some_and(|value| value == "all");
    let mut faults = Vec::new();
    for (index, scenario) in SCENARIOS.iter().enumerate() {
        let place = Place::new();
        let output = traced(&place, None, scenario.words).output().expect("strace starts");
        assert_eq!(output.status.code(), Some(scenario.statuses[0]), "{}", scenario.name);
        let mut counts = BTreeMap::<String, usize>::new();
        for call in calls(&place.text("trace")) {
            *counts.entry(call).or_default() += 1;
        }
        counts.retain(|call, _| !NOT_OURS.contains(&call.as_str()));
        for (call, count) in counts {
            for when in 1..=count.min(if is_all { 40 } else { 6 }) {
                for error in ERRORS {
                    faults.push((index, format!("{call}:error={error}:when={when}")));
                }
            }
            // A call that fails each time, from some point on.
            faults.extend(ERRORS.map(|error| (index, format!("{call}:error={error}:when=2+"))));
        }
    }
    let all = faults.len();
    if !is_all {
        // Each scenario, call and error comes up in one of them.
        faults = faults.into_iter().step_by(13).collect();
    }
    let begun = Instant::now();
    let next = AtomicUsize::new(0);
    let slowest = Mutex::new((Duration::ZERO, String::new()));
    let wrong = std::thread::scope(|scope| {
        let work = || {
            let mut wrong = Vec::new();
            while let Some((index, inject)) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
                let scenario = &SCENARIOS[*index];
                let started = Instant::now();
                let outcome = faulty(scenario, inject);
                let mut slowest = slowest.lock().expect("no panic");
                if started.elapsed() > slowest.0 {
                    *slowest = (started.elapsed(), format!("{}: {inject}", scenario.name));
                }
                drop(slowest);
                if let Err(reason) = outcome {
                    wrong.push(format!("{}: {inject}: {reason}", scenario.name));
                }
            }
            wrong
        };
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(work)).collect();
        let wrong = threads.into_iter().flat_map(|thread| thread.join().expect("a worker"));
        wrong.collect::<Vec<_>>()
    });
    let (count, seconds) = (faults.len(), begun.elapsed().as_secs());
    let (longest, which) = slowest.into_inner().expect("no panic");
    let summary = format!(
        "{count} of {all} faults in {seconds} s, {} wrong; the slowest took {longest:.1?} ({which})\n",
        wrong.len()
    );
    io::stderr().write_all(summary.as_bytes()).expect("stderr");
    assert!(wrong.is_empty(), "{} of {count} faults:\n{}", wrong.len(), wrong.join("\n---\n"));
}

/// What is done once the job runs, and what only observes it, may fail in any way and costs evidence alone. A
/// close(2) that fails makes std panic where a directory was read.
#[test]
fn what_fails_around_the_start_of_the_job_does_not_cost_its_verdict() {
    if !can_trace() {
        return skip("failing system calls", "strace is missing or may not trace here");
    }
    let job = ["sh", "-c", "kill -STOP $$; exit 5"];
    for log in [&["-c"][..], &["-c", "-l", "stderr"]] {
        let words: Vec<&str> = log.iter().chain(&job).copied().collect();
        let place = Place::new();
        traced(&place, None, &words).output().expect("strace starts");
        let count = calls(&place.text("trace")).iter().filter(|call| *call == "close").count();
        let each = (1..=count.min(40)).map(|when| when.to_string());
        for when in each.chain((1..8).map(|from| format!("{from}+"))) {
            let place = Place::new();
            let inject = format!("close:error=EIO:when={when}");
            let done = place.run_command(traced(&place, Some(&inject), &words));
            assert_eq!(done.code(), 5, "{when}: {done:?}");
            let text = format!("{}{}", done.stderr, place.log());
            assert!(text.contains("exit_nonzero (certain): exit status 5"), "{when}: {done:?}");
            assert!(text.matches("internal error").count() <= 2, "{when}: {done:?}");
        }
    }
}

/// CPU time of a process in clock ticks (proc(5)).
fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a stat").split_whitespace().collect();
    fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
}

/// ptrace(2): a tracer that does not wait keeps the zombie from its parent.
#[test]
fn a_zombie_that_a_tracer_holds_is_waited_for_without_spinning() {
    let number = match std::env::consts::ARCH {
        "x86_64" => 101,
        "aarch64" => 117,
        other => {
            return skip("a tracer that holds the job", &format!("ptrace's number on {other}"));
        }
    };
    let place = Place::new();
    let running = place.start(["sleep", "60"]);
    let job = running.job();
    // PTRACE_SEIZE, without any option: the tracer never waits for what it traces. perl passes what
    // was never used as a number as a pointer.
    let seize = "syscall(0 + $ARGV[0], 0x4206, 0 + $ARGV[1], 0, 0) == 0 or exit 1; <STDIN>";
    let mut tracer = place.command("perl");
    tracer.args(["-e", seize, &number.to_string(), &job.to_string()]).stdin(Stdio::piped());
    let mut tracer = tracer.spawn().expect("perl starts");
    let mark = format!("TracerPid:\t{}", tracer.id());
    let is_traced =
        || fs::read_to_string(format!("/proc/{job}/status")).is_ok_and(|text| text.contains(&mark));
    wait_until("it is traced, or cannot be", || {
        is_traced() || tracer.try_wait().expect("our child").is_some()
    });
    if !is_traced() {
        kill(job, "KILL");
        assert_eq!(running.end().code(), 137);
        return skip("a tracer that holds the job", "ptrace is not permitted here");
    }
    kill(job, "KILL");
    wait_until("it is a zombie", || {
        fs::read_to_string(format!("/proc/{job}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    });
    let before = ticks(running.pid());
    // It is the time without an event that counts.
    std::thread::sleep(Duration::from_millis(1500));
    let used = ticks(running.pid()) - before;
    drop(tracer.stdin.take());
    tracer.wait().expect("our child");
    let done = running.end();
    assert_eq!(done.code(), 137, "{done:?}");
    assert!(used <= 10, "{used} ticks of 150");
}

/// A FIFO with a reader that never reads; the reader lives until this is dropped.
struct Unread {
    reader: std::process::Child,
}

impl Unread {
    fn new(place: &Place) -> Unread {
        assert!(place.command("mkfifo").arg("fifo").status().expect("mkfifo").success());
        // Read and write: neither side waits for the other to open it.
        let reader = place.shell("exec 3<>fifo; echo > open; exec sleep 60").spawn();
        wait_until("the FIFO is open", || place.file("open").exists());
        Unread { reader: reader.expect("sh starts") }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.reader.kill().expect("our child");
        self.reader.wait().expect("our child");
    }
}

/// Fills the FIFO, whatever its size: dd(1) ends when nothing fits any more.
const FILL: &str = "for size in 4096 1; do \
     dd if=/dev/zero of=fifo oflag=nonblock bs=$size 2>/dev/null; done";

/// "Nothing keeps it from ending": the verdict goes to a pipe that the job has filled.
#[test]
fn standard_error_that_nobody_reads_does_not_keep_us_from_ending() {
    let place = Place::new();
    let _unread = Unread::new(&place);
    let begun = Instant::now();
    let script = format!("exec \"$CM\" sh -c '{FILL}; exit 3' 2>fifo");
    assert_eq!(place.shell(&script).status().expect("sh starts").code(), Some(3));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let log = place.log();
    assert!(log.contains("1 line(s) could not be written to standard error"), "{log}");
    assert!(log.contains("verdict: exit_nonzero"), "{log}");
}

/// The same with the log itself: the job can still be stopped.
#[test]
fn a_log_that_nobody_reads_does_not_keep_the_job_from_being_stopped() {
    for stream in ["stderr", "stdout"] {
        let place = Place::new();
        let _unread = Unread::new(&place);
        let number = if stream == "stderr" { 2 } else { 1 };
        let job = format!("{FILL}; echo > full; exec sleep 60");
        let script = format!("exec \"$CM\" -l {stream} sh -c '{job}' {number}>fifo");
        let running = place.start_command(place.shell(&script));
        wait_until("the pipe is full", || place.file("full").exists());
        running.signal("TERM");
        let begun = Instant::now();
        assert_eq!(running.end().code(), 143);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

/// A reader that is slow gets all lines, in order and whole.
#[test]
fn a_log_that_is_read_late_is_whole() {
    let place = Place::new();
    let job = "head -c 65536 /dev/zero >&2; for i in 1 2 3 4; do kill -USR1 $PPID; sleep 0.1; done";
    let script = "\"$CM\" --forward none -l stderr sh -c \"$JOB\" 2>&1 >/dev/null | (sleep 1; cat)";
    let mut command = place.shell(script);
    command.env("JOB", job);
    let output = command.output().expect("sh starts");
    let text = String::from_utf8_lossy(&output.stdout).replace('\0', "");
    assert_eq!(text.matches("(SIGUSR1) from kill(2)").count(), 4, "{text}");
    assert!(text.trim_end().ends_with("verdict: success (certain): exit status 0"), "{text}");
    assert!(text.lines().all(|line| line.starts_with("20") && line.contains("]")), "{text}");
}

/// "A log line is never torn by ENOSPC or RLIMIT_FSIZE, and the next one is not glued to it."
#[test]
fn no_line_of_the_log_is_torn_by_a_limit() {
    for limit in (60..1200).step_by(37) {
        let place = Place::new();
        let script =
            format!("ulimit -H -f unlimited; exec prlimit --fsize={limit} \"$CM\" sh -c 'exit 3'");
        let done = place.run_command(place.shell(&script));
        assert_eq!(done.code(), 3, "{done:?}");
        let log = place.log();
        assert!(log.is_empty() || log.ends_with('\n'), "{limit}: {log:?}");
        assert!(log.lines().all(|line| line.starts_with("20") && line.contains("): ")), "{log}");
    }
}

/// The start of the job under limits: it runs, and what cannot run beside it is said.
#[test]
fn limits_on_memory_stack_and_descriptors_do_not_keep_the_job_from_running() {
    let telemetry = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9 ";
    for limit in ["-s 32", "-s 64", "-s 256", "-n 6", "-n 8", "-v 40000", "-d 6000", "-v 64000"] {
        for environment in ["", telemetry] {
            for words in ["", "--central-log record.csv", "--sample 20ms"] {
                let place = Place::new();
                let script = format!(
                    "ulimit {limit}; exec env {environment} \"$CM\" --otel-flush-timeout 0.1 {words} \
                     sh -c 'sleep 0.1; exit 3'"
                );
                let done = place.run_command(place.shell(&script));
                assert_eq!(done.code(), 3, "{script}: {done:?}");
            }
        }
    }
}

/// "The random source is getrandom(2), never a file."
#[test]
fn telemetry_needs_no_dev_random() {
    if !is_root() {
        skip("telemetry without /dev/random", "only root can take /dev away");
        return;
    }
    let place = Place::new();
    let script = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9 \
        exec unshare -m sh -c 'mount -t tmpfs none /dev && exec \"$CM\" sh -c \"exit 3\"'";
    let done = place.run_command(place.shell(script));
    if done.stderr.contains("mount") || done.stderr.contains("unshare") {
        skip("telemetry without /dev/random", "no mount namespace");
        return;
    }
    assert_eq!(done.code(), 3, "{done:?}");
    assert!(!done.stderr.contains("internal error"), "{done:?}");
}

/// "The end is held up by --otel-flush-timeout at most": a collector accepts and never answers, and
/// a FIFO stands where the configuration of the web server should be.
#[test]
fn the_end_waits_for_telemetry_that_hangs_no_longer_than_was_asked() {
    let place = Place::new();
    assert!(place.command("mkfifo").arg("config").status().expect("mkfifo").success());
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let elapsed = |options: &[&str]| {
        let place_words = options.iter().chain(&["sh", "-c", "exit 3"]);
        let begun = Instant::now();
        let mut command = place.childminder(place_words);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).stderr(Stdio::null());
        assert_eq!(command.status().expect("it starts").code(), Some(3));
        begun.elapsed()
    };
    let hung = ["--web.listen-address", "127.0.0.1:0", "--web.config.file", "config"];
    let options: Vec<&str> = hung.into_iter().chain(["--otel-flush-timeout", "1"]).collect();
    let best = (0..3).map(|_| elapsed(&options)).min().expect("three");
    assert!(best >= Duration::from_secs(1) && best < Duration::from_millis(1300), "{best:?}");
}

/// DESIGN, section 9: "A call that cannot do its work ... is a failure of the canary".
#[test]
fn a_canary_that_cannot_work_fails() {
    let place = Place::new();
    let mut command = place.childminder(["-f", "0.1", "file"]);
    command.env("TMPDIR", place.file("missing"));
    let done = place.run_command(command);
    assert_eq!(done.code(), 1, "{done:?}");
    assert!(done.stderr.contains("childminder: (file) failed on CPU "), "{done:?}");
    assert_eq!(done.count("(file) 1 call(s) failed or gave a wrong answer"), 1, "{done:?}");
}

/// A path is bytes; the JSON line about it is kept.
#[test]
fn a_path_that_is_not_utf8_keeps_its_line_in_the_json_log() {
    let place = Place::new();
    let job = "exec 5>\"$(printf 'x\\377y')\"; sleep 0.5; exit 3";
    let mut command = place.childminder(["--log-format", "json", "--files", "--sample", "50ms"]);
    command.args(["sh", "-c", job]);
    let running: Running<'_> = place.start_command(command);
    let done = running.end_without_log();
    assert_eq!(done.code(), 3, "{done:?}");
    assert_eq!(support::troubles(&done), Vec::<&str>::new());
    let log = place.log();
    let used: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let is_ours = |line: &&serde_json::Value| {
        line["path"].as_str().is_some_and(|path| path.ends_with("/x\u{fffd}y"))
    };
    assert!(used.iter().any(|line| is_ours(&line)), "{log}");
}
