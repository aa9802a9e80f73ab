//! The memory side of our cgroup: its OOM counter and limit, and who is in it (cgroups(7), and the
//! kernel's documents on `memory.events` of version 2 and `memory.oom_control` of version 1).
//!
//! Its peak is not read: `memory.peak` and `memory.max_usage_in_bytes` count page cache.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::process::Pid;

/// At most this number of cgroups below ours is looked into.
const BELOW_MAX: usize = 256;

/// The two interfaces of the memory controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    fn events_file(self) -> &'static str {
        match self {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        }
    }
}

/// Our memory cgroup, with the file of its OOM counter held open: it can be read even when the
/// cgroup was renamed or removed meanwhile.
#[derive(Clone)]
pub struct MemoryCgroup {
    directory: PathBuf,
    /// Its path in the hierarchy, for people.
    name: String,
    version: Version,
    events: Arc<File>,
}

impl MemoryCgroup {
    /// Finds the cgroup whose memory controller counts for this process, wherever the
    /// hierarchies are mounted below `root` (`/`); `None` where there is none to be read.
    #[must_use]
    pub fn find(root: &Path) -> Option<MemoryCgroup> {
        let groups = fs::read(root.join("proc/self/cgroup")).ok()?;
        let (version, path) = memory_path(&groups)?;
        let usual = match version {
            Version::One => "sys/fs/cgroup/memory",
            Version::Two => "sys/fs/cgroup",
        };
        let name = String::from_utf8_lossy(path).into_owned();
        let below = OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path));
        let open = |directory: PathBuf| {
            let events = Arc::new(File::open(directory.join(version.events_file())).ok()?);
            Some(MemoryCgroup { directory, name: name.clone(), version, events })
        };
        // Looking where it always is saves reading the table of mounts, which can be long.
        open(root.join(usual).join(below)).or_else(|| {
            let mounts = fs::read(root.join("proc/self/mountinfo")).ok()?;
            let (mount_root, mount_point) = mount(&mounts, version)?;
            let inside = path.strip_prefix(mount_root.strip_suffix(b"/").unwrap_or(mount_root))?;
            let inside = inside.strip_prefix(b"/").unwrap_or(inside);
            let point = OsStr::from_bytes(mount_point.strip_prefix(b"/")?);
            open(root.join(point).join(OsStr::from_bytes(inside)))
        })
    }

    /// Returns the number of processes of this cgroup that the OOM killer has killed, ever.
    #[must_use]
    pub fn oom_kills(&self) -> Option<u64> {
        let mut text = [0; 512];
        let length = self.events.read_at(&mut text, 0).ok()?;
        field(&text[..length], b"oom_kill")
    }

    /// Returns whether all processes in this cgroup and below are accepted by `is_ours`; false also if
    /// they cannot be listed. The root cgroup is everybody's.
    #[must_use]
    pub fn is_private(&self, is_ours: impl Fn(Pid) -> bool) -> bool {
        let mut open = vec![self.directory.clone()];
        let mut looked = 0;
        while let Some(directory) = open.pop() {
            looked += 1;
            let Ok(procs) = fs::read_to_string(directory.join("cgroup.procs")) else {
                return false;
            };
            let mut pids = procs.lines().map(|line| line.parse().map(Pid));
            if looked > BELOW_MAX || !pids.all(|pid| pid.is_ok_and(&is_ours)) {
                return false;
            }
            let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
            let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            open.extend(below.map(|entry| entry.path()));
        }
        self.name != "/"
    }

    /// Returns whether a process is counted here; `None` if that cannot be read. The kernel shows `/` for a
    /// process that has ended in version 1.
    #[must_use]
    pub fn holds(&self, root: &Path, pid: Pid) -> Option<bool> {
        let groups = fs::read(root.join(format!("proc/{pid}/cgroup"))).ok()?;
        let (version, path) = memory_path(&groups)?;
        if version == Version::One && path == b"/" {
            return None;
        }
        let below = path.strip_prefix(self.name.as_bytes());
        let is_below = self.name == "/" || below.is_some_and(|rest| rest.starts_with(b"/"));
        // Version 1 counts in the one cgroup that the process is in.
        let is_same = path == self.name.as_bytes();
        Some(is_same || is_below && version == Version::Two)
    }

    /// Returns the lowest limit on the way up from this cgroup, in bytes; `None` if nothing
    /// limits it, or it was removed.
    #[must_use]
    pub fn limit_bytes(&self) -> Option<u64> {
        self.still_there()?;
        let file = match self.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        // Version 1 writes "no limit" as a number near the largest.
        const NO_LIMIT: u64 = 1 << 60;
        self.directory
            .ancestors()
            .map_while(|directory| fs::read_to_string(directory.join(file)).ok())
            .filter_map(|text| text.trim().parse().ok())
            .filter(|limit| *limit < NO_LIMIT)
            .min()
    }

    /// What is found by path may be another cgroup of the same name; the file that is open is not.
    fn still_there(&self) -> Option<()> {
        let mut byte = [0];
        self.events.read_at(&mut byte, 0).ok().filter(|length| *length > 0).map(|_| ())
    }

    /// Returns the counter's name for people: its file and cgroup.
    #[must_use]
    pub fn counter_name(&self) -> String {
        format!("{} oom_kill of {}", self.version.events_file(), self.name)
    }
}

