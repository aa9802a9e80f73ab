//! What waits beside a record, in `FILE.d`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

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
pub(super) fn spooled(file: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = folder_beside(file);
    let Ok(meta) = fs::symlink_metadata(&folder) else { return Ok(Vec::new()) };
    let above = fs::metadata(directory_of(file))?;
    if !meta.is_dir() || !is_trusted(&meta, &above) {
        let why = "it is not a directory, or another user's where all may make one";
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
