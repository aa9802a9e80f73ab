//! The stall report: where a job waits, before `--timeout` ends it and when `nanny stacks` asks.

#![allow(missing_docs, reason = "the names say it")]

mod support;

use std::time::{Duration, Instant};

use support::{Done, Place, is_root, kill, skip, wait_until};

/// Writes its own stack, and then waits in the innermost call.
const PYTHON: &str = r#"# -*- coding: utf-8 -*-
import os, sys, time

def wait(*a):
    frame, w = sys._getframe(0), open('truth.new', 'w', encoding='utf-8')
    first = True
    while frame:
        # The innermost one goes on to the line that sleeps.
        line = SLEEPS if first else frame.f_lineno
        w.write('%s:%d\n' % (frame.f_code.co_name, line)); first = False; frame = frame.f_back
    w.close(); os.rename('truth.new', 'truth')
    time.sleep(600)

class Größe:
    @property
    def value(self):

        return [wait(x)
                for x in (1,)]

def gen(n):
    # a comment
    for i in range(300):
        if i == 299:
            yield Größe().value

def 函数(n):
    if n:
        return 函数(n - 1)
    try:
        raise ValueError
    except ValueError:
        return max(map(lambda x: next(gen(x)),
                       [1]))

SLEEPS = wait.__code__.co_firstlineno + 8
函数(3)
"#;

fn nanny(place: &Place, target: &str) -> Done {
    place.start_command(place.nanny(["stacks", target])).end_without_log()
}

/// The interpreters to try: that of PATH, and those that are named.
#[expect(clippy::disallowed_methods, reason = "who has several interpreters may name them")]
fn pythons() -> Vec<String> {
    let more = std::env::var("CHILDMINDER_TEST_PYTHONS").unwrap_or_default();
    std::iter::once("python3").chain(more.split_whitespace()).map(str::to_owned).collect()
}

/// The frames of a report as FUNCTION:LINE, without the class that newer versions name.
fn frames(report: &str) -> Vec<String> {
    let lines = report.lines().filter_map(|line| line.split_once("Python: "));
    let frame = |(_, rest): (&str, &str)| {
        let (function, place) = rest.split_once(" at ").expect("a place");
        let line = place.rsplit(':').next().expect("a line");
        format!("{}:{line}", function.rsplit('.').next().expect("a name"))
    };
    lines.map(frame).collect()
}

#[test]
fn the_frames_of_python_are_those_that_it_knows_itself() {
    for python in pythons() {
        let place = Place::new();
        place.write("job.py", PYTHON);
        let job = place.start([python.as_str(), "job.py"]);
        wait_until("the stack is written", || place.file("truth").exists());
        let truth = place.text("truth");
        let truth: Vec<&str> = truth.lines().collect();
        let mut found = Vec::new();
        wait_until(&format!("{python} has the frames {truth:?}, not {found:?}"), || {
            let asked = nanny(&place, &job.job().to_string());
            assert_eq!(asked.code(), 0, "{asked:?}");
            found = frames(&asked.stdout);
            found == truth
        });
        job.signal("TERM");
        let done = job.end();
        // It was asked for, so the log has it as well.
        assert!(done.log.join("\n").contains("Python: wait at "), "{done:?}");
    }
}

#[test]
fn what_a_job_waits_for_is_logged_before_its_time_limit_ends_it() {
    let place = Place::new();
    let script = "mkfifo f; sleep 600 & while :; do :; done & cat f; echo never";
    let done = place.run(["--timeout", "1s", "sh", "-c", script]);
    assert_eq!(done.code(), 124);
    let log = done.log.join("\n");
    let limit = log.find("time limit of 1.000 seconds").expect("the limit");
    let ends = log.find("sending SIGTERM").expect("the end");
    let report = log.get(limit..ends).expect("in that order");
    assert!(report.contains("stacks of 4 processes, read in "), "{report}");
    for words in [
        "(sh) sleeps in wait4",
        "(sleep) sleeps in clock_nanosleep",
        "(sh) runs",
        "(cat) sleeps in openat",
    ] {
        assert!(report.contains(words), "{words}: {report}");
    }
}

#[test]
fn a_descriptor_that_is_waited_for_is_named() {
    let place = Place::new();
    let done = place.run(["--timeout", "1s", "sh", "-c", "sleep 600 | cat"]);
    let report = done.log.join("\n");
    assert!(report.contains("(cat) sleeps in read of descriptor 0 (pipe:["), "{report}");
}

/// The parent of a vfork child cannot be stopped, and a process with many threads has many lines.
#[test]
fn a_vfork_parent_and_many_threads_are_reported() {
    const PROGRAM: &str = r"
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>
static sem_t never;
static void *wait_for_it(void *p) { sem_wait(&never); return p; }
int main(void) {
    pthread_t t; sem_init(&never, 0, 0);
    for (int i = 0; i < 64; i++) pthread_create(&t, 0, wait_for_it, 0);
    if (!vfork()) { for (;;) pause(); }
}
";
    let place = Place::new();
    place.write("many.c", PROGRAM);
    let compiled = place.command("cc").args(["-pthread", "-o", "many", "many.c"]).status();
    if !compiled.is_ok_and(|status| status.success()) {
        return skip("a vfork parent", "no C compiler");
    }
    let done = place.run(["--timeout", "1s", "./many"]);
    let report = done.log.join("\n");
    assert_eq!(done.code(), 124, "{report}");
    assert!(report.contains("(./many): 65 threads"), "{report}");
    assert_eq!(report.matches(" (many) sleeps in futex").count(), 64, "{report}");
    assert!(report.contains("(many) sleeps and cannot be interrupted in vfork"), "{report}");
    assert!(report.contains("(many) sleeps in pause"), "{report}");
    if cfg!(target_arch = "x86_64") {
        // Each thread by its own function, and what is below main.
        assert_eq!(report.matches(" many wait_for_it+0x").count(), 64, "{report}");
        assert!(report.contains(" many main+0x"), "{report}");
    }
}

