//! The mappings of a process (/proc/PID/maps in proc(5)).

use std::fmt;

/// At most this number of mappings is kept: the kernel's usual limit is 65,530 (vm.max_map_count).
const MAPS_MAX: usize = 100_000;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    pub start: u64,
    pub end: u64,
    pub is_readable: bool,
    pub is_writable: bool,
    pub is_executable: bool,
    /// Where in the file it begins.
    pub offset: u64,
    /// The inode of the file; 0 if there is none.
    pub inode: u64,
    /// Empty for anonymous memory; `[stack]` and the like are not files.
    pub path: String,
}

impl Map {
    /// Returns the path without its directories.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or("")
    }

    fn parse(line: &[u8]) -> Option<Map> {
        let line = String::from_utf8_lossy(line);
        let mut words = line.splitn(6, ' ');
        let (start, end) = words.next()?.split_once('-')?;
        let modes = words.next()?;
        let offset = u64::from_str_radix(words.next()?, 16).ok()?;
        let inode = words.nth(1)?.trim().parse().ok()?;
        let path = words.next().unwrap_or("").trim_start().to_owned();
        Some(Map {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            is_readable: modes.contains('r'),
            is_writable: modes.contains('w'),
            is_executable: modes.contains('x'),
            offset,
            inode,
            path,
        })
    }
}

/// Shows what kind of memory it is: `code of libc.so.6`, `[stack]`.
impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (self.is_readable, self.is_writable, self.is_executable) {
            (_, _, true) => "code",
            (_, true, _) => "data",
            (true, _, _) => "read-only data",
            _ => "inaccessible memory",
        };
        match self.name() {
            "" => write!(f, "anonymous {kind}"),
            name if name.starts_with('[') => f.write_str(name),
            name => write!(f, "{kind} of {name}"),
        }
    }
}

/// All mappings of a process, in the order of their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps(Vec<Map>);

impl Maps {
    /// Reads the bytes of /proc/PID/maps; lines that cannot be read are left out.
    #[must_use]
    pub fn parse(text: &[u8]) -> Maps {
        let lines = text.split(|byte| *byte == b'\n').filter_map(Map::parse);
        let mut maps: Vec<Map> = lines.filter(|map| map.start < map.end).take(MAPS_MAX).collect();
        maps.sort_by_key(|map| map.start);
        Maps(maps)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Map> {
        self.0.iter()
    }

    /// The first mapping that does not end at or below the address.
    fn index(&self, address: u64) -> usize {
        self.0.partition_point(|map| map.end <= address)
    }

    /// Returns the mapping that the address is in.
    #[must_use]
    pub fn at(&self, address: u64) -> Option<&Map> {
        self.0.get(self.index(address)).filter(|map| map.start <= address)
    }

    /// Returns the last mapping that ends at or below the address.
    #[must_use]
    pub fn below(&self, address: u64) -> Option<&Map> {
        self.index(address).checked_sub(1).and_then(|index| self.0.get(index))
    }

    /// Returns the first mapping that begins above the address.
    #[must_use]
    pub fn above(&self, address: u64) -> Option<&Map> {
        let index = self.index(address);
        self.0.get(index..)?.iter().take(2).find(|map| map.start > address)
    }

    #[must_use]
    pub fn is_code(&self, address: u64) -> bool {
        self.at(address).is_some_and(|map| map.is_executable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\
00400000-00401000 r--p 00000000 08:01 77                                 /opt/a b/prog (deleted)\n\
00401000-00402000 r-xp 00001000 08:01 77                                 /opt/a b/prog (deleted)\n\
7f0000000000-7f0000001000 ---p 00000000 00:00 0 \n\
7f0000001000-7f0000800000 rw-p 00000000 00:00 0 \n\
7ffe00000000-7ffe00021000 rw-p 00000000 00:00 0                          [stack]\n\
garbage\n";

    #[test]
    fn lines_are_read_and_found_by_address() {
        let maps = Maps::parse(TEXT);
        assert_eq!(maps.iter().count(), 5);
        let code = maps.at(0x401_234).expect("mapped");
        assert_eq!((code.offset, code.inode, code.name()), (0x1000, 77, "prog (deleted)"));
        assert!(maps.is_code(0x401_fff) && !maps.is_code(0x402_000) && !maps.is_code(0x400_000));
        assert_eq!(maps.below(0x402_010).map(|map| map.start), Some(0x401_000));
        assert_eq!(maps.above(0x402_010).map(|map| map.start), Some(0x7f00_0000_0000));
        assert_eq!(maps.above(0x400_010).map(|map| map.start), Some(0x401_000));
        assert_eq!((maps.below(0), maps.above(u64::MAX), maps.at(0)), (None, None, None));
        let shown: Vec<String> = maps.iter().map(Map::to_string).collect();
        assert_eq!(shown[1..3], ["code of prog (deleted)", "anonymous inaccessible memory"]);
        assert_eq!(shown[4], "[stack]");
    }

    #[test]
    fn hostile_lines_are_left_out() {
        let maps = Maps::parse(b"ffff-0000 r-xp 0 0 0\n-\n\xff\xff-1 r\n1-2 r-xp 0 08:01 x y\n");
        assert_eq!(maps, Maps::default());
    }
}
