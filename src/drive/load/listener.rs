//! One listener's signalling: it joins, starts the voice, and leaves. It asks for nothing that a browser would not.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::engine::caller::{Caller, CallerHost};

use super::super::clock::Clock;
use super::pump::{Peer, Pump};
use super::relayed::Relayed;
use super::report::Heard;

/// A server that does not answer by then does not.
const PATIENCE: Duration = Duration::from_secs(30);
/// Why a listener ended early.
#[derive(Debug, Error)]
pub enum ListenerError {
    /// The socket could not be opened.
    #[error("network: {0}")]
    Io(#[from] std::io::Error),
    /// The WebSocket broke.
    #[error("WebSocket: {0}")]
    WebSocket(#[from] Box<tungstenite::Error>),
    /// The server refused.
    #[error("server: {0}")]
    Refused(String),
    /// The server said nothing, or closed.
    #[error("server: no answer")]
    NoAnswer,
    /// The peer connection failed.
    #[error("peer connection: {0}")]
    Peer(#[from] str0m::RtcError),
}

/// Where to listen, and to what.
#[derive(Clone)]
pub struct Target {
    authority: String,
    token: String,
    /// What is started; a listener without one stays silent.
    voice: Option<String>,
    /// Whether they come through the server's relay.
    relayed: bool,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("authority", &self.authority).field("voice", &self.voice).finish_non_exhaustive()
    }
}

impl Target {
    /// Reads `http://host:port`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str, token: &str, voice: Option<&str>, relayed: bool) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url}: expected http://host:port"))?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() {
            return Err(format!("{url}: no host"));
        }
        let authority = if authority.ends_with(']') || !authority.contains(':') {
            format!("{authority}:80")
        } else {
            authority.to_owned()
        };
        Ok(Self { authority, token: token.to_owned(), voice: voice.map(str::to_owned), relayed })
    }

    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What lets in.
    #[must_use]
    pub(super) fn token(&self) -> &str {
        &self.token
    }
}

/// One listener.
pub struct Listener {
    target: Target,
    host: CallerHost,
    clock: Clock,
    pump: Arc<Pump>,
    heard: Arc<Mutex<Heard>>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Listener {
    /// A listener that has not begun.
    #[must_use]
    pub fn new(target: Target, host: CallerHost, clock: Clock, pump: Arc<Pump>, heard: Arc<Mutex<Heard>>) -> Self {
        Self { target, host, clock, pump, heard }
    }

    /// Joins, starts the voice, listens until `until`, closes.
    ///
    /// # Errors
    /// What ended it before.
    pub async fn run(&self, until: Instant) -> Result<(), ListenerError> {
        let begun = self.clock.now();
        let stream = TcpStream::connect(&self.target.authority).await?;
        let (server, own) = (stream.peer_addr()?.ip().to_canonical(), stream.local_addr()?.ip().to_canonical());
        let (mut ws, _) = client_async(format!("ws://{}/ws", self.target.authority), stream).await.map_err(Box::new)?;
        let socket = UdpSocket::bind(SocketAddr::new(own, 0))?;
        socket.set_nonblocking(true)?;
        say(&mut ws, &json!({"type": "hello", "token": self.target.token})).await?;
        let greeting = answer(&mut ws, "hello_ack", self.clock).await?;
        let mut relayed =
            if self.target.relayed { Some(Relayed::allocate(&socket, &greeting, self.clock).await?) } else { None };
        let (local, now) = (socket.local_addr()?, self.clock.now());
        let (mut caller, offer) = match &relayed {
            Some(relayed) => Caller::listener_by_relay(&self.host, (relayed.address, local), now),
            None => Caller::listener(&self.host, local, now),
        };
        say(&mut ws, &json!({"type": "webrtc_offer", "sdp": offer})).await?;
        let answer = answer(&mut ws, "webrtc_answer", self.clock).await?;
        let answer = reachable(answer["sdp"].as_str().unwrap_or_default(), server);
        caller.accept(&answer)?;
        if let Some(relayed) = &mut relayed {
            relayed.reach(&socket, &answer, self.clock).await?;
        }

        let (connected, joined) = oneshot::channel();
        let (ended, mut over) = oneshot::channel();
        let started = Arc::new(OnceLock::new());
        let place = self.pump.add(Peer { socket, relayed, caller, started: started.clone(), connected, ended }).await?;
        let listened = async {
            let patience = (begun + PATIENCE).into();
            let at = tokio::select! {
                joined = tokio::time::timeout_at(patience, joined) => joined.map_err(|_| ListenerError::NoAnswer)?,
                failure = &mut over => return Err(failure.unwrap_or(ListenerError::NoAnswer)),
            };
            let took = at.map_err(|_| ListenerError::NoAnswer)?.saturating_duration_since(begun);
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).join(took);
            if let Some(voice) = &self.target.voice {
                let _ = started.set(self.clock.wall());
                say(&mut ws, &json!({"type": "start", "voice_id": voice})).await?;
            }
            loop {
                tokio::select! {
                    frame = ws.next() => match frame {
                        // Pings are answered by the library, with the next word.
                        Some(Ok(Message::Text(text))) if text.contains("\"type\":\"error\"") => return Err(ListenerError::Refused(text.to_string())),
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(ListenerError::NoAnswer),
                        Some(Ok(_)) => ws.flush().await.map_err(Box::new)?,
                    },
                    failure = &mut over => return Err(failure.unwrap_or(ListenerError::NoAnswer)),
                    () = tokio::time::sleep_until(until.into()) => return Ok(()),
                }
            }
        }
        .await;
        self.pump.remove(place);
        // The run is over: who does not take our goodbye finds out by itself.
        drop(ws.close(None).await);
        listened
    }
}

/// Waits for a message of this type; an `error` ends the wait.
pub(super) async fn answer(
    ws: &mut WebSocketStream<TcpStream>,
    kind: &str,
    clock: Clock,
) -> Result<Value, ListenerError> {
    let until = clock.now() + PATIENCE;
    loop {
        let frame = tokio::time::timeout_at(until.into(), ws.next()).await.map_err(|_| ListenerError::NoAnswer)?;
        let Some(frame) = frame else { return Err(ListenerError::NoAnswer) };
        let Message::Text(text) = frame.map_err(Box::new)? else { continue };
        let message: Value = serde_json::from_str(&text).map_err(|error| ListenerError::Refused(error.to_string()))?;
        match message["type"].as_str() {
            Some(found) if found == kind => return Ok(message),
            Some("error") => {
                return Err(ListenerError::Refused(message["message"].as_str().unwrap_or_default().to_owned()));
            }
            _ => {}
        }
    }
}

pub(super) async fn say(ws: &mut WebSocketStream<TcpStream>, message: &Value) -> Result<(), ListenerError> {
    ws.send(Message::text(message.to_string())).await.map_err(Box::new)?;
    Ok(())
}

/// The answer with the candidates that stand at the address that the WebSocket reached, if any do: load stays on that way.
fn reachable(answer: &str, server: IpAddr) -> String {
    let at_server =
        |candidate: &str| candidate.split(' ').nth(4).and_then(|ip| ip.parse::<IpAddr>().ok()) == Some(server);
    let narrowed = crate::wire::sdp::retain_candidates(answer, at_server);
    if narrowed.contains("a=candidate:") { narrowed } else { answer.to_owned() }
}
