//! The file for node_exporter's textfile collector. It is also the memory of a job that runs again and
//! again: each run adds its counts to those that are there, so that they never fall back to nothing.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use uuid::Uuid;

use crate::files::{self, Directory, Links, Owner};
use crate::telemetry::metrics::catalogue::FAMILIES;
use crate::telemetry::metrics::metric::{Family, MetricKind};
use crate::telemetry::prometheus::exposition::{self, is_of_the_job};
use crate::telemetry::published::Published;

/// Another run holds the lock for as long as it takes to write a file.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// No file of ours is longer; what is, is not ours.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What the next run of the same job cannot know itself: when the last one was well.
const REMEMBERED: &str = "childminder_run_last_";

/// See the module's documentation.
pub struct TextFile {
    directory: PathBuf,
    /// The name of the file in it.
    file: String,
    /// What of ours is in the file already.
    written: HashMap<String, f64>,
}

impl TextFile {
    /// The file of this job in the directory.
    #[must_use]
    pub fn new(directory: &Path, job_name: &str) -> TextFile {
        let file = format!("childminder-{}.prom", file_name(job_name));
        TextFile { directory: directory.to_owned(), file, written: HashMap::new() }
    }

    /// Adds what happened since the last time, and replaces the file as a whole.
    ///
    /// # Errors
    ///
    /// The directory is missing or may not be written, the disk is full, or the lock is held.
    pub async fn write(&mut self, published: &Published) -> io::Result<()> {
        let collected = published.collect().of_the_job();
        let ours = exposition::text(&exposition::families(&collected, &published.identity));
        let directory = Directory::open(&self.directory, Links::Trusted)?;
        // The directory itself is what is locked, so that no lock file stays behind.
        let mut locked = directory.reopen()?;
        for _ in 0..LOCK_TRIES {
            locked = match Flock::lock(locked, FlockArg::LockExclusiveNonblock) {
                Ok(_held) => return self.replace(&directory, &ours),
                Err((locked, nix::errno::Errno::EAGAIN)) => locked,
                Err((_, errno)) => return Err(errno.into()),
            };
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "another run holds the directory's lock"))
    }

    fn replace(&mut self, directory: &Directory, ours: &str) -> io::Result<()> {
        let name = OsStr::new(&self.file);
        let before = match directory.read(name, Owner::UsOrRoot, FILE_BYTES_MAX) {
            Ok(bytes) => String::from_utf8(bytes).unwrap_or_default(),
            // What another user put there is not added to. It is replaced, if that is permitted.
            Err(error) if files::refusal(&error).is_some() => String::new(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let (text, written) = merged(&before, ours, &self.written);
        // A temporary name must not end in .prom, or node_exporter reads it before it is whole.
        let mut file = directory.begin(0o600)?;
        file.write_all(text.as_bytes())?;
        file.file().set_permissions(Permissions::from_mode(directory.mode_for_others(name)))?;
        file.replace(name)?;
        self.written = written;
        Ok(())
    }
}

/// Makes a part of a file name of any text; what had to be changed gets a number.
fn file_name(job_name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let plain: String =
        job_name.chars().map(|c| if is_plain(c) { c } else { '_' }).take(100).collect();
    if plain == job_name {
        return plain;
    }
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, job_name.as_bytes()).simple().to_string();
    format!("{plain}-{}", &id[..8])
}

/// Returns the samples of a text, in order: series and value.
fn samples(text: &str) -> impl Iterator<Item = (&str, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        Some((series, value.parse().ok()?))
    })
}

/// The family that a series belongs to.
fn family_of(series: &str) -> Option<&'static Family> {
    let name = series.split('{').next().unwrap_or(series);
    let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
    FAMILIES.iter().find(|family| {
        family.name == name || (family.kind == MetricKind::Histogram && Some(family.name) == stem)
    })
}

