//! DESIGN, section 4: every signal is seen, told with its sender, and passed on as was asked.

mod support;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill as kill_at_once};
use nix::unistd::{Pid, getuid};
use support::{Done, Place, Running, is_alive, messages, skip, state, wait_until};

/// The standard signals (signal(7)) with their numbers.
const STANDARD: &str = "1 HUP 2 INT 3 QUIT 4 ILL 5 TRAP 6 ABRT 7 BUS 8 FPE 10 USR1 11 SEGV 12 USR2 \
    13 PIPE 14 ALRM 15 TERM 16 STKFLT 17 CHLD 18 CONT 20 TSTP 21 TTIN 22 TTOU 23 URG 24 XCPU \
    25 XFSZ 26 VTALRM 27 PROF 28 WINCH 29 IO 30 PWR 31 SYS";

/// All sixty that can be trapped, as the log shows them: `1 (SIGHUP)`.
fn trappable() -> Vec<(i32, String)> {
    let words: Vec<&str> = STANDARD.split(' ').collect();
    let standard =
        words.chunks(2).map(|pair| (pair[0].parse().expect("a number"), pair[1].to_owned()));
    let real_time = (34..=64).map(|number| match number {
        34 => (number, "RTMIN".to_owned()),
        64 => (number, "RTMAX".to_owned()),
        _ => (number, format!("RTMIN+{}", number - 34)),
    });
    let all = standard.chain(real_time);
    all.map(|(number, name)| (number, format!("{number} (SIG{name})"))).collect()
}

/// The kernel discards one that is pending when a stop signal comes, and the other way round
/// (signal(7)), so it is sent by itself.
const CONT: i32 = 18;

/// Waits until so many signals are told.
fn await_told(place: &Place, count: usize) {
    wait_until(&format!("{count} signals are told"), || {
        messages(&place.log()).iter().filter(|line| line.starts_with("signal ")).count() == count
    });
}

/// `0 (root)`: us, as the log shows a sender's user.
fn user() -> String {
    let uid = getuid();
    let passwd = fs::read_to_string("/etc/passwd").expect("passwd(5)");
    let entry = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    let name = entry.and_then(|line| line.split(':').next()).unwrap_or("name unknown");
    format!("{uid} ({name})")
}

/// A process that sends signals by a script of sh, to which `$0` is childminder, and stays to be
/// looked at until it is let go.
struct Lingering {
    child: Child,
    command: String,
}

impl Lingering {
    fn start(place: &Place, shell: &str, script: &str, pid: i32) -> Lingering {
        let script = format!("{script}\nread x");
        let pid = pid.to_string();
        let mut command = place.command(shell);
        command.args(["-c", &script, &pid]).stdin(Stdio::piped());
        let child = command.spawn().expect("it starts");
        Lingering { child, command: format!("{shell} -c {script} {pid}").replace('\n', "\\n") }
    }

    /// What the log says of it.
    fn shown(&self) -> String {
        format!("Signal sent by user {} in process {} ({})", user(), self.child.id(), self.command)
    }

    fn let_go(mut self) {
        self.child.stdin.take().expect("a pipe").write_all(b"\n").expect("it reads");
        self.child.wait().expect("our child");
    }
}

/// A job that ends with status 5 when the file `go` is there.
const WAITS: [&str; 3] = ["sh", "-c", "until [ -e go ]; do sleep 0.02; done; exit 5"];

