//! DESIGN, sections 4, 5 and 11: the job begins with the signal state, the descriptors and all
//! else that childminder was given, and its resource usage is its own.

mod support;

use std::fs;
use std::process::Command;

use support::{Done, Place, kill, status_field};

/// env(1) with these options, and then the words, in a place.
fn with_env(place: &Place, options: &[&str], words: &[&str]) -> Command {
    let mut command = place.command("env");
    command.args(options).args(words);
    command
}

/// The program's own path as a word.
fn cm() -> String {
    support::program().to_str().expect("a path that is text").to_owned()
}

fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

const CHLD: u32 = 17;

/// The two that the C library keeps for itself (nptl(7)): env(1) leaves them as they are.
const KEPT: u64 = 1 << 31 | 1 << 32;

/// "The job starts with the mask and dispositions that childminder was given, read before the Rust
/// runtime changes them (nohup must still work, an ignored SIGPIPE stays ignored), never with
/// ours." So does the attempt after a restart.
#[test]
fn every_attempt_begins_with_the_mask_and_dispositions_that_childminder_was_given() {
    // grep shows its own state; that it misses a file as well makes it end with status 2.
    let look = ["grep", "-hE", "^Sig(Blk|Ign|Cgt)", "/proc/self/status", "/missing"];
    let some = bit(1) | bit(13) | bit(CHLD);
    let cases: [(&[&str], u64, u64); 7] = [
        (&["--default-signal"], 0, 0),
        (&["--default-signal", "--ignore-signal=PIPE"], 0, bit(13)),
        (&["--default-signal", "--ignore-signal=CHLD"], 0, bit(CHLD)),
        (&["--default-signal", "--ignore-signal=HUP,PIPE,CHLD"], 0, some),
        (&["--default-signal", "--block-signal=USR1,CHLD"], bit(10) | bit(CHLD), 0),
        (&["--default-signal", "--block-signal"], u64::MAX, 0),
        (&["--ignore-signal"], 0, u64::MAX),
    ];
    for (options, blocked, ignored) in cases {
        let place = Place::new();
        let direct = with_env(&place, options, &look).output().expect("env starts").stdout;
        let direct = String::from_utf8_lossy(&direct);
        // The caller could give that state at all.
        for (field, wanted) in [("SigBlk", blocked), ("SigIgn", ignored)] {
            let mask = u64::from_str_radix(&status_field(&direct, field), 16).expect("a mask");
            match wanted {
                u64::MAX => assert!(mask.count_ones() >= 59, "{options:?}: {direct}"),
                _ => assert_eq!(mask & !KEPT, wanted, "{options:?}: {direct}"),
            }
        }
        let cm = cm();
        let mut words = vec![cm.as_str(), "--restart-on", "exit:2", "-t", "1", "--backoff", "0..0"];
        words.extend(look);
        let done = place.run_command(with_env(&place, options, &words));
        assert_eq!(done.code(), 2, "{options:?}: {done:?}");
        assert_eq!(done.stdout, format!("{direct}{direct}"), "{options:?}");
    }
}

/// PEERS, T8: with SIGCHLD ignored the kernel throws wait statuses away. "The job's exit status is
/// told truthfully."
#[test]
fn a_caller_that_ignores_sigchld_costs_no_exit_status() {
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
        let place = Place::new();
        let words = [&cm(), "sh", "-c", script];
        let done = place.run_command(with_env(&place, &["--ignore-signal=CHLD"], &words));
        assert_eq!(done.code(), status, "{done:?}");
        assert_eq!(done.count("its status with it"), 0, "{done:?}");
    }
}

/// "nohup must still work"
#[test]
fn under_nohup_childminder_and_job_outlive_a_hang_up() {
    let place = Place::new();
    let job = "until [ -e go ]; do sleep 0.02; done; exit 3";
    let mut command = place.command("nohup");
    command.args([&cm(), "sh", "-c", job]);
    let running = place.start_command(command);
    let job = running.job();
    running.signal("HUP");
    place.await_log("signal 1 (SIGHUP) from kill(2)");
    kill(job, "HUP");
    place.write("go", "");
    let done = running.end();
    assert_eq!(done.code(), 3, "{done:?}");
    done.message(&format!("forwarded signal 1 (SIGHUP) to child {job}"));
}

