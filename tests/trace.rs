//! `--trace` (DESIGN, section 6) with real programs: "every signal delivered to any of them with its sender; stops
//! and continues", and nothing of the job's behaviour changes by it.

mod support;

#[path = "support/pty.rs"]
mod pty;

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use pty::{CTRL_C, CTRL_Z, Shell};
use support::{Done, Place, is_alive, kill, skip, state, status_field, wait_until};

/// The programs of tests/trace/programs.c; `None`, and said so, without a C compiler.
fn programs(place: &Place) -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/trace/programs.c");
    let built = place.file("programs");
    let compiler =
        place.command("cc").args(["-O1", "-pthread", "-o"]).arg(&built).arg(source).status();
    let is_built = compiler.is_ok_and(|status| status.success());
    if !is_built {
        skip("programs of --trace", "no C compiler");
    }
    is_built.then_some(built)
}

/// Runs one of them, traced.
fn run(place: &Place, words: &[&str]) -> Option<Done> {
    let program = programs(place)?;
    let program = program.to_str().expect("a name");
    Some(place.run(["--trace=required", program].iter().chain(words)))
}

/// Whether a tool is there; says so if not.
fn has(place: &Place, tool: &str, version: &str) -> bool {
    let mut command = place.command(tool);
    let found = command.arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_there = found.is_ok_and(|status| status.success());
    if !is_there {
        skip(tool, "not installed");
    }
    is_there
}

/// "killing any process in that tree by hand gives a verdict that names the killer"
#[test]
fn who_killed_the_job_is_known_for_certain() {
    let place = Place::new();
    let running = place.start(["--central-log", "r.csv", "--trace=required", "sleep", "300"]);
    place.await_log("started in process");
    let job = running.job();
    let mut killer = place.shell(&format!("kill -USR1 {job}; sleep 0.2"));
    let killer = killer.spawn().expect("sh starts");
    let pid = killer.id();
    let done = running.end();
    let mut killer = killer;
    killer.wait().expect("sh ends");
    assert_eq!(done.code(), 138, "{done:?}");
    let verdict = done.verdict();
    assert!(
        verdict.starts_with("killed_by_process (certain): SIGUSR1; it came from process "),
        "{done:?}"
    );
    assert!(verdict.contains(&format!("process {pid} (sh -c kill -USR1")), "{done:?}");
    done.message(&format!("signal 10 (SIGUSR1) to process {job} (sleep) from process {pid} (sh"));
    let record = place.text("r.csv");
    let end = record.lines().find(|line| line.contains("attempt")).expect("a row");
    assert!(record.contains(&format!(",{pid},")), "sender_pid: {end}");
}

