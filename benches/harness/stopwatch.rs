//! Runs `reference/stopwatch.c`, which times whole processes in turn, and reads its numbers.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::Fallible;
use crate::harness::process;
use crate::harness::statistics::{median, paired_ratio};
use crate::harness::workshop::{Workshop, Wrapper};

/// Far more than any section takes on a machine that others use, too.
const WITHIN: Duration = Duration::from_secs(120);

/// How often to time.
#[derive(Clone, Copy)]
pub struct Rounds {
    /// Timed.
    pub timed: u32,
    /// Not timed, before.
    pub warm_up: u32,
}

/// What was timed of one wrapper, in microseconds and in the order of the rounds.
pub struct Timing {
    /// The wrapper.
    pub wrapper: Wrapper,
    /// From before its start to after its end.
    pub wall_us: Vec<f64>,
    /// From the job's last act to the wrapper's end, with a stamp only.
    pub latency_us: Vec<f64>,
}

/// Command lines to be timed in turn.
pub struct Race<'a> {
    /// Each wrapper, and the whole command line with it.
    pub commands: Vec<(Wrapper, Vec<OsString>)>,
    /// How often.
    pub rounds: Rounds,
    /// The file that stampexit writes, if that is the job.
    pub stamp: Option<&'a Path>,
}

/// Runs them in `place`.
pub fn time(workshop: &Workshop, place: &Path, race: Race) -> Fallible<Vec<Timing>> {
    let Race { commands, rounds, stamp } = race;
    let mut stopwatch = process::command(workshop.c_program("stopwatch")?, place);
    stopwatch.args([rounds.timed.to_string(), rounds.warm_up.to_string()]);
    stopwatch.arg(stamp.unwrap_or(Path::new("-")));
    for (_, words) in &commands {
        stopwatch.arg(":::").args(words);
    }
    let (text, _) = process::output(&mut stopwatch, WITHIN)?;
    let empty = |(wrapper, _)| Timing { wrapper, wall_us: Vec::new(), latency_us: Vec::new() };
    let mut timings: Vec<Timing> = commands.into_iter().map(empty).collect();
    for line in text.lines() {
        let numbers: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [index, wall_us, latency_us, status] = numbers[..] else {
            return Err(format!("stopwatch said '{line}'").into());
        };
        let timing = &mut timings[index as usize];
        if status != 0.0 {
            return Err(format!("{} ended with wait status {status}", timing.wrapper.name).into());
        }
        timing.wall_us.push(wall_us);
        timing.latency_us.push(latency_us);
    }
    Ok(timings)
}

/// Which of the two numbers.
pub type Which = fn(&Timing) -> &[f64];

impl Timing {
    /// The wall time.
    pub fn wall(&self) -> &[f64] {
        &self.wall_us
    }

    /// The exit latency.
    pub fn latency(&self) -> &[f64] {
        &self.latency_us
    }

    /// The median.
    pub fn median(&self, which: Which) -> f64 {
        median(which(self))
    }

    /// Compares with the one of that name, if it is there and another one.
    pub fn ratio(&self, which: Which, all: &[Timing], name: &str) -> Option<f64> {
        let base = all.iter().find(|timing| timing.wrapper.name == name)?;
        if self.wrapper.name == name {
            return None;
        }
        Some(paired_ratio(which(self), which(base)))
    }
}
