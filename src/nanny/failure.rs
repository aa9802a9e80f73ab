//! Why there is no answer, and the exit status of an empty one.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::model::text::Escaped;

/// The exit status of an answer that is empty, as grep(1) has it, or of a rerun that failed.
pub const NOTHING: u8 = 1;

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// Something that was named cannot be read or written.
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// The answer cannot be written.
    Write(io::Error),
    /// It cannot be done, and why.
    Refused(String),
}

impl Failure {
    /// Returns whether nobody reads the answer any more.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::File { action, path, .. } => {
                write!(f, "{action} {}", Escaped(&path.to_string_lossy()))
            }
            Failure::Write(_) => f.write_str("write the answer"),
            Failure::Refused(why) => write!(f, "{}", Escaped(why)),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Failure::File { source, .. } | Failure::Write(source) => Some(source),
            Failure::Refused(_) => None,
        }
    }
}

impl From<io::Error> for Failure {
    /// For writes to `out`; whatever else can fail names its file.
    fn from(error: io::Error) -> Failure {
        Failure::Write(error)
    }
}
