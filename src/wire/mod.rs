//! Floor 0, words and bytes: messages, ids, names, datagram classes, STUN peek, TCP framing, SDP text, URLs of ICE servers, media time. Pure:
//! no state, no clock, no I/O.

pub mod classify;
pub mod framing;
pub mod ice_url;
pub mod ids;
pub mod media;
pub mod names;
pub mod opus;
pub mod sdp;
pub mod signal;
pub mod stun;
