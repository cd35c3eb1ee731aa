//! The session's hot path, without sockets: a turn of audio in, datagrams out; a STUN check in; a join from offer to connected.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use str0m::net::{Protocol, Transmit};
use voxcast::drive::addresses::MediaAddress;
use voxcast::drive::metrics::Metrics;
use voxcast::drive::outbox::Outbox;
use voxcast::drive::udp::bind_all;
use voxcast::engine::caller::{Caller, CallerEffect, CallerHost};
use voxcast::engine::demux::{Path, Transport};
use voxcast::engine::session::{Effect, Host, Input, Model, Profile, SessionCore};
use voxcast::wire::classify::{Class, classify};
use voxcast::wire::ids::VoiceKey;
use voxcast::wire::media::{AudioTurn, FRAME_TICKS, Frame, MediaTime, TapFrames};
use voxcast::wire::signal::{ClientMsg, ServerMsg, VoiceCard};

/// The program's allocator, which is part of what is measured.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10)), 3479);
const HOME: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1)), 50_000);
const FRAME: Duration = Duration::from_millis(20);
/// Bytes of an Opus packet of 20 ms at 64 kbit/s.
const OPUS_BYTES: usize = 160;
/// Turns between two times at which both ends are let to talk: five seconds of the synthetic clock, within consent.
const CHUNK: u64 = 250;

#[expect(clippy::disallowed_methods, reason = "a bench measures by the clock; sessions count from its first reading")]
fn clock() -> Instant {
    Instant::now()
}

fn entropy(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the system has entropy");
}

/// What all scenes of a bench share.
struct Stage {
    host: Arc<Host>,
    callers: CallerHost,
    zero: Instant,
}

impl Stage {
    fn new() -> Self {
        let voice = VoiceCard { id: "tone".into(), name: String::new(), description: String::new() };
        Self {
            host: Arc::new(Host::new(entropy, 'w', vec![voice])),
            callers: CallerHost::default(),
            zero: clock() + Duration::from_secs(3600),
        }
    }

    /// A listener who is connected and hears the voice.
    fn call(&self) -> Call {
        let mut call = Call::new(self);
        for _ in 0..200 {
            if call.joined {
                break;
            }
            call.talk();
        }
        assert!(call.joined, "an undisturbed call connects");
        call.say(r#"{"type":"start","voice_id":"tone"}"#);
        call.frame(&turn(0, true));
        call
    }
}

/// One session, its caller, and a link without delay.
struct Call {
    core: SessionCore,
    caller: Caller,
    now: Instant,
    wake: Option<Instant>,
    up: Vec<Vec<u8>>,
    down: Vec<Vec<u8>>,
    answer: Option<String>,
    joined: bool,
    sent: u64,
}

impl Call {
    fn new(stage: &Stage) -> Self {
        let (caller, offer) = Caller::listener(&stage.callers, HOME, stage.zero);
        let profile = Profile::new(Model::Speaker, false);
        let mut call = Self {
            core: SessionCore::new(stage.host.clone(), profile, vec![SERVER]),
            caller,
            now: stage.zero,
            wake: None,
            up: Vec::new(),
            down: Vec::new(),
            answer: None,
            joined: false,
            sent: 0,
        };
        call.say(&serde_json::json!({ "type": "webrtc_offer", "sdp": offer }).to_string());
        let answer = call.answer.take().expect("it is answered");
        call.caller.accept(&answer).expect("the answer is one");
        call.caller();
        call
    }

    fn say(&mut self, text: &str) {
        let message = ClientMsg::parse(text).expect("a good message");
        self.put(Input::Client(message));
    }

    fn put(&mut self, input: Input<'_>) {
        let Self { down, answer, joined, sent, .. } = self;
        let drain = self.core.handle(input, self.now).expect("every drain was run");
        let wake = drain.run(|effect| match effect {
            Effect::Transmit(transmit) => {
                *sent += 1;
                // RTP is what is measured; the rest is kept for the other end.
                if classify(&transmit.contents) == Class::Rtp {
                    black_box(&transmit);
                } else {
                    down.push(transmit.contents.to_vec());
                }
            }
            Effect::Client(ServerMsg::WebrtcAnswer { sdp }) => *answer = Some(sdp),
            Effect::Joined(_) => *joined = true,
            _ => {}
        });
        self.wake = wake.expect("the peer breaks nothing");
    }

