//! The simulated network: links that lose, delay and reorder by a seed, the one synthetic clock, and the pairs of a session and
//! a caller that talk over them. Routing and learning are the real demultiplexer's; the sound is the real audio engine's.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::ice::{StunMessage, TransId};
use str0m::media::Mid;
use str0m::rtp::RtpWrite;
use str0m::rtp::rtcp::SenderInfo;

use crate::engine::caller::{Caller, CallerEffect, CallerHost};
use crate::engine::deadline::{Beat, DeadlineQueue};
use crate::engine::demux::{Demux, DropReason, Path, Transport};
use crate::engine::playout::AudienceNote;
use crate::engine::session::{Effect, EndReason, Host, Input, Model, Profile, RelayWish, SessionCore, SessionState};
use crate::engine::turn::Relayed;
use crate::wire::classify::{Class, classify};
use crate::wire::ids::SessionKey;
use crate::wire::media::{FRAME_TICKS, MediaTime};
use crate::wire::sdp;
use crate::wire::signal::{ClientMsg, ServerMsg};

use super::studio::Studio;

/// The beginning of time. The only true clock read of the tests: an `Instant` cannot be made otherwise.
#[expect(clippy::disallowed_methods, reason = "an Instant can only be read, never made; all tests count from this one")]
pub fn zero() -> Instant {
    static ZERO: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *ZERO.get_or_init(|| Instant::now() + Duration::from_secs(3600))
}

/// So many milliseconds.
pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// So many seconds.
pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The server's media address, as its candidates name it.
pub const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10)), 3479);
/// First character of every ufrag of the simulated worker.
pub const WORKER: char = 'w';
/// Steps without any move of the clock that are taken for spinning.
const SPINNING: u32 = 2_000;
/// Lines of the story that are printed.
const STORY_LINES: usize = 80;

/// A small seeded generator (`SplitMix64`): the same numbers on every machine.
#[derive(Clone, Copy, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The dice of `seed`.
    pub const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to `end`, without it.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("a length fits");
        usize::try_from(self.roll() % end).expect("below a length")
    }

    /// A number from 0 to 1.
    pub fn unit(&mut self) -> f64 {
        let high = u32::try_from(self.roll() >> 32).expect("32 bits are left");
        f64::from(high) / f64::from(u32::MAX)
    }

    /// True so often.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }
}

thread_local! {
    /// Stands for the cryptographic source; seeded with the net, so that a story repeats.
    static ENTROPY: Cell<Dice> = const { Cell::new(Dice::seeded(0)) };
}

fn entropy(bytes: &mut [u8]) {
    let mut dice = ENTROPY.get();
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&dice.roll().to_le_bytes()[..chunk.len()]);
    }
    ENTROPY.set(dice);
}

/// What the sessions of a test share; their ufrags and first sequence numbers are drawn by `seed`.
pub fn host(seed: u64) -> Arc<Host> {
    ENTROPY.set(Dice::seeded(seed));
    Arc::new(Host::new(entropy, WORKER, Studio::cards()))
}

/// What the links do to datagrams, both ways.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    loss: f64,
    delay: Duration,
    jitter: Duration,
    duplicate: f64,
    reorder: f64,
}

/// One session and its caller.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Who(usize);

/// A packet that a caller received and decrypted.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// On which line.
    pub mid: Option<Mid>,
    /// Extended sequence number.
    pub seq: u64,
    /// RTP time.
    pub time: u32,
    /// The marker bit.
    pub marker: bool,
    /// The payload type.
    pub pt: u8,
    /// The payload.
    pub payload: Arc<[u8]>,
    /// The newest sender report that had come by then.
    pub report: Option<SenderInfo>,
}

/// A datagram as it was sent, before the link had its way with it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Towards the server.
    pub up: bool,
    /// Where to.
    pub to: SocketAddr,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Sent {
    /// Its class.
    pub fn class(&self) -> Class {
        classify(&self.bytes)
    }
}

/// A datagram under way. Ordered by time, then by the order of sending.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Flight {
    at: Instant,
    order: u64,
    from: SocketAddr,
    to: SocketAddr,
    transport: Transport,
    bytes: Vec<u8>,
}

