//! What strangers and broken networks send: replays, truncations, flipped bits, forgeries, garbage. Nothing breaks, nothing is
//! learnt, nothing is answered to the wrong place, and what is of no use is counted.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::engine::demux::{CHECKS_PER_SESSION, DropReason, PATHS_PER_SESSION};
use crate::engine::session::SessionState;
use crate::wire::classify::Class;
use crate::wire::sdp;
use crate::wire::signal::ServerMsg;

use super::ear::assert_continuous;
use super::net::{Dice, Net, Sent, Who, ms, secs};

/// An address that nobody has proven to be at.
fn stranger(port: u16) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 66], port))
}

/// Every datagram that the caller has sent so far.
fn captured(net: &Net, who: Who) -> Vec<(Class, Vec<u8>)> {
    net.record(who).sent.iter().filter(|sent| sent.up).map(|sent| (sent.class(), sent.bytes.clone())).collect()
}

/// A call that goes on, and everything that its caller sent.
fn call(seed: u64) -> (Net, Who, Vec<(Class, Vec<u8>)>) {
    let mut net = Net::seeded(seed);
    let bob = net.call("sine-440");
    net.run_for(secs(12));
    let packets = captured(&net, bob);
    for class in [Class::Stun, Class::Dtls, Class::Rtcp] {
        assert!(packets.iter().any(|(of, _)| *of == class), "no {class:?} was captured\n{}", net.story());
    }
    (net, bob, packets)
}

/// The call goes on as if nothing had happened, and never left its address.
#[track_caller]
fn assert_unharmed(net: &mut Net, bob: Who) {
    let home = net.addr(bob);
    net.run_for(secs(5));
    assert_eq!(net.state(bob), SessionState::Streaming, "{}", net.story());
    assert_continuous(&net.record(bob).heard);
    let record = net.record(bob);
    assert_eq!((record.joined, record.unrouted.len(), record.failures), (1, 0, 0), "{}", net.story());
    assert_eq!(record.ended, None);
    let astray = record.sent.iter().filter(|sent| !sent.up && sent.class() != Class::Stun && sent.to != home).count();
    assert_eq!(astray, 0, "media went to a stranger\n{}", net.story());
    assert!(record.heard.last().is_some_and(|frame| net.now() - frame.at <= ms(40)), "{}", net.story());
}

#[test]
fn replayed_packets_change_nothing() {
    let (mut net, bob, packets) = call(61);
    let home = net.addr(bob);
    let routes = net.routes();
    for (_, bytes) in packets.iter().chain(packets.iter().rev()) {
        net.inject(home, bytes);
    }
    net.run_for(ms(500));
    assert_eq!(net.routes(), routes);
    assert_unharmed(&mut net, bob);
}

#[test]
fn from_an_address_that_was_not_learnt_nothing_gets_in() {
    let (mut net, bob, packets) = call(62);
    let routes = net.routes();
    let strange: Vec<_> = packets.iter().filter(|(class, _)| *class != Class::Stun).collect();
    for (_, bytes) in &strange {
        net.inject(stranger(4444), bytes);
    }
    let dropped = net.drops(DropReason::UnknownSource);
    assert_eq!(usize::try_from(dropped).ok(), Some(strange.len()), "{}", net.story());
    assert_eq!((net.routes(), net.record(bob).refused), (routes, 0));
    assert_unharmed(&mut net, bob);
}

#[test]
fn a_replayed_check_from_elsewhere_takes_no_media_there() {
    let (mut net, bob, packets) = call(63);
    for port in 0..100 {
        for (_, bytes) in packets.iter().filter(|(class, _)| *class == Class::Stun) {
            net.inject(stranger(1_024 + port), bytes);
        }
        net.run_for(ms(20));
    }
    assert!(net.routes().1 <= PATHS_PER_SESSION, "{:?} are bounded", net.routes());
    assert!(net.checks() <= CHECKS_PER_SESSION, "{} are bounded", net.checks());
    assert_unharmed(&mut net, bob);
    let home = net.addr(bob);
    let dtls =
        packets.iter().find(|(class, _)| *class == Class::Dtls).map(|(_, bytes)| bytes.clone()).expect("there was one");
    assert_eq!(net.owner(home, &dtls), Some(bob), "the next true check has won the path back");
}

