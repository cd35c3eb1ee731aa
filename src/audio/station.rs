//! The encoder's side: which voices are live, who begins and ends, and what each turn of 20 ms offers them. A pure machine:
//! it starts no thread, sends nothing, and does not know who its listeners are, only how many.

use std::sync::Arc;

use crate::wire::ids::VoiceKey;
use crate::wire::media::{AudioTurn, Cut, Frame, MediaTime, Tap, TapFrames};

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
    /// By the place of their cut.
    fades: [FadeEncoder; Cut::ALL.len()],
    silence: [Frame; Cut::ALL.len()],
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
    /// Where Opus cannot make the encoders: one for each voice and cut, and one for the fades of each cut.
    pub fn new(generator: GeneratorControl, counters: Arc<AudioCounters>) -> Result<Self, AudioError> {
        let mut fades = [FadeEncoder::new(Cut::Whole)?, FadeEncoder::new(Cut::Halves)?];
        let [whole, halves] = &mut fades;
        let silence = [whole.silence()?, halves.silence()?];
        let programmes = voices().map(|(key, info)| Programme::new(key, info)).collect::<Result<_, _>>()?;
        Ok(Self { programmes, generator, fades, silence, silence_owed: false, wake_owed: false, counters })
    }

    /// One more listener, who begins with the next `fade_in` of this tap.
    ///
    /// The first one makes the voice live at once, so that the generator can work until the next turn. A tap without a
    /// voice is ignored.
    pub fn join(&mut self, tap: Tap) {
        let Some(programme) = self.programmes.get_mut(usize::from(tap.voice.0)) else {
            return;
        };
        let feed = &mut programme.feeds[tap.cut as usize];
        feed.listeners += 1;
        feed.joining = true;
        let live = programme.live.get_or_insert_with(|| Live::new(programme.info, &self.counters));
        self.wake_owed |= live.start(&mut self.generator);
    }

    /// One listener less, who ends with the next `fade_out` of this tap and the silence of the turn after it.
    pub fn leave(&mut self, tap: Tap) {
        if let Some(feed) = self.listened(tap) {
            feed.listeners -= 1;
            feed.leaving = true;
        }
    }

    /// One listener less, who waits for nothing: gone, or never begun.
    pub fn abandon(&mut self, tap: Tap) {
        if let Some(feed) = self.listened(tap) {
            feed.listeners -= 1;
        }
    }

    /// Plays one turn: at most one steady, one fade-in and one fade-out encode for each tap that has listeners.
    ///
    /// `None` when nobody listens. A voice whose block is not there is missing from the turn; who begins or ends with it
    /// waits for the next.
    pub fn turn(&mut self, time: MediaTime) -> Option<AudioTurn> {
        self.generator.reap();
        for programme in &mut self.programmes {
            // Only now, not when the last one left: who joins in between goes on hearing the same sound.
            programme.rest();
        }
        if !self.is_active() {
            return None;
        }
        self.silence_owed = false;
        let wanted = self.programmes.iter().flat_map(|programme| &programme.feeds).filter(|feed| feed.is_wanted());
        let mut taps = Vec::with_capacity(wanted.count());
        for programme in &mut self.programmes {
            if let Some(live) = &mut programme.live {
                self.wake_owed |= live.start(&mut self.generator);
            }
            programme.play(&mut self.fades, &self.counters, &mut taps);
        }
        self.silence_owed = taps.iter().any(|frames: &TapFrames| frames.fade_out.is_some());
        Some(AudioTurn { time, silence: self.silence.clone(), taps })
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

    /// What feeds the tap, if that has listeners.
    fn listened(&mut self, tap: Tap) -> Option<&mut Feed> {
        let programme = self.programmes.get_mut(usize::from(tap.voice.0))?;
        Some(&mut programme.feeds[tap.cut as usize]).filter(|feed| feed.listeners > 0)
    }
}

/// One voice of the list.
struct Programme {
    key: VoiceKey,
    info: &'static VoiceInfo,
    /// By the place of their cut.
    feeds: [Feed; Cut::ALL.len()],
    live: Option<Live>,
}

impl Programme {
    fn new(key: VoiceKey, info: &'static VoiceInfo) -> Result<Self, AudioError> {
        Ok(Self { key, info, feeds: [Feed::new(Cut::Whole)?, Feed::new(Cut::Halves)?], live: None })
    }

    /// Turns the voice off, if nobody wants anything of it.
    fn rest(&mut self) {
        if !self.feeds.iter().any(Feed::is_wanted) {
            self.live = None;
            self.feeds.iter_mut().for_each(|feed| feed.joining = false);
        }
    }

    /// Encodes the next block, if the voice is live and has one.
    fn play(&mut self, fades: &mut [FadeEncoder], counters: &AudioCounters, taps: &mut Vec<TapFrames>) {
        let Some(live) = &mut self.live else { return };
        if !live.advance() {
            return;
        }
        for (feed, fades) in self.feeds.iter_mut().zip(fades).filter(|(feed, _)| feed.is_wanted()) {
            match feed.play(self.key, live, fades, counters) {
                Ok(frames) => taps.push(frames),
                Err(_) => counters.faults.add(1),
            }
        }
    }
}

