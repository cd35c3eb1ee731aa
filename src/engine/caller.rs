//! The other end of a session: a sans-IO client peer that offers, listens and sends, for the load client and for tests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::config::{CryptoProvider, DtlsCert};
use str0m::error::IceError;
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid};
use str0m::net::{Receive, TcpType, Transmit};
use str0m::rtp::{RtpPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig, RtcError};

use crate::wire::sdp;
use crate::wire::signal::CandidateInit;

use super::crypto;
use super::demux::Transport;

/// What comes out of a caller.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "handed on by value once; a box would be an allocation per packet")]
pub enum CallerEffect {
    /// A datagram to send.
    Transmit(Transmit),
    /// ICE and DTLS are up.
    Connected,
    /// A packet was received and decrypted.
    Packet(RtpPacket),
    /// The server wants a key frame on this line.
    KeyframeWanted(Mid),
    /// The server closed the connection.
    Closed,
}

/// What callers of one process share: the certificate costs more than all the rest.
#[derive(Clone)]
pub struct CallerHost {
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
}

impl std::fmt::Debug for CallerHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallerHost").finish_non_exhaustive()
    }
}

impl Default for CallerHost {
    fn default() -> Self {
        let crypto = crypto::provider();
        let certificate = crypto.dtls_provider.generate_certificate().expect("the provider makes certificates");
        Self { crypto, certificate }
    }
}

/// A client's peer connection.
pub struct Caller {
    rtc: Rtc,
    transport: Transport,
    pending: Option<SdpPendingOffer>,
    mids: Vec<Mid>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("mids", &self.mids).finish_non_exhaustive()
    }
}

impl Caller {
    /// Listens to one Opus line from the socket at `local`; returns the offer.
    #[must_use]
    pub fn listener(host: &CallerHost, local: SocketAddr, now: Instant) -> (Self, String) {
        let config = config(host).clear_codecs().enable_opus(true, false);
        Self::new(config, (Transport::Udp, local), &[(MediaKind::Audio, Direction::RecvOnly)], now)
    }

    /// Listens to one Opus line by the connection that `local` has to the server (RFC 6544); returns the offer.
    #[must_use]
    pub fn listener_by_tcp(host: &CallerHost, local: SocketAddr, now: Instant) -> (Self, String) {
        let config = config(host).clear_codecs().enable_opus(true, false);
        Self::new(config, (Transport::Tcp, local), &[(MediaKind::Audio, Direction::RecvOnly)], now)
    }

    /// Listens to one Opus line by the address that a relay gave to the socket at `local`; returns the offer.
    #[must_use]
    pub fn listener_by_relay(
        host: &CallerHost,
        (relayed, local): (SocketAddr, SocketAddr),
        now: Instant,
    ) -> (Self, String) {
        let config = config(host).clear_codecs().enable_opus(true, false);
        let candidate = Candidate::relayed(relayed, local, "udp");
        Self::with(config, (Transport::Udp, candidate), &[(MediaKind::Audio, Direction::RecvOnly)], now)
    }

    /// Sends and receives one audio and one video line (VP8).
    #[must_use]
    pub fn echoer(host: &CallerHost, local: SocketAddr, now: Instant) -> (Self, String) {
        let config = config(host).clear_codecs().enable_opus(true, false).enable_vp8(true);
        Self::new(
            config,
            (Transport::Udp, local),
            &[(MediaKind::Audio, Direction::SendRecv), (MediaKind::Video, Direction::SendRecv)],
            now,
        )
    }

    fn new(
        config: RtcConfig,
        (transport, local): (Transport, SocketAddr),
        lines: &[(MediaKind, Direction)],
        now: Instant,
    ) -> (Self, String) {
        let candidate = match transport {
            Transport::Udp | Transport::Relayed => Candidate::host(local, "udp"),
            Transport::Tcp => Candidate::builder().tcp().host(local).tcptype(TcpType::Active).build(),
        };
        Self::with(config, (transport, candidate), lines, now)
    }

    fn with(
        config: RtcConfig,
        (transport, candidate): (Transport, Result<Candidate, IceError>),
        lines: &[(MediaKind, Direction)],
        now: Instant,
    ) -> (Self, String) {
        let mut rtc = config.build(now);
        if let Ok(candidate) = candidate {
            rtc.add_local_candidate(candidate);
        }
        let mut changes = rtc.sdp_api();
        let mids =
            lines.iter().map(|(kind, direction)| changes.add_media(*kind, *direction, None, None, None)).collect();
        let (offer, pending) = changes.apply().expect("lines were added");
        (Self { rtc, transport, pending: Some(pending), mids }, offer.to_sdp_string())
    }

