//! Trust boundary: a connection to the media port. However its bytes are cut, the same frames come out; what waits keeps its bounds.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use voxcast::engine::stream::{AGE, BACKLOG, Stream};
use voxcast::wire::framing::{Framing, LONGEST};

/// Bytes before a frame.
const HEADER: usize = 2;

#[expect(clippy::disallowed_methods, reason = "an Instant can only be read; time in here is counted from this one")]
static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);

#[derive(Arbitrary, Debug)]
enum Op {
    Read(Vec<u8>),
    Frame(Vec<u8>),
    Push(u8, u16),
    Send(u16),
    Wait(u16),
}

fuzz_target!(|ops: Vec<Op>| {
    let mut stream: Stream<Vec<u8>> = Stream::new(Framing::Ice, BytesMut::new(), *ZERO);
    let mut now = *ZERO;
    let (mut read, mut frames) = (BytesMut::new(), Vec::new());
    let (mut pushed, mut left, mut wire) = (0_u64, 0_u64, BytesMut::new());
    let mut broken = false;
    for op in ops {
        match op {
            Op::Read(bytes) => take(&mut stream, &bytes, &mut read, &mut frames, &mut broken),
            Op::Frame(bytes) => {
                let Some(header) = Framing::Ice.header(bytes.len()) else { continue };
                take(&mut stream, &[&header, &bytes[..]].concat(), &mut read, &mut frames, &mut broken);
            }
            Op::Push(first, length) => {
                let mut bytes = vec![0; usize::from(length)];
                bytes.first_mut().into_iter().for_each(|byte| *byte = first);
                pushed += 1;
                stream.push(bytes, now);
            }
            Op::Send(most) => {
                stream.forget_stale(now);
                let bytes: Vec<u8> = stream.pieces().flatten().copied().take(usize::from(most)).collect();
                wire.extend_from_slice(&bytes);
                left += stream.sent(bytes.len(), now).0 as u64;
            }
            Op::Wait(ms) => now += Duration::from_millis(u64::from(ms)),
        }
        let waiting: usize = stream.pieces().map(<[u8]>::len).sum();
        assert!(waiting <= BACKLOG + HEADER + usize::from(u16::MAX));
        assert_eq!(stream.is_waiting(), waiting > 0);
        assert!(stream.input().len() < HEADER + LONGEST || broken);
    }
    // What was read as a whole gives the same frames.
    let mut again = Vec::new();
    while let Ok(Some(frame)) = Framing::Ice.next_frame(&mut read) {
        again.push(frame);
    }
    assert_eq!(frames, again);
    // After all that time nothing is worth sending but what has begun to leave.
    now += AGE;
    stream.forget_stale(now);
    wire.extend(stream.pieces().flatten().copied().collect::<Vec<_>>());
    let rest: usize = stream.pieces().map(<[u8]>::len).sum();
    left += stream.sent(rest, now).0 as u64;
    assert_eq!(pushed, left + stream.take_skipped());
    // The peer finds the frames that were counted; empty ones are nothing to it, and long ones too much.
    while let Some(header) = wire.first_chunk().copied() {
        let frame = wire.split_to((HEADER + usize::from(u16::from_be_bytes(header))).min(wire.len()));
        assert_eq!(frame.len(), HEADER + usize::from(u16::from_be_bytes(header)));
        left -= 1;
    }
    assert_eq!(left, 0);
});

fn take(
    stream: &mut Stream<Vec<u8>>,
    bytes: &[u8],
    read: &mut BytesMut,
    frames: &mut Vec<BytesMut>,
    broken: &mut bool,
) {
    if *broken {
        return;
    }
    read.extend_from_slice(bytes);
    stream.input().extend_from_slice(bytes);
    loop {
        match stream.next_frame() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return,
            Err(_) => return *broken = true,
        }
    }
}