/// "Each signal received is logged with number, name, si_code in words, sender's uid and user
/// name, pid and command line (NUL bytes shown as spaces, control characters escaped ...)".
/// "Childminder never dies of a signal it can trap". "`--forward none` is the original's behaviour:
/// watch and log only".
#[test]
fn all_sixty_signals_are_told_with_their_sender_and_survived() {
    let place = Place::new();
    let running = place.start(["--forward", "none"].iter().chain(&WAITS));
    let job = running.job();
    let all = trappable();
    let numbers = all.iter().filter(|(number, _)| *number != CONT);
    let numbers: Vec<String> = numbers.map(|(number, _)| number.to_string()).collect();
    // The line feeds in its command line are what the log must not show.
    let script = format!(
        "for n in {}\ndo kill -$n $0\ndone\nuntil [ -e told ]; do sleep 0.02; done; kill -{CONT} $0",
        numbers.join(" ")
    );
    let sender = Lingering::start(&place, "sh", &script, running.pid());
    let shown = sender.shown();
    await_told(&place, 59);
    place.write("told", "");
    await_told(&place, 60);
    sender.let_go();
    assert!(is_alive(running.pid()) && is_alive(job));
    place.write("go", "");
    let done = running.end();
    assert_eq!(done.code(), 5, "{done:?}");
    for (_, signal) in &all {
        done.message(&format!("signal {signal} from kill(2). {shown}"));
    }
    assert_eq!(done.count("signal "), 60, "{done:?}");
}

/// "(... length bounded)": a line of the log stays one that a pipe takes whole.
#[test]
fn a_sender_with_a_long_command_line_is_told_in_a_short_one() {
    let place = Place::new();
    let running = place.start(["--forward", "none"].iter().chain(&WAITS));
    running.job();
    let script = format!(": {}; kill -USR1 $0", "x".repeat(100_000));
    let sender = Lingering::start(&place, "sh", &script, running.pid());
    let told = place.await_log("signal 10 (SIGUSR1)");
    sender.let_go();
    assert!(told.contains("(sh -c : xxxx") && told.contains("xxx..."), "{told}");
    assert!(told.len() < 3000, "{} bytes", told.len());
    place.write("go", "");
    assert_eq!(running.end().code(), 5);
}

/// A job that tells the file `got` the number of each signal that it gets, until the file `go` is
/// there.
const TELLS: &str = r#"
    use POSIX ();
    for my $number (1 .. 8, 10 .. 18, 20 .. 31, 34 .. 64) {
        my $tell = sub { open my $file, ">>", "got"; print $file "$number\n"; close $file };
        my $action = POSIX::SigAction->new($tell);
        $action->safe(1);
        POSIX::sigaction($number, $action) or die;
    }
    open my $file, ">", "ready"; close $file;
    do { select undef, undef, undef, 0.01 } until -e "go";
    exit 5;
"#;

/// Sends all sixty signals to childminder with these options, and returns those that the job got.
fn passed_on(options: &[&str], expected: usize) -> (Vec<i32>, Done) {
    let place = Place::new();
    let running = place.start(options.iter().chain(&["perl", "-e", TELLS]));
    running.job();
    wait_until("the job is ready", || place.file("ready").exists());
    let got = || place.text("got").lines().count();
    for (number, _) in trappable().into_iter().filter(|(number, _)| *number != CONT) {
        running.signal(&number.to_string());
    }
    await_told(&place, 59);
    wait_until("the job got them", || got() + 1 >= expected);
    running.signal("CONT");
    await_told(&place, 60);
    wait_until("the job got all", || got() >= expected);
    place.write("go", "");
    let done = running.end();
    let mut got: Vec<i32> =
        place.text("got").lines().map(|number| number.parse().expect("a number")).collect();
    got.sort_unstable();
    (got, done)
}

/// "with `--forward all` (the default) a signal that a process sent to childminder on purpose is
/// passed to the job; ... nor SIGCHLD"
#[test]
fn by_default_the_job_gets_every_signal_but_sigchld() {
    for options in [&[][..], &["--forward", "all"]] {
        let (got, done) = passed_on(options, 59);
        let expected: Vec<(i32, String)> =
            trappable().into_iter().filter(|(number, _)| *number != 17).collect();
        assert_eq!(got, expected.iter().map(|(number, _)| *number).collect::<Vec<_>>(), "{done:?}");
        for (_, signal) in expected {
            done.message(&format!("forwarded signal {signal} to child "));
        }
        assert_eq!((done.code(), done.count("forwarded signal")), (5, 59));
    }
}

