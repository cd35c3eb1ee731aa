//! Sessions over TCP: the same call, by a connection that the client opened.

use super::ear::{assert_continuous, listen};
use super::net::{Net, SERVER, ms, secs};
use crate::engine::demux::DropReason;
use crate::wire::sdp;

#[test]
fn a_minute_by_tcp_has_no_hole_and_goes_past_str0m() {
    let mut net = Net::seeded(41).delay(ms(30));
    let bob = net.listener_by_tcp();
    net.start(bob, "sine-440");
    net.run_until("heard", secs(5), |net| !net.record(bob).heard.is_empty());
    net.run_for(secs(60));
    let heard = &net.record(bob).heard;
    assert!(heard.len() >= 3_000, "{}", net.story());
    assert_continuous(heard);
    assert!((listen(heard)[0].pitch() - 440.0).abs() < 0.1);
    assert!(net.short_ways(bob) > 2_000, "{}", net.short_ways(bob));
    assert_eq!((net.record(bob).refused, net.record(bob).failures), (0, 0));
}

#[test]
fn ice_restarts_by_tcp_and_the_sound_goes_on() {
    let mut net = Net::seeded(42);
    let bob = net.listener_by_tcp();
    net.start(bob, "sine-220");
    net.run_for(secs(2));
    net.restart(bob);
    net.record_mut(bob).heard.clear();
    net.run_for(secs(10));
    assert!(net.record(bob).heard.len() >= 490, "{}", net.story());
    assert_continuous(&net.record(bob).heard);
    assert_eq!(net.record(bob).ufrags.len(), 2);
}

#[test]
fn every_address_is_offered_by_udp_and_by_tcp_and_udp_is_preferred() {
    let mut net = Net::seeded(43);
    let bob = net.listener();
    net.run_for(secs(1));
    let answer = net.answer(bob);
    let candidates: Vec<Vec<&str>> =
        sdp::attributes(answer, "candidate").map(|line| line.split(' ').collect()).collect();
    let [udp, tcp] = &candidates[..] else { panic!("{answer}") };
    let priority = |words: &[&str]| words[3].parse::<u32>().expect("a priority");
    assert!(priority(udp) > priority(tcp), "{answer}");
    for (words, transport) in [(udp, "udp"), (tcp, "tcp")] {
        assert_eq!((words[2], words[4], words[5]), (transport, "192.0.2.10", "3479"));
        assert_eq!(words[6..8], ["typ", "host"]);
        assert_eq!(words.contains(&"passive"), transport == "tcp");
    }
}

#[test]
fn the_same_address_over_another_transport_is_somebody_else() {
    let mut net = Net::seeded(44);
    let bob = net.listener_by_tcp();
    net.run_until("connected", secs(5), |net| net.record(bob).connected > 0);
    let addr = net.addr(bob);
    let before = net.drops(DropReason::UnknownSource);
    net.inject(addr, &[22; 64]);
    assert_eq!(net.drops(DropReason::UnknownSource), before + 1, "a datagram over UDP from {addr} to {SERVER}");
}
