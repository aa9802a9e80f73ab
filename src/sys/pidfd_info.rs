//! What processes died of that are not our children (PIDFD_GET_INFO of linux/pidfd.h, Linux 6.15).
//!
//! The kernel keeps the exit status of a process for whoever held it by a pidfd before it was
//! reaped. Holding keeps no zombie and no pid, only a descriptor of ours. Which to hold, and when
//! to ask, `run` decides.

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::model::outcome::{Termination, WaitStatus, from_wait_status};
use crate::model::process::{Pid, ProcessKey};
use crate::sys::{SysError, check, reaper, signals};

/// PIDFD_INFO_EXIT: the exit status is wanted, and is in the answer.
const EXIT: u64 = 1 << 3;

/// The first kernel that keeps the status. Its forerunners have the call and never that answer,
/// which looks like a process that has not ended yet.
const SINCE: (u32, u32) = (6, 15);

/// A `struct pidfd_info` in its first form, which every kernel with the call takes.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup_id: u64,
    /// Pids, and four kinds of user and group ids.
    ids: [u32; 11],
    exit_code: i32,
}

const GET_INFO: libc::Ioctl = libc::_IOWR::<Info>(0xff, 11);

/// A process that is held, alive or not.
pub struct HeldProcess {
    pidfd: OwnedFd,
}

/// What is known of the end of a process that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It lives, or nobody has waited for it yet.
    NotYet,
    /// It was reaped, and this was its end.
    Known(Termination),
    /// It was reaped, and the kernel does not say more.
    Unknown,
}

/// Tries whether the kernel reports the ends of other processes.
///
/// # Errors
///
/// Of pidfd_open(2) and ioctl(2): ENOTTY before Linux 6.13, and made up for 6.13 and 6.14.
pub fn probe() -> Result<(), SysError> {
    let action = "ask by PIDFD_GET_INFO";
    let own = signals::open_pidfd(Pid(nix::unistd::getpid().as_raw()));
    ask(own.ok_or_else(|| SysError::new(action, Errno::last()))?.as_fd())?;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let is_new = version(&release).is_some_and(|version| version >= SINCE);
    if is_new { Ok(()) } else { Err(SysError::new(action, Errno::ENOTSUP)) }
}

/// Reads the first two numbers of a release such as `6.18.44-fc`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Holds a process; `None` if it has gone, also if its pid is another one's by now.
#[must_use]
pub fn hold(key: ProcessKey) -> Option<HeldProcess> {
    let pidfd = signals::open_pidfd(key.pid)?;
    // After the opening: what has that start time now is what was opened.
    (reaper::key(key.pid)? == key).then_some(HeldProcess { pidfd })
}

impl HeldProcess {
    /// Returns what became of it.
    #[must_use]
    pub fn end(&self) -> End {
        match ask(self.pidfd.as_fd()) {
            Ok(info) if info.mask & EXIT == 0 => End::NotYet,
            Ok(info) => termination(info.exit_code).map_or(End::Unknown, End::Known),
            Err(_) => End::Unknown,
        }
    }
}

fn ask(pidfd: BorrowedFd<'_>) -> Result<Info, SysError> {
    let mut info = Info { mask: EXIT, ..Info::default() };
    // SAFETY: the request has the size of the struct in it, and the pointer is to one of ours.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO, &raw mut info) };
    check("ask by PIDFD_GET_INFO", result.into())?;
    Ok(info)
}

/// Reads the form of a wait status (wait(2)).
pub(super) fn termination(status: i32) -> Option<Termination> {
    let (code, number) = match status & 0x7f {
        0 => (libc::CLD_EXITED, status >> 8 & 0xff),
        signal if status & 0x80 != 0 => (libc::CLD_DUMPED, signal),
        signal => (libc::CLD_KILLED, signal),
    };
    match from_wait_status(code, number)? {
        WaitStatus::Ended(end) => Some(end),
        WaitStatus::Stopped(_) | WaitStatus::Continued | WaitStatus::Traced(_) => None,
    }
}

// What the kernel demands at least (PIDFD_INFO_SIZE_VER0).
const _: () = assert!(size_of::<Info>() == 64);

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::model::signal::Signal;

    #[test]
    fn a_wait_status_is_read_as_the_manual_has_it() {
        let signaled = |signal, core_dumped| Some(Termination::Signaled { signal, core_dumped });
        assert_eq!(termination(42 << 8), Some(Termination::Exited(42)));
        assert_eq!(termination(9), signaled(Signal::KILL, false));
        assert_eq!(termination(0x8b), signaled(Signal::SEGV, true));
    }

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(version("6.18.44-fc-v657\n"), Some((6, 18)));
        assert_eq!(version("6.9-rc1"), Some((6, 9)));
        assert!(version("6.9.0") < Some(SINCE) && version("7.0") >= Some(SINCE));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "processes of the test's own")]
    fn the_end_of_a_grandchild_is_reported_when_its_parent_has_reaped_it() {
        let mut shell = Command::new("sh");
        // What runs in the background has /dev/null as its input, unless it is given another.
        let script = "exec 3<&0; sh -c 'read x <&3; kill -KILL $$' & echo $!; wait; \
             echo over; read x";
        shell.args(["-c", script]);
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let pid: i32 = lines.next().unwrap().unwrap().parse().unwrap();
        let key = reaper::key(Pid(pid)).unwrap();
        let other = ProcessKey { start_ticks: key.start_ticks + 1, ..key };
        assert!(hold(other).is_none(), "another process of that pid");
        let held = hold(key).unwrap();
        let is_supported = probe().is_ok();
        if is_supported {
            assert_eq!(held.end(), End::NotYet);
        }
        std::io::Write::write_all(&mut shell.stdin.as_ref().unwrap(), b"\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "over");
        if is_supported {
            let end = Termination::Signaled { signal: Signal::KILL, core_dumped: false };
            assert_eq!(held.end(), End::Known(end));
        } else {
            // The harness shows nothing of a test that passes, but this goes past it.
            let text = b"SKIPPED: PIDFD_GET_INFO: this kernel does not report the ends of others\n";
            std::io::Write::write_all(&mut std::io::stderr(), text).unwrap();
        }
        assert!(hold(key).is_none(), "it has gone");
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }
}
