//! The observing thread: samples the tree once in each interval and nothing between.
//!
//! It never holds up anybody: whoever asks gets what was last seen, and it is asked to stop without
//! being waited for, since a file of the kernel may let its reader wait. It has no signal handlers
//! and inherits a mask that blocks all signals. Started by `run` after the job was.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::model::process::{Pid, ProcessKey};
use crate::model::sample::{Peaks, Seen, TreeSample};
use crate::model::shared::lock;
use crate::model::time::Moment;
use crate::observe::files::Files;
use crate::observe::members::ProcessLine;
use crate::observe::recorder::{FlightRecorder, Round};
use crate::observe::sampler::Sampler;

/// The thread slows down to one sample in this time and not further.
pub const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// A sample may take this part of the interval as processor time: one per cent.
const SHARE: u32 = 100;

/// The first sample looks through all of /proc, and some later ones do, so one expensive sample says
/// nothing yet.
const EXPENSIVE_IN_A_ROW: u32 = 2;

/// This number of cheap samples in a row let the thread speed up again.
const CHEAP_IN_A_ROW: u32 = 3;

/// Room for a few buffers of 2 kB and the standard library.
pub const STACK_BYTES: usize = 256 * 1024;

/// The clocks that the thread reads, which are `sys::clock`'s.
#[derive(Clone, Copy)]
pub struct Clocks {
    /// CLOCK_MONOTONIC.
    pub now: fn() -> Moment,
    /// CLOCK_THREAD_CPUTIME_ID: what the calling thread has used.
    pub thread_cpu: fn() -> Duration,
}

/// Called by the thread with the processes of each sample and those that left last, so that what
/// only `sys` can do wakes nobody on its own.
pub type SampleCallback = Box<dyn FnMut(&TreeSample, &[ProcessLine]) + Send>;

/// What should be observed, and how.
pub struct WatchPlan {
    /// Where the proc file system is: `/proc`.
    pub root: PathBuf,
    /// The process whose descendants are observed: childminder itself.
    pub ourselves: Pid,
    /// Our children from before the job, which are left out with all that they start.
    pub strangers: Vec<ProcessKey>,
    /// The time from one sample to the next.
    pub interval: Duration,
    /// How many descriptors may stay open; see [`crate::observe::sampler::kept_max`].
    pub kept_max: usize,
    /// Whether open files are looked at, too.
    pub files: bool,
    /// Who looks at the processes, too, after each sample.
    pub sample_callback: Option<SampleCallback>,
    pub clocks: Clocks,
}

/// The files of a process are looked at when it is new, and in each such round of samples: that
/// costs several times as much as the rest.
const FILES_EVERY: u64 = 5;

/// The observing thread, as long as this exists.
pub struct Watch {
    shared: Arc<WatchShared>,
}

/// What both threads touch.
#[derive(Default)]
struct WatchShared {
    recorder: Mutex<FlightRecorder>,
    files: Mutex<Files>,
    /// Whether the thread should end.
    is_over: Mutex<bool>,
    changed: Condvar,
    /// CPU time in nanoseconds of what was reaped, not yet given to the sampler.
    reaped_ns: AtomicU64,
}

impl Watch {
    /// Starts the thread, which takes its first sample at once.
    ///
    /// # Errors
    ///
    /// The proc file system cannot be read, or there can be no more threads.
    pub fn start(observed: WatchPlan) -> io::Result<Watch> {
        let mut sampler = Sampler::new(&observed.root, observed.ourselves, observed.kept_max)?;
        sampler.exclude(&observed.strangers);
        let shared = Arc::new(WatchShared::default());
        let theirs = Arc::clone(&shared);
        let (clocks, pace) = (observed.clocks, Pace::new(observed.interval));
        let look = observed.files.then(|| FileLook::new(observed.root.clone()));
        let sample_callback = observed.sample_callback;
        thread::Builder::new()
            .name("observe".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || observe(&theirs, (sampler, look, sample_callback), clocks, pace))?;
        Ok(Watch { shared })
    }

    /// Adds what a process of the job had used that was reaped just now, with the children that
    /// it waited for itself (wait4(2)): its own account of that is gone.
    pub fn reaped(&self, cpu: Duration) {
        let nanos = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        self.shared.reaped_ns.fetch_add(nanos, Ordering::AcqRel);
    }

    /// Returns the last sample; `None` before the first.
    #[cfg(test)]
    fn latest(&self) -> Option<TreeSample> {
        lock(&self.shared.recorder).latest()
    }

    /// Returns the highest values until now; `None` before the first sample.
    #[must_use]
    pub fn peaks(&self) -> Option<Peaks> {
        lock(&self.shared.recorder).peaks()
    }

