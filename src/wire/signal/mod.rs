//! The words of `GET /ws` and of `GET /signal`: one JSON object a text frame, tagged by `type`. Field names are a contract with clients that
//! we did not write.

mod client;
mod fault;
mod room;
mod server;

use serde::Deserialize;

pub use client::{CandidateInit, ClientMsg, Discarded, Hello, Offer, OfferStyle, Prompt, SetImage, Speak, Start};
pub use fault::SignalFault;
pub use room::{Join, Leave, Parcel, RoomMsg, RoomWord};
pub use server::{ErrorMsg, HelloAck, IceServer, ServerMsg, TurnConfig, VoiceCard};

fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, SignalFault> {
    serde_json::from_str(text).map_err(|error| match error.classify() {
        // serde's words on data name fields and kinds; they may quote a stranger's value, so they are cut.
        serde_json::error::Category::Data => SignalFault::about(&error.to_string(), SignalFault::InvalidMessage),
        _ => SignalFault::InvalidJson,
    })
}
