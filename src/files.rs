//! Opens, reads and replaces files under names that other users may have taken first.
//!
//! A name in a directory that others can write to may be a FIFO that blocks, a link to a file of the
//! victim, a device without end, or a file of somebody else. Here a file is opened without following
//! links and without blocking, then its descriptor is checked (fstat(2)): the type, the owner, the
//! size. A device is not even opened: that alone may rewind a tape or start a watchdog. Reading stops at the bound whatever the size was. A new file appears whole: it is written
//! under an unpredictable name by O_EXCL in an opened directory, then renamed or linked.
//!
//! It does not protect from whoever owns the directory itself or one above it, and not from a
//! filesystem that does not answer.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::files::last_part::{WantedKind, follow};
use crate::files::regular::regular;

pub use crate::files::directory::Directory;
pub use crate::files::id::FileId;
pub use crate::files::modes::{let_owner, set_mode, share_like};
pub use crate::files::regular::read_whole;
pub use crate::files::trust::{Links, Owner, Refusal, refusal};

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

mod directory;
mod id;
mod last_part;
mod modes;
mod new_file;
mod regular;
mod trust;

#[cfg(test)]
mod tests;
