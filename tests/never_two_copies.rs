//! DESIGN, section 11: "Never two copies of the job at once: what cannot be seen is not taken for
//! gone (no /proc, another pid namespace's /proc, hidepid, a leader that is a zombie while its
//! threads run)"; and the job can be signalled wherever childminder could start it.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Done, Place, is_root, kill, program, skip, wait_until};

/// An ordinary user.
const USER: [&str; 3] = ["--reuid=54324", "--regid=54324", "--clear-groups"];

/// Restarts once, at once, after a short grace period.
const RESTART: [&str; 7] = ["-s", "-t", "1", "--backoff", "0..0", "--kill-after", "300ms"];

/// A job whose first attempt starts a helper in the background, which notes its pid in `helper`, and
/// is then killed. The second one notes in `two` if the helper is still there.
fn attempts(helper: &str) -> String {
    format!(
        "if [ $CHILDMINDER_ATTEMPT = 2 ]; then \
             kill -0 $(cat helper) 2> /dev/null && echo > two; echo > again; exit 0; fi; \
         {helper} until [ -s helper ]; do sleep 0.02; done; kill -KILL $$"
    )
}

/// The helper has gone before the second attempt began.
#[track_caller]
fn assert_restarted_alone(place: &Place, done: &Done) {
    assert_eq!(done.code(), 0, "{done:?}");
    assert!(place.file("again").exists(), "no second attempt: {done:?}");
    assert!(!place.file("two").exists(), "the first attempt's helper lived: {done:?}");
}

/// Nothing was restarted, and the log says why.
#[track_caller]
fn assert_not_restarted(place: &Place, done: &Done) {
    assert_eq!(done.code(), 137, "{done:?}");
    assert!(!place.file("again").exists(), "a second attempt: {done:?}");
    done.message("not restarted: processes of the old attempt are still there");
}

/// The interpreter itself, not a script that looks for one.
fn python() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "it is only asked where it is")]
    let mut python = Command::new("python3");
    let output = python.args(["-c", "import sys; print(sys.executable)"]).output();
    let path = output.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    let path = path.map(|path| PathBuf::from(String::from_utf8_lossy(&path).trim()));
    if path.is_none() {
        skip("a zombie with threads", "no python3");
    }
    path
}

/// Ignores SIGTERM, starts a thread, and ends the first one.
const LEADERLESS: &str = "\
import ctypes, os, signal, threading, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
threading.Thread(target=time.sleep, args=(300,)).start()
with open('pid', 'w') as file: print(os.getpid(), file=file)
ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)
";

/// Waits in sh until the first thread of that process has ended.
const HAS_NO_LEADER: &str =
    "until [ -s pid ] && grep -q ') Z' /proc/$(cat pid)/stat; do sleep 0.02; done; mv pid helper;";

#[test]
fn a_process_whose_first_thread_ended_is_alive() {
    let Some(python) = python() else { return };
    let place = Place::new();
    place.write("leaderless.py", LEADERLESS);
    let start = format!("{} leaderless.py & {HAS_NO_LEADER}", python.display());
    let done = place.run(RESTART.iter().copied().chain(["sh", "-c", &attempts(&start)]));
    assert_restarted_alone(&place, &done);
    done.message("sending SIGKILL");
    let stragglers = ["--stragglers", "kill", "--kill-after", "0.2", "sh", "-c"];
    let place = Place::new();
    place.write("leaderless.py", LEADERLESS);
    let done = place.run(stragglers.iter().chain(&[format!("{start} exit 0").as_str()]));
    assert_eq!(done.code(), 0, "{done:?}");
    let pid = place.text("helper");
    assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists(), "{done:?}");
}

#[test]
fn a_time_limit_ends_a_job_whose_first_thread_ended() {
    let Some(python) = python() else { return };
    let place = Place::new();
    place.write("leaderless.py", LEADERLESS);
    let python = python.to_string_lossy().into_owned();
    let done = place.run(["--timeout", "2s", "--kill-after", "0.2", &python, "leaderless.py"]);
    assert_eq!(done.code(), 124, "{done:?}");
    assert!(done.verdict().contains("SIGKILL"), "{done:?}");
}

/// What stands before childminder so that it runs in a namespace of its own after `prepare`, as root
/// and as a user; `None` where that cannot be had.
fn namespace(place: &Place, unshare: &[&str], prepare: &str, is_user: bool) -> Option<Command> {
    if !is_root() || !place.copy_for(USER) {
        skip("namespaces", "only root makes them, for a user that reaches the program");
        return None;
    }
    let mut may = place.command("unshare");
    let may = may.args(unshare).args(["sh", "-c", &format!("{prepare}exit 0")]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        skip("namespaces", "they cannot be made here");
        return None;
    }
    let mut command = place.command("unshare");
    let script = format!("{prepare}\"$@\"; exit $?");
    command.args(unshare).args(["sh", "-c", &script, "sh"]);
    if is_user {
        command.arg("setpriv").args(USER);
    }
    command.arg("./cm");
    Some(command)
}

