//! The memory of a process, as those see it who only read it.

/// Reads at addresses of another process.
pub trait Memory {
    /// Fills the beginning of `into` from `address` on; returns how many bytes could be read.
    fn read(&self, address: u64, into: &mut [u8]) -> usize;

    /// Fills the whole of `into`; `None` if a part cannot be read.
    fn fill(&self, address: u64, into: &mut [u8]) -> Option<()> {
        (self.read(address, into) == into.len()).then_some(())
    }

    fn bytes(&self, address: u64, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.fill(address, &mut bytes).map(|()| bytes)
    }

    fn byte(&self, address: u64) -> Option<u8> {
        let mut byte = [0];
        self.fill(address, &mut byte).map(|()| byte[0])
    }

    fn half(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.fill(address, &mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.fill(address, &mut bytes).map(|()| u64::from_le_bytes(bytes))
    }
}
