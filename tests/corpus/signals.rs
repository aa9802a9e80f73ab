//! Signals that did not come through childminder: from the job itself, from other processes, from timers.

use crate::case::{Case, case};

const SENT: &str = "killed_by_process likely possible";
/// The kernel sends these for timers and descriptors of the program's own, and nothing shows which it was.
const SENT_OR_TIMER: &str =
    "killed_by_process likely possible | unknown likely possible | crashed possible";
const PIPE: &str =
    "broken_pipe likely possible | killed_by_process likely possible | unknown likely possible";
const KILLED: &str = "killed_by_process likely | unknown possible";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, number, right) in [
        ("HUP", 1, SENT),
        ("INT", 2, SENT),
        ("QUIT", 3, SENT),
        ("KILL", 9, KILLED),
        ("USR1", 10, SENT),
        ("USR2", 12, SENT),
        ("PIPE", 13, PIPE),
        ("ALRM", 14, SENT_OR_TIMER),
        ("TERM", 15, SENT),
        ("STKFLT", 16, SENT),
        ("XCPU", 24, SENT),
        ("XFSZ", 25, SENT),
        ("VTALRM", 26, SENT_OR_TIMER),
        ("PROF", 27, SENT_OR_TIMER),
        ("IO", 29, SENT_OR_TIMER),
        ("PWR", 30, SENT),
        ("35", 35, SENT),
        ("64", 64, SENT),
    ] {
        cases.push(by_itself(name, number, right));
        cases.push(from_outside(name, number, right));
    }
    for (name, number) in
        [("ILL", 4), ("TRAP", 5), ("ABRT", 6), ("BUS", 7), ("FPE", 8), ("SEGV", 11), ("SYS", 31)]
    {
        // Sent by a process, and nothing shows that it was no fault: `crashed` is likely at most.
        let right = "crashed likely possible | killed_by_process likely possible";
        cases.push(by_itself(name, number, right).never("the kernel's log"));
        cases.push(from_outside(name, number, right).never("the kernel's log"));
    }
    cases.extend(kills());
    cases.extend(timers());
    cases
}

