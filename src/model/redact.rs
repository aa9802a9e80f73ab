//! Hides secrets in command lines, before these leave the machine or are shared.
//!
//! What is hidden, each by `[hidden]`:
//!
//! * the value of an option or a variable whose name speaks of a secret (`--password=X`, `--token X`,
//!   `AWS_SECRET_ACCESS_KEY=X`), but not where the name says that it is a file or the like;
//! * what follows `Authorization:` and other such headers, `Bearer` and `Basic`;
//! * the user and password in a URL, and such parameters behind its `?`;
//! * `-u USER:PASSWORD` of curl;
//! * words that begin as the tokens of well-known services do;
//! * words, or values behind `=`, that match a pattern of `--redact`: `*` is anything, `?` one byte.
//!
//! A word with blanks in it, such as a script for `sh -c`, is looked through word by word. Not known is
//! a password without any mark (`mysql -pX`): `--redact` is for these.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

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
    patterns: Vec<String>,
}

/// Parts of names that speak of a secret wherever they stand in a part.
const SECRET_ANYWHERE: [&str; 7] =
    ["password", "passwd", "passphrase", "secret", "credential", "apikey", "privatekey"];

/// Whole parts of names.
const SECRET_PARTS: [&str; 5] = ["pass", "pwd", "auth", "authorization", "cookie"];

/// Two parts in a row.
const SECRET_PAIRS: [(&str, &str); 5] = [
    ("api", "key"),
    ("access", "key"),
    ("private", "key"),
    ("account", "key"),
    ("encryption", "key"),
];

/// A name that ends in one of these is about the secret and does not give it.
const HARMLESS_ENDS: [&str; 14] = [
    "file", "path", "dir", "stdin", "prompt", "env", "fd", "type", "method", "url", "ttl",
    "length", "name", "command",
];

/// How the tokens of well-known services begin.
const TOKENS: [&str; 14] = [
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
    "sk-",
    "hf_",
    "eyJhbGciOi",
    "npm_",
];

/// No token is shorter.
const TOKEN_LENGTH_MIN: usize = 16;

impl Redactor {
    /// Hides what matches those patterns, too.
    #[must_use]
    pub fn new(patterns: &[String]) -> Redactor {
        Redactor { patterns: patterns.iter().map(|text| widened(text.as_bytes())).collect() }
    }

    /// Hides the secrets in a command line.
    #[must_use]
    pub fn command(&self, argv: &[OsString]) -> Redacted {
        let words: Vec<String> = argv.iter().map(|word| widened(word.as_bytes())).collect();
        let shown = self.words(&words);
        let has_hidden = shown != words;
        let words = shown.into_iter().map(|word| OsString::from_vec(narrowed(&word))).collect();
        Redacted { words, has_hidden }
    }

    /// Hides the secrets in a command line that has become a text, with blanks between its words.
    #[must_use]
    pub fn text(&self, line: &str) -> String {
        let shown = self.script(&widened(line.as_bytes()));
        String::from_utf8_lossy(&narrowed(&shown)).into_owned()
    }

    fn words(&self, words: &[String]) -> Vec<String> {
        let program = words.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word));
        let mut is_value = false;
        let mut shown = Vec::with_capacity(words.len());
        for word in words {
            let is_option = word.starts_with("--");
            shown.push(match std::mem::take(&mut is_value) {
                true if !is_option && !word.is_empty() => HIDDEN.to_owned(),
                _ => self.word(word),
            });
            let name = word.trim_start_matches('-');
            is_value = word.starts_with('-') && !word.contains('=') && is_secret(name);
        }
        if program == "curl" { hide_curl_user(shown) } else { shown }
    }

    fn word(&self, word: &str) -> String {
        if self.is_hidden(word) {
            return HIDDEN.to_owned();
        }
        if let Some(shown) = header(word) {
            return shown;
        }
        if word.contains(|c: char| c.is_ascii_whitespace()) {
            return self.script(word);
        }
        if let Some((name, value)) = word.split_once('=')
            && is_name(name)
            && !value.is_empty()
        {
            let is_hidden = is_secret(name.trim_start_matches('-')) || self.is_hidden(value);
            // It may be an assignment itself: --env=TOKEN=X.
            let value = if is_hidden { HIDDEN.to_owned() } else { self.word(value) };
            return format!("{name}={value}");
        }
        url(word)
    }

    /// Looks through a word that has words in it.
    fn script(&self, text: &str) -> String {
        let (mut words, mut gaps) = (Vec::new(), Vec::new());
        let mut rest = text;
        loop {
            let word = rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
            gaps.push(&rest[..rest.len() - word.len()]);
            if word.is_empty() {
                break;
            }
            let end = end_of_word(word);
            words.push(word[..end].to_owned());
            rest = &word[end..];
        }
        let mut shown = String::new();
        for (gap, word) in gaps.iter().zip(self.inner_words(&words)) {
            shown.push_str(gap);
            shown.push_str(&word);
        }
        shown + gaps.last().copied().unwrap_or_default()
    }

    fn inner_words(&self, words: &[String]) -> Vec<String> {
        let mut shown = Vec::with_capacity(words.len());
        let mut hides_next = false;
        for word in words {
            let bare = word.trim_matches(['\'', '"']);
            let lower = bare.to_ascii_lowercase();
            let is_hidden = hides_next && !word.starts_with("--");
            // The scheme itself may stay: the secret comes after it.
            let is_scheme = lower == "bearer" || (hides_next && lower == "basic");
            shown.push(match is_hidden && !is_scheme {
                true => HIDDEN.to_owned(),
                false => self.inner_word(word),
            });
            let is_option = word.starts_with('-') && !word.contains('=');
            let name = bare.trim_start_matches('-').trim_end_matches(':');
            let is_header = bare.ends_with(':');
            hides_next = is_scheme || ((is_option || is_header) && is_secret(name));
        }
        shown
    }

    /// A word without blanks but in quotes, which may have blanks.
    fn inner_word(&self, word: &str) -> String {
        if let Some((name, value)) = word.split_once('=')
            && is_name(name)
            && !value.is_empty()
            && is_secret(name.trim_start_matches('-'))
        {
            return format!("{name}={HIDDEN}");
        }
        let quote = word.chars().next().filter(|c| matches!(c, '\'' | '"'));
        match quote.and_then(|quote| word.strip_prefix(quote)?.strip_suffix(quote)) {
            Some(inside) => {
                let quote = &word[..1];
                format!("{quote}{}{quote}", self.word(inside))
            }
            None if word.contains(|c: char| c.is_ascii_whitespace()) => url(word),
            None => self.word(word),
        }
    }

    fn is_hidden(&self, word: &str) -> bool {
        let is_token = word.len() >= TOKEN_LENGTH_MIN
            && TOKENS.iter().any(|begin| word.starts_with(begin))
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        is_token || self.patterns.iter().any(|pattern| matches(pattern, word))
    }
}