/// One session, its caller, and what happened between them.
struct Seat {
    core: SessionCore,
    caller: Caller,
    /// The caller's own address.
    local: SocketAddr,
    /// The address that the server sees: another one behind a NAT.
    addr: SocketAddr,
    /// How they talk.
    transport: Transport,
    trickles: bool,
    /// The last offer.
    offer: String,
    /// The caller has not had the answer to it.
    awaits_answer: bool,
    dark: bool,
    caller_wake: Option<Instant>,
    record: Record,
}

/// What a test may ask of a pair.
#[derive(Debug, Default)]
pub struct Record {
    /// Packets that the caller received.
    pub heard: Vec<Heard>,
    /// What the server said.
    pub said: Vec<ServerMsg>,
    /// Every datagram that either side sent.
    pub sent: Vec<Sent>,
    /// Every ufrag that the session registered, in order.
    pub ufrags: Vec<String>,
    /// The session told that media connected.
    pub joined: usize,
    /// The caller saw media connected.
    pub connected: usize,
    /// The caller saw the server close.
    pub goodbyes: usize,
    /// Lines that the server wanted a key frame on.
    pub keyframes_wanted: Vec<Mid>,
    /// Addresses that outside TURN servers gave.
    pub relayed: Vec<SocketAddr>,
    /// What the session wanted of outside TURN servers.
    pub wishes: Vec<RelayWish>,
    /// How often the client was to restart ICE.
    pub renewals: usize,
    /// When the peer connection went away.
    pub unrouted: Vec<Instant>,
    /// How and when the session ended.
    pub ended: Option<(EndReason, Instant)>,
    /// Ticks that the session was given.
    pub ticks: u64,
    /// Turns of audio that the session was given.
    pub turns: u64,
    /// Those of them in which there was nothing else to do.
    pub steady: u64,
    /// What the session refused, and the demultiplexer for want of an owner is counted by the net.
    pub refused: u64,
    /// Peer connections that str0m gave up.
    pub failures: u64,
}

/// Sessions, callers, links and the clock.
pub struct Net {
    seed: u64,
    now: Instant,
    dice: Dice,
    weather: Weather,
    host: Arc<Host>,
    callers: CallerHost,
    demux: Demux,
    deadlines: DeadlineQueue,
    seats: Vec<Seat>,
    flights: BinaryHeap<Reverse<Flight>>,
    flown: u64,
    studio: Studio,
    /// When the next turn of audio is due, and its number; none while nobody listens.
    turn_due: Option<Instant>,
    turn: u64,
    wakes: u64,
    still: u32,
    drops: BTreeMap<DropReason, u64>,
    story: Vec<String>,
    /// Relayed addresses of ours at outside servers that work.
    relayed: Vec<SocketAddr>,
    /// Nothing passes between the server's own address and anybody.
    blocked: bool,
    /// Sessions look at everything in every turn.
    thorough: bool,
}

