//! The network over attributes and trailing-window aggregates of one snapshot: members that share
//! all layers and differ by a scale in front of them and a head behind them (TabM-mini, Gorishniy
//! et al. 2024, arXiv:2410.24210).

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};

use super::Architecture;
use super::blocks::{Draws, dense};
use super::inputs::Inputs;
use super::ops::join::dropout;
use super::ops::linear::Activation;
use super::ops::members::{heads, spread};
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
mod tests {
    use super::WORTH_MIN;
    use crate::config::{GruSpec, MlpShape, ModelKind};
    use crate::nn::{Architecture, Network};
    use crate::seeds::Seeds;
    use burn::tensor::Device;

    #[test]
    fn columns_begin_at_what_they_are_worth() {
        let mlp = MlpShape {
            width: 4,
            members: 3,
            piece_width: 2,
            embedding_max: 2,
            early: true,
            ..MlpShape::default()
        };
        let network = |relevance: &[f32]| {
            let architecture = Architecture {
                kind: ModelKind::Mlp,
                mlp: mlp.clone(),
                gru: GruSpec::default(),
                numbers: 2,
                borders: vec![vec![], vec![0.0, 1.0, 2.0]],
                categories: vec![5],
                relevance: relevance.to_vec(),
                months: 0,
                hazards: 1,
            };
            let network = architecture.init(&Seeds::new(1), &Device::flex());
            let Network::Mlp(network) = network else { unreachable!("asked for") };
            network.scale.weight.val().into_data().try_to_vec::<f32>().expect("floats")
        };
        let signs = network(&[]);
        assert!(signs.iter().all(|sign| sign.abs() == 1.0));
        // First the number with bins, then the plain one, then the category.
        let half = WORTH_MIN + (1.0 - WORTH_MIN) / 2.0;
        let worth = [1.0f32, 1.0, WORTH_MIN, half, half];
        let found = network(&[0.0, 1.0, 0.5]);
        for ((found, sign), worth) in found.iter().zip(&signs).zip(worth.iter().cycle()) {
            assert!((found - sign * worth).abs() < 1e-6, "{found} {sign} {worth}");
        }
    }
}
