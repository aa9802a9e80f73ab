//! A file of rows, and its whole lines, a buffer at a time.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::ops::Deref;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use memchr::{memchr, memrchr};

use crate::files::{self, FileId, Links, Owner, Refusal};
use crate::record::row::{Column, Header};
use crate::record::table::{directory_of, is_trusted};

/// So much is read at a time: it stays in the cache of a core.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// A line that is longer is not ours.
pub(super) const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A billion rows. A sparse file may claim to be much longer, and would be read for hours.
const RECORD_BYTES_MAX: u64 = 1 << 40;

/// Of the rows of one run.
const WAITING_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Returns whether a file beside the record is one that many runs write.
fn is_table(path: &Path, meta: &Metadata) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let above = fs::metadata(directory_of(path));
    name.starts_with(b"schema-") && above.is_ok_and(|above| is_trusted(meta, &above))
}

/// A file with rows.
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// It is opened again when it is read, if there are too many to keep them all open.
    kept: Option<File>,
    is_named: bool,
    /// Its device and inode.
    pub(super) id: FileId,
    /// Who alone, besides root, can write to it or put another one in its place.
    pub(super) only_writer: Option<u32>,
    pub(super) header: Header,
    /// Of each column, by its number.
    pub(super) positions: Vec<Option<usize>>,
    /// Where the rows begin and, when it was opened, end.
    pub(super) begin: u64,
    pub(super) end: u64,
    /// Whether `begin` is where the first row is.
    pub(super) is_whole: bool,
}

/// A part of a file that one thread reads.
pub(super) struct Segment {
    pub(super) number: usize,
    pub(super) file: usize,
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Source {
    /// Opens a file; `None` if it is empty, as a record is before its first row. A link is followed
    /// only where a user named it.
    pub(super) fn open(path: &Path, is_named: bool) -> io::Result<Option<Source>> {
        let file = open(path, is_named)?;
        let meta = file.metadata()?;
        let is_shared = is_named || is_table(path, &meta);
        let bytes_max = if is_shared { RECORD_BYTES_MAX } else { WAITING_BYTES_MAX };
        if meta.len() > bytes_max {
            return Err(Refusal::TooLong(bytes_max).into());
        }
        if meta.len() == 0 {
            return Ok(None);
        }
        let mut text = vec![0; CHUNK_BYTES];
        let count = read_at(&file, &mut text, 0)?;
        let foreign =
            || io::Error::new(ErrorKind::InvalidData, "it is not a record of childminder");
        let end = memchr(b'\n', &text[..count]).ok_or_else(foreign)?;
        let header = Header::parse(&text[..end]).ok_or_else(foreign)?;
        let positions = Column::ALL.iter().map(|column| header.position(*column)).collect();
        let (path, id) = (path.to_owned(), FileId::from(&meta));
        let (begin, end) = (end as u64 + 1, meta.len());
        let only_writer = only_writer(&path, &meta);
        let is_whole = true;
        let kept = Some(file);
        Ok(Some(Source {
            path,
            kept,
            is_named,
            id,
            only_writer,
            header,
            positions,
            begin,
            end,
            is_whole,
        }))
    }

    /// Returns whether something was appended since it was opened.
    pub(super) fn has_grown(&self) -> bool {
        let meta = self.file().and_then(|file| file.metadata());
        meta.is_ok_and(|meta| meta.len() > self.end)
    }

    /// Leaves out the rows that begin before the last `bytes`; a longer last line leaves nothing.
    pub(super) fn keep_tail(&mut self, bytes: u64) -> io::Result<()> {
        let from = self.end.saturating_sub(bytes);
        if from <= self.begin {
            return Ok(());
        }
        let mut text = vec![0; usize::try_from(bytes).unwrap_or(CHUNK_BYTES)];
        // From the byte before: a row may begin exactly there.
        let count = read_at(&*self.file()?, &mut text, from - 1)?;
        let end = memchr(b'\n', &text[..count]).map(|end| from + end as u64);
        (self.begin, self.is_whole) = (end.unwrap_or(self.end).min(self.end), false);
        Ok(())
    }

    /// Closes it until it is read.
    pub(super) fn closed(self) -> Source {
        Source { kept: None, ..self }
    }

    /// Returns the file, open.
    pub(super) fn file(&self) -> io::Result<SourceFile<'_>> {
        if let Some(file) = &self.kept {
            return Ok(SourceFile::Kept(file));
        }
        let file = open(&self.path, self.is_named)?;
        let meta = file.metadata()?;
        match FileId::from(&meta) == self.id {
            true => Ok(SourceFile::Again(file)),
            // Merged since, and another one has its name.
            false => Err(ErrorKind::NotFound.into()),
        }
    }
}

/// The file of a source.
pub(super) enum SourceFile<'a> {
    Kept(&'a File),
    Again(File),
}

impl Deref for SourceFile<'_> {
    type Target = File;

    fn deref(&self) -> &File {
        match self {
            SourceFile::Kept(file) => file,
            SourceFile::Again(file) => file,
        }
    }
}

