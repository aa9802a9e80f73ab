//! What the whole host says: OOM kills, memory, pressure, the kernel's log, room on its disks.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};

use std::time::Duration;

use crate::model::findings::KernelLine;
use crate::model::process::Pid;
use crate::model::signal::Signal;
use crate::observe::cgroup::field;

/// Returns the OOM kills on this host since it was booted (`oom_kill` of /proc/vmstat, Linux 4.13).
#[must_use]
pub fn oom_kills(root: &Path) -> Option<u64> {
    field(&fs::read(root.join("proc/vmstat")).ok()?, b"oom_kill")
}

/// Returns the memory of the host in bytes (`MemTotal` of /proc/meminfo).
#[must_use]
pub fn memory_bytes(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Returns for how long all tasks have waited for memory since the host was booted (`total` of the line
/// `full` in /proc/pressure/memory). The averages there reach back before an attempt began.
#[must_use]
pub fn memory_stalled(root: &Path) -> Option<Duration> {
    let text = fs::read_to_string(root.join("proc/pressure/memory")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("full "))?;
    let total = line.split(' ').find_map(|word| word.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

/// Returns whether nothing more can be written below that directory: no room or no inode. A read-only
/// filesystem is not a full one.
#[must_use]
pub fn is_full(directory: &Path) -> bool {
    statvfs(directory).is_ok_and(|room| {
        let has_inodes = room.files() == 0 || room.files_available() > 0;
        let is_writable = !room.flags().contains(FsFlags::ST_RDONLY);
        is_writable && room.blocks() > 0 && (room.blocks_available() == 0 || !has_inodes)
    })
}

/// What the kernel's log says about deaths.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KernelLog {
    /// Processes killed by the OOM killer.
    pub victims: Vec<Pid>,
    /// Lines about faults and seccomp kills; the last of them.
    pub lines: Vec<KernelLine>,
    /// Whether no record since that time was overwritten.
    pub is_complete: bool,
}

/// At most this number of lines is kept.
const LINES_MAX: usize = 64;

/// The longest record of /dev/kmsg that is read (CONSOLE_EXT_LOG_MAX of the kernel).
const RECORD_BYTES: usize = 8192;
/// At most this number of records is read: more than the kernel's log usually holds.
const RECORDS_MAX: usize = 20_000;

/// Reads a text file of the kernel below `root`.
///
/// # Errors
///
/// Of open(2) and read(2).
pub fn text(root: &Path, name: &str) -> io::Result<String> {
    fs::read_to_string(root.join(name))
}

/// Returns whether we may read the kernel's log.
#[must_use]
pub fn can_read_kernel_log() -> bool {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").is_ok()
}

/// Reads what the kernel logged since a time on its own clock, in microseconds since boot; `None`
/// if we may not (`kernel.dmesg_restrict`).
#[must_use]
pub fn kernel_log_since(since_us: u64) -> Option<KernelLog> {
    let mut file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
    let mut found = KernelLog::default();
    let mut record = [0; RECORD_BYTES];
    for index in 0..RECORDS_MAX {
        match file.read(&mut record) {
            Ok(length) => {
                if let Some((time, text)) = parse_record(&record[..length]) {
                    if index == 0 {
                        found.is_complete = time <= since_us;
                    }
                    if time >= since_us {
                        found.take(&text);
                    }
                }
            }
            // Records were overwritten while we read: the next read goes on behind them.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => found.is_complete = false,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(found),
            Err(_) => return None,
        }
    }
    Some(KernelLog { is_complete: false, ..found })
}

/// Reads a record `priority,sequence,time,flags;text`; the time is in microseconds.
fn parse_record(record: &[u8]) -> Option<(u64, String)> {
    let record = String::from_utf8_lossy(record);
    let (head, text) = record.split_once(';')?;
    let time = head.split(',').nth(2)?.parse().ok()?;
    Some((time, text.lines().next().unwrap_or_default().to_owned()))
}

impl KernelLog {
    /// Takes in one line, of any kernel since 3.x: `Out of memory: Kill(ed) process PID (NAME)`,
    /// also with `Memory cgroup` in front, or a line about a fault or a seccomp kill.
    fn take(&mut self, line: &str) {
        let is_kill = line.contains("ut of memory") || line.contains("oom-kill");
        let killed = line.split_once("illed process ").or_else(|| line.split_once("ill process "));
        if let (true, Some((_, rest))) = (is_kill, killed) {
            self.victims.extend(leading_pid(rest));
        }
        let about = fault(line).or_else(|| seccomp_kill(line));
        if let Some((thread, signal)) = about {
            if self.lines.len() == LINES_MAX {
                self.lines.remove(0);
            }
            self.lines.push(KernelLine { thread, signal, text: line.to_owned() });
        }
    }
}

/// Reads `NAME[TID]: segfault at ...`, `traps: NAME[TID] trap divide error ...` and their like.
fn fault(line: &str) -> Option<(Pid, Option<Signal>)> {
    const MARKS: [(&str, Option<Signal>); 8] = [
        ("]: segfault", Some(Signal::SEGV)),
        ("] general protection", Some(Signal::SEGV)),
        ("] trap divide error", Some(Signal::FPE)),
        ("] trap invalid opcode", Some(Signal::ILL)),
        ("] trap int3", Some(Signal::TRAP)),
        ("] trap stack segment", Some(Signal::BUS)),
        ("] trap ", None),
        ("]: unhandled ", None),
    ];
    let found = MARKS.iter().find_map(|(mark, signal)| Some((line.split_once(mark)?.0, *signal)));
    let (before, signal) = found?;
    let (_, thread) = before.rsplit_once('[')?;
    Some((leading_pid(thread)?, signal))
}

/// Reads a record of type AUDIT_SECCOMP (linux/audit.h) about a kill: by SIGSYS, or by SIGKILL in the strict mode.
fn seccomp_kill(line: &str) -> Option<(Pid, Option<Signal>)> {
    let record = line.split_once("type=1326 ")?.1;
    let field = |name: &str| record.split(' ').find_map(|word| word.strip_prefix(name));
    let signal = field("sig=").filter(|signal| matches!(*signal, "31" | "9"))?;
    Some((leading_pid(field("pid=")?)?, signal.parse().ok()))
}

fn leading_pid(text: &str) -> Option<Pid> {
    let digits = text.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|pid| *pid > 0).map(Pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_for_an_oom_kill_are_understood() {
        let mut log = KernelLog::default();
        for line in [
            "Out of memory: Killed process 812 (python3) total-vm:71000kB, anon-rss:65000kB",
            "Memory cgroup out of memory: Killed process 813 (sh), UID 0, total-vm:1kB",
            "Out of memory: Kill process 814 (old) score 9 or sacrifice child",
            "oom_reaper: reaped process 812 (python3), now anon-rss:0kB",
            "Killed process 9 (none)",
        ] {
            log.take(line);
        }
        assert_eq!(log.victims, [Pid(812), Pid(813), Pid(814)]);
    }

    #[test]
    fn a_fault_is_kept_with_its_line() {
        let mut log = KernelLog::default();
        for (line, signal) in [
            (
                "crasher[77]: segfault at 0 ip 00007f error 4 in libcrash.so[112a,7f]",
                Some(Signal::SEGV),
            ),
            (
                "traps: a[b[77] trap divide error ip:401106 sp:7f error:0 in a[1106,401000]",
                Some(Signal::FPE),
            ),
            (
                "traps: x[77] general protection fault ip:4 sp:7 error:0 in x[4,4]",
                Some(Signal::SEGV),
            ),
            ("traps: x[77] trap invalid opcode ip:4 sp:7 error:0 in x[4,4]", Some(Signal::ILL)),
            ("traps: x[77] trap alignment check ip:4 sp:7 error:0 in x[4,4]", None),
            (
                "audit: type=1326 audit(1764.1:4): auid=1 uid=0 gid=0 ses=1 pid=77 comm=\"box\" \
                 exe=\"/box\" sig=31 arch=c000003e syscall=41 compat=0 ip=0x7f code=0x80000000",
                Some(Signal::SYS),
            ),
        ] {
            log.take(line);
            let last = log.lines.last().expect("a line");
            assert_eq!((last.thread, last.signal, &*last.text), (Pid(77), signal, line));
        }
        log.take("eth0[1]: link up");
        log.take("audit: type=1326 audit(1764.1:5): pid=78 comm=\"box\" sig=0 code=0x7ffc0000");
        assert_eq!(log.lines.len(), 6, "neither a fault nor a kill");
    }

    #[test]
    fn a_record_has_a_time_and_a_line() {
        let record = b"6,339,5140900,-;Out of memory: Killed process 1 (x)\n SUBSYSTEM=a\n";
        let text = "Out of memory: Killed process 1 (x)".to_owned();
        assert_eq!(parse_record(record), Some((5_140_900, text)));
        assert_eq!(parse_record(b"garbage"), None);
    }

    #[test]
    fn numbers_of_the_host_are_read_from_its_files() {
        let root = tempfile::tempdir().expect("a directory");
        let proc = root.path().join("proc/pressure");
        fs::create_dir_all(&proc).expect("made");
        fs::write(root.path().join("proc/vmstat"), "nr_free_pages 7\noom_kill 5\n")
            .expect("written");
        fs::write(root.path().join("proc/meminfo"), "MemTotal:       24576 kB\n").expect("written");
        let pressure = "some avg10=9.00 total=7\nfull avg10=41.50 avg60=0.00 total=1500\n";
        fs::write(proc.join("memory"), pressure).expect("written");
        assert_eq!(oom_kills(root.path()), Some(5));
        assert_eq!(memory_bytes(root.path()), Some(24 << 20));
        assert_eq!(memory_stalled(root.path()), Some(Duration::from_micros(1500)));
        assert_eq!(oom_kills(Path::new("/nowhere")), None);
    }
}
