//! The central record: one table of all runs, in a CSV file that they share.

pub mod read;
pub mod row;
