//! The places where dropout acts: alone, and where the static branch meets the recurrent states.
//! Each is one autodiff node and, on the flex backend, one pass over memory.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
#[cfg(feature = "gpu")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{Device, FloatTensor};
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::prelude::Shape;
use burn::tensor::{Distribution, FloatDType, Tensor};

use super::native::noise;
pub use super::native::noise::Noise;
use super::native::tensor::{numbers, tensor};
use super::register;

/// Sets a share of x to zero and scales the rest (Srivastava et al. 2014); None leaves x alone.
pub fn dropout<const D: usize>(x: Tensor<D>, noise: Option<Noise>) -> Tensor<D> {
    let Some(noise) = noise else { return x };
    let shape = x.dims();
    let rows = x.reshape([shape[0] as i64, -1]);
    let out = <Dispatch as JoinOps>::dropout(rows.into_dispatch(), noise);
    Tensor::<2>::from_dispatch(out).reshape(shape)
}

/// relu(states + fixed) with dropout: `states [B, T, W]`, `fixed [B, W]` to `[B, T, W]`.
pub fn join(states: Tensor<3>, fixed: Tensor<2>, noise: Option<Noise>) -> Tensor<3> {
    let (states, fixed) = (states.into_dispatch(), fixed.into_dispatch());
    Tensor::from_dispatch(<Dispatch as JoinOps>::join(states, fixed, noise))
}

/// The operations on every backend that we run on.
#[backend_extension(
    Autodiff,
    Flex,
    Cube: cfg(feature = "gpu"),
    Fusion: cfg(feature = "gpu"),
    NdArray: cfg(feature = "ndarray")
)]
pub trait JoinOps: Backend {
    /// `[B, N]`.
    #[fusion(default)]
    fn dropout(x: FloatTensor<Self>, noise: Noise) -> FloatTensor<Self> {
        let factors = factors::<Self>(&x, noise);
        Self::float_mul(x, factors)
    }

    #[fusion(default)]
    fn join(
        states: FloatTensor<Self>,
        fixed: FloatTensor<Self>,
        noise: Option<Noise>,
    ) -> FloatTensor<Self> {
        let shape = fixed.shape();
        let fixed = Self::float_reshape(fixed, Shape::new([shape[0], 1, shape[1]]));
        let sum = Self::relu(Self::float_add(states, fixed));
        match noise {
            Some(noise) => {
                let factors = factors::<Self>(&sum, noise);
                Self::float_mul(sum, factors)
            }
            None => sum,
        }
    }
}

/// Backward passes of a backend.
pub trait JoinKernel: JoinOps {
    /// The result, and what the backward pass needs.
    fn dropout_forward(x: FloatTensor<Self>, noise: Noise) -> (FloatTensor<Self>, Mask<Self>) {
        let factors = factors::<Self>(&x, noise);
        (Self::float_mul(x, factors.clone()), Mask::Stored(factors))
    }

    fn dropout_backward(mask: Mask<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let Mask::Stored(factors) = mask else { unreachable!("only flex draws anew") };
        Self::float_mul(gradient, factors)
    }

    /// Gradients by states and fixed, given the result y.
    fn join_backward(
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        noise: Option<Noise>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let shape = y.shape();
        let scale = noise.map_or(1.0, |noise| noise.scale());
        let passed = Self::relu_backward(y, Self::float_mul_scalar(gradient, scale.into()));
        let summed = Self::float_sum_dim(passed.clone(), 1);
        (passed, Self::float_reshape(summed, Shape::new([shape[0], shape[2]])))
    }
}

/// The factors of a dropout.
#[derive(Debug, Clone)]
pub enum Mask<B: Backend> {
    Stored(FloatTensor<B>),
    Drawn(Noise),
}

/// 0 or the scale, like x, from the backend's own generator.
fn factors<B: Backend>(x: &FloatTensor<B>, noise: Noise) -> FloatTensor<B> {
    let device: Device<B> = x.device();
    let kept = Distribution::Bernoulli(1.0 - f64::from(noise.share));
    let drawn = B::float_random(x.shape(), kept, &device, FloatDType::F32);
    B::float_mul_scalar(drawn, noise.scale().into())
}

type Flexible = FloatTensor<Flex>;

impl JoinOps for Flex {
    fn dropout(x: Flexible, noise: Noise) -> Flexible {
        let (x, shape) = (x.to_contiguous(), x.shape());
        tensor(noise::dropout(noise, shape[1], numbers(&x)), [shape[0], shape[1]])
    }

