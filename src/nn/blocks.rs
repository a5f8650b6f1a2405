//! Parts that the networks share: dense layers, dropout draws and the residual trunk.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor};

use super::Architecture;
use super::inputs::Inputs;
use super::ops::join::{Noise, dropout};
use super::ops::linear::{Activation, linear};
use super::ops::norm::layer_norm;
use crate::tensors::Dice;

/// Hands each dropout of a forward pass a draw of its own.
pub struct Draws {
    /// None outside of training.
    dice: Option<Dice>,
    drawn: u64,
}

impl Draws {
    pub fn new(dice: Option<Dice>) -> Self {
        Draws { dice, drawn: 0 }
    }

    pub fn next(&mut self, share: f64) -> Option<Noise> {
        self.drawn += 1;
        let Dice { seed, first_row } = self.dice?;
        let seed = seed.wrapping_add(self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (share > 0.0).then_some(Noise { share: share as f32, seed, first_row })
    }
}

/// A layer of burn's by our kernel.
pub fn dense<const D: usize>(layer: &Linear, x: Tensor<D>, activation: Activation) -> Tensor<D> {
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    linear(x, layer.weight.val(), bias, activation)
}

/// Joins the columns of a batch and passes them through residual blocks.
#[derive(Module, Debug)]
pub struct Trunk {
    inputs: Inputs,
    input: Linear,
    blocks: Vec<Residual>,
    norm: LayerNorm,
}

impl Trunk {
    pub fn new(architecture: &Architecture, device: &Device) -> Self {
        let shape = &architecture.mlp;
        Trunk {
            inputs: Inputs::new(architecture, device),
            input: LinearConfig::new(Inputs::width(architecture), shape.width).init(device),
            blocks: (0..shape.blocks)
                .map(|_| Residual::new(shape.width, shape.dropout, device))
                .collect(),
            norm: LayerNormConfig::new(shape.width).init(device),
        }
    }

    /// `numbers [B, F]`, `codes [B, C]` to `[B, width]`.
    pub fn forward(
        &self,
        numbers: Tensor<2>,
        codes: Option<Tensor<2, Int>>,
        draws: &mut Draws,
    ) -> Tensor<2> {
        let joined = self.inputs.forward(numbers, codes);
        let input = dense(&self.input, joined, Activation::None);
        let hidden = self.blocks.iter().fold(input, |x, block| block.forward(x, draws));
        relu(layer_norm(&self.norm, hidden))
    }
}

/// x + dropout(W2 relu(W1 norm(x))), the pre-norm residual block of Gorishniy et al. 2021
/// (arXiv:2106.11959) with layer norm in place of batch norm, so that a row's score does not
/// depend on its batch.
#[derive(Module, Debug)]
struct Residual {
    norm: LayerNorm,
    wide: Linear,
    back: Linear,
    dropout: f64,
}

impl Residual {
    fn new(width: usize, dropout: f64, device: &Device) -> Self {
        Residual {
            norm: LayerNormConfig::new(width).init(device),
            wide: LinearConfig::new(width, width).init(device),
            back: LinearConfig::new(width, width).init(device),
            dropout,
        }
    }

    fn forward(&self, x: Tensor<2>, draws: &mut Draws) -> Tensor<2> {
        let hidden = dense(&self.wide, layer_norm(&self.norm, x.clone()), Activation::Relu);
        x + dense(&self.back, dropout(hidden, draws.next(self.dropout)), Activation::None)
    }
}
