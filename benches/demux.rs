//! The front door: how long it takes to find a datagram's session among few and many, and to turn a stranger away.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use voxcast::engine::demux::{Demux, DropReason, Path, Transport};
use voxcast::wire::ids::SessionKey;

const CROWDS: [u32; 3] = [1, 1_000, 10_000];
/// A stride without a common divisor with any crowd, so that look-ups jump about as real ones do.
const STRIDE: u32 = 7_919;

fn path(session: u32) -> Path {
    let [_, b, c, d] = session.to_be_bytes();
    Path { transport: Transport::Udp, remote: SocketAddr::from(([10, b, c, d], 50_000)) }
}

fn ufrag(session: u32) -> String {
    format!("w{session:07}")
}

/// A binding request as a browser sends it: USERNAME, GOOG-NETWORK-INFO, ICE-CONTROLLING, PRIORITY, MESSAGE-INTEGRITY, FINGERPRINT.
fn check(session: u32) -> Vec<u8> {
    let username = format!("{}:brwsr", ufrag(session));
    let mut body = Vec::new();
    for (kind, value) in [
        (0x0006_u16, username.as_bytes()),
        (0xc057, &[0; 4]),
        (0x802a, &[7; 8]),
        (0x0024, &[1; 4]),
        (0x0008, &[2; 20]),
        (0x8028, &[3; 4]),
    ] {
        body.extend(kind.to_be_bytes());
        body.extend(u16::try_from(value.len()).expect("short").to_be_bytes());
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut bytes = vec![0, 1];
    bytes.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
    bytes.extend([0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    bytes.extend(body);
    bytes
}

fn crowd(sessions: u32) -> Demux {
    let mut demux = Demux::default();
    for session in 0..sessions {
        demux.register(&ufrag(session), SessionKey(session));
        demux.learn(path(session), SessionKey(session));
    }
    demux
}

fn route(c: &mut Criterion) {
    let mut rtp = vec![0; 172];
    rtp[..2].copy_from_slice(&[0x80, 111]);
    let mut group = c.benchmark_group("demux");
    group.throughput(Throughput::Elements(1));
    for sessions in CROWDS {
        let demux = crowd(sessions);
        let mut at = 0;
        let mut next = move || {
            at = (at + STRIDE) % sessions;
            at
        };
        let checks: Vec<_> = (0..sessions).map(check).collect();
        group.bench_with_input(BenchmarkId::new("route_stun", sessions), &demux, |b, demux| {
            b.iter(|| {
                let session = next();
                let bytes = &checks[usize::try_from(session).expect("few")];
                assert_eq!(demux.route(black_box(path(session)), black_box(bytes)), Ok(SessionKey(session)));
            });
        });
        group.bench_with_input(BenchmarkId::new("route_rtp", sessions), &demux, |b, demux| {
            b.iter(|| {
                let session = next();
                assert_eq!(demux.route(black_box(path(session)), black_box(&rtp)), Ok(SessionKey(session)));
            });
        });
        group.bench_with_input(BenchmarkId::new("unknown", sessions), &demux, |b, demux| {
            let strange = check(99_999_999);
            b.iter(|| {
                let session = next();
                let remote = path(session + 1_000_000);
                assert_eq!(demux.route(black_box(remote), black_box(&rtp)), Err(DropReason::UnknownSource));
                assert_eq!(demux.route(black_box(remote), black_box(&strange)), Err(DropReason::UnknownUfrag));
            });
        });
    }
    group.finish();
}

/// What a join and an end cost the maps, among many.
fn churn(c: &mut Criterion) {
    let mut demux = crowd(10_000);
    let mut session = 10_000;
    let mut group = c.benchmark_group("demux");
    group.throughput(Throughput::Elements(1));
    group.bench_function("join_and_forget", |b| {
        b.iter(|| {
            session += 1;
            demux.register(&ufrag(session), SessionKey(session));
            demux.learn(path(session), SessionKey(session));
            demux.forget(SessionKey(session));
        });
    });
    group.finish();
}

criterion_group!(benches, route, churn);
criterion_main!(benches);
