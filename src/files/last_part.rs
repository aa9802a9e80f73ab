//! Opens what the last part of a path names, relative to its opened directory, link by link.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::geteuid;

use crate::files::trust::{DIRECTORY, GUARDED, Links, Refusal, refusal};

/// As many links in a row are followed, at most; the kernel itself follows 40.
const LINKS_MAX: u32 = 8;

/// What is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WantedKind {
    /// A regular file, for reading.
    File,
    /// A directory, with `O_PATH`.
    Directory,
}

/// Opens what a path names, through links as far as they are trusted.
pub(super) fn follow(path: &Path, wanted: WantedKind, links: Links) -> io::Result<OwnedFd> {
    // A slash at the end would have the kernel follow a link in spite of O_NOFOLLOW.
    let path = path.components().as_path();
    if wanted == WantedKind::Directory {
        // Mostly it is one, and costs one call.
        match openat(AT_FDCWD, path, DIRECTORY | GUARDED, Mode::empty()) {
            // ENOTDIR is what O_DIRECTORY makes of a link, too.
            Err(Errno::ELOOP | Errno::ENOTDIR) if links == Links::Trusted => {}
            other => return other.map_err(refused),
        }
    }
    let mut path = path.to_owned();
    let mut above = above(AT_FDCWD, &path)?;
    for _ in 0..LINKS_MAX {
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            // `/` or `..`, which are not links.
            return match wanted {
                WantedKind::File => Err(Refusal::NotRegular.into()),
                WantedKind::Directory => {
                    openat(&above, &path, DIRECTORY | GUARDED, Mode::empty()).map_err(refused)
                }
            };
        };
        let error = match open(&above, &name, wanted) {
            Err(error) if links == Links::Trusted => error,
            other => return other,
        };
        let is_link = |error: &io::Error| {
            let not_directory = error.raw_os_error() == Some(libc::ENOTDIR);
            not_directory || refusal(error) == Some(Refusal::Link)
        };
        let target = match is_link(&error) {
            true => link_target(&above, &name)?.ok_or(error)?,
            false => return Err(error),
        };
        above = self::above(above.as_fd(), &target)?;
        path = target;
    }
    Err(Refusal::Link.into())
}

fn open(above: &OwnedFd, name: &OsStr, wanted: WantedKind) -> io::Result<OwnedFd> {
    match wanted {
        WantedKind::File => open_regular(above, name),
        WantedKind::Directory => {
            openat(above, name, DIRECTORY | GUARDED, Mode::empty()).map_err(refused)
        }
    }
}

/// Opens a file in an opened directory for reading if it is a regular one. It is looked at first: to
/// open a device may be an action of its own (watchdog, tape), and to open a FIFO lets a writer go on.
/// Whoever can exchange the name in between cannot put a device there.
pub(super) fn open_regular(above: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    match fstatat(above, name, AtFlags::AT_SYMLINK_NOFOLLOW)?.st_mode & libc::S_IFMT {
        libc::S_IFREG => {}
        libc::S_IFLNK => return Err(Refusal::Link.into()),
        _ => return Err(Refusal::NotRegular.into()),
    }
    openat(above, name, OFlag::O_RDONLY | GUARDED, Mode::empty()).map_err(refused)
}

fn above(base: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let flags = DIRECTORY | OFlag::O_CLOEXEC;
    Ok(openat(base, parent.unwrap_or(Path::new(".")), flags, Mode::empty())?)
}

/// Reads a link that may be followed; `None` if it is not a link.
fn link_target(above: &OwnedFd, name: &OsStr) -> io::Result<Option<PathBuf>> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let link = openat(above, name, flags, Mode::empty())?;
    let about = fstat(&link)?;
    if about.st_mode & libc::S_IFMT != libc::S_IFLNK {
        return Ok(None);
    }
    let trusted = [geteuid().as_raw(), 0, fstat(above)?.st_uid];
    match trusted.contains(&about.st_uid) {
        // With an empty name it reads the very link that was looked at.
        true => Ok(Some(readlinkat(&link, c"")?.into())),
        false => Err(Refusal::Link.into()),
    }
}

/// What open(2) with our flags says of a link and of a socket.
fn refused(errno: Errno) -> io::Error {
    match errno {
        Errno::ELOOP => Refusal::Link.into(),
        Errno::ENXIO => Refusal::NotRegular.into(),
        other => other.into(),
    }
}
