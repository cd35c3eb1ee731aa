//! Opus frames that listeners can enter and leave at any point. It encodes one voice at a time and knows no listeners.
//!
//! All listeners share one encoded stream, but each begins and ends where they like, and hears a frame made just for that:
//!
//! ```text
//! fade_in  steady  steady  …  steady  fade_out  silence
//! ```
//!
//! The frames of such a row come out of different encoders, so no frame may lean on what its encoder sent before:
//! - inter-frame prediction is off, so every frame codes its band energies whole and no pitch filter reaches back;
//! - the low-delay application is CELT alone, so encoders can never disagree on the mode.
//!
//! What remains is the overlap of neighbouring MDCT windows, 2.5 ms. A fade-in has risen fully before its frame's end, so
//! the overlap it leaves is that of the steady frame. A fade-out first lets its encoder hear the block before, and
//! is silent long before its end; the last 2.5 ms that are heard of it come with the silent frame.

use opus::{Application, Bandwidth, Bitrate, Channels, Encoder};

use crate::wire::media::{Cut, FRAME_SAMPLES, Frame, Payload, SAMPLE_RATE};

use super::AudioError;
use super::voice::{Block, SILENT_BLOCK};

/// Bits per second; about 160 bytes a frame. A tone keeps 37 dB above its coding noise; with prediction on it would be 13 to 27.
const BIT_RATE: i32 = 64_000;

/// The best that Opus has. From 7 to 10 an encode costs half as much again as below (0.10 ms for 0.066 ms), and it
/// is paid once per voice, not per listener; 10 leaves the smoothest seams of those.
const COMPLEXITY: i32 = 10;

/// More than a frame ever needs, and little enough for one datagram.
const PACKET_BYTES: usize = 1_000;

/// Samples over which a fade runs: 12.5 ms. Shorter fades are heard by the codec as attacks, which cost it precision;
/// longer ones would not be over before the overlap at the end of the frame.
const FADE_SAMPLES: usize = 600;

/// Encodes the blocks of one voice, one after the other, for those who have been listening.
#[derive(Debug)]
pub struct FrameEncoder {
    cut: Cut,
    encoder: Encoder,
    packet: Box<[u8; PACKET_BYTES]>,
}

impl FrameEncoder {
    /// An encoder that has heard nothing.
    ///
    /// # Errors
    /// Where Opus has no memory or refuses a setting.
    pub fn new(cut: Cut) -> Result<Self, AudioError> {
        let mut encoder = Encoder::new(SAMPLE_RATE, Channels::Mono, Application::LowDelay)?;
        encoder.set_bitrate(Bitrate::Bits(BIT_RATE))?;
        encoder.set_complexity(COMPLEXITY)?;
        encoder.set_bandwidth(Bandwidth::Fullband)?;
        encoder.set_prediction_disabled(true)?;
        Ok(Self { cut, encoder, packet: Box::new([0; PACKET_BYTES]) })
    }

    /// Encodes the block that follows the last one.
    ///
    /// # Errors
    /// Where Opus refuses the block.
    pub fn encode(&mut self, block: &Block) -> Result<Frame, AudioError> {
        match self.cut {
            Cut::Whole => Ok(Frame::Whole(self.packet(block)?)),
            Cut::Halves => {
                let (first, second) = block.split_at(FRAME_SAMPLES / 2);
                Ok(Frame::Halves([self.packet(first)?, self.packet(second)?]))
            }
        }
    }

    /// Forgets every block so far.
    fn reset(&mut self) -> Result<(), AudioError> {
        Ok(self.encoder.reset_state()?)
    }

    fn packet(&mut self, samples: &[f32]) -> Result<Payload, AudioError> {
        let length = self.encoder.encode_float(samples, self.packet.as_mut_slice())?;
        Ok(Payload::from(&self.packet[..length]))
    }
}

/// Makes the frames with which listeners begin and end. It carries nothing from one call to the next, so all voices share one.
#[derive(Debug)]
pub struct FadeEncoder {
    frames: FrameEncoder,
    /// Gain of each sample of a fade-in, from 0 to 1 along half a cosine.
    gains: [f32; FADE_SAMPLES],
    faded: Box<Block>,
}

