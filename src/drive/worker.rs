//! The actor of one media worker: reads its sockets, fans audio out, keeps time for its sessions, opens and resumes them.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use actix::prelude::*;
use bytes::Bytes;

use crate::engine::demux::{DropReason, Path, Transport};
use crate::engine::reflexive::Locals;
use crate::engine::relay::is_virtual;
use crate::engine::session::{Host, PortRange, Profile, SessionCore};
use crate::wire::ids::{SessionId, SessionKey, WorkerId};
use crate::wire::media::AudioTurn;
use crate::wire::signal::SignalFault;

use super::addresses::candidates_for;
use super::capacity::Place;
use super::clock::entropy;
use super::hub::{Common, Hub, JoinStep, Resident};
use super::post::{PostBox, Stray, Word};
use super::reflexive;
use super::relay;
use super::rtp_ports::RtpPort;
use super::seat::{Origin, Seat};
use super::session::{Attach, Line, Session, Shutdown, ToClient};
use super::tcp;
use super::turn;
use super::udp::{BATCH, Inbox, MediaSocket, READS};

/// Turns of audio and requests that may wait for the worker.
const MAILBOX: usize = 256;
/// Sessions ticked in one turn of the loop, so that datagrams and audio never wait for a crowd of deadlines.
const TICKS: usize = 64;
/// What a client is told that may have the port which it asks for, when another program has it.
const NO_PORT: SignalFault = SignalFault::OverCapacity("no RTP port is free");

/// Opens a session.
#[derive(Debug, Message)]
#[rtype(result = "Result<Opened, SignalFault>")]
pub struct Open {
    /// Its place, which is on this worker.
    pub place: Place,
    /// What the session does.
    pub profile: Profile,
    /// The UDP ports that it may use; any where there are none.
    pub ports: Option<PortRange>,
    /// The client's address.
    pub client: IpAddr,
    /// The way to the client.
    pub door: Recipient<ToClient>,
}

/// Attaches a client to a session that it had, if that is still there.
#[derive(Debug, Message)]
#[rtype(result = "Option<Opened>")]
pub struct Resume {
    /// The session.
    pub key: SessionKey,
    /// The client's address.
    pub client: IpAddr,
    /// The way to the client.
    pub door: Recipient<ToClient>,
}

/// A session that is there.
#[derive(Debug)]
pub struct Opened {
    /// The way to it.
    pub line: Line,
    /// Its name towards the client; one that was resumed has it already.
    pub id: Option<SessionId>,
    /// An address that media goes to.
    pub media: SocketAddr,
}

/// A turn of audio for everybody who listens. It goes past the mailbox's bound, so that no crowd of joins keeps it out; its sender
/// bounds it by `under_way` instead.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Play {
    /// The turn.
    pub turn: Arc<AudioTurn>,
    /// Turns sent and not yet played to all.
    pub under_way: Arc<AtomicUsize>,
}

/// Ends all sessions, says goodbye to their peers, takes no more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Retire;

/// The UDP sockets of one worker.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Of the media port.
    pub media: Vec<MediaSocket>,
    /// Of the relay.
    pub relay: Vec<MediaSocket>,
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    hub: Rc<Hub>,
    sockets: Vec<Arc<MediaSocket>>,
    /// Of the relay.
    relay_sockets: Vec<Arc<MediaSocket>>,
    retired: bool,
}

impl Worker {
    /// Worker `id` over `sockets`; must be called on the thread that it will live on.
    #[must_use]
    pub fn new(id: WorkerId, common: Common, host: Arc<Host>, post_box: PostBox, sockets: Sockets) -> Self {
        let [sockets, relay_sockets] =
            [sockets.media, sockets.relay].map(|sockets| sockets.into_iter().map(Arc::new).collect::<Vec<_>>());
        let hub = Rc::new(Hub::new(id, common, host, post_box, (&sockets, &relay_sockets)));
        Self { hub, sockets, relay_sockets, retired: false }
    }

