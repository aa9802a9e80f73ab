//! `--clean-written`: what a failed attempt created is moved aside before the next one begins.
//!
//! Moved, never deleted; and never a file that was there before the attempt.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::files::{Directory, Links, Owner};
use crate::model::event::Event;
use crate::model::text::Escaped;
use crate::observe::files::Files;

/// What may be moved, and where to.
pub(super) struct Rules {
    /// Only files below these directories, with all links resolved.
    pub(super) within: Vec<PathBuf>,
    /// Files of ours, by device and inode: the log, and those of -o and -e.
    pub(super) ours: Vec<(u64, u64)>,
    /// When the attempt began.
    pub(super) since: SystemTime,
    /// Where they go; made when the first one does.
    pub(super) quarantine: PathBuf,
}

/// Moves what the attempt created, and returns what there is to say about it.
pub(super) fn clean(files: &Files, rules: &Rules) -> Vec<Event> {
    let written = files.by_path.iter().filter(|(_, file)| file.is_written);
    let mut told = Vec::new();
    for (path, _) in written {
        let Some(inside) = created_inside(path, rules) else { continue };
        let to = rules.quarantine.join(inside);
        told.push(match set_aside(path, &to, beside(&rules.quarantine)) {
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
        told.push(Event::Notice { text });
    }
    told
}

/// Returns the path below its directory if the file may be moved: a regular file with one name,
/// born in this attempt, by what its filesystem says (statx(2)). Where that says nothing about
/// births, nothing is moved. A file that was made in the first moment of the attempt may bear the
/// time of the clock's last tick, and then stays: rather that than to move one from before.
fn created_inside<'a>(path: &'a Path, rules: &'a Rules) -> Option<&'a Path> {
    let meta = fs::symlink_metadata(path).ok()?;
    let is_born_here = meta.created().is_ok_and(|born| born > rules.since);
    let is_ours = rules.ours.contains(&(meta.dev(), meta.ino()));
    if !meta.is_file() || meta.nlink() != 1 || !is_born_here || is_ours {
        return None;
    }
    rules.within.iter().find_map(|directory| path.strip_prefix(directory).ok())
}

/// The directory of the log, in which `LOG.quarantine/attempt-N` is made.
fn beside(quarantine: &Path) -> &Path {
    quarantine.ancestors().nth(2).unwrap_or(Path::new(""))
}

/// rename(2) alone: a copy to another filesystem could fail half-way. Each directory on the way is
/// ours, and no link: its name can be guessed, and others may write to the directory of the log.
fn set_aside(from: &Path, to: &Path, beside: &Path) -> io::Result<()> {
    let (below, name) = match (to.strip_prefix(beside).ok().and_then(Path::parent), to.file_name())
    {
        (Some(below), Some(name)) => (below, name),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let mut directory = Directory::open(beside, Links::Trusted)?;
    for part in below.iter() {
        directory = directory.make(part, 0o777, Owner::Us)?;
    }
    directory.take(from, name)
}
