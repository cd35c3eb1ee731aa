//! What people call rooms and themselves: 1 to 64 printable characters. It normalizes nothing: two spellings are two names.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most characters of a name.
pub const LONGEST: usize = 64;

/// The text is no name. It is not repeated here.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("expected 1 to {LONGEST} printable characters")]
pub struct NotAName;

/// Names a room.
#[derive(Clone, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String")]
pub struct RoomName(Arc<str>);

/// Names somebody in a room.
#[derive(Clone, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String")]
pub struct UserName(Arc<str>);

impl TryFrom<&str> for RoomName {
    type Error = NotAName;

    fn try_from(text: &str) -> Result<Self, NotAName> {
        if is_name(text) { Ok(Self(text.into())) } else { Err(NotAName) }
    }
}

impl TryFrom<&str> for UserName {
    type Error = NotAName;

    fn try_from(text: &str) -> Result<Self, NotAName> {
        if is_name(text) { Ok(Self(text.into())) } else { Err(NotAName) }
    }
}

impl TryFrom<String> for RoomName {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        Self::try_from(text.as_str())
    }
}

impl TryFrom<String> for UserName {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        Self::try_from(text.as_str())
    }
}

impl RoomName {
    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl UserName {
    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn is_name(text: &str) -> bool {
    // A character has four bytes at most: what is longer is not counted.
    text.len() <= 4 * LONGEST
        && text.chars().count() <= LONGEST
        && text.chars().all(is_printable)
        && text.chars().any(|c| !c.is_whitespace() && !is_mark(c))
}

/// Not what shows nothing, moves the cursor or turns the direction of a line: a list must not come apart by it. Marks and joiners belong to
/// the letters of many scripts, and to emoji.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'
                ..='\u{202e}'
        )
        && !matches!(c, '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}')
        && !matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}')
}

/// What changes the characters beside it and shows nothing alone: joiners, selectors of a variation, tags of a flag.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e01ef}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_1_to_64_printable_characters() {
        let longest = "é".repeat(LONGEST);
        for good in ["a", "Ann Müller", "O'Neil \"the\" \\ <b>", "क्षि", "👩‍👩‍👧", "می‌خواهم", "❤\u{fe0f}", " x ", &longest]
        {
            assert!(UserName::try_from(good).is_ok() && RoomName::try_from(good).is_ok(), "{good}");
            let read: UserName = serde_json::from_str(&serde_json::to_string(good).expect("text")).expect("a name");
            assert_eq!(read.as_str(), good);
        }
        let longer = "é".repeat(LONGEST + 1);
        let bad = [
            "",
            " ",
            "\u{200d}",
            "\u{fe0f}",
            "\u{3164}",
            "a\u{34f}",
            "a\n",
            "a\0",
            "\u{7f}",
            "\u{85}",
            "a\u{202e}b",
            "\u{feff}a",
            "a\u{200b}",
            &longer,
        ];
        for bad in bad {
            assert_eq!(UserName::try_from(bad), Err(NotAName), "{bad:?}");
            assert_eq!(RoomName::try_from(bad), Err(NotAName), "{bad:?}");
            assert!(serde_json::from_str::<RoomName>(&serde_json::to_string(bad).expect("text")).is_err());
        }
    }
}
