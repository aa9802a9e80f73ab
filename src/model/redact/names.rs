//! Weighs names and values: does a name announce a secret, and can the value be one?

use crate::model::redact::rules::{
    EXTENSIONS, HARMLESS_FIRST, HARMLESS_LAST, HARMLESS_LAST_TOO, HARMLESS_NAMES, HARMLESS_VALUES,
    HARMLESS_WORDS, MODEL_TOKENS, REFERENCES, SCHEMES, SECRET_ANYWHERE, SECRET_KEYS, SECRET_LAST,
    Weight,
};
use crate::model::redact::tokens::{is_mixed, position};
use crate::model::redact::word::HIDDEN;

/// A longer value is never harmless, and a longer name never one of a secret: it bounds the work.
pub(super) const LENGTH_MAX: usize = 256;

/// No private key is shorter.
const KEY_LENGTH_MIN: usize = 24;

/// Returns whether a byte may be part of a name.
pub(super) fn is_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

/// Returns how much a name, with or without dashes before it, says of a secret.
pub(super) fn weight(name: &[u8]) -> Option<Weight> {
    let name = std::str::from_utf8(name).ok()?;
    if name.len() > LENGTH_MAX {
        return None;
    }
    let bare = name.trim_start_matches('-').to_ascii_lowercase();
    // The shell's own variables for directories.
    if HARMLESS_NAMES.contains(&bare.as_str()) || matches!(name, "PWD" | "OLDPWD") {
        return None;
    }
    let parts = parts(name);
    let (first, last) = (parts.first()?.as_str(), parts.last()?.as_str());
    let is_about = HARMLESS_LAST.contains(&last)
        || HARMLESS_LAST_TOO.contains(&last)
        || HARMLESS_FIRST.contains(&first)
        || parts.iter().any(|part| part == "existing");
    let before = parts.len().checked_sub(2).map_or("", |index| parts[index].as_str());
    let is_about = is_about || (before, last) == ("password", "key");
    // The one id that is a secret (Vault, AppRole).
    if is_about && !bare.ends_with("secret_id") {
        return None;
    }
    if parts.iter().any(|part| SECRET_ANYWHERE.iter().any(|word| part.contains(word)))
        || (before, last) == ("pass", "phrase")
        || ["storepass", "keypass"].iter().any(|end| last.ends_with(end))
    {
        return Some(Weight::Strong);
    }
    // Often a file, and no key is short.
    if last == "privatekey" || (before, last) == ("private", "key") {
        return Some(Weight::LongKey);
    }
    if last == "key" && SECRET_KEYS.contains(&before) {
        return Some(Weight::Token);
    }
    if last.ends_with("token") && MODEL_TOKENS.contains(&before) {
        return None;
    }
    let found = SECRET_LAST.iter().find(|(word, _)| *word == last).map(|(_, weight)| *weight);
    // PGPASSWORD is caught above; MYTOKEN here.
    found.or(last.ends_with("token").then_some(Weight::Token))
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

/// Returns whether a value is not a secret, whatever its name.
pub(super) fn is_harmless(weight: Weight, value: &[u8]) -> bool {
    let whole = value.trim_ascii();
    let value = without_scheme(whole);
    let is_method = weight == Weight::Auth && value.len() == whole.len();
    if value.is_empty() || position(value, HIDDEN).is_some() {
        return true;
    }
    let Ok(text) = std::str::from_utf8(value) else { return false };
    if text.len() > LENGTH_MAX {
        return false;
    }
    let lower = text.to_ascii_lowercase();
    HARMLESS_VALUES.contains(&lower.as_str())
        || (weight != Weight::Strong && HARMLESS_WORDS.contains(&lower.as_str()))
        || REFERENCES.iter().any(|begin| text.starts_with(begin))
        || is_reference(text)
        || is_mark(text)
        || is_number(weight, text)
        || is_path(weight, text)
        || (weight == Weight::LongKey && text.len() < KEY_LENGTH_MIN)
        || (is_method && is_word_or_url(text))
}

/// Takes away `Bearer` and other such words before the secret of a header.
fn without_scheme(value: &[u8]) -> &[u8] {
    let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    let is_scheme =
        SCHEMES.iter().any(|scheme| value[..end].eq_ignore_ascii_case(scheme.as_bytes()));
    if is_scheme { value[end..].trim_ascii_start() } else { value }
}

/// Returns how long a scheme is that begins a value, with the blanks behind it.
pub(super) fn scheme_length(value: &[u8]) -> usize {
    let credentials = without_scheme(value);
    if credentials.is_empty() { 0 } else { value.len() - credentials.len() }
}

/// A variable, or the output of a command, of a shell or a template.
fn is_reference(text: &str) -> bool {
    if text.starts_with("$(") || text.starts_with('`') || text.starts_with("{{") {
        return true;
    }
    let Some(rest) = text.strip_prefix('$') else {
        return is_between(text, "%", "%")
            || is_file_of_curl(text)
            || text.split_once(':').is_some_and(|(user, rest)| {
                (is_reference(user) || user.is_empty()) && (rest.is_empty() || is_reference(rest))
            });
    };
    let is_one_case =
        |is_in: fn(&char) -> bool| !rest.is_empty() && rest.chars().all(|c| is_in(&c) || c == '_');
    let end = |open, close| rest.starts_with(open) && rest.ends_with(close);
    end('{', '}')
        || rest.len() == 1
        || is_one_case(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
        || is_one_case(char::is_ascii_lowercase)
        || rest.split_once(':').is_some_and(|(user, password)| {
            is_reference(&format!("${user}")) && (password.is_empty() || is_reference(password))
        })
}

fn is_file_of_curl(text: &str) -> bool {
    text.strip_prefix('@').is_some_and(|file| file == "-" || file.contains(['/', '.']))
}

fn is_between(text: &str, open: &str, close: &str) -> bool {
    text.len() > 2 && text.starts_with(open) && text.ends_with(close)
}

/// A placeholder, or a mark of a language model: `<pad>`, `[MASK]`, `{{ x }}`, `***`, `...`.
fn is_mark(text: &str) -> bool {
    let all = |wanted: &str| text.chars().all(|c| wanted.contains(c));
    text.starts_with('<')
        || is_between(text, "[", "]")
        || is_between(text, "{", "}")
        || all("*")
        || all(".")
        || (text.len() >= 3 && (all("x") || all("X")))
        || all("-")
        || all("%s")
}

fn is_number(weight: Weight, text: &str) -> bool {
    let digits_max = if weight == Weight::Strong { 2 } else { 6 };
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_whole = digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_fraction = digits.len() <= 6 && digits.contains('.') && digits.parse::<f64>().is_ok();
    !digits.is_empty() && ((is_whole && digits.len() <= digits_max) || is_fraction)
}

/// Looks at the shape alone: the record is read on other hosts, too.
fn is_path(weight: Weight, text: &str) -> bool {
    let is_in_path = |byte: u8| byte.is_ascii_alphanumeric() || b"._/~+@%-,=:${}".contains(&byte);
    if !text.bytes().all(is_in_path) {
        return false;
    }
    // No directory is named like this, but random bytes in base64 are.
    let is_random =
        |part: &str| part.len() >= 16 && !part.contains('.') && is_mixed(part.as_bytes());
    let mut steps = text.split('/');
    if steps.clone().any(is_random) {
        return false;
    }
    let has_extension = text.rsplit_once('.').is_some_and(|(stem, end)| {
        !stem.is_empty() && EXTENSIONS.contains(&end.to_ascii_lowercase().as_str())
    });
    let is_word = |part: &str| {
        part.len() > 1
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || b"_-.".contains(&byte))
    };
    let is_relative = ["./", "../", "~/"].iter().any(|begin| text.starts_with(begin));
    match text.strip_prefix('/') {
        Some(rest) => has_extension || rest.trim_end_matches('/').contains('/') || is_word(rest),
        // A password may have a slash in it.
        None if weight == Weight::Strong => has_extension || is_relative,
        None => has_extension || is_relative || (text.contains('/') && steps.all(is_word)),
    }
}

/// The name of a method, or an address.
fn is_word_or_url(text: &str) -> bool {
    text.contains("://")
        || (text.len() < 32
            && text.bytes().all(|byte| byte.is_ascii_alphabetic() || b"-_".contains(&byte)))
}

/// Returns whether a value looks as passwords and tokens do, and words of a sentence do not.
pub(super) fn is_odd(value: &[u8]) -> bool {
    let is_capitalised = value.iter().skip(1).any(u8::is_ascii_uppercase)
        && value.iter().any(u8::is_ascii_lowercase);
    value.len() >= 5
        && (value.iter().any(u8::is_ascii_digit)
            || is_capitalised
            || value.iter().any(|byte| b"!#%^&*+=~@".contains(byte)))
}
