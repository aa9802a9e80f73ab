//! The memory of another process, and the files that are mapped into it.
//!
//! Nothing is mapped here: a file that is cut meanwhile would end us by SIGBUS.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::trace::contents::{Contents, MappedFiles};
use crate::trace::maps::Map;
use crate::trace::memory::Memory;

const PAGE: usize = 4096;
/// What is kept of one process: 16 MiB.
const PAGES_MAX: usize = 4096;

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
        // What has no name any more may still be open.
        let is_deleted = path.len() < map.path.len();
        let descriptors = is_deleted.then(|| self.descriptors_of(&map.path)).into_iter().flatten();
        // The numbers of devices differ on btrfs and overlayfs: the inode decides.
        let is_it = |meta: &fs::Metadata| meta.is_file() && meta.ino() == map.inode;
        let mut is_other = false;
        for candidate in candidates.into_iter().chain(descriptors) {
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

impl ProcessFiles {
    /// The descriptors that proc(5) shows with this text, among the first `MAX_DESCRIPTORS`.
    fn descriptors_of(&self, text: &str) -> impl Iterator<Item = PathBuf> {
        let all = fs::read_dir(self.place.join("fd")).into_iter().flatten().flatten();
        let paths = all.take(MAX_DESCRIPTORS).map(|entry| entry.path());
        paths.filter(move |path| fs::read_link(path).is_ok_and(|target| target == Path::new(text)))
    }
}

/// A process may have a million of them.
const MAX_DESCRIPTORS: usize = 1024;

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
    use crate::trace::maps::Maps;

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
