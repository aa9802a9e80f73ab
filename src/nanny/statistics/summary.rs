//! What happened in many runs, counted in one pass and in bounded memory.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use crate::nanny::statistics::log2_histogram::Log2Histogram;
use crate::nanny::statistics::names::folded;

/// At most this number of names, ways to end and hosts are kept apart; the rest is counted together.
const KEYS_MAX: usize = 50_000;

/// The key of what was one too many.
pub const OTHERS: &[u8] = b"(others)";

/// Hosts of one burst or way to end are counted up to here.
const HOSTS_MAX: usize = 1000;

pub const HOUR: u64 = 3600;

/// The width of the windows that bursts are looked for in, in seconds.
pub const WINDOW: u64 = 600;

/// One run that ended. Texts are cells as they stand in the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndedRun<'a> {
    /// Seconds since 1970.
    pub time: u64,
    pub is_failed: bool,
    pub verdict: &'a [u8],
    pub host: &'a [u8],
    pub user: &'a [u8],
    pub name: &'a [u8],
    /// Exit status or signal, sender and crash: what one way to end has in common.
    pub way: Way<'a>,
    pub wall_seconds: Option<f64>,
    pub peak_bytes: Option<f64>,
    /// What it was allowed to use, or had asked for.
    pub memory_limit: Option<f64>,
    /// Of a built-in function.
    pub calls: Option<f64>,
}

/// What runs that ended in the same way have in common, besides the verdict.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way<'a> {
    pub exit_code: &'a [u8],
    pub signal: &'a [u8],
    pub sender: &'a [u8],
    pub crash: &'a [u8],
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub runs: u64,
    pub failed: u64,
    /// Time spent in runs that failed.
    pub lost_seconds: f64,
    pub seconds: f64,
}

impl Tally {
    fn add(&mut self, run: &EndedRun<'_>) {
        let seconds = run.wall_seconds.unwrap_or(0.0);
        self.runs += 1;
        self.seconds += seconds;
        if run.is_failed {
            self.failed += 1;
            self.lost_seconds += seconds;
        }
    }

    fn merge(&mut self, other: &Tally) {
        self.runs += other.runs;
        self.failed += other.failed;
        self.seconds += other.seconds;
        self.lost_seconds += other.lost_seconds;
    }

    /// Returns the share of runs that failed.
    #[must_use]
    pub fn failed_share(&self) -> f64 {
        if self.runs == 0 { 0.0 } else { self.failed as f64 / self.runs as f64 }
    }
}

#[derive(Clone, Debug, Default)]
pub struct HostSummary {
    pub tally: Tally,
    /// Runs and failed runs that ended in each hour of the day, UTC.
    pub hours: [(u64, u64); 24],
}

#[derive(Clone, Debug, Default)]
pub struct NameSummary {
    pub tally: Tally,
    /// Of runs that succeeded: what the job needs.
    pub peak_bytes: Log2Histogram,
    pub memory_limit: Option<f64>,
}

/// The runs that ended in one way.
#[derive(Clone, Debug, Default)]
pub struct WaySummary {
    pub verdict: Vec<u8>,
    pub exit_code: Vec<u8>,
    pub signal: Vec<u8>,
    pub sender: Vec<u8>,
    pub crash: Vec<u8>,
    pub count: u64,
    /// Seconds since 1970.
    pub first: u64,
    pub last: u64,
    pub hosts: HashSet<u64>,
}

/// Failures of one window of time.
#[derive(Clone, Debug, Default)]
pub struct WindowSummary {
    pub failures: u64,
    pub hosts: HashSet<u64>,
}

/// A built-in function on one host.
#[derive(Clone, Copy, Debug, Default)]
pub struct CanarySummary {
    pub calls: f64,
    pub seconds: f64,
}

/// Wall time in milliseconds, or bytes, of runs that succeeded and of those that failed.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    pub succeeded: Log2Histogram,
    pub failed: Log2Histogram,
}

