//! The program's first steps: it begins at C's `main`, not at Rust's.
//!
//! Rust's own start ignores SIGPIPE, installs handlers for a guard page and reads /proc/self/maps
//! to find it; the job must not inherit the first, and the rest takes a fifth of our start-up. A
//! stack overflow still hits the kernel's guard and ends us by SIGSEGV.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

use crate::sys::inherited::Inherited;
use crate::sys::signals::{self, GivenMask};
use crate::sys::{SysError, check};

/// What childminder was given by its own parent, to be handed to the job.
pub struct Given {
    /// The signal mask.
    pub mask: GivenMask,
    /// Whether SIGCHLD was ignored.
    pub is_sigchld_ignored: bool,
    /// Which of the descriptors 0, 1 and 2 were closed.
    pub closed: [bool; 3],
    /// What fork(2) would take from it.
    pub inherited: Inherited,
}

/// Blocks all signals, sets SIGCHLD to its default, and opens /dev/null where a standard
/// descriptor is closed, so that no file of ours is ever taken for one.
///
/// To be called before anything else and before any thread.
///
/// # Errors
///
/// No descriptor left, or no /dev/null.
pub fn begin() -> Result<Given, SysError> {
    let mask = signals::block_all()?;
    let is_sigchld_ignored = signals::default_sigchld()?;
    let inherited = Inherited::of_ourselves();
    Ok(Given { mask, is_sigchld_ignored, closed: fill_standard()?, inherited })
}

fn fill_standard() -> Result<[bool; 3], SysError> {
    let mut standard: [libc::pollfd; 3] =
        std::array::from_fn(|fd| libc::pollfd { fd: fd as i32, events: 0, revents: 0 });
    // SAFETY: the array is ours and its length is passed with it.
    let polled = unsafe { libc::poll(standard.as_mut_ptr(), 3, 0) };
    check("look at the standard descriptors", polled.into())?;
    let closed = standard.map(|fd| fd.revents & libc::POLLNVAL != 0);
    for _ in closed.iter().filter(|is_closed| **is_closed) {
        // The kernel gives the lowest free number: one of those.
        // SAFETY: the path is a constant that ends with NUL.
        let fd = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        check("open /dev/null", fd.into())?;
    }
    Ok(closed)
}

/// Copies the arguments of C's `main`, without the program's own name.
///
/// # Safety
///
/// `argv` holds `argc` strings that end with NUL, as the C library passes them.
#[must_use]
pub unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    (1..usize::try_from(argc).unwrap_or(0))
        .map(|index| {
            // SAFETY: the index is below `argc`; the caller vouches for the array.
            let word = unsafe { argv.add(index) };
            // SAFETY: an entry of the array.
            let word = unsafe { *word };
            // SAFETY: a string that ends with NUL; the caller vouches for it.
            let word = unsafe { CStr::from_ptr(word) };
            OsStr::from_bytes(word.to_bytes()).to_owned()
        })
        .collect()
}
