//! The folder `FILE.d` beside the shared file: rows that had to go into files of their own, and how
//! they come into the shared one exactly once.
//!
//! A file of rows appears whole, by rename(2). Whoever merges it holds the lock of the shared file and
//! says so first, by renaming it to `NAME.INODE.OFFSET.merging`: to be appended to that file at that
//! offset. If he is killed before he has removed it, the next one looks whether the rows are in that
//! file from that offset on, and appends those that are not.
//!
//! Others may be able to make files there. A file is merged only if all its rows are of the user that it
//! belongs to.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::renameat;

use crate::files::{self, Directory, Links, Owner};
use crate::record::row::{Column, Header, Row, SCHEMA};
use crate::record::table::{Table, directory_of, is_trusted};
use crate::record::unfit::NotMerged;

/// Files that are merged at a time at most, because others wait for the lock.
const MERGED_MAX: usize = 64;

/// Entries of the folder that are read at most to find them.
const ENTRIES_MAX: usize = 4096;

/// The rows of one run, or of one batch of `nanny collect`, take a fraction of this: a file that is
/// larger, as it is or as lines of the table, is not merged.
const BYTES_MAX: usize = 1024 * 1024;

/// The same for its rows.
const ROWS_MAX: usize = 4096;

/// A row takes as long as this number of bytes, however short it is.
const ROW_BYTES: u64 = 512;

/// If more was appended since a merger was killed, the file is not merged. It is also the most that is
/// searched in one merge, for all such files.
const SEARCHED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How often a file is begun whose folder was removed just then.
const TRIES_MAX: u32 = 100;

/// At most this number of bytes is read in one merge by a run, which has its own rows to keep.
pub(super) const MERGED_BYTES_MAX: u64 = BYTES_MAX as u64;

/// See the module's documentation.
pub(super) struct Spool {
    directory: PathBuf,
}

impl Spool {
    /// The folder of a shared file; it need not be there.
    pub(super) fn beside(file: &Path) -> Spool {
        let mut directory = file.as_os_str().to_owned();
        directory.push(".d");
        Spool { directory: directory.into() }
    }

    /// Returns whether it is there; what is added afterwards is left to the next merge.
    pub(super) fn exists(&self) -> bool {
        nix::unistd::access(&self.directory, nix::unistd::AccessFlags::F_OK).is_ok()
    }

    /// Returns the shared file for rows with columns that the first one lacks.
    pub(super) fn sibling(&self) -> io::Result<PathBuf> {
        self.make()?;
        Ok(self.directory.join(format!("schema-{SCHEMA}.csv")))
    }

    /// Keeps rows in a file of that name, which must not be there.
    pub(super) fn keep(&self, name: &str, rows: &[Row], sync: bool) -> io::Result<PathBuf> {
        let lines = rows.iter().flat_map(Row::to_csv_line);
        let text: Vec<u8> = Header::ours().to_csv_line().into_iter().chain(lines).collect();
        self.put(name, "csv", &text, sync)
    }

    /// Sets the torn end of a file aside.
    pub(super) fn keep_torn(&self, name: &str, text: &[u8], sync: bool) -> io::Result<PathBuf> {
        self.put(name, "torn", text, sync)
    }

    fn put(&self, name: &str, ending: &str, text: &[u8], sync: bool) -> io::Result<PathBuf> {
        let name = format!("{name}.{ending}");
        let put = || {
            let directory = self.make()?;
            let mut file = directory.begin(0o666)?;
            files::let_owner(file.file(), 0o600)?;
            file.write_all(text)?;
            if sync {
                file.file().sync_data()?;
            }
            file.replace(OsStr::new(&name))
        };
        let mut tries = 1;
        loop {
            match put() {
                // A merger removed the empty folder just then; where many merge, again and again.
                Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES_MAX => {
                    tries += 1
                }
                other => break other?,
            }
        }
        Ok(self.directory.join(name))
    }