const NO_PROC: (&[&str], &str) = (&["-m"], "umount -l /proc && ");
const FOREIGN_PROC: (&[&str], &str) = (&["-p", "-f", "--kill-child"], "");

/// "(no /proc, another pid namespace's /proc ...)"
#[test]
fn without_a_usable_proc_nothing_is_restarted_beside_the_old_attempt() {
    for ((unshare, prepare), is_user) in
        [(NO_PROC, false), (NO_PROC, true), (FOREIGN_PROC, false), (FOREIGN_PROC, true)]
    {
        let place = Place::new();
        let Some(mut command) = namespace(&place, unshare, prepare, is_user) else { return };
        let helper = "sh -c 'trap \"\" TERM; echo $$ > helper; while :; do sleep 1; done' & ";
        command.args(RESTART).args(["sh", "-c", &attempts(helper)]);
        let done = place.run_command(command);
        assert_restarted_alone(&place, &done);
        done.message("/proc is not readable or of another pid namespace");
        assert_eq!(done.count("could not"), 0, "nobody else is signalled: {done:?}");
        // Its numbers are those of other processes.
        let stragglers = done.message("outlive it");
        assert!(stragglers.contains("(not visible)"), "{stragglers}");
    }
}

#[test]
fn without_a_usable_proc_a_time_limit_ends_the_job_and_all_of_it() {
    for ((unshare, prepare), is_user) in [(NO_PROC, true), (FOREIGN_PROC, false)] {
        let place = Place::new();
        let Some(mut command) = namespace(&place, unshare, prepare, is_user) else { return };
        let job = "trap '' TERM; while :; do sleep 1; done & while :; do sleep 1; done";
        command.args(["--timeout", "0.5", "--kill-after", "0.3", "sh", "-c", job]);
        let done = place.run_command(command);
        assert_eq!(done.code(), 124, "{done:?}");
        assert!(done.verdict().ends_with("SIGKILL"), "{done:?}");
    }
}

/// `hidepid=2` (proc(5)) and a helper that is not visible to the user: one by the set-user-ID bit that
/// he may signal, and one that he may not.
#[test]
fn hidden_processes_are_ended_or_prevent_the_restart() {
    let prepare = "cp \"$(command -v sleep)\" hidden && cp \"$(command -v setpriv)\" raise && \
         chmod 4755 hidden raise && mount -t proc -o hidepid=2 proc /proc && ";
    for (helper, may_signal) in [
        ("./hidden 300 & until [ ! -e /proc/$! ]; do :; done; echo $! > helper;", true),
        // It becomes another user's altogether.
        (
            "./raise --ruid 0 --euid 0 sh -c 'echo > raised; exec sleep 300' > /dev/null 2>&1 & \
             until [ -e raised ]; do sleep 0.02; done; echo $! > helper;",
            false,
        ),
    ] {
        let place = Place::new();
        let Some(mut command) = namespace(&place, &["-m"], prepare, true) else { return };
        command.args(RESTART).args(["sh", "-c", &attempts(helper)]);
        let done = place.run_command(command);
        if may_signal {
            assert_restarted_alone(&place, &done);
            continue;
        }
        assert_not_restarted(&place, &done);
        assert!(done.message("cannot be ended").contains("(not visible)"), "{done:?}");
        // Each refusal is reported once for each signal, however often it was tried.
        assert_eq!(done.count("could not send SIGKILL"), 1, "{done:?}");
        let helper = place.text("helper").trim().parse().expect("a pid");
        kill(helper, "KILL");
    }
}

#[test]
fn hidden_processes_are_waited_for() {
    let prepare = "cp \"$(command -v sleep)\" hidden && chmod 4755 hidden && \
         mount -t proc -o hidepid=2 proc /proc && ";
    let place = Place::new();
    let Some(mut command) = namespace(&place, &["-m"], prepare, true) else { return };
    let job = "./hidden 2 & until [ ! -e /proc/$! ]; do :; done; exit 3";
    command.args(["--stragglers", "wait", "sh", "-c", job]);
    let done = place.run_command(command);
    assert_eq!(done.code(), 3, "{done:?}");
    assert!(done.message(" outlive it (wait)").contains("(not visible)"), "{done:?}");
    done.message(" exited with status 0 (a descendant whose parent had gone)");
}

