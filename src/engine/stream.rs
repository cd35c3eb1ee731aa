//! One TCP connection that carries datagrams, of a session (RFC 6544) or of the relay (RFC 8656), as a sans-IO machine: bytes and frames
//! go in and out. What waits to be sent is bounded in bytes and in time, because old audio is worth nothing. It owns no socket.

use std::collections::VecDeque;
use std::ops::Deref;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use thiserror::Error;

use crate::wire::classify::{Class, classify};
use crate::wire::framing::{Framing, Header, Unframed};

/// Bytes that may wait to be sent: a second of a video that is sent back.
pub const BACKLOG: usize = 256 * 1024;
/// Media that has waited so long is not sent any more: what is newer goes instead.
pub const MEDIA_AGE: Duration = Duration::from_millis(100);
/// The same for all else, which its sender has repeated by then.
pub const AGE: Duration = Duration::from_secs(2);
/// ICE must have taken a check by then.
pub const PROOF: Duration = Duration::from_secs(5);
/// The same for a client of the relay, which greets by TLS and is asked for its credentials first.
pub const RELAY_PROOF: Duration = Duration::from_secs(10);
/// Who has sent nothing for so long is gone: a peer checks its path every few seconds (RFC 7675 section 5.1).
pub const SILENCE: Duration = Duration::from_secs(30);
/// The same for a client of the relay, who renews what it has every few minutes (RFC 8656 section 8) and may have nothing else to say.
pub const RELAY_SILENCE: Duration = Duration::from_secs(660);
/// Who has taken nothing of what waits for so long is gone, or as good as that.
pub const STUCK: Duration = Duration::from_secs(10);

/// Why a connection is of no use any more.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum StreamEnd {
    /// It carried no check that ICE took.
    #[error("unproven")]
    Unproven,
    /// Nothing came.
    #[error("silent")]
    Silent,
    /// Nothing left.
    #[error("stuck")]
    Stuck,
}

/// One connection. `Contents` are the bytes of a datagram, however they are held.
#[derive(Debug)]
pub struct Stream<Contents> {
    framing: Framing,
    input: BytesMut,
    output: VecDeque<Frame<Contents>>,
    /// Bytes of `output`, headers too.
    waiting: usize,
    /// Bytes of its first frame that have left: it must be sent to its end.
    begun: usize,
    skipped: u64,
    opened: Instant,
    proven: bool,
    /// When something came last.
    heard: Instant,
    /// When something left last, or nothing waited.
    moved: Instant,
}

#[derive(Debug)]
struct Frame<Contents> {
    header: Header,
    contents: Contents,
    since: Instant,
    age: Duration,
}

impl<Contents: Deref<Target = [u8]>> Frame<Contents> {
    fn len(&self) -> usize {
        self.header.len() + self.contents.len()
    }

    fn is_stale(&self, now: Instant) -> bool {
        now >= self.since + self.age
    }
}

impl<Contents: Deref<Target = [u8]>> Stream<Contents> {
    /// A connection of which `input` has been read already.
    #[must_use]
    pub fn new(framing: Framing, input: BytesMut, now: Instant) -> Self {
        Self {
            framing,
            input,
            output: VecDeque::new(),
            waiting: 0,
            begun: 0,
            skipped: 0,
            opened: now,
            proven: false,
            heard: now,
            moved: now,
        }
    }

    /// Where what is read belongs: at the end.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Something was read.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// The next datagram that has come whole.
    ///
    /// # Errors
    /// When the stream cannot be followed any more.
    pub fn next_frame(&mut self) -> Result<Option<BytesMut>, Unframed> {
        self.framing.next_frame(&mut self.input)
    }

    /// ICE took a check that came by this connection.
    pub fn prove(&mut self) {
        self.proven = true;
    }

    /// Whether it did.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Puts a datagram at the end; returns whether nothing waited before. Makes room at the cost of what is older.
    pub fn push(&mut self, contents: Contents, now: Instant) -> bool {
        let Some(header) = self.framing.header(contents.len()) else {
            self.skipped += 1;
            return false;
        };
        let age = if is_media(self.framing, &contents) { MEDIA_AGE } else { AGE };
        let frame = Frame { header, contents, since: now, age };
        let idle = self.output.is_empty();
        if idle {
            self.moved = now;
        }
        self.forget_stale(now);
        self.waiting += frame.len();
        self.output.push_back(frame);
        while self.waiting > BACKLOG && self.drop_oldest() {}
        idle
    }

