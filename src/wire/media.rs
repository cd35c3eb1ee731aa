//! Media time and the Opus frames that `audio` makes and `engine` sends. Media time is counted in samples, never read from a clock.

use std::sync::Arc;

use super::ids::VoiceKey;

/// Samples per second inside the server; also the RTP clock rate of Opus (RFC 7587 section 4.1).
pub const SAMPLE_RATE: u32 = 48_000;

/// Samples in a frame of 20 ms, mono.
pub const FRAME_SAMPLES: usize = 960;

/// The same as [`FRAME_SAMPLES`], as media time counts it.
pub const FRAME_TICKS: u64 = FRAME_SAMPLES as u64;

/// A point on the media clock: samples at 48 kHz since the audio engine began. Frames alone advance it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MediaTime(pub u64);

impl MediaTime {
    /// The low 32 bits, as an RTP timestamp counts (RFC 3550 section 5.1).
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "an RTP timestamp wraps by definition")]
    pub const fn rtp(self) -> u32 {
        self.0 as u32
    }
}

/// One encoded Opus packet. Every listener's RTP packets share the same bytes.
pub type Payload = Arc<[u8]>;

/// What one shared voice offers its listeners in one turn of 20 ms.
#[derive(Clone, Debug)]
pub struct VoiceFrames {
    /// Whose frames these are.
    pub voice: VoiceKey,
    /// For those who have been listening.
    pub steady: Payload,
    /// For those who begin with this frame; made when somebody asked to join.
    pub fade_in: Option<Payload>,
    /// For those who end with this frame; made when somebody asked to leave.
    pub fade_out: Option<Payload>,
}

/// Everything that is played in one turn of 20 ms.
#[derive(Clone, Debug)]
pub struct AudioTurn {
    /// Media time of the first sample of each frame in this turn.
    pub time: MediaTime,
    /// An encoded frame of silence: follows a fade-out, because Opus looks ahead 2.5 ms.
    pub silence: Payload,
    /// The live voices; one that had no block ready is missing.
    pub voices: Vec<VoiceFrames>,
}

impl AudioTurn {
    /// The frames of `voice`, if it has any in this turn.
    #[must_use]
    pub fn voice(&self, voice: VoiceKey) -> Option<&VoiceFrames> {
        self.voices.iter().find(|frames| frames.voice == voice)
    }
}