    fn open(
        &mut self,
        place: Place,
        (profile, ports): (Profile, Option<PortRange>),
        client: IpAddr,
    ) -> Result<(Addr<Session>, SessionId, Option<SocketAddr>), SignalFault> {
        if self.retired {
            return Err(SignalFault::OverCapacity("the server is going away"));
        }
        self.hub.tell_strain();
        if let Some(reason) = self.hub.strain() {
            self.hub.metrics.join_refused();
            return Err(SignalFault::OverCapacity(reason));
        }
        let mut bytes = [0; 16];
        entropy(&mut bytes);
        let (id, key) = (SessionId::from_random(bytes), self.hub.next_key());
        let rtp = ports.map(|range| self.hub.rtp_ports.take(range).ok_or(NO_PORT)).transpose()?;
        let tcp = candidates_for(client, &self.hub.candidates);
        let hosts = rtp.as_ref().map_or_else(|| tcp.clone(), |rtp| candidates_for(client, &rtp.candidates()));
        let mut reflexive = self.hub.outside.known().to_vec();
        reflexive.retain(|one| hosts.contains(&one.base));
        let media = hosts.first().copied();
        let core = SessionCore::new(self.hub.host.clone(), profile, Locals { hosts, tcp, reflexive });
        let core = if self.hub.turn.are_there() { core.with_outside_relay() } else { core };
        let seat = Seat::new(core, key, id, self.hub.clone());
        seat.borrow_mut().see_client(client);
        if let Some(rtp) = rtp {
            self.begin_port(&rtp);
            seat.borrow_mut().hold(rtp);
        }
        let session = Session::new(seat.clone(), place).start();
        self.hub.welcome(key, id, Resident { actor: session.clone(), seat });
        tracing::info!(session = ?id, %client, model = ?profile.model, "session opened");
        Ok((session, id, media))
    }

    /// A session sends by this port, and if it is new, it is read here for all workers.
    fn begin_port(&self, rtp: &RtpPort) {
        self.hub.use_port(rtp);
        let Some(fresh) = &rtp.fresh else { return };
        for socket in &rtp.sockets {
            let (hub, socket, mut closing) = (self.hub.clone(), socket.clone(), fresh.clone());
            self.hub.health.spawn(async move {
                tokio::select! {
                    () = read(hub, socket) => {}
                    // It ends with its port.
                    _ = closing.changed() => {}
                }
            });
        }
    }

    /// An address that `client` reaches.
    fn media(&self, client: IpAddr) -> Option<SocketAddr> {
        candidates_for(client, &self.hub.candidates).first().copied()
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        let health = &self.hub.health;
        for socket in &self.sockets {
            health.spawn(read(self.hub.clone(), socket.clone()));
        }
        for socket in &self.relay_sockets {
            health.spawn(relay::read(self.hub.clone(), socket.clone()));
        }
        health.spawn(relay::keep_time(self.hub.clone()));
        health.spawn(reflexive::keep(self.hub.clone(), self.hub.outside.clone()));
        health.spawn(turn::follow(self.hub.clone()));
        health.spawn(turn::do_chores(self.hub.clone()));
        health.spawn(turn::keep_time(self.hub.clone()));
        health.spawn(collect(self.hub.clone()));
        health.spawn(keep_time(self.hub.clone()));
        health.spawn(play_turns(self.hub.clone()));
        health.spawn(work_joins(self.hub.clone()));
        health.spawn(empty_outbox(self.hub.clone()));
    }
}

impl Handler<Open> for Worker {
    type Result = ResponseFuture<Result<Opened, SignalFault>>;

    fn handle(&mut self, open: Open, _ctx: &mut Context<Self>) -> Self::Result {
        let Open { place, profile, ports, client, door } = open;
        let opened = self.open(place, (profile, ports), client);
        Box::pin(async move {
            let (session, id, media) = opened?;
            let media = media.ok_or(SignalFault::Internal)?;
            let door = session.send(Attach(door)).await.ok().flatten().ok_or(SignalFault::Internal)?;
            Ok(Opened { line: Line::new(session, door), id: Some(id), media })
        })
    }
}

impl Handler<Resume> for Worker {
    type Result = ResponseFuture<Option<Opened>>;

