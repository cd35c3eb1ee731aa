//! Later offers: ICE restarts, renegotiations, and peer connections that were thrown away and made anew.

use std::net::SocketAddr;

use crate::engine::session::SessionState;
use crate::wire::classify::Class;
use crate::wire::sdp;
use crate::wire::signal::ServerMsg;

use super::client::{chromium_sdk, offer};
use super::ear::{assert_continuous, listen};
use super::net::{Net, WORKER, Who, faults, secs};

/// What a listener's page says to offer this.
fn webrtc_offer(sdp: &str) -> String {
    offer("webrtc_offer", sdp)
}

/// The last answer that a client was given.
fn answer(net: &Net, who: Who) -> &str {
    let answers = net.record(who).said.iter().rev().find_map(|message| match message {
        ServerMsg::WebrtcAnswer { sdp } | ServerMsg::Answer { sdp } => Some(sdp.as_str()),
        _ => None,
    });
    answers.unwrap_or_else(|| panic!("no answer\n{}", net.story()))
}

#[test]
fn an_ice_restart_names_the_worker_again_and_media_goes_on() {
    let mut net = Net::seeded(41);
    let bob = net.call("sine-440");
    net.run_for(secs(2));
    for round in 1..=5 {
        let old = sdp::ice_credentials(answer(&net, bob)).expect("an answer has credentials");
        net.restart(bob);
        let new = sdp::ice_credentials(answer(&net, bob)).expect("an answer has credentials");
        assert_ne!(new.pwd, old.pwd);
        assert!(new.ufrag.starts_with(WORKER), "{} names no worker", new.ufrag);
        assert!(
            !answer(&net, bob).contains(&old.ufrag) && !answer(&net, bob).contains(&old.pwd),
            "the old ones are gone"
        );
        assert_eq!(net.record(bob).ufrags.last(), Some(&new.ufrag), "registered");
        net.run_for(secs(20));
        assert_eq!(net.record(bob).ufrags.len(), round + 1);
        assert_eq!(net.record(bob).unrouted.len(), 0, "{}", net.story());
        assert!(net.routes().0 <= 2, "{:?} are bounded", net.routes());
    }
    let heard = &net.record(bob).heard;
    assert!(heard.len() >= 102 * 50, "{} frames\n{}", heard.len(), net.story());
    assert_continuous(heard);
    assert_eq!(net.record(bob).joined, 1, "one connection all along");
}

#[test]
fn a_phone_behind_another_nat_restarts_ice_and_hears_on() {
    let mut net = Net::seeded(42).loss(0.02);
    let bob = net.call("sine-880");
    for network in 1..=3 {
        net.run_for(secs(3));
        net.move_to(bob, SocketAddr::from(([203, 0, 113, network], 40_000)));
        net.run_for(secs(2));
        net.record_mut(bob).heard.clear();
        net.restart(bob);
        net.run_for(secs(5));
        let heard = &net.record(bob).heard;
        assert!(heard.len() > 200, "network {network}: {} frames\n{}", heard.len(), net.story());
        assert_eq!(net.record(bob).unrouted.len(), 0, "{}", net.story());
    }
}

#[test]
fn the_same_offer_again_renegotiates_and_changes_nothing() {
    let mut net = Net::seeded(43);
    let bob = net.listener();
    net.start(bob, "sine-440");
    net.run_for(secs(2));
    let first = sdp::ice_credentials(answer(&net, bob));
    let heard = net.record(bob).heard.len();
    for _ in 0..3 {
        net.renegotiate(bob);
        net.run_for(secs(2));
        assert_eq!(sdp::ice_credentials(answer(&net, bob)), first, "the same credentials");
    }
    assert!(net.record(bob).heard.len() - heard >= 299, "{}", net.story());
    assert_continuous(&net.record(bob).heard);
    assert_eq!((net.record(bob).joined, net.record(bob).unrouted.len()), (1, 0), "{}", net.story());
}

#[test]
fn a_rebuilt_peer_connection_gets_a_fresh_leg_and_keeps_playing() {
    let mut net = Net::seeded(44);
    let bob = net.call("sine-220");
    net.run_for(secs(2));
    for round in 1..=4 {
        net.rebuild(bob);
        assert_eq!(net.state(bob), SessionState::Connecting);
        assert_eq!(net.record(bob).unrouted.len(), round, "the old one is gone");
        net.record_mut(bob).heard.clear();
        net.run_for(secs(3));
        let heard = &net.record(bob).heard;
        assert!(
            heard.len() >= 120,
            "round {round}: {} frames, though nobody said start again\n{}",
            heard.len(),
            net.story()
        );
        assert_continuous(heard);
        assert!((listen(heard)[0].pitch() - 220.0).abs() < 0.1);
        assert_eq!(net.routes(), (1, 1), "one ufrag and one path");
    }
    net.stop(bob);
    net.run_for(secs(1));
    assert!(!net.is_on_air(), "every join had its leave\n{}", net.story());
}

#[test]
fn a_peer_connection_rebuilt_with_a_kept_certificate_is_told_from_an_ice_restart() {
    let mut net = Net::seeded(46);
    let bob = net.call("sine-220");
    for round in 1..=3 {
        net.run_for(secs(2));
        net.rebuild_with_same_certificate(bob);
        net.record_mut(bob).heard.clear();
        net.run_for(secs(3));
        let heard = &net.record(bob).heard;
        assert!(heard.len() >= 120, "round {round}: {} frames\n{}", heard.len(), net.story());
        assert_eq!(net.routes(), (1, 1), "one ufrag and one path");
    }
}