/// All that a report shows.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub tally: Tally,
    /// Seconds since 1970 of the first and the last end.
    pub span: Option<(u64, u64)>,
    /// Failures by hour since 1970 and verdict.
    pub failures: HashMap<(u64, Vec<u8>), u64>,
    pub hosts: HashMap<Vec<u8>, HostSummary>,
    pub users: HashMap<Vec<u8>, Tally>,
    pub names: HashMap<Vec<u8>, NameSummary>,
    pub ways: HashMap<Vec<u8>, WaySummary>,
    pub windows: HashMap<u64, WindowSummary>,
    pub canaries: HashMap<(Vec<u8>, Vec<u8>), CanarySummary>,
    pub wall_millis: Outcomes,
    pub peak_bytes: Outcomes,
    open: HashSet<[u8; 16]>,
    ended: HashSet<[u8; 16]>,
    marked: HashMap<[u8; 16], OwnedRun>,
}

/// A run that was marked lost: it may have ended after all.
#[derive(Clone, Debug)]
struct OwnedRun {
    time: u64,
    host: Vec<u8>,
    user: Vec<u8>,
    name: Vec<u8>,
    verdict: Vec<u8>,
}

/// Returns the entry of a key, or the one of all others if there are too many.
fn entry<'a, V: Default>(map: &'a mut HashMap<Vec<u8>, V>, key: &[u8]) -> &'a mut V {
    let key = if map.len() >= KEYS_MAX && !map.contains_key(key) { OTHERS } else { key };
    map.entry(key.to_vec()).or_default()
}

fn hash_of(host: &[u8]) -> u64 {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    BuildHasherDefault::<DefaultHasher>::default().hash_one(host)
}

fn note_host(hosts: &mut HashSet<u64>, host: u64) {
    if hosts.len() < HOSTS_MAX {
        hosts.insert(host);
    }
}

impl Summary {
    /// Counts a start: a run that has not ended until it is seen to.
    pub fn started(&mut self, run: [u8; 16]) {
        if !self.ended.remove(&run) {
            self.open.insert(run);
        }
    }

    /// Keeps a row that says that a run was lost, for [`Summary::finish`].
    pub fn lost(&mut self, id: [u8; 16], run: &EndedRun<'_>) {
        let owned = OwnedRun {
            time: run.time,
            host: run.host.to_vec(),
            user: run.user.to_vec(),
            name: run.name.to_vec(),
            verdict: run.verdict.to_vec(),
        };
        self.marked.insert(id, owned);
    }

    /// Counts the end of a run.
    pub fn ended(&mut self, id: [u8; 16], run: &EndedRun<'_>) {
        if !self.open.remove(&id) {
            self.ended.insert(id);
        }
        self.count(run);
    }

    fn count(&mut self, run: &EndedRun<'_>) {
        let (first, last) = self.span.unwrap_or((run.time, run.time));
        self.span = Some((first.min(run.time), last.max(run.time)));
        self.tally.add(run);
        entry(&mut self.users, run.user).add(run);
        if let Some(calls) = run.calls {
            let key = (run.name.to_vec(), run.host.to_vec());
            let canary = self.canaries.entry(key).or_default();
            canary.calls += calls;
            canary.seconds += run.wall_seconds.unwrap_or(0.0);
        }
        let host = entry(&mut self.hosts, run.host);
        host.tally.add(run);
        let hour = &mut host.hours[(run.time / HOUR % 24) as usize];
        *hour = (hour.0 + 1, hour.1 + u64::from(run.is_failed));
        let name = entry(&mut self.names, &folded(run.name));
        name.tally.add(run);
        if let Some(limit) = run.memory_limit {
            name.memory_limit = Some(name.memory_limit.unwrap_or(0.0).max(limit));
        }
        let sizes = [
            (run.wall_seconds.map(|seconds| seconds * 1000.0), &mut self.wall_millis),
            (run.peak_bytes, &mut self.peak_bytes),
        ];
        for (size, outcomes) in sizes {
            let histogram =
                if run.is_failed { &mut outcomes.failed } else { &mut outcomes.succeeded };
            size.into_iter().for_each(|size| histogram.add(size));
        }
        if run.is_failed {
            self.count_failure(run);
        } else {
            run.peak_bytes.into_iter().for_each(|peak| name.peak_bytes.add(peak));
        }
    }

