//! How many short jobs a second, one wrapper for each, two at a time.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;

use crate::Fallible;
use crate::harness::report::Line;
use crate::harness::stopwatch::{Race, Rounds, Timing, time};
use crate::harness::workshop::{Kind, TINI, Workshop, Wrapper};

pub const TITLE: &str = "500 x /bin/true through xargs -P2, median of 8 rounds in turn";

/// Short rounds, so that a ratio is taken within seconds.
const JOBS: u32 = 500;
const ROUNDS: Rounds = Rounds { timed: 8, warm_up: 0 };

pub fn run(workshop: &Workshop) -> Fallible<Vec<Line>> {
    let place = workshop.place("jobs-per-second")?;
    let mut words = String::new();
    (0..JOBS).try_for_each(|job| writeln!(words, "{job}"))?;
    fs::write(place.join("words"), words)?;

    let mut wrappers = vec![Wrapper::direct()];
    wrappers.extend(workshop.references()?.into_iter().take(1));
    wrappers.extend(workshop.peers().into_iter().filter(|peer| peer.name == TINI));
    wrappers.extend(workshop.ours(&[]));
    let command = |wrapper: Wrapper| {
        let xargs = ["xargs", "-a", "words", "-P2", "-n1"].map(OsString::from);
        let words = [&xargs[..], &wrapper.around(&["/bin/true".into()])].concat();
        (wrapper, words)
    };
    let commands = wrappers.into_iter().map(command).collect();
    let timings = time(workshop, &place, Race { commands, rounds: ROUNDS, stamp: None })?;
    Ok(timings.iter().map(|timing| line(timing, &timings)).collect())
}

fn line(timing: &Timing, all: &[Timing]) -> Line {
    let rate = f64::from(JOBS) / timing.median(Timing::wall) * 1e6;
    // Twice the time is half the rate.
    let to_tini = timing.ratio(Timing::wall, all, TINI).map(|ratio| 1.0 / ratio);
    let line = Line::new(&timing.wrapper.name, format!("{rate:.0} jobs/s")).ratio(to_tini, TINI);
    match timing.wrapper.kind {
        Kind::Other => line,
        Kind::Ours => line.at_least(1.0, to_tini, "x tini -s"),
        Kind::OursMusl => line.at_least(1.0, to_tini, "x tini -s").aim(),
    }
}
