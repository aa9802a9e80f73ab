//! The clocks (clock_gettime(2)) and random bits.

use std::mem::MaybeUninit;
use std::time::Duration;

use crate::model::time::{Moment, WallTime};

/// Returns the present on CLOCK_MONOTONIC.
#[must_use]
pub fn now() -> Moment {
    Moment(read(libc::CLOCK_MONOTONIC))
}

/// Returns the present on CLOCK_REALTIME.
#[must_use]
pub fn wall() -> WallTime {
    WallTime(read(libc::CLOCK_REALTIME))
}

/// Returns the processor time that the calling thread has used.
#[must_use]
pub fn thread_cpu() -> Duration {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Returns whether the kernel says that the time of day is synchronized (adjtimex(2)).
#[must_use]
pub fn is_synchronized() -> bool {
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: the pointer is to memory for one timex; zero `modes` change nothing.
    let result = unsafe { libc::adjtimex(state.as_mut_ptr()) };
    result >= 0 && result != libc::TIME_ERROR
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the pointer is to memory for one timespec.
    let result = unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) };
    assert_eq!(result, 0, "these clocks exist on every Linux");
    // SAFETY: it was zeroed, and every bit pattern is a timespec.
    let time = unsafe { time.assume_init() };
    // No clock is ever negative: 1970, the boot and the thread's birth are past.
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Returns random bytes from getrandom(2), at most 256.
///
/// Early in the boot of a machine, before it has gathered randomness, they may be zeros: then ids
/// of runs that begin in the same millisecond could be equal.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // SAFETY: the buffer is ours and as long as the length says.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, libc::GRND_NONBLOCK) };
    bytes
}