    fn count_failure(&mut self, run: &EndedRun<'_>) {
        *self.failures.entry((run.time / HOUR, run.verdict.to_vec())).or_default() += 1;
        let host = hash_of(run.host);
        let window = self.windows.entry(run.time / WINDOW).or_default();
        window.failures += 1;
        note_host(&mut window.hosts, host);
        let Way { exit_code, signal, sender, crash } = run.way;
        let key = [run.verdict, exit_code, signal, sender, crash].join(&0);
        let way = entry(&mut self.ways, &key);
        if way.count == 0 {
            *way = WaySummary {
                verdict: run.verdict.to_vec(),
                exit_code: exit_code.to_vec(),
                signal: signal.to_vec(),
                sender: sender.to_vec(),
                crash: crash.to_vec(),
                first: run.time,
                ..WaySummary::default()
            };
        }
        way.count += 1;
        (way.first, way.last) = (way.first.min(run.time), way.last.max(run.time));
        note_host(&mut way.hosts, host);
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: Summary) {
        self.tally.merge(&other.tally);
        self.span = match (self.span, other.span) {
            (Some(one), Some(two)) => Some((one.0.min(two.0), one.1.max(two.1))),
            (one, two) => one.or(two),
        };
        add_counts(&mut self.failures, other.failures, |ours, theirs| *ours += theirs);
        for (key, host) in other.hosts {
            let ours = entry(&mut self.hosts, &key);
            ours.tally.merge(&host.tally);
            for (ours, theirs) in ours.hours.iter_mut().zip(host.hours) {
                *ours = (ours.0 + theirs.0, ours.1 + theirs.1);
            }
        }
        other.users.iter().for_each(|(key, tally)| entry(&mut self.users, key).merge(tally));
        for (key, name) in other.names {
            let ours = entry(&mut self.names, &key);
            ours.tally.merge(&name.tally);
            ours.peak_bytes.merge(&name.peak_bytes);
            ours.memory_limit = larger(ours.memory_limit, name.memory_limit);
        }
        for (key, way) in other.ways {
            let ours = entry(&mut self.ways, &key);
            if ours.count == 0 {
                *ours = way;
                continue;
            }
            ours.count += way.count;
            (ours.first, ours.last) = (ours.first.min(way.first), ours.last.max(way.last));
            way.hosts.into_iter().for_each(|host| note_host(&mut ours.hosts, host));
        }
        add_counts(&mut self.windows, other.windows, |ours, theirs| {
            ours.failures += theirs.failures;
            theirs.hosts.into_iter().for_each(|host| note_host(&mut ours.hosts, host));
        });
        add_counts(&mut self.canaries, other.canaries, |ours, theirs| {
            ours.calls += theirs.calls;
            ours.seconds += theirs.seconds;
        });
        self.wall_millis.succeeded.merge(&other.wall_millis.succeeded);
        self.wall_millis.failed.merge(&other.wall_millis.failed);
        self.peak_bytes.succeeded.merge(&other.peak_bytes.succeeded);
        self.peak_bytes.failed.merge(&other.peak_bytes.failed);
        // The rows of one run may be in both.
        for run in other.open {
            self.started(run);
        }
        for run in other.ended {
            if !self.open.remove(&run) {
                self.ended.insert(run);
            }
        }
        self.marked.extend(other.marked);
    }

    /// Returns the runs that were given up for lost: some may have ended after all.
    pub fn marked(&self) -> impl Iterator<Item = [u8; 16]> {
        self.marked.keys().copied()
    }

