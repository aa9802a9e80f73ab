//! What the memory, the registers and the mapped files of another process say: where it crashed, or where it waits.
//!
//! Pure: bytes come through [`memory::Memory`] and as contents of files ([`contents::MappedFiles`]), so tests bring their
//! own. What is read was written by a program that may be broken or hostile: everything is bounded, nothing panics.

pub mod cfi;
pub mod code;
pub mod contents;
pub mod elf;
pub mod fault;
pub mod journal;
pub mod maps;
pub mod memory;
pub mod module;
pub mod names;
pub mod python;
pub mod registers;
pub mod report;
pub mod signature;
pub mod symbols;
pub mod tracee;
pub mod unwind;
