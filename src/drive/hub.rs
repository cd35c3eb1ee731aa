//! What the actors of one media worker share on their thread: routes, deadlines, the outbox, who listens. It is plain state; actors act.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use actix::Addr;
use slab::Slab;
use str0m::net::Transmit;
use tokio::sync::Notify;

use crate::engine::deadline::DeadlineQueue;
use crate::engine::demux::Demux;
use crate::engine::playout::AudienceNote;
use crate::engine::session::Host;
use crate::wire::ids::{SessionId, SessionKey};

use super::audio::AudioHandle;
use super::clock::Clock;
use super::metrics::Metrics;
use super::outbox::Outbox;
use super::session::Session;
use super::udp::MediaSocket;

/// How many sessions the process has, against how many it may have.
#[derive(Clone, Debug)]
pub struct Capacity(Arc<(AtomicU32, u32)>);

impl Capacity {
    /// Room for `most` sessions.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self(Arc::new((AtomicU32::new(0), most)))
    }

    /// Takes one place, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<Place> {
        let (used, most) = &*self.0;
        let taken = used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| (used < *most).then_some(used + 1));
        taken.is_ok().then(|| Place(self.clone()))
    }
}

/// One session's place; given back when it is dropped.
#[derive(Debug)]
pub struct Place(Capacity);

impl Drop for Place {
    fn drop(&mut self) {
        let Capacity(inner) = &self.0;
        inner.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The shared state of one worker.
pub struct Hub {
    /// Reads time.
    pub clock: Clock,
    /// Counts.
    pub metrics: Metrics,
    /// What sessions share.
    pub host: Arc<Host>,
    /// Tells the audio engine who listens.
    pub audio: AudioHandle,
    /// Our candidates.
    pub candidates: Vec<SocketAddr>,
    /// Datagram to session.
    pub demux: RefCell<Demux>,
    /// Sessions by their key.
    pub sessions: RefCell<HashMap<SessionKey, Addr<Session>>>,
    /// Sessions by the id that clients resume with.
    pub ids: RefCell<HashMap<SessionId, SessionKey>>,
    /// Those who want turns of audio.
    pub audience: RefCell<Slab<Addr<Session>>>,
    /// The timer looks at the queue anew.
    pub rearmed: Notify,
    /// The outbox has something.
    pub filled: Notify,
    deadlines: RefCell<DeadlineQueue>,
    outbox: RefCell<Outbox>,
    next_key: Cell<u32>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("sessions", &self.sessions.borrow().len()).finish_non_exhaustive()
    }
}

impl Hub {
    /// An empty one over `sockets`.
    #[must_use]
    pub fn new(
        clock: Clock,
        metrics: Metrics,
        host: Arc<Host>,
        audio: AudioHandle,
        sockets: &[Rc<MediaSocket>],
    ) -> Self {
        Self {
            clock,
            host,
            audio,
            candidates: sockets.iter().map(|socket| socket.advertised).collect(),
            demux: RefCell::default(),
            sessions: RefCell::default(),
            ids: RefCell::default(),
            audience: RefCell::default(),
            rearmed: Notify::new(),
            filled: Notify::new(),
            deadlines: RefCell::default(),
            outbox: RefCell::new(Outbox::new(sockets, metrics.clone())),
            next_key: Cell::new(0),
            metrics,
        }
    }

    /// A key that no session of this run has had.
    ///
    /// # Panics
    /// After four thousand million sessions.
    pub fn next_key(&self) -> SessionKey {
        let key = self.next_key.get();
        self.next_key.set(key.checked_add(1).expect("four thousand million sessions take longer than a machine lives"));
        SessionKey(key)
    }

    /// Sends a datagram at the end of this turn of the loop, or sooner.
    pub fn send(&self, transmit: Transmit) {
        if self.outbox.borrow_mut().push(transmit) {
            self.filled.notify_one();
        }
    }

    /// Sends all that waits.
    pub fn flush(&self) {
        self.outbox.borrow_mut().flush();
    }

    /// Asks for a tick of `key` at `at`.
    pub fn arm(&self, key: SessionKey, at: Instant) {
        if self.deadlines.borrow_mut().arm(key, at) {
            self.rearmed.notify_one();
        }
    }

    /// Takes a session whose deadline has come.
    pub fn pop_due(&self, now: Instant) -> Option<SessionKey> {
        self.deadlines.borrow_mut().pop_due(now)
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.borrow().next()
    }

    /// Passes a note of a listener on to the audio engine.
    pub fn note(&self, note: AudienceNote) {
        match note {
            AudienceNote::Join(voice) => self.audio.join(voice),
            AudienceNote::Leave(voice) => self.audio.leave(voice),
            AudienceNote::Abandon(voice) => self.audio.abandon(voice),
        }
    }

    /// Forgets a session that is over.
    pub fn forget(&self, key: SessionKey, id: &SessionId) {
        self.demux.borrow_mut().forget(key);
        self.deadlines.borrow_mut().disarm(key);
        self.sessions.borrow_mut().remove(&key);
        self.ids.borrow_mut().remove(id);
    }
}
