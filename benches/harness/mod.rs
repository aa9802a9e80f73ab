//! What the sections share: programs to compare, processes bounded in time, numbers and the table.

pub mod log;
pub mod noise;
pub mod process;
pub mod report;
pub mod statistics;
pub mod stopwatch;
pub mod workshop;
