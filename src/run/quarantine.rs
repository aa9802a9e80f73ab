//! `--clean-written`: what a failed attempt created is moved aside before the next one begins.
//!
//! Moved, never deleted; and never a path that was there before the attempt, also if another file
//! is there now: a checkpoint that was replaced by rename(2) is the job's state.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::files::{Directory, FileId, Links, Owner};
use crate::model::event::Event;
use crate::model::text::Escaped;
use crate::observe::files::Files;
use crate::sys::clock;

/// What may be moved, and where to.
pub(super) struct Rules<'a> {
    /// What there was when the attempt began.
    pub(super) before: &'a PathsBefore,
    /// Files of ours: the log, and those of -o and -e.
    pub(super) ours: Vec<FileId>,
    /// When the attempt began.
    pub(super) since: SystemTime,
    /// Where they go; made when the first one does.
    pub(super) quarantine: PathBuf,
}

/// At most this many paths are noted; what is in directories beyond that stays where it is.
const PATHS_MAX: usize = 200_000;

/// The start of an attempt is not delayed longer by noting them.
const NOTING_MAX: Duration = Duration::from_secs(2);

/// The paths that existed before an attempt, below the directories that may be cleaned.
pub(super) struct PathsBefore {
    /// Only files below these directories are moved, with all links resolved.
    within: Vec<PathBuf>,
    /// Directories whose entries are all in `paths`.
    listed: HashSet<PathBuf>,
    paths: HashSet<PathBuf>,
}

impl PathsBefore {
    /// Lists the directories, the upper ones first, without following links.
    pub(super) fn note(within: Vec<PathBuf>) -> PathsBefore {
        PathsBefore::note_at_most(within, PATHS_MAX)
    }

    fn note_at_most(within: Vec<PathBuf>, paths_max: usize) -> PathsBefore {
        let deadline = clock::now() + NOTING_MAX;
        let mut open: VecDeque<PathBuf> = within.iter().cloned().collect();
        let mut before = PathsBefore { within, listed: HashSet::new(), paths: HashSet::new() };
        while let Some(directory) = open.pop_front() {
            if before.listed.contains(&directory) || clock::now() >= deadline {
                continue;
            }
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            let mut is_complete = true;
            for entry in entries {
                let Some(entry) = entry.ok().filter(|_| before.paths.len() < paths_max) else {
                    is_complete = false;
                    break;
                };
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    open.push_back(entry.path());
                }
                before.paths.insert(entry.path());
            }
            if is_complete {
                before.listed.insert(directory);
            }
        }
        before
    }

    /// Returns whether a path is known not to have existed.
    fn lacks(&self, path: &Path) -> bool {
        match path.parent() {
            _ if self.within.iter().any(|directory| directory == path) => false,
            Some(parent) if self.listed.contains(parent) => !self.paths.contains(path),
            // A directory that did not exist had nothing in it.
            Some(parent) => self.lacks(parent),
            None => false,
        }
    }

    /// Returns the path below its directory.
    fn inside<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        self.within.iter().find_map(|directory| path.strip_prefix(directory).ok())
    }
}

/// Moves what the attempt created, and returns what there is to say about it.
pub(super) fn clean(files: &Files, rules: &Rules<'_>) -> Vec<Event> {
    let written = files.by_path.iter().filter(|(_, file)| file.is_written);
    let mut events = Vec::new();
    for (path, _) in written {
        let Some((inside, from)) = created_inside(path, rules) else { continue };
        let to = rules.quarantine.join(inside);
        events.push(match set_aside(path, &from, &to, beside(&rules.quarantine)) {
            Ok(()) => Event::Quarantined { from: path.clone(), to },
            Err(error) => {
                let path = path.to_string_lossy();
                let text = format!("'{}' stays where it is: {error}", Escaped(&path));
                Event::Notice { text }
            }
        });
    }
    if files.not_kept > 0 {
        let text = format!("{} more files were not looked at", files.not_kept);
        events.push(Event::Notice { text });
    }
    events
}

/// Returns the path below its directory, and the directory that the file is in, if it may be moved: a regular file with one name, where
/// there was none before, born in this attempt, by what its filesystem says (statx(2)). Where that says nothing about
/// births, nothing is moved. A file that was made in the first moment of the attempt may bear the
/// time of the clock's last tick, and then stays: rather that than to move one from before.
///
/// The kernel named the file by a path without links. If a part of it is one by now, somebody has put it
/// there, and it leads to a file that the job never wrote.
fn created_inside<'a>(path: &'a Path, rules: &Rules<'_>) -> Option<(&'a Path, Directory)> {
    let directory = Directory::open_without_links(path.parent()?).ok()?;
    let meta = directory.look(path.file_name()?).ok()?;
    let is_born_here = meta.created().is_ok_and(|born| born > rules.since);
    let is_ours = rules.ours.contains(&FileId::from(&meta));
    if !meta.is_file() || meta.nlink() != 1 || !is_born_here || is_ours {
        return None;
    }
    let inside = rules.before.inside(path).filter(|_| rules.before.lacks(path))?;
    Some((inside, directory))
}

/// The directory of the log, in which `LOG.quarantine/attempt-N` is made.
fn beside(quarantine: &Path) -> &Path {
    quarantine.ancestors().nth(2).unwrap_or(Path::new(""))
}

/// rename(2) alone: a copy to another filesystem could fail half-way. Each directory on the way is
/// ours, and no link: its name can be guessed, and others may write to the directory of the log.
fn set_aside(path: &Path, from: &Directory, to: &Path, beside: &Path) -> io::Result<()> {
    let below = to.strip_prefix(beside).ok().and_then(Path::parent);
    let (Some(below), Some(old), Some(name)) = (below, path.file_name(), to.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut directory = Directory::open(beside, Links::Trusted)?;
    for part in below.iter() {
        directory = directory.make(part, 0o777, Owner::Us)?;
    }
    directory.take((from, old), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_new_only_where_all_was_listed_before() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("deep/deeper")).expect("made");
        fs::write(at("deep/ckpt"), "41").expect("written");
        let before = PathsBefore::note(vec![root.path().to_owned()]);
        for (path, is_new) in [
            ("new", true),
            ("deep/new", true),
            ("deep/deeper/new", true),
            ("made/since/new", true),
            ("deep/ckpt", false),
            ("deep/deeper", false),
            ("", false),
            ("/elsewhere/new", false),
        ] {
            assert_eq!(before.lacks(&at(path)), is_new, "{path}");
        }
        assert_eq!(before.inside(&at("deep/ckpt")), Some(Path::new("deep/ckpt")));
        // Two paths: the upper directory is listed, the one below it is not.
        let before = PathsBefore::note_at_most(vec![root.path().to_owned()], 1);
        assert!(before.lacks(&at("new")) && !before.lacks(&at("deep/new")));
        let before = PathsBefore::note_at_most(vec![root.path().to_owned()], 0);
        assert!(!before.lacks(&at("new")), "it may have been there");
    }
}
