//! Keeps rows where they belong or, failing that, where they are found again.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::files::Directory;
use crate::model::text::Escaped;
use crate::model::time::Moment;
use crate::record::key::NoKey;
use crate::record::lock::Patience;
use crate::record::network::network_filesystem;
use crate::record::row::{Column, Header, Row};
use crate::record::seal::Key;
use crate::record::spool::{MERGED_BYTES_MAX, Spool};
use crate::record::table::{Table, Unlocked, hold};
use crate::record::unfit::{NotMerged, Unfit};

/// How long the lock is waited for.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Keeps the rows of one run.
pub struct Writer {
    file: PathBuf,
    spool: Spool,
    /// The shared file, still open.
    last: Option<Unlocked>,
    /// Whether somebody's rows, or ours, may wait in the folder.
    shall_merge: bool,
    /// Unlike that of any other writer: the run and our pid.
    name: String,
    /// How many files of our own were made.
    count: u32,
    sync: bool,
    now: fn() -> Moment,
    patience: Duration,
    /// How much of what others kept apart is read in one merge.
    merged_bytes_max: u64,
    /// Where the key comes from, until it was asked for.
    find_key: Option<FindKey>,
    key: Option<Key>,
    no_key: Option<NoKey>,
}

/// Reads the key that rows are sealed with, or makes it.
pub type FindKey = Box<dyn FnOnce() -> Result<Key, NoKey> + Send>;

/// Where rows are now.
#[derive(Debug)]
pub enum Kept {
    /// In the shared file.
    Shared,
    /// In a file of their own, because of that.
    Apart(PathBuf, KeepError),
}

/// Why rows are not in the shared file.
#[derive(Debug)]
pub struct KeepError {
    file: PathBuf,
    kind: KeepErrorKind,
}

#[derive(Debug)]
enum KeepErrorKind {
    Refused(&'static str),
    Network(&'static str),
    Failed(&'static str, io::Error),
    /// Nor could they be kept in `FILE.d`.
    Both(Box<KeepErrorKind>, io::Error),
}

impl fmt::Display for KeepErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepErrorKind::Refused(reason) => f.write_str(reason),
            KeepErrorKind::Network(name) => write!(f, "it is on a network filesystem ({name})"),
            KeepErrorKind::Failed(action, source) => {
                write!(f, "could not {action}: {}", without_number(source))
            }
            KeepErrorKind::Both(first, second) => {
                write!(
                    f,
                    "{first}; and no file can be made in the folder beside it: {}",
                    without_number(second)
                )
            }
        }
    }
}

/// std adds the number to the kernel's words.
fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or_default().to_owned()
}

impl fmt::Display for KeepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "central log '{}': {}", Escaped(&self.file.to_string_lossy()), self.kind)
    }
}

impl std::error::Error for KeepError {}

impl Writer {
    /// Prepares to write; opens nothing. `name` must be unlike that of any other writer, and `now` is
    /// CLOCK_MONOTONIC.
    #[must_use]
    pub fn new(file: &Path, name: String, now: fn() -> Moment) -> Writer {
        let spool = Spool::beside(file);
        let file = file.to_owned();
        Writer {
            file,
            spool,
            last: None,
            shall_merge: true,
            name,
            count: 0,
            sync: false,
            now,
            patience: LOCK_PATIENCE,
            merged_bytes_max: MERGED_BYTES_MAX,
            find_key: None,
            key: None,
            no_key: None,
        }
    }

    /// Seals rows that have our own uid; the key is looked for when the first row is kept.
    #[must_use]
    pub fn sealed(self, find_key: FindKey) -> Writer {
        Writer { find_key: Some(find_key), ..self }
    }

    /// Looks for the key; returns, once, why rows are kept without a seal.
    pub fn take_no_key(&mut self) -> Option<NoKey> {
        self.look_for_key();
        self.no_key.take()
    }

    fn look_for_key(&mut self) {
        match self.find_key.take().map(|find| find()) {
            Some(Ok(key)) => self.key = Some(key),
            Some(Err(why)) => self.no_key = Some(why),
            None => {}
        }
    }

    /// With `--central-sync` rows are on the disk when they are said to be kept.
    #[must_use]
    pub fn synced(self, sync: bool) -> Writer {
        Writer { sync, ..self }
    }

