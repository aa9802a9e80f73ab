//! Why the shared file is not used, and why a file beside it is not merged.

use std::fmt;
use std::io;

use crate::record::row::csv::RowError;

/// Why rows cannot be written there.
#[derive(Debug)]
pub(super) enum Unfit {
    /// Something is in the way: the rows go into a file of their own.
    Hindered(&'static str, io::Error),
    /// It lacks columns of ours, which would be lost.
    Narrow,
    /// Neither it nor the folder beside it may be written to.
    Refused(&'static str),
}

/// Why a file beside a record cannot be merged as it is.
#[derive(Debug)]
pub enum NotMerged {
    /// It cannot be opened or read.
    Read(io::Error),
    /// Its first line is not the header of a record.
    NotARecord,
    /// A line is not a row.
    Row(RowError),
    /// A row is of another user than the file.
    AnothersRow {
        /// Whose the file is.
        owner: u32,
        /// The cell of the row.
        uid: String,
    },
}

impl fmt::Display for NotMerged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotMerged::Read(error) => error.fmt(f),
            NotMerged::NotARecord => f.write_str("it is not a record of childminder"),
            NotMerged::Row(error) => error.fmt(f),
            NotMerged::AnothersRow { owner, uid } => {
                write!(f, "it belongs to uid {owner} and has a row of uid '{uid}'")
            }
        }
    }
}
