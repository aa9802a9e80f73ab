//! Why the value of an option is refused.

use std::fmt;

use crate::model::policy::UnknownCause;
use crate::model::signal::{Signal, UnknownSignal};

/// A value that no option takes. A text in it is what was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ValueError {
    Duration(String),
    TooLong(String),
    Condition(String),
    Size(String),
    /// A time limit of zero.
    EndsAtOnce,
    BackoffForm,
    BackoffOrder,
    Signal(UnknownSignal),
    Untrappable(Signal),
    Cause(UnknownCause),
    EmptyName,
    ControlCharacters,
    PairForm,
    LabelName(String),
    TakenLabel(String),
    ListenAddress(String),
    /// A path that the server answers by itself, and with what.
    TakenPath {
        path: &'static str,
        what: &'static str,
    },
    WebPath(String),
    Count(String),
    /// Without the text: there may be a password in it.
    Pushgateway,
    AtLeastOne(String),
    Date(String),
    Since(String),
    /// Also the words that it may be.
    VerdictOrState {
        text: String,
        words: Vec<&'static str>,
    },
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueError::Duration(text) => {
                write!(f, "'{text}' is not a duration: say 90, 1.5s, 250ms, 2m, 1h30m or 1d")
            }
            ValueError::TooLong(text) => write!(f, "'{text}' is longer than ten years"),
            ValueError::Size(text) => write!(f, "'{text}' is not a size: say 4096, 64K, 1M or 2G"),
            ValueError::Condition(word) => write!(
                f,
                "'{word}' is not a condition: say failed, succeeded, verdict=WORD, slower=SPAN, since=WHEN or before=WHEN"
            ),
            ValueError::EndsAtOnce => {
                f.write_str("it would end the job at once: say a duration above 0")
            }
            ValueError::BackoffForm => f.write_str("say MIN..MAX, such as 1s..5m"),
            ValueError::BackoffOrder => f.write_str("the minimum is longer than the maximum"),
            ValueError::Signal(error) => error.fmt(f),
            ValueError::Untrappable(signal) => write!(f, "{signal} cannot be trapped"),
            ValueError::Cause(error) => error.fmt(f),
            ValueError::EmptyName => f.write_str("the name is empty"),
            ValueError::ControlCharacters => f.write_str("the name has control characters in it"),
            ValueError::PairForm => f.write_str("say KEY=VALUE, such as team=physics"),
            ValueError::LabelName(key) => {
                write!(f, "'{key}' is not a label name: letters, digits and _, not a digit first")
            }
            ValueError::TakenLabel(key) => write!(f, "the label '{key}' is in use already"),
            ValueError::ListenAddress(text) => {
                write!(f, "'{text}' is not an address: say PORT, HOST:PORT or [IPV6]:PORT")
            }
            ValueError::TakenPath { path, what } => {
                write!(f, "{path} is {what}: choose another path")
            }
            ValueError::WebPath(text) => write!(f, "'{text}' is not a path such as /metrics"),
            ValueError::Count(text) => {
                write!(f, "'{text}' is not a whole number from 0 to {}", u32::MAX)
            }
            ValueError::Pushgateway => {
                f.write_str("it is not an address: say http://HOST:PORT, with or without a path")
            }
            ValueError::AtLeastOne(text) => write!(f, "'{text}' is not a number of at least 1"),
            ValueError::Date(text) => write!(f, "'{text}' is not a date of the calendar"),
            ValueError::Since(text) => write!(
                f,
                "'{text}' is neither a span (2h, '2 days ago'), nor a day (today, yesterday, monday), nor \
                 a date (2026-11-22, 20261122, 2026-11-22T14:00)"
            ),
            ValueError::VerdictOrState { text, words } => {
                let words = words.join(", ");
                write!(f, "there is no verdict or state '{text}': it is one of {words}")
            }
        }
    }
}

impl std::error::Error for ValueError {}
