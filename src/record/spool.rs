//! The folder `FILE.d` beside the shared file: rows that had to go into files of their own, and how
//! they come into the shared one exactly once.
//!
//! A file of rows appears whole, by rename(2). Whoever merges it holds the lock of the shared file and
//! says so first, by renaming it to `NAME.INODE.OFFSET.merging`: to be appended to that file at that
//! offset. If he is killed before he has removed it, the next one looks whether the rows are in that
//! file from that offset on, and appends those that are not.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::record::row::{Header, Row, SCHEMA};
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
        let target = self.directory.join(format!("{name}.{ending}"));
        let temporary = self.directory.join(format!(".{name}.{ending}.tmp"));
        let mut file = self.create(&temporary)?;
        let written = file
            .write_all(text)
            .and_then(|()| if sync { file.sync_data() } else { Ok(()) })
            .and_then(|()| fs::rename(&temporary, &target));
        if let Err(error) = written {
            // It is ours, and nobody was told of it.
            fs::remove_file(&temporary).ok();
            return Err(error);
        }
        Ok(target)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o666);
        self.make()?;
        match options.open(path) {
            // A merger removed the empty folder just then.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make()?;
                options.open(path)
            }
            other => other,
        }
    }

    /// Makes the folder, for the same people as the one that it is in.
    fn make(&self) -> io::Result<()> {
        let above = fs::metadata(directory_of(&self.directory))?;
        match DirBuilder::new().mode(0o777).create(&self.directory) {
            Ok(()) => {
                let mode = Permissions::from_mode(above.mode() & 0o3777);
                // Where it cannot be, those of the umask will have to do.
                fs::set_permissions(&self.directory, mode).ok();
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let meta = fs::symlink_metadata(&self.directory)?;
                let is_ours = meta.is_dir() && is_trusted(&meta, &above);
                if is_ours { Ok(()) } else { Err(ErrorKind::NotADirectory.into()) }
            }
            Err(error) => Err(error),
        }
    }

    /// Merges some of what is there into the table; returns whether there may be more. What cannot be
    /// merged stays for `nanny collect`.
    pub(super) fn merge_into(&self, table: &mut Table, sync: bool) -> io::Result<bool> {
        // What was begun comes first, while its rows are near the end.
        let mut entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            other => other?.take(ENTRIES_MAX).flatten().collect::<Vec<_>>(),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        let names: Vec<String> =
            entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let begun = names.iter().filter_map(|name| Some((name, begun_at(name)?)));
        for (name, begun) in begun.take(MERGED_MAX) {
            self.finish(&self.directory.join(name), begun, table, sync)?;
        }
        let whole: Vec<&String> = names.iter().filter(|name| is_whole(name)).collect();
        for name in whole.iter().take(MERGED_MAX) {
            self.merge(&self.directory.join(name), table, sync)?;
        }
        // It stays as long as anything is in it.
        fs::remove_dir(&self.directory).ok();
        Ok(whole.len() > MERGED_MAX)
    }

    fn merge(&self, path: &Path, table: &mut Table, sync: bool) -> io::Result<()> {
        let Some(lines) = lines_for(path, table) else { return Ok(()) };
        let (inode, offset) = table.end();
        let begun = path.with_extension(format!("{inode}.{offset}.merging"));
        // Another user's in a sticky folder is his to merge.
        if fs::rename(path, &begun).is_err() {
            return Ok(());
        }
        if let Err(error) = table.append(&lines.concat()) {
            fs::rename(&begun, path)?;
            return Err(error);
        }
        if sync {
            table.sync()?;
        }
        fs::remove_file(&begun)
    }

    /// Finishes what a merger began who was killed.
    fn finish(&self, path: &Path, begun: Begun, table: &mut Table, sync: bool) -> io::Result<()> {
        let (inode, end) = table.end();
        let is_findable =
            begun.inode == inode && begun.offset <= end && end - begun.offset <= SEARCHED_BYTES_MAX;
        // The file was rotated since: nobody can say what became of the rows.
        let Some(lines) = is_findable.then(|| lines_for(path, table)).flatten() else {
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
        fs::remove_file(path)
    }
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

/// Returns the rows of a file as lines of the table; `None` if not all can be, without loss.
fn lines_for(path: &Path, table: &Table) -> Option<Vec<Vec<u8>>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.len() > BYTES_MAX {
        return None;
    }
    let mut text = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut text).ok()?;
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let header = Header::parse(lines.next()?)?;
    if !table.header().covers(&header) {
        return None;
    }
    let line =
        |line: &[u8]| Some(Row::parse(&header, line).ok()?.to_csv_line_under(table.header()));
    lines.map(line).collect()
}
