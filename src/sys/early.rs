//! What childminder was given by its own parent, read before the Rust runtime changes it.
//!
//! The runtime sets SIGPIPE to ignored and opens /dev/null where descriptor 0, 1 or 2 is closed
//! (see the documentation of `std::process`). The job must find both as they were, so a function
//! in `.init_array` (ELF gABI, "Initialization and Termination Functions") looks first.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

/// Bit 0 to 2: that standard descriptor was closed. Bit 3: SIGPIPE was ignored.
static GIVEN: AtomicU8 = AtomicU8::new(0);
const SIGPIPE_IGNORED: u8 = 1 << 3;

#[used]
#[unsafe(link_section = ".init_array")]
static INIT: extern "C" fn() = look;

extern "C" fn look() {
    let mut given = 0;
    let mut standard: [libc::pollfd; 3] =
        std::array::from_fn(|fd| libc::pollfd { fd: fd as i32, events: 0, revents: 0 });
    // SAFETY: the array is ours and its length is passed with it.
    let polled = unsafe { libc::poll(standard.as_mut_ptr(), 3, 0) };
    if polled > 0 {
        for (bit, fd) in standard.iter().enumerate() {
            given |= u8::from(fd.revents & libc::POLLNVAL != 0) << bit;
        }
    }
    if disposition(libc::SIGPIPE) == Some(libc::SIG_IGN) {
        given |= SIGPIPE_IGNORED;
    }
    GIVEN.store(given, Ordering::Relaxed);
}

/// Returns the handler of a signal as sigaction(2) tells it.
pub(super) fn disposition(signal: libc::c_int) -> Option<libc::sighandler_t> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null second argument asks only; the third points to memory for one sigaction.
    let result = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
    if result != 0 {
        return None;
    }
    // SAFETY: sigaction returned 0, so it filled the struct.
    Some(unsafe { action.assume_init() }.sa_sigaction)
}

/// Returns which of the standard descriptors were closed when the program began.
#[must_use]
pub fn closed_descriptors() -> [bool; 3] {
    let given = GIVEN.load(Ordering::Relaxed);
    std::array::from_fn(|fd| given & (1 << fd) != 0)
}

/// Returns whether SIGPIPE was ignored when the program began.
#[must_use]
pub fn is_sigpipe_ignored() -> bool {
    GIVEN.load(Ordering::Relaxed) & SIGPIPE_IGNORED != 0
}
