//! The real-time side: renders the live voices into their rings. [`Generator::turn`] allocates, frees, locks and logs nothing,
//! and does not know the time.
//!
//! Voices come and go by two rings of their own, so that they are made and freed on the encoder's thread. A voice ends
//! when its ring's consumer is dropped: there is no message for it that could be lost.

use rtrb::{Consumer, Producer, RingBuffer};

use super::pace::MAX_BURST;
use super::ring::{BlockProducer, RING_BLOCKS};
use super::voice::{Block, SILENT_BLOCK, Voice};

/// Voices that may be live at once.
pub const MAX_LIVE_VOICES: usize = 64;

/// Blocks that the generator keeps ahead of the encoder. It looks once in 20 ms, and in that time an encoder that was late
/// may take a whole burst and the frame that comes due after it.
pub const LEAD_BLOCKS: usize = 4;

const _: () = assert!(LEAD_BLOCKS as u64 > MAX_BURST && LEAD_BLOCKS < RING_BLOCKS);

/// A voice and the ring that it fills.
pub struct Source {
    /// What is rendered.
    pub voice: Box<dyn Voice>,
    /// Where it goes.
    pub ring: BlockProducer,
}

/// A generator without voices, and what controls it from another thread.
#[must_use]
pub fn generator() -> (Generator, GeneratorControl) {
    let (start, started) = RingBuffer::new(MAX_LIVE_VOICES);
    let (retire, retired) = RingBuffer::new(MAX_LIVE_VOICES);
    let sources = Vec::with_capacity(MAX_LIVE_VOICES);
    (Generator { sources, started, retire, block: SILENT_BLOCK }, GeneratorControl { start, retired })
}

/// Renders; belongs to the real-time thread.
pub struct Generator {
    /// Never longer than the capacity that it was made with.
    sources: Vec<Source>,
    started: Consumer<Source>,
    retire: Producer<Source>,
    block: Block,
}

impl Generator {
    /// Lets go of the sources that nobody reads, takes on new ones, and brings every ring up to its lead.
    ///
    /// Returns how many sources are live: at zero there is nothing to do until [`GeneratorControl::start`] was called.
    pub fn turn(&mut self) -> usize {
        self.retire();
        self.admit();
        for source in &mut self.sources {
            while source.ring.blocks() < LEAD_BLOCKS {
                source.voice.render(&mut self.block);
                if source.ring.push(&self.block).is_err() {
                    break;
                }
            }
        }
        self.sources.len()
    }

    /// Sends abandoned sources back to be freed. One for which there is no room stays until there is.
    fn retire(&mut self) {
        let mut at = 0;
        while let Some(source) = self.sources.get(at) {
            if !source.ring.is_abandoned() {
                at += 1;
            } else if self.retire.is_full() {
                break;
            } else {
                let source = self.sources.swap_remove(at);
                let pushed = self.retire.push(source);
                debug_assert!(pushed.is_ok(), "there was room, and nobody else pushes");
            }
        }
    }

    fn admit(&mut self) {
        while self.sources.len() < MAX_LIVE_VOICES {
            let Ok(source) = self.started.pop() else {
                break;
            };
            self.sources.push(source);
        }
    }
}

/// Starts voices and frees them; belongs to the encoder's thread.
pub struct GeneratorControl {
    start: Producer<Source>,
    retired: Consumer<Source>,
}

impl GeneratorControl {
    /// Hands a source to the generator, which fills its ring in its next turn.
    ///
    /// # Errors
    /// The source itself, where too many already wait for that turn; offer it again.
    pub fn start(&mut self, source: Source) -> Result<(), Source> {
        self.start.push(source).map_err(|rtrb::PushError::Full(source)| source)
    }

