//! Goes through the words of a command line and finds what is secret, by the rules.

use std::ops::Range;

use crate::model::redact::names::{is_harmless, is_in_name, is_odd, weight};
use crate::model::redact::pairs::{self, Reading};
use crate::model::redact::programs::{PROGRAMS, Part, SecretOptions};
use crate::model::redact::rules::Weight;
use crate::model::redact::rules::{MESSAGES, SCHEMES, SCRIPT_TAKERS};
use crate::model::redact::word::{Word, matches};
use crate::model::redact::{shell, tokens};

/// Scripts within scripts are looked through to this depth.
const DEPTH_MAX: usize = 6;

/// Where words come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// They are the arguments of a program.
    Words,
    /// They are a script's.
    Script,
    /// They may be a script's or a sentence's: what looks like a word is not part of a secret.
    Prose,
    /// They were joined by blanks.
    Blurred,
}

/// What the next word is.
#[derive(Clone, Copy)]
enum NextWord {
    /// The value of a name.
    Value(Weight),
    /// What an option of a program holds.
    Option(Part),
    /// What follows a scheme such as `Bearer`.
    Credentials,
}

/// What is known from the words before.
#[derive(Clone, Copy, Default)]
struct WordContext<'a> {
    program: Option<&'static SecretOptions>,
    /// The name of the program, for those with subcommands.
    name: &'static str,
    takes_scripts: bool,
    next: Option<NextWord>,
    /// The value before may go on.
    goes_on: bool,
    word: &'a [u8],
}

/// Finds secrets, and collects where they are in the whole.
pub(super) struct Finder<'a> {
    /// Those of `--redact`.
    pub(super) patterns: &'a [Vec<u8>],
    /// Whether a key of AWS is named somewhere: its secret may be near.
    pub(super) has_aws_id: bool,
    /// In no order; they may overlap.
    pub(super) found: Vec<Range<usize>>,
}

