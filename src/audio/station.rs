//! The encoder's side: which voices are live, who begins and ends, and what each turn of 20 ms offers them. A pure machine:
//! it starts no thread, sends nothing, and does not know who its listeners are, only how many.

use std::sync::Arc;

use crate::wire::ids::VoiceKey;
use crate::wire::media::{AudioTurn, MediaTime, Payload, VoiceFrames};

use super::AudioError;
use super::counters::AudioCounters;
use super::generator::{GeneratorControl, MAX_LIVE_VOICES, Source};
use super::opus::{FadeEncoder, FrameEncoder};
use super::ring::{BlockConsumer, block_ring};
use super::voice::{Block, SILENT_BLOCK, VoiceInfo};
use super::voices::{VOICES, voices};

// Hence every voice may be live at once, and the generator never runs out of places.
const _: () = assert!(VOICES.len() <= MAX_LIVE_VOICES);

/// Every shared voice, live or not.
pub struct Station {
    /// In the order of their keys.
    programmes: Vec<Programme>,
    generator: GeneratorControl,
    fades: FadeEncoder,
    silence: Payload,
    /// Some have just been given their last frame, and silence is to follow it.
    silence_owed: bool,
    /// The generator has been given something since anybody looked.
    wake_owed: bool,
    counters: Arc<AudioCounters>,
}

impl Station {
    /// A station with every voice off.
    ///
    /// # Errors
    /// Where Opus cannot make the encoders: one for each voice and one for fades.
    pub fn new(generator: GeneratorControl, counters: Arc<AudioCounters>) -> Result<Self, AudioError> {
        let mut fades = FadeEncoder::new()?;
        let silence = fades.silence()?;
        let programmes = voices().map(|(key, info)| Programme::new(key, info)).collect::<Result<_, _>>()?;
        Ok(Self { programmes, generator, fades, silence, silence_owed: false, wake_owed: false, counters })
    }

    /// One more listener, who begins with the next `fade_in` of this voice.
    ///
    /// The first one makes the voice live at once, so that the generator can work until the next turn. A key without a
    /// voice is ignored.
    pub fn join(&mut self, voice: VoiceKey) {
        let Some(programme) = self.programmes.get_mut(usize::from(voice.0)) else {
            return;
        };
        let live = programme.live.get_or_insert_with(|| Live::new(programme.info, &self.counters));
        live.listeners += 1;
        live.joining = true;
        self.wake_owed |= live.start(&mut self.generator);
    }

    /// One listener less, who ends with the next `fade_out` of this voice and the silence of the turn after it.
    pub fn leave(&mut self, voice: VoiceKey) {
        if let Some(live) = self.listened(voice) {
            live.listeners -= 1;
            live.leaving = true;
        }
    }

    /// One listener less, who waits for nothing: gone, or never begun.
    pub fn abandon(&mut self, voice: VoiceKey) {
        if let Some(live) = self.listened(voice) {
            live.listeners -= 1;
        }
    }

    /// Plays one turn: at most one steady, one fade-in and one fade-out encode per live voice.
    ///
    /// `None` when nobody listens. A voice whose block is not there is missing from the turn; who begins or ends with it
    /// waits for the next.
    pub fn turn(&mut self, time: MediaTime) -> Option<AudioTurn> {
        self.generator.reap();
        for programme in &mut self.programmes {
            // Only now, not when the last one left: who joins in between goes on hearing the same sound.
            programme.live.take_if(|live| live.listeners == 0 && !live.leaving);
        }
        if !self.is_active() {
            return None;
        }
        self.silence_owed = false;
        let live = self.programmes.iter().filter(|programme| programme.live.is_some()).count();
        let mut frames = Vec::with_capacity(live);
        for programme in &mut self.programmes {
            if let Some(live) = &mut programme.live {
                self.wake_owed |= live.start(&mut self.generator);
            }
            match programme.play(&mut self.fades, &self.counters) {
                Ok(played) => frames.extend(played),
                Err(_) => self.counters.faults.add(1),
            }
        }
        self.silence_owed = frames.iter().any(|frames: &VoiceFrames| frames.fade_out.is_some());
        Some(AudioTurn { time, silence: Payload::clone(&self.silence), voices: frames })
    }

