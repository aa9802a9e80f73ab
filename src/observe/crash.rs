//! Reads what a report of a crash needs, of a process that is stopped at its fatal signal: /proc/PID and the files
//! that are mapped into it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::crash::{CrashReport, CrashResources};
use crate::model::process::Pid;
use crate::model::signal::Signal;
use crate::model::time::Moment;
use crate::observe::image::{Image, python_lines};
use crate::trace::fault::Fault;
use crate::trace::python::{self, PythonUnknown};
use crate::trace::registers::Registers;
use crate::trace::report::Crashing;

/// A walk through a stack takes this long at most: the process waits for us.
const WALK_TIME_MAX: Duration = Duration::from_millis(20);
/// Files of one value or a few dozen lines.
const TEXT_BYTES_MAX: u64 = 64 * 1024;
/// Threads and descriptors are counted up to this number.
const ENTRIES_MAX: usize = 100_000;
/// At most this number of open files is named.
const FILES_NAMED: usize = 16;

/// A thread that is stopped at a signal which is about to kill its process.
pub struct CrashSource {
    /// Where the proc file system is: `/proc`.
    pub root: PathBuf,
    pub pid: Pid,
    pub thread: Pid,
    /// CLOCK_MONOTONIC.
    pub now: fn() -> Moment,
}

impl CrashSource {
    /// Returns whether the signal ends the process: it neither catches nor ignores it. A fault that is blocked or
    /// ignored was set to its default action by the kernel before the stop (signal(7)).
    #[must_use]
    pub fn is_fatal(&self, signal: Signal) -> bool {
        let task = self.root.join(format!("{}/task/{}/stat", self.pid, self.thread));
        let text = bounded(&task, TEXT_BYTES_MAX).unwrap_or_default();
        has_default_action(&text, signal).unwrap_or(false)
    }