    /// Counts the runs that were given up for lost, but for those that ended after all. Returns how many others have
    /// not ended.
    pub fn finish(&mut self, ended_after_all: &HashSet<[u8; 16]>) -> usize {
        for (id, run) in std::mem::take(&mut self.marked) {
            self.open.remove(&id);
            if ended_after_all.contains(&id) {
                continue;
            }
            self.count(&EndedRun {
                time: run.time,
                is_failed: true,
                verdict: &run.verdict,
                host: &run.host,
                user: &run.user,
                name: &run.name,
                ..EndedRun::default()
            });
        }
        std::mem::take(&mut self.open).len()
    }
}

fn larger(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    }
}

fn add_counts<K: Eq + Hash, V: Default>(
    ours: &mut HashMap<K, V>,
    theirs: HashMap<K, V>,
    add: impl Fn(&mut V, V),
) {
    theirs.into_iter().for_each(|(key, value)| add(ours.entry(key).or_default(), value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(time: u64, host: &'static str, is_failed: bool) -> EndedRun<'static> {
        EndedRun {
            time,
            is_failed,
            verdict: if is_failed { b"crashed" } else { b"success" },
            host: host.as_bytes(),
            user: b"u",
            name: b"align-000123",
            way: Way { signal: b"11", ..Way::default() },
            wall_seconds: Some(2.0),
            peak_bytes: Some(1e6),
            memory_limit: Some(4e6),
            calls: None,
        }
    }

    /// Each run is counted once, however the rows fall into the parts that are counted apart.
    #[test]
    fn the_sum_does_not_depend_on_how_the_rows_are_divided() {
        type Step = fn(&mut Summary);
        let steps: [Step; 7] = [
            |all| all.started([1; 16]),
            |all| all.started([2; 16]),
            |all| all.started([3; 16]),
            |all| all.lost([2; 16], &EndedRun { verdict: b"lost", ..run(7200, "a", true) }),
            |all| all.ended([1; 16], &run(3600, "a", false)),
            |all| all.ended([2; 16], &run(7300, "b", true)),
            |all| all.lost([3; 16], &EndedRun { verdict: b"lost", ..run(7400, "b", true) }),
        ];
        for divided in 0..1_u32 << steps.len() {
            let (mut one, mut other) = (Summary::default(), Summary::default());
            for (index, step) in steps.iter().enumerate() {
                step(if divided >> index & 1 == 0 { &mut one } else { &mut other });
            }
            one.merge(other);
            assert_eq!(one.marked().count(), 2);
            assert_eq!(one.finish(&HashSet::from([[2; 16]])), 0, "{divided:b}");
            assert_eq!((one.tally.runs, one.tally.failed), (3, 2), "{divided:b}");
            assert_eq!(one.span, Some((3600, 7400)));
            assert_eq!(one.tally.lost_seconds, 2.0);
            assert_eq!(one.failures[&(2, b"crashed".to_vec())], 1);
            assert_eq!(one.failures[&(2, b"lost".to_vec())], 1);
            assert_eq!(one.windows[&12].hosts.len(), 1);
            let name = &one.names[&b"align-#"[..]];
            assert_eq!((name.tally.runs, name.peak_bytes.count), (3, 1));
            assert_eq!(one.hosts[&b"b"[..]].hours[2], (2, 2));
        }
    }

    #[test]
    fn a_run_that_goes_on_is_said_to() {
        let mut all = Summary::default();
        all.started([1; 16]);
        all.started([2; 16]);
        all.ended([2; 16], &run(1, "a", false));
        assert_eq!((all.finish(&HashSet::new()), all.tally.runs), (1, 1));
    }

    #[test]
    fn names_beyond_the_bound_are_counted_together() {
        let mut all = Summary::default();
        for number in 0..KEYS_MAX + 10 {
            // Letters: numbers are folded.
            let name: String =
                format!("{number:05}").chars().map(|digit| (digit as u8 + 49) as char).collect();
            all.count(&EndedRun { name: name.as_bytes(), ..run(1, "a", false) });
        }
        assert_eq!(all.names.len(), KEYS_MAX + 1);
        assert_eq!(all.names[OTHERS].tally.runs, 10);
        let runs: u64 = all.names.values().map(|name| name.tally.runs).sum();
        assert_eq!(runs as usize, KEYS_MAX + 10);
    }
}