/// "`--forward none` is the original's behaviour: watch and log only; `--forward TERM,HUP` a list."
#[test]
fn a_list_is_passed_on_and_none_is_nothing() {
    let (got, done) = passed_on(&["--forward", "TERM,sighup,10,RTMIN+3,CHLD"], 5);
    assert_eq!((got, done.count("forwarded signal")), (vec![1, 10, 15, 17, 37], 5), "{done:?}");
    let (got, done) = passed_on(&["--forward", "none"], 0);
    assert_eq!((got, done.count("forwarded")), (vec![], 0), "{done:?}");
    assert_eq!(done.code(), 5);
}

/// The number of rt_sigqueueinfo(2).
fn queue_call() -> Option<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Some("129"),
        "aarch64" | "riscv64" => Some("138"),
        _ => None,
    }
}

/// Queues a signal to a process for each value from the first to the last, as sigqueue(3) does,
/// with the name of a sender that is free to choose.
const QUEUES: &str = r#"
    my ($call, $pid, $signal, $claimed, $uid, $first, $last) = map { $_ + 0 } @ARGV;
    for my $value ($first .. $last) {
        my $info = pack "i i i x4 i I i x100", $signal, 0, -1, $claimed, $uid, $value;
        syscall($call, $pid, $signal, $info) == 0 or die "$!";
    }
"#;

#[track_caller]
fn queue(place: &Place, running: &Running<'_>, numbers: [i64; 5]) -> bool {
    let Some(call) = queue_call() else {
        skip("signals made by rt_sigqueueinfo(2)", "its number is not known here");
        return false;
    };
    let mut perl = place.command("perl");
    perl.args(["-e", QUEUES, call, &running.pid().to_string()]);
    perl.args(numbers.map(|number| number.to_string()));
    assert!(perl.status().expect("perl starts").success());
    true
}

/// A job that tells the file `got` the value and the sender of each real-time signal.
const TELLS_VALUE: &str = r#"
    use POSIX ();
    my $tell = sub {
        my ($code, $pid, $value) = (unpack "i i i x4 i I i", $_[2])[2, 3, 5];
        open my $file, ">>", "got"; print $file "$code $pid $value\n"; close $file;
    };
    POSIX::sigaction(34, POSIX::SigAction->new($tell, POSIX::SigSet->new, POSIX::SA_SIGINFO())) or die;
    open my $file, ">", "ready"; close $file;
    do { select undef, undef, undef, 0.01 } until -e "go";
"#;

/// "Forwarding": the integer of sigqueue(3) goes with the signal.
#[test]
fn the_value_of_sigqueue_is_told_and_passed_on() {
    let place = Place::new();
    let running = place.start(["perl", "-e", TELLS_VALUE]);
    running.job();
    wait_until("the job is ready", || place.file("ready").exists());
    let pid = running.pid();
    let sent = place.command("kill").args(["-q", "42", "-34", &pid.to_string()]).status();
    assert!(sent.expect("kill starts").success());
    let told =
        place.await_log("signal 34 (SIGRTMIN) from sigqueue(3) with value 42. Signal sent by ");
    assert!(told.contains(&format!("user {} in process ", user())), "{told}");
    // The job is told that it comes from childminder.
    place.await_line("got", &format!("-1 {pid} 42"));
    if queue(&place, &running, [34, 1, 0, -7, -7]) {
        place.await_log("with value -7.");
        place.await_line("got", &format!("-1 {pid} -7"));
    }
    place.write("go", "");
    assert_eq!(running.end().code(), 0);
}

/// "SI_QUEUE can lie: marked." (PEERS, T6)
#[test]
fn what_a_sender_may_forge_is_marked() {
    let place = Place::new();
    let running = place.start(["--forward", "none"].iter().chain(&WAITS));
    running.job();
    // Nobody but the kernel could tell it from process 1.
    if queue(&place, &running, [12, 1, 0, 1, 1]) {
        let told = place.await_log("signal 12 (SIGUSR2) from sigqueue(3)");
        assert!(told.contains("Signal sent by user 0 (root) in process 1 ("), "{told}");
        assert!(told.ends_with(" [as the sender states it: sigqueue can lie]"), "{told}");
    }
    running.signal("USR1");
    let honest = place.await_log("signal 10 (SIGUSR1) from kill(2)");
    assert!(!honest.contains("can lie"), "{honest}");
    place.write("go", "");
    assert_eq!(running.end().code(), 5);
}

