//! Floor 0, words and bytes: messages, ids, names, datagram classes, STUN peek, TCP framing, frames of a WebSocket, SDP text, URLs of ICE
//! servers, media time. Pure: no clock, no I/O.

pub mod classify;
pub mod frames;
pub mod framing;
pub mod ice_url;
pub mod ids;
pub mod media;
pub mod names;
pub mod opus;
pub mod sdp;
pub mod signal;
pub mod stun;
