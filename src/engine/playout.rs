//! Frames of shared voices into one listener's RTP stream: who fades when, sequence numbers, RTP time, the marker bit. It encodes nothing.

use crate::wire::ids::VoiceKey;
use crate::wire::media::{AudioTurn, FRAME_TICKS, MediaTime, Payload};

/// What the audience of a voice must be told. For every `Join` there is one `Leave` or `Abandon`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AudienceNote {
    /// One more listener: a fade-in is wanted in the next turn.
    Join(VoiceKey),
    /// One listener fewer: a fade-out is wanted in the next turn.
    Leave(VoiceKey),
    /// One listener fewer, without a word.
    Abandon(VoiceKey),
}

/// One RTP packet's worth.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlayoutPacket {
    /// Extended sequence number.
    pub seq: u64,
    /// RTP timestamp (48 kHz).
    pub time: u32,
    /// Set on the first packet after silence (RFC 3551 section 4.1).
    pub marker: bool,
    /// The shared Opus packet.
    pub payload: Payload,
}

/// A fade that has not come after so many turns was lost on the way, with its turn: it is asked for anew.
const LOST: u8 = 3;
/// Silent frames sent at most while a voice warms up after a switch: five turns, 100 ms.
const BRIDGE: u8 = 5;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Silent,
    /// Waits for a fade-in. `bridge` silent frames may fill the time, where sound came before.
    Joining {
        voice: VoiceKey,
        bridge: u8,
        waited: u8,
    },
    Playing {
        voice: VoiceKey,
    },
    /// Waits for a fade-out, then goes on to `next`.
    Leaving {
        voice: VoiceKey,
        next: Option<VoiceKey>,
        waited: u8,
    },
    /// Owes one silent frame: Opus looks ahead 2.5 ms.
    Tail,
}

/// One listener's place in the audio.
#[derive(Debug)]
pub struct Playout {
    state: State,
    /// Added to the shared media time, so that timestamps begin anywhere (RFC 3550 section 5.1).
    offset: u32,
    seq: u64,
    /// Media time right after the last frame sent.
    expected: Option<u64>,
    /// Samples of sound sent since `start`.
    played: u64,
}

impl Playout {
    /// `random` makes the first timestamp and sequence number unguessable.
    #[must_use]
    pub fn new(random: [u8; 6]) -> Self {
        let [offset @ .., high, low] = random;
        Self {
            state: State::Silent,
            offset: u32::from_be_bytes(offset),
            // Half of the range: the receiver cannot know a rollover that comes before its first packet (RFC 3711 section 3.3.1).
            seq: u64::from(u16::from_be_bytes([high, low]) >> 1),
            expected: None,
            played: 0,
        }
    }

    /// Plays `voice` from the next turn on.
    pub fn start(&mut self, voice: VoiceKey, mut note: impl FnMut(AudienceNote)) {
        self.state = match self.state {
            State::Silent => {
                self.played = 0;
                note(AudienceNote::Join(voice));
                State::Joining { voice, bridge: 0, waited: 0 }
            }
            State::Tail => {
                self.played = 0;
                note(AudienceNote::Join(voice));
                State::Joining { voice, bridge: BRIDGE, waited: 0 }
            }
            State::Joining { voice: old, bridge, .. } if old != voice => {
                note(AudienceNote::Abandon(old));
                note(AudienceNote::Join(voice));
                State::Joining { voice, bridge, waited: 0 }
            }
            State::Playing { voice: old } if old != voice => {
                note(AudienceNote::Leave(old));
                State::Leaving { voice: old, next: Some(voice), waited: 0 }
            }
            State::Leaving { voice: old, next, waited } => {
                if next.is_none() {
                    self.played = 0;
                }
                State::Leaving { voice: old, next: Some(voice), waited }
            }
            same => same,
        };
    }

    /// Fades out.
    pub fn stop(&mut self, mut note: impl FnMut(AudienceNote)) {
        self.state = match self.state {
            State::Joining { voice, bridge, .. } => {
                note(AudienceNote::Abandon(voice));
                if bridge > 0 { State::Tail } else { State::Silent }
            }
            State::Playing { voice } => {
                note(AudienceNote::Leave(voice));
                State::Leaving { voice, next: None, waited: 0 }
            }
            State::Leaving { voice, waited, .. } => State::Leaving { voice, next: None, waited },
            quiet => quiet,
        };
    }