    fn handle(&mut self, Resume { key, client, door }: Resume, _ctx: &mut Context<Self>) -> Self::Result {
        let sessions = self.hub.sessions.borrow();
        let resident = sessions.get(&key).filter(|_| !self.retired).cloned();
        drop(sessions);
        if let Some(resident) = &resident {
            resident.seat.borrow_mut().see_client(client);
        }
        let session = resident.map(|resident| resident.actor);
        let media = self.media(client);
        Box::pin(async move {
            let (session, media) = (session?, media?);
            // One that ends at this moment is gone.
            let door = session.send(Attach(door)).await.ok()??;
            Some(Opened { line: Line::new(session, door), id: None, media })
        })
    }
}

impl Handler<Play> for Worker {
    type Result = ();

    fn handle(&mut self, turn: Play, _ctx: &mut Context<Self>) {
        self.hub.turn_comes(turn);
    }
}

impl Handler<Retire> for Worker {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Retire, _ctx: &mut Context<Self>) -> Self::Result {
        self.retired = true;
        let hub = self.hub.clone();
        Box::pin(async move {
            let sessions: Vec<_> = hub.sessions.borrow().values().map(|resident| resident.actor.clone()).collect();
            for session in sessions {
                // One that is gone already needs no goodbye.
                let _ = session.send(Shutdown).await;
            }
            turn::retire(&hub).await;
            hub.flush();
        })
    }
}

/// Hands datagrams to their sessions for as long as the worker's thread runs.
async fn read(hub: Rc<Hub>, socket: Arc<MediaSocket>) {
    let mut inbox = Inbox::default();
    let destination = socket.advertised;
    let take = |remote: SocketAddr, bytes: Option<&[u8]>| {
        // Nobody is at these addresses: the relay's clients come another way.
        let taken = if is_virtual(remote.ip()) {
            Err(DropReason::UnknownSource)
        } else {
            take(&hub, Path { transport: Transport::Udp, remote }, destination, bytes)
        };
        taken.unwrap_or_else(|reason| hub.metrics.drop(reason));
    };
    socket.read_on(&mut inbox, || hub.gathers_until(), take).await;
}

/// Hands a datagram to its session, wherever that lives.
///
/// # Errors
/// Why it goes nowhere.
pub(super) fn take(hub: &Hub, path: Path, destination: SocketAddr, bytes: Option<&[u8]>) -> Result<(), DropReason> {
    let bytes = bytes.ok_or(DropReason::Garbage)?;
    hub.metrics.received(bytes.len());
    deliver(hub, Origin { path, via: None, destination }, bytes).or_else(|reason| {
        if hub.neighbours.borrow().is_empty() || reason == DropReason::MailboxFull {
            return Err(reason);
        }
        // Whoever owns the path has told so before its peer could send this; the word may wait unread.
        while let Some(word) = hub.next_word() {
            hear(hub, word);
        }
        let owner = hub.neighbours.borrow().owner(path, bytes).ok_or(reason)?;
        hub.forward(owner, Stray { via: hub.id, path, destination, bytes: Bytes::copy_from_slice(bytes) });
        Ok(())
    })
}

/// Hands a datagram to a session of this worker.
///
/// # Errors
/// Why it goes nowhere.
pub(super) fn deliver(hub: &Hub, origin: Origin, bytes: &[u8]) -> Result<(), DropReason> {
    let found = hub.demux.borrow().route(origin.path, bytes);
    let key = match found {
        Err(_) if reflexive::receive(hub, origin.path.remote, origin.destination, bytes) => return Ok(()),
        found => found?,
    };
    let seat = hub.sessions.borrow().get(&key).ok_or(DropReason::UnknownSource)?.seat.clone();
    if is_handshake(bytes) {
        let step = JoinStep::Handshake { key, seat, origin, bytes: Bytes::copy_from_slice(bytes) };
        return hub.join(step).then_some(()).ok_or(DropReason::MailboxFull);
    }
    Seat::receive(&seat, origin, bytes);
    Ok(())
}

/// Whether a datagram begins with a record of a DTLS handshake (RFC 6347 section 4.1).
fn is_handshake(bytes: &[u8]) -> bool {
    bytes.first() == Some(&22)
}

/// Takes a datagram that another worker received. It goes no further than here.
fn accept(hub: &Hub, Stray { via, path, destination, bytes }: Stray) {
    if is_virtual(destination.ip()) {
        let done = relay::deliver(hub, destination, path.remote, &bytes);
        return done.unwrap_or_else(|reason| hub.metrics.relay_dropped(reason));
    }
    if let Err(reason) = deliver(hub, Origin { path, via: Some(via), destination }, &bytes) {
        hub.metrics.drop(reason);
    }
}

