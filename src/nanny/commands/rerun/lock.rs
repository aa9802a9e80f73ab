//! One rerun of a user at a time: locks (flock(2)) on files that only he can open. They go with the
//! process that holds them, however that ends.
//!
//! A record may have several names. One lock is in the user's own state directory, named after device
//! and inode of the record; one is in the folder beside it, for reruns of other hosts and of root.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use crate::files::{self, Directory, FileId, Links, Owner};
use crate::nanny::failure::Failure;
use crate::nanny::notes::note;
use crate::record::key;
use crate::record::read::folder_beside;
use crate::record::write::make_folder;

/// How often the file is opened again that its holder removed just then.
const REMOVED_MAX: u32 = 100;

/// As long as this exists, no other rerun of that user works on the record.
pub struct RerunLock {
    held: Vec<HeldFile>,
}

struct HeldFile {
    // Locked, until it is closed.
    _file: File,
    directory: Directory,
    name: OsString,
    /// The folder beside the record, which goes when it is empty.
    folder: Option<PathBuf>,
}

impl RerunLock {
    /// Takes the locks of a user for a record, which is named without links. `state` is his own
    /// directory, if he has one.
    ///
    /// # Errors
    ///
    /// Another rerun has one of them, or there can be none.
    pub fn take(record: &Path, uid: u32, state: Option<&Path>) -> Result<RerunLock, Failure> {
        let mut held = Vec::new();
        let meta = fs::metadata(record);
        if let (Some(state), Ok(meta)) = (state, &meta) {
            let failed = |source| failure(state, source);
            let name = format!("rerun-{:x}-{}.lock", meta.dev(), meta.ino());
            key::make_directory(state, uid).map_err(failed)?;
            let open = || Directory::open(state, Links::Trusted);
            held.push(hold(&open, &name, uid)?.map_err(failed)?);
        } else if meta.is_ok_and(|meta| meta.nlink() > 1) {
            return Err(Failure::Refused(format!(
                "{} has several names (hard links), and there is no home directory for a lock that \
                 holds for all of them",
                record.display()
            )));
        }
        let folder = folder_beside(record);
        match hold(&|| make_folder(record), &format!("rerun-{uid}.lock"), uid)? {
            Ok(one) => held.push(HeldFile { folder: Some(folder), ..one }),
            // Where he may not write, or somebody else put something there, the first one has to suffice.
            Err(error) if !held.is_empty() => {
                if !is_forbidden(&error) {
                    note(&format!(
                        "reruns on other hosts are not kept away: {}: {error}",
                        folder.display()
                    ));
                }
            }
            Err(error) => return Err(failure(&folder, error)),
        }
        Ok(RerunLock { held })
    }
}

fn failure(path: &Path, source: io::Error) -> Failure {
    Failure::File { action: "lock the record in", path: path.to_owned(), source }
}

/// Whether the kernel said so, and not we.
fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
        && error.raw_os_error().is_some()
}

impl Drop for RerunLock {
    fn drop(&mut self) {
        for one in &self.held {
            // While it is locked: whoever has it open sees that it was removed.
            one.directory.remove(&one.name).ok();
            // If rows wait in it, it stays.
            one.folder.iter().for_each(|folder| drop(fs::remove_dir(folder)));
        }
    }
}

