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