/// PEERS, T6: "trust SI_USER/SI_TKILL/SI_KERNEL only". "a signal that a process sent to childminder
/// on purpose is passed to the job": also if the sender says that childminder itself sent it.
#[test]
fn a_forged_sender_does_not_keep_a_signal_from_the_job() {
    let place = Place::new();
    let running = place.start(["perl", "-e", TELLS_VALUE]);
    running.job();
    wait_until("the job is ready", || place.file("ready").exists());
    let pid = running.pid();
    if queue(&place, &running, [34, i64::from(pid), 0, 3, 3]) {
        place.await_log("signal 34 (SIGRTMIN) from sigqueue(3) with value 3.");
        place.await_line("got", &format!("-1 {pid} 3"));
    }
    place.write("go", "");
    assert_eq!(running.end().code(), 0);
}

/// Stops childminder itself, so that what comes meanwhile is pending all at once.
fn while_stopped(running: &Running<'_>, act: impl FnOnce()) {
    running.signal("STOP");
    wait_until("childminder has stopped", || state(running.pid()) == Some('T'));
    act();
    running.signal("CONT");
}

/// "Each signal received is logged": however many are pending, and in the order of their sending.
#[test]
fn a_thousand_queued_signals_are_all_told_in_order() {
    let place = Place::new();
    let limits = fs::read_to_string("/proc/self/limits").expect("proc(5)");
    let limit = limits.lines().find(|line| line.starts_with("Max pending signals"));
    let limit = limit.and_then(|line| line.split_whitespace().nth(3)?.parse::<u32>().ok());
    if limit.is_some_and(|limit| limit < 2000) {
        return skip("a thousand queued signals", "so many may not be pending here");
    }
    let running = place.start(["--forward", "none"].iter().chain(&WAITS));
    running.job();
    let mut is_queued = false;
    while_stopped(&running, || is_queued = queue(&place, &running, [35, 1, 0, 0, 999]));
    if is_queued {
        place.await_log("with value 999.");
    }
    place.write("go", "");
    let done = running.end();
    assert_eq!(done.code(), 5);
    let value = |line: &String| {
        let rest = line.strip_prefix("signal 35 (SIGRTMIN+1) from sigqueue(3) with value ")?;
        rest.split('.').next()?.parse().ok()
    };
    let values: Vec<i32> = done.log.iter().filter_map(value).collect();
    assert_eq!(values, (0..if is_queued { 1000 } else { 0 }).collect::<Vec<_>>());
}

/// PEERS, T5: the kernel keeps one pending signal of each standard kind, with its first sender.
/// Nothing is told of the others, and nothing claims to know how many they were.
#[test]
fn signals_that_the_kernel_merged_are_told_once_with_their_first_sender() {
    let place = Place::new();
    let running = place.start(["--forward", "none"].iter().chain(&WAITS));
    running.job();
    let mut senders = Vec::new();
    while_stopped(&running, || {
        for _ in 0..3 {
            let sender = Lingering::start(&place, "sh", "kill -USR1 $0", running.pid());
            // It sleeps, in `read`, once it has sent.
            let pid = i32::try_from(sender.child.id()).expect("a pid");
            wait_until("it has sent", || state(pid) == Some('S'));
            senders.push(sender);
        }
    });
    place.await_log("signal 18 (SIGCONT)");
    place.await_log("signal 10 (SIGUSR1)");
    let first = senders[0].shown();
    senders.into_iter().for_each(Lingering::let_go);
    place.write("go", "");
    let done = running.end();
    assert_eq!(done.message("(SIGUSR1)"), format!("signal 10 (SIGUSR1) from kill(2). {first}"));
}

