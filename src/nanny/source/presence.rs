//! Whether a run that has no end still goes on: only its own host can say so.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::files::FileId;
use crate::model::proc_stat;
use crate::model::time::WallTime;
use crate::nanny::view::words;
use crate::record::row::{Column, Row};
use crate::sys::proc::read_environ;
use crate::sys::{clock, host};

/// What became of a run without an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// childminder minds it.
    Running,
    /// childminder is gone, but the job, or a process of it, is there.
    Orphaned,
    /// It will never have an end; why, and whether that is certain.
    Lost(String, bool),
    /// It is on another host.
    Elsewhere,
    /// It may be there, and cannot be seen; why.
    Unknown(String),
}

/// A process begins before it writes its row, and clocks are set now and then.
const TOLERANCE: Duration = Duration::from_secs(5);

/// Parents of a process that are looked at, at most.
const DEPTH_MAX: usize = 64;

/// For this time after its start a childminder may not have opened the record yet.
const YOUNG: Duration = Duration::from_millis(250);

/// What of this host shows whether a run is there.
pub struct ThisHost {
    proc: PathBuf,
    host: String,
    boot_id: String,
    /// When the host was booted, by the clock of today.
    booted: Option<Duration>,
    ticks_per_second: u64,
    /// The inode of our pid namespace.
    namespace: Option<u64>,
    /// Runs of which a process is there, by the CHILDMINDER_RUN_ID that all processes of a job have,
    /// and these processes.
    minded: HashMap<Vec<u8>, Vec<i32>>,
    /// Whether a pid is in use, though /proc may not show it.
    is_in_use: fn(i32) -> bool,
}

/// What is seen of a process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ProcessSeen {
    There,
    Gone,
    /// /proc hides it (`hidepid` in proc(5)), and the pid is in use.
    Hidden,
}

