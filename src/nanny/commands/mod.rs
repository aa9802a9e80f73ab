//! A file for each command: from a question to the text of its answer.

pub mod collect;
pub mod dist;
pub mod ids;
pub mod import;
pub mod patterns;
pub mod report;
pub mod rerun;
pub mod runs;
pub mod stacks;
pub mod why;
