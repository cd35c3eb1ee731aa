//! One session as a sans-IO machine: a client's words, datagrams, audio and time go in; datagrams, words and notes come out.
//!
//! str0m's law is "one mutation, then drain to the timeout". [`SessionCore::handle`] makes the mutation and lends the core
//! to a [`Drain`], so that nothing else can be put in before it has run dry. It owns no socket and reads no clock.

mod outside;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::media::{KeyframeRequestKind, MediaKind, Mid};
use str0m::net::{Receive, Transmit};
use str0m::rtp::RtpWrite;
use str0m::{Event, Output};

use crate::wire::classify::{Class, classify};
use crate::wire::ids::VoiceKey;
use crate::wire::media::{AudioTurn, FRAME_TICKS, SAMPLE_RATE};
use crate::wire::sdp;
use crate::wire::signal::{CandidateInit, ClientMsg, Offer, OfferStyle, ServerMsg, SignalFault};

use super::demux::{DropReason, Path};
use super::error::SessionError;
use super::express::Distrust;
pub use super::host::{Host, Model, Policy, PortRange, Profile};
use super::leg::{Answered, Leg};
use super::playout::{AudienceNote, PlayoutPacket};
use super::reflexive::Locals;
use super::turn::Relayed;
pub use outside::{GATHERING, RelayWish};
use outside::{Outside, Relay};

/// How long media goes on after a WebSocket merely dropped, so that the client can resume.
pub const GRACE: Duration = Duration::from_secs(10);
/// Candidates that are kept before an offer comes.
const EARLY_CANDIDATES: usize = 32;
/// From the first half of a frame to the second, for who wants 10 ms at a time.
const HALF: Duration = Duration::from_millis(10);
/// Seconds of audio between two `generation_tick`.
const TICK_SECONDS: u64 = 10;
/// What `speak` and `prompt` are told.
const NO_ENGINE: &str = "no speech engine is configured";

/// What goes into a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram that the demultiplexer gave to this session.
    Datagram {
        /// Where from.
        path: Path,
        /// Our address as candidates name it.
        destination: SocketAddr,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A message of the client, authenticated by its door.
    Client(ClientMsg),
    /// 20 ms of all live voices.
    Audio(&'a AudioTurn),
    /// The time that the last drain asked for.
    Tick,
    /// A WebSocket was attached, the first or a later one.
    Attached,
    /// The WebSocket dropped: the client may come back.
    Dropped,
    /// The client closed its WebSocket, or the server goes away.
    Closed,
    /// An outside TURN server has given us this address.
    Relayed(Relayed),
    /// No outside TURN server has one for us now; it may come later.
    Unrelayed,
    /// This relayed address is gone; another may come.
    RelayLost(SocketAddr),
}

/// What comes out of a session.
#[derive(Debug)]
pub enum Effect {
    /// A datagram to send.
    Transmit(Transmit),
    /// A message to the client.
    Client(ServerMsg),
    /// This ufrag is ours now.
    Register(String),
    /// A check with this transaction id goes to a path that ICE has not accepted yet: its answer is ours.
    Expect([u8; 12]),
    /// ICE accepted this path.
    Learn(Path),
    /// The peer connection is gone: its ufrags and paths mean nothing any more.
    Unroute,
    /// Of the outside TURN servers, this is wanted.
    Relay(RelayWish),
    /// The client is to restart ICE: tell it of ICE servers afresh.
    Renew,
    /// The audience of a voice changed.
    Audience(AudienceNote),
    /// Media connected, so long after the offer.
    Joined(Duration),
    /// A datagram was of no use.
    Drop(DropReason),
    /// Our SRTP does not make what str0m makes, which is a bug: all packets of this peer connection go through str0m.
    LongWay,
    /// The session is over: forget it.
    Ended(EndReason),
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndReason {
    /// The client closed its WebSocket, or the server goes away.
    Closed,
    /// The client did not come back in time.
    Abandoned,
}

/// Where a session stands, for counters and people.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum SessionState {
    /// No peer connection.
    Idle,
    /// Negotiated, not connected.
    Connecting,
    /// Connected and silent.
    Connected,
    /// Connected, and sound is sent.
    Streaming,
}

/// One session. What [`play_on`](SessionCore::play_on) reads comes first and together, which spares a packet its waits for memory.
#[repr(C)]
pub struct SessionCore {
    /// The second half of a frame, and when it is due.
    half: Option<(Instant, PlayoutPacket)>,
    /// When str0m is given a tick, once a drain has run dry. Until then it is left alone, if nothing is put in but packets of audio, each of
    /// which brings forth nothing but itself.
    rest: Option<Instant>,
    /// `generation_started` was sent; holds the number of ticks since.
    generation: Option<u64>,
    dirty: bool,
    ended: bool,
    leg: Option<Leg>,
    host: Arc<Host>,
    profile: Profile,
    locals: Locals,
    early: Vec<CandidateInit>,
    outside: Outside,
    /// What the client wants to hear.
    wanted: Option<VoiceKey>,
    dropped: Option<Instant>,
    effects: VecDeque<Effect>,
    writes: VecDeque<(Mid, RtpWrite)>,
    pace: Pace,
    /// What str0m wants and need not have at once.
    slow: Option<Instant>,
    /// The next input is one that panics.
    #[cfg(test)]
    pub(crate) bug: bool,
}

/// What str0m wants so far ahead, while no check of ours waits for its answer, is the next check of consent, or the next report.
const SLOW: Duration = Duration::from_secs(1);
/// So long such a thing waits for something else to come up, and goes along with it: a second look at a session costs more than a second
/// thing done. Checks stay within 6 s of each other (RFC 7675 section 5.1), and once they have met the reports, they go together.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far str0m's clock is with what was put in: it sends on the move of its clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Pace {
    /// Outputs may wait already: they are drained before the clock moves.
    Behind,
    /// Nothing can have come out yet: a packet was queued, or time is all that was put in. A drain before the clock moves would
    /// cost a third of a packet and find nothing.
    Due,
    /// The clock moved with what was put in.
    Moved,
}

