//! For tests: a listener's ear. It decodes what one listener would get, with one decoder, and measures what it hears.

use opus::{Channels, Decoder};

use crate::wire::media::{FRAME_SAMPLES, Frame, SAMPLE_RATE};

/// One listener's decoder, and every sample that came out of it.
pub struct Ear {
    decoder: Decoder,
    heard: Vec<f32>,
}

impl Ear {
    pub fn new() -> Self {
        let decoder = Decoder::new(SAMPLE_RATE, Channels::Mono).expect("Opus has this rate");
        Self { decoder, heard: Vec::new() }
    }

    pub fn hear(&mut self, frame: &Frame) {
        let before = self.heard.len();
        for payload in frame.payloads() {
            let mut samples = [0.0; FRAME_SAMPLES];
            let decoded = self.decoder.decode_float(payload, &mut samples, false).expect("it is an Opus packet");
            self.heard.extend_from_slice(&samples[..decoded]);
        }
        assert_eq!(self.heard.len() - before, FRAME_SAMPLES);
    }

    pub fn heard(&self) -> &[f32] {
        &self.heard
    }

    /// The frames from `first` on, with the last sample before them, so that the seam is measured too.
    pub fn since(&self, first: usize) -> &[f32] {
        &self.heard[(first * FRAME_SAMPLES).saturating_sub(1)..]
    }
}

/// The largest step from one sample to the next.
pub fn steepest(samples: &[f32]) -> f64 {
    samples.windows(2).map(|pair| f64::from((pair[1] - pair[0]).abs())).fold(0.0, f64::max)
}

/// The largest step of a pure tone.
pub fn slope(amplitude: f64, hertz: f64) -> f64 {
    amplitude * std::f64::consts::TAU * hertz / f64::from(SAMPLE_RATE)
}

pub fn peak(samples: &[f32]) -> f64 {
    samples.iter().map(|sample| f64::from(sample.abs())).fold(0.0, f64::max)
}

/// The frequency of a tone, from its upward zero crossings.
pub fn hertz(samples: &[f32]) -> f64 {
    let mut crossings = Vec::new();
    let mut at = 0.0;
    for pair in samples.windows(2) {
        if pair[0] < 0.0 && pair[1] >= 0.0 {
            crossings.push(at + f64::from(pair[0] / (pair[0] - pair[1])));
        }
        at += 1.0;
    }
    let (first, last) = (crossings[0], crossings[crossings.len() - 1]);
    let periods = u32::try_from(crossings.len() - 1).expect("few");
    f64::from(periods) * f64::from(SAMPLE_RATE) / (last - first)
}
