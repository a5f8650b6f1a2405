//! The layer on a GPU, by the kernels of [`gpu`](crate::nn::ops::gpu): one launch forward;
//! backward one for x and two for weight and bias.

use burn::backend::fusion::Fusion;
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::prelude::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::{Activation, LinearKernel, LinearOps, Saved};
use crate::nn::ops::gpu::product::{Ending, Factors, Weight, product};
use crate::nn::ops::gpu::row_products::{Left, Right, row_products};

/// The backward pass as operations that burn's fusion takes as they are.
#[backend_extension(Cube, Fusion)]
pub trait DenseGradients: Backend {
    /// `gradient [M, N]`, `weight [K, N]` to `[M, K]`.
    #[fusion(dtype = gradient, shape = with_inputs(gradient, weight))]
    fn dense_d_x(
        gradient: FloatTensor<Self>,
        y: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// Gradients of the weight `[K, N]` and the bias `[N]`.
    #[fusion(meta = |x, y, _gradient, _activation| {
        (flat(&[x.shape[1], y.shape[1]], x), flat(&[y.shape[1]], x))
    })]
    fn dense_d_weight(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

fn with_inputs(gradient: &Shape, weight: &Shape) -> Shape {
    [gradient[0], weight[0]].into()
}

fn flat(dims: &[usize], like: &TensorSpec) -> TensorSpec {
    TensorSpec::new(dims.to_vec().into(), like.dtype)
}

impl LinearOps for CubeBackend {
    fn dense(
        x: CubeTensor,
        weight: CubeTensor,
        bias: CubeTensor,
        activation: Activation,
    ) -> CubeTensor {
        let [x, weight, bias] = [x, weight, bias].map(into_contiguous);
        let ending = match activation {
            Activation::None => Ending::Bias,
            Activation::Relu => Ending::BiasRelu,
        };
        let factors = Factors { x, gate: None, weight, bias: Some(bias) };
        product(factors, Weight::Plain, ending)
    }
}

impl DenseGradients for CubeBackend {
    fn dense_d_x(
        gradient: CubeTensor,
        y: CubeTensor,
        weight: CubeTensor,
        activation: Activation,
    ) -> CubeTensor {
        let [x, weight] = [gradient, weight].map(into_contiguous);
        let factors = Factors { x, gate: gate(y, activation), weight, bias: None };
        product(factors, Weight::Transposed, Ending::Nothing)
    }

    fn dense_d_weight(
        x: CubeTensor,
        y: CubeTensor,
        gradient: CubeTensor,
        activation: Activation,
    ) -> (CubeTensor, CubeTensor) {
        let [x, values] = [x, gradient].map(into_contiguous);
        let right = Right { values, gate: gate(y, activation) };
        let (d_weight, d_bias) = row_products(Left { values: x, start: None }, right);
        let outputs = d_bias.shape()[1];
        (d_weight, Self::float_reshape(d_bias, [outputs].into()))
    }
}

fn gate(y: CubeTensor, activation: Activation) -> Option<CubeTensor> {
    (activation == Activation::Relu).then(|| into_contiguous(y))
}

impl LinearKernel for CubeBackend {
    fn linear_backward(
        saved: Saved<Self>,
        gradient: FloatTensor<Self>,
        with_x: bool,
    ) -> (Option<FloatTensor<Self>>, FloatTensor<Self>, FloatTensor<Self>) {
        backward(saved, gradient, with_x)
    }
}

impl LinearKernel for Fusion<CubeBackend> {
    fn linear_backward(
        saved: Saved<Self>,
        gradient: FloatTensor<Self>,
        with_x: bool,
    ) -> (Option<FloatTensor<Self>>, FloatTensor<Self>, FloatTensor<Self>) {
        backward(saved, gradient, with_x)
    }
}

fn backward<B: DenseGradients>(
    saved: Saved<B>,
    gradient: FloatTensor<B>,
    with_x: bool,
) -> (Option<FloatTensor<B>>, FloatTensor<B>, FloatTensor<B>) {
    let Saved { x, weight, y, activation } = saved;
    let d_x = with_x.then(|| B::dense_d_x(gradient.clone(), y.clone(), weight, activation));
    let (d_weight, d_bias) = B::dense_d_weight(x, y, gradient, activation);
    (d_x, d_weight, d_bias)
}
