//! Frames of shared voices into one listener's RTP stream: who fades when, sequence numbers, RTP time, the marker bit. It encodes nothing.

use crate::wire::ids::VoiceKey;
use crate::wire::media::{AudioTurn, FRAME_TICKS, Frame, FrameLength, MediaTime, Payload, Tap};
use crate::wire::opus;

/// What the audience of a tap must be told. For every `Join` there is one `Leave` or `Abandon`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AudienceNote {
    /// One more listener: a fade-in is wanted in the next turn.
    Join(Tap),
    /// One listener fewer: a fade-out is wanted in the next turn.
    Leave(Tap),
    /// One listener fewer, without a word.
    Abandon(Tap),
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

/// A fade that has not come after so many turns more was lost on the way, with its turn: it is asked for anew. A worker that stalled plays
/// three turns and skips those before them, and there may be no other for long.
const LOST: u8 = 2;
/// Silent frames sent at most while a voice warms up after a switch: five turns, 100 ms.
const BRIDGE: u8 = 5;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Silent,
    /// Waits for a fade-in. `bridge` silent frames may fill the time, where sound came before.
    Joining {
        tap: Tap,
        bridge: u8,
        waited: u8,
    },
    Playing {
        tap: Tap,
    },
    /// Waits for a fade-out, then goes on to `next`.
    Leaving {
        tap: Tap,
        next: Option<Tap>,
        waited: u8,
    },
    /// Owes one silent frame: Opus looks ahead 2.5 ms.
    Tail,
}

/// Whole frames that wait for the others of their packet.
#[derive(Debug, Default)]
struct Held {
    frames: Vec<Payload>,
    /// Media time of the first.
    time: u64,
    marker: bool,
}

/// An unguessable number for the first packet of a source, from half of the range: a receiver cannot know a rollover that comes before that
/// packet (RFC 3711 section 3.3.1).
#[must_use]
pub fn first_number(random: [u8; 2]) -> u64 {
    u64::from(u16::from_be_bytes(random) >> 1)
}

/// One listener's place in the audio.
#[derive(Debug)]
pub struct Playout {
    state: State,
    length: FrameLength,
    /// Added to the shared media time, so that timestamps begin anywhere (RFC 3550 section 5.1).
    offset: u32,
    seq: u64,
    /// Nobody hears what is played: it takes no sequence numbers.
    paused: bool,
    /// Media time right after the last frame.
    expected: Option<u64>,
    held: Held,
    /// The second packet of a frame of two.
    second: Option<PlayoutPacket>,
    /// Samples of sound played since `start`.
    played: u64,
}

impl Playout {
    /// `random` makes the first timestamp and sequence number unguessable.
    #[must_use]
    pub fn new(random: [u8; 6]) -> Self {
        let [offset @ .., high, low] = random;
        Self {
            state: State::Silent,
            length: FrameLength::default(),
            offset: u32::from_be_bytes(offset),
            seq: first_number([high, low]),
            paused: false,
            expected: None,
            held: Held::default(),
            second: None,
            played: 0,
        }
    }

    /// Makes packets of this length from the next one on. Who plays already must [`start`](Self::start) again, because that may want
    /// another cut of the voice.
    pub fn set_length(&mut self, length: FrameLength) {
        self.length = length;
    }

    /// What is played goes nowhere, or somewhere again. A receiver guesses the rollovers of what it did not get (RFC 3711 section 3.3.1),
    /// so packets that are not sent must not count.
    pub fn set_paused(&mut self, paused: bool) {
        if self.paused != paused {
            self.paused = paused;
            self.expected = None;
            self.held.frames.clear();
        }
    }