#[test]
fn what_the_job_did_to_itself_is_distinguished_from_what_others_did() {
    let place = Place::new();
    let done = place.run(["--trace=required", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(done.code(), 143, "{done:?}");
    assert!(
        done.verdict()
            .starts_with("killed_by_process (certain): SIGTERM; the job sent it to itself"),
        "{done:?}"
    );
}

/// A program that catches SIGTERM, cleans up, and then dies of it as it should.
#[test]
fn a_job_that_reacts_to_a_signal_by_the_same_one_was_killed_by_the_first_sender() {
    let place = Place::new();
    let job = "trap 'trap - TERM; kill -TERM $$' TERM; : >ready; while :; do sleep 0.05; done";
    let running = place.start(["--trace=required", "sh", "-c", job]);
    wait_until("the job is ready", || place.file("ready").exists());
    kill(running.job(), "TERM");
    let done = running.end();
    assert_eq!(done.code(), 143, "{done:?}");
    let verdict = done.verdict();
    assert!(
        verdict.starts_with("killed_by_process (certain): SIGTERM; it came from process"),
        "{done:?}"
    );
    assert!(verdict.contains("it had caught that"), "{done:?}");
}

#[test]
fn the_killer_of_a_descendant_is_named() {
    let place = Place::new();
    let job = "sh -c 'echo $$ >pid; exec sleep 300'; exit $?";
    let running = place.start(["--trace=required", "sh", "-c", job]);
    let pid = place.await_line("pid", "");
    place.await_log("executed sleep");
    kill(pid.trim().parse().expect("a pid"), "TERM");
    let done = running.end();
    assert_eq!(done.code(), 143, "{done:?}");
    let verdict = done.verdict();
    assert!(verdict.starts_with("descendant_killed (certain): exit status 143"), "{done:?}");
    assert!(verdict.contains("was killed by SIGTERM, sent from process"), "{done:?}");
}

#[test]
fn each_loss_is_known_without_any_sample() {
    let place = Place::new();
    let job = "sh -c 'kill -KILL $$'; sh -c 'kill -ABRT $$'; exit 0";
    let done = place.run(["--sample", "0", "--trace=required", "sh", "-c", job]);
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(done.verdict().starts_with("success_with_losses (certain)"), "{done:?}");
    assert!(done.verdict().contains("2 such deaths in all"), "{done:?}");
}

#[test]
fn a_fault_is_certain_and_has_its_address() {
    let place = Place::new();
    let Some(done) = run(&place, &["crash"]) else { return };
    assert_eq!(done.code(), 139, "{done:?}");
    assert!(done.verdict().starts_with("crashed (certain): SIGSEGV; "), "{done:?}");
    assert!(done.verdict().contains("null pointer plus 0x8"), "{done:?}");
}

#[test]
fn faults_that_a_handler_takes_are_counted_and_not_logged() {
    let place = Place::new();
    let Some(done) = run(&place, &["survive", "5000"]) else { return };
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(done.verdict().starts_with("success (certain)"), "{done:?}");
    done.message("5000 SIGSEGV (faults)");
    assert_eq!(done.count("signal 11 (SIGSEGV) to process"), 0, "{done:?}");
}

#[test]
fn signals_of_a_process_to_itself_are_counted_and_not_logged() {
    let place = Place::new();
    let Some(done) = run(&place, &["itself", "5000"]) else { return };
    assert_eq!(done.code(), 0, "{done:?}");
    done.message("5000 SIGURG (sent by the process itself)");
    assert_eq!(done.count("signal 23 (SIGURG) to process"), 0, "{done:?}");
}

#[test]
fn a_thread_that_executes_a_program_becomes_the_process() {
    let place = Place::new();
    let Some(done) = run(&place, &["exec-by-thread"]) else { return };
    assert_eq!(done.code(), 42, "{done:?}");
    done.message("9 more thread(s), 1 execution(s)");
}

#[test]
fn ten_thousand_forks_each_have_their_status() {
    let place = Place::new();
    let Some(done) = run(&place, &["fork", "10000"]) else { return };
    assert_eq!(done.code(), 0, "{done:?}");
    done.message("traced 10001 process(es)");
    assert!(done.verdict().starts_with("success (certain)"), "{done:?}");
    assert_eq!(done.count("orphan"), 0, "{done:?}");
}

#[test]
fn a_storm_of_posix_spawn_and_of_threads_works_as_without_tracing() {
    let place = Place::new();
    let Some(done) = run(&place, &["spawn", "300"]) else { return };
    assert_eq!(done.code(), 0, "{done:?}");
    done.message("traced 301 process(es), 0 more thread(s), 300 execution(s)");
    let place = Place::new();
    let Some(done) = run(&place, &["thread", "2000"]) else { return };
    assert_eq!(done.code(), 0, "{done:?}");
    done.message("traced 1 process(es), 2000 more thread(s)");
}

#[test]
fn no_queued_signal_of_64_senders_is_lost() {
    let place = Place::new();
    let Some(program) = programs(&place) else { return };
    let program = program.to_str().expect("a name");
    let running = place.start(["-o", "out", "--trace=required", program, "count", "640"]);
    place.await_line("out", "ready");
    // Each sender waits until all are there.
    let script = "
        use POSIX ();
        for (1 .. 64) {
            unless (fork) {
                select undef, undef, undef, 0.01 until -e 'go';
                kill POSIX::SIGRTMIN() + 1, $ARGV[0] for 1 .. 10;
                exit 0;
            }
        }
        open my $go, '>', 'go';
        1 while wait > 0;
    ";
    let mut senders = place.command("perl");
    senders.args(["-e", script, &running.job().to_string()]);
    assert!(senders.status().expect("perl starts").success());
    let done = running.end();
    assert_eq!(done.code(), 0, "{done:?}");
    done.message("640 signal(s)");
    assert!(done.count("signal 35 (SIGRTMIN+1) to process") <= 110, "bounded: {done:?}");
}

#[test]
fn a_signal_to_a_group_is_named_as_such() {
    let place = Place::new();
    // It ends after the others got their signal.
    let job =
        "trap : TERM; sleep 300 & a=$!; sleep 300 & b=$!; : >ready; wait; wait $a; wait $b; exit 7";
    let running = place.start(["--trace=required", "--new-session", "sh", "-c", job]);
    wait_until("the job is ready", || place.file("ready").exists());
    place.await_log("executed sleep");
    wait_until("both run", || place.log().matches("executed sleep").count() == 2);
    let group = running.job();
    let killed = place.shell(&format!("kill -TERM -{group}")).status().expect("sh starts");
    assert!(killed.success());
    let done = running.end();
    assert_eq!(done.code(), 7, "{done:?}");
    let line = done.message("reached 3 processes at once");
    assert!(line.ends_with(&format!("as if it was sent to process group {group}")), "{done:?}");
}

#[test]
fn a_stopped_job_is_continued_as_without_tracing() {
    let place = Place::new();
    let running = place.start(["--trace=required", "-c", "sh", "-c", "kill -STOP $$; exit 6"]);
    let done = running.end();
    assert_eq!(done.code(), 6, "{done:?}");
    done.message("stopped by signal 19 (SIGSTOP)");
    done.message("successfully sent child");
}

#[test]
fn a_stopped_job_stays_stopped_until_somebody_continues_it() {
    let place = Place::new();
    let running = place.start(["--trace=required", "sh", "-c", "kill -STOP $$; exit 6"]);
    place.await_log("stopped by signal 19 (SIGSTOP)");
    let job = running.job();
    assert_eq!(state(job), Some('t'));
    kill(job, "CONT");
    let done = running.end();
    assert_eq!(done.code(), 6, "{done:?}");
    done.message(" continued after ");
}

#[test]
fn a_storm_of_stops_and_continuations_loses_nothing() {
    let place = Place::new();
    let job =
        "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); [ $((i%10)) = 0 ] && sh -c :; done; echo $i";
    let running = place.start(["-o", "out", "--trace=required", "sh", "-c", job]);
    place.await_log("started in process");
    let job = running.job();
    let script = format!(
        "i=0; while [ $i -lt 500 ]; do i=$((i+1)); kill -STOP {job}; kill -CONT {job}; done"
    );
    // The job may end before.
    place.shell(&script).stderr(Stdio::null()).status().expect("sh starts");
    kill(job, "CONT");
    let done = running.end();
    assert_eq!((done.code(), place.text("out").as_str()), (0, "3000\n"), "{done:?}");
}

/// "if childminder dies or is stopped, the job goes on, untraced and running"
#[test]
fn a_job_whose_tracer_is_killed_goes_on_untraced() {
    let place = Place::new();
    let job = "echo $$ >pid; until [ -e go ]; do sleep 0.02; done; echo done >result";
    let running = place.start(["-o", "out", "-e", "err", "--trace=required", "sh", "-c", job]);
    let pid: i32 = place.await_line("pid", "").trim().parse().expect("a pid");
    let tracer = || {
        status_field(
            &fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default(),
            "TracerPid",
        )
    };
    assert_eq!(tracer(), running.pid().to_string());
    kill(running.pid(), "KILL");
    running.end_without_log();
    wait_until("nobody traces it", || tracer() == "0");
    place.write("go", "");
    wait_until("the job has ended", || place.text("result") == "done\n" && !is_alive(pid));
}

/// The same at moments at which a process has just been made, or is about to be.
#[test]
fn a_job_whose_tracer_is_killed_at_any_moment_ends_as_without_it() {
    for count in [1, 2, 3, 5, 7, 9, 14, 20, 30, 45] {
        let place = Place::new();
        let job = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); sh -c 'exit 3' & wait $!; [ $? = 3 ] || exit 1; \
                   echo $i >>steps; done; echo done >result";
        let running = place.start(["-o", "out", "-e", "err", "--trace=required", "sh", "-c", job]);
        place.await_line("steps", &count.to_string());
        kill(running.pid(), "KILL");
        running.end_without_log();
        wait_until("the job has ended", || place.text("result") == "done\n");
        assert_eq!(place.text("steps").lines().count(), 60);
    }
}

#[test]
fn a_job_whose_tracer_is_stopped_for_a_while_ends_as_without_that() {
    let place = Place::new();
    let job = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); sh -c 'exit 3' & wait $!; [ $? = 3 ] || exit 1; \
               echo $i >>steps; done; exit 8";
    let running = place.start(["--trace=required", "sh", "-c", job]);
    for count in [3, 10, 20, 40] {
        place.await_line("steps", &count.to_string());
        kill(running.pid(), "STOP");
        wait_until("it is stopped", || state(running.pid()) == Some('T'));
        kill(running.pid(), "CONT");
    }
    let done = running.end();
    assert_eq!((done.code(), place.text("steps").lines().count()), (8, 60), "{done:?}");
}

