//! What a wrong answer means: it is asked again where it came from, and elsewhere.

/// What became of a call that was repeated: `None` if it was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeated {
    /// Whether the same processor gave the right answer.
    pub is_right_here: Option<bool>,
    /// Another processor, and whether it gave the right answer.
    pub elsewhere: Option<(u32, bool)>,
}

impl Repeated {
    /// Returns what is likely bad, for the log.
    #[must_use]
    pub fn meaning(&self) -> String {
        match (self.is_right_here, self.elsewhere) {
            (Some(false), Some((other, true))) => {
                format!("wrong again there, right on CPU {other}: this processor is bad")
            }
            (Some(false), Some((other, false))) => {
                format!("wrong again there and on CPU {other}: the machine or its memory is bad")
            }
            (Some(true), Some((other, false))) => {
                format!(
                    "right when repeated there, wrong on CPU {other}: the machine or its memory is bad"
                )
            }
            (Some(true), _) => {
                "right when repeated: memory or the processor fails now and then".into()
            }
            (Some(false), None) => {
                "wrong again there; there is no other processor to compare with".into()
            }
            (None, _) => "it could not be repeated".into(),
        }
    }
}

/// Returns in which bits two whole numbers differ, as a hexadecimal mask; `None` if one of them is not a whole number.
#[must_use]
pub fn differing_bits(answer: &str, right: &str) -> Option<String> {
    let number = |text: &str| text.parse::<i64>().ok();
    Some(format!("{:#x}", number(answer)? ^ number(right)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bad_follows_from_where_the_answer_is_wrong() {
        for (here, elsewhere, expected) in [
            (Some(false), Some((3, true)), "right on CPU 3: this processor is bad"),
            (Some(false), Some((3, false)), "the machine or its memory is bad"),
            (Some(true), Some((3, false)), "the machine or its memory is bad"),
            (Some(true), Some((3, true)), "now and then"),
            (Some(true), None, "now and then"),
            (Some(false), None, "no other processor"),
            (None, None, "could not be repeated"),
        ] {
            let meaning = Repeated { is_right_here: here, elsewhere }.meaning();
            assert!(meaning.ends_with(expected) || meaning.contains(expected), "{meaning}");
        }
    }

    #[test]
    fn masks_are_of_whole_numbers() {
        assert_eq!(differing_bits("240009", "240001").as_deref(), Some("0x8"));
        assert_eq!(differing_bits("-1", "0").as_deref(), Some("0xffffffffffffffff"));
        assert_eq!(differing_bits("1.5", "2"), None);
    }
}
