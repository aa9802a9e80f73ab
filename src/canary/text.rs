//! `string`: comparing and copying C strings in a large buffer.

use std::hint::black_box;

/// Length of the buffer of one call.
pub(super) const BUFFER_BYTES: usize = 8_192_000;

const WORD: &[u8] = b"abc\0";

/// Fills the buffer, writes a word wherever the text there does not sort after it, and returns
/// the length of the string at the start.
pub(super) fn string(length: usize) -> usize {
    let mut buffer: Vec<u8> = (0..black_box(length))
        .map(|i| if i % 101 == 0 { 0 } else { (32 + i % 126) as u8 })
        .collect();
    for i in 0..length.saturating_sub(WORD.len()) {
        if c_string(&buffer[i..]) <= &WORD[..3] {
            buffer[i..i + WORD.len()].copy_from_slice(WORD);
        }
    }
    buffer.iter().position(|byte| *byte == 0).unwrap_or(length)
}

/// The bytes before the first NUL, as far as a comparison with the word needs them.
fn c_string(bytes: &[u8]) -> &[u8] {
    let near = &bytes[..WORD.len()];
    &near[..near.iter().position(|byte| *byte == 0).unwrap_or(WORD.len())]
}
