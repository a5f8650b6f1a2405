//! The networks over months. A customer's history is read once and every month of it gets its
//! log-odds in the same pass (many to many); months after a customer's last one are padding, and
//! since the recurrence only looks back they change nothing before them.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::Architecture;
use super::blocks::{Draws, Trunk, dense};
use super::ops::gru::{GruWeights, gru_sequence};
use super::ops::join::{dropout, join};
use super::ops::linear::Activation;
use crate::tensors::Batch;

/// A gated recurrent unit (Cho et al. 2014), in the variant of cuDNN and PyTorch: the reset gate
/// is applied after the recurrent product. Gates are packed in PyTorch's order r, z, n.
#[derive(Module, Debug)]
pub struct GruLayer {
    /// `[F, 3H]`.
    pub input_weight: Param<Tensor<2>>,
    /// `[3H]`.
    pub input_bias: Param<Tensor<1>>,
    /// `[H, 3H]`.
    pub hidden_weight: Param<Tensor<2>>,
    /// `[3H]`.
    pub hidden_bias: Param<Tensor<1>>,
}

impl GruLayer {
    fn new(inputs: usize, hidden: usize, device: &Device) -> Self {
        GruLayer {
            input_weight: Param::from_tensor(Tensor::zeros([inputs, 3 * hidden], device)),
            input_bias: Param::from_tensor(Tensor::zeros([3 * hidden], device)),
            hidden_weight: Param::from_tensor(Tensor::zeros([hidden, 3 * hidden], device)),
            hidden_bias: Param::from_tensor(Tensor::zeros([3 * hidden], device)),
        }
    }

    /// `[B, T, F]` to all states `[B, T, H]`, from a zero state.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [rows, ..] = x.dims();
        let hidden = self.hidden_weight.dims()[0];
        let start = Tensor::zeros([rows, hidden], &x.device());
        let weights = GruWeights {
            input: self.input_weight.val(),
            input_bias: self.input_bias.val().unsqueeze(),
            hidden: self.hidden_weight.val(),
            hidden_bias: self.hidden_bias.val().unsqueeze(),
        };
        gru_sequence(x, start, weights, None)
    }
}

/// Stacked layers with dropout between them.
#[derive(Module, Debug)]
pub struct GruStack {
    pub layers: Vec<GruLayer>,
    dropout: f64,
}

impl GruStack {
    fn new(architecture: &Architecture, device: &Device) -> Self {
        let spec = &architecture.gru;
        let inputs = |layer: usize| if layer == 0 { architecture.months } else { spec.hidden };
        GruStack {
            layers: (0..spec.layers)
                .map(|l| GruLayer::new(inputs(l), spec.hidden, device))
                .collect(),
            dropout: spec.dropout,
        }
    }

    /// Months `[B, T, F]` to states `[B, T, H]`.
    fn forward(&self, months: Tensor<3>, draws: &mut Draws) -> Tensor<3> {
        let through = |x, layer: &GruLayer| dropout(layer.forward(x), draws.next(self.dropout));
        self.layers.iter().fold(months, through)
    }
}

/// Monthly activity alone.
#[derive(Module, Debug)]
pub struct GruNet {
    pub stack: GruStack,
    head: Linear,
}

impl GruNet {
    pub fn new(architecture: &Architecture, device: &Device) -> Self {
        GruNet {
            stack: GruStack::new(architecture, device),
            head: LinearConfig::new(architecture.gru.hidden, architecture.hazards).init(device),
        }
    }

    /// Log-odds `[B, T, K]`.
    pub fn forward(&self, batch: &Batch) -> Tensor<3> {
        let months = batch.months.clone().expect("sequence batches hold months");
        let states = self.stack.forward(months, &mut Draws::new(batch.noise));
        dense(&self.head, states, Activation::None)
    }
}

/// The static branch joined to the recurrent state at every month:
/// relu(A state + B attributes), then the head.
#[derive(Module, Debug)]
pub struct HybridNet {
    trunk: Trunk,
    pub stack: GruStack,
    from_state: Linear,
    from_static: Linear,
    dropout: f64,
    head: Linear,
}

impl HybridNet {
    pub fn new(architecture: &Architecture, device: &Device) -> Self {
        let (mlp, gru) = (&architecture.mlp, &architecture.gru);
        HybridNet {
            trunk: Trunk::new(architecture, device),
            stack: GruStack::new(architecture, device),
            from_state: LinearConfig::new(gru.hidden, mlp.width).init(device),
            from_static: LinearConfig::new(mlp.width, mlp.width).with_bias(false).init(device),
            dropout: mlp.dropout,
            head: LinearConfig::new(mlp.width, architecture.hazards).init(device),
        }
    }

    /// Log-odds `[B, T, K]`.
    pub fn forward(&self, batch: &Batch) -> Tensor<3> {
        let months = batch.months.clone().expect("sequence batches hold months");
        let mut draws = Draws::new(batch.noise);
        let states = self.stack.forward(months, &mut draws);
        let states = dense(&self.from_state, states, Activation::None);
        let fixed = self.trunk.forward(batch.numbers.clone(), batch.codes.clone(), &mut draws);
        let fixed = dense(&self.from_static, fixed, Activation::None);
        let joined = join(states, fixed, draws.next(self.dropout));
        dense(&self.head, joined, Activation::None)
    }
}
