//! What /proc still shows of a zombie (proc(5)), and where its core dump is (core(5)).

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::model::elf::Elf;
use crate::model::findings::{CoreDump, Dispositions, Limits};
use crate::model::outcome::Termination;
use crate::model::proc_stat;
use crate::model::process::Pid;

/// Reads the limits that a process lives, or died, under; `None` if it has gone.
#[must_use]
pub fn limits(root: &Path, pid: Pid) -> Option<Limits> {
    parse_limits(&fs::read_to_string(root.join(format!("proc/{pid}/limits"))).ok()?)
}

fn parse_limits(text: &str) -> Option<Limits> {
    let row = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let mut words = line.split_ascii_whitespace();
        let number = |word: Option<&str>| word.and_then(|word| word.parse().ok());
        Some((number(words.next()), number(words.next())))
    };
    let (cpu_soft_seconds, cpu_hard_seconds) = row("Max cpu time")?;
    let (real_time_soft_us, real_time_hard_us) = row("Max realtime timeout")?;
    Some(Limits {
        cpu_soft_seconds,
        cpu_hard_seconds,
        real_time_soft_us,
        real_time_hard_us,
        file_size_bytes: row("Max file size")?.0,
        core_bytes: row("Max core file size")?.0,
        address_space_bytes: row("Max address space")?.0,
    })
}

/// What /proc/PID/stat says of a zombie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    pub name: String,
    /// Its CPU time, without the children that it waited for.
    pub cpu: Duration,
    /// Whether it was scheduled as SCHED_FIFO or SCHED_RR (sched(7)).
    pub is_real_time: Option<bool>,
}

/// Reads it; `None` if the process has gone.
#[must_use]
pub fn remains(root: &Path, pid: Pid) -> Option<Remains> {
    let line = fs::read(root.join(format!("proc/{pid}/stat"))).ok()?;
    let stat = proc_stat::parse(&line)?;
    Some(Remains {
        name: String::from_utf8_lossy(stat.name).into_owned(),
        cpu: Duration::from_millis(stat.own_ticks * 1000 / TICKS_PER_SECOND),
        is_real_time: stat.is_real_time(),
    })
}

/// Returns what a process does with signals, or did at its end; `None` if it has gone.
#[must_use]
pub fn dispositions(root: &Path, pid: Pid) -> Option<Dispositions> {
    let text = fs::read_to_string(root.join(format!("proc/{pid}/status"))).ok()?;
    let mask = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    Some(Dispositions {
        ignored: mask("SigIgn:")?,
        caught: mask("SigCgt:")?,
        // A signal that ended the process is often still among those that wait.
        blocked_pending: (mask("SigPnd:")? | mask("ShdPnd:")?) & mask("SigBlk:")?,
        is_seccomp_strict: mask("Seccomp:") == Some(1),
        is_seccomp_dead: mask("Seccomp:") == Some(3),
    })
}

/// Directories in which programs put their temporary files.
const TEMPORARY: [&str; 3] = ["tmp", "var/tmp", "dev/shm"];

/// At most this number of entries of a directory is looked at.
const ENTRIES_MAX: usize = 4096;

/// A file that a write beyond RLIMIT_FSIZE may have left.
#[derive(Clone, Copy, Debug)]
pub enum TruncatedFile {
    /// A write across the limit is cut there (setrlimit(2)).
    OfSize {
        /// In bytes.
        size: u64,
        /// When it was written at the earliest.
        since: SystemTime,
    },
    /// A write or a truncate(2) far beyond the end of a file leaves it as it is.
    Smaller {
        /// In bytes.
        size: u64,
        /// When it was written at the earliest.
        since: SystemTime,
    },
}

impl TruncatedFile {
    fn is_it(self, length: u64, modified: SystemTime) -> bool {
        match self {
            TruncatedFile::OfSize { size, since } => {
                length == size && modified + CLOCK_GRAIN >= since
            }
            TruncatedFile::Smaller { size, since } => length < size && modified >= since,
        }
    }
}

/// Finds such a regular file in those directories or in one for temporary files.
#[must_use]
pub fn find_file(root: &Path, directories: &[&Path], wanted: TruncatedFile) -> Option<PathBuf> {
    let temporary: Vec<PathBuf> = TEMPORARY.iter().map(|name| root.join(name)).collect();
    let all = directories.iter().copied().chain(temporary.iter().map(PathBuf::as_path));
    let entries = all.flat_map(|directory| {
        fs::read_dir(directory).into_iter().flatten().flatten().take(ENTRIES_MAX)
    });
    entries.map(|entry| entry.path()).find(|path| {
        fs::symlink_metadata(path).is_ok_and(|meta| {
            meta.is_file() && meta.modified().is_ok_and(|time| wanted.is_it(meta.len(), time))
        })
    })
}