    /// The listener is gone: nothing more will be asked for.
    pub fn abandon(&mut self, mut note: impl FnMut(AudienceNote)) {
        // A leaver has been counted out already.
        if let State::Joining { voice, .. } | State::Playing { voice } = self.state {
            note(AudienceNote::Abandon(voice));
        }
        self.state = State::Silent;
    }

    /// What this turn sends, if anything.
    pub fn turn(&mut self, turn: &AudioTurn, mut note: impl FnMut(AudienceNote)) -> Option<PlayoutPacket> {
        let (payload, sound) = match self.state {
            State::Silent => return None,
            State::Tail => {
                self.state = State::Silent;
                (turn.silence.clone(), false)
            }
            State::Joining { voice, bridge, waited } => {
                if let Some(fade_in) = turn.voice(voice).and_then(|frames| frames.fade_in.clone()) {
                    self.state = State::Playing { voice };
                    (fade_in, true)
                } else {
                    if waited == LOST {
                        note(AudienceNote::Join(voice));
                        note(AudienceNote::Abandon(voice));
                    }
                    let waited = if waited == LOST { 0 } else { waited + 1 };
                    self.state = State::Joining { voice, bridge: bridge.saturating_sub(1), waited };
                    if bridge == 0 {
                        return None;
                    }
                    (turn.silence.clone(), false)
                }
            }
            State::Playing { voice } => (turn.voice(voice)?.steady.clone(), true),
            State::Leaving { voice, next, waited } => {
                let frames = turn.voice(voice);
                if frames.is_none() && waited < LOST {
                    // A turn without a block: the fade-out comes with the next one.
                    self.state = State::Leaving { voice, next, waited: waited + 1 };
                    return None;
                }
                if let Some(frames) = frames
                    && frames.fade_out.is_none()
                {
                    if waited == LOST {
                        note(AudienceNote::Join(voice));
                        note(AudienceNote::Leave(voice));
                    }
                    let waited = if waited == LOST { 0 } else { waited + 1 };
                    self.state = State::Leaving { voice, next, waited };
                    (frames.steady.clone(), true)
                } else {
                    self.state = match next {
                        Some(voice) => {
                            note(AudienceNote::Join(voice));
                            State::Joining { voice, bridge: BRIDGE, waited: 0 }
                        }
                        None => State::Tail,
                    };
                    // A voice that has had no block for so long has gone silent already.
                    match frames.and_then(|frames| frames.fade_out.clone()) {
                        Some(fade_out) => (fade_out, true),
                        None => (turn.silence.clone(), false),
                    }
                }
            }
        };
        Some(self.packet(turn.time.0, payload, sound))
    }

