//! The sound of the simulated network: the real station and generator, taking turns on one thread instead of racing on two.

use std::sync::Arc;

use crate::audio::generator::{Generator, generator};
use crate::audio::station::Station;
use crate::audio::voices::VOICES;
use crate::wire::media::{AudioTurn, MediaTime, Tap};
use crate::wire::signal::VoiceCard;

/// The audio engine, whose clock is the net's.
pub struct Studio {
    station: Station,
    generator: Generator,
}

impl Studio {
    /// With every voice off.
    pub fn new() -> Self {
        let (generator, control) = generator();
        let station = Station::new(control, Arc::default()).expect("opus makes encoders");
        Self { station, generator }
    }

    /// The voices as clients see them.
    pub fn cards() -> Vec<VoiceCard> {
        let card = |text: &str| text.to_owned();
        VOICES
            .iter()
            .map(|info| VoiceCard { id: card(info.id), name: card(info.name), description: card(info.description) })
            .collect()
    }

    /// One more listener.
    pub fn join(&mut self, tap: Tap) {
        self.station.join(tap);
    }

    /// One fewer, who wants a fade-out.
    pub fn leave(&mut self, tap: Tap) {
        self.station.leave(tap);
    }

    /// One fewer.
    pub fn abandon(&mut self, tap: Tap) {
        self.station.abandon(tap);
    }

    /// Whether there is anything to play.
    pub fn is_active(&self) -> bool {
        self.station.is_active()
    }

    /// The next turn, if anybody listens; the generator has worked ahead.
    pub fn turn(&mut self, time: MediaTime) -> Option<AudioTurn> {
        self.generator.turn();
        self.station.turn(time)
    }
}