impl Finder<'_> {
    /// Looks through words that follow each other.
    pub(super) fn words(&mut self, words: &[Word], manner: Manner, depth: usize) {
        let mut before = WordContext::default();
        for word in words {
            if manner != Manner::Words && shell::ends_command(word.text) {
                let last = word.part(0..word.text.len() - usize::from(word.text.ends_with(b";")));
                self.one(last, &mut before, (manner, depth));
                before = WordContext::default();
                continue;
            }
            self.one(*word, &mut before, (manner, depth));
            before.word = word.text;
        }
    }

    fn one<'a>(
        &mut self,
        word: Word<'a>,
        before: &mut WordContext<'a>,
        (manner, depth): (Manner, usize),
    ) {
        if before.goes_on && is_plain(word.text) {
            return self.hide(word);
        }
        before.goes_on = false;
        if let Some(next) = before.next.take() {
            if is_between(word.text) {
                before.next = Some(next);
                return;
            }
            if self.is_value(word, next, manner) {
                self.hide(word);
                before.goes_on = manner == Manner::Blurred && before.word.starts_with(b"--");
                return;
            }
        }
        before.note_program(word.text);
        if before.is_harmless_option(word.text) {
            return self.find_tokens(word);
        }
        let count = self.found.len();
        self.look_into(word, before.manner_within(manner), depth);
        before.next = self.option(word, before.program).or_else(|| before.next_of(word, manner));
        let is_hidden_to_its_end =
            self.found[count..].iter().any(|range| range.end == word.at + word.text.len());
        before.goes_on =
            manner == Manner::Blurred && is_hidden_to_its_end && word.text.starts_with(b"--");
    }

    fn hide(&mut self, word: Word) {
        self.found.push(word.at..word.at + word.text.len());
    }

    fn is_value(&mut self, word: Word, next: NextWord, manner: Manner) -> bool {
        let is_flag = word.text.starts_with(b"--")
            || matches!(word.text, [b'-', letter] if letter.is_ascii_alphabetic());
        match next {
            _ if is_flag => false,
            NextWord::Value(weight) => {
                !is_harmless(weight, word.text) && (manner != Manner::Prose || is_odd(word.text))
            }
            NextWord::Credentials => is_odd(word.text) && !is_harmless(Weight::Token, word.text),
            NextWord::Option(part) => {
                self.secret_part(word, part);
                false
            }
        }
    }

    /// Hides what is secret in the value of a program's option.
    fn secret_part(&mut self, word: Word, part: Part) {
        let word = word.part(pairs::unquoted(word.text));
        let split = |separator: u8| {
            let at = memchr::memchr(separator, word.text)?;
            Some((&word.text[..at], &word.text[at + 1..]))
        };
        let is_secret = |value: &[u8]| !is_harmless(Weight::Strong, value);
        let is_hidden = match part {
            Part::Whole => is_secret(word.text),
            Part::Colon => split(b':').is_some_and(|(user, password)| match password {
                [] => is_odd(user) && is_secret(user),
                _ => is_secret(password),
            }),
            Part::Comma => split(b',').is_some_and(|(_, password)| is_secret(password)),
            Part::Slash => split(b'/').is_some_and(|(user, password)| {
                let end = memchr::memchr(b'@', password);
                let password = &password[..end.unwrap_or(password.len())];
                let is_in_user = |byte: &u8| is_in_name(*byte) || *byte == b'=';
                !user.is_empty()
                    && user.iter().all(is_in_user)
                    && !password.contains(&b'/')
                    && (end.is_some() || is_odd(password))
                    && is_secret(password)
            }),
            Part::Percent => split(b'%').is_some_and(|(_, password)| is_secret(password)),
            Part::Labelled => word.text.strip_prefix(b"pass:").is_some_and(is_secret),
            Part::Cookie => split(b'=').is_some_and(|(_, value)| is_secret(value)),
        };
        if is_hidden {
            self.hide(word);
        }
    }

    /// Looks at a word as an option of a program. Returns what the next word is.
    fn option(&mut self, word: Word, program: Option<&'static SecretOptions>) -> Option<NextWord> {
        let program = program?;
        let dashes = word.text.iter().take_while(|byte| **byte == b'-').count();
        if dashes == 0 || dashes > 2 {
            program.operand.into_iter().for_each(|part| self.secret_part(word, part));
            return None;
        }
        let end = memchr::memchr(b'=', word.text).unwrap_or(word.text.len());
        let name = &word.text[dashes..end];
        if let Some((_, part)) = program.words.iter().find(|(known, _)| known.as_bytes() == name) {
            if end == word.text.len() {
                return Some(NextWord::Option(*part));
            }
            self.secret_part(word.part(end + 1..word.text.len()), *part);
            return None;
        }
        if dashes == 2 {
            return None;
        }
        self.letters(word, program)
    }

    /// Looks through letters that stand together: `-su USER:PASSWORD`, `-suUSER:PASSWORD`.
    fn letters(&mut self, word: Word, program: &'static SecretOptions) -> Option<NextWord> {
        for (at, letter) in word.text.iter().enumerate().skip(1) {
            let letter = char::from(*letter);
            if let Some((_, part)) = program.letters.iter().find(|(known, _)| *known == letter) {
                let value = word.part(at + 1..word.text.len());
                if !value.text.is_empty() {
                    self.secret_part(value, *part);
                    return None;
                }
                return (!program.attached_only).then_some(NextWord::Option(*part));
            }
            if program.with_value.contains(letter) || !letter.is_ascii_alphanumeric() {
                return None;
            }
        }
        None
    }

    fn find_tokens(&mut self, word: Word) {
        let mut found = |range: Range<usize>| {
            self.found.push(word.at + range.start..word.at + range.end);
        };
        tokens::find(word.text, &mut found);
        if self.has_aws_id {
            tokens::find_aws_secrets(word.text, &mut found);
        }
    }

    /// Finds what is secret within a word.
    pub(super) fn look_into(&mut self, word: Word, manner: Manner, depth: usize) {
        if self.matches_pattern(word) {
            return;
        }
        let has_blanks = word.text.iter().any(u8::is_ascii_whitespace);
        let words = if has_blanks { shell::words(word.text) } else { Vec::new() };
        // A="B C": the blanks are in quotes within the word.
        let is_one = matches!(&words[..], [one] if one.len() == word.text.len());
        let reading = match manner {
            _ if !has_blanks || is_one || depth == DEPTH_MAX => Reading::Word,
            Manner::Words => Reading::Word,
            Manner::Prose => Reading::Prose,
            Manner::Script | Manner::Blurred => Reading::Script,
        };
        self.find_tokens(word);
        let (text, at) = (word.text, word.at);
        let mut found = |range: Range<usize>| self.found.push(at + range.start..at + range.end);
        pairs::find_users(text, &mut found);
        pairs::find(text, reading, &mut found);
        pairs::find_quoted(text, &mut found);
        if !has_blanks {
            pairs::find_bare_user(text, &mut found);
        } else if depth < DEPTH_MAX {
            let manner = if manner == Manner::Words { Manner::Prose } else { manner };
            let within = |range| if is_one { shell::quoted(text).unwrap_or(range) } else { range };
            let words = words.into_iter().map(|range| word.part(within(range)));
            self.words(&words.collect::<Vec<_>>(), manner, depth + 1);
        }
    }

    /// Hides a word, or the value behind its `=`, that matches a pattern. Returns whether all is hidden.
    fn matches_pattern(&mut self, word: Word) -> bool {
        let is_hidden = |text: &[u8]| self.patterns.iter().any(|pattern| matches(pattern, text));
        if self.patterns.is_empty() {
            return false;
        }
        if is_hidden(word.text) {
            self.hide(word);
            return true;
        }
        let mut start = 0;
        // It may be an assignment itself: --env=TOKEN=X.
        while let Some(end) = memchr::memchr(b'=', &word.text[start..])
            && word.text[start..start + end].iter().all(|byte| is_in_name(*byte))
        {
            start += end + 1;
            let value = word.part(start..word.text.len());
            if is_hidden(value.text) {
                self.hide(value);
                return false;
            }
        }
        false
    }
}