impl FadeEncoder {
    /// Works out the fade.
    ///
    /// # Errors
    /// As [`FrameEncoder::new`].
    pub fn new(cut: Cut) -> Result<Self, AudioError> {
        Ok(Self { frames: FrameEncoder::new(cut)?, gains: raised_cosine(), faded: Box::new(SILENT_BLOCK) })
    }

    /// The frame for those who begin with `block`.
    ///
    /// # Errors
    /// Where Opus refuses the block.
    pub fn fade_in(&mut self, block: &Block) -> Result<Frame, AudioError> {
        *self.faded = *block;
        for (sample, gain) in self.faded.iter_mut().zip(&self.gains) {
            *sample *= gain;
        }
        self.frames.reset()?;
        self.frames.encode(&self.faded)
    }

    /// The frame for those who end with `block`, having heard `previous` before it.
    ///
    /// # Errors
    /// Where Opus refuses a block.
    pub fn fade_out(&mut self, previous: &Block, block: &Block) -> Result<Frame, AudioError> {
        *self.faded = SILENT_BLOCK;
        for ((faded, sample), gain) in self.faded.iter_mut().zip(block).zip(&self.gains) {
            *faded = sample * (1.0 - gain);
        }
        self.frames.reset()?;
        // The overlap at the start of the frame is the one that the listeners' decoders hold.
        self.frames.encode(previous)?;
        self.frames.encode(&self.faded)
    }

