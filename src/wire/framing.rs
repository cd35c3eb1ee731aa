//! Datagrams on a byte stream: where one ends and the next begins. It keeps nothing between two calls.

use bytes::{Buf, BytesMut};
use thiserror::Error;

/// Longest frame that is taken, in bytes: no datagram of WebRTC is longer, whose packets fit an Ethernet frame.
pub const LONGEST: usize = 2048;

/// How frames are told apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// Each has its length before it, as ICE over TCP has it (RFC 4571 section 2).
    Ice,
    /// Each tells its length itself and is padded to four bytes, as TURN over TCP has it (RFC 8489 section 6.2.2, RFC 8656 section
    /// 12.5).
    Turn,
}

/// What no frame begins with. What follows it cannot be found any more.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Unframed {
    /// A frame longer than any of WebRTC.
    #[error("a frame of {0} bytes")]
    TooLong(usize),
    /// Neither a message of STUN nor data of a channel.
    #[error("no message of TURN")]
    Garbage,
}

/// Bytes before a frame of [`Framing::Ice`]: its length, big-endian.
const LENGTH: usize = 2;
/// Bytes of a message of STUN before its attributes (RFC 8489 section 5).
const STUN_HEADER: usize = 20;
/// Bytes of a channel's data before the data (RFC 8656 section 12.4).
const CHANNEL_HEADER: usize = 4;

impl Framing {
    /// What stands before a frame of so many bytes; none when no header can say so.
    #[must_use]
    pub fn header(self, length: usize) -> Option<Header> {
        let length = u16::try_from(length).ok()?;
        Some(match self {
            Self::Ice => Header { bytes: length.to_be_bytes(), length: LENGTH },
            // What is written is whole and padded already.
            Self::Turn => Header { bytes: [0; LENGTH], length: 0 },
        })
    }

    /// Takes the first frame out of `buffer`, if all of it is there. Empty ones mean nothing and are passed over.
    ///
    /// # Errors
    /// [`Unframed`] as soon as the first bytes say so.
    pub fn next_frame(self, buffer: &mut BytesMut) -> Result<Option<BytesMut>, Unframed> {
        while let Some(Place { before, length, after }) = self.place(buffer)? {
            if length > LONGEST {
                return Err(Unframed::TooLong(length));
            }
            if buffer.len() < before + length + after {
                break;
            }
            buffer.advance(before);
            let frame = buffer.split_to(length);
            buffer.advance(after);
            if length > 0 {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Where the first frame lies, if its beginning has come.
    fn place(self, buffer: &[u8]) -> Result<Option<Place>, Unframed> {
        let word = |at: usize| Some(usize::from(u16::from_be_bytes(*buffer.get(at..)?.first_chunk()?)));
        let (before, length) = match (self, buffer.first()) {
            (_, None) => return Ok(None),
            (Self::Ice, _) => (LENGTH, word(0)),
            (Self::Turn, Some(0..=0x3f)) => (0, word(2).map(|length| STUN_HEADER + length)),
            (Self::Turn, Some(0x40..=0x7f)) => (0, word(2).map(|length| CHANNEL_HEADER + length)),
            (Self::Turn, Some(_)) => return Err(Unframed::Garbage),
        };
        Ok(length.map(|length| {
            let after = if self == Self::Turn { length.next_multiple_of(4) - length } else { 0 };
            Place { before, length, after }
        }))
    }
}

/// What stands before a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    bytes: [u8; LENGTH],
    length: usize,
}

impl std::ops::Deref for Header {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

struct Place {
    before: usize,
    length: usize,
    after: usize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ice(frames: &[Vec<u8>]) -> Vec<u8> {
        let whole = |frame: &Vec<u8>| [&Framing::Ice.header(frame.len()).expect("short enough"), &frame[..]].concat();
        frames.iter().flat_map(whole).collect()
    }

    /// Data of a channel.
    fn channel(data: &[u8]) -> Vec<u8> {
        [&[0x40, 1], &u16::try_from(data.len()).expect("short").to_be_bytes()[..], data].concat()
    }

    fn padded(mut frame: Vec<u8>) -> Vec<u8> {
        frame.resize(frame.len().next_multiple_of(4), 0);
        frame
    }

    #[test]
    fn a_frame_that_is_too_long_ends_the_stream_before_it_has_come() {
        let mut buffer = BytesMut::from(&ice(&[vec![1; LONGEST]])[..]);
        assert_eq!(Framing::Ice.next_frame(&mut buffer).map(|frame| frame.map(|frame| frame.len())), Ok(Some(LONGEST)));
        let mut buffer = BytesMut::from(&[8, 1][..]);
        assert_eq!(Framing::Ice.next_frame(&mut buffer), Err(Unframed::TooLong(LONGEST + 1)));
        assert_eq!([65_535, 65_536].map(|length| Framing::Ice.header(length).is_some()), [true, false]);
        let mut buffer = BytesMut::from(&[0, 1, 0xff, 0xff][..]);
        assert_eq!(Framing::Turn.next_frame(&mut buffer), Err(Unframed::TooLong(65_555)));
    }

    #[test]
    fn turn_over_tcp_begins_with_two_kinds_of_bytes() {
        for first in 0..=255_u8 {
            let mut buffer = BytesMut::from(&[first, 0, 0, 0][..]);
            let known = first < 0x80;
            assert_eq!(Framing::Turn.next_frame(&mut buffer).is_ok(), known, "{first:#x}");
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
            cuts in proptest::collection::vec(1..700_usize, 1..30),
            turn: bool,
        ) {
            let (framing, frames) = if turn {
                (Framing::Turn, frames.iter().map(|data| channel(data)).collect())
            } else {
                (Framing::Ice, frames)
            };
            let bytes = if turn { frames.iter().cloned().flat_map(padded).collect() } else { ice(&frames) };
            let mut buffer = BytesMut::new();
            let mut found = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                rest = later;
                buffer.extend_from_slice(now);
                while let Some(frame) = framing.next_frame(&mut buffer).expect("none is too long") {
                    found.push(frame.to_vec());
                }
                prop_assert!(buffer.len() < 2 + 304, "what is whole is not kept");
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, frames.into_iter().filter(|frame| !frame.is_empty()).collect::<Vec<_>>());
            prop_assert!(buffer.is_empty());
        }
    }
}
