//! The words of `GET /signal`: rooms, where browsers find each other. What goes from one to another is checked and passed as it came.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::client::{Tag, object};
use super::fault::SignalFault;
use super::read;
use super::server::{ErrorMsg, IceServer};
use crate::wire::names::{RoomName, UserName};

/// Values in each other: three are needed, and a browser's parser or another one may have a short stack.
const DEEPEST: usize = 16;

/// One message of somebody in a room, or on the way there.
#[derive(Clone, Debug, PartialEq)]
pub enum RoomMsg {
    /// Goes into a room, out of another one if need be.
    Join(Join),
    /// `offer`, `answer` or `ice-candidate`, for somebody else in the room.
    Pass(Parcel),
    /// Goes out of the room.
    Leave(Leave),
    /// Something else than a join, and nothing that could be done. Only somebody in a room is told why.
    Unreadable(SignalFault),
}

/// `join`.
#[derive(Clone, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Join {
    /// Which room; it comes to be with the first who joins.
    pub room_id: RoomName,
    /// Who it is.
    pub user_id: UserName,
    /// The shared secret, unless it came with the handshake.
    #[serde(default)]
    pub token: Option<String>,
    /// What an earlier `room-joined` gave: proves that a user id is one's own.
    #[serde(default)]
    pub session: Option<String>,
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { room_id, user_id, .. } = self;
        f.debug_struct("Join").field("room_id", room_id).field("user_id", user_id).finish_non_exhaustive()
    }
}

/// `leave`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Leave {
    /// The room that one is in.
    pub room_id: RoomName,
}

/// What goes to somebody else. `Debug` leaves the text out: it carries ICE passwords.
#[derive(Clone, Eq, PartialEq)]
pub struct Parcel {
    /// For whom.
    pub to: UserName,
    /// The message without its end and without a `from`.
    open: String,
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel").field("to", &self.to).field("bytes", &self.open.len()).finish_non_exhaustive()
    }
}

impl Parcel {
    /// The text frame: all fields as they came, and who it is from.
    ///
    /// # Panics
    /// Never: text always serializes.
    #[must_use]
    pub fn from(self, sender: &UserName) -> String {
        let mut text = self.open;
        text.push_str(r#","from":"#);
        text.push_str(&serde_json::to_string(sender).expect("text always serializes"));
        text.push('}');
        text
    }
}

impl RoomMsg {
    /// Reads one text frame.
    ///
    /// # Errors
    /// The fault that answers it whoever says it: no JSON, no `type`, a join without its fields or with odd names.
    pub fn parse(text: &str) -> Result<Self, SignalFault> {
        let Tag { kind } = object(text)?;
        let other = match kind.as_ref() {
            "join" => return read(text).map(Self::Join),
            "offer" | "answer" => parcel::<Described>(text),
            "ice-candidate" => parcel::<Candidate>(text),
            "leave" => read(text).map(Self::Leave),
            unknown => Err(SignalFault::about(unknown, SignalFault::UnknownType)),
        };
        Ok(other.unwrap_or_else(Self::Unreadable))
    }
}

/// `offer` and `answer`: an `RTCSessionDescriptionInit`.
#[derive(Deserialize)]
struct Described {
    to: UserName,
    #[serde(rename = "sdp")]
    _sdp: Description,
}

#[derive(Deserialize)]
struct Description {
    #[serde(rename = "type")]
    _kind: Text,
    #[serde(rename = "sdp")]
    _sdp: Text,
}

/// `ice-candidate`: an `RTCIceCandidateInit`, whose members are all optional; null ends them, as in `addIceCandidate`.
#[derive(Deserialize)]
struct Candidate {
    to: UserName,
    #[serde(rename = "candidate", deserialize_with = "Option::deserialize")]
    _candidate: Option<CandidateInit>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CandidateInit {
    #[serde(default, rename = "candidate")]
    _candidate: Option<Text>,
    #[serde(default, rename = "sdpMid")]
    _mid: Option<Text>,
    #[serde(default, rename = "sdpMLineIndex")]
    _index: Option<u16>,
    #[serde(default, rename = "usernameFragment")]
    _ufrag: Option<Text>,
}

/// A text, of which nothing is kept.
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Text, E> {
                Ok(Text)
            }
        }
        deserializer.deserialize_str(Any)
    }
}

