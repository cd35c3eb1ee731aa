//! Sessions that may go through an outside TURN server: who waits for a relayed candidate and how long, what goes through it, and what
//! happens when it is gone.

use std::net::SocketAddr;
use std::time::Duration;

use super::net::{Net, SERVER, Who, faults, ms, secs};
use crate::engine::demux::{DropReason, Path, Transport};
use crate::engine::session::{GATHERING, Input, RelayWish, SessionState};
use crate::wire::classify::Class;
use crate::wire::sdp;
use crate::wire::signal::ServerMsg;

const FIRST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1)), 61_000);
const SECOND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 2)), 62_000);

/// What the client was told, by its kind; candidates by their kind.
fn said(net: &Net, who: Who) -> Vec<String> {
    let word = |message: &ServerMsg| match message {
        ServerMsg::IceCandidate { candidate: None } => "null".to_owned(),
        ServerMsg::IceCandidate { candidate: Some(init) } => {
            init.candidate.split(' ').nth(7).expect("a kind").to_owned()
        }
        other => format!("{other:?}"),
    };
    net.record(who).said.iter().map(word).collect()
}

/// The kinds of candidates in the last answer.
fn kinds(net: &Net, who: Who) -> Vec<&str> {
    sdp::attributes(net.answer(who), "candidate").filter_map(|candidate| candidate.split(' ').nth(7)).collect()
}

fn addresses(net: &Net, who: Who, kind: &str) -> Vec<String> {
    let of = |candidate: &str| {
        let words: Vec<_> = candidate.split(' ').collect();
        (words[7] == kind).then(|| format!("{}:{}", words[4], words[5]))
    };
    sdp::attributes(net.answer(who), "candidate").filter_map(of).collect()
}

/// When it was answered, from now on.
fn answered_after(net: &mut Net, who: Who) -> Duration {
    let (began, before) = (net.now(), net.record(who).said.len());
    net.run_until("answered", secs(10), |net| {
        net.record(who).said[before..].iter().any(|message| matches!(message, ServerMsg::WebrtcAnswer { .. }))
    });
    net.now() - began
}

#[test]
fn an_answer_waits_for_a_relayed_candidate_and_not_for_long() {
    let mut net = Net::seeded(1);
    let who = net.listener_with_outside_relay(false);
    assert_eq!((said(&net, who), net.record(who).wishes.as_slice()), (vec![], &[RelayWish::Join][..]));
    assert_eq!(net.state(who), SessionState::Idle);
    // What the client says meanwhile is kept.
    net.start(who, "sine-440");
    net.run_for(ms(300));
    net.relay(who, FIRST);
    assert_eq!(said(&net, who), ["WebrtcAnswer"]);
    assert_eq!(addresses(&net, who, "relay"), [FIRST.to_string()]);
    let candidate = sdp::attributes(net.answer(who), "candidate").find(|candidate| sdp_relay(candidate)).expect("one");
    assert!(candidate.contains("raddr 0.0.0.0 rport 0"), "our own address is nobody's business: {candidate}");
    net.run_until("heard", secs(5), |net| net.record(who).heard.len() > 20);
    assert_eq!(faults(net.record(who)), []);

    let mut net = Net::seeded(2);
    let who = net.listener_with_outside_relay(false);
    let took = answered_after(&mut net, who);
    assert!(took >= GATHERING && took <= GATHERING + ms(20), "{took:?}");
    assert!(!kinds(&net, who).contains(&"relay"));
    net.run_until("connected", secs(5), |net| net.record(who).connected > 0);

    // Nothing waits where there is nothing to wait for.
    let mut net = Net::seeded(3);
    let who = net.listener_with_outside_relay(false);
    net.socket(who, Input::Unrelayed);
    assert_eq!(said(&net, who), ["WebrtcAnswer"]);
    let plain = net.listener();
    assert_eq!((said(&net, plain), net.record(plain).wishes.as_slice()), (vec!["WebrtcAnswer".to_owned()], &[][..]));
    net.relay(plain, FIRST);
    net.socket(plain, Input::RelayLost(FIRST));
    net.run_for(secs(5));
    assert_eq!((net.record(plain).wishes.as_slice(), net.record(plain).renewals), (&[][..], 0));
}

fn sdp_relay(candidate: &str) -> bool {
    candidate.split(' ').nth(7) == Some("relay")
}

