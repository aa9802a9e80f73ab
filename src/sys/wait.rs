//! What became of our children (waitid(2)): looking first, reaping later, with their own rusage.

use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use nix::errno::Errno;

use crate::model::outcome::{Termination, WaitStatus, from_wait_status};
use crate::model::process::Pid;
use crate::model::signal::Signal;
use crate::model::usage::ResourceUsage;
use crate::sys::SysError;

const CHANGES: libc::c_int = libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG;

/// The answer of one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waited {
    Changed(Pid, WaitStatus),
    /// There are children, and none has changed.
    Nothing,
    /// There is no child to wait for (ECHILD).
    NoChild,
}

/// Looks which child changed, without taking it: a zombie stays to be examined (WNOWAIT).
///
/// # Errors
///
/// None that waitid(2) lists can occur, except those that [`Waited`] names.
pub fn look() -> Result<Waited, SysError> {
    let (waited, _) = wait(libc::P_ALL, 0, CHANGES | libc::WNOWAIT)?;
    Ok(waited)
}

/// Looks at that child only; see [`look`].
///
/// # Errors
///
/// As [`look`].
pub fn look_at(pid: Pid) -> Result<Waited, SysError> {
    let (waited, _) = wait(libc::P_PID, pid.0.unsigned_abs(), CHANGES | libc::WNOWAIT)?;
    Ok(waited)
}

/// Takes the news that that child was stopped or continued; its end stays as it is.
///
/// # Errors
///
/// As [`look`].
pub fn take_stop(pid: Pid) -> Result<Waited, SysError> {
    let (waited, _) = wait(libc::P_PID, pid.0.unsigned_abs(), CHANGES & !libc::WEXITED)?;
    Ok(waited)
}

/// Looks which child or traced thread has stopped, and takes nothing. A traced thread need not be taken either: it is
/// reported until it is answered. Were it taken, and we killed before the answer, its signal would be lost.
///
/// Continuations are not looked for: that news is the parent's, and a tracer would take it from him. A traced thread
/// reports it in another way.
///
/// # Errors
///
/// As [`look`].
pub fn look_for_stop() -> Result<Waited, SysError> {
    let (waited, _) = wait(libc::P_ALL, 0, libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT)?;
    Ok(waited)
}

/// Looks which child or traced thread has ended, and takes nothing.
///
/// # Errors
///
/// As [`look`].
pub fn look_for_end() -> Result<Waited, SysError> {
    let (waited, _) = wait(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)?;
    Ok(waited)
}

/// Waits until that child has stopped or ended, and takes nothing.
///
/// # Errors
///
/// As [`look`].
pub(super) fn await_change(pid: Pid) -> Result<Waited, SysError> {
    let options = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT;
    let (waited, _) = wait(libc::P_PID, pid.0.unsigned_abs(), options)?;
    Ok(waited)
}

/// Takes the change of that child; a zombie is reaped, and its rusage is its own and that of the
/// children that it waited for.
///
/// # Errors
///
/// As [`look`].
pub fn take(pid: Pid) -> Result<(Waited, ResourceUsage), SysError> {
    wait(libc::P_PID, pid.0.unsigned_abs(), CHANGES)
}