/// Makes a character of each byte, so that any bytes are text.
fn widened(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn narrowed(text: &str) -> Vec<u8> {
    text.chars().map(|c| c as u8).collect()
}

/// Returns where a word of a script ends: at a blank outside of quotes.
fn end_of_word(text: &str) -> usize {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            None if c.is_ascii_whitespace() => return at,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
    }
    // A lone apostrophe is no quote.
    match quote {
        Some(_) => text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len()),
        None => text.len(),
    }
}

fn is_name(text: &str) -> bool {
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !text.is_empty() && text.chars().all(is_in_name)
}

/// Returns whether a name speaks of a secret.
fn is_secret(name: &str) -> bool {
    let parts = parts(name);
    let Some(last) = parts.last() else { return false };
    // The shell's own variables for directories.
    if HARMLESS_ENDS.contains(&last.as_str()) || matches!(name, "PWD" | "OLDPWD") {
        return false;
    }
    parts.iter().any(|part| {
        SECRET_ANYWHERE.iter().any(|word| part.contains(word))
            || SECRET_PARTS.contains(&part.as_str())
            // Neither a tokenizer nor a number of tokens.
            || part.ends_with("token")
    }) || parts.windows(2).any(|pair| {
        SECRET_PAIRS.iter().any(|(first, second)| pair[0] == *first && pair[1] == *second)
    })
}

/// Splits `--api-key`, `API_KEY` and `apiKey` alike.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_lower = false;
    for c in name.chars() {
        let is_break = !c.is_ascii_alphanumeric();
        if is_break || (was_lower && c.is_ascii_uppercase()) {
            parts.push(String::new());
        }
        was_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        if let (false, Some(part)) = (is_break, parts.last_mut()) {
            part.push(c.to_ascii_lowercase());
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Hides what follows the name of a header, if the word is one.
fn header(word: &str) -> Option<String> {
    let (name, value) = word.split_once(':')?;
    let bare = name.strip_prefix("-H").unwrap_or(name);
    let bare = bare.rsplit_once('=').map_or(bare, |(_, name)| name);
    let is_header = is_name(bare) && is_secret(bare) && !value.starts_with("//");
    (is_header && !value.trim().is_empty()).then(|| format!("{name}: {HIDDEN}"))
}

/// Hides user and password in each URL of a word, and secret parameters.
fn url(word: &str) -> String {
    let Some((before, rest)) = word.split_once("://") else { return word.to_owned() };
    let end = rest.find(|c: char| "/?# \t\n\"'".contains(c)).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let is_web = before.ends_with("http") || before.ends_with("https");
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) if is_web || user.contains(':') => format!("{HIDDEN}@{host}"),
        _ => authority.to_owned(),
    };
    let mut shown = format!("{before}://{authority}");
    for (index, piece) in path.split_inclusive(['?', '&', ';']).enumerate() {
        match piece.split_once('=') {
            Some((name, value)) if index > 0 && is_secret(name) => {
                let end = value.strip_suffix(['&', ';']).map_or("", |bare| &value[bare.len()..]);
                shown.push_str(&format!("{name}={HIDDEN}{end}"));
            }
            _ => shown.push_str(piece),
        }
    }
    shown
}

