//! Where the frames of a WebSocket begin and end, and whether their headers may be (RFC 6455 section 5.2). It reads headers and keeps no
//! payload.

use thiserror::Error;

/// Bytes of a header before the masking key, at most.
const LONGEST_HEADER: usize = 10;
/// Bytes of the masking key, which every frame of a client has.
const MASK: u64 = 4;
/// Bytes that a control frame may carry (section 5.5).
const CONTROL: u64 = 125;

/// Why nothing after it can be read any more.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum FrameFault {
    /// The frame says that it is longer than allowed.
    #[error("a frame is too long")]
    TooLong,
    /// No client that knows the protocol sends it.
    #[error("a frame breaks the protocol")]
    Malformed,
}

/// The frames that a client sends, in whatever pieces they come.
#[derive(Debug)]
pub struct Frames {
    limit: u64,
    header: [u8; LONGEST_HEADER],
    /// Bytes of the header that are there.
    have: usize,
    /// Bytes of the masking key and the payload that are to come.
    left: u64,
}

impl Frames {
    /// Frames that may carry so many bytes each.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit: limit as u64, header: [0; LONGEST_HEADER], have: 0, left: 0 }
    }

    /// How many of these bytes go up to the end of a frame; all, where none ends among them. Those are passed, and the next call begins
    /// after them.
    ///
    /// # Errors
    /// When a header may not be.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<usize, FrameFault> {
        let mut at = 0;
        while at < bytes.len() {
            if self.left == 0 {
                self.header[self.have] = bytes[at];
                self.have += 1;
                at += 1;
                if let Some(payload) = self.read_header()? {
                    self.left = MASK + payload;
                    self.have = 0;
                }
            } else {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += taken;
                self.left -= taken as u64;
                if self.left == 0 {
                    return Ok(at);
                }
            }
        }
        Ok(at)
    }

    /// Whether what was passed ends with a frame.
    #[must_use]
    pub const fn between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Bytes of payload, once the header tells.
    fn read_header(&self) -> Result<Option<u64>, FrameFault> {
        let [first, second, ..] = self.header;
        if self.have < 2 {
            return Ok(None);
        }
        let (last, reserved, opcode) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
        let (masked, short) = (second & 0x80 != 0, u64::from(second & 0x7f));
        let known = matches!(opcode, 0..=2 | 8..=10);
        let control = opcode >= 8;
        if reserved != 0 || !masked || !known || (control && (!last || short > CONTROL)) {
            return Err(FrameFault::Malformed);
        }
        let payload = match short {
            126 if self.have < 4 => return Ok(None),
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 if self.have < 10 => return Ok(None),
            127 => {
                let [_, _, length @ ..] = self.header;
                u64::from_be_bytes(length)
            }
            short => short,
        };
        if payload > self.limit { Err(FrameFault::TooLong) } else { Ok(Some(payload)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 70_000;

    /// A frame of a client, as `tungstenite` would write it.
    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let length = match payload {
            0..126 => vec![0x80 | u8::try_from(payload).expect("short")],
            126..65_536 => [&[0xfe][..], &u16::try_from(payload).expect("short").to_be_bytes()].concat(),
            _ => [&[0xff][..], &(payload as u64).to_be_bytes()].concat(),
        };
        [&[first][..], &length, &[1, 2, 3, 4], &vec![0xc1; payload]].concat()
    }

    /// The ends of frames in these pieces, or the fault.
    fn ends<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<usize>, FrameFault> {
        let mut frames = Frames::new(LIMIT);
        let (mut at, mut ends) = (0, Vec::new());
        for mut piece in pieces {
            while !piece.is_empty() {
                let passed = frames.pass(piece)?;
                assert!(passed > 0);
                at += passed;
                piece = &piece[passed..];
                assert!(piece.is_empty() || frames.between(), "it stops at ends only");
                if frames.between() {
                    ends.push(at);
                }
            }
        }
        Ok(ends)
    }

    #[test]
    fn frames_end_where_their_headers_say() {
        let all = [0, 1, 125, 126, 65_535, 65_536, LIMIT, 0].map(|payload| frame(0x81, payload));
        let expected: Vec<usize> = all
            .iter()
            .scan(0, |at, frame| {
                *at += frame.len();
                Some(*at)
            })
            .collect();
        assert_eq!(ends([&all.concat()[..]]), Ok(expected.clone()));
        assert_eq!(ends(all.concat().chunks(1)), Ok(expected));
    }

    #[test]
    fn headers_that_may_not_be_are_refused_as_soon_as_they_are_there() {
        for good in [0x81, 0x82, 0x80, 0x00, 0x01, 0x88, 0x89, 0x8a] {
            assert_eq!(ends([&frame(good, 5)[..]]).map(|ends| ends.len()), Ok(1), "{good:x}");
        }
        // Reserved bits, opcodes that there are not, a control frame in parts.
        for bad in [0xc1, 0xa1, 0x91, 0x83, 0x87, 0x8b, 0x8f, 0x08, 0x09] {
            assert_eq!(ends([&frame(bad, 5)[..2]]), Err(FrameFault::Malformed), "{bad:x}");
        }
        assert_eq!(ends([&[0x81, 0x05][..]]), Err(FrameFault::Malformed), "without a mask");
        assert_eq!(ends([&frame(0x89, 126)[..2]]), Err(FrameFault::Malformed), "a control frame that is long");
        let mut longest = frame(0x82, LIMIT);
        assert_eq!(ends([&longest[..10]]), Ok(Vec::new()));
        longest[9] += 1;
        assert_eq!(ends([&longest[..10]]), Err(FrameFault::TooLong));
        assert_eq!(ends([&[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0][..]]), Err(FrameFault::TooLong));
    }

    proptest! {
        #[test]
        fn the_pieces_do_not_matter(bytes in proptest::collection::vec(any::<u8>(), 0..64), lengths in proptest::collection::vec(0..300_usize, 0..6), piece in 1..40_usize) {
            let good: Vec<u8> = lengths.iter().flat_map(|length| frame(0x82, *length)).collect();
            let all = [good, bytes].concat();
            prop_assert_eq!(ends(all.chunks(piece)), ends([&all[..]]));
        }
    }
}