/// Which line of /proc/PID/cgroup is about memory: on a machine with both versions the controller
/// is on one of them only.
fn memory_path(groups: &[u8]) -> Option<(Version, &[u8])> {
    let mut second = None;
    for line in groups.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(3, |byte| *byte == b':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if controllers.split(|byte| *byte == b',').any(|name| name == b"memory") {
            return Some((Version::One, path));
        }
        if controllers.is_empty() {
            second = Some((Version::Two, path));
        }
    }
    second
}

/// Finds the root and the mount point of a hierarchy in mountinfo (proc(5)).
fn mount(mountinfo: &[u8], version: Version) -> Option<(&[u8], &[u8])> {
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        let (kind, options) = (rest.next()?, rest.nth(1)?);
        let is_it = match version {
            Version::One => {
                kind == b"cgroup"
                    && options.split(|byte| *byte == b',').any(|name| name == b"memory")
            }
            Version::Two => kind == b"cgroup2",
        };
        is_it.then_some((root, point))
    })
}

/// Reads the number behind a name, in lines of `name number`.
/// Gives a text to each parser of a file here.
#[cfg(any(test, fuzzing))]
pub(crate) fn parse_all(text: &[u8]) {
    memory_path(text);
    mount(text, Version::One);
    mount(text, Version::Two);
    field(text, b"oom_kill");
}

