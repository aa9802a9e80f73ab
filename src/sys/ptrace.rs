//! Tracing of the job's threads (ptrace(2)), by PTRACE_SEIZE only: nothing is stopped by being attached to.
//!
//! A thread is traced by the thread that seized it, so nothing here can be sent to another one. No
//! PTRACE_O_EXITKILL and no PTRACE_O_TRACEEXIT: if we die, the job goes on untraced, and if we hang, a process that
//! was killed still ends.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;

use nix::errno::Errno;

use crate::model::process::Pid;
use crate::model::signal::Origin;
use crate::model::trace_stop::TraceStop;
use crate::sys::signals::{self, RawSignal};

/// No architecture has more general registers.
const REGISTER_WORDS: usize = 64;

/// Traces a process of one thread from now on; it is not stopped. With `follows`, each thread and each process
/// that it makes is traced as well.
///
/// # Errors
///
/// EPERM: see [`refusal`].
pub(super) fn seize(pid: Pid, follows: bool) -> Result<(), Errno> {
    let descendants =
        libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK | libc::PTRACE_O_TRACECLONE;
    let options = libc::PTRACE_O_TRACEEXEC | if follows { descendants } else { 0 };
    let options = usize::try_from(options).unwrap_or(0);
    // SAFETY: plain numbers.
    check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid.0, ptr::null_mut::<()>(), options) })
}

fn check(result: libc::c_long) -> Result<(), Errno> {
    if result < 0 { Err(Errno::last()) } else { Ok(()) }
}

/// Returns what forbids tracing here, as far as settings say.
#[must_use]
pub fn obstacle() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    obstacle_words(&status, scope.trim())
}

/// Says in words why tracing was refused.
#[must_use]
pub fn refusal(errno: Errno) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    refusal_words(errno, &status, scope.trim())
}

fn refusal_words(errno: Errno, status: &str, scope: &str) -> String {
    let seccomp = field(status, "Seccomp:") == Some("2");
    let may = || "a seccomp filter, such as that of a container, may forbid it".to_owned();
    match obstacle_words(status, scope).or_else(|| seccomp.then(may)) {
        Some(reason) => format!("{reason} (ptrace(2): {})", errno.desc()),
        None => format!("ptrace(2): {}", errno.desc()),
    }
}

/// The bit of CAP_SYS_PTRACE in the masks of capabilities.
const CAP_SYS_PTRACE: u32 = 19;

