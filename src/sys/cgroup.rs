//! A cgroup of its own for each attempt, where we may make one (cgroups(7)): then the whole tree
//! is ended by one write, and proven gone by one read.
//!
//! An unprivileged user may where a manager delegated a cgroup to him and started childminder in
//! it. Everywhere else the tree walk of `reaper` serves.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::process::Pid;
use crate::sys::clock;

/// The cgroup of one attempt. Removed when dropped; one that is still populated stays.
///
/// It is never used again: on some kernels what is born into a cgroup that was killed once is
/// killed at birth.
pub struct AttemptCgroup {
    path: PathBuf,
    procs: OwnedFd,
}

impl AttemptCgroup {
    /// Makes one below our own, named after our pid and the attempt; `None` where we may not.
    #[must_use]
    pub fn create(attempt: u32) -> Option<AttemptCgroup> {
        let mounts = fs::read("/proc/self/mountinfo").ok()?;
        let groups = fs::read("/proc/self/cgroup").ok()?;
        let own = own_directory(&mounts, &groups)?;
        let name = format!("childminder-{}-{attempt}", std::process::id());
        let path = own.join(name);
        fs::create_dir(&path).ok()?;
        let usable = fs::exists(path.join("cgroup.kill")).unwrap_or(false);
        match fs::OpenOptions::new().write(true).open(path.join("cgroup.procs")) {
            Ok(procs) if usable => Some(AttemptCgroup { path, procs: procs.into() }),
            // A kernel before 5.14 cannot kill it at once: then it is of no use here.
            _ => {
                fs::remove_dir(&path).ok()?;
                None
            }
        }
    }

    /// Returns `cgroup.procs`, for the child to enter by.
    #[must_use]
    pub fn procs(&self) -> BorrowedFd<'_> {
        self.procs.as_fd()
    }

    /// Sends SIGKILL to all that is in it, including what is being forked.
    ///
    /// # Errors
    ///
    /// Of the write to `cgroup.kill`.
    pub fn kill(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }

    /// Returns what is in it, also what no longer descends from us.
    #[must_use]
    pub fn pids(&self) -> Vec<Pid> {
        let procs = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        procs.lines().filter_map(|line| line.parse().ok()).map(Pid).collect()
    }
}

/// A process that is dead leaves its cgroup within this time.
const LAST_EXIT_MAX: Duration = Duration::from_millis(20);

impl Drop for AttemptCgroup {
    fn drop(&mut self) {
        // What was killed is on its way out for a moment yet. One that stays populated cannot be
        // removed; what is in it outlives us on purpose.
        let deadline = clock::now() + LAST_EXIT_MAX;
        while fs::remove_dir(&self.path).is_err()
            && self.pids().is_empty()
            && clock::now() < deadline
        {
            std::thread::yield_now();
        }
    }
}

/// Finds the directory of our cgroup in the hierarchy of version 2, wherever it is mounted.
fn own_directory(mountinfo: &[u8], cgroup: &[u8]) -> Option<PathBuf> {
    let own = lines(cgroup).find_map(|line| line.strip_prefix(b"0::/"))?;
    let (root, mount_point) = lines(mountinfo).find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (root, mount_point) = (fields.nth(3)?, fields.next()?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        (kind == b"cgroup2").then_some((root, mount_point))
    })?;
    // A mount may show a part of the hierarchy only, as in a container.
    let root = root.strip_prefix(b"/")?;
    let below = own.strip_prefix(root)?;
    let below = below.strip_prefix(b"/").unwrap_or(below);
    Some(Path::new(OsStr::from_bytes(mount_point)).join(OsStr::from_bytes(below)))
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &[u8] =
        b"25 1 8:1 / / rw - ext4 /dev/a rw\n30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
    const HYBRID: &[u8] = b"30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        31 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n";

    fn found(mounts: &[u8], groups: &[u8]) -> Option<String> {
        Some(own_directory(mounts, groups)?.to_str()?.to_owned())
    }

    #[test]
    fn the_own_cgroup_is_found_wherever_version_two_is_mounted() {
        let groups = b"4:memory:/x\n0::/user.slice/a.scope\n";
        let at = |directory: &str| Some(format!("{directory}/user.slice/a.scope"));
        assert_eq!(found(UNIFIED, groups), at("/sys/fs/cgroup"));
        assert_eq!(found(HYBRID, groups), at("/sys/fs/cgroup/unified"));
        assert_eq!(found(HYBRID, b"0::/\n"), Some("/sys/fs/cgroup/unified/".into()));
    }

    #[test]
    fn a_machine_without_version_two_has_none() {
        assert_eq!(found(b"30 25 0:26 / /x rw - cgroup cgroup rw\n", b"0::/a\n"), None);
        assert_eq!(found(UNIFIED, b"4:memory:/x\n"), None);
        assert_eq!(found(b"", b""), None);
    }
}
