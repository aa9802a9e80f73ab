//! Finds `_PyRuntime` in the program or the library that is the interpreter: by the section of that
//! name, or by the symbol. Little-endian ELF files of 64 bits; the content comes in pieces.

use crate::trace::contents::Contents;

/// Where the interpreter of a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The address of `_PyRuntime`.
    pub runtime: u64,
    /// N of version 3.N, from the name of the file or from `Py_Version`.
    pub minor: Option<u32>,
}

/// What an ELF file says, in its own addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    pub runtime: Option<u64>,
    /// `Py_Version`, since 3.11: a constant of eight bytes.
    pub version: Option<u64>,
    /// What to add for the addresses of the process.
    pub bias: u64,
}

/// Sections and program headers that are looked at, at most.
const HEADERS_MAX: u64 = 256;
/// A table of symbols or names that is larger is not looked through.
const TABLE_BYTES_MAX: u64 = 64 << 20;
/// What is read at once; a multiple of the size of a symbol.
const PIECE: usize = 24 << 10;
const SYMBOL_BYTES: u64 = 24;
const PAGE: u64 = 4096;

const SHT_SYMTAB: u32 = 2;
const SHT_DYNSYM: u32 = 11;
const PT_LOAD: u32 = 1;
const PF_X: u32 = 1;

#[derive(Clone, Copy)]
struct ElfSection {
    name: u32,
    kind: u32,
    address: u64,
    offset: u64,
    size: u64,
    link: u32,
}

/// Looks into a file of which `(address, offset)` is an executable mapping.
pub fn find(file: &dyn Contents, (address, offset): (u64, u64)) -> Option<Symbols> {
    let mut head = [0; 64];
    file.read_at(0, &mut head)?;
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let elf = InterpreterFile { file, head: &head };
    let bias = address.wrapping_sub(elf.address_of(offset)?);
    let sections = elf.sections();
    let names = sections.get(usize::from(elf.short(62))).copied();
    let named = |wanted: &[u8]| {
        sections
            .iter()
            .find(|section| names.is_some_and(|names| elf.has_name(names, section.name, wanted)))
    };
    let mut found = Symbols { bias, ..Symbols::default() };
    found.runtime = named(b".PyRuntime\0").map(|section| section.address);
    for kind in [SHT_DYNSYM, SHT_SYMTAB] {
        let Some(table) = sections.iter().find(|section| section.kind == kind) else { continue };
        let Some(strings) = sections.get(table.link as usize) else { continue };
        found.runtime = found.runtime.or_else(|| elf.symbol(table, strings, b"_PyRuntime\0"));
        found.version = found.version.or_else(|| elf.symbol(table, strings, b"Py_Version\0"));
        if found.runtime.is_some() {
            break;
        }
    }
    Some(found)
}

struct InterpreterFile<'a> {
    file: &'a dyn Contents,
    head: &'a [u8; 64],
}

impl InterpreterFile<'_> {
    fn short(&self, at: usize) -> u16 {
        number(self.head, at, 2).try_into().unwrap_or_default()
    }

    /// Returns the address that the file gives to what is at that offset of it, in code.
    fn address_of(&self, offset: u64) -> Option<u64> {
        let begin = number(self.head, 32, 8);
        let size = u64::from(self.short(54));
        for index in 0..u64::from(self.short(56)).min(HEADERS_MAX) {
            let mut raw = [0; 56];
            self.file.read_at(begin.checked_add(index * size)?, &mut raw)?;
            let (kind, flags) = (number(&raw, 0, 4), number(&raw, 4, 4));
            // The linker of LLVM lets segments share pages of the file: code is meant.
            if kind != u64::from(PT_LOAD) || flags & u64::from(PF_X) == 0 {
                continue;
            }
            let (at, address, length) =
                (number(&raw, 8, 8), number(&raw, 16, 8), number(&raw, 32, 8));
            let first = at & !(PAGE - 1);
            if first <= offset && offset < at.checked_add(length)? {
                return Some(address.wrapping_sub(at).wrapping_add(offset));
            }
        }
        None
    }

    fn sections(&self) -> Vec<ElfSection> {
        let begin = number(self.head, 40, 8);
        let size = u64::from(self.short(58));
        let read = |index: u64| {
            let mut raw = [0; 64];
            self.file.read_at(begin.checked_add(index * size)?, &mut raw)?;
            let half = |at| number(&raw, at, 4).try_into().unwrap_or(0);
            Some(ElfSection {
                name: half(0),
                kind: half(4),
                address: number(&raw, 16, 8),
                offset: number(&raw, 24, 8),
                size: number(&raw, 32, 8),
                link: half(40),
            })
        };
        (0..u64::from(self.short(60)).min(HEADERS_MAX)).map_while(read).collect()
    }

    fn has_name(&self, names: ElfSection, at: u32, wanted: &[u8]) -> bool {
        let mut name = vec![0; wanted.len()];
        let offset = names.offset.checked_add(u64::from(at));
        offset.and_then(|offset| self.file.read_at(offset, &mut name)).is_some() && name == wanted
    }

    /// Returns the address of the symbol of that name, with its zero at the end.
    fn symbol(&self, table: &ElfSection, strings: &ElfSection, wanted: &[u8]) -> Option<u64> {
        let names = self.places_of(strings, wanted);
        let mut found = None;
        self.pieces(table, 0, |_, piece| {
            found = piece.chunks_exact(24).find_map(|symbol| {
                let (name, section) = (number(symbol, 0, 4), number(symbol, 6, 2));
                (section != 0 && names.contains(&name)).then(|| number(symbol, 8, 8))
            });
            found.is_none()
        })?;
        found
    }

    /// Returns where in a table of names that one is; the end of another may serve as well.
    fn places_of(&self, strings: &ElfSection, wanted: &[u8]) -> Vec<u64> {
        let mut found = Vec::new();
        self.pieces(strings, wanted.len() as u64 - 1, |offset, piece| {
            let places = memchr::memmem::find_iter(piece, wanted);
            found.extend(places.map(|at| offset + at as u64));
            true
        });
        found
    }

    /// Hands on a section in pieces that overlap by that many bytes, as long as more are wanted.
    fn pieces(
        &self,
        section: &ElfSection,
        overlap: u64,
        mut wants_more: impl FnMut(u64, &[u8]) -> bool,
    ) -> Option<()> {
        let size = Some(section.size).filter(|size| *size <= TABLE_BYTES_MAX)?;
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        while at < size {
            let count = usize::try_from(size - at).map_or(PIECE, |left| left.min(PIECE));
            self.file.read_at(section.offset.checked_add(at)?, &mut piece[..count])?;
            if !wants_more(at, &piece[..count]) || at + count as u64 >= size {
                break;
            }
            at += count as u64 - overlap;
        }
        Some(())
    }
}