    /// Waits another time for the lock, and merges 64 files at a time whatever their size: for a program
    /// that has nothing else to do.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Writer {
        Writer { patience, merged_bytes_max: u64::MAX, ..self }
    }

    /// Keeps rows: all of them in one place, and each whole.
    ///
    /// # Errors
    ///
    /// They could be kept nowhere: now the caller has to report them.
    pub fn keep(&mut self, rows: &[Row]) -> Result<Kept, KeepError> {
        self.look_for_key();
        let mut rows = rows.to_vec();
        self.seal(&mut rows);
        // Until the rows can be read somewhere, the open file says that they are on their way: nanny rerun
        // waits for the runs that hold it.
        let _held = self.last.is_none().then(|| hold(&self.file));
        let network = match self.last {
            // Of the file that is open that is known.
            Some(_) => None,
            None => network_filesystem(&self.file),
        };
        let kind = match network {
            Some(name) => KeepErrorKind::Network(name),
            None => match self.share(&rows) {
                Ok(()) => return Ok(Kept::Shared),
                Err(Unfit::Refused(reason)) => {
                    return Err(self.failed(KeepErrorKind::Refused(reason)));
                }
                Err(Unfit::Narrow) => KeepErrorKind::Refused("it lacks columns, as does the next"),
                Err(Unfit::Hindered(action, source)) => KeepErrorKind::Failed(action, source),
            },
        };
        let name = self.next_name();
        self.shall_merge = true;
        rows.iter_mut().for_each(|row| row.set(Column::Apart, "true"));
        self.seal(&mut rows);
        match self.spool.keep(&name, &rows, self.sync) {
            Ok(path) => Ok(Kept::Apart(path, self.failed(kind))),
            Err(error) => Err(self.failed(KeepErrorKind::Both(Box::new(kind), error))),
        }
    }

    fn seal(&self, rows: &mut [Row]) {
        self.key.iter().for_each(|key| rows.iter_mut().for_each(|row| key.seal(row)));
    }

    fn failed(&self, kind: KeepErrorKind) -> KeepError {
        KeepError { file: self.file.clone(), kind }
    }

    fn next_name(&mut self) -> String {
        self.count += 1;
        format!("{}-{}", self.name, self.count)
    }

    fn share(&mut self, rows: &[Row]) -> Result<(), Unfit> {
        // What can be done before the lock is not done while others wait for it.
        let lines = lines_under(Header::ours_shared(), rows);
        let shall_merge = self.shall_merge && self.spool.exists();
        self.shall_merge = shall_merge;
        let patience = Patience { now: self.now, until: (self.now)() + self.patience };
        let (mut table, is_first) = match Table::open(&self.file, self.last.take(), patience) {
            Err(Unfit::Narrow) => {
                let sibling = self.spool.sibling();
                let sibling = sibling.map_err(|error| Unfit::Hindered("go beside it", error))?;
                (Table::open(&sibling, None, patience)?, false)
            }
            other => (other?, true),
        };
        let written = match table.has_our_header() {
            true => self.write(&mut table, &lines),
            false => {
                let lines = lines_under(table.header(), rows);
                self.write(&mut table, &lines)
            }
        };
        if written.is_ok() && shall_merge {
            // Our own rows are safe; those of others wait for the next writer that can merge them.
            self.shall_merge =
                self.spool.merge_into(&mut table, self.sync, self.merged_bytes_max).unwrap_or(true);
        }
        let last = table.unlock();
        // A sibling is for this time only: the first file may be rotated.
        self.last = (written.is_ok() && is_first).then_some(last);
        written
    }

    fn write(&mut self, table: &mut Table, lines: &[u8]) -> Result<(), Unfit> {
        self.mend(table)?;
        let before = table.length();
        table.append(lines).map_err(|error| Unfit::Hindered("write to it", error))?;
        if self.sync
            && let Err(error) = table.sync()
        {
            // They are to be in one place, not in two.
            let failed = |_| Unfit::Refused("its rows may not be on the disk");
            table.cut_to(before).map_err(failed)?;
            return Err(Unfit::Hindered("sync it", error));
        }
        Ok(())
    }

    /// Takes care of a torn last line, so that our rows begin on a line of their own.
    fn mend(&mut self, table: &mut Table) -> Result<(), Unfit> {
        let failed = |error| Unfit::Hindered("mend its last line", error);
        let torn = table.torn().map_err(failed)?;
        if torn.is_empty() {
            return Ok(());
        }
        if torn.ends_with(b"\r") {
            // Only half of its end is missing.
            return table.append(b"\n").map_err(failed);
        }
        let name = self.next_name();
        self.spool.keep_torn(&name, &torn, self.sync).map_err(failed)?;
        table.cut_to(table.length() - torn.len() as u64).map_err(failed)
    }
}

/// Makes the folder beside a record, for the same people as the one that it is in, and opens it.
///
/// # Errors
///
/// It cannot be made, or cannot be trusted.
pub fn make_folder(file: &Path) -> io::Result<Directory> {
    Spool::beside(file).make()
}

/// Returns the files beside a record that cannot be merged as they are, and why.
///
/// # Errors
///
/// The folder cannot be read, or cannot be trusted.
pub fn unfit(file: &Path) -> io::Result<Vec<(PathBuf, NotMerged)>> {
    Spool::beside(file).unfit()
}

fn lines_under(header: &Header, rows: &[Row]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(1024 * rows.len());
    rows.iter().for_each(|row| row.push_csv_line(header, &mut lines));
    lines
}