/// Takes what another worker says.
fn hear(hub: &Hub, word: Word) {
    match word {
        Word::Learnt { owner, path } => {
            hub.demux.borrow_mut().cede(path);
            hub.neighbours.borrow_mut().learn(path, owner);
        }
        Word::Left { user } => relay::end_user(hub, user),
        Word::Expected { owner, transaction } => hub.neighbours.borrow_mut().expect(transaction, owner),
    }
}

/// Takes what other workers send for as long as there are any.
async fn collect(hub: Rc<Hub>) {
    /// What is taken in one turn of the loop, as many as datagrams.
    const SOME: usize = READS;
    let mut taken = 0;
    loop {
        let (mut word, mut stray, mut arrival) = (None, None, None);
        poll_fn(|cx| {
            let mut post_box = hub.post_box.borrow_mut();
            word = ready_of(post_box.words.poll_recv(cx));
            stray = ready_of(post_box.strays.poll_recv(cx));
            arrival = ready_of(post_box.arrivals.poll_recv(cx));
            if word.is_some() || stray.is_some() || arrival.is_some() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        if let Some(word) = word {
            hear(&hub, word);
        }
        if let Some(stray) = stray {
            accept(&hub, stray);
        }
        if let Some(arrival) = arrival {
            actix::spawn(tcp::carry(hub.clone(), arrival));
        }
        taken += 1;
        if taken == SOME {
            taken = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// What is there already. A channel whose senders are all gone has nothing any more.
fn ready_of<T>(poll: Poll<Option<T>>) -> Option<T> {
    match poll {
        Poll::Ready(item) => item,
        Poll::Pending => None,
    }
}

/// Takes the heavy steps of joins one at a time, so that a worker with much audio to send joins few, and an idle one as many as come.
async fn work_joins(hub: Rc<Hub>) {
    loop {
        match hub.next_join() {
            Some(step) => step.take().await,
            None => hub.joining.notified().await,
        }
    }
}

/// Plays turns, each without a break: what else there is to do can wait so long, what a turn needs stays in the caches, and every listener
/// has the same place in each.
async fn play_turns(hub: Rc<Hub>) {
    loop {
        let Some(turn) = hub.oldest_turn() else {
            hub.turned.notified().await;
            continue;
        };
        let began = hub.clock.now();
        play(&hub, &turn);
        hub.turn_ends(began);
        // However far behind: datagrams are taken and a heavy step goes between two turns.
        tokio::task::yield_now().await;
    }
}

/// Plays a turn to all who listen.
fn play(hub: &Hub, turn: &AudioTurn) {
    let mut changed = Vec::new();
    let mut now = hub.clock.now();
    for (played, (_, seat)) in hub.audience.borrow().iter().enumerate() {
        // As often as packets leave.
        if played % BATCH == 0 {
            now = hub.clock.now();
        }
        if seat.borrow_mut().play(hub, turn, now) {
            changed.push(seat.clone());
        }
    }
    changed.iter().for_each(Seat::settle);
}

/// Ticks sessions when their deadlines come.
async fn keep_time(hub: Rc<Hub>) {
    loop {
        let now = hub.clock.now();
        let mut ticked = 0;
        while ticked < TICKS
            && let Some(key) = hub.pop_due(now)
        {
            ticked += 1;
            let seat = hub.sessions.borrow().get(&key).map(|resident| resident.seat.clone());
            if let Some(seat) = seat {
                Seat::tick(&seat, now);
            }
        }
        match hub.next_deadline() {
            _ if ticked == TICKS => tokio::task::yield_now().await,
            Some(at) => {
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = hub.rearmed.notified() => {}
                }
            }
            None => hub.rearmed.notified().await,
        }
    }
}

/// Flushes at the end of every turn of the loop in which something was put in.
async fn empty_outbox(hub: Rc<Hub>) {
    loop {
        hub.filled.notified().await;
        // Those who are about to write come first.
        tokio::task::yield_now().await;
        hub.flush();
    }
}
