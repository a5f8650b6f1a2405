//! The network over attributes and trailing-window aggregates of one snapshot.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::Architecture;
use super::blocks::{Draws, Trunk, dense};
use super::ops::linear::Activation;
use crate::tensors::Batch;

#[derive(Module, Debug)]
pub struct MlpNet {
    trunk: Trunk,
    head: Linear,
}

impl MlpNet {
    pub fn new(architecture: &Architecture, device: &Device) -> Self {
        MlpNet {
            trunk: Trunk::new(architecture, device),
            head: LinearConfig::new(architecture.mlp.width, architecture.hazards).init(device),
        }
    }

    /// Log-odds `[B, 1, K]`.
    pub fn forward(&self, batch: &Batch) -> Tensor<3> {
        let hidden = self.trunk.forward(
            batch.numbers.clone(),
            batch.codes.clone(),
            &mut Draws::new(batch.noise),
        );
        dense(&self.head, hidden, Activation::None).unsqueeze_dim(1)
    }
}
