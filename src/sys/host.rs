//! The host.

use std::ffi::OsString;

/// Returns the name of the host (gethostname(2)); empty if it has none.
#[must_use]
pub fn name() -> OsString {
    nix::unistd::gethostname().unwrap_or_default()
}
