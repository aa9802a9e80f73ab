//! Blocking, receiving and sending signals (signalfd(2), pidfd_send_signal(2)).

use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;

use crate::model::process::Pid;
use crate::model::signal::{Origin, Signal};
use crate::sys::{SysError, check};

/// At most this number of signals is read at a time: a flood of standard signals coalesces in the kernel while
/// we write, so a full batch is rare.
const BATCH: usize = 64;

/// This number is read first.
const FEW: usize = 4;

/// What a signal carries, before its sender was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawSignal {
    pub signal: Signal,
    /// How it was made.
    pub origin: Origin,
    /// The pid in the siginfo; 0 if the kernel or another pid namespace sent it.
    pub pid: i32,
    /// The real user id in the siginfo.
    pub uid: u32,
    /// The integer of sigqueue(3).
    pub value: Option<i32>,
}

/// The signal mask that childminder was given, to be handed to the job.
#[derive(Clone, Copy)]
pub struct GivenMask(libc::sigset_t);

impl GivenMask {
    /// Does something under the mask that we were given, and blocks all signals again.
    ///
    /// # Errors
    ///
    /// As [`block_all`].
    pub fn while_restored<T>(&self, action: impl FnOnce() -> T) -> Result<T, SysError> {
        // SAFETY: the pointer is to a set of ours.
        let result =
            unsafe { libc::sigprocmask(libc::SIG_SETMASK, self.as_ptr(), ptr::null_mut()) };
        check("restore the signal mask", result.into())?;
        let done = action();
        block_all()?;
        Ok(done)
    }

    pub(super) fn as_ptr(&self) -> *const libc::sigset_t {
        &raw const self.0
    }
}

/// Blocks every signal that can be blocked and returns the mask as it was.
///
/// To be called before anything else and before any thread: threads inherit the mask. A fault of
/// our own still kills us, because the kernel does not respect the mask for those (signal(7)).
///
/// # Errors
///
/// None that sigprocmask(2) lists can occur; it is passed on all the same.
pub fn block_all() -> Result<GivenMask, SysError> {
    let all = trappable_set();
    let mut given = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: both pointers are to signal sets of ours.
    let result =
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, given.as_mut_ptr()) };
    check("block signals", result.into())?;
    // SAFETY: it was zeroed, and every bit pattern is a set.
    Ok(GivenMask(unsafe { given.assume_init() }))
}

/// The C library leaves its own two out of a full set.
pub(super) fn trappable_set() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the pointer is to memory for one set.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: it was zeroed and then filled.
    unsafe { set.assume_init() }
}

/// Sets SIGCHLD to its default and returns whether it was ignored: then the kernel would throw
/// every wait status away (wait(2), notes). The job gets it back as it was.
///
/// # Errors
///
/// None that sigaction(2) lists can occur.
pub fn default_sigchld() -> Result<bool, SysError> {
    // SAFETY: SIG_DFL is not a handler, so nothing of ours is ever called.
    let before = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    if before == libc::SIG_ERR {
        return Err(SysError::new("reset SIGCHLD", Errno::last()));
    }
    Ok(before == libc::SIG_IGN)
}

/// All signals of this process, as they come.
pub struct SignalFd {
    fd: OwnedFd,
}

impl SignalFd {
    /// Opens it for every signal that [`block_all`] blocked.
    ///
    /// # Errors
    ///
    /// Of signalfd(2): no descriptor or no memory left.
    pub fn open() -> Result<SignalFd, SysError> {
        let all = trappable_set();
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the pointer is to a set of ours; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const all, flags) };
        check("open a signalfd", fd.into())?;
        // SAFETY: the call returned a new descriptor that nobody else owns.
        Ok(SignalFd { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Reads the signals that are pending, at most [`BATCH`]; appends them to `signals`.
    ///
    /// # Errors
    ///
    /// Of read(2), except that nothing is pending.
    pub fn read(&self, signals: &mut Vec<RawSignal>) -> Result<(), SysError> {
        // Mostly there is one, and a large buffer is pages of the stack that were never touched.
        if self.read_at_most::<FEW>(signals)? == FEW {
            // Those in hand count; what fails now fails at the next read, too.
            self.read_at_most::<BATCH>(signals).ok();
        }
        Ok(())
    }

    #[inline(never)]
    fn read_at_most<const MOST: usize>(
        &self,
        signals: &mut Vec<RawSignal>,
    ) -> Result<usize, SysError> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut batch = [MaybeUninit::<libc::signalfd_siginfo>::uninit(); MOST];
        let fd = self.fd.as_raw_fd();
        // SAFETY: the buffer is ours and as long as the length says.
        let result = unsafe { libc::read(fd, batch.as_mut_ptr().cast(), SIZE * MOST) };
        let length = match check("read a signalfd", result as libc::c_long) {
            Err(error) if matches!(error.source, Errno::EAGAIN | Errno::EINTR) => return Ok(0),
            other => other?,
        };
        let count = length.unsigned_abs() as usize / SIZE;
        for raw in &batch[..count] {
            // SAFETY: the kernel fills whole structs only, and it filled this one.
            let info = unsafe { raw.assume_init_ref() };
            signals.extend(decode(info));
        }
        Ok(count)
    }
}