/// Adds our numbers to those of the file. Returns the new file, and our numbers for the next time.
fn merged(
    before: &str,
    ours: &str,
    written: &HashMap<String, f64>,
) -> (String, HashMap<String, f64>) {
    let before_by_series: HashMap<&str, f64> = samples(before).collect();
    let ours_by_series: HashMap<String, f64> =
        samples(ours).map(|(series, value)| (series.to_owned(), value)).collect();
    let mut out = String::with_capacity(ours.len() + before.len());
    for family in FAMILIES.iter().filter(|family| is_of_the_job(family.name)) {
        let is_here = |series: &&str| family_of(series).is_some_and(|of| of.name == family.name);
        let adds_up = family.kind != MetricKind::Gauge;
        let mut lines: Vec<(&str, f64)> = Vec::new();
        for (series, value) in samples(ours).filter(|(series, _)| is_here(series)) {
            let new = value - written.get(series).copied().unwrap_or(0.0);
            let old = before_by_series.get(series).copied().unwrap_or(0.0);
            lines.push((series, if adds_up { old + new } else { value }));
        }
        // What only earlier runs have had.
        let is_kept = adds_up || family.name.starts_with(REMEMBERED);
        let others = samples(before).filter(|(series, _)| {
            is_kept && is_here(series) && !ours_by_series.contains_key(*series)
        });
        lines.extend(others);
        if lines.is_empty() {
            continue;
        }
        // Writing to a string cannot fail.
        writeln!(out, "# HELP {} {}", family.name, family.help).ok();
        writeln!(out, "# TYPE {} {}", family.name, family.kind.word()).ok();
        for (series, value) in lines {
            writeln!(out, "{series} {value}").ok();
        }
    }
    (out, ours_by_series)
}

#[cfg(test)]
mod tests {
    use crate::sink::stats::Stats;
    use crate::telemetry::prometheus::exposition::tests::{collected, identity, stats};

    use super::*;

    fn ours(stats: &Stats) -> String {
        let identity = identity();
        exposition::text(&exposition::families(
            &collected(stats, &identity).of_the_job(),
            &identity,
        ))
    }

    fn value(text: &str, name: &str, label: &str) -> Option<f64> {
        let mut found =
            samples(text).filter(|(series, _)| series.starts_with(name) && series.contains(label));
        found.next().map(|(_, value)| value)
    }

    #[test]
    fn the_next_run_adds_to_what_is_there() {
        let nothing = HashMap::new();
        let (first, _) = merged("", &ours(&stats()), &nothing);
        let (second, written) = merged(&first, &ours(&stats()), &nothing);
        let attempts = "childminder_attempts_total";
        assert_eq!(value(&first, attempts, "outcome=\"signal\""), Some(1.0));
        assert_eq!(value(&second, attempts, "outcome=\"signal\""), Some(2.0));
        let durations = "childminder_attempt_duration_seconds";
        assert_eq!(value(&second, &format!("{durations}_count"), ""), Some(4.0));
        assert_eq!(value(&second, &format!("{durations}_bucket"), "le=\"1\""), Some(4.0));
        // To write the same again changes nothing.
        let (third, _) = merged(&second, &ours(&stats()), &written);
        assert_eq!(second, third);
    }

    #[test]
    fn a_failure_does_not_erase_the_last_success() {
        let nothing = HashMap::new();
        let (good, _) = merged("", &ours(&stats()), &nothing);
        let (bad, _) = merged(&good, &ours(&Stats::default()), &nothing);
        let last = "childminder_run_last_success_timestamp_seconds";
        assert_eq!(value(&bad, last, ""), value(&good, last, ""));
        assert!(value(&bad, last, "").is_some());
        assert_eq!(value(&bad, "childminder_restarts_total", ""), Some(1.0));
    }

    #[test]
    fn names_become_file_names_and_stay_apart() {
        assert_eq!(file_name("nightly-2.sh"), "nightly-2.sh");
        assert_ne!(file_name("a/b"), file_name("a b"));
        assert!(!file_name("../../etc/x").contains('/'));
    }

    #[test]
    fn what_is_not_ours_in_the_file_does_no_harm() {
        let strange = "hello\n# x\nchildminder_restarts_total nonsense\nother_metric 5\n";
        let (text, _) = merged(strange, &ours(&stats()), &HashMap::new());
        assert!(!text.contains("other_metric"));
        assert_eq!(value(&text, "childminder_restarts_total", ""), Some(1.0));
    }
}