    /// Lets go of what is too old to be sent. A frame that has begun to leave leaves to its end.
    pub fn forget_stale(&mut self, now: Instant) {
        // Most of the time nothing waits but what has just come; the first has waited longest.
        if self.output.front().is_none_or(|frame| now < frame.since + MEDIA_AGE) {
            return;
        }
        let (mut place, begun) = (0, self.begun > 0);
        let before = self.output.len();
        self.output.retain(|frame| {
            let kept = (begun && place == 0) || !frame.is_stale(now);
            place += 1;
            if !kept {
                self.waiting -= frame.len();
            }
            kept
        });
        self.skipped += (before - self.output.len()) as u64;
    }

    fn drop_oldest(&mut self) -> bool {
        let oldest = usize::from(self.begun > 0);
        let Some(frame) = self.output.remove(oldest) else { return false };
        self.waiting -= frame.len();
        self.skipped += 1;
        true
    }

    /// What is to be sent, in order and in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut begun = self.begun;
        let pieces = self.output.iter().flat_map(|frame| [&frame.header[..], &frame.contents[..]]);
        pieces.filter_map(move |piece| {
            let gone = begun.min(piece.len());
            begun -= gone;
            Some(&piece[gone..]).filter(|left| !left.is_empty())
        })
    }

    /// So many bytes of the pieces have left; returns how many datagrams and bytes of them are on their way now.
    pub fn sent(&mut self, mut bytes: usize, now: Instant) -> (usize, usize) {
        let (mut datagrams, mut payload) = (0, 0);
        if bytes > 0 {
            self.moved = now;
        }
        bytes += self.begun;
        while let Some(frame) = self.output.front()
            && frame.len() <= bytes
        {
            bytes -= frame.len();
            self.waiting -= frame.len();
            datagrams += 1;
            payload += frame.contents.len();
            self.output.pop_front();
        }
        self.begun = if self.output.is_empty() { 0 } else { bytes };
        (datagrams, payload)
    }

    /// Whether anything is to be sent.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.output.is_empty()
    }

    /// How many datagrams were let go of since this was asked last.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// When the connection is to be looked at, unless something moves; and why it would end then.
    #[must_use]
    pub fn deadline(&self) -> (Instant, StreamEnd) {
        let stuck = self.is_waiting().then(|| (self.moved + STUCK, StreamEnd::Stuck));
        let (proof, silence) = match self.framing {
            Framing::Ice => (PROOF, SILENCE),
            Framing::Turn => (RELAY_PROOF, RELAY_SILENCE),
        };
        let proof = (!self.proven).then(|| (self.opened + proof, StreamEnd::Unproven));
        let silent = (self.heard + silence, StreamEnd::Silent);
        proof.into_iter().chain(stuck).fold(silent, |first, other| if other.0 < first.0 { other } else { first })
    }
}

