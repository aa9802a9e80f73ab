//! Minds one job. See `childminder --help` for what may be typed.

#![no_main]
#![expect(unsafe_code, reason = "C's main is exported here; sys::entry says why not Rust's")]

use std::ffi::{c_char, c_int};

#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: the C library calls this once, first, with the arguments of the program.
    unsafe { childminder::programs::childminder(argc, argv) }
}