/// "A supervisor is asked to stop by a signal, and the job must hear of it". Section 7: who it was
/// is evidence.
#[test]
fn a_request_to_stop_is_passed_on_and_its_sender_is_in_the_verdict() {
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let place = Place::new();
        let running = place.start(["sleep", "300"]);
        let job = running.job();
        let sender = Lingering::start(&place, "sh", &format!("kill -{name} $0"), running.pid());
        let shown = sender.shown();
        place.await_log("verdict: ");
        sender.let_go();
        let done = running.end();
        assert_eq!(done.code(), 128 + number, "{done:?}");
        let signal = format!("signal {number} (SIG{name})");
        done.message(&format!("forwarded {signal} to child {job}"));
        assert_eq!(
            done.verdict(),
            format!(
                "stop_requested (certain): SIG{name}; {signal} from kill(2). {shown}, received by \
                 childminder and passed on"
            )
        );
    }
}

/// Section 7: the verdict says "what happened": a signal that was passed on did come by way of
/// childminder, also one that is not a request to stop.
#[test]
fn a_job_that_dies_of_a_signal_that_was_passed_on_is_not_said_to_die_of_another() {
    let place = Place::new();
    let running = place.start(["sleep", "300"]);
    let job = running.job();
    running.signal("USR1");
    let done = running.end();
    assert_eq!(done.code(), 138, "{done:?}");
    done.message(&format!("forwarded signal 10 (SIGUSR1) to child {job}"));
    assert!(!done.verdict().contains("not sent through childminder"), "{}", done.verdict());
}

/// A signal from a program of that name is withheld only if another process was seen to receive it too (real
/// ones are in tests/slurm.rs). Nobody loses a signal to a process that calls itself so.
#[test]
fn a_sender_that_bears_the_batch_systems_name_keeps_nothing_from_the_job() {
    for options in [&[][..], &["--forward", "USR1,TERM"]] {
        let place = Place::new();
        symlink("/bin/sh", place.file("slurmstepd")).expect("a link");
        let running = place.start(options.iter().chain(&["perl", "-e", TELLS]));
        running.job();
        wait_until("the job is ready", || place.file("ready").exists());
        let script = "kill -USR1 $0; kill -TERM $0";
        let sender = Lingering::start(&place, "./slurmstepd", script, running.pid());
        place.await_line("got", "10");
        place.await_line("got", "15");
        sender.let_go();
        place.write("go", "");
        let done = running.end();
        assert_eq!((done.code(), done.count("forwarded signal ")), (5, 2), "{done:?}");
        assert_eq!(place.text("got").lines().count(), 2, "{done:?}");
    }
}

/// "Other signals of the kernel (an alarm set before exec) are passed on."
#[test]
fn an_alarm_that_was_set_before_is_the_jobs() {
    let place = Place::new();
    let mut command = place.command("perl");
    command.args(["-e", "alarm 1; exec @ARGV"]).arg(support::program()).args(["sleep", "30"]);
    let done = place.run_command(command);
    assert_eq!(done.code(), 142, "{done:?}");
    assert!(done.log.iter().any(|line| line == "signal 14 (SIGALRM) from the kernel"), "{done:?}");
    assert_eq!(done.count("forwarded signal 14 (SIGALRM)"), 1, "{done:?}");
    assert!(done.verdict().starts_with("unknown (likely): SIGALRM; "), "{done:?}");
}

