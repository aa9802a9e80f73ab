//! Resource limits, reached and not reached.

use crate::case::{Case, case};
use crate::support::skip;

const SENT: &str = "killed_by_process likely possible";

pub fn cases() -> Vec<Case> {
    let mut cases = cpu();
    cases.extend(file_size());
    cases.extend(others());
    cases.extend(cores());
    cases
}

/// A job under a limit, and what is sent to it from outside.
fn sent(limit: &str, signal: &str) -> String {
    format!(
        "begin sh -c '{limit}; : > ready; exec sleep 60'\nawait ready; await_job; watched; kill -{signal} $job; end"
    )
}

fn cpu() -> Vec<Case> {
    vec![
        case(
            "cpu-soft",
            "RLIMIT_CPU, soft: SIGXCPU",
            "cpu_limit certain likely",
            r#"exec "$CM" sh -c 'ulimit -St 1; exec "$DEATHS" busy'"#,
        )
        .says("RLIMIT_CPU")
        .status(152),
        case(
            "cpu-hard",
            "RLIMIT_CPU, soft and hard: SIGKILL",
            "cpu_limit likely certain",
            r#"exec "$CM" sh -c 'ulimit -t 1; exec "$DEATHS" busy'"#,
        )
        .says("RLIMIT_CPU")
        .never("oom")
        .status(137),
        case(
            "cpu-soft-then-hard",
            "it ignored SIGXCPU and was killed at the hard limit",
            "cpu_limit likely certain",
            r#"exec "$CM" prlimit --cpu=1:2 perl -e '$SIG{XCPU} = q(IGNORE); 1 while 1'"#,
        )
        .says("RLIMIT_CPU")
        .status(137),
        case(
            "cpu-soft-handled",
            "it handled SIGXCPU and exited with 5",
            "exit_nonzero certain likely | cpu_limit likely possible",
            r#"exec "$CM" sh -c 'ulimit -St 1; exec perl -e "\$SIG{XCPU}=sub{exit 5}; 1 while 1"'"#,
        )
        .status(5),
        case(
            "cpu-worker",
            "a child reached RLIMIT_CPU, and the shell returned 152",
            "descendant_killed certain likely | cpu_limit certain likely",
            r#"exec "$CM" sh -c 'ulimit -St 1; "$DEATHS" busy; exit $?'"#,
        )
        .says("SIGXCPU")
        .status(152),
        case(
            "cpu-inherited",
            "RLIMIT_CPU was set before childminder began",
            "cpu_limit certain likely",
            r#"ulimit -St 1; exec "$CM" "$DEATHS" busy"#,
        )
        .says("RLIMIT_CPU")
        .status(152),
        case(
            "xcpu-sent-far",
            "a process sent SIGXCPU; the limit was an hour away",
            SENT,
            &sent("ulimit -St 3600", "XCPU"),
        )
        .never("reached")
        .status(152),
        case(
            "xfsz-sent-far",
            "a process sent SIGXFSZ; no file was near the limit",
            SENT,
            &sent("ulimit -Sf 2000000", "XFSZ"),
        )
        .never("reached")
        .status(153),
        case(
            "kill-cpu-soft-far",
            "a person killed it; RLIMIT_CPU (soft) was an hour away",
            "killed_by_process likely | unknown possible",
            &sent("ulimit -St 3600", "KILL"),
        )
        .never("cpu_limit")
        .status(137),
        case(
            "rttime",
            "RLIMIT_RTTIME of a real-time process: SIGXCPU",
            "cpu_limit certain likely",
            r#"exec "$CM" "$DEATHS" realtime"#,
        )
        .says("RLIMIT_RTTIME")
        .root()
        .status(152),
    ]
}

