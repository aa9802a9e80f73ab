//! The whole wall time of a job that does nothing, under each wrapper.

use crate::Fallible;
use crate::harness::report::Line;
use crate::harness::stopwatch::{Race, Rounds, Timing, time};
use crate::harness::workshop::{DIRECT, Kind, TINI, Workshop, Wrapper};

pub const TITLE: &str = "wall time of /bin/true, median of 300 rounds in turn";

const ROUNDS: Rounds = Rounds { timed: 300, warm_up: 20 };

/// With the default log, in x tini -s.
const BUDGET: f64 = 1.05;
/// Of the musl build with the default log, in x the bare job.
const MUSL_AIM: f64 = 1.60;

pub fn run(workshop: &Workshop) -> Fallible<Vec<Line>> {
    let mut wrappers = vec![Wrapper::direct()];
    wrappers.extend(workshop.references()?);
    wrappers.extend(workshop.peers());
    wrappers.extend(workshop.ours(&[]));
    // An option typed means that the whole parser of the command line runs.
    wrappers.extend(workshop.ours(&["-d"]));
    let command = |wrapper: Wrapper| (wrapper.clone(), wrapper.around(&["/bin/true".into()]));
    let commands = wrappers.into_iter().map(command).collect();
    let race = Race { commands, rounds: ROUNDS, stamp: None };
    let timings = time(workshop, &workshop.place("start-up")?, race)?;
    Ok(timings.iter().map(|timing| line(timing, &timings)).collect())
}

fn line(timing: &Timing, all: &[Timing]) -> Line {
    let (to_direct, to_tini) =
        (timing.ratio(Timing::wall, all, DIRECT), timing.ratio(Timing::wall, all, TINI));
    let measured = format!("{:.0} us", timing.median(Timing::wall));
    let line =
        Line::new(&timing.wrapper.name, measured).ratio(to_direct, "direct").ratio(to_tini, TINI);
    let has_options = timing.wrapper.words.len() > 1;
    match timing.wrapper.kind {
        Kind::Ours if !has_options => line.at_most(BUDGET, to_tini, "x tini -s"),
        Kind::OursMusl if !has_options => line.at_most(MUSL_AIM, to_direct, "x direct").aim(),
        _ => line,
    }
}
