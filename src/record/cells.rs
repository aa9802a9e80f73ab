//! The cells of a line, counted eight bytes at a time: this is most of the work of a reader.
//!
//! Quotes only stand around a cell or are doubled inside, so every other stretch between quotes is
//! outside of them.

/// Eight times the same byte.
const fn eight(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Returns a word with the highest bit set in each byte that was equal to the other's, and nothing
/// else: no carry passes from byte to byte.
fn equal(word: u64, other: u64) -> u64 {
    let different = word ^ other;
    let low = eight(0x7f);
    !(((different & low) + low) | different | low)
}

/// A place in a line.
struct Walk<'a> {
    line: &'a [u8],
    at: usize,
    is_quoted: bool,
}

impl Walk<'_> {
    /// Passes this number of commas; returns where behind the last of them the next cell begins, or how many
    /// were left at the end of the line.
    fn pass(&mut self, mut commas: usize) -> Result<usize, usize> {
        while commas > 0 {
            while let Some(bytes) = self.line.get(self.at..self.at + 8) {
                let word = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
                let found = equal(word, eight(b',')).count_ones() as usize;
                if equal(word, eight(b'"')) != 0 || (!self.is_quoted && found >= commas) {
                    break;
                }
                commas -= if self.is_quoted { 0 } else { found };
                self.at += 8;
            }
            // What is left of the line, or a word that has to be looked at byte by byte.
            let end = self.line.len().min(self.at + 8);
            if self.at == end {
                return Err(commas);
            }
            for byte in &self.line[self.at..end] {
                self.at += 1;
                match byte {
                    b'"' => self.is_quoted = !self.is_quoted,
                    b',' if !self.is_quoted => commas -= 1,
                    _ => {}
                }
                if commas == 0 {
                    break;
                }
            }
        }
        Ok(self.at)
    }
}

/// Returns the cell at a position, from 0, as it stands there.
pub(super) fn nth(line: &[u8], position: usize) -> Option<&[u8]> {
    let mut walk = Walk { line, at: 0, is_quoted: false };
    let begin = walk.pass(position).ok()?;
    match walk.pass(1) {
        Ok(end) => Some(&line[begin..end - 1]),
        Err(_) => (!walk.is_quoted).then(|| &line[begin..]),
    }
}

/// Returns the cells at several positions, each as [`nth`] does, in one pass; empty where there is none.
pub(super) fn several<const N: usize>(line: &[u8], positions: [Option<usize>; N]) -> [&[u8]; N] {
    let mut order: [usize; N] = std::array::from_fn(|index| index);
    order.sort_unstable_by_key(|index| positions[*index]);
    let mut found = [&b""[..]; N];
    let mut walk = Walk { line, at: 0, is_quoted: false };
    // The position of the cell that begins at `walk.at`, and the cell before it.
    let (mut next, mut last) = (0, &b""[..]);
    for index in order {
        let Some(position) = positions[index] else { continue };
        if position >= next {
            let Ok(begin) = walk.pass(position - next) else { break };
            next = position + 1;
            match walk.pass(1) {
                Ok(end) => last = &line[begin..end - 1],
                Err(_) if walk.is_quoted => break,
                // The last one: what is asked for behind it is not there.
                Err(_) => last = &line[begin..],
            }
        }
        found[index] = last;
    }
    found
}

/// Other programs put quotes around any cell (RFC 4180).
pub(super) fn without_quotes(cell: &[u8]) -> &[u8] {
    match cell {
        [b'"', inside @ .., b'"'] => inside,
        _ => cell,
    }
}

/// Returns how many cells there are; `None` if quotes are open.
pub(super) fn count(line: &[u8]) -> Option<usize> {
    let mut walk = Walk { line, at: 0, is_quoted: false };
    let left = walk.pass(usize::MAX).err()?;
    (!walk.is_quoted).then_some(usize::MAX - left + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, a byte at a time.
    fn plainly(line: &[u8]) -> Option<Vec<&[u8]>> {
        let (mut cells, mut begin, mut is_quoted) = (Vec::new(), 0, false);
        for (at, byte) in line.iter().enumerate() {
            is_quoted ^= *byte == b'"';
            if *byte == b',' && !is_quoted {
                cells.push(&line[begin..at]);
                begin = at + 1;
            }
        }
        cells.push(&line[begin..]);
        (!is_quoted).then_some(cells)
    }

    #[test]
    fn cells_are_found_wherever_they_stand() {
        let line = b"1,abc,\"a,\"\"b\"\",c\",,0123456789abcdef,x";
        let cells: Vec<_> = (0..7).map(|position| nth(line, position)).collect();
        let expected: [&[u8]; 6] =
            [b"1", b"abc", b"\"a,\"\"b\"\",c\"", b"", b"0123456789abcdef", b"x"];
        assert_eq!(cells[..6], expected.map(Some));
        assert_eq!((cells[6], count(line)), (None, Some(6)));
        assert_eq!((count(b""), nth(b"", 0), count(b"a,\"b")), (Some(1), Some(&b""[..]), None));
    }

    proptest! {
        #[test]
        fn eight_at_a_time_find_what_one_at_a_time_finds(
            line in prop::collection::vec(prop::sample::select(&b",\"ab-\xac\x22\x2d\x2b"[..]), 0..80)
        ) {
            let cells = plainly(&line);
            prop_assert_eq!(count(&line), cells.as_ref().map(Vec::len));
            for (position, cell) in cells.into_iter().flatten().enumerate() {
                prop_assert_eq!(nth(&line, position), Some(cell));
            }
            let asked = [7, 0, 3, 3, 1].map(Some);
            let expected = asked.map(|at| at.and_then(|at| nth(&line, at)).unwrap_or(b""));
            prop_assert_eq!(several(&line, asked), expected);
        }
    }
}
