//! The network over attributes and trailing-window aggregates of one snapshot: members that share
//! all layers and differ by a scale in front of them and a head behind them (TabM-mini, Gorishniy
//! et al. 2024, arXiv:2410.24210).

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};

use super::Architecture;
use super::blocks::{Draws, dense};
use super::inputs::{Inputs, values};
use super::ops::join::dropout;
use super::ops::linear::Activation;
use super::ops::members::{heads, spread};
use super::ops::native::linear::{Layer, Scale};
use super::ops::native::mlp as native;
use crate::tensors::Batch;

/// What is left of a column in which trees find nothing; a network may.
const WORTH_MIN: f32 = 0.05;

#[derive(Module, Debug)]
pub struct MlpNet {
    inputs: Inputs,
    layers: Vec<Linear>,
    scale: MemberScale,
    head: MemberHeads,
    /// Whether the members part before the first layer, or behind it.
    early: bool,
    dropout: f64,
}

/// What each member multiplies its inputs with.
#[derive(Module, Debug)]
struct MemberScale {
    /// `[k, W]`.
    weight: Param<Tensor<2>>,
}

/// A linear layer of each member's own.
#[derive(Module, Debug)]
struct MemberHeads {
    /// `[k K, W]`.
    weight: Param<Tensor<2>>,
    /// `[k K]`.
    bias: Param<Tensor<1>>,
}

impl MlpNet {
    pub fn new(architecture: &Architecture, device: &Device) -> Self {
        let shape = &architecture.mlp;
        let inputs = Inputs::width(architecture);
        let from = |layer: usize| if layer == 0 { inputs } else { shape.width };
        let parted = if shape.early { inputs } else { shape.width };
        let outputs = shape.members * architecture.hazards;
        let matrix = |shape: [usize; 2]| Param::from_tensor(Tensor::zeros(shape, device));
        MlpNet {
            inputs: Inputs::new(architecture, device),
            layers: (0..shape.blocks)
                .map(|layer| LinearConfig::new(from(layer), shape.width).init(device))
                .collect(),
            scale: MemberScale { weight: matrix([shape.members, parted]) },
            head: MemberHeads {
                weight: matrix([outputs, shape.width]),
                bias: Param::from_tensor(Tensor::zeros([outputs], device)),
            },
            early: shape.early,
            dropout: shape.dropout,
        }
    }

    /// Shrinks each column of the first layer, of the given relevance, to what it is worth, if the
    /// members part there; training may change it. Where many columns show nothing they would
    /// else be learned by heart before those that do are learned (docs/log.md, 2026-11-27).
    pub fn favour(mut self, relevance: &[f32]) -> Self {
        let [members, width] = self.scale.weight.dims();
        if self.early && width == relevance.len() {
            let worth: Vec<f32> =
                relevance.iter().map(|r| WORTH_MIN + (1.0 - WORTH_MIN) * r).collect();
            self.scale.weight = self.scale.weight.map(|signs| {
                let tracked = signs.is_require_grad();
                let worth = TensorData::new(worth.repeat(members), [members, width]);
                let worth = Tensor::from_data(worth, &signs.device());
                (signs.detach() * worth).detach().set_require_grad(tracked)
            });
        }
        self
    }

    /// The same network on plain slices, which predicts a row at a time on a CPU; `numbers` as in
    /// its architecture. Its outputs are those of [`MlpNet::forward`] without dropout, to the bit.
    pub fn native(&self, numbers: usize) -> native::Mlp {
        let layer = |layer: &Linear| {
            let weight = layer.weight.val();
            let [inputs, outputs] = weight.dims();
            let bias = match &layer.bias {
                Some(bias) => values(bias.val()),
                None => vec![0.0; outputs],
            };
            let weight = values(weight);
            Layer::new((inputs, outputs), weight.into(), bias.into(), Activation::Relu)
        };
        native::Mlp {
            inputs: self.inputs.native(numbers),
            layers: self.layers.iter().map(layer).collect(),
            members: native::Members {
                scale: Scale::new(self.scale.weight.dims()[0], &values(self.scale.weight.val())),
                early: self.early,
                weight: values(self.head.weight.val()),
                bias: values(self.head.bias.val()),
            },
        }
    }

    /// Log-odds `[B, 1, k K]`: output m K + j is member m's of month j.
    pub fn forward(&self, batch: &Batch) -> Tensor<3> {
        let mut draws = Draws::new(batch.noise);
        let mut x = self.inputs.forward(batch.numbers.clone(), batch.codes.clone());
        let scale = &self.scale.weight;
        let members = scale.dims()[0];
        if self.early {
            x = spread(x, scale.val());
        }
        for (at, layer) in self.layers.iter().enumerate() {
            x = dense(layer, x, Activation::Relu);
            if at == 0 && !self.early {
                x = spread(x, scale.val());
            }
            x = dropout(x, draws.next(self.dropout).map(|noise| noise.of_members(members)));
        }
        let head = &self.head;
        heads(x, head.weight.val(), head.bias.val(), members).unsqueeze_dim(1)
    }
}

#[cfg(test)]
mod tests;
