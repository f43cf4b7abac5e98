//! Random numbers, from outside.

/// Where ids, jitter and keys come from.
pub trait Chance: Send + Sync {
    /// Fills `bytes`. In a broker process they are fit for keys; in a simulation they follow from its seed.
    fn fill(&self, bytes: &mut [u8]);

    /// A number, evenly distributed.
    fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }
}
