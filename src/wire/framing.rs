//! Datagrams on a byte stream: where one ends and the next begins (RFC 4571 section 2). It keeps nothing between two calls.

use bytes::{Buf, BytesMut};
use thiserror::Error;

/// Bytes before each frame: its length, big-endian.
pub const HEADER: usize = 2;
/// Longest frame that is taken, in bytes: no datagram of WebRTC is longer, whose packets fit an Ethernet frame.
pub const LONGEST: usize = 2048;

/// A frame longer than any of WebRTC. What follows it cannot be found any more.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a frame of {0} bytes")]
pub struct TooLong(pub usize);

/// What stands before a frame of so many bytes; none when no header can say so.
#[must_use]
pub fn header(length: usize) -> Option<[u8; HEADER]> {
    u16::try_from(length).ok().map(u16::to_be_bytes)
}

/// Takes the first frame out of `buffer`, if all of it is there. Empty ones mean nothing and are passed over.
///
/// # Errors
/// [`TooLong`] as soon as the header says so.
pub fn next_frame(buffer: &mut BytesMut) -> Result<Option<BytesMut>, TooLong> {
    while let Some(header) = buffer.first_chunk().copied() {
        let length = usize::from(u16::from_be_bytes(header));
        if length > LONGEST {
            return Err(TooLong(length));
        }
        if buffer.len() < HEADER + length {
            break;
        }
        buffer.advance(HEADER);
        if length > 0 {
            return Ok(Some(buffer.split_to(length)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend(header(frame.len()).expect("short enough"));
            bytes.extend(frame);
        }
        bytes
    }

    #[test]
    fn a_frame_that_is_too_long_ends_the_stream_before_it_has_come() {
        let mut buffer = BytesMut::from(&stream(&[vec![1; LONGEST]])[..]);
        assert_eq!(next_frame(&mut buffer).map(|frame| frame.map(|frame| frame.len())), Ok(Some(LONGEST)));
        let mut buffer = BytesMut::from(&header(LONGEST + 1).expect("it has two bytes")[..]);
        assert_eq!(next_frame(&mut buffer), Err(TooLong(LONGEST + 1)));
        assert_eq!([header(65_535), header(65_536)], [Some([0xff; 2]), None]);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
            cuts in proptest::collection::vec(1..700_usize, 1..30),
        ) {
            let bytes = stream(&frames);
            let mut buffer = BytesMut::new();
            let mut found = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                rest = later;
                buffer.extend_from_slice(now);
                while let Some(frame) = next_frame(&mut buffer).expect("none is too long") {
                    found.push(frame.to_vec());
                }
                prop_assert!(buffer.len() < HEADER + 300, "what is whole is not kept");
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, frames.into_iter().filter(|frame| !frame.is_empty()).collect::<Vec<_>>());
            prop_assert!(buffer.is_empty());
        }
    }
}
