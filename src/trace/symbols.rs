//! The symbol tables of one file: which function covers an address.
//!
//! "The nearest symbol below" would name a wrong function in a stripped program: only symbols that cover the
//! address are given.

use std::cmp::Reverse;
use std::ops::Range;

use crate::trace::contents::Contents;
use crate::trace::elf::{ElfLayout, SHT_DYNSYM, SHT_SYMTAB};

/// The symbol table of a browser has 30 MB.
const TABLE_BYTES_MAX: u64 = 128 << 20;
/// A table is read in parts of this size, so that a large one does not enlarge us.
const PART_BYTES: u64 = 24 * 4096;
/// No name is read to a longer one (C++ templates).
const NAME_BYTES_MAX: u64 = 1024;

/// A function, by its link address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// As the linker knows it: mangled.
    pub name: String,
    pub address: u64,
}

/// Where a table and the names of its symbols are in the file.
pub struct SymbolTable {
    symbols: Range<u64>,
    names: Range<u64>,
}

impl SymbolTable {
    /// Returns those of a file, the most complete one first.
    pub fn all(layout: &ElfLayout) -> Vec<SymbolTable> {
        let kinds = [SHT_SYMTAB, SHT_DYNSYM].into_iter();
        let find = |kind| layout.sections.iter().find(move |section| section.kind == kind);
        let table = |kind| {
            let section = find(kind)?;
            let names = layout.sections.get(section.link)?;
            let is_whole = !section.is_compressed && !names.is_compressed;
            is_whole
                .then(|| SymbolTable { symbols: section.file.clone(), names: names.file.clone() })
        };
        kinds.filter_map(table).collect()
    }

    /// Calls `see` with each symbol until it returns false.
    fn each(&self, file: &dyn Contents, mut see: impl FnMut(SymbolEntry) -> bool) {
        let end = self.symbols.end.min(self.symbols.start.saturating_add(TABLE_BYTES_MAX));
        let mut at = self.symbols.start;
        while at < end {
            let part = at..end.min(at.saturating_add(PART_BYTES));
            let Some(bytes) = file.range(&part, PART_BYTES) else { return };
            let mut entries = bytes.chunks_exact(24).filter_map(SymbolEntry::parse);
            if !entries.all(&mut see) {
                return;
            }
            at = part.end;
        }
    }

    fn name(&self, file: &dyn Contents, entry: SymbolEntry) -> Option<String> {
        let at = self.names.start.checked_add(u64::from(entry.name))?;
        let end = self.names.end.min(at.checked_add(NAME_BYTES_MAX)?);
        let bytes = file.range(&(at..end), NAME_BYTES_MAX)?;
        let name = bytes.split(|byte| *byte == 0).next()?;
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
    }
}

/// Returns for each link address the function that covers it, by one pass through each table.
pub fn covering(
    tables: &[SymbolTable],
    file: &dyn Contents,
    addresses: &[u64],
) -> Vec<Option<Symbol>> {
    let mut order: Vec<usize> = (0..addresses.len()).collect();
    order.sort_by_key(|index| addresses[*index]);
    let mut found: Vec<Option<Symbol>> = vec![None; addresses.len()];
    for table in tables.iter().take_while(|_| !addresses.is_empty()) {
        let mut best: Vec<Option<SymbolEntry>> = vec![None; addresses.len()];
        table.each(file, |entry| {
            if entry.is_function() {
                let from = order.partition_point(|index| addresses[*index] < entry.address);
                let behind = order[from..].iter();
                for index in behind.take_while(|index| entry.covers(addresses[**index])) {
                    if best[*index].is_none_or(|known| entry.rank() > known.rank()) {
                        best[*index] = Some(entry);
                    }
                }
            }
            true
        });
        for (symbol, entry) in found.iter_mut().zip(best) {
            let Some(entry) = entry.filter(|_| symbol.is_none()) else { continue };
            let name = table.name(file, entry);
            *symbol = name.map(|name| Symbol { name, address: entry.address });
        }
    }
    found
}

/// Returns the link address of the symbol of that name.
pub fn named(tables: &[SymbolTable], file: &dyn Contents, name: &str) -> Option<u64> {
    // The table of dynamic symbols is short, and has what other modules use.
    tables.iter().rev().find_map(|table| {
        let names = file.range(&table.names, TABLE_BYTES_MAX)?;
        let mut found = None;
        table.each(file, |entry| {
            let at = usize::try_from(entry.name).unwrap_or(usize::MAX);
            let rest = names.get(at..).and_then(|rest| rest.strip_prefix(name.as_bytes()));
            if entry.is_defined() && rest.is_some_and(|rest| rest.first() == Some(&0)) {
                found = Some(entry.address);
            }
            found.is_none()
        });
        found
    })
}

/// One entry of a table (`Elf64_Sym` in elf(5)).
#[derive(Clone, Copy)]
struct SymbolEntry {
    name: u32,
    info: u8,
    section: u16,
    address: u64,
    bytes: u64,
}

impl SymbolEntry {
    fn parse(bytes: &[u8]) -> Option<SymbolEntry> {
        Some(SymbolEntry {
            name: u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?),
            info: *bytes.get(4)?,
            section: u16::from_le_bytes(bytes.get(6..8)?.try_into().ok()?),
            address: u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?),
            bytes: u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?),
        })
    }

    fn is_defined(self) -> bool {
        self.section != 0 && self.section < 0xff00
    }

    /// STT_FUNC, STT_GNU_IFUNC, and STT_NOTYPE, which assembler code has.
    fn is_function(self) -> bool {
        self.is_defined() && matches!(self.info & 15, 0 | 2 | 10)
    }

    fn covers(self, address: u64) -> bool {
        address.checked_sub(self.address).is_some_and(|behind| behind < self.bytes.max(1))
    }

    /// Which of several names for one place is taken: one with a size, the innermost, a global one before weak
    /// and local ones, the first in the table of names. It is the same in every run, which a signature needs.
    fn rank(self) -> (bool, Reverse<u64>, u8, Reverse<u32>) {
        let binding = match self.info >> 4 {
            1 => 2,
            2 => 1,
            _ => 0,
        };
        (self.bytes > 0, Reverse(self.bytes), binding, Reverse(self.name))
    }
}