    /// Whether the generator has been given something since this was last asked, and must be woken.
    pub fn take_wake(&mut self) -> bool {
        std::mem::take(&mut self.wake_owed)
    }

    /// Whether there is a next turn to play.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.silence_owed || self.programmes.iter().any(|programme| programme.live.is_some())
    }

    /// The voice, if it is live and has listeners.
    fn listened(&mut self, voice: VoiceKey) -> Option<&mut Live> {
        let programme = self.programmes.get_mut(usize::from(voice.0))?;
        programme.live.as_mut().filter(|live| live.listeners > 0)
    }
}

/// One voice of the list. Its encoder is made once, so that going live can neither fail nor take long.
struct Programme {
    key: VoiceKey,
    info: &'static VoiceInfo,
    encoder: FrameEncoder,
    live: Option<Live>,
}

impl Programme {
    fn new(key: VoiceKey, info: &'static VoiceInfo) -> Result<Self, AudioError> {
        Ok(Self { key, info, encoder: FrameEncoder::new()?, live: None })
    }

    /// Encodes the next block, if the voice is live and has one.
    fn play(&mut self, fades: &mut FadeEncoder, counters: &AudioCounters) -> Result<Option<VoiceFrames>, AudioError> {
        let Some(live) = self.live.as_mut() else {
            return Ok(None);
        };
        if !live.advance() {
            return Ok(None);
        }
        // Taken before anything can fail, so that a voice that nobody hears cannot stay on for it.
        let leaving = std::mem::take(&mut live.leaving);
        // The first frame of a voice would still overlap with its last time on air, but nobody is given that one.
        let steady = self.encoder.encode(&live.block)?;
        counters.steady.add(1);
        let mut frames = VoiceFrames { voice: self.key, steady, fade_in: None, fade_out: None };
        if live.joining {
            frames.fade_in = Some(fades.fade_in(&live.block)?);
            counters.fade_in.add(1);
            live.joining = false;
        }
        if leaving {
            frames.fade_out = Some(fades.fade_out(&live.previous, &live.block)?);
            counters.fade_out.add(1);
        }
        Ok(Some(frames))
    }
}

/// What a voice has while it is live.
struct Live {
    ring: BlockConsumer,
    /// Until the generator has room for it.
    source: Option<Source>,
    block: Block,
    previous: Block,
    /// Whether there was a block yet.
    begun: bool,
    /// Those who have joined, without those who have left.
    listeners: usize,
    joining: bool,
    leaving: bool,
}

impl Live {
    fn new(info: &VoiceInfo, counters: &AudioCounters) -> Self {
        let (producer, consumer) = block_ring(&counters.ring);
        Self {
            ring: consumer,
            source: Some(Source { voice: (info.make)(), ring: producer }),
            block: SILENT_BLOCK,
            previous: SILENT_BLOCK,
            begun: false,
            listeners: 0,
            joining: false,
            leaving: false,
        }
    }

    /// Hands the source to the generator, unless that has happened. Returns whether it happened now.
    fn start(&mut self, generator: &mut GeneratorControl) -> bool {
        let Some(source) = self.source.take() else {
            return false;
        };
        self.source = generator.start(source).err();
        self.source.is_none()
    }

