//! What is trusted, how everything is opened, and why something was refused.

use std::error::Error;
use std::fmt;
use std::io;

use nix::fcntl::OFlag;

/// How each file is opened: O_NONBLOCK is for a FIFO and for a lease of another process (fcntl(2)).
pub(super) const GUARDED: OFlag =
    OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC).union(OFlag::O_NOCTTY);

/// O_PATH: to make a file in it takes no permission to list it.
pub(super) const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

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
