//! A file that gets its name when it is complete, or never.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use nix::fcntl::{AtFlags, renameat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

/// A file that has no name of its own yet. It is removed if it gets none.
#[derive(Debug)]
pub struct NewFile<'a> {
    directory: BorrowedFd<'a>,
    name: Option<OsString>,
    file: File,
}

impl<'a> NewFile<'a> {
    pub(super) fn new(directory: BorrowedFd<'a>, name: OsString, file: File) -> NewFile<'a> {
        NewFile { directory, name: Some(name), file }
    }

    /// The file, to be written.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Takes the name from whatever has it (rename(2)); a link of that name is replaced, not
    /// followed.
    ///
    /// # Errors
    ///
    /// Of rename(2); the file is removed.
    pub fn replace(mut self, name: &OsStr) -> io::Result<()> {
        let Some(temporary) = &self.name else { return Ok(()) };
        renameat(self.directory, temporary.as_os_str(), self.directory, name)?;
        self.name = None;
        Ok(())
    }

    /// Takes a name that nothing has (link(2)).
    ///
    /// # Errors
    ///
    /// Of link(2): `AlreadyExists` if something has it. The file is removed.
    pub fn keep_as(self, name: &OsStr) -> io::Result<()> {
        let Some(temporary) = &self.name else { return Ok(()) };
        let directory = self.directory;
        linkat(directory, temporary.as_os_str(), directory, name, AtFlags::empty())?;
        // Dropped: the temporary name goes, the other stays.
        Ok(())
    }
}

impl Write for NewFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Nobody else knows the name; what cannot be removed is an empty or half file.
            unlinkat(self.directory, name.as_os_str(), UnlinkatFlags::NoRemoveDir).ok();
        }
    }
}