/// A message with an addressee.
trait Addressed {
    fn to(self) -> UserName;
}

impl Addressed for Described {
    fn to(self) -> UserName {
        self.to
    }
}

impl Addressed for Candidate {
    fn to(self) -> UserName {
        self.to
    }
}

fn parcel<'de, T: Addressed + Deserialize<'de>>(text: &'de str) -> Result<RoomMsg, SignalFault> {
    if depth(text) > DEEPEST {
        return Err(SignalFault::InvalidMessage("too many values in each other".into()));
    }
    let to = read::<T>(text)?.to();
    let Open(open) = read(text)?;
    Ok(RoomMsg::Pass(Parcel { to, open }))
}

/// How deep lists and objects lie in each other, in text that is JSON.
fn depth(text: &str) -> usize {
    let (mut deep, mut deepest, mut literal, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = literal,
            b'"' => literal = !literal,
            b'{' | b'[' if !literal => {
                deep += 1;
                deepest = deepest.max(deep);
            }
            b'}' | b']' if !literal => deep = deep.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// An object written again without its `from` and without its end; all values are as they came.
struct Open(String);

impl<'de> Deserialize<'de> for Open {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Open;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Open, A::Error> {
                let mut text = String::new();
                while let Some(Name(name)) = fields.next_key()? {
                    if name == "from" {
                        fields.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let value: &RawValue = fields.next_value()?;
                    text.push(if text.is_empty() { '{' } else { ',' });
                    text.push_str(&serde_json::to_string(&name).map_err(A::Error::custom)?);
                    text.push(':');
                    text.push_str(value.get());
                }
                Ok(Open(text))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// A field's name, copied only where it is written with escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// One message to somebody in a room that is not of another one there.
#[derive(Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum RoomWord {
    /// Answers `join`.
    RoomJoined {
        /// Who is there, in the order in which they came, without the one who is told.
        peers: Vec<UserName>,
        /// For connections to them.
        ice_servers: Vec<IceServer>,
        /// Proves later that the user id is one's own.
        session: String,
    },
    /// Somebody came.
    PeerJoined {
        /// Who.
        peer_id: UserName,
    },
    /// Somebody left.
    PeerLeft {
        /// Who.
        peer_id: UserName,
    },
    /// What went wrong.
    Error(ErrorMsg),
}

impl fmt::Debug for RoomWord {
    /// ICE servers carry passwords, and a session is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoomJoined { peers, .. } => write!(f, "RoomJoined({peers:?})"),
            Self::PeerJoined { peer_id } => write!(f, "PeerJoined({peer_id:?})"),
            Self::PeerLeft { peer_id } => write!(f, "PeerLeft({peer_id:?})"),
            Self::Error(error) => write!(f, "Error({})", error.code),
        }
    }
}

impl From<&SignalFault> for RoomWord {
    fn from(fault: &SignalFault) -> Self {
        Self::Error(fault.into())
    }
}

impl RoomWord {
    /// The text frame.
    ///
    /// # Panics
    /// Never: strings always serialize.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings always serialize")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn passed(text: &str) -> String {
        match RoomMsg::parse(text) {
            Ok(RoomMsg::Pass(parcel)) => parcel.from(&UserName::try_from("ann").expect("a name")),
            other => panic!("{other:?}"),
        }
    }

    fn fault(text: &str) -> SignalFault {
        match RoomMsg::parse(text) {
            Err(fault) | Ok(RoomMsg::Unreadable(fault)) => fault,
            Ok(message) => panic!("{message:?}"),
        }
    }

    #[test]
    fn what_is_passed_on_is_untouched_but_for_its_sender() {
        let text = r#"{ "type" : "offer", "to":"bob", "from":"eve","sdp":{"type":"offer", "sdp":"v=0\r\n\u00e9", "x": 1.50e0 } ,"\u0066rom":1,"more":[1, {"a":null}]}"#;
        let expected = r#"{"type":"offer","to":"bob","sdp":{"type":"offer", "sdp":"v=0\r\n\u00e9", "x": 1.50e0 },"more":[1, {"a":null}],"from":"ann"}"#;
        assert_eq!(passed(text), expected);
        let Ok(RoomMsg::Pass(parcel)) = RoomMsg::parse(text) else { panic!("it is one") };
        let from: Value =
            serde_json::from_str(&parcel.clone().from(&UserName::try_from("a\"\\<").expect("a name"))).expect("JSON");
        assert_eq!(from["from"], "a\"\\<");
        assert!(!format!("{parcel:?}").contains("v=0"));
        let end = r#"{"type":"ice-candidate","to":"bob","candidate":null}"#;
        assert_eq!(passed(end), r#"{"type":"ice-candidate","to":"bob","candidate":null,"from":"ann"}"#);
    }

    #[test]
    fn wrong_fields_are_refused() {
        let good = [
            json!({"type": "offer", "to": "b", "sdp": {"type": "offer", "sdp": ""}}),
            json!({"type": "answer", "to": "b", "sdp": {"type": "answer", "sdp": "v=0", "more": {}}}),
            json!({"type": "ice-candidate", "to": "b", "candidate": {}}),
            json!({"type": "ice-candidate", "to": "b", "candidate": {"candidate": "", "sdpMid": null, "sdpMLineIndex": 0, "usernameFragment": "u"}}),
            json!({"type": "join", "roomId": "r", "userId": "u", "token": null, "session": null}),
            json!({"type": "leave", "roomId": "r"}),
        ];
        for message in good {
            assert!(!matches!(RoomMsg::parse(&message.to_string()), Err(_) | Ok(RoomMsg::Unreadable(_))), "{message}");
        }
        let bad = [
            json!({"type": "offer", "to": "b"}),
            json!({"type": "offer", "to": "b", "sdp": "v=0"}),
            json!({"type": "offer", "to": "b", "sdp": null}),
            json!({"type": "offer", "to": "b", "sdp": {"type": "offer"}}),
            json!({"type": "offer", "to": "b", "sdp": {"type": 1, "sdp": "v=0"}}),
            json!({"type": "offer", "to": "b", "sdp": {"type": "offer", "sdp": null}}),
            json!({"type": "offer", "to": "", "sdp": {"type": "offer", "sdp": "v=0"}}),
            json!({"type": "offer", "sdp": {"type": "offer", "sdp": "v=0"}}),
            json!({"type": "offer", "to": 7, "sdp": {"type": "offer", "sdp": "v=0"}}),
            json!({"type": "ice-candidate", "to": "b"}),
            json!({"type": "ice-candidate", "to": "b", "candidate": "candidate:1"}),
            json!({"type": "ice-candidate", "to": "b", "candidate": {"candidate": 1}}),
            json!({"type": "ice-candidate", "to": "b", "candidate": {"sdpMLineIndex": -1}}),
            json!({"type": "join", "roomId": "r"}),
            json!({"type": "join", "roomId": "r", "userId": ["u"]}),
            json!({"type": "join", "roomId": "r\n", "userId": "u"}),
            json!({"type": "join", "roomId": "r", "userId": "u", "token": 1}),
            json!({"type": "leave"}),
            json!({"roomId": "r"}),
            json!({"type": 1}),
            json!(["join"]),
            json!("join"),
        ];
        for message in bad {
            assert_eq!(fault(&message.to_string()).code(), "invalid_message", "{message}");
        }
        let twice = r#"{"type":"offer","to":"b","to":"c","sdp":{"type":"offer","sdp":""}}"#;
        assert_eq!(fault(twice).code(), "invalid_message", "whom would it be for?");
        assert_eq!(fault("{").to_string(), "Invalid JSON");
        assert_eq!(fault(r#"{"type":"ping"}"#).to_string(), "Unknown type: ping");
        for join in [r#"{"type":"join"}"#, r#"{"type":"join","roomId":"","userId":"u"}"#] {
            assert!(RoomMsg::parse(join).is_err(), "whoever fails to join is told why");
        }
    }

    #[test]
    fn nobody_is_sent_what_no_parser_takes() {
        let deep = |values: usize| {
            format!(
                r#"{{"type":"ice-candidate","to":"b","candidate":{{}},"more":{}{}}}"#,
                "[".repeat(values),
                "]".repeat(values)
            )
        };
        passed(&deep(DEEPEST - 1));
        assert_eq!(fault(&deep(DEEPEST)).code(), "invalid_message");
        assert_eq!(fault(&deep(100_000)).code(), "invalid_message");
        let brackets =
            format!(r#"{{"type":"ice-candidate","to":"b","candidate":{{"candidate":"{}"}}}}"#, r#"\"[["#.repeat(100));
        passed(&brackets);
    }
}
