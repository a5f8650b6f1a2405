//! A whole GRU sequence as one autodiff node, with backpropagation through time written by hand.
//!
//! Composed tensor operations would leave about 25 nodes per month in the graph, and the backward
//! pass of their slices is quadratic in the number of months. Here the forward pass saves the
//! gates, and the backward pass makes one product for the weight gradient of all months together.
//! With `x` the projected input, `h` the state before, `u = h Wh + bh`, and sigma the logistic
//! function, a month computes
//!
//! ```text
//! r = sigma(x_r + u_r)    z = sigma(x_z + u_z)    n = tanh(x_n + r u_n)    h' = n + z (h - n)
//! ```

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::prelude::Shape;
use burn::tensor::{Slice, Tensor};

/// Runs the recurrence over `projected [T, B, 3H]` (inputs times weights plus bias, gates in the
/// order r, z, n) from the state `start [B, H]`, with `weight [H, 3H]` and `bias [1, 3H]`.
/// Returns the states after each month, `[T, B, H]`.
pub fn gru_sequence(
    projected: Tensor<3>,
    start: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<2>,
) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as GruOps>::gru_sequence(
        projected.into_dispatch(),
        start.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
    ))
}

/// The operation on every backend that we run on.
#[backend_extension(
    Autodiff,
    Flex,
    Cube: cfg(feature = "gpu"),
    Fusion: cfg(feature = "gpu"),
    NdArray: cfg(feature = "ndarray")
)]
pub trait GruOps: Backend {
    #[fusion(default)]
    fn gru_sequence(
        projected: FloatTensor<Self>,
        start: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let mut state = start;
        let mut states = Vec::new();
        for month in 0..projected.shape()[0] {
            let x = month_of::<Self>(&projected, month);
            state = step::<Self>(x, state, weight.clone(), bias.clone()).state;
            states.push(with_month_axis::<Self>(state.clone()));
        }
        Self::float_cat(states, 0)
    }
}

impl GruOps for Flex {}

#[cfg(feature = "gpu")]
impl GruOps for burn_wgpu::CubeBackend {}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
impl GruOps for burn_ndarray::NdArray {}

impl<B: Backend + GruOps, C: CheckpointStrategy> GruOps for Autodiff<B, C> {
    fn gru_sequence(
        projected: FloatTensor<Self>,
        start: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let parents = [projected.node(), start.node(), weight.node(), bias.node()];
        let (projected, start) = (projected.into_primitive(), start.into_primitive());
        let (weight, bias) = (weight.into_primitive(), bias.into_primitive());
        match GruBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::gru_sequence(projected, start, weight, bias))
            }
            OpsKind::Tracked(prepared) => {
                let mut saved = Saved::<B> { months: Vec::new(), weight: weight.clone() };
                let mut state = start;
                let mut states = Vec::new();
                for month in 0..projected.shape()[0] {
                    let x = month_of::<B>(&projected, month);
                    let done = step::<B>(x, state, weight.clone(), bias.clone());
                    state = done.state.clone();
                    states.push(with_month_axis::<B>(state.clone()));
                    saved.months.push(done);
                }
                prepared.finish(saved, B::float_cat(states, 0))
            }
        }
    }
}

#[derive(Debug)]
struct GruBackward;

/// What the backward pass needs of each month.
#[derive(Clone, Debug)]
struct Saved<B: Backend> {
    months: Vec<Step<B>>,
    weight: FloatTensor<B>,
}

/// One month, `[B, H]` each.
#[derive(Clone, Debug)]
struct Step<B: Backend> {
    before: FloatTensor<B>,
    reset: FloatTensor<B>,
    update: FloatTensor<B>,
    candidate: FloatTensor<B>,
    /// u_n, the recurrent part of the candidate before the reset gate.
    recurrent: FloatTensor<B>,
    state: FloatTensor<B>,
}

