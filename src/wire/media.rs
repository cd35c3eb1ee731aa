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

/// How long a listener's packets are.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum FrameLength {
    /// 10 ms.
    Ten,
    /// 20 ms, for whoever does not ask.
    #[default]
    Twenty,
    /// 40 ms.
    Forty,
    /// 60 ms.
    Sixty,
}

impl FrameLength {
    /// The longest that is not longer than both, in milliseconds (RFC 8866 section 6.4); 10 ms where even that is too long.
    #[must_use]
    pub fn wanted(ptime: Option<f64>, maxptime: Option<f64>) -> Self {
        let limit = maxptime.unwrap_or(f64::INFINITY).min(ptime.unwrap_or(20.0));
        let fits = |length: &Self| f64::from(length.ms()) <= limit;
        [Self::Sixty, Self::Forty, Self::Twenty].into_iter().find(fits).unwrap_or(Self::Ten)
    }

    /// In milliseconds.
    #[must_use]
    pub const fn ms(self) -> u8 {
        match self {
            Self::Ten => 10,
            Self::Twenty => 20,
            Self::Forty => 40,
            Self::Sixty => 60,
        }
    }

    /// Which frames go into such packets.
    #[must_use]
    pub const fn cut(self) -> Cut {
        match self {
            Self::Ten => Cut::Halves,
            Self::Twenty | Self::Forty | Self::Sixty => Cut::Whole,
        }
    }
}

/// How a turn of 20 ms is encoded. Longer packets hold several whole frames: Opus has no longer ones of this kind itself.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Cut {
    /// As one frame of 20 ms.
    #[default]
    Whole,
    /// As two frames of 10 ms.
    Halves,
}

impl Cut {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Whole, Self::Halves];
}

/// What an audience listens to: a voice, in one of its cuts.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tap {
    /// The voice.
    pub voice: VoiceKey,
    /// Its cut.
    pub cut: Cut,
}

impl From<VoiceKey> for Tap {
    /// The voice in whole frames.
    fn from(voice: VoiceKey) -> Self {
        Self { voice, cut: Cut::Whole }
    }
}

/// One encoded Opus packet. Every listener's RTP packets share the same bytes.
pub type Payload = Arc<[u8]>;

/// 20 ms of sound.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// One packet of 20 ms.
    Whole(Payload),
    /// Two packets of 10 ms.
    Halves([Payload; 2]),
}

impl Frame {
    /// Its packets, in order.
    #[must_use]
    pub fn payloads(&self) -> &[Payload] {
        match self {
            Self::Whole(payload) => std::slice::from_ref(payload),
            Self::Halves(payloads) => payloads,
        }
    }
}

/// What one tap offers its listeners in one turn of 20 ms.
#[derive(Clone, Debug)]
pub struct TapFrames {
    /// Whose frames these are.
    pub tap: Tap,
    /// For those who have been listening.
    pub steady: Frame,
    /// For those who begin with this frame; made when somebody asked to join.
    pub fade_in: Option<Frame>,
    /// For those who end with this frame; made when somebody asked to leave.
    pub fade_out: Option<Frame>,
}

/// Everything that is played in one turn of 20 ms.
#[derive(Clone, Debug)]
pub struct AudioTurn {
    /// Media time of the first sample of each frame in this turn.
    pub time: MediaTime,
    /// Encoded silence, in each cut by its place: follows a fade-out, because Opus looks ahead 2.5 ms.
    pub silence: [Frame; Cut::ALL.len()],
    /// The taps that somebody listens to; one whose voice had no block ready is missing.
    pub taps: Vec<TapFrames>,
}

impl AudioTurn {
    /// The frames of `tap`, if it has any in this turn.
    #[must_use]
    pub fn frames(&self, tap: Tap) -> Option<&TapFrames> {
        self.taps.iter().find(|frames| frames.tap == tap)
    }

    /// Silence in this cut.
    #[must_use]
    pub fn silence(&self, cut: Cut) -> &Frame {
        &self.silence[cut as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_packet_that_suits_is_chosen() {
        let table = [
            (None, None, 20),
            (Some(10.0), None, 10),
            (Some(20.0), None, 20),
            (Some(30.0), None, 20),
            (Some(40.0), None, 40),
            (Some(60.0), None, 60),
            (Some(120.0), None, 60),
            (Some(60.0), Some(40.0), 40),
            (Some(10.0), Some(120.0), 10),
            (None, Some(60.0), 20),
            (None, Some(10.0), 10),
            (Some(2.5), None, 10),
        ];
        for (ptime, maxptime, ms) in table {
            assert_eq!(FrameLength::wanted(ptime, maxptime).ms(), ms, "ptime {ptime:?}, maxptime {maxptime:?}");
        }
    }
}
