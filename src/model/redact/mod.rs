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
//! The value is weighed, too: a small number, `none`, a path, `$TOKEN` or `@FILE` is not a secret. A word
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
mod word;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::model::redact::engine::{Finder, Manner};
use crate::model::redact::word::{Word, merged};

pub use crate::model::redact::word::HIDDEN;

/// A command line without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted {
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
