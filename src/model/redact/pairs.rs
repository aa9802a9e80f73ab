//! Finds `NAME=VALUE`, `"NAME": "VALUE"`, `Name: value` and users in URLs within a word.

use std::ops::Range;

use crate::model::redact::names::scheme_length;
use crate::model::redact::names::{LENGTH_MAX, is_harmless, is_in_name, is_odd, weight};
use crate::model::redact::rules::{URL_KEYS, URL_SECRETS, Weight};
use crate::model::redact::tokens::position;
use crate::model::redact::word::HIDDEN;

/// How a word is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It is one word of a command line: blanks belong to its value.
    Word,
    /// It has words in it, as a shell reads them, and each is looked into as well: only what stands
    /// in several words is looked for.
    Script,
    /// It is a sentence: what looks like a word of it is not a value.
    Prose,
}

/// An `@` further away does not belong to a user in a URL.
const USER_BYTES_MAX: usize = 512;

/// A key of a web service is no shorter, where its name alone says little.
const KEY_LENGTH_MIN: usize = 16;

/// What a pair is read from.
struct PairText<'a> {
    text: &'a [u8],
    reading: Reading,
    is_url: bool,
    /// Where the first bracket of each kind is.
    brackets: [usize; 3],
}

/// A name before a separator.
struct Name {
    at: Range<usize>,
    is_quoted: bool,
}

/// Finds values of names that announce a secret.
pub(super) fn find(text: &[u8], reading: Reading, mut found: impl FnMut(Range<usize>)) {
    let brackets = *b"{[(";
    let brackets = brackets.map(|open| memchr::memchr(open, text).unwrap_or(usize::MAX));
    let is_url = position(text, "://").is_some() || text.starts_with(b"?");
    let text = PairText { text, reading, is_url, brackets };
    let mut at = 0;
    while let Some(step) = memchr::memchr2(b'=', b':', &text.text[at..]) {
        let separator = at + step;
        let floor = std::mem::replace(&mut at, separator + 1);
        let Some(value) =
            text.name(floor, separator).and_then(|name| text.secret(&name, separator))
        else {
            continue;
        };
        at = value.end.max(at);
        found(value);
    }
}