    /// Makes the report of the crash.
    ///
    /// # Errors
    ///
    /// The memory or the mappings of the process cannot be read.
    pub fn report(&self, fault: Fault, registers: Registers) -> io::Result<CrashReport> {
        let place = self.root.join(self.pid.to_string());
        let image = Image::open(&place).ok_or(io::ErrorKind::PermissionDenied)?;
        let task = place.join("task").join(self.thread.to_string());
        let text = |path: PathBuf| {
            let bytes = bounded(&path, TEXT_BYTES_MAX).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let crashing = Crashing {
            pid: self.pid,
            thread: self.thread,
            name: text(task.join("comm")).trim_end().to_owned(),
            threads: entries(&place.join("task")).count() as u64,
            stack_limit: stack_limit(&text(place.join("limits"))),
            resources: resources(&place, &text),
            fault,
            registers,
        };
        let (now, began) = (self.now, (self.now)());
        let has_time = || now() - began < WALK_TIME_MAX;
        let report = crashing.report(&image.maps, &image.memory, &image.files, &has_time);
        let runtime = self.runtime_lines(&image, &text(task.join("status")), &place);
        Ok(CrashReport { runtime, ..report })
    }

    /// Returns what the interpreter or the virtual machine in it says about the thread.
    fn runtime_lines(&self, image: &Image, status: &str, place: &Path) -> Vec<String> {
        // The number in its own pid namespace, which is what the interpreter knows.
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let own = ids.and_then(|ids| ids.split_ascii_whitespace().next_back()?.parse().ok());
        let python = image.interpreter().map(|interpreter| {
            python::stacks(&interpreter, &image.memory, &|thread| Some(thread) == own)
        });
        if image.is_java() {
            let report = format!("hs_err_pid{}.log", own.unwrap_or_default());
            let directory = fs::read_link(place.join("cwd")).unwrap_or_default();
            let is_there = place.join("cwd").join(&report).exists();
            let path = directory.join(report);
            return is_there
                .then(|| format!("Java: its crash report is {}", path.display()))
                .into_iter()
                .collect();
        }
        match python {
            None => Vec::new(),
            Some(Ok(stacks)) => python_lines(&stacks, own),
            Some(Err(PythonUnknown::Version(version))) => {
                vec![format!("Python {version}: the frames of this version are not known")]
            }
            Some(Err(PythonUnknown::Unreadable)) => {
                vec!["Python: its frames cannot be read".to_owned()]
            }
        }
    }
}

/// Reads fields 33 and 34 of /proc/PID/stat (`sigignore`, `sigcatch` in proc(5)). They are quicker to read than status, and this is
/// asked at each fault that a runtime handles.
fn has_default_action(stat: &[u8], signal: Signal) -> Option<bool> {
    // The name before the last bracket may hold anything.
    let behind = stat.rsplit(|byte| *byte == b')').next()?;
    let text = std::str::from_utf8(behind).ok()?;
    let mut fields = text.split_whitespace().skip(30).map(str::parse::<u64>);
    let (ignored, caught) = (fields.next()?.ok()?, fields.next()?.ok()?);
    // The fields have the signals below 32, which are all that end a process for a fault.
    let bit = u32::try_from(signal.number() - 1).ok().and_then(|bit| 1_u64.checked_shl(bit))?;
    Some((ignored | caught) & bit == 0)
}

fn bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn entries(directory: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(directory).into_iter().flatten().flatten().take(ENTRIES_MAX)
}

/// Reads RLIMIT_STACK out of /proc/PID/limits; `None` if it is unlimited.
fn stack_limit(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max stack size"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn resources(place: &Path, text: &dyn Fn(PathBuf) -> String) -> CrashResources {
    let (status, io) = (text(place.join("status")), text(place.join("io")));
    let field = |text: &str, name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    let mut open: Vec<(u32, PathBuf)> = entries(&place.join("fd"))
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    open.sort();
    let named = open.iter().take(FILES_NAMED).filter_map(|(number, path)| {
        let file = fs::read_link(path).ok()?;
        Some(format!("{number} {}", file.to_string_lossy()))
    });
    CrashResources {
        peak_rss_bytes: field(&status, "VmHWM:").map(|kib| kib * 1024),
        read_bytes: field(&io, "rchar:"),
        written_bytes: field(&io, "wchar:"),
        files: named.collect(),
        open_files: open.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_resources_are_read_below_a_root() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("7");
        fs::create_dir_all(place.join("fd")).expect("made");
        let write = |name: &str, text: &str| fs::write(place.join(name), text).expect("written");
        write("status", "Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t  3 kB\n");
        write("io", "rchar: 11\nwchar: 12\nsyscr: 13\n");
        std::os::unix::fs::symlink("/tmp/data", place.join("fd/3")).expect("a link");
        std::os::unix::fs::symlink("/tmp/more", place.join("fd/10")).expect("a link");
        let text = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        let found = resources(&place, &text);
        assert_eq!(
            found,
            CrashResources {
                peak_rss_bytes: Some(3072),
                read_bytes: Some(11),
                written_bytes: Some(12),
                open_files: 2,
                files: vec!["3 /tmp/data".to_owned(), "10 /tmp/more".to_owned()],
            }
        );
        let limits = "Limit  Soft\nMax stack size            8388608              unlimited\n";
        assert_eq!(stack_limit(limits), Some(8 << 20));
        assert_eq!(stack_limit("Max stack size   unlimited   unlimited"), None);
    }

    #[test]
    fn a_signal_that_is_caught_or_ignored_is_not_fatal() {
        // SIGPIPE (13) is ignored, SIGSEGV (11) is caught.
        let text = b"7 (a) R 1 1) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 9 1 1 1 1 1 1 1 1 0 0 4096 1024 0";
        assert_eq!(has_default_action(text, Signal::SEGV), Some(false));
        assert_eq!(has_default_action(text, Signal::PIPE), Some(false));
        assert_eq!(has_default_action(text, Signal::ABRT), Some(true));
        assert_eq!(has_default_action(b"7 (a) S 1", Signal::ABRT), None);
    }
}
