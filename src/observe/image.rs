//! The memory of a process, its mappings and the files behind them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::observe::process_memory::{ProcessFiles, ProcessMemory};
use crate::trace::contents::MappedFiles;
use crate::trace::maps::{Map, Maps};
use crate::trace::memory::Memory;
use crate::trace::python::{self, Interpreter, PythonStacks, Symbols, find};

/// /proc/PID/maps is read to this length: some programs have a hundred thousand mappings.
const MAPS_BYTES_MAX: usize = 4 << 20;

/// Reads the beginning of a file, at most that many bytes.
pub fn read_bounded(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// One process, as far as the kernel lets us read it.
pub struct Image {
    pub memory: ProcessMemory,
    pub maps: Maps,
    pub files: ProcessFiles,
}

impl Image {
    /// Returns `None` where the kernel refuses it.
    pub fn open(place: &Path) -> Option<Image> {
        let memory = ProcessMemory::open(place).ok()?;
        let maps = Maps::parse(&read_bounded(&place.join("maps"), MAPS_BYTES_MAX).ok()?);
        Some(Image { memory, maps, files: ProcessFiles { place: place.to_owned() } })
    }

    fn code(&self) -> impl Iterator<Item = &Map> {
        self.maps.iter().filter(|map| map.is_executable && map.path.starts_with('/'))
    }

    pub fn is_java(&self) -> bool {
        self.code().any(|map| map.name() == "libjvm.so")
    }

    /// Returns the CPython in it: of a library rather than of a program, which may be a stub.
    pub fn interpreter(&self) -> Option<Interpreter> {
        let is_named =
            |wanted: &'static str| self.code().filter(move |map| map.name().starts_with(wanted));
        let programs = is_named("python").chain(self.code().take(1));
        is_named("libpython").chain(programs).find_map(|map| {
            let file = self.files.open(map).ok()?;
            let symbols = find(file.as_ref(), (map.start, map.offset))?;
            let runtime = symbols.runtime?.wrapping_add(symbols.bias);
            let minor = minor(map.name()).or_else(|| self.version(&symbols));
            Some(Interpreter { runtime, minor })
        })
    }

    /// Reads `Py_Version`.
    fn version(&self, symbols: &Symbols) -> Option<u32> {
        let version = self.memory.word(symbols.version?.wrapping_add(symbols.bias))?;
        u32::try_from((version >> 16) & 0xff).ok().filter(|_| version >> 24 == 3)
    }
}

/// Returns N of a name such as `python3.N` or `libpython3.N.so.1.0`.
fn minor(name: &str) -> Option<u32> {
    let (_, rest) = name.split_once("python3.")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// Returns the Python frames of a thread, innermost first.
pub fn python_lines(stacks: &PythonStacks, tid: Option<u64>) -> Vec<String> {
    let threads = stacks.threads.iter().filter(|thread| tid.is_some() && thread.tid == tid);
    threads
        .flat_map(|thread| {
            let frames = thread.frames.iter().map(move |frame| {
                let python::PythonFrame { file, function, line } = frame;
                format!("Python: {function} at {file}:{line}")
            });
            frames.chain(thread.is_cut.then(|| "Python: more frames".to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_the_version() {
        for (name, wanted) in
            [("python3.11", Some(11)), ("libpython3.8.so.1.0", Some(8)), ("python3", None)]
        {
            assert_eq!(minor(name), wanted, "{name}");
        }
    }
}
