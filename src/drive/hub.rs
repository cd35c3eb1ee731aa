//! What the actors of one media worker share on their thread: routes, deadlines, the outbox, who listens. It is plain state; actors act.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::Addr;
use bytes::Bytes;
use slab::Slab;
use str0m::net::{Protocol, Transmit};
use tokio::sync::{Notify, oneshot};

use crate::audio::pace::MAX_BURST;
use crate::engine::deadline::{Beat, DeadlineQueue};
use crate::engine::demux::{Demux, DropReason, Path, Transport};
use crate::engine::joins::JoinQueue;
use crate::engine::load::Load;
use crate::engine::neighbours::Neighbours;
use crate::engine::playout::AudienceNote;
use crate::engine::reflexive::Prober;
use crate::engine::relay::{Relay, RelayParts, is_virtual};
use crate::engine::session::{Host, RelayWish};
use crate::wire::ids::{SessionId, SessionKey, WorkerId};
use crate::wire::media::AudioTurn;

use super::audio::AudioHandle;
use super::capacity::{Capacity, Directory};
use super::clock::Clock;
use super::health::Health;
use super::metrics::Metrics;
use super::outbox::Outbox;
use super::post::{Post, PostBox, Stray, Word};
use super::reflexive::Outside;
use super::relay;
use super::rtp_ports::{RtpPort, RtpPorts};
use super::seat::{Origin, Seat, SharedSeat};
use super::session::{Admitted, FromClient, Session};
use super::tcp::Connections;
use super::turn::{self, Outlets, TurnServers};
use super::udp::MediaSocket;
use super::worker::Play;

/// A worker with so many sessions takes their datagrams by the beat. One by one they would wake it hundreds of times a second, and a
/// wake costs as much as a check of ICE.
const CROWD: usize = 256;
/// From one beat to the next: a turn of audio.
const CALM: Duration = Duration::from_millis(20);
/// The same while there is somebody who waits for an answer.
const EAGER: Duration = Duration::from_millis(5);
/// From when a turn is due to the beat: what there is to read then waits until the turn has been played, and no turn waits for what is
/// read, which is more at one time than at another.
pub const AFTER_TURN: Duration = Duration::from_millis(2);

/// So long after the last word between two clients of the relay the next one is expected any moment.
const TALK: Duration = Duration::from_secs(1);

/// What a worker shares with the rest of the process.
#[derive(Clone, Debug)]
pub struct Common {
    /// Reads time.
    pub clock: Clock,
    /// Counts.
    pub metrics: Metrics,
    /// Tells the audio engine who listens.
    pub audio: AudioHandle,
    /// Is told of what fails.
    pub health: Health,
    /// How many sessions there may be, and who takes them in.
    pub capacity: Capacity,
    /// Where sessions live.
    pub directory: Directory,
    /// The way to the other workers.
    pub post: Post,
    /// What relays are made of, unless there are none.
    pub relay: Option<RelayParts>,
    /// What our sockets are called behind a NAT.
    pub outside: Outside,
    /// For sessions that ask for ports of their own.
    pub rtp_ports: RtpPorts,
    /// Outside TURN servers, unless there are never any.
    pub turn: Option<TurnServers>,
}

/// A heavy step of a join, which waits in line.
#[derive(Debug)]
pub enum JoinStep {
    /// An offer.
    Offer {
        /// Whose.
        session: Addr<Session>,
        /// What.
        offer: FromClient,
        /// Whether the session took it.
        taken: oneshot::Sender<bool>,
    },
    /// A datagram of a DTLS handshake.
    Handshake {
        /// Whose.
        key: SessionKey,
        /// The way there.
        seat: SharedSeat,
        /// Where from.
        origin: Origin,
        /// What.
        bytes: Bytes,
    },
}

impl JoinStep {
    /// Lets the session take the step, and waits until it has.
    pub async fn take(self) {
        match self {
            Self::Offer { session, offer, taken } => {
                // A session that is gone takes nothing, and a door that is gone need not know.
                let _ = taken.send(session.send(Admitted(offer)).await.unwrap_or(false));
            }
            Self::Handshake { seat, origin, bytes, .. } => {
                Seat::receive(&seat, origin, &bytes);
                tokio::task::yield_now().await;
            }
        }
    }
}

/// A session of this worker.
#[derive(Clone, Debug)]
pub struct Resident {
    /// For what its client says.
    pub actor: Addr<Session>,
    /// For media.
    pub seat: SharedSeat,
}

