//! Hides secrets in command lines, before these leave the machine or are shared.
//!
//! What is hidden, each by `[hidden]`:
//!
//! * the value of an option, variable, header, parameter or key whose name announces a secret
//!   (`--password=X`, `--token X`, `TOKEN=X`, `Authorization: X`, `?sig=X`, `{"password":"X"}`), in
//!   lists, forms, connection strings and scripts, too;
//! * user and password in a URL, also without its scheme;
//! * what options of well-known programs hold (`curl -u USER:X`, `mysql -pX`), wherever the program
//!   stands in the command line;
//! * tokens of well-known services, JSON web tokens, private keys;
//! * words, or values behind `=`, that match a pattern of `--redact`: `*` is anything, `?` one byte.
//!
//! The value is weighed, too: a small number, `none`, a path, `$TOKEN` or `@FILE` is no secret. A word
//! with blanks in it, such as a script for `sh -c`, is looked through word by word.
//!
//! `rules`, `programs` and `tokens` are the rules as data. The work is linear in the length of the text:
//! each look ahead or back that may be repeated is bounded. Nothing is read but the words.

mod engine;
mod names;
mod pairs;
mod programs;
mod rules;
mod shell;
#[cfg(test)]
mod tests;
mod tokens;

use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use engine::{Finder, Manner};

/// What stands in the place of a secret.
pub const HIDDEN: &str = "[hidden]";

/// A command line without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted {
    /// Its words.
    pub words: Vec<OsString>,
    /// Whether something was hidden: then it is not the command any more.
    pub has_hidden: bool,
}

/// Knows what to hide.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    patterns: Vec<Vec<u8>>,
}

impl Redactor {
    /// Hides what matches those patterns, too.
    #[must_use]
    pub fn new(patterns: &[String]) -> Redactor {
        Redactor { patterns: patterns.iter().map(|text| text.clone().into_bytes()).collect() }
    }

    /// Hides the secrets in a command line.
    #[must_use]
    pub fn command(&self, argv: &[OsString]) -> Redacted {
        let (mut words, mut end) = (Vec::with_capacity(argv.len()), 0);
        for word in argv {
            words.push(Word { text: word.as_bytes(), at: end });
            // One byte apart, so that no secret touches the next.
            end += word.len() + 1;
        }
        let mut finder = self.finder(argv.iter().any(|word| tokens::has_aws_id(word.as_bytes())));
        finder.words(&words, Manner::Words, 0);
        let found = merged(finder.found);
        let words = words.iter().map(|word| OsString::from_vec(word.without(&found)));
        let words: Vec<OsString> = words.collect();
        let has_hidden = words != argv;
        Redacted { words, has_hidden }
    }

    /// Hides the secrets in a command line that has become a text, quoted as for a shell, or in a
    /// sentence that has one in it.
    #[must_use]
    pub fn text(&self, line: &str) -> String {
        self.line(line, Manner::Script)
    }

    /// Hides the secrets in a command line that has lost the bounds of its words, as those in /proc
    /// show it, or in a sentence that has one in it. What follows a password is hidden up to the next
    /// option, for it may belong to it.
    #[must_use]
    pub fn blurred(&self, line: &str) -> String {
        self.line(line, Manner::Blurred)
    }

    fn line(&self, line: &str, manner: Manner) -> String {
        let word = Word { text: line.as_bytes(), at: 0 };
        let mut finder = self.finder(tokens::has_aws_id(word.text));
        finder.look_into(word, manner, 0);
        let shown = word.without(&merged(finder.found));
        String::from_utf8_lossy(&shown).into_owned()
    }

    fn finder(&self, has_aws_id: bool) -> Finder<'_> {
        Finder { patterns: &self.patterns, has_aws_id, found: Vec::new() }
    }
}

/// A word, and where it is in the whole.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Word<'a> {
    fn part(&self, range: Range<usize>) -> Word<'a> {
        Word { text: &self.text[range.clone()], at: self.at + range.start }
    }

    /// Returns the word with `[hidden]` in the places that were found: in order, none within another.
    fn without(&self, found: &[Range<usize>]) -> Vec<u8> {
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
fn merged(mut found: Vec<Range<usize>>) -> Vec<Range<usize>> {
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
fn matches(pattern: &[u8], word: &[u8]) -> bool {
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
