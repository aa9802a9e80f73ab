//! `--quiet-success`: what the job wrote, kept aside until it is known whether anybody wants to see it.
//!
//! It is a file without a name, never a pipe: nothing can block on it, and a descendant that has it open delays no end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::run::start_error::StartError;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// The output of a job, and how much of it is shown.
pub(super) struct KeptOutput {
    file: File,
    bytes_max: u64,
}

impl KeptOutput {
    /// Makes the file in TMPDIR, or in /tmp.
    pub(super) fn new(bytes_max: u64) -> Result<KeptOutput, StartError> {
        let directory = std::env::temp_dir();
        let file = make(&directory);
        let file = file.map_err(StartError::file("keep the job's output in", &directory))?;
        Ok(KeptOutput { file, bytes_max })
    }

    /// Returns a descriptor for the job. All of them have one offset, so that what is written to standard output and
    /// to standard error stands in the order of the writes.
    pub(super) fn descriptor(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Gives what was written, or its first and last part, a piece at a time.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or `put` fails.
    pub(super) fn show(&self, mut put: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let half = self.bytes_max / 2;
        if length <= self.bytes_max {
            return self.part(0, length, &mut put);
        }
        self.part(0, half, &mut put)?;
        let left_out = length - 2 * half;
        put(format!("childminder: {left_out} bytes of output are not shown (--keep-output)\n")
            .as_bytes())?;
        self.part(length - half, length, &mut put)
    }

    /// The last byte that is given ends a line.
    fn part(
        &self,
        from: u64,
        to: u64,
        put: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let (mut at, mut last) = (from, b'\n');
        while at < to {
            let room = usize::try_from(to - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let count = self.file.read_at(&mut buffer[..room], at)?;
            if count == 0 {
                break;
            }
            put(&buffer[..count])?;
            (at, last) = (at + count as u64, buffer[count - 1]);
        }
        if last == b'\n' { Ok(()) } else { put(b"\n") }
    }
}

fn make(directory: &Path) -> io::Result<File> {
    let file = tempfile::tempfile_in(directory)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn shown(written: &[u8], bytes_max: u64) -> String {
        let mut kept = KeptOutput { file: tempfile::tempfile().expect("a file"), bytes_max };
        kept.file.write_all(written).expect("room");
        let mut shown = Vec::new();
        kept.show(|bytes| {
            shown.extend_from_slice(bytes);
            Ok(())
        })
        .expect("it can be read");
        String::from_utf8(shown).expect("text")
    }

    #[test]
    fn all_of_it_is_shown_or_the_first_and_the_last_half() {
        assert_eq!(shown(b"", 10), "");
        assert_eq!(shown(b"one\n", 10), "one\n");
        assert_eq!(shown(b"no end", 10), "no end\n");
        let cut = shown(b"0123456789abcdef\n", 8);
        assert_eq!(
            cut,
            "0123\nchildminder: 9 bytes of output are not shown (--keep-output)\ndef\n"
        );
        let long = vec![b'x'; 3 * CHUNK_BYTES + 7];
        assert_eq!(shown(&long, u64::MAX).len(), long.len() + 1);
    }
}