fn file_size() -> Vec<Case> {
    vec![
        case("fsize", "RLIMIT_FSIZE: SIGXFSZ", "file_size_limit certain likely",
            r#"exec "$CM" sh -c 'ulimit -f 1; exec dd if=/dev/zero of=big bs=4096 count=100'"#).says("RLIMIT_FSIZE").status(153),
        case("fsize-output", "RLIMIT_FSIZE: its standard output grew too large", "file_size_limit certain likely",
            r#"exec "$CM" -o out sh -c 'ulimit -f 8; exec head -c 1000000 /dev/zero'"#).says("RLIMIT_FSIZE").status(153),
        case("fsize-worker", "a child reached RLIMIT_FSIZE, and the shell returned 153",
            "descendant_killed certain likely | file_size_limit certain likely",
            r#"exec "$CM" sh -c 'sleep 0.2; ulimit -f 1; head -c 1000000 /dev/zero > big; exit $?'"#).says("SIGXFSZ").status(153),
        case("fsize-ignored", "it ignores SIGXFSZ, saw EFBIG and exited with 27", "exit_nonzero certain",
            r#"exec "$CM" sh -c 'ulimit -f 1; exec perl -e "\$SIG{XFSZ}=q(IGNORE); open F, q(>big); syswrite(F, q(x) x 4096) == 4096 or exit 27; syswrite(F, q(x)) or exit 27"'"#)
            .status(27),
        case("fsize-seek", "it wrote far beyond RLIMIT_FSIZE in a file that is small", "file_size_limit certain likely",
            r#"exec "$CM" sh -c 'ulimit -f 100; exec dd if=/dev/zero of=big bs=1 count=1 seek=10000000'"#).says("RLIMIT_FSIZE").status(153),
    ]
}

fn others() -> Vec<Case> {
    vec![
        case("as-perl", "RLIMIT_AS: perl found no memory", "exit_nonzero certain | crashed likely",
            r#"exec "$CM" sh -c 'ulimit -v 60000; exec perl -e "\$x = q(x) x (1<<30)"'"#).never("oom_killed"),
        case("as-python", "RLIMIT_AS: MemoryError", "exit_nonzero certain",
            r#"exec "$CM" sh -c 'ulimit -v 200000; exec /usr/bin/python3 -c "x = bytearray(1<<30)"'"#)
            .tool("/usr/bin/python3").never("oom_killed").status(1),
        case("as-null", "RLIMIT_AS: malloc(3) returned NULL, which it wrote through", "crashed likely certain",
            r#"exec "$CM" "$DEATHS" no-memory"#).never("oom_killed").status(139),
        case("nproc", "RLIMIT_NPROC: it could not fork", "exit_nonzero certain",
            r#"exec "$CM" prlimit --nproc=1 sh -c '/bin/true & wait; exit 2'"#).user().status(2),
        case("nofile", "RLIMIT_NOFILE: the shell could not open its file", "exit_nonzero certain",
            r#"exec "$CM" sh -c 'ulimit -n 3; exec 9>x'"#).status(2),
    ]
}

fn cores() -> Vec<Case> {
    let core = |name: &str, cause: &str, limit: &str| {
        let script = format!("exec \"$CM\" sh -c '{limit}; exec \"$DEATHS\" null'");
        case(name, cause, "crashed likely certain", &script).status(139)
    };
    let mut cases = vec![
        core("core-none", "it crashed; RLIMIT_CORE is 0", "ulimit -Sc 0")
            .says("no core dump")
            .says("RLIMIT_CORE is 0"),
    ];
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").expect("a pattern");
    if pattern.trim_end() != "core" {
        skip("core dumps by name", "core_pattern is not 'core'");
        return cases;
    }
    cases.extend([
        core("core-whole", "it crashed and left a core", "ulimit -c unlimited").says("core dump /"),
        core("core-cut", "it crashed, and RLIMIT_CORE cut its core", "ulimit -c 64")
            .says("core dump /")
            .says("cut")
            .says("RLIMIT_CORE"),
        core("core-too-small", "it crashed; RLIMIT_CORE is less than a page", "ulimit -c 1")
            .says("no core dump")
            .says("RLIMIT_CORE"),
        case("core-elsewhere", "it crashed in another directory than it was started in", "crashed likely certain",
            r#"mkdir below; exec "$CM" sh -c 'ulimit -c unlimited; cd below; exec "$DEATHS" null'"#)
            .says("below/core|core_pattern").never("core dump ./").status(139),
        case("core-no-permission", "it crashed in a directory that it may not write to", "crashed likely certain",
            r#"mkdir closed; cd closed; chmod 555 .; exec "$CM" -l ../log sh -c 'ulimit -c unlimited; exec "$DEATHS" null'"#)
            .says("no core dump").says("writable").user().status(139),
        case("core-worker", "a child crashed and left a core; the shell returned 139", "descendant_killed certain",
            r#"exec "$CM" sh -c 'sleep 0.2; ulimit -c unlimited; "$DEATHS" null; exit $?'"#).status(139),
    ]);
    cases
}