    fn join(states: Flexible, fixed: Flexible, noise: Option<Noise>) -> Flexible {
        let shape = states.shape();
        let [states, fixed] = [states, fixed].map(|tensor| tensor.to_contiguous());
        let size = (shape[1], shape[2]);
        let y = noise::join(size, numbers(&states), numbers(&fixed), noise);
        tensor(y, [shape[0], shape[1], shape[2]])
    }
}

impl JoinKernel for Flex {
    fn dropout_forward(x: Flexible, noise: Noise) -> (Flexible, Mask<Self>) {
        (Self::dropout(x, noise), Mask::Drawn(noise))
    }

    fn dropout_backward(mask: Mask<Self>, gradient: Flexible) -> Flexible {
        let Mask::Drawn(noise) = mask else { unreachable!("flex stores no mask") };
        Self::dropout(gradient, noise)
    }

    fn join_backward(
        y: Flexible,
        gradient: Flexible,
        noise: Option<Noise>,
    ) -> (Flexible, Flexible) {
        let shape = y.shape();
        let gradient = gradient.to_contiguous();
        let size = (shape[1], shape[2]);
        let (states, fixed) = noise::join_backward(size, numbers(&y), numbers(&gradient), noise);
        (tensor(states, [shape[0], shape[1], shape[2]]), tensor(fixed, [shape[0], shape[2]]))
    }
}

by_primitives!(JoinOps);

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
impl JoinKernel for burn_ndarray::NdArray {}

/// A backward pass as an operation that burn's fusion takes as it is.
#[cfg(feature = "gpu")]
#[backend_extension(Cube, Fusion)]
pub trait JoinGradients: Backend {
    #[fusion(meta = |y, _gradient, _scale| {
        let fixed = Shape::new([y.shape[0], y.shape[2]]);
        (y.clone(), TensorSpec::new(fixed, y.dtype))
    })]
    fn join_gradients(
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        scale: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

#[cfg(feature = "gpu")]
mod cube {
    use burn::backend::fusion::Fusion;
    use burn::backend::tensor::FloatTensor;
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;
    use burn_cubecl::tensor::CubeTensor;

    use super::{JoinGradients, JoinKernel, Noise};
    use crate::nn::ops::gpu::join;

    impl JoinGradients for CubeBackend {
        fn join_gradients(
            y: CubeTensor,
            gradient: CubeTensor,
            scale: f32,
        ) -> (CubeTensor, CubeTensor) {
            let [y, gradient] = [y, gradient].map(into_contiguous);
            join::backward(y, gradient, scale)
        }
    }

    impl JoinKernel for CubeBackend {
        fn join_backward(
            y: CubeTensor,
            gradient: CubeTensor,
            noise: Option<Noise>,
        ) -> (CubeTensor, CubeTensor) {
            Self::join_gradients(y, gradient, noise.map_or(1.0, |noise| noise.scale()))
        }
    }

    impl JoinKernel for Fusion<CubeBackend> {
        fn join_backward(
            y: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
            noise: Option<Noise>,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            Self::join_gradients(y, gradient, noise.map_or(1.0, |noise| noise.scale()))
        }
    }
}

impl<B: JoinKernel, C: CheckpointStrategy> JoinOps for Autodiff<B, C> {
    fn dropout(x: FloatTensor<Self>, noise: Noise) -> FloatTensor<Self> {
        let parents = [x.node()];
        match DropoutBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::UnTracked(prepared) => prepared.finish(B::dropout(x.into_primitive(), noise)),
            OpsKind::Tracked(prepared) => {
                let (y, mask) = B::dropout_forward(x.into_primitive(), noise);
                prepared.finish(mask, y)
            }
        }
    }

    fn join(
        states: FloatTensor<Self>,
        fixed: FloatTensor<Self>,
        noise: Option<Noise>,
    ) -> FloatTensor<Self> {
        let parents = [states.node(), fixed.node()];
        let y = B::join(states.into_primitive(), fixed.into_primitive(), noise);
        match JoinBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::UnTracked(prepared) => prepared.finish(y),
            OpsKind::Tracked(prepared) => prepared.finish((y.clone(), noise), y),
        }
    }
}

#[derive(Debug)]
struct DropoutBackward;

impl<B: JoinKernel> Backward<B, 1> for DropoutBackward {
    type State = Mask<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::dropout_backward(ops.state, gradient));
        }
    }
}

#[derive(Debug)]
struct JoinBackward;

impl<B: JoinKernel> Backward<B, 2> for JoinBackward {
    type State = (FloatTensor<B>, Option<Noise>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let (y, noise) = ops.state;
        let (d_states, d_fixed) = B::join_backward(y, gradient, noise);
        let parents = ops.parents.map(|node| node.map(|node| node.id));
        register::<B, _>(grads, parents, [Some(d_states), Some(d_fixed)]);
    }
}

#[cfg(test)]
mod tests;