impl Net {
    /// A perfect network: no loss and 1 ms of delay.
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            now: zero(),
            dice: Dice::seeded(seed),
            weather: Weather { delay: ms(1), ..Weather::default() },
            host: host(!seed),
            callers: CallerHost::default(),
            demux: Demux::default(),
            deadlines: DeadlineQueue::default(),
            seats: Vec::new(),
            flights: BinaryHeap::new(),
            flown: 0,
            studio: Studio::new(),
            turn_due: None,
            turn: 0,
            wakes: 0,
            still: 0,
            drops: BTreeMap::new(),
            story: Vec::new(),
            relayed: Vec::new(),
            blocked: false,
            thorough: false,
        }
    }

    /// Sessions look at everything in every turn of audio.
    pub const fn thorough(mut self) -> Self {
        self.thorough = true;
        self
    }

    /// Loses this share of datagrams.
    pub const fn loss(mut self, share: f64) -> Self {
        self.weather.loss = share;
        self
    }

    /// Delays every datagram.
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.weather.delay = delay;
        self
    }

    /// Delays each datagram by up to this much more.
    pub const fn jitter(mut self, jitter: Duration) -> Self {
        self.weather.jitter = jitter;
        self
    }

    /// Delivers this share of datagrams twice.
    pub const fn duplicate(mut self, share: f64) -> Self {
        self.weather.duplicate = share;
        self
    }

    /// Holds this share of datagrams back until later ones have overtaken them.
    pub const fn reorder(mut self, share: f64) -> Self {
        self.weather.reorder = share;
        self
    }

    /// A listener that has made its offer.
    pub fn listener(&mut self) -> Who {
        self.listener_as(Profile::new(Model::Speaker, false), false)
    }

    /// A listener that has made its offer and has a connection to the server.
    pub fn listener_by_tcp(&mut self) -> Who {
        let addr = self.next_addr();
        let (caller, offer) = Caller::listener_by_tcp(&self.callers, addr, self.now);
        let profile = Profile::new(Model::Speaker, false);
        self.seat(profile, false, (Transport::Tcp, addr), caller, &offer)
    }

    /// A listener of some profile, whose offer may trickle.
    pub fn listener_as(&mut self, profile: Profile, trickles: bool) -> Who {
        let addr = self.next_addr();
        let (caller, offer) = Caller::listener(&self.callers, addr, self.now);
        self.seat(profile, trickles, (Transport::Udp, addr), caller, &offer)
    }

    /// A listener whose offer has something more in its audio section.
    pub fn listener_that_asks(&mut self, lines: &str) -> Who {
        let addr = self.next_addr();
        let (caller, offer) = Caller::listener(&self.callers, addr, self.now);
        let profile = Profile::new(Model::Speaker, false);
        self.seat(profile, false, (Transport::Udp, addr), caller, &format!("{offer}{lines}"))
    }

    /// A caller that sends and receives sound and picture, and has made its offer.
    pub fn echoer(&mut self, sdk: bool) -> Who {
        let addr = self.next_addr();
        let (caller, offer) = Caller::echoer(&self.callers, addr, self.now);
        self.seat(Profile::new(Model::Echo, sdk), false, (Transport::Udp, addr), caller, &offer)
    }

    /// A listener of a server that has outside TURN servers, whose offer may trickle.
    pub fn listener_with_outside_relay(&mut self, trickles: bool) -> Who {
        let addr = self.next_addr();
        let (caller, offer) = Caller::listener(&self.callers, addr, self.now);
        let profile = Profile::new(Model::Speaker, false);
        let core = SessionCore::new(self.host.clone(), profile, vec![SERVER]).with_outside_relay();
        self.seat_core(core, trickles, (Transport::Udp, addr), caller, &offer)
    }

    /// An outside server gives a session this address; it works until it is lost.
    pub fn relay(&mut self, who: Who, address: SocketAddr) {
        self.relayed.push(address);
        self.seats[who.0].record.relayed.push(address);
        let base = SocketAddr::from(([192, 0, 2, 77], 9_999));
        self.socket(who, Input::Relayed(Relayed { address, base }));
    }

    /// The address works no more, and the session is told.
    pub fn lose_relay(&mut self, who: Who, address: SocketAddr) {
        self.relayed.retain(|known| *known != address);
        self.socket(who, Input::RelayLost(address));
    }

    /// From now on, nobody reaches the server's own address.
    pub fn block(&mut self) {
        self.blocked = true;
    }

    /// A listener who is connected and hears `voice` from now on.
    pub fn call(&mut self, voice: &str) -> Who {
        let who = self.listener();
        self.start(who, voice);
        self.run_until("connected", secs(10), |net| net.record(who).connected > 0);
        who
    }

    /// The client says `start`.
    pub fn start(&mut self, who: Who, voice: &str) {
        self.say(who, &format!(r#"{{"type":"start","voice_id":"{voice}"}}"#));
    }

    /// The client says `stop`.
    pub fn stop(&mut self, who: Who) {
        self.say(who, r#"{"type":"stop"}"#);
    }

    /// The client's text frame, once its door has let it pass.
    pub fn say(&mut self, who: Who, text: &str) {
        match ClientMsg::parse(text) {
            Ok(message) => {
                // The length of an offer is drawn by str0m.
                let word = format!("{message:?}");
                self.tell(who, &format!("says {}", word.split("(Offer {").next().unwrap_or(&word)));
                self.session(who, Input::Client(message));
            }
            Err(fault) => self.hear_message(who, fault.into()),
        }
    }

    /// The client's WebSocket drops, closes or comes back.
    pub fn socket(&mut self, who: Who, input: Input<'static>) {
        self.tell(who, &format!("{input:?}"));
        self.session(who, input);
    }

    /// The client restarts ICE; returns its offer.
    pub fn restart(&mut self, who: Who) -> String {
        self.restart_as(who, |offer| offer)
    }

    /// The same, and somebody changes its offer on the way.
    pub fn restart_as(&mut self, who: Who, change: impl FnOnce(String) -> String) -> String {
        let offer = change(self.seats[who.0].caller.restart());
        self.offer(who, &offer);
        offer
    }

    /// The client listens on another of its lines, which may be a new one.
    pub fn listen_on(&mut self, who: Who, line: usize) {
        let offer = self.seats[who.0].caller.listen_on(line);
        self.offer(who, &offer);
    }

    /// The client offers once more, and nothing has changed.
    pub fn renegotiate(&mut self, who: Who) {
        self.renegotiate_as(who, |offer| offer);
    }

    /// The same, and somebody changes its offer on the way.
    pub fn renegotiate_as(&mut self, who: Who, change: impl FnOnce(String) -> String) {
        let offer = change(self.seats[who.0].offer.clone());
        self.offer_again(who, &offer);
    }

    /// The client throws its peer connection away and makes another, with a certificate of its own.
    pub fn rebuild(&mut self, who: Who) {
        self.rebuild_as(who, |offer| offer);
    }

    /// The same, and somebody changes its offer on the way.
    pub fn rebuild_as(&mut self, who: Who, change: impl FnOnce(String) -> String) {
        self.rebuild_with(who, &CallerHost::default(), change);
    }

    /// The client makes another peer connection with the certificate that it had.
    pub fn rebuild_with_same_certificate(&mut self, who: Who) {
        let host = self.callers.clone();
        self.rebuild_with(who, &host, |offer| offer);
    }

    fn rebuild_with(&mut self, who: Who, host: &CallerHost, change: impl FnOnce(String) -> String) {
        let (caller, offer) = Caller::listener(host, self.seats[who.0].local, self.now);
        self.seats[who.0].caller = caller;
        self.offer(who, &change(offer));
    }

    /// The client says goodbye by DTLS and RTCP.
    pub fn hang_up(&mut self, who: Who) {
        self.tell(who, "hangs up");
        self.seats[who.0].caller.close();
        self.caller(who);
    }

    /// The client's NAT gives it another address, as a phone's does between networks.
    pub fn move_to(&mut self, who: Who, addr: SocketAddr) {
        self.tell(who, &format!("moves to {addr}"));
        self.seats[who.0].addr = addr;
    }

    /// Nothing passes between the two any more, or again.
    pub fn dark(&mut self, who: Who, dark: bool) {
        self.tell(who, if dark { "the link goes dark" } else { "the link is back" });
        self.seats[who.0].dark = dark;
    }

    /// The caller sends a packet on one of its lines.
    pub fn send(&mut self, who: Who, line: usize, write: impl FnOnce(u8, Instant) -> RtpWrite) {
        let now = self.now;
        let caller = &mut self.seats[who.0].caller;
        let mid = caller.mids()[line];
        let pt = caller.payload_type(mid).expect("the line was answered");
        caller.send(mid, write(*pt, now));
        self.caller(who);
    }

    /// The caller asks for a key frame on one of its lines.
    pub fn want_keyframe(&mut self, who: Who, line: usize) {
        let caller = &mut self.seats[who.0].caller;
        let mid = caller.mids()[line];
        caller.request_keyframe(mid);
        self.caller(who);
    }

    /// A binding request for the session, as its caller would make it if it knew this password (RFC 8445 section 7.2.2).
    pub fn binding(&self, who: Who, password: &str) -> Vec<u8> {
        let seat = &self.seats[who.0];
        let local = seat.record.ufrags.last().expect("it was offered to");
        let remote = sdp::ice_credentials(&seat.offer).expect("an offer has credentials");
        let username = format!("{local}:{}", remote.ufrag);
        let message = StunMessage::binding_request(&username, TransId::new(), true, 7, 1_845_501_695, true);
        let mut bytes = vec![0; 512];
        let hmac = self.host.crypto.sha1_hmac_provider;
        let length = message
            .to_bytes(Some(password.as_bytes()), &mut bytes, |key, payloads| hmac.sha1_hmac(key, payloads))
            .expect("512 bytes are enough");
        bytes.truncate(length);
        bytes
    }

    /// A datagram comes to the server out of nowhere.
    pub fn inject(&mut self, from: SocketAddr, bytes: &[u8]) {
        let transport = Transport::Udp;
        self.arrive(&Flight { at: self.now, order: 0, from, to: SERVER, transport, bytes: bytes.to_vec() });
    }

    /// A datagram comes to a session, past the demultiplexer.
    pub fn force(&mut self, who: Who, from: SocketAddr, bytes: &[u8]) {
        self.force_by(who, Path { transport: Transport::Udp, remote: from }, SERVER, bytes);
    }

    /// The same by any path, to any address of ours.
    pub fn force_by(&mut self, who: Who, path: Path, destination: SocketAddr, bytes: &[u8]) {
        self.session(who, Input::Datagram { path, destination, bytes });
    }

    /// Lets time pass, from event to event.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.next_event().filter(|at| *at <= until) {
            self.step(at);
        }
        self.now = until;
    }

    /// Lets time pass until something is so.
    #[track_caller]
    pub fn run_until(&mut self, what: &str, limit: Duration, so: impl Fn(&Self) -> bool) {
        let until = self.now + limit;
        while !so(self) {
            match self.next_event().filter(|at| *at <= until) {
                Some(at) => self.step(at),
                None => panic!("not {what} within {limit:?}\n{}", self.story()),
            }
        }
    }

    /// The synthetic time.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// What happened to a pair.
    pub fn record(&self, who: Who) -> &Record {
        &self.seats[who.0].record
    }

    /// The same, to be emptied between two scenes.
    pub fn record_mut(&mut self, who: Who) -> &mut Record {
        &mut self.seats[who.0].record
    }

    /// Where a session stands.
    pub fn state(&self, who: Who) -> SessionState {
        self.seats[who.0].core.state()
    }

    /// The caller's address.
    pub fn addr(&self, who: Who) -> SocketAddr {
        self.seats[who.0].addr
    }

    /// The lines of the caller's offer.
    pub fn mids(&self, who: Who) -> &[Mid] {
        self.seats[who.0].caller.mids()
    }

    /// The session's last answer.
    pub fn answer(&self, who: Who) -> &str {
        let answer = self.record(who).said.iter().rev().find_map(|message| match message {
            ServerMsg::WebrtcAnswer { sdp } | ServerMsg::Answer { sdp } => Some(sdp),
            _ => None,
        });
        answer.expect("it was answered")
    }

    /// The caller's last offer.
    pub fn offered(&self, who: Who) -> &str {
        &self.seats[who.0].offer
    }

    /// Events that anything woke up for, since the beginning.
    pub const fn wakes(&self) -> u64 {
        self.wakes
    }

    /// Datagrams that the demultiplexer or a session had no use for, since the beginning.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops.get(&reason).copied().unwrap_or_default()
    }

    /// How many packets of audio the session has sent past str0m.
    pub fn short_ways(&self, who: Who) -> u32 {
        self.seats[who.0].core.short_ways()
    }

    /// How many of its caller's checks the session has answered past str0m.
    pub fn short_answers(&self, who: Who) -> usize {
        usize::try_from(self.seats[who.0].core.short_answers()).expect("few")
    }

    /// How the caller's datagrams come.
    pub fn path(&self, who: Who) -> Path {
        let Seat { transport, addr, .. } = self.seats[who.0];
        Path { transport, remote: addr }
    }

    /// How many ufrags and paths the demultiplexer knows.
    pub fn routes(&self) -> (usize, usize) {
        self.demux.len()
    }

    /// How many checks of ours wait for their answer.
    pub fn checks(&self) -> usize {
        self.demux.checks()
    }

    /// Whose a datagram would be.
    pub fn owner(&self, from: SocketAddr, bytes: &[u8]) -> Option<Who> {
        let path = Path { transport: Transport::Udp, remote: from };
        self.demux.route(path, bytes).ok().map(|key| Who(usize::try_from(key.0).expect("a place")))
    }

    /// Whether the audio engine has anything to play.
    pub fn is_on_air(&self) -> bool {
        self.studio.is_active()
    }

    /// The timeline, for people who must find out what went wrong.
    pub fn story(&self) -> String {
        let mut text = format!("seed {}, {:?}, drops {:?}\n", self.seed, self.weather, self.drops);
        for line in &self.story[self.story.len().saturating_sub(STORY_LINES)..] {
            text.push_str(line);
            text.push('\n');
        }
        for (place, seat) in self.seats.iter().enumerate() {
            let Record { heard, sent, ticks, turns, refused, failures, .. } = &seat.record;
            let (heard, sent) = (heard.len(), sent.len());
            let state = seat.core.state();
            writeln!(
                text,
                "#{place} {state:?}: heard {heard}, sent {sent}, ticks {ticks}, turns {turns}, refused {refused}, failed {failures}"
            )
            .expect("a String takes all");
        }
        text
    }

    fn next_addr(&self) -> SocketAddr {
        let place = u8::try_from(self.seats.len() + 1).expect("a test has few callers");
        SocketAddr::from(([198, 51, 100, place], 50_000))
    }

    fn seat(
        &mut self,
        profile: Profile,
        trickles: bool,
        (transport, addr): (Transport, SocketAddr),
        caller: Caller,
        offer: &str,
    ) -> Who {
        let core = SessionCore::new(self.host.clone(), profile, vec![SERVER]);
        self.seat_core(core, trickles, (transport, addr), caller, offer)
    }

    fn seat_core(
        &mut self,
        core: SessionCore,
        trickles: bool,
        (transport, addr): (Transport, SocketAddr),
        caller: Caller,
        offer: &str,
    ) -> Who {
        let who = Who(self.seats.len());
        let record = Record::default();
        self.seats.push(Seat {
            core,
            caller,
            local: addr,
            addr,
            transport,
            trickles,
            offer: String::new(),
            awaits_answer: false,
            dark: false,
            caller_wake: None,
            record,
        });
        self.session(who, Input::Attached);
        self.offer(who, offer);
        who
    }

    fn offer(&mut self, who: Who, sdp: &str) {
        sdp.clone_into(&mut self.seats[who.0].offer);
        self.seats[who.0].awaits_answer = true;
        self.offer_again(who, sdp);
    }

    fn offer_again(&mut self, who: Who, sdp: &str) {
        let kind = if self.seats[who.0].trickles { "offer" } else { "webrtc_offer" };
        let text = serde_json::json!({ "type": kind, "sdp": sdp }).to_string();
        self.say(who, &text);
    }

    fn tell(&mut self, who: Who, what: &str) {
        let at = self.now.saturating_duration_since(zero());
        self.story.push(format!("{:>10.3} s #{} {what}", at.as_secs_f64(), who.0));
    }

    fn next_event(&self) -> Option<Instant> {
        let flight = self.flights.peek().map(|Reverse(flight)| flight.at);
        let callers = self.seats.iter().filter_map(|seat| seat.caller_wake).min();
        [flight, callers, self.deadlines.next(), self.turn_due].into_iter().flatten().min()
    }

    /// Moves to the time of the next event and lets everything happen that is due.
    fn step(&mut self, at: Instant) {
        self.wakes += 1;
        self.still = if at > self.now { 0 } else { self.still + 1 };
        assert!(self.still < SPINNING, "the clock stands and somebody spins\n{}", self.story());
        self.now = self.now.max(at);
        while self.flights.peek().is_some_and(|Reverse(flight)| flight.at <= self.now) {
            let Some(Reverse(flight)) = self.flights.pop() else { break };
            self.arrive(&flight);
        }
        while let Some(key) = self.deadlines.pop_due(self.now) {
            let who = Who(usize::try_from(key.0).expect("a place"));
            self.seats[who.0].record.ticks += 1;
            self.session(who, Input::Tick);
        }
        for place in 0..self.seats.len() {
            if self.seats[place].caller_wake.is_some_and(|wake| wake <= self.now) {
                self.caller(Who(place));
            }
        }
        if self.turn_due.is_some_and(|due| due <= self.now) {
            self.play();
        }
    }

    /// One turn of audio for whoever listens.
    fn play(&mut self) {
        let time = MediaTime(self.turn * FRAME_TICKS);
        self.turn += 1;
        let Some(turn) = self.studio.turn(time) else {
            self.turn_due = None;
            return;
        };
        self.turn_due = self.turn_due.map(|due| due + ms(20));
        for place in 0..self.seats.len() {
            let seat = &mut self.seats[place];
            if !seat.core.is_listening() {
                continue;
            }
            seat.record.turns += 1;
            // As a worker does.
            let steady = if self.thorough { None } else { seat.core.play_on(&turn, self.now) };
            match steady {
                Some(transmit) => {
                    seat.record.steady += 1;
                    let key = SessionKey(u32::try_from(place).expect("few"));
                    self.apply(Who(place), key, Effect::Transmit(transmit));
                }
                None => self.session(Who(place), Input::Audio(&turn)),
            }
        }
    }

    fn audience(&mut self, note: AudienceNote) {
        match note {
            AudienceNote::Join(tap) => self.studio.join(tap),
            AudienceNote::Leave(tap) => self.studio.leave(tap),
            AudienceNote::Abandon(tap) => self.studio.abandon(tap),
        }
        if self.turn_due.is_none() && self.studio.is_active() {
            // On the grid of media time: frame n leaves at n times 20 ms.
            let passed = self.now.saturating_duration_since(zero()).as_millis() / 20 + 1;
            self.turn = u64::try_from(passed).expect("a test is short");
            self.turn_due = Some(zero() + ms(20 * self.turn));
        }
    }

    fn session(&mut self, who: Who, input: Input<'_>) {
        let seat = &mut self.seats[who.0];
        let key = SessionKey(u32::try_from(who.0).expect("few"));
        let mut effects = Vec::new();
        let wake = seat.core.handle(input, self.now).and_then(|drain| drain.run(|effect| effects.push(effect)));
        for effect in effects {
            self.apply(who, key, effect);
        }
        match wake {
            Ok(Some(at)) => {
                // As a worker with a crowd does.
                let core = &self.seats[who.0].core;
                let beat = Beat::new(zero(), ms(if core.is_waiting() { 5 } else { 20 }));
                self.deadlines.arm(key, if core.is_exact(at) { at } else { beat.at_or_after(at) });
            }
            Ok(None) => self.deadlines.disarm(key),
            Err(error) => {
                self.tell(who, &format!("session failed: {error}"));
                self.seats[who.0].record.failures += 1;
            }
        }
    }

    fn apply(&mut self, who: Who, key: SessionKey, effect: Effect) {
        let now = self.now;
        let record = &mut self.seats[who.0].record;
        match effect {
            Effect::Transmit(transmit) => {
                let relayed = transmit.source != SERVER;
                if relayed && !self.relayed.contains(&transmit.source) {
                    // What leaves by a relay that is gone goes nowhere, and what leaves from nowhere is a bug.
                    let known = record.relayed.contains(&transmit.source);
                    return assert!(known, "sent from an address that is not ours: {}", transmit.source);
                }
                assert_eq!(transmit.proto, self.seats[who.0].transport.protocol());
                if relayed || !self.blocked {
                    self.post(who, false, transmit.source, transmit.destination, &transmit.contents);
                }
            }
            Effect::Client(message) => self.hear_message(who, message),
            Effect::Register(ufrag) => {
                self.demux.register(&ufrag, key);
                record.ufrags.push(ufrag);
            }
            Effect::Expect(transaction) => self.demux.expect(transaction, key),
            Effect::Learn(path) => self.demux.learn(path, key),
            Effect::Unroute => {
                self.demux.forget(key);
                record.unrouted.push(now);
                self.tell(who, "the peer connection is gone");
            }
            Effect::Audience(note) => {
                self.tell(who, &format!("{note:?}"));
                self.audience(note);
            }
            Effect::Joined(took) => {
                record.joined += 1;
                self.tell(who, &format!("connected after {took:?}"));
            }
            Effect::Drop(reason) => {
                record.refused += 1;
                *self.drops.entry(reason).or_default() += 1;
            }
            Effect::Relay(wish) => record.wishes.push(wish),
            Effect::Renew => record.renewals += 1,
            Effect::LongWay => panic!("our SRTP is not str0m's\n{}", self.story()),
            Effect::Ended(reason) => {
                record.ended = Some((reason, now));
                self.demux.forget(key);
                self.tell(who, &format!("ended: {reason:?}"));
            }
        }
    }

    fn hear_message(&mut self, who: Who, message: ServerMsg) {
        self.tell(who, &format!("is told {message:?}"));
        let Seat { caller, awaits_answer, .. } = &mut self.seats[who.0];
        match &message {
            ServerMsg::WebrtcAnswer { sdp } | ServerMsg::Answer { sdp } if std::mem::take(awaits_answer) => {
                caller.accept(sdp).unwrap_or_else(|error| panic!("the answer is none: {error}\n{sdp}"));
            }
            ServerMsg::IceCandidate { candidate: Some(init) } => caller.candidate(init),
            _ => {}
        }
        self.seats[who.0].record.said.push(message);
        self.caller(who);
    }

    fn caller(&mut self, who: Who) {
        let mut effects = Vec::new();
        let wake = self.seats[who.0].caller.run(self.now, |effect| effects.push(effect));
        self.seats[who.0].caller_wake = wake.as_ref().ok().copied().filter(|_| self.seats[who.0].caller.is_alive());
        if let Err(error) = wake {
            self.tell(who, &format!("caller failed: {error}"));
        }
        for effect in effects {
            let (at, from) = (self.now, self.seats[who.0].addr);
            let record = &mut self.seats[who.0].record;
            match effect {
                CallerEffect::Transmit(transmit) => {
                    self.post(who, true, from, transmit.destination, &transmit.contents);
                }
                CallerEffect::Connected => record.connected += 1,
                CallerEffect::Packet(packet) => record.heard.push(Heard {
                    at,
                    mid: packet.header.ext_vals.mid,
                    seq: *packet.seq_no,
                    time: packet.header.timestamp,
                    marker: packet.header.marker,
                    pt: *packet.header.payload_type,
                    payload: packet.payload,
                    report: packet.last_sender_info,
                }),
                CallerEffect::KeyframeWanted(mid) => record.keyframes_wanted.push(mid),
                CallerEffect::Closed => {
                    record.goodbyes += 1;
                    self.tell(who, "caller: the server closed");
                }
            }
        }
    }

    /// Puts a datagram on the link.
    fn post(&mut self, who: Who, up: bool, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Seat { dark, record, transport, .. } = &mut self.seats[who.0];
        let transport = *transport;
        record.sent.push(Sent { up, to, bytes: bytes.to_vec() });
        if transport == Transport::Tcp && !*dark {
            // All of it comes, in order.
            let at = self.now + self.weather.delay;
            self.flown += 1;
            self.flights.push(Reverse(Flight { at, order: self.flown, from, to, transport, bytes: bytes.to_vec() }));
            return;
        }
        if *dark || self.dice.chance(self.weather.loss) {
            return;
        }
        let copies = 1 + u32::from(self.dice.chance(self.weather.duplicate));
        for _ in 0..copies {
            let mut at = self.now + self.weather.delay + self.weather.jitter.mul_f64(self.dice.unit());
            if self.dice.chance(self.weather.reorder) {
                at += ms(45);
            }
            self.flown += 1;
            self.flights.push(Reverse(Flight { at, order: self.flown, from, to, transport, bytes: bytes.to_vec() }));
        }
    }

    fn arrive(&mut self, flight: &Flight) {
        let Flight { from, to, transport, bytes, .. } = flight;
        if *to != SERVER && !self.relayed.contains(to) {
            if let Some(place) = self.seats.iter().position(|seat| seat.addr == *to) {
                // An error is the caller's own affair: it shows by what it hears no more.
                let Seat { caller, local, .. } = &mut self.seats[place];
                drop(caller.receive(*from, *local, bytes, self.now));
                self.caller(Who(place));
            }
            return;
        }
        let relayed = *to != SERVER;
        if !relayed && self.blocked {
            return;
        }
        let path = Path { transport: if relayed { Transport::Relayed } else { *transport }, remote: *from };
        match self.demux.route(path, bytes) {
            Ok(key) => {
                let who = Who(usize::try_from(key.0).expect("a place"));
                self.session(who, Input::Datagram { path, destination: *to, bytes });
            }
            Err(reason) => *self.drops.entry(reason).or_default() += 1,
        }
    }
}

/// The faults among what a client was told, as code and text.
pub fn faults(record: &Record) -> Vec<(&'static str, &str)> {
    record
        .said
        .iter()
        .filter_map(|message| match message {
            ServerMsg::Error(error) => Some((error.code, error.message.as_str())),
            _ => None,
        })
        .collect()
}