#[test]
fn a_replayed_check_from_everywhere_is_answered_to_few_and_harms_nobody() {
    let (mut net, bob, packets) = call(66);
    let check = packets.iter().rfind(|(class, bytes)| *class == Class::Stun && bytes[..2] == [0, 1]);
    let check = check.expect("a check").1.clone();
    net.record_mut(bob).sent.clear();
    for port in 1_024..3_024 {
        net.inject(stranger(port), &check);
    }
    let refused = net.record(bob).refused;
    assert!((1_900..2_000).contains(&refused), "{refused} of 2000 were refused");
    net.run_for(secs(60));
    let strangers = |sent: &&Sent| !sent.up && sent.to.ip() == stranger(1).ip();
    let there: BTreeSet<_> = net.record(bob).sent.iter().filter(strangers).map(|sent| sent.to).collect();
    assert!(there.len() < 100, "{} addresses were sent to", there.len());
    assert_unharmed(&mut net, bob);
    // Whoever never restarts ICE may still move: one more after a while, and the next one after another.
    let known = stranger(1_024);
    let taken = |net: &mut Net| {
        let before = net.record(bob).refused;
        (4_000..4_010).for_each(|port| net.inject(stranger(port), &check));
        10 - (net.record(bob).refused - before)
    };
    net.inject(known, &check);
    assert_eq!(taken(&mut net), 1);
    assert_eq!(taken(&mut net), 1, "it is known by now, and no other one is");
    net.run_for(secs(31));
    assert_eq!(taken(&mut net), 2);
    assert_unharmed(&mut net, bob);
    // A restart of ICE begins a new count.
    net.restart(bob);
    net.run_for(secs(2));
    let before = net.record(bob).refused;
    let password = sdp::ice_credentials(net.answer(bob)).expect("it was answered").pwd;
    let check = net.binding(bob, &password);
    net.inject(stranger(5_000), &check);
    assert_eq!(net.record(bob).refused, before, "{}", net.story());
    assert_unharmed(&mut net, bob);
}

#[test]
fn a_check_with_a_wrong_password_is_refused_and_not_learnt() {
    let (mut net, bob, _) = call(64);
    let routes = net.routes();
    for (at, password) in (0..).zip(["", "x", "passwordpasswordpassword", &"A".repeat(24), &"z".repeat(300)]) {
        let bytes = net.binding(bob, password);
        net.inject(stranger(5_000 + at), &bytes);
        net.inject(net.addr(bob), &bytes);
    }
    assert_eq!(net.routes(), routes, "nothing was learnt");
    assert_eq!(net.record(bob).refused, 10, "{}", net.story());
    assert_eq!(net.drops(DropReason::Refused), 10);
    // The same words with the right password get in: it was the password.
    let answers = net.record(bob).said.iter().find_map(|message| match message {
        ServerMsg::WebrtcAnswer { sdp } => sdp::ice_credentials(sdp),
        _ => None,
    });
    let bytes = net.binding(bob, &answers.expect("it was answered").pwd);
    net.inject(stranger(6_000), &bytes);
    assert_eq!(net.routes().1, routes.1 + 1, "{}", net.story());
    assert_unharmed(&mut net, bob);
}

#[test]
fn checks_of_unknown_sessions_are_counted_and_never_answered() {
    let (mut net, bob, packets) = call(65);
    let stun = packets
        .iter()
        .rfind(|(class, bytes)| *class == Class::Stun && bytes[..2] == [0, 1])
        .expect("a request")
        .1
        .clone();
    let ufrag = net.record(bob).ufrags[0].clone();
    let at = stun.windows(ufrag.len()).position(|window| window == ufrag.as_bytes()).expect("it names the session");
    let before = net.record(bob).sent.len();
    let mut dice = Dice::seeded(65);
    for _ in 0..1_000 {
        let mut forged = stun.clone();
        forged[at + dice.below(ufrag.len())] ^= 1 << dice.below(7);
        net.inject(stranger(7_000), &forged);
    }
    assert_eq!(net.drops(DropReason::UnknownUfrag) + net.drops(DropReason::Garbage), 1_000, "{}", net.story());
    assert_eq!(net.record(bob).sent.len(), before, "no answer");
    assert_unharmed(&mut net, bob);
}

#[test]
fn every_truncation_of_every_packet_is_harmless() {
    let (mut net, bob, packets) = call(66);
    let home = net.addr(bob);
    for (class, bytes) in &packets {
        // All lengths of the short ones, some of the long ones.
        let step = bytes.len() / 64 + 1;
        for length in (0..bytes.len()).step_by(step) {
            net.inject(home, &bytes[..length]);
            if *class == Class::Stun {
                net.force(bob, stranger(8_000), &bytes[..length]);
            }
        }
    }
    assert_eq!(net.routes(), (1, 1), "nothing was learnt\n{}", net.story());
    assert_unharmed(&mut net, bob);
}

#[test]
fn flipped_bits_are_harmless() {
    let (mut net, bob, packets) = call(67);
    let home = net.addr(bob);
    let mut dice = Dice::seeded(67);
    for (class, bytes) in &packets {
        for _ in 0..40 {
            let mut flipped = bytes.clone();
            for _ in 0..=dice.below(3) {
                let at = dice.below(flipped.len());
                flipped[at] ^= 1 << dice.below(8);
            }
            net.inject(home, &flipped);
            if *class != Class::Stun {
                net.inject(stranger(9_000), &flipped);
            }
        }
    }
    assert_eq!(net.routes(), (1, 1), "nothing was learnt\n{}", net.story());
    assert_unharmed(&mut net, bob);
}