impl std::fmt::Debug for SessionCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionCore")
            .field("profile", &self.profile)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl SessionCore {
    /// A session whose candidates are `locals`.
    #[must_use]
    pub fn new(host: Arc<Host>, profile: Profile, locals: impl Into<Locals>) -> Self {
        Self {
            half: None,
            rest: None,
            generation: None,
            dirty: false,
            ended: false,
            leg: None,
            host,
            profile,
            locals: locals.into(),
            early: Vec::new(),
            outside: Outside::default(),
            wanted: None,
            dropped: None,
            effects: VecDeque::new(),
            writes: VecDeque::new(),
            pace: Pace::Behind,
            slow: None,
            #[cfg(test)]
            bug: false,
        }
    }

    /// One mutation. The core stays borrowed until the returned [`Drain`] has run dry.
    ///
    /// # Errors
    /// [`SessionError::Undrained`] when the last drain was not run; nothing was done then.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) -> Result<Drain<'_>, SessionError> {
        if self.dirty {
            return Err(SessionError::Undrained);
        }
        #[cfg(test)]
        planted(self.bug);
        self.pace = Pace::Behind;
        let told = !matches!(input, Input::Audio(_) | Input::Tick | Input::Datagram { .. });
        if told || self.rest.is_none_or(|wake| now >= wake) {
            self.rest = None;
            if let Some(leg) = &mut self.leg {
                if told { leg.express.forget() } else { leg.express.doubt() }
            }
        }
        let mut packet = None;
        if !self.ended {
            match input {
                Input::Datagram { path, destination, bytes } => match self.datagram(path, destination, bytes, now) {
                    Ok(answer) => packet = answer,
                    Err(reason) => self.effects.push_back(Effect::Drop(reason)),
                },
                Input::Client(message) => self.client(message, now),
                Input::Audio(turn) => packet = self.audio(turn, now),
                Input::Tick => packet = self.tick(now),
                Input::Attached => self.dropped = None,
                Input::Dropped => self.dropped = Some(now),
                Input::Closed => self.end(EndReason::Closed, now),
                Input::Relayed(relayed) => self.relayed(relayed, now),
                Input::Unrelayed => self.waits_no_more(now),
                Input::RelayLost(address) => self.relay_lost(address, now),
            }
        }
        self.dirty = true;
        Ok(Drain { core: self, now, packet })
    }

    /// The packet of a turn for a session in which nothing goes on but sound: all that [`handle`](Self::handle) and its drain would come
    /// to, without a look at what has not changed. The next tick stays when it was. None for every other session; nothing was done then.
    pub fn play_on(&mut self, turn: &AudioTurn, now: Instant) -> Option<Transmit> {
        #[cfg(test)]
        planted(self.bug);
        if self.dirty || self.ended || self.half.is_some() {
            return None;
        }
        self.rest.filter(|wake| now < *wake)?;
        let leg = self.leg.as_mut().filter(|leg| !leg.is_paused())?;
        if self.generation.is_some_and(|told| told < ticks(leg.playout.played() + FRAME_TICKS)) {
            return None;
        }
        let packet = leg.playout.steady(turn)?;
        let transmit = leg.express.packet(&packet)?;
        leg.playout.count();
        Some(transmit)
    }

    /// Lets the session go without another look at its peer connection, after a panic; returns what the audience must be told.
    pub fn abandon(&mut self) -> Option<AudienceNote> {
        self.ended = true;
        let mut told = None;
        if let Some(leg) = &mut self.leg {
            leg.playout.abandon(|note| told = Some(note));
        }
        told
    }

    /// Where the session stands.
    #[must_use]
    pub fn state(&self) -> SessionState {
        match &self.leg {
            None => SessionState::Idle,
            Some(leg) if !leg.is_connected() => SessionState::Connecting,
            Some(leg) if leg.playout.is_active() => SessionState::Streaming,
            Some(_) => SessionState::Connected,
        }
    }

    /// Whether what the client sends should be answered sooner than a listener's reports: it connects, or hears itself.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        let connects = self.leg.as_ref().is_some_and(|leg| !leg.is_connected() || self.profile.model == Model::Echo);
        connects || self.outside.held.is_some()
    }

    /// Packets of audio that went past str0m.
    #[cfg(test)]
    pub(crate) fn short_ways(&self) -> u32 {
        self.leg.as_ref().map_or(0, |leg| leg.express.packets())
    }

    /// Checks that were answered past str0m.
    #[cfg(test)]
    pub(crate) fn short_answers(&self) -> u32 {
        self.leg.as_ref().map_or(0, |leg| leg.checks.answered)
    }

    /// Whether turns of audio are wanted.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.leg.as_ref().is_some_and(|leg| leg.playout.is_active())
    }

    /// Takes a datagram; returns an answer for which str0m was not asked.
    fn datagram(
        &mut self,
        path: Path,
        destination: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> Result<Option<Transmit>, DropReason> {
        let leg = self.leg.as_mut().ok_or(DropReason::Refused)?;
        let class = classify(bytes);
        let answer = if class == Class::Stun && self.rest.is_some() {
            leg.answer(&self.host, (path, destination), bytes, now)
        } else {
            None
        };
        if answer.is_none() {
            let receive = Receive::new(path.transport.protocol(), path.remote, destination, bytes);
            let input = str0m::Input::Receive(now, receive.map_err(|_| DropReason::Refused)?);
            let accepted = if class == Class::Stun {
                leg.accepts_stun(&self.host, (path, destination), bytes, &input, now)
            } else {
                leg.has_learnt(path)
            };
            if !accepted {
                return Err(DropReason::Refused);
            }
            self.rest = None;
            leg.express.expect(path, destination, class, bytes);
            // Bytes that a stranger could have forged never end a session by themselves: str0m says so where it must end.
            leg.rtc.handle_input(input).map_err(|_| DropReason::Refused)?;
            self.pace = Pace::Moved;
        }
        if class == Class::Stun {
            leg.learn(path);
            self.effects.push_back(Effect::Learn(path));
        }
        Ok(answer)
    }

    fn client(&mut self, message: ClientMsg, now: Instant) {
        let done = match message {
            ClientMsg::Offer(offer) => self.take_offer(offer, now),
            ClientMsg::Candidate(Some(init)) => self.candidate(init),
            ClientMsg::Start(start) => self.start(&start.voice_id),
            ClientMsg::Stop => {
                self.stop();
                Ok(())
            }
            ClientMsg::Speak(_) => Err(SignalFault::EngineFailed(NO_ENGINE.into())),
            ClientMsg::Prompt(prompt) => {
                let success = self.profile.model == Model::Echo;
                let error = (!success).then(|| SignalFault::EngineFailed(NO_ENGINE.into()).to_string());
                self.say(ServerMsg::PromptAck { prompt: prompt.prompt.unwrap_or_default(), success, error });
                Ok(())
            }
            ClientMsg::SetImage(_) => {
                self.say(ServerMsg::SetImageAck { success: true, error: None });
                Ok(())
            }
            // Their end means nothing to ICE, which goes on listening; the others never leave the door.
            ClientMsg::Candidate(None) | ClientMsg::Hello(_) | ClientMsg::Ping => Ok(()),
        };
        if let Err(fault) = done {
            self.say(fault.into());
        }
    }

    fn offer(&mut self, offer: &Offer, now: Instant) -> Result<(), SignalFault> {
        let answered = self.negotiate(offer, now);
        if self.leg.is_none() {
            self.leave_relay();
        }
        answered
    }

    fn negotiate(&mut self, offer: &Offer, now: Instant) -> Result<(), SignalFault> {
        let fingerprint = sdp::attribute(&offer.sdp, "fingerprint")
            .ok_or_else(|| SignalFault::InvalidSdp("no DTLS fingerprint".into()))?;
        let known = self.leg.take_if(|leg| leg.is_with(fingerprint, &offer.sdp));
        let rebuilt = known.is_none();
        let mut leg = known.unwrap_or_else(|| {
            Leg::new(&self.host, self.profile, &self.locals, (fingerprint, sdp::origin(&offer.sdp)), now)
        });
        if let Relay::There(relayed) = self.outside.relay {
            leg.add_relayed(relayed);
            if !rebuilt && leg.goes_by(relayed.address) {
                // Who restarts ICE may have lost its way.
                self.effects.push_back(Effect::Relay(RelayWish::Doubt));
            }
        }
        let source = leg.express.source();
        let answered = leg.accept(&self.host, self.profile.model, offer, now);
        if leg.express.source() != source {
            // The other half of a frame is the old source's.
            self.half = None;
        }
        // A refused offer leaves the peer connection as it was, unless that was only being made.
        if answered.is_ok() || !rebuilt {
            let goes_on = answered.is_ok() || leg.is_connected();
            // A rebuilt PeerConnection: the old leg's end is not worth a goodbye, its peer is gone.
            self.unroute();
            self.leg = Some(leg);
            if !goes_on {
                self.unroute();
            }
        }
        let Answered { sdp, trickle, ufrag, peers } = answered?;
        self.expect_peers(peers);
        // Another length of packets may want another cut of what plays.
        self.play();
        self.effects.push_back(Effect::Register(ufrag));
        for init in std::mem::take(&mut self.early) {
            if let Err(fault) = self.candidate(init) {
                self.say(fault.into());
            }
        }
        match offer.style {
            OfferStyle::Complete => self.say(ServerMsg::WebrtcAnswer { sdp }),
            OfferStyle::Trickle => {
                self.say(ServerMsg::Answer { sdp });
                for init in trickle {
                    self.say(ServerMsg::IceCandidate { candidate: Some(init) });
                }
                self.outside.unended = true;
                if !matches!(self.outside.relay, Relay::Awaited { .. }) {
                    self.end_candidates();
                }
            }
        }
        Ok(())
    }

    fn candidate(&mut self, init: CandidateInit) -> Result<(), SignalFault> {
        if let Some(leg) = self.leg.as_mut().filter(|_| self.outside.held.is_none()) {
            let peer = leg.candidate(&init)?;
            self.expect_peers(peer);
            return Ok(());
        }
        if sdp::candidate_use(&init.candidate) == sdp::CandidateUse::Malformed {
            return Err(SignalFault::about(&init.candidate, SignalFault::InvalidCandidate));
        }
        if self.early.len() < EARLY_CANDIDATES {
            self.early.push(init);
        }
        Ok(())
    }

    fn start(&mut self, voice_id: &str) -> Result<(), SignalFault> {
        let voice = self.host.voice(voice_id).ok_or_else(|| SignalFault::about(voice_id, SignalFault::UnknownVoice))?;
        if self.leg.is_none() && self.outside.held.is_none() {
            return Err(SignalFault::NoSession);
        }
        if self.profile.model == Model::Echo {
            return Err(SignalFault::InvalidMessage("an echo session plays no voices".into()));
        }
        self.wanted = Some(voice);
        self.play();
        Ok(())
    }

    /// Plays what is wanted as soon as it can be heard.
    fn play(&mut self) {
        let (Some(voice), Some(leg)) = (self.wanted, &mut self.leg) else { return };
        if leg.is_connected() {
            leg.playout.start(voice, |note| self.effects.push_back(Effect::Audience(note)));
            self.begin_generation();
        }
    }

    fn stop(&mut self) {
        self.wanted = None;
        let Some(mut leg) = self.leg.take() else { return };
        leg.playout.stop(|note| self.effects.push_back(Effect::Audience(note)));
        if self.profile.model == Model::Speaker {
            self.end_generation(&leg);
        }
        self.leg = Some(leg);
    }

    /// What has begun for an SDK ends for it, with the connection or before. An echo lasts as long as its connection.
    fn end_generation(&mut self, leg: &Leg) {
        if self.generation.take().is_some() && self.profile.model == Model::Speaker {
            let seconds = seconds(leg.playout.played());
            self.say(ServerMsg::GenerationEnded { seconds, reason: "stopped" });
        }
    }

    fn begin_generation(&mut self) {
        if self.profile.sdk && self.generation.is_none() {
            self.generation = Some(0);
            self.say(ServerMsg::GenerationStarted);
        }
    }

    fn audio(&mut self, turn: &AudioTurn, now: Instant) -> Option<Transmit> {
        // A tick that was late: the order counts.
        if let Some((_, half)) = self.half.take() {
            let late = self.send(half, now).map(Effect::Transmit);
            self.effects.extend(late);
        }
        let leg = self.leg.as_mut()?;
        let packet = leg.playout.turn(turn, |note| self.effects.push_back(Effect::Audience(note)))?;
        self.half = leg.playout.second().map(|half| (now + HALF, half));
        let ticks = ticks(leg.playout.played());
        if let Some(told) = &mut self.generation
            && *told < ticks
        {
            *told = ticks;
            let seconds = seconds(ticks * TICK_SECONDS * u64::from(SAMPLE_RATE));
            self.say(ServerMsg::GenerationTick { seconds });
        }
        self.send(packet, now)
    }

    /// Sends a packet of audio: through str0m, or at once if str0m would do nothing but send it.
    fn send(&mut self, packet: PlayoutPacket, now: Instant) -> Option<Transmit> {
        let leg = self.leg.as_mut().filter(|leg| !leg.is_paused())?;
        let short = self.rest.and_then(|_| leg.express.packet(&packet));
        if short.is_none() {
            leg.write(packet, now);
            self.rest = None;
            self.pace = Pace::Due;
        }
        short
    }

    fn tick(&mut self, now: Instant) -> Option<Transmit> {
        self.pace = Pace::Due;
        if self.dropped.is_some_and(|at| now >= at + GRACE) {
            self.end(EndReason::Abandoned, now);
            return None;
        }
        if self.leg.as_ref().is_some_and(|leg| now >= leg.deadline()) {
            self.drop_leg();
            return None;
        }
        if self.doubt_due().is_some_and(|due| now >= due) {
            if let Some(leg) = &mut self.leg {
                leg.doubted = true;
            }
            self.effects.push_back(Effect::Relay(RelayWish::Doubt));
        }
        if matches!(self.outside.relay, Relay::Awaited { until } if now >= until) {
            self.waits_no_more(now);
            (self.pace, self.rest) = (Pace::Behind, None);
        }
        let (_, half) = self.half.take_if(|(due, _)| now >= *due)?;
        self.send(half, now)
    }

    /// The session is over; the peer is told by DTLS and RTCP while the drain runs.
    fn end(&mut self, reason: EndReason, now: Instant) {
        self.ended = true;
        if let Some(leg) = &mut self.leg {
            leg.playout.abandon(|note| self.effects.push_back(Effect::Audience(note)));
            let mut goodbye = Vec::new();
            if leg.rtc.close().is_ok() && leg.rtc.handle_input(str0m::Input::Timeout(now)).is_ok() {
                while let Ok(output) = leg.rtc.poll_output() {
                    match output {
                        Output::Transmit(transmit) => goodbye.push(Effect::Transmit(transmit)),
                        Output::Event(_) => {}
                        Output::Timeout(_) => break,
                    }
                }
            }
            self.effects.extend(goodbye);
        }
        self.outside.held = None;
        self.drop_leg();
        self.effects.push_back(Effect::Ended(reason));
    }

    fn drop_leg(&mut self) {
        self.unroute();
        // An offer that waits is for another peer connection.
        if self.outside.held.is_none() {
            self.leave_relay();
        }
    }

    /// The peer connection goes, and perhaps another comes.
    fn unroute(&mut self) {
        if let Some(mut leg) = self.leg.take() {
            self.end_generation(&leg);
            leg.playout.abandon(|note| self.effects.push_back(Effect::Audience(note)));
            self.writes.clear();
            self.half = None;
            self.rest = None;
            self.effects.push_back(Effect::Unroute);
        }
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected => {
                if let Some(leg) = &mut self.leg {
                    let took = leg.connect(now);
                    self.effects.push_back(Effect::Joined(took));
                }
                if self.profile.model == Model::Echo {
                    self.begin_generation();
                }
                self.play();
            }
            Event::RtpPacket(packet) if self.profile.model == Model::Echo => self.echo(packet),
            // Whoever watches our picture lost it: only its sender can repair that.
            Event::KeyframeRequest(request) => self.request_keyframe(request.mid, request.kind),
            Event::Closed => self.drop_leg(),
            _ => {}
        }
    }

    fn echo(&mut self, packet: str0m::rtp::RtpPacket) {
        let Some(leg) = &mut self.leg else { return };
        let ssrc = packet.header.ssrc;
        let Some(mid) = leg.rtc.direct_api().stream_rx(&ssrc).map(|stream| stream.mid()) else { return };
        let known = leg.echo.knows(mid);
        let video = leg.rtc.media(mid).is_some_and(|media| media.kind() == MediaKind::Video);
        if let Some(write) = leg.echo.packet(mid, packet) {
            self.writes.push_back((mid, write));
            if !known && video {
                self.request_keyframe(mid, KeyframeRequestKind::Pli);
            }
        }
    }

    fn request_keyframe(&mut self, mid: Mid, kind: KeyframeRequestKind) {
        if let Some(leg) = &mut self.leg
            && let Some(stream) = leg.rtc.direct_api().stream_rx_by_mid(mid, None)
        {
            stream.request_keyframe(kind);
        }
    }

    fn say(&mut self, message: ServerMsg) {
        self.effects.push_back(Effect::Client(message));
    }

    /// Whether a tick that was asked for at `wake` brings audio, which a listener would hear coming late.
    #[must_use]
    pub fn is_exact(&self, wake: Instant) -> bool {
        self.half.as_ref().is_some_and(|(due, _)| *due == wake)
    }

    /// When a tick is wanted of which str0m says `at`.
    fn with_patience(&mut self, at: Instant, now: Instant) -> Instant {
        let urgent = self.leg.as_ref().is_none_or(Leg::is_urgent);
        let slow = !urgent && (self.slow == Some(at) || at.saturating_duration_since(now) >= SLOW);
        self.slow = slow.then_some(at);
        if slow { at + PATIENCE } else { at }
    }

    /// When a tick is wanted, beside what str0m wants.
    fn deadline(&self) -> Option<Instant> {
        let leg = self.leg.as_ref().map(Leg::deadline);
        let grace = self.dropped.map(|at| at + GRACE);
        let half = self.half.as_ref().map(|(due, _)| *due);
        let gathering = match self.outside.relay {
            Relay::Awaited { until } => Some(until),
            _ => None,
        };
        leg.into_iter().chain(grace).chain(half).chain(gathering).chain(self.doubt_due()).min()
    }
}

