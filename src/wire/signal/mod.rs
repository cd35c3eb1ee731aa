//! The words of `GET /ws`: one JSON object a text frame, tagged by `type`. Field names are a contract with clients that we did not write.

mod client;
mod fault;
mod server;

pub use client::{CandidateInit, ClientMsg, Discarded, Hello, Offer, OfferStyle, Prompt, SetImage, Speak, Start};
pub use fault::SignalFault;
pub use server::{ErrorMsg, HelloAck, IceServer, ServerMsg, TurnConfig, VoiceCard};
