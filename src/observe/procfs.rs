//! The files of a process below /proc (proc(5)): opening, reading, and what their bytes mean.
//!
//! It knows single processes and no tree. A process that left is `Ok(None)`, an error is anything
//! else. Called by the sampler, once for each process and sample, so nothing here allocates but
//! the listing of all processes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};

use crate::model::process::{Pid, is_proc_of_our_namespace};
use crate::model::sample::IoBytes;

/// More than a line of /proc/PID/stat can be: 52 numbers of at most 20 digits and a name.
pub const LINE_BYTES: usize = 2048;

/// As many descriptors of a process are counted one by one where the kernel does not show their
/// number; a process with more has this many.
const FDS_MAX: usize = 65_536;

/// A mounted proc file system, or a directory that looks like one.
pub struct Procfs {
    root: PathBuf,
    directory: OwnedFd,
    /// Whether the size of /proc/PID/fd is the number of descriptors: since Linux 6.2.
    has_fd_count: bool,
}

impl Procfs {
    /// Opens it; `ourselves` is the process on which its abilities are tried.
    ///
    /// # Errors
    ///
    /// The directory cannot be opened, or it is of another pid namespace than ours, so that each
    /// pid would mean another process (pid_namespaces(7)).
    pub fn open(root: &Path, ourselves: Pid) -> io::Result<Procfs> {
        let directory = OwnedFd::from(File::open(root)?);
        let here = Pid(std::process::id().cast_signed());
        let link = fs::read_link(root.join("self")).ok();
        let shown = link.and_then(|link| link.to_str()?.parse().ok()).map(Pid);
        let status = fs::read_to_string(root.join("self/status"));
        let is_foreign = status.is_ok_and(|status| !is_proc_of_our_namespace(&status, here));
        if is_foreign || shown.is_some_and(|shown| shown != here) {
            return Err(io::Error::from(Errno::EXDEV));
        }
        let mut procfs = Procfs { root: root.to_path_buf(), directory, has_fd_count: false };
        procfs.has_fd_count = procfs.shows_fd_count(ourselves);
        Ok(procfs)
    }

    /// Returns whether the size of the directory is the number of its entries. Another thread may
    /// open a file between the two looks, so there are some tries.
    fn shows_fd_count(&self, pid: Pid) -> bool {
        (0..5).any(|_| {
            let size = self.fd_directory_size(pid).unwrap_or(None);
            // The listing itself holds one descriptor, if the process is us.
            let own = u64::from(pid.0.unsigned_abs() == std::process::id());
            let counted = self.list_fds(pid).unwrap_or(None).unwrap_or(0);
            size.is_some_and(|size| size > 0 && size + own == counted)
        })
    }

    /// Opens a file of a process, such as `stat`.
    ///
    /// # Errors
    ///
    /// The file cannot be read for another reason than that the process has ended.
    pub fn open_file(&self, pid: Pid, name: &str) -> io::Result<Option<File>> {
        let path = EntryPath::new(pid, name);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        living(openat(&self.directory, path.bytes(), flags, Mode::empty()).map(File::from))
    }

    /// Returns how many descriptors a process has open.
    ///
    /// # Errors
    ///
    /// Usually: we may not look into the process.
    pub fn count_fds(&self, pid: Pid) -> io::Result<Option<u64>> {
        if self.has_fd_count { self.fd_directory_size(pid) } else { self.list_fds(pid) }
    }

    fn fd_directory_size(&self, pid: Pid) -> io::Result<Option<u64>> {
        let path = EntryPath::new(pid, "fd");
        let stat = fstatat(&self.directory, path.bytes(), AtFlags::empty());
        Ok(living(stat)?.map(|stat| stat.st_size.unsigned_abs()))
    }

    fn list_fds(&self, pid: Pid) -> io::Result<Option<u64>> {
        let entries = match fs::read_dir(self.root.join(format!("{pid}/fd"))) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(entries.take(FDS_MAX).filter(Result::is_ok).count() as u64))
    }

    /// Returns what a process, its ended threads and the children that it waited for have read
    /// and written, by /proc/PID/io.
    ///
    /// # Errors
    ///
    /// Usually: we may not look into the process.
    pub fn io_bytes(&self, pid: Pid) -> io::Result<Option<IoBytes>> {
        self.io_file(pid, "io")
    }

    /// Returns what the ended children of a process that it waited for have read and written,
    /// and its ended threads: the process less its living threads.
    ///
    /// # Errors
    ///
    /// Usually: we may not look into the process.
    pub fn io_bytes_of_children(&self, pid: Pid) -> io::Result<Option<IoBytes>> {
        let Some(mut bytes) = self.io_file(pid, "io")? else { return Ok(None) };
        // The threads are read later, so what they do meanwhile makes the rest too small for now.
        for entry in fs::read_dir(self.root.join(format!("{pid}/task")))?.flatten() {
            let Some(thread) = to_pid(&entry.file_name()) else { continue };
            let own = self.io_file(pid, &format!("task/{thread}/io"))?.unwrap_or_default();
            bytes.read = bytes.read.saturating_sub(own.read);
            bytes.written = bytes.written.saturating_sub(own.written);
        }
        Ok(Some(bytes))
    }

    fn io_file(&self, pid: Pid, name: &str) -> io::Result<Option<IoBytes>> {
        let mut buffer = [0; 512];
        let Some(file) = self.open_file(pid, name)? else { return Ok(None) };
        Ok(read_start(&file, &mut buffer)?.and_then(parse_io))
    }

    /// Returns the pids of all processes that are shown, rising on a real /proc.
    ///
    /// # Errors
    ///
    /// The directory cannot be listed.
    pub fn pids(&self) -> io::Result<Vec<Pid>> {
        let entries = fs::read_dir(&self.root)?;
        Ok(entries.flatten().filter_map(|entry| to_pid(&entry.file_name())).collect())
    }

    /// Opens a file that belongs to no process, such as `loadavg`; `None` if there is none.
    #[must_use]
    pub fn host_file(&self, name: &str) -> Option<File> {
        File::open(self.root.join(name)).ok()
    }

    /// Returns whether the kernel's own proc file system made that file: a container's manager
    /// may have put one of its own in its place, whose pids are not ours.
    #[must_use]
    pub fn is_genuine(&self, file: &File) -> bool {
        let ours = fstat(&self.directory).map(|stat| stat.st_dev);
        fstat(file).map(|stat| stat.st_dev) == ours
    }
}

