//! What the audio path counts. Counts only rise; nothing here is reset, rated or exported.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count that any thread may raise without waiting.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Raises the count by `amount`.
    pub fn add(&self, amount: u64) {
        // Relaxed: a count orders nothing else.
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The count since the start.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often rings did not suit their users; one for all rings of the process.
#[derive(Debug, Default)]
pub struct RingCounters {
    /// Blocks that found no room. The generator stops at its lead, so this stays at zero in health.
    pub full: Counter,
    /// Turns that found no block: the generator was late.
    pub empty: Counter,
}

/// Everything that the audio path counts, shared by its threads and whoever reports it.
#[derive(Debug, Default)]
pub struct AudioCounters {
    /// Encodes for those who have been listening: one per live voice and turn.
    pub steady: Counter,
    /// Encodes with a fade-in.
    pub fade_in: Counter,
    /// Encodes with a fade-out.
    pub fade_out: Counter,
    /// Frames never made, because the encoder thread woke too late for them.
    pub skipped: Counter,
    /// Frames of one voice that the encoder refused.
    pub faults: Counter,
    /// Blocks refused by a full ring, and turns that found an empty one.
    pub ring: Arc<RingCounters>,
}
