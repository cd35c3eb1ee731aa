//! What kind of datagram shares the media port (RFC 7983 section 7). It looks at two bytes and refuses to parse further.

/// The protocol that a datagram on the media port speaks.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// STUN (RFC 8489), at least a header long.
    Stun,
    /// DTLS (RFC 6347, RFC 9147).
    Dtls,
    /// TURN channel data (RFC 8656 section 12), which nobody may send to the media port.
    TurnChannel,
    /// RTP (RFC 3550), encrypted.
    Rtp,
    /// RTCP told apart by its payload types (RFC 5761 section 4), encrypted.
    Rtcp,
    /// Nothing that belongs here.
    Unknown,
}

/// Shortest STUN message: its header (RFC 8489 section 5).
const STUN_HEADER: usize = 20;
/// Shortest DTLS record: its header (RFC 6347 section 4.1); DTLS 1.3's unified header is shorter, 3 with the least of payload.
const DTLS_SHORTEST: usize = 3;
/// Shortest RTP header (RFC 3550 section 5.1).
const RTP_HEADER: usize = 12;
/// Shortest RTCP packet: header and sender (RFC 3550 section 6.4).
const RTCP_HEADER: usize = 8;

/// Tells the class of `datagram` from its length and its first two bytes.
#[must_use]
pub fn classify(datagram: &[u8]) -> Class {
    let len = datagram.len();
    match datagram {
        [0..=3, ..] if len >= STUN_HEADER => Class::Stun,
        [20..=63, ..] if len >= DTLS_SHORTEST => Class::Dtls,
        [64..=79, ..] => Class::TurnChannel,
        [128..=191, kind, ..] => match kind & 0x7f {
            64..=95 if len >= RTCP_HEADER => Class::Rtcp,
            0..=63 | 96..=127 if len >= RTP_HEADER => Class::Rtp,
            _ => Class::Unknown,
        },
        _ => Class::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(first: u8, second: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        bytes[0] = first;
        if len > 1 {
            bytes[1] = second;
        }
        bytes
    }

    #[test]
    fn each_first_byte_has_the_class_of_the_standard() {
        for first in 0..=255_u8 {
            let expected = match first {
                0..=3 => Class::Stun,
                20..=63 => Class::Dtls,
                64..=79 => Class::TurnChannel,
                128..=191 => Class::Rtp,
                _ => Class::Unknown,
            };
            assert_eq!(classify(&datagram(first, 111, 64)), expected, "{first}");
        }
    }

    #[test]
    fn rtcp_is_told_by_its_payload_types() {
        for kind in 192..=223_u8 {
            assert_eq!(classify(&datagram(128, kind, 28)), Class::Rtcp, "{kind}");
        }
        // Marker bit and payload type 111.
        assert_eq!(classify(&datagram(128, 0x80 | 0x6f, 28)), Class::Rtp);
    }

    #[test]
    fn what_is_too_short_is_unknown() {
        assert_eq!(classify(&[]), Class::Unknown);
        assert_eq!(classify(&datagram(0, 1, 19)), Class::Unknown);
        assert_eq!(classify(&datagram(22, 0, 2)), Class::Unknown);
        assert_eq!(classify(&datagram(128, 111, 11)), Class::Unknown);
        assert_eq!(classify(&datagram(128, 200, 7)), Class::Unknown);
    }
}
