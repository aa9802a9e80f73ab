//! Consumers of events. They see facts and nothing else: not the child, not the supervisor.
//!
//! The failure of a sink never changes the run: it is returned, and reported once by `run`.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::model::event::Event;
use crate::model::history::RunHistory;
use crate::model::text::Escaped;
use crate::model::time::Stamp;

mod behind;
pub mod console;
pub mod log_file;
mod outlet;
pub mod past;
pub mod record;
pub mod stats;

/// Something that wants to know all events.
pub trait Sink {
    /// Takes one in, with the history of the run up to it.
    ///
    /// # Errors
    ///
    /// It could not be kept; the run goes on, and so do the other sinks.
    fn publish(
        &mut self,
        stamp: Stamp,
        event: &Event,
        history: &RunHistory,
    ) -> Result<(), SinkError>;
}

/// A consumer that failed.
#[derive(Debug)]
pub struct SinkError {
    /// What we tried, with its object.
    pub action: &'static str,
    /// The file, directory or stream.
    pub target: PathBuf,
    pub source: io::Error,
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}'", self.action, Escaped(&self.target.to_string_lossy()))
    }
}

impl std::error::Error for SinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
