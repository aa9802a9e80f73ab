//! Text from strangers (command lines, names), made fit for one line.

use std::fmt::{self, Write as _};

/// The longest piece of a stranger's text that goes into a line, in bytes: enough to tell jobs
/// apart, and a log line stays below the 4,096 bytes that a pipe takes whole (pipe(7)).
pub const LONGEST_BYTES: usize = 1024;

/// Shows text with control characters escaped (`\n`, `\x1b`) and cut at [`LONGEST_BYTES`].
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = 0;
        for c in self.0.chars() {
            if written >= LONGEST_BYTES {
                return f.write_str("...");
            }
            match c {
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                // Also the invisible marks that turn the direction of text in a terminal.
                c if c.is_control() || is_direction_mark(c) => {
                    write!(f, "\\x{:02x}", u32::from(c))?;
                }
                c => f.write_char(c)?,
            }
            written += c.len_utf8();
        }
        Ok(())
    }
}

pub(crate) fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Shows a command line as a POSIX shell would read it back, except that control characters are
/// escaped as in `$'...'`.
pub struct ShellQuoted<'a>(pub &'a [std::ffi::OsString]);

impl fmt::Display for ShellQuoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = 0;
        for (index, word) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_char(' ')?;
            }
            if written >= LONGEST_BYTES {
                return f.write_str("...");
            }
            let word = word.to_string_lossy();
            quote(&word, f)?;
            written += word.len();
        }
        Ok(())
    }
}

fn quote(word: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%^".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return write!(f, "{}", Escaped(word));
    }
    if word.chars().any(char::is_control) {
        let inner = word.replace('\\', "\\\\").replace('\'', "\\'");
        return write!(f, "$'{}'", Escaped(&inner));
    }
    write!(f, "'{}'", Escaped(&word.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_never_reach_the_line() {
        let shown = Escaped("a\nb\0c\x1b[31m\u{202e}d").to_string();
        assert_eq!(shown, "a\\nb\\x00c\\x1b[31m\\x202ed");
    }

    #[test]
    fn long_text_is_cut_and_says_so() {
        let shown = Escaped(&"x".repeat(5000)).to_string();
        assert_eq!(shown.len(), LONGEST_BYTES + 3);
        assert!(shown.ends_with("..."));
    }

    #[test]
    fn words_are_quoted_only_where_a_shell_needs_it() {
        let words = ["ls", "-lR", "a b", "it's", "", "x\ny"].map(std::ffi::OsString::from);
        assert_eq!(ShellQuoted(&words).to_string(), r"ls -lR 'a b' 'it'\''s' '' $'x\ny'");
    }
}