    /// An offer that restarts ICE.
    ///
    /// # Panics
    /// Never: a restart is always a change.
    #[must_use]
    pub fn restart(&mut self) -> String {
        let mut changes = self.rtc.sdp_api();
        changes.ice_restart(true);
        let (offer, pending) = changes.apply().expect("a restart is a change");
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// An offer to listen to this line and to no other one of sound; the line is a new one if there is none of that number.
    ///
    /// # Panics
    /// Never: a direction is always a change.
    #[cfg(test)]
    pub fn listen_on(&mut self, line: usize) -> String {
        let mut changes = self.rtc.sdp_api();
        for (number, mid) in self.mids.iter().enumerate() {
            changes.set_direction(*mid, if number == line { Direction::RecvOnly } else { Direction::Inactive });
        }
        if line == self.mids.len() {
            self.mids.push(changes.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None));
        }
        let (offer, pending) = changes.apply().expect("a direction is a change");
        self.pending = Some(pending);
        offer.to_sdp_string()
    }

    /// Takes the answer to the last offer.
    ///
    /// # Errors
    /// When it is no answer to it.
    pub fn accept(&mut self, answer: &str) -> Result<(), RtcError> {
        let answer = SdpAnswer::from_sdp_string(answer)?;
        let pending = self.pending.take().ok_or(RtcError::ChangesOutOfOrder)?;
        self.rtc.sdp_api().accept_answer(pending, answer)
    }

    /// Takes a candidate of the server.
    pub fn candidate(&mut self, init: &CandidateInit) {
        if sdp::candidate_use(&init.candidate) == sdp::CandidateUse::Usable
            && let Ok(candidate) = Candidate::from_sdp_string(&init.candidate)
        {
            self.rtc.add_remote_candidate(candidate);
        }
    }

    /// Puts a datagram in.
    ///
    /// # Errors
    /// When the bytes are no datagram of WebRTC, or the connection cannot go on.
    pub fn receive(
        &mut self,
        source: SocketAddr,
        destination: SocketAddr,
        bytes: &[u8],
        now: Instant,
    ) -> Result<(), RtcError> {
        let receive = Receive::new(self.transport.protocol(), source, destination, bytes)?;
        self.rtc.handle_input(Input::Receive(now, receive))
    }

    /// Queues a packet on a line.
    pub fn send(&mut self, mid: Mid, write: RtpWrite) {
        if let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(mid, None) {
            stream.write_rtp(write);
        }
    }

    /// Asks for a key frame on a line.
    pub fn request_keyframe(&mut self, mid: Mid) {
        if let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(mid, None) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
    }

    /// Says goodbye by RTCP and DTLS.
    pub fn close(&mut self) {
        // An error here means that it is closed already.
        drop(self.rtc.close());
    }

    /// Runs the connection dry; returns when it next wants to run.
    ///
    /// # Errors
    /// When the connection cannot go on.
    pub fn run(&mut self, now: Instant, mut apply: impl FnMut(CallerEffect)) -> Result<Instant, RtcError> {
        let mut moved = false;
        loop {
            match self.rtc.poll_output()? {
                Output::Transmit(transmit) => apply(CallerEffect::Transmit(transmit)),
                Output::Event(Event::Connected) => apply(CallerEffect::Connected),
                Output::Event(Event::RtpPacket(packet)) => apply(CallerEffect::Packet(packet)),
                Output::Event(Event::KeyframeRequest(request)) => apply(CallerEffect::KeyframeWanted(request.mid)),
                Output::Event(Event::Closed) => apply(CallerEffect::Closed),
                Output::Event(_) => {}
                // A dead peer connection names a time a century away.
                Output::Timeout(_) if !self.rtc.is_alive() => return Ok(now + Duration::from_secs(3600)),
                Output::Timeout(at) if moved => return Ok(at),
                Output::Timeout(_) => {
                    moved = true;
                    self.rtc.handle_input(Input::Timeout(now))?;
                }
            }
        }
    }

    /// The lines of the offer, in order.
    #[must_use]
    pub fn mids(&self) -> &[Mid] {
        &self.mids
    }

    /// The payload type of a line's first codec.
    #[must_use]
    pub fn payload_type(&self, mid: Mid) -> Option<str0m::media::Pt> {
        self.rtc.media(mid)?.remote_pts().first().copied()
    }

    /// Whether the connection can still do anything.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.rtc.is_alive()
    }
}

fn config(host: &CallerHost) -> RtcConfig {
    RtcConfig::new()
        .set_crypto_provider(host.crypto.clone())
        .set_dtls_cert(host.certificate.clone())
        .set_rtp_mode(true)
        .set_stats_interval(None)
}
