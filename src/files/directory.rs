//! A directory, and what is done in it by the names of its entries.

use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::files::last_part::{WantedKind, follow, open_regular};
use crate::files::modes::let_owner;
use crate::files::new_file::NewFile;
use crate::files::regular::{check_owner, read_whole, regular};
use crate::files::trust::{DIRECTORY, GUARDED, Links, Owner, Refusal};

/// Names tried for a temporary file. Each has 64 random bits: a second try is for a stale file only.
const NAMES_MAX: u32 = 8;

/// An opened directory: what is done in it cannot be led elsewhere by a rename of its path.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// Opens a directory.
    ///
    /// # Errors
    ///
    /// Of open(2), and `Link`.
    pub fn open(path: &Path, links: Links) -> io::Result<Directory> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        follow(path, WantedKind::Directory, links).map(Directory)
    }

    /// Opens a directory by an absolute path, of which no part may be a link.
    ///
    /// # Errors
    ///
    /// Of open(2), and `NotDirectory`, also for a link.
    pub fn open_without_links(path: &Path) -> io::Result<Directory> {
        let mut here = Directory::open(Path::new("/"), Links::Refused)?;
        for part in path.strip_prefix("/").map_err(|_| io::ErrorKind::InvalidInput)? {
            here = here.step(part)?;
        }
        Ok(here)
    }

    fn step(&self, name: &OsStr) -> io::Result<Directory> {
        match openat(&self.0, name, DIRECTORY | GUARDED, Mode::empty()) {
            Err(Errno::ENOTDIR) => Err(Refusal::NotDirectory.into()),
            other => Ok(Directory(other?)),
        }
    }

    /// Makes a directory in this one, or takes the one that is there, and opens it.
    ///
    /// # Errors
    ///
    /// Of mkdir(2); `NotDirectory` for anything else, also a link, that has the name, and `Owner`.
    pub fn make(&self, name: &OsStr, mode: u32, owner: Owner) -> io::Result<Directory> {
        let is_new = match mkdirat(&self.0, name, Mode::from_bits_truncate(mode)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(errno.into()),
        };
        let made = self.step(name)?;
        check_owner(fstat(&made)?.st_uid, owner)?;
        if is_new {
            let_owner(&made, 0o700)?;
        }
        Ok(made)
    }

    /// Opens a regular file in it for reading; a link is refused.
    ///
    /// # Errors
    ///
    /// As for [`open`].
    pub fn file(&self, name: &OsStr, owner: Owner) -> io::Result<File> {
        regular(File::from(open_regular(&self.0, name)?), owner)
    }

    /// Reads a whole regular file in it.
    ///
    /// # Errors
    ///
    /// As for [`read`].
    pub fn read(&self, name: &OsStr, owner: Owner, bytes_max: u64) -> io::Result<Vec<u8>> {
        read_whole(&self.file(name, owner)?, bytes_max)
    }

    /// Makes a file under a name that nothing has yet. Each write appends to it.
    ///
    /// # Errors
    ///
    /// Of open(2) with O_EXCL: `AlreadyExists` also for a link.
    pub fn create(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_EXCL | GUARDED;
        let file = openat(&self.0, name, flags, Mode::from_bits_truncate(mode))?;
        Ok(File::from(file))
    }

    /// Makes a temporary file in it, which later takes its name.
    ///
    /// # Errors
    ///
    /// Of open(2).
    pub fn begin(&self, mode: u32) -> io::Result<NewFile<'_>> {
        for _ in 0..NAMES_MAX {
            // The hash of nothing under keys that are random (std says "unpredictable").
            let number = RandomState::new().build_hasher().finish();
            let name = OsString::from(format!(".childminder-{number:016x}.tmp"));
            match self.create(&name, mode) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => return Ok(NewFile::new(self.as_fd(), name, file)),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Returns the permissions of a file that other users read, whatever the umask: those of the file
    /// that is replaced, if it is ours (another user's could be setuid); 0644 for a new one.
    #[must_use]
    pub fn mode_for_others(&self, name: &OsStr) -> u32 {
        let meta = self.file(name, Owner::Us).and_then(|file| file.metadata());
        meta.map_or(0o644, |meta| meta.mode() & 0o666)
    }

    /// Removes a file of that name in it.
    ///
    /// # Errors
    ///
    /// Of unlink(2).
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Returns what a name in it is, without following a link.
    ///
    /// # Errors
    ///
    /// Of open(2).
    pub fn look(&self, name: &OsStr) -> io::Result<Metadata> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        File::from(openat(&self.0, name, flags, Mode::empty())?).metadata()
    }

    /// Moves a file of another directory into it (rename(2)), under a name that nothing has.
    ///
    /// # Errors
    ///
    /// Of rename(2), and `AlreadyExists`.
    pub fn take(&self, (from, old): (&Directory, &OsStr), name: &OsStr) -> io::Result<()> {
        match fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => Ok(renameat(&from.0, old, &self.0, name)?),
            Err(errno) => Err(errno.into()),
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    /// Returns what fstat(2) says of the directory itself.
    ///
    /// # Errors
    ///
    /// Of fcntl(2) and fstat(2).
    pub fn metadata(&self) -> io::Result<Metadata> {
        File::from(self.0.try_clone()?).metadata()
    }

    /// Opens the directory again, for locks and for fsync(2).
    ///
    /// # Errors
    ///
    /// Of open(2): it may not be readable.
    pub fn reopen(&self) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.0, ".", flags, Mode::empty())?))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
