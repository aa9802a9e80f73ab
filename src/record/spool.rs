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
use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::renameat;
use nix::sys::stat::{Mode, fchmod};

use crate::files::{self, Directory, Links, Owner};
use crate::record::row::csv::RowError;
use crate::record::row::{Column, Header, Row, SCHEMA};
use crate::record::table::{Table, directory_of, is_trusted};

/// So many files are merged at a time at most: others wait for the lock.
const MERGED_MAX: usize = 64;

/// So many entries of the folder are looked at for them.
const ENTRIES_MAX: usize = 4096;

/// A file that is larger is left to `nanny collect`.
const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// If more was appended since a merger was killed, the file is left to `nanny collect`.
const SEARCHED_BYTES_MAX: u64 = 64 * 1024 * 1024;

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

    /// Returns whether it is there; whatever comes a moment later is for the next one.
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
            file.write_all(text)?;
            if sync {
                file.file().sync_data()?;
            }
            file.replace(OsStr::new(&name))
        };
        match put() {
            // A merger removed the empty folder just then.
            Err(error) if error.kind() == ErrorKind::NotFound => put(),
            other => other,
        }?;
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
            // Where it cannot be, those of the umask will have to do.
            fchmod(&directory, Mode::from_bits_truncate(above.mode() & 0o3777)).ok();
        }
        Ok(directory)
    }

    /// Opens the folder; one that somebody else forced into being is none.
    fn open(&self) -> io::Result<Directory> {
        let directory = Directory::open(&self.directory, Links::Refused)?;
        let above = fs::metadata(directory_of(&self.directory))?;
        match is_trusted(&directory.metadata()?, &above) {
            true => Ok(directory),
            false => Err(ErrorKind::NotADirectory.into()),
        }
    }

    /// Merges some of what is there into the table; returns whether there may be more. What cannot be
    /// merged stays for `nanny collect`.
    pub(super) fn merge_into(&self, table: &mut Table, sync: bool) -> io::Result<bool> {
        let directory = match self.open() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let names = self.names()?;
        // What was begun comes first, while its rows are near the end.
        let begun = names.iter().filter_map(|name| Some((name, begun_at(name)?)));
        for (name, begun) in begun.take(MERGED_MAX) {
            finish((&directory, name), begun, table, sync)?;
        }
        let whole: Vec<&String> = names.iter().filter(|name| is_whole(name)).collect();
        for name in whole.iter().take(MERGED_MAX) {
            merge(&directory, name, table, sync)?;
        }
        // It stays as long as anything is in it.
        fs::remove_dir(&self.directory).ok();
        Ok(whole.len() > MERGED_MAX)
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
    pub(super) fn unfit(&self) -> io::Result<Vec<(PathBuf, String)>> {
        let directory = match self.open() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let names = self.names()?.into_iter();
        let names = names.filter(|name| is_whole(name) || begun_at(name).is_some());
        let why = |name: String| {
            let why = read(&directory, &name).err()?;
            Some((self.directory.join(name), why))
        };
        Ok(names.filter_map(why).collect())
    }
}

fn merge(directory: &Directory, name: &str, table: &mut Table, sync: bool) -> io::Result<()> {
    let Some(lines) = lines_for(directory, name, table) else { return Ok(()) };
    let (inode, offset) = table.end();
    let stem = name.strip_suffix(".csv").unwrap_or(name);
    let begun = format!("{stem}.{inode}.{offset}.merging");
    // Another user's in a sticky folder is his to merge.
    if renameat(directory, name, directory, begun.as_str()).is_err() {
        return Ok(());
    }
    if let Err(error) = table.append(&lines.concat()) {
        renameat(directory, begun.as_str(), directory, name)?;
        return Err(error);
    }
    if sync {
        table.sync()?;
    }
    directory.remove(OsStr::new(&begun))
}

/// Finishes what a merger began who was killed.
fn finish(
    (directory, name): (&Directory, &str),
    begun: Begun,
    table: &mut Table,
    sync: bool,
) -> io::Result<()> {
    let (inode, end) = table.end();
    let is_findable =
        begun.inode == inode && begun.offset <= end && end - begun.offset <= SEARCHED_BYTES_MAX;
    // The file was rotated since: nobody can say what became of the rows.
    let Some(lines) = is_findable.then(|| lines_for(directory, name, table)).flatten() else {
        return Ok(());
    };
    let since = table.since(begun.offset)?;
    let there: HashSet<&[u8]> = since.split_inclusive(|byte| *byte == b'\n').collect();
    let missing: Vec<Vec<u8>> =
        lines.into_iter().filter(|line| !there.contains(line.as_slice())).collect();
    if !missing.is_empty() {
        table.append(&missing.concat())?;
        if sync {
            table.sync()?;
        }
    }
    directory.remove(OsStr::new(name))
}

/// Where a merger was about to append.
#[derive(Clone, Copy)]
struct Begun {
    inode: u64,
    offset: u64,
}

fn begun_at(name: &str) -> Option<Begun> {
    let (rest, offset) = name.strip_suffix(".merging")?.rsplit_once('.')?;
    let (_, inode) = rest.rsplit_once('.')?;
    Some(Begun { inode: inode.parse().ok()?, offset: offset.parse().ok()? })
}

/// Whether it is a file of rows, and no shared one.
fn is_whole(name: &str) -> bool {
    name.ends_with(".csv") && !name.starts_with('.') && !name.starts_with("schema-")
}

/// Reads a file of rows, each of which must be of the file's owner, or says why it is none.
fn read(directory: &Directory, name: &str) -> Result<(Header, Vec<Row>), String> {
    let failed = |error: io::Error| error.to_string();
    let file = directory.file(OsStr::new(name), Owner::Anybody).map_err(failed)?;
    let owner = file.metadata().map_err(failed)?.uid();
    let text = files::read_whole(&file, BYTES_MAX).map_err(failed)?;
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let header = lines.next().and_then(Header::parse).ok_or("it is not a record of childminder")?;
    let rows: Result<Vec<Row>, RowError> = lines.map(|line| Row::parse(&header, line)).collect();
    let rows = rows.map_err(|error| error.to_string())?;
    let is_ours = owner == nix::unistd::geteuid().as_raw();
    let stranger = rows.iter().find(|row| match row.text(Column::Uid) {
        uid if uid.is_empty() => !is_ours,
        uid => uid.parse() != Ok(owner),
    });
    match stranger {
        None => Ok((header, rows)),
        Some(row) => {
            let uid = row.text(Column::Uid);
            Err(format!("it belongs to uid {owner} and has a row of uid '{uid}'"))
        }
    }
}

/// Returns the rows of a file as lines of the table; `None` if not all can be, without loss.
fn lines_for(directory: &Directory, name: &str, table: &Table) -> Option<Vec<Vec<u8>>> {
    let (header, rows) = read(directory, name).ok()?;
    let is_lossless = table.header().covers(&header);
    let line = |row: &Row| row.to_csv_line_under(table.header());
    is_lossless.then(|| rows.iter().map(line).collect())
}
