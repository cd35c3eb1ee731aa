//! Behaviour tests: cores against each other over a simulated network, on one synthetic clock.

pub mod net;

mod ear;
mod studio;

mod call;
mod echo;
mod hostile;
mod idle;
mod restart;
mod resume;
mod switch_stop;