/// A tracer that hangs does not keep a killed job alive: there is no PTRACE_O_TRACEEXIT.
#[test]
fn a_job_whose_tracer_is_stopped_can_be_killed() {
    let place = Place::new();
    let running = place.start(["--trace=required", "sleep", "300"]);
    place.await_log("started in process");
    let job = running.job();
    kill(running.pid(), "STOP");
    kill(job, "KILL");
    wait_until("the job is dead", || state(job) == Some('Z'));
    kill(running.pid(), "CONT");
    let done = running.end();
    assert_eq!(done.code(), 137, "{done:?}");
}

#[test]
fn debuggers_work_inside_if_only_the_job_itself_is_traced() {
    let place = Place::new();
    let Some(program) = programs(&place) else { return };
    let program = program.to_str().expect("a name");
    let done = place.run(["--trace=main", program, "be-traced"]);
    assert_eq!(done.code(), 0, "{done:?}");
    done.message("traced 1 process(es)");
    if has(&place, "strace", "-V") {
        let place = Place::new();
        let done = place.run([
            "--trace=main",
            "strace",
            "-f",
            "-o",
            "trace",
            "sh",
            "-c",
            "sh -c 'exit 3'",
        ]);
        assert_eq!(done.code(), 3, "{done:?}");
        assert!(place.text("trace").contains("+++ exited with 3 +++"));
    }
}

