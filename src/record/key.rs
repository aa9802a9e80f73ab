//! The file of a user's key, `seal.key` in $XDG_STATE_HOME/childminder (or ~/.local/state/childminder):
//! 32 random bytes that only this user can read, made by the first run that seals a row.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};

use crate::files::{self, Directory, Links, Owner};
use crate::record::seal::{KEY_BYTES, Key};

const NAME: &str = "seal.key";

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// There is no place where it could be: this user has no seals.
    NoPlace(String),
    /// There is a place, but no key that could be used.
    Unfit(String),
}

impl fmt::Display for NoKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoKey::NoPlace(why) | NoKey::Unfit(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for NoKey {}

/// Chooses the directory of a user's key among those where it may be, best first: one that is his, or
/// would be made in what is his. A home that belongs to somebody else (sudo(8) may keep HOME) is not
/// used.
///
/// # Errors
///
/// None of the candidates can be used.
pub fn directory(candidates: &[PathBuf], uid: u32) -> Result<PathBuf, NoKey> {
    let is_his = |directory: &&PathBuf| {
        let nearest = directory.ancestors().find_map(|above| fs::metadata(above).ok());
        directory.is_absolute() && nearest.is_some_and(|meta| meta.uid() == uid && meta.is_dir())
    };
    let found = candidates.iter().find(is_his).cloned();
    found.ok_or_else(|| NoKey::NoPlace(format!("uid {uid} has no home directory of its own")))
}

/// Reads the key of a user.
///
/// # Errors
///
/// It is not there, or others could have read or written it.
pub fn read(directory: &Path, uid: u32) -> Result<Key, NoKey> {
    let path = directory.join(NAME);
    let failed = |why: &str| NoKey::Unfit(format!("{}: {why}", path.display()));
    // Root reads the keys of others: what they may have put there must not block.
    let file = files::open(&path, Owner::Anybody, Links::Refused);
    let file = file.map_err(|error| match error.kind() {
        ErrorKind::NotFound => failed("it is not there: no run of this user has sealed a row"),
        _ => failed(&error.to_string()),
    })?;
    let meta = file.metadata().map_err(|error| failed(&error.to_string()))?;
    match (meta.uid() == uid, meta.mode() & 0o077) {
        (false, _) => return Err(failed(&format!("it belongs to uid {}", meta.uid()))),
        (_, 1..) => return Err(failed("others may read or write it (its mode must be 0600)")),
        _ => {}
    }
    let bytes = files::read_whole(&file, KEY_BYTES as u64);
    let bytes = bytes.map_err(|error| failed(&error.to_string()))?;
    let bytes: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| failed("it has not 32 bytes"))?;
    Ok(Key::new(&bytes, uid))
}

/// Reads the key of our own user, which is made if it is not there.
///
/// # Errors
///
/// It can be neither read nor made.
pub fn read_or_make(directory: &Path, uid: u32) -> Result<Key, NoKey> {
    if !directory.join(NAME).exists() {
        make(directory, uid).map_err(|error| {
            NoKey::NoPlace(format!("cannot make {}: {error}", directory.join(NAME).display()))
        })?;
    }
    read(directory, uid)
}

/// Makes the directory, for nobody else.
///
/// # Errors
///
/// It cannot be made, or others may write to it.
pub fn make_directory(directory: &Path, uid: u32) -> io::Result<()> {
    make_missing(directory)?;
    let meta = fs::metadata(directory)?;
    if meta.uid() == uid && meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::new(ErrorKind::PermissionDenied, "its directory is not this user's alone"))
}

/// Makes a directory and what is missing on the way to it. The umask of the run may take the bits that
/// its owner needs, so they are set.
fn make_missing(directory: &Path) -> io::Result<()> {
    let mut made = DirBuilder::new().mode(0o700).create(directory);
    if let (Err(error), Some(above)) = (&made, directory.parent())
        && error.kind() == io::ErrorKind::NotFound
    {
        make_missing(above)?;
        made = DirBuilder::new().mode(0o700).create(directory);
    }
    match made {
        Ok(()) => fs::set_permissions(directory, Permissions::from_mode(0o700)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the key. Whoever comes second keeps that of the first: the name is never replaced.
fn make(directory: &Path, uid: u32) -> io::Result<()> {
    make_directory(directory, uid)?;
    let failed = |_| io::Error::other("no random bytes");
    let mut key = [0; KEY_BYTES];
    SystemRandom::new().fill(&mut key).map_err(failed)?;
    let directory = Directory::open(directory, Links::Trusted)?;
    let mut file = directory.begin(0o600)?;
    // Whatever the umask took away.
    file.file().set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(&key)?;
    file.file().sync_all()?;
    match file.keep_as(OsStr::new(NAME)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::record::row::{Column, Row};

    fn uid() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    fn write_new(path: &Path, key: &[u8]) {
        fs::write(path, key).expect("written");
        fs::set_permissions(path, Permissions::from_mode(0o600)).expect("ours");
    }

    fn seal(key: &Key) -> String {
        let mut row = Row::default();
        row.show(Column::Uid, uid());
        key.seal(&mut row);
        row.text(Column::Seal).into_owned()
    }

    #[test]
    fn all_who_come_at_once_agree_on_one_key() {
        let place = tempfile::tempdir().expect("a directory");
        let directory = place.path().join("state/childminder");
        let keys: HashSet<String> = std::thread::scope(|scope| {
            let make = || seal(&read_or_make(&directory, uid()).expect("a key"));
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(keys.len(), 1);
        assert_eq!(fs::metadata(directory.join(NAME)).expect("there").mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&directory).expect("there").mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&directory).expect("there").count(), 1, "nothing else stays");
    }

    #[test]
    fn a_file_that_others_could_know_is_not_a_key() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join(NAME);
        let refused = |words: &str| {
            let error = read(place.path(), uid()).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
            fs::remove_file(&path).ok();
        };
        refused("it is not there");
        fs::write(&path, [1; KEY_BYTES]).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("ours");
        refused("others may read");
        write_new(&path, &[1; KEY_BYTES - 1]);
        refused("32 bytes");
        write_new(&path, &[1; KEY_BYTES + 1]);
        refused("longer than 32 bytes");
        symlink("/dev/zero", &path).expect("a link");
        refused("symbolic link");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        refused("not a regular file");
        write_new(&path, &[1; KEY_BYTES]);
        let other = read(place.path(), uid() + 1).expect_err("another's").to_string();
        assert!(other.contains("belongs to uid"), "{other}");
    }

    #[test]
    fn the_home_of_somebody_else_is_passed_over() {
        let place = tempfile::tempdir().expect("a directory");
        let ours = place.path().join("a/b/childminder");
        let candidates = ["relative".into(), ours.clone()];
        assert_eq!(directory(&candidates, uid()), Ok(ours.clone()));
        assert!(directory(&[ours], uid() + 1).is_err());
        assert!(directory(&[], uid()).is_err());
    }
}
