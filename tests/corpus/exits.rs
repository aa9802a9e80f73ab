//! The job ended by itself, by a status of its own choice.

use crate::case::{Case, case};

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        (1, "any failure"),
        (2, "bad usage"),
        (42, "a status of its own"),
        (75, "EX_TEMPFAIL of sysexits.h"),
        (99, "a status of its own"),
        (100, "a status of its own"),
        (101, "a status of its own"),
        (125, "a status of its own"),
        (126, "a status of its own"),
        (127, "a status of its own"),
        (128, "a status of its own"),
        (254, "a status of its own"),
        (255, "a status of its own"),
    ]
    .into_iter()
    .map(|(status, why)| returned(status, why))
    .collect();
    // 128+n by choice: no signal ended anything.
    for status in [129, 130, 131, 134, 137, 139, 141, 143, 152, 192] {
        let chosen = returned(status, "the program chose that number, nothing was killed");
        cases.push(chosen.never("was killed").never("oom").never("crashed"));
    }
    cases.extend(ordinary());
    cases.extend(by_convention());
    cases
}

fn returned(status: i32, why: &str) -> Case {
    let script = format!("exec \"$CM\" sh -c 'exit {status}'");
    case(format!("exit-{status}"), why, "exit_nonzero certain", &script)
        .says("exit status")
        .status(status)
}

