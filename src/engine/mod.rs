//! Floor 1, sans-IO machines: session core, demultiplexer, playout, the client's door, access. `now` comes last; effects go out.

pub mod access;
pub mod attempts;
pub mod caller;
pub mod credentials;
pub(crate) mod crypto;
pub mod deadline;
pub mod demux;
pub mod door;
pub mod echo;
pub mod error;
mod express;
pub mod guests;
pub mod host;
pub mod ice_servers;
pub mod joins;
mod leg;
pub mod load;
pub mod neighbours;
pub mod playout;
pub mod providers;
pub mod reflexive;
pub mod relay;
pub mod session;
mod srtp;
pub mod stream;
pub mod turn;
