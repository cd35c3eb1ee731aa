//! A client of our own: a blocking WebSocket, a UDP socket, a peer connection, and ears.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use bytes::BytesMut;
use serde_json::{Value, json};
use socket2::SockRef;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};
use voxcast::engine::caller::{Caller, CallerEffect, CallerHost};
use voxcast::wire::framing::Framing;
use voxcast::wire::sdp;

use super::heard::Heard;
use super::server::{PATIENCE, TOKEN, now};

/// How long a link is listened to before the peer connection has its turn again.
const MOMENT: Duration = Duration::from_millis(2);

/// A WebSocket and what came by it.
pub struct Socket {
    ws: WebSocket<TcpStream>,
}

impl Socket {
    /// Connects to `/ws` with this query and these headers more.
    pub fn open(server: SocketAddr, query: &str, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        Self::open_at(server, &format!("/ws{query}"), headers)
    }

    /// Connects to this path with these headers more.
    pub fn open_at(server: SocketAddr, path: &str, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let mut request = format!("ws://{server}{path}").into_client_request().expect("an address");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        let stream = TcpStream::connect(server).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        match tungstenite::client(request, stream) {
            Ok((ws, _)) => Ok(Self { ws }),
            Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                Err(response.status().as_u16())
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Connects and greets; gives the acknowledgement.
    pub fn greeted(server: SocketAddr) -> (Self, Value) {
        let mut socket = Self::open(server, "", &[]).expect("upgraded");
        socket.say(&json!({"type": "hello", "token": TOKEN}));
        let acknowledged = socket.hear();
        assert_eq!(acknowledged["type"], "hello_ack", "{acknowledged}");
        (socket, acknowledged)
    }

    pub fn say(&mut self, message: &Value) {
        self.send(Message::text(message.to_string()));
    }

    pub fn send(&mut self, message: Message) {
        self.ws.send(message).expect("the connection is open");
    }

    /// Sends it while the connection is open.
    pub fn try_say(&mut self, message: &Value) -> tungstenite::Result<()> {
        self.ws.send(Message::text(message.to_string()))
    }

    /// The next message of the server.
    pub fn hear(&mut self) -> Value {
        loop {
            match self.ws.read().expect("a message") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Waits for a Ping frame, and answers it.
    pub fn pinged(&mut self) {
        while !matches!(self.ws.read().expect("a ping"), Message::Ping(_)) {}
        self.ws.flush().expect("the connection is open");
    }

    /// The Close frame's code, after whatever else comes.
    pub fn closed(&mut self) -> Option<u16> {
        loop {
            match self.ws.read() {
                Ok(Message::Close(frame)) => return frame.map(|CloseFrame { code, .. }| code.into()),
                Ok(_) => {}
                Err(error) => panic!("no Close frame: {error}"),
            }
        }
    }

    /// Says this, and gives the code and the text of the error that answers it.
    pub fn error(&mut self, message: &Value) -> (String, String) {
        self.say(message);
        error_of(&self.hear())
    }

    /// Sends a Close frame and ends the connection in the same breath, as a killed tab does.
    pub fn slam(self) {
        let mut stream = self.ws.get_ref();
        // FIN, masked with zeros, code 1001 (RFC 6455 section 5.2).
        stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]).expect("the connection is open");
        stream.shutdown(Shutdown::Both).expect("the connection is open");
    }

    /// Resets the connection.
    pub fn reset(self) {
        SockRef::from(self.ws.get_ref()).set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    /// Sends bytes as they are.
    pub fn raw(&self, bytes: &[u8]) {
        self.ws.get_ref().write_all(bytes).expect("the connection is open");
    }

    /// Closes as a page does.
    pub fn close(mut self) {
        self.ws.close(None).expect("the connection is open");
        while self.ws.read().is_ok() {}
    }

    /// A message, if one is there already.
    fn poll(&mut self) -> Option<Value> {
        self.ws.get_ref().set_nonblocking(true).expect("a socket");
        let read = self.ws.read();
        self.ws.get_ref().set_nonblocking(false).expect("a socket");
        match read {
            Ok(Message::Text(text)) => Some(serde_json::from_str(&text).expect("JSON")),
            _ => None,
        }
    }
}

/// Code and text of an `error`; the text stands in it twice.
pub fn error_of(message: &Value) -> (String, String) {
    assert_eq!(message["type"], "error", "{message}");
    assert_eq!(message["message"], message["error"]);
    let text = |name: &str| message[name].as_str().expect("text").to_owned();
    (text("code"), text("message"))
}

/// A frame that is a part of a message, or all of it.
pub fn fragment(code: OpCode, last: bool, payload: &[u8]) -> Message {
    let header = FrameHeader { is_final: last, opcode: code, ..FrameHeader::default() };
    Message::Frame(Frame::from_payload(header, payload.to_vec().into()))
}

/// A listener with a peer connection.
pub struct Listener {
    pub socket: Socket,
    pub session: String,
    /// The answer to the first offer.
    pub answer: String,
    pub heard: Heard,
    /// Messages that came while it listened.
    pub said: Vec<Value>,
    pub closed: bool,
    connected: bool,
    caller: Caller,
    link: Link,
    /// The server's relayed addresses, where nothing else lets anything through.
    only: Option<Vec<SocketAddr>>,
}

/// `answer` with none but relayed candidates of the server, and their addresses.
fn relayed(answer: &str) -> (String, Vec<SocketAddr>) {
    let mut addresses = Vec::new();
    let text = sdp::retain_candidates(answer, |candidate| {
        let words: Vec<_> = candidate.split(' ').collect();
        let relayed = sdp::is_relayed(candidate);
        if relayed {
            let (ip, port) = (words[4].parse().expect("an address"), words[5].parse().expect("a port"));
            addresses.push(SocketAddr::new(ip, port));
        }
        relayed
    });
    (text, addresses)
}

/// What carries a listener's datagrams.
enum Link {
    Udp(UdpSocket),
    /// The connection to the media port, and what has come of a frame that is not whole.
    Tcp(TcpStream, BytesMut),
}

impl Link {
    fn local(&self) -> SocketAddr {
        match self {
            Self::Udp(socket) => socket.local_addr(),
            Self::Tcp(stream, _) => stream.local_addr(),
        }
        .expect("bound")
    }

    fn send(&self, to: SocketAddr, bytes: &[u8]) {
        match self {
            Self::Udp(socket) => drop(socket.send_to(bytes, to)),
            Self::Tcp(stream, _) => {
                // None when the server has reset it.
                assert!(stream.peer_addr().is_ok_and(|peer| peer == to) || stream.peer_addr().is_err());
                let header = Framing::Ice.header(bytes.len()).expect("short");
                // A server that has closed takes nothing more.
                let _ = (&*stream).write_all(&[&header, bytes].concat());
            }
        }
    }

    /// The next datagram, if it comes soon.
    fn receive(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let mut buffer = [0; 2048];
        match self {
            Self::Udp(socket) => {
                let (length, source) = socket.recv_from(&mut buffer).ok()?;
                Some((source, buffer[..length].to_vec()))
            }
            Self::Tcp(stream, input) => {
                let source = stream.peer_addr().ok()?;
                loop {
                    if let Some(frame) = Framing::Ice.next_frame(input).expect("the server frames well") {
                        return Some((source, frame.to_vec()));
                    }
                    let length = stream.read(&mut buffer).ok().filter(|length| *length > 0)?;
                    input.extend_from_slice(&buffer[..length]);
                }
            }
        }
    }
}

impl Listener {
    /// Greets, offers and connects.
    pub fn connect(server: SocketAddr) -> Self {
        let (socket, acknowledged) = Socket::greeted(server);
        let session = acknowledged["session_id"].as_str().expect("text").to_owned();
        Self::offer(socket, session)
    }

    /// Offers on a socket that is let in already, and connects from the address that the socket has.
    pub fn offer(socket: Socket, session: String) -> Self {
        let own = socket.ws.get_ref().local_addr().expect("connected").ip();
        let udp = UdpSocket::bind((own, 0)).expect("a port is free");
        udp.set_read_timeout(Some(MOMENT)).expect("a timeout");
        let (caller, offer) = Caller::listener(&CallerHost::default(), udp.local_addr().expect("bound"), now());
        Self::join((socket, session), (Link::Udp(udp), false), caller, &offer)
    }

    /// The same from a network that lets nothing through but what the server's relays send.
    pub fn connect_by_relays(server: SocketAddr) -> Self {
        let (socket, acknowledged) = Socket::greeted(server);
        let session = acknowledged["session_id"].as_str().expect("text").to_owned();
        let own = socket.ws.get_ref().local_addr().expect("connected").ip();
        let udp = UdpSocket::bind((own, 0)).expect("a port is free");
        udp.set_read_timeout(Some(MOMENT)).expect("a timeout");
        let (caller, offer) = Caller::listener(&CallerHost::default(), udp.local_addr().expect("bound"), now());
        Self::join((socket, session), (Link::Udp(udp), true), caller, &offer)
    }

    /// Greets, offers, and connects by this connection to the media port.
    pub fn connect_by(server: SocketAddr, stream: TcpStream) -> Self {
        let (socket, acknowledged) = Socket::greeted(server);
        let session = acknowledged["session_id"].as_str().expect("text").to_owned();
        stream.set_read_timeout(Some(MOMENT)).expect("a timeout");
        let local = stream.local_addr().expect("connected");
        let (caller, offer) = Caller::listener_by_tcp(&CallerHost::default(), local, now());
        let mut listener = Self::join((socket, session), (Link::Tcp(stream, BytesMut::new()), false), caller, &offer);
        // A machine that is too busy for 100 ms is told what is new.
        listener.heard.may_miss = true;
        listener
    }

    fn join(
        (mut socket, session): (Socket, String),
        (link, by_relays): (Link, bool),
        mut caller: Caller,
        offer: &str,
    ) -> Self {
        socket.say(&json!({"type": "webrtc_offer", "sdp": offer}));
        let answer = socket.hear();
        assert_eq!(answer["type"], "webrtc_answer", "{answer}");
        let answer = answer["sdp"].as_str().expect("text").to_owned();
        let (text, only) = if by_relays {
            let (text, only) = relayed(&answer);
            (text, Some(only))
        } else {
            (answer.clone(), None)
        };
        caller.accept(&text).expect("an answer");
        let (heard, said) = (Heard::default(), Vec::new());
        let mut listener =
            Self { socket, session, answer, heard, said, closed: false, connected: false, caller, link, only };
        assert!(listener.until(|listener| listener.connected), "never connected");
        listener
    }

    /// Restarts ICE by a second offer.
    pub fn restart_ice(&mut self) {
        let offer = self.caller.restart();
        self.socket.say(&json!({"type": "webrtc_offer", "sdp": offer}));
        assert!(
            self.until(|listener| listener.said.iter().any(|message| message["type"] == "webrtc_answer")),
            "no answer"
        );
        let answer =
            self.said.remove(self.said.iter().position(|message| message["type"] == "webrtc_answer").expect("it came"));
        let mut text = answer["sdp"].as_str().expect("text").to_owned();
        if let Some(only) = &mut self.only {
            (text, *only) = relayed(&text);
        }
        self.caller.accept(&text).expect("an answer");
    }

    pub fn start(&mut self, voice: &str) {
        self.socket.say(&json!({"type": "start", "voice_id": voice}));
    }

    /// Ends the session by its WebSocket, and listens on.
    pub fn hang_up(&mut self) {
        self.socket.ws.close(None).expect("the connection is open");
    }

    pub fn stop(&mut self) {
        self.socket.say(&json!({"type": "stop"}));
    }

    /// Listens until so many frames more were heard.
    pub fn frames(&mut self, count: usize) {
        let enough = self.heard.frames() + count;
        assert!(self.until(|listener| listener.heard.frames() >= enough), "{} of {enough} frames", self.heard.frames());
    }

    /// Listens to so many frames more, and on until the last so many have no hole.
    pub fn whole(&mut self, count: usize) {
        self.frames(count);
        assert!(self.until(|listener| listener.heard.is_whole(count)), "never {count} frames without a hole");
    }

    /// Listens for this long, whatever comes.
    pub fn listen_for(&mut self, time: Duration) {
        let end = now() + time;
        self.until(|_| now() >= end);
    }

    /// Listens until `done`; false when it never is.
    pub fn until(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        let end = now() + PATIENCE;
        let local = self.link.local();
        while now() < end {
            let Self { caller, link, heard, connected, closed, only, .. } = self;
            let passes = |remote: SocketAddr| only.as_ref().is_none_or(|only| only.contains(&remote));
            // A peer connection that has ended says so by `closed`.
            let ran = caller.run(now(), |effect| match effect {
                CallerEffect::Transmit(transmit) if !passes(transmit.destination) => {}
                CallerEffect::Transmit(transmit) => link.send(transmit.destination, &transmit.contents),
                CallerEffect::Connected => *connected = true,
                CallerEffect::Packet(packet) => heard.packet(&packet),
                CallerEffect::KeyframeWanted(_) => {}
                CallerEffect::Closed => *closed = true,
            });
            self.closed |= ran.is_err() || !self.caller.is_alive();
            if done(self) {
                return true;
            }
            let passes = |remote: &SocketAddr| self.only.as_ref().is_none_or(|only| only.contains(remote));
            if let Some((source, bytes)) = self.link.receive().filter(|(source, _)| passes(source)) {
                drop(self.caller.receive(source, local, &bytes, now()));
            }
            self.said.extend(self.socket.poll());
        }
        false
    }
}

/// The offer of a listener that will never connect.
pub fn offer_of_a_listener() -> String {
    Caller::listener(&CallerHost::default(), SocketAddr::from(([192, 0, 2, 1], 50_000)), now()).1
}
