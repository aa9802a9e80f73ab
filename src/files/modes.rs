//! Permissions of what we made, by its descriptor, whatever the umask of the run took away.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use nix::sys::stat::fstat;

/// Gives the owner of a new file or directory those bits of `bits` (0700 at most) that the umask took:
/// what its owner can neither read nor write is of no use to the next run.
///
/// # Errors
///
/// Of fstat(2) and chmod(2).
pub fn let_owner(made: impl AsFd, bits: u32) -> io::Result<()> {
    let mode = fstat(&made)?.st_mode & 0o7777;
    match mode & bits == bits {
        true => Ok(()),
        false => set_mode(made, mode | bits),
    }
}

/// Gives a new directory to the same people as the one that it is in: its group, where we may, and
/// its permissions, those of the group only if it is the same group.
///
/// # Errors
///
/// Of fstat(2) and chmod(2).
pub fn share_like(made: impl AsFd, above: &Metadata) -> io::Result<()> {
    if fstat(&made)?.st_gid != above.gid() {
        chown(link_to(&made), None, Some(above.gid())).ok();
    }
    let is_group = fstat(&made)?.st_gid == above.gid();
    let unshared = if is_group { 0 } else { 0o2070 };
    set_mode(made, above.mode() & 0o3777 & !unshared | 0o700)
}

/// Sets the permissions of what is open, also with O_PATH, where fchmod(2) fails: the link in /proc
/// leads to it, whatever has its name by now.
///
/// # Errors
///
/// Of chmod(2); there may be no /proc.
pub fn set_mode(open: impl AsFd, mode: u32) -> io::Result<()> {
    fs::set_permissions(link_to(open), Permissions::from_mode(mode))
}

fn link_to(open: impl AsFd) -> String {
    format!("/proc/self/fd/{}", open.as_fd().as_raw_fd())
}
