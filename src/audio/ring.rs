//! The way from the real-time thread to the encoder: a lock-free ring of whole blocks. It never waits and never passes part of a block.

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::wire::media::FRAME_SAMPLES;

use super::counters::RingCounters;
use super::voice::Block;

/// Blocks that a ring holds: the generator's lead and one to spare.
pub const RING_BLOCKS: usize = 5;

/// There was no room for a whole block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Full;

/// There was no whole block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Empty;

/// A ring of [`RING_BLOCKS`] blocks.
#[must_use]
pub fn block_ring(counters: &Arc<RingCounters>) -> (BlockProducer, BlockConsumer) {
    let (producer, consumer) = RingBuffer::new(RING_BLOCKS * FRAME_SAMPLES);
    (
        BlockProducer { ring: producer, counters: Arc::clone(counters) },
        BlockConsumer { ring: consumer, counters: Arc::clone(counters) },
    )
}

/// The generator's end.
#[derive(Debug)]
pub struct BlockProducer {
    ring: Producer<f32>,
    counters: Arc<RingCounters>,
}

impl BlockProducer {
    /// Pushes the whole block.
    ///
    /// # Errors
    /// [`Full`], counted, where the ring has no room for all of it; then nothing is pushed.
    pub fn push(&mut self, block: &Block) -> Result<(), Full> {
        self.ring.push_entire_slice(block).map_err(|_| {
            self.counters.full.add(1);
            Full
        })
    }

    /// Blocks that wait to be popped.
    #[must_use]
    pub fn blocks(&self) -> usize {
        RING_BLOCKS - self.ring.slots() / FRAME_SAMPLES
    }

    /// Whether the other end is gone for good.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }
}

/// The encoder's end. Dropping it tells the generator to stop.
#[derive(Debug)]
pub struct BlockConsumer {
    ring: Consumer<f32>,
    counters: Arc<RingCounters>,
}

impl BlockConsumer {
    /// Pops a whole block into `block`.
    ///
    /// # Errors
    /// [`Empty`], counted, where there is none; then `block` is as it was.
    pub fn pop(&mut self, block: &mut Block) -> Result<(), Empty> {
        self.ring.pop_entire_slice(block).map_err(|_| {
            self.counters.empty.add(1);
            Empty
        })
    }

    /// Blocks that can be popped.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.ring.slots() / FRAME_SAMPLES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audio::voice::SILENT_BLOCK;

    #[test]
    fn an_empty_ring_is_counted_and_leaves_the_block_alone() {
        let counters = Arc::default();
        let (_producer, mut consumer) = block_ring(&counters);
        let mut block = [0.5; FRAME_SAMPLES];
        assert_eq!(consumer.pop(&mut block), Err(Empty));
        assert_eq!(block[0].to_bits(), 0.5_f32.to_bits());
        assert_eq!((counters.full.value(), counters.empty.value()), (0, 1));
    }

    #[test]
    fn a_dropped_consumer_is_noticed() {
        let (producer, consumer) = block_ring(&Arc::default());
        assert!(!producer.is_abandoned());
        drop(consumer);
        assert!(producer.is_abandoned());
    }

    proptest! {
        #[test]
        fn blocks_come_out_whole_and_in_order(pushes in prop::collection::vec(any::<bool>(), 1..200)) {
            let counters = Arc::default();
            let (mut producer, mut consumer) = block_ring(&counters);
            let (mut pushed, mut popped, mut full, mut empty) = (0_u16, 0_u16, 0, 0);
            for push in pushes {
                if push {
                    match producer.push(&[f32::from(pushed); FRAME_SAMPLES]) {
                        Ok(()) => pushed += 1,
                        Err(Full) => full += 1,
                    }
                } else {
                    let mut block = SILENT_BLOCK;
                    match consumer.pop(&mut block) {
                        Ok(()) => {
                            prop_assert!(block.iter().all(|sample| sample.to_bits() == f32::from(popped).to_bits()));
                            popped += 1;
                        }
                        Err(Empty) => empty += 1,
                    }
                }
                prop_assert_eq!(producer.blocks(), usize::from(pushed - popped));
                prop_assert_eq!(consumer.blocks(), producer.blocks());
            }
            prop_assert_eq!((counters.full.value(), counters.empty.value()), (full, empty));
        }
    }
}
