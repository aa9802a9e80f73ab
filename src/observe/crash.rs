//! Reads what a report of a crash needs, of a process that is stopped at its fatal signal: /proc/PID and the files
//! that are mapped into it.
//!
//! Nothing is mapped here: a file that is cut meanwhile would end us by SIGBUS.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::crash::{CrashReport, CrashResources};
use crate::model::process::Pid;
use crate::model::time::Moment;
use crate::trace::contents::{Contents, MappedFiles};
use crate::trace::fault::Fault;
use crate::trace::maps::{Map, Maps};
use crate::trace::memory::Memory;
use crate::trace::registers::Registers;
use crate::trace::report::Crashing;

/// A walk through a stack takes this long at most: the process waits for us.
const WALK_TIME_MAX: Duration = Duration::from_millis(20);
const PAGE: usize = 4096;
/// What is kept of one process: 16 MiB.
const PAGES_MAX: usize = 4096;
/// Some programs have a hundred thousand mappings.
const MAPS_BYTES_MAX: u64 = 8 << 20;
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
    /// Makes the report of the crash.
    ///
    /// # Errors
    ///
    /// The memory or the mappings of the process cannot be read.
    pub fn report(&self, fault: Fault, registers: Registers) -> io::Result<CrashReport> {
        let place = self.root.join(self.pid.to_string());
        let maps = Maps::parse(&bounded(&place.join("maps"), MAPS_BYTES_MAX)?);
        let memory = ProcessMemory::open(&place)?;
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
        let files = ProcessFiles { place };
        let (now, began) = (self.now, (self.now)());
        let has_time = || now() - began < WALK_TIME_MAX;
        Ok(crashing.report(&maps, &memory, &files, &has_time))
    }
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

/// The memory of a process, its pages as they were when they were first read.
pub struct ProcessMemory {
    file: File,
    pages: RefCell<HashMap<u64, Option<Box<[u8; PAGE]>>>>,
}

impl ProcessMemory {
    /// Opens that of a directory in /proc.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn open(place: &Path) -> io::Result<ProcessMemory> {
        Ok(ProcessMemory { file: File::open(place.join("mem"))?, pages: RefCell::default() })
    }

    /// Copies a part of one page; returns whether the page can be read.
    fn copy(&self, address: u64, into: &mut [u8]) -> bool {
        let (number, within) = (address / PAGE as u64, (address % PAGE as u64) as usize);
        let mut pages = self.pages.borrow_mut();
        if pages.len() >= PAGES_MAX && !pages.contains_key(&number) {
            return false;
        }
        let page = pages.entry(number).or_insert_with(|| {
            let mut page = Box::new([0; PAGE]);
            let read = self.file.read_exact_at(&mut page[..], number * PAGE as u64);
            read.ok().map(|()| page)
        });
        let part = page.as_ref().and_then(|page| page.get(within..within + into.len()));
        part.inspect(|part| into.copy_from_slice(part)).is_some()
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        // Tables of a module without a file: they would fill the pages that are kept.
        if into.len() > 16 * PAGE {
            return self.file.read_at(into, address).unwrap_or(0);
        }
        let mut done = 0;
        while done < into.len() {
            let Some(at) = address.checked_add(done as u64) else { break };
            let room = PAGE - (at % PAGE as u64) as usize;
            let end = into.len().min(done + room);
            if !self.copy(at, &mut into[done..end]) {
                break;
            }
            done = end;
        }
        done
    }
}

/// The files that are mapped into a process.
pub struct ProcessFiles {
    /// Its directory in /proc.
    pub place: PathBuf,
}

impl MappedFiles for ProcessFiles {
    fn open(&self, map: &Map) -> Result<Box<dyn Contents>, &'static str> {
        let path = map.path.strip_suffix(" (deleted)").unwrap_or(&map.path);
        let candidates = [
            self.place.join("root").join(path.trim_start_matches('/')),
            self.place.join("exe"),
            // Only with CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE.
            self.place.join(format!("map_files/{:x}-{:x}", map.start, map.end)),
            PathBuf::from(path),
        ];
        // The numbers of devices differ on btrfs and overlayfs: the inode decides.
        let is_it = |meta: &fs::Metadata| meta.is_file() && meta.ino() == map.inode;
        let mut is_other = false;
        for candidate in candidates {
            let Ok(meta) = fs::metadata(&candidate) else { continue };
            if !is_it(&meta) {
                is_other |= candidate.ends_with(path.trim_start_matches('/'));
                continue;
            }
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            let file = OpenOptions::new().read(true).custom_flags(flags).open(&candidate);
            let Ok(file) = file else { continue };
            if let Some(meta) = file.metadata().ok().filter(is_it) {
                return Ok(Box::new(MappedFile { file, length: meta.len() }));
            }
        }
        Err(if is_other { "it was replaced after it was mapped" } else { "it cannot be read" })
    }
}

struct MappedFile {
    file: File,
    length: u64,
}

impl Contents for MappedFile {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Option<()> {
        self.file.read_exact_at(into, offset).ok()
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
    fn our_own_memory_is_read_across_pages() {
        let memory = ProcessMemory::open(Path::new("/proc/self")).expect("our own");
        let bytes: Vec<u8> = (0..20_000_u32).map(|number| number as u8).collect();
        let mut read = vec![0; bytes.len()];
        assert_eq!(memory.read(bytes.as_ptr() as u64, &mut read), bytes.len());
        assert_eq!(read, bytes);
        assert_eq!(memory.read(8, &mut read), 0);
        assert_eq!(memory.word(u64::MAX - 3), None);
    }

    #[test]
    fn a_file_that_was_replaced_is_not_taken() {
        let files = ProcessFiles { place: PathBuf::from("/proc/self") };
        let text = fs::read("/proc/self/maps").expect("our maps");
        let maps = Maps::parse(&text);
        let own = maps.iter().find(|map| map.is_executable).expect("code").clone();
        let found = files.open(&own).expect("our program");
        assert_eq!(found.range(&(0..4), 4).as_deref(), Some(&b"\x7fELF"[..]));
        let other = Map { inode: own.inode + 1, ..own.clone() };
        assert_eq!(files.open(&other).err(), Some("it was replaced after it was mapped"));
        let gone = Map { path: "/nowhere/at/all".to_owned(), inode: 1, ..own };
        assert_eq!(files.open(&gone).err(), Some("it cannot be read"));
    }
}