/// Appends the open descriptors of the process, with what they are, to the file that is named, and
/// ends with status 3. The directory is closed before that file is opened.
const LIST: &str = r#"
    opendir my $dir, "/proc/self/fd" or die;
    my @fds = sort { $a <=> $b } grep { /\d/ && $_ != fileno $dir } readdir $dir;
    my $list = join "", map { my $to = readlink "/proc/self/fd/$_"; $to =~ s/\d+/N/g; "$_ $to\n" } @fds;
    closedir $dir;
    open my $out, ">>", $ARGV[0] or die;
    print $out "$list-\n";
    close $out;
    exit 3;
"#;

/// Runs a script of sh with the words as its arguments.
fn through(place: &Place, script: &str, words: &[&str]) -> Done {
    let mut command = place.shell(script);
    command.arg("sh").args(words);
    place.run_command(command)
}

/// The lists of all attempts of a run that the script starts.
fn descriptors(script: &str, options: &[&str]) -> Vec<String> {
    let place = Place::new();
    let cm = cm();
    let mut words = vec![cm.as_str()];
    words.extend(options);
    words.extend(["--restart-on", "exit:3", "-t", "2", "--backoff", "0..0"]);
    words.extend(["perl", "-e", LIST, "minded"]);
    let done = through(&place, script, &words);
    assert_eq!(done.code(), 3, "{done:?}");
    let minded = place.text("minded");
    assert_eq!(minded.matches("-\n").count(), 3, "{script} {options:?}: {minded}");
    minded.split_terminator("-\n").map(str::to_owned).collect()
}

/// The list of the same without childminder.
fn direct_descriptors(script: &str) -> String {
    let place = Place::new();
    through(&place, script, &["perl", "-e", LIST, "direct"]);
    place.text("direct").trim_end_matches("-\n").to_owned()
}

/// "Nothing of the job's behaviour changes by being minded: same descriptors": none of ours is
/// leaked, none of the caller's is lost, whether open or closed.
#[test]
fn every_attempt_has_exactly_the_descriptors_of_the_caller() {
    for script in [
        "exec \"$@\"",
        "exec 7</dev/null; exec \"$@\"",
        "exec \"$@\" <&-",
        "exec \"$@\" >&-",
        "exec \"$@\" 2>&-",
        "exec \"$@\" 5>five <&- >&- 2>&-",
    ] {
        let direct = direct_descriptors(script);
        let direct = direct.replace(&place_name(&direct), "PLACE");
        assert!(!direct.is_empty() || script.contains("<&-"), "{script}");
        let logs: &[&[&str]] = match script.contains("2>&-") {
            true => &[&[], &["--new-session"]],
            false => &[&[], &["-l", "stderr"], &["--timeout", "1h"]],
        };
        for log in logs {
            for minded in descriptors(script, log) {
                let minded = minded.replace(&place_name(&minded), "PLACE");
                assert_eq!(minded, direct, "{script} {log:?}");
            }
        }
    }
}

/// The directory of a test's own in a list, which differs from test to test.
fn place_name(list: &str) -> String {
    let from = list.find("minded-");
    let name = from.map(|from| list[from..].split('/').next().unwrap_or_default());
    name.unwrap_or("PLACE").to_owned()
}

/// "same descriptors": those that are redirected, and no second ones of the files behind them.
#[test]
fn a_redirected_job_has_its_files_and_nothing_more() {
    for closed in ["", "<&-", "<&- >&- 2>&-"] {
        let script = format!("exec 9>&-; : > in; exec \"$@\" {closed}");
        let direct = direct_descriptors(&script);
        let is_standard = |line: &&str| ["0 ", "1 ", "2 "].iter().any(|fd| line.starts_with(fd));
        let inherited: Vec<&str> = direct.lines().filter(|line| !is_standard(line)).collect();
        for minded in descriptors(&script, &["-i", "in", "-o", "out", "-e", "out"]) {
            let lines: Vec<&str> = minded.lines().collect();
            for (line, file) in lines.iter().zip(["/in", "/out", "/out"]) {
                assert!(line.ends_with(file), "{minded}");
            }
            assert_eq!(lines[3..], inherited, "{closed}");
        }
    }
}