/// USER_HZ, which is 100 on every architecture that Rust runs Linux on.
const TICKS_PER_SECOND: u64 = 100;

/// Finds out what became of a core dump. The kernel's bit errs both ways, so the file is looked
/// for: in `directory`, the job's, where the pattern is a plain name, and not older than `since`.
#[must_use]
pub fn core_dump(
    root: &Path,
    dead: (Pid, Termination),
    directory: &Path,
    since: SystemTime,
) -> Option<CoreDump> {
    let (pid, Termination::Signaled { signal, core_dumped }) = dead else { return None };
    if !signal.is_fault() && !core_dumped {
        return None;
    }
    let pattern = fs::read_to_string(root.join("proc/sys/kernel/core_pattern")).unwrap_or_default();
    let pattern = pattern.trim_end();
    if let Some(program) = pattern.strip_prefix('|') {
        let program = program.split(' ').next().unwrap_or_default().to_owned();
        return Some(if core_dumped {
            CoreDump::Piped(program)
        } else {
            CoreDump::None(format!("{program} was not given one"))
        });
    }
    // The path is for whoever reads it elsewhere.
    let directory = &std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let names = [core_name(pattern, pid, ""), core_name(pattern, pid, &format!(".{pid}"))];
    let found = names.into_iter().flatten().map(|name| directory.join(name)).find(|path| {
        let modified = fs::metadata(path).and_then(|meta| meta.modified());
        modified.is_ok_and(|time| time + CLOCK_GRAIN >= since)
    });
    match (found, core_dumped) {
        (Some(path), true) if is_whole(&path) => Some(CoreDump::Found(path)),
        (Some(path), _) => Some(CoreDump::Cut(path, why_cut(root, pid))),
        (_, true) => Some(CoreDump::NotFound(pattern.to_owned())),
        (None, false) => Some(CoreDump::None(why_none(root, pid, directory))),
    }
}

/// Times of files are those of the last tick of the clock.
const CLOCK_GRAIN: Duration = Duration::from_millis(20);

/// Fills in the pattern as far as it is only about the pid; `None` where it is about more.
fn core_name(pattern: &str, pid: Pid, ending: &str) -> Option<PathBuf> {
    let name = pattern.replace("%%", "\0").replace("%p", &pid.to_string());
    if name.contains('%') {
        return None;
    }
    Some(PathBuf::from(name.replace('\0', "%") + ending))
}

/// Returns whether a core dump has all that its headers announce: the kernel stops writing at a limit. One that
/// may not be read, or is in another format, is taken for whole.
fn is_whole(path: &Path) -> bool {
    let Ok(file) = fs::File::open(path) else { return true };
    let read = |bytes: &mut [u8], offset| file.read_exact_at(bytes, offset).ok();
    let mut head = [0; 64];
    let Some(found) = read(&mut head, 0).and_then(|()| Elf::parse(&head)) else { return true };
    let length = file.metadata().map_or(0, |meta| meta.len());
    found.content_end(read).is_some_and(|end| end <= length)
}

fn why_cut(root: &Path, pid: Pid) -> String {
    match limits(root, pid).and_then(|limits| limits.core_bytes) {
        Some(bytes) => format!("RLIMIT_CORE is {bytes} bytes (ulimit -c)"),
        None => "it could not be written to its end; is the disk full?".to_owned(),
    }
}

