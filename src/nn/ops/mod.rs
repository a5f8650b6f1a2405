//! Operations of our own, each one node of the autodiff graph.

pub mod gru;
pub mod linear;
mod native;
