//! The two threads of the audio path: the real-time generator and the encoder with its pace. What is played, and how it
//! sounds, is decided in `audio`; where it goes is decided by the sink.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Instant;

use thread_priority::ThreadBuilder;

use crate::audio::AudioError;
use crate::audio::counters::AudioCounters;
use crate::audio::generator::{Generator, generator};
use crate::audio::pace::{Beat, Due, FRAME_TIME, Grid, Lateness, Pace};
use crate::audio::station::Station;
use crate::audio::voices::VOICES;
use crate::drive::clock::Clock;
use crate::drive::health::{Duty, Health};
use crate::drive::priority;
use crate::wire::ids::VoiceKey;
use crate::wire::media::{AudioTurn, Cut, FRAME_TICKS, MediaTime, Tap};

/// Takes every turn as it leaves, on the encoder's thread: what it does there delays the next turn.
pub type Sink = Box<dyn FnMut(Arc<AudioTurn>, Lateness) + Send>;

/// Why there is no audio.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AudioEngineError {
    /// The encoders could not be made.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// The system gave no thread.
    #[error("audio thread: {0}")]
    Thread(#[from] io::Error),
}

/// Owns the generator's and the encoder's thread; dropping it ends both.
#[derive(Debug)]
pub struct AudioEngine {
    handle: AudioHandle,
    encoder: Running,
    generator: Running,
}

impl AudioEngine {
    /// Starts both threads, which sleep until somebody joins a voice, and tell when they end. Media time 0 is now.
    ///
    /// # Errors
    /// Where the system has no memory for an encoder, or no thread.
    pub fn start(clock: Clock, health: &Health, sink: Sink) -> Result<Self, AudioEngineError> {
        let counters = Arc::<AudioCounters>::default();
        let shared = Arc::new(Shared {
            demand: VOICES.iter().map(|_| Default::default()).collect(),
            stopping: AtomicBool::new(false),
            counters: Arc::clone(&counters),
        });
        let (generator, control) = generator();
        let station = Station::new(control, counters)?;
        let start = clock.now();

        let generator = Running::spawn(priority::generator(), &shared, health.duty(), {
            let shared = Arc::clone(&shared);
            // Half a turn away from the encoder, so that neither waits for the other's core.
            let grid = Grid::new(start + FRAME_TIME / 2);
            move || generate(generator, grid, clock, &shared)
        })?;
        let encoder = Running::spawn(priority::encoder(), &shared, health.duty(), {
            let (shared, generator) = (Arc::clone(&shared), generator.thread.clone());
            let pace = Pace::new(Grid::new(start));
            let work = Encoder { station, pace, clock, sink, generator, shared };
            move || work.run()
        })?;
        let handle = AudioHandle { shared, encoder: encoder.thread.clone(), start };
        Ok(Self { handle, encoder, generator })
    }

    /// A way to join and leave voices, for any thread.
    #[must_use]
    pub fn handle(&self) -> AudioHandle {
        self.handle.clone()
    }

    /// Ends both threads and waits for them: a few milliseconds, and what the sink takes. Dropping does the same.
    pub fn stop(self) {
        let Self { encoder, generator, .. } = self;
        drop(encoder);
        drop(generator);
    }
}

/// Joins and leaves voices. Nothing here waits, allocates or can be lost: every call raises a count that the encoder's
/// thread takes before its next turn.
#[derive(Clone, Debug)]
pub struct AudioHandle {
    shared: Arc<Shared>,
    encoder: Thread,
    /// Media time 0: turns are due at multiples of 20 ms after it.
    pub start: Instant,
}

impl AudioHandle {
    /// One more listener, who begins with the next `fade_in` of this tap: within 20 ms, where the machine keeps up.
    pub fn join(&self, tap: Tap) {
        if let Some(demand) = self.shared.demand(tap) {
            demand.joins.fetch_add(1, Ordering::Release);
            self.encoder.unpark();
        }
    }

    /// One listener less, who ends with the next `fade_out` of this tap and the `silence` of the turn after it.
    ///
    /// Only for one who has begun; who still waits for the fade-in calls [`abandon`](Self::abandon).
    pub fn leave(&self, tap: Tap) {
        // No unpark: who leaves has joined, so the encoder is awake or will be.
        if let Some(demand) = self.shared.demand(tap) {
            demand.leaves.fetch_add(1, Ordering::Release);
        }
    }