/// Reads an open file of a process from its beginning, as far as `buffer` goes; `None` if the
/// process has gone.
///
/// # Errors
///
/// The file cannot be read for another reason than that the process has ended.
pub fn read_start<'b>(file: &File, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
    match file.read_at(buffer, 0) {
        Ok(length) => Ok(buffer.get(..length)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads `rchar` and `wchar` out of the bytes of /proc/PID/io; `None` if one is missing.
#[must_use]
pub fn parse_io(text: &[u8]) -> Option<IoBytes> {
    let text = std::str::from_utf8(text).ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    Some(IoBytes { read: field("rchar:")?, written: field("wchar:")? })
}

fn living<T>(result: nix::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ESRCH))
}

fn to_pid(name: &std::ffi::OsStr) -> Option<Pid> {
    name.to_str()?.parse().ok().filter(|pid| *pid > 0).map(Pid)
}

/// A path such as `4194304/stat`, relative to /proc, on the stack.
struct EntryPath {
    bytes: [u8; 48],
    length: usize,
}

impl EntryPath {
    fn new(pid: Pid, name: &str) -> EntryPath {
        let mut bytes = [0; 48];
        let mut free = &mut bytes[..];
        let written = write!(free, "{pid}/{name}");
        let length = 48 - free.len();
        // The names are ours and short; a path that did not fit would name no process at all.
        EntryPath { bytes, length: if written.is_ok() { length } else { 0 } }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IO: &[u8] = include_bytes!("../../tests/fixtures/proc/io");

    fn here() -> Procfs {
        Procfs::open(Path::new("/proc"), ours()).unwrap()
    }

    fn ours() -> Pid {
        Pid(std::process::id().cast_signed())
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a process of the test's own")]
    fn both_ways_to_count_descriptors_agree_on_a_child() {
        let mut procfs = here();
        let mut child = std::process::Command::new("cat");
        let mut child = child.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = Pid(child.id().cast_signed());
        let is_shown = procfs.has_fd_count;
        let mut both = || {
            procfs.has_fd_count = is_shown;
            let shown = procfs.count_fds(pid).unwrap();
            procfs.has_fd_count = false;
            (shown, procfs.count_fds(pid).unwrap())
        };
        // Its loader opens and closes files while it begins.
        let begin = std::time::Instant::now();
        let (mut shown, mut counted) = both();
        while shown != counted && is_shown && begin.elapsed().as_secs() < 20 {
            (shown, counted) = both();
        }
        // Its end of file is the sign to leave.
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(counted.is_some_and(|count| count >= 3), "{counted:?}");
        assert!(shown == counted || !is_shown, "shown {shown:?}, counted {counted:?}");
    }

    #[test]
    fn a_process_that_is_not_there_is_no_error() {
        let nobody = Pid(i32::MAX);
        assert!(here().open_file(nobody, "stat").unwrap().is_none());
        assert!(here().count_fds(nobody).unwrap().is_none());
        assert!(here().io_bytes(nobody).unwrap().is_none());
    }

    #[test]
    fn our_own_io_is_more_than_that_of_our_children() {
        let all = here().io_bytes(ours()).unwrap().unwrap();
        let children = here().io_bytes_of_children(ours()).unwrap().unwrap();
        assert!(all.read > children.read, "{all:?} {children:?}");
    }

    #[test]
    fn a_proc_of_another_namespace_is_refused() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("1", root.path().join("self")).unwrap();
        assert!(Procfs::open(root.path(), Pid(1)).is_err());
    }

    #[test]
    fn captured_io_is_read_and_half_of_it_is_not() {
        assert_eq!(parse_io(IO), Some(IoBytes { read: 10_668, written: 0 }));
        assert_eq!(parse_io(b"rchar: 5\nwch"), None);
        assert_eq!(parse_io(b"rchar: x\nwchar: 1\n"), None);
    }

    #[test]
    fn paths_are_those_of_proc() {
        assert_eq!(EntryPath::new(Pid(i32::MAX), "task/2147483647/io").bytes().len(), 29);
        assert_eq!(EntryPath::new(Pid(7), "fd").bytes(), b"7/fd");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            std::hint::black_box(parse_io(&bytes));
        }
    }
}
