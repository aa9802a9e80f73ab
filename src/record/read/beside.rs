//! What waits beside a record, in `FILE.d`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::record::read::{KEPT_MAX, ReadError, Record, Source};
use crate::record::table::{directory_of, is_trusted};

/// Files of waiting rows that are read beside one record at most.
pub(super) const SPOOLED_MAX: usize = 65_000;

/// Returns the name of the folder beside a record.
#[must_use]
pub fn folder_beside(file: &Path) -> PathBuf {
    let mut folder = file.as_os_str().to_owned();
    folder.push(".d");
    folder.into()
}

/// The files of rows that wait beside a record, in the order of their names.
fn spooled(file: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = folder_beside(file);
    let Ok(meta) = fs::symlink_metadata(&folder) else { return Ok(Vec::new()) };
    let above = fs::metadata(directory_of(file))?;
    if !meta.is_dir() || !is_trusted(&meta, &above) {
        let why = "it is no directory, or another user's where all may make one";
        return Err(io::Error::new(ErrorKind::PermissionDenied, why));
    }
    let paths = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let is_rows = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // `.merging`: its rows may be in the record already, which a reader must allow for anyway.
        !name.starts_with('.') && (name.ends_with(".csv") || name.ends_with(".merging"))
    };
    // One more says that there are too many.
    let mut found: Vec<PathBuf> = paths.filter(is_rows).take(SPOOLED_MAX + 1).collect();
    found.sort();
    Ok(found)
}

impl Record {
    /// Adds a record and what waits beside it; returns whether that is all there was: rows that are merged
    /// while we open the files are in none of those that we opened.
    pub(super) fn add(&mut self, file: &Path, spooled_max: usize) -> Result<bool, ReadError> {
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
}
