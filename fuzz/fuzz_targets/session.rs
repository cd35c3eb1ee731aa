//! Trust boundary: everything that can happen to one session. It never panics, never spins, never outgrows its bounds, and counts
//! its listeners true.
#![no_main]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use str0m::rtp::RtpWrite;
use voxcast::engine::caller::{Caller, CallerEffect, CallerHost};
use voxcast::engine::demux::{CHECKS_PER_SESSION, Demux, PATHS_PER_SESSION, Path, Transport, UFRAGS_PER_SESSION};
use voxcast::engine::playout::AudienceNote;
use voxcast::engine::session::{Effect, Host, Input, Model, Profile, SessionCore};
use voxcast::wire::ids::{SessionKey, VoiceKey};
use voxcast::wire::media::{AudioTurn, Cut, FRAME_TICKS, Frame, MediaTime, Tap, TapFrames};
use voxcast::wire::signal::{ClientMsg, ServerMsg, VoiceCard};

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10)), 3479);
const HOME: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1)), 50_000);
const KEY: SessionKey = SessionKey(0);
/// Operations of one story.
const LONGEST: usize = 64;
/// Datagrams that one input may bring forth: 64 candidates' checks and more.
const TRANSMITS: usize = 1_000;
/// Words that one input may bring forth: an answer, its candidates, 32 early ones refused.
const WORDS: usize = 64;
/// Ticks at one moment that are taken for spinning.
const SPINNING: usize = 100;
/// What Chromium offers, one line for sound and one for picture.
const OFFERS: [&str; 2] = [
    include_str!("../../src/tests/golden/chromium-listener.sdp"),
    include_str!("../../src/tests/golden/chromium-sdk.sdp"),
];

#[derive(Arbitrary, Debug)]
struct Setting {
    echo: bool,
    sdk: bool,
    /// Begins without the connection that stands otherwise, so that the fuzzer need not find the way there.
    unconnected: bool,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Text(String),
    Start(u8),
    Stop,
    Candidate {
        kind: u8,
        host: u8,
        port: u16,
        stale: bool,
    },
    /// A real offer, changed.
    Offer {
        sdk: bool,
        trickle: bool,
        edits: Vec<Edit>,
    },
    /// The caller's own offer: a first one, another peer connection's, or an ICE restart.
    Rebuild {
        trickle: bool,
        /// Asks for packets of 10 to 60 ms, or of 20 ms without a word.
        ptime: u8,
    },
    Restart {
        trickle: bool,
    },
    /// Lets the oldest datagrams of both directions arrive.
    Deliver(u8),
    Lose(u8),
    /// Lets one arrive changed, cut or twice; from elsewhere if `stranger`.
    Forge {
        place: u8,
        at: u16,
        xor: u8,
        cut: Option<u16>,
        stranger: Option<u8>,
    },
    Raw {
        bytes: Vec<u8>,
        stranger: Option<u8>,
    },
    Audio {
        voices: u8,
        fade_in: bool,
        fade_out: bool,
    },
    Send {
        video: bool,
        seq: u16,
        time: u32,
        marker: bool,
        payload: Vec<u8>,
    },
    WantKeyframe(bool),
    Tick,
    Pass(u16),
    /// Lets time pass from wake-up to wake-up, datagrams delivered.
    Live(u8),
    Attached,
    Dropped,
    Closed,
    HangUp,
}

#[derive(Arbitrary, Debug)]
enum Edit {
    Cut(u16),
    Remove(u8),
    Repeat(u8, u8),
    Replace(u8, u16, String),
    Insert(u8, String),
}

static HOST: LazyLock<(Arc<Host>, CallerHost)> = LazyLock::new(|| {
    let card = |id: &str| VoiceCard { id: id.into(), name: String::new(), description: String::new() };
    let voices = ["sine-220", "sine-440", "sine-880"].map(card).to_vec();
    (Arc::new(Host::new(entropy, 'w', voices)), CallerHost::default())
});

/// How often something was drawn in this story.
static DRAWN: AtomicU64 = AtomicU64::new(0);

/// Other bytes at each draw, and the same in each story.
fn entropy(bytes: &mut [u8]) {
    let word = DRAWN.fetch_add(1, Ordering::Relaxed).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    for (byte, drawn) in bytes.iter_mut().zip(word.into_iter().cycle()) {
        *byte = drawn;
    }
}

#[expect(clippy::disallowed_methods, reason = "an Instant can only be read, never made; all else counts from this one")]
static ZERO: LazyLock<Instant> = LazyLock::new(|| Instant::now() + Duration::from_secs(3600));

