//! Floor 2, the world: actors, sockets, threads, HTTP, WebSocket, the load client and the one clock. It decides nothing of a protocol.

pub mod addresses;
pub mod audio;
pub mod banner;
pub mod capacity;
pub mod clock;
pub mod gate;
pub mod http;
pub mod hub;
pub mod limits;
pub mod load;
pub mod metrics;
pub mod outbox;
pub mod post;
pub mod providers;
pub mod reflexive;
pub mod relay;
pub mod rtp_ports;
pub mod seat;
pub mod server;
pub mod session;
pub mod tcp;
pub mod tls;
pub mod turn;
pub mod udp;
pub mod worker;
pub mod ws;
