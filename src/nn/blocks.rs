//! Parts that the networks share: category embeddings and the residual trunk.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor};

use super::Architecture;
use super::ops::join::{Noise, dropout};
use super::ops::linear::{Activation, linear};
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

/// Embeds categories, joins them to the numbers, and passes both through residual blocks.
#[derive(Module, Debug)]
pub struct Trunk {
    embeddings: Vec<Embedding>,
    input: Linear,
    blocks: Vec<Residual>,
    norm: LayerNorm,
}

impl Trunk {
    pub fn new(architecture: &Architecture, device: &Device) -> Self {
        let spec = &architecture.mlp;
        let width_of = |codes: usize| codes.div_ceil(2).min(spec.embedding_max).max(1);
        let embeddings: Vec<Embedding> = architecture
            .categories
            .iter()
            .map(|&codes| EmbeddingConfig::new(codes, width_of(codes)).init(device))
            .collect();
        let embedded: usize = architecture.categories.iter().map(|&codes| width_of(codes)).sum();
        // Without numbers the batch holds one column of zeros.
        let inputs = architecture.numbers.max(1) + embedded;
        Trunk {
            embeddings,
            input: LinearConfig::new(inputs, spec.width).init(device),
            blocks: (0..spec.blocks)
                .map(|_| Residual::new(spec.width, spec.dropout, device))
                .collect(),
            norm: LayerNormConfig::new(spec.width).init(device),
        }
    }

    /// `numbers [B, F]`, `codes [B, C]` to `[B, width]`.
    pub fn forward(
        &self,
        numbers: Tensor<2>,
        codes: Option<Tensor<2, Int>>,
        draws: &mut Draws,
    ) -> Tensor<2> {
        let mut parts = vec![numbers];
        if let Some(codes) = codes {
            let columns = codes.chunk(self.embeddings.len(), 1);
            for (embedding, column) in self.embeddings.iter().zip(columns) {
                let [rows, _] = column.dims();
                let width = embedding.weight.dims()[1];
                parts.push(embedding.forward(column).reshape([rows, width]));
            }
        }
        let joined = Tensor::cat(parts, 1);
        let input = dense(&self.input, joined, Activation::None);
        let hidden = self.blocks.iter().fold(input, |x, block| block.forward(x, draws));
        relu(self.norm.forward(hidden))
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
        let hidden = dense(&self.wide, self.norm.forward(x.clone()), Activation::Relu);
        x + dense(&self.back, dropout(hidden, draws.next(self.dropout)), Activation::None)
    }
}
