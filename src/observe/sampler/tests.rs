//! The sampler over made-up /proc directories. Over real processes: tests/observing.rs.

use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const US: Pid = Pid(100);

/// A directory that looks like /proc.
struct Fake(TempDir);

impl Fake {
    fn new() -> Fake {
        let fake = Fake(tempfile::tempdir().unwrap());
        fs::create_dir(fake.0.path().join("100")).unwrap();
        fake
    }

    /// A process with start time 7 and 10 pages, and its own and its children's ticks.
    fn put(&self, pid: i32, parent: i32, own: u64, children: u64) {
        self.put_line(pid, format!("{pid} (cat) S {}", Fake::rest(parent, own, children, 7)));
    }

    fn rest(parent: i32, own: u64, children: u64, start: u64) -> String {
        format!("{parent} 1 1 0 -1 0 0 0 0 0 {own} 0 {children} 0 20 0 2 0 {start} 0 10\n")
    }

    fn put_line(&self, pid: i32, line: impl AsRef<[u8]>) {
        let directory = self.0.path().join(pid.to_string());
        fs::create_dir_all(&directory).unwrap();
        // In place, for the sampler keeps it open.
        fs::write(directory.join("stat"), line).unwrap();
    }

    fn remove(&self, pid: i32) {
        fs::remove_dir_all(self.0.path().join(pid.to_string())).unwrap();
    }

    fn newest(&self, pid: i32) {
        let text = format!("0.50 0.40 0.30 1/90 {pid}\n");
        fs::write(self.0.path().join("loadavg"), text).unwrap();
    }

    /// A plain file that is kept open never shows that its process has gone, so none is kept.
    fn sampler(&self) -> Sampler {
        Sampler::new(self.0.path(), US, 0).unwrap()
    }
}

fn at(second: u64) -> Moment {
    Moment(Duration::from_secs(second))
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 10)
}

fn pids(sampler: &Sampler) -> Vec<i32> {
    let mut rows = Vec::new();
    sampler.seen(&mut rows);
    rows.iter().map(|row| row.seen(1).key.pid.0).collect()
}

#[test]
fn descendants_are_added_up_and_others_are_not() {
    let fake = Fake::new();
    fake.put(101, 100, 5, 0);
    fake.put(102, 101, 6, 1);
    fake.put(103, 1, 1000, 0);
    let mut sampler = fake.sampler();
    let sample = sampler.sample(at(1));
    assert_eq!((sample.processes, sample.threads, sample.cpu), (2, 4, ticks(12)));
    assert_eq!(sample.rss_bytes, 20 * sampler.page_bytes());
    assert_eq!((sample.io, sample.host), (None, HostLoad::default()));
    assert_eq!((pids(&sampler), sampler.errors()), (vec![101, 102], 0));
}

#[test]
fn children_with_lower_pids_than_their_parents_are_found() {
    let fake = Fake::new();
    for (pid, parent) in [(9, 8), (8, 7), (7, 6), (6, 300), (300, 100), (5, 4)] {
        fake.put(pid, parent, 1, 0);
    }
    let mut sampler = fake.sampler();
    assert_eq!(sampler.sample(at(1)).processes, 5);
    assert_eq!(pids(&sampler), [300, 6, 7, 8, 9], "parents first");
}

#[test]
fn newcomers_are_found_by_the_newest_pid_and_only_so() {
    let fake = Fake::new();
    fake.newest(110);
    let mut sampler = fake.sampler();
    assert_eq!(sampler.sample(at(1)).processes, 0);
    // Not given out since: it cannot be new, and nobody looks.
    fake.put(40, 100, 1, 0);
    assert_eq!(sampler.sample(at(2)).processes, 0);
    fake.put(111, 100, 1, 0);
    fake.put(112, 111, 1, 0);
    assert_eq!(sampler.sample(at(3)).processes, 0);
    fake.newest(112);
    assert_eq!(sampler.sample(at(4)).processes, 2);
}

#[test]
fn a_pid_that_was_given_out_a_moment_too_early_is_tried_again() {
    let fake = Fake::new();
    fake.newest(110);
    let mut sampler = fake.sampler();
    sampler.sample(at(1));
    fake.newest(120);
    assert_eq!(sampler.sample(at(2)).processes, 0);
    fake.put(120, 100, 1, 0);
    assert_eq!(sampler.sample(at(3)).processes, 1);
    // Once more, but no third time.
    fake.put(119, 100, 1, 0);
    assert_eq!(sampler.sample(at(4)).processes, 1);
}

#[test]
fn all_are_looked_through_when_pids_go_round_or_are_many_or_after_a_pause() {
    let steps = [("round", 90, 2), ("many", 110 + 257, 2), ("pause", 110, 12)];
    for (what, newest, second) in steps {
        let fake = Fake::new();
        fake.newest(110);
        let mut sampler = fake.sampler();
        sampler.sample(at(1));
        fake.put(40, 100, 1, 0);
        fake.newest(newest);
        assert_eq!(sampler.sample(at(second)).processes, 1, "{what}");
    }
}

