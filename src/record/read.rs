//! Reads records: one or several, each with the rows that still wait beside it in `FILE.d`.
//!
//! Made for millions of rows: the bytes go through a buffer of fixed size, on two threads, and the
//! visitor sees each row as a slice of it and takes only the cells it needs. So a reader's memory is
//! what it keeps, not what it reads. A line that is torn or no row is skipped and counted.

use std::cell::Cell;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use memchr::{memchr, memchr_iter};

use crate::model::shared::lock;
use crate::record::cells;
use crate::record::lines::{LINE_BYTES_MAX, Lines, Segment, Source, read_at};
use crate::record::read::beside::{SPOOLED_MAX, spooled};
use crate::record::row::{Column, Row};
use crate::record::row_place::RowPlace;
use crate::record::skipped::{Skipped, Stretch};

pub use crate::record::read::beside::folder_beside;

/// What one thread takes at a time.
const SEGMENT_BYTES: u64 = 32 * 1024 * 1024;

/// More would only wait for the same memory.
const THREADS_MAX: usize = 2;

/// How often a record is opened again whose waiting rows were merged just then.
const MERGED_TRIES: u32 = 20;

/// As many of them are read for an answer that has to come at once.
const SPOOLED_OF_TAIL: usize = 200;

/// Files that are kept open at most: whoever can make files beside the record does not use up all
/// descriptors that a program may have (mostly 1024).
const KEPT_MAX: usize = 128;

/// The record cannot be read.
#[derive(Debug)]
pub struct ReadError {
    pub path: PathBuf,
    pub source: io::Error,
}

/// One row as it stands in the file, with as many cells as its header; valid until the next one.
pub struct RawRow<'a> {
    pub place: RowPlace,
    line: &'a [u8],
    source: &'a Source,
    /// Found when somebody looked closer.
    is_torn: Cell<bool>,
}

impl<'a> RawRow<'a> {
    /// Returns a cell as it stands in the file without the quotes around it: perhaps escaped; empty
    /// if the file has no such column.
    #[must_use]
    pub fn raw(&self, column: Column) -> &'a [u8] {
        let Some(position) = self.source.positions[column as usize] else { return &[] };
        cells::without_quotes(cells::nth(self.line, position).unwrap_or(&[]))
    }

    /// Returns several cells as [`RawRow::raw`] does, found in one pass.
    #[must_use]
    pub fn several<const N: usize>(&self, columns: [Column; N]) -> [&'a [u8]; N] {
        let positions = columns.map(|column| self.source.positions[column as usize]);
        cells::several(self.line, positions).map(cells::without_quotes)
    }

    /// Returns who alone, besides root, can write to the file that it is in; `None` if others can.
    #[must_use]
    pub fn only_writer(&self) -> Option<u32> {
        self.source.only_writer
    }

    /// Returns whether a cell holds that text.
    #[must_use]
    pub fn is(&self, column: Column, text: &str) -> bool {
        let raw = self.raw(column);
        if memchr::memchr2(b'\\', b'"', raw).is_none() {
            return raw == text.as_bytes();
        }
        self.row().is_some_and(|row| row.get(column) == text.as_bytes())
    }

    /// Returns the whole row; `None` if it is not a row after all.
    #[must_use]
    pub fn row(&self) -> Option<Row> {
        Row::parse(&self.source.header, self.line).ok()
    }

    /// Returns whether it has as many cells as the header, and its quotes are closed. To be asked
    /// about rows that are kept: for all it would take most of the time, so of others only the
    /// beginning is known to be that of a row.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let is_whole = cells::count(self.line) == Some(self.source.header.width());
        self.is_torn.set(!is_whole);
        is_whole
    }

    /// Returns whether it begins like a row of a run; `None` for one more header, as in files that
    /// were joined.
    fn is_row(&self) -> Option<bool> {
        let event = self.raw(Column::Event);
        let is_row = matches!(event, b"start" | b"attempt" | b"end");
        (event != Column::Event.name().as_bytes()).then_some(is_row)
    }
}

/// Records, open for reading.
pub struct Record {
    files: Vec<PathBuf>,
    sources: Vec<Source>,
    /// Files that are not records, and what could not be read of those that are.
    pub foreign: Vec<ReadError>,
    is_overtaken: AtomicBool,
}

impl Record {
    /// Opens records, and what waits beside them.
    ///
    /// # Errors
    ///
    /// One that was named is not there, cannot be read, or is not a record. What waits beside it and
    /// cannot be read is noted in `foreign`.
    pub fn open(files: &[PathBuf]) -> Result<Record, ReadError> {
        Record::open_with(files, SPOOLED_MAX)
    }

