//! Text in which odd bytes are written as `%XX` (RFC 3986, section 2.1).

/// Returns the text with the bytes put in; `None` if that is not text, or a `%` stands for nothing.
#[must_use]
pub fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte == b'%' {
            let digits = rest.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit))?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_put_in_and_nonsense_is_refused() {
        assert_eq!(decoded("a%20b%2c%C3%a9").as_deref(), Some("a b,\u{e9}"));
        assert_eq!(decoded("").as_deref(), Some(""));
        for bad in ["%", "%2", "%zz", "%+1", "%ff"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