impl PairText<'_> {
    /// Finds the name before a separator.
    fn name(&self, floor: usize, separator: usize) -> Option<Name> {
        let before = self.text[floor..separator].trim_ascii_end();
        // os.environ["NAME"] = ...
        let before = before.strip_suffix(b"]").unwrap_or(before);
        let bare = match before {
            [bare @ .., b'"' | b'\''] => bare.strip_suffix(b"\\").unwrap_or(bare),
            _ => before,
        };
        let length = bare.iter().rev().take_while(|byte| is_in_name(**byte)).count();
        let end = floor + bare.len();
        let start = end - length;
        let is_variable = start > 0 && matches!(self.text[start - 1], b'$')
            || start > 1 && self.text[start - 2..start] == *b"${";
        (length > 0 && length <= LENGTH_MAX && !is_variable)
            .then_some(Name { at: start..end, is_quoted: bare.len() < before.len() })
    }

    /// Returns where the value is, if it is secret.
    fn secret(&self, name: &Name, separator: usize) -> Option<Range<usize>> {
        let weight = self.weight(name)?;
        let after = &self.text[separator + 1..];
        let skipped = after.iter().take_while(|byte| b"=>".contains(byte)).count();
        let blanks = after[skipped..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let start = separator + 1 + skipped + blanks;
        let is_colon = self.text[separator] == b':' && skipped == 0;
        if is_colon && after.starts_with(b"//") {
            return None;
        }
        // "^password:" is a pattern, and arn:a:secret:b a name.
        let before = name.at.start.checked_sub(1).map(|at| self.text[at]);
        if before == Some(b'^') || (is_colon && before == Some(b':')) {
            return None;
        }
        // In a script, NAME= takes the variable away.
        let is_spaced = self.text[..separator].ends_with(b" ");
        let is_option = self.text[name.at.start] == b'-';
        if self.reading == Reading::Script && blanks == 0 && !is_spaced {
            return None;
        }
        if blanks > 0 && !is_colon && self.reading == Reading::Script && !is_spaced && !is_option {
            return None;
        }
        // A quoted name, "Password: ", has no value.
        let quote = self.text.get(start).filter(|byte| b"\"'".contains(byte)).copied();
        if !name.is_quoted && blanks > 0 && quote.is_some() && quote == before {
            return None;
        }
        let value = self.value(name, start, is_colon);
        let bare = &self.text[value.clone()];
        let bare = &bare[unquoted(bare)];
        let is_sentence = self.reading == Reading::Prose
            || (is_colon && !name.is_quoted && (blanks == 0 || !self.is_whole(name)));
        if is_harmless(weight, bare) || (is_sentence && !is_odd(bare)) || self.is_code(bare) {
            return None;
        }
        Some(value)
    }

    fn weight(&self, name: &Name) -> Option<Weight> {
        let text = &self.text[name.at.clone()];
        // -DNAME=, -eNAME=, -HName:
        let attached = || match text {
            [b'-', letter, rest @ ..] if letter.is_ascii_alphabetic() => weight(rest),
            _ => None,
        };
        weight(text).or_else(attached).or_else(|| {
            let before = name.at.start.checked_sub(1).map(|at| self.text[at]);
            let is_parameter = self.is_url && matches!(before, Some(b'?' | b'&'));
            let is_one = |words: &[&str]| {
                words.iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes()))
            };
            // Bounded: a parameter may be named many times.
            let value = self.text[name.at.end..].iter().take(LENGTH_MAX);
            let is_key = || {
                let value: Vec<u8> =
                    value.skip(1).copied().take_while(|byte| !b"&#".contains(byte)).collect();
                value.len() >= KEY_LENGTH_MIN && is_odd(&value)
            };
            (is_parameter && (is_one(&URL_SECRETS) || (is_one(&URL_KEYS) && is_key())))
                .then_some(Weight::Token)
        })
    }

    /// A call or a field in the source of a program.
    fn is_code(&self, value: &[u8]) -> bool {
        let name = value.iter().take_while(|byte| is_in_name(**byte)).count();
        (value.starts_with(b".") && name == value.len())
            || name > 0
                && matches!(value[name..].first(), Some(b'(' | b'['))
                && matches!(value.last(), Some(b')' | b']' | b'(' | b'['))
    }

    /// Finds where a value ends.
    fn value(&self, name: &Name, start: usize, is_colon: bool) -> Range<usize> {
        let rest = &self.text[start..];
        let escapes = rest.iter().take_while(|byte| **byte == b'\\').count();
        if let Some(quote @ (b'"' | b'\'')) = rest.get(escapes) {
            let inside = start + escapes + 1;
            let end = closing(&self.text[inside..], *quote, escapes).map(|end| inside + end);
            return match end {
                Some(end) if is_colon => inside..end - escapes,
                Some(end) if self.is_whole_value(end + 1) => start..end + 1,
                Some(_) | None if self.is_option(name) => start..self.text.len(),
                Some(end) => start..end + 1,
                None => start..self.text.len(),
            };
        }
        for (open, close) in [(&b"$("[..], b')'), (b"`", b'`'), (b"${", b'}'), (b"{{", b'}')] {
            if rest.starts_with(open) {
                let end = memchr::memchr(close, &rest[open.len()..]);
                return start..end.map_or(self.text.len(), |end| start + open.len() + end + 1);
            }
        }
        if rest.starts_with(b"(") {
            let end = memchr::memchr(b')', rest).map_or(rest.len(), |end| end + 1);
            return start..start + end;
        }
        let is_whole = self.is_whole(name);
        if is_whole && self.is_option(name) && self.reading == Reading::Word {
            return start..self.text.len();
        }
        let is_header = is_colon && !name.is_quoted && name.at.start == 0;
        let scheme = match rest.starts_with(HIDDEN.as_bytes()) {
            true => HIDDEN.len(),
            false => scheme_length(rest),
        };
        let end = (scheme..rest.len()).find(|at| self.ends(start + at, name, is_whole, is_header));
        start..end.map_or(self.text.len(), |end| start + end)
    }

    fn is_whole_value(&self, end: usize) -> bool {
        self.text.get(end).is_none_or(|byte| !byte.is_ascii_alphanumeric())
    }

    /// Only names and `=` are before it: `--env=NAME=`.
    fn is_whole(&self, name: &Name) -> bool {
        let before = &self.text[..name.at.start.min(LENGTH_MAX)];
        name.at.start <= LENGTH_MAX && before.iter().all(|byte| is_in_name(*byte) || *byte == b'=')
    }

    fn is_option(&self, name: &Name) -> bool {
        name.at.start == 0 && self.text.first() == Some(&b'-') && self.reading == Reading::Word
    }

    /// Returns whether a value ends before the byte there.
    fn ends(&self, at: usize, name: &Name, is_whole: bool, is_header: bool) -> bool {
        let byte = self.text[at];
        let is_word = self.reading == Reading::Word;
        match byte {
            byte if byte.is_ascii_whitespace() => {
                let is_long = is_word && (is_whole || is_header);
                !is_long || (!is_header && self.is_name_at(at + 1))
            }
            b'&' | b'#' if self.is_url => true,
            b',' | b';' | b'&' => {
                !is_header && (at + 1 == self.text.len() || self.is_name_at(at + 1))
            }
            b'"' | b'\'' | b'\\' => !is_word || !is_whole && !is_header,
            b'}' => self.brackets[0] < name.at.start,
            b']' => self.brackets[1] < name.at.start,
            b')' => self.brackets[2] < name.at.start,
            _ => false,
        }
    }

    /// Returns whether a name and its separator are there.
    fn is_name_at(&self, at: usize) -> bool {
        let rest = self.text[at..].trim_ascii_start();
        let rest = rest.strip_prefix(b"amp;").unwrap_or(rest);
        let is_in = |byte: &&u8| is_in_name(**byte) || b" \"'".contains(byte);
        let length = rest.iter().take(64).take_while(is_in).count();
        length > 0 && matches!(rest.get(length), Some(b'=' | b':'))
    }
}