impl ThisHost {
    #[must_use]
    pub fn look() -> ThisHost {
        let host = host::name().to_string_lossy().into_owned();
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        let is_in_use = |pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH);
        let here = ThisHost::at(Path::new("/proc"), host, ticks.unsigned_abs(), clock::wall());
        ThisHost { is_in_use, ..here }
    }

    fn at(proc: &Path, host: String, ticks_per_second: u64, now: WallTime) -> ThisHost {
        let text = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
        let uptime = text("uptime");
        let uptime = uptime.split(' ').next().and_then(|seconds| seconds.parse().ok());
        let uptime = uptime.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        ThisHost {
            proc: proc.to_owned(),
            host,
            boot_id: text("sys/kernel/random/boot_id").trim().to_owned(),
            booted: uptime.map(|uptime| now.0.saturating_sub(uptime)),
            ticks_per_second,
            namespace: fs::metadata(proc.join("self/ns/pid")).map(|meta| meta.ino()).ok(),
            minded: minded(proc),
            is_in_use: |_| false,
        }
    }

    /// Returns whether a process of that run is there that we may ask. Who asks as root may ask all, and
    /// anybody can put the name of another user's run into an environment of his own: the process must be
    /// of the user that the row names.
    #[must_use]
    pub fn is_minded(&self, start: &Row) -> bool {
        let pids = self.minded.get(start.get(Column::RunId));
        let user = start.number::<u32>(Column::Uid);
        pids.into_iter().flatten().any(|pid| user.is_none() || self.real_uid(*pid) == user)
    }

    /// Returns the runs with an id like that of which a process is there, and these processes.
    #[must_use]
    pub fn runs_like(&self, wanted: &str) -> Vec<(Vec<u8>, Vec<i32>)> {
        let is_like = |run: &[u8]| words::is_id_like(run, wanted.as_bytes());
        let runs = self.minded.iter().filter(|(run, _)| is_like(run));
        runs.map(|(run, pids)| (run.clone(), pids.clone())).collect()
    }

    /// Returns the run that a process belongs to: that of its environment, or the one that it minds.
    #[must_use]
    pub fn run_of(&self, pid: i32) -> Option<Vec<u8>> {
        let has = |pid: i32| self.minded.iter().find(|(_, pids)| pids.contains(&pid));
        if !self.is_childminder(pid) {
            return has(pid).map(|(run, _)| run.clone());
        }
        // One that minds a run may be of another run itself.
        let children = |pids: &[i32]| pids.iter().any(|child| self.parent(*child) == Some(pid));
        self.minded.iter().find(|(_, pids)| children(pids)).map(|(run, _)| run.clone())
    }

    /// Returns the parent of a process; `None` if there is no such process.
    #[must_use]
    pub fn parent(&self, pid: i32) -> Option<i32> {
        self.stat(pid).map(|(parent, _)| parent)
    }

    /// Returns the real user id of a process: it stays that of the caller in a program with the set-user-ID bit.
    #[must_use]
    pub fn real_uid(&self, pid: i32) -> Option<u32> {
        let text = fs::read_to_string(self.proc.join(format!("{pid}/status"))).ok()?;
        let ids = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        ids.split_ascii_whitespace().next()?.parse().ok()
    }

    /// Returns the real user ids of the processes of a run that are there.
    #[must_use]
    pub fn users_of(&self, run: &[u8]) -> BTreeSet<u32> {
        let pids = self.minded.get(run).into_iter().flatten();
        pids.filter_map(|pid| self.real_uid(*pid)).collect()
    }

    /// Returns the runs of which a process is there and whose first row may still be on its way to
    /// the record, that file: childminder has just begun, or has the record open. Left out are those
    /// that are known, those of the childminders `ours` and, if a user is given, those of others: their
    /// rows would not be believed.
    #[must_use]
    pub fn on_their_way(
        &self,
        record: Option<FileId>,
        known: &HashSet<Vec<u8>>,
        ours: &[i32],
        user: Option<u32>,
    ) -> HashSet<Vec<u8>> {
        let is_on_its_way = |pids: &[i32]| {
            let above: HashSet<i32> = pids.iter().flat_map(|pid| self.ancestors(*pid)).collect();
            let has_it_open = |pid: &i32| {
                record.is_some_and(|it| self.is_childminder(*pid) && self.has_open(*pid, it))
            };
            let is_ours = above.iter().any(|pid| ours.contains(pid));
            !is_ours && (self.is_young(pids) || above.iter().any(has_it_open))
        };
        let is_his = |run: &[u8]| user.is_none_or(|user| self.users_of(run).contains(&user));
        let unknown = self.minded.iter().filter(|(run, _)| !known.contains(*run) && is_his(run));
        unknown.filter(|(_, pids)| is_on_its_way(pids)).map(|(run, _)| run.clone()).collect()
    }

    fn stat(&self, pid: i32) -> Option<(i32, Duration)> {
        let text = fs::read(self.proc.join(format!("{pid}/stat"))).ok()?;
        proc_stat::parse(&text).map(|stat| (stat.parent.0, self.since_boot(stat.start_ticks)))
    }

    /// A process and those that it descends from, our own user's as far as we may see them.
    fn ancestors(&self, pid: i32) -> impl Iterator<Item = i32> {
        std::iter::successors(Some(pid), |pid| Some(self.stat(*pid)?.0)).take(DEPTH_MAX)
    }

    /// Returns whether a run has only processes that have just begun.
    fn is_young(&self, pids: &[i32]) -> bool {
        let uptime = fs::read_to_string(self.proc.join("uptime")).unwrap_or_default();
        let now = uptime.split(' ').next().and_then(|seconds| seconds.parse().ok());
        let now = now.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let began = pids.iter().filter_map(|pid| Some(self.stat(*pid)?.1)).min();
        began.zip(now).is_some_and(|(began, now)| now < began + YOUNG)
    }

    fn is_childminder(&self, pid: i32) -> bool {
        let text = fs::read(self.proc.join(format!("{pid}/stat"))).unwrap_or_default();
        proc_stat::parse(&text).is_some_and(|stat| stat.name == b"childminder")
    }

    fn has_open(&self, pid: i32, file: FileId) -> bool {
        let fds = fs::read_dir(self.proc.join(format!("{pid}/fd"))).into_iter().flatten().flatten();
        let identity = |path: PathBuf| fs::metadata(path).map(|meta| FileId::from(&meta));
        fds.filter_map(|fd| identity(fd.path()).ok()).any(|found| found == file)
    }

    fn since_boot(&self, ticks: u64) -> Duration {
        Duration::from_millis(ticks.saturating_mul(1000) / self.ticks_per_second)
    }

    /// Returns what became of the run whose start this row is.
    #[must_use]
    pub fn fate(&self, start: &Row) -> RunState {
        if self.is_minded(start) {
            // Read from the processes themselves: right whatever the clock and the boot id say.
            let is_there = self.seen(start, Column::Pid) == ProcessSeen::There;
            return if is_there { RunState::Running } else { RunState::Orphaned };
        }
        let boot_id = start.text(Column::BootId);
        if start.text(Column::Host) != self.host {
            return RunState::Elsewhere;
        }
        if boot_id.is_empty() || self.boot_id.is_empty() {
            return RunState::Elsewhere;
        }
        if boot_id != self.boot_id {
            return RunState::Lost("the host was booted since".into(), true);
        }
        let namespace = start.number(Column::PidNamespace);
        if namespace.is_some() && self.namespace.is_some() && namespace != self.namespace {
            return RunState::Unknown("it began in another pid namespace".into());
        }
        match [Column::Pid, Column::ChildPid].map(|column| self.seen(start, column)) {
            [ProcessSeen::There, _] => return RunState::Running,
            [_, ProcessSeen::There] => return RunState::Orphaned,
            [ProcessSeen::Gone, ProcessSeen::Gone] => {}
            _ => {
                return RunState::Unknown(
                    "/proc hides the process that may be it (hidepid)".into(),
                );
            }
        }
        let pid = start.text(Column::Pid);
        RunState::Lost(format!("childminder (pid {pid}) is gone and wrote no end"), false)
    }

    /// Looks for the process of that column: one that began before the row was written, for the pid
    /// may have gone to another since.
    fn seen(&self, start: &Row, column: Column) -> ProcessSeen {
        let Some(pid) = start.number::<i32>(column).filter(|pid| *pid > 0) else {
            return ProcessSeen::Gone;
        };
        let Ok(stat) = fs::read(self.proc.join(format!("{pid}/stat"))) else {
            return if (self.is_in_use)(pid) { ProcessSeen::Hidden } else { ProcessSeen::Gone };
        };
        match proc_stat::parse(&stat).filter(proc_stat::ProcStat::is_alive) {
            Some(stat) if self.is_it(&stat, start, column) => ProcessSeen::There,
            _ => ProcessSeen::Gone,
        }
    }

    fn is_it(&self, stat: &proc_stat::ProcStat<'_>, start: &Row, column: Column) -> bool {
        // After the clock was set nothing is known by it: then the name decides for caution.
        let is_ours = column == Column::Pid && stat.name == b"childminder";
        let since_boot = self.since_boot(stat.start_ticks);
        let (Some(booted), Some(written)) = (self.booted, time_of(start)) else { return true };
        is_ours || booted + since_boot <= written + TOLERANCE
    }
}

