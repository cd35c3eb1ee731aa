//! What a client may say. Parsing is total: every text gives a message or the fault that answers it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::fault::SignalFault;
use super::read;

/// One message of a client.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientMsg {
    /// Authenticates, and may resume a session.
    Hello(Hello),
    /// `webrtc_offer` or `offer`.
    Offer(Offer),
    /// `ice-candidate`; `None` ends them.
    Candidate(Option<CandidateInit>),
    /// Begins audio.
    Start(Start),
    /// Ends audio, and what waits to be spoken.
    Stop,
    /// Text to be spoken.
    Speak(Speak),
    /// The same from an SDK, always acknowledged.
    Prompt(Prompt),
    /// An image, received and discarded.
    SetImage(SetImage),
    /// Keeps the connection alive.
    Ping,
}

/// `hello`: the first message of a client that gave no `api_key`.
#[derive(Clone, Deserialize, Eq, PartialEq)]
pub struct Hello {
    /// The shared secret.
    pub token: String,
    /// Id of a session to resume.
    #[serde(default)]
    pub session: Option<String>,
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello").field("resumes", &self.session.is_some()).finish_non_exhaustive()
    }
}

/// How an offer wants to be answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OfferStyle {
    /// `webrtc_offer`: the answer carries every candidate.
    Complete,
    /// `offer`: candidates follow the answer.
    Trickle,
}

/// An SDP offer. `Debug` leaves the text out: it carries the ICE password.
#[derive(Clone, Eq, PartialEq)]
pub struct Offer {
    /// Which of the two messages it was.
    pub style: OfferStyle,
    /// The text.
    pub sdp: String,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").field("style", &self.style).field("bytes", &self.sdp.len()).finish_non_exhaustive()
    }
}

/// An `RTCIceCandidateInit`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CandidateInit {
    /// The text from `candidate:` on (RFC 8839 section 5.1); an empty one, or none, ends the candidates.
    #[serde(default)]
    pub candidate: String,
    /// The media section it belongs to.
    #[serde(default)]
    pub sdp_mid: Option<String>,
    /// The same by its index.
    #[serde(default, rename = "sdpMLineIndex")]
    pub sdp_m_line_index: Option<u16>,
    /// Tells the ICE generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_fragment: Option<String>,
}

/// `start`: an unknown `voice_id` is [`SignalFault::UnknownVoice`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Start {
    /// The voice, as `hello_ack` named it.
    pub voice_id: String,
}

/// `speak`: an empty text is [`SignalFault::EmptyText`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Speak {
    /// What to say.
    pub text: String,
    /// Who says it.
    #[serde(default)]
    pub voice_id: Option<String>,
    /// The client's name for this utterance.
    #[serde(default)]
    pub id: Option<String>,
}

/// `prompt`: never answered by an `error`, so any shape of it is a prompt.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Prompt {
    /// The words, given back verbatim.
    #[serde(default, deserialize_with = "text_or_nothing")]
    pub prompt: Option<String>,
}

/// `set_image`: this server draws nothing; both fields may be null.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct SetImage {
    /// The image, discarded while it is read.
    #[serde(default)]
    pub image_data: Discarded,
    /// Words to be spoken.
    #[serde(default)]
    pub prompt: Option<String>,
}

/// The tag alone; the rest of the object is skipped without being kept.
#[derive(Deserialize)]
pub(super) struct Tag<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Sdp {
    #[serde(default)]
    sdp: Option<String>,
}

#[derive(Deserialize)]
struct Candidate {
    // `deserialize_with` makes the field required; null is a value.
    #[serde(deserialize_with = "Option::deserialize")]
    candidate: Option<CandidateInit>,
}

impl ClientMsg {
    /// Reads one text frame.
    ///
    /// # Errors
    /// The fault that answers it: no JSON, no known `type`, a missing field or one of the wrong kind, an offer without `sdp`.
    pub fn parse(text: &str) -> Result<Self, SignalFault> {
        let Tag { kind } = object(text)?;
        match kind.as_ref() {
            "hello" => read(text).map(Self::Hello),
            "webrtc_offer" => offer(text, OfferStyle::Complete),
            "offer" => offer(text, OfferStyle::Trickle),
            "ice-candidate" => {
                let Candidate { candidate } = read(text)?;
                Ok(Self::Candidate(candidate.filter(|init| !init.candidate.is_empty())))
            }
            "start" => read(text).map(Self::Start),
            "stop" => Ok(Self::Stop),
            "speak" => read(text).and_then(|speak: Speak| {
                if speak.text.trim().is_empty() { Err(SignalFault::EmptyText) } else { Ok(Self::Speak(speak)) }
            }),
            "prompt" => read(text).map(Self::Prompt),
            "set_image" => read(text).map(Self::SetImage),
            "ping" => Ok(Self::Ping),
            unknown => Err(SignalFault::about(unknown, SignalFault::UnknownType)),
        }
    }
}

/// Reads an object; serde alone would read a list as an object's fields in order.
pub(super) fn object<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, SignalFault> {
    if !text.trim_start().starts_with('{') {
        read::<serde::de::IgnoredAny>(text)?;
        return Err(SignalFault::InvalidMessage("expected an object".into()));
    }
    read(text)
}

fn offer(text: &str, style: OfferStyle) -> Result<ClientMsg, SignalFault> {
    match read(text)? {
        Sdp { sdp: Some(sdp) } if !sdp.trim().is_empty() => Ok(ClientMsg::Offer(Offer { style, sdp })),
        Sdp { .. } => Err(SignalFault::MissingSdp),
    }
}

/// Text where it is text, nothing where it is anything else.
fn text_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lenient {
        Text(String),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Lenient::deserialize(deserializer)? {
        Lenient::Text(text) => Some(text),
        Lenient::Other(_) => None,
    })
}

/// A text or null, read and forgotten: an image may have 16 MiB.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Discarded;

impl<'de> Deserialize<'de> for Discarded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Discard)
    }
}

struct Discard;

impl Visitor<'_> for Discard {
    type Value = Discarded;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an image as text, or null")
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Discarded, E> {
        Ok(Discarded)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Discarded, E> {
        Ok(Discarded)
    }
}
