//! Words of a script, with the place of each: enough of a shell's grammar to know where a word ends.

use std::ops::Range;

/// Splits a text at blanks outside of quotes. A word that is in quotes as a whole is given without
/// them. A quote that is never closed is an apostrophe.
pub(super) fn words(text: &[u8]) -> Vec<Range<usize>> {
    let last = [b'\'', b'"'].map(|quote| text.iter().rposition(|byte| *byte == quote));
    let is_closed = |at: usize| last[usize::from(text[at] == b'"')].is_some_and(|last| at < last);
    let mut words = Vec::new();
    let (mut start, mut quote, mut at) = (None, None, 0);
    while at < text.len() {
        let byte = text[at];
        match quote {
            None if byte.is_ascii_whitespace() => {
                words.extend(start.take().map(|start| start..at));
                at += 1;
                continue;
            }
            None if matches!(byte, b'\'' | b'"') && is_closed(at) => quote = Some(byte),
            Some(open) if byte == open => quote = None,
            _ => {}
        }
        start.get_or_insert(at);
        // In single quotes a backslash is itself.
        at += if byte == b'\\' && quote != Some(b'\'') { 2 } else { 1 };
    }
    words.extend(start.map(|start| start..text.len()));
    words.iter_mut().for_each(|word| strip_quotes(text, word));
    words
}

fn strip_quotes(text: &[u8], word: &mut Range<usize>) {
    let [quote @ (b'\'' | b'"'), inside @ .., last] = &text[word.clone()] else { return };
    // In double quotes, others may be escaped.
    if last == quote && (*quote == b'"' || !inside.contains(quote)) {
        *word = word.start + 1..word.end - 1;
    }
}

/// Returns what is between the first quote of a word and the last of the same kind.
pub(super) fn quoted(word: &[u8]) -> Option<Range<usize>> {
    let start = memchr::memchr2(b'"', b'\'', word)?;
    let end = memchr::memrchr(word[start], word)?;
    (end > start).then_some(start + 1..end)
}

/// Returns whether a command ends with this word.
pub(super) fn ends_command(word: &[u8]) -> bool {
    matches!(word, b"|" | b"||" | b"&&" | b"&" | b"|&" | b"then" | b"do" | b"else")
        || word.ends_with(b";")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        words(text.as_bytes()).into_iter().map(|word| &text[word]).collect()
    }

    #[test]
    fn words_end_at_blanks_outside_of_quotes() {
        assert_eq!(split(" a 'b c'  d=\"e f\" "), ["a", "b c", "d=\"e f\""]);
        assert_eq!(split("it's over"), ["it's", "over"]);
        assert_eq!(split("\"a \\\"b\\\" c\" d"), ["a \\\"b\\\" c", "d"]);
        assert_eq!(split("a\\ b c\\"), ["a\\ b", "c\\"]);
        assert_eq!(split("'a b"), ["'a", "b"]);
        assert!(split(" ").is_empty());
    }
}