    /// The extended sequence number of the next packet.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.seq
    }

    /// Goes on with this number, if it is another one: for another source, to which what was begun does not belong.
    pub fn set_number(&mut self, number: u64) {
        if self.seq != number {
            self.seq = number;
            self.expected = None;
            self.held.frames.clear();
        }
    }

    /// Plays `voice` from the next turn on.
    pub fn start(&mut self, voice: VoiceKey, mut note: impl FnMut(AudienceNote)) {
        let tap = Tap { voice, cut: self.length.cut() };
        self.state = match self.state {
            State::Silent => {
                self.played = 0;
                self.held.frames.clear();
                note(AudienceNote::Join(tap));
                State::Joining { tap, bridge: 0, waited: 0 }
            }
            State::Tail => {
                self.played = 0;
                note(AudienceNote::Join(tap));
                State::Joining { tap, bridge: BRIDGE, waited: 0 }
            }
            State::Joining { tap: old, bridge, .. } if old != tap => {
                note(AudienceNote::Abandon(old));
                note(AudienceNote::Join(tap));
                State::Joining { tap, bridge, waited: 0 }
            }
            State::Playing { tap: old } if old != tap => {
                note(AudienceNote::Leave(old));
                State::Leaving { tap: old, next: Some(tap), waited: 0 }
            }
            State::Leaving { tap: old, next, waited } => {
                if next.is_none() {
                    self.played = 0;
                }
                State::Leaving { tap: old, next: Some(tap), waited }
            }
            same => same,
        };
    }

    /// Fades out.
    pub fn stop(&mut self, mut note: impl FnMut(AudienceNote)) {
        self.state = match self.state {
            State::Joining { tap, bridge, .. } => {
                note(AudienceNote::Abandon(tap));
                if bridge > 0 { State::Tail } else { State::Silent }
            }
            State::Playing { tap } => {
                note(AudienceNote::Leave(tap));
                State::Leaving { tap, next: None, waited: 0 }
            }
            State::Leaving { tap, waited, .. } => State::Leaving { tap, next: None, waited },
            quiet => quiet,
        };
    }

    /// The listener is gone: nothing more will be asked for.
    pub fn abandon(&mut self, mut note: impl FnMut(AudienceNote)) {
        // A leaver has been counted out already.
        if let State::Joining { tap, .. } | State::Playing { tap } = self.state {
            note(AudienceNote::Abandon(tap));
        }
        self.state = State::Silent;
        self.held.frames.clear();
        self.second = None;
    }

    /// What is to be sent now, if anything. A listener of 10 ms gets the other half by [`second`](Self::second).
    pub fn turn(&mut self, turn: &AudioTurn, note: impl FnMut(AudienceNote)) -> Option<PlayoutPacket> {
        match self.frame(turn, note) {
            Some((Frame::Whole(payload), sound)) => self.whole(turn.time.0, payload, sound),
            Some((Frame::Halves([first, second]), sound)) => {
                let marker = self.advance(turn.time.0, sound);
                // What was held before the length changed is of the past by a frame or more: its sound is lost with it.
                self.held.frames.clear();
                let packet = self.packet(turn.time.0, marker, first);
                self.second = Some(self.packet(turn.time.0 + FRAME_TICKS / 2, false, second));
                Some(packet)
            }
            None => self.release(),
        }
    }

    /// What [`turn`](Self::turn) would give to who hears a voice in packets of 20 ms and has nothing else before them; none for
    /// everybody else. It has not been played before [`count`](Self::count).
    #[must_use]
    pub fn steady(&self, turn: &AudioTurn) -> Option<PlayoutPacket> {
        let State::Playing { tap } = self.state else { return None };
        if self.length != FrameLength::Twenty || self.expected != Some(turn.time.0) || !self.held.frames.is_empty() {
            return None;
        }
        let Frame::Whole(payload) = &turn.frames(tap)?.steady else { return None };
        let time = turn.time.rtp().wrapping_add(self.offset);
        Some(PlayoutPacket { seq: self.seq, time, marker: false, payload: payload.clone() })
    }

    /// The [`steady`](Self::steady) packet has been played.
    pub fn count(&mut self) {
        self.expected = self.expected.map(|expected| expected + FRAME_TICKS);
        self.played += FRAME_TICKS;
        self.seq += u64::from(!self.paused);
    }

    /// The second half of the frame that the last turn began, due 10 ms after the first.
    pub fn second(&mut self) -> Option<PlayoutPacket> {
        self.second.take()
    }

    /// What this turn has for the listener, and whether it is sound.
    fn frame(&mut self, turn: &AudioTurn, mut note: impl FnMut(AudienceNote)) -> Option<(Frame, bool)> {
        match self.state {
            State::Silent => None,
            State::Tail => {
                self.state = State::Silent;
                Some((turn.silence(self.length.cut()).clone(), false))
            }
            State::Joining { tap, bridge, waited } => {
                if let Some(fade_in) = turn.frames(tap).and_then(|frames| frames.fade_in.clone()) {
                    self.state = State::Playing { tap };
                    return Some((fade_in, true));
                }
                if waited == LOST {
                    note(AudienceNote::Join(tap));
                    note(AudienceNote::Abandon(tap));
                }
                let waited = if waited == LOST { 0 } else { waited + 1 };
                self.state = State::Joining { tap, bridge: bridge.saturating_sub(1), waited };
                (bridge > 0).then(|| (turn.silence(tap.cut).clone(), false))
            }
            State::Playing { tap } => Some((turn.frames(tap)?.steady.clone(), true)),
            State::Leaving { tap, next, waited } => {
                let frames = turn.frames(tap);
                if frames.is_none() && waited < LOST {
                    // A turn without a block: the fade-out comes with the next one.
                    self.state = State::Leaving { tap, next, waited: waited + 1 };
                    return None;
                }
                if let Some(frames) = frames
                    && frames.fade_out.is_none()
                {
                    if waited == LOST {
                        note(AudienceNote::Join(tap));
                        note(AudienceNote::Leave(tap));
                    }
                    let waited = if waited == LOST { 0 } else { waited + 1 };
                    self.state = State::Leaving { tap, next, waited };
                    return Some((frames.steady.clone(), true));
                }
                self.state = match next {
                    Some(tap) => {
                        note(AudienceNote::Join(tap));
                        State::Joining { tap, bridge: BRIDGE, waited: 0 }
                    }
                    None => State::Tail,
                };
                // A voice that has had no block for so long has gone silent already.
                let fade_out = frames.and_then(|frames| frames.fade_out.clone());
                Some(fade_out.map_or_else(|| (turn.silence(tap.cut).clone(), false), |fade_out| (fade_out, true)))
            }
        }
    }

    /// Whether turns are wanted.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state != State::Silent
    }

    /// Samples of sound played since the last `start` out of silence, at 48 kHz.
    #[must_use]
    pub fn played(&self) -> u64 {
        self.played
    }

    /// Puts a frame to the others of its packet, and gives that out when it is full, or when nothing is to follow.
    fn whole(&mut self, time: u64, payload: Payload, sound: bool) -> Option<PlayoutPacket> {
        let follows = self.held.frames.is_empty() || self.expected == Some(time);
        // Frames of a packet are neighbours: what waited for one that never came goes now, alone.
        let broken = if follows { None } else { self.release() };
        let marker = self.advance(time, sound);
        let first = self.held.frames.is_empty();
        if first && broken.is_none() && self.frames_per_packet() == 1 {
            return Some(self.packet(time, marker, payload));
        }
        if first {
            (self.held.time, self.held.marker) = (time, marker);
        }
        self.held.frames.push(payload);
        if broken.is_some() {
            if self.state == State::Silent {
                // Nothing is to follow, not even a turn.
                self.second = self.release();
            }
            return broken;
        }
        let full = self.held.frames.len() >= self.frames_per_packet() || self.state == State::Silent;
        if full { self.release() } else { None }
    }

    fn frames_per_packet(&self) -> usize {
        usize::from(self.length.ms()).div_ceil(20)
    }

    /// One packet of all that is held.
    fn release(&mut self) -> Option<PlayoutPacket> {
        let payload = match &self.held.frames[..] {
            [] => return None,
            [one] => one.clone(),
            // Frames of one encoder's settings always go together; if ever they did not, the first would be heard.
            several => opus::pack(several).map_or_else(|| several[0].clone(), Payload::from),
        };
        self.held.frames.clear();
        Some(self.packet(self.held.time, self.held.marker, payload))
    }

    /// A frame is played; returns whether it begins a talkspurt.
    fn advance(&mut self, time: u64, sound: bool) -> bool {
        // A gap of a frame or two is a loss that the decoder conceals, not a new talkspurt.
        let marker = self.expected.is_none_or(|expected| time > expected + 5 * FRAME_TICKS);
        self.expected = Some(time + FRAME_TICKS);
        if sound {
            self.played += FRAME_TICKS;
        }
        marker
    }

    fn packet(&mut self, time: u64, marker: bool, payload: Payload) -> PlayoutPacket {
        let seq = self.seq;
        self.seq += u64::from(!self.paused);
        PlayoutPacket { seq, time: MediaTime(time).rtp().wrapping_add(self.offset), marker, payload }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::media::{Cut, TapFrames};
    use std::collections::HashMap;

    const LOW: VoiceKey = VoiceKey(0);
    const HIGH: VoiceKey = VoiceKey(1);

    /// A whole frame that is known by its word; it has a table of contents, so that frames can go together.
    fn whole(word: &str) -> Frame {
        Frame::Whole([&[0], word.as_bytes()].concat().into())
    }

    fn halves(word: &str) -> Frame {
        Frame::Halves(["a", "b"].map(|half| [&[0], word.as_bytes(), half.as_bytes()].concat().into()))
    }

    fn silence() -> [Frame; 2] {
        [whole("quiet"), halves("quiet")]
    }

    /// The words of a packet, joined.
    fn words(payload: &[u8]) -> String {
        // Several frames: their number and the lengths of all but the last stand before them.
        let text = if payload[0] & 3 == 3 { &payload[usize::from(payload[1] & 63) + 1..] } else { &payload[1..] };
        String::from_utf8_lossy(text).into_owned()
    }

    /// Stands where the audio engine stands: counts the audience, gives fades when they were asked for.
    #[derive(Default)]
    struct Booth {
        turn: u64,
        listeners: HashMap<Tap, i32>,
        fading: Vec<AudienceNote>,
        notes: Vec<AudienceNote>,
    }

    impl Booth {
        fn hear(&mut self, note: AudienceNote) {
            let (tap, change) = match note {
                AudienceNote::Join(tap) => (tap, 1),
                AudienceNote::Leave(tap) | AudienceNote::Abandon(tap) => (tap, -1),
            };
            *self.listeners.entry(tap).or_default() += change;
            assert!(self.listeners[&tap] >= 0, "{note:?}");
            self.fading.push(note);
            self.notes.push(note);
        }

        fn turn(&mut self, playout: &mut Playout) -> Option<String> {
            let mut taps = Vec::new();
            for tap in [LOW, HIGH].into_iter().flat_map(|voice| Cut::ALL.map(|cut| Tap { voice, cut })) {
                let word = |word: &str| match tap.cut {
                    Cut::Whole => whole(&format!("{word}{}", tap.voice.0)),
                    Cut::Halves => halves(&format!("{word}{}", tap.voice.0)),
                };
                let fading = std::mem::take(&mut self.fading);
                let (mine, other) = fading.into_iter().partition::<Vec<_>, _>(|note| {
                    matches!(note, AudienceNote::Join(of) | AudienceNote::Leave(of) | AudienceNote::Abandon(of) if *of == tap)
                });
                self.fading = other;
                let fade_in = mine.contains(&AudienceNote::Join(tap)).then(|| word("in"));
                let fade_out = mine.contains(&AudienceNote::Leave(tap)).then(|| word("out"));
                if self.listeners.get(&tap).is_some_and(|count| *count > 0) || fade_out.is_some() {
                    taps.push(TapFrames { tap, steady: word("on"), fade_in, fade_out });
                }
            }
            let turn = AudioTurn { time: MediaTime(self.turn * FRAME_TICKS), silence: silence(), taps };
            self.turn += 1;
            let mut notes = Vec::new();
            let packet = playout.turn(&turn, |note| notes.push(note));
            for note in notes {
                self.hear(note);
            }
            packet.map(|packet| {
                let mark = if packet.marker { "!" } else { "" };
                let second = playout.second().map_or(String::new(), |second| {
                    assert_eq!(second.time, packet.time.wrapping_add(480));
                    assert_eq!((second.seq, second.marker), (packet.seq + 1, false));
                    format!("+{}", words(&second.payload))
                });
                format!("{}{mark}{second}", words(&packet.payload))
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
                let frames = TapFrames {
                    tap: VoiceKey(round % 2).into(),
                    steady: whole("on"),
                    fade_in: Some(whole("in")),
                    fade_out: (turn >= 10).then(|| whole("out")),
                };
                let time = booth.turn * FRAME_TICKS;
                booth.turn += 1;
                let audio = AudioTurn { time: MediaTime(time), silence: silence(), taps: vec![frames] };
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
    fn what_is_steady_is_what_a_turn_gives_and_a_turn_after_a_hole_is_not() {
        let [mut ours, mut theirs] = [(); 2].map(|()| Playout::new([7; 6]));
        for playout in [&mut ours, &mut theirs] {
            playout.start(LOW, |_| {});
        }
        let table = [(0, false), (1, true), (2, true), (4, false), (5, true), (50, false), (51, true)];
        for (number, expected) in table {
            let fade_in = (number == 0).then(|| whole("in"));
            let frames = TapFrames { tap: LOW.into(), steady: whole("on"), fade_in, fade_out: None };
            let time = MediaTime(number * FRAME_TICKS);
            let turn = AudioTurn { time, silence: silence(), taps: vec![frames] };
            let steady = ours.steady(&turn);
            assert_eq!(steady.is_some(), expected, "turn {number}");
            let ours = match steady {
                Some(packet) => {
                    ours.count();
                    Some(packet)
                }
                None => ours.turn(&turn, |_| {}),
            };
            let parts = |packet: PlayoutPacket| (packet.seq, packet.time, packet.marker, packet.payload);
            assert_eq!(ours.map(parts), theirs.turn(&turn, |_| {}).map(parts), "turn {number}");
        }
        assert_eq!(ours.played(), theirs.played());
    }

    #[test]
    fn a_fade_that_was_lost_with_its_turn_is_asked_for_anew() {
        let (mut booth, mut playout) = (Booth::default(), Playout::new([0; 6]));
        start(&mut booth, &mut playout, LOW);
        booth.fading.clear();
        assert_eq!(booth.story(&mut playout, 7), "- - - in0! on0 on0 on0");
        stop(&mut booth, &mut playout);
        // Somebody else still listens, so that the voice stays on.
        booth.hear(AudienceNote::Join(LOW.into()));
        booth.fading.clear();
        assert_eq!(booth.story(&mut playout, 7), "on0 on0 on0 out0 quiet - -");
        assert_eq!(booth.listeners[&LOW.into()], 1);
        // Nobody else listens any more, and three turns are all that come after those that were skipped.
        start(&mut booth, &mut playout, LOW);
        assert_eq!(booth.story(&mut playout, 2), "in0 on0");
        booth.hear(AudienceNote::Abandon(LOW.into()));
        start(&mut booth, &mut playout, HIGH);
        booth.fading.clear();
        assert_eq!(booth.story(&mut playout, 3), "- - quiet");
        assert_eq!(booth.story(&mut playout, 2), "in1 on1");
    }

    #[test]
    fn longer_packets_hold_neighbours_and_the_last_one_what_is_left() {
        for (length, story) in [
            (FrameLength::Forty, "- in0on0! - on0on0 - on0out0 quiet -"),
            (FrameLength::Sixty, "- - in0on0on0! - - on0on0out0 quiet -"),
        ] {
            let (mut booth, mut playout) = (Booth::default(), Playout::new([0; 6]));
            playout.set_length(length);
            start(&mut booth, &mut playout, LOW);
            let begun = booth.story(&mut playout, 5);
            stop(&mut booth, &mut playout);
            assert_eq!(format!("{begun} {}", booth.story(&mut playout, 3)), story);
        }
    }

    #[test]
    fn a_turn_that_is_missing_breaks_a_packet_and_time_stays_true() {
        let (mut booth, mut playout) = (Booth::default(), Playout::new([0; 6]));
        playout.set_length(FrameLength::Sixty);
        start(&mut booth, &mut playout, LOW);
        assert_eq!(booth.story(&mut playout, 4), "- - in0on0on0! -");
        // The worker skipped a turn: the frame that waits goes alone.
        booth.turn += 1;
        assert_eq!(booth.story(&mut playout, 4), "on0 - on0on0on0 -");
    }

    #[test]
    fn the_last_silence_comes_even_when_the_turn_before_it_was_missing() {
        let (mut booth, mut playout) = (Booth::default(), Playout::new([0; 6]));
        playout.set_length(FrameLength::Sixty);
        start(&mut booth, &mut playout, LOW);
        booth.story(&mut playout, 4);
        stop(&mut booth, &mut playout);
        assert_eq!(booth.story(&mut playout, 1), "-");
        booth.turn += 1;
        let time = MediaTime(booth.turn * FRAME_TICKS);
        let packet = playout.turn(&AudioTurn { time, silence: silence(), taps: Vec::new() }, |_| {});
        assert_eq!(words(&packet.expect("what was held").payload), "on0out0");
        let last = playout.second().expect("silence is owed");
        assert_eq!(u64::from(last.time), time.0);
        assert!(!playout.is_active() && playout.second().is_none());
    }

    #[test]
    fn what_nobody_hears_takes_no_numbers_and_what_follows_is_marked() {
        let (mut booth, mut playout) = (Booth::default(), Playout::new([0; 6]));
        start(&mut booth, &mut playout, LOW);
        booth.story(&mut playout, 3);
        let next = playout.seq;
        playout.set_paused(true);
        booth.story(&mut playout, 100);
        assert_eq!(playout.seq, next);
        playout.set_paused(false);
        assert_eq!(booth.story(&mut playout, 2), "on0! on0");
        assert_eq!(playout.seq, next + 2);
    }

    #[test]
    fn short_packets_come_in_two_and_another_length_is_a_seam_without_a_click() {
        let (mut booth, mut playout) = (Booth::default(), Playout::new([0; 6]));
        playout.set_length(FrameLength::Ten);
        start(&mut booth, &mut playout, LOW);
        assert_eq!(booth.story(&mut playout, 2), "in0a!+in0b on0a+on0b");
        playout.set_length(FrameLength::Twenty);
        start(&mut booth, &mut playout, LOW);
        assert_eq!(booth.story(&mut playout, 3), "out0a+out0b in0 on0");
        playout.set_length(FrameLength::Forty);
        start(&mut booth, &mut playout, LOW);
        assert_eq!(booth.story(&mut playout, 2), "- on0on0", "the same frames, only more of them");
        playout.set_length(FrameLength::Ten);
        stop(&mut booth, &mut playout);
        assert_eq!(booth.story(&mut playout, 3), "out0 quieta+quietb -");
        playout.abandon(|note| booth.hear(note));
        assert!(booth.listeners.values().all(|count| *count == 0));
    }

    proptest::proptest! {
        #[test]
        fn every_join_is_followed_by_one_leave(ops in proptest::collection::vec(0..9_u8, 0..200)) {
            let (mut booth, mut playout) = (Booth::default(), Playout::new([0; 6]));
            for op in ops {
                match op {
                    0 => start(&mut booth, &mut playout, LOW),
                    1 => start(&mut booth, &mut playout, HIGH),
                    2 => stop(&mut booth, &mut playout),
                    3 => playout.set_length(FrameLength::Ten),
                    4 => playout.set_length(FrameLength::Twenty),
                    5 => playout.set_length(FrameLength::Sixty),
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
