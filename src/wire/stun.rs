//! A peek into STUN messages (RFC 8489): enough to route them. It verifies no integrity and trusts nothing; str0m does both.

/// Length of the header (RFC 8489 section 5).
const HEADER: usize = 20;
/// Fixed value that tells STUN from older protocols (RFC 8489 section 5).
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Attribute type USERNAME (RFC 8489 section 14.3).
const USERNAME: u16 = 0x0006;
/// A USERNAME is shorter than 509 bytes (RFC 8489 section 14.3); ICE's are two ufrags of 256 at most.
const USERNAME_MAX: usize = 513;

/// The class of a STUN message (RFC 8489 section 5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StunClass {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// Answers a request well.
    Success,
    /// Answers a request ill.
    Error,
}

/// What routing needs to know of a STUN message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StunPeek<'a> {
    /// Request, indication or response.
    pub class: StunClass,
    /// The method; 1 is Binding.
    pub method: u16,
    /// The transaction id.
    pub transaction: [u8; 12],
    /// The USERNAME attribute, where there is one and it is text.
    pub username: Option<&'a str>,
}

impl<'a> StunPeek<'a> {
    /// The receiver's half of an ICE USERNAME: what stands before the colon (RFC 8445 section 7.2.2).
    #[must_use]
    pub fn local_ufrag(&self) -> Option<&'a str> {
        let (local, _remote) = self.username?.split_once(':')?;
        Some(local)
    }
}

/// Reads the header and looks for USERNAME. `None` is no well-formed STUN message.
#[must_use]
pub fn peek(datagram: &[u8]) -> Option<StunPeek<'_>> {
    let (header, mut attributes) = datagram.split_at_checked(HEADER)?;
    let kind = u16::from_be_bytes([header[0], header[1]]);
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if kind & 0xc000 != 0 || header[4..8] != MAGIC_COOKIE || length % 4 != 0 || length != attributes.len() {
        return None;
    }
    let mut username = None;
    while !attributes.is_empty() {
        let (head, rest) = attributes.split_at_checked(4)?;
        let size = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = rest.get(..size)?;
        // The first one counts (RFC 8489 section 14).
        if username.is_none() && u16::from_be_bytes([head[0], head[1]]) == USERNAME && size <= USERNAME_MAX {
            username = std::str::from_utf8(value).ok();
        }
        attributes = rest.get(size.next_multiple_of(4)..)?;
    }
    Some(StunPeek {
        class: class_of(kind),
        method: (kind & 0x000f) | (kind & 0x00e0) >> 1 | (kind & 0x3e00) >> 2,
        transaction: header.last_chunk().copied()?,
        username,
    })
}

/// The two class bits stand at positions 4 and 8 of the type (RFC 8489 section 5).
const fn class_of(kind: u16) -> StunClass {
    match (kind & 0x0100 != 0, kind & 0x0010 != 0) {
        (false, false) => StunClass::Request,
        (false, true) => StunClass::Indication,
        (true, false) => StunClass::Success,
        (true, true) => StunClass::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (attribute, value) in attributes {
            body.extend(attribute.to_be_bytes());
            body.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(MAGIC_COOKIE);
        bytes.extend(*b"transaction!");
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_binding_request_tells_our_half_of_its_username() {
        let bytes = message(0x0001, &[(0x0024, &[0, 0, 0, 1]), (USERNAME, b"ours:theirs"), (0x8028, &[1, 2, 3, 4])]);
        let peeked = peek(&bytes).expect("well formed");
        assert_eq!((peeked.class, peeked.method), (StunClass::Request, 1));
        assert_eq!(peeked.local_ufrag(), Some("ours"));
        assert_eq!(&peeked.transaction, b"transaction!");
    }

    #[test]
    fn classes_and_methods_are_unfolded() {
        for (kind, class, method) in [
            (0x0001, StunClass::Request, 1),
            (0x0011, StunClass::Indication, 1),
            (0x0101, StunClass::Success, 1),
            (0x0111, StunClass::Error, 1),
            (0x0003, StunClass::Request, 3),
            (0x0113, StunClass::Error, 3),
            (0x0016, StunClass::Indication, 6),
        ] {
            let bytes = message(kind, &[]);
            let peeked = peek(&bytes).expect("well formed");
            assert_eq!((peeked.class, peeked.method, peeked.username), (class, method, None), "{kind:04x}");
        }
    }

    #[test]
    fn what_is_malformed_is_nothing() {
        let good = message(0x0001, &[(USERNAME, b"ours:theirs")]);
        assert!(peek(&good[..good.len() - 1]).is_none(), "cut short");
        assert!(peek(&[&good[..], &[0; 4]].concat()).is_none(), "too long");
        let mut bad = good.clone();
        bad[4] = 0;
        assert!(peek(&bad).is_none(), "no magic cookie");
        let mut bad = good.clone();
        bad[23] = 200;
        assert!(peek(&bad).is_none(), "an attribute beyond the end");
        let no_colon = message(0x0001, &[(USERNAME, b"ours")]);
        assert_eq!(peek(&no_colon).expect("well formed").local_ufrag(), None);
        let no_text = message(0x0001, &[(USERNAME, &[0xff, 0xfe])]);
        assert_eq!(peek(&no_text).expect("well formed").username, None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let peeked = peek(&bytes);
            prop_assert!(peeked.is_none() || bytes.len() >= HEADER);
        }

        #[test]
        fn every_username_is_found(local in "[a-z+/0-9]{4,32}", remote in "[a-z+/0-9]{4,32}", noise in proptest::collection::vec(any::<u8>(), 0..9)) {
            let name = format!("{local}:{remote}");
            let bytes = message(0x0001, &[(0x8022, &noise), (USERNAME, name.as_bytes())]);
            prop_assert_eq!(peek(&bytes).and_then(|peeked| peeked.local_ufrag()), Some(local.as_str()));
        }
    }
}
