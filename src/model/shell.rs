//! Words as a shell reads them, without loss: what is written here is read back as it was, byte for
//! byte, by `split` and by bash.
//!
//! `text::ShellQuoted` is for the eyes and cuts what is long; this is for the record.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::model::text::is_direction_mark;

/// Words that mean something to a shell where a command begins.
const RESERVED: [&str; 21] = [
    "if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for",
    "in", "select", "function", "time", "coproc", "!", "[[", "{", "}",
];

/// Shows a command line. Control characters and bytes that are not UTF-8 appear as `$'\ooo'`, which
/// bash, zsh, ksh and busybox know, and dash does not; all else any shell reads.
#[must_use]
pub fn command(words: &[OsString]) -> String {
    let Some((first, rest)) = words.split_first() else { return String::new() };
    let text = first.to_str().unwrap_or_default();
    let is_special = text.contains('=') || RESERVED.contains(&text);
    let mut line = if is_special { forced(first) } else { quoted(first, true) };
    push_words(&mut line, rest);
    line
}

/// Shows words that are not a command, such as `KEY=VALUE`.
#[must_use]
pub fn words(words: &[OsString]) -> String {
    let Some((first, rest)) = words.split_first() else { return String::new() };
    let mut line = quoted(first, true);
    push_words(&mut line, rest);
    line
}

fn push_words(line: &mut String, words: &[OsString]) {
    for word in words {
        line.push(' ');
        line.push_str(&quoted(word, false));
    }
}

/// A line is a cell of a table, too: what a spreadsheet would take for a formula is quoted where it
/// begins one.
fn quoted(word: &OsStr, is_first: bool) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(byte);
    let bytes = word.as_bytes();
    let is_formula = is_first && bytes.first().is_some_and(|byte| b"=+-@".contains(byte));
    match word.to_str() {
        Some(text) if !bytes.is_empty() && bytes.iter().all(is_plain) && !is_formula => {
            text.to_owned()
        }
        _ => forced(word),
    }
}

fn forced(word: &OsStr) -> String {
    let is_odd = |c: char| c.is_control() || is_direction_mark(c);
    match word.to_str() {
        Some(text) if !text.chars().any(is_odd) => format!("'{}'", text.replace('\'', "'\\''")),
        _ => format!("$'{}'", escaped(word.as_bytes())),
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' | '\'' => text.extend(['\\', c]),
                c if c.is_control() || is_direction_mark(c) => {
                    c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_octal(&mut text, byte));
                }
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_octal(&mut text, *byte));
    }
    text
}

/// Three octal digits end by themselves; how many digits `\x` takes depends on the shell.
fn push_octal(text: &mut String, byte: u8) {
    text.push_str(&format!("\\{byte:03o}"));
}

/// Reads words back: plain ones, `'...'`, `"..."` and `$'...'`. Returns `None` for what only a shell
/// could say the meaning of: variables, patterns, pipes.
#[must_use]
pub fn split(line: &str) -> Option<Vec<OsString>> {
    let mut rest = line.as_bytes();
    let mut words = Vec::new();
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        rest = take_word(rest, &mut word)?;
        words.push(OsString::from_vec(word));
    }
}

fn take_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] | [b' ' | b'\t' | b'\n', ..] => return Some(rest),
            [b'\'', tail @ ..] => {
                let end = tail.iter().position(|byte| *byte == b'\'')?;
                word.extend_from_slice(&tail[..end]);
                &tail[end + 1..]
            }
            [b'$', b'\'', tail @ ..] => take_escaped(tail, word)?,
            [b'"', tail @ ..] => take_double(tail, word)?,
            [b'\\', byte, tail @ ..] if *byte != b'\n' => {
                word.push(*byte);
                tail
            }
            [byte, ..] if b"\\$`\"|&;<>()*?[]{}~#!".contains(byte) => return None,
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
        };
    }
}

fn take_double<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [] | [b'$' | b'`', ..] => return None,
            [b'"', tail @ ..] => return Some(tail),
            [b'\\', byte @ (b'$' | b'`' | b'"' | b'\\'), tail @ ..] | [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
        };
    }
}

