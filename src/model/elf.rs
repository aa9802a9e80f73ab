//! As much of an ELF file (elf(5)) as says why the kernel does not execute it, and whether a core dump is
//! whole. Pure: others read.

pub const MAGIC: &[u8] = b"\x7fELF";

/// At most this number of program headers is looked at.
const HEADERS_MAX: u16 = 64;
/// No path of a loader is longer (PATH_MAX).
const LOADER_BYTES: usize = 4096;
/// The program header that names the dynamic loader.
const PT_INTERP: u32 = 3;

/// The header of one ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elf {
    is_64: bool,
    is_little: bool,
    /// `e_machine` of the header.
    pub machine: u16,
    headers_at: u64,
    header_bytes: u16,
    headers: u16,
}

impl Elf {
    /// Reads the header; `None` if it is not whole, or none.
    pub fn parse(head: &[u8]) -> Option<Elf> {
        let (class, order) = (*head.get(4)?, *head.get(5)?);
        if !head.starts_with(MAGIC) || !matches!(class, 1 | 2) || !matches!(order, 1 | 2) {
            return None;
        }
        let (is_64, is_little) = (class == 2, order == 1);
        let number = |at: usize, bytes: usize| number(head.get(at..at + bytes)?, is_little);
        let half = |at: usize| number(at, 2).and_then(|half| u16::try_from(half).ok());
        let (headers_at, sizes_at) =
            if is_64 { (number(32, 8)?, 54) } else { (number(28, 4)?, 42) };
        let (machine, header_bytes) = (half(18)?, half(sizes_at)?);
        let headers = half(sizes_at + 2)?;
        Some(Elf { is_64, is_little, machine, headers_at, header_bytes, headers })
    }

    /// Returns where the program headers end: a file that is shorter was cut.
    pub fn headers_end(&self) -> u64 {
        self.headers_at.saturating_add(u64::from(self.header_bytes) * u64::from(self.headers))
    }

    /// Returns where the content of the last program header ends. The kernel writes a core dump in the order of
    /// its headers: one that is shorter was cut.
    pub fn content_end(&self, read: impl Fn(&mut [u8], u64) -> Option<()>) -> Option<u64> {
        if self.headers == u16::MAX {
            // There are more, and their number stands elsewhere (PN_XNUM).
            return Some(self.headers_end());
        }
        let last = self.header(self.headers.checked_sub(1)?, &read)?;
        last.offset.checked_add(last.length)
    }

    /// Returns the dynamic loader that it names; `read` fills a buffer from an offset of the file.
    pub fn loader(&self, read: impl Fn(&mut [u8], u64) -> Option<()>) -> Option<Vec<u8>> {
        (0..self.headers.min(HEADERS_MAX)).find_map(|index| {
            let header = self.header(index, &read).filter(|header| header.kind == PT_INTERP)?;
            let length = usize::try_from(header.length).ok()?;
            let mut name = vec![0; Some(length).filter(|length| *length <= LOADER_BYTES)?];
            read(&mut name, header.offset)?;
            name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(length));
            Some(name)
        })
    }

    fn header(
        &self,
        index: u16,
        read: impl Fn(&mut [u8], u64) -> Option<()>,
    ) -> Option<ProgramHeader> {
        let mut bytes = [0; 56];
        let bytes = &mut bytes[..if self.is_64 { 56 } else { 32 }];
        let at = u64::from(index) * u64::from(self.header_bytes);
        read(bytes, self.headers_at.checked_add(at)?)?;
        let field = |at: usize, size: usize| number(&bytes[at..at + size], self.is_little);
        let (offset, length) =
            if self.is_64 { (field(8, 8)?, field(32, 8)?) } else { (field(4, 4)?, field(16, 4)?) };
        Some(ProgramHeader { kind: u32::try_from(field(0, 4)?).ok()?, offset, length })
    }
}

struct ProgramHeader {
    kind: u32,
    offset: u64,
    length: u64,
}

fn number(bytes: &[u8], is_little: bool) -> Option<u64> {
    let mut all = [0; 8];
    let (first, last) = (bytes.len(), 8_usize.checked_sub(bytes.len())?);
    if is_little {
        all[..first].copy_from_slice(bytes);
        return Some(u64::from_le_bytes(all));
    }
    all[last..].copy_from_slice(bytes);
    Some(u64::from_be_bytes(all))
}

/// Returns the usual name of an architecture (`EM_*` of elf.h).
pub fn machine_name(machine: u16) -> String {
    let name = match machine {
        2 | 43 => "SPARC",
        3 => "i386",
        8 => "MIPS",
        20 => "PowerPC",
        21 => "PowerPC64",
        22 => "s390",
        40 => "ARM (32 bits)",
        50 => "IA-64",
        62 => "x86-64",
        183 => "AArch64",
        243 => "RISC-V",
        258 => "LoongArch",
        _ => return format!("machine {machine} of elf.h"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn the_header_of_a_real_program_is_read() {
        let file = std::fs::File::open("/bin/sh").expect("sh");
        let mut head = [0; 64];
        file.read_exact_at(&mut head, 0).expect("a header");
        let found = Elf::parse(&head).expect("an ELF file");
        assert!(found.headers_end() < file.metadata().expect("its size").len());
        let read = |bytes: &mut [u8], offset| file.read_exact_at(bytes, offset).ok();
        assert!(found.content_end(read).is_some());
        let loader = found.loader(read);
        // A static shell names none.
        if let Some(loader) = loader {
            let loader = String::from_utf8(loader).expect("text");
            assert!(std::fs::exists(&loader).expect("looked"), "{loader}");
        }
    }

    #[test]
    fn big_endian_and_32_bits_are_read() {
        let mut head = [0; 52];
        head[..6].copy_from_slice(b"\x7fELF\x01\x02");
        head[18..20].copy_from_slice(&[0, 20]);
        head[28..32].copy_from_slice(&[0, 0, 0, 52]);
        head[42..46].copy_from_slice(&[0, 32, 0, 2]);
        let found = Elf::parse(&head).expect("a header");
        assert_eq!((machine_name(found.machine).as_str(), found.headers_end()), ("PowerPC", 116));
        assert_eq!(Elf::parse(&head[..40]), None);
        assert_eq!(Elf::parse(b"#!/bin/sh"), None);
    }

    #[test]
    fn hostile_numbers_do_no_harm() {
        let mut head = [0xff; 64];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let found = Elf::parse(&head).expect("a header");
        assert_eq!(found.headers_end(), u64::MAX);
        assert_eq!(found.loader(|_, _| Some(())), None);
        assert_eq!(found.content_end(|_, _| Some(())), Some(u64::MAX));
    }
}
