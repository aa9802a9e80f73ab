//! What the memory of another process says: stacks of a stalled or dying one.
//!
//! Pure: bytes come through [`memory::Memory`] and as contents of files, so tests bring their own. What is
//! read was written by a program that may be broken or hostile: everything is bounded, nothing panics.

pub mod memory;
pub mod python;
