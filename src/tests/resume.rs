//! A WebSocket that drops leaves the media running for ten seconds; one that closes ends it at once.

use crate::engine::session::{EndReason, Input};

use super::ear::assert_continuous;
use super::net::{Net, ms, secs};

#[test]
fn a_client_that_comes_back_in_time_never_misses_a_frame() {
    let mut net = Net::seeded(31);
    let bob = net.call("sine-440");
    for gap in [ms(1), secs(1), ms(9_999)] {
        net.socket(bob, Input::Dropped);
        net.run_for(gap);
        net.socket(bob, Input::Attached);
        net.run_for(secs(20));
        assert_eq!(net.record(bob).ended, None, "{}", net.story());
    }
    let heard = &net.record(bob).heard;
    assert!(heard.len() >= 70 * 50, "{} frames\n{}", heard.len(), net.story());
    assert_continuous(heard);
    net.stop(bob);
    net.run_for(secs(1));
    assert!(!net.is_on_air(), "and the new socket is obeyed");
}

#[test]
fn a_client_that_stays_away_is_abandoned_after_ten_seconds() {
    let mut net = Net::seeded(32);
    let bob = net.call("sine-440");
    net.run_for(ms(137));
    let dropped = net.now();
    net.socket(bob, Input::Dropped);
    net.run_for(secs(9));
    assert!(net.record(bob).heard.len() > 9 * 50, "media goes on meanwhile");
    net.run_for(secs(10));
    let (reason, ended) = net.record(bob).ended.expect("it has ended");
    assert_eq!(reason, EndReason::Abandoned, "{}", net.story());
    // On the beat after it.
    assert!((secs(10)..=secs(10) + ms(20)).contains(&(ended - dropped)), "{:?}\n{}", ended - dropped, net.story());
    assert_eq!(net.record(bob).goodbyes, 1, "the peer is told\n{}", net.story());
    assert_eq!(net.routes(), (0, 0), "nothing is routed to it any more");
    assert!(!net.is_on_air(), "and nobody listens\n{}", net.story());
}

#[test]
fn a_client_without_media_is_abandoned_as_well() {
    let mut net = Net::seeded(33);
    let bob = net.listener();
    net.dark(bob, true);
    net.run_for(secs(60));
    assert_eq!(net.record(bob).ended, None, "a session outlives its peer connection\n{}", net.story());
    let dropped = net.now();
    net.socket(bob, Input::Dropped);
    net.run_for(secs(60));
    let (reason, ended) = net.record(bob).ended.expect("it has ended");
    assert_eq!(reason, EndReason::Abandoned, "{}", net.story());
    // On the beat after it.
    assert!((secs(10)..=secs(10) + ms(20)).contains(&(ended - dropped)), "{:?}\n{}", ended - dropped, net.story());
}

#[test]
fn a_closed_socket_ends_the_session_at_once_with_a_goodbye() {
    let mut net = Net::seeded(34);
    let (bob, ann) = (net.call("sine-440"), net.call("sine-440"));
    net.run_for(secs(1));
    let closed = net.now();
    net.socket(bob, Input::Closed);
    assert_eq!(net.record(bob).ended, Some((EndReason::Closed, closed)), "{}", net.story());
    net.run_for(ms(10));
    assert_eq!(net.record(bob).goodbyes, 1, "the peer is told\n{}", net.story());
    net.record_mut(bob).sent.clear();
    net.record_mut(ann).heard.clear();
    net.run_for(secs(5));
    assert!(net.record(bob).sent.iter().all(|sent| sent.up), "the server sends nothing more");
    assert_eq!(net.record(ann).heard.len(), 250, "and nobody else notices");
    // What is said to a session that has ended goes nowhere.
    net.start(bob, "sine-220");
    net.socket(bob, Input::Attached);
    net.run_for(secs(1));
    assert_eq!(net.record(bob).said.len(), 1, "the answer was its last word");
}