fn take_escaped<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, tail) = match rest {
            [] | [b'\\'] => return None,
            [b'\'', tail @ ..] => return Some(tail),
            [b'\\', b'x', tail @ ..] => number(tail, 16, 2)?,
            [b'\\', b'0'..=b'7', ..] => number(&rest[1..], 8, 3)?,
            [b'\\', byte, tail @ ..] => (control(*byte)?, tail),
            [byte, tail @ ..] => (*byte, tail),
        };
        word.push(byte);
        rest = tail;
    }
}

fn control(byte: u8) -> Option<u8> {
    Some(match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'a' => 7,
        b'b' => 8,
        b'v' => 11,
        b'f' => 12,
        b'e' => 27,
        b'\\' | b'\'' | b'"' | b'?' => byte,
        _ => return None,
    })
}

fn number(bytes: &[u8], base: u32, digits_max: usize) -> Option<(u8, &[u8])> {
    let is_digit = |byte: &&u8| char::from(**byte).is_digit(base);
    let count = bytes.iter().take(digits_max).take_while(is_digit).count();
    let digits = std::str::from_utf8(&bytes[..count]).ok()?;
    Some((u8::from_str_radix(digits, base).ok()?, &bytes[count..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn os(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn only_what_needs_it_is_quoted() {
        assert_eq!(command(&os(&["ls", "-lR", "a b", "it's", ""])), r"ls -lR 'a b' 'it'\''s' ''");
        assert_eq!(command(&os(&["x\ny"])), r"$'x\012y'");
        assert_eq!(command(&os(&["=1+1", "=2"])), "'=1+1' =2");
    }

    #[test]
    fn what_begins_a_command_is_never_an_assignment_or_a_reserved_word() {
        assert_eq!(command(&os(&["A=b", "A=b"])), "'A=b' A=b");
        assert_eq!(command(&os(&["if"])), "'if'");
        assert_eq!(words(&os(&["team=physics", "n=1"])), "team=physics n=1");
    }

    #[test]
    fn what_only_a_shell_can_say_is_refused() {
        for line in ["$HOME", "a|b", "a;b", "*", "`x`", "\"$x\"", "'open", "\"open", "$'open", "~"]
        {
            assert_eq!(split(line), None, "{line}");
        }
        assert_eq!(split(r#"a\ b "c \"d\"" $'\x41\n'"#), Some(os(&["a b", "c \"d\"", "A\n"])));
    }

    /// Any bytes but NUL, which no argument holds; odd ones are more frequent than in nature.
    fn word() -> impl Strategy<Value = OsString> {
        let byte =
            prop_oneof![1..=255u8, prop::sample::select(&b" '\"\\\n\r\t$=+-@,;#\xff\xc3"[..])];
        prop::collection::vec(byte, 0..12).prop_map(OsString::from_vec)
    }

    fn as_bash_reads(lines: &[String]) -> Vec<u8> {
        #[expect(clippy::disallowed_methods, reason = "the test asks a real shell")]
        let mut command = std::process::Command::new("bash");
        let script: Vec<String> =
            lines.iter().map(|line| format!("printf '%s\\0' x {line}\n")).collect();
        command.args(["-c", &script.concat()]).env("LC_ALL", "C.UTF-8");
        command.output().expect("bash starts").stdout
    }

    proptest! {
        #[test]
        fn any_words_are_read_back(list in prop::collection::vec(word(), 0..6)) {
            for line in [command(&list), words(&list)] {
                prop_assert!(!line.contains(char::is_control));
                prop_assert!(!line.starts_with(['=', '+', '-', '@']));
                prop_assert_eq!(split(&line), Some(list.clone()));
            }
        }

        #[test]
        fn bash_reads_the_same(list in prop::collection::vec(word(), 1..200)) {
            let lines: Vec<String> = list.chunks(3).map(command).collect();
            let expected: Vec<u8> = list.chunks(3).flat_map(|chunk| {
                [OsString::from("x")].into_iter().chain(chunk.iter().cloned())
                    .flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect::<Vec<u8>>()
            }).collect();
            prop_assert_eq!(as_bash_reads(&lines), expected);
        }
    }
}