/// "Refused by Yama, seccomp, a container or an outer tracer: one line, and the run goes on untraced", and
/// "refusal is an error, exit 125" with required.
#[test]
fn where_tracing_is_refused_the_run_goes_on_or_is_refused() {
    let place = Place::new();
    if !has(&place, "strace", "-V") {
        return;
    }
    let strace = |options: &[&str]| {
        let mut command = place.command("strace");
        command.args(["-f", "-qq", "-e", "trace=none", "-e", "signal=none", "-o", "/dev/null"]);
        command.arg(support::program()).args(options);
        command
    };
    let done = place.run_command(strace(&["--trace", "sh", "-c", ": >ran; exit 4"]));
    assert_eq!(done.code(), 4, "{done:?}");
    let line = done.message("not traced: ");
    assert!(line.contains("traces childminder, and what it starts, already"), "{done:?}");
    assert!(place.file("ran").exists());
    let place = Place::new();
    let mut command = place.command("strace");
    command.args(["-f", "-qq", "-e", "trace=none", "-e", "signal=none", "-o", "/dev/null"]);
    command.arg(support::program()).args(["--trace=required", "sh", "-c", ": >ran"]);
    let done = place.run_command(command);
    assert_eq!(done.code(), 125, "{done:?}");
    done.message("child not started: trace the job (--trace=required): process ");
    assert!(!place.file("ran").exists());
}