/// "nor a signal from the job's own tree to its group": it is not a request to stop, and no echo kills
/// the job later.
#[test]
fn a_job_that_signals_its_own_group_does_not_hear_it_twice() {
    let place = Place::new();
    // The tests are in another group: `setsid` makes one for the two of them.
    let job = "trap 'trap \"\" TERM; kill 0; trap \"echo echo >> got\" TERM; \
        until [ -e go ]; do sleep 0.02; done; exit 3' USR1; : > ready; \
        while :; do sleep 0.02; done";
    let mut command = place.command("setsid");
    command.arg(support::program()).args(["-s", "-t", "1", "--backoff", "0..0", "sh", "-c", job]);
    let running = place.start_command(command);
    let pid = running.job();
    wait_until("the job is ready", || place.file("ready").exists());
    support::kill(pid, "USR1");
    let told = place.await_log("signal 15 (SIGTERM) from kill(2)");
    assert!(told.contains(&format!(" in process {pid} ")), "{told}");
    // What an echo would be told with has been told by then.
    running.signal("WINCH");
    place.await_log("forwarded signal 28 (SIGWINCH)");
    place.write("go", "");
    let done = running.end();
    assert_eq!((done.code(), place.text("got")), (3, String::new()), "{done:?}");
    assert_eq!(done.count("forwarded signal 15"), 0, "{done:?}");
    assert!(done.verdict().starts_with("exit_nonzero "), "{done:?}");
}

/// The same, where the job dies of it: the cause is the job itself, and a restart is as good as any.
#[test]
fn a_job_that_ends_by_signalling_its_group_is_not_said_to_be_asked_to_stop() {
    let place = Place::new();
    let mut command = place.command("setsid");
    let job = "[ $CHILDMINDER_ATTEMPT = 1 ] && kill 0; exit 0";
    command.arg(support::program()).args(["-s", "-t", "1", "--backoff", "0..0", "sh", "-c", job]);
    let done = place.run_command(command);
    assert_eq!(done.code(), 0, "{done:?}");
    assert_eq!(done.count(" started in process "), 2, "{done:?}");
}

/// "`--kill-after`": from SIGTERM only. A job that reloads on SIGHUP, or asks back on SIGINT, lives.
#[test]
#[expect(clippy::disallowed_methods, reason = "a time that nothing happens in must pass")]
fn a_request_other_than_sigterm_starts_no_grace_period() {
    let place = Place::new();
    let job = "trap 'echo h >> got' HUP; trap 'echo i >> got' INT; trap 'echo q >> got' QUIT; \
        : > ready; until [ -e go ]; do sleep 0.02; done; exit 3";
    let running = place.start(["--kill-after", "0.2s", "sh", "-c", job]);
    running.job();
    wait_until("the job is ready", || place.file("ready").exists());
    for (name, letter) in [("HUP", "h"), ("INT", "i"), ("QUIT", "q")] {
        running.signal(name);
        place.await_line("got", letter);
    }
    let sent = Instant::now();
    wait_until("the grace period would be over", || sent.elapsed() > Duration::from_millis(500));
    place.write("go", "");
    let done = running.end();
    assert_eq!((done.code(), done.count("SIGKILL")), (3, 0), "{done:?}");
}

/// PEERS, T37: a signal that comes while the job is being started must not be lost: it ends
/// childminder before anything was done, or the job hears of it.
#[test]
#[expect(clippy::disallowed_methods, reason = "the moment of the signal is varied by the clock")]
fn a_request_to_stop_is_never_lost_however_early_it_comes() {
    for round in 0..60 {
        let place = Place::new();
        let mut command: Command = place.childminder(["sleep", "300"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let started = Instant::now();
        let mut child = command.spawn().expect("it starts");
        while started.elapsed() < Duration::from_micros(50) * round {
            std::hint::spin_loop();
        }
        let pid = i32::try_from(child.id()).expect("a pid");
        kill_at_once(Pid::from_raw(pid), Signal::SIGTERM).expect("our child");
        let mut status = None;
        wait_until(&format!("round {round} ends"), || {
            status = child.try_wait().expect("our child");
            status.is_some()
        });
        let status = status.expect("it ended");
        if status.signal() == Some(15) {
            // It had not begun.
            assert_eq!(place.contents().len(), 0, "round {round}");
        } else {
            assert_eq!(status.code(), Some(143), "round {round}: {}", place.log());
            assert!(place.log().contains("verdict: stop_requested (certain)"), "{}", place.log());
        }
    }
}