fn step<B: Backend>(
    x: FloatTensor<B>,
    before: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> Step<B> {
    let hidden = before.shape()[1];
    let gate = |all: &FloatTensor<B>, from: usize, to: usize| {
        B::float_slice(all.clone(), &[full(), range(from * hidden, to * hidden)])
    };
    let u = B::float_add(B::float_matmul(before.clone(), weight), bias);
    let both = B::sigmoid(B::float_add(gate(&x, 0, 2), gate(&u, 0, 2)));
    let (reset, update) = (gate(&both, 0, 1), gate(&both, 1, 2));
    let recurrent = gate(&u, 2, 3);
    let candidate =
        B::float_tanh(B::float_add(gate(&x, 2, 3), B::float_mul(reset.clone(), recurrent.clone())));
    let kept = B::float_mul(update.clone(), B::float_sub(before.clone(), candidate.clone()));
    let state = B::float_add(candidate.clone(), kept);
    Step { before, reset, update, candidate, recurrent, state }
}

impl<B: Backend + GruOps> Backward<B, 4> for GruBackward {
    type State = Saved<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 4>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [projected, start, weight, bias] = ops.parents;
        let out = grads.consume::<B>(&ops.node); // [T, B, H]
        let saved = ops.state;
        let transposed = B::float_transpose(saved.weight.clone());
        let mut later: Option<FloatTensor<B>> = None;
        let (mut d_inputs, mut d_recurrents, mut befores) = (Vec::new(), Vec::new(), Vec::new());
        for (month, step) in saved.months.iter().enumerate().rev() {
            let here = month_of::<B>(&out, month);
            let d_state = match later.take() {
                Some(later) => B::float_add(later, here),
                None => here,
            };
            let (d_input, d_recurrent, d_kept) = step_backward(step, d_state);
            let through = B::float_matmul(d_recurrent.clone(), transposed.clone());
            later = Some(B::float_add(d_kept, through));
            d_inputs.push(with_month_axis::<B>(d_input));
            d_recurrents.push(d_recurrent);
            befores.push(step.before.clone());
        }
        let mut register = |id: NodeId, grad| grads.register::<B>(id, grad);
        if let Some(node) = projected {
            d_inputs.reverse();
            register(node.id, B::float_cat(d_inputs, 0));
        }
        if let (Some(node), Some(grad)) = (start, later) {
            register(node.id, grad);
        }
        if weight.is_some() || bias.is_some() {
            let d_recurrent = B::float_cat(d_recurrents, 0); // [T * B, 3H]
            if let Some(node) = bias {
                register(node.id, B::float_sum_dim(d_recurrent.clone(), 0));
            }
            if let Some(node) = weight {
                let before = B::float_transpose(B::float_cat(befores, 0));
                register(node.id, B::float_matmul(before, d_recurrent));
            }
        }
    }
}

/// Gradients of one month's gates before their activations: of x `[B, 3H]`, of u `[B, 3H]`, and
/// of the state before it as far as it was kept `[B, H]`.
fn step_backward<B: Backend>(
    step: &Step<B>,
    d_state: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let Step { before, reset, update, candidate, recurrent, .. } = step.clone();
    let d_kept = B::float_mul(d_state.clone(), update.clone());
    let d_candidate = B::float_sub(d_state.clone(), d_kept.clone());
    let square = B::float_mul(candidate.clone(), candidate.clone());
    let one_less = B::float_add_scalar(B::float_neg(square), 1.0.into());
    let d_n = B::float_mul(d_candidate, one_less);
    let d_update = B::float_mul(d_state, B::float_sub(before, candidate));
    let d_z = B::sigmoid_backward(update, d_update);
    let d_r = B::sigmoid_backward(reset.clone(), B::float_mul(d_n.clone(), recurrent));
    let d_u_n = B::float_mul(d_n.clone(), reset);
    let d_input = B::float_cat(vec![d_r.clone(), d_z.clone(), d_n], 1);
    let d_recurrent = B::float_cat(vec![d_r, d_z, d_u_n], 1);
    (d_input, d_recurrent, d_kept)
}

fn range(from: usize, to: usize) -> Slice {
    Slice::new(from as isize, Some(to as isize), 1)
}

fn full() -> Slice {
    Slice::new(0, None, 1)
}

/// `[T, B, K]` to the `[B, K]` of one month.
fn month_of<B: Backend>(all: &FloatTensor<B>, month: usize) -> FloatTensor<B> {
    let shape = all.shape();
    let one = B::float_slice(all.clone(), &[range(month, month + 1), full(), full()]);
    B::float_reshape(one, Shape::new([shape[1], shape[2]]))
}

/// `[B, K]` to `[1, B, K]`.
fn with_month_axis<B: Backend>(one: FloatTensor<B>) -> FloatTensor<B> {
    let shape = one.shape();
    B::float_reshape(one, Shape::new([1, shape[0], shape[1]]))
}

#[cfg(test)]
mod tests;
