//! What became of the job's descendants, and what it made of that.

use crate::case::{Case, case};

pub fn cases() -> Vec<Case> {
    let mut cases = workers();
    cases.extend(time_and_order());
    cases.extend(hung());
    cases
}

fn workers() -> Vec<Case> {
    // The shell returns 128+n for its child, some time into the run.
    let shell = |name: &str, cause: &str, child: &str, status| {
        let script = format!("exec \"$CM\" sh -c 'sleep 0.2; {child}; exit $?'");
        case(name, cause, "descendant_killed certain", &script).says("descendant").status(status)
    };
    vec![
        shell("worker-killed-137", "its child was killed, and the shell returned 137", r#"sh -c "kill -9 \$\$""#, 137).says("SIGKILL"),
        shell("worker-crashed-139", "its child crashed, and the shell returned 139", r#""$DEATHS" null"#, 139).says("SIGSEGV"),
        shell("worker-aborted-134", "its child aborted, and the shell returned 134", r#""$DEATHS" abort"#, 134).says("SIGABRT"),
        shell("worker-terminated-143", "its child was ended by SIGTERM, and the shell returned 143", r#"sh -c "kill -TERM \$\$""#, 143).says("SIGTERM"),
        shell("worker-interrupted-130", "its child got SIGINT, and the shell returned 130", r#"perl -e "kill INT, \$\$; sleep 9""#, 130).says("SIGINT"),
        case("worker-killed-1", "its child was killed, and the job gave up with 1", "descendant_killed likely certain",
            r#"exec "$CM" sh -c 'sleep 0.2; sh -c "kill -9 \$\$" || exit 1'"#).says("SIGKILL").status(1),
        case("worker-killed-0", "its child was killed, and the job went on to 0", "success_with_losses certain",
            r#"exec "$CM" sh -c 'sleep 0.2; sh -c "kill -9 \$\$"; exit 0'"#).says("SIGKILL").status(0),
        case("worker-killed-at-once", "its child was killed in the first milliseconds", "success_with_losses certain",
            r#"exec "$CM" sh -c 'sh -c "kill -9 \$\$"; exit 0'"#).says("SIGKILL").status(0),
        case("worker-crashed-at-once", "its child crashed in the first milliseconds", "success_with_losses certain",
            r#"exec "$CM" sh -c '"$DEATHS" null; exit 0'"#).says("SIGSEGV").status(0),
        case("worker-killed-at-once-137", "its child was killed in the first milliseconds, the shell returned 137",
            "descendant_killed certain", r#"exec "$CM" sh -c 'sh -c "kill -9 \$\$"; exit $?'"#).status(137),
        case("worker-killed-at-once-1", "its child was killed in the first milliseconds, the job gave up with 1",
            "descendant_killed likely certain", r#"exec "$CM" sh -c 'sh -c "kill -9 \$\$" || exit 1'"#).status(1),
        case("grandchild-killed", "a child of its child was killed", "success_with_losses certain",
            r#"exec "$CM" sh -c 'sleep 0.2; sh -c "sh -c \"kill -9 \\\$\\\$\"; exit 0"; exit 0'"#).says("SIGKILL").status(0),
        case("orphan-killed", "a process that had left its session was killed", "success_with_losses certain",
            r#"exec "$CM" sh -c 'setsid sh -c "sleep 0.4; kill -9 \$\$" & sleep 1; exit 0'"#).says("SIGKILL").status(0),
        case("three-lost", "three workers were killed", "success_with_losses certain",
            r#"exec "$CM" sh -c 'sleep 0.2; for i in 1 2 3; do sh -c "kill -9 \$\$"; done; exit 0'"#).says("3").status(0),
        case("helper-ended", "it ended its helper by SIGTERM, as programs do", "success certain",
            r#"exec "$CM" sh -c 'sleep 60 & sleep 0.2; kill $!; wait $!; exit 0'"#).status(0),
        case("pipefail-141", "yes | head with pipefail: the first command died of SIGPIPE",
            "descendant_killed certain likely | broken_pipe certain likely",
            r#"exec "$CM" bash -c 'sleep 0.2; set -o pipefail; yes | head -n 1 > /dev/null'"#)
            .tool("bash").says("SIGPIPE").status(141),
        case("pipeline-in-failure", "its pipeline ended as pipelines do; it failed for another reason",
            "exit_nonzero certain likely",
            r#"exec "$CM" sh -c 'sleep 0.2; yes | head -n 1 > /dev/null; exit 4'"#).status(4),
        case("straggler-crashed", "a process that outlived the job crashed while it was waited for",
            "success_with_losses certain",
            r#"exec "$CM" --stragglers wait sh -c '(sleep 0.7; exec "$DEATHS" null) & exit 0'"#).says("SIGSEGV").status(0),
        case("parent-dies-first", "a helper asked to be killed when its parent ends (PR_SET_PDEATHSIG)",
            "success certain", r#"exec "$CM" sh -c 'sleep 0.2; exec "$DEATHS" parent-dies-first'"#).status(0),
        case("loss-fails", "a worker was killed; --on-descendant-loss fail", "success_with_losses certain",
            r#"exec "$CM" --on-descendant-loss fail sh -c 'sleep 0.2; sh -c "kill -9 \$\$"; exit 0'"#).status(1),
    ]
}

fn time_and_order() -> Vec<Case> {
    let before = |name: &str, child: &str| {
        let script = format!("exec \"$CM\" sh -c 'sleep 0.2; {child}; sleep 4; exit 3'");
        case(
            name,
            "a helper died seconds before; the job failed for another reason",
            "exit_nonzero certain likely possible | descendant_killed possible",
            &script,
        )
        .status(3)
    };
    vec![
        before("helper-killed-before", r#"sh -c "kill -9 \$\$""#),
        before("helper-crashed-before", r#""$DEATHS" null"#),
        case(
            "helper-killed-then-killed",
            "a helper was killed; seconds later a person killed the job",
            "killed_by_process likely | unknown possible",
            r#"begin sh -c 'sleep 0.2; sh -c "kill -9 \$\$"; : > ready; exec sleep 60'
await ready; await_job; sleep 3; kill -9 $job; end"#,
        )
        .status(137),
        case(
            "helper-killed-137-chosen",
            "a helper was killed seconds before; the program chose 137 much later",
            "exit_nonzero certain likely possible | descendant_killed likely possible",
            r#"exec "$CM" sh -c 'sleep 0.2; sh -c "kill -9 \$\$"; sleep 4; exit 137'"#,
        )
        .status(137),
    ]
}

/// A pool whose worker is killed, and that waits for it in vain.
const POOL: &str = r#"sh -c 'sh -c "sleep 0.3; kill -9 \$\$" & : > ready; exec sleep 60'"#;

fn hung() -> Vec<Case> {
    let at_end = |script: &str| {
        format!("{script}\nawait ready; await_job; sleep 1.2; kill -TERM $minder; end")
    };
    vec![
        case(
            "hung-pool-timeout",
            "a worker was killed, its pool hung, and --timeout ended it",
            "timed_out certain",
            &format!("exec \"$CM\" --timeout 1.5 {POOL}"),
        )
        .says("SIGKILL")
        .says("descendant|worker")
        .status(124),
        case(
            "hung-pool-asked",
            "a worker was killed, its pool hung, and somebody asked it to stop",
            "stop_requested certain",
            &at_end(&format!("begin {POOL}")),
        )
        .says("SIGKILL")
        .says("descendant|worker")
        .status(143),
        case(
            "straggler-shot",
            "the job died of SIGTERM from outside; a helper was killed before",
            "killed_by_process likely possible | descendant_killed possible",
            r#"begin sh -c 'sh -c "kill -9 \$\$"; : > ready; exec sleep 60'
await ready; await_job; sleep 2; kill -TERM $job; end"#,
        )
        .status(143),
    ]
}