/// Finds the quote that closes, with as many backslashes before it as the opening one had.
fn closing(text: &[u8], quote: u8, escapes: usize) -> Option<usize> {
    let mut before = 0;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'\\' => before += 1,
            byte if *byte == quote && before <= escapes && (before == escapes || before == 0) => {
                return Some(at);
            }
            _ => before = 0,
        }
    }
    None
}

/// Returns a value without blanks and quotes around it.
pub(super) fn unquoted(text: &[u8]) -> Range<usize> {
    let is_around = |byte: &&u8| byte.is_ascii_whitespace() || b"\"'\\".contains(byte);
    let start = text.iter().take_while(is_around).count();
    let end = text[start..].iter().rev().take_while(is_around).count();
    start..text.len() - end
}

/// Finds quoted values behind a comma or a word of SQL: `'password', 'X'`, `IDENTIFIED BY 'X'`.
pub(super) fn find_quoted(text: &[u8], mut found: impl FnMut(Range<usize>)) {
    let mut at = 0;
    while let Some(step) = memchr::memchr2(b'"', b'\'', &text[at..]) {
        let open = at + step;
        at = open + 1;
        if !announces(&text[open.saturating_sub(LENGTH_MAX)..open]) {
            continue;
        }
        // Bounded, for the next one may begin within it.
        let rest = &text[at..text.len().min(at + LENGTH_MAX)];
        let Some(length) = closing(rest, text[open], 0) else { continue };
        let value = &rest[..length];
        if !is_harmless(Weight::Strong, value) && is_odd(value) {
            found(at..at + length);
            at += length + 1;
        }
    }
}

/// Returns whether a text ends in what comes before a quoted secret.
fn announces(text: &[u8]) -> bool {
    let before = text.trim_ascii_end();
    let list = before.strip_suffix(b",").map(<[u8]>::trim_ascii_end);
    let bare = list.unwrap_or(before);
    let quotes = bare.iter().rev().take_while(|byte| b"\"'".contains(byte)).count();
    let bare = &bare[..bare.len() - quotes];
    let length = bare.iter().rev().take_while(|byte| is_in_name(**byte)).count();
    let name = &bare[bare.len() - length..];
    match list {
        Some(_) => quotes == 1 && weight(name).is_some(),
        None => {
            let is_sql = name.eq_ignore_ascii_case(b"password") || name.eq_ignore_ascii_case(b"by");
            quotes == 0 && before.len() < text.len() && is_sql
        }
    }
}

