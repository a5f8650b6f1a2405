//! Kernels on plain slices for the flex backend: SIMD units found at run time (AVX-512, AVX2,
//! NEON, or plain numbers), threads of rayon.

#![expect(
    clippy::needless_range_loop,
    reason = "a register tile is indexed by row and vector, beside what lies in memory"
)]

pub mod activation;
pub mod adamw;
pub mod bare;
pub mod buffer;
pub mod gru;
pub mod history;
pub mod linear;
pub mod loss;
pub mod members;
pub mod mlp;
pub mod noise;
pub mod pieces;
pub mod product;
pub mod tensor;

#[cfg(test)]
mod tests;