/// Stands for a bug in all that an input passes through.
#[cfg(test)]
fn planted(bug: bool) {
    assert!(!bug, "planted");
}

/// How many times a client has been told of so much audio, in samples at 48 kHz.
fn ticks(played: u64) -> u64 {
    played / (TICK_SECONDS * u64::from(SAMPLE_RATE))
}

/// Samples at 48 kHz as seconds.
#[expect(clippy::cast_precision_loss, reason = "2^52 samples are three thousand years")]
fn seconds(samples: u64) -> f64 {
    samples as f64 / f64::from(SAMPLE_RATE)
}

/// The one way to a session's effects; the core takes no input before it has run dry.
#[must_use = "a session does nothing until its drain runs"]
pub struct Drain<'a> {
    core: &'a mut SessionCore,
    now: Instant,
    /// What left past str0m. Nearly everything that leaves does, so it takes no place in the queue of effects.
    packet: Option<Transmit>,
}

impl std::fmt::Debug for Drain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drain").finish_non_exhaustive()
    }
}

impl Drain<'_> {
    /// Hands each effect to `apply`; returns when the session next wants [`Input::Tick`], if ever.
    ///
    /// # Errors
    /// [`SessionError::Peer`] when str0m gave the peer connection up; it was dropped, and all its effects were applied.
    pub fn run(self, mut apply: impl FnMut(Effect)) -> Result<Option<Instant>, SessionError> {
        let Self { core, now, packet } = self;
        let mut failure = None;
        // str0m was not touched, and has nothing to say.
        let mut wake = core.rest;
        while wake.is_none() {
            core.effects.drain(..).for_each(&mut apply);
            let Some(leg) = &mut core.leg else { break };
            let output = if core.pace == Pace::Due {
                core.pace = Pace::Moved;
                leg.rtc.handle_input(str0m::Input::Timeout(now)).and_then(|()| leg.rtc.poll_output())
            } else {
                leg.rtc.poll_output()
            };
            match output {
                Ok(Output::Transmit(transmit)) => {
                    if let Some(transaction) = leg.check_into_the_unknown(&transmit) {
                        apply(Effect::Expect(transaction));
                    }
                    if let Err(Distrust) = leg.learn_packet(&core.host, &transmit) {
                        apply(Effect::LongWay);
                    }
                    leg.note_check(&core.host, &transmit);
                    leg.note_source(&transmit);
                    apply(Effect::Transmit(leg.express.complete(transmit)));
                }
                Ok(Output::Event(event)) => {
                    leg.express.forget();
                    core.pace = Pace::Behind;
                    core.event(event, now);
                }
                Ok(Output::Timeout(_)) if !leg.rtc.is_alive() => core.drop_leg(),
                Ok(Output::Timeout(at)) => {
                    if let Some((mid, write)) = core.writes.pop_front() {
                        leg.write_rtp(mid, write);
                        core.pace = Pace::Due;
                    } else if core.pace == Pace::Moved {
                        wake = Some(core.with_patience(at, now));
                        core.rest = wake;
                    } else {
                        core.pace = Pace::Due;
                    }
                }
                Err(error) => {
                    failure = Some(error);
                    core.drop_leg();
                }
            }
        }
        core.effects.drain(..).for_each(&mut apply);
        packet.map(Effect::Transmit).into_iter().for_each(&mut apply);
        core.dirty = false;
        let wake = wake.into_iter().chain(core.deadline()).min().filter(|_| !core.ended);
        failure.map_or(Ok(wake), |error| Err(error.into()))
    }
}
