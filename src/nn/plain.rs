//! Dense layers with relu between them, the network that speed is compared on.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::blocks::dense;
use super::init;
use super::ops::linear::Activation;
use crate::seeds::Seeds;

#[derive(Module, Debug)]
pub struct PlainMlp {
    layers: Vec<Linear>,
    head: Linear,
}

impl PlainMlp {
    /// `layers` layers of `width`, then one log-odds.
    pub fn new(
        (inputs, width, layers): (usize, usize, usize),
        seeds: &Seeds,
        device: &Device,
    ) -> Self {
        let from = |layer: usize| if layer == 0 { inputs } else { width };
        let network = PlainMlp {
            layers: (0..layers).map(|l| LinearConfig::new(from(l), width).init(device)).collect(),
            head: LinearConfig::new(from(layers), 1).init(device),
        };
        init::randomise(network, seeds)
    }

    /// `[B, F]` to log-odds `[B, 1, 1]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<3> {
        let through = |x, layer| dense(layer, x, Activation::Relu);
        let hidden = self.layers.iter().fold(x, through);
        dense(&self.head, hidden, Activation::None).unsqueeze_dim(2)
    }
}