    /// Returns all that was seen until now.
    #[must_use]
    pub fn seen(&self) -> Seen {
        lock(&self.shared.recorder).seen()
    }

    /// Returns the files that were seen open until now.
    #[must_use]
    pub fn files(&self) -> Files {
        lock(&self.shared.files).clone()
    }

    /// Ends the thread, without waiting for it, and returns all that was seen.
    #[cfg(test)]
    fn stop(self) -> Seen {
        self.shared.end();
        self.seen()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl WatchShared {
    fn end(&self) {
        *lock(&self.is_over) = true;
        self.changed.notify_all();
    }

    /// Waits until the span is over, and returns whether the thread should end.
    fn is_over_after(&self, span: Duration) -> bool {
        let guard = lock(&self.is_over);
        let waited = self.changed.wait_timeout_while(guard, span, |is_over| !*is_over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Which processes' files were looked at, and when again.
struct FileLook {
    proc: PathBuf,
    known: BTreeSet<ProcessKey>,
    round: u64,
}

impl FileLook {
    fn new(proc: PathBuf) -> FileLook {
        FileLook { proc, known: BTreeSet::new(), round: 0 }
    }

    fn look(&mut self, rows: &[ProcessLine], files: &Mutex<Files>) {
        let is_round = self.round.is_multiple_of(FILES_EVERY);
        self.round += 1;
        let mut found = Files::default();
        for key in rows.iter().map(ProcessLine::key) {
            if !self.known.contains(&key) || is_round {
                found.look(&self.proc, key.pid);
            }
        }
        self.known = rows.iter().map(ProcessLine::key).collect();
        lock(files).merge(found);
    }
}

fn observe(
    shared: &WatchShared,
    (mut sampler, mut files, mut sample_callback): (
        Sampler,
        Option<FileLook>,
        Option<SampleCallback>,
    ),
    clocks: Clocks,
    mut pace: Pace,
) {
    let mut rows = Vec::new();
    let mut due = (clocks.now)();
    loop {
        let used_before = (clocks.thread_cpu)();
        sampler.reaped(Duration::from_nanos(shared.reaped_ns.swap(0, Ordering::AcqRel)));
        let sample = sampler.sample((clocks.now)());
        sampler.seen(&mut rows);
        if let Some(look) = &mut files {
            look.look(&rows, &shared.files);
        }
        if let Some(look) = &mut sample_callback {
            look(&sample, &rows);
        }
        let interval = pace.after((clocks.thread_cpu)().saturating_sub(used_before));
        let (errors, page_bytes) = (sampler.errors(), sampler.page_bytes());
        lock(&shared.recorder).note(&Round { sample, errors, interval, page_bytes }, &mut rows);
        let now = (clocks.now)();
        // After a halt of the machine the samples that were missed are not made up for.
        due = (due + interval).max(now);
        if shared.is_over_after(due - now) {
            return;
        }
    }
}

/// How often samples are taken: as asked for, unless they cost too much.
struct Pace {
    asked: Duration,
    interval: Duration,
    expensive: u32,
    cheap: u32,
}

impl Pace {
    fn new(asked: Duration) -> Pace {
        // Nobody should make us spin.
        let asked = asked.max(Duration::from_millis(1));
        Pace { asked, interval: asked, expensive: 0, cheap: 0 }
    }

    /// Takes the processor time of a sample and returns the interval until the next one.
    fn after(&mut self, cost: Duration) -> Duration {
        let affordable = self.interval / SHARE;
        let is_expensive = cost > affordable;
        // Half of what half the interval would allow, so that it does not swing back and forth.
        let is_cheap = self.interval > self.asked && cost <= affordable / 4;
        self.expensive = if is_expensive { self.expensive + 1 } else { 0 };
        self.cheap = if is_cheap { self.cheap + 1 } else { 0 };
        if self.expensive >= EXPENSIVE_IN_A_ROW {
            self.expensive = 0;
            self.interval = (self.interval * 2).min(INTERVAL_MAX.max(self.asked));
        } else if self.cheap >= CHEAP_IN_A_ROW {
            self.cheap = 0;
            self.interval = (self.interval / 2).max(self.asked);
        }
        self.interval
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::sync::atomic::AtomicUsize;
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "the tests have no clock of their own")]
    fn now() -> Moment {
        static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        Moment(BEGIN.get_or_init(Instant::now).elapsed())
    }

    fn nothing() -> Duration {
        Duration::ZERO
    }

    /// A second more at each look: every sample is expensive.
    fn ever_more() -> Duration {
        static LOOKS: AtomicUsize = AtomicUsize::new(0);
        SECOND * u32::try_from(LOOKS.fetch_add(1, Ordering::Relaxed)).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "a tree of the test's own")]
    fn shell() -> Child {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 60 & read x; kill $!"]).stdin(Stdio::piped());
        shell.spawn().unwrap()
    }

    fn observed(child: &Child, thread_cpu: fn() -> Duration) -> WatchPlan {
        WatchPlan {
            root: PathBuf::from("/proc"),
            ourselves: Pid(child.id().cast_signed()),
            strangers: Vec::new(),
            interval: Duration::from_millis(5),
            kept_max: 10,
            files: false,
            sample_callback: None,
            clocks: Clocks { now, thread_cpu },
        }
    }

    fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let begin = now();
        while !is_so() {
            assert!(now() - begin < SECOND * 20, "waited in vain: {what}");
            thread::yield_now();
        }
    }

    #[test]
    fn a_tree_is_seen_until_it_is_asked_to_stop() {
        let mut child = shell();
        let watch = Watch::start(observed(&child, nothing)).unwrap();
        let shared = Arc::clone(&watch.shared);
        wait_until("the sleeper", || {
            watch.seen().processes.iter().any(|process| process.name == "sleep")
        });
        watch.reaped(SECOND);
        wait_until("what was reaped", || watch.latest().is_some_and(|last| last.cpu >= SECOND));
        let seen = watch.stop();
        assert_eq!((seen.peaks.processes, seen.errors), (1, 0));
        assert_eq!(seen.interval, Duration::from_millis(5));
        wait_until("the end of the thread", || Arc::strong_count(&shared) == 1);
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn a_long_interval_does_not_delay_the_end() {
        let mut child = shell();
        let mut observed = observed(&child, nothing);
        observed.interval = SECOND * 3600;
        let watch = Watch::start(observed).unwrap();
        let shared = Arc::clone(&watch.shared);
        wait_until("the first sample", || watch.latest().is_some());
        let begin = now();
        drop(watch);
        wait_until("the end of the thread", || Arc::strong_count(&shared) == 1);
        assert!(now() - begin < SECOND * 10);
        assert_eq!(lock(&shared.recorder).seen().samples, 1);
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn expensive_samples_are_taken_less_often_and_that_is_reported() {
        let mut child = shell();
        let watch = Watch::start(observed(&child, ever_more)).unwrap();
        wait_until("a longer interval", || watch.seen().interval >= Duration::from_millis(20));
        drop(watch);
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn without_a_proc_file_system_it_does_not_start() {
        let mut child = shell();
        let mut observed = observed(&child, nothing);
        observed.root = PathBuf::from("/nowhere");
        assert!(Watch::start(observed).is_err());
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    fn repeat(pace: &mut Pace, times: u32, cost: Duration) {
        for _ in 0..times {
            pace.after(cost);
        }
    }

    #[test]
    fn one_expensive_sample_changes_nothing_and_two_double_the_interval() {
        let mut pace = Pace::new(SECOND);
        assert_eq!(pace.after(SECOND), SECOND);
        assert_eq!(pace.after(Duration::ZERO), SECOND);
        assert_eq!(pace.after(SECOND / 50), SECOND);
        assert_eq!(pace.after(SECOND / 50), SECOND * 2);
        // Two per cent of one second are one per cent of two.
        assert_eq!(pace.after(SECOND / 50), SECOND * 2);
        assert_eq!(pace.after(SECOND / 50), SECOND * 2);
    }

    #[test]
    fn it_speeds_up_again_but_never_beyond_what_was_asked() {
        let mut pace = Pace::new(SECOND);
        repeat(&mut pace, 100, SECOND * 10);
        assert_eq!(pace.interval, INTERVAL_MAX);
        repeat(&mut pace, 3, Duration::ZERO);
        assert_eq!(pace.interval, INTERVAL_MAX / 2);
        repeat(&mut pace, 100, Duration::ZERO);
        assert_eq!(pace.interval, SECOND);
    }

    #[test]
    fn an_interval_beyond_the_longest_stays_as_it_was_asked() {
        let mut pace = Pace::new(INTERVAL_MAX * 5);
        repeat(&mut pace, 9, INTERVAL_MAX);
        assert_eq!(pace.interval, INTERVAL_MAX * 5);
    }

    proptest! {
        #[test]
        fn the_interval_is_never_out_of_bounds(
            asked_ms in 0_u64..200_000,
            costs_us in proptest::collection::vec(0_u64..10_000_000, 0..200),
        ) {
            let mut pace = Pace::new(Duration::from_millis(asked_ms));
            for cost in costs_us {
                let interval = pace.after(Duration::from_micros(cost));
                prop_assert!(interval >= pace.asked);
                prop_assert!(interval <= INTERVAL_MAX.max(pace.asked));
            }
        }
    }
}