fn open(path: &Path, is_named: bool) -> io::Result<File> {
    // Somebody else may have put it there.
    let links = if is_named { Links::Trusted } else { Links::Refused };
    files::open(path, Owner::Anybody, links)
}

/// Returns the file's owner if nobody else but root can write to it or to its directory; a sticky
/// directory of root's, such as /tmp, lets others neither remove nor replace it.
fn only_writer(path: &Path, meta: &Metadata) -> Option<u32> {
    let path = fs::canonicalize(path).ok()?;
    let above = fs::metadata(directory_of(&path)).ok()?;
    let is_guarded = above.mode() & 0o022 == 0 || above.mode() & 0o1000 != 0;
    let is_private = meta.mode() & 0o022 == 0 && meta.nlink() == 1;
    let is_alone = is_private && is_guarded && [meta.uid(), 0].contains(&above.uid());
    is_alone.then(|| meta.uid())
}

/// Whole lines, a buffer at a time.
pub(super) struct Lines<'a> {
    pub(super) source: &'a Source,
    pub(super) file: SourceFile<'a>,
    pub(super) buffer: &'a mut Vec<u8>,
    /// Where the buffer begins in the file.
    pub(super) offset: u64,
    /// How much of it is filled, and how much of that was given out.
    pub(super) filled: usize,
    pub(super) given: usize,
    /// The end of the segment: the last line that begins before it is ours to its end.
    pub(super) to: u64,
    pub(super) is_over: bool,
}

pub(super) struct Chunk<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) offset: u64,
}

impl<'a> Lines<'a> {
    pub(super) fn new(
        source: &'a Source,
        segment: &Segment,
        buffer: &'a mut Vec<u8>,
    ) -> io::Result<Lines<'a>> {
        let file = source.file()?;
        buffer.resize(CHUNK_BYTES, 0);
        // A line that begins before the segment is its predecessor's: its end is looked for from the
        // byte before.
        let is_first = segment.from == source.begin;
        let offset = if is_first { segment.from } else { segment.from - 1 };
        let mut lines = Lines {
            source,
            file,
            buffer,
            offset,
            filled: 0,
            given: 0,
            to: segment.to,
            is_over: false,
        };
        if !is_first {
            lines.skip_line();
        }
        Ok(lines)
    }

    /// Passes over the rest of a line, however long.
    fn skip_line(&mut self) {
        while let Ok(1..) = self.fill() {
            match memchr(b'\n', &self.buffer[self.given..self.filled]) {
                Some(end) => {
                    self.given += end + 1;
                    return;
                }
                None => self.given = self.filled,
            }
        }
        self.is_over = true;
    }

    /// Moves what was not given out to the front and reads on; returns how much is there now.
    fn fill(&mut self) -> io::Result<usize> {
        self.buffer.copy_within(self.given..self.filled, 0);
        self.offset += self.given as u64;
        self.filled -= self.given;
        self.given = 0;
        let at = self.offset + self.filled as u64;
        // What was appended since then has no place in this answer.
        let left = usize::try_from(self.source.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let room = (self.buffer.len() - self.filled).min(left);
        let target = &mut self.buffer[self.filled..self.filled + room];
        self.filled += read_at(&self.file, target, at)?;
        Ok(self.filled)
    }

    /// Returns the next whole lines; at the end of the file what is left, which has no line end.
    pub(super) fn next_chunk(&mut self) -> io::Result<Option<Chunk<'_>>> {
        loop {
            if self.is_over || self.offset + self.given as u64 >= self.to {
                return Ok(None);
            }
            let before = self.filled - self.given;
            let filled = self.fill()?;
            if filled == 0 {
                return Ok(None);
            }
            let is_end = filled == before;
            let Some(last) = memrchr(b'\n', &self.buffer[..filled]) else {
                if is_end || filled >= LINE_BYTES_MAX {
                    // A torn row, or something strange: it is counted as one line.
                    self.is_over = is_end;
                    self.given = filled;
                    return Ok(Some(Chunk { bytes: &self.buffer[..filled], offset: self.offset }));
                }
                let longer = self.buffer.len() * 2;
                self.buffer.resize(longer.max(filled * 2), 0);
                continue;
            };
            self.given = self.end_of_segment(last + 1);
            return Ok(Some(Chunk { bytes: &self.buffer[..self.given], offset: self.offset }));
        }
    }

    /// Returns how much of the whole lines in the buffer belongs to this segment.
    fn end_of_segment(&self, whole: usize) -> usize {
        let Ok(inside) = usize::try_from(self.to.saturating_sub(self.offset)) else { return whole };
        if inside >= whole || inside == 0 {
            return whole;
        }
        // The line that holds the last byte of the segment is ours to its end.
        let rest = memchr(b'\n', &self.buffer[inside - 1..whole]);
        rest.map_or(whole, |end| inside + end)
    }
}

pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
