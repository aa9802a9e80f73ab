//! The sections: each measures one thing and returns its lines of the table.

mod canaries;
mod counts;
mod exit_latency;
mod idle;
mod jobs_per_second;
pub mod record;
mod signals;
mod slow_down;
mod start_up;
mod telemetry;

use crate::Fallible;
use crate::harness::report::Line;
use crate::harness::workshop::Workshop;

/// One thing that is measured.
pub struct Section {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What is measured.
    pub title: &'static str,
    /// Measures it.
    pub run: fn(&Workshop) -> Fallible<Vec<Line>>,
}

/// All of them, in the order of the table.
pub const SECTIONS: [Section; 10] = [
    Section { name: "start-up", title: start_up::TITLE, run: start_up::run },
    Section { name: "idle", title: idle::TITLE, run: idle::run },
    Section { name: "exit-latency", title: exit_latency::TITLE, run: exit_latency::run },
    Section { name: "signals", title: signals::TITLE, run: signals::run },
    Section { name: "canaries", title: canaries::TITLE, run: canaries::run },
    Section { name: "jobs-per-second", title: jobs_per_second::TITLE, run: jobs_per_second::run },
    Section { name: "record", title: record::TITLE, run: record::run },
    Section { name: "slow-down", title: slow_down::TITLE, run: slow_down::run },
    Section { name: "telemetry", title: telemetry::TITLE, run: telemetry::run },
    Section { name: "counts", title: counts::TITLE, run: counts::run },
];