impl SignalFd {
    /// Reads what is pending and returns whether one of those asks us to stop: for the end of the
    /// run, where nothing else is done with signals.
    #[must_use]
    pub fn ask_to_stop(&self) -> bool {
        let mut batch = Vec::new();
        self.read(&mut batch).is_ok() && batch.iter().any(|raw| raw.signal.asks_to_stop())
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `None` for a number that signal(7) does not know, which no kernel sends.
fn decode(info: &libc::signalfd_siginfo) -> Option<RawSignal> {
    let signal = Signal::new(i32::try_from(info.ssi_signo).ok()?)?;
    let origin = origin(signal, info.ssi_code);
    let is_from_process = matches!(origin, Origin::Kill | Origin::Queue | Origin::Thread);
    Some(RawSignal {
        signal,
        origin,
        pid: if is_from_process { i32::try_from(info.ssi_pid).unwrap_or(0) } else { 0 },
        uid: info.ssi_uid,
        value: (origin == Origin::Queue).then_some(info.ssi_int),
    })
}

/// Names `si_code` (sigaction(2)).
pub(super) fn origin(signal: Signal, code: i32) -> Origin {
    match code {
        libc::SI_USER => Origin::Kill,
        libc::SI_QUEUE => Origin::Queue,
        libc::SI_TKILL => Origin::Thread,
        libc::SI_KERNEL => Origin::Kernel,
        libc::SI_TIMER => Origin::Timer,
        libc::SI_MESGQ | libc::SI_ASYNCIO | libc::SI_SIGIO => Origin::Descriptor,
        libc::CLD_EXITED..=libc::CLD_CONTINUED if signal == Signal::CHLD => Origin::Child,
        other => Origin::Other(other),
    }
}

/// Sends a signal to the process behind a pidfd, with an integer as sigqueue(3) does if there is
/// one. That a process has ended is not an error: the answer is then `false`.
///
/// # Errors
///
/// Of pidfd_send_signal(2): no permission, or the queue of real-time signals is full.
pub fn send(pidfd: BorrowedFd<'_>, signal: Signal, value: Option<i32>) -> Result<bool, SysError> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let info_pointer = match value {
        None => ptr::null(),
        Some(value) => {
            let queued = Queued {
                signo: signal.number(),
                errno: 0,
                code: libc::SI_QUEUE,
                pad: 0,
                pid: nix::unistd::getpid().as_raw(),
                uid: nix::unistd::getuid().as_raw(),
                value: value as libc::c_long,
            };
            // SAFETY: a siginfo_t is 128 bytes and aligned for the smaller struct.
            unsafe { ptr::write(info.as_mut_ptr().cast(), queued) };
            info.as_ptr()
        }
    };
    // SAFETY: the info is null or a whole siginfo_t; the descriptor is borrowed for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal.number(),
            info_pointer,
            0,
        )
    };
    match check("send a signal", result) {
        Ok(_) => Ok(true),
        Err(error) if error.source == Errno::ESRCH => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sends a signal to a child of ours by its number, which stays its own until we reap it. The
/// caller is the thread that reaps, and has made sure by [`wait::look_at`](crate::sys::wait::look_at)
/// that it did not yet. For where [`send`] is refused: by a seccomp filter, or without descriptors.
///
/// # Errors
///
/// Of kill(2) and sigqueue(3).
pub fn send_to_child(pid: Pid, signal: Signal, value: Option<i32>) -> Result<bool, SysError> {
    let result = match value {
        // SAFETY: plain integers.
        None => unsafe { libc::kill(pid.0, signal.number()) },
        Some(value) => {
            let value = libc::sigval { sival_ptr: ptr::without_provenance_mut(value as usize) };
            // SAFETY: plain integers; nobody follows the pointer.
            unsafe { libc::sigqueue(pid.0, signal.number(), value) }
        }
    };
    match check("send a signal", result.into()) {
        Ok(_) => Ok(true),
        Err(error) if error.source == Errno::ESRCH => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sends a signal to the process group of a child of ours that leads one and that we have not reaped.
///
/// # Errors
///
/// Of kill(2).
pub fn send_to_group(leader: Pid, signal: Signal) -> Result<(), SysError> {
    // SAFETY: plain integers.
    let result = unsafe { libc::kill(-leader.0, signal.number()) };
    check("send a signal", result.into()).map(drop)
}

/// The beginning of a siginfo_t made by sigqueue(3), on 64-bit Linux.
#[repr(C)]
struct Queued {
    signo: i32,
    errno: i32,
    code: i32,
    pad: i32,
    pid: i32,
    uid: u32,
    value: libc::c_long,
}

/// Opens a pidfd for a process (pidfd_open(2)); `None` if there is no such process.
#[must_use]
pub fn open_pidfd(pid: Pid) -> Option<OwnedFd> {
    // SAFETY: plain integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.0, 0) };
    let fd = check("open a pidfd", fd).ok()?;
    // SAFETY: the call returned a new descriptor, close-on-exec, that nobody else owns.
    Some(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_si_code_of_the_manual_has_its_name() {
        let of = |code| origin(Signal::TERM, code);
        assert_eq!(of(libc::SI_USER), Origin::Kill);
        assert_eq!(of(libc::SI_TKILL), Origin::Thread);
        assert_eq!(of(libc::SI_QUEUE), Origin::Queue);
        assert_eq!(of(libc::SI_KERNEL), Origin::Kernel);
        assert_eq!(of(libc::CLD_EXITED), Origin::Other(libc::CLD_EXITED));
        assert_eq!(origin(Signal::CHLD, libc::CLD_EXITED), Origin::Child);
    }

    #[test]
    fn a_queued_siginfo_has_the_kernels_layout() {
        use std::mem::offset_of;
        assert_eq!(offset_of!(Queued, code), 8);
        assert_eq!(offset_of!(Queued, pid), 16);
        assert_eq!(offset_of!(Queued, value), 24);
    }
}