/// Reaps that child if it has ended (wait4(2)): for when waitid(2) fails, as in a sandbox that does
/// not know it. `None` if it has not ended, or if this call fails as well.
#[must_use]
pub fn reap(pid: Pid) -> Option<(Termination, ResourceUsage)> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to memory for one value of their type.
    let reaped = unsafe { libc::wait4(pid.0, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    if reaped != pid.0 {
        return None;
    }
    let end = if libc::WIFSIGNALED(status) {
        let core_dumped = libc::WCOREDUMP(status);
        Termination::Signaled { signal: Signal::new(libc::WTERMSIG(status))?, core_dumped }
    } else {
        Termination::Exited((libc::WEXITSTATUS(status) & 0xff) as u8)
    };
    // SAFETY: it was zeroed, and every bit pattern is an rusage.
    Some((end, from_rusage(&unsafe { usage.assume_init() })))
}

/// Returns whether there is no child to wait for, as wait4(2) says: for when waitid(2) fails. Children
/// that have ended are reaped.
#[must_use]
pub fn is_childless() -> bool {
    loop {
        // SAFETY: null pointers ask for neither status nor usage.
        match unsafe { libc::wait4(-1, ptr::null_mut(), libc::WNOHANG, ptr::null_mut()) } {
            1.. => {}
            0 => return false,
            _ => return Errno::last() == Errno::ECHILD,
        }
    }
}

/// The raw call: the C library's waitid has no rusage.
fn wait(
    which: libc::idtype_t,
    id: libc::id_t,
    options: libc::c_int,
) -> Result<(Waited, ResourceUsage), SysError> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to memory for one struct of that type.
        let result = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                which,
                id,
                info.as_mut_ptr(),
                options,
                usage.as_mut_ptr(),
            )
        };
        if result == 0 {
            break;
        }
        match Errno::last() {
            Errno::EINTR => {}
            Errno::ECHILD => return Ok((Waited::NoChild, ResourceUsage::default())),
            errno => return Err(SysError::new("wait for a child", errno)),
        }
    }
    // SAFETY: it was zeroed, and every bit pattern is a siginfo.
    let info = unsafe { info.assume_init() };
    // SAFETY: it was zeroed, and every bit pattern is an rusage.
    let usage = unsafe { usage.assume_init() };
    // SAFETY: after waitid these are the fields that are set; zero if nothing changed.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let waited = match from_wait_status(info.si_code, status) {
        Some(status) if pid > 0 => Waited::Changed(Pid(pid), status),
        _ => Waited::Nothing,
    };
    Ok((waited, from_rusage(&usage)))
}

/// Returns what this process itself has used (getrusage(2)): for `-f`, where the work is ours. The
/// peak of memory is that of this program: the kernel's is that of the one that executed it, too.
#[must_use]
pub fn own_usage() -> ResourceUsage {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to memory for one rusage; with this argument it cannot fail.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    // SAFETY: it was zeroed, and every bit pattern is an rusage.
    let mut usage = from_rusage(&unsafe { usage.assume_init() });
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    if let Some(peak) = peak.and_then(|number| number.parse().ok()) {
        usage.max_rss_kib = peak;
    }
    usage
}

fn from_rusage(usage: &libc::rusage) -> ResourceUsage {
    // The kernel's counts are never negative.
    let count = |value: libc::c_long| value.unsigned_abs();
    let span = |time: libc::timeval| {
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_usec.unsigned_abs() as u32 * 1_000)
    };
    ResourceUsage {
        user: span(usage.ru_utime),
        system: span(usage.ru_stime),
        max_rss_kib: count(usage.ru_maxrss),
        minor_faults: count(usage.ru_minflt),
        major_faults: count(usage.ru_majflt),
        input_blocks: count(usage.ru_inblock),
        output_blocks: count(usage.ru_oublock),
        voluntary_switches: count(usage.ru_nvcsw),
        involuntary_switches: count(usage.ru_nivcsw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a child of the test's own")]
    #[expect(clippy::zombie_processes, reason = "it is reaped by what is tested")]
    fn a_child_is_reaped_without_waitid() {
        let mut shell = std::process::Command::new("sh");
        let shell = shell.args(["-c", "read x; kill -9 $$"]).stdin(std::process::Stdio::piped());
        let mut shell = shell.spawn().expect("sh starts");
        let pid = Pid(shell.id().cast_signed());
        assert_eq!(reap(pid), None, "it waits for a line");
        drop(shell.stdin.take());
        let end = loop {
            if let Some((end, _)) = reap(pid) {
                break end;
            }
            std::thread::yield_now();
        };
        assert_eq!(end, Termination::Signaled { signal: Signal::KILL, core_dumped: false });
        assert_eq!(reap(pid), None, "once");
    }

    #[test]
    fn a_process_that_is_not_a_child_of_ours_has_no_status_to_lose() {
        let (waited, _) = take(Pid(1)).expect("ECHILD is an answer");
        assert_eq!(waited, Waited::NoChild);
    }
}
