//! Processes of other users, by name only: what else was going on when the job died.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::model::proc_stat;
use crate::model::process::Pid;
use crate::model::sample::Neighbour;
use crate::model::time::Moment;

/// A process that began so shortly before the death is called recent.
const RECENT: Duration = Duration::from_secs(10);

/// USER_HZ, the unit of start times in /proc.
const TICKS_PER_SECOND: u64 = 100;

/// At most this number of names is kept, the recent ones first.
const NAMES_MAX: usize = 100;

/// The parent of all threads of the kernel, which are nobody's neighbours.
const KTHREADD: Pid = Pid(2);

/// Lists the processes that do not belong to `uid`, added up by user and name. `now` is the
/// present since boot.
#[must_use]
pub fn of_others(root: &Path, uid: u32, now: Moment) -> Vec<Neighbour> {
    let mut found: BTreeMap<(bool, u32, String), u64> = BTreeMap::new();
    let Ok(entries) = fs::read_dir(root.join("proc")) else { return Vec::new() };
    for entry in entries.flatten() {
        let is_process = entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
        // What goes away while we look is not a neighbour any more.
        let (true, Ok(meta)) = (is_process, entry.metadata()) else { continue };
        if meta.uid() == uid {
            continue;
        }
        let Ok(line) = fs::read(entry.path().join("stat")) else { continue };
        let Some(stat) = proc_stat::parse(&line).filter(|stat| stat.parent != KTHREADD) else {
            continue;
        };
        let started = Duration::from_secs(stat.start_ticks / TICKS_PER_SECOND);
        let is_old = started + RECENT < now.0;
        let name = String::from_utf8_lossy(stat.name).into_owned();
        *found.entry((is_old, meta.uid(), name)).or_default() += 1;
    }
    found
        .into_iter()
        .map(|((is_old, uid, name), count)| Neighbour { uid, name, count, is_recent: !is_old })
        .take(NAMES_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(root: &Path, pid: u32, name: &str, parent: u32, start: u64) {
        let directory = root.join(format!("proc/{pid}"));
        fs::create_dir_all(&directory).expect("made");
        let zeros = "0 ".repeat(17);
        let line = format!("{pid} ({name}) S {parent} {zeros}{start} 0 0 0\n");
        fs::write(directory.join("stat"), line).expect("written");
    }

    #[test]
    fn others_are_added_up_by_name_and_the_recent_come_first() {
        let root = tempfile::tempdir().expect("a directory");
        process(root.path(), 10, "sshd", 1, 100);
        process(root.path(), 11, "sshd", 1, 100);
        process(root.path(), 12, "cleanup", 1, 99_500);
        process(root.path(), 13, "kworker/0:1", 2, 99_900);
        let us = fs::metadata(root.path()).expect("metadata").uid();
        let now = Moment(Duration::from_secs(1000));
        let found = of_others(root.path(), us + 1, now);
        let names: Vec<(&str, u64, bool)> =
            found.iter().map(|one| (one.name.as_str(), one.count, one.is_recent)).collect();
        assert_eq!(names, [("cleanup", 1, true), ("sshd", 2, false)]);
        assert!(of_others(root.path(), us, now).is_empty(), "our own are not neighbours");
    }
}
