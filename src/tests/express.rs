//! Most packets go past str0m; nobody can tell but by its counters.

use std::net::SocketAddr;

use str0m::crypto::dtls::SrtpProfile;

use crate::engine::crypto;
use crate::engine::session::{Input, Model, Profile};
use crate::wire::classify::Class;
use crate::wire::media::FRAME_TICKS;
use crate::wire::signal::ServerMsg;

use super::ear::assert_continuous;
use super::net::{Heard, Net, Sent, ms, secs};

/// Checks every sender report that came between packets: what it counts is what had been sent by then.
#[track_caller]
fn assert_reports_count(heard: &[Heard], least: usize) {
    let mut reports = 0;
    for (place, pair) in (1..).zip(heard.windows(2)) {
        let Some(report) = pair[1].report.filter(|report| Some(*report) != pair[0].report) else { continue };
        reports += 1;
        let octets: usize = heard[..place].iter().map(|packet| packet.payload.len()).sum();
        let counted = (report.sender_packet_count as usize, report.sender_octet_count as usize);
        assert_eq!(counted, (place, octets), "report {reports}");
        let reported = u32::try_from(report.rtp_time.numer()).expect("RTP time has 32 bits");
        let behind = u64::from(pair[1].time.wrapping_sub(reported));
        let passed = u64::from(pair[1].time.wrapping_sub(pair[0].time));
        assert!(behind <= passed + FRAME_TICKS, "report {reports} is of {behind} samples ago");
    }
    assert!(reports >= least, "{reports} reports");
}

#[test]
fn nobody_can_tell_which_way_a_packet_went_whatever_the_cipher() {
    for profile in SrtpProfile::ALL {
        crypto::PROFILE.set(Some(*profile));
        let mut net = Net::seeded(51);
        let who = net.call("sine-440");
        net.run_for(secs(60));
        let heard = &net.record(who).heard;
        let short = usize::try_from(net.short_ways(who)).expect("few");
        assert!(short * 10 >= heard.len() * 8, "{profile}: {short} of {} went the short way", heard.len());
        assert!(short < heard.len(), "{profile}: str0m makes the patterns");
        assert_continuous(heard);
        assert_reports_count(heard, 8);
        // The line is named until the first receiver report (RFC 8843 section 15), and no longer.
        let named = heard.iter().take_while(|packet| packet.mid.is_some()).count();
        assert!(named > 1 && heard[named..].iter().all(|packet| packet.mid.is_none()), "{profile}: {named} are named");
        assert!(named < heard.len() / 2, "{profile}: {named} are named");
    }
    crypto::PROFILE.set(None);
}

#[test]
fn a_packet_after_silence_is_marked_and_numbers_go_on_past_their_rollover() {
    let mut net = Net::seeded(52);
    let who = net.call("sine-440");
    // More than the 65,536 numbers there are, in 20 ms each.
    for _ in 0..15 {
        net.run_for(secs(89));
        net.stop(who);
        net.run_for(secs(1));
        net.start(who, "sine-440");
    }
    let heard = &net.record(who).heard;
    assert!(heard.len() > 66_000, "{} packets", heard.len());
    assert!(heard.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1), "a hole in the sequence");
    assert!(heard.last().is_some_and(|packet| packet.seq > 0xffff), "the numbers rolled over");
    assert_eq!(heard.iter().filter(|packet| packet.marker).count(), 15, "each start is marked");
    assert!(net.short_ways(who) > 52_000, "{}", net.short_ways(who));
    assert_reports_count(heard, 100);
}

#[test]
fn the_name_of_the_line_goes_with_the_first_report_and_few_packets_go_the_long_way_after_that() {
    let mut net = Net::seeded(56).delay(ms(0));
    let who = net.call("sine-440");
    net.run_for(secs(20));
    let sent = &net.record(who).sent;
    let report = sent.iter().position(|sent| sent.up && sent.class() == Class::Rtcp).expect("it reports");
    // The extension stays, and is empty.
    let named = |sent: &Sent| sent.class() == Class::Rtp && sent.bytes[12..16] != [0xbe, 0xde, 0, 0];
    assert!(sent[..report].iter().any(named));
    // The one that was sent before the report had come.
    assert!(sent[report..].iter().filter(|sent| named(sent)).count() <= 1);

    let before = (net.short_ways(who), net.record(who).turns);
    net.run_for(secs(600));
    let long = net.record(who).turns - before.1 - u64::from(net.short_ways(who) - before.0);
    // Those with which our checks and reports go together, and one after each check that str0m is given.
    assert!((60..=200).contains(&long), "{long} packets went the long way in ten minutes");
}