impl<'a> WordContext<'a> {
    fn note_program(&mut self, word: &[u8]) {
        let word = match memchr::memchr(b'=', word) {
            // --wrap=PROGRAM
            Some(at) if word.starts_with(b"--") => &word[at + 1..],
            _ => word,
        };
        let start = word.iter().take_while(|byte| b"$(`{".contains(byte)).count();
        let name = word[start..].rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        self.takes_scripts |= SCRIPT_TAKERS.iter().any(|known| known.as_bytes() == name);
        for program in PROGRAMS {
            for known in program.names {
                let is_it = match known.split_once(' ') {
                    None => known.as_bytes() == name,
                    Some((first, second)) => first == self.name && second.as_bytes() == name,
                };
                if is_it {
                    self.name = known.split(' ').next().unwrap_or_default();
                    self.program = Some(program);
                    return;
                }
            }
        }
    }

    /// How a word with blanks is to be read.
    fn manner_within(&self, manner: Manner) -> Manner {
        let is_command = |word: &[u8]| match word {
            [b'-', letters @ .., b'c'] => {
                letters.len() < 5 && letters.iter().all(u8::is_ascii_alphabetic)
            }
            word => [&b"--wrap"[..], b"--command", b"eval"].contains(&word),
        };
        match manner {
            Manner::Words if is_command(self.word) || self.takes_scripts => Manner::Script,
            Manner::Words if self.is_message() => Manner::Prose,
            Manner::Prose if is_command(self.word) => Manner::Script,
            Manner::Script if self.is_message() => Manner::Prose,
            other => other,
        }
    }

    fn is_message(&self) -> bool {
        MESSAGES.iter().any(|one| one.as_bytes() == self.word)
    }

    /// Returns whether a word is an option of the program that looks like a secret but is not one.
    fn is_harmless_option(&self, word: &[u8]) -> bool {
        let dashes = word.iter().take_while(|byte| **byte == b'-').count();
        let end = memchr::memchr(b'=', word).unwrap_or(word.len()).max(dashes);
        let is_it = |known: &&str| known.as_bytes() == &word[dashes..end];
        dashes > 0 && self.program.is_some_and(|program| program.harmless.iter().any(is_it))
    }

    /// Returns what follows a word, as far as that says so itself.
    fn next_of(&self, word: Word, manner: Manner) -> Option<NextWord> {
        let text = word.text;
        if text == b"=" {
            return weight(self.word).map(NextWord::Value);
        }
        if text.eq_ignore_ascii_case(b"bearer") {
            return Some(NextWord::Credentials);
        }
        let is_option = text.starts_with(b"-") && text.iter().all(|byte| is_in_name(*byte));
        if is_option {
            return weight(text).map(NextWord::Value);
        }
        let header = text.strip_suffix(b":").filter(|_| manner == Manner::Blurred)?;
        header
            .iter()
            .all(|byte| is_in_name(*byte))
            .then(|| weight(header).map(NextWord::Value))
            .flatten()
    }
}

/// It stands between a name and its value.
fn is_between(word: &[u8]) -> bool {
    word == b"=" || SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme.as_bytes()))
}

/// It may be a word of a password that has several.
fn is_plain(word: &[u8]) -> bool {
    !word.is_empty()
        && word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#%+_".contains(byte))
}
