//! What the user sees on standard error: nothing as long as all is well, and the verdict when the
//! job failed.

use std::io::{self, Write};

use crate::model::event::Event;
use crate::model::text::Printable;
use crate::sink::{Sink, SinkError, Stamp};

/// Standard error, for the few lines that are worth it.
#[derive(Default)]
pub struct Console;

impl Console {
    /// Writes a line of our own, led by our name as is usual.
    ///
    /// # Errors
    ///
    /// Of write(2): nobody is left to be told.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        io::stderr().write_all(format!("childminder: {}\n", Printable(text)).as_bytes())
    }
}

impl Sink for Console {
    fn publish(&mut self, _: Stamp, event: &Event) -> Result<(), SinkError> {
        let is_news = match event {
            Event::Judged(verdict) => !verdict.kind.is_success() || verdict.evidence.len() > 1,
            Event::RestartsExhausted { .. } | Event::RestartRefused { .. } => true,
            Event::WantsTerminal { .. } => true,
            _ => false,
        };
        if !is_news {
            return Ok(());
        }
        self.say(&event.to_string()).map_err(|source| SinkError {
            action: "write to",
            target: "stderr".into(),
            source,
        })
    }
}
