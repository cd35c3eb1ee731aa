//! `model=echo`: what a caller sends comes back, bit for bit, with its key frame requests.

use std::sync::Arc;

use str0m::rtp::RtpWrite;

use crate::wire::signal::ServerMsg;

use super::net::{Dice, Heard, Net, Who, ms, secs};

const AUDIO: usize = 0;
const VIDEO: usize = 1;

/// Bytes that no codec made: an echo does not look inside.
fn payload(dice: &mut Dice, length: usize) -> Arc<[u8]> {
    (0..length).map(|_| u8::try_from(dice.roll() >> 56).expect("eight bits")).collect()
}

/// What came back on a line.
fn back(net: &Net, who: Who, line: usize) -> Vec<Heard> {
    let mid = net.mids(who)[line];
    // The mid may be left out once the SSRC is known: then the payload type tells.
    let pt = net.record(who).heard.iter().find(|heard| heard.mid == Some(mid)).map(|heard| heard.pt);
    net.record(who).heard.iter().filter(|heard| Some(heard.pt) == pt).cloned().collect()
}

#[test]
fn sound_and_picture_come_back_bit_for_bit() {
    let mut net = Net::seeded(71).delay(ms(20));
    let bob = net.echoer(false);
    net.run_until("connected", secs(10), |net| net.record(bob).joined == 1 && net.record(bob).connected == 1);
    let mut dice = Dice::seeded(71);
    let (mut sound, mut picture) = (Vec::new(), Vec::new());
    for turn in 0..500_u32 {
        let bytes = payload(&mut dice, 40 + usize::try_from(turn % 200).expect("small"));
        sound.push(bytes.clone());
        net.send(bob, AUDIO, |pt, now| {
            RtpWrite::new(pt.into(), u64::from(1_000 + turn).into(), 5_000 + turn * 960, now, bytes).marker(turn == 0)
        });
        // A picture every other turn, in three packets.
        for part in 0..3 * (turn % 2) {
            let bytes = payload(&mut dice, 300 + usize::try_from(turn * 2 % 800).expect("small"));
            picture.push(bytes.clone());
            let seq = u64::try_from(picture.len()).expect("few") + 65_000;
            net.send(bob, VIDEO, |pt, now| {
                RtpWrite::new(pt.into(), seq.into(), 90_000 + turn * 1_800, now, bytes).marker(part == 2)
            });
        }
        net.run_for(ms(20));
    }
    net.run_for(secs(1));

    let heard = back(&net, bob, AUDIO);
    assert!(
        heard.iter().map(|frame| &frame.payload).eq(&sound),
        "{} of {} came back\n{}",
        heard.len(),
        sound.len(),
        net.story()
    );
    assert!(
        heard.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1 && pair[1].time.wrapping_sub(pair[0].time) == 960)
    );
    assert_eq!(heard.iter().filter(|frame| frame.marker).count(), 1);
    let seen = back(&net, bob, VIDEO);
    assert!(
        seen.iter().map(|part| &part.payload).eq(&picture),
        "{} of {} came back\n{}",
        seen.len(),
        picture.len(),
        net.story()
    );
    assert!(seen.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1), "though the sender's numbers rolled over");
    assert!(
        seen.chunks(3).all(|part| part[0].time == part[2].time && part[2].marker && !part[0].marker && !part[1].marker)
    );
}

#[test]
fn a_key_frame_is_asked_for_at_first_and_whenever_the_caller_asks() {
    let mut net = Net::seeded(72);
    let bob = net.echoer(false);
    net.run_until("connected", secs(10), |net| net.record(bob).joined == 1 && net.record(bob).connected == 1);
    let video = net.mids(bob)[VIDEO];
    let send = |net: &mut Net, seq: u32| {
        net.send(bob, VIDEO, |pt, now| RtpWrite::new(pt.into(), u64::from(seq).into(), seq * 3_000, now, [7; 100]));
        net.run_for(ms(33));
    };
    for seq in 1..30 {
        send(&mut net, seq);
    }
    assert_eq!(net.record(bob).keyframes_wanted, [video], "asked once, with the first packet\n{}", net.story());
    for round in 1..4 {
        net.want_keyframe(bob, VIDEO);
        for seq in 0..60 {
            send(&mut net, 30 * round * 2 + seq);
        }
        assert_eq!(
            net.record(bob).keyframes_wanted.len(),
            1 + usize::try_from(round).expect("small"),
            "passed on\n{}",
            net.story()
        );
    }
}

#[test]
fn a_lossy_echo_returns_each_packet_at_most_once() {
    let mut net = Net::seeded(73).loss(0.05).delay(ms(30)).duplicate(0.05).reorder(0.05);
    let bob = net.echoer(false);
    net.run_until("connected", secs(10), |net| net.record(bob).joined == 1 && net.record(bob).connected == 1);
    for turn in 0..1_000_u32 {
        let bytes = turn.to_be_bytes();
        net.send(bob, AUDIO, |pt, now| RtpWrite::new(pt.into(), u64::from(turn + 9).into(), turn * 960, now, bytes));
        net.run_for(ms(20));
    }
    net.run_for(secs(1));
    let heard = back(&net, bob, AUDIO);
    assert!(heard.len() >= 850, "{} of 1000 through two lossy links\n{}", heard.len(), net.story());
    let mut words: Vec<u32> =
        heard.iter().map(|frame| u32::from_be_bytes(frame.payload[..].try_into().expect("four"))).collect();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), heard.len());
    let first = heard[0].seq - u64::from(u32::from_be_bytes(heard[0].payload[..].try_into().expect("four")));
    for frame in &heard {
        let word = u32::from_be_bytes(frame.payload[..].try_into().expect("four"));
        assert_eq!(frame.seq, first + u64::from(word), "numbers keep their distance across losses");
        assert_eq!(frame.time, word * 960);
    }
}

#[test]
fn an_echoing_sdk_is_told_of_its_generation_after_the_answer_and_no_voice_is_played() {
    let mut net = Net::seeded(74);
    let bob = net.echoer(true);
    net.run_for(secs(2));
    let said: Vec<String> = net.record(bob).said.iter().map(|message| format!("{message:?}")).collect();
    assert_eq!(said, ["WebrtcAnswer", "GenerationStarted"], "{}", net.story());
    net.start(bob, "sine-440");
    assert!(matches!(net.record(bob).said.last(), Some(ServerMsg::Error(error)) if error.code == "invalid_message"));
    net.run_for(secs(2));
    assert!(net.record(bob).heard.is_empty() && !net.is_on_air());
}

#[test]
fn two_echoes_do_not_mix() {
    let mut net = Net::seeded(75);
    let pair = [net.echoer(false), net.echoer(true)];
    net.run_for(secs(2));
    for turn in 0..100_u32 {
        for (place, who) in pair.into_iter().enumerate() {
            let bytes: Arc<[u8]> = Arc::new([u8::try_from(place).expect("small"); 50]);
            net.send(who, AUDIO, |pt, now| {
                RtpWrite::new(pt.into(), u64::from(turn + 9).into(), turn * 960, now, bytes)
            });
        }
        net.run_for(ms(20));
    }
    for (place, who) in pair.into_iter().enumerate() {
        let heard = &net.record(who).heard;
        assert_eq!(heard.len(), 100, "{}", net.story());
        assert!(heard.iter().all(|frame| usize::from(frame.payload[0]) == place));
    }
}