#[test]
fn a_client_that_trickles_has_its_answer_at_once_and_the_end_with_the_relayed_candidate() {
    let mut net = Net::seeded(4);
    let who = net.listener_with_outside_relay(true);
    assert_eq!(said(&net, who), ["Answer", "host", "host"]);
    net.run_for(ms(500));
    net.relay(who, FIRST);
    assert_eq!(said(&net, who), ["Answer", "host", "host", "relay", "null"]);
    let Some(ServerMsg::IceCandidate { candidate: Some(init) }) = net.record(who).said.get(3) else { panic!() };
    assert!(init.candidate.starts_with("candidate:") && init.candidate.contains(&FIRST.ip().to_string()));
    assert_eq!((init.sdp_m_line_index, init.sdp_mid.is_some()), (Some(0), true));
    net.run_until("connected", secs(5), |net| net.record(who).connected > 0);
    // The next round has it from the beginning.
    net.record_mut(who).said.clear();
    net.restart(who);
    assert_eq!(said(&net, who), ["Answer", "host", "host", "relay", "null"]);

    let mut net = Net::seeded(5);
    let who = net.listener_with_outside_relay(true);
    net.run_for(GATHERING.saturating_sub(ms(50)));
    assert!(!said(&net, who).contains(&"null".to_owned()));
    net.run_for(ms(100));
    assert_eq!(said(&net, who), ["Answer", "host", "host", "null"]);
    let mut net = Net::seeded(6);
    let who = net.listener_with_outside_relay(true);
    net.socket(who, Input::Unrelayed);
    net.socket(who, Input::Unrelayed);
    assert_eq!(said(&net, who), ["Answer", "host", "host", "null"]);
}

/// A listener that hears its voice through an outside relay only.
fn relayed_call(net: &mut Net) -> Who {
    net.block();
    let who = net.listener_with_outside_relay(false);
    net.relay(who, FIRST);
    net.start(who, "sine-440");
    net.run_until("heard", secs(10), |net| net.record(who).heard.len() > 50);
    who
}

#[test]
fn media_goes_through_the_relay_where_nothing_else_goes() {
    let mut net = Net::seeded(7);
    let who = relayed_call(&mut net);
    let caller = net.addr(who).ip();
    assert!(net.record(who).wishes.contains(&RelayWish::Permit(caller)), "{:?}", net.record(who).wishes);
    assert_eq!(net.record(who).failures, 0);
    assert!(net.short_ways(who) > 20, "the short way leads there too");
    // The path is its own: the same peer's datagrams that come straight are nobody's.
    let rtp: Vec<u8> = [&[0x80, 111], &[7; 40][..]].concat();
    assert_eq!(net.owner(net.addr(who), &rtp), None);
    // And so it stays.
    let before = net.record(who).heard.len();
    net.run_for(secs(60));
    assert!(net.record(who).heard.len() >= before + 2_990);
    assert_eq!(net.drops(DropReason::UnknownSource), 0);
}

