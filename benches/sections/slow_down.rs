//! How much a busy job can be slowed down by being watched, beside many sleeping processes of its
//! own, with every processor full.
//!
//! Judged is an upper bound that can be measured exactly: the CPU time that all threads of
//! childminder used (`/proc/PID/task/*/schedstat`, in nanoseconds) over the time that went by, as
//! if one busy loop had to give all of it. The time by the clock cannot judge half a per cent: on
//! a virtual machine one second of the same work takes up to 8 % more or less than the next one,
//! with nobody else about. It is told beside it, for information: childminder is stopped for one
//! piece of work and goes on for the next, in pairs, and the job does not notice.
//!
//! The table calls this section noisy on a quiet machine too: nobody waits for the busy loops, so
//! they count as others. At 10 Hz a large tree is sampled less often than asked for, because a
//! sample may not cost more than 1 % of its interval.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Fallible;
use crate::harness::process::{self, Running};
use crate::harness::report::Line;
use crate::harness::statistics::{median, quartiles};
use crate::harness::workshop::{Kind, Workshop};

pub const TITLE: &str = "a busy job on full processors beside its own sleepers: its time, at most, \
     by the CPU time of childminder; by the clock in pairs, for information";

/// Sleepers, and what the budget allows at one sample a second (PERFORMANCE, section 6).
const CASES: [(u32, f64); 2] = [(100, 1.005), (1000, 1.02)];
const WINDOW: Duration = Duration::from_secs(15);
const PAIRS: usize = 10;

/// Starts so many sleepers and so many busy loops, one of which is itself and tells how long each
/// piece of its work took: about a second. It ends with whoever measures.
const JOB: &str = r#"
    use Time::HiRes "time";
    $| = 1;
    for (1 .. $ARGV[0]) { fork or exec "sleep", "600" }
    for (2 .. $ARGV[1]) { fork or do { 1 while 1 } }
    for (1 .. 600) {
        my ($begin, $x) = (time, 0);
        $x += $_ & 7 for 1 .. 20_000_000;
        printf "%.6f\n", time - $begin;
    }
"#;

pub fn run(workshop: &Workshop) -> Fallible<Vec<Line>> {
    let mut lines = Vec::new();
    for (sleepers, budget) in CASES {
        for (interval, rate) in [("1", "1 Hz"), ("0.1", "10 Hz")] {
            let busy = Busy::start(workshop, sleepers, interval)?;
            let bound = 1.0 + busy.share_of_a_processor()?;
            let line = Line::new(
                format!("{sleepers} sleepers, {rate}"),
                format!("at most x {bound:.4} by CPU time"),
            );
            let is_judged = interval == "1";
            lines.push(if is_judged {
                line.at_most(budget, Some(bound), "x its own time")
            } else {
                line
            });
            if is_judged {
                let ratios = busy.paired_ratios()?;
                let (low, high) = quartiles(&ratios);
                let told = format!(
                    "x {:.4} by the clock, quartiles {low:.4} to {high:.4}",
                    median(&ratios)
                );
                lines.push(Line::new(format!("{sleepers} sleepers, {rate}, {PAIRS} pairs"), told));
            }
        }
    }
    Ok(lines)
}

/// A busy job below childminder.
struct Busy {
    running: Running,
    output: std::path::PathBuf,
}

impl Busy {
    fn start(workshop: &Workshop, sleepers: u32, interval: &str) -> Fallible<Busy> {
        let place = workshop.place("slow-down")?;
        let output = place.join("times");
        let ours = workshop.ours(&["--sample", interval]);
        let ours = ours.into_iter().find(|one| one.kind == Kind::Ours).ok_or("no childminder")?;
        let loops = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        let job = ["perl", "-e", JOB, &sleepers.to_string(), &loops].map(Into::into);
        let words = ours.around(&job);
        let mut command = process::command(&words[0], &place);
        command.args(&words[1..]).stdout(fs::File::create(&output)?);
        let busy = Busy { running: Running::start(&mut command)?, output };
        // By then all processes are there and were sampled.
        busy.await_times(2)?;
        Ok(busy)
    }

    /// Waits until the job has told so many times, and returns all of them.
    fn await_times(&self, count: usize) -> Fallible<Vec<f64>> {
        let mut times = Vec::new();
        process::wait_until("the job has done its work", || {
            times = times_in(&self.output);
            times.len() >= count
        })?;
        Ok(times)
    }

    fn share_of_a_processor(&self) -> Fallible<f64> {
        let (begun, before) = (Instant::now(), cpu_seconds(self.running.pid())?);
        // The measure is what happens in that time, so this waits for time itself.
        std::thread::sleep(WINDOW);
        Ok((cpu_seconds(self.running.pid())? - before) / begun.elapsed().as_secs_f64())
    }

    /// The time of a piece of work over that of the one before, when childminder was stopped.
    fn paired_ratios(&self) -> Fallible<Vec<f64>> {
        let pid = Pid::from_raw(self.running.pid());
        let next = || -> Fallible<f64> {
            let times = self.await_times(times_in(&self.output).len() + 1)?;
            times.last().copied().ok_or_else(|| "no time".into())
        };
        let mut ratios = Vec::new();
        next()?;
        for _ in 0..PAIRS {
            kill(pid, Signal::SIGSTOP)?;
            let without = next()?;
            kill(pid, Signal::SIGCONT)?;
            ratios.push(next()? / without);
        }
        Ok(ratios)
    }
}

/// The times that the job has told; a line that is not whole yet does not count.
fn times_in(output: &Path) -> Vec<f64> {
    let text = fs::read_to_string(output).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The CPU time of all threads of a process.
fn cpu_seconds(pid: i32) -> Fallible<f64> {
    let mut nanos = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += text.split(' ').next().ok_or("an empty schedstat")?.parse::<f64>()?;
    }
    Ok(nanos / 1e9)
}
