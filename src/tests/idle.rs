//! Silence is cheap, and what is dead is let go: bounded wake-ups, half-open and dark connections, sessions without any.

use std::time::Duration;

use crate::engine::session::SessionState;
use crate::wire::classify::Class;

use super::net::{Net, Who, ms, secs};

#[test]
fn ten_silent_minutes_cost_few_wake_ups_and_no_audio() {
    let mut net = Net::seeded(51).delay(secs(0));
    let bob = net.listener();
    net.run_for(secs(10));
    assert_eq!(net.state(bob), SessionState::Connected, "{}", net.story());
    let before = (net.record(bob).ticks, net.wakes());
    net.record_mut(bob).sent.clear();
    net.run_for(secs(600));
    let ticks = net.record(bob).ticks - before.0;
    let sent = net.record(bob).sent.iter().filter(|sent| !sent.up).count();
    assert!(ticks <= 600 * 4, "{ticks} ticks in ten minutes\n{}", net.story());
    assert!(net.wakes() - before.1 <= 600 * 12, "{} wake-ups, the caller's among them", net.wakes() - before.1);
    assert!(sent <= 600 * 2, "{sent} datagrams");
    assert_eq!(net.record(bob).turns, 0);
    assert_eq!(net.state(bob), SessionState::Connected, "{}", net.story());
}

/// Lets time pass, and tells what lay between our checks, to a step.
fn gaps_between_checks(net: &mut Net, who: Who, time: Duration, step: Duration) -> Vec<Duration> {
    let end = net.now() + time;
    let mut checked = Vec::new();
    while net.now() < end {
        net.record_mut(who).sent.clear();
        net.run_for(step);
        // Requests, whose type begins with a zero byte (RFC 8489 section 5).
        let checks = net.record(who).sent.iter().filter(|sent| !sent.up && sent.class() == Class::Stun);
        checked.extend(checks.filter(|sent| sent.bytes[..2] == [0, 1]).map(|_| net.now()));
    }
    checked.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn checks_of_consent_wait_for_company_and_not_for_long() {
    for plays in [false, true] {
        let mut net = Net::seeded(57);
        let bob = if plays { net.call("sine-440") } else { net.listener() };
        net.run_for(secs(60));
        let before = net.record(bob).ticks;
        let gaps = gaps_between_checks(&mut net, bob, secs(600), ms(100));
        assert!(gaps.iter().all(|gap| (ms(4_900)..=ms(6_100)).contains(gap)), "{gaps:?}");
        assert!((99..=122).contains(&gaps.len()), "{} checks in ten minutes", gaps.len());
        // Reports want a look at the session as often as checks do.
        let ticks = net.record(bob).ticks - before;
        assert!(ticks <= 130, "{ticks} ticks for {} checks and as many reports\n{}", gaps.len(), net.story());
    }
}

#[test]
fn a_check_that_is_not_answered_waits_for_no_company() {
    for plays in [false, true] {
        let mut net = Net::seeded(59);
        let bob = if plays { net.call("sine-440") } else { net.listener() };
        net.run_for(secs(60));
        net.dark(bob, true);
        let gaps = gaps_between_checks(&mut net, bob, secs(14), ms(10));
        // Two at the pace of those that are answered, and then more often.
        let wanted = [5_000, 500, 1_000].map(ms);
        assert!(gaps.len() >= wanted.len(), "{plays}: {gaps:?}");
        for (gap, wanted) in gaps.iter().zip(wanted) {
            assert!(gap.abs_diff(wanted) <= ms(50), "{plays}: {gaps:?}");
        }
    }
}

#[test]
fn a_half_open_connection_is_given_up_after_thirty_seconds() {
    let mut net = Net::seeded(52);
    let born = net.now();
    let bob = net.listener();
    net.dark(bob, true);
    net.start(bob, "sine-440");
    net.run_for(secs(29));
    assert_eq!(net.state(bob), SessionState::Connecting);
    assert_eq!(net.routes().0, 1);
    net.run_for(secs(10));
    assert_eq!(net.record(bob).unrouted, [born + secs(30)], "{}", net.story());
    assert_eq!((net.state(bob), net.routes()), (SessionState::Idle, (0, 0)));
    assert!(!net.is_on_air());
}

#[test]
fn a_restart_gives_a_half_open_connection_another_thirty_seconds() {
    let mut net = Net::seeded(58);
    let bob = net.listener();
    net.dark(bob, true);
    net.run_for(secs(28));
    net.restart(bob);
    let begun = net.now();
    net.run_for(secs(60));
    assert_eq!(net.record(bob).unrouted, [begun + secs(30)], "{}", net.story());
}

#[test]
fn a_dark_link_ends_the_connection_fifteen_seconds_after_the_last_proof() {
    let mut net = Net::seeded(53);
    let bob = net.call("sine-440");
    net.run_for(secs(20));
    net.dark(bob, true);
    let dark = net.now();
    net.run_for(secs(9));
    assert_eq!(net.state(bob), SessionState::Streaming, "a moment in a tunnel is no end\n{}", net.story());
    net.run_for(secs(20));
    let [gone] = net.record(bob).unrouted[..] else { panic!("{}", net.story()) };
    // The last proof came at most a check's interval before; the end comes with the next beat.
    assert!((secs(10)..=secs(15) + ms(20)).contains(&(gone - dark)), "{:?}\n{}", gone - dark, net.story());
    net.run_for(secs(1));
    assert_eq!((net.state(bob), net.routes(), net.is_on_air()), (SessionState::Idle, (0, 0), false), "{}", net.story());
}

#[test]
fn a_tunnel_of_eight_seconds_is_survived() {
    let mut net = Net::seeded(54);
    let bob = net.call("sine-440");
    for _ in 0..5 {
        net.run_for(secs(20));
        net.dark(bob, true);
        net.run_for(secs(8));
        net.dark(bob, false);
    }
    net.run_for(secs(5));
    net.record_mut(bob).heard.clear();
    net.run_for(secs(5));
    assert_eq!(net.record(bob).heard.len(), 250, "{}", net.story());
}

#[test]
fn a_session_without_a_peer_connection_wants_no_wake_up() {
    let mut net = Net::seeded(55);
    let bob = net.listener();
    net.hang_up(bob);
    net.run_for(secs(60));
    assert_eq!(net.state(bob), SessionState::Idle);
    let (ticks, wakes) = (net.record(bob).ticks, net.wakes());
    net.run_for(secs(3600));
    assert_eq!(net.record(bob).ticks, ticks, "{}", net.story());
    assert!(net.wakes() - wakes < 100, "{} wake-ups of a dead caller", net.wakes() - wakes);
}

#[test]
fn sound_costs_one_wake_up_a_frame_and_no_more() {
    let mut net = Net::seeded(56);
    let bob = net.call("sine-440");
    net.run_for(secs(5));
    let before = (net.record(bob).ticks, net.record(bob).turns);
    net.run_for(secs(60));
    let (ticks, turns) = (net.record(bob).ticks - before.0, net.record(bob).turns - before.1);
    assert_eq!(turns, 3_000);
    assert!(ticks <= 60 * 8, "{ticks} ticks beside {turns} turns\n{}", net.story());
}
