//! One mapped ELF file: its unwind tables, its names, its build id.

use std::ops::Range;

use crate::trace::contents::{Contents, MappedFiles};
use crate::trace::elf::{ElfLayout, PT_GNU_EH_FRAME, PT_LOAD};
use crate::trace::maps::{Map, Maps};
use crate::trace::memory::Memory;
use crate::trace::symbols::{self, Symbol, SymbolTable};

/// A browser's .eh_frame has 20 MB.
const TABLE_BYTES_MAX: u64 = 64 << 20;
/// The vdso has two pages (vdso(7)).
const VDSO_BYTES_MAX: u64 = 64 * 1024;
/// How much of a program's beginning is read from its memory, where its file is gone.
const HEAD_BYTES: usize = 4096;
/// The encoding of .eh_frame_hdr that every linker writes: relative to its place, 4 bytes, signed.
const PC_RELATIVE_4: u8 = 0x1b;

/// A table and the address that it was linked for.
pub struct UnwindTable {
    pub address: u64,
    pub bytes: Vec<u8>,
}

/// What unwinding needs of a file.
#[derive(Default)]
pub struct UnwindTables {
    pub eh_frame: Option<UnwindTable>,
    pub eh_frame_hdr: Option<UnwindTable>,
    pub debug_frame: Option<UnwindTable>,
    /// Link addresses of .text and .got, which pointers may be relative to.
    pub text: u64,
    pub got: u64,
}

/// A file as it is mapped into a process, or anonymous code of a just-in-time compiler.
#[derive(Default)]
pub struct Module {
    pub path: String,
    /// The executable mapping.
    pub range: Range<u64>,
    /// What is added to a link address to get that in the process.
    pub bias: u64,
    pub build_id: Option<String>,
    pub package: Option<String>,
    /// Why names or tables are missing.
    pub lack: Option<&'static str>,
    pub tables: UnwindTables,
    symbols: Vec<SymbolTable>,
    file: Option<Box<dyn Contents>>,
}

impl Module {
    /// Reads the module that an executable mapping belongs to.
    pub fn load(map: &Map, maps: &Maps, files: &dyn MappedFiles, memory: &dyn Memory) -> Module {
        let range = map.start..map.end;
        let mut module = Module { path: map.path.clone(), range, ..Module::default() };
        if map.path == "[vdso]" {
            let bytes = usize::try_from((map.end - map.start).min(VDSO_BYTES_MAX)).unwrap_or(0);
            if let Some(image) = memory.bytes(map.start, bytes) {
                module.take(map, Box::new(image));
            }
            return module;
        }
        if !map.path.starts_with('/') {
            module.lack = Some("it is not a file");
            return module;
        }
        match files.open(map) {
            Ok(file) => module.take(map, file),
            Err(reason) => {
                module.lack = Some(reason);
                module.tables = module.read_from_memory(map, maps, memory).unwrap_or_default();
            }
        }
        module
    }

    fn take(&mut self, map: &Map, file: Box<dyn Contents>) {
        let layout = ElfLayout::parse(file.as_ref());
        let code = layout.as_ref().and_then(|layout| layout.code_at(map.offset));
        let (Some(layout), Some(code)) = (&layout, code) else {
            self.lack = Some("it is not an ELF file of this machine");
            return;
        };
        let linked = code.address.wrapping_sub(code.file.start).wrapping_add(map.offset);
        self.bias = map.start.wrapping_sub(linked);
        let table = |name| {
            let section = layout.section(name)?;
            let bytes = file.range(&section.file, TABLE_BYTES_MAX)?;
            Some(UnwindTable { address: section.address, bytes })
        };
        let address = |name| layout.section(name).map_or(0, |section| section.address);
        self.tables = UnwindTables {
            eh_frame: table(".eh_frame"),
            eh_frame_hdr: table(".eh_frame_hdr"),
            debug_frame: table(".debug_frame"),
            text: address(".text"),
            got: address(".got"),
        };
        self.symbols = SymbolTable::all(layout);
        (self.build_id, self.package) = (layout.build_id.clone(), layout.package.clone());
        self.file = Some(file);
    }

