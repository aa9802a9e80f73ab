//! Regular files that are open: whose they are, and their bytes up to a bound.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use nix::unistd::geteuid;

use crate::files::trust::{Owner, Refusal};

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

/// Returns the file if it is a regular one of that owner.
pub(super) fn regular(file: File, owner: Owner) -> io::Result<File> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(Refusal::NotRegular.into());
    }
    check_owner(meta.uid(), owner)?;
    Ok(file)
}

/// Refuses what belongs to somebody else.
pub(super) fn check_owner(uid: u32, owner: Owner) -> io::Result<()> {
    let us = geteuid().as_raw();
    let is_right = match owner {
        Owner::Us => uid == us,
        Owner::UsOrRoot => uid == us || uid == 0,
        Owner::Anybody => true,
    };
    if is_right { Ok(()) } else { Err(Refusal::Owner(uid).into()) }
}
