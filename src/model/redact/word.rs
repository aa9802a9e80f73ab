//! Words of a command line, with places in them that are hidden.

use std::ops::Range;

/// What stands in the place of a secret.
pub const HIDDEN: &str = "[hidden]";

/// A word, and where it is in the whole.
#[derive(Clone, Copy)]
pub(super) struct Word<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Word<'a> {
    pub(super) fn part(&self, range: Range<usize>) -> Word<'a> {
        Word { text: &self.text[range.clone()], at: self.at + range.start }
    }

    /// Returns the word with `[hidden]` in the places that were found: in order, none within another.
    pub(super) fn without(&self, found: &[Range<usize>]) -> Vec<u8> {
        let end = self.at + self.text.len();
        let first = found.partition_point(|range| range.start < self.at);
        let (mut shown, mut at) = (Vec::with_capacity(self.text.len()), self.at);
        for range in found[first..].iter().take_while(|range| range.end <= end) {
            shown.extend_from_slice(&self.text[at - self.at..range.start - self.at]);
            shown.extend_from_slice(HIDDEN.as_bytes());
            at = range.end;
        }
        shown.extend_from_slice(&self.text[at - self.at..]);
        shown
    }
}

/// Puts places in order, and those that overlap or touch together.
pub(super) fn merged(mut found: Vec<Range<usize>>) -> Vec<Range<usize>> {
    found.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in found.into_iter().filter(|range| !range.is_empty()) {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// Matches a pattern with `*` and `?` against a whole word, in time that is at most the product of
/// their lengths.
pub(super) fn matches(pattern: &[u8], word: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star = None;
    while read < word.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(c) if *c == b'?' || *c == word[read] => {
                at += 1;
                read += 1;
            }
            _ => match star {
                Some((begin, taken)) => {
                    star = Some((begin, taken + 1));
                    at = begin + 1;
                    read = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == b'*')
}
