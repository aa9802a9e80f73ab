//! Which file it is, whatever its names are.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Two of files that exist at the same time are equal if and only if they are of one file (inode(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

impl From<&Metadata> for FileId {
    fn from(meta: &Metadata) -> FileId {
        FileId { device: meta.dev(), inode: meta.ino() }
    }
}