    /// Opens about the last `bytes` of each record and, of what waits beside it, the newest files only:
    /// for an answer that has to come at once.
    ///
    /// # Errors
    ///
    /// As [`Record::open`].
    pub fn open_tail(files: &[PathBuf], bytes: u64) -> Result<Record, ReadError> {
        let mut record = Record::open_with(files, SPOOLED_OF_TAIL)?;
        for source in &mut record.sources {
            match source.keep_tail(bytes) {
                // Merged since it was opened.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => {
                    other.map_err(|error| ReadError { path: source.path.clone(), source: error })?
                }
            }
        }
        Ok(record)
    }

    fn open_with(files: &[PathBuf], spooled_max: usize) -> Result<Record, ReadError> {
        let (sources, foreign) = (Vec::new(), Vec::new());
        let is_overtaken = AtomicBool::new(false);
        let mut record = Record { files: files.to_vec(), sources, foreign, is_overtaken };
        for file in files {
            let before = (record.sources.len(), record.foreign.len());
            let mut is_all = false;
            for _ in 0..MERGED_TRIES {
                record.sources.truncate(before.0);
                record.foreign.truncate(before.1);
                is_all = record.add(file, spooled_max)?;
                if is_all {
                    break;
                }
            }
            record.is_overtaken.fetch_or(!is_all, Ordering::Relaxed);
        }
        Ok(record)
    }

    /// Adds a record and what waits beside it; returns whether that is all there was: rows that are merged
    /// while we open the files are in none of those that we opened.
    fn add(&mut self, file: &Path, spooled_max: usize) -> Result<bool, ReadError> {
        let mut spooled = spooled(file).unwrap_or_else(|source| {
            self.foreign.push(ReadError { path: folder_beside(file), source });
            Vec::new()
        });
        if spooled.len() > SPOOLED_MAX {
            spooled.truncate(SPOOLED_MAX);
            let source = io::Error::from(ErrorKind::QuotaExceeded);
            self.foreign.push(ReadError { path: folder_beside(file), source });
        }
        match Source::open(file, true) {
            Ok(source) => self.sources.extend(source),
            // Nobody could merge yet: all there is waits.
            Err(error) if error.kind() == ErrorKind::NotFound && !spooled.is_empty() => {}
            Err(source) => return Err(ReadError { path: file.to_owned(), source }),
        }
        let mut is_all = true;
        // They are named after their runs, the newest last.
        let passed_over = spooled.len().saturating_sub(spooled_max);
        for path in spooled.into_iter().skip(passed_over) {
            match Source::open(&path, false) {
                Ok(source) => source.into_iter().for_each(|source| self.add_waiting(source)),
                Err(error) if error.kind() == ErrorKind::NotFound => is_all = false,
                Err(source) => self.foreign.push(ReadError { path, source }),
            }
        }
        Ok(is_all)
    }

    fn add_waiting(&mut self, source: Source) {
        let is_kept = self.sources.len() < KEPT_MAX;
        self.sources.push(if is_kept { source } else { source.closed() });
    }

    /// Returns a file beside the record that could not be read and may have rows of that user (`None`: of
    /// anybody): not one that is not a record, nor one of another user, whose rows are not believed.
    #[must_use]
    pub fn unread(&self, user: Option<u32>) -> Option<&ReadError> {
        self.foreign.iter().find(|error| {
            let meta = fs::symlink_metadata(&error.path);
            let is_his =
                |meta: Metadata| user.is_none_or(|user| meta.is_dir() || meta.uid() == user);
            let is_failure = error.source.raw_os_error().is_some();
            let is_cut = error.source.kind() == ErrorKind::QuotaExceeded;
            is_cut || is_failure && meta.map_or(true, is_his)
        })
    }

    /// Returns whether rows that waited were merged before they were read: they are in the shared file by now,
    /// and were not seen here.
    #[must_use]
    pub fn is_overtaken(&self) -> bool {
        self.is_overtaken.load(Ordering::Relaxed)
    }

    fn overtaken(&self) {
        self.is_overtaken.store(true, Ordering::Relaxed);
    }

    /// Opens the records again, for what was written since.
    ///
    /// # Errors
    ///
    /// As [`Record::open`].
    pub fn grown(&self) -> Result<Record, ReadError> {
        let mut record = Record::open(&self.files)?;
        for source in &mut record.sources {
            let is_same = |before: &&Source| before.id == source.id;
            if let Some(before) = self.sources.iter().find(is_same) {
                source.begin = before.end.min(source.end);
                source.is_whole = false;
            }
        }
        Ok(record)
    }

    /// Shows every row to `visit`, with a state that `new` makes for each stretch of the record;
    /// returns those states in the record's order.
    ///
    /// # Errors
    ///
    /// A file cannot be read to its end.
    pub fn scan<S: Send>(
        &self,
        new: impl Fn() -> S + Sync,
        visit: impl Fn(&mut S, &RawRow<'_>) + Sync,
    ) -> Result<(Vec<S>, Skipped), ReadError> {
        let segments = self.segments();
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(segments.len()));
        let work = || {
            let mut buffer = Vec::new();
            while let Some(segment) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut state = new();
                let mut see = |row: &RawRow<'_>| visit(&mut state, row);
                let stretch = self.read(segment, &mut buffer, &mut see);
                let mut done = lock(&done);
                done.push((segment.number, segment.file, stretch, state));
            }
        };
        let threads = segments.len().min(THREADS_MAX);
        std::thread::scope(|scope| {
            // The first of them is ours.
            (1..threads).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        done.sort_by_key(|(number, ..)| *number);
        let mut skipped = Skipped::default();
        let mut states = Vec::with_capacity(done.len());
        for (_, file, stretch, state) in done {
            skipped.add(file, &self.sources[file], stretch?);
            states.push(state);
        }
        Ok((states, skipped))
    }

    fn segments(&self) -> Vec<Segment> {
        let mut segments = Vec::new();
        for (file, source) in self.sources.iter().enumerate() {
            let mut from = source.begin;
            while from < source.end {
                let to = (from + SEGMENT_BYTES).min(source.end);
                segments.push(Segment { number: segments.len(), file, from, to });
                from = to;
            }
        }
        segments
    }

    /// Shows the rows that begin in a segment; returns which lines were not rows.
    fn read(
        &self,
        segment: &Segment,
        buffer: &mut Vec<u8>,
        see: &mut dyn FnMut(&RawRow<'_>),
    ) -> Result<Stretch, ReadError> {
        let source = &self.sources[segment.file];
        let mut stretch = Stretch::default();
        let failed = |error| ReadError { path: source.path.clone(), source: error };
        let mut lines = match Lines::new(source, segment, buffer) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.overtaken();
                return Ok(stretch);
            }
            other => other.map_err(failed)?,
        };
        while let Some(chunk) = lines.next_chunk().map_err(failed)? {
            let mut begin = 0;
            for end in memchr_iter(b'\n', chunk.bytes) {
                let place = RowPlace::new(segment.file, chunk.offset + begin as u64);
                let line = &chunk.bytes[begin..end];
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                begin = end + 1;
                stretch.lines += 1;
                let row = RawRow { place, line, source, is_torn: Cell::new(false) };
                let Some(is_row) = row.is_row() else { continue };
                if is_row {
                    see(&row);
                }
                if !line.is_empty() && (!is_row || row.is_torn.get()) {
                    stretch.skip(place);
                }
            }
            // Behind the last line end there is something only where the file ends in a torn row, or
            // in one that is just being written.
            let end = chunk.offset + chunk.bytes.len() as u64;
            if begin < chunk.bytes.len() && !(end == source.end && source.has_grown()) {
                stretch.lines += 1;
                stretch.skip(RowPlace::new(segment.file, chunk.offset + begin as u64));
            }
        }
        Ok(stretch)
    }

    /// Reads one row again; `None` if it is not there any more, because the file was changed.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn row_at(&self, place: RowPlace) -> Result<Option<Row>, ReadError> {
        Ok(self.look_at(place, |row| row.row())?.flatten())
    }

    /// Looks at one row again; `None` if no line ends there any more.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn look_at<T>(
        &self,
        place: RowPlace,
        look: impl FnOnce(&RawRow<'_>) -> T,
    ) -> Result<Option<T>, ReadError> {
        let Some(source) = self.sources.get(place.file()) else { return Ok(None) };
        let failed = |error| ReadError { path: source.path.clone(), source: error };
        let file = match source.file() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.overtaken();
                return Ok(None);
            }
            other => other.map_err(failed)?,
        };
        let mut text = vec![0; 4096];
        loop {
            let count = read_at(&file, &mut text, place.offset()).map_err(failed)?;
            if let Some(end) = memchr(b'\n', &text[..count]) {
                let line = &text[..end];
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                return Ok(Some(look(&RawRow { place, line, source, is_torn: Cell::new(false) })));
            }
            if count < text.len() || text.len() >= LINE_BYTES_MAX {
                return Ok(None);
            }
            text.resize(text.len() * 8, 0);
        }
    }
}

mod beside;

#[cfg(test)]
mod tests;
