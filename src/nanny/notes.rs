//! What is said beside an answer, on standard error.

use std::io::{self, Write};

use crate::model::text::Escaped;
use crate::model::wrap::wrapped;
use crate::sys::terminal;

/// Says something beside the answer, on one line of standard error.
pub fn note(text: &str) {
    complain(&Escaped(text).to_string());
}

/// Writes one line to standard error; on a terminal it is broken between words. The text holds no
/// control characters.
pub fn complain(text: &str) {
    let mut line = format!("nanny: {text}");
    if let Some(width) = terminal::columns(io::stderr()) {
        line = wrapped(&line, width, 2);
    }
    line.push('\n');
    // In one write: others write there, too. If standard error is closed, the status still says it.
    io::stderr().write_all(line.as_bytes()).ok();
}
