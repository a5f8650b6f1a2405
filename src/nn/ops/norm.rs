//! Layer norm (Ba et al. 2016, arXiv:1607.06450) as one autodiff node, whose backward pass would
//! else be some twenty operations on small tensors.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::nn::LayerNorm;
use burn::prelude::Shape;
use burn::tensor::Tensor;

use super::register;

/// Added to the variance; burn's default, and PyTorch's.
pub const EPSILON: f32 = 1e-5;

/// burn's layer, with bias, over the rows of x `[B, W]`.
pub fn layer_norm(layer: &LayerNorm, x: Tensor<2>) -> Tensor<2> {
    let bias = layer.beta.as_ref().expect("layers are made with a bias").val();
    Tensor::from_dispatch(<Dispatch as NormOps>::norm(
        x.into_dispatch(),
        layer.gamma.val().into_dispatch(),
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
pub trait NormOps: Backend {
    /// `x [B, W]`, `gamma [W]`, `beta [W]`.
    #[fusion(dtype = x, shape = x)]
    fn norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::layer_norm(x, gamma, Some(beta), f64::from(EPSILON))
    }
}

/// Gradients by x, gamma and beta.
pub type Found<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

/// The backward pass of a backend.
pub trait NormKernel: NormOps {
    fn norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> Found<Self> {
        composed_backward::<Self>(x, gamma, gradient)
    }
}

/// In tensor primitives. With n the normalised x and g the gradient times gamma, that of x is
/// (g - mean g - n mean(g n)) / deviation.
fn composed_backward<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    gradient: FloatTensor<B>,
) -> Found<B> {
    let width = x.shape()[1];
    let vector = |tensor| B::float_reshape(tensor, Shape::new([width]));
    let centered = B::float_sub(x.clone(), B::float_mean_dim(x, 1));
    let variance = B::float_mean_dim(B::float_mul(centered.clone(), centered.clone()), 1);
    let scale = B::float_recip(B::float_sqrt(B::float_add_scalar(variance, EPSILON.into())));
    let normal = B::float_mul(centered, scale.clone());
    let d_gamma = vector(B::float_sum_dim(B::float_mul(gradient.clone(), normal.clone()), 0));
    let d_beta = vector(B::float_sum_dim(gradient.clone(), 0));
    let scaled = B::float_mul(gradient, B::float_reshape(gamma, Shape::new([1, width])));
    let along = B::float_mean_dim(B::float_mul(scaled.clone(), normal.clone()), 1);
    let mean = B::float_mean_dim(scaled.clone(), 1);
    let d_x = B::float_sub(B::float_sub(scaled, mean), B::float_mul(normal, along));
    (B::float_mul(d_x, scale), d_gamma, d_beta)
}

impl NormOps for Flex {}

impl NormKernel for Flex {}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
impl NormOps for burn_ndarray::NdArray {}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
impl NormKernel for burn_ndarray::NdArray {}

/// The backward pass as an operation that burn's fusion takes as it is.
#[cfg(feature = "gpu")]
#[backend_extension(Cube, Fusion)]
pub trait NormGradients: Backend {
    #[fusion(meta = |x, gamma, _gradient| (x.clone(), gamma.clone(), gamma.clone()))]
    fn norm_gradients(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

#[cfg(feature = "gpu")]
mod cube {
    use burn::backend::fusion::Fusion;
    use burn::backend::tensor::FloatTensor;
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;
    use burn_cubecl::tensor::CubeTensor;

    use super::{Found, NormGradients, NormKernel, NormOps};
    use crate::nn::ops::gpu::norm;

    impl NormOps for CubeBackend {
        fn norm(x: CubeTensor, gamma: CubeTensor, beta: CubeTensor) -> CubeTensor {
            let [x, gamma, beta] = [x, gamma, beta].map(into_contiguous);
            norm::forward(x, gamma, beta)
        }
    }

    impl NormGradients for CubeBackend {
        fn norm_gradients(
            x: CubeTensor,
            gamma: CubeTensor,
            gradient: CubeTensor,
        ) -> (CubeTensor, CubeTensor, CubeTensor) {
            let [x, gamma, gradient] = [x, gamma, gradient].map(into_contiguous);
            norm::backward(x, gamma, gradient)
        }
    }

    impl NormKernel for CubeBackend {
        fn norm_backward(x: CubeTensor, gamma: CubeTensor, gradient: CubeTensor) -> Found<Self> {
            Self::norm_gradients(x, gamma, gradient)
        }
    }

    impl NormKernel for Fusion<CubeBackend> {
        fn norm_backward(
            x: FloatTensor<Self>,
            gamma: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
        ) -> Found<Self> {
            Self::norm_gradients(x, gamma, gradient)
        }
    }
}

impl<B: NormKernel, C: CheckpointStrategy> NormOps for Autodiff<B, C> {
    fn norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let parents = [&x, &gamma, &beta].map(|tensor| tensor.node());
        let (x, gamma, beta) = (x.into_primitive(), gamma.into_primitive(), beta.into_primitive());
        match NormBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::UnTracked(prepared) => prepared.finish(B::norm(x, gamma, beta)),
            OpsKind::Tracked(prepared) => {
                let y = B::norm(x.clone(), gamma.clone(), beta);
                prepared.finish((x, gamma), y)
            }
        }
    }
}

#[derive(Debug)]
struct NormBackward;

impl<B: NormKernel> Backward<B, 3> for NormBackward {
    /// x and gamma.
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let (x, gamma) = ops.state;
        let (d_x, d_gamma, d_beta) = B::norm_backward(x, gamma, gradient);
        let parents = ops.parents.map(|node| node.map(|node| node.id));
        register::<B, _>(grads, parents, [Some(d_x), Some(d_gamma), Some(d_beta)]);
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::LayerNormConfig;
    use burn::tensor::{Device, Tensor, TensorData};

    use super::*;

    /// The node against burn's layer, which autodiff differentiates: 40 rows of 19 numbers in f32,
    /// sums of 40 products of numbers up to 10: 40 * 10 * 6e-8 = 2e-5.
    #[test]
    fn equals_the_composed_version() {
        let device = Device::flex().autodiff();
        let values = |from: usize, shape: [usize; 2]| {
            let at = |i: usize| (((i + from) as f64 * 0.618_033_988_75).fract() * 4.0 - 1.0) as f32;
            let values: Vec<f32> = (0..shape[0] * shape[1]).map(at).collect();
            Tensor::<2>::from_data(TensorData::new(values, shape), &device)
        };
        let run = |ours: bool| {
            let mut layer = LayerNormConfig::new(19).init(&device);
            layer.gamma = layer.gamma.map(|_| values(7, [1, 19]).reshape([19]).require_grad());
            layer.beta =
                layer.beta.map(|b| b.map(|_| values(9, [1, 19]).reshape([19]).require_grad()));
            let x = values(0, [40, 19]).require_grad();
            let y = match ours {
                true => layer_norm(&layer, x.clone()),
                false => layer.forward(x.clone()),
            };
            let grads = (y.clone() * values(5, [40, 19])).sum().backward();
            let beta = layer.beta.expect("a bias").val();
            let list = |data: TensorData| data.try_into_vec_as::<f32>().expect("f32");
            [
                list(y.into_data()),
                list(x.grad(&grads).expect("tracked").into_data()),
                list(layer.gamma.val().grad(&grads).expect("tracked").into_data()),
                list(beta.grad(&grads).expect("tracked").into_data()),
            ]
        };
        for (name, (got, wanted)) in
            ["y", "x", "gamma", "beta"].iter().zip(run(true).iter().zip(&run(false)))
        {
            assert!(wanted.iter().any(|x| x.abs() > 0.1), "{name} is nothing to agree on");
            for (a, b) in got.iter().zip(wanted) {
                assert!((a - b).abs() < 2e-5 * (1.0 + b.abs()), "{name}: {a}, expected {b}");
            }
        }
    }
}
