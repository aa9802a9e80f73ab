//! The central record: one table of all runs, in a CSV file that they share.
//!
//! `write` keeps rows: in the shared file (`table`) under a lock or, where it is not available, in
//! files of their own beside it (`spool`), which the next writer merges. `recorder` does so on a
//! thread of its own, so that a filesystem that hangs holds up nobody. childminder-record(5) says what
//! users and other programs may rely on.

pub mod key;
pub mod network;
pub mod options;
pub mod read;
pub mod recorder;
pub mod row;
pub mod row_place;
pub mod seal;
pub mod skipped;
pub mod write;

mod cells;
mod lines;
mod lock;
mod spool;
mod table;
mod unfit;
