//! Signals that childminder received: requests to stop, the terminal, and its own limits of time.

use crate::case::{Case, case};

pub fn cases() -> Vec<Case> {
    let mut cases = forwarded();
    cases.extend(survived());
    cases.extend(terminal());
    cases.extend(ended_by_us());
    cases
}

/// A job of perl with handlers, and then what is done to it.
fn perl(handlers: &str, then: &str) -> String {
    format!(
        "begin perl -e '{handlers}; open F, q(>ready); close F; sleep 60 while 1'
         await ready; await_job; watched; {then}; end"
    )
}

fn plain(options: &str, then: &str) -> String {
    format!(
        "begin {options} sh -c ': > ready; exec sleep 60'\nawait ready; await_job; watched; {then}; end"
    )
}

fn forwarded() -> Vec<Case> {
    let sent = |name: &str, number: i32, right| {
        case(
            format!("asked-{name}"),
            "a process sent the signal to childminder, which passed it on",
            right,
            &plain("", &format!("kill -{name} $minder")),
        )
        .says("Signal sent by user")
        .status(128 + number)
    };
    vec![
        sent("TERM", 15, "stop_requested certain"),
        sent("INT", 2, "stop_requested certain"),
        sent("HUP", 1, "stop_requested certain"),
        sent("QUIT", 3, "stop_requested certain | killed_by_process certain"),
        sent("USR1", 10, "killed_by_process certain"),
        sent("USR2", 12, "killed_by_process certain"),
        sent("ALRM", 14, "killed_by_process certain"),
        sent("XCPU", 24, "killed_by_process certain").never("RLIMIT_CPU"),
        sent("PIPE", 13, "killed_by_process certain"),
        sent("40", 40, "killed_by_process certain"),
        sent("SEGV", 11, "killed_by_process certain"),
        case("asked-TERM-ends-0", "asked to stop, it ended cleanly with 0", "success certain",
            &perl("$SIG{TERM} = sub { exit 0 }", "kill -TERM $minder"))
            .says("SIGTERM").says("Signal sent by user").status(0),
        case("asked-TERM-ends-3", "asked to stop, it ended at once with 3", "stop_requested likely certain",
            &perl("$SIG{TERM} = sub { exit 3 }", "kill -TERM $minder")).says("SIGTERM").status(3),
        case("asked-INT-ends-130", "asked by SIGINT, it ended with 130", "stop_requested certain",
            &perl("$SIG{INT} = sub { exit 130 }", "kill -INT $minder")).says("SIGINT").status(130),
        case("asked-TERM-trap-sh", "asked to stop, the shell's trap cleaned up and exited with 1",
            "stop_requested likely certain",
            r#"begin sh -c 'trap "exit 1" TERM; : > ready; while :; do sleep 0.05; done'
await ready; await_job; watched; kill -TERM $minder; end"#).says("SIGTERM").status(1),
        case("asked-not-forwarded", "asked to stop with --forward none; it ended by itself with 4",
            "exit_nonzero certain likely",
            r#"begin --forward none perl -e 'open F, q(>ready); close F; select undef, undef, undef, 0.1 until -e q(go); exit 4'
await ready; await_job; watched; kill -TERM $minder; sleep 3; : > go; end"#).status(4),
        case("asked-kill-after", "asked to stop, it ignored SIGTERM, and childminder killed it (--kill-after)",
            "stop_requested certain",
            r#"begin --kill-after 0.3 perl -e '$SIG{TERM}="IGNORE"; open F, q(>ready); close F; sleep 60'
await ready; await_job; watched; kill -TERM $minder; end"#).says("--kill-after").status(137),
        case("asked-twice", "asked by SIGINT, which it ignores, and then by SIGTERM", "stop_requested certain",
            &perl("$SIG{INT} = q(IGNORE)", "kill -INT $minder; sleep 0.2; kill -TERM $minder"))
            .says("SIGTERM").status(143),
        case("asked-hidden", "root, whose processes hidepid=2 hides, asked to stop", "stop_requested certain",
            r#"chmod 777 .; cat > hidden <<'END'
mount -t proc -o hidepid=2 proc /proc || exit 98
setpriv --reuid 65534 --regid 65534 --clear-groups "$CM" sh -c ': > ready; exec sleep 60' & minder=$!
i=0; until [ -e ready ]; do i=$((i+1)); [ $i -lt 900 ] || exit 99; sleep 0.03; done
sleep 0.2; kill -TERM $minder; wait $minder
END
unshare -m sh hidden"#).says("not visible").never("gone").root().status(143),
    ]
}

fn survived() -> Vec<Case> {
    let later = |name: &str, signal: &str, to: &str| {
        let handler = format!("$SIG{{{signal}}} = sub {{ $n = time + 4 }}; $n = time + 99");
        let script = format!(
            "begin perl -e '{handler}; open F, q(>ready); close F; select undef, undef, undef, 0.1 while time < $n; exit 1'
             await ready; await_job; watched; kill -{signal} {to}; end"
        );
        case(
            name,
            "it survived the signal and failed seconds later for another reason",
            "exit_nonzero certain likely possible | stop_requested possible",
            &script,
        )
        .status(1)
    };
    vec![
        later("survived-TERM", "TERM", "$minder"),
        later("survived-INT", "INT", "$minder"),
        later("survived-HUP", "HUP", "$minder"),
        later("survived-QUIT", "QUIT", "$minder"),
        later("survived-USR1", "USR1", "$minder"),
        case("survived-TERM-crash", "it survived SIGTERM and crashed seconds later", "crashed likely certain",
            r#"begin sh -c 'trap : TERM; : > ready; until [ -e go ]; do sleep 0.1; done; exec "$DEATHS" null'
await ready; await_job; watched; kill -TERM $minder; sleep 3; : > go; end"#).status(139),
        case("survived-TERM-killed", "it survived SIGTERM; seconds later a person killed it directly",
            "killed_by_process likely | stop_requested likely possible | unknown possible",
            &perl("$SIG{TERM} = q(IGNORE)", "kill -TERM $minder; sleep 2; kill -9 $job")).status(137),
        case("survived-TERM-sent", "it survived SIGTERM through childminder; later another came directly",
            "killed_by_process likely possible | stop_requested likely possible",
            &perl("$SIG{TERM} = sub { $SIG{TERM} = q(DEFAULT) }", "kill -TERM $minder; sleep 2; kill -TERM $job"))
            .status(143),
        case("survived-TERM-success", "it survived SIGTERM and did its work", "success certain",
            r#"begin perl -e '$SIG{TERM} = q(IGNORE); open F, q(>ready); close F; sleep 3'
await ready; await_job; watched; kill -TERM $minder; end"#).status(0),
    ]
}

/// On a terminal whose shell is the session's leader, as everywhere.
fn on_terminal(key: &str, job: &str) -> String {
    format!(
        r#""$DEATHS" terminal {key} sh -c 'trap : INT QUIT; "$@"; exit $?' sh "$CM" {job} > shown
i=0; until grep -q 'verdict: ' log/*; do i=$((i+1)); [ $i -lt 900 ] || exit 99; sleep 0.03; done"#
    )
}

fn terminal() -> Vec<Case> {
    let job = "sh -c 'sleep 0.1; : > ready; exec sleep 60'";
    let perl = |handlers: &str| {
        format!(
            r#"perl -e '{handlers}; sleep 1; open F, q(>ready); close F; select undef, undef, undef, 0.1 while !$n || time < $n; exit 1'"#
        )
    };
    vec![
        case("ctrl-c", "Ctrl-C", "killed_by_terminal certain", &on_terminal("interrupt", job)).says("SIGINT"),
        case("ctrl-backslash", "Ctrl-\\", "killed_by_terminal certain", &on_terminal("quit", job)).says("SIGQUIT"),
        case("hang-up", "the terminal went away", "killed_by_terminal certain", &on_terminal("hang-up", job)).says("SIGHUP"),
        case("hang-up-leader", "the terminal went away, and childminder leads its session",
            "killed_by_terminal certain likely | stop_requested certain likely",
            r#""$DEATHS" terminal hang-up "$CM" sh -c 'sleep 0.1; : > ready; exec sleep 9' > shown"#).says("SIGHUP"),
        case("ctrl-c-ends-130", "Ctrl-C; the job's handler exits with 130", "killed_by_terminal certain",
            &on_terminal("interrupt", &perl("$SIG{INT} = sub { exit 130 }"))).says("SIGINT"),
        case("ctrl-c-ends-0", "Ctrl-C; the job's handler exits with 0", "success certain",
            &on_terminal("interrupt", &perl("$SIG{INT} = sub { exit 0 }"))).says("SIGINT"),
        case("ctrl-c-ends-1", "Ctrl-C; the job's handler exits with 1 at once", "killed_by_terminal likely certain",
            &on_terminal("interrupt", &perl("$SIG{INT} = sub { exit 1 }"))).says("SIGINT"),
        case("ctrl-c-survived", "it survived Ctrl-C and failed seconds later",
            "exit_nonzero certain likely possible | killed_by_terminal possible",
            &on_terminal("interrupt", &perl("$SIG{INT} = sub { $n = time + 4 }"))),
    ]
}

fn ended_by_us() -> Vec<Case> {
    vec![
        case("timeout", "--timeout ended it", "timed_out certain",
            r#"exec "$CM" --timeout 0.3 sleep 60"#).says("--timeout").status(124),
        case("timeout-ignores", "--timeout: it ignored SIGTERM and was killed", "timed_out certain",
            r#"exec "$CM" --timeout 0.5 --kill-after 0.2 perl -e '$SIG{TERM} = q(IGNORE); sleep 60'"#).status(124),
        case("timeout-ends-0", "--timeout: it ended with 0 when asked to", "timed_out certain",
            r#"exec "$CM" --timeout 0.5 perl -e '$SIG{TERM} = sub { exit 0 }; sleep 60'"#).status(124),
        case("timeout-tree", "--timeout: a shell and its child", "timed_out certain",
            r#"exec "$CM" --timeout 0.3 sh -c 'sleep 60; exit 0'"#).status(124),
        case("timeout-in-time", "it ended before --timeout", "success certain",
            r#"exec "$CM" --timeout 60 sh -c 'exit 0'"#).never("--timeout").status(0),
        case("timeout-failed-before", "it failed before --timeout", "exit_nonzero certain",
            r#"exec "$CM" --timeout 60 sh -c 'exit 3'"#).never("--timeout").status(3),
        case("timeout-leader-exits", "--timeout: its main thread had ended, another ran on", "timed_out certain",
            r#"exec "$CM" --timeout 0.3 --kill-after 0.2 "$DEATHS" leader-exits"#).status(124),
        case("timeout-stopped", "--timeout: it was stopped meanwhile", "timed_out certain",
            r#"exec "$CM" --timeout 0.5 --kill-after 0.2 sh -c 'kill -STOP $$; exec sleep 60'"#).status(124),
        case("stopped-p", "it stopped itself, and -p ended it; no restart was left", "stopped certain",
            r#"exec "$CM" -p -t 0 --kill-after 0.2 sh -c 'kill -STOP $$; exit 0'"#).says("SIGSTOP"),
        case("status-lost", "waitid(2) finds no child any more: the status went to somebody else",
            "status_lost certain",
            r#"exec strace -qq -o /dev/null -e trace=waitid -e signal=none -e inject=waitid:error=ECHILD "$CM" sh -c 'sleep 0.2; exit 3'"#)
            .tool("strace").status(125),
    ]
}
