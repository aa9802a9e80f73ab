//! Text from elsewhere (command lines, names, paths, answers of servers), made safe for one line.
//!
//! Whatever leaves for a terminal, a log or a table passes one of these: [`Escaped`] where it is put
//! into a message, [`Printable`] and [`Guarded`] where the message leaves. Escaped text stays as it is
//! when it is escaped again.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io;

/// The longest piece of a stranger's text that goes into a line, in bytes: enough to distinguish jobs
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
            escape(c, f)?;
            written += c.len_utf8();
        }
        Ok(())
    }
}

/// Shows text with control characters escaped, and whole.
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        PrintableWriter(f).write_str(self.0)
    }
}

/// Escapes control characters in what is written through it.
pub struct PrintableWriter<W>(pub W);

impl<W: fmt::Write> fmt::Write for PrintableWriter<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Nearly all of it is: decoding each character takes twenty times as long.
        if is_plain(text) {
            return self.0.write_str(text);
        }
        let mut rest = text;
        while let Some(at) = rest.find(is_unprintable) {
            self.0.write_str(&rest[..at])?;
            rest = &rest[at..];
            if let Some(c) = rest.chars().next() {
                escape(c, &mut self.0)?;
                rest = &rest[c.len_utf8()..];
            }
        }
        self.0.write_str(rest)
    }
}

/// Whether all of it is ASCII that is printed as it is. It looks at every byte, so that the compiler takes many at a
/// time.
fn is_plain(text: &str) -> bool {
    text.bytes().fold(true, |is_plain, byte| is_plain & matches!(byte, b' '..=b'~'))
}

/// Escapes in JSON what JSON itself allows in a string and a terminal obeys: DEL, C1 control
/// characters and direction marks.
#[must_use]
pub fn printable_json(json: &str) -> Cow<'_, str> {
    if !json.contains(is_unprintable) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match c {
            // Between values; within a string JSON has escaped them.
            '\n' | '\r' | '\t' => text.push(c),
            // Each is in the basic plane.
            c if is_unprintable(c) => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    Cow::Owned(text)
}

/// Passes lines of text on to a terminal or a pipe with everything else that a terminal would obey
/// escaped, also bytes that are not UTF-8; colours of our own pass if they are permitted.
pub struct Guarded<W> {
    /// Where the text goes.
    pub out: W,
    /// Whether `ESC [ ... m` passes.
    pub is_coloured: bool,
}

impl<W: io::Write> io::Write for Guarded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for chunk in bytes.utf8_chunks() {
            self.pass(chunk.valid())?;
            chunk.invalid().iter().try_for_each(|byte| write!(self.out, "\\x{byte:02x}"))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: io::Write> Guarded<W> {
    fn pass(&mut self, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some(at) = rest.find(is_unprintable) {
            self.out.write_all(&rest.as_bytes()[..at])?;
            rest = &rest[at..];
            let length = self.passes(rest);
            if length > 0 {
                self.out.write_all(&rest.as_bytes()[..length])?;
                rest = &rest[length..];
            } else if let Some(c) = rest.chars().next() {
                write!(self.out, "{}", Printable(&rest[..c.len_utf8()]))?;
                rest = &rest[c.len_utf8()..];
            }
        }
        self.out.write_all(rest.as_bytes())
    }

    /// Returns how many bytes of a text that begins with a control character may pass.
    fn passes(&self, text: &str) -> usize {
        // A line of CSV ends in both.
        if text.starts_with('\n') || text.starts_with("\r\n") {
            return 1 + usize::from(text.starts_with('\r'));
        }
        let Some(colour) = text.strip_prefix("\x1b[").filter(|_| self.is_coloured) else {
            return 0;
        };
        let is_part = |c: char| c.is_ascii_digit() || c == ';';
        match colour.trim_start_matches(is_part).starts_with('m') {
            true => text.find('m').map_or(0, |end| end + 1),
            false => 0,
        }
    }
}

fn escape(c: char, f: &mut impl fmt::Write) -> fmt::Result {
    match c {
        '\n' => f.write_str("\\n"),
        '\r' => f.write_str("\\r"),
        '\t' => f.write_str("\\t"),
        c if is_unprintable(c) => write!(f, "\\x{:02x}", u32::from(c)),
        c => f.write_char(c),
    }
}

/// Whether a terminal or a reader of lines may obey a character and not show it.
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control() || is_direction_mark(c)
}

