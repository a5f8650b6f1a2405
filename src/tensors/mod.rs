//! From encoded blocks to device-resident tensors, and from there to batches of constant shape.

pub mod device;
mod prepare;
mod resident;

pub use device::{Chosen, Want, choose, choose_all};
pub use prepare::{Examples, Prepared, Targets, count_batches};
pub use resident::{Batch, Bucket, Dice, Resident};
