//! A call: a listener hears each voice for a minute, over good links and bad ones.

use super::ear::{assert_continuous, listen, median_pitch};
use super::net::{Net, Sent, ms, secs};
use crate::engine::session::Input;
use crate::wire::classify::Class;

const VOICES: [(&str, f64); 3] = [("sine-220", 220.0), ("sine-440", 440.0), ("sine-880", 880.0)];
/// Frames of 20 ms in a minute.
const MINUTE: usize = 3_000;

#[test]
fn a_minute_of_each_voice_over_a_perfect_link_has_no_hole_and_the_right_pitch() {
    for (voice, hertz) in VOICES {
        let mut net = Net::seeded(1).delay(ms(20));
        let bob = net.call(voice);
        net.run_for(secs(60));
        let heard = &net.record(bob).heard;
        assert!(heard.len() >= MINUTE, "{} frames of {voice}\n{}", heard.len(), net.story());
        assert_continuous(heard);
        let marked: Vec<usize> = (0..).zip(heard).filter(|(_, frame)| frame.marker).map(|(place, _)| place).collect();
        assert_eq!(marked, [0], "the marker stands on the first packet alone");
        for pair in heard.windows(2) {
            assert_eq!(pair[1].at - pair[0].at, ms(20), "paced");
        }
        let sound = listen(heard);
        assert_eq!(sound.len(), 1, "one stretch");
        assert!((sound[0].pitch() - hertz).abs() < 0.1, "{} for {voice}", sound[0].pitch());
        // A sine of amplitude 0.3 has 0.3 / sqrt(2).
        assert!((sound[0].loudness() - 0.212).abs() < 0.02, "{} for {voice}", sound[0].loudness());
    }
}

#[test]
fn a_minute_of_each_voice_survives_a_lossy_link() {
    for (seed, (voice, hertz)) in (7..).zip(VOICES) {
        let mut net = Net::seeded(seed).loss(0.05).delay(ms(40)).jitter(ms(10)).duplicate(0.01).reorder(0.01);
        let bob = net.call(voice);
        net.run_for(secs(60));
        let heard = &net.record(bob).heard;
        // 5 % of 3,000 are 150, give or take 12: five times that much would be somebody else's fault.
        assert!((2_790..=2_910).contains(&heard.len()), "{} frames of {voice}\n{}", heard.len(), net.story());
        let mut order: Vec<u64> = heard.iter().map(|frame| frame.seq).collect();
        order.sort_unstable();
        order.dedup();
        assert_eq!(order.len(), heard.len(), "a packet that came twice is heard once");
        let first = heard.iter().min_by_key(|frame| frame.seq).expect("some were heard");
        for frame in heard {
            let passed = u64::from(frame.time.wrapping_sub(first.time));
            assert_eq!(passed, (frame.seq - first.seq) * 960, "RTP time and sequence go hand in hand");
        }
        let pitch = median_pitch(&listen(heard), 10);
        assert!((pitch - hertz).abs() < 1.0, "{pitch} for {voice}\n{}", net.story());
    }
}

#[test]
fn the_first_packet_comes_within_40_ms_of_start() {
    let mut net = Net::seeded(3);
    let bob = net.listener();
    net.run_for(secs(5));
    assert_eq!(net.record(bob).joined, 1, "{}", net.story());
    assert_eq!(net.record(bob).heard.len(), 0, "nothing was asked for");
    for round in 0..10 {
        net.run_for(ms(300 + 7 * round));
        let asked = net.now();
        net.record_mut(bob).heard.clear();
        net.start(bob, "sine-440");
        net.run_for(ms(100));
        let first = net.record(bob).heard.first().unwrap_or_else(|| panic!("nothing came\n{}", net.story()));
        // One millisecond of that is the link's.
        assert!(first.at - asked <= ms(41), "{:?}\n{}", first.at - asked, net.story());
        assert!(first.marker, "the first packet after silence is marked");
        net.stop(bob);
    }
}

