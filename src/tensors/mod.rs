//! From encoded blocks to device-resident tensors, and from there to batches of constant shape.

pub mod device;
mod resident;

pub use device::{Chosen, Want, choose};
pub use resident::{Batch, Bucket, Examples, Resident};
