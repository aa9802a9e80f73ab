//! Whether a run that has no end still goes on: only its own host can say so.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::model::proc_stat;
use crate::model::time::WallTime;
use crate::record::row::{Column, Row};
use crate::sys::clock;

/// What became of a run without an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// childminder minds it.
    Running,
    /// childminder is gone, but the job, or a process of it, is there.
    Orphaned,
    /// It will never have an end; why, and whether that is beyond doubt.
    Lost(String, bool),
    /// It is on another host.
    Elsewhere,
}

/// A process begins before it writes its row, and clocks are set now and then.
const TOLERANCE: Duration = Duration::from_secs(5);

/// What of this host tells whether a run is there.
pub struct Here {
    proc: PathBuf,
    host: String,
    boot_id: String,
    /// When the host was booted, by the clock of today.
    booted: Option<Duration>,
    ticks_per_second: u64,
    /// Runs of which a process is there, by the CHILDMINDER_RUN_ID that all processes of a job have.
    minded: HashSet<Vec<u8>>,
}

impl Here {
    /// Looks around.
    #[must_use]
    pub fn look() -> Here {
        let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        Here::at(Path::new("/proc"), host, ticks.unsigned_abs(), clock::wall())
    }

    fn at(proc: &Path, host: String, ticks_per_second: u64, now: WallTime) -> Here {
        let text = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
        let uptime = text("uptime");
        let uptime = uptime.split(' ').next().and_then(|seconds| seconds.parse().ok());
        let uptime = uptime.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Here {
            proc: proc.to_owned(),
            host,
            boot_id: text("sys/kernel/random/boot_id").trim().to_owned(),
            booted: uptime.map(|uptime| now.0.saturating_sub(uptime)),
            ticks_per_second,
            minded: minded(proc),
        }
    }

    /// Returns what became of the run whose start this row is.
    #[must_use]
    pub fn fate(&self, start: &Row) -> Fate {
        if self.minded.contains(start.get(Column::RunId)) {
            // Read from the processes themselves: right whatever the clock and the boot id say.
            return if self.is_there(start, Column::Pid) { Fate::Running } else { Fate::Orphaned };
        }
        let boot_id = start.text(Column::BootId);
        if start.text(Column::Host) != self.host {
            return Fate::Elsewhere;
        }
        if boot_id.is_empty() || self.boot_id.is_empty() {
            return Fate::Elsewhere;
        }
        if boot_id != self.boot_id {
            return Fate::Lost("the host was booted since".into(), true);
        }
        if self.is_there(start, Column::Pid) {
            return Fate::Running;
        }
        if self.is_there(start, Column::ChildPid) {
            return Fate::Orphaned;
        }
        let pid = start.text(Column::Pid);
        Fate::Lost(format!("childminder (pid {pid}) is gone and wrote no end"), false)
    }

    /// Returns whether the process of that column is there: one that began before the row was
    /// written, for the pid may have gone to another since.
    fn is_there(&self, start: &Row, column: Column) -> bool {
        let Some(pid) = start.number::<i32>(column).filter(|pid| *pid > 0) else { return false };
        let stat = fs::read(self.proc.join(format!("{pid}/stat"))).unwrap_or_default();
        let Some(stat) = proc_stat::parse(&stat).filter(proc_stat::ProcStat::is_alive) else {
            return false;
        };
        // After the clock was set nothing is known by it: then the name decides for caution.
        let is_ours = column == Column::Pid && stat.name == b"childminder";
        let since_boot =
            Duration::from_millis(stat.start_ticks.saturating_mul(1000) / self.ticks_per_second);
        let (Some(booted), Some(written)) = (self.booted, time_of(start)) else { return true };
        is_ours || booted + since_boot <= written + TOLERANCE
    }
}

/// Returns the runs of which a process is there that we may ask.
fn minded(proc: &Path) -> HashSet<Vec<u8>> {
    const MARK: &[u8] = b"CHILDMINDER_RUN_ID=";
    let Ok(entries) = fs::read_dir(proc) else { return HashSet::new() };
    let is_pid = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let pids = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_pid));
    let run = |environ: Vec<u8>| {
        let mut entries = environ.split(|byte| *byte == 0);
        entries.find_map(|entry| entry.strip_prefix(MARK)).map(<[u8]>::to_vec)
    };
    // Whoever asks may be a job himself, such as a shell: that run has not ended either.
    pids.filter_map(|entry| run(fs::read(entry.path().join("environ")).ok()?)).collect()
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
    fn host(now: u64) -> (tempfile::TempDir, Here) {
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
        write("41/environ", "PATH=/bin\0CHILDMINDER_RUN_ID=minded\0");
        let here = Here::at(proc.path(), "node7".into(), 100, WallTime(Duration::from_secs(now)));
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
        assert_eq!(fate(start("x", "node7", BOOT, ["40", "41"])), Fate::Running);
        assert_eq!(fate(start("x", "node7", BOOT, ["39", "41"])), Fate::Orphaned);
        assert_eq!(fate(start("x", "node8", BOOT, ["39", "38"])), Fate::Elsewhere);
        assert!(matches!(fate(start("x", "node7", "bbbb", ["40", "41"])), Fate::Lost(_, true)));
        assert!(matches!(fate(start("x", "node7", BOOT, ["39", ""])), Fate::Lost(_, false)));
        // Pid 50 began later than the row was written: it is another process.
        assert!(matches!(fate(start("x", "node7", BOOT, ["50", "50"])), Fate::Lost(_, false)));
        // Another pid namespace or a job that was orphaned: its environment knows the run.
        assert_eq!(fate(start("minded", "node7", "bbbb", ["1", "2"])), Fate::Orphaned);
    }

    #[test]
    fn a_clock_that_was_set_makes_no_childminder_lost() {
        let (_proc, here) = host(900_000);
        assert_eq!(here.booted, Some(Duration::from_secs(1000)));
        let (_proc, mut here) = host(5000);
        here.booted = Some(Duration::from_secs(4000));
        assert_eq!(here.fate(&start("x", "node7", BOOT, ["40", ""])), Fate::Running);
    }
}