#[test]
fn a_bad_offer_leaves_a_good_connection_alone() {
    let mut net = Net::seeded(45);
    let bob = net.call("sine-440");
    net.run_for(secs(1));
    net.say(bob, r#"{"type":"webrtc_offer","sdp":"v=0\r\n"}"#);
    net.say(bob, r#"{"type":"webrtc_offer"}"#);
    // Another peer connection's, of which nothing can be heard.
    net.say(bob, &offer("offer", &chromium_sdk()));
    // And its own, cut in half.
    let half = net.offered(bob).len() / 2;
    let half = net.offered(bob)[..half].to_owned();
    net.say(bob, &offer("offer", &half));
    assert_eq!(faults(net.record(bob)).len(), 4, "{}", net.story());
    net.run_for(secs(5));
    assert_continuous(&net.record(bob).heard);
    assert!(net.record(bob).heard.len() >= 300, "{}", net.story());
}

#[test]
fn a_line_that_was_paused_for_long_is_heard_again() {
    let mut net = Net::seeded(48);
    let bob = net.call("sine-440");
    net.run_for(secs(2));
    net.renegotiate_as(bob, |offer| offer.replace("a=recvonly", "a=inactive"));
    net.run_for(secs(1));
    net.record_mut(bob).heard.clear();
    // More packets than half of the sequence numbers: the receiver could not guess how often they rolled over.
    net.run_for(secs(15 * 60));
    assert_eq!(net.record(bob).heard.len(), 0, "it was paused");
    net.renegotiate_as(bob, |offer| offer.replace("a=inactive", "a=recvonly"));
    net.run_for(secs(5));
    let heard = &net.record(bob).heard;
    assert!(heard.len() >= 240, "{} frames\n{}", heard.len(), net.story());
    assert!(heard[0].marker, "sound begins anew");
    assert_continuous(heard);
}

#[test]
fn a_paused_line_stays_so_through_offers_and_restarts_of_ice() {
    let mut net = Net::seeded(49);
    let bob = net.call("sine-440");
    net.run_for(secs(2));
    for _ in 0..2 {
        net.renegotiate_as(bob, |offer| offer.replace("a=recvonly", "a=inactive"));
        net.run_for(secs(1));
    }
    net.restart_as(bob, |offer| offer.replace("a=recvonly", "a=inactive"));
    net.run_for(secs(30));
    assert_eq!(faults(net.record(bob)), []);
    assert_eq!(net.record(bob).unrouted.len(), 0, "{}", net.story());
    net.record_mut(bob).heard.clear();
    net.renegotiate_as(bob, |offer| offer.replace("a=inactive", "a=recvonly"));
    net.run_for(secs(5));
    assert!(net.record(bob).heard.len() >= 240, "{}", net.story());
}

#[test]
fn sound_that_moves_to_another_line_and_back_is_heard_however_long_it_has_played() {
    let mut net = Net::seeded(50);
    let bob = net.call("sine-440");
    // The first line's numbers have rolled over by then, and those of the others have not.
    net.run_for(secs(23 * 60));
    for (line, rolled_over) in [(1, false), (0, true), (1, false), (2, false)] {
        net.listen_on(bob, line);
        net.run_for(secs(1));
        net.record_mut(bob).heard.clear();
        net.run_for(secs(5));
        let heard = &net.record(bob).heard;
        assert!(heard.len() >= 240, "line {line}: {} frames\n{}", heard.len(), net.story());
        assert!(heard.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1), "line {line}: a hole in the sequence");
        assert_eq!(heard[0].seq > 0xffff, rolled_over, "line {line}: {}", heard[0].seq);
        assert_continuous(heard);
    }
    assert_eq!(faults(net.record(bob)), []);
}

#[test]
fn a_restart_that_is_refused_leaves_the_connection_as_it_was() {
    let mut net = Net::seeded(51);
    let bob = net.call("sine-440");
    net.run_for(secs(5));
    for round in 1..=3 {
        // The client takes its offer back, and goes on with what it had.
        let offer = net.offered(bob).to_owned();
        let old = sdp::ice_credentials(&offer).expect("an offer has credentials");
        let mid = sdp::attribute(&offer, "mid").expect("a line").to_owned();
        let other = offer
            .replace(&old.ufrag, &format!("other{round}"))
            .replace(&old.pwd, "another-password-of-24-c")
            .replace(&format!("a=mid:{mid}"), "a=mid:zzz")
            .replace(&format!("a=group:BUNDLE {mid}"), "a=group:BUNDLE zzz");
        net.say(bob, &webrtc_offer(&other));
        assert_eq!(faults(net.record(bob)).len(), round, "{}", net.story());
        net.run_for(secs(60));
        assert_eq!(net.record(bob).unrouted.len(), 0, "{}", net.story());
    }
    net.record_mut(bob).heard.clear();
    net.run_for(secs(5));
    assert_eq!(net.record(bob).heard.len(), 250, "{}", net.story());
}

#[test]
fn what_was_sent_to_the_peer_connection_before_goes_to_none_after() {
    let mut net = Net::seeded(52);
    let bob = net.listener();
    net.run_for(secs(2));
    let hello = |net: &Net| {
        let sent = net.record(bob).sent.iter().filter(|sent| sent.up && sent.class() == Class::Dtls);
        sent.map(|sent| sent.bytes.clone()).next().expect("a handshake")
    };
    for round in 1..=3 {
        let old = hello(&net);
        net.record_mut(bob).sent.clear();
        net.rebuild(bob);
        // It waited in a queue, and nobody looks where it came from any more.
        net.force(bob, net.addr(bob), &old);
        assert_eq!(net.record(bob).refused, round, "{}", net.story());
        net.run_for(secs(2));
        assert_eq!(net.state(bob), SessionState::Connected, "{}", net.story());
    }
}
