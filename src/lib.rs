//! voxcast streams generated audio to browsers over WebRTC. This page is its architecture.
//!
//! A session is a str0m sans-IO WebRTC core and an actix actor for what its client says. Media goes straight to the core, over a shared
//! UDP and TCP port, with a lock-free rtrb ring between a real-time audio generator thread and Opus packetization.
//!
//! ```text
//!  generator thread (real time)        encoder thread                      media workers: an arbiter (thread) per core
//!  voices ──rtrb ring──▶ 20 ms blocks ─▶ Opus ─▶ shared frames ─▶ Worker ──────▶ Seat ──────▶ SessionCore ─▶ Outbox
//!    one ring per live voice             one encode per voice     (fan-out)  (one per peer)   (str0m)         │ sendmmsg
//!                                                                               ▲    ▲                        ▼
//!  browser ◀── WebSocket ── Ws actor (HTTP worker) ── messages ─▶ Session actor ┘    │       shared UDP port, or TCP
//!  browser ── UDP datagram or TCP frame ────▶ Demux (class, ufrag, address) ─────────┘
//! ```
//!
//! # Floors
//!
//! Imports point down only, and siblings do not meet; `src/tests/floors.rs` holds this page to its word.
//!
//! | folder | floor | what |
//! |---|---|---|
//! | `wire` | 0 | words and bytes: messages, ids, datagram classes, STUN peek, TCP framing, SDP text, media time |
//! | `engine` | 1 | sans-IO machines: session core, demultiplexer, playout, the client's door, rooms, access |
//! | `audio` | 1 | sound without network or clock: voices, generator, ring, pace, Opus |
//! | `config.rs`, `logging.rs` | 1 | the operator's words, checked; what may be written down |
//! | `drive` | 2 | actors, sockets, threads, HTTP, WebSocket, the load client, the one clock |
//! | `main.rs` | 3 | reads the configuration, runs, waits for the signal |
//!
//! Nothing below `drive` names actix, tokio or a socket, and nothing there reads a clock: `now` is passed in, last. `engine`
//! and `audio` do not know each other; they meet in `wire` (an [`AudioTurn`](wire::media::AudioTurn)) and in `drive`.
//!
//! # Rooms
//!
//! Browsers that meet in a room send their media to each other; only their words come here. [`Rooms`](engine::room::Rooms) knows who is in which room
//! and who may send whom what; one actor owns it, on the thread of the WebSockets.
//!
//! # The law of the session core
//!
//! str0m wants one mutation, then a drain to its next timeout. [`SessionCore::handle`](engine::session::SessionCore::handle)
//! lends the core to a [`Drain`](engine::session::Drain): until it has run dry nothing else can be put in.
//! One packet of audio between two of str0m's deadlines is the exception: it brings forth nothing but itself, and its drain ends there.
//!
//! # Workers
//!
//! A session lives on one worker for life, and the first character of its ICE ufrag names that worker. All workers bind the same
//! addresses, so the kernel may hand a peer's datagrams to any of them: what is none of its own, a worker forwards once, by what
//! [`Neighbours`](engine::neighbours::Neighbours) has been told. Heavy steps of joins wait in a
//! [`JoinQueue`](engine::joins::JoinQueue), and [`Load`](engine::load::Load) decides when a worker takes nobody in any more.
#![forbid(unsafe_code)]

pub mod wire;

pub mod audio;
pub mod config;
pub mod engine;
pub mod logging;

pub mod drive;

#[cfg(test)]
mod tests;