#[test]
fn a_job_that_cannot_be_executed_fails_as_without_tracing() {
    let place = Place::new();
    place.write("text", "no program");
    for (words, status) in [(["--trace", "./missing"], 127), (["--trace", "./text"], 126)] {
        let place = Place::new();
        place.write("text", "no program");
        let done = place.run(words);
        let plain = Place::new();
        plain.write("text", "no program");
        let untraced = plain.run([words[1]]);
        assert_eq!((done.code(), untraced.code()), (status, status), "{done:?}");
        assert_eq!(done.verdict(), untraced.verdict());
    }
}

#[test]
fn an_ordinary_user_may_trace_his_own_job() {
    let place = Place::new();
    let words = ["--trace=required", "sh", "-c", "sh -c 'kill -9 $$'; kill -TERM $$"];
    let Some(command) = place.as_another_user(&words) else { return };
    let done = place.run_command(command);
    assert_eq!(done.code(), 143, "{done:?}");
    done.message("the job sent it to itself");
}

/// Restarts: each attempt is traced.
#[test]
fn each_attempt_is_traced() {
    let place = Place::new();
    let options = ["--trace=required", "-s", "-t", "2", "--backoff", "10ms..20ms"];
    let done = place.run(options.iter().chain(&["sh", "-c", "kill -TERM $$"]));
    assert_eq!(done.code(), 143, "{done:?}");
    assert_eq!(done.count("traced 1 process(es)"), 3, "{done:?}");
    assert_eq!(done.count("verdict: killed_by_process (certain)"), 3, "{done:?}");
}

#[test]
fn job_control_in_a_shell_works_as_without_tracing() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.type_line("childminder -l log --trace=required sh -c 'echo go; read line'");
    shell.expect("go");
    shell.press(CTRL_Z);
    shell.expect("Stopped");
    shell.prompt();
    shell.type_line("fg");
    shell.expect("childminder");
    wait_until("it runs again", || place.log().contains(" continued after "));
    shell.press(CTRL_C);
    assert_eq!(shell.prompt().status, 130);
    assert!(place.log().contains("verdict: killed_by_terminal "), "{}", place.log());
    shell.leave();
}

/// A shell with job control as the job: it waits for stops of its children, which only it may take.
#[test]
fn job_control_of_a_traced_shell_works() {
    let place = Place::new();
    let mut shell = Shell::bash(&place);
    shell.type_line(
        "PS1='inner> ' childminder -l log --trace=required bash --norc --noprofile --noediting -i",
    );
    shell.expect("inner> ");
    shell.type_line("sleep 300");
    wait_until("it sleeps", || place.log().contains("executed sleep"));
    shell.press(CTRL_Z);
    shell.expect("Stopped");
    shell.expect("inner> ");
    shell.type_line("bg; sleep 0.1; jobs; kill %1; wait %1; echo \"was $?\"");
    shell.expect("Running");
    shell.expect("was 143");
    shell.type_line("exit 9");
    assert_eq!(shell.prompt().status, 9);
    shell.leave();
}

