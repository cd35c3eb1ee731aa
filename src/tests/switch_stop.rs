//! Stop, start and switch: a silent tail after every stop, then nothing but what keeps the connection alive, and no click between.

use crate::engine::session::SessionState;
use crate::wire::classify::Class;

use super::ear::{assert_continuous, listen};
use super::net::{Net, Who, ms, secs};

/// RTP datagrams that the server has sent.
fn rtp_sent(net: &Net, who: Who) -> usize {
    net.record(who).sent.iter().filter(|sent| !sent.up && sent.class() == Class::Rtp).count()
}

/// The largest step from one sample to the next: a click shows there.
fn steepest(pcm: &[f32]) -> f32 {
    pcm.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
}

#[test]
fn a_stop_fades_out_with_a_silent_tail_and_then_only_keeps_alive() {
    let mut net = Net::seeded(21);
    let bob = net.call("sine-440");
    net.run_for(secs(2));
    net.stop(bob);
    let before = net.record(bob).heard.len();
    net.run_for(secs(1));
    let heard = &net.record(bob).heard;
    assert_eq!(heard.len() - before, 2, "one that fades out and one silent\n{}", net.story());
    assert_continuous(heard);
    let tail = &heard[heard.len() - 1].payload;
    assert!(tail.len() <= 8, "{} bytes are more than silence needs", tail.len());
    let sound = &listen(heard)[0].pcm;
    let end = &sound[sound.len() - 480..];
    assert!(end.iter().all(|sample| sample.abs() < 0.01), "the last 10 ms are silent");
    // 880 Hz would rise by 0.035 a sample; 440 Hz by half of that. A cut would jump by 0.3.
    assert!(steepest(sound) < 0.03, "{}", steepest(sound));
    assert_eq!(net.state(bob), SessionState::Connected);
    assert!(!net.is_on_air());

    net.record_mut(bob).sent.clear();
    net.record_mut(bob).turns = 0;
    net.run_for(secs(30));
    assert_eq!((rtp_sent(&net, bob), net.record(bob).turns), (0, 0), "{}", net.story());
    assert!(
        net.record(bob).sent.iter().all(|sent| matches!(sent.class(), Class::Stun | Class::Rtcp)),
        "nothing but keep-alive"
    );
    assert_eq!(net.record(bob).unrouted.len(), 0, "and alive it is\n{}", net.story());
}

#[test]
fn start_and_stop_again_and_again_leave_nothing_behind() {
    let mut net = Net::seeded(22);
    let bob = net.call("sine-220");
    net.stop(bob);
    net.run_for(secs(1));
    net.record_mut(bob).heard.clear();
    for round in 0..50_u64 {
        let voice = ["sine-220", "sine-440", "sine-880"][usize::try_from(round % 3).expect("small")];
        net.start(bob, voice);
        net.run_for(ms(200 + round));
        net.stop(bob);
        net.run_for(ms(300));
        let heard = std::mem::take(&mut net.record_mut(bob).heard);
        assert!(heard.len() >= 9, "round {round}: {}\n{}", heard.len(), net.story());
        assert_continuous(&heard);
        assert!(heard[0].marker && !heard[1..].iter().any(|frame| frame.marker), "round {round}");
        assert!(!net.is_on_air(), "round {round}: nobody listens\n{}", net.story());
    }
}

#[test]
fn a_switch_is_one_stream_of_both_voices() {
    let mut net = Net::seeded(23);
    let bob = net.call("sine-220");
    for voice in ["sine-880", "sine-440", "sine-220", "sine-880"] {
        net.run_for(secs(1));
        net.start(bob, voice);
    }
    net.run_for(secs(1));
    let heard = &net.record(bob).heard;
    assert_continuous(heard);
    assert_eq!(heard.iter().filter(|frame| frame.marker).count(), 1, "no silence between, so no marker");
    let sound = &listen(heard)[0].pcm;
    // The fastest voice rises by 0.035 a sample; a hard cut would jump further.
    assert!(steepest(sound) < 0.045, "{}", steepest(sound));
    for (second, hertz) in [220.0, 880.0, 440.0, 220.0, 880.0].into_iter().enumerate() {
        let middle = &sound[second * 48_000 + 12_000..second * 48_000 + 36_000];
        let pitch = super::ear::Stretch { pcm: middle.to_vec() }.pitch();
        assert!((pitch - hertz).abs() < 1.0, "second {second}: {pitch}");
    }
}

#[test]
fn a_client_that_cannot_decide_hears_its_last_wish() {
    let mut net = Net::seeded(24);
    let bob = net.call("sine-220");
    for round in 0..200_u64 {
        match round % 5 {
            0 => net.start(bob, "sine-880"),
            1 => net.stop(bob),
            2 => net.start(bob, "sine-440"),
            3 => net.start(bob, "sine-220"),
            _ => net.run_for(ms(round % 37)),
        }
    }
    net.start(bob, "sine-440");
    net.run_for(secs(1));
    net.record_mut(bob).heard.clear();
    net.run_for(secs(1));
    let heard = &net.record(bob).heard;
    assert_eq!(heard.len(), 50, "{}", net.story());
    assert!((listen(heard)[0].pitch() - 440.0).abs() < 0.1);
    net.stop(bob);
    net.run_for(secs(1));
    assert!(!net.is_on_air(), "joins and leaves are even\n{}", net.story());
}