/// Returns the runs of which a process is there that we may ask.
fn minded(proc: &Path) -> HashMap<Vec<u8>, Vec<i32>> {
    const MARK: &[u8] = b"CHILDMINDER_RUN_ID=";
    let mut found: HashMap<Vec<u8>, Vec<i32>> = HashMap::new();
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let run = |environ: Vec<u8>| {
        let mut entries = environ.split(|byte| *byte == 0);
        entries.find_map(|entry| entry.strip_prefix(MARK)).map(<[u8]>::to_vec)
    };
    // Whoever asks may be a job himself, such as a shell: that run has not ended either.
    for pid in pids {
        let environ = read_environ(&proc.join(format!("{pid}/environ"))).ok();
        environ
            .and_then(run)
            .iter()
            .for_each(|run| found.entry(run.clone()).or_default().push(pid));
    }
    found
}

/// Returns when a row was written, since 1970.
#[must_use]
pub fn time_of(row: &Row) -> Option<Duration> {
    WallTime::from_rfc3339(&row.text(Column::Time)).map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "aaaa-1";

    /// A host that was booted at 1000 s and has one childminder, pid 40, begun at 1100 s.
    fn host(now: u64) -> (tempfile::TempDir, ThisHost) {
        let proc = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = proc.path().join(name);
            fs::create_dir_all(path.parent().expect("inside")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("uptime", &format!("{}.00 1.0\n", now - 1000));
        write("sys/kernel/random/boot_id", &format!("{BOOT}\n"));
        for (pid, name, ticks) in
            [(40, "childminder", 10_000), (41, "sh", 10_000), (50, "bash", 90_000)]
        {
            // Field 22 is the start.
            let (before, behind) = ("0 ".repeat(18), "0 ".repeat(30));
            write(&format!("{pid}/stat"), &format!("{pid} ({name}) S {before}{ticks} {behind}"));
        }
        write("41/status", "Name:\tsh\nUid:\t1000\t0\t0\t0\n");
        write("41/environ", "PATH=/bin\0CHILDMINDER_RUN_ID=minded\0");
        let here =
            ThisHost::at(proc.path(), "node7".into(), 100, WallTime(Duration::from_secs(now)));
        (proc, here)
    }

    fn start(run: &str, host: &str, boot: &str, pids: [&str; 2]) -> Row {
        let mut row = Row::default();
        row.set(Column::RunId, run);
        row.set(Column::Host, host);
        row.set(Column::BootId, boot);
        row.set(Column::Pid, pids[0]);
        row.set(Column::ChildPid, pids[1]);
        row.set(Column::Time, WallTime(Duration::from_secs(1101)).rfc3339());
        row
    }

    #[test]
    fn each_run_without_an_end_has_its_fate() {
        let (_proc, here) = host(5000);
        let fate = |row: Row| here.fate(&row);
        assert_eq!(fate(start("x", "node7", BOOT, ["40", "41"])), RunState::Running);
        assert_eq!(fate(start("x", "node7", BOOT, ["39", "41"])), RunState::Orphaned);
        assert_eq!(fate(start("x", "node8", BOOT, ["39", "38"])), RunState::Elsewhere);
        assert!(matches!(fate(start("x", "node7", "bbbb", ["40", "41"])), RunState::Lost(_, true)));
        assert!(matches!(fate(start("x", "node7", BOOT, ["39", ""])), RunState::Lost(_, false)));
        // Pid 50 began later than the row was written: it is another process.
        assert!(matches!(fate(start("x", "node7", BOOT, ["50", "50"])), RunState::Lost(_, false)));
        // Another pid namespace or a job that was orphaned: its environment knows the run.
        assert_eq!(fate(start("minded", "node7", "bbbb", ["1", "2"])), RunState::Orphaned);
    }

    #[test]
    fn the_environment_of_another_users_process_says_nothing() {
        let (_proc, here) = host(5000);
        let mut row = start("minded", "node7", BOOT, ["39", "38"]);
        assert_eq!(here.fate(&row), RunState::Orphaned, "a row without a user");
        row.set(Column::Uid, "1000");
        assert_eq!(here.fate(&row), RunState::Orphaned);
        row.set(Column::Uid, "0");
        assert!(matches!(here.fate(&row), RunState::Lost(..)));
        row.set(Column::Uid, "1001");
        assert!(matches!(here.fate(&row), RunState::Lost(..)));
    }

    /// A process may declare terabytes of its memory to be its environment.
    #[test]
    fn an_environment_without_end_is_read_to_a_bound() {
        let (proc, here) = host(5000);
        let environ = fs::File::options().write(true).open(proc.path().join("41/environ"));
        environ.expect("there").set_len(1 << 40).expect("ours");
        let before = here.minded.clone();
        assert_eq!(minded(proc.path()), before);
        assert!(before.contains_key(&b"minded"[..]));
    }

    #[test]
    fn what_is_hidden_is_unknown_and_not_lost() {
        let (_proc, mut here) = host(5000);
        here.is_in_use = |pid| pid == 39;
        let fate = |row: Row| here.fate(&row);
        assert!(matches!(fate(start("x", "node7", BOOT, ["39", "38"])), RunState::Unknown(_)));
        assert!(matches!(fate(start("x", "node7", BOOT, ["38", "39"])), RunState::Unknown(_)));
        assert!(matches!(fate(start("x", "node7", BOOT, ["38", "37"])), RunState::Lost(_, false)));
        // Another one is visible under that pid.
        assert!(matches!(fate(start("x", "node7", BOOT, ["50", ""])), RunState::Lost(_, false)));
    }

    #[test]
    fn pids_of_another_namespace_say_nothing() {
        let (_proc, mut here) = host(5000);
        here.namespace = Some(7);
        let mut row = start("x", "node7", BOOT, ["39", "38"]);
        row.set(Column::PidNamespace, "7");
        assert!(matches!(here.fate(&row), RunState::Lost(..)));
        row.set(Column::PidNamespace, "8");
        assert!(matches!(here.fate(&row), RunState::Unknown(_)));
    }

    #[test]
    fn a_run_is_on_its_way_while_it_is_young_or_has_the_record_open() {
        let none = HashSet::new();
        let minded = HashSet::from([b"minded".to_vec()]);
        // It began 100 s after the boot.
        let (_proc, here) = host(1100);
        assert_eq!(here.on_their_way(None, &none, &[], None), minded);
        assert_eq!(here.on_their_way(None, &minded, &[], None), none);
        assert_eq!(here.on_their_way(None, &none, &[], Some(1000)), minded);
        assert_eq!(here.on_their_way(None, &none, &[], Some(0)), none, "another user's");
        assert_eq!(here.on_their_way(None, &none, &[41], None), none, "that is ours");
        let (proc, here) = host(1101);
        assert_eq!(here.on_their_way(None, &none, &[], None), none);
        let record = proc.path().join("record");
        fs::write(&record, "").expect("written");
        let meta = fs::metadata(&record).expect("there");
        let identity = Some(FileId::from(&meta));
        assert_eq!(here.on_their_way(identity, &none, &[], None), none);
        fs::create_dir(proc.path().join("40/fd")).expect("made");
        std::os::unix::fs::symlink(&record, proc.path().join("40/fd/3")).expect("linked");
        assert_eq!(here.on_their_way(identity, &none, &[], None), none, "it is not its child");
        let stat = fs::read_to_string(proc.path().join("41/stat")).expect("there");
        fs::write(proc.path().join("41/stat"), stat.replace("S 0 ", "S 40 ")).expect("written");
        assert_eq!(here.on_their_way(identity, &none, &[], None), minded);
    }

    #[test]
    fn a_clock_that_was_set_makes_no_childminder_lost() {
        let (_proc, here) = host(900_000);
        assert_eq!(here.booted, Some(Duration::from_secs(1000)));
        let (_proc, mut here) = host(5000);
        here.booted = Some(Duration::from_secs(4000));
        assert_eq!(here.fate(&start("x", "node7", BOOT, ["40", ""])), RunState::Running);
    }
}
