//! Opus packets as bytes (RFC 6716 section 3): several frames in one. It encodes and decodes nothing.

/// Code 3 in the table-of-contents byte: any number of frames (section 3.2.5).
const ANY_NUMBER: u8 = 3;
/// In the byte that counts frames: each has a length of its own.
const OWN_LENGTHS: u8 = 0x80;
/// Lengths from here on take two bytes (section 3.2.1).
const LONG: usize = 252;
/// The longest frame.
const LONGEST: usize = 1275;

/// One packet of all the frames of `packets`, each of which has one frame. `None` where they do not go together: packets of several
/// frames, of different configurations, or more than the six frames of 20 ms that a packet holds.
#[must_use]
pub fn pack(packets: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
    let (&toc, _) = packets.first()?.as_ref().split_first()?;
    let count = u8::try_from(packets.len()).ok().filter(|count| *count <= 6)?;
    if toc & 3 != 0 {
        return None;
    }
    let mut packed = Vec::with_capacity(2 + packets.iter().map(|packet| packet.as_ref().len() + 1).sum::<usize>());
    packed.extend([toc | ANY_NUMBER, count | OWN_LENGTHS]);
    for (place, packet) in packets.iter().enumerate() {
        let (own, frame) = packet.as_ref().split_first()?;
        if *own != toc || frame.len() > LONGEST {
            return None;
        }
        // The last one has what is left.
        if place + 1 < packets.len() {
            push_length(&mut packed, frame.len());
        }
    }
    for packet in packets {
        packed.extend_from_slice(&packet.as_ref()[1..]);
    }
    Some(packed)
}

fn push_length(packed: &mut Vec<u8>, length: usize) {
    let byte = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    if length < LONG {
        packed.push(byte(length));
    } else {
        // The length is four times the second byte and the first.
        let first = LONG + (length - LONG) % 4;
        packed.extend([byte(first), byte((length - first) / 4)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Table of contents of our frames: CELT, full band, 20 ms, mono.
    const TOC: u8 = 31 << 3;

    /// The frames of a packet of code 3 with lengths, by the words of the standard.
    fn unpack(packet: &[u8]) -> Option<Vec<Vec<u8>>> {
        let [toc, count, rest @ ..] = packet else { return None };
        assert_eq!((toc & 3, count & 0xc0), (3, 0x80));
        let (mut rest, mut lengths) = (rest, Vec::new());
        for _ in 1..count & 63 {
            let (&first, after) = rest.split_first()?;
            let mut length = usize::from(first);
            rest = after;
            if length >= 252 {
                let (&second, after) = rest.split_first()?;
                length += 4 * usize::from(second);
                rest = after;
            }
            lengths.push(length);
        }
        let mut frames = Vec::new();
        for length in lengths {
            let (frame, after) = rest.split_at_checked(length)?;
            frames.push(frame.to_vec());
            rest = after;
        }
        frames.push(rest.to_vec());
        Some(frames)
    }

    #[test]
    fn what_does_not_go_together_is_not_packed() {
        assert!(pack(&[] as &[&[u8]]).is_none());
        assert!(pack(&[&[][..]]).is_none());
        assert!(pack(&[&[TOC, 1][..], &[]]).is_none());
        assert!(pack(&[&[TOC, 1][..], &[30 << 3, 1]]).is_none(), "10 ms and 20 ms");
        assert!(pack(&[&[TOC | 1, 1, 1][..]]).is_none(), "two frames already");
        assert!(pack(&[[TOC, 1]; 7]).is_none(), "140 ms");
        assert!(pack(&[[TOC; 1277]]).is_none(), "longer than any frame");
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..=LONGEST), 1..=6)) {
            let packets: Vec<Vec<u8>> = frames.iter().map(|frame| [&[TOC], &frame[..]].concat()).collect();
            let packed = pack(&packets).expect("they go together");
            prop_assert_eq!(unpack(&packed), Some(frames));
        }
    }
}