/// One cut of a voice. Its encoder is made once, so that going live can neither fail nor take long.
struct Feed {
    cut: Cut,
    encoder: FrameEncoder,
    /// Those who have joined, without those who have left.
    listeners: usize,
    joining: bool,
    leaving: bool,
}

impl Feed {
    fn new(cut: Cut) -> Result<Self, AudioError> {
        Ok(Self { cut, encoder: FrameEncoder::new(cut)?, listeners: 0, joining: false, leaving: false })
    }

    fn is_wanted(&self) -> bool {
        self.listeners > 0 || self.leaving
    }

    fn play(
        &mut self,
        voice: VoiceKey,
        live: &Live,
        fades: &mut FadeEncoder,
        counters: &AudioCounters,
    ) -> Result<TapFrames, AudioError> {
        // Taken before anything can fail, so that a voice that nobody hears cannot stay on for it.
        let leaving = std::mem::take(&mut self.leaving);
        // The first frame of a feed would still overlap with its last time on air, but nobody is given that one.
        let steady = self.encoder.encode(&live.block)?;
        counters.steady.add(1);
        let mut frames = TapFrames { tap: Tap { voice, cut: self.cut }, steady, fade_in: None, fade_out: None };
        if self.joining {
            frames.fade_in = Some(fades.fade_in(&live.block)?);
            counters.fade_in.add(1);
            self.joining = false;
        }
        if leaving {
            frames.fade_out = Some(fades.fade_out(&live.previous, &live.block)?);
            counters.fade_out.add(1);
        }
        Ok(frames)
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

    const LOW: Tap = Tap { voice: VoiceKey(0), cut: Cut::Whole };
    const HIGH: Tap = Tap { voice: VoiceKey(2), cut: Cut::Whole };
    const SHORT: Tap = Tap { voice: VoiceKey(0), cut: Cut::Halves };

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

        /// The frames of `tap` in the next turn.
        fn frames(&mut self, tap: Tap) -> TapFrames {
            let turn = self.turn().expect("somebody listens");
            turn.frames(tap).expect("the voice is live").clone()
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
        assert!(last.taps.is_empty());
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
    fn both_cuts_of_a_voice_are_encoded_while_somebody_wants_them() {
        let mut studio = Studio::new();
        studio.station.join(LOW);
        studio.frames(LOW);
        assert_eq!(studio.encodes(), [1, 1, 0], "nobody wants the other cut");
        studio.station.join(SHORT);
        let mut ear = Ear::new();
        let turn = studio.turn().expect("somebody listens");
        assert!(turn.frames(LOW).is_some_and(|frames| frames.fade_in.is_none()), "others begin, not these");
        ear.hear(turn.frames(SHORT).and_then(|frames| frames.fade_in.as_ref()).expect("asked for"));
        assert_eq!(studio.encodes(), [3, 2, 0]);
        studio.station.leave(LOW);
        studio.frames(SHORT);
        assert!(studio.turn().expect("somebody listens").frames(LOW).is_none());
        studio.station.leave(SHORT);
        ear.hear(&studio.frames(SHORT).fade_out.expect("asked for"));
        ear.hear(studio.turn().expect("silence is owed").silence(Cut::Halves));
        assert!(studio.turn().is_none());
        assert!(peak(&ear.heard()[ear.heard().len() - 720..]) < 0.001, "below -60 dBFS");
    }

    #[test]
    fn leaving_more_often_than_joining_changes_nothing() {
        let mut studio = Studio::new();
        studio.station.leave(LOW);
        studio.station.abandon(LOW);
        studio.station.join(VoiceKey(u16::MAX).into());
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
        assert!(turn.taps.is_empty());
        assert_eq!(studio.counters.ring.empty.value(), 0, "a voice that has just started is not late");
        assert!(studio.frames(LOW).fade_in.is_some());
        studio.station.leave(LOW);
        studio.station.join(LOW);
        while studio.turn_of_the_station().is_some_and(|turn| turn.frames(LOW).is_some()) {
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
        assert!(studio.turn().expect("somebody listens").taps.is_empty());
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
        ear.hear(turn.frames(LOW).and_then(|frames| frames.fade_out.as_ref()).expect("asked for"));
        // The fade-in of that turn is for others; a switcher asks for the next one.
        studio.station.join(HIGH);
        ear.hear(&studio.frames(HIGH).fade_in.expect("asked for"));
        for _ in 0..20 {
            ear.hear(&studio.frames(HIGH).steady);
        }
        studio.station.leave(HIGH);
        ear.hear(&studio.frames(HIGH).fade_out.expect("asked for"));
        ear.hear(studio.turn().expect("somebody listens").silence(Cut::Whole));

        assert!(steepest(&ear.heard()[..22 * FRAME_SAMPLES]) <= slope(0.3, 220.0) * 1.05);
        assert!(steepest(ear.heard()) <= slope(0.3, 880.0) * 1.05);
        let tail = &ear.heard()[44 * FRAME_SAMPLES + 240..];
        assert!(peak(tail) < 0.001, "below -60 dBFS");
    }
}
