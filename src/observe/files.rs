//! Files that the job's processes have open, and how (`fd` and `fdinfo` in proc(5)).
//!
//! A file that is opened and closed between two looks is not seen.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::model::process::Pid;
use crate::model::sample::FileUse;

/// At most this number of files is remembered for one attempt; more are counted.
pub const FILES_MAX: usize = 10_000;

/// All files that were seen open in an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// By path.
    pub by_path: BTreeMap<PathBuf, FileUse>,
    /// How many did not fit in.
    pub not_kept: u64,
}

impl Files {
    /// Adds what a process has open now; what may not be read, or has gone, adds nothing.
    pub fn look(&mut self, proc: &Path, pid: Pid) {
        let directory = proc.join(format!("{pid}/fd"));
        let Ok(entries) = fs::read_dir(&directory) else { return };
        for entry in entries.flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            if !is_file(&target) {
                continue;
            }
            let info = proc.join(format!("{pid}/fdinfo")).join(entry.file_name());
            let Ok(info) = fs::read(info) else { continue };
            if let Some(found) = parse_info(&info, pid) {
                self.add(target, found);
            }
        }
    }

    /// Adds what another look has found.
    pub fn merge(&mut self, found: Files) {
        found.by_path.into_iter().for_each(|(path, file)| self.add(path, file));
        self.not_kept += found.not_kept;
    }

    fn add(&mut self, path: PathBuf, found: FileUse) {
        if let Some(known) = self.by_path.get_mut(&path) {
            known.is_read |= found.is_read;
            known.is_written |= found.is_written;
            known.position_bytes = known.position_bytes.max(found.position_bytes);
        } else if self.by_path.len() < FILES_MAX {
            self.by_path.insert(path, found);
        } else {
            self.not_kept += 1;
        }
    }
}

/// Pipes, sockets and the like have no path; what was deleted has none any more; and the kernel's
/// own files are nobody's data.
fn is_file(target: &Path) -> bool {
    let bytes = target.as_os_str().as_bytes();
    let is_kernels =
        ["/proc/", "/sys/", "/dev/"].iter().any(|root| bytes.starts_with(root.as_bytes()));
    bytes.starts_with(b"/") && !bytes.ends_with(b" (deleted)") && !is_kernels
}

/// Reads the lines `pos:` and `flags:` (octal, as in open(2)) of a file in `fdinfo`.
fn parse_info(text: &[u8], pid: Pid) -> Option<FileUse> {
    let field = |name: &str| {
        let line = text
            .split(|byte| *byte == b'\n')
            .find_map(|line| line.strip_prefix(name.as_bytes()))?;
        Some(OsStr::from_bytes(line).to_str()?.trim())
    };
    let flags = i32::from_str_radix(field("flags:")?, 8).ok()?;
    if flags & libc::O_PATH != 0 || flags & libc::O_DIRECTORY != 0 {
        return None;
    }
    let access = flags & libc::O_ACCMODE;
    Some(FileUse {
        is_read: access != libc::O_WRONLY,
        is_written: access != libc::O_RDONLY,
        position_bytes: field("pos:")?.parse().ok()?,
        pid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn open(proc: &Path, pid: i32, fd: u32, target: &str, info: &str) {
        for part in ["fd", "fdinfo"] {
            fs::create_dir_all(proc.join(format!("{pid}/{part}"))).expect("made");
        }
        symlink(target, proc.join(format!("{pid}/fd/{fd}"))).expect("linked");
        fs::write(proc.join(format!("{pid}/fdinfo/{fd}")), info).expect("written");
    }

    #[test]
    fn files_and_pipes_and_readers_and_writers_are_distinguished() {
        let proc = tempfile::tempdir().expect("a directory");
        open(proc.path(), 7, 0, "/dev/null", "pos:\t0\nflags:\t0100002\n");
        open(proc.path(), 7, 1, "pipe:[1234]", "pos:\t0\nflags:\t01\n");
        open(proc.path(), 7, 3, "/data/in", "pos:\t17\nflags:\t0100000\nmnt_id:\t9\n");
        open(proc.path(), 7, 4, "/data/out", "pos:\t4096\nflags:\t02102001\n");
        open(proc.path(), 8, 3, "/data/out", "pos:\t99\nflags:\t0100002\n");
        open(proc.path(), 8, 4, "/data/gone (deleted)", "pos:\t0\nflags:\t02\n");
        let mut files = Files::default();
        [7, 8, 9].into_iter().for_each(|pid| files.look(proc.path(), Pid(pid)));
        let paths: Vec<&str> = files.by_path.keys().filter_map(|path| path.to_str()).collect();
        assert_eq!(paths, ["/data/in", "/data/out"]);
        let out = &files.by_path[Path::new("/data/out")];
        assert!(out.is_written && out.is_read);
        assert_eq!((out.position_bytes, out.pid), (4096, Pid(7)));
        assert!(!files.by_path[Path::new("/data/in")].is_written);
    }

    #[test]
    fn what_is_not_file_info_is_passed_over() {
        for text in ["", "pos:\t0\n", "flags:\t09\npos:\t0\n", "flags:\t010000000\npos:\t0\n"] {
            assert_eq!(parse_info(text.as_bytes(), Pid(1)), None, "{text}");
        }
    }
}
