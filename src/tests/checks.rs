//! Most checks of consent are answered past str0m; nobody can tell.

use std::collections::HashSet;

use str0m::ice::StunMessage;

use crate::engine::crypto;
use crate::engine::session::SessionState;
use crate::wire::classify::Class;
use crate::wire::sdp;

use super::net::{Net, SERVER, Sent, Who, ms, secs};

/// Checks, or answers to them, that went up, or down.
fn of_ice(net: &Net, who: Who, up: bool, kind: [u8; 2]) -> Vec<Sent> {
    let sent = net.record(who).sent.iter().filter(|sent| sent.up == up && sent.class() == Class::Stun);
    sent.filter(|sent| sent.bytes[..2] == kind).cloned().collect()
}

/// The peer's checks (RFC 8489 section 5).
fn checks(net: &Net, who: Who) -> Vec<Sent> {
    of_ice(net, who, true, [0, 1])
}

/// Our answers to them.
fn answers(net: &Net, who: Who) -> Vec<Sent> {
    of_ice(net, who, false, [1, 1])
}

fn transactions(sent: &[Sent]) -> HashSet<&[u8]> {
    sent.iter().map(|sent| &sent.bytes[8..20]).collect()
}

#[track_caller]
fn assert_authentic(net: &Net, who: Who, sent: &Sent) {
    let password = sdp::ice_credentials(net.answer(who)).expect("an answer has credentials").pwd;
    let hmac = crypto::provider().sha1_hmac_provider;
    let message = StunMessage::parse(&sent.bytes).expect("it is STUN");
    assert!(message.verify(password.as_bytes(), |key, payloads| hmac.sha1_hmac(key, payloads)));
    assert_eq!(message.mapped_address(), Some(net.addr(who)));
    assert_eq!(sent.to, net.addr(who));
}

#[test]
fn every_check_is_answered_and_str0m_sees_enough_of_them() {
    let mut net = Net::seeded(61).delay(ms(0));
    let (bob, eve) = (net.listener(), net.call("sine-440"));
    net.run_for(secs(600));
    for who in [bob, eve] {
        let (checks, answers) = (checks(&net, who), answers(&net, who));
        assert_eq!(transactions(&checks), transactions(&answers));
        assert_eq!(checks.len(), answers.len());
        for answer in &answers {
            assert_authentic(&net, who, answer);
        }
        let short = net.short_answers(who);
        assert!(short * 10 >= checks.len() * 4, "{short} of {} went the short way", checks.len());
        assert!(checks.len() - short >= 600 / 15, "str0m saw {}", checks.len() - short);
        assert!(net.record(who).unrouted.is_empty());
    }
}

#[test]
fn a_peer_that_answers_no_checks_but_sends_them_is_not_given_up() {
    let mut net = Net::seeded(62).delay(ms(0));
    let bob = net.call("sine-440");
    net.run_for(secs(5));
    let (addr, password) = (net.addr(bob), sdp::ice_credentials(net.answer(bob)).expect("it has some").pwd);
    net.dark(bob, true);
    let mut short = net.short_answers(bob);
    for _ in 0..40 {
        net.run_for(ms(2_500));
        let check = net.binding(bob, &password);
        net.inject(addr, &check);
    }
    short = net.short_answers(bob) - short;
    assert!((28..=32).contains(&short), "{short} of 40 went the short way");
    assert_eq!((net.state(bob), net.record(bob).unrouted.len()), (SessionState::Streaming, 0), "{}", net.story());
    // What ends it is their end.
    net.run_for(secs(16));
    assert_eq!(net.record(bob).unrouted.len(), 1, "{}", net.story());
}

#[test]
fn what_is_not_the_check_of_before_is_none_that_we_answer_for_str0m() {
    let mut net = Net::seeded(63).delay(ms(0));
    let bob = net.call("sine-440");
    net.run_for(secs(5));
    let seen = checks(&net, bob).pop().expect("it checks").bytes;
    let (addr, password) = (net.addr(bob), sdp::ice_credentials(net.answer(bob)).expect("it has some").pwd);
    let mut put = |bytes: &[u8], from| {
        let before = (net.short_answers(bob), answers(&net, bob).len(), net.record(bob).refused);
        net.force(bob, from, bytes);
        let after = (net.short_answers(bob), answers(&net, bob).len(), net.record(bob).refused);
        (after.0 - before.0, after.1 - before.1, after.2 - before.2)
    };
    // str0m is given this one whatever it did see, if it saw none for long; the next one is like it.
    put(&seen, addr);
    assert_eq!(put(&seen, addr), (1, 1, 0));
    // Another transaction, another name, another proof; what comes after the proof is not of it, and str0m does not mind.
    for place in 8..seen.len() - 8 {
        let mut forged = seen.clone();
        forged[place] ^= 1;
        assert_eq!(put(&forged, addr), (0, 0, 1), "byte {place}");
    }
    for len in 0..seen.len() {
        assert_eq!(put(&seen[..len], addr), (0, 0, 1), "{len} bytes");
    }
    assert_eq!(put(&seen, addr), (1, 1, 0), "whatever strangers said");
    // By another way, and back.
    let elsewhere = ([203, 0, 113, 9], 9).into();
    for from in [elsewhere, addr, elsewhere, addr] {
        assert_eq!(put(&seen, from), (0, 1, 0), "{from}");
    }
    assert_eq!(put(&seen, addr), (1, 1, 0));
    // Another one, as authentic.
    let other = net.binding(bob, &password);
    let mut put = |bytes: &[u8]| {
        let before = net.short_answers(bob);
        net.force(bob, addr, bytes);
        net.short_answers(bob) - before
    };
    assert_eq!([&other, &other, &seen, &seen].map(|check| put(check)), [0, 1, 0, 1]);
    net.restart(bob);
    let before = (net.short_answers(bob), net.record(bob).refused);
    net.force(bob, addr, &seen);
    assert_eq!((net.short_answers(bob), net.record(bob).refused), (before.0, before.1 + 1), "it is of the time before");
}

#[test]
fn what_arrives_at_another_address_of_ours_is_another_check() {
    let mut net = Net::seeded(64).delay(ms(0));
    let bob = net.call("sine-440");
    net.run_for(secs(5));
    let seen = checks(&net, bob).pop().expect("it checks").bytes;
    let path = net.path(bob);
    let mut put = |destination| {
        let before = net.short_answers(bob);
        net.force_by(bob, path, destination, &seen);
        net.short_answers(bob) - before
    };
    put(SERVER);
    assert_eq!(put(SERVER), 1);
    assert_eq!(put(([192, 0, 2, 99], 3479).into()), 0);
    assert_eq!([put(SERVER), put(SERVER)], [0, 1]);
}
