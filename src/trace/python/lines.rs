//! From an instruction to its line: the three tables that CPython had since 3.8.

use crate::trace::python::layout::LineTable;

/// Returns the line of the instruction at byte `at`, where the code begins in line `first`.
pub(super) fn line(table: &[u8], kind: LineTable, first: i64, at: i64) -> i64 {
    match kind {
        LineTable::Lnotab => of_lnotab(table, first, at),
        LineTable::Pairs => of_pairs(table, first, at),
        LineTable::Locations => of_locations(table, first, at),
    }
}

/// Pairs of (bytes of code, signed lines), the bytes first.
fn of_lnotab(table: &[u8], first: i64, at: i64) -> i64 {
    let (mut line, mut address) = (first, 0);
    for pair in table.chunks_exact(2) {
        address += i64::from(pair[0]);
        if address > at {
            break;
        }
        line += i64::from(pair[1].cast_signed());
    }
    line
}

/// The same, the lines first; -128 is code without a line.
fn of_pairs(table: &[u8], first: i64, at: i64) -> i64 {
    const NO_LINE: i8 = -128;
    let (mut line, mut address) = (first, 0);
    for pair in table.chunks_exact(2) {
        let lines = pair[1].cast_signed();
        if lines != NO_LINE {
            line += i64::from(lines);
        }
        address += i64::from(pair[0]);
        if address > at {
            return if lines == NO_LINE { first } else { line };
        }
    }
    line
}

/// Entries that begin with a byte whose highest bit is set: a code of four bits, and how many
/// instructions (of two bytes) it is for, less one.
fn of_locations(table: &[u8], first: i64, at: i64) -> i64 {
    let (mut line, mut address) = (first, 0);
    let mut rest = table;
    while let Some((head, tail)) = rest.split_first() {
        rest = tail;
        let mut skip = 0;
        match (head >> 3) & 15 {
            15 => {}
            14 => {
                line = line.wrapping_add(signed(varint(&mut rest)));
                // The end line, and both columns.
                for _ in 0..3 {
                    varint(&mut rest);
                }
            }
            13 => line = line.wrapping_add(signed(varint(&mut rest))),
            code @ 10..=12 => {
                line += i64::from(code) - 10;
                skip = 2;
            }
            _ => skip = 1,
        }
        rest = rest.get(skip..).unwrap_or_default();
        address += (i64::from(head & 7) + 1) * 2;
        if address > at {
            break;
        }
    }
    line
}

/// Six bits a byte, the lowest first; a seventh says that there are more.
fn varint(rest: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    while let Some((byte, tail)) = rest.split_first() {
        *rest = tail;
        value |= u64::from(byte & 63) << shift;
        shift += 6;
        // No line needs more.
        if byte & 64 == 0 || shift > 36 {
            break;
        }
    }
    value
}

fn signed(value: u64) -> i64 {
    let magnitude = (value >> 1).cast_signed();
    if value & 1 == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `co_lnotab` of the documentation's example (Objects/lnotab_notes.txt): bytes 0, 6, 50, 350, 361.
    #[test]
    fn lnotab_adds_bytes_and_signed_lines() {
        let table = [0, 1, 6, 1, 44, 5, 255, 0, 45, 1, 11, 0xff];
        let lines = [0, 5, 6, 49, 50, 349, 350, 361];
        let found = lines.map(|at| line(&table, LineTable::Lnotab, 0, at));
        assert_eq!(found, [1, 1, 2, 2, 7, 7, 8, 7]);
    }

    #[test]
    fn pairs_have_the_line_of_their_own_bytes() {
        let table = [4, 1, 2, 0x80, 6, 2];
        let found = [0, 3, 4, 6, 11].map(|at| line(&table, LineTable::Pairs, 10, at));
        assert_eq!(found, [11, 11, 10, 13, 13]);
    }

    #[test]
    fn locations_are_short_long_or_without_columns() {
        // Short form (same line, two instructions), one line form (+1), no columns (-2), long (+64), none.
        let table = [
            0x80 | 1,
            0x11,
            0x80 | 11 << 3,
            1,
            2,
            0x80 | 13 << 3,
            5,
            0x80 | 14 << 3,
            64,
            2,
            0,
            1,
            1,
            0xf8,
        ];
        let found = [0, 3, 4, 6, 8, 10, 99].map(|at| line(&table, LineTable::Locations, 5, at));
        assert_eq!(found, [5, 5, 6, 4, 68, 68, 68]);
    }
}
