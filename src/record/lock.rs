//! The lock of the shared file: an open file description lock (fcntl(2)) over the whole of it.
//!
//! Whoever may only read the file can hold a read lock on it for ever. Such a lock keeps no writer away:
//! while there is one, no writer can have the first lock, and writers take a second one, on `FILE.lock`,
//! which only those can open who may write to the file. Who gets the first lock looks for that file
//! afterwards and, if it is there, takes its lock as well.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::model::time::Moment;
use crate::record::unfit::Unfit;

/// Between two tries for the lock at the most: who holds it has done in a fraction of this.
const PAUSE_MAX: Duration = Duration::from_millis(5);

/// Tries that are made at once, with a pause of about a microsecond: the lock is held for a few.
const SPINS: u32 = 4;
const SPIN: u32 = 30;

/// Tries that only let others run; after them the waits become longer.
const YIELDS: u32 = 16;

/// What the lock is waited for with.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// CLOCK_MONOTONIC.
    pub(super) now: fn() -> Moment,
    pub(super) until: Moment,
}

/// The lock; to be given back by [`Lock::release`].
pub(super) struct Lock {
    /// `FILE.lock`, where there is one.
    second: Option<File>,
}

impl Lock {
    /// Waits for the lock. fcntl(2) can wait by itself, but not until a deadline.
    pub(super) fn take(file: &File, path: &Path, patience: Patience) -> Result<Lock, Unfit> {
        let mut tries = 0;
        let mut pause = Duration::from_micros(50);
        loop {
            let taken = try_take(file, path).map_err(|error| Unfit::Hindered("lock it", error))?;
            if let Some(lock) = taken {
                return Ok(lock);
            }
            if (patience.now)() >= patience.until {
                return Err(Unfit::Hindered("lock it", ErrorKind::TimedOut.into()));
            }
            tries += 1;
            if tries < SPINS {
                (0..SPIN).for_each(|_| std::hint::spin_loop());
            } else if tries < YIELDS {
                std::thread::yield_now();
            } else {
                std::thread::park_timeout(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    /// Lets others write. To close the file would do as well, but for copies of the descriptor.
    pub(super) fn release(self, file: &File) {
        set_lock(file, libc::F_UNLCK).ok();
        self.second.iter().for_each(|second| drop(set_lock(second, libc::F_UNLCK)));
    }
}

/// Returns the lock, or `None` if another writer has it.
fn try_take(file: &File, path: &Path) -> io::Result<Option<Lock>> {
    let second = beside(path);
    if set_lock(file, libc::F_WRLCK)? {
        let second = open(&second, file, false).and_then(|second| match second {
            None => Ok(Some(Lock { second: None })),
            Some(second) => {
                let is_locked = set_lock(&second, libc::F_WRLCK)?;
                Ok(is_locked.then_some(Lock { second: Some(second) }))
            }
        });
        if !matches!(second, Ok(Some(_))) {
            set_lock(file, libc::F_UNLCK)?;
        }
        return second;
    }
    if !is_held_by_reader(file)? {
        return Ok(None);
    }
    let Some(second) = open(&second, file, true)? else { return Ok(None) };
    // Seen again under the second lock: whoever gets the first one from now on waits for the second.
    let has_both = set_lock(&second, libc::F_WRLCK)? && is_held_by_reader(file)?;
    Ok(has_both.then_some(Lock { second: Some(second) }))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Opens `FILE.lock`; `None` if it is not there, or is nothing that writers of the file agree on.
fn open(path: &Path, file: &File, shall_make: bool) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    options.read(true).write(true).custom_flags(flags);
    let opened = match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && shall_make => {
            let meta = file.metadata()?;
            let made = options.create_new(true).mode(0o600).open(path);
            made.and_then(|made| {
                // For the same people who may write to the file.
                std::os::unix::fs::fchown(&made, None, Some(meta.gid())).ok();
                let is_group = made.metadata()?.gid() == meta.gid();
                let bits = if is_group { 0o022 } else { 0o002 } & meta.mode();
                made.set_permissions(Permissions::from_mode(0o600 | bits | bits << 1))?;
                Ok(made)
            })
        }
        other => other,
    };
    match opened {
        Ok(opened) => {
            let is_fit = is_fit(&opened.metadata()?, &file.metadata()?);
            Ok(is_fit.then_some(opened))
        }
        // One that we cannot open, and writers may use.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && is_trusted(path, file) => {
            Err(error)
        }
        // A link or something else that is not a lock.
        Err(_) => Ok(None),
    }
}

fn is_trusted(path: &Path, file: &File) -> bool {
    match (std::fs::symlink_metadata(path), file.metadata()) {
        (Ok(lock), Ok(file)) => is_of_trusted(&lock, &file),
        _ => false,
    }
}

fn is_of_trusted(lock: &Metadata, file: &Metadata) -> bool {
    [nix::unistd::geteuid().as_raw(), 0, file.uid()].contains(&lock.uid())
}

/// Whether only those can open it who may write to the file.
fn is_fit(lock: &Metadata, file: &Metadata) -> bool {
    let is_shared = file.mode() & 0o022 != 0;
    // Whoever may read or write the lock, as bits of writing.
    let who = ((lock.mode() & 0o044) >> 1) | (lock.mode() & 0o022);
    let is_group = lock.gid() == file.gid() || who & 0o020 == 0;
    let is_narrow = who & !file.mode() == 0 && is_group;
    lock.is_file() && is_narrow && (is_shared || is_of_trusted(lock, file))
}

/// Takes or gives back the lock of a file; returns whether that was possible.
fn set_lock(file: &File, kind: libc::c_int) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole(kind))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES | Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether it is a read lock that keeps us from the lock. No writer takes one.
fn is_held_by_reader(file: &File) -> io::Result<bool> {
    let mut found = whole(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok(libc::c_int::from(found.l_type) == libc::F_RDLCK)
}

fn whole(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        // To the end, wherever that will be.
        l_len: 0,
        l_pid: 0,
    }
}