/// "Nothing of the job's behaviour changes by being minded: ... limits": nor anything else that a
/// process inherits.
#[test]
fn what_a_process_inherits_is_the_callers() {
    let place = Place::new();
    fs::create_dir(place.file("sub")).expect("a directory");
    let given =
        "umask 027; ulimit -n 60; ulimit -c 0; ulimit -t 1000; cd sub; exec nice -n 5 \"$@\"";
    let look = "grep -vE '^(Name|Tgid|Pid|PPid|NStgid|NSpid|SigQ|Vm|Rss|State|Tracer|.*ctxt)' \
         /proc/self/status; cat /proc/self/limits /proc/self/oom_score_adj /proc/self/timerslack_ns \
         /proc/self/cgroup; pwd; cut -d' ' -f5-8,18,19 /proc/self/stat; ls -l /proc/self/ns | \
         sed 's/.*->//'";
    let direct = through(&place, given, &["sh", "-c", look]);
    let minded = through(&place, given, &[&cm(), "-l", "stderr", "sh", "-c", look]);
    assert_eq!((direct.code(), minded.code()), (0, 0), "{minded:?}");
    assert!(direct.stdout.contains("Umask:\t0027"), "{}", direct.stdout);
    assert_eq!(minded.stdout, direct.stdout);
}

/// "Nothing of the job's behaviour changes by being minded": execve(2) would have kept the signal at the
/// parent's end, so the job has it too, with childminder as the parent. With SIGKILL, which nobody passes on, both
/// end.
#[test]
fn the_signal_at_the_parents_end_is_the_jobs() {
    let place = Place::new();
    if place.command("setpriv").args(["--pdeathsig", "KILL", "true"]).status().is_err() {
        return support::skip("the signal at the parent's end", "there is no setpriv");
    }
    let job = r#"my $x = pack "i", 0; syscall($ENV{PRCTL}, 2, $x); print unpack("i", $x), "\n""#;
    for (name, number) in [("KILL", "9"), ("USR1", "10"), ("clear", "0")] {
        let mut command = place.command("setpriv");
        let Some(call) = prctl_call() else { return };
        command.env("PRCTL", call).args(["--pdeathsig", name]).arg(cm());
        command.args(["-l", "stderr", "perl", "-e", job]);
        let done = place.run_command(command);
        assert_eq!(done.stdout.trim(), number, "{name}: {done:?}");
    }
    let script = "setpriv --pdeathsig KILL \"$CM\" sh -c 'echo $$ > job; exec sleep 300' & wait";
    let mut parent = place.shell(script).spawn().expect("it starts");
    let mut job = 0;
    support::wait_until("the job runs", || {
        job = place.text("job").trim().parse().unwrap_or(0);
        job > 0 && support::name(job).as_deref() == Some("sleep")
    });
    parent.kill().expect("our child");
    parent.wait().expect("our child");
    support::wait_until("the job is gone", || !support::is_alive(job));
}

/// The number of prctl(2).
fn prctl_call() -> Option<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Some("157"),
        "aarch64" | "riscv64" => Some("167"),
        _ => {
            support::skip("prctl(2) in perl", "its number is not known here");
            None
        }
    }
}

/// sd_listen_fds(3), sd_watchdog_enabled(3): a job takes what is meant for its own pid only, and each attempt has
/// another one. What is meant for another process, or names one in another way, is not touched.
#[test]
fn variables_that_name_childminder_as_the_process_meant_name_the_job() {
    let place = Place::new();
    let job = "echo $$ $LISTEN_PID $WATCHDOG_PID ${LISTEN_PIDFDID-none} $LISTEN_FDS; exit 3";
    let tries = ["-l", "stderr", "--restart-on", "exit:3", "-t", "1", "--backoff", "0..0"];
    for (script, is_ours) in [("$$", true), ("1", false)] {
        let script = format!(
            "LISTEN_PID={script} WATCHDOG_PID={script} LISTEN_PIDFDID=7 LISTEN_FDS=1; \
             export LISTEN_PID WATCHDOG_PID LISTEN_PIDFDID LISTEN_FDS; exec \"$@\""
        );
        let cm = cm();
        let words: Vec<&str> =
            [cm.as_str()].iter().chain(&tries).chain(&["sh", "-c", job]).copied().collect();
        let done = through(&place, &script, &words);
        assert_eq!((done.code(), done.stdout.lines().count()), (3, 2), "{done:?}");
        for line in done.stdout.lines() {
            let pid = line.split(' ').next().expect("a word");
            let expected = match is_ours {
                true => format!("{pid} {pid} {pid} none 1"),
                false => format!("{pid} 1 1 7 1"),
            };
            assert_eq!(line, expected, "{done:?}");
        }
    }
}

