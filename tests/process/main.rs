//! The real binary as a process, and clients of our own on loopback: what is heard, what is said, how it starts and ends.

#![expect(clippy::cast_precision_loss, reason = "samples of a test are far fewer than 2^52")]

mod client;
mod heard;
mod http;
mod ice_servers;
mod lifecycle;
mod ports;
mod relay;
mod rooms;
mod server;
mod signalling;
mod sound;
mod tcp;
mod turn;
mod workers;
