//! Pure tones. One of a whole number of hertz repeats after a whole number of samples: it is worked out once, and is as exact after a year
//! as at its start.

use std::f64::consts::TAU;

use crate::audio::voice::{Block, Voice, VoiceInfo};
use crate::wire::media::SAMPLE_RATE;

/// Peak of every tone: -10.5 dBFS, loud enough for a phone's speaker and far from clipping.
pub const AMPLITUDE: f64 = 0.3;

/// The A below middle C.
pub const LOW: VoiceInfo = VoiceInfo {
    id: "sine-220",
    name: "Low Tone (220 Hz)",
    description: "A pure low tone, the A below middle C.",
    make: || Box::new(Sine::new(220)),
};

/// The A above middle C, to which orchestras tune.
pub const MID: VoiceInfo = VoiceInfo {
    id: "sine-440",
    name: "Mid Tone (440 Hz)",
    description: "A pure tone in the middle, the A to which orchestras tune.",
    make: || Box::new(Sine::new(440)),
};

/// An octave above that.
pub const HIGH: VoiceInfo = VoiceInfo {
    id: "sine-880",
    name: "High Tone (880 Hz)",
    description: "A pure high tone, an octave above the tuning A.",
    make: || Box::new(Sine::new(880)),
};

/// A sine of a whole number of hertz.
struct Sine {
    /// All samples until it repeats.
    period: Vec<f32>,
    /// The place of the next one.
    next: usize,
}

impl Sine {
    fn new(hertz: u32) -> Self {
        // In 48,000ths of a turn.
        let phases =
            std::iter::successors(Some(0), |phase| Some((phase + hertz) % SAMPLE_RATE).filter(|phase| *phase != 0));
        Self { period: phases.map(at).collect(), next: 0 }
    }
}

/// The sample at this phase, in 48,000ths of a turn.
#[expect(clippy::cast_possible_truncation, reason = "samples are f32; only precision is lost")]
fn at(phase: u32) -> f32 {
    let turns = f64::from(phase) / f64::from(SAMPLE_RATE);
    (AMPLITUDE * (TAU * turns).sin()) as f32
}

impl Voice for Sine {
    fn render(&mut self, block: &mut Block) {
        let mut rest = &mut block[..];
        while !rest.is_empty() {
            let ahead = &self.period[self.next..];
            let (now, later) = rest.split_at_mut(rest.len().min(ahead.len()));
            now.copy_from_slice(&ahead[..now.len()]);
            self.next = (self.next + now.len()) % self.period.len();
            rest = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::voice::SILENT_BLOCK;
    use crate::wire::media::FRAME_SAMPLES;

    #[test]
    fn a_tone_goes_on_across_blocks_and_repeats_exactly_every_second() {
        let mut sine = Sine::new(440);
        let mut first = SILENT_BLOCK;
        sine.render(&mut first);
        let (mut last, mut block) = (first, SILENT_BLOCK);
        let slope = AMPLITUDE * TAU * 440.0 / f64::from(SAMPLE_RATE);
        for _ in 1..50 {
            sine.render(&mut block);
            assert!(f64::from((block[0] - last[FRAME_SAMPLES - 1]).abs()) <= slope);
            last = block;
        }
        sine.render(&mut block);
        assert_eq!(block.map(f32::to_bits), first.map(f32::to_bits));
    }

    #[test]
    fn every_sample_is_that_of_its_phase() {
        // One repeats after two samples, one in the middle of a block, one after a second.
        for hertz in [24_000, 880, 220, 7] {
            let (mut sine, mut block) = (Sine::new(hertz), SILENT_BLOCK);
            let mut phase = 0;
            for _ in 0..60 {
                sine.render(&mut block);
                for sample in block {
                    assert_eq!(sample.to_bits(), at(phase).to_bits(), "{hertz} Hz, phase {phase}");
                    phase = (phase + hertz) % SAMPLE_RATE;
                }
            }
        }
    }

    #[test]
    fn a_tone_is_as_loud_as_it_says() {
        let mut block = SILENT_BLOCK;
        Sine::new(880).render(&mut block);
        let peak = block.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        assert!((f64::from(peak) - AMPLITUDE).abs() < 1e-4, "{peak}");
    }
}
