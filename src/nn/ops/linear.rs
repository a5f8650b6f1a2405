//! A dense layer with its activation as one autodiff node: y = act(x W + b).
//!
//! On the flex backend and on GPUs bias and activation cost no pass over memory of their own; on
//! all others the layer is three tensor primitives.

#[cfg(feature = "gpu")]
mod cube;

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

pub use super::native::linear::Activation;
use super::native::linear::{self as native, Shape, Upstream};
use super::native::tensor::{numbers, tensor};
use super::register;

/// `x [.., K]`, `weight [K, N]`, `bias [N]` to `[.., N]`.
pub fn linear<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    activation: Activation,
) -> Tensor<D> {
    let mut shape = x.dims();
    let [inputs, outputs] = weight.dims();
    shape[D - 1] = outputs;
    let bias = bias.unwrap_or_else(|| Tensor::zeros([outputs], &x.device().without_autodiff()));
    // A reshape is a node of the graph too, and takes as long as a small layer.
    let rows =
        if D == 2 { x.into_dispatch() } else { x.reshape([-1, inputs as isize]).into_dispatch() };
    let y = <Dispatch as LinearOps>::dense(
        rows,
        weight.into_dispatch(),
        bias.into_dispatch(),
        activation,
    );
    match D {
        2 => Tensor::from_dispatch(y),
        _ => Tensor::<2>::from_dispatch(y).reshape(shape),
    }
}

/// The operation on every backend that we run on.
#[backend_extension(
    Autodiff,
    Flex,
    Cube: cfg(feature = "gpu"),
    Fusion: cfg(feature = "gpu"),
    NdArray: cfg(feature = "ndarray")
)]
pub trait LinearOps: Backend {
    /// `x [M, K]`, `weight [K, N]`, `bias [N]` to `[M, N]`.
    #[fusion(dtype = x, shape = with_outputs(x, weight))]
    fn dense(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let outputs = weight.shape()[1];
        let bias = Self::float_reshape(bias, [1, outputs].into());
        let sum = Self::float_add(Self::float_matmul(x, weight), bias);
        match activation {
            Activation::None => sum,
            Activation::Relu => Self::relu(sum),
        }
    }
}

#[cfg(feature = "gpu")]
fn with_outputs(x: &burn::prelude::Shape, weight: &burn::prelude::Shape) -> burn::prelude::Shape {
    [x[0], weight[1]].into()
}

/// The backward pass of a backend.
pub trait LinearKernel: LinearOps {
    /// Gradients by x (if wanted), W and b.
    fn linear_backward(
        saved: Saved<Self>,
        gradient: FloatTensor<Self>,
        with_x: bool,
    ) -> (Option<FloatTensor<Self>>, FloatTensor<Self>, FloatTensor<Self>) {
        let Saved { x, weight, y, activation } = saved;
        let d_z = match activation {
            Activation::None => gradient,
            Activation::Relu => Self::relu_backward(y, gradient),
        };
        let d_x = with_x.then(|| Self::float_matmul(d_z.clone(), Self::float_transpose(weight)));
        let d_weight = Self::float_matmul(Self::float_transpose(x), d_z.clone());
        let outputs = d_z.shape()[1];
        let d_bias = Self::float_reshape(Self::float_sum_dim(d_z, 0), [outputs].into());
        (d_x, d_weight, d_bias)
    }
}

/// What the backward pass needs.
#[derive(Debug, Clone)]
pub struct Saved<B: Backend> {
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    y: FloatTensor<B>,
    activation: Activation,
}

type Flexible = FloatTensor<Flex>;

impl LinearOps for Flex {
    fn dense(x: Flexible, weight: Flexible, bias: Flexible, activation: Activation) -> Flexible {
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        let shape = shape(&x, &weight);
        let y = native::forward(shape, numbers(&x), numbers(&weight), numbers(&bias), activation);
        tensor(y, [shape.rows, shape.outputs])
    }
}

impl LinearKernel for Flex {
    fn linear_backward(
        saved: Saved<Self>,
        gradient: Flexible,
        with_x: bool,
    ) -> (Option<Flexible>, Flexible, Flexible) {
        let Saved { x, weight, y, activation } = saved;
        // The gradient is overwritten, unless somebody else holds it: then this copies.
        let [x, weight, mut gradient] = [x, weight, gradient].map(|tensor| tensor.to_contiguous());
        let shape = shape(&x, &weight);
        let up = Upstream { x: numbers(&x), weight: numbers(&weight), y: numbers(&y), activation };
        let found = native::backward(shape, &up, gradient.storage_mut(), with_x);
        let Shape { rows, inputs, outputs } = shape;
        (
            found.x.map(|d| tensor(d, [rows, inputs])),
            tensor(found.weight, [inputs, outputs]),
            tensor(found.bias, [outputs]),
        )
    }
}

fn shape(x: &Flexible, weight: &Flexible) -> Shape {
    let (x, weight) = (x.shape(), weight.shape());
    Shape { rows: x[0], inputs: x[1], outputs: weight[1] }
}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
impl LinearOps for burn_ndarray::NdArray {}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
impl LinearKernel for burn_ndarray::NdArray {}

impl<B: LinearKernel, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
    fn dense(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let parents = [&x, &weight, &bias].map(|tensor| tensor.node());
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let bias = bias.into_primitive();
        match LinearBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::UnTracked(prepared) => prepared.finish(B::dense(x, weight, bias, activation)),
            OpsKind::Tracked(prepared) => {
                let y = B::dense(x.clone(), weight.clone(), bias, activation);
                prepared.finish(Saved { x, weight, y: y.clone(), activation }, y)
            }
        }
    }
}

#[derive(Debug)]
struct LinearBackward;

impl<B: LinearKernel> Backward<B, 3> for LinearBackward {
    type State = Saved<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let wants_x = ops.parents[0].is_some();
        let (d_x, d_weight, d_bias) = B::linear_backward(ops.state, gradient, wants_x);
        let parents = ops.parents.map(|node| node.map(|node| node.id));
        register::<B, _>(grads, parents, [d_x, Some(d_weight), Some(d_bias)]);
    }
}

#[cfg(test)]
mod tests;
