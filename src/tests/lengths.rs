//! Packets of 10, 20, 40 and 60 ms for those who ask, of one voice at once.

use crate::wire::sdp;
use crate::wire::signal::ServerMsg;

use super::ear::listen_to;
use super::net::{Net, Who, ms, secs};

/// Lines of an offer, and what becomes of them: milliseconds, and what the answer says.
const WISHES: [(&str, u64, Option<&str>); 6] = [
    ("", 20, None),
    ("a=ptime:10\r\n", 10, Some("10")),
    ("a=ptime:20\r\na=maxptime:120\r\n", 20, Some("20")),
    ("a=ptime:40\r\n", 40, Some("40")),
    ("a=ptime:60\r\n", 60, Some("60")),
    ("a=ptime:60\r\na=maxptime:50\r\n", 40, Some("40")),
];

fn answered(net: &Net, who: Who) -> Option<String> {
    let mut answers = net.record(who).said.iter().filter_map(|message| match message {
        ServerMsg::WebrtcAnswer { sdp } => Some(sdp),
        _ => None,
    });
    sdp::attribute(answers.next_back()?, "ptime").map(str::to_owned)
}

#[test]
fn everyone_hears_the_same_voice_in_packets_of_the_length_they_asked_for() {
    let mut net = Net::seeded(31);
    let listeners = WISHES.map(|(lines, ..)| net.listener_that_asks(lines));
    for who in listeners {
        net.start(who, "sine-440");
        net.run_until("connected", secs(10), |net| net.record(who).connected > 0);
    }
    net.run_for(secs(20));
    for who in listeners {
        net.stop(who);
    }
    net.run_for(secs(1));
    for (who, (lines, length, answer)) in listeners.into_iter().zip(WISHES) {
        assert_eq!(answered(&net, who).as_deref(), answer, "{lines}");
        let heard = &net.record(who).heard;
        // What is left at the end may be shorter.
        let whole = &heard[..heard.len() - 1];
        assert!(u64::try_from(whole.len()).expect("few") >= 20_000 / length - 3, "{lines}{} packets", whole.len());
        for pair in whole.windows(2) {
            assert_eq!(pair[1].seq, pair[0].seq + 1, "{lines}");
            assert_eq!(u64::from(pair[1].time.wrapping_sub(pair[0].time)), length * 48, "{lines}");
            assert_eq!(pair[1].at - pair[0].at, ms(length), "{lines}paced");
        }
        assert_eq!(heard.iter().filter(|packet| packet.marker).count(), 1, "{lines}");
        let sound = listen_to(whole, usize::try_from(length * 48).expect("few"));
        assert_eq!(sound.len(), 1, "{lines}one stretch");
        // The fade-out, and for some the silence after it, are in it.
        assert!((sound[0].pitch() - 440.0).abs() < 0.5, "{lines}{} Hz", sound[0].pitch());
        assert!((sound[0].loudness() - 0.212).abs() < 0.02, "{lines}{}", sound[0].loudness());
    }
}

#[test]
fn another_offer_may_ask_for_another_length_while_it_plays() {
    let mut net = Net::seeded(32);
    let who = net.call("sine-220");
    net.run_for(secs(2));
    net.renegotiate_as(who, |offer| offer + "a=ptime:10\r\n");
    net.run_for(secs(2));
    net.renegotiate_as(who, |offer| offer + "a=ptime:60\r\n");
    net.run_for(secs(2));
    let heard = &net.record(who).heard;
    let steps: Vec<u32> = heard.windows(2).map(|pair| pair[1].time.wrapping_sub(pair[0].time) / 48).collect();
    let mut lengths = steps.clone();
    lengths.dedup();
    assert_eq!(lengths.first(), Some(&20));
    assert_eq!(lengths.last(), Some(&60));
    assert!(lengths.contains(&10), "{lengths:?}");
    assert!(heard.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1), "no hole in the sequence");
    // From cut to cut there is a fade, and no silence longer than its bridge.
    assert!(steps.iter().all(|step| *step <= 60), "{lengths:?}");
}