#[test]
fn what_was_missed_is_found_within_a_minute_of_samples() {
    let fake = Fake::new();
    fake.newest(110);
    let mut sampler = fake.sampler();
    sampler.sample(at(1));
    fake.put(40, 100, 1, 0);
    let found = (2..=SCAN_EVERY + 2).any(|second| sampler.sample(at(second)).processes == 1);
    assert!(found);
}

#[test]
fn a_thread_is_not_a_process() {
    let fake = Fake::new();
    let line = include_bytes!("../../../tests/fixtures/proc/stat-of-a-thread");
    let of_ours = String::from_utf8_lossy(line).replace("11958", "100");
    fake.put_line(12_244, of_ours);
    let mut sampler = fake.sampler();
    assert_eq!(sampler.sample(at(1)).processes, 0);
}

#[test]
fn cpu_time_never_falls_when_children_end() {
    let fake = Fake::new();
    fake.put(101, 100, 10, 0);
    fake.put(102, 101, 50, 0);
    let mut sampler = fake.sampler();
    assert_eq!(sampler.sample(at(1)).cpu, ticks(60));
    // It left; its parent has not yet been read with what it waited for.
    fake.remove(102);
    assert_eq!(sampler.sample(at(2)).cpu, ticks(60));
    fake.put(101, 100, 12, 55);
    assert_eq!(sampler.sample(at(3)).cpu, ticks(67));
    // The last one is reaped by us.
    fake.remove(101);
    sampler.reaped(ticks(68));
    assert_eq!(sampler.sample(at(4)).cpu, ticks(68));
    assert_eq!(sampler.sample(at(5)).cpu, ticks(68));
}

#[test]
fn cpu_time_that_nobody_waited_for_is_not_lost() {
    let fake = Fake::new();
    fake.put(101, 100, 10, 3);
    fake.put(102, 101, 50, 0);
    fake.put(103, 101, 40, 0);
    let mut sampler = fake.sampler();
    assert_eq!(sampler.sample(at(1)).cpu, ticks(103));
    fake.remove(102);
    fake.remove(103);
    fake.put(101, 100, 11, 3);
    assert_eq!(sampler.sample(at(2)).cpu, ticks(103));
    // The parent's account has 41 ticks more for two children that had 90.
    fake.put(101, 100, 12, 44);
    assert_eq!(sampler.sample(at(3)).cpu, ticks(12 + 44 + 49));
    assert_eq!(sampler.sample(at(4)).cpu, ticks(105));
}

#[test]
fn another_process_under_the_same_pid_is_another_process() {
    let fake = Fake::new();
    fake.newest(110);
    fake.put(101, 100, 30, 0);
    let mut sampler = fake.sampler();
    sampler.sample(at(1));
    fake.put_line(101, format!("101 (dog) S {}", Fake::rest(1, 1000, 0, 8)));
    fake.newest(101);
    let sample = sampler.sample(at(2));
    assert_eq!((sample.processes, sample.cpu), (0, ticks(30)));
    let names = |sampler: &Sampler| -> Vec<String> {
        let mut rows = Vec::new();
        sampler.seen(&mut rows);
        rows.iter().map(|row| row.seen(1).name).collect()
    };
    assert_eq!(names(&sampler), ["cat"], "the name is that of the one that left");
    // And one of ours again.
    fake.put_line(101, format!("101 (dog) S {}", Fake::rest(100, 50, 0, 9)));
    fake.newest(100);
    let sample = sampler.sample(at(3));
    assert_eq!((sample.processes, sample.cpu), (1, ticks(50)));
    assert_eq!(names(&sampler), ["dog", "cat"]);
}

#[test]
fn strangers_and_what_they_start_are_left_out() {
    let fake = Fake::new();
    fake.newest(110);
    fake.put(101, 100, 1, 0);
    fake.put(102, 101, 1, 0);
    fake.put(103, 100, 1, 0);
    let mut sampler = fake.sampler();
    sampler.exclude(&[ProcessKey { pid: Pid(101), start_ticks: 7 }]);
    assert_eq!(sampler.sample(at(1)).processes, 1);
    // An orphan of a stranger comes to us, and is still a stranger.
    fake.remove(101);
    fake.put(102, 100, 1, 0);
    fake.newest(90);
    assert_eq!(sampler.sample(at(2)).processes, 1);
    // A process of the job that has the pid of a stranger which ended is not a stranger.
    fake.put_line(101, format!("101 (dog) S {}", Fake::rest(100, 1, 0, 9)));
    fake.put(111, 101, 1, 0);
    fake.newest(80);
    assert_eq!(sampler.sample(at(3)).processes, 3);
}

#[test]
fn zombies_are_not_counted_but_their_time_is() {
    let fake = Fake::new();
    fake.put(101, 100, 5, 0);
    let mut sampler = fake.sampler();
    sampler.sample(at(1));
    // Its first thread has ended, and another one runs.
    let line = format!("101 (cat) Z {}", Fake::rest(100, 8, 0, 7));
    fake.put_line(101, &line);
    let sample = sampler.sample(at(2));
    assert_eq!((sample.processes, sample.threads, sample.cpu), (1, 2, ticks(8)));
    fake.put_line(101, line.replace(" 20 0 2 0 ", " 20 0 1 0 "));
    let sample = sampler.sample(at(3));
    assert_eq!((sample.processes, sample.threads, sample.cpu), (0, 0, ticks(8)));
}

