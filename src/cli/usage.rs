//! One line for each way in which a command line can be wrong: what was typed, what is wrong with
//! it, and what to type.

use std::fmt;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::model::text::Escaped;

/// A command line that cannot be carried out: one line that names the thing, what is wrong with
/// it and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.0))
    }
}

impl std::error::Error for UsageError {}

/// Makes one line of a message that clap writes on several.
pub(super) fn one_line(error: &clap::Error) -> String {
    known(error).unwrap_or_else(|| rendered(error))
}

/// The sentence for the kinds of mistake that people make. Values longer than a line are not cut:
/// they are what the user typed.
fn known(error: &clap::Error) -> Option<String> {
    let argument = || option_name(error);
    Some(match error.kind() {
        ErrorKind::UnknownArgument => {
            let similar = suggestion(error, ContextKind::SuggestedArg);
            format!("unexpected argument '{}'{similar}", argument()?)
        }
        ErrorKind::InvalidSubcommand => {
            let similar = suggestion(error, ContextKind::SuggestedSubcommand);
            format!("unknown command '{}'{similar}", text(error, ContextKind::InvalidSubcommand)?)
        }
        ErrorKind::InvalidValue => {
            let value = text(error, ContextKind::InvalidValue)?;
            let choices = list(error, ContextKind::ValidValue).map(|words| alternatives(&words));
            match (value.as_str(), choices) {
                ("", None) => format!("'{}' needs a value{}", argument()?, value_name(error)),
                ("", Some(choices)) => format!("'{}' needs a value: {choices}", argument()?),
                (value, choices) => {
                    let choices = choices.map(|words| format!(": say {words}"));
                    let choices = choices.unwrap_or_default();
                    format!("invalid value '{value}' for '{}'{choices}", argument()?)
                }
            }
        }
        ErrorKind::ValueValidation => {
            let (value, name) = (text(error, ContextKind::InvalidValue)?, argument()?);
            let why = std::error::Error::source(error)?.to_string();
            let value = without_secrets(&value);
            // Our own parsers name the value where that makes the better sentence.
            match why.starts_with(&format!("'{value}'")) {
                true => format!("invalid value for '{name}': {why}"),
                false => format!("invalid value '{value}' for '{name}': {why}"),
            }
        }
        ErrorKind::TooManyValues => {
            let value = text(error, ContextKind::InvalidValue)?;
            format!("'{}' takes no value, but '{value}' was given", argument()?)
        }
        ErrorKind::ArgumentConflict => {
            let other = text(error, ContextKind::PriorArg)?;
            format!("'{}' cannot be used with '{}'", argument()?, first_word(&other))
        }
        _ => return None,
    })
}

/// A password may stand in front of the last `@` of an address, a key behind its `?`.
fn without_secrets(value: &str) -> String {
    let value = match value.rsplit_once('@') {
        Some((_, rest)) => format!("...@{rest}"),
        None => value.to_owned(),
    };
    match value.split_once('?') {
        Some((address, query)) if query.contains('=') => format!("{address}?..."),
        _ => value,
    }
}

/// The option without the name of its value.
fn option_name(error: &clap::Error) -> Option<String> {
    text(error, ContextKind::InvalidArg).map(|name| first_word(&name).to_owned())
}

/// `: DURATION`, as the help names the value of that option.
fn value_name(error: &clap::Error) -> String {
    let argument = text(error, ContextKind::InvalidArg).unwrap_or_default();
    match argument.split_once(' ') {
        Some((_, name)) => format!(": {}", name.trim_matches(['<', '>'])),
        None => String::new(),
    }
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or(text)
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => list(error, kind)?.into_iter().next(),
    }
}

fn list(error: &clap::Error, kind: ContextKind) -> Option<Vec<String>> {
    match error.get(kind)? {
        ContextValue::Strings(texts) if !texts.is_empty() => Some(texts.clone()),
        _ => None,
    }
}

fn suggestion(error: &clap::Error, kind: ContextKind) -> String {
    match text(error, kind) {
        Some(similar) => format!("; did you mean '{similar}'?"),
        None => String::new(),
    }
}

/// `a, b or c`.
pub(super) fn alternatives<S: AsRef<str>>(words: &[S]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// clap's own words, on one line, without its usage.
fn rendered(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraph: Vec<&str> =
        text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:")).collect();
    let line = paragraph.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    let line = line.split(" For more information").next().unwrap_or(line);
    line.to_owned()
}
