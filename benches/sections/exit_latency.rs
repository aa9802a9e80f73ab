//! The time from the job's last instruction to the wrapper's end.

use std::ffi::OsString;

use crate::Fallible;
use crate::harness::report::Line;
use crate::harness::stopwatch::{Race, Rounds, Timing, time};
use crate::harness::workshop::{DIRECT, Kind, TINI, Workshop, Wrapper};

pub const TITLE: &str =
    "from the job's last act to the wrapper's end, median of 200 rounds in turn";

const ROUNDS: Rounds = Rounds { timed: 200, warm_up: 10 };

/// Long enough for every wrapper to have settled in its wait.
const JOB_MS: &str = "5";

/// In x tini -s.
const BUDGET: f64 = 1.15;

pub fn run(workshop: &Workshop) -> Fallible<Vec<Line>> {
    let mut wrappers = vec![Wrapper::direct()];
    wrappers.extend(workshop.references()?);
    wrappers.extend(workshop.peers());
    wrappers.extend(workshop.ours(&[]));
    let place = workshop.place("exit-latency")?;
    let stamp = place.join("stamp");
    let job: [OsString; 3] =
        [workshop.c_program("stampexit")?.into(), stamp.clone().into(), JOB_MS.into()];
    let command = |wrapper: Wrapper| (wrapper.clone(), wrapper.around(&job));
    let commands = wrappers.into_iter().map(command).collect();
    let race = Race { commands, rounds: ROUNDS, stamp: Some(&stamp) };
    let timings = time(workshop, &place, race)?;
    Ok(timings.iter().map(|timing| line(timing, &timings)).collect())
}

fn line(timing: &Timing, all: &[Timing]) -> Line {
    let ratio = |name| timing.ratio(Timing::latency, all, name);
    let measured = format!("{:.0} us", timing.median(Timing::latency));
    let line = Line::new(&timing.wrapper.name, measured);
    let line = line.ratio(ratio(DIRECT), "direct").ratio(ratio(TINI), TINI);
    match timing.wrapper.kind {
        Kind::Other => line,
        Kind::Ours => line.at_most(BUDGET, ratio(TINI), "x tini -s"),
        Kind::OursMusl => line.at_most(BUDGET, ratio(TINI), "x tini -s").aim(),
    }
}