fn ordinary() -> Vec<Case> {
    vec![
        case("exit-0", "it did its work", "success certain", r#"exec "$CM" sh -c 'exit 0'"#)
            .never("loss")
            .status(0),
        case(
            "exit-256",
            "exit(256): the kernel keeps eight bits",
            "success certain",
            r#"exec "$CM" perl -e 'exit 256'"#,
        )
        .status(0),
        case(
            "exit-124-own",
            "the program chose 124; there is no timeout anywhere",
            "exit_nonzero certain",
            r#"exec "$CM" sh -c 'exit 124'"#,
        )
        .never("timeout(1)")
        .status(124),
        case(
            "perl-die",
            "an exception of perl",
            "exit_nonzero certain",
            r#"exec "$CM" perl -e 'die "lost\n"'"#,
        ),
        case(
            "python-exception",
            "an uncaught exception of Python",
            "exit_nonzero certain",
            r#"exec "$CM" /usr/bin/python3 -c 'raise ValueError(1)'"#,
        )
        .tool("/usr/bin/python3")
        .status(1),
        case(
            "python-exit-in-thread",
            "os._exit(3) in a thread",
            "exit_nonzero certain",
            r#"exec "$CM" /usr/bin/python3 -c '
import os, threading
threading.Thread(target=lambda: os._exit(3)).start()
threading.Event().wait()'"#,
        )
        .tool("/usr/bin/python3")
        .status(3),
        case(
            "sh-set-e",
            "set -e: a command failed",
            "exit_nonzero certain",
            r#"exec "$CM" sh -c 'set -e; false; true'"#,
        )
        .status(1),
        case(
            "sh-syntax",
            "a syntax error of the script",
            "exit_nonzero certain",
            r#"exec "$CM" sh -c 'if'"#,
        )
        .status(2),
        case(
            "long-job",
            "it failed after some time",
            "exit_nonzero certain",
            r#"exec "$CM" sh -c 'sleep 1.5; exit 9'"#,
        )
        .status(9),
        case(
            "worker-failed",
            "a worker returned 1, and so did the job",
            "exit_nonzero certain",
            r#"exec "$CM" sh -c 'sleep 0.2; sh -c "exit 1" || exit 1'"#,
        )
        .never("killed")
        .status(1),
        case(
            "pipeline",
            "its pipeline ended as pipelines do",
            "success certain",
            r#"exec "$CM" sh -c 'sleep 0.2; yes | head -n 1 >/dev/null; exit 0'"#,
        )
        .status(0),
        case(
            "straggler-left",
            "it succeeded; a process outlives it",
            "success certain",
            r#"exec "$CM" sh -c 'sleep 1 & exit 0'"#,
        )
        .status(0),
        case(
            "straggler-killed",
            "it succeeded; --stragglers kill ended what outlived it",
            "success certain",
            r#"exec "$CM" --stragglers kill --kill-after 0.2 sh -c 'sleep 60 & exit 0'"#,
        )
        .status(0),
    ]
}

fn by_convention() -> Vec<Case> {
    vec![
        case("timeout-1", "timeout(1) ended its command", "exit_nonzero certain",
            r#"exec "$CM" timeout 0.3 sleep 60"#).says("timeout(1)").status(124),
        case("timeout-1-in-script", "timeout(1) in the script ended its command", "exit_nonzero certain",
            r#"exec "$CM" sh -c 'timeout 0.3 sleep 60'"#).says("timeout(1)").status(124),
        case("sh-not-found", "a command of the script is not there", "exit_nonzero certain",
            r#"exec "$CM" sh -c 'no-such-command-at-all'"#).says("cannot find|not found").status(127),
        case("sh-not-found-stderr", "a command of the script is not there; its message is ours",
            "exit_nonzero certain", r#"exec "$CM" -e err sh -c 'no-such-command-at-all'"#)
            .says("cannot find|not found").status(127),
        case("sh-not-executable", "a file of the script is not executable", "exit_nonzero certain",
            r#"echo x > plain; exec "$CM" sh -c './plain'"#).says("cannot execute|not execut").status(126),
        case("loader-library", "the dynamic loader found no libgone.so", "exit_nonzero certain",
            &linked(r#"exec "$CM" -e err ./needs"#)).says("shared librar").says("libgone.so")
            .never("shells do so").status(127),
        case("loader-library-unseen", "the same, and its standard error is not ours", "exit_nonzero certain",
            &linked(r#"exec "$CM" ./needs"#)).says("loader").status(127),
        case("handles-term-143", "it handles SIGTERM from a person by exiting with 143, as Java does",
            "exit_nonzero certain | killed_by_process likely possible", &handler("kill -TERM $job"))
            .says("SIGTERM").never("no signal was").status(143),
        case("java-term", "a JVM that got SIGTERM from a person", "exit_nonzero certain | killed_by_process likely possible",
            r#"cat > Nap.java <<'END'
public class Nap { public static void main(String[] a) throws Exception {
  new java.io.File("ready").createNewFile(); Thread.sleep(60000); } }
END
begin java -Xshare:auto -XX:TieredStopAtLevel=1 Nap.java
await ready; await_job; kill -TERM $job; end"#).tool("javac").says("SIGTERM").status(143),
        case("handles-term-143-asked", "childminder got SIGTERM, and the job exited with 143 for it",
            "stop_requested certain", &handler("kill -TERM $minder")).says("SIGTERM").status(143),
        case("full-disk", "the disk of its working directory is full", "exit_nonzero certain",
            &full_tmpfs(r#"exec "$CM" -l ../log sh -c 'cat /dev/zero > big'"#))
            .says("room|full").root().status(1),
        case("full-disk-output", "the disk of its output file is full", "exit_nonzero certain",
            &full_tmpfs(r#"cd ..; exec "$CM" -o full/out sh -c 'exec head -c 9000000 /dev/zero'"#))
            .says("room|full").root().status(1),
        case("full-disk-child-directory", "the disk of --child-directory is full", "exit_nonzero certain",
            &full_tmpfs(r#"cd ..; exec "$CM" --child-directory full sh -c 'cat /dev/zero > big'"#))
            .says("room|full").root().status(1),
        case("file-descriptors", "RLIMIT_NOFILE: it could open no more files", "exit_nonzero certain",
            r#"exec "$CM" sh -c 'ulimit -n 5; exec perl -e "open \$_, q(/dev/null) or exit 24 for @f[0..9]"'"#)
            .status(24),
    ]
}

/// A program whose library is gone.
fn linked(then: &str) -> String {
    format!(
        "echo 'int gone(void) {{ return 0; }}' > gone.c; echo 'int gone(void); int main(void) {{ return gone(); }}' > needs.c
         cc -shared -fPIC -o libgone.so gone.c && cc -o needs needs.c -L. -lgone && rm libgone.so; {then}"
    )
}

/// A job that exits with 143 when it gets SIGTERM.
fn handler(then: &str) -> String {
    format!(
        "begin perl -e '$SIG{{TERM}} = sub {{ exit 143 }}; open F, q(>ready); close F; sleep 60 while 1'
         await ready; await_job; watched; {then}; end"
    )
}

/// A directory `full` of one MiB, in a mount namespace of its own, into which we change.
pub fn full_tmpfs(then: &str) -> String {
    format!(
        "mkdir full; exec unshare -m sh -c 'mount -t tmpfs -o size=1m none full && cd full && eval \"$0\"' '{}'",
        then.replace('\'', r"'\''")
    )
}
