//! Trust boundary: the media port. Any bytes from anywhere have a class and at most one owner; the maps keep their bounds.
#![no_main]

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use str0m::ice::StunMessage;
use voxcast::engine::demux::{CHECKS_PER_SESSION, Demux, PATHS_PER_SESSION, Path, Transport, UFRAGS_PER_SESSION};
use voxcast::engine::reflexive::Prober;
use voxcast::wire::classify::{Class, classify};
use voxcast::wire::ids::SessionKey;
use voxcast::wire::stun;

const SESSIONS: u32 = 4;

fn path(place: u8) -> Path {
    let transport = if place & 1 == 0 { Transport::Udp } else { Transport::Tcp };
    Path { transport, remote: SocketAddr::from(([198, 51, 100, place], 50_000)) }
}

#[expect(clippy::disallowed_methods, reason = "an Instant can only be read, never made; nothing here lasts")]
static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);

/// One session that is known by a ufrag and by a path.
static KNOWN: LazyLock<Demux> = LazyLock::new(|| {
    let mut demux = Demux::default();
    demux.register("wAAAAAAA", SessionKey(7));
    demux.learn(path(0), SessionKey(7));
    demux
});

fuzz_target!(|bytes: &[u8]| {
    route(bytes);
    bounds(bytes);
    answer(bytes);
});

/// The same bytes as the rest of what a STUN server answers: an address of ours is one that others may be told, or none.
fn answer(bytes: &[u8]) {
    let [base, server] = [([10, 0, 0, 2], 3479), ([192, 0, 2, 1], 3478)].map(SocketAddr::from);
    let now = *ZERO;
    let mut prober = Prober::new(vec![base], |bytes| bytes.fill(7));
    prober.set_servers(&[server], now);
    prober.tick(now, |_| ());
    let body = &bytes[..bytes.len().min(1_000) & !3];
    let [high, low] = u16::try_from(body.len()).expect("short").to_be_bytes();
    let whole = [&[1, 1, high, low, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12], body].concat();
    let taken = prober.receive(server, base, &whole, now);
    let known = prober.known(now);
    assert!(taken || known.is_empty());
    assert!(known.iter().all(|one| one.mapped.is_ipv4() && one.mapped.port() != 0 && !one.mapped.ip().is_loopback()));
}

fn route(bytes: &[u8]) {
    let class = classify(bytes);
    let peeked = stun::peek(bytes);
    let [home, away] = [path(0), path(2)].map(|path| KNOWN.route(path, bytes));
    let named = peeked.and_then(|peeked| peeked.local_ufrag().map(str::to_owned));
    match class {
        Class::Stun => match named {
            Some(ufrag) => {
                assert_eq!(home, away, "a name counts more than an address");
                assert_eq!(home.is_ok(), ufrag == "wAAAAAAA");
            }
            None => assert!(away.is_err() && home.is_ok() == peeked.is_some()),
        },
        Class::Dtls | Class::Rtp | Class::Rtcp => assert!(home == Ok(SessionKey(7)) && away.is_err()),
        Class::TurnChannel | Class::Unknown => assert!(home.is_err() && away.is_err()),
    }
    // Whoever str0m would answer must be whom we routed to.
    if class == Class::Stun
        && let Ok(message) = StunMessage::parse(bytes)
    {
        let peeked = peeked.expect("what str0m reads, we read");
        // Of two names we take the first, as the standard says, and str0m the last: it will not find its own then, and refuse.
        let names = bytes[20..].chunks(4).filter(|word| word.starts_with(&[0, 6])).count();
        assert!(names > 1 || peeked.username == message.username());
    }
}

/// The same bytes as a list of what may happen to the maps.
fn bounds(bytes: &[u8]) {
    let mut demux = Demux::default();
    for word in bytes.chunks_exact(3) {
        let key = SessionKey(u32::from(word[1]) % SESSIONS);
        match word[0] % 4 {
            0 => {
                demux.register(&format!("w{}", word[2]), key);
                let check = binding(&format!("w{}:x", word[2]));
                assert_eq!(demux.route(path(255), &check), Ok(key), "the newest name is known");
            }
            1 => {
                demux.learn(path(word[2]), key);
                assert_eq!(demux.route(path(word[2]), &[22; 13]), Ok(key), "the newest proof wins");
            }
            2 => {
                demux.expect([word[2]; 12], key);
                let mut answer = binding("");
                answer[..2].copy_from_slice(&[1, 1]);
                answer[8..20].fill(word[2]);
                assert!(demux.route(path(255), &answer).is_ok(), "its answer is awaited");
            }
            _ => drop(demux.forget(key)),
        }
        let (ufrags, paths) = demux.len();
        let sessions = usize::try_from(SESSIONS).expect("few");
        assert!(demux.checks() <= sessions * CHECKS_PER_SESSION);
        assert!(ufrags <= sessions * UFRAGS_PER_SESSION && paths <= sessions * PATHS_PER_SESSION);
    }
    for key in 0..SESSIONS {
        demux.forget(SessionKey(key));
    }
    assert_eq!((demux.len(), demux.checks()), ((0, 0), 0), "nothing is left behind");
}

/// A binding request of `username`.
fn binding(username: &str) -> Vec<u8> {
    let mut value = username.as_bytes().to_vec();
    value.resize(value.len().next_multiple_of(4), 0);
    let mut bytes = vec![0, 1];
    bytes.extend(u16::try_from(value.len() + 4).expect("short").to_be_bytes());
    bytes.extend([0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 6]);
    bytes.extend(u16::try_from(username.len()).expect("short").to_be_bytes());
    bytes.extend(value);
    bytes
}
