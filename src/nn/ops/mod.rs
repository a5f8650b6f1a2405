//! Operations that the networks need and the tensor library lacks.

pub mod gru;