/// sched(7): the flag that resets a child's scheduling would reset the job's.
#[test]
fn a_scheduling_that_is_reset_on_fork_is_the_jobs_as_well() {
    let place = Place::new();
    let chrt = |words: &[&str]| {
        let mut command = place.command("chrt");
        command.args(["-R", "-b", "0"]).args(words);
        command
    };
    let look = ["sh", "-c", "chrt -p $$ | sed 's/[0-9][0-9]*//'"];
    let Ok(direct) = chrt(&look).output() else {
        return support::skip("scheduling", "there is no chrt");
    };
    let direct = String::from_utf8_lossy(&direct.stdout).into_owned();
    assert!(direct.contains("SCHED_BATCH|SCHED_RESET_ON_FORK"), "{direct}");
    let cm = cm();
    let words: Vec<&str> = [cm.as_str(), "-l", "stderr"].iter().chain(&look).copied().collect();
    let done = place.run_command(chrt(&words));
    assert_eq!(done.stdout, direct, "{done:?}");
}

/// `cd DIR; CMD` sets PWD, so -w and --child-directory do.
#[test]
fn pwd_names_the_directory_that_an_option_chose() {
    let place = Place::new();
    fs::create_dir_all(place.file("sub/sub")).expect("a directory");
    std::os::unix::fs::symlink("sub", place.file("link")).expect("a link");
    let path = |name: &str| place.file(name).to_str().expect("text").to_owned();
    let real = fs::canonicalize(place.path()).expect("ours").to_str().expect("text").to_owned();
    let cases: [(&[&str], String); 6] = [
        (&[], "/old".into()),
        (&["-w", &path("link")], path("link")),
        (&["-w", "sub"], format!("{real}/sub")),
        (&["--child-directory", "link"], format!("{real}/sub")),
        (&["-w", "sub", "--child-directory", "sub"], format!("{real}/sub/sub")),
        (&["-w", &path("sub/../sub")], format!("{real}/sub")),
    ];
    for (options, expected) in cases {
        let mut command = place.childminder(["-l", "stderr"].iter().chain(options));
        command.env("PWD", "/old").args(["printenv", "PWD"]);
        let done = place.run_command(command);
        assert_eq!(done.stdout.trim(), expected, "{options:?}: {done:?}");
    }
}

/// "same descriptors": a pipe whose end the job closed is closed, so its reader sees the end and its writer gets
/// SIGPIPE while the job goes on.
#[test]
fn the_other_end_of_a_pipe_waits_for_the_job_alone() {
    let job = "exec <&- >&- 7>&-; : > closed; until [ -e go ]; do sleep 0.02; done; exit 3";
    for options in ["", "-i in -o out", "-o out", "-l stderr"] {
        let place = Place::new();
        // dash opens the files of a simple command in its own process (vfork(2)): hence `exec`.
        let script = format!(
            "mkfifo in out other; \
             (yes > in; : > in.done) & (cat out; : > out.done) & \
             (cat other; : > other.done) & \
             (exec \"$CM\" {options} sh -c '{job}' <in >out 7>other)"
        );
        let mut command = place.shell(&script);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("it starts");
        for file in ["closed", "in.done", "out.done", "other.done"] {
            support::wait_until(&format!("{options}: {file}"), || place.file(file).exists());
        }
        assert_eq!(child.try_wait().expect("our child"), None, "the job goes on");
        place.write("go", "");
        assert_eq!(child.wait().expect("our child").code(), Some(3), "{options}");
    }
}

/// What another attempt will need stays open, and so does what the log or the verdict is written to.
#[test]
fn what_is_still_needed_stays_open() {
    let place = Place::new();
    let job = "echo $CHILDMINDER_ATTEMPT; [ $CHILDMINDER_ATTEMPT = 2 ] || exit 3; read x; echo $x";
    let script = "(echo hello; sleep 0.1) | \"$CM\" -l stderr --restart-on exit:3 \
        --backoff 0..0 sh -c \"$0\" | cat";
    let done = {
        let mut command = place.shell(script);
        command.arg(job);
        place.run_command(command)
    };
    assert_eq!(done.stdout, "1\n2\nhello\n", "{done:?}");
    let command = place.shell("\"$CM\" -l stdout sh -c 'exec >&-; exit 3' | cat");
    let done = place.run_command(command);
    assert!(done.stdout.contains("verdict: exit_nonzero"), "{done:?}");
    assert!(done.stderr.contains("exit_nonzero"), "{done:?}");
}

