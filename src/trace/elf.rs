//! As much of a 64-bit ELF file (elf(5)) as unwinding and naming need: segments, sections and notes.

use std::ops::Range;

use crate::trace::contents::Contents;

pub const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
pub const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const PF_X: u32 = 1;
pub const SHT_SYMTAB: u32 = 2;
const SHT_NOBITS: u32 = 8;
pub const SHT_DYNSYM: u32 = 11;
const SHF_COMPRESSED: u64 = 0x800;
const NT_GNU_BUILD_ID: u32 = 3;
const NT_FDO_PACKAGING: u32 = 0xcafe_1a7e;

/// Linkers make about ten segments, and about forty sections; more than this is damage.
const SEGMENTS_MAX: u16 = 256;
const SECTIONS_MAX: u64 = 10_000;
/// Longer notes, and longer tables of the names of sections, are not ours to read.
const NOTES_BYTES_MAX: u64 = 64 * 1024;
const NAMES_BYTES_MAX: u64 = 1 << 20;
const BUILD_ID_BYTES_MAX: usize = 32;

pub struct ElfSegment {
    pub kind: u32,
    pub is_executable: bool,
    pub address: u64,
    pub memory_bytes: u64,
    /// Its bytes in the file.
    pub file: Range<u64>,
}

pub struct MappedSection {
    pub name: String,
    pub kind: u32,
    pub is_compressed: bool,
    /// The address that it was linked for.
    pub address: u64,
    /// Its bytes in the file; empty if it has none there.
    pub file: Range<u64>,
    /// The index of the section with the names of its symbols.
    pub link: usize,
}

/// The tables of one file.
#[derive(Default)]
pub struct ElfLayout {
    pub segments: Vec<ElfSegment>,
    pub sections: Vec<MappedSection>,
    pub build_id: Option<String>,
    /// The note of the packager: `{"type":"deb","name":...}`.
    pub package: Option<String>,
}

impl ElfLayout {
    /// Reads the headers; `None` if they are not those of a 64-bit little-endian file. Sections may be missing: they
    /// are not loaded.
    pub fn parse(file: &dyn Contents) -> Option<ElfLayout> {
        let header = file.range(&(0..64), 64)?;
        if !header.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let mut layout = ElfLayout { segments: segments(file, &header)?, ..ElfLayout::default() };
        for segment in layout.segments.iter().filter(|segment| segment.kind == PT_NOTE) {
            let notes = file.range(&segment.file, NOTES_BYTES_MAX).unwrap_or_default();
            for (name, kind, text) in Notes(&notes) {
                match (name, kind) {
                    (b"GNU\0", NT_GNU_BUILD_ID) if text.len() <= BUILD_ID_BYTES_MAX => {
                        let digits = text.iter().map(|byte| format!("{byte:02x}"));
                        layout.build_id = Some(digits.collect());
                    }
                    (b"FDO\0", NT_FDO_PACKAGING) => {
                        let text = String::from_utf8_lossy(text);
                        layout.package = Some(text.trim_end_matches('\0').to_owned());
                    }
                    _ => {}
                }
            }
        }
        layout.sections = sections(file, &header).unwrap_or_default();
        Some(layout)
    }

    /// Returns the section of that name, if its bytes stand in the file as they are.
    pub fn section(&self, name: &str) -> Option<&MappedSection> {
        let mut named = self.sections.iter().filter(|section| section.name == name);
        named.find(|section| !section.is_compressed && !section.file.is_empty())
    }

    /// Returns the executable segment that holds that offset of the file. Segments of lld and mold share pages: only
    /// the flags distinguish them.
    pub fn code_at(&self, offset: u64) -> Option<&ElfSegment> {
        let mut code = self.segments.iter().filter(|one| one.kind == PT_LOAD && one.is_executable);
        code.find(|one| one.file.start & !0xfff <= offset && offset < one.file.end)
    }
}

fn segments(file: &dyn Contents, header: &[u8]) -> Option<Vec<ElfSegment>> {
    let (at, each, count) = (word(header, 32)?, half(header, 54)?, half(header, 56)?);
    if each < 56 || count > SEGMENTS_MAX {
        return None;
    }
    let bytes = u64::from(each) * u64::from(count);
    let table = file.range(&(at..at.checked_add(bytes)?), bytes)?;
    let parse = |entry: &[u8]| {
        let offset = word(entry, 8)?;
        Some(ElfSegment {
            kind: number(entry, 0)?,
            is_executable: number(entry, 4)? & PF_X != 0,
            address: word(entry, 16)?,
            memory_bytes: word(entry, 40)?,
            file: offset..offset.checked_add(word(entry, 32)?)?,
        })
    };
    Some(table.chunks_exact(usize::from(each)).filter_map(parse).collect())
}

fn sections(file: &dyn Contents, header: &[u8]) -> Option<Vec<MappedSection>> {
    let (at, each) = (word(header, 40)?, half(header, 58)?);
    if at == 0 || each < 64 {
        return None;
    }
    let first = file.range(&(at..at.checked_add(64)?), 64)?;
    // What does not fit into the header stands in the first section (elf(5), e_shnum and e_shstrndx).
    let count =
        Some(u64::from(half(header, 60)?)).filter(|count| *count > 0).or(word(&first, 32))?;
    let names = match half(header, 62)? {
        u16::MAX => usize::try_from(number(&first, 40)?).ok()?,
        names => usize::from(names),
    };
    if count > SECTIONS_MAX {
        return None;
    }
    let bytes = count * u64::from(each);
    let table = file.range(&(at..at.checked_add(bytes)?), bytes)?;
    let entries = || table.chunks_exact(usize::from(each));
    let range = |entry: &[u8]| {
        let offset = word(entry, 24)?;
        let has_bytes = number(entry, 4)? != SHT_NOBITS;
        Some(offset..offset.checked_add(if has_bytes { word(entry, 32)? } else { 0 })?)
    };
    let names = file.range(&range(entries().nth(names)?)?, NAMES_BYTES_MAX)?;
    let parse = |entry: &[u8]| {
        let name = names.get(usize::try_from(number(entry, 0)?).ok()?..)?;
        let name = name.split(|byte| *byte == 0).next()?;
        Some(MappedSection {
            name: String::from_utf8_lossy(name.get(..64).unwrap_or(name)).into_owned(),
            kind: number(entry, 4)?,
            is_compressed: word(entry, 8)? & SHF_COMPRESSED != 0,
            address: word(entry, 16)?,
            file: range(entry)?,
            link: usize::try_from(number(entry, 40)?).ok()?,
        })
    };
    let damaged = || MappedSection {
        name: String::new(),
        kind: 0,
        is_compressed: false,
        address: 0,
        file: 0..0,
        link: 0,
    };
    Some(entries().map(|entry| parse(entry).unwrap_or_else(damaged)).collect())
}

/// The notes of a segment: name, type and content.
struct Notes<'a>(&'a [u8]);

impl<'a> Iterator for Notes<'a> {
    type Item = (&'a [u8], u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let size = |at| usize::try_from(number(self.0, at)?).ok();
        let (name_bytes, text_bytes, kind) = (size(0)?, size(4)?, number(self.0, 8)?);
        let name = self.0.get(12..)?.get(..name_bytes)?;
        let text_at = 12_usize.checked_add(name_bytes.checked_next_multiple_of(4)?)?;
        let text = self.0.get(text_at..)?.get(..text_bytes)?;
        let end = text_at.checked_add(text_bytes.checked_next_multiple_of(4)?)?;
        self.0 = self.0.get(end..).unwrap_or_default();
        Some((name, kind, text))
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}