fn by_itself(name: &str, number: i32, right: &'static str) -> Case {
    let script = format!(r#"exec "$CM" sh -c 'sleep 0.1; kill -{number} $$; sleep 9'"#);
    case(format!("raises-{name}"), "it sent the signal to itself", right, &script)
        .never("oom_killed")
        .status(128 + number)
}

fn from_outside(name: &str, number: i32, right: &'static str) -> Case {
    let script = format!(
        "begin sh -c ': > ready; exec sleep 60'\nawait ready; await_job; watched; kill -{number} $job; end"
    );
    case(format!("sent-{name}"), "another process sent the signal to the job alone", right, &script)
        .never("oom_killed")
        .status(128 + number)
}

fn kills() -> Vec<Case> {
    vec![
        case("kill-at-once", "the job was killed within milliseconds", KILLED,
            r#"exec "$CM" sh -c 'kill -9 $$'"#).status(137),
        case("kill-unsampled", "a person killed it; --sample 0", "killed_by_process likely | unknown possible",
            "begin --sample 0 sh -c ': > ready; exec sleep 60'\nawait ready; await_job; kill -9 $job; end").status(137),
        case("kill-group", "a person killed the job's process group", KILLED,
            "begin --new-session sh -c ': > ready; sleep 60; exit 0'\nawait ready; await_job; watched; kill -9 -$job; end").status(137),
        case("kill-all", "a person killed every process of the job", KILLED,
            r#"begin sh -c ': > ready; sleep 60; exit 0'
await ready; await_job; watched; kill -9 $job $(cat /proc/$job/task/$job/children); end"#).status(137),
        case("term-group", "SIGTERM to the process group of both", "stop_requested certain likely",
            r#"setsid "$DEATHS" defaults "$CM" sh -c ': > ready; exec sleep 60' & minder=$!
await ready; await_job; watched; kill -TERM -$minder; end"#).says("SIGTERM").says("process").status(143),
        case("kill-by-root", "root killed the job of an ordinary user", KILLED,
            r#"mkdir w; chmod 777 . w; begin_user() { setpriv --reuid 65534 --regid 65534 --clear-groups "$CM" "$@" & minder=$!; }
begin_user sh -c ': > ready; exec sleep 60'
await ready; await_job; watched; kill -9 $job; end"#).root().status(137),
        case("kill-stopped", "it was stopped, and then a person killed it", KILLED,
            r#"begin sh -c ': > ready; exec sleep 60'
await ready; await_job; watched; kill -STOP $job
i=0; until grep -q 'stopped by signal' log/*; do i=$((i+1)); [ $i -lt 900 ] || exit 99; sleep 0.03; done
kill -9 $job; end"#).status(137),
        case("kill-big", "a person killed a job that used much of nothing in particular", KILLED,
            "begin \"$DEATHS\" eat 100 ready\nawait ready; await_job; watched; kill -9 $job; end").status(137),
        case("kill-cpu-limit-far", "a person killed it; RLIMIT_CPU is an hour away", KILLED,
            r#"begin sh -c 'ulimit -t 3600; : > ready; exec sleep 60'
await ready; await_job; watched; kill -9 $job; end"#).never("RLIMIT_CPU").status(137),
        case("sender-descendant", "a child of the job ended it", "killed_by_process likely possible",
            r#"exec "$CM" sh -c 'sleep 0.1; sh -c "kill -TERM \$PPID"; exec sleep 60'"#).status(143),
        case("own-group", "kill 0: the job signals its own process group", "killed_by_process certain likely possible",
            r#"exec setsid -w "$CM" sh -c 'sleep 0.1; kill -TERM 0; exec sleep 60'"#).status(143),
        case("own-group-trap", "trap 'kill 0' EXIT: its own way to end its helpers, after exit 3",
            "exit_nonzero certain likely | killed_by_process certain likely possible",
            r#"exec setsid -w "$CM" sh -c 'trap "trap - TERM EXIT; kill 0" EXIT; sleep 60 & sleep 0.2; exit 3'"#)
            .never("stop_requested"),
    ]
}

fn timers() -> Vec<Case> {
    let timer = |name: &str, how: &str, number| {
        case(name, "a timer of its own", SENT_OR_TIMER, &format!("exec \"$CM\" \"$DEATHS\" {how}"))
            .says("timer|alarm")
            .status(128 + number)
    };
    vec![
        timer("alarm", "alarm", 14),
        timer("itimer-real", "itimer-real", 14),
        timer("itimer-virtual", "itimer-virtual", 26),
        timer("itimer-prof", "itimer-prof", 27),
        timer("timer-create", "timer-alarm", 14),
        // timer_create(2) can send any signal: nothing shows it afterwards.
        case("timer-create-usr2", "a timer of its own sent SIGUSR2", SENT_OR_TIMER,
            "exec \"$CM\" \"$DEATHS\" timer-usr2").status(140),
        case("alarm-before-exec", "alarm(2) was set before childminder was executed in its place",
            "killed_by_process certain likely possible | unknown likely possible | stop_requested likely possible",
            r#"exec perl -e 'alarm 1; exec @ARGV' "$CM" sleep 5"#).status(142),
        case("broken-pipe-job", "the reader of the job's output ended first", "broken_pipe certain likely",
            r#"{ "$CM" yes; echo $? > status; } | head -n 1 > /dev/null; exit $(cat status)"#).says("pipe").status(141),
        case("broken-pipe-late", "the reader ended after a second", "broken_pipe certain likely",
            r#"{ "$CM" sh -c 'while echo x; do sleep 0.1; done'; echo $? > status; } | sleep 1; exit $(cat status)"#)
            .says("pipe").status(141),
        case("broken-pipe-ignored", "the reader ended first; the job ignores SIGPIPE and sees EPIPE",
            "exit_nonzero certain",
            r#"{ "$CM" perl -e '$SIG{PIPE}="IGNORE"; $|=1; sleep 1; print "x" x 9999 or exit 32'; echo $? > status; } | true; exit $(cat status)"#)
            .status(32),
    ]
}
