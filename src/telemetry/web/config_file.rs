//! Files that the configuration of the web server names, and what is wrong with them.

use std::fmt;
use std::path::Path;

use crate::files::{self, Links, Owner};

/// Far more than any such file has.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why the file cannot be used.
#[derive(Debug)]
pub(super) struct ConfigError(String);

impl ConfigError {
    pub(super) fn new(text: impl Into<String>) -> ConfigError {
        ConfigError(text.into())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a file of ordinary size; the error names it.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let named = |error: &dyn fmt::Display| ConfigError(format!("{}: {error}", path.display()));
    let bytes = files::read(path, Owner::Anybody, Links::Trusted, FILE_BYTES_MAX);
    let text = bytes.map_err(|error| named(&error))?;
    String::from_utf8(text).map_err(|_| named(&"it is not UTF-8"))
}
