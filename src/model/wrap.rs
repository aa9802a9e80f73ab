//! Lines for a terminal, broken between words.

use unicode_width::UnicodeWidthChar;

/// Breaks a line at blanks into lines of at most `width` columns; the second and later ones begin with
/// `indent` blanks. A word that is wider than that is never broken, so that it can be copied: it gets a
/// line of its own. Colours (SGR sequences) take no columns.
#[must_use]
pub fn wrapped(line: &str, width: usize, indent: usize) -> String {
    let mut shown = String::with_capacity(line.len() + 64);
    let mut used = 0;
    for (number, word) in line.split(' ').enumerate() {
        let columns = columns(word);
        if number > 0 {
            if used + 1 + columns <= width || used <= indent {
                shown.push(' ');
                used += 1;
            } else {
                shown.truncate(shown.trim_end_matches(' ').len());
                shown.push('\n');
                shown.extend(std::iter::repeat_n(' ', indent));
                used = indent;
            }
        }
        shown.push_str(word);
        used += columns;
    }
    shown
}

/// Returns how many columns of a terminal a text takes.
fn columns(text: &str) -> usize {
    let (mut columns, mut is_sequence) = (0, false);
    for c in text.chars() {
        match c {
            '\x1b' => is_sequence = true,
            'm' if is_sequence => is_sequence = false,
            _ if is_sequence => {}
            c => columns += c.width().unwrap_or(0),
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks_only() {
        assert_eq!(wrapped("one two three", 80, 2), "one two three");
        assert_eq!(wrapped("one two three", 8, 2), "one two\n  three");
        assert_eq!(wrapped("one two three", 7, 2), "one two\n  three");
        assert_eq!(wrapped("one two three", 6, 0), "one\ntwo\nthree");
        // A word that is too wide stays whole, wherever it stands.
        assert_eq!(
            wrapped("/a/long/path a /a/long/path", 6, 2),
            "/a/long/path\n  a\n  /a/long/path"
        );
        assert_eq!(wrapped("", 6, 2), "");
    }

    #[test]
    fn columns_count_and_not_bytes() {
        // Each of these takes two columns.
        assert_eq!(wrapped("日本 日本", 9, 0), "日本 日本");
        assert_eq!(wrapped("日本 日本", 8, 0), "日本\n日本");
        let coloured = "a \x1b[1;31mcrashed\x1b[0m b";
        assert_eq!(wrapped(coloured, 11, 0), coloured);
        assert_eq!(wrapped(coloured, 10, 0), "a \x1b[1;31mcrashed\x1b[0m\nb");
    }

    #[test]
    fn blanks_inside_a_line_stay() {
        assert_eq!(wrapped("a  b   c", 80, 2), "a  b   c");
        assert_eq!(wrapped("aaa   bbb", 5, 2), "aaa\n  bbb");
    }
}