    /// Frees what the generator has let go of, and returns how many sources that were.
    pub fn reap(&mut self) -> usize {
        std::iter::from_fn(|| self.retired.pop().ok()).count()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use assert_no_alloc::{AllocDisabler, assert_no_alloc, violation_count};

    use super::*;
    use crate::audio::ring::{BlockConsumer, block_ring};
    use crate::audio::voices::VOICES;

    /// Counts what allocates or frees inside `assert_no_alloc`; elsewhere it is the system's allocator.
    #[global_allocator]
    static ALLOCATOR: AllocDisabler = AllocDisabler;

    /// How often `work` allocated or freed.
    fn allocations<T>(work: impl FnOnce() -> T) -> (T, u32) {
        let before = violation_count();
        let result = assert_no_alloc(work);
        (result, violation_count() - before)
    }

    fn source(index: usize) -> (Source, BlockConsumer) {
        let (ring, consumer) = block_ring(&Arc::default());
        let voice = (VOICES[index % VOICES.len()].make)();
        (Source { voice, ring }, consumer)
    }

    fn start(control: &mut GeneratorControl, index: usize) -> BlockConsumer {
        let (source, consumer) = source(index);
        assert!(control.start(source).is_ok());
        consumer
    }

    #[test]
    fn a_turn_neither_allocates_nor_frees() {
        let (mut generator, mut control) = generator();
        let mut block = SILENT_BLOCK;
        for round in 0..3 {
            let mut consumers: Vec<_> = (0..MAX_LIVE_VOICES).map(|index| start(&mut control, index)).collect();
            assert_eq!(allocations(|| generator.turn()), (MAX_LIVE_VOICES, 0), "starting, round {round}");
            for consumer in &mut consumers {
                consumer.pop(&mut block).expect("the lead is there");
            }
            assert_eq!(allocations(|| generator.turn()), (MAX_LIVE_VOICES, 0), "running, round {round}");
            drop(consumers);
            assert_eq!(allocations(|| generator.turn()), (0, 0), "ending, round {round}");
            assert_eq!(control.reap(), MAX_LIVE_VOICES);
        }
    }

    #[test]
    fn an_allocation_would_be_noticed() {
        struct Careless;
        impl Voice for Careless {
            fn render(&mut self, block: &mut Block) {
                let copy = std::hint::black_box(block.to_vec());
                block.copy_from_slice(&copy);
            }
        }
        let (mut generator, mut control) = generator();
        let (ring, _consumer) = block_ring(&Arc::default());
        assert!(control.start(Source { voice: Box::new(Careless), ring }).is_ok());
        assert!(allocations(|| generator.turn()).1 > 0);
    }

    #[test]
    fn rings_are_kept_at_the_lead_and_never_overfilled() {
        let (mut generator, mut control) = generator();
        let mut consumer = start(&mut control, 0);
        let mut block = SILENT_BLOCK;
        for popped in 0..=LEAD_BLOCKS {
            (0..popped).for_each(|_| consumer.pop(&mut block).expect("the lead is there"));
            generator.turn();
            assert_eq!(consumer.blocks(), LEAD_BLOCKS);
        }
    }

    #[test]
    fn too_many_voices_wait_and_none_is_lost() {
        let (mut generator, mut control) = generator();
        let first: Vec<_> = (0..MAX_LIVE_VOICES).map(|index| start(&mut control, index)).collect();
        assert_eq!(generator.turn(), MAX_LIVE_VOICES);
        let second: Vec<_> = (0..MAX_LIVE_VOICES).map(|index| start(&mut control, index)).collect();
        let (one_more, _consumer) = source(0);
        assert!(control.start(one_more).is_err(), "the way to the generator is full");
        assert_eq!(generator.turn(), MAX_LIVE_VOICES);
        assert!(second.iter().all(|consumer| consumer.blocks() == 0), "no place for them yet");
        drop(first);
        assert_eq!(generator.turn(), MAX_LIVE_VOICES);
        assert!(second.iter().all(|consumer| consumer.blocks() == LEAD_BLOCKS));
        drop(second);
        assert_eq!(generator.turn(), MAX_LIVE_VOICES, "nobody has reaped, so there is no room to give them back");
        assert_eq!(control.reap(), MAX_LIVE_VOICES);
        assert_eq!(generator.turn(), 0);
    }
}