/// The shared state of one worker.
pub struct Hub {
    /// Which worker this is.
    pub id: WorkerId,
    /// Reads time.
    pub clock: Clock,
    /// Counts.
    pub metrics: Metrics,
    /// What sessions share.
    pub host: Arc<Host>,
    /// Tells the audio engine who listens.
    pub audio: AudioHandle,
    /// Is told of what fails.
    pub health: Health,
    /// Our candidates.
    pub candidates: Vec<SocketAddr>,
    /// Datagram to session.
    pub demux: RefCell<Demux>,
    /// Connections of those who reach us by TCP.
    pub connections: Connections,
    /// Connections of the relay's clients.
    pub relay_connections: Connections,
    /// The relay, unless there is none.
    pub relay: Option<RefCell<Relay>>,
    /// Asks STUN servers for all workers, on the first one.
    pub prober: Option<RefCell<Prober>>,
    /// One of them has answered.
    pub answered: Notify,
    /// What our sockets are called behind a NAT.
    pub outside: Outside,
    /// For sessions that ask for ports of their own.
    pub rtp_ports: RtpPorts,
    /// How many sessions here use a port.
    rtp_users: RefCell<HashMap<u16, u32>>,
    /// The way to outside TURN servers.
    pub turn: Outlets,
    /// Sessions by their key.
    pub sessions: RefCell<HashMap<SessionKey, Resident>>,
    /// What is known of other workers.
    pub neighbours: RefCell<Neighbours>,
    /// What they send.
    pub post_box: RefCell<PostBox>,
    /// Those who want turns of audio.
    pub audience: RefCell<Slab<SharedSeat>>,
    /// How long turns take.
    pub load: RefCell<Load>,
    /// A turn has come.
    pub turned: Notify,
    turns: RefCell<VecDeque<Play>>,
    /// A heavy step waits.
    pub joining: Notify,
    /// The timer looks at the queue anew.
    pub rearmed: Notify,
    /// The outbox has something.
    pub filled: Notify,
    joins: RefCell<JoinQueue<JoinStep>>,
    capacity: Capacity,
    deadlines: RefCell<DeadlineQueue>,
    calm: Beat,
    eager: Beat,
    /// Sessions that wait for an answer.
    waiting: Cell<usize>,
    crowded: Cell<bool>,
    /// When something went from one client of the relay to another.
    passed: Cell<Option<Instant>>,
    outbox: RefCell<Outbox>,
    directory: Directory,
    post: Post,
    next_key: Cell<u32>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("sessions", &self.sessions.borrow().len()).finish_non_exhaustive()
    }
}

impl Hub {
    /// An empty one for worker `id`, over the sockets of the media port and of the relay.
    #[must_use]
    pub fn new(
        id: WorkerId,
        common: Common,
        host: Arc<Host>,
        post_box: PostBox,
        (sockets, relay_sockets): (&[Arc<MediaSocket>], &[Arc<MediaSocket>]),
    ) -> Self {
        let Common { clock, metrics, audio, health, capacity, directory, post, relay, outside, rtp_ports, turn } =
            common;
        let all: Vec<_> = sockets.iter().chain(relay_sockets).cloned().collect();
        let beat = audio.start + AFTER_TURN;
        Self {
            id,
            clock,
            host,
            audio,
            health,
            candidates: sockets.iter().map(|socket| socket.advertised).collect(),
            demux: RefCell::default(),
            connections: Connections::default(),
            relay_connections: Connections::default(),
            relay: relay.map(|parts| RefCell::new(Relay::new(RelayParts { worker: id, ..parts }))),
            prober: outside.prober().filter(|_| id == WorkerId(0)).map(RefCell::new),
            answered: Notify::new(),
            outside,
            rtp_ports,
            rtp_users: RefCell::default(),
            turn: Outlets::new(turn),
            sessions: RefCell::default(),
            neighbours: RefCell::new(Neighbours::new(id, post.workers())),
            post_box: RefCell::new(post_box),
            audience: RefCell::default(),
            load: RefCell::default(),
            turned: Notify::new(),
            turns: RefCell::default(),
            joining: Notify::new(),
            joins: RefCell::default(),
            capacity,
            rearmed: Notify::new(),
            filled: Notify::new(),
            deadlines: RefCell::default(),
            calm: Beat::new(beat, CALM),
            eager: Beat::new(beat, EAGER),
            waiting: Cell::new(0),
            crowded: Cell::new(false),
            passed: Cell::default(),
            outbox: RefCell::new(Outbox::new(&all, metrics.clone())),
            directory,
            post,
            next_key: Cell::new(0),
            metrics,
        }
    }

