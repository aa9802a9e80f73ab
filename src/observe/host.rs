//! What the whole host says: OOM kills, memory, pressure, the kernel's log, room on its disks.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::model::process::Pid;
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

/// Returns the share of the last ten seconds in which all tasks waited for memory, in percent
/// (`full avg10` of /proc/pressure/memory).
#[must_use]
pub fn memory_pressure_full(root: &Path) -> Option<f64> {
    let text = fs::read_to_string(root.join("proc/pressure/memory")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("full avg10="))?;
    line.split(' ').next()?.parse().ok()
}

/// Returns whether nothing more can be written below that directory: no room or no inode. A read-only
/// filesystem is no full one.
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
    /// Processes killed for want of memory.
    pub victims: Vec<Pid>,
    /// Lines about faults, with the pid that each names.
    pub faults: Vec<(Pid, String)>,
}

/// The longest record of /dev/kmsg that is read (CONSOLE_EXT_LOG_MAX of the kernel).
const RECORD_BYTES: usize = 8192;
/// So many records are looked through: more than the kernel's log usually holds.
const RECORDS_MAX: usize = 20_000;

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
    for _ in 0..RECORDS_MAX {
        match file.read(&mut record) {
            Ok(length) => {
                if let Some(text) = text_since(&record[..length], since_us) {
                    found.take(&text);
                }
            }
            // Records were overwritten while we read: the next read goes on behind them.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(found),
            Err(_) => return None,
        }
    }
    Some(found)
}

/// Reads a record `priority,sequence,time,flags;text`.
fn text_since(record: &[u8], since_us: u64) -> Option<String> {
    let record = String::from_utf8_lossy(record);
    let (head, text) = record.split_once(';')?;
    let time: u64 = head.split(',').nth(2)?.parse().ok()?;
    (time >= since_us).then(|| text.lines().next().unwrap_or_default().to_owned())
}

impl KernelLog {
    /// Takes in one line, of any kernel since 3.x: `Out of memory: Kill(ed) process PID (NAME)`,
    /// also with `Memory cgroup` in front, and `NAME[PID]: segfault at ...`.
    fn take(&mut self, line: &str) {
        let is_kill = line.contains("ut of memory") || line.contains("oom-kill");
        let killed = line.split_once("illed process ").or_else(|| line.split_once("ill process "));
        if let (true, Some((_, rest))) = (is_kill, killed) {
            self.victims.extend(leading_pid(rest));
        }
        let is_fault =
            ["segfault at", "trap ", "general protection"].iter().any(|word| line.contains(word));
        if let (true, Some((_, rest))) = (is_fault, line.split_once('[')) {
            self.faults.extend(leading_pid(rest).map(|pid| (pid, line.to_owned())));
        }
    }
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
        let line = "crasher[77]: segfault at 0 ip 00007f sp 00007f error 4 in libcrash.so[112a,7f]";
        let mut log = KernelLog::default();
        log.take(line);
        log.take("eth0[1]: link up");
        assert_eq!(log.faults, [(Pid(77), line.to_owned())]);
    }

    #[test]
    fn records_from_before_the_attempt_are_passed_over() {
        let record = b"6,339,5140900,-;Out of memory: Killed process 1 (x)\n SUBSYSTEM=a\n";
        assert!(text_since(record, 5_140_900).is_some_and(|text| !text.contains("SUBSYSTEM")));
        assert_eq!(text_since(record, 5_140_901), None);
        assert_eq!(text_since(b"garbage", 0), None);
    }

    #[test]
    fn numbers_of_the_host_are_read_from_its_files() {
        let root = tempfile::tempdir().expect("a directory");
        let proc = root.path().join("proc/pressure");
        fs::create_dir_all(&proc).expect("made");
        fs::write(root.path().join("proc/vmstat"), "nr_free_pages 7\noom_kill 5\n")
            .expect("written");
        fs::write(root.path().join("proc/meminfo"), "MemTotal:       24576 kB\n").expect("written");
        let pressure = "some avg10=9.00 avg60=0\nfull avg10=41.50 avg60=0.00\n";
        fs::write(proc.join("memory"), pressure).expect("written");
        assert_eq!(oom_kills(root.path()), Some(5));
        assert_eq!(memory_bytes(root.path()), Some(24 << 20));
        assert_eq!(memory_pressure_full(root.path()), Some(41.5));
        assert_eq!(oom_kills(Path::new("/nowhere")), None);
    }
}
