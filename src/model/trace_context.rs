//! The `traceparent` of W3C Trace Context (https://www.w3.org/TR/trace-context/), by its exact grammar:
//! what does not follow it is not a parent, and a new trace begins.

/// The parent of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent<'a> {
    /// 32 hexadecimal digits in small letters, not all zero.
    pub trace_id: &'a str,
    /// 16 of them.
    pub span_id: &'a str,
    /// Whether the caller may have recorded its span.
    pub is_sampled: bool,
}

/// The length of the four fields that all versions begin with.
const LENGTH: usize = 55;

/// Reads `VERSION-TRACE-SPAN-FLAGS`. A version above 00 may go on after another dash; `ff` is not a version.
#[must_use]
pub fn parse(text: &str) -> Option<TraceParent<'_>> {
    let (known, more) = text.as_bytes().split_at_checked(LENGTH)?;
    let version = &text.as_bytes()[..2];
    let is_complete = match version {
        b"00" => more.is_empty(),
        b"ff" => false,
        _ => more.is_empty() || more.starts_with(b"-"),
    };
    let are_dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
    if !is_complete || !are_dashes || !is_hex(version) {
        return None;
    }
    let field =
        |from: usize, to: usize| text.get(from..to).filter(|field| is_hex(field.as_bytes()));
    let id = |from, to| field(from, to).filter(|id| id.bytes().any(|byte| byte != b'0'));
    let flags = u8::from_str_radix(field(53, 55)?, 16).ok()?;
    Some(TraceParent { trace_id: id(3, 35)?, span_id: id(36, 52)?, is_sampled: flags & 1 == 1 })
}

fn is_hex(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn what_follows_the_grammar_is_read() {
        for (text, is_sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), false),
            (format!("00-{TRACE}-{SPAN}-fe"), false),
            (format!("01-{TRACE}-{SPAN}-03"), true),
            (format!("cc-{TRACE}-{SPAN}-01-what-is-to-come"), true),
            (format!("fe-{TRACE}-{SPAN}-01-"), true),
        ] {
            let expected = TraceParent { trace_id: TRACE, span_id: SPAN, is_sampled };
            assert_eq!(parse(&text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_does_not_is_not_a_parent() {
        let (zeros, upper) = ("0".repeat(32), TRACE.to_uppercase());
        for text in [
            String::new(),
            "00".into(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("FF-{TRACE}-{SPAN}-01"),
            format!("0x-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("000-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-x"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("01-{TRACE}-{SPAN}-01x"),
            format!("01-{TRACE}-{SPAN}-011"),
            format!("00-{upper}-{SPAN}-01"),
            format!("00-{TRACE}-00F067AA0BA902B7-01"),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}0-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &SPAN[1..]),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00_{TRACE}_{SPAN}_01"),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01 "),
            format!("00-{TRACE}-{SPAN}-01\n"),
            format!("00-{TRACE}-{SPAN}-g1"),
            format!("00-{TRACE}-{SPAN}-+1"),
            format!("00-{}é-{SPAN}-01", &TRACE[2..]),
            format!("00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(parse(&text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "[0-9a-f-]{50,60}|.{0,60}") {
            if let Some(parent) = parse(&text) {
                prop_assert_eq!(&text[3..35], parent.trace_id);
            }
        }
    }
}