    fn frame(&mut self, turn: &AudioTurn) {
        match self.core.play_on(turn, self.now) {
            Some(transmit) => {
                self.sent += 1;
                black_box(&transmit);
            }
            None => self.put(Input::Audio(turn)),
        }
    }

    fn caller(&mut self) {
        let up = &mut self.up;
        let ran = self.caller.run(self.now, |effect| {
            if let CallerEffect::Transmit(transmit) = effect {
                up.push(transmit.contents.to_vec());
            }
        });
        ran.expect("the server breaks nothing");
    }

    /// Ten milliseconds in which both ends hear each other.
    fn talk(&mut self) {
        for bytes in std::mem::take(&mut self.up) {
            self.datagram(&bytes);
        }
        for bytes in std::mem::take(&mut self.down) {
            self.caller.receive(SERVER, HOME, &bytes, self.now).expect("it is a datagram");
            self.caller();
        }
        self.now += Duration::from_millis(10);
        self.caller();
        if self.wake.is_some_and(|at| at <= self.now) {
            self.put(Input::Tick);
        }
    }

    fn datagram(&mut self, bytes: &[u8]) {
        let path = Path { transport: Transport::Udp, remote: HOME };
        self.put(Input::Datagram { path, destination: SERVER, bytes });
    }
}

fn turn(number: u64, fade_in: bool) -> AudioTurn {
    let frame = |first: u8| {
        let mut bytes = [0x5a; OPUS_BYTES];
        bytes[0] = first;
        Frame::Whole(bytes.into())
    };
    let tap = VoiceKey(0).into();
    let frames = TapFrames { tap, steady: frame(1), fade_in: fade_in.then(|| frame(2)), fade_out: None };
    let silence =
        [Frame::Whole([0xf8, 0xff, 0xfe].into()), Frame::Halves([0xf0, 0xf0].map(|toc| [toc, 0xff, 0xfe].into()))];
    AudioTurn { time: MediaTime(number * FRAME_TICKS), silence, taps: vec![frames] }
}

/// Plays `turns` turns to every call, twenty milliseconds apart, and says how long that took. Between the chunks, unmeasured,
/// both ends talk, so that consent stands.
fn play(calls: &mut [Call], number: &mut u64, turns: u64) -> Duration {
    let mut took = Duration::ZERO;
    let mut left = turns;
    while left > 0 {
        let chunk = left.min(CHUNK);
        let frames: Vec<_> = (0..chunk).map(|at| turn(*number + at, false)).collect();
        let before: u64 = calls.iter().map(|call| call.sent).sum();
        let began = clock();
        for frame in &frames {
            for call in &mut *calls {
                call.now += FRAME;
                call.frame(frame);
            }
        }
        took += clock() - began;
        let sent = calls.iter().map(|call| call.sent).sum::<u64>() - before;
        let listeners = u64::try_from(calls.len()).expect("few");
        assert!(sent >= chunk * listeners, "every listener got every frame: {sent}");
        *number += chunk;
        left -= chunk;
        for call in &mut *calls {
            (0..3).for_each(|_| call.talk());
        }
    }
    took
}

/// One turn to its listeners: RTP header, SRTP, transmit. `frame_to_transmit` is the PRIMARY number of this project.
fn audio(c: &mut Criterion) {
    let stage = Stage::new();
    let mut group = c.benchmark_group("session");
    group.throughput(Throughput::Elements(1));
    let (mut calls, mut number) = (vec![stage.call()], 1);
    group.bench_function("frame_to_transmit", |b| b.iter_custom(|turns| play(&mut calls, &mut number, turns)));

    let (mut crowd, mut count) = ((0..1_000).map(|_| stage.call()).collect::<Vec<_>>(), 1);
    group.throughput(Throughput::Elements(1_000)).sample_size(10);
    group.bench_function("frame_to_1000_listeners", |b| b.iter_custom(|turns| play(&mut crowd, &mut count, turns)));
    group.finish();
}

/// A consent check of the caller: verified, learnt, answered.
fn stun(c: &mut Criterion) {
    let mut call = Stage::new().call();
    let mut check = None;
    while check.is_none() {
        call.talk();
        check = call.up.iter().find(|bytes| bytes.starts_with(&[0, 1])).cloned();
    }
    let check = check.expect("one was found");
    let mut group = c.benchmark_group("session");
    group.throughput(Throughput::Elements(1));
    group.bench_function("stun_in", |b| {
        b.iter(|| {
            // So little time that nothing else comes due.
            call.now += Duration::from_nanos(100);
            call.datagram(black_box(&check));
            call.down.clear();
        });
    });
    group.bench_function("idle_tick", |b| {
        b.iter(|| {
            call.now += Duration::from_nanos(100);
            call.put(Input::Tick);
            call.down.clear();
        });
    });
    group.finish();
}

/// A thousand sessions whose deadlines come at once, each out of the cache.
fn tick(c: &mut Criterion) {
    let stage = Stage::new();
    let mut calls: Vec<Call> = (0..1_000).map(|_| stage.call()).collect();
    let mut group = c.benchmark_group("worker");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("tick_1000_sessions", |b| {
        b.iter(|| {
            for call in &mut calls {
                // So little time that nothing comes due.
                call.now += Duration::from_nanos(100);
                call.put(Input::Tick);
                call.down.clear();
            }
        });
    });
    group.finish();
}

/// What leaves, to a socket of this machine that nobody reads: 64 datagrams in a system call.
fn outbox(c: &mut Criterion) {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let mut bound = bind_all(&[MediaAddress { bound: loopback, advertised: loopback }], 0, 1).expect("a port is free");
    let socket = bound.sockets.pop().and_then(|mut sockets| sockets.pop()).expect("one was asked for");
    let socket = Arc::new(socket);
    let mut outbox = Outbox::new(std::slice::from_ref(&socket), Metrics::new().0);
    let sink = UdpSocket::bind((loopback, 0)).expect("a port is free");
    let destination = sink.local_addr().expect("it is bound");
    let mut group = c.benchmark_group("outbox");
    group.throughput(Throughput::Elements(64));
    group.bench_function("push_and_send_64", |b| {
        b.iter(|| {
            for _ in 0..64 {
                outbox.push(Transmit {
                    proto: Protocol::Udp,
                    source: socket.advertised,
                    destination,
                    contents: vec![0x5a; 205].into(),
                });
            }
            outbox.flush();
        });
    });
    group.finish();
}

/// Both ends of a join: offer, answer, ICE, DTLS, keys. The server's share is about half.
fn join(c: &mut Criterion) {
    let stage = Stage::new();
    let mut group = c.benchmark_group("join");
    group.sample_size(50);
    group.bench_function("offer_to_connected", |b| b.iter(|| stage.call()));
    group.bench_function("offer_to_answer", |b| {
        let (_, offer) = Caller::listener(&stage.callers, HOME, stage.zero);
        let text = serde_json::json!({ "type": "webrtc_offer", "sdp": offer }).to_string();
        b.iter(|| {
            let profile = Profile::new(Model::Speaker, false);
            let mut core = SessionCore::new(stage.host.clone(), profile, vec![SERVER]);
            let message = ClientMsg::parse(&text).expect("a good message");
            let drain = core.handle(Input::Client(message), stage.zero).expect("every drain was run");
            let mut answers = 0;
            drain.run(|effect| answers += u32::from(matches!(effect, Effect::Client(_)))).expect("it is answered");
            assert_eq!(answers, 1);
            core
        });
    });
    group.finish();
}

criterion_group!(benches, audio, stun, tick, outbox, join);
criterion_main!(benches);
