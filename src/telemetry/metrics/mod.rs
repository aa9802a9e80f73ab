//! The metrics, and the numbers that they are made of.

pub mod catalogue;
pub mod metric;
pub mod readings;
