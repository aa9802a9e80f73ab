//! Where a row is: the number of its file, and the offset in it.

/// Where a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowPlace(u64);

/// Bits of a place that are the offset: 128 TiB.
const OFFSET_BITS: u32 = 47;

impl RowPlace {
    /// The place of that number, for tests of what keeps places.
    #[cfg(test)]
    pub(crate) fn at(number: u64) -> RowPlace {
        RowPlace(number)
    }

    pub(super) fn new(file: usize, offset: u64) -> RowPlace {
        RowPlace(((file as u64) << OFFSET_BITS) | offset)
    }

    /// Returns the number of its file.
    #[must_use]
    pub fn file(self) -> usize {
        (self.0 >> OFFSET_BITS) as usize
    }

    pub(super) fn offset(self) -> u64 {
        self.0 & ((1 << OFFSET_BITS) - 1)
    }
}
