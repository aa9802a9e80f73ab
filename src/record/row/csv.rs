//! The cells of a line of CSV: quotes by RFC 4180, and text made harmless and back.

use std::borrow::Cow;
use std::fmt;

use crate::model::text::is_direction_mark;

/// A line that is not a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowError {
    /// Quotes are open or stand where none may.
    Quotes,
    /// It has not as many cells as the header: it is torn.
    Width {
        /// Those of the header.
        expected: usize,
        /// Those of the line.
        found: usize,
    },
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowError::Quotes => f.write_str("quotes are open or misplaced"),
            RowError::Width { expected, found } => {
                write!(f, "it has {found} cells in place of {expected}")
            }
        }
    }
}

impl std::error::Error for RowError {}

pub(super) const LINE_END: &[u8] = b"\r\n";

pub(super) fn push_cell(line: &mut Vec<u8>, cell: &[u8]) {
    let (Some(first), Some(last)) = (cell.first(), cell.last()) else { return };
    let is_edged = *first == b' ' || *last == b' ';
    let has_special = |byte: &u8| matches!(byte, b',' | b'"' | b'\r' | b'\n');
    // Without an early end the compiler looks at many bytes at a time.
    if !is_edged && !cell.iter().fold(false, |found, byte| found | has_special(byte)) {
        line.extend_from_slice(cell);
        return;
    }
    line.push(b'"');
    for byte in cell {
        line.extend(std::iter::repeat_n(*byte, 1 + usize::from(*byte == b'"')));
    }
    line.push(b'"');
}

/// Takes a line apart; `None` if its quotes are open or misplaced.
pub(super) fn cells(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut rest = line.strip_suffix(b"\r").unwrap_or(line);
    let mut cells = Vec::new();
    loop {
        let mut cell = Vec::new();
        if let Some(mut inside) = rest.strip_prefix(b"\"") {
            rest = loop {
                let end = inside.iter().position(|byte| *byte == b'"')?;
                cell.extend_from_slice(&inside[..end]);
                match &inside[end + 1..] {
                    [b'"', tail @ ..] => {
                        cell.push(b'"');
                        inside = tail;
                    }
                    tail => break tail,
                }
            };
        } else {
            let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
            cell.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
        cells.push(cell);
        match rest {
            [] => return Some(cells),
            [b',', tail @ ..] => rest = tail,
            _ => return None,
        }
    }
}

/// What a spreadsheet takes for the beginning of a formula, also in full width.
pub(super) const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// Makes bytes harmless: control characters, bytes that are not UTF-8, marks that turn the direction
/// of text, and the beginning of what a spreadsheet would take for a formula.
pub(super) fn escaped(bytes: &[u8]) -> Cow<'_, [u8]> {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'[' | b']'..=b'~');
    let is_all_plain = bytes.iter().fold(true, |plain, byte| plain & is_plain(byte));
    if bytes.first().is_none_or(|byte| !b"=+-@ ".contains(byte)) && is_all_plain {
        return Cow::Borrowed(bytes);
    }
    let text = std::str::from_utf8(bytes);
    let begin = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    let is_formula = begin.trim_start().starts_with(FORMULA);
    let is_odd = |c: char| c == '\\' || c.is_control() || is_direction_mark(c);
    if text.is_ok_and(|text| !text.contains(is_odd)) && !is_formula {
        return Cow::Borrowed(bytes);
    }
    let mut cell = Vec::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let encoded = c.encode_utf8(&mut buffer).as_bytes();
            let is_first_of_formula = cell.is_empty() && is_formula;
            match c {
                '\\' => cell.extend_from_slice(b"\\\\"),
                '\n' => cell.extend_from_slice(b"\\n"),
                '\r' => cell.extend_from_slice(b"\\r"),
                '\t' => cell.extend_from_slice(b"\\t"),
                c if is_odd(c) || is_first_of_formula => push_hex(&mut cell, encoded),
                _ => cell.extend_from_slice(encoded),
            }
        }
        push_hex(&mut cell, chunk.invalid());
    }
    Cow::Owned(cell)
}

fn push_hex(cell: &mut Vec<u8>, bytes: &[u8]) {
    bytes.iter().for_each(|byte| cell.extend_from_slice(format!("\\x{byte:02x}").as_bytes()));
}

/// Returns the text in a cell as it stands in a file, without the quotes around it.
#[must_use]
pub fn text_of(cell: &[u8]) -> String {
    let text = String::from_utf8_lossy(&unescaped(cell)).into_owned();
    if text.contains("\"\"") { text.replace("\"\"", "\"") } else { text }
}

pub(super) fn unescaped(cell: &[u8]) -> Vec<u8> {
    let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let mut bytes = Vec::with_capacity(cell.len());
    let mut rest = cell;
    while let [first, tail @ ..] = rest {
        let (byte, length) = match (first, tail) {
            (b'\\', [b'\\', ..]) => (b'\\', 2),
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [b'x', high, low, ..]) => {
                hex(&[*high, *low]).map_or((b'\\', 1), |byte| (byte, 4))
            }
            _ => (*first, 1),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes
}
