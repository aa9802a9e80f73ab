//! The vocabulary of the house: plain data, no input or output, no decisions.
//!
//! Everybody may import it; it imports nobody.

pub mod crash;
pub mod elf;
pub mod event;
pub mod facts;
pub mod findings;
pub mod header;
pub mod histogram;
pub mod history;
pub mod outcome;
pub mod percent;
pub mod pipeline;
pub mod policy;
pub mod proc_stat;
pub mod process;
pub mod redact;
pub mod sample;
pub mod shared;
pub mod shell;
pub mod signal;
pub mod syscall;
pub mod text;
pub mod time;
pub mod trace_context;
pub mod trace_stop;
pub mod tracing;
pub mod usage;
pub mod verdict;
pub mod wrap;
