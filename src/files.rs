//! Opens, reads and replaces files under names that other users may have taken first.
//!
//! A name in a directory that others can write to may be a FIFO that blocks, a link to a file of the
//! victim, a device without end, or a file of somebody else. ThisHost a file is opened without following
//! links and without blocking, then its descriptor is checked (fstat(2)): the type, the owner, the
//! size. A device is not even opened: that alone may rewind a tape or start a watchdog. Reading stops at the bound whatever the size was. A new file appears whole: it is written
//! under an unpredictable name by O_EXCL in an opened directory, then renamed or linked.
//!
//! It does not protect from whoever owns the directory itself or one above it, and not from a
//! filesystem that does not answer.

use std::collections::hash_map::RandomState;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{File, Metadata};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::files::last_part::{WantedKind, follow, open_regular};
use crate::files::new_file::NewFile;

pub use crate::files::modes::{let_owner, set_mode, share_like};

/// Names tried for a temporary file. Each has 64 random bits: a second try is for a stale file only.
const NAMES_MAX: u32 = 8;

/// How each file is opened: O_NONBLOCK is for a FIFO and for a lease of another process (fcntl(2)).
const GUARDED: OFlag =
    OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC).union(OFlag::O_NOCTTY);

/// Who may own a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The effective user.
    Us,
    /// The effective user or root.
    UsOrRoot,
    /// Anybody: the content is not trusted.
    Anybody,
}

/// What a symbolic link as the last part of a path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// It is refused: for names that we made up ourselves.
    Refused,
    /// It is followed if we, root or the owner of its directory made it, also where
    /// fs.protected_symlinks is 0: for names that the user gave.
    Trusted,
}

/// Why a file was not used, as the inner error of an [`io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A directory, FIFO, socket or device.
    NotRegular,
    /// Not a directory.
    NotDirectory,
    /// A symbolic link where none may be, or of a user who is not trusted.
    Link,
    /// The file of the user with this uid.
    Owner(u32),
    /// More bytes than this.
    TooLong(u64),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotRegular => f.write_str("it is not a regular file"),
            Refusal::NotDirectory => f.write_str("it is not a directory"),
            Refusal::Link => f.write_str("it is a symbolic link that is not trusted"),
            Refusal::Owner(uid) => write!(f, "it belongs to uid {uid}"),
            Refusal::TooLong(bytes) => write!(f, "it is longer than {bytes} bytes"),
        }
    }
}

impl Error for Refusal {}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        let kind = match refusal {
            Refusal::Owner(_) | Refusal::Link => io::ErrorKind::PermissionDenied,
            Refusal::TooLong(_) => io::ErrorKind::FileTooLarge,
            Refusal::NotRegular => io::ErrorKind::InvalidInput,
            Refusal::NotDirectory => io::ErrorKind::NotADirectory,
        };
        io::Error::new(kind, refusal)
    }
}

/// Returns the refusal that an error of this module stands for, if it is one.
#[must_use]
pub fn refusal(error: &io::Error) -> Option<Refusal> {
    error.get_ref()?.downcast_ref().copied()
}

/// Opens a regular file for reading.
///
/// # Errors
///
/// Of open(2), and each [`Refusal`] but `TooLong`.
pub fn open(path: &Path, owner: Owner, links: Links) -> io::Result<File> {
    regular(File::from(follow(path, WantedKind::File, links)?), owner)
}

/// Reads a whole regular file of at most `bytes_max` bytes.
///
/// # Errors
///
/// Those of [`open`] and read(2), and `TooLong`.
pub fn read(path: &Path, owner: Owner, links: Links, bytes_max: u64) -> io::Result<Vec<u8>> {
    read_whole(&open(path, owner, links)?, bytes_max)
}

/// Reads a file from where it stands to its end; not more than `bytes_max` bytes and one.
///
/// # Errors
///
/// Of read(2), and `TooLong`.
pub fn read_whole(file: &File, bytes_max: u64) -> io::Result<Vec<u8>> {
    if file.metadata()?.len() > bytes_max {
        return Err(Refusal::TooLong(bytes_max).into());
    }
    let mut bytes = Vec::new();
    // It may have grown since, and a device has no size at all.
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > bytes_max {
        true => Err(Refusal::TooLong(bytes_max).into()),
        false => Ok(bytes),
    }
}

/// An opened directory: what is done in it cannot be led elsewhere by a rename of its path.
#[derive(Debug)]
pub struct Directory(OwnedFd);

/// O_PATH: to make a file in it takes no permission to list it.
const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

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

    /// Makes a file under a name that nothing has yet. All that is written goes to its end.
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
                Ok(file) => return Ok(NewFile::new(self, name, file)),
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

    /// Opens the directory once more, for locks and for fsync(2).
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

fn regular(file: File, owner: Owner) -> io::Result<File> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(Refusal::NotRegular.into());
    }
    check_owner(meta.uid(), owner)?;
    Ok(file)
}

fn check_owner(uid: u32, owner: Owner) -> io::Result<()> {
    let us = geteuid().as_raw();
    let is_right = match owner {
        Owner::Us => uid == us,
        Owner::UsOrRoot => uid == us || uid == 0,
        Owner::Anybody => true,
    };
    if is_right { Ok(()) } else { Err(Refusal::Owner(uid).into()) }
}

mod last_part;
mod modes;
mod new_file;

#[cfg(test)]
mod tests;
