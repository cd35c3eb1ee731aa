//! What a listener makes of the packets: decoded sound, its pitch and its loudness.

use opus::{Channels, Decoder};

use crate::wire::media::{FRAME_SAMPLES, FRAME_TICKS};

use super::net::Heard;

/// Frames that a decoder needs after a gap until its sound is true again.
const RECOVERY: usize = 3;

/// A stretch of sound without a gap.
#[derive(Debug, Default)]
pub struct Stretch {
    /// The samples, at 48 kHz.
    pub pcm: Vec<f32>,
}

impl Stretch {
    /// The pitch in Hz: rising zero crossings, placed between two samples by interpolation.
    pub fn pitch(&self) -> f64 {
        let mut crossings = (0_u32..).zip(self.pcm.windows(2)).filter_map(|(place, pair)| {
            let (before, after) = (f64::from(pair[0]), f64::from(pair[1]));
            (before < 0.0 && after >= 0.0).then(|| f64::from(place) + before / (before - after))
        });
        let Some(first) = crossings.next() else { return 0.0 };
        let (count, last) = crossings.fold((0_u32, first), |(count, _), at| (count + 1, at));
        48_000.0 * f64::from(count) / (last - first).max(1.0)
    }

    /// The root of the mean square.
    pub fn loudness(&self) -> f32 {
        let power: f64 = self.pcm.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        let count = u32::try_from(self.pcm.len().max(1)).expect("a minute has few samples");
        #[expect(clippy::cast_possible_truncation, reason = "a loudness needs no 52 bits")]
        let loudness = (power / f64::from(count)).sqrt() as f32;
        loudness
    }
}

/// Decodes what was heard, as a player does: in order, late packets sorted in, lost ones concealed. The stretches between two
/// gaps come out, without the frames after a gap in which the decoder finds its way back.
pub fn listen(heard: &[Heard]) -> Vec<Stretch> {
    listen_to(heard, FRAME_SAMPLES)
}

/// As [`listen`], with packets of so many samples.
pub fn listen_to(heard: &[Heard], samples: usize) -> Vec<Stretch> {
    let mut decoder = Decoder::new(48_000, Channels::Mono).expect("opus makes decoders");
    let mut frames: Vec<&Heard> = heard.iter().collect();
    frames.sort_by_key(|frame| frame.seq);
    frames.dedup_by_key(|frame| frame.seq);
    let mut stretches = Vec::new();
    let mut stretch = Stretch::default();
    let mut expected = None;
    let mut since = 0;
    for frame in frames {
        if let Some(expected) = expected
            && frame.seq != expected
        {
            stretches.push(std::mem::take(&mut stretch));
            for _ in expected..frame.seq.min(expected + 5) {
                decode(&mut decoder, &[], samples);
            }
            since = 0;
        }
        expected = Some(frame.seq + 1);
        let pcm = decode(&mut decoder, &frame.payload, samples);
        if since >= RECOVERY {
            stretch.pcm.extend(pcm);
        }
        since += 1;
    }
    stretches.push(stretch);
    stretches
}

fn decode(decoder: &mut Decoder, packet: &[u8], samples: usize) -> Vec<f32> {
    let mut pcm = vec![0.0; samples];
    let made = decoder.decode_float(packet, &mut pcm, false).expect("a server sends good Opus");
    assert_eq!(made, samples, "a packet is as long as was asked for");
    pcm
}

/// The pitch in the middle of all stretches of at least `frames` frames.
pub fn median_pitch(stretches: &[Stretch], frames: usize) -> f64 {
    let mut pitches: Vec<f64> =
        stretches.iter().filter(|stretch| stretch.pcm.len() >= frames * FRAME_SAMPLES).map(Stretch::pitch).collect();
    assert!(!pitches.is_empty(), "no stretch is long enough");
    pitches.sort_by(f64::total_cmp);
    pitches[pitches.len() / 2]
}

/// Checks that sequence numbers and RTP time have no hole from packet to packet, as on a link without loss.
#[track_caller]
pub fn assert_continuous(heard: &[Heard]) {
    for pair in heard.windows(2) {
        assert_eq!(pair[1].seq, pair[0].seq + 1, "a hole in the sequence");
        assert_eq!(u64::from(pair[1].time.wrapping_sub(pair[0].time)), FRAME_TICKS, "a hole in RTP time");
    }
}
