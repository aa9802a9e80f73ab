//! `file`: writing, reading and deleting temporary files.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

/// Files of one call.
pub(super) const FILES: usize = 1000;

/// What C's standard library reads and writes at a time.
const BUFFER_BYTES: usize = 4096;

/// Returns how often the character `1` stands in all files together.
///
/// The files have no name (O_TMPFILE), or lose it as soon as they have one: nothing is left
/// behind even by SIGKILL. That saves the filesystem some of the original's work.
pub(super) fn file(directory: &Path, files: usize) -> io::Result<usize> {
    let mut answer = 0;
    for i in 0..files {
        let mut file = tempfile::tempfile_in(directory)?;
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, &file);
        for j in 2..=i + 2 {
            writeln!(out, "{}", i % j)?;
        }
        out.flush()?;
        drop(out);
        file.rewind()?;
        answer += ones(&file)?;
    }
    Ok(answer)
}

/// Counts byte by byte, as the original did.
fn ones(file: &File) -> io::Result<usize> {
    let mut count = 0;
    for byte in BufReader::with_capacity(BUFFER_BYTES, file).bytes() {
        count += usize::from(byte? == b'1');
    }
    Ok(count)
}
