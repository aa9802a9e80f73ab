//! Answers that go to a file which the user named.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::files::{Directory, Links};

/// Writes a file that is there whole or not at all; another kind of file (a pipe, a device) is written to directly.
///
/// # Errors
///
/// Of open(2), write(2) and rename(2).
pub fn write_file(path: &Path, text: &str) -> std::io::Result<()> {
    let is_special = std::fs::metadata(path).is_ok_and(|meta| !meta.is_file());
    let Some(name) = path.file_name().filter(|_| !is_special) else {
        return std::fs::write(path, text);
    };
    let above = path.parent().unwrap_or(Path::new(""));
    let directory = Directory::open(above, Links::Trusted)?;
    let mut file = directory.begin(0o600)?;
    file.write_all(text.as_bytes())?;
    file.file().set_permissions(Permissions::from_mode(directory.mode_for_others(name)))?;
    file.replace(name)
}
