//! Where the columns of a header stand: for readers that take single cells out of a line.

use crate::record::row::{Column, Header};

impl Header {
    /// Returns how many columns it has.
    #[must_use]
    pub fn width(&self) -> usize {
        self.names.len()
    }

    /// Returns where that column stands, from 0.
    #[must_use]
    pub fn position(&self, column: Column) -> Option<usize> {
        self.columns.iter().position(|one| *one == Some(column))
    }
}