#[test]
fn runtimes_that_live_on_signals_work_as_without_tracing() {
    let place = Place::new();
    if has(&place, "python3", "--version") {
        let script = "
import multiprocessing, threading, subprocess, sys
def work(n): return n * n
if __name__ == '__main__':
    with multiprocessing.Pool(4) as pool:
        assert pool.map(work, range(200)) == [n * n for n in range(200)]
    threads = [threading.Thread(target=work, args=(1,)) for _ in range(50)]
    [t.start() for t in threads]; [t.join() for t in threads]
    assert all(subprocess.run(['true']).returncode == 0 for _ in range(20))
    sys.exit(17)
";
        place.write("work.py", script);
        let done = place.run(["--trace=required", "python3", "work.py"]);
        assert_eq!(done.code(), 17, "{done:?}");
    }
    if has(&place, "node", "--version") {
        let place = Place::new();
        let script = "const {execFile} = require('child_process'); let left = 20; for (let i = 0; i < 20; i++) \
                      execFile('true', e => { if (e) process.exit(1); if (--left == 0) process.exit(18) })";
        let done = place.run(["--trace=required", "node", "-e", script]);
        assert_eq!(done.code(), 18, "{done:?}");
    }
    if has(&place, "go", "version") {
        let place = Place::new();
        place.write("main.go", GO);
        let mut build = place.command("go");
        build.args(["build", "-o", "prog", "main.go"]).env("GOCACHE", place.file("cache"));
        build.env("GOFLAGS", "-mod=mod").env("GO111MODULE", "off").env("HOME", place.path());
        if build.status().is_ok_and(|status| status.success()) {
            let done = place.run(["--trace=required", "./prog"]);
            assert_eq!(done.code(), 19, "{done:?}");
            done.message("SIGURG (sent by the process itself)");
        } else {
            skip("go", "it builds nothing");
        }
    }
}

/// The JVM turns faults into exceptions, and stops its threads by a fault on a page that it protects.
#[test]
fn a_java_program_works_as_without_tracing() {
    let place = Place::new();
    if !has(&place, "java", "-version") {
        return;
    }
    place.write("Main.java", JAVA);
    let done = place.run(["--trace=required", "java", "-Xint", "-Xmx64m", "Main.java"]);
    if done.stderr.contains("compiler") {
        return skip("java", "no compiler");
    }
    assert_eq!(done.code(), 21, "{done:?}");
}

const JAVA: &str = r#"
public class Main {
    static Object nothing;
    public static void main(String[] words) throws Exception {
        int caught = 0;
        for (int i = 0; i < 1000; i++) {
            try { nothing.hashCode(); } catch (NullPointerException fault) { caught++; }
        }
        Thread[] threads = new Thread[8];
        for (int i = 0; i < 8; i++) {
            threads[i] = new Thread(() -> { for (int j = 0; j < 20; j++) System.gc(); });
            threads[i].start();
        }
        for (Thread thread : threads) thread.join();
        int status = new ProcessBuilder("sh", "-c", "exit 4").start().waitFor();
        System.exit(caught == 1000 && status == 4 ? 21 : 1);
    }
}
"#;

/// Goroutines that are preempted by SIGURG, and null pointers that are panics.
const GO: &str = r#"
package main

import (
    "os"
    "os/exec"
    "sync"
)

type node struct{ next *node }

func fault() (caught bool) {
    defer func() { caught = recover() != nil }()
    var n *node
    return n.next != nil
}

func main() {
    var all sync.WaitGroup
    for i := 0; i < 8; i++ {
        all.Add(1)
        go func() {
            defer all.Done()
            x := uint64(1)
            for j := uint64(0); j < 200000000; j++ {
                x = x*31 + j
            }
            if x == 0 {
                os.Exit(1)
            }
        }()
    }
    for i := 0; i < 100; i++ {
        if !fault() {
            os.Exit(2)
        }
    }
    for i := 0; i < 20; i++ {
        if exec.Command("true").Run() != nil {
            os.Exit(3)
        }
    }
    all.Wait()
    os.Exit(19)
}
"#;