    /// Makes the folder, for the same people as the one that it is in, and opens it.
    pub(super) fn make(&self) -> io::Result<Directory> {
        let is_new = match DirBuilder::new().mode(0o777).create(&self.directory) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error),
        };
        let directory = self.open()?;
        // By its descriptor: under the name there may be something else by now.
        if is_new && directory.metadata()?.uid() == nix::unistd::geteuid().as_raw() {
            let above = fs::metadata(directory_of(&self.directory))?;
            files::share_like(&directory, &above)?;
        }
        Ok(directory)
    }

    /// Opens the folder; one that somebody else had made for us is not used.
    fn open(&self) -> io::Result<Directory> {
        let directory = Directory::open(&self.directory, Links::Refused)?;
        let above = fs::metadata(directory_of(&self.directory))?;
        match is_trusted(&directory.metadata()?, &above) {
            true => Ok(directory),
            false => Err(ErrorKind::NotADirectory.into()),
        }
    }

    /// Merges some of what is there into the table: 64 files at most, and about `bytes_max` bytes of those
    /// that are there, fit or not. Returns whether there may be more. What cannot be merged stays.
    pub(super) fn merge_into(
        &self,
        table: &mut Table,
        sync: bool,
        bytes_max: u64,
    ) -> io::Result<bool> {
        let directory = match self.open() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let names = self.names()?;
        let mut merge = Merge { directory: &directory, table, sync, bytes_left: bytes_max };
        // What was begun comes first, while its rows are near the end.
        let begun = names.iter().filter_map(|name| Some((name, begun_at(name)?)));
        let mut searched_left = SEARCHED_BYTES_MAX;
        for (name, begun) in begun.take(MERGED_MAX) {
            merge.finish(name, begun, &mut searched_left)?;
        }
        let mut whole: Vec<&String> = names.iter().filter(|name| is_whole(name)).collect();
        // Whatever somebody put there, no file is always behind it.
        let count = whole.len().max(1);
        whole.rotate_left(random() % count);
        let mut merged = 0;
        for name in &whole {
            if merged == MERGED_MAX || merge.bytes_left == 0 {
                return Ok(true);
            }
            merged += usize::from(merge.merge(name)?);
        }
        // It stays as long as anything is in it.
        fs::remove_dir(&self.directory).ok();
        Ok(false)
    }

    /// Returns the names in it, sorted.
    fn names(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.directory)?.take(ENTRIES_MAX).flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Returns the files that cannot be merged as they are, and why.
    pub(super) fn unfit(&self) -> io::Result<Vec<(PathBuf, NotMerged)>> {
        let directory = match self.open() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let names = self.names()?.into_iter();
        let names = names.filter(|name| is_whole(name) || begun_at(name).is_some());
        let why = |name: String| {
            let read = SpooledFile::open(&directory, &name).map(|(waiting, _)| waiting);
            let why = read.and_then(|waiting| waiting.rows().try_for_each(|row| row.map(drop)));
            Some((self.directory.join(name), why.err()?))
        };
        Ok(names.filter_map(why).collect())
    }
}

struct Merge<'a> {
    directory: &'a Directory,
    table: &'a mut Table,
    sync: bool,
    /// How much may still be read.
    bytes_left: u64,
}

