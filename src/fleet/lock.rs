//! One rerun at a time: a lock (flock(2)) on a file of the folder beside the record. It goes with the
//! process that holds it, however that ends.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::fleet::{Failure, index};

/// So often the file is opened again that its holder removed just then.
const REMOVED_MAX: u32 = 100;

/// As long as this exists, no other rerun works on the record.
pub struct Lock {
    // Locked, until it is closed.
    _file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of a record.
    ///
    /// # Errors
    ///
    /// Another rerun has it, or there can be no lock.
    pub fn take(record: &Path) -> Result<Lock, Failure> {
        let folder = index::folder_beside(record);
        let path = folder.join("rerun.lock");
        let failure = |source| Failure::File { action: "lock", path: path.clone(), source };
        for _ in 0..REMOVED_MAX {
            make(&folder, record).map_err(failure)?;
            let mut file = match open(&path) {
                // The folder was removed just then, for it was empty.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                other => other.map_err(failure)?,
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(taken(file)),
                Err(TryLockError::Error(error)) => return Err(failure(error)),
            }
            if is_still(&file, &path) {
                // Only for the message to whoever comes next.
                file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).ok();
                return Ok(Lock { _file: file, path });
            }
        }
        Err(failure(ErrorKind::ResourceBusy.into()))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked: whoever has it open sees that it was removed.
        fs::remove_file(&self.path).ok();
        if let Some(folder) = self.path.parent() {
            // If rows wait in it, it stays.
            fs::remove_dir(folder).ok();
        }
    }
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
    match DirBuilder::new().mode(0o777).create(folder) {
        Ok(()) => {
            let above = match record.parent() {
                Some(above) if !above.as_os_str().is_empty() => above,
                _ => Path::new("."),
            };
            let mode = Permissions::from_mode(fs::metadata(above)?.mode() & 0o3777);
            // Where it cannot be, those of the umask will have to do.
            fs::set_permissions(folder, mode).ok();
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o666).custom_flags(libc::O_NOFOLLOW);
    options.open(path)
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

    #[test]
    fn only_one_has_the_lock_and_nothing_of_it_stays() {
        let place = tempfile::tempdir().expect("a directory");
        let record = place.path().join("all.csv");
        let first = Lock::take(&record).expect("free");
        let message = Lock::take(&record).err().expect("taken").to_string();
        assert_eq!(
            message,
            format!("another rerun (pid {}) works on this record", std::process::id())
        );
        drop(first);
        assert_eq!(fs::read_dir(place.path()).expect("ours").count(), 0);
        Lock::take(&record).expect("free again");
    }
}