pub(super) fn field(text: &[u8], name: &[u8]) -> Option<u64> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let number = line.strip_prefix(name)?.strip_prefix(b" ")?;
        std::str::from_utf8(number).ok()?.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with files in it.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        root
    }

    #[test]
    fn version_two_is_read_with_its_hierarchical_limit() {
        let root = root(&[
            ("proc/self/cgroup", "0::/batch/job7\n"),
            ("sys/fs/cgroup/batch/memory.max", "4294967296\n"),
            ("sys/fs/cgroup/batch/job7/memory.max", "max\n"),
            (
                "sys/fs/cgroup/batch/job7/memory.events",
                "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n",
            ),
        ]);
        let cgroup = MemoryCgroup::find(root.path()).expect("a cgroup");
        assert_eq!(cgroup.oom_kills(), Some(1));
        assert_eq!(cgroup.limit_bytes(), Some(4 << 30));
        assert_eq!(cgroup.counter_name(), "memory.events oom_kill of /batch/job7");
    }

    #[test]
    fn a_hybrid_machine_has_its_memory_controller_on_version_one() {
        let root = root(&[
            ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/a\n0::/b\n"),
            (
                "sys/fs/cgroup/memory/a/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
            ),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        let cgroup = MemoryCgroup::find(root.path()).expect("a cgroup");
        assert_eq!(cgroup.oom_kills(), Some(3));
        assert_eq!(cgroup.limit_bytes(), None);
    }

    #[test]
    fn an_unusual_place_is_found_by_the_table_of_mounts() {
        let mounts = "30 25 0:26 /pod /mnt/cg rw shared:4 - cgroup2 cgroup2 rw\n";
        let root = root(&[
            ("proc/self/cgroup", "0::/pod/x\n"),
            ("proc/self/mountinfo", mounts),
            ("mnt/cg/x/memory.events", "oom_kill 0\n"),
        ]);
        let cgroup = MemoryCgroup::find(root.path()).expect("a cgroup");
        assert_eq!(cgroup.oom_kills(), Some(0));
    }

    #[test]
    fn a_cgroup_that_was_removed_has_no_numbers() {
        let root = root(&[
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/memory.events", "oom_kill 4\n"),
        ]);
        let cgroup = MemoryCgroup::find(root.path()).expect("a cgroup");
        assert_eq!(cgroup.oom_kills(), Some(4));
        // The kernel answers ENODEV then; a file that is open can be made empty at best.
        let directory = root.path().join("sys/fs/cgroup/a");
        fs::write(directory.join("memory.events"), "").expect("written");
        fs::write(directory.join("memory.max"), "1048576\n").expect("another one of that name");
        assert_eq!((cgroup.oom_kills(), cgroup.limit_bytes()), (None, None));
    }

    #[test]
    fn a_cgroup_is_private_if_nobody_else_is_in_it_or_below() {
        let root = root(&[
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/memory.events", "oom_kill 0\n"),
            ("sys/fs/cgroup/a/cgroup.procs", "7\n8\n"),
            ("sys/fs/cgroup/a/b/cgroup.procs", "9\n"),
        ]);
        let cgroup = MemoryCgroup::find(root.path()).expect("a cgroup");
        assert!(cgroup.is_private(|pid| (7..=9).contains(&pid.0)));
        assert!(!cgroup.is_private(|pid| pid.0 != 9), "one below is a stranger");
        // The kernel writes 0 for a process of another pid namespace.
        fs::write(root.path().join("sys/fs/cgroup/a/b/cgroup.procs"), "0\n").expect("written");
        assert!(!cgroup.is_private(|pid| pid.0 > 0));
    }

    #[test]
    fn a_job_that_was_moved_is_counted_elsewhere() {
        let root = root(&[
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/memory.events", "oom_kill 0\n"),
            ("proc/1/cgroup", "0::/a\n"),
            ("proc/2/cgroup", "0::/a/childminder-1-1\n"),
            ("proc/3/cgroup", "0::/ab\n"),
            ("proc/4/cgroup", "3:memory:/\n"),
        ]);
        let cgroup = MemoryCgroup::find(root.path()).expect("a cgroup");
        let holds = |pid| cgroup.holds(root.path(), Pid(pid));
        assert_eq!([1, 2, 3, 4, 5].map(holds), [Some(true), Some(true), Some(false), None, None]);
    }

    #[test]
    fn an_old_kernel_or_no_controller_is_not_evidence() {
        let old = root(&[
            ("proc/self/cgroup", "4:memory:/a\n"),
            ("sys/fs/cgroup/memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n"),
        ]);
        assert_eq!(MemoryCgroup::find(old.path()).expect("a cgroup").oom_kills(), None);
        let none = root(&[("proc/self/cgroup", "0::/\n")]);
        assert!(MemoryCgroup::find(none.path()).is_none());
        assert!(MemoryCgroup::find(&none.path().join("nowhere")).is_none());
    }
}