/// Takes a lock in a directory; the inner error says why there can be none.
fn hold(
    open: &dyn Fn() -> io::Result<Directory>,
    name: &str,
    uid: u32,
) -> Result<io::Result<HeldFile>, Failure> {
    for _ in 0..REMOVED_MAX {
        match try_hold(open, OsStr::new(name), uid) {
            Ok(Tried::Held(held)) => return Ok(Ok(held)),
            Ok(Tried::Taken(holder)) => {
                let why = format!("another rerun{holder} works on this record");
                return Err(Failure::Refused(why));
            }
            Ok(Tried::Removed) => {}
            // Its holder removed it just then, and perhaps the folder that was empty.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Err(ErrorKind::ResourceBusy.into()))
}

enum Tried {
    Held(HeldFile),
    /// Its holder, as far as it is written there.
    Taken(String),
    /// The file has not its name any more.
    Removed,
}

fn try_hold(open: &dyn Fn() -> io::Result<Directory>, name: &OsStr, uid: u32) -> io::Result<Tried> {
    let directory = open()?;
    let mut file = open_lock(&directory, name, uid)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = files::read_whole(&file, PID_BYTES_MAX).unwrap_or_default();
            let pid = String::from_utf8_lossy(&pid);
            let holder = if pid.is_empty() { String::new() } else { format!(" (pid {pid})") };
            return Ok(Tried::Taken(holder));
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let identity = |file: &File| file.metadata().map(|meta| FileId::from(&meta));
    let named = directory.file(name, Owner::Anybody).and_then(|named| identity(&named));
    if named.ok() != identity(&file).ok() {
        return Ok(Tried::Removed);
    }
    // Only for the message to whoever comes next; one that was left behind cannot be written.
    write!(file, "{}", std::process::id()).ok();
    Ok(Tried::Held(HeldFile { _file: file, directory, name: name.to_owned(), folder: None }))
}

/// The longest pid, and more.
const PID_BYTES_MAX: u64 = 20;

/// Opens the file, which nobody else can: whoever can open a file can lock it.
fn open_lock(directory: &Directory, name: &OsStr, uid: u32) -> io::Result<File> {
    match directory.create(name, 0o600) {
        Ok(file) => {
            // Root's, on behalf of a user: it is to keep his own reruns away.
            fchown(&file, Some(uid), None)?;
            // Whatever the umask took away: one that is left behind can be opened again.
            files::let_owner(&file, 0o600)?;
            return Ok(file);
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let file = directory.file(name, Owner::Anybody)?;
    match file.metadata()?.uid() {
        owner if owner == uid => Ok(file),
        owner => Err(io::Error::other(format!("{} belongs to uid {owner}", name.display()))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn take(record: &Path, state: Option<&Path>) -> Result<RerunLock, Failure> {
        RerunLock::take(record, nix::unistd::geteuid().as_raw(), state)
    }

    #[test]
    fn only_one_has_the_lock_and_nothing_of_it_stays() {
        let place = tempfile::tempdir().expect("a directory");
        let record = place.path().join("all.csv");
        let first = take(&record, None).expect("free");
        let message = take(&record, None).err().expect("taken").to_string();
        assert_eq!(
            message,
            format!("another rerun (pid {}) works on this record", std::process::id())
        );
        let path = place.path().join("all.csv.d").read_dir().expect("there").next();
        let meta = path.expect("a lock").expect("a lock").metadata().expect("ours");
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "whoever can open it can hold it");
        drop(first);
        assert_eq!(fs::read_dir(place.path()).expect("ours").count(), 0);
        take(&record, None).expect("free again");
    }

    #[test]
    fn two_names_of_one_record_have_one_lock() {
        let place = tempfile::tempdir().expect("a directory");
        let [record, other, state] =
            ["a.csv", "b.csv", "state"].map(|name| place.path().join(name));
        fs::write(&record, "").expect("written");
        fs::hard_link(&record, &other).expect("linked");
        let _first = take(&record, Some(&state)).expect("free");
        let message = take(&other, Some(&state)).err().expect("taken").to_string();
        assert!(message.contains("another rerun"), "{message}");
        let message = take(&other, None).err().expect("refused").to_string();
        assert!(message.contains("several names"), "{message}");
    }

    #[test]
    fn what_somebody_put_there_is_no_lock() {
        let place = tempfile::tempdir().expect("a directory");
        let uid = nix::unistd::geteuid().as_raw();
        let record = place.path().join("all.csv");
        let folder = folder_beside(&record);
        std::os::unix::fs::symlink("/tmp", &folder).expect("a link");
        assert!(take(&record, None).is_err());
        fs::remove_file(&folder).expect("ours");
        fs::create_dir(&folder).expect("made");
        let path = folder.join(format!("rerun-{uid}.lock"));
        std::os::unix::fs::symlink(place.path().join("victim"), &path).expect("a link");
        assert!(take(&record, None).is_err());
        assert!(!place.path().join("victim").exists());
        fs::remove_file(&path).expect("ours");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        assert!(take(&record, None).is_err());
    }
}
