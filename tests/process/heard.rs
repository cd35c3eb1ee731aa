//! What a listener heard: packets decoded in the order of their RTP time, and what can be measured on them.

use std::f64::consts::TAU;

use str0m::rtp::RtpPacket;
use voxcast::wire::media::{FRAME_SAMPLES, SAMPLE_RATE};

/// Amplitude of the tones.
const AMPLITUDE: f64 = 0.3;

/// Decoded sound of one listener.
pub struct Heard {
    decoder: opus::Decoder,
    /// Every decoded frame with its RTP time and marker.
    packets: Vec<(u32, bool)>,
    last_seq: Option<u64>,
    /// Packets may be left out.
    pub may_miss: bool,
    /// Frames that came after a hole: a machine that is too busy makes the server skip a turn.
    holes: Vec<usize>,
    pcm: Vec<f32>,
}

impl Default for Heard {
    fn default() -> Self {
        let decoder = opus::Decoder::new(SAMPLE_RATE, opus::Channels::Mono).expect("a decoder");
        Self { decoder, packets: Vec::new(), last_seq: None, may_miss: false, holes: Vec::new(), pcm: Vec::new() }
    }
}

impl Heard {
    pub fn packet(&mut self, packet: &RtpPacket) {
        let seq = *packet.seq_no;
        // On loopback nothing is lost, and nothing overtakes; who does not listen is told what is new.
        let expected = |last| if self.may_miss { seq > last } else { seq == last + 1 };
        assert!(self.last_seq.is_none_or(expected), "{:?} then {seq}", self.last_seq);
        self.last_seq = Some(seq);
        let mut samples = [0.0; FRAME_SAMPLES];
        let count = self.decoder.decode_float(&packet.payload, &mut samples, false).expect("an Opus packet");
        assert_eq!(count, FRAME_SAMPLES);
        let (time, marker) = (packet.header.timestamp, packet.header.marker);
        if self
            .packets
            .last()
            .is_some_and(|(before, _)| !marker && time.wrapping_sub(*before) as usize != FRAME_SAMPLES)
        {
            self.holes.push(self.packets.len());
        }
        self.packets.push((time, marker));
        self.pcm.extend(samples);
    }

    pub fn frames(&self) -> usize {
        self.packets.len()
    }

    /// RTP time moves by whole frames; only a marked packet may come after a longer pause.
    pub fn assert_time_is_true(&self) {
        for (place, pair) in self.packets.windows(2).enumerate() {
            let ((before, _), (time, marker)) = (pair[0], pair[1]);
            let step = time.wrapping_sub(before);
            assert_eq!(step as usize % FRAME_SAMPLES, 0, "packet {place}");
            assert!(marker == (step as usize > 6 * FRAME_SAMPLES), "packet {place}: {step} samples, marker {marker}");
        }
        assert!(self.packets.first().is_none_or(|(_, marker)| *marker), "the first packet is marked");
    }

    /// Whether the last `frames` frames are there and have no hole.
    pub fn is_whole(&self, frames: usize) -> bool {
        let from = self.frames().checked_sub(frames);
        from.is_some_and(|from| self.holes.last().is_none_or(|hole| *hole <= from))
    }

    /// The sound of the last `frames` frames.
    pub fn last(&self, frames: usize) -> &[f32] {
        &self.pcm[self.pcm.len() - frames * FRAME_SAMPLES..]
    }

    /// No step between two samples, anywhere but at a hole, is larger than a tone of `highest` Hz makes by itself.
    pub fn assert_no_click(&self, highest: f64) {
        /// As long as a frame overlaps with the one before it: 2.5 ms.
        const OVERLAP: usize = 120;
        assert!(self.holes.len() * 10 <= self.frames(), "{} holes in {} frames", self.holes.len(), self.frames());
        let allowed = AMPLITUDE * TAU * highest / f64::from(SAMPLE_RATE) * 1.05;
        let at_hole = |place: usize| {
            self.holes.contains(&((place + 1) / FRAME_SAMPLES)) && (place + 1) % FRAME_SAMPLES <= OVERLAP
        };
        let steps = self.pcm.windows(2).map(|pair| f64::from((pair[1] - pair[0]).abs())).enumerate();
        let (place, worst) = steps
            .filter(|(place, _)| !at_hole(*place))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .expect("something was heard");
        assert!(
            worst <= allowed,
            "a step of {worst:.4} at sample {place} (frame {}), {allowed:.4} allowed",
            place / FRAME_SAMPLES
        );
    }
}

/// The frequency of a tone in Hz, by the distance of its first and last rising zero crossing.
pub fn pitch(pcm: &[f32]) -> f64 {
    let crossings: Vec<f64> = pcm
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| pair[0] < 0.0 && pair[1] >= 0.0)
        .map(|(place, pair)| place as f64 + f64::from(-pair[0] / (pair[1] - pair[0])))
        .collect();
    assert!(crossings.len() > 10, "no tone: {} crossings", crossings.len());
    (crossings.len() - 1) as f64 * f64::from(SAMPLE_RATE) / (crossings[crossings.len() - 1] - crossings[0])
}

/// Root mean square in dB of full scale.
pub fn level(pcm: &[f32]) -> f64 {
    let square = pcm.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / pcm.len() as f64;
    10.0 * square.max(1e-20).log10()
}