/// Whether a frame is a packet of media, at the relay one that goes by a channel.
fn is_media(framing: Framing, frame: &[u8]) -> bool {
    let datagram = match (framing, frame) {
        (Framing::Turn, [0x40..=0x7f, _, _, _, data @ ..]) => data,
        _ => frame,
    };
    classify(datagram) == Class::Rtp
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::net::{ms, secs, zero};

    fn stream() -> Stream<Vec<u8>> {
        Stream::new(Framing::Ice, BytesMut::new(), zero())
    }

    /// An RTP packet that can be told from others.
    fn media(number: u8) -> Vec<u8> {
        [&[0x80, 111], &[number; 98][..]].concat()
    }

    fn check(number: u8) -> Vec<u8> {
        [&[0, 1], &[number; 38][..]].concat()
    }

    /// All that would leave now, unframed.
    fn left(stream: &mut Stream<Vec<u8>>, now: Instant) -> Vec<u8> {
        stream.forget_stale(now);
        let bytes: Vec<u8> = stream.pieces().flatten().copied().collect();
        let mut buffer = BytesMut::from(&bytes[..]);
        let mut numbers = Vec::new();
        while let Ok(Some(frame)) = Framing::Ice.next_frame(&mut buffer) {
            numbers.push(frame[2]);
        }
        assert!(buffer.is_empty());
        let (datagrams, payload) = stream.sent(bytes.len(), now);
        assert_eq!((datagrams, payload + 2 * datagrams), (numbers.len(), bytes.len()));
        assert!(!stream.is_waiting() && stream.waiting == 0);
        numbers
    }

    #[test]
    fn a_reader_that_was_away_hears_the_newest() {
        let mut stream = stream();
        assert!(stream.push(check(1), zero()), "it must be told to leave");
        for turn in 0..100_u8 {
            assert!(!stream.push(media(turn), zero() + ms(20 * u64::from(turn))));
        }
        let now = zero() + ms(1_990);
        assert_eq!(left(&mut stream, now), [1, 95, 96, 97, 98, 99], "a check waits longer");
        assert_eq!(stream.take_skipped(), 95);
        assert_eq!(stream.take_skipped(), 0);
        assert!(stream.push(check(2), now));
        assert_eq!(left(&mut stream, now + AGE), [0; 0], "but not for ever");
    }

    #[test]
    fn media_in_channels_grows_old_as_fast() {
        let mut stream: Stream<Vec<u8>> = Stream::new(Framing::Turn, BytesMut::new(), zero());
        stream.push([&[0x40, 1, 0, 100], &media(1)[..]].concat(), zero());
        stream.push([&[0x40, 1, 0, 40], &check(2)[..]].concat(), zero());
        stream.forget_stale(zero() + MEDIA_AGE);
        let bytes: Vec<u8> = stream.pieces().flatten().copied().collect();
        assert_eq!((bytes.len(), bytes[..4].to_vec()), (44, vec![0x40, 1, 0, 40]), "nothing stands before a frame");
    }

    #[test]
    fn what_has_begun_to_leave_leaves_to_its_end() {
        let mut stream = stream();
        for number in 1..=3 {
            stream.push(media(number), zero());
        }
        assert_eq!(stream.sent(1, zero()), (0, 0));
        let now = zero() + ms(500);
        stream.push(media(4), now);
        stream.forget_stale(now);
        let bytes: Vec<u8> = stream.pieces().flatten().copied().collect();
        assert_eq!(bytes.len(), 101 + 102);
        assert_eq!(bytes[..3], [100, 0x80, 111], "the other half of a header");
        assert_eq!(stream.sent(bytes.len(), now), (2, 200));
        assert_eq!(stream.take_skipped(), 2);
    }

    #[test]
    fn it_ends_when_nothing_moves() {
        let end = |stream: &Stream<Vec<u8>>| {
            let (at, why) = stream.deadline();
            (at - zero(), why)
        };
        let mut stream = stream();
        assert_eq!(end(&stream), (PROOF, StreamEnd::Unproven));
        stream.prove();
        assert_eq!(end(&stream), (SILENCE, StreamEnd::Silent));
        stream.heard(zero() + secs(7));
        assert_eq!(end(&stream), (secs(37), StreamEnd::Silent));
        stream.push(check(1), zero() + secs(8));
        assert_eq!(end(&stream), (secs(18), StreamEnd::Stuck));
        stream.push(check(2), zero() + secs(9));
        assert_eq!(end(&stream), (secs(18), StreamEnd::Stuck), "more to send moves nothing");
        stream.sent(5, zero() + secs(12));
        assert_eq!(end(&stream), (secs(22), StreamEnd::Stuck));
        stream.sent(79, zero() + secs(13));
        assert_eq!(end(&stream), (secs(37), StreamEnd::Silent), "nothing waits");
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(bool, u16),
        Send(u16),
        Wait(u16),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (any::<bool>(), 12..2_000_u16).prop_map(|(media, length)| Op::Push(media, length)),
            2 => (0..6_000_u16).prop_map(Op::Send),
            1 => (0..150_u16).prop_map(Op::Wait),
        ]
    }

    proptest! {
        #[test]
        fn what_leaves_is_whole_in_order_and_never_too_much_waits(ops in proptest::collection::vec(op(), 1..400)) {
            let mut stream = stream();
            let mut now = zero();
            let mut numbers = 0_u32;
            let mut wire = BytesMut::new();
            let mut datagrams = 0;
            for op in ops {
                match op {
                    Op::Push(media, length) => {
                        let mut bytes = vec![0; usize::from(length)];
                        bytes[0] = if media { 0x80 } else { 22 };
                        bytes[4..8].copy_from_slice(&numbers.to_be_bytes());
                        numbers += 1;
                        stream.push(bytes, now);
                    }
                    Op::Send(most) => {
                        stream.forget_stale(now);
                        let bytes: Vec<u8> = stream.pieces().flatten().copied().take(usize::from(most)).collect();
                        wire.extend_from_slice(&bytes);
                        datagrams += stream.sent(bytes.len(), now).0;
                    }
                    Op::Wait(time) => now += ms(u64::from(time)),
                }
                prop_assert!(stream.waiting <= BACKLOG + 2 + 2_000);
                let lengths: usize = stream.output.iter().map(Frame::len).sum();
                prop_assert_eq!(lengths, stream.waiting);
            }
            let mut last = None;
            let mut found = 0;
            while let Some(frame) = Framing::Ice.next_frame(&mut wire).expect("frames are whole") {
                let number = u32::from_be_bytes(*frame[4..].first_chunk().expect("long enough"));
                prop_assert!(last < Some(number), "{last:?} before {number}");
                last = Some(number);
                found += 1;
            }
            prop_assert_eq!(found, datagrams);
            let waiting = stream.output.len();
            prop_assert_eq!(u64::from(numbers), found as u64 + waiting as u64 + stream.take_skipped());
        }
    }
}
