#![doc = include_str!("ARCHITECTURE.md")]
#![deny(unsafe_code)]

// In reading order, low to high; see "Who may import whom" in ARCHITECTURE.md.
pub mod files;
pub mod model;

pub mod diagnose;
pub mod plan;
pub mod question;
pub mod supervisor;

pub mod canary;
pub mod cli;
pub mod observe;
pub mod record;
pub mod sink;
#[expect(unsafe_code, reason = "the one gate to the kernel: thin, typed, checked")]
pub mod sys;

pub mod fleet;
pub mod telemetry;

pub mod run;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
