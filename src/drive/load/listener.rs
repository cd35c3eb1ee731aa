//! One listener: its WebSocket, its UDP socket, its peer connection. It measures and asks for nothing that a browser would not.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use str0m::rtp::RtpPacket;
use thiserror::Error;
use tokio::net::{TcpStream, UdpSocket};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::engine::caller::{Caller, CallerEffect, CallerHost};
use crate::wire::media::{FRAME_SAMPLES, SAMPLE_RATE};

use super::super::clock::Clock;
use super::report::Heard;

/// A server that does not answer by then does not.
const PATIENCE: Duration = Duration::from_secs(30);
/// One listener in so many decodes what it hears.
const SAMPLE: u16 = 50;
/// Quieter than this, a frame of a tone is no tone: -40 dB of full scale.
const SILENCE: f32 = 0.01;

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
    voice: String,
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
    pub fn parse(url: &str, token: &str, voice: &str) -> Result<Self, String> {
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
        Ok(Self { authority, token: token.to_owned(), voice: voice.to_owned() })
    }
}

/// One listener.
pub struct Listener {
    target: Target,
    host: CallerHost,
    clock: Clock,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("target", &self.target).finish_non_exhaustive()
    }
}

/// What one listener has received.
struct Ear {
    started: Option<Instant>,
    last: Option<(u64, Instant)>,
    decoder: Option<opus::Decoder>,
}

impl Listener {
    /// A listener that has not begun.
    #[must_use]
    pub fn new(target: Target, host: CallerHost, clock: Clock) -> Self {
        Self { target, host, clock }
    }

    /// Joins, starts the voice, listens until `until`, closes. Counts gaps from `from` on.
    ///
    /// # Errors
    /// What ended it before.
    pub async fn run(self, heard: &RefCell<Heard>, from: Instant, until: Instant) -> Result<(), ListenerError> {
        let begun = self.clock.now();
        let stream = TcpStream::connect(&self.target.authority).await?;
        let (server, own) = (stream.peer_addr()?.ip().to_canonical(), stream.local_addr()?.ip().to_canonical());
        let (mut ws, _) = client_async(format!("ws://{}/ws", self.target.authority), stream).await.map_err(Box::new)?;
        let socket = UdpSocket::bind(SocketAddr::new(own, 0)).await?;
        let local = socket.local_addr()?;
        say(&mut ws, &json!({"type": "hello", "token": self.target.token})).await?;
        let acknowledged = self.answer(&mut ws, "hello_ack").await?;
        debug_assert!(acknowledged.get("session_id").is_some());
        let (mut caller, offer) = Caller::listener(&self.host, local, self.clock.now());
        say(&mut ws, &json!({"type": "webrtc_offer", "sdp": offer})).await?;
        let answer = self.answer(&mut ws, "webrtc_answer").await?;
        caller.accept(&reachable(answer["sdp"].as_str().unwrap_or_default(), server))?;

        let decoder =
            if local.port() % SAMPLE == 0 { opus::Decoder::new(SAMPLE_RATE, opus::Channels::Mono).ok() } else { None };
        let mut ear = Ear { started: None, last: None, decoder };
        let mut buffer = vec![0; 2048];
        loop {
            let now = self.clock.now();
            let (mut connected, mut closed, mut out) = (false, false, Vec::new());
            let wake = caller.run(now, |effect| match effect {
                CallerEffect::Transmit(transmit) => out.push(transmit),
                CallerEffect::Connected => connected = true,
                CallerEffect::Packet(packet) => ear.hear(&packet, now, now >= from && now < until, heard),
                CallerEffect::KeyframeWanted(_) => {}
                CallerEffect::Closed => closed = true,
            })?;
            for transmit in out {
                // A full buffer loses a check or a report, which both come again.
                drop(socket.try_send_to(&transmit.contents, transmit.destination));
            }
            if closed {
                return Err(ListenerError::Refused("the peer connection was closed".into()));
            }
            if connected {
                heard.borrow_mut().join(now.saturating_duration_since(begun));
                say(&mut ws, &json!({"type": "start", "voice_id": self.target.voice})).await?;
                ear.started = Some(self.clock.now());
            }
            if now >= until {
                break;
            }
            if ear.started.is_none() && now >= begun + PATIENCE {
                return Err(ListenerError::NoAnswer);
            }
            tokio::select! {
                received = socket.recv_from(&mut buffer) => {
                    let (length, source) = received?;
                    // Bytes that are none of WebRTC's are nothing to a listener either.
                    drop(caller.receive(source, local, &buffer[..length], self.clock.now()));
                }
                frame = ws.next() => match frame {
                    // Pings are answered by the library, with the next word.
                    Some(Ok(Message::Text(text))) if text.contains("\"type\":\"error\"") => return Err(ListenerError::Refused(text.to_string())),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(ListenerError::NoAnswer),
                    Some(Ok(_)) => ws.flush().await.map_err(Box::new)?,
                },
                () = tokio::time::sleep_until(wake.min(until).into()) => {}
            }
        }
        // The run is over: who does not take our goodbye finds out by itself.
        drop(ws.close(None).await);
        Ok(())
    }

    /// Waits for a message of this type; an `error` ends the wait.
    async fn answer(&self, ws: &mut WebSocketStream<TcpStream>, kind: &str) -> Result<Value, ListenerError> {
        let until = self.clock.now() + PATIENCE;
        loop {
            let frame = tokio::time::timeout_at(until.into(), ws.next()).await.map_err(|_| ListenerError::NoAnswer)?;
            let Some(frame) = frame else { return Err(ListenerError::NoAnswer) };
            let Message::Text(text) = frame.map_err(Box::new)? else { continue };
            let message: Value =
                serde_json::from_str(&text).map_err(|error| ListenerError::Refused(error.to_string()))?;
            match message["type"].as_str() {
                Some(found) if found == kind => return Ok(message),
                Some("error") => {
                    return Err(ListenerError::Refused(message["message"].as_str().unwrap_or_default().to_owned()));
                }
                _ => {}
            }
        }
    }
}

async fn say(ws: &mut WebSocketStream<TcpStream>, message: &Value) -> Result<(), ListenerError> {
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

impl Ear {
    fn hear(&mut self, packet: &RtpPacket, now: Instant, measured: bool, heard: &RefCell<Heard>) {
        let mut heard = heard.borrow_mut();
        let seq = *packet.seq_no;
        match self.last {
            None => {
                if let Some(started) = self.started {
                    heard.first(now.saturating_duration_since(started));
                }
            }
            Some((before, _)) if seq <= before => return heard.late(),
            Some((before, at)) if measured => heard.packet(now.saturating_duration_since(at), seq - before - 1),
            Some(_) => {}
        }
        let beginning = self.last.is_none();
        self.last = Some((seq, now));
        if let Some(decoder) = &mut self.decoder {
            // Frames have 20 ms here; a longer one does not fit and counts as silent.
            let mut samples = [0.0_f32; FRAME_SAMPLES];
            let loud = decoder
                .decode_float(&packet.payload, &mut samples, false)
                .is_ok_and(|count| samples[..count].iter().any(|sample| sample.abs() > SILENCE));
            // The first frame fades in.
            if !loud && !beginning {
                heard.silent();
            }
        }
    }
}
