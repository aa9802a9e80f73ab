//! DESIGN, section 3: the exit status is told truthfully.

mod support;

use support::Place;

/// "the job's own | it exited"
#[test]
fn a_job_that_exits_gives_its_own_status() {
    for status in [0, 1, 2, 77, 124, 125, 126, 127, 128, 137, 255] {
        let place = Place::new();
        let done = place.run(["sh", "-c", &format!("exit {status}")]);
        assert_eq!(done.code(), status);
        done.message(&format!(" exited with status {status}"));
    }
}

/// "128+n | signal n killed it"
#[test]
fn a_job_that_a_signal_ends_gives_128_and_its_number() {
    for (name, number) in [("HUP", 1), ("KILL", 9), ("SEGV", 11), ("TERM", 15), ("RTMAX", 64)] {
        let place = Place::new();
        let done = place.run(["sh", "-c", &format!("ulimit -c 0; kill -{name} $$")]);
        assert_eq!(done.code(), 128 + number, "{name}");
        done.message(&format!(" terminated by signal {number} (SIG{name})"));
    }
}
