//! Floor 1: sound without network or clock. It reads no clock, opens no socket and starts no thread; `now` is passed in last.
//!
//! Sound flows one way:
//! - [`voice`] says what a voice is, [`voices`] lists the ones there are;
//! - [`generator`] renders the live voices into rings, on the real-time thread;
//! - [`ring`] carries whole blocks from there to the encoder;
//! - [`station`] knows who is live, and makes one [`AudioTurn`](crate::wire::media::AudioTurn) every 20 ms by means of [`opus`];
//! - [`pace`] says when each turn is due;
//! - [`counters`] counts what happened.

pub mod counters;
pub mod error;
pub mod generator;
pub mod opus;
pub mod pace;
pub mod ring;
pub mod station;
pub mod voice;
pub mod voices;

#[cfg(test)]
mod ear;

pub use error::AudioError;
