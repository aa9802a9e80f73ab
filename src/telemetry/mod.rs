//! Tells other machines about the run.

pub mod catalogue;
pub mod exposition;
pub mod file_sd;
pub mod identity;
pub mod metrics;
pub mod readings;
pub mod site;
pub mod web;