const _: () = assert!((PIECE as u64).is_multiple_of(SYMBOL_BYTES));

fn number(bytes: &[u8], at: usize, count: usize) -> u64 {
    let field = bytes.get(at..at + count).unwrap_or_default();
    field.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODE_AT: u64 = 0x1000;
    const ADDRESS: u64 = 0x40_1000;

    /// A file with one segment of code, symbols and names, and a section `.PyRuntime` if that is wanted.
    fn file(with_section: bool) -> Vec<u8> {
        let names = b"\0.PyRuntime\0x_PyRuntime\0Py_Version\0";
        let mut bytes = vec![0; 0x1000];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, b"\x7fELF\x02\x01");
        put(32, &64_u64.to_le_bytes());
        put(40, &0x400_u64.to_le_bytes());
        for (at, short) in [(54, 56_u16), (56, 1), (58, 64), (60, 4), (62, 1)] {
            put(at, &short.to_le_bytes());
        }
        put(64, &[1, 0, 0, 0, 5]);
        put(64 + 8, &CODE_AT.to_le_bytes());
        put(64 + 16, &ADDRESS.to_le_bytes());
        put(64 + 32, &0x100_u64.to_le_bytes());
        put(0x200, names);
        // "_PyRuntime" is the end of another name; Py_Version comes second.
        for (at, name, address) in [(0x318, 13_u32, 0x50_0000_u64), (0x330, 24, 0x50_1000)] {
            put(at, &name.to_le_bytes());
            put(at + 6, &1_u16.to_le_bytes());
            put(at + 8, &address.to_le_bytes());
        }
        let length = names.len() as u64;
        let sections = [
            (1, 0_u32, 3_u32, 0_u64, 0x200_u64, length, 0_u32),
            (2, 0, SHT_DYNSYM, 0, 0x300, 0x48, 1),
            (3, u32::from(with_section), 1, 0x60_0000, 0, 0, 0),
        ];
        for (index, name, kind, address, offset, size, link) in sections {
            let at = 0x400 + index * 64;
            put(at, &name.to_le_bytes());
            put(at + 4, &kind.to_le_bytes());
            put(at + 16, &address.to_le_bytes());
            put(at + 24, &offset.to_le_bytes());
            put(at + 32, &size.to_le_bytes());
            put(at + 40, &link.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn the_section_or_the_symbol_is_found() {
        let mapping = (0x7f00_0000_1000, CODE_AT);
        let found = find(&file(false), mapping).expect("a file");
        assert_eq!((found.runtime, found.version), (Some(0x50_0000), Some(0x50_1000)));
        assert_eq!(found.bias, 0x7f00_0000_1000 - ADDRESS);
        assert_eq!(find(&file(true), mapping).expect("a file").runtime, Some(0x60_0000));
        assert_eq!(find(&file(true), (0, 0x9000)), None, "no code is mapped from there");
        assert_eq!(find(&b"#!/bin/sh\n".repeat(9), mapping), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_damaged_file_never_panics(
            changes in prop::collection::vec((0..0x600_usize, any::<u8>()), 1..30),
            length in 0..0x1001_usize,
            offset: u64,
        ) {
            let mut bytes = file(true);
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            // Either of them: a mapping that fits, or any.
            find(&bytes, (0x7000, CODE_AT));
            find(&bytes, (0x7000, offset));
            bytes.truncate(length);
            find(&bytes, (0x7000, CODE_AT));
        }
    }
}