#[test]
fn a_direct_way_is_taken_where_there_is_one() {
    let mut net = Net::seeded(8);
    let who = net.listener_with_outside_relay(false);
    net.relay(who, FIRST);
    net.start(who, "sine-440");
    net.run_for(secs(10));
    let to_server = |sent: &&super::net::Sent| sent.up && sent.class() == Class::Rtcp;
    assert!(net.record(who).sent.iter().filter(to_server).all(|sent| sent.to == SERVER));
    assert!(net.record(who).heard.len() > 450);
    // Its relay goes, and nobody is disturbed.
    net.lose_relay(who, FIRST);
    net.relay(who, SECOND);
    net.run_for(secs(20));
    assert_eq!(net.record(who).renewals, 0);
    let seqs: Vec<_> = net.record(who).heard.iter().map(|heard| heard.seq).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[test]
fn when_its_relay_dies_a_client_restarts_ice_and_hears_again_by_another() {
    let mut net = Net::seeded(9);
    let who = relayed_call(&mut net);
    net.lose_relay(who, FIRST);
    assert_eq!(net.record(who).renewals, 0, "there is nothing to restart with yet");
    net.run_for(ms(400));
    net.relay(who, SECOND);
    assert_eq!(net.record(who).renewals, 1);
    net.record_mut(who).said.clear();
    net.record_mut(who).heard.clear();
    net.restart(who);
    assert_eq!(addresses(&net, who, "relay"), [SECOND.to_string()], "not the one that is gone");
    net.run_until("heard again", secs(5), |net| net.record(who).heard.len() > 20);
    net.run_for(secs(60));
    assert!(net.record(who).heard.len() > 2_900);
    assert_eq!((net.record(who).renewals, net.record(who).joined), (1, 1));
    // Once more, and the answer waits for the new one where the client is faster than the server.
    net.lose_relay(who, SECOND);
    net.record_mut(who).said.clear();
    net.restart(who);
    assert_eq!(said(&net, who), [""; 0]);
    net.run_for(ms(500));
    let third = SocketAddr::from(([203, 0, 113, 3], 63_000));
    net.relay(who, third);
    assert_eq!(
        (said(&net, who), addresses(&net, who, "relay")),
        (vec!["WebrtcAnswer".to_owned()], vec![third.to_string()])
    );
    net.record_mut(who).heard.clear();
    net.run_until("heard again", secs(5), |net| net.record(who).heard.len() > 20);
    assert_eq!(net.record(who).renewals, 1, "it had restarted already");
}

#[test]
fn an_answer_that_waited_changes_packets_when_it_is_given() {
    let mut net = Net::seeded(12);
    let who = net.listener_with_outside_relay(false);
    net.relay(who, FIRST);
    net.start(who, "sine-440");
    net.run_for(secs(20));
    net.lose_relay(who, FIRST);
    net.record_mut(who).said.clear();
    net.renegotiate(who);
    net.run_for(GATHERING.saturating_sub(ms(50)));
    assert_eq!(said(&net, who), [""; 0]);
    let long_ways = |net: &Net| net.record(who).turns - u64::from(net.short_ways(who));
    let before = long_ways(&net);
    net.run_for(ms(100));
    assert_eq!((said(&net, who), long_ways(&net) - before), (vec!["WebrtcAnswer".to_owned()], 1));
}

#[test]
fn a_relay_that_comes_too_late_is_offered_by_a_restart() {
    let mut net = Net::seeded(10);
    net.block();
    let who = net.listener_with_outside_relay(false);
    net.start(who, "sine-440");
    net.run_for(GATHERING + ms(100));
    assert_eq!(said(&net, who), ["WebrtcAnswer"]);
    net.relay(who, FIRST);
    assert_eq!(net.record(who).renewals, 1);
    net.restart(who);
    net.run_until("heard", secs(10), |net| net.record(who).heard.len() > 20);
    // Who is connected does not need it.
    let mut net = Net::seeded(11);
    let who = net.listener_with_outside_relay(false);
    net.run_until("connected", secs(10), |net| net.record(who).connected > 0);
    net.relay(who, FIRST);
    assert_eq!(net.record(who).renewals, 0);
    // Its checks go where others have come from by another path, and their answers are ours all the same.
    net.run_for(secs(3));
    assert!(net.record(who).sent.iter().any(|sent| sent.up && sent.to == FIRST), "it was checked");
    assert_eq!(net.drops(DropReason::UnknownSource), 0);
}

#[test]
fn a_relay_is_doubted_when_ice_finds_no_way() {
    let mut net = Net::seeded(12);
    let who = relayed_call(&mut net);
    let doubts = |net: &Net| net.record(who).wishes.iter().filter(|wish| **wish == RelayWish::Doubt).count();
    assert_eq!(doubts(&net), 0);
    net.dark(who, true);
    net.run_until("doubted", secs(14), |net| doubts(net) > 0);
    // And when its client has reason to restart.
    let mut net = Net::seeded(13);
    let who = relayed_call(&mut net);
    net.restart(who);
    assert_eq!(net.record(who).wishes.last(), Some(&RelayWish::Permit(net.addr(who).ip())));
    assert!(net.record(who).wishes.contains(&RelayWish::Doubt));
}

#[test]
fn what_a_session_had_it_gives_back() {
    let leaves = |net: &Net, who: Who| net.record(who).wishes.iter().filter(|wish| **wish == RelayWish::Leave).count();
    // A peer connection that is made anew keeps it.
    let mut net = Net::seeded(14);
    let who = relayed_call(&mut net);
    net.rebuild(who);
    assert_eq!(leaves(&net, who), 0);
    net.run_until("connected", secs(5), |net| net.record(who).connected > 1);
    assert_eq!(addresses(&net, who, "relay"), [FIRST.to_string()]);
    // One that has gone does not.
    net.hang_up(who);
    net.run_for(secs(1));
    assert_eq!((leaves(&net, who), net.state(who)), (1, SessionState::Idle));
    // The next one asks again.
    net.rebuild(who);
    assert_eq!(net.record(who).wishes.last(), Some(&RelayWish::Join));
    net.socket(who, Input::Closed);
    assert_eq!(leaves(&net, who), 2);
    // Nor does an offer that comes to nothing, or a session that ends while one waits.
    let mut net = Net::seeded(15);
    let who = net.listener_with_outside_relay(false);
    net.socket(who, Input::Closed);
    assert_eq!((leaves(&net, who), said(&net, who)), (1, vec![]));
    let mut net = Net::seeded(16);
    let who = net.listener_with_outside_relay(false);
    net.socket(who, Input::Unrelayed);
    net.hang_up(who);
    net.run_for(secs(40));
    net.say(who, r#"{"type":"webrtc_offer","sdp":"v=0"}"#);
    net.run_for(secs(3));
    assert_eq!(faults(net.record(who)).len(), 1);
    assert_eq!(net.record(who).wishes.last(), Some(&RelayWish::Leave));
}

/// A session that has had a peer connection and a place at a relay, and has neither any more.
fn idle_again(net: &mut Net, trickles: bool) -> Who {
    let who = net.listener_with_outside_relay(trickles);
    net.run_until("connected", secs(5), |net| net.record(who).connected > 0);
    net.hang_up(who);
    net.run_for(secs(1));
    assert_eq!(net.state(who), SessionState::Idle);
    let record = net.record_mut(who);
    record.said.clear();
    assert_eq!(std::mem::take(&mut record.wishes).last(), Some(&RelayWish::Leave));
    who
}

#[test]
fn an_offer_that_is_refused_leaves_the_next_one_a_relay_of_its_own() {
    // The address that it asked for is told when it has been given back already.
    let mut net = Net::seeded(19);
    let who = idle_again(&mut net, true);
    net.say(who, r#"{"type":"offer","sdp":"v=0"}"#);
    net.relay(who, FIRST);
    assert_eq!((faults(net.record(who)).len(), said(&net, who).len()), (1, 1));
    net.rebuild(who);
    assert_eq!(net.record(who).wishes[..3], [RelayWish::Join, RelayWish::Leave, RelayWish::Join]);
    assert_eq!(said(&net, who)[1..], ["Answer", "host", "host"]);
    net.relay(who, SECOND);
    assert_eq!(said(&net, who)[1..], ["Answer", "host", "host", "relay", "null"]);
    // It is refused no sooner than the next one comes.
    let mut net = Net::seeded(20);
    let who = idle_again(&mut net, false);
    net.say(who, r#"{"type":"webrtc_offer","sdp":"v=0"}"#);
    assert_eq!((said(&net, who), net.record(who).wishes.as_slice()), (vec![], &[RelayWish::Join][..]));
    net.rebuild(who);
    assert_eq!(net.record(who).wishes, [RelayWish::Join, RelayWish::Leave, RelayWish::Join]);
    assert_eq!((faults(net.record(who)).len(), said(&net, who).len()), (1, 1), "nobody waits before it");
    net.relay(who, FIRST);
    assert_eq!(said(&net, who)[1..], ["WebrtcAnswer"]);
    assert_eq!(addresses(&net, who, "relay"), [FIRST.to_string()]);
}

#[test]
fn who_offers_twice_is_answered_twice_in_order() {
    let mut net = Net::seeded(17);
    let who = net.listener_with_outside_relay(false);
    net.run_for(ms(100));
    net.renegotiate(who);
    assert_eq!(said(&net, who), ["WebrtcAnswer", "WebrtcAnswer"]);
    net.relay(who, FIRST);
    net.run_until("connected", secs(5), |net| net.record(who).connected > 0);
}

#[test]
fn strangers_cannot_come_in_by_the_relay() {
    let mut net = Net::seeded(18);
    let who = relayed_call(&mut net);
    let refused = net.record(who).refused;
    let heard = net.record(who).heard.len();
    // A check with a guessed password, and media from where no check came.
    let forged = net.binding(who, "0123456789012345678901");
    let path = Path { transport: Transport::Relayed, remote: SocketAddr::from(([9, 9, 9, 9], 9)) };
    net.force_by(who, path, FIRST, &forged);
    assert_eq!(net.record(who).refused, refused + 1);
    // One to a relayed address that is not this session's.
    net.force_by(who, path, SECOND, &forged);
    assert_eq!(net.record(who).refused, refused + 2);
    net.run_for(secs(2));
    assert!(net.record(who).heard.len() >= heard + 95);
}
