//! The lines of a record that cannot be read as rows: how many there are, and where.

use std::path::PathBuf;

use crate::record::lines::Source;
use crate::record::row_place::RowPlace;

/// What a scan of a record passed over.
#[derive(Clone, Debug, Default)]
pub struct Skipped {
    pub lines: u64,
    /// The file of the first one, and the number of the line there, from 1; `None` if the beginning of
    /// that file was not read.
    pub first: Option<(PathBuf, Option<u64>)>,
    /// Where the last one of each file is.
    pub last: Vec<RowPlace>,
    /// Lines of the file that was added last.
    file: usize,
    lines_of_file: u64,
}

/// What was seen of one stretch of a file.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    /// Lines of all kinds.
    pub(super) lines: u64,
    skipped: u64,
    /// How many lines there were up to and with the first that was skipped.
    first: u64,
    last: Option<RowPlace>,
}

impl Stretch {
    /// Counts the current line as one that cannot be read.
    pub(super) fn skip(&mut self, place: RowPlace) {
        if self.skipped == 0 {
            self.first = self.lines;
        }
        self.skipped += 1;
        self.last = Some(place);
    }
}

/// The header is the first line.
const HEADER_LINES: u64 = 1;

impl Skipped {
    /// Adds a stretch; to be called in the order of the record.
    pub(super) fn add(&mut self, file: usize, source: &Source, stretch: Stretch) {
        if self.file != file {
            (self.file, self.lines_of_file) = (file, 0);
        }
        if let Some(place) = stretch.last {
            let number = HEADER_LINES + self.lines_of_file + stretch.first;
            let number = source.is_whole.then_some(number);
            self.first.get_or_insert_with(|| (source.path.clone(), number));
            self.last.retain(|last| last.file() != file);
            self.last.push(place);
        }
        self.lines += stretch.skipped;
        self.lines_of_file += stretch.lines;
    }
}