/// The invisible marks that turn the direction of text, and those that end a line or paragraph.
pub(crate) fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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

/// Returns what makes a noun plural.
pub fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Shows a number of bytes with a binary unit: `512 B`, `3.9 GiB`.
#[must_use]
pub fn byte_size(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut amount = count as f64;
    let mut unit = "B";
    for larger in UNITS {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{count} B") } else { format!("{amount:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_largest_unit_that_fits() {
        let shown: Vec<_> = [512, 1024, 4_187_593_114].into_iter().map(byte_size).collect();
        assert_eq!(shown, ["512 B", "1.0 KiB", "3.9 GiB"]);
    }

    #[test]
    fn control_characters_never_reach_the_line() {
        let shown = Escaped("a\nb\0c\x1b[31m\u{202e}d").to_string();
        assert_eq!(shown, "a\\nb\\x00c\\x1b[31m\\x202ed");
    }

    /// What no text may contain when it has been escaped.
    fn is_safe(text: &str) -> bool {
        !text.chars().any(is_unprintable)
    }

    proptest::proptest! {
        #[test]
        fn nothing_raw_gets_through(text in "\\PC{0,40}|(?s).{0,40}|[\x1b\x07\x7f\u{80}-\u{9f}\u{202e}\n\r\\[m0-9;]{0,40}") {
            let printable = Printable(&text).to_string();
            proptest::prop_assert!(is_safe(&printable));
            proptest::prop_assert_eq!(Printable(&printable).to_string(), printable.clone());
            let escaped = Escaped(&text).to_string();
            proptest::prop_assert!(is_safe(&escaped));
            proptest::prop_assert_eq!(Printable(&escaped).to_string(), escaped);
            let json = serde_json::to_string(&text).expect("a text");
            let shown = printable_json(&json);
            proptest::prop_assert!(is_safe(&shown));
            let back: String = serde_json::from_str(&shown).expect("JSON still");
            proptest::prop_assert_eq!(back, text);
        }

        #[test]
        fn paths_of_any_bytes_are_safe_to_print(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
            use std::os::unix::ffi::OsStrExt;
            let path = std::path::Path::new(std::ffi::OsStr::from_bytes(&bytes));
            proptest::prop_assert!(is_safe(&Escaped(&path.to_string_lossy()).to_string()));
            proptest::prop_assert!(is_safe(&Printable(&path.display().to_string()).to_string()));
            let guarded = guarded(&bytes, false);
            proptest::prop_assert!(is_safe(&guarded.replace("\r\n", "").replace('\n', "")), "{:?}", guarded);
        }
    }

    fn guarded(bytes: &[u8], is_coloured: bool) -> String {
        let mut out = Guarded { out: Vec::new(), is_coloured };
        io::Write::write_all(&mut out, bytes).expect("a vector");
        String::from_utf8(out.out).expect("text")
    }

    #[test]
    fn a_guarded_stream_passes_lines_and_permitted_colours() {
        let text = "\x1b[31ma\x1b[0m\r\nb\x1b]0;title\x07\rc\u{9b}2J\n".as_bytes();
        let safe = "b\\x1b]0;title\\x07\\rc\\x9b2J\n";
        assert_eq!(guarded(text, true), format!("\x1b[31ma\x1b[0m\r\n{safe}"));
        assert_eq!(guarded(text, false), format!("\\x1b[31ma\\x1b[0m\r\n{safe}"));
        assert_eq!(guarded(b"\x1b[6n\x1b[", true), "\\x1b[6n\\x1b[");
        assert_eq!(guarded(b"a\xff\xc2", true), "a\\xff\\xc2");
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
