//! Reads the log of a childminder: is every line whole, and which signals are in it?

use std::fs;
use std::path::Path;

use crate::Fallible;

/// A log that was read.
pub struct Log {
    text: String,
}

impl Log {
    /// Reads the only log in the place's default log directory.
    pub fn read(place: &Path) -> Fallible<Log> {
        let files: Vec<_> = fs::read_dir(place.join("log"))?.flatten().collect();
        let [file] = &files[..] else {
            return Err(format!("{} logs instead of one", files.len()).into());
        };
        Ok(Log { text: String::from_utf8_lossy(&fs::read(file.path())?).into_owned() })
    }

    /// How many signals were recorded.
    pub fn received(&self) -> usize {
        self.messages().filter(|message| message.starts_with("signal ")).count()
    }

    /// The integers of sigqueue(3), in the order of the log.
    pub fn values(&self) -> Vec<i32> {
        let value = |message: &str| {
            let (_, rest) = message.strip_prefix("signal ")?.split_once(" with value ")?;
            rest.split('.').next()?.parse().ok()
        };
        self.messages().filter_map(value).collect()
    }

    /// Says what is wrong with it: a torn line, or no verdict at its end.
    pub fn fault(&self) -> Option<String> {
        if let Some(line) = self.text.lines().find(|line| message(line).is_none()) {
            return Some(format!("torn line '{}'", line.escape_debug()));
        }
        let is_ended = self.text.ends_with('\n')
            && self.messages().last().is_some_and(|message| message.starts_with("verdict: "));
        (!is_ended).then(|| "the log has no end".to_owned())
    }

    fn messages(&self) -> impl Iterator<Item = &str> {
        self.text.lines().filter_map(message)
    }
}

/// Returns the message of a line `YYYYMMDDTHHMMSS.uuuuuu [+S.uuuuuu](host): message`, if it is a
/// whole one.
fn message(line: &str) -> Option<&str> {
    let (time, rest) = line.split_once(" [+")?;
    let (elapsed, rest) = rest.split_once("](")?;
    let (host, message) = rest.split_once("): ")?;
    let (seconds, micros) = elapsed.split_once('.')?;
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_whole = shape == "99999999T999999.999999"
        && is_number(seconds)
        && is_number(micros)
        && micros.len() == 6
        && !host.is_empty()
        && is_whole_message(message);
    is_whole.then_some(message)
}

/// A signal's message ends with its sender's command, or with a remark in brackets.
fn is_whole_message(message: &str) -> bool {
    let has_control = message.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER);
    let is_cut = message.starts_with("signal ")
        && message.contains(". Signal sent by ")
        && !message.ends_with([')', ']']);
    !message.is_empty() && !has_control && !is_cut
}