fn why_none(root: &Path, pid: Pid, directory: &Path) -> String {
    match limits(root, pid).map(|limits| limits.core_bytes) {
        Some(Some(0)) => "RLIMIT_CORE is 0 (ulimit -c)".to_owned(),
        Some(Some(bytes)) => format!("RLIMIT_CORE is {bytes} bytes (ulimit -c)"),
        _ => format!("is {} writable?", directory.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::signal::Signal;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max cpu time              1                    2                    seconds
Max file size             unlimited            unlimited            bytes
Max core file size        0                    unlimited            bytes
Max address space         unlimited            unlimited            bytes
Max realtime timeout      200000               unlimited            us
";

    fn root(pattern: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("proc/77")).expect("made");
        fs::create_dir_all(root.path().join("proc/sys/kernel")).expect("made");
        fs::write(root.path().join("proc/77/limits"), LIMITS).expect("written");
        let file = root.path().join("proc/sys/kernel/core_pattern");
        fs::write(file, pattern).expect("written");
        root
    }

    fn segv(core_dumped: bool) -> (Pid, Termination) {
        (Pid(77), Termination::Signaled { signal: Signal::SEGV, core_dumped })
    }

    #[test]
    fn limits_are_read_and_unlimited_is_none() {
        let limits = parse_limits(LIMITS).expect("limits");
        assert_eq!((limits.cpu_soft_seconds, limits.cpu_hard_seconds), (Some(1), Some(2)));
        assert_eq!((limits.core_bytes, limits.file_size_bytes), (Some(0), None));
        let real_time = (limits.real_time_soft_us, limits.real_time_hard_us);
        assert_eq!(real_time, (Some(200_000), None));
        assert_eq!(parse_limits("garbage"), None);
    }

    #[test]
    fn the_masks_of_signals_are_read() {
        let root = root("core\n");
        let status = "Name:\tx\nSigPnd:\t0000000000000001\nShdPnd:\t0000000000000002\n\
                      SigBlk:\t0000000000000006\nSigIgn:\t0000000001001000\nSigCgt:\t0000000000004002\n\
                      Seccomp:\t1\n";
        fs::write(root.path().join("proc/77/status"), status).expect("written");
        let expected = Dispositions {
            ignored: 0x100_1000,
            caught: 0x4002,
            blocked_pending: 2,
            is_seccomp_strict: true,
            is_seccomp_dead: false,
        };
        assert_eq!(dispositions(root.path(), Pid(77)), Some(expected));
        assert_eq!(dispositions(root.path(), Pid(78)), None);
    }

    #[test]
    fn a_file_at_its_limit_is_found_where_the_job_was_or_among_temporary_files() {
        let root = root("core\n");
        let job = root.path().join("job");
        for directory in [&job, &root.path().join("tmp")] {
            fs::create_dir(directory).expect("made");
        }
        let past = SystemTime::UNIX_EPOCH;
        let wanted =
            |size, since| find_file(root.path(), &[&job], TruncatedFile::OfSize { size, since });
        let find = |size| wanted(size, past);
        fs::write(job.join("small"), [0; 511]).expect("written");
        assert_eq!(find(512), None);
        fs::write(root.path().join("tmp/x"), [0; 512]).expect("written");
        assert_eq!(find(512), Some(root.path().join("tmp/x")));
        let later = past + Duration::from_secs(1 << 36);
        assert_eq!(wanted(512, later), None);
        let smaller =
            |since| find_file(root.path(), &[&job], TruncatedFile::Smaller { size: 512, since });
        assert_eq!(smaller(past), Some(job.join("small")));
        assert_eq!(smaller(later), None);
    }

    #[test]
    fn a_core_is_found_by_either_name_and_only_if_it_is_new() {
        let root = root("core\n");
        let at = root.path();
        let past = SystemTime::UNIX_EPOCH;
        let missing = core_dump(at, segv(true), at, past);
        assert_eq!(missing, Some(CoreDump::NotFound("core".into())));
        let core = at.join("core.77");
        fs::write(&core, "x").expect("written");
        assert_eq!(core_dump(at, segv(true), at, past), Some(CoreDump::Found(core)));
        let written = fs::metadata(at.join("core.77")).and_then(|meta| meta.modified());
        let cut = core_dump(at, segv(false), at, past);
        let reason = "RLIMIT_CORE is 0 bytes (ulimit -c)".to_owned();
        assert_eq!(cut, Some(CoreDump::Cut(at.join("core.77"), reason)));
        let later = written.expect("a time") + Duration::from_secs(60);
        let old = core_dump(at, segv(true), at, later);
        assert_eq!(old, Some(CoreDump::NotFound("core".into())));
    }

    #[test]
    fn why_there_is_none_is_said() {
        let plain = root("core\n");
        let none = core_dump(plain.path(), segv(false), plain.path(), SystemTime::UNIX_EPOCH);
        assert_eq!(none, Some(CoreDump::None("RLIMIT_CORE is 0 (ulimit -c)".into())));
        let piped = root("|/usr/lib/systemd/systemd-coredump %P %u\n");
        let given = core_dump(piped.path(), segv(true), piped.path(), SystemTime::UNIX_EPOCH);
        assert_eq!(given, Some(CoreDump::Piped("/usr/lib/systemd/systemd-coredump".into())));
        let term = Termination::Signaled { signal: Signal::TERM, core_dumped: false };
        let ordinary =
            core_dump(plain.path(), (Pid(77), term), plain.path(), SystemTime::UNIX_EPOCH);
        assert_eq!(ordinary, None);
    }
}
