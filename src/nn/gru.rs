//! The networks over months. A customer's history is read once and every month of it gets its
//! log-odds in the same pass (many to many); months after a customer's last one are padding, and
//! since the recurrence only looks back they change nothing before them.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Tensor};

use super::Architecture;
use super::blocks::{Draws, Trunk, dense};
use super::ops::gru::{GruWeights, gru_sequence};
use super::ops::history::history;
use super::ops::join::{dropout, join};
use super::ops::linear::Activation;
use crate::config::{Fusion, GruSpec, History};
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

    /// `[B, T, F]` to all states `[B, T, H]`, from a state `[B, H]` or from zero.
    fn forward(&self, x: Tensor<3>, start: Option<Tensor<2>>) -> Tensor<3> {
        let [rows, ..] = x.dims();
        let hidden = self.hidden_weight.dims()[0];
        let start = start.unwrap_or_else(|| Tensor::zeros([rows, hidden], &x.device()));
        let weights = GruWeights {
            input: self.input_weight.val(),
            input_bias: self.input_bias.val().unsqueeze(),
            hidden: self.hidden_weight.val(),
            hidden_bias: self.hidden_bias.val().unsqueeze(),
        };
        gru_sequence(x, start, weights, None)
    }
}

/// Stacked layers with dropout between and behind them.
#[derive(Module, Debug)]
pub struct GruStack {
    pub layers: Vec<GruLayer>,
    dropout: f64,
    /// Whether mean and largest value so far stand beside the last layer's states.
    pooled: bool,
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
            pooled: spec.history == History::Pooled,
        }
    }

    /// Columns of what [`forward`](Self::forward) gives.
    fn width(spec: &GruSpec) -> usize {
        match spec.history {
            History::Last => spec.hidden,
            History::Pooled => 3 * spec.hidden,
        }
    }

    /// Months `[B, T, F]` to the history at each of them, `[B, T, width]`. `starts` are states
    /// before the first month, `[B, H]` of each layer; none for zeros.
    fn forward(&self, months: Tensor<3>, starts: Vec<Tensor<2>>, draws: &mut Draws) -> Tensor<3> {
        let (mut x, mut starts) = (months, starts.into_iter());
        for (at, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x, starts.next());
            // Before dropout, which would favour what it scales up.
            if self.pooled && at + 1 == self.layers.len() {
                x = history(x);
            }
            x = dropout(x, draws.next(self.dropout));
        }
        x
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
            head: LinearConfig::new(GruStack::width(&architecture.gru), architecture.hazards)
                .init(device),
        }
    }

    /// Log-odds `[B, T, K]`.
    pub fn forward(&self, batch: &Batch) -> Tensor<3> {
        let months = batch.months.clone().expect("sequence batches hold months");
        let states = self.stack.forward(months, Vec::new(), &mut Draws::new(batch.noise));
        dense(&self.head, states, Activation::None)
    }
}

/// The static branch joined to the history at every month, then the head. With h the history, s
/// the static branch, and the biases left out:
///
/// ```text
/// concatenate   relu(A h + B s), which is relu(W [h, s])
/// initial       relu(A h), where the states before the first month are tanh(B s)
/// gated         relu(g A h + (1 - g) B s), where g = sigma(C h + D s)
/// ```
#[derive(Module, Debug)]
pub struct HybridNet {
    trunk: Trunk,
    pub stack: GruStack,
    from_state: Linear,
    from_static: Linear,
    /// Only if gated.
    gate: Option<Gate>,
    starts: bool,
    dropout: f64,
    head: Linear,
}

#[derive(Module, Debug)]
struct Gate {
    of_state: Linear,
    of_static: Linear,
}

impl HybridNet {
    pub fn new(architecture: &Architecture, device: &Device) -> Self {
        let (mlp, gru) = (&architecture.mlp, &architecture.gru);
        let (history, width) = (GruStack::width(gru), mlp.width);
        let starts = gru.fusion == Fusion::Initial;
        let from_static = if starts { gru.layers * gru.hidden } else { width };
        let without_bias = |to: usize| LinearConfig::new(width, to).with_bias(false).init(device);
        HybridNet {
            trunk: Trunk::new(architecture, device),
            stack: GruStack::new(architecture, device),
            from_state: LinearConfig::new(history, width).init(device),
            from_static: without_bias(from_static),
            gate: (gru.fusion == Fusion::Gated).then(|| Gate {
                of_state: LinearConfig::new(history, width).init(device),
                of_static: without_bias(width),
            }),
            starts,
            dropout: mlp.dropout,
            head: LinearConfig::new(width, architecture.hazards).init(device),
        }
    }

    /// Log-odds `[B, T, K]`.
    pub fn forward(&self, batch: &Batch) -> Tensor<3> {
        let months = batch.months.clone().expect("sequence batches hold months");
        let mut draws = Draws::new(batch.noise);
        let joined = if self.starts {
            let fixed = self.fixed(batch, &mut draws);
            let starts = dense(&self.from_static, fixed, Activation::None).tanh();
            let starts = starts.chunk(self.stack.layers.len(), 1);
            let states = self.stack.forward(months, starts, &mut draws);
            let states = dense(&self.from_state, states, Activation::Relu);
            dropout(states, draws.next(self.dropout))
        } else {
            let history = self.stack.forward(months, Vec::new(), &mut draws);
            let states = dense(&self.from_state, history.clone(), Activation::None);
            let fixed = self.fixed(batch, &mut draws);
            let from_static = dense(&self.from_static, fixed.clone(), Activation::None);
            match &self.gate {
                None => join(states, from_static, draws.next(self.dropout)),
                Some(gate) => {
                    let of_static: Tensor<3> =
                        dense(&gate.of_static, fixed, Activation::None).unsqueeze_dim(1);
                    let gate = dense(&gate.of_state, history, Activation::None) + of_static;
                    let fixed: Tensor<3> = from_static.unsqueeze_dim(1);
                    let mixed = sigmoid(gate) * (states - fixed.clone()) + fixed;
                    dropout(relu(mixed), draws.next(self.dropout))
                }
            }
        };
        dense(&self.head, joined, Activation::None)
    }

    /// The static branch, `[B, width]`.
    fn fixed(&self, batch: &Batch, draws: &mut Draws) -> Tensor<2> {
        self.trunk.forward(batch.numbers.clone(), batch.codes.clone(), draws)
    }
}

#[cfg(test)]
mod tests;