fn hide_curl_user(mut words: Vec<String>) -> Vec<String> {
    for index in 1..words.len() {
        if matches!(words[index - 1].as_str(), "-u" | "--user" | "-U" | "--proxy-user") {
            words[index] = HIDDEN.to_owned();
        }
    }
    words
}

/// Matches a pattern with `*` and `?` against a whole word, in time that is at most the product of
/// their lengths.
fn matches(pattern: &str, word: &str) -> bool {
    let (pattern, word): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), word.chars().collect());
    let (mut at, mut read) = (0, 0);
    let mut star = None;
    while read < word.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(c) if *c == '?' || *c == word[read] => {
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
    pattern[at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(words: &[&str]) -> String {
        let argv: Vec<OsString> = words.iter().map(OsString::from).collect();
        let patterns = ["key-*".to_owned(), "s?cret*x".to_owned()];
        let redacted = Redactor::new(&patterns).command(&argv);
        assert_eq!(redacted.has_hidden, redacted.words != argv);
        let words: Vec<&str> =
            redacted.words.iter().map(|word| word.to_str().expect("text")).collect();
        words.join("|")
    }

    #[test]
    fn secrets_are_hidden() {
        for (words, expected) in [
            (&["job", "--password=X"][..], "job|--password=[hidden]"),
            (&["job", "--token", "X", "y"], "job|--token|[hidden]|y"),
            (&["env", "AWS_SECRET_ACCESS_KEY=X"], "env|AWS_SECRET_ACCESS_KEY=[hidden]"),
            (&["TOKEN=X"], "TOKEN=[hidden]"),
            (&["run", "--env=TOKEN=X", "--tag=a=b"], "run|--env=TOKEN=[hidden]|--tag=a=b"),
            (&["psql", "PGPASSWORD=X"], "psql|PGPASSWORD=[hidden]"),
            (&["job", "-apiKey", "X"], "job|-apiKey|[hidden]"),
            (&["curl", "-H", "Authorization: Bearer X"], "curl|-H|Authorization: [hidden]"),
            (&["curl", "-HX-Auth-Token: X"], "curl|-HX-Auth-Token: [hidden]"),
            (&["curl", "--header=Cookie: X"], "curl|--header=Cookie: [hidden]"),
            (&["curl", "-u", "me:X"], "curl|-u|[hidden]"),
            (&["git", "https://me:X@host/p"], "git|https://[hidden]@host/p"),
            (&["get", "--db=postgres://me:X@h/d"], "get|--db=postgres://[hidden]@h/d"),
            (&["get", "https://h/p?a=1&token=X&b=2"], "get|https://h/p?a=1&token=[hidden]&b=2"),
            (
                &["sh", "-c", "TOKEN='X X' run  --password X"],
                "sh|-c|TOKEN=[hidden] run  --password [hidden]",
            ),
            (
                &["sh", "-c", "curl -H 'Authorization: Bearer X' h"],
                "sh|-c|curl -H 'Authorization: [hidden]' h",
            ),
            (&["sh", "-c", "x --auth=\"X X\""], "sh|-c|x --auth=[hidden]"),
            (&["x", "ghp_0123456789abcdefghij"], "x|[hidden]"),
            (&["x", "--id=key-X", "key-X", "secretXx"], "x|--id=[hidden]|[hidden]|[hidden]"),
        ] {
            assert_eq!(shown(words), expected);
            assert!(!shown(words).contains('X') || expected.contains('X'), "{words:?}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for words in [
            &["train", "--tokenizer", "bert", "--max-tokens=512", "--tokens", "9"][..],
            &["x", "--password-file=/run/p", "--token-file", "/run/t", "--password-stdin"],
            &["env", "PWD=/home/me", "PATH=/bin"],
            &["sort", "--key=2", "-k", "2"],
            &["git", "clone", "ssh://git@host/p", "git@host:p"],
            &["sh", "-c", "echo it's over; exit 3"],
            &["echo", "12:30", "a=b", "Error: none", "author=me", "--author", "me"],
            &["x", "--password="],
            &["mysql", "-pX"],
        ] {
            assert_eq!(shown(words), words.join("|"));
        }
    }

    #[test]
    fn an_option_is_not_taken_for_the_value_of_the_one_before() {
        assert_eq!(shown(&["x", "--password", "--verbose"]), "x|--password|--verbose");
        assert_eq!(shown(&["x", "--password"]), "x|--password");
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(words in prop::collection::vec(
            prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b" ='\":-/@?"[..])], 0..12), 0..5
        )) {
            let argv: Vec<OsString> = words.into_iter().map(OsString::from_vec).collect();
            let redacted = Redactor::default().command(&argv);
            prop_assert_eq!(redacted.words.len(), argv.len());
            prop_assert!(redacted.has_hidden || redacted.words == argv);
        }

        #[test]
        fn a_pattern_matches_as_its_parts_do(a in "[ab]{0,4}", b in "[ab]{0,4}", c in "[ab]{0,4}") {
            let pattern = format!("{a}*{b}");
            let word = format!("{a}{c}{b}");
            prop_assert!(matches(&pattern, &word));
            prop_assert_eq!(matches(&a, &c), a == c);
        }
    }
}
