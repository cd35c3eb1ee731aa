//! What `model=echo` sends back: each media line's packets on the same line, renumbered. It decodes nothing.

use std::collections::HashMap;

use str0m::media::Mid;
use str0m::rtp::{RtpPacket, RtpWrite};

/// Media lines that one session may echo; more are not answered with sound or picture.
const LINES: usize = 8;
/// Incoming sources may restart their numbering by as much as this before a line is renumbered anew.
const JUMP: i64 = 0x4000;

/// Renumbers packets so that a line's first one has a small sequence number (RFC 3711 section 3.3.1).
#[derive(Debug, Default)]
pub struct Echo {
    lines: HashMap<Mid, Line>,
}

#[derive(Debug)]
struct Line {
    /// Added to incoming extended sequence numbers.
    shift: i64,
    /// Highest sequence number sent.
    highest: i64,
    /// SSRC that `shift` was made for.
    ssrc: u32,
}

impl Echo {
    /// Whether `mid` has sent something before.
    #[must_use]
    pub fn knows(&self, mid: Mid) -> bool {
        self.lines.contains_key(&mid)
    }

    /// The packet to send back on `mid`; `None` for one that came too late or on a line too many.
    pub fn packet(&mut self, mid: Mid, packet: RtpPacket) -> Option<RtpWrite> {
        let incoming = i64::try_from(*packet.seq_no).ok()?;
        let ssrc = *packet.header.ssrc;
        if !self.lines.contains_key(&mid) {
            if self.lines.len() == LINES {
                return None;
            }
            // Room below for packets that were overtaken by the first.
            self.lines.insert(mid, Line { shift: 256 - incoming, highest: 256, ssrc });
        }
        let line = self.lines.get_mut(&mid)?;
        if line.ssrc != ssrc || (incoming + line.shift - line.highest).abs() > JUMP {
            line.ssrc = ssrc;
            line.shift = line.highest + 1 - incoming;
        }
        let seq = u64::try_from(incoming + line.shift).ok()?;
        line.highest = line.highest.max(incoming + line.shift);
        let RtpPacket { header, payload, timestamp, .. } = packet;
        let write = RtpWrite::new(header.payload_type, seq.into(), header.timestamp, timestamp, payload);
        Some(write.marker(header.marker).nackable(true))
    }
}