#[test]
fn many_listeners_share_a_voice_and_each_hears_all_of_it() {
    let mut net = Net::seeded(4).loss(0.01).delay(ms(30)).jitter(ms(5));
    let listeners: Vec<_> = (0..8).map(|place| net.call(VOICES[place % 3].0)).collect();
    net.run_for(secs(1));
    for who in &listeners {
        net.record_mut(*who).heard.clear();
    }
    net.run_for(secs(10));
    for (place, who) in listeners.iter().enumerate() {
        let heard = &net.record(*who).heard;
        assert!(heard.len() >= 480, "{} frames\n{}", heard.len(), net.story());
        let pitch = median_pitch(&listen(heard), 10);
        assert!((pitch - VOICES[place % 3].1).abs() < 1.0, "{pitch}\n{}", net.story());
    }
    // The bytes are shared: two listeners of one voice got the same Opus packet for the same time.
    let [ann, bob] = [&net.record(listeners[0]).heard, &net.record(listeners[3]).heard];
    let shared = ann.iter().filter(|frame| bob.iter().any(|other| other.payload == frame.payload)).count();
    assert!(shared >= 470, "{shared}");
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let story = || {
        let mut net = Net::seeded(11).loss(0.1).delay(ms(25)).jitter(ms(15)).duplicate(0.02).reorder(0.02);
        let bob = net.call("sine-880");
        net.run_for(secs(20));
        let heard: Vec<_> = net.record(bob).heard.iter().map(|frame| (frame.at, frame.seq)).collect();
        (heard, net.story())
    };
    let (first, second) = (story(), story());
    assert_eq!(first.1, second.1);
    assert!(first.0 == second.0, "the same packets at the same times");
}

#[test]
fn a_trickled_offer_connects_as_well() {
    let mut net = Net::seeded(5).loss(0.05).delay(ms(30));
    let profile = crate::engine::session::Profile::new(crate::engine::session::Model::Speaker, false);
    let bob = net.listener_as(profile, true);
    net.start(bob, "sine-220");
    net.run_until("heard", secs(10), |net| net.record(bob).heard.len() > 100);
}

#[test]
fn a_peer_that_says_goodbye_is_let_go_at_once() {
    let mut net = Net::seeded(6);
    let bob = net.call("sine-220");
    net.run_for(secs(1));
    net.hang_up(bob);
    net.run_for(ms(100));
    assert_eq!(net.record(bob).unrouted.len(), 1, "{}", net.story());
    assert_eq!(net.routes(), (0, 0));
    net.run_for(ms(100));
    assert!(!net.is_on_air(), "nobody listens any more\n{}", net.story());
}

#[test]
fn between_deadlines_a_packet_brings_forth_nothing_but_itself() {
    let mut net = Net::seeded(12);
    let who = net.call("sine-440");
    let mut early = 0;
    for round in 0..1_500_u64 {
        // One to twelve turns, so that the last drain was a short one or a whole one, and every kind of deadline lies between.
        net.run_for(ms(20 * (1 + round % 12)));
        let sent = net.record(who).sent.iter().filter(|sent| !sent.up).count();
        // It changes nothing and drains to the end.
        net.socket(who, Input::Attached);
        let more: Vec<_> = net.record(who).sent.iter().filter(|sent| !sent.up).skip(sent).collect();
        // But checks of ours and reports wait for company, and ICE keeps 50 ms between two of its moves, counted from the last time that
        // anybody asked. So whoever asks in between may find one that is due and was to go a little later.
        early += more.len();
        let may_wait =
            |sent: &&Sent| sent.class() == Class::Rtcp || sent.class() == Class::Stun && sent.bytes[..2] == [0, 1];
        assert!(more.iter().all(may_wait), "round {round}: {more:?} was held back");
    }
    // Each goes every five seconds.
    assert!(early <= 2 * 195 / 5, "{early} checks and reports");
}