/// Whatever names the run: the job, childminder, or the run's id.
#[test]
fn a_run_is_found_by_each_of_its_processes_and_by_its_id() {
    let place = Place::new();
    let job = place.start([
        "sh",
        "-c",
        "echo $CHILDMINDER_RUN_ID > id.new; mv id.new id; read x < /dev/zero; sleep 600",
    ]);
    wait_until("the job runs", || place.file("id").exists());
    let id = place.text("id");
    for target in [job.pid().to_string(), job.job().to_string(), id.trim().to_owned()] {
        let mut asked = nanny(&place, &target);
        // childminder listens from 10 ms after the start on.
        wait_until("childminder answers", || {
            asked = nanny(&place, &target);
            asked.stderr.is_empty()
        });
        assert_eq!(asked.code(), 0, "{asked:?}");
        assert!(asked.stdout.contains(&format!("process {} (sh -c ", job.job())), "{asked:?}");
    }
    let unknown = nanny(&place, "ffff-0000");
    assert_eq!(unknown.code(), 1);
    assert!(
        unknown.stderr.contains("no process of a run with an id like 'ffff-0000'"),
        "{unknown:?}"
    );
    job.signal("KILL");
    kill(job.job(), "KILL");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test measures how long it takes")]
fn a_childminder_that_is_stopped_costs_whoever_asks_five_seconds() {
    let place = Place::new();
    let job = place.start(["sleep", "600"]);
    wait_until("childminder answers", || nanny(&place, &job.job().to_string()).stderr.is_empty());
    job.signal("STOP");
    let began = Instant::now();
    let asked = nanny(&place, &job.job().to_string());
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(asked.code(), 125, "{asked:?}");
    assert!(asked.stderr.contains("it may be stopped"), "{asked:?}");
    job.signal("CONT");
    job.signal("TERM");
    assert_eq!(job.end().code(), 143);
}

#[test]
fn a_process_without_childminder_is_read_as_far_as_the_kernel_lets_us() {
    let place = Place::new();
    let asked = nanny(&place, &std::process::id().to_string());
    assert!(asked.stdout.contains("stacks of "), "{asked:?}");
    let gone = nanny(&place, "2147483647");
    assert_eq!(gone.code(), 1, "{gone:?}");
}

/// A stop would end each of these calls early with EINTR; Python's own would be begun again, so libc is
/// called.
#[test]
fn calls_that_a_stop_would_interrupt_go_on() {
    const CALLS: &str = r"
import ctypes, os, select, signal, socket, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
e = select.epoll(); buffer = ctypes.create_string_buffer(64)
a, b = socket.socketpair()
timeout = struct.pack('ll', 3, 0)
a.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen()
l.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
mask = ctypes.create_string_buffer(128); libc.sigemptyset(mask); libc.sigaddset(mask, 12)
span = (ctypes.c_long * 2)(3, 0)
calls = {
    'epoll_wait': lambda: libc.epoll_wait(e.fileno(), buffer, 1, 3000),
    'recv': lambda: libc.recv(a.fileno(), buffer, 1, 0),
    'accept': lambda: libc.accept(l.fileno(), None, None),
    'sigtimedwait': lambda: libc.sigtimedwait(mask, None, span),
    'nanosleep': lambda: libc.nanosleep(span, None),
}
def run(name):
    r = calls[name](); e = ctypes.get_errno() if r < 0 else 0
    print(name, 'EINTR' if e == 4 else 'whole', flush=True)
t = [threading.Thread(target=run, args=(n,)) for n in calls]
[x.start() for x in t]; open('ready', 'w'); [x.join() for x in t]
";
    let place = Place::new();
    place.write("calls.py", CALLS);
    let mut job = place.start(["-o", "out", "python3", "calls.py"]);
    wait_until("the calls wait", || place.file("ready").exists());
    let mut reports = 0;
    while !job.has_ended() {
        reports += u32::from(nanny(&place, &job.pid().to_string()).code() == 0);
    }
    assert!(reports > 3, "{reports} reports");
    let out = place.text("out");
    assert_eq!(out.matches("whole").count(), 5, "{out}");
    assert_eq!(job.end().code(), 0);
}

#[test]
fn another_user_gets_no_report() {
    let place = Place::new();
    let job = place.start(["sleep", "600"]);
    let run = format!("/proc/{}/environ", job.job());
    let environ = std::fs::read(run).expect("ours");
    let environ = String::from_utf8_lossy(&environ);
    let id = environ.split('\0').find_map(|one| one.strip_prefix("CHILDMINDER_RUN_ID="));
    let id = id.expect("a run").to_owned();
    wait_until("childminder answers", || nanny(&place, &id).stderr.is_empty());
    if !is_root() {
        skip("what another user gets", "not root");
    } else {
        let script = format!(
            "import socket; s = socket.socket(socket.AF_UNIX); \
             s.connect('\\0childminder/stacks/{id}'); print(s.recv(9999).decode())"
        );
        let mut other = place.command("setpriv");
        other.args([
            "--reuid=54321",
            "--regid=54321",
            "--clear-groups",
            "/usr/bin/python3",
            "-c",
            &script,
        ]);
        let said = other.output().expect("python3");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert_eq!(said.trim(), "only user 0 and root may ask");
    }
    job.signal("TERM");
    job.end();
}
