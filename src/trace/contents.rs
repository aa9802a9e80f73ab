//! The contents of mapped files, as the readers at the edge give them.

use std::ops::Range;

use crate::trace::maps::Map;

/// A file that is read and never mapped: one that is cut meanwhile would end us by SIGBUS.
pub trait Contents {
    /// Returns how many bytes it has now.
    fn length(&self) -> u64;

    /// Fills `into` from that offset on; `None` if the file is shorter.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Option<()>;

    /// Returns a range of it; `None` if it is not in the file or longer than `max`: a damaged header may ask for
    /// anything.
    fn range(&self, range: &Range<u64>, max: u64) -> Option<Vec<u8>> {
        let bytes = range.end.checked_sub(range.start).filter(|bytes| *bytes <= max)?;
        if range.end > self.length() {
            return None;
        }
        let mut all = vec![0; usize::try_from(bytes).ok()?];
        self.read_at(range.start, &mut all).map(|()| all)
    }
}

impl Contents for Vec<u8> {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Option<()> {
        let from = usize::try_from(offset).ok()?;
        into.copy_from_slice(self.get(from..from.checked_add(into.len())?)?);
        Some(())
    }
}

/// Finds the file behind a mapping.
pub trait MappedFiles {
    /// Opens it, and only if it is still the one that is mapped.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, for the report.
    fn open(&self, map: &Map) -> Result<Box<dyn Contents>, &'static str>;
}
