//! The seal of a row: HMAC-SHA-256 (RFC 2104) over all its other cells, with a key of the user's own.
//!
//! It proves that the row was made by whoever has the key: `nanny rerun` runs nothing else. It covers
//! names and values of all cells that are not empty, each with its length, in the order of the names:
//! so a row may move to a file with other columns in another order, and no cell may move to another
//! row or column. That a row is missing, or is there twice, it cannot show.

use std::fmt::Write;
use std::sync::LazyLock;

use ring::hmac;

use crate::record::row::{Column, Row};

/// The length of a key in bytes: that of the digest (RFC 2104, section 3).
pub const KEY_BYTES: usize = 32;

/// What the covered text begins with, so that no other use of a key makes a seal.
const PURPOSE: &[u8] = b"childminder row 1\n";

/// A user's own key.
#[derive(Clone, Debug)]
pub struct Key {
    key: hmac::Key,
    uid: u32,
}

impl Key {
    /// Makes one of its bytes, for that user.
    #[must_use]
    pub fn new(bytes: &[u8; KEY_BYTES], uid: u32) -> Key {
        Key { key: hmac::Key::new(hmac::HMAC_SHA256, bytes), uid }
    }

    /// Seals a row of this user; a row of another one has none from us.
    pub fn seal(&self, row: &mut Row) {
        row.set(Column::Seal, "");
        if row.number(Column::Uid) == Some(self.uid) {
            let tag = hmac::sign(&self.key, &covered(row));
            row.set(Column::Seal, hex(tag.as_ref()));
        }
    }

    /// Returns whether this user made the row, and nobody changed it afterwards.
    #[must_use]
    pub fn proves(&self, row: &Row) -> bool {
        let is_his = row.number(Column::Uid) == Some(self.uid);
        let tag = if is_his { from_hex(row.get(Column::Seal)) } else { None };
        tag.is_some_and(|tag| hmac::verify(&self.key, &covered(row), &tag).is_ok())
    }
}

/// Returns the bytes that the seal covers.
fn covered(row: &Row) -> Vec<u8> {
    static BY_NAME: LazyLock<Vec<Column>> = LazyLock::new(|| {
        let mut columns = Column::ALL.to_vec();
        columns.retain(|column| *column != Column::Seal);
        columns.sort_by_key(|column| column.name());
        columns
    });
    let mut text = Vec::with_capacity(2048);
    text.extend_from_slice(PURPOSE);
    let mut push = |name: &str, value: &[u8]| {
        if !value.is_empty() {
            for part in [name.as_bytes(), value] {
                text.extend_from_slice(&(part.len() as u64).to_le_bytes());
                text.extend_from_slice(part);
            }
        }
    };
    // Cells that a later version sealed are covered under their names, too.
    let mut unknown = row.unknown().iter().peekable();
    for column in BY_NAME.iter() {
        while let Some((name, value)) = unknown.next_if(|(name, _)| name.as_str() < column.name()) {
            push(name, value);
        }
        push(column.name(), row.get(*column));
    }
    unknown.for_each(|(name, value)| push(name, value));
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.chunks_exact(2);
    let is_whole = pairs.remainder().is_empty() && !text.is_empty();
    let bytes = pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
    if is_whole { bytes } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::row::Header;

    fn key(byte: u8) -> Key {
        Key::new(&[byte; KEY_BYTES], 1001)
    }

    fn row() -> Row {
        let mut row = Row::default();
        row.set(Column::RunId, "01900000-0000-7000-8000-000000000001");
        row.set(Column::Event, "end");
        row.set(Column::Uid, "1001");
        row.set(Column::Name, "=odd, \"name\"\n");
        row.set(Column::Command, "sh -c 'exit 3'");
        row
    }

    #[test]
    fn the_seal_is_an_hmac_over_names_and_values_in_the_order_of_the_names() {
        let mut row = Row::default();
        row.set(Column::Uid, "1001");
        row.set(Column::Event, "end");
        let number = |length: u8| [length, 0, 0, 0, 0, 0, 0, 0];
        let mut expected = PURPOSE.to_vec();
        for part in ["event", "end", "uid", "1001"] {
            expected.extend(number(part.len() as u8));
            expected.extend(part.as_bytes());
        }
        assert_eq!(covered(&row), expected);
        key(7).seal(&mut row);
        // Of another implementation (Python's hmac module).
        assert_eq!(row.text(Column::Seal), EXPECTED);
    }

    const EXPECTED: &str = "4c117dd97b3508681d4acd22679058720a7ff8519aed77c44b42edc46e552b6a";

    #[test]
    fn any_change_breaks_it_and_moving_to_other_columns_does_not() {
        let mut sealed = row();
        key(1).seal(&mut sealed);
        assert!(key(1).proves(&sealed) && !key(2).proves(&sealed));
        for column in Column::ALL {
            let mut changed = sealed.clone();
            changed.set(*column, "1");
            assert!(!key(1).proves(&changed), "{}", column.name());
        }
        let mut moved = sealed.clone();
        moved.set(Column::Name, "");
        moved.set(Column::Batch, sealed.get(Column::Name));
        assert!(!key(1).proves(&moved));
        let mut names: Vec<&str> = Column::ALL.iter().map(|column| column.name()).collect();
        names.reverse();
        names.push("of_the_future");
        let header = Header::parse(names.join(",").as_bytes()).expect("a header");
        let line = sealed.to_csv_line_under(&header);
        assert!(key(1).proves(&Row::parse(&header, &line).expect("a row")));
        // A later version fills a column that this one does not know: it is covered.
        let text = String::from_utf8(line).expect("text");
        let filled = text.replace("\r\n", "x\r\n");
        assert!(!key(1).proves(&Row::parse(&header, filled.as_bytes()).expect("a row")));
    }

    #[test]
    fn nobody_seals_for_another() {
        let mut theirs = row();
        theirs.set(Column::Uid, "1002");
        key(1).seal(&mut theirs);
        assert_eq!(theirs.get(Column::Seal), b"");
        for seal in ["", "0", "zz", "00", &"0".repeat(64)] {
            let mut forged = row();
            forged.set(Column::Seal, seal);
            assert!(!key(1).proves(&forged), "{seal}");
        }
    }
}
