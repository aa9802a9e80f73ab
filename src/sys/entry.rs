//! The program's first steps: it begins at C's `main`, not at Rust's.
//!
//! Rust's own start ignores SIGPIPE, installs handlers for a guard page and reads /proc/self/maps
//! to find it; the job must not inherit the first, and the rest takes a fifth of our start-up. A
//! stack overflow still hits the kernel's guard and ends us by SIGSEGV.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;

use crate::sys::inherited::Inherited;
use crate::sys::signals::{self, GivenMask};
use crate::sys::{SysError, check};

/// What childminder was given by its own parent, to be handed to the job.
pub struct Given {
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

/// Ends the program at once. exit(3) would also run what the C library and the unwinder have registered, on
/// pages that nothing else has touched; nothing of ours is registered there.
pub fn end(status: u8) -> ! {
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(status.into()) }
}

/// What the supervising thread needs at most, in bytes.
const STACK_BYTES_MIN: usize = 512 * 1024;

/// The stack that it gets where RLIMIT_STACK allows less.
const STACK_BYTES: usize = 1024 * 1024;

/// Carries out the rest of the program: on a thread with a stack that is large enough where
/// RLIMIT_STACK (getrlimit(2)) allows the first thread too little. The job has the limit as it was.
///
/// # Errors
///
/// The limit is too low, and there can be no more threads.
pub fn with_stack<T: Send>(action: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    if stack_limit() >= STACK_BYTES_MIN {
        return Ok(action());
    }
    let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
    std::thread::scope(|scope| {
        let thread = builder.spawn_scoped(scope, action)?;
        thread.join().map_err(|_| std::io::Error::other("internal error"))
    })
}

/// Returns RLIMIT_STACK as the C library has read it at the start, in bytes: that costs no call.
fn stack_limit() -> usize {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: the pointer is to memory for one set of attributes.
    if unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) } != 0 {
        return usize::MAX;
    }
    let mut bytes = usize::MAX;
    // SAFETY: the attributes were made above; the other pointer is to one number.
    unsafe { libc::pthread_attr_getstacksize(attributes.as_ptr(), &raw mut bytes) };
    // SAFETY: the attributes were made above, and are not used again.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    bytes
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
