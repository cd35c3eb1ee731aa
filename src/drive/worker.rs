//! The actor of one media worker: reads its sockets, fans audio out, keeps time for its sessions, opens and resumes them.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;

use crate::engine::demux::{DropReason, Path, Transport};
use crate::engine::session::{Host, Profile, SessionCore};
use crate::wire::ids::SessionId;
use crate::wire::media::AudioTurn;
use crate::wire::signal::SignalFault;

use super::addresses::candidates_for;
use super::audio::AudioHandle;
use super::clock::{Clock, entropy};
use super::hub::{Capacity, Hub};
use super::metrics::Metrics;
use super::session::{Attach, Datagram, Line, Session, Shutdown, Tick, ToClient, Turn};
use super::udp::{BoundSocket, Inbox, MediaSocket};

/// Turns of audio and requests that may wait for the worker.
const MAILBOX: usize = 256;
/// Sessions ticked in one turn of the loop, so that datagrams and audio never wait for a crowd of deadlines.
const TICKS: usize = 256;

/// Opens a session, or resumes one.
#[derive(Debug, Message)]
#[rtype(result = "Result<Opened, SignalFault>")]
pub struct Open {
    /// The session to resume, if it is still there.
    pub resume: Option<SessionId>,
    /// What the session does.
    pub profile: Profile,
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
    /// Its name towards the client.
    pub id: SessionId,
    /// Whether it was there before.
    pub resumed: bool,
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
    /// Turns sent and not yet taken.
    pub under_way: Arc<AtomicUsize>,
}

/// Ends all sessions, says goodbye to their peers, takes no more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Retire;

/// One worker.
#[derive(Debug)]
pub struct Worker {
    hub: Rc<Hub>,
    sockets: Vec<Rc<MediaSocket>>,
    capacity: Capacity,
    retired: bool,
}

impl Worker {
    /// A worker over `sockets`; must be called on the thread that it will live on.
    ///
    /// # Errors
    /// When the runtime does not take a socket.
    pub fn new(
        clock: Clock,
        metrics: Metrics,
        host: Arc<Host>,
        audio: AudioHandle,
        sockets: Vec<BoundSocket>,
        capacity: Capacity,
    ) -> std::io::Result<Self> {
        let sockets =
            sockets.into_iter().map(|socket| socket.into_media().map(Rc::new)).collect::<Result<Vec<_>, _>>()?;
        let hub = Rc::new(Hub::new(clock, metrics, host, audio, &sockets));
        Ok(Self { hub, sockets, capacity, retired: false })
    }

    fn open(
        &mut self,
        resume: Option<SessionId>,
        profile: Profile,
        client: IpAddr,
    ) -> Result<(Addr<Session>, SessionId, bool), SignalFault> {
        if self.retired {
            return Err(SignalFault::OverCapacity("the server is going away"));
        }
        let known = resume.and_then(|id| {
            let key = *self.hub.ids.borrow().get(&id)?;
            let session = self.hub.sessions.borrow().get(&key)?.clone();
            Some((session, id, true))
        });
        if let Some(known) = known {
            return Ok(known);
        }
        let place = self.capacity.take().ok_or(SignalFault::OverCapacity("the server is full"))?;
        let mut bytes = [0; 16];
        entropy(&mut bytes);
        let (id, key) = (SessionId::from_random(bytes), self.hub.next_key());
        let core = SessionCore::new(self.hub.host.clone(), profile, candidates_for(client, &self.hub.candidates));
        let session = Session::new(core, key, id, self.hub.clone(), place).start();
        self.hub.sessions.borrow_mut().insert(key, session.clone());
        self.hub.ids.borrow_mut().insert(id, key);
        tracing::info!(session = ?id, %client, model = ?profile.model, "session opened");
        Ok((session, id, false))
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        for socket in &self.sockets {
            actix::spawn(read(self.hub.clone(), socket.clone()));
        }
        actix::spawn(keep_time(self.hub.clone()));
        actix::spawn(empty_outbox(self.hub.clone()));
    }
}

impl Handler<Open> for Worker {
    type Result = ResponseFuture<Result<Opened, SignalFault>>;

    fn handle(&mut self, Open { resume, profile, client, door }: Open, _ctx: &mut Context<Self>) -> Self::Result {
        let opened = self.open(resume, profile, client);
        let media = candidates_for(client, &self.hub.candidates).first().copied();
        Box::pin(async move {
            let (session, id, resumed) = opened?;
            let media = media.ok_or(SignalFault::Internal)?;
            let door = session.send(Attach(door)).await.map_err(|_| SignalFault::Internal)?;
            Ok(Opened { line: Line::new(session, door), id, resumed, media })
        })
    }
}

impl Handler<Play> for Worker {
    type Result = ();

    fn handle(&mut self, Play { turn, under_way }: Play, _ctx: &mut Context<Self>) {
        under_way.fetch_sub(1, Ordering::AcqRel);
        for (_, session) in self.hub.audience.borrow().iter() {
            if session.try_send(Turn(turn.clone())).is_err() {
                self.hub.metrics.turn_dropped();
            }
        }
    }
}

impl Handler<Retire> for Worker {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Retire, _ctx: &mut Context<Self>) -> Self::Result {
        self.retired = true;
        let hub = self.hub.clone();
        Box::pin(async move {
            let sessions: Vec<_> = hub.sessions.borrow().values().cloned().collect();
            for session in sessions {
                // One that is gone already needs no goodbye.
                let _ = session.send(Shutdown).await;
            }
            hub.flush();
        })
    }
}

/// Hands datagrams to their sessions for as long as the worker's thread runs.
async fn read(hub: Rc<Hub>, socket: Rc<MediaSocket>) {
    /// A socket that says nothing but errors must not spin.
    const PAUSE: Duration = Duration::from_millis(20);
    let mut inbox = Inbox::default();
    loop {
        let received = socket
            .receive(&mut inbox, |remote, bytes| {
                hub.metrics.received(bytes.len());
                let path = Path { transport: Transport::Udp, remote };
                let routed = hub.demux.borrow().route(path, bytes);
                let sent = routed.and_then(|key| {
                    let sessions = hub.sessions.borrow();
                    let session = sessions.get(&key).ok_or(DropReason::UnknownSource)?;
                    let datagram =
                        Datagram { path, destination: socket.advertised, bytes: Bytes::copy_from_slice(bytes) };
                    session.try_send(datagram).map_err(|_| DropReason::MailboxFull)
                });
                if let Err(reason) = sent {
                    hub.metrics.drop(reason);
                }
            })
            .await;
        match received {
            // Sessions answer before more is read.
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => {
                tracing::debug!(%error, "media socket");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
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
            let session = hub.sessions.borrow().get(&key).cloned();
            // A full mailbox means that the session is about to run anyway; it then asks again.
            if session.is_some_and(|session| session.try_send(Tick).is_err()) {
                hub.arm(key, now + Duration::from_millis(10));
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