    /// A new session is there.
    pub fn welcome(&self, key: SessionKey, id: SessionId, resident: Resident) {
        self.sessions.borrow_mut().insert(key, resident);
        self.directory.insert(id, (self.id, key));
    }

    /// ICE of `key` accepted `path`, by a datagram that came straight or `via` another worker, which must know.
    pub fn learn(&self, path: Path, key: SessionKey, via: Option<WorkerId>) {
        self.demux.borrow_mut().learn(path, key);
        self.neighbours.borrow_mut().forget(path);
        if let Some(via) = via {
            self.tell(via, Word::Learnt { owner: self.id, path });
        }
    }

    /// `key` sends a check whose answer may come to any worker.
    pub fn expect(&self, transaction: [u8; 12], key: SessionKey) {
        self.demux.borrow_mut().expect(transaction, key);
        self.expect_elsewhere(transaction);
    }

    /// The same of an answer that is for no session.
    pub fn expect_elsewhere(&self, transaction: [u8; 12]) {
        for worker in self.neighbours.borrow().others() {
            self.tell(worker, Word::Expected { owner: self.id, transaction });
        }
    }

    /// What another worker has said, if any word waits.
    #[must_use]
    pub fn next_word(&self) -> Option<Word> {
        self.post_box.borrow_mut().words.try_recv().ok()
    }

    /// Hands a datagram on to the worker that it belongs to.
    pub fn forward(&self, worker: WorkerId, stray: Stray) {
        self.count_post(self.post.forward(worker, stray));
    }

    /// Tells another worker something.
    pub fn tell(&self, worker: WorkerId, word: Word) {
        self.count_post(self.post.tell(worker, word));
    }

    fn count_post(&self, sent: bool) {
        if sent {
            self.metrics.forwarded();
        } else {
            self.metrics.drop(DropReason::MailboxFull);
        }
    }

    /// Who had this place wants no more turns.
    pub fn leave_audience(&self, place: usize) {
        let mut audience = self.audience.borrow_mut();
        audience.remove(place);
        if audience.is_empty() {
            // No turn would tell that there is no load any more.
            *self.load.borrow_mut() = Load::default();
            drop(audience);
            self.tell_strain();
        }
    }

    /// Puts a heavy step in line; returns whether there was room.
    pub fn join(&self, step: JoinStep) -> bool {
        let mut joins = self.joins.borrow_mut();
        let room = match step {
            JoinStep::Offer { .. } => joins.offer(step),
            JoinStep::Handshake { key, .. } => joins.handshake(key, step),
        };
        if room.is_ok() {
            self.metrics.join_waits(1);
            self.joining.notify_one();
        }
        room.is_ok()
    }

    /// A turn of audio has come.
    pub fn turn_comes(&self, turn: Play) {
        self.turns.borrow_mut().push_back(turn);
        self.turned.notify_one();
    }

    /// The turn that is to be played to all before any other. What is behind by more than may leave at once is skipped.
    pub fn oldest_turn(&self) -> Option<Arc<AudioTurn>> {
        let mut turns = self.turns.borrow_mut();
        while let Some(Play { turn, under_way }) = turns.front() {
            if under_way.load(Ordering::Acquire) as u64 <= MAX_BURST {
                return Some(turn.clone());
            }
            under_way.fetch_sub(1, Ordering::AcqRel);
            self.metrics.turn_skipped();
            turns.pop_front();
        }
        None
    }

    /// The oldest turn, which began to be played at `began`, has been played to all.
    pub fn turn_ends(&self, began: Instant) {
        let Some(Play { under_way, .. }) = self.turns.borrow_mut().pop_front() else { return };
        under_way.fetch_sub(1, Ordering::AcqRel);
        let now = self.clock.now();
        let took = now.saturating_duration_since(began);
        self.load.borrow_mut().turn(took, now);
        self.tell_strain();
        self.metrics.turn_played(took);
    }

    /// The heavy step whose turn it is.
    pub fn next_join(&self) -> Option<JoinStep> {
        let was_full = self.joins.borrow().is_full();
        let step = self.joins.borrow_mut().pop().inspect(|_| self.metrics.join_waits(-1));
        if was_full {
            // Without an audience no turn would tell.
            self.tell_strain();
        }
        step
    }