    /// Where the file is gone: .eh_frame_hdr by its program header, and .eh_frame up to the end of its mapping. There
    /// are no names.
    fn read_from_memory(
        &mut self,
        map: &Map,
        maps: &Maps,
        memory: &dyn Memory,
    ) -> Option<UnwindTables> {
        let is_first = |first: &&Map| {
            first.start <= map.start && first.inode == map.inode && first.offset == 0
        };
        let first = maps.iter().rev().find(is_first)?;
        let mut head = vec![0; HEAD_BYTES];
        let read = memory.read(first.start, &mut head);
        head.truncate(read);
        let layout = ElfLayout::parse(&head)?;
        let load = layout.segments.iter().find(|segment| segment.kind == PT_LOAD)?;
        self.bias = first.start.wrapping_sub(load.address & !0xfff);
        let index = layout.segments.iter().find(|segment| segment.kind == PT_GNU_EH_FRAME)?;
        let bytes = usize::try_from(index.memory_bytes.min(TABLE_BYTES_MAX)).ok()?;
        // Where the mapping is shorter, nothing is allocated.
        let at = self.bias.wrapping_add(index.address);
        let room = maps.at(at)?.end - at;
        let header = memory.bytes(at, Some(bytes).filter(|bytes| *bytes as u64 <= room)?)?;
        if header.get(1) != Some(&PC_RELATIVE_4) {
            return None;
        }
        let relative = i32::from_le_bytes(header.get(4..8)?.try_into().ok()?);
        let address = index.address.wrapping_add(4).wrapping_add_signed(relative.into());
        let at = self.bias.wrapping_add(address);
        let bytes = (maps.at(at)?.end - at).min(TABLE_BYTES_MAX);
        let frames = memory.bytes(at, usize::try_from(bytes).ok()?)?;
        Some(UnwindTables {
            eh_frame: Some(UnwindTable { address, bytes: frames }),
            eh_frame_hdr: Some(UnwindTable { address: index.address, bytes: header }),
            ..UnwindTables::default()
        })
    }

    /// Returns the path without its directories, or a word for code that is not of a file.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.path.rsplit('/').next() {
            None | Some("") => "anonymous code",
            Some(name) => name,
        }
    }

    /// Returns for each link address the function that covers it.
    #[must_use]
    pub fn functions(&self, addresses: &[u64]) -> Vec<Option<Symbol>> {
        match &self.file {
            Some(file) => symbols::covering(&self.symbols, file.as_ref(), addresses),
            None => vec![None; addresses.len()],
        }
    }

    /// Returns the address in the process of the symbol of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<u64> {
        let linked = symbols::named(&self.symbols, self.file.as_ref()?.as_ref(), name)?;
        Some(linked.wrapping_add(self.bias))
    }
}

/// The modules of one process, read when they are first needed.
pub struct Modules<'a> {
    maps: &'a Maps,
    files: &'a dyn MappedFiles,
    list: Vec<Module>,
}

/// At most this number of modules is read: a backtrace passes through a few dozen.
const MODULES_MAX: usize = 128;

impl<'a> Modules<'a> {
    #[must_use]
    pub fn new(maps: &'a Maps, files: &'a dyn MappedFiles) -> Modules<'a> {
        Modules { maps, files, list: Vec::new() }
    }

    /// Returns the index of the module of which that address is code.
    pub fn at(&mut self, address: u64, memory: &dyn Memory) -> Option<usize> {
        if let Some(known) = self.list.iter().position(|module| module.range.contains(&address)) {
            return Some(known);
        }
        let map = self.maps.at(address).filter(|map| map.is_executable)?;
        if self.list.len() >= MODULES_MAX {
            return None;
        }
        self.list.push(Module::load(map, self.maps, self.files, memory));
        Some(self.list.len() - 1)
    }

    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Module> {
        self.list.get(index)
    }

    /// Returns those that were read.
    pub fn iter(&self) -> impl Iterator<Item = &Module> {
        self.list.iter()
    }
}
