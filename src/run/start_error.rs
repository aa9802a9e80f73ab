//! Why a run was not started.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::text::Escaped;
use crate::sink::SinkError;
use crate::sys::SysError;

/// What could not be done before the job was started. Nothing is left behind.
#[derive(Debug)]
pub enum StartError {
    /// A file or directory of the plan.
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    Log(SinkError),
    System(SysError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::File { action, path, .. } => {
                write!(f, "{action} '{}'", Escaped(&path.to_string_lossy()))
            }
            StartError::Log(error) => write!(f, "{error} (-l)"),
            StartError::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::File { source, .. } => Some(source),
            StartError::Log(error) => error.source(),
            StartError::System(error) => error.source(),
        }
    }
}

impl From<SysError> for StartError {
    fn from(error: SysError) -> StartError {
        StartError::System(error)
    }
}

impl StartError {
    /// Names what was tried, and with which file.
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError {
        let path = path.to_owned();
        move |source| StartError::File { action, path, source }
    }
}