fn obstacle_words(status: &str, scope: &str) -> Option<String> {
    let capabilities = field(status, "CapEff:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    let is_capable = capabilities.is_some_and(|mask| mask >> CAP_SYS_PTRACE & 1 == 1);
    match (field(status, "TracerPid:"), scope) {
        (Some(tracer), _) if tracer != "0" => {
            Some(format!("process {tracer} traces childminder, and what it starts, already"))
        }
        (_, "2") if !is_capable => {
            Some("kernel.yama.ptrace_scope is 2: only root may trace".to_owned())
        }
        (_, "3") => Some("kernel.yama.ptrace_scope is 3: nobody may trace".to_owned()),
        _ => None,
    }
}

/// Returns a field of /proc/PID/status.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// Returns whether that is a thread of that process, and both are there (tgkill(2) with signal 0 looks only).
#[must_use]
pub fn is_thread_of(thread: Pid, process: Pid) -> bool {
    // SAFETY: plain numbers.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, process.0, thread.0, 0) };
    check(result) != Err(Errno::ESRCH)
}

/// A traced thread that waits for our answer, which [`resume`](Stopped::resume), [`listen`](Stopped::listen) or
/// [`detach`](Stopped::detach) gives. Dropped, as in a panic, it goes on as if it was not traced.
///
/// That the thread has gone meanwhile, by SIGKILL or because another one executed a program, is not an error anywhere:
/// waitid(2) reports what became of it.
#[must_use = "the thread stays stopped until it is answered"]
#[derive(Debug)]
pub struct Stopped {
    thread: Pid,
    stop: TraceStop,
    /// ptrace(2) works on the thread that traces only.
    _of_this_thread: PhantomData<*const ()>,
}

impl Stopped {
    /// Takes over a stop that waitid(2) reported on this thread and that nobody has answered yet. What is not true of
    /// it makes the calls fail, and nothing else.
    pub fn new(thread: Pid, stop: TraceStop) -> Stopped {
        Stopped { thread, stop, _of_this_thread: PhantomData }
    }

    #[must_use]
    pub fn thread(&self) -> Pid {
        self.thread
    }

    #[must_use]
    pub fn stop(&self) -> TraceStop {
        self.stop
    }

    /// Returns the words of NT_PRSTATUS: `user_regs_struct` of x86_64, `user_pt_regs` of aarch64.
    #[must_use]
    pub fn registers(&self) -> Option<Vec<u64>> {
        let mut words = vec![0_u64; REGISTER_WORDS];
        let mut area = libc::iovec {
            iov_base: words.as_mut_ptr().cast(),
            iov_len: words.len() * size_of::<u64>(),
        };
        // As wide as a pointer, which the C library takes.
        let which = usize::try_from(libc::NT_PRSTATUS).ok()?;
        // SAFETY: the area is ours, and has the length that it says.
        let result =
            unsafe { libc::ptrace(libc::PTRACE_GETREGSET, self.thread.0, which, &raw mut area) };
        check(result).ok()?;
        // The kernel says how much it filled in: less for a 32-bit program.
        words.truncate(area.iov_len / size_of::<u64>());
        Some(words)
    }

    /// Returns what the kernel says about the signal that is being delivered: with `si_code`, and the address of a
    /// fault.
    #[must_use]
    pub fn signal(&self) -> Option<(RawSignal, i32, Option<u64>)> {
        let TraceStop::Signal(signal) = self.stop else { return None };
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let null = ptr::null_mut::<()>();
        // SAFETY: the pointer is to memory for one siginfo.
        let result = unsafe {
            libc::ptrace(libc::PTRACE_GETSIGINFO, self.thread.0, null, info.as_mut_ptr())
        };
        check(result).ok()?;
        // SAFETY: it was zeroed, and every bit pattern is a siginfo.
        let info = unsafe { info.assume_init() };
        let code = info.si_code;
        let origin = signals::origin(signal, code);
        let is_from_process = matches!(origin, Origin::Kill | Origin::Queue | Origin::Thread);
        // SAFETY: with these codes it is the sender; else it is not used.
        let pid = unsafe { info.si_pid() };
        // SAFETY: as above.
        let uid = unsafe { info.si_uid() };
        // SAFETY: with a code of a fault it is the address; else it is not used.
        let address = unsafe { info.si_addr() }.addr() as u64;
        // SAFETY: with the code of sigqueue(3) it is its value; else it is not used.
        let value = unsafe { info.si_value() }.sival_ptr.addr() as i32;
        let raw = RawSignal {
            signal,
            origin,
            pid: if is_from_process { pid } else { 0 },
            uid: if is_from_process { uid } else { 0 },
            value: (origin == Origin::Queue).then_some(value),
        };
        Some((raw, code, (signal.is_fault() && code > 0).then_some(address)))
    }

    /// Returns the thread that an event is about: the new one, or the one that executed a program.
    #[must_use]
    pub fn message(&self) -> Option<Pid> {
        let mut message: libc::c_ulong = 0;
        let (null, pointer) = (ptr::null_mut::<()>(), &raw mut message);
        // SAFETY: the pointer is to one number of ours.
        let result =
            unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, self.thread.0, null, pointer) };
        check(result).ok()?;
        i32::try_from(message).ok().filter(|number| *number > 0).map(Pid)
    }

    /// Lets it go on: the signal that was to be delivered is.
    pub fn resume(self) {
        drop(self);
    }

    /// Leaves it stopped with its process until SIGCONT; only for [`TraceStop::Group`].
    pub fn listen(self) {
        drop(self);
    }

    /// Lets it go on, and traces it no longer.
    pub fn detach(self) {
        self.answer(true);
        std::mem::forget(self);
    }

    /// A failure means that the thread has gone.
    fn answer(&self, is_released: bool) {
        let signal = match self.stop {
            TraceStop::Signal(signal) => signal.number(),
            _ => 0,
        };
        let signal = usize::try_from(signal).unwrap_or(0);
        let request = match self.stop {
            _ if is_released => libc::PTRACE_DETACH,
            TraceStop::Group(_) => libc::PTRACE_LISTEN,
            _ => libc::PTRACE_CONT,
        };
        // SAFETY: plain numbers.
        unsafe { libc::ptrace(request, self.thread.0, ptr::null_mut::<()>(), signal) };
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.answer(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::outcome::{Termination, WaitStatus};
    use crate::model::signal::Signal;
    use crate::sys::wait::{self, Waited};

    /// A shell that waits for a line, traced.
    #[expect(clippy::disallowed_methods, reason = "a child of the test's own")]
    fn traced(script: &str) -> (std::process::Child, Pid) {
        let mut shell = std::process::Command::new("sh");
        let shell = shell.args(["-c", &format!("read go; {script}")]);
        let shell = shell.stdin(std::process::Stdio::piped()).spawn().expect("sh starts");
        let pid = Pid(shell.id().cast_signed());
        seize(pid, false).expect("our own child");
        (shell, pid)
    }

    /// The next change of that child. It may have been seized before it was the shell.
    fn next(pid: Pid) -> WaitStatus {
        loop {
            let waited = wait::await_change(pid).expect("waitid");
            let Waited::Changed(_, status) = waited else { panic!("{waited:?}") };
            let WaitStatus::Traced(stop) = status else { return status };
            if stop != TraceStop::Exec {
                return status;
            }
            Stopped::new(pid, stop).resume();
        }
    }

    #[test]
    fn a_signal_to_itself_names_its_sender_and_is_delivered() {
        let (mut shell, pid) = traced("kill -USR1 $$");
        drop(shell.stdin.take());
        let WaitStatus::Traced(stop) = next(pid) else { panic!("not traced") };
        let usr1: Signal = "USR1".parse().expect("a signal");
        assert_eq!(stop, TraceStop::Signal(usr1));
        let stopped = Stopped::new(pid, stop);
        let (raw, code, address) = stopped.signal().expect("siginfo");
        assert_eq!((raw.pid, raw.origin, code, address), (pid.0, Origin::Kill, 0, None));
        stopped.resume();
        let end = Termination::Signaled { signal: usr1, core_dumped: false };
        assert_eq!(next(pid), WaitStatus::Ended(end));
        assert_eq!(wait::reap(pid).map(|(end, _)| end), Some(end));
    }

    #[test]
    fn a_stopped_process_stays_so_until_it_is_continued() {
        let (mut shell, pid) = traced("kill -STOP $$; exit 7");
        drop(shell.stdin.take());
        let mut seen = Vec::new();
        loop {
            match next(pid) {
                WaitStatus::Traced(stop @ TraceStop::Group(_)) => {
                    seen.push(stop);
                    Stopped::new(pid, stop).listen();
                    // SAFETY: plain numbers; the child is not reaped.
                    unsafe { libc::kill(pid.0, libc::SIGCONT) };
                }
                WaitStatus::Traced(stop) => {
                    seen.push(stop);
                    Stopped::new(pid, stop).resume();
                }
                other => {
                    assert_eq!(other, WaitStatus::Ended(Termination::Exited(7)));
                    break;
                }
            }
        }
        let (stop, group) = (TraceStop::Signal(Signal::STOP), TraceStop::Group(Signal::STOP));
        assert_eq!(seen, [stop, group, TraceStop::Trap, TraceStop::Signal(Signal::CONT)]);
        assert!(wait::reap(pid).is_some());
    }

    #[test]
    fn a_thread_that_is_not_answered_goes_on_and_so_does_one_that_is_detached() {
        for is_detached in [false, true] {
            let (mut shell, pid) = traced("kill -WINCH $$; exit 7");
            drop(shell.stdin.take());
            let WaitStatus::Traced(stop) = next(pid) else { panic!("not traced") };
            let stopped = Stopped::new(pid, stop);
            if is_detached {
                stopped.detach()
            } else {
                drop(stopped)
            }
            assert_eq!(next(pid), WaitStatus::Ended(Termination::Exited(7)));
            assert!(wait::reap(pid).is_some());
        }
    }

    #[test]
    fn a_thread_is_of_its_own_process_only() {
        let ourselves = Pid(nix::unistd::getpid().as_raw());
        let thread = Pid(nix::unistd::gettid().as_raw());
        assert!(is_thread_of(thread, ourselves) && is_thread_of(ourselves, ourselves));
        assert!(!is_thread_of(Pid(1), ourselves) && !is_thread_of(ourselves, Pid(1)));
    }

    #[test]
    fn a_refusal_names_its_reason() {
        let words = |status, scope| refusal_words(Errno::EPERM, status, scope);
        let free = "TracerPid:\t0\nSeccomp:\t0\n";
        assert_eq!(words(free, "1"), "ptrace(2): Operation not permitted");
        assert!(words(free, "2").starts_with("kernel.yama.ptrace_scope is 2: only root"));
        assert!(words(free, "3").starts_with("kernel.yama.ptrace_scope is 3: nobody"));
        assert!(words("TracerPid:\t0\nSeccomp:\t2\n", "").starts_with("a seccomp filter"));
        assert!(words("TracerPid:\t77\nSeccomp:\t2\n", "2").starts_with("process 77 traces"));
    }
}