/// Each process ignores SIGTERM, forks the next and ends at once, as long as there is a file `run`.
const CHAIN: &str = r#"
    #include <fcntl.h>
    #include <signal.h>
    #include <stdio.h>
    #include <unistd.h>
    int main(void) {
        signal(SIGTERM, SIG_IGN);
        for (long left = 50000; left > 0 && access("run", F_OK) == 0; left--) {
            if (left % 50 == 0) {
                FILE *last = fopen("last", "w");
                if (last) { fprintf(last, "%ld\n", left); fclose(last); }
            }
            pid_t pid = fork();
            if (pid != 0) _exit(pid < 0);
        }
        _exit(0);
    }
"#;

/// The same where there is no compiler; each process lives longer.
const SLOW_CHAIN: &str = r#"#!/usr/bin/perl
    use POSIX ();
    $SIG{TERM} = "IGNORE";
    for (1 .. 20_000) {
        -e "run" or last;
        open my $file, ">", "last"; print $file "$$\n"; close $file;
        defined(my $pid = fork) or POSIX::_exit(1);
        POSIX::_exit(0) if $pid;
    }
"#;

/// Makes the program `chain` in that place.
fn make_chain(place: &Place) {
    place.write("chain.c", CHAIN);
    let compiled = place.command("cc").args(["-O1", "-o", "chain", "chain.c"]).status();
    if !compiled.is_ok_and(|status| status.success()) {
        skip("a chain of very short processes", "no compiler: a slower one in perl");
        place.executable("chain", SLOW_CHAIN);
    }
    place.write("run", "");
}

/// Whether the chain goes on.
fn chain_runs(place: &Place) -> bool {
    !place.processes().is_empty()
}

/// "every process of the old attempt is gone ... and verified gone; if that fails within a deadline
/// there is no restart, and it says so": a chain of processes that outruns the walk.
#[test]
fn a_chain_of_short_processes_is_ended_or_prevents_the_restart() {
    let runs: [&[&str]; 3] = [
        &["-s", "-t", "1", "--backoff", "0..0", "--kill-after", "0.1"],
        &["--stragglers", "kill", "--kill-after", "0.1"],
        &["--timeout", "1", "--kill-after", "0.1"],
    ];
    for (options, end) in runs.into_iter().zip(["kill -KILL $$", "exit 0", "sleep 300"]) {
        let place = Place::new();
        make_chain(&place);
        let mut command = if is_root() {
            // Root has cgroups, which end all at once.
            if !place.copy_for(USER) {
                return skip("a chain", "another user cannot reach the program");
            }
            let mut command = place.command("setpriv");
            command.args(USER).arg("./cm");
            command
        } else {
            place.command(program())
        };
        let job = format!(
            "if [ $CHILDMINDER_ATTEMPT = 2 ]; then cp last before; sleep 0.2; \
                 cmp -s last before || echo > two; echo > again; exit 0; fi; \
             ./chain > /dev/null 2>&1 & until [ -s last ]; do sleep 0.02; done; {end}"
        );
        command.args(options).args(["sh", "-c", &job]);
        let done = place.run_command(command);
        let runs = chain_runs(&place);
        fs::remove_file(place.file("run")).expect("ours");
        assert!(!place.file("two").exists(), "{options:?}: {done:?}");
        if runs {
            // It was faster, but not silently.
            done.message("cannot be ended");
            assert!(!place.file("again").exists(), "{options:?}: {done:?}");
        }
        assert!(done.count("sending SIGKILL") > 0, "{options:?}: {done:?}");
    }
}

/// Whether strace can make that call fail here.
fn can_inject() -> bool {
    #[expect(clippy::disallowed_methods, reason = "it is only asked whether it works")]
    let mut strace = Command::new("strace");
    let may = strace
        .args(["-o", "/dev/null", "-e", "inject=pidfd_send_signal:error=EPERM", "true"])
        .output();
    let may = may.is_ok_and(|output| output.status.success());
    if !may {
        skip("system calls that are refused", "strace cannot make one fail here");
    }
    may
}

