//! What the server may say. It makes JSON and decides nothing.

use serde::Serialize;

use super::client::CandidateInit;
use super::fault::SignalFault;

/// One message of the server.
#[derive(Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMsg {
    /// Answers `hello`.
    HelloAck(HelloAck),
    /// Tells a client that authenticated by `api_key` what its session is.
    SessionId {
        /// The id to resume with.
        session_id: String,
        /// An address that media goes to.
        server_ip: String,
        /// And its UDP port.
        server_port: u16,
    },
    /// Tells a client that said which paths it wants of the servers that lead there.
    TurnConfig(TurnConfig),
    /// Fresh servers for a client whose credentials end soon.
    IceServers {
        /// For the client's `RTCPeerConnection`.
        ice_servers: Vec<IceServer>,
    },
    /// Answers `webrtc_offer`, every candidate in it.
    WebrtcAnswer {
        /// The answer.
        sdp: String,
    },
    /// Answers `offer`; candidates follow.
    Answer {
        /// The answer.
        sdp: String,
    },
    /// A candidate of ours, or `null` after the last.
    #[serde(rename = "ice-candidate")]
    IceCandidate {
        /// The candidate.
        candidate: Option<CandidateInit>,
    },
    /// Audio began, for a client that authenticated by `api_key`.
    GenerationStarted,
    /// Every 10 s of audio, for such a client.
    GenerationTick {
        /// Seconds of audio since `generation_started`.
        seconds: f64,
    },
    /// Audio ended, for such a client.
    GenerationEnded {
        /// Seconds of audio since `generation_started`.
        seconds: f64,
        /// Why: `stopped`.
        reason: &'static str,
    },
    /// Answers `prompt`, whatever came of it.
    PromptAck {
        /// The prompt verbatim.
        prompt: String,
        /// Whether it is being spoken.
        success: bool,
        /// Why not.
        error: Option<String>,
    },
    /// Answers `set_image`.
    SetImageAck {
        /// Always true.
        success: bool,
        /// Always null.
        error: Option<String>,
    },
    /// Answers `ping`.
    Pong,
    /// What went wrong.
    Error(ErrorMsg),
}

impl std::fmt::Debug for ServerMsg {
    /// The kind alone: SDP and ICE servers carry passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::HelloAck(_) => "HelloAck",
            Self::SessionId { .. } => "SessionId",
            Self::TurnConfig(_) => "TurnConfig",
            Self::IceServers { .. } => "IceServers",
            Self::WebrtcAnswer { .. } => "WebrtcAnswer",
            Self::Answer { .. } => "Answer",
            Self::IceCandidate { .. } => "IceCandidate",
            Self::GenerationStarted => "GenerationStarted",
            Self::GenerationTick { .. } => "GenerationTick",
            Self::GenerationEnded { .. } => "GenerationEnded",
            Self::PromptAck { .. } => "PromptAck",
            Self::SetImageAck { .. } => "SetImageAck",
            Self::Pong => "Pong",
            Self::Error(error) => return write!(f, "Error({})", error.code),
        })
    }
}

/// `hello_ack`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HelloAck {
    /// All voices.
    pub voices: Vec<VoiceCard>,
    /// For the client's `RTCPeerConnection`.
    pub ice_servers: Vec<IceServer>,
    /// The id to resume with.
    pub session_id: String,
    /// Whether the session that `hello` named goes on.
    pub resumed: bool,
}

/// A voice as clients see it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct VoiceCard {
    /// For `start`.
    pub id: String,
    /// For people.
    pub name: String,
    /// For people who want to know more.
    pub description: String,
}

/// An `RTCIceServer`.
#[derive(Clone, Eq, PartialEq, Serialize)]
pub struct IceServer {
    /// `stun:`, `turn:` and `turns:` URLs.
    pub urls: Vec<String>,
    /// For TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// For TURN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

impl std::fmt::Debug for IceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceServer").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// ICE servers that share their credentials.
#[derive(Clone, Eq, PartialEq, Serialize)]
pub struct TurnConfig {
    /// Never empty, which browsers do not take.
    pub urls: Vec<String>,
    /// For all of them.
    pub username: String,
    /// For all of them.
    pub credential: String,
}

impl std::fmt::Debug for TurnConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnConfig").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// `error`: the same text twice, because clients in the field read either, and a stable code.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ErrorMsg {
    /// One of the codes of the protocol.
    pub code: &'static str,
    /// The text.
    pub message: String,
    /// The text once more.
    pub error: String,
}

impl From<&SignalFault> for ErrorMsg {
    fn from(fault: &SignalFault) -> Self {
        let message = fault.to_string();
        Self { code: fault.code(), error: message.clone(), message }
    }
}

impl From<&SignalFault> for ServerMsg {
    fn from(fault: &SignalFault) -> Self {
        Self::Error(fault.into())
    }
}

impl From<SignalFault> for ServerMsg {
    fn from(fault: SignalFault) -> Self {
        Self::from(&fault)
    }
}

impl ServerMsg {
    /// The text frame.
    ///
    /// # Panics
    /// Never: strings and finite numbers always serialize.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and finite numbers always serialize")
    }
}