    /// Moves on to the next block, if it is there.
    fn advance(&mut self) -> bool {
        // A voice that has only just been started is not late: that ring does not count as empty.
        if !self.begun && self.ring.blocks() == 0 {
            return false;
        }
        if self.ring.pop(&mut self.previous).is_err() {
            return false;
        }
        std::mem::swap(&mut self.previous, &mut self.block);
        self.begun = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::ear::{Ear, peak, slope, steepest};
    use crate::audio::generator::{Generator, generator};
    use crate::wire::media::{FRAME_SAMPLES, FRAME_TICKS};

    const LOW: VoiceKey = VoiceKey(0);
    const HIGH: VoiceKey = VoiceKey(2);

    /// A station with its generator, on one thread and without time.
    struct Studio {
        station: Station,
        generator: Generator,
        counters: Arc<AudioCounters>,
        time: MediaTime,
    }

    impl Studio {
        fn new() -> Self {
            let counters = Arc::<AudioCounters>::default();
            let (generator, control) = generator();
            let station = Station::new(control, Arc::clone(&counters)).expect("Opus starts");
            Self { station, generator, counters, time: MediaTime::default() }
        }

        /// A turn for which the generator was in time.
        fn turn(&mut self) -> Option<AudioTurn> {
            self.generator.turn();
            self.turn_of_the_station()
        }

        /// A turn in which the generator slept.
        fn turn_of_the_station(&mut self) -> Option<AudioTurn> {
            let turn = self.station.turn(self.time);
            self.time.0 += FRAME_TICKS;
            turn
        }

        /// The frames of `voice` in the next turn.
        fn frames(&mut self, voice: VoiceKey) -> VoiceFrames {
            let turn = self.turn().expect("somebody listens");
            turn.voice(voice).expect("the voice is live").clone()
        }

        /// Steady, fade-in and fade-out encodes so far.
        fn encodes(&self) -> [u64; 3] {
            let counters = &self.counters;
            [&counters.steady, &counters.fade_in, &counters.fade_out].map(super::super::counters::Counter::value)
        }
    }

    #[test]
    fn a_voice_is_live_from_its_first_listener_to_the_silence_after_its_last() {
        let mut studio = Studio::new();
        assert!(studio.turn().is_none());
        studio.station.join(LOW);
        assert!(studio.station.take_wake());
        assert!(studio.frames(LOW).fade_in.is_some(), "ready for the very next turn");
        let frames = studio.frames(LOW);
        assert!(frames.fade_in.is_none() && frames.fade_out.is_none());
        studio.station.leave(LOW);
        assert!(studio.frames(LOW).fade_out.is_some());
        assert!(studio.station.is_active());
        let last = studio.turn().expect("silence is owed");
        assert!(last.voices.is_empty());
        assert_eq!(last.time, MediaTime(4 * FRAME_TICKS));
        assert!(!studio.station.is_active());
        assert!(studio.turn().is_none());
        assert_eq!(studio.generator.turn(), 0, "and nothing is generated");
        assert_eq!(studio.encodes(), [3, 1, 1]);
    }

    #[test]
    fn a_crowd_costs_one_encode_of_a_kind() {
        let mut studio = Studio::new();
        (0..1_000).for_each(|_| studio.station.join(LOW));
        studio.frames(LOW);
        (0..400).for_each(|_| studio.station.leave(LOW));
        (0..400).for_each(|_| studio.station.join(LOW));
        let frames = studio.frames(LOW);
        assert!(frames.fade_in.is_some() && frames.fade_out.is_some());
        assert_eq!(studio.encodes(), [2, 2, 1]);
        studio.frames(LOW);
        (0..1_000).for_each(|_| studio.station.abandon(LOW));
        assert!(studio.turn().is_none(), "nobody is left to hear an end");
        assert_eq!(studio.encodes(), [3, 2, 1]);
    }

    #[test]
    fn leaving_more_often_than_joining_changes_nothing() {
        let mut studio = Studio::new();
        studio.station.leave(LOW);
        studio.station.abandon(LOW);
        studio.station.join(VoiceKey(u16::MAX));
        assert!(!studio.station.is_active());
        studio.station.join(LOW);
        studio.station.abandon(LOW);
        studio.station.leave(LOW);
        assert!(studio.turn().is_none());
    }

    #[test]
    fn who_joins_during_the_last_fade_out_hears_the_same_sound_go_on() {
        let mut studio = Studio::new();
        studio.station.join(LOW);
        assert!(studio.station.take_wake());
        studio.frames(LOW);
        studio.station.leave(LOW);
        studio.frames(LOW);
        studio.station.join(LOW);
        assert!(!studio.station.take_wake(), "no new source was made");
        assert!(studio.frames(LOW).fade_in.is_some());
    }

    #[test]
    fn a_generator_that_sleeps_is_counted_and_those_who_wait_are_served_after_it() {
        let mut studio = Studio::new();
        studio.station.join(LOW);
        let turn = studio.turn_of_the_station().expect("somebody listens");
        assert!(turn.voices.is_empty());
        assert_eq!(studio.counters.ring.empty.value(), 0, "a voice that has just started is not late");
        assert!(studio.frames(LOW).fade_in.is_some());
        studio.station.leave(LOW);
        studio.station.join(LOW);
        while studio.turn_of_the_station().is_some_and(|turn| turn.voice(LOW).is_some()) {
            studio.station.leave(LOW);
            studio.station.join(LOW);
        }
        assert_eq!(studio.counters.ring.empty.value(), 1);
        let frames = studio.frames(LOW);
        assert!(frames.fade_in.is_some() && frames.fade_out.is_some());
        assert_eq!(studio.counters.ring.full.value(), 0);
    }

    #[test]
    fn a_voice_for_which_the_generator_has_no_room_starts_later() {
        let mut studio = Studio::new();
        // Each round leaves one source on its way to a generator that does not run.
        for _ in 0..=MAX_LIVE_VOICES {
            studio.station.join(LOW);
            studio.station.abandon(LOW);
            assert!(studio.turn_of_the_station().is_none());
        }
        studio.station.take_wake();
        studio.station.join(LOW);
        assert!(!studio.station.take_wake());
        assert!(studio.turn().expect("somebody listens").voices.is_empty());
        assert!(studio.station.take_wake(), "the turn tried again");
        assert!(studio.frames(LOW).fade_in.is_some());
    }

    #[test]
    fn one_listener_hears_a_start_a_switch_and_a_stop_without_a_click() {
        let mut studio = Studio::new();
        let mut ear = Ear::new();
        // Somebody else keeps both voices on, and the listener comes late.
        studio.station.join(LOW);
        studio.station.join(HIGH);
        for _ in 0..57 {
            studio.turn();
        }
        studio.station.join(LOW);
        ear.hear(&studio.frames(LOW).fade_in.expect("asked for"));
        for _ in 0..20 {
            ear.hear(&studio.frames(LOW).steady);
        }
        studio.station.leave(LOW);
        studio.station.join(HIGH);
        let turn = studio.turn().expect("somebody listens");
        ear.hear(turn.voice(LOW).and_then(|frames| frames.fade_out.as_ref()).expect("asked for"));
        // The fade-in of that turn is for others; a switcher asks for the next one.
        studio.station.join(HIGH);
        ear.hear(&studio.frames(HIGH).fade_in.expect("asked for"));
        for _ in 0..20 {
            ear.hear(&studio.frames(HIGH).steady);
        }
        studio.station.leave(HIGH);
        ear.hear(&studio.frames(HIGH).fade_out.expect("asked for"));
        ear.hear(&studio.turn().expect("somebody listens").silence);

        assert!(steepest(&ear.heard()[..22 * FRAME_SAMPLES]) <= slope(0.3, 220.0) * 1.05);
        assert!(steepest(ear.heard()) <= slope(0.3, 880.0) * 1.05);
        let tail = &ear.heard()[44 * FRAME_SAMPLES + 240..];
        assert!(peak(tail) < 0.001, "below -60 dBFS");
    }
}
