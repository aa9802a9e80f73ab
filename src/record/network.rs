//! Which filesystems are on another machine (statfs(2)).

use std::fs::File;
use std::path::Path;

use nix::sys::statfs::{FsType, fstatfs, statfs};

use crate::record::table::directory_of;

/// Filesystems on which locks and appends of several hosts cannot be relied on, by the magic numbers
/// of statfs(2) and of their own sources.
const NETWORK: [(u64, &str); 14] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x1983_0326, "BeeGFS"),
    (0xaad7_aaea, "PanFS"),
    (0x7461_636f, "OCFS2"),
];

/// Returns the name of the network filesystem that the directory of a file is on.
pub(super) fn network_filesystem(path: &Path) -> Option<&'static str> {
    name_of(statfs(directory_of(path)).ok()?.filesystem_type())
}

/// Returns the name of the network filesystem that an open file is on: writing to it may wait for
/// another machine, or for a program of this one (FUSE), without a limit.
#[must_use]
pub fn network_filesystem_of(file: &File) -> Option<&'static str> {
    name_of(fstatfs(file).ok()?.filesystem_type())
}

fn name_of(kind: FsType) -> Option<&'static str> {
    // Its type is another one with each C library; the magic numbers have 32 bits.
    let kind = kind.0 as u64 & 0xffff_ffff;
    NETWORK.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
}