#[test]
fn packets_follow_the_peer_as_soon_as_str0m_does() {
    let mut net = Net::seeded(53);
    let who = net.call("sine-440");
    for network in 1..=20_u8 {
        net.run_for(secs(3) + ms(7 * u64::from(network)));
        let addr = SocketAddr::from(([203, 0, 113, network], 40_000));
        net.move_to(who, addr);
        net.restart(who);
        net.run_until("sound at the new address", secs(5), |net| {
            net.record(who).sent.iter().any(|sent| !sent.up && sent.to == addr && sent.bytes[0] & 0xc0 == 0x80)
        });
        net.run_for(secs(1));
        let sent = net.record(who).sent.iter().filter(|sent| !sent.up && sent.bytes[0] & 0xc0 == 0x80);
        assert!(sent.rev().take(40).all(|sent| sent.to == addr), "network {network}: all goes to the new address");
    }
}

#[test]
fn a_session_that_only_plays_on_does_what_it_would_with_a_look_at_everything() {
    let story = |mut net: Net| {
        let listeners = ["", "a=ptime:10\r\n", "a=ptime:60\r\n"].map(|lines| net.listener_that_asks(lines));
        for (place, who) in (1..).zip(listeners) {
            net.start(who, "sine-440");
            net.run_for(secs(3 * place));
        }
        let [who, short, long] = listeners;
        net.start(who, "sine-220");
        net.run_for(secs(7));
        net.stop(short);
        net.restart(who);
        net.run_for(secs(2));
        // An SDK is told how much has played.
        let guest = net.listener_as(Profile::new(Model::Speaker, true), true);
        net.start(guest, "sine-440");
        net.run_for(secs(25));
        net.socket(guest, Input::Dropped);
        net.run_for(secs(4));
        net.socket(guest, Input::Attached);
        net.start(short, "sine-440");
        net.run_for(secs(30));
        let steady = [who, short, long, guest].map(|who| (net.record(who).steady, net.record(who).turns));
        let story: Vec<_> = [who, short, long, guest]
            .map(|who| {
                let record = net.record(who);
                let heard = record.heard.iter().map(|packet| {
                    let report = packet.report.map(|report| (report.sender_packet_count, report.sender_octet_count));
                    format!(
                        "{:?} {} {report:?} {:?}",
                        (packet.at, packet.seq, packet.time),
                        packet.marker,
                        packet.payload
                    )
                });
                // Fingerprints and sources are drawn elsewhere.
                let said = record
                    .said
                    .iter()
                    .filter(|message| !matches!(message, ServerMsg::Answer { .. } | ServerMsg::WebrtcAnswer { .. }));
                let said = said.map(|message| format!("{message:?}"));
                let counts =
                    format!("{} ticks, {} turns, {} short ways", record.ticks, record.turns, net.short_ways(who));
                said.chain([counts]).chain(heard).collect::<Vec<_>>()
            })
            .into();
        (story, steady)
    };
    let (ours, steady) = story(Net::seeded(55));
    let (theirs, none) = story(Net::seeded(55).thorough());
    assert!(none.iter().all(|(steady, _)| *steady == 0));
    for (place, (steady, turns)) in steady.into_iter().enumerate() {
        let most = place == 0 || place == 3;
        assert!(if most { steady * 10 >= turns * 8 } else { steady == 0 }, "{place}: {steady} of {turns}");
    }
    for (ours, theirs) in ours.into_iter().zip(theirs) {
        assert_eq!(ours.len(), theirs.len());
        let differs = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
        assert_eq!(differs, None);
    }
}

#[test]
fn whatever_is_put_in_str0m_makes_the_next_packet() {
    let mut net = Net::seeded(54);
    let who = net.call("sine-440");
    net.run_for(secs(5));
    for round in 0..200_u64 {
        let before = (net.short_ways(who), net.record(who).turns);
        // It changes nothing, but the core cannot know.
        net.socket(who, Input::Attached);
        net.run_for(ms(20 * (1 + round % 5)));
        let short = net.short_ways(who) - before.0;
        let turns = net.record(who).turns - before.1;
        assert!(u64::from(short) < turns, "round {round}: {short} of {turns} packets went the short way");
    }
}
