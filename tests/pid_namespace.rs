//! DESIGN, section 6: "Every optional mechanism (proc connector, PIDFD_GET_INFO, ...) is probed":
//! in a pid namespace the proc connector is refused, and the kernel is asked by pidfds.

mod support;

use support::{Done, Place, is_root, skip};

/// Waits in sh until childminder holds the process that was started last: a pidfd shows its pid.
const HELD: &str = "until grep -qs \"^Pid:.$!\\$\" /proc/$PPID/fdinfo/*; do :; done";

/// Runs a job below childminder in a pid namespace; `None`, said loudly, where there is none or
/// the kernel does not tell the ends of other processes.
fn in_namespace(place: &Place, job: &str) -> Option<Done> {
    let mut namespace = vec!["-p", "-f", "--mount-proc", "--kill-child"];
    if !is_root() {
        namespace.extend(["-U", "-r"]);
    }
    let may = place.command("unshare").args(&namespace).arg("true").output();
    if !may.is_ok_and(|output| output.status.success()) {
        skip("deaths in a pid namespace", "no such namespace can be made here");
        return None;
    }
    // The first process of a namespace is not signalled like others: that is another matter.
    let below = ["sh", "-c", "\"$CM\" --sample 20ms sh -c \"$0\"; exit $?"];
    let mut probe = place.command("unshare");
    probe.args(&namespace).args(below).env("CM", support::program());
    let done = {
        let elsewhere = Place::new();
        probe.current_dir(elsewhere.path()).arg("sleep 0.1");
        elsewhere.run_command(probe)
    };
    let evidence = done.message("in force");
    assert!(evidence.contains("proc connector (use process events in a pid namespace"), "{done:?}");
    if !evidence.contains("deaths of descendants by PIDFD_GET_INFO") {
        assert!(evidence.contains("PIDFD_GET_INFO ("), "{evidence}");
        skip("deaths in a pid namespace", "this kernel does not report the ends of others");
        return None;
    }
    let mut command = place.command("unshare");
    command.args(&namespace).args(below).env("CM", support::program()).arg(job);
    Some(place.run_command(command))
}

/// "descendant_killed (certain): sh exited 137 after its child ... was killed by SIGKILL"
#[test]
fn a_shell_that_returns_137_for_its_killed_child_is_explained() {
    let place = Place::new();
    let job = format!("sleep 600 & {HELD}; kill -KILL $!; echo $! > victim; wait $!; exit $?");
    let Some(done) = in_namespace(&place, &job) else { return };
    assert_eq!(done.code(), 137, "{done:?}");
    let verdict = done.verdict();
    assert!(verdict.starts_with("descendant_killed (certain): exit status 137"), "{verdict}");
    // Its name is that of the last sample, which may be from before it was executed.
    let victim = format!(" (pid {}) was killed by SIGKILL", place.text("victim").trim());
    assert!(verdict.contains(&victim), "{verdict}");
}

/// "`success_with_losses` (exit 0, but a descendant was killed or crashed)": each death once, also
/// that of an orphan, which childminder reaps itself; ends in good order are none.
#[test]
fn each_loss_is_told_once_and_ends_in_good_order_are_none() {
    let place = Place::new();
    let job = format!(
        "ulimit -c 0; sleep 600 & {HELD}; kill -SEGV $!; wait $!; \
         sleep 600 & {HELD}; kill -TERM $!; wait $!; \
         sh -c 'sleep 600 & echo $! > orphan'; sh -c 'exit 1'; \
         until grep -qs \"^Pid:.$(cat orphan)\\$\" /proc/$PPID/fdinfo/*; do :; done; \
         kill -KILL $(cat orphan); until [ ! -e /proc/$(cat orphan) ]; do :; done; exit 0"
    );
    let Some(done) = in_namespace(&place, &job) else { return };
    assert_eq!(done.code(), 0, "{done:?}");
    let verdict = done.verdict();
    assert!(verdict.starts_with("success_with_losses (certain): exit status 0"), "{verdict}");
    assert!(verdict.contains("was killed by SIGSEGV"), "{verdict}");
    assert!(verdict.contains("at least 2 such deaths"), "{verdict}");
}

/// "A pipeline and a terminated helper": nobody is lost, however long they were held.
#[test]
fn a_job_whose_helpers_end_well_is_a_full_success() {
    let place = Place::new();
    let job = format!("sleep 600 & {HELD}; kill $!; wait $!; (sleep 0.1; exit 3); exit 0");
    let Some(done) = in_namespace(&place, &job) else { return };
    assert_eq!(done.verdict(), "success (certain): exit status 0", "{done:?}");
}