#[test]
fn what_cannot_be_read_counts_as_an_error_and_is_given_up_in_the_end() {
    let fake = Fake::new();
    fake.newest(110);
    fake.put(101, 100, 5, 0);
    let mut sampler = fake.sampler();
    sampler.sample(at(1));
    fake.put_line(101, "101 (cat) S 10");
    for failures in 1..=u64::from(FAILURES_MAX) {
        let sample = sampler.sample(at(1 + failures));
        let is_followed = failures < u64::from(FAILURES_MAX);
        assert_eq!((sample.processes, sampler.errors()), (u64::from(is_followed), failures));
    }
}

#[test]
fn descriptors_are_counted_one_by_one_where_their_number_is_not_shown() {
    let fake = Fake::new();
    fake.put(101, 100, 5, 0);
    let directory = fake.0.path().join("101/fd");
    fs::create_dir(&directory).unwrap();
    for fd in ["0", "1", "2"] {
        fs::write(directory.join(fd), "").unwrap();
    }
    assert_eq!(fake.sampler().sample(at(1)).open_fds, 3);
}

#[test]
fn io_is_read_in_some_samples_and_never_falls() {
    let fake = Fake::new();
    fake.put(101, 100, 5, 0);
    let put_io = |read: u64| {
        let text = format!("rchar: {read}\nwchar: 2\n");
        fs::write(fake.0.path().join("101/io"), text).unwrap();
    };
    put_io(10);
    let mut sampler = fake.sampler();
    let read = |sample: TreeSample| sample.io.map(|io| io.read);
    assert_eq!(read(sampler.sample(at(1))), Some(10));
    put_io(30);
    let later: Vec<_> = (2..=6).map(|second| read(sampler.sample(at(second)))).collect();
    assert_eq!(later, [Some(10), Some(10), Some(10), Some(10), Some(30)]);
    put_io(3);
    assert_eq!((7..=12).map(|second| read(sampler.sample(at(second)))).max(), Some(Some(30)));
}

#[test]
fn the_host_is_shown_where_the_kernel_shows_it() {
    let fake = Fake::new();
    fake.newest(110);
    fs::create_dir(fake.0.path().join("pressure")).unwrap();
    let text = include_str!("../../../tests/fixtures/proc/pressure-cpu");
    fs::write(fake.0.path().join("pressure/cpu"), text).unwrap();
    let host = fake.sampler().sample(at(1)).host;
    let expected = HostLoad { load1: Some(0.5), cpu_pressure: Some(32.8), ..HostLoad::default() };
    assert_eq!(host, expected);
}

#[test]
fn those_that_left_are_still_shown_with_odd_names() {
    let fake = Fake::new();
    fake.put_line(101, format!("101 (a) R (\nb) S {}", Fake::rest(100, 1, 0, 7)));
    let mut sampler = fake.sampler();
    sampler.sample(at(1));
    fake.remove(101);
    sampler.sample(at(2));
    let mut rows = Vec::new();
    sampler.seen(&mut rows);
    assert_eq!(rows.iter().map(|row| row.seen(1).name).collect::<Vec<_>>(), ["a) R (\nb"]);
}

#[test]
fn half_of_the_soft_limit_may_be_kept() {
    assert_eq!((kept_max(1024), kept_max(u64::MAX), kept_max(0)), (512, 8192, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever /proc shows: nothing panics, no total falls, and nothing is kept beyond the bound.
    #[test]
    fn nothing_that_proc_shows_makes_a_total_fall(
        steps in proptest::collection::vec(
            (101..112_i32, 100..112_i32, 0..90_u64, 0..90_u64, 0..9_u8, 90..130_i32), 1..40),
        kept_max in 0..4_usize,
    ) {
        let fake = Fake::new();
        let mut sampler = Sampler::new(fake.0.path(), US, kept_max).unwrap();
        let mut before = Duration::ZERO;
        for (second, (pid, parent, own, children, kind, newest)) in (1..).zip(steps) {
            match kind {
                0 => fake.put_line(pid, ") ("),
                1 => fake.put_line(pid, ""),
                2 => drop(fs::remove_dir_all(fake.0.path().join(pid.to_string()))),
                3 => sampler.reaped(ticks(own)),
                4 => fake.put_line(pid, [0xff, b'(', b')', b' ', 0xfe]),
                _ => fake.put(pid, parent, own, children),
            }
            fake.newest(newest);
            let sample = sampler.sample(at(second));
            prop_assert!(sample.cpu >= before);
            prop_assert!(sampler.kept <= kept_max);
            let kept = sampler.members.iter().filter(|member| member.stat.is_some()).count();
            prop_assert_eq!(sampler.kept, kept);
            before = sample.cpu;
        }
    }
}