/// "Nothing of the job's behaviour changes by being minded": the filter of an old container refuses
/// pidfd_send_signal(2) and pidfd_open(2), and kill(2) still reaches the job.
#[test]
fn where_pidfds_are_refused_the_job_is_signalled_by_its_number() {
    if !can_inject() {
        return;
    }
    for errno in ["EPERM", "ENOSYS"] {
        let place = Place::new();
        let inject = format!("inject=pidfd_send_signal,pidfd_open:error={errno}");
        let mut command = place.command("strace");
        command.args(["-o", "/dev/null", "-e", &inject]).arg(program());
        let job = "trap 'echo > heard; exit 5' TERM; echo $PPID > minder; \
             while :; do sleep 0.05; done";
        command.args(["sh", "-c", job]);
        let run = place.start_command(command);
        place.await_line("minder", "");
        kill(place.text("minder").trim().parse().expect("a pid"), "TERM");
        let done = run.end();
        assert_eq!(done.code(), 5, "{done:?}");
        assert!(place.file("heard").exists(), "{done:?}");
        done.message("forwarded signal 15 (SIGTERM)");
        assert_eq!(done.count("could not"), 0, "{done:?}");
    }
}

/// Descendants are reached too: when its parent has ended each becomes a child of childminder.
#[test]
fn where_pidfds_are_refused_the_whole_tree_is_ended() {
    if !can_inject() {
        return;
    }
    let place = Place::new();
    let mut command = place.command("strace");
    command.args(["-o", "/dev/null", "-e", "inject=pidfd_send_signal,pidfd_open:error=EPERM"]);
    if is_root() && place.copy_for(USER) {
        // Root has cgroups, which end all at once.
        command.arg("setpriv").args(USER).arg("./cm");
    } else {
        command.arg(program());
    }
    command.args(["--timeout", "0.5", "--kill-after", "0.2"]);
    command.args(["sh", "-c", "sh -c 'sh -c \"sleep 300; :\"; :' & sleep 300; exit 0"]);
    let done = place.run_command(command);
    assert_eq!(done.code(), 124, "{done:?}");
}

/// "`--timeout`": also where no descriptor is left to look at /proc with.
#[test]
fn without_descriptors_a_time_limit_still_ends_the_job() {
    let place = Place::new();
    let script = "ulimit -n 8; exec \"$CM\" --timeout 0.3 --kill-after 0.2 \"$@\"";
    for job in ["exec sleep 300", "trap '' TERM; while :; do sleep 1; done"] {
        let mut command = place.shell(script);
        command.args(["sh", "sh", "-c", job]);
        let done = place.run_command(command);
        assert_eq!(done.code(), 124, "{done:?}");
        fs::remove_dir_all(place.file("log")).expect("a log");
    }
}

/// "The job's exit status is told truthfully": a job that may not be signalled and ends by itself
/// after its limit was not ended by it.
#[test]
fn a_job_out_of_reach_is_not_said_to_have_been_ended() {
    let place = Place::new();
    if !is_root() || !place.copy_for(USER) {
        return skip("a job of another user's", "only root can make one");
    }
    let raised = place.shell("cp \"$(command -v setpriv)\" raise && chmod 4755 raise").status();
    assert!(raised.expect("sh starts").success());
    for status in [0, 3] {
        let mut command = place.command("setpriv");
        command.args(USER).args(["./cm", "--timeout", "0.5", "--kill-after", "0.2", "./raise"]);
        let job = format!("sleep 2; exit {status}");
        command.args(["--ruid", "0", "--euid", "0", "sh", "-c", &job]);
        let done = place.run_command(command);
        assert_eq!(done.code(), status, "{done:?}");
        let verdict = done.verdict();
        assert!(!verdict.starts_with("timed_out"), "{verdict}");
        assert!(verdict.contains("could not be ended by --timeout after 0.500"), "{verdict}");
        fs::remove_dir_all(place.file("log")).expect("a log");
    }
}

/// "After a restart, the last attempt's": that no process can be made says nothing about the job.
#[test]
fn a_restart_that_cannot_be_made_ends_the_run_as_the_last_attempt_did() {
    if !can_inject() {
        return;
    }
    let place = Place::new();
    let mut command = place.command("strace");
    command.args(["-o", "/dev/null", "-e", "inject=clone:error=EAGAIN:when=2"]).arg(program());
    command.args(RESTART).args(["sh", "-c", "echo $CHILDMINDER_ATTEMPT >> runs; kill -KILL $$"]);
    let done = place.run_command(command);
    assert_eq!(done.code(), 137, "{done:?}");
    assert_eq!(place.text("runs"), "1\n");
    done.message("attempt 2 could not be started: start a process: ");
    done.message("not restarted: the next attempt could not be started");
}

/// Where the hierarchy of version 2 is mounted; only root may make cgroups there.
fn unified() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let found = mount.and_then(|line| line.split(' ').nth(1)).filter(|_| is_root());
    if found.is_none() {
        skip("cgroups of attempts", "only root makes them, in version 2");
    }
    found.map(PathBuf::from)
}