    /// One listener less, who waits for nothing: gone, or never begun.
    pub fn abandon(&self, tap: Tap) {
        if let Some(demand) = self.shared.demand(tap) {
            demand.abandons.fetch_add(1, Ordering::Release);
        }
    }

    /// What the audio path has counted so far.
    #[must_use]
    pub fn counters(&self) -> &AudioCounters {
        &self.shared.counters
    }
}

/// What all threads of the audio path see.
#[derive(Debug)]
struct Shared {
    /// In the order of the voices' keys, by the place of the cut.
    demand: Box<[[Demand; Cut::ALL.len()]]>,
    stopping: AtomicBool,
    counters: Arc<AudioCounters>,
}

impl Shared {
    fn demand(&self, tap: Tap) -> Option<&Demand> {
        self.demand.get(usize::from(tap.voice.0)).map(|cuts| &cuts[tap.cut as usize])
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// What listeners have asked of one voice since the encoder last looked.
#[derive(Debug, Default)]
struct Demand {
    joins: AtomicUsize,
    leaves: AtomicUsize,
    abandons: AtomicUsize,
}

impl Demand {
    fn apply(&self, tap: Tap, station: &mut Station) {
        // Joins are taken last and applied first: every leave that is seen then has its join before it.
        let leaves = self.leaves.swap(0, Ordering::Acquire);
        let abandons = self.abandons.swap(0, Ordering::Acquire);
        let joins = self.joins.swap(0, Ordering::Acquire);
        (0..joins).for_each(|_| station.join(tap));
        (0..leaves).for_each(|_| station.leave(tap));
        (0..abandons).for_each(|_| station.abandon(tap));
    }
}

/// A thread that ends, and is waited for, when this is dropped.
#[derive(Debug)]
struct Running {
    thread: Thread,
    join: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Running {
    fn spawn(
        builder: ThreadBuilder,
        shared: &Arc<Shared>,
        duty: Duty,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let join = builder.spawn(|result| {
            let _duty = duty;
            if let Err(fault) = result {
                tracing::info!(
                    thread = thread::current().name(),
                    ?fault,
                    "no real-time priority; audio may stutter under load"
                );
            }
            work();
        })?;
        Ok(Self { thread: join.thread().clone(), join: Some(join), shared: Arc::clone(shared) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.thread.unpark();
        if self.join.take().is_some_and(|join| join.join().is_err()) {
            tracing::error!(thread = self.thread.name(), "audio thread panicked");
        }
    }
}

/// The generator's thread. Its turns need no precision, because the rings hold a lead; it looks once per frame time.
fn generate(mut generator: Generator, grid: Grid, clock: Clock, shared: &Shared) {
    while !shared.is_stopping() {
        if generator.turn() == 0 {
            thread::park();
        } else {
            let now = clock.now();
            thread::park_timeout(grid.due(grid.frame_after(now)) - now);
        }
    }
}

/// The encoder's thread.
struct Encoder {
    station: Station,
    pace: Pace,
    clock: Clock,
    sink: Sink,
    generator: Thread,
    shared: Arc<Shared>,
}

impl Encoder {
    fn run(mut self) {
        let mut resting = true;
        while !self.shared.is_stopping() {
            self.take_demand();
            if !self.station.is_active() {
                resting = true;
                thread::park();
                continue;
            }
            let now = self.clock.now();
            if std::mem::take(&mut resting) {
                self.pace.resume(now);
            }
            match self.pace.poll(now) {
                Beat::Wait(until) => thread::park_timeout(until - now),
                Beat::Due(due) => self.turn(due),
            }
        }
    }

    /// Tells the station who came and went, and wakes the generator at once if there is a new voice to make.
    fn take_demand(&mut self) {
        for (voice, cuts) in (0..).map(VoiceKey).zip(&self.shared.demand) {
            for (cut, demand) in Cut::ALL.into_iter().zip(cuts) {
                demand.apply(Tap { voice, cut }, &mut self.station);
            }
        }
        if self.station.take_wake() {
            self.generator.unpark();
        }
    }

    fn turn(&mut self, due: Due) {
        self.shared.counters.skipped.add(due.skipped);
        let turn = self.station.turn(MediaTime(due.frame * FRAME_TICKS));
        if self.station.take_wake() {
            self.generator.unpark();
        }
        if let Some(turn) = turn {
            let lateness = Lateness(self.clock.now().saturating_duration_since(due.at));
            (self.sink)(Arc::new(turn), lateness);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;

    /// Long enough for any machine; a test that passes waits a few frames.
    const PATIENCE: Duration = Duration::from_secs(20);
    const LOW: Tap = Tap { voice: VoiceKey(0), cut: Cut::Whole };
    const MID: Tap = Tap { voice: VoiceKey(1), cut: Cut::Whole };

    fn start() -> (AudioEngine, Receiver<Arc<AudioTurn>>) {
        let (sender, turns) = channel();
        let sink: Sink = Box::new(move |turn, _| {
            // The test may have seen enough.
            let _ = sender.send(turn);
        });
        (AudioEngine::start(Clock, &Health::default(), sink).expect("the audio threads start"), turns)
    }

    fn wait(turns: &Receiver<Arc<AudioTurn>>, wanted: impl Fn(&AudioTurn) -> bool) -> Arc<AudioTurn> {
        loop {
            let turn = turns.recv_timeout(PATIENCE).expect("turns keep coming");
            if wanted(&turn) {
                return turn;
            }
        }
    }

    fn begins(turn: &AudioTurn) -> bool {
        turn.frames(MID).is_some_and(|frames| frames.fade_in.is_some())
    }

    fn ends(turn: &AudioTurn) -> bool {
        turn.frames(MID).is_some_and(|frames| frames.fade_out.is_some())
    }

    #[test]
    fn a_voice_begins_goes_on_and_ends_on_one_grid() {
        let (engine, turns) = start();
        let handle = engine.handle();
        for round in 1..=2 {
            handle.join(MID);
            let first = wait(&turns, begins).time;
            let steady = wait(&turns, |turn| turn.frames(MID).is_some()).time;
            assert!(steady > first);
            handle.leave(MID);
            let last = wait(&turns, ends).time;
            let silent = wait(&turns, |turn| turn.taps.is_empty()).time;
            assert!(silent > last);
            for time in [first, steady, last, silent] {
                assert_eq!(time.0 % FRAME_TICKS, 0);
            }
            assert_eq!(handle.counters().fade_out.value(), round);
        }
        assert_eq!(handle.counters().fade_in.value(), 2);
        assert_eq!(handle.counters().faults.value(), 0);
    }

    #[test]
    fn an_abandoned_voice_is_off_while_others_go_on() {
        let (engine, turns) = start();
        let handle = engine.handle();
        handle.join(MID);
        wait(&turns, begins);
        handle.join(LOW);
        handle.abandon(MID);
        wait(&turns, |turn| turn.frames(LOW).is_some() && turn.frames(MID).is_none());
        assert_eq!(handle.counters().fade_out.value(), 0);
    }

    #[test]
    fn joins_and_leaves_from_many_threads_cancel_out() {
        let (engine, turns) = start();
        let handle = engine.handle();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        handle.join(MID);
                        handle.abandon(MID);
                    }
                });
            }
        });
        handle.join(LOW);
        wait(&turns, |turn| turn.frames(LOW).is_some() && turn.frames(MID).is_none());
    }

    #[test]
    fn a_thread_that_dies_is_told_of() {
        let health = Health::default();
        let (sender, turns) = channel::<()>();
        let sink: Sink = Box::new(move |_, _| {
            let _sender = &sender;
            panic!("on purpose")
        });
        let engine = AudioEngine::start(Clock, &health, sink).expect("the audio threads start");
        assert!(health.is_good());
        engine.handle().join(MID);
        assert!(turns.recv_timeout(PATIENCE).is_err(), "the sink goes with its thread");
        let end = Clock.now() + PATIENCE;
        while health.is_good() {
            assert!(Clock.now() < end);
            thread::yield_now();
        }
    }

    #[test]
    fn it_stops_whether_it_plays_or_rests() {
        let (engine, turns) = start();
        engine.stop();
        assert!(turns.recv().is_err(), "the sink is gone with its thread");
        let (engine, turns) = start();
        engine.handle().join(MID);
        wait(&turns, begins);
        engine.stop();
        while turns.recv().is_ok() {}
        assert!(turns.recv().is_err());
    }
}