    /// Whether turns are wanted.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state != State::Silent
    }

    /// Samples of sound sent since the last `start` out of silence, at 48 kHz.
    #[must_use]
    pub fn played(&self) -> u64 {
        self.played
    }

    fn packet(&mut self, time: u64, payload: Payload, sound: bool) -> PlayoutPacket {
        // A gap of a frame or two is a loss that the decoder conceals, not a new talkspurt.
        let marker = self.expected.is_none_or(|expected| time > expected + 5 * FRAME_TICKS);
        self.expected = Some(time + FRAME_TICKS);
        let seq = self.seq;
        self.seq += 1;
        if sound {
            self.played += FRAME_TICKS;
        }
        let rtp = MediaTime(time).rtp().wrapping_add(self.offset);
        PlayoutPacket { seq, time: rtp, marker, payload }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::media::VoiceFrames;
    use std::collections::HashMap;

    const LOW: VoiceKey = VoiceKey(0);
    const HIGH: VoiceKey = VoiceKey(1);

    /// Stands where the audio engine stands: counts the audience, gives fades when they were asked for.
    #[derive(Default)]
    struct Booth {
        turn: u64,
        listeners: HashMap<VoiceKey, i32>,
        fading: Vec<AudienceNote>,
        notes: Vec<AudienceNote>,
    }

    impl Booth {
        fn hear(&mut self, note: AudienceNote) {
            let (voice, change) = match note {
                AudienceNote::Join(voice) => (voice, 1),
                AudienceNote::Leave(voice) | AudienceNote::Abandon(voice) => (voice, -1),
            };
            *self.listeners.entry(voice).or_default() += change;
            assert!(self.listeners[&voice] >= 0, "{note:?}");
            self.fading.push(note);
            self.notes.push(note);
        }

        fn turn(&mut self, playout: &mut Playout) -> Option<String> {
            let mut voices = Vec::new();
            for voice in [LOW, HIGH] {
                let word = |word: &str| -> Payload { format!("{word}{}", voice.0).into_bytes().into() };
                let fading = std::mem::take(&mut self.fading);
                let (mine, other) = fading.into_iter().partition::<Vec<_>, _>(|note| {
                    matches!(note, AudienceNote::Join(of) | AudienceNote::Leave(of) | AudienceNote::Abandon(of) if *of == voice)
                });
                self.fading = other;
                let fade_in = mine.contains(&AudienceNote::Join(voice)).then(|| word("in"));
                let fade_out = mine.contains(&AudienceNote::Leave(voice)).then(|| word("out"));
                if self.listeners.get(&voice).is_some_and(|count| *count > 0) || fade_out.is_some() {
                    voices.push(VoiceFrames { voice, steady: word("on"), fade_in, fade_out });
                }
            }
            let turn = AudioTurn { time: MediaTime(self.turn * FRAME_TICKS), silence: (*b"quiet").into(), voices };
            self.turn += 1;
            let mut notes = Vec::new();
            let packet = playout.turn(&turn, |note| notes.push(note));
            for note in notes {
                self.hear(note);
            }
            packet.map(|packet| {
                let mark = if packet.marker { "!" } else { "" };
                format!("{}{mark}", String::from_utf8_lossy(&packet.payload))
            })
        }

        fn story(&mut self, playout: &mut Playout, turns: usize) -> String {
            (0..turns).map(|_| self.turn(playout).unwrap_or_else(|| "-".into())).collect::<Vec<_>>().join(" ")
        }
    }

    fn start(booth: &mut Booth, playout: &mut Playout, voice: VoiceKey) {
        playout.start(voice, |note| booth.hear(note));
    }

    fn stop(booth: &mut Booth, playout: &mut Playout) {
        playout.stop(|note| booth.hear(note));
    }

    #[test]
    fn a_listener_starts_stops_and_starts_again() {
        let (mut booth, mut playout) = (Booth::default(), Playout::new([0; 6]));
        assert_eq!(booth.story(&mut playout, 2), "- -");
        start(&mut booth, &mut playout, LOW);
        assert_eq!(booth.story(&mut playout, 3), "in0! on0 on0");
        stop(&mut booth, &mut playout);
        assert!(playout.is_active());
        assert_eq!(booth.story(&mut playout, 3), "out0 quiet -");
        assert!(!playout.is_active());
        assert_eq!(playout.played(), 4 * FRAME_TICKS);
        booth.story(&mut playout, 10);
        start(&mut booth, &mut playout, LOW);
        assert_eq!(booth.story(&mut playout, 2), "in0! on0");
        assert_eq!(playout.played(), 2 * FRAME_TICKS);
    }

    #[test]
    fn a_switch_fades_out_and_in_without_a_hole() {
        let (mut booth, mut playout) = (Booth::default(), Playout::new([0; 6]));
        start(&mut booth, &mut playout, LOW);
        booth.story(&mut playout, 3);
        start(&mut booth, &mut playout, HIGH);
        assert_eq!(booth.story(&mut playout, 3), "out0 in1 on1");
        start(&mut booth, &mut playout, HIGH);
        assert_eq!(booth.story(&mut playout, 2), "on1 on1", "the same voice goes on");
        start(&mut booth, &mut playout, LOW);
        start(&mut booth, &mut playout, HIGH);
        assert_eq!(booth.story(&mut playout, 3), "out1 in1 on1", "there and back in one turn");
        start(&mut booth, &mut playout, LOW);
        stop(&mut booth, &mut playout);
        assert_eq!(booth.story(&mut playout, 3), "out1 quiet -", "a stop overtakes a switch");
    }

    #[test]
    fn time_is_true_and_sequence_numbers_have_no_hole_across_silence() {
        let (mut booth, mut playout) = (Booth::default(), Playout::new([0xff; 6]));
        let mut sent = Vec::new();
        for round in 0..3 {
            start(&mut booth, &mut playout, VoiceKey(round % 2));
            for turn in 0..20 {
                if turn == 10 {
                    stop(&mut booth, &mut playout);
                }
                let frames = VoiceFrames {
                    voice: VoiceKey(round % 2),
                    steady: [1].into(),
                    fade_in: Some([2].into()),
                    fade_out: (turn >= 10).then(|| [3].into()),
                };
                let time = booth.turn * FRAME_TICKS;
                booth.turn += 1;
                let audio = AudioTurn { time: MediaTime(time), silence: [0].into(), voices: vec![frames] };
                if let Some(packet) = playout.turn(&audio, |_| {}) {
                    assert_eq!(u64::from(packet.time.wrapping_sub(u32::MAX)), time, "the offset is constant");
                    sent.push(packet);
                }
            }
        }
        assert_eq!(sent.len(), 3 * 12);
        assert!(sent.iter().zip(sent[0].seq..).all(|(packet, seq)| packet.seq == seq));
        assert!(sent[0].seq < 0x8000);
        assert_eq!(sent.iter().filter(|packet| packet.marker).count(), 3);
    }

    #[test]
    fn a_fade_that_was_lost_with_its_turn_is_asked_for_anew() {
        let (mut booth, mut playout) = (Booth::default(), Playout::new([0; 6]));
        start(&mut booth, &mut playout, LOW);
        booth.fading.clear();
        assert_eq!(booth.story(&mut playout, 7), "- - - - in0! on0 on0");
        stop(&mut booth, &mut playout);
        // Somebody else still listens, so that the voice stays on.
        booth.hear(AudienceNote::Join(LOW));
        booth.fading.clear();
        assert_eq!(booth.story(&mut playout, 7), "on0 on0 on0 on0 out0 quiet -");
        assert_eq!(booth.listeners[&LOW], 1);
    }

    proptest::proptest! {
        #[test]
        fn every_join_is_followed_by_one_leave(ops in proptest::collection::vec(0..5_u8, 0..200)) {
            let (mut booth, mut playout) = (Booth::default(), Playout::new([0; 6]));
            for op in ops {
                match op {
                    0 => start(&mut booth, &mut playout, LOW),
                    1 => start(&mut booth, &mut playout, HIGH),
                    2 => stop(&mut booth, &mut playout),
                    _ => { booth.turn(&mut playout); }
                }
            }
            playout.abandon(|note| booth.hear(note));
            proptest::prop_assert!(booth.listeners.values().all(|count| *count == 0), "{:?}", booth.notes);
        }

        #[test]
        fn no_sound_is_ever_cut_without_a_fade(ops in proptest::collection::vec(0..6_u8, 0..200)) {
            let (mut booth, mut playout) = (Booth::default(), Playout::new([0; 6]));
            let mut before = "-".to_owned();
            for op in ops {
                match op {
                    0 => start(&mut booth, &mut playout, LOW),
                    1 => start(&mut booth, &mut playout, HIGH),
                    2 => stop(&mut booth, &mut playout),
                    _ => {
                        let now = booth.turn(&mut playout).unwrap_or_else(|| "-".into()).replace('!', "");
                        let loud = |word: &str| word.starts_with("on") || word.starts_with("in");
                        let voice = |word: &str| word.chars().last();
                        if loud(&before) {
                            proptest::prop_assert!(now.starts_with("on") || now.starts_with("out"), "{} then {}", before, now);
                            proptest::prop_assert_eq!(voice(&before), voice(&now));
                        } else {
                            proptest::prop_assert!(!now.starts_with("on") && !now.starts_with("out"), "{} then {}", before, now);
                        }
                        before = now;
                    }
                }
            }
        }
    }
}
