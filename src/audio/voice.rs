//! What a voice is: something that renders blocks of samples. It does not know who listens, nor when.

use crate::wire::media::FRAME_SAMPLES;

/// 20 ms of mono samples at 48 kHz, nominally within -1.0 to 1.0.
pub type Block = [f32; FRAME_SAMPLES];

/// A block without sound.
pub const SILENT_BLOCK: Block = [0.0; FRAME_SAMPLES];

/// A source of sound. It runs on the real-time thread.
pub trait Voice: Send {
    /// Renders the next 20 ms, continuing where the last block ended.
    ///
    /// It must not allocate, free, lock, log, wait or panic.
    fn render(&mut self, block: &mut Block);
}

/// How a voice is offered to people, and how it is made.
#[derive(Clone, Copy, Debug)]
pub struct VoiceInfo {
    /// What clients ask for; never changes once published.
    pub id: &'static str,
    /// What people read in a list.
    pub name: &'static str,
    /// One sentence on what is heard.
    pub description: &'static str,
    /// Makes the voice from its beginning. Not called on the real-time thread, so it may allocate.
    pub make: fn() -> Box<dyn Voice>,
}
