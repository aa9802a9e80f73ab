//! Why the shared file is not used.

use std::io;

/// Why rows cannot be written there.
#[derive(Debug)]
pub(super) enum Unfit {
    /// Something is in the way: the rows go into a file of their own.
    Hindered(&'static str, io::Error),
    /// It lacks columns of ours, which would be lost.
    Narrow,
    /// It is not ours to write to, nor is what is beside it.
    Refused(&'static str),
}