/// fcntl_locking(2): a record lock that a program took before it became childminder holds as long as the job.
#[test]
fn a_record_lock_that_was_taken_before_still_holds() {
    let place = Place::new();
    let take = r#"
        use Fcntl; open my $f, ">>", "lock" or die; fcntl $f, F_SETFD, 0;
        my $lock = pack "s s x![q] q q i x4", F_WRLCK, 0, 0, 0, 0;
        fcntl $f, F_SETLK, $lock or exit 9;
        exec @ARGV;
    "#;
    let job = format!("perl -e '{}' true; echo $?", take.replace('\n', " "));
    let mut command = place.command("perl");
    command.args(["-e", take]).arg(cm()).args(["-l", "stderr", "sh", "-c", &job]);
    let done = place.run_command(command);
    assert_eq!(done.stdout, "9\n", "{done:?}");
}

/// The numbers of the rusage line of each attempt: CPU seconds in all, and memory in KiB.
fn usages(log: &[String]) -> Vec<(f64, u64)> {
    let number = |line: &str, name: &str, end: char| {
        let rest = line.split(name).nth(1).unwrap_or_else(|| panic!("no {name} in {line}"));
        rest.split(end).next().unwrap_or_default().to_owned()
    };
    let lines =
        log.iter().filter(|line| line.starts_with("child ") && line.contains(" rusage info "));
    lines
        .map(|line| {
            let seconds = |name| number(line, name, 's').parse::<f64>().expect("seconds");
            let memory = number(line, "memory: ", 'k').parse().expect("KiB");
            (seconds("system time: ") + seconds("user time: "), memory)
        })
        .collect()
}

/// PEERS, T9: a child's peak memory begins with its parent's. "the reaped child's own rusage"
#[test]
fn the_memory_of_a_small_job_is_small_whoever_starts_it() {
    let place = Place::new();
    let words = [&cm(), "true"];
    let mut large = place.command("perl");
    large.args(["-e", "$x = 'x' x 100_000_000; exec @ARGV"]).args(words);
    let done = place.run_command(large);
    assert_eq!(done.code(), 0, "{done:?}");
    let (_, memory) = usages(&done.log)[0];
    assert!((1..12_000).contains(&memory), "{memory} KiB");
}

/// PEERS, T10. "the reaped child's own rusage (never RUSAGE_CHILDREN, which adds up)"
#[test]
fn the_usage_of_an_attempt_does_not_include_that_of_the_one_before() {
    let place = Place::new();
    let job = r#"
        exit 0 if $ENV{CHILDMINDER_ATTEMPT} > 1;
        $x = "x" x (60_000_000 + $$);
        1 while (times)[0] < 0.4;
        kill KILL => $$;
    "#;
    let done = place.run(["-s", "--backoff", "0..0", "perl", "-e", job]);
    assert_eq!(done.code(), 0, "{done:?}");
    let usages = usages(&done.log);
    let [(first, large), (second, small)] = usages[..] else { panic!("two attempts: {usages:?}") };
    assert!(first >= 0.4 && large > 60_000, "{usages:?}");
    assert!(second < 0.2 && small < 30_000, "{usages:?}");
}

/// "All signals are blocked before anything else ... Trapped: 1 to 64 except SIGKILL, SIGSTOP and
/// the two glibc keeps (32, 33)"
#[test]
fn childminder_itself_blocks_all_that_it_traps() {
    let place = Place::new();
    let running = place.start(["sh", "-c", "until [ -e go ]; do sleep 0.02; done"]);
    running.job();
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).expect("it lives");
    let all = !(bit(9) | bit(19) | KEPT);
    assert_eq!(status_field(&status, "SigBlk"), format!("{all:016x}"));
    place.write("go", "");
    assert_eq!(running.end().code(), 0);
}

/// "`--new-session`": the one thing about the job that is changed if that is asked for.
#[test]
fn a_new_session_is_the_jobs_own() {
    let place = Place::new();
    let look = ["cut", "-d ", "-f1,5,6", "/proc/self/stat"];
    let done = place.run(["-l", "stderr", "--new-session"].iter().chain(&look));
    let ids: Vec<&str> = done.stdout.split_whitespace().collect();
    assert_eq!(ids.len(), 3, "{done:?}");
    assert_eq!((ids[1], ids[2]), (ids[0], ids[0]), "process, group and session: {done:?}");
}
