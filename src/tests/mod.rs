//! Behaviour tests: cores against each other over a simulated network, on one synthetic clock.

pub mod client;
pub mod net;
pub mod rig;

mod ear;
mod studio;

mod call;
mod checks;
mod corpus;
mod echo;
mod express;
mod floors;
mod hostile;
mod idle;
mod lengths;
mod outside;
mod paths;
mod protocol;
mod relay;
mod restart;
mod resume;
mod rooms;
mod switch_stop;
mod tcp;
mod turn;