    /// The frame that ends what a fade-out has left in the overlap.
    ///
    /// # Errors
    /// Where Opus refuses.
    pub fn silence(&mut self) -> Result<Frame, AudioError> {
        self.frames.reset()?;
        self.frames.encode(&SILENT_BLOCK)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred samples, all exact in f32")]
fn raised_cosine() -> [f32; FADE_SAMPLES] {
    std::array::from_fn(|sample| {
        let turn = (sample as f32 + 0.5) / FADE_SAMPLES as f32;
        0.5 - 0.5 * (std::f32::consts::PI * turn).cos()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::ear::{Ear, hertz, peak, slope, steepest};
    use crate::audio::voices::VOICES;
    use crate::wire::media::FRAME_SAMPLES;

    /// How much steeper than the tone itself coding noise may make it.
    const NOISE: f64 = 1.05;
    /// -60 dBFS.
    const INAUDIBLE: f64 = 0.001;

    /// The frequencies of [`VOICES`], in their order.
    const HERTZ: [f64; 3] = [220.0, 440.0, 880.0];

    /// The blocks of a voice and what its listeners share of it.
    struct Programme {
        blocks: Vec<Block>,
        steady: Vec<Frame>,
        limit: f64,
    }

    fn programme(cut: Cut, index: usize, frames: usize) -> Programme {
        let mut voice = (VOICES[index].make)();
        let mut encoder = FrameEncoder::new(cut).expect("Opus starts");
        let mut block = SILENT_BLOCK;
        let blocks: Vec<_> = std::iter::repeat_with(|| {
            voice.render(&mut block);
            block
        })
        .take(frames)
        .collect();
        let steady = blocks.iter().map(|block| encoder.encode(block).expect("it encodes")).collect();
        Programme { blocks, steady, limit: slope(0.3, HERTZ[index]) * NOISE }
    }

    /// One listener who begins with frame `from`, ends with frame `to` and hears one frame of silence.
    fn listen(ear: &mut Ear, fades: &mut FadeEncoder, programme: &Programme, from: usize, to: usize) {
        ear.hear(&fades.fade_in(&programme.blocks[from]).expect("it encodes"));
        programme.steady[from + 1..to].iter().for_each(|payload| ear.hear(payload));
        let fade_out = fades.fade_out(&programme.blocks[to - 1], &programme.blocks[to]);
        ear.hear(&fade_out.expect("it encodes"));
        ear.hear(&fades.silence().expect("it encodes"));
    }

    #[test]
    fn nobody_hears_a_click_wherever_they_begin_and_end() {
        for (cut, index) in Cut::ALL.into_iter().flat_map(|cut| (0..VOICES.len()).map(move |index| (cut, index))) {
            let mut fades = FadeEncoder::new(cut).expect("Opus starts");
            let programme = programme(cut, index, 64);
            for from in 0..60 {
                let mut ear = Ear::new();
                listen(&mut ear, &mut fades, &programme, from, from + 1 + from % 3);
                let steepest = steepest(ear.since(0));
                assert!(steepest <= programme.limit, "{cut:?}: {steepest} > {} from frame {from}", programme.limit);
                let tail = &ear.heard()[ear.heard().len() - FRAME_SAMPLES..];
                assert!(peak(&tail[240..]) < INAUDIBLE, "5 ms into silence, voice {index} from {from}");
            }
        }
    }

    #[test]
    fn a_listener_of_three_voices_hears_each_at_its_pitch_and_no_seam() {
        let mut fades = Cut::ALL.map(|cut| FadeEncoder::new(cut).expect("Opus starts"));
        let mut ear = Ear::new();
        for (cut, from, order) in [(Cut::Whole, 0, [0, 1, 2]), (Cut::Whole, 57, [2, 0, 1]), (Cut::Halves, 3, [1, 2, 0])]
        {
            let fades = &mut fades[cut as usize];
            for index in order {
                let programme = programme(cut, index, from + 60);
                let begun = ear.heard().len() / FRAME_SAMPLES;
                listen(&mut ear, fades, &programme, from, from + 55);
                assert!(steepest(ear.since(begun)) <= programme.limit);
                let steady = &ear.since(begun)[FRAME_SAMPLES * 2..FRAME_SAMPLES * 52];
                assert!((hertz(steady) - HERTZ[index]).abs() < 1.0, "{}", hertz(steady));
                assert!((peak(steady) - 0.3).abs() < 0.02, "{}", peak(steady));
            }
        }
    }

    #[test]
    fn a_switch_fades_out_in_one_frame_and_in_with_the_next() {
        let pairs = (0..VOICES.len()).flat_map(|old| (0..VOICES.len()).map(move |new| (old, new)));
        for (cut, (old, new)) in pairs.flat_map(|pair| Cut::ALL.map(|cut| (cut, pair))) {
            let mut fades = FadeEncoder::new(cut).expect("Opus starts");
            {
                let (old, new) = (programme(cut, old, 34), programme(cut, new, 44));
                for at in 20..32 {
                    let mut ear = Ear::new();
                    old.steady[at - 5..at].iter().for_each(|payload| ear.hear(payload));
                    ear.hear(&fades.fade_out(&old.blocks[at - 1], &old.blocks[at]).expect("it encodes"));
                    ear.hear(&fades.fade_in(&new.blocks[at + 1]).expect("it encodes"));
                    new.steady[at + 2..at + 5].iter().for_each(|payload| ear.hear(payload));
                    // The first frame is left out: this decoder began in the middle of a steady stream.
                    assert!(steepest(ear.since(2)) <= old.limit.max(new.limit));
                }
            }
        }
    }

    #[test]
    fn every_frame_is_fullband_celt_of_its_length_and_small() {
        // RFC 6716 section 3.1: the configuration, one channel, one frame.
        for (cut, configuration, count) in [(Cut::Whole, 31, 1), (Cut::Halves, 30, 2)] {
            let silence = FadeEncoder::new(cut).and_then(|mut fades| fades.silence()).expect("it encodes");
            for frame in programme(cut, 1, 50).steady.iter().chain([&silence]) {
                assert_eq!(frame.payloads().len(), count);
                for payload in frame.payloads() {
                    assert_eq!(payload[0], configuration << 3);
                    assert!(payload.len() <= 400, "{}", payload.len());
                }
            }
            assert!(silence.payloads().iter().all(|payload| payload.len() <= 3), "{silence:?}");
        }
    }

    #[test]
    fn fades_do_not_depend_on_what_was_faded_before() {
        for cut in Cut::ALL {
            let mut fades = FadeEncoder::new(cut).expect("Opus starts");
            let [low, high] = [0, 2].map(|index| programme(cut, index, 3).blocks);
            let first = fades.fade_out(&low[1], &low[2]).expect("it encodes");
            fades.fade_in(&high[0]).expect("it encodes");
            assert_eq!(fades.fade_out(&low[1], &low[2]).expect("it encodes"), first);
        }
    }
}
