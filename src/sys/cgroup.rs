//! A cgroup of its own for each attempt, where we may make one (cgroups(7)): then the whole tree
//! is ended by one write, and proven gone by one read.
//!
//! An unprivileged user may where a manager delegated a cgroup to him and started childminder in
//! it. Everywhere else the tree walk of `reaper` serves.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::process::{Pid, ProcessKey};
use crate::sys::{clock, proc, reaper};

/// What the names of ours begin with; the creator's pid and start time and the attempt follow.
const PREFIX: &str = "childminder-";

/// At most this many cgroups of earlier runs are removed at a time.
const SWEPT_MAX: usize = 256;

/// The cgroup of one attempt. Removed when dropped; one that is still populated stays.
///
/// It is never used again: on some kernels what is born into a cgroup that was killed once is
/// killed at birth.
pub struct AttemptCgroup {
    path: PathBuf,
    procs: OwnedFd,
    /// Whether what is in it was seen to stay.
    has_stayed: Cell<bool>,
}

impl AttemptCgroup {
    /// Makes one below our own; `None` where we may not. One that exists is never taken for ours.
    /// Removes the empty ones of earlier runs, which left processes in them or were killed.
    #[must_use]
    pub fn create(attempt: u32) -> Option<AttemptCgroup> {
        let mounts = fs::read("/proc/self/mountinfo").ok()?;
        let groups = fs::read("/proc/self/cgroup").ok()?;
        let own = own_directory(&mounts, &groups)?;
        let path = own.join(name_of(proc::own_key()?, attempt));
        fs::create_dir(&path).ok()?;
        sweep(&own);
        let usable = fs::exists(path.join("cgroup.kill")).unwrap_or(false);
        match fs::OpenOptions::new().write(true).open(path.join("cgroup.procs")) {
            Ok(procs) if usable => {
                Some(AttemptCgroup { path, procs: procs.into(), has_stayed: Cell::new(false) })
            }
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

    /// Returns whether nothing is left in it or in those that were made below it. The first time, what is on its
    /// way out is waited for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let deadline = clock::now() + LAST_EXIT_MAX;
        while self.is_populated() {
            if self.has_stayed.get() || clock::now() >= deadline {
                self.has_stayed.set(true);
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    fn is_populated(&self) -> bool {
        let events = fs::read_to_string(self.path.join("cgroup.events")).unwrap_or_default();
        events.lines().any(|line| line == "populated 1")
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
        while !remove(&self.path, DEEPEST) && !self.is_populated() && clock::now() < deadline {
            std::thread::yield_now();
        }
    }
}

/// Deeper than any job makes cgroups of its own.
const DEEPEST: u32 = 16;

/// Removes a cgroup and those that the job made below it, unless something is in them.
fn remove(path: &Path, depth: u32) -> bool {
    if fs::remove_dir(path).is_ok() {
        return true;
    }
    let below = fs::read_dir(path).ok().filter(|_| depth > 0);
    for entry in below.into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path(), depth - 1);
        }
    }
    fs::remove_dir(path).is_ok()
}

fn name_of(creator: ProcessKey, attempt: u32) -> String {
    format!("{PREFIX}{}-{}-{attempt}", creator.pid, creator.start_ticks)
}

/// Returns who made the cgroup of that name; `None` if it is not ours.
fn creator(name: &OsStr) -> Option<ProcessKey> {
    let mut numbers = name.to_str()?.strip_prefix(PREFIX)?.splitn(3, '-');
    let pid = Pid(numbers.next()?.parse().ok()?);
    let start_ticks = numbers.next()?.parse().ok()?;
    let attempt = numbers.next()?.parse().ok()?;
    let creator = ProcessKey { pid, start_ticks };
    (name == name_of(creator, attempt).as_str()).then_some(creator)
}

/// Removes cgroups whose creators have gone. A cgroup that is not empty stays.
fn sweep(own: &Path) {
    let entries = fs::read_dir(own).ok().filter(|_| proc::is_usable());
    let is_left = |entry: &fs::DirEntry| {
        creator(&entry.file_name()).is_some_and(|creator| reaper::key(creator.pid) != Some(creator))
    };
    for entry in entries.into_iter().flatten().flatten().filter(is_left).take(SWEPT_MAX) {
        remove(&entry.path(), DEEPEST);
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
    fn a_name_says_who_made_it_and_other_names_say_nobody() {
        let key = ProcessKey { pid: Pid(4121), start_ticks: 98_765 };
        let name = name_of(key, 3);
        assert_eq!(name, "childminder-4121-98765-3");
        assert_eq!(creator(OsStr::new(&name)), Some(key));
        for other in [
            "childminder-4121-3",
            "childminder-test-4121-3",
            "childminder-1-2-3-4",
            "childminder-01-2-3",
            "childminder--2-3",
            "other-1-2-3",
        ] {
            assert_eq!(creator(OsStr::new(other)), None, "{other}");
        }
    }

    #[test]
    fn cgroups_of_creators_that_have_gone_are_removed_and_no_others() {
        let own = tempfile::tempdir().expect("a directory");
        let ourselves = reaper::key(Pid(std::process::id().cast_signed())).expect("ours");
        let gone = ProcessKey { start_ticks: ourselves.start_ticks + 1, ..ourselves };
        let make = |name: &str| fs::create_dir_all(own.path().join(name)).expect("made");
        make(&format!("{}/inner/innermost", name_of(gone, 1)));
        make(&name_of(ourselves, 1));
        make("childminder-1-2");
        make(&name_of(gone, 2));
        fs::write(own.path().join(name_of(gone, 2)).join("busy"), "").expect("not empty");
        sweep(own.path());
        let names = fs::read_dir(own.path()).expect("ours").flatten().map(|one| one.file_name());
        let mut left: Vec<String> = names.flat_map(|name| name.into_string()).collect();
        left.sort();
        let mut expected = [name_of(ourselves, 1), "childminder-1-2".to_owned(), name_of(gone, 2)];
        expected.sort();
        assert_eq!(left, expected);
    }

    #[test]
    fn a_machine_without_version_two_has_none() {
        assert_eq!(found(b"30 25 0:26 / /x rw - cgroup cgroup rw\n", b"0::/a\n"), None);
        assert_eq!(found(UNIFIED, b"4:memory:/x\n"), None);
        assert_eq!(found(b"", b""), None);
    }
}