struct World {
    core: SessionCore,
    caller: Caller,
    /// The caller has offered and was not answered yet.
    awaits_answer: bool,
    demux: Demux,
    now: Instant,
    wake: Option<Instant>,
    up: VecDeque<Vec<u8>>,
    down: VecDeque<Vec<u8>>,
    /// Listeners per tap, by the notes.
    audience: BTreeMap<Tap, i32>,
    joined: bool,
    ended: bool,
    turn: u64,
}

fuzz_target!(|bytes: &[u8]| {
    let mut words = Unstructured::new(bytes);
    let Ok(setting) = Setting::arbitrary(&mut words) else { return };
    let mut world = World::new(&setting);
    // Not a `Vec` of them: that would end at every other byte.
    for _ in 0..LONGEST {
        let Some(operation) = words.arbitrary().ok().filter(|_| !words.is_empty()) else { break };
        world.operate(operation);
        world.check();
    }
    world.put(Input::Closed);
    assert!(world.ended, "a closed session ends");
    world.check();
    assert_eq!(world.wake, None, "and wants nothing more");
    assert!(world.audience.values().all(|count| *count == 0), "every join had its leave: {:?}", world.audience);
    assert_eq!(world.demux.len(), (0, 0), "nothing is routed to it");
});

impl World {
    fn new(setting: &Setting) -> Self {
        let (host, callers) = &*HOST;
        DRAWN.store(0, Ordering::Relaxed);
        let model = if setting.echo { Model::Echo } else { Model::Speaker };
        let profile = Profile::new(model, setting.sdk);
        let (caller, offer) = caller(setting.echo, callers);
        let mut world = Self {
            core: SessionCore::new(host.clone(), profile, vec![SERVER]),
            caller,
            awaits_answer: false,
            demux: Demux::default(),
            now: *ZERO,
            wake: None,
            up: VecDeque::new(),
            down: VecDeque::new(),
            audience: BTreeMap::new(),
            joined: false,
            ended: false,
            turn: 0,
        };
        world.put(Input::Attached);
        if !setting.unconnected {
            world.offer(&offer, false);
            for _ in 0..50 {
                world.live(1);
                if world.joined {
                    break;
                }
            }
            assert!(world.joined, "an undisturbed call connects");
        }
        world
    }

