//! The memory of a process and the files mapped into it, read and never mapped here: a file that is cut
//! meanwhile would kill us by SIGBUS.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::trace::memory::Memory;
use crate::trace::python::{FileContent, Interpreter, Symbols, find};

const PAGE: usize = 4096;
/// What is kept of one process: 16 MiB.
const PAGES_MAX: usize = 4096;
/// /proc/PID/maps is read to this length: some programs have a hundred thousand mappings.
const MAPS_BYTES_MAX: usize = 4 << 20;

/// Reads the beginning of a file, at most that many bytes.
pub fn read_bounded(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A part of a file that is mapped as code.
struct Mapping {
    start: u64,
    offset: u64,
    inode: u64,
    path: PathBuf,
}

/// The memory of one process, its pages as they were when they were first read.
pub struct Image {
    place: PathBuf,
    memory: File,
    pages: RefCell<HashMap<u64, Option<Box<[u8; PAGE]>>>>,
    code: Vec<Mapping>,
}

impl Image {
    /// Returns `None` where the kernel refuses it.
    pub fn open(place: &Path) -> Option<Image> {
        let memory = File::open(place.join("mem")).ok()?;
        let maps = read_bounded(&place.join("maps"), MAPS_BYTES_MAX).ok()?;
        let code = String::from_utf8_lossy(&maps).lines().filter_map(mapping).collect();
        Some(Image { place: place.to_owned(), memory, pages: RefCell::default(), code })
    }

    pub fn is_java(&self) -> bool {
        self.code.iter().any(|one| one.path.ends_with("libjvm.so"))
    }

    /// Returns the CPython in it: of a library rather than of a program, which may be a stub.
    pub fn interpreter(&self) -> Option<Interpreter> {
        let name =
            |one: &Mapping| one.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let is_named = |wanted: &str| {
            let wanted = wanted.to_owned();
            self.code
                .iter()
                .filter(move |one| name(one).is_some_and(|name| name.starts_with(&wanted)))
        };
        let programs = is_named("python").chain(self.code.first());
        is_named("libpython").chain(programs).find_map(|one| {
            let symbols = find(&self.file(one)?, (one.start, one.offset))?;
            let runtime = symbols.runtime?.wrapping_add(symbols.bias);
            let minor = name(one).as_deref().and_then(minor).or_else(|| self.version(&symbols));
            Some(Interpreter { runtime, minor })
        })
    }

    /// Reads `Py_Version`.
    fn version(&self, symbols: &Symbols) -> Option<u32> {
        let version = self.word(symbols.version?.wrapping_add(symbols.bias))?;
        u32::try_from((version >> 16) & 0xff).ok().filter(|_| version >> 24 == 3)
    }

    /// Opens the file of a mapping, if it is still the one that was mapped.
    fn file(&self, mapping: &Mapping) -> Option<Content> {
        let name = mapping.path.strip_prefix("/").ok()?;
        let by_name = self.place.join("root").join(name);
        [self.place.join("exe"), by_name].iter().find_map(|path| {
            let is_it = |meta: &fs::Metadata| meta.is_file() && meta.ino() == mapping.inode;
            // Opening a device or a FIFO would do something: only a file is opened at all.
            fs::metadata(path).ok().filter(is_it)?;
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
            file.metadata().ok().filter(is_it)?;
            Some(Content(file))
        })
    }

    fn with_page<T>(&self, number: u64, then: impl FnOnce(&[u8; PAGE]) -> T) -> Option<T> {
        let mut pages = self.pages.borrow_mut();
        if pages.len() >= PAGES_MAX && !pages.contains_key(&number) {
            return None;
        }
        let page = pages.entry(number).or_insert_with(|| {
            let mut page = Box::new([0; PAGE]);
            let at = number.checked_mul(PAGE as u64)?;
            self.memory.read_exact_at(&mut page[..], at).ok().map(|()| page)
        });
        page.as_deref().map(then)
    }
}

impl Memory for Image {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        let mut done = 0;
        while done < into.len() {
            let Some(at) = address.checked_add(done as u64) else { break };
            let within = usize::try_from(at % PAGE as u64).unwrap_or_default();
            let count = (PAGE - within).min(into.len() - done);
            let piece = &mut into[done..done + count];
            let copied = self.with_page(at / PAGE as u64, |page| {
                piece.copy_from_slice(&page[within..within + count]);
            });
            if copied.is_none() {
                break;
            }
            done += count;
        }
        done
    }
}

/// A file that is read where it is wanted.
struct Content(File);

impl FileContent for Content {
    fn fill(&self, offset: u64, into: &mut [u8]) -> Option<()> {
        self.0.read_exact_at(into, offset).ok()
    }
}

/// Reads a line of /proc/PID/maps, if it is code of a file.
fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (range, rights, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let (_device, rest) = (fields.next()?, fields.next()?);
    let path = fields.next()?.trim_start();
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    if !rights.contains('x') || !path.starts_with('/') {
        return None;
    }
    Some(Mapping {
        start: number(range.split_once('-')?.0)?,
        offset: number(offset)?,
        inode: rest.parse().ok()?,
        path: PathBuf::from(path.strip_suffix(" (deleted)").unwrap_or(path)),
    })
}

/// Returns N of a name such as `python3.N` or `libpython3.N.so.1.0`.
fn minor(name: &str) -> Option<u32> {
    let (_, rest) = name.split_once("python3.")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_code_are_found() {
        let line = "55d1-55d9 r-xp 0001a000 fe:01 1234                       /usr/bin/python3.11 (deleted)";
        let found = mapping(line).expect("a mapping");
        assert_eq!((found.start, found.offset, found.inode), (0x55d1, 0x1a000, 1234));
        assert_eq!(found.path, Path::new("/usr/bin/python3.11"));
        for line in
            ["55d1-55d9 r--p 0 fe:01 1234   /x", "55d1-55d9 r-xp 0 00:00 0   [vdso]", "", "a b c"]
        {
            assert!(mapping(line).is_none(), "{line}");
        }
    }

    #[test]
    fn names_say_the_version() {
        for (name, wanted) in
            [("python3.11", Some(11)), ("libpython3.8.so.1.0", Some(8)), ("python3", None)]
        {
            assert_eq!(minor(name), wanted, "{name}");
        }
    }
}
