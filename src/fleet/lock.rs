//! One rerun of a user at a time: locks (flock(2)) on files that only he can open. They go with the
//! process that holds them, however that ends.
//!
//! A record may have several names. One lock is in the user's own state directory, named after device
//! and inode of the record; one is in the folder beside it, for reruns of other hosts and of root.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::fleet::Failure;
use crate::record::key;
use crate::record::read::folder_beside;

/// So often the file is opened again that its holder removed just then.
const REMOVED_MAX: u32 = 100;

/// As long as this exists, no other rerun of that user works on the record.
pub struct Lock {
    held: Vec<Held>,
}

struct Held {
    // Locked, until it is closed.
    _file: File,
    path: PathBuf,
    is_in_folder: bool,
}

impl Lock {
    /// Takes the locks of a user for a record, which is named without links. `state` is his own
    /// directory, if he has one.
    ///
    /// # Errors
    ///
    /// Another rerun has one of them, or there can be none.
    pub fn take(record: &Path, uid: u32, state: Option<&Path>) -> Result<Lock, Failure> {
        let mut held = Vec::new();
        let meta = fs::metadata(record);
        if let (Some(state), Ok(meta)) = (state, &meta) {
            let path = state.join(format!("rerun-{:x}-{}.lock", meta.dev(), meta.ino()));
            let failed = |source| Failure::File { action: "lock", path: path.clone(), source };
            key::make_directory(state, uid).map_err(failed)?;
            held.push(hold(&path, uid, false)?);
        } else if meta.is_ok_and(|meta| meta.nlink() > 1) {
            return Err(Failure::Refused(format!(
                "{} has several names (hard links), and there is no home directory for a lock that \
                 holds for all of them",
                record.display()
            )));
        }
        let folder = folder_beside(record);
        let path = folder.join(format!("rerun-{uid}.lock"));
        let locked = make(&folder, record)
            .map_err(|source| Failure::File { action: "lock", path: path.clone(), source })
            .and_then(|()| hold(&path, uid, true));
        match locked {
            Ok(one) => held.push(one),
            // Where he may not write, the first one has to do.
            Err(Failure::File { source, .. }) if !held.is_empty() && is_forbidden(&source) => {}
            Err(failure) => return Err(failure),
        }
        Ok(Lock { held })
    }
}

fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
        && error.raw_os_error().is_some()
}

impl Drop for Lock {
    fn drop(&mut self) {
        for one in &self.held {
            // While it is locked: whoever has it open sees that it was removed.
            fs::remove_file(&one.path).ok();
            if let Some(folder) = one.path.parent().filter(|_| one.is_in_folder) {
                // If rows wait in it, it stays.
                fs::remove_dir(folder).ok();
            }
        }
    }
}

fn hold(path: &Path, uid: u32, is_in_folder: bool) -> Result<Held, Failure> {
    let failure = |source| Failure::File { action: "lock", path: path.to_owned(), source };
    for _ in 0..REMOVED_MAX {
        let mut file = match open(path, uid) {
            // Its holder removed it just then, and perhaps the folder that was empty.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if let Some(folder) = path.parent().filter(|_| is_in_folder) {
                    let made = DirBuilder::new().mode(0o777).create(folder);
                    made.or_else(if_there).map_err(failure)?;
                }
                continue;
            }
            other => other.map_err(failure)?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(file)),
            Err(TryLockError::Error(error)) => return Err(failure(error)),
        }
        if is_still(&file, path) {
            // Only for the message to whoever comes next.
            file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).ok();
            return Ok(Held { _file: file, path: path.to_owned(), is_in_folder });
        }
    }
    Err(failure(ErrorKind::ResourceBusy.into()))
}

fn taken(mut file: File) -> Failure {
    let mut pid = String::new();
    let holder = match file.read_to_string(&mut pid) {
        Ok(1..) => format!(" (pid {pid})"),
        _ => String::new(),
    };
    Failure::Refused(format!("another rerun{holder} works on this record"))
}

/// Makes the folder, for the same people as the one that it is in.
fn make(folder: &Path, record: &Path) -> io::Result<()> {
    let above = match record.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    match DirBuilder::new().mode(0o777).create(folder) {
        Ok(()) => {
            let mode = Permissions::from_mode(fs::metadata(above)?.mode() & 0o3777);
            // Where it cannot be, those of the umask will have to do.
            fs::set_permissions(folder, mode).ok();
            Ok(())
        }
        Err(error) => if_there(error),
    }?;
    match fs::symlink_metadata(folder)?.is_dir() {
        true => Ok(()),
        false => Err(io::Error::other("the folder beside the record is no directory")),
    }
}

fn if_there(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
}

/// Opens the file, which nobody else can: whoever can open a file can lock it.
fn open(path: &Path, uid: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    options.read(true).write(true).mode(0o600).custom_flags(flags);
    let file = match options.create_new(true).open(path) {
        Ok(file) => {
            // Root's, on behalf of a user: it is to keep his own reruns away.
            fchown(&file, Some(uid), None)?;
            file
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            options.create_new(false).open(path)?
        }
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    match meta.is_file() && meta.uid() == uid {
        true => Ok(file),
        false => Err(io::Error::other(format!("it is no file of uid {uid}"))),
    }
}

fn is_still(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(record: &Path, state: Option<&Path>) -> Result<Lock, Failure> {
        Lock::take(record, nix::unistd::geteuid().as_raw(), state)
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
        assert_eq!(meta.mode() & 0o777, 0o600, "whoever can open it can hold it");
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