    fn operate(&mut self, operation: Operation) {
        match operation {
            Operation::Text(text) => self.say(&text),
            Operation::Start(voice) => {
                let voice = ["sine-220", "sine-440", "sine-880", "none"][usize::from(voice % 4)];
                self.say(&format!(r#"{{"type":"start","voice_id":"{voice}"}}"#));
            }
            Operation::Stop => self.say(r#"{"type":"stop"}"#),
            Operation::Candidate { kind, host, port, stale } => {
                let address = match kind % 4 {
                    0 => format!("203.0.113.{host}"),
                    1 => format!("2001:db8::{host:x}"),
                    2 => format!("{host}.local"),
                    _ => "0.0.0.0".into(),
                };
                let text = format!("candidate:{host} 1 udp {} {address} {port} typ host", u32::from(port) * 9);
                let fragment = stale.then_some("old0");
                let init = serde_json::json!({ "candidate": text, "sdpMid": "0", "usernameFragment": fragment });
                self.say(&serde_json::json!({ "type": "ice-candidate", "candidate": init }).to_string());
            }
            Operation::Offer { sdk, trickle, edits } => {
                let mut sdp = OFFERS[usize::from(sdk)].replace('\n', "\r\n");
                for edit in edits.into_iter().take(8) {
                    sdp = edited(&sdp, edit);
                }
                self.awaits_answer = false;
                self.offer_text(&sdp, trickle);
            }
            Operation::Rebuild { trickle, ptime } => {
                // With the certificate that it had: only the origin and ICE tell the two apart.
                let (caller, mut offer) = caller(trickle, &HOST.1);
                if let Some(milliseconds) = [10, 20, 40, 60].get(usize::from(ptime % 8)) {
                    offer.push_str(&format!("a=ptime:{milliseconds}\r\n"));
                }
                self.caller = caller;
                self.offer(&offer, trickle);
            }
            Operation::Restart { trickle } => {
                let offer = self.caller.restart();
                self.offer(&offer, trickle);
            }
            Operation::Deliver(count) => self.deliver(usize::from(count % 16)),
            Operation::Lose(count) => {
                self.up.drain(..usize::from(count).min(self.up.len()));
                self.down.drain(..usize::from(count / 2).min(self.down.len()));
            }
            Operation::Forge { place, at, xor, cut, stranger } => {
                let Some(bytes) = self.up.get(usize::from(place) % self.up.len().max(1)) else { return };
                let mut bytes = bytes.clone();
                let length = bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(usize::from(at) % length) {
                    *byte ^= xor;
                }
                bytes.truncate(cut.map_or(bytes.len(), usize::from));
                self.arrive(&bytes, stranger);
            }
            Operation::Raw { bytes, stranger } => self.arrive(&bytes, stranger),
            Operation::Audio { voices, fade_in, fade_out } => self.audio(voices, fade_in, fade_out),
            Operation::Send { video, seq, time, marker, payload } => {
                let Some(&mid) = self.caller.mids().get(usize::from(video)) else { return };
                if let Some(pt) = self.caller.payload_type(mid)
                    && !payload.is_empty()
                {
                    let payload = payload[..payload.len().min(1_000)].to_vec();
                    let write = RtpWrite::new(pt, u64::from(seq).into(), time, self.now, payload).marker(marker);
                    self.caller.send(mid, write);
                    self.caller();
                }
            }
            Operation::WantKeyframe(video) => {
                if let Some(&mid) = self.caller.mids().get(usize::from(video)) {
                    self.caller.request_keyframe(mid);
                    self.caller();
                }
            }
            Operation::Tick => self.put(Input::Tick),
            Operation::Pass(milliseconds) => {
                self.now += Duration::from_millis(milliseconds.into());
                self.caller();
                self.put(Input::Tick);
            }
            Operation::Live(steps) => self.live(steps.into()),
            Operation::Attached => self.put(Input::Attached),
            Operation::Dropped => self.put(Input::Dropped),
            Operation::Closed => self.put(Input::Closed),
            Operation::HangUp => {
                self.caller.close();
                self.caller();
            }
        }
    }

    /// What must hold after anything.
    fn check(&mut self) {
        let (ufrags, paths) = self.demux.len();
        assert!(
            ufrags <= UFRAGS_PER_SESSION && paths <= PATHS_PER_SESSION && self.demux.checks() <= CHECKS_PER_SESSION
        );
        assert!(self.audience.values().all(|count| (0..=1).contains(count)), "{:?}", self.audience);
        assert!(self.audience.values().sum::<i32>() <= 1, "one listener hears one voice");
        // Ticks at the moment that was asked for must lead to a later one.
        let mut ticks = 0;
        while self.wake.is_some_and(|at| at <= self.now) {
            self.put(Input::Tick);
            ticks += 1;
            assert!(ticks < SPINNING, "it wants a tick again and again");
        }
        assert!(self.up.len() < 10_000 && self.down.len() < 10_000);
    }

    /// Time passes as on a good link.
    fn live(&mut self, steps: usize) {
        for _ in 0..steps {
            self.deliver(64);
            self.now += Duration::from_millis(10);
            self.caller();
            if self.wake.is_some_and(|at| at <= self.now) {
                self.put(Input::Tick);
            }
        }
    }

    fn deliver(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(bytes) = self.up.pop_front() {
                self.arrive(&bytes, None);
            }
            if let Some(bytes) = self.down.pop_front() {
                drop(self.caller.receive(SERVER, HOME, &bytes, self.now));
                self.caller();
            }
        }
    }

    fn arrive(&mut self, bytes: &[u8], stranger: Option<u8>) {
        let remote = stranger.map_or(HOME, |host| SocketAddr::from(([203, 0, 113, host], 4_444)));
        let path = Path { transport: Transport::Udp, remote };
        if self.demux.route(path, bytes).is_ok() {
            self.put(Input::Datagram { path, destination: SERVER, bytes });
        }
    }

    fn audio(&mut self, voices: u8, fade_in: bool, fade_out: bool) {
        let frame = |cut, bytes: &[u8]| match cut {
            Cut::Whole => Frame::Whole(bytes.into()),
            Cut::Halves => Frame::Halves([bytes.into(), bytes.into()]),
        };
        let frames = |tap: Tap| TapFrames {
            tap,
            steady: frame(tap.cut, &[voices; 60]),
            fade_in: fade_in.then(|| frame(tap.cut, &[1; 50])),
            fade_out: fade_out.then(|| frame(tap.cut, &[2; 50])),
        };
        let on_air = (0..3).filter(|voice| voices & 1 << voice != 0).map(VoiceKey);
        let taps = on_air.flat_map(|voice| Cut::ALL.map(|cut| frames(Tap { voice, cut }))).collect();
        let silence = Cut::ALL.map(|cut| frame(cut, &[0; 3]));
        let turn = AudioTurn { time: MediaTime(self.turn * FRAME_TICKS), silence, taps };
        self.turn += 1;
        self.now += Duration::from_millis(20);
        // As a worker does.
        match self.core.play_on(&turn, self.now) {
            Some(transmit) => {
                assert!(!self.ended, "a session that has ended does nothing");
                assert_eq!(transmit.source, SERVER);
                if transmit.destination == HOME {
                    self.down.push_back(transmit.contents.to_vec());
                }
            }
            None => self.put(Input::Audio(&turn)),
        }
    }

    fn say(&mut self, text: &str) {
        if let Ok(message) = ClientMsg::parse(text) {
            self.put(Input::Client(message));
        }
    }

    fn offer(&mut self, sdp: &str, trickle: bool) {
        self.awaits_answer = true;
        self.offer_text(sdp, trickle);
    }

    fn offer_text(&mut self, sdp: &str, trickle: bool) {
        let kind = if trickle { "offer" } else { "webrtc_offer" };
        self.say(&serde_json::json!({ "type": kind, "sdp": sdp }).to_string());
    }

    fn caller(&mut self) {
        let up = &mut self.up;
        // A caller that fails falls silent, which is a story too.
        drop(self.caller.run(self.now, |effect| {
            if let CallerEffect::Transmit(transmit) = effect {
                up.push_back(transmit.contents.to_vec());
            }
        }));
    }

    fn put(&mut self, input: Input<'_>) {
        let (mut transmits, mut words) = (0, Vec::new());
        let Self { core, demux, down, audience, joined, ended, .. } = self;
        let was_ended = *ended;
        let drain = core.handle(input, self.now).expect("every drain was run");
        let wake = drain.run(|effect| {
            assert!(!was_ended, "a session that has ended does nothing");
            match effect {
                Effect::Transmit(transmit) => {
                    assert_eq!(transmit.source, SERVER);
                    transmits += 1;
                    if transmit.destination == HOME {
                        down.push_back(transmit.contents.to_vec());
                    }
                }
                Effect::Client(message) => words.push(message),
                Effect::Register(ufrag) => demux.register(&ufrag, KEY),
                Effect::Expect(transaction) => demux.expect(transaction, KEY),
                Effect::Learn(path) => demux.learn(path, KEY),
                Effect::Unroute => drop(demux.forget(KEY)),
                Effect::Audience(AudienceNote::Join(tap)) => *audience.entry(tap).or_default() += 1,
                Effect::Audience(AudienceNote::Leave(tap) | AudienceNote::Abandon(tap)) => {
                    *audience.entry(tap).or_default() -= 1;
                }
                Effect::Joined(_) => *joined = true,
                Effect::Drop(_) | Effect::Relay(_) | Effect::Renew => {}
                Effect::LongWay => panic!("our SRTP is not str0m's"),
                Effect::Ended(_) => *ended = true,
            }
        });
        assert!(transmits <= TRANSMITS, "{transmits} datagrams at once");
        assert!(words.len() <= WORDS, "{} words at once", words.len());
        match wake {
            Ok(wake) => self.wake = wake,
            // The peer connection is gone; what else the session waits for, a tick will tell.
            Err(_) => self.wake = Some(self.now),
        }
        for word in words {
            if let ServerMsg::WebrtcAnswer { sdp } | ServerMsg::Answer { sdp } = &word
                && std::mem::take(&mut self.awaits_answer)
            {
                drop(self.caller.accept(sdp));
                self.caller();
            }
            if let ServerMsg::IceCandidate { candidate: Some(init) } = &word {
                self.caller.candidate(init);
                self.caller();
            }
            let _ = word.to_json();
        }
    }
}

fn caller(echo: bool, host: &CallerHost) -> (Caller, String) {
    if echo { Caller::echoer(host, HOME, *ZERO) } else { Caller::listener(host, HOME, *ZERO) }
}

/// `sdp` with one thing changed.
fn edited(sdp: &str, edit: Edit) -> String {
    let mut lines: Vec<String> = sdp.lines().map(str::to_owned).collect();
    let count = lines.len().max(1);
    match edit {
        Edit::Cut(length) => {
            let mut length = usize::from(length).min(sdp.len());
            while !sdp.is_char_boundary(length) {
                length -= 1;
            }
            return sdp[..length].to_owned();
        }
        Edit::Remove(place) => {
            if !lines.is_empty() {
                lines.remove(usize::from(place) % count);
            }
        }
        Edit::Repeat(place, times) => {
            if let Some(line) = lines.get(usize::from(place) % count).cloned() {
                lines.extend(std::iter::repeat_n(line, usize::from(times)));
            }
        }
        Edit::Replace(place, at, word) => {
            if let Some(line) = lines.get_mut(usize::from(place) % count) {
                let mut at = usize::from(at) % (line.len() + 1);
                while !line.is_char_boundary(at) {
                    at -= 1;
                }
                line.replace_range(at.., &word);
            }
        }
        Edit::Insert(place, line) => lines.insert(usize::from(place) % count, line),
    }
    lines.join("\r\n") + "\r\n"
}