    /// Why nobody can be taken in, if so.
    #[must_use]
    pub fn strain(&self) -> Option<&'static str> {
        if self.load.borrow().is_strained(self.clock.now()) {
            Some("the server has all that it can carry")
        } else if self.joins.borrow().is_full() {
            Some("too many join at this moment, try again")
        } else {
            None
        }
    }

    /// Lets newcomers pass by who would be refused here, and come again when they would not.
    pub fn tell_strain(&self) {
        self.capacity.tell(self.id, self.strain().is_some());
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
        if transmit.proto == Protocol::Tcp {
            self.connections.push(transmit, &self.metrics, self.clock.now());
        } else if self.turn.is_relayed(transmit.source) {
            turn::send(self, &transmit);
        } else if is_virtual(transmit.destination.ip()) {
            let done = relay::deliver(self, transmit.destination, transmit.source, &transmit.contents);
            done.unwrap_or_else(|reason| self.metrics.relay_dropped(reason));
        } else {
            self.send_datagram(transmit);
        }
    }

    /// Sends a datagram that leaves by a socket.
    pub fn send_datagram(&self, transmit: Transmit) {
        if self.outbox.borrow_mut().push(transmit) {
            self.filled.notify_one();
        }
    }

    /// A session here sends by this port from now on.
    pub fn use_port(&self, rtp: &RtpPort) {
        let mut users = self.rtp_users.borrow_mut();
        let count = users.entry(rtp.port).or_default();
        *count += 1;
        if *count == 1 {
            self.outbox.borrow_mut().open(&rtp.sockets);
        }
    }

    /// A session here does so no more.
    pub fn leave_port(&self, rtp: &RtpPort) {
        let mut users = self.rtp_users.borrow_mut();
        let left = users.get_mut(&rtp.port).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            users.remove(&rtp.port);
            self.outbox.borrow_mut().close(rtp.port);
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

    /// A session that did not wait for an answer does, or the other way round.
    pub fn waits(&self, waits: bool) {
        let waiting = self.waiting.get();
        self.waiting.set(if waits { waiting + 1 } else { waiting.saturating_sub(1) });
    }

    /// When that is done which is due at `at` and need not be done at once. Whoever waits for an answer waits less.
    #[must_use]
    pub fn on_beat(&self, at: Instant, waits: bool) -> Instant {
        self.beat(waits).at_or_after(at)
    }

    fn beat(&self, waits: bool) -> Beat {
        if waits || self.waiting.get() > 0 { self.eager } else { self.calm }
    }

    /// Until when datagrams may wait; none when there are so few sessions that each is better off at once.
    #[must_use]
    pub fn gathers_until(&self) -> Option<Instant> {
        // Who comes and goes at the border does not change it each time.
        let enough = if self.crowded.get() { CROWD / 2 } else { CROWD };
        let crowded = self.sessions.borrow().len() >= enough;
        self.crowded.set(crowded);
        crowded.then(|| self.beat(false).after(self.clock.now()))
    }

    /// The same of what comes to the relay: checks and reports may wait, and what its clients say to each other may not.
    #[must_use]
    pub fn relay_gathers_until(&self) -> Option<Instant> {
        let talk = |passed| self.clock.now().saturating_duration_since(passed) < TALK;
        self.gathers_until().filter(|_| !self.passed.get().is_some_and(talk))
    }

    /// Something went from one client of the relay to another.
    pub fn passes(&self, now: Instant) {
        self.passed.set(Some(now));
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
            AudienceNote::Join(tap) => self.audio.join(tap),
            AudienceNote::Leave(tap) => self.audio.leave(tap),
            AudienceNote::Abandon(tap) => self.audio.abandon(tap),
        }
    }

    /// The session's peer connection is gone: nothing leads to it any more.
    pub fn unroute(&self, key: SessionKey) {
        let paths = self.demux.borrow_mut().forget(key);
        for path in paths.iter().filter(|path| path.transport == Transport::Tcp) {
            self.connections.end(path.remote);
        }
    }

    /// Forgets a session that is over.
    pub fn forget(&self, key: SessionKey, id: &SessionId) {
        self.unroute(key);
        relay::session_ends(self, id);
        turn::wish(self, key, Ipv4Addr::UNSPECIFIED.into(), RelayWish::Leave);
        self.deadlines.borrow_mut().disarm(key);
        self.sessions.borrow_mut().remove(&key);
        self.directory.remove(id);
    }
}
