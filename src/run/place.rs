//! Where a job was and what it left there.

use std::path::{Path, PathBuf, absolute};

use crate::observe::{autopsy, host};
use crate::sys::reaper::Tree;

/// See the module's documentation.
pub(super) struct JobPlace<'a> {
    /// The processes of the job.
    pub(super) tree: &'a Tree,
    pub(super) directory: &'a Path,
    /// Directories that it may have written to.
    pub(super) written: &'a [PathBuf],
    /// The last lines of its standard error, if that is a file of ours.
    pub(super) last_words: Vec<String>,
}

impl JobPlace<'_> {
    fn directories(&self) -> impl Iterator<Item = &Path> {
        self.written.iter().map(PathBuf::as_path).chain([self.directory])
    }

    /// Returns the directories that the job may have written to and that are full, each once.
    pub(super) fn full(&self) -> Vec<PathBuf> {
        let mut full: Vec<PathBuf> =
            self.directories().filter(|directory| host::is_full(directory)).map(whole).collect();
        full.dedup();
        full
    }

    /// Finds such a file in those directories or in one for temporary files.
    pub(super) fn find(&self, root: &Path, wanted: autopsy::TruncatedFile) -> Option<PathBuf> {
        let directories: Vec<&Path> = self.directories().collect();
        autopsy::find_file(root, &directories, wanted).map(|path| whole(&path))
    }
}

/// The path is for whoever reads it elsewhere.
fn whole(path: &Path) -> PathBuf {
    absolute(path).unwrap_or_else(|_| path.to_owned())
}
