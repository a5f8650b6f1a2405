//! A whole GRU sequence as one autodiff node, with backpropagation through time written by hand.
//!
//! Composed tensor operations would leave about 25 nodes per month in the graph, and the backward
//! pass of their slices is quadratic in the number of months. With sigma the logistic function,
//! a month computes
//!
//! ```text
//! i = x Wi + bi    u = h Wh + bh
//! r = sigma(i_r + u_r)    z = sigma(i_z + u_z)    n = tanh(i_n + r u_n)    h' = n + z (h - n)
//! ```
//!
//! On the flex backend the work is done by [`native`](super::native), on GPUs by the kernels of
//! `gpu` up to 128 units, on all others by the tensor primitives of [`primitive`].

#![expect(
    clippy::too_many_arguments,
    reason = "a backend operation takes each of its tensors by itself"
)]

#[cfg(feature = "gpu")]
mod cube;
mod flex;
mod primitive;

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use super::register;

/// Parameters of a layer with F inputs and H units, gates in PyTorch's order r, z, n.
#[derive(Debug, Clone)]
pub struct GruWeights {
    /// Wi `[F, 3H]`.
    pub input: Tensor<2>,
    /// bi `[1, 3H]`.
    pub input_bias: Tensor<2>,
    /// Wh `[H, 3H]`.
    pub hidden: Tensor<2>,
    /// bh `[1, 3H]`.
    pub hidden_bias: Tensor<2>,
}

/// Runs the recurrence over `x [B, T, F]` from the state `start [B, H]`; returns the states after
/// each month, `[B, T, H]`. A month where `mask [B, T]` is 0 (all others are 1) leaves the state
/// as it was, so that the last month of the result is each row's last state.
pub fn gru_sequence(
    x: Tensor<3>,
    start: Tensor<2>,
    weights: GruWeights,
    mask: Option<Tensor<2>>,
) -> Tensor<3> {
    let masking = if mask.is_some() { Masking::ByMonth } else { Masking::Nothing };
    let mask = mask.unwrap_or_else(|| Tensor::ones([1, 1], &start.device().without_autodiff()));
    Tensor::from_dispatch(<Dispatch as GruOps>::gru_sequence(
        x.into_dispatch(),
        start.into_dispatch(),
        weights.input.into_dispatch(),
        weights.input_bias.into_dispatch(),
        weights.hidden.into_dispatch(),
        weights.hidden_bias.into_dispatch(),
        mask.into_dispatch(),
        masking,
    ))
}

/// Whether the mask is one; an operation cannot take a tensor that may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Masking {
    ByMonth,
    Nothing,
}

/// The operation on every backend that we run on.
#[backend_extension(
    Autodiff,
    Flex,
    Cube: cfg(feature = "gpu"),
    NdArray: cfg(feature = "ndarray")
)]
pub trait GruOps: Backend {
    fn gru_sequence(
        x: FloatTensor<Self>,
        start: FloatTensor<Self>,
        input: FloatTensor<Self>,
        input_bias: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        hidden_bias: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        masking: Masking,
    ) -> FloatTensor<Self> {
        let parts = Parts { x, start, input, input_bias, hidden, hidden_bias, mask, masking };
        primitive::forward::<Self>(parts, Keep::Nothing).0
    }
}

/// What a backend computes, below the graph.
pub trait GruKernel: Backend {
    /// The states, and what the backward pass needs if the gates are kept.
    fn gru_forward(parts: Parts<Self>, keep: Keep) -> (FloatTensor<Self>, Option<Saved<Self>>) {
        let (states, saved) = primitive::forward::<Self>(parts, keep);
        (states, Some(Saved::Primitive(saved)))
    }

    fn gru_backward(
        saved: Saved<Self>,
        gradient: FloatTensor<Self>,
        input_gradient: InputGradient,
    ) -> Parts<Self, Option<FloatTensor<Self>>> {
        let Saved::Primitive(saved) = saved else { unreachable!("only flex saves otherwise") };
        primitive::backward::<Self>(saved, gradient, input_gradient)
    }
}

pub use super::native::gru::{InputGradient, Keep};

/// The tensors of a call, or their gradients.
#[derive(Debug, Clone)]
pub struct Parts<B: Backend, T = FloatTensor<B>> {
    pub x: T,
    pub start: T,
    pub input: T,
    pub input_bias: T,
    pub hidden: T,
    pub hidden_bias: T,
    pub mask: FloatTensor<B>,
    pub masking: Masking,
}