/// A cgroup of a test's own.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Option<Cgroup> {
        let path = unified()?.join(format!("childminder-test-{}-{name}", std::process::id()));
        if fs::create_dir(&path).is_err() {
            skip("cgroups of attempts", "none can be made here");
            return None;
        }
        Some(Cgroup(path))
    }

    /// childminder, born into it by that file.
    fn command(&self, place: &Place, file: &str) -> Command {
        let script = "echo $$ > \"$1\"; shift; exec \"$CM\" \"$@\"";
        let mut command = place.shell(script);
        command.arg("sh").arg(self.0.join(file));
        command
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("ours").flatten();
        let directories = entries.filter(|entry| entry.path().is_dir());
        directories.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.names().iter().for_each(|name| drop(fs::remove_dir(self.0.join(name))));
        wait_until("the cgroup is empty", || fs::remove_dir(&self.0).is_ok());
    }
}

/// "A missing one costs evidence, never function": below a threaded cgroup (cgroups(7)) others can be
/// made, and no process can enter them.
#[test]
fn a_cgroup_that_cannot_be_entered_is_passed_over() {
    let Some(cgroup) = Cgroup::new("threaded") else { return };
    if fs::write(cgroup.0.join("cgroup.type"), "threaded").is_err() {
        return skip("a threaded cgroup", "none can be made here");
    }
    let place = Place::new();
    let mut command = cgroup.command(&place, "cgroup.threads");
    command.args(["-s", "sh", "-c", "exit 7"]);
    let done = place.run_command(command);
    assert_eq!(done.code(), 7, "{done:?}");
    assert_eq!(cgroup.names(), [""; 0], "it is removed");
}

/// Cgroups do not stay behind for ever: those of earlier runs are removed once they are empty.
#[test]
fn later_runs_remove_the_cgroups_of_earlier_ones() {
    let Some(cgroup) = Cgroup::new("swept") else { return };
    let place = Place::new();
    // One run leaves a process in its cgroup, another one is killed.
    let mut command = cgroup.command(&place, "cgroup.procs");
    let job = "until [ -e go ]; do sleep 0.02; done > /dev/null 2>&1 & exit 0";
    let done = place.run_command({
        command.args(["-s", "sh", "-c", job]);
        command
    });
    assert_eq!(done.code(), 0, "{done:?}");
    fs::remove_dir_all(place.file("log")).expect("a log");
    let mut command = cgroup.command(&place, "cgroup.procs");
    command.args(["-s", "sh", "-c", "echo > begun; until [ -e go ]; do sleep 0.02; done"]);
    let mut run = place.start_command(command);
    wait_until("the job runs", || place.file("begun").exists());
    run.signal("KILL");
    wait_until("childminder was killed", || run.has_ended());
    drop(run);
    fs::remove_dir_all(place.file("log")).expect("a log");
    assert_eq!(cgroup.names().len(), 2);
    let again = || {
        let mut command = cgroup.command(&place, "cgroup.procs");
        command.args(["-s", "true"]);
        assert_eq!(place.run_command(command).code(), 0);
        fs::remove_dir_all(place.file("log")).expect("a log");
    };
    again();
    assert_eq!(cgroup.names().len(), 2, "something is in them");
    place.write("go", "");
    wait_until("nothing is in them", || place.processes().is_empty());
    // The last one to end leaves its cgroup a moment later.
    wait_until("they are removed", || {
        again();
        cgroup.names().is_empty()
    });
}

/// `--stragglers wait` also waits for what somebody moved into the job's cgroup: the end of that is not
/// told by a signal.
#[test]
fn what_was_moved_into_the_cgroup_is_waited_for() {
    let Some(cgroup) = Cgroup::new("moved") else { return };
    let place = Place::new();
    let mut command = cgroup.command(&place, "cgroup.procs");
    let job = "until [ -e go ]; do sleep 0.02; done; exit 0";
    command.args(["-s", "--stragglers", "wait", "sh", "-c", job]);
    let mut run = place.start_command(command);
    run.job();
    let own = cgroup.0.join(cgroup.names().first().expect("a cgroup of the attempt"));
    // It ends when its input does.
    let mut moved = place.command("cat").stdin(Stdio::piped()).spawn().expect("cat starts");
    fs::write(own.join("cgroup.procs"), moved.id().to_string()).expect("root may");
    place.write("go", "");
    place.await_log(&format!("1 process(es) of the job outlive it (wait): {} (cat)", moved.id()));
    assert!(!run.has_ended());
    drop(moved.stdin.take());
    assert!(moved.wait().expect("our child").success());
    let done = run.end();
    assert_eq!(done.code(), 0, "{done:?}");
    assert_eq!(done.count("outlive it"), 1, "{done:?}");
}
