//! The newtypes that cross floors, so that two numbers can never be swapped. It holds no state and makes no randomness.

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;

/// Names a session towards its client: 128 random bits, written as 32 lower-case hexadecimal digits.
///
/// Whoever knows it may resume the session after authenticating, so it is never logged whole: `Debug` shows eight digits.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// Wraps 16 random bytes that the driver drew.
    #[must_use]
    pub const fn from_random(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Compares with what somebody presented, in a time that does not tell where they differ.
    #[must_use]
    pub fn matches(&self, presented: &Self) -> bool {
        self.0.ct_eq(&presented.0).into()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…")
    }
}

/// The text was not 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a session id is 32 hexadecimal digits")]
pub struct NotASessionId;

impl FromStr for SessionId {
    type Err = NotASessionId;

    fn from_str(text: &str) -> Result<Self, NotASessionId> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotASessionId);
        }
        let mut bytes = [0; 16];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| NotASessionId)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NotASessionId)?;
        }
        Ok(Self(bytes))
    }
}

/// Names a session inside one media worker: an index that is never reused within a run.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionKey(pub u32);

/// Names somebody's connection to the rooms of a process: a number that is never used again within a run.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MemberKey(pub u64);

/// Names a media worker inside the process: its place, below [`WorkerId::MOST`].
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WorkerId(pub u8);

impl WorkerId {
    /// As many as one character of a ufrag can name.
    pub const MOST: u8 = 64;

    /// The characters that a ufrag may have (RFC 8839 section 5.4), which is also the alphabet of base64.
    pub const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    /// The first character of this worker's ufrags.
    #[must_use]
    pub fn letter(self) -> char {
        char::from(Self::ALPHABET[usize::from(self.0 % Self::MOST)])
    }

    /// The worker whose ufrags begin like this one.
    #[must_use]
    pub fn of_ufrag(ufrag: &str) -> Option<Self> {
        let first = ufrag.bytes().next()?;
        let place = Self::ALPHABET.iter().position(|letter| *letter == first)?;
        u8::try_from(place).ok().map(Self)
    }
}

/// Names a shared voice inside the process: its place in the list of voices.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct VoiceKey(pub u16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_reads_back_what_it_wrote() {
        let id = SessionId::from_random(*b"0123456789abcdef");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 32);
    }

    #[test]
    fn a_session_id_refuses_anything_but_32_hex_digits() {
        for text in ["", "00", &"0".repeat(31), &"0".repeat(33), &"g".repeat(32), &"é".repeat(16)] {
            assert_eq!(text.parse::<SessionId>(), Err(NotASessionId), "{text}");
        }
    }

    #[test]
    fn a_ufrag_names_its_worker() {
        for place in 0..WorkerId::MOST {
            let worker = WorkerId(place);
            assert_eq!(WorkerId::of_ufrag(&format!("{}rest", worker.letter())), Some(worker));
        }
        assert_eq!([WorkerId::of_ufrag(""), WorkerId::of_ufrag("é"), WorkerId::of_ufrag("-")], [None; 3]);
    }

    #[test]
    fn debug_does_not_give_the_whole_id_away() {
        let id = SessionId::from_random([0xab; 16]);
        assert_eq!(format!("{id:?}"), "abababab…");
    }
}