/// What the backward pass needs.
#[derive(Debug, Clone)]
pub enum Saved<B: Backend> {
    Primitive(primitive::Saved<B>),
    Native(Box<flex::Saved>),
    #[cfg(feature = "gpu")]
    Kernel(Box<cube::Kept<B>>),
}

impl GruOps for Flex {
    fn gru_sequence(
        x: FloatTensor<Self>,
        start: FloatTensor<Self>,
        input: FloatTensor<Self>,
        input_bias: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        hidden_bias: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        masking: Masking,
    ) -> FloatTensor<Self> {
        let parts = Parts { x, start, input, input_bias, hidden, hidden_bias, mask, masking };
        flex::forward(parts, Keep::Nothing).0
    }
}

#[cfg(feature = "gpu")]
impl GruOps for burn_cubecl::CubeBackend {
    fn gru_sequence(
        x: FloatTensor<Self>,
        start: FloatTensor<Self>,
        input: FloatTensor<Self>,
        input_bias: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        hidden_bias: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        masking: Masking,
    ) -> FloatTensor<Self> {
        cube::states::<Self>(Parts {
            x,
            start,
            input,
            input_bias,
            hidden,
            hidden_bias,
            mask,
            masking,
        })
    }
}

#[cfg(feature = "gpu")]
impl GruOps for burn::backend::fusion::Fusion<burn_cubecl::CubeBackend> {
    fn gru_sequence(
        x: FloatTensor<Self>,
        start: FloatTensor<Self>,
        input: FloatTensor<Self>,
        input_bias: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        hidden_bias: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        masking: Masking,
    ) -> FloatTensor<Self> {
        cube::states::<Self>(Parts {
            x,
            start,
            input,
            input_bias,
            hidden,
            hidden_bias,
            mask,
            masking,
        })
    }
}

impl GruKernel for Flex {
    fn gru_forward(parts: Parts<Self>, keep: Keep) -> (FloatTensor<Self>, Option<Saved<Self>>) {
        let (states, saved) = flex::forward(parts, keep);
        (states, saved.map(|saved| Saved::Native(Box::new(saved))))
    }

    fn gru_backward(
        saved: Saved<Self>,
        gradient: FloatTensor<Self>,
        input_gradient: InputGradient,
    ) -> Parts<Self, Option<FloatTensor<Self>>> {
        let Saved::Native(saved) = saved else { unreachable!("flex saves so") };
        flex::backward(*saved, gradient, input_gradient)
    }
}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
impl GruOps for burn_ndarray::NdArray {}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
impl GruKernel for burn_ndarray::NdArray {}

impl<B: GruKernel + GruOps, C: CheckpointStrategy> GruOps for Autodiff<B, C> {
    fn gru_sequence(
        x: FloatTensor<Self>,
        start: FloatTensor<Self>,
        input: FloatTensor<Self>,
        input_bias: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        hidden_bias: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        masking: Masking,
    ) -> FloatTensor<Self> {
        let parents =
            [&x, &start, &input, &input_bias, &hidden, &hidden_bias].map(|tensor| tensor.node());
        let parts = Parts {
            x: x.into_primitive(),
            start: start.into_primitive(),
            input: input.into_primitive(),
            input_bias: input_bias.into_primitive(),
            hidden: hidden.into_primitive(),
            hidden_bias: hidden_bias.into_primitive(),
            mask: mask.into_primitive(),
            masking,
        };
        match GruBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::UnTracked(prepared) => prepared.finish(B::gru_forward(parts, Keep::Nothing).0),
            OpsKind::Tracked(prepared) => {
                let (states, saved) = B::gru_forward(parts, Keep::Gates);
                prepared.finish(saved.expect("the gates are kept"), states)
            }
        }
    }
}

#[derive(Debug)]
struct GruBackward;

impl<B: GruKernel> Backward<B, 6> for GruBackward {
    type State = Saved<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 6>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let parents = ops.parents.map(|node| node.map(|node| node.id));
        let gradient = grads.consume::<B>(&ops.node); // [B, T, H]
        let input_gradient = match parents[0] {
            Some(_) => InputGradient::Wanted,
            None => InputGradient::Unused,
        };
        let found = B::gru_backward(ops.state, gradient, input_gradient);
        let Parts { x, start, input, input_bias, hidden, hidden_bias, .. } = found;
        register::<B, _>(grads, parents, [x, start, input, input_bias, hidden, hidden_bias]);
    }
}

#[cfg(test)]
mod tests;