/// Finds users with passwords in URLs.
pub(super) fn find_users(text: &[u8], mut found: impl FnMut(Range<usize>)) {
    for at in memchr::memmem::find_iter(text, "://") {
        let rest = &text[at + 3..];
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || b"\"'<>`".contains(byte);
        let end = rest.iter().take(USER_BYTES_MAX).position(is_end);
        let rest = &rest[..end.unwrap_or(rest.len().min(USER_BYTES_MAX))];
        let host = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
        let user = match memchr::memrchr(b'@', &rest[..host]) {
            Some(end) => Some(end),
            // A password with a slash in it.
            None if has_password(&rest[..host]) => memchr::memrchr(b'@', rest),
            None => None,
        };
        let is_web = text[..at].ends_with(b"http") || text[..at].ends_with(b"https");
        if let Some(end) = user
            && is_secret_user(&rest[..end], is_web)
        {
            found(at + 3..at + 3 + end);
        }
    }
}

/// Something else than the number of a port follows the colon.
fn has_password(authority: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', authority) else { return false };
    let after = &authority[colon + 1..];
    let is_port = after.len() <= 5 && after.iter().all(u8::is_ascii_digit);
    !after.is_empty() && !is_port
}

pub(super) fn is_secret_user(user: &[u8], is_web: bool) -> bool {
    match memchr::memchr(b':', user) {
        Some(colon) => {
            let (user, password) = (&user[..colon], &user[colon + 1..]);
            match password.is_empty() {
                true => user.len() >= KEY_LENGTH_MIN && !is_harmless(Weight::Token, user),
                false => !is_harmless(Weight::Strong, password),
            }
        }
        None => {
            let is_name = |byte: &u8| byte.is_ascii_alphabetic() || b"-_.".contains(byte);
            let is_token = user.len() >= KEY_LENGTH_MIN || !user.iter().all(is_name);
            is_web && is_token && !is_harmless(Weight::Token, user)
        }
    }
}

/// What stands before a colon in an address of mail or the like, which has no password.
const NO_USERS: [&str; 9] = ["mailto", "from", "to", "cc", "bcc", "acct", "sip", "npm", "sender"];

/// Finds `USER:PASSWORD@HOST` without a scheme.
pub(super) fn find_bare_user(text: &[u8], mut found: impl FnMut(Range<usize>)) {
    let from = match memchr::memchr(b'=', text) {
        Some(at) if text[..at].iter().all(|byte| is_in_name(*byte)) => at + 1,
        _ => 0,
    };
    // In a message it may be quoted.
    let from = from + text[from..].iter().take_while(|byte| b"\"'(<".contains(byte)).count();
    let rest = &text[from..];
    let Some(at) = memchr::memchr(b'@', rest) else { return };
    let at = memchr::memrchr(b'@', &rest[..host_end(rest, at)]).unwrap_or(at);
    let (user, host) = (&rest[..at], &rest[at + 1..]);
    let Some(colon) = memchr::memchr(b':', user) else { return };
    let is_user = colon > 0
        && user[..colon].iter().all(|byte| is_in_name(*byte) || b"%+".contains(byte))
        && !NO_USERS.iter().any(|word| user[..colon].eq_ignore_ascii_case(word.as_bytes()))
        && !user[colon + 1..].starts_with(b":")
        && !user[colon..].iter().any(|byte| b"/\"'".contains(byte) || byte.is_ascii_whitespace());
    if is_user && is_host(host) && is_secret_user(user, false) {
        found(from..from + at);
    }
}

fn host_end(text: &[u8], at: usize) -> usize {
    text[at..].iter().position(|byte| b"/?#".contains(byte)).map_or(text.len(), |end| at + end)
}

/// A name with a dot, an address or a port; not a version or a digest.
fn is_host(text: &[u8]) -> bool {
    let is_in = |byte: &&u8| byte.is_ascii_alphanumeric() || b"-._[]".contains(byte);
    let (host, rest) = text.split_at(text.iter().take_while(is_in).count());
    let has_port = matches!(rest, [b':', digit, ..] if digit.is_ascii_digit());
    let is_numeric = host.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let dots = host.iter().filter(|byte| **byte == b'.').count();
    let is_named = if is_numeric { dots == 3 } else { dots > 0 || host == b"localhost" };
    !host.is_empty()
        && matches!(
            rest.first(),
            None | Some(b':' | b'/' | b'?' | b'#' | b',' | b';' | b'"' | b'\'' | b')' | b'>')
        )
        && !host.starts_with(b"sha256")
        && (is_named || has_port)
}