#[test]
fn garbage_from_everywhere_is_harmless() {
    let (mut net, bob, _) = call(68);
    let home = net.addr(bob);
    let mut dice = Dice::seeded(68);
    for round in 0..20_000 {
        let length = dice.below(if round % 10 == 0 { 1_500 } else { 80 });
        let mut bytes: Vec<u8> = (0..length).map(|_| u8::try_from(dice.roll() >> 56).expect("eight bits")).collect();
        if let Some(first) = bytes.first_mut() {
            // Most of all bytes are no protocol's first.
            *first = [0, 1, 20, 21, 22, 23, 63, 64, 79, 128, 144, 191, *first][dice.below(13)];
        }
        net.inject(home, &bytes);
        net.inject(stranger(9_100), &bytes);
        net.force(bob, stranger(9_200), &bytes);
        if round % 1_000 == 0 {
            net.run_for(ms(10));
        }
    }
    assert_eq!(net.routes(), (1, 1), "nothing was learnt\n{}", net.story());
    assert!(
        net.drops(DropReason::Garbage) > 0
            && net.drops(DropReason::UnknownSource) > 0
            && net.drops(DropReason::Refused) > 0
    );
    assert_unharmed(&mut net, bob);
}

/// A DTLS record in the clear (RFC 6347 section 4.1).
fn record(kind: u8, epoch: u16, sequence: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0xfe, 0xfd];
    bytes.extend(epoch.to_be_bytes());
    bytes.extend([0, 0, 0, 0, 0, sequence]);
    bytes.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
    bytes.extend(body);
    bytes
}

#[test]
fn forged_alerts_and_handshakes_end_no_call() {
    let (mut net, bob, packets) = call(69);
    let home = net.addr(bob);
    for (level, what) in [(1, 0), (2, 0), (2, 10), (2, 20), (2, 40), (2, 90), (1, 90)] {
        for epoch in 0..4 {
            for sequence in [0, 1, 200] {
                net.inject(home, &record(21, epoch, sequence, &[level, what]));
            }
        }
    }
    let hello = packets.iter().find(|(class, _)| *class == Class::Dtls).expect("it began with one").1.clone();
    for sequence in 0..20 {
        let mut hello = hello.clone();
        hello[10] = sequence;
        net.inject(home, &hello);
    }
    net.inject(home, &record(20, 0, 3, &[1]));
    net.inject(home, &record(23, 1, 9, &[0; 40]));
    assert_unharmed(&mut net, bob);
}

#[test]
fn a_handshake_survives_garbage_between_its_packets() {
    for seed in 600..610 {
        let mut net = Net::seeded(seed).delay(ms(30)).loss(0.1);
        let bob = net.listener();
        net.start(bob, "sine-220");
        let home = net.addr(bob);
        let mut dice = Dice::seeded(seed);
        for _ in 0..100 {
            net.run_for(ms(10));
            let kind = [20, 21, 22, 23, 25][dice.below(5)];
            let body: Vec<u8> =
                (0..dice.below(60)).map(|_| u8::try_from(dice.roll() >> 56).expect("eight bits")).collect();
            net.inject(home, &record(kind, 1, 1, &body));
            let packets = captured(&net, bob);
            let mut replay = packets[dice.below(packets.len())].1.clone();
            net.inject(home, &replay);
            let at = dice.below(replay.len());
            replay[at] ^= 1 << dice.below(8);
            net.inject(home, &replay);
        }
        net.run_until("heard", secs(15), |net| net.record(bob).heard.len() > 50);
    }
}

#[test]
fn a_peer_that_shows_another_certificate_never_connects() {
    // One digit of the fingerprint, the length of it, the name of its hash.
    let changes: [fn(String) -> String; 3] = [
        |offer| {
            let at = offer.find("a=fingerprint:sha-256 ").expect("it has one") + 22;
            let digit = if &offer[at..=at] == "0" { "1" } else { "0" };
            format!("{}{digit}{}", &offer[..at], &offer[at + 1..])
        },
        |offer| {
            let at = offer.find("a=fingerprint:sha-256 ").expect("it has one") + 22;
            format!("{}{}", &offer[..at], &offer[at + 3..])
        },
        |offer| offer.replace("fingerprint:sha-256", "fingerprint:rot-13"),
    ];
    for change in changes {
        let mut net = Net::seeded(601);
        let bob = net.call("sine-440");
        net.run_for(secs(1));
        net.rebuild_as(bob, change);
        net.record_mut(bob).heard.clear();
        net.run_for(secs(60));
        assert_eq!(net.record(bob).joined, 1, "the one before\n{}", net.story());
        assert!(net.record(bob).heard.is_empty(), "{}", net.story());
        assert_eq!(net.state(bob), SessionState::Idle, "{}", net.story());
        assert_eq!((net.routes(), net.is_on_air()), ((0, 0), false));
    }
}