impl Merge<'_> {
    /// Merges a file, if that can be done; returns whether it was.
    fn merge(&mut self, name: &str) -> io::Result<bool> {
        let Some(lines) = self.lines_of(name) else { return Ok(false) };
        let (inode, offset) = self.table.end();
        let stem = name.strip_suffix(".csv").unwrap_or(name);
        let begun = format!("{stem}.{inode}.{offset}.merging");
        let rename = |from: &str, to: &str| renameat(self.directory, from, self.directory, to);
        // Another user's in a sticky folder is his to merge.
        if rename(name, &begun).is_err() {
            return Ok(false);
        }
        if let Err(error) = self.table.append(&lines) {
            rename(&begun, name)?;
            return Err(error);
        }
        self.done(&begun)?;
        Ok(true)
    }

    /// Finishes a merge whose process was killed.
    fn finish(&mut self, name: &str, begun: BegunMerge, searched_left: &mut u64) -> io::Result<()> {
        let (inode, end) = self.table.end();
        let since = end.checked_sub(begun.offset).filter(|_| begun.inode == inode);
        let Some(since) = since.filter(|since| since <= searched_left) else {
            // The file was rotated since, or too much was written: nobody says what became of the rows.
            return Ok(());
        };
        let Some(lines) = self.lines_of(name) else { return Ok(()) };
        *searched_left -= since;
        let lines: Vec<&[u8]> = lines.split_inclusive(|byte| *byte == b'\n').collect();
        let mut missing: HashSet<&[u8]> = lines.iter().copied().collect();
        self.table.each_line_since(begun.offset, BYTES_MAX, |line| {
            missing.remove(line);
        })?;
        let lines: Vec<&[u8]> = lines.into_iter().filter(|line| missing.contains(line)).collect();
        if !lines.is_empty() {
            self.table.append(&lines.concat())?;
        }
        self.done(name)
    }

    fn done(&self, name: &str) -> io::Result<()> {
        if self.sync {
            self.table.sync()?;
        }
        self.directory.remove(OsStr::new(name))
    }

    /// Returns the rows of a file as lines of the table; `None` if not all can be, without loss.
    fn lines_of(&mut self, name: &str) -> Option<Vec<u8>> {
        let (waiting, bytes) = SpooledFile::open(self.directory, name).ok()?;
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        let header = self.table.header();
        if !header.covers(&waiting.header) {
            return None;
        }
        let mut lines = Vec::new();
        for (count, row) in waiting.rows().enumerate() {
            self.bytes_left = self.bytes_left.saturating_sub(ROW_BYTES);
            row.ok()?.push_csv_line(header, &mut lines);
            // Few cells become many.
            if count == ROWS_MAX || lines.len() > BYTES_MAX {
                return None;
            }
        }
        Some(lines)
    }
}

/// A random number, of which nothing depends but whose turn it is.
fn random() -> usize {
    RandomState::new().build_hasher().finish() as usize
}

/// Where a merger was about to append.
#[derive(Clone, Copy)]
struct BegunMerge {
    inode: u64,
    offset: u64,
}

fn begun_at(name: &str) -> Option<BegunMerge> {
    let (rest, offset) = name.strip_suffix(".merging")?.rsplit_once('.')?;
    let (_, inode) = rest.rsplit_once('.')?;
    Some(BegunMerge { inode: inode.parse().ok()?, offset: offset.parse().ok()? })
}

/// Whether it is a file of rows, and no shared one.
fn is_whole(name: &str) -> bool {
    name.ends_with(".csv") && !name.starts_with('.') && !name.starts_with("schema-")
}

/// A file of rows.
struct SpooledFile {
    header: Header,
    /// The lines below the header.
    text: Vec<u8>,
    owner: u32,
}

impl SpooledFile {
    /// Reads it, or says why it is not a file of rows; also returns how many bytes were read.
    fn open(directory: &Directory, name: &str) -> Result<(SpooledFile, u64), NotMerged> {
        let file = directory.file(OsStr::new(name), Owner::Anybody).map_err(NotMerged::Read)?;
        let owner = file.metadata().map_err(NotMerged::Read)?.uid();
        let mut text = files::read_whole(&file, BYTES_MAX as u64).map_err(NotMerged::Read)?;
        let bytes = text.len() as u64;
        let end = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| end + 1);
        let header = Header::parse(&text[..end]).ok_or(NotMerged::NotARecord)?;
        text.drain(..end);
        Ok((SpooledFile { header, text, owner }, bytes))
    }

    /// Its rows, one at a time; each must be of the file's owner.
    fn rows(&self) -> impl Iterator<Item = Result<Row, NotMerged>> {
        let is_ours = self.owner == nix::unistd::geteuid().as_raw();
        let lines = self.text.split_inclusive(|byte| *byte == b'\n');
        lines.map(move |line| {
            let row = Row::parse(&self.header, line).map_err(NotMerged::Row)?;
            let uid = row.text(Column::Uid);
            let is_his = if uid.is_empty() { is_ours } else { uid.parse() == Ok(self.owner) };
            match is_his {
                true => Ok(row),
                false => {
                    let uid = uid.into_owned();
                    Err(NotMerged::AnothersRow { owner: self.owner, uid })
                }
            }
        })
    }
}
