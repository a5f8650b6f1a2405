//! Piecewise-linear embeddings (Gorishniy et al. 2022, arXiv:2203.05556, with a linear part as in
//! TabM): a number x with bins of lower borders l and widths w becomes
//!
//! ```text
//! bias + x slope + sum over its bins of weight clamp((x - l) / w, 0, 1)
//! ```
//!
//! which lets a layer behind it find a sharp threshold in one number at once.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::prelude::Shape;
use burn::tensor::Tensor;

use super::native::pieces::{self as native, Bins, Weights};
use super::native::tensor::{numbers, tensor};
use super::register;

/// A lower border that no number reaches, for bins that are not there.
pub const NO_BIN: f32 = f32::MAX;

/// Lower borders and inverse widths of the bins, `[F, E]` both; constants. A number with fewer
/// bins is filled up with [`NO_BIN`] and zeros.
#[derive(Debug, Clone)]
pub struct Grid {
    pub lows: Tensor<2>,
    pub inverses: Tensor<2>,
}

/// What is learned.
#[derive(Debug, Clone)]
pub struct PieceWeights {
    /// `[F, E, D]`.
    pub weight: Tensor<3>,
    /// `[F, D]`.
    pub slope: Tensor<2>,
    /// `[F, D]`.
    pub bias: Tensor<2>,
}

/// `x [B, F]`, a constant, to `[B, F D]`.
pub fn pieces(x: Tensor<2>, grid: Grid, weights: PieceWeights) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as PieceOps>::pieces(
        x.into_dispatch(),
        grid.lows.into_dispatch(),
        grid.inverses.into_dispatch(),
        weights.weight.into_dispatch(),
        weights.slope.into_dispatch(),
        weights.bias.into_dispatch(),
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
pub trait PieceOps: Backend {
    #[fusion(default)]
    fn pieces(
        x: FloatTensor<Self>,
        lows: FloatTensor<Self>,
        inverses: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (x_shape, width) = (x.shape(), weight.shape()[2]);
        let x = by_number::<Self>(x);
        let shares = shares::<Self>(x.clone(), lows, inverses);
        let sum = between::<Self>(shares, weight);
        let sum = Self::float_add(sum, Self::float_mul(x, for_rows::<Self>(slope)));
        let sum = Self::float_add(sum, for_rows::<Self>(bias));
        let sum = Self::float_swap_dims(sum, 0, 1);
        Self::float_reshape(sum, Shape::new([x_shape[0], x_shape[1] * width]))
    }
}

/// The backward pass of a backend.
pub trait PieceKernel: PieceOps {
    /// Gradients by weight, slope and bias.
    fn pieces_backward(saved: Saved<Self>, gradient: FloatTensor<Self>) -> [FloatTensor<Self>; 3] {
        let Saved { x, lows, inverses, width } = saved;
        let (rows, count) = (x.shape()[0], x.shape()[1]);
        let gradient = Self::float_reshape(gradient, Shape::new([rows, count, width]));
        let gradient = Self::float_swap_dims(gradient, 0, 1);
        let x = by_number::<Self>(x);
        let shares = shares::<Self>(x.clone(), lows, inverses);
        let flat = |sum| Self::float_reshape(sum, Shape::new([count, width]));
        [
            over_rows::<Self>(shares, gradient.clone()),
            flat(Self::float_sum_dim(Self::float_mul(gradient.clone(), x), 1)),
            flat(Self::float_sum_dim(gradient, 1)),
        ]
    }
}

/// What the backward pass needs.
#[derive(Debug, Clone)]
pub struct Saved<B: Backend> {
    x: FloatTensor<B>,
    lows: FloatTensor<B>,
    inverses: FloatTensor<B>,
    /// Of an embedding.
    width: usize,
}

/// `[B, F]` to `[F, B, 1]`.
fn by_number<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    B::float_reshape(B::float_transpose(x), Shape::new([shape[1], shape[0], 1]))
}

/// `[F, N]` to `[F, 1, N]`.
fn for_rows<B: Backend>(of: FloatTensor<B>) -> FloatTensor<B> {
    let shape = of.shape();
    B::float_reshape(of, Shape::new([shape[0], 1, shape[1]]))
}

/// How far each number has come in each bin, `[F, B, E]`.
fn shares<B: Backend>(
    x: FloatTensor<B>,
    lows: FloatTensor<B>,
    inverses: FloatTensor<B>,
) -> FloatTensor<B> {
    let from_low = B::float_sub(x, for_rows::<B>(lows));
    let share = B::float_mul(from_low, for_rows::<B>(inverses));
    B::float_clamp(share, 0.0.into(), 1.0.into())
}

/// `[F, B, E]` times `[F, E, D]` to `[F, B, D]`: a sum over a broadcast, which a GPU fuses.
fn between<B: Backend>(shares: FloatTensor<B>, weight: FloatTensor<B>) -> FloatTensor<B> {
    let ([count, rows, bins], width) = (shares.shape().dims(), weight.shape()[2]);
    let shares = B::float_reshape(shares, Shape::new([count, rows, bins, 1]));
    let weight = B::float_reshape(weight, Shape::new([count, 1, bins, width]));
    let sum = B::float_sum_dim(B::float_mul(shares, weight), 2);
    B::float_reshape(sum, Shape::new([count, rows, width]))
}

/// `[F, B, E]` and `[F, B, D]`, multiplied and summed over the rows, to `[F, E, D]`.
fn over_rows<B: Backend>(shares: FloatTensor<B>, gradient: FloatTensor<B>) -> FloatTensor<B> {
    let ([count, rows, bins], width) = (shares.shape().dims(), gradient.shape()[2]);
    let shares = B::float_reshape(shares, Shape::new([count, rows, bins, 1]));
    let gradient = B::float_reshape(gradient, Shape::new([count, rows, 1, width]));
    let sum = B::float_sum_dim(B::float_mul(shares, gradient), 1);
    B::float_reshape(sum, Shape::new([count, bins, width]))
}

type Flexible = FloatTensor<Flex>;

impl PieceOps for Flex {
    fn pieces(
        x: Flexible,
        lows: Flexible,
        inverses: Flexible,
        weight: Flexible,
        slope: Flexible,
        bias: Flexible,
    ) -> Flexible {
        let [x, lows, inverses] = [x, lows, inverses].map(|tensor| tensor.to_contiguous());
        let [weight, slope, bias] = [weight, slope, bias].map(|tensor| tensor.to_contiguous());
        let shape = shape(&lows, weight.shape()[2]);
        let bins = Bins { lows: numbers(&lows), inverses: numbers(&inverses) };
        let weights =
            Weights { weight: numbers(&weight), slope: numbers(&slope), bias: numbers(&bias) };
        let y = native::forward(shape, bins, numbers(&x), &weights);
        tensor(y, [x.shape()[0], shape.numbers * shape.width])
    }
}

impl PieceKernel for Flex {
    fn pieces_backward(saved: Saved<Self>, gradient: Flexible) -> [Flexible; 3] {
        let Saved { x, lows, inverses, width } = saved;
        let [x, lows, inverses] = [x, lows, inverses].map(|tensor| tensor.to_contiguous());
        let gradient = gradient.to_contiguous();
        let shape = shape(&lows, width);
        let bins = Bins { lows: numbers(&lows), inverses: numbers(&inverses) };
        let [weight, slope, bias] = native::backward(shape, bins, numbers(&x), numbers(&gradient));
        [
            tensor(weight, [shape.numbers, shape.bins, width]),
            tensor(slope, [shape.numbers, width]),
            tensor(bias, [shape.numbers, width]),
        ]
    }
}

fn shape(lows: &Flexible, width: usize) -> native::Shape {
    native::Shape { numbers: lows.shape()[0], bins: lows.shape()[1], width }
}

by_primitives!(PieceOps, PieceKernel);

impl<B: PieceKernel, C: CheckpointStrategy> PieceOps for Autodiff<B, C> {
    fn pieces(
        x: FloatTensor<Self>,
        lows: FloatTensor<Self>,
        inverses: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let parents = [weight.node(), slope.node(), bias.node()];
        let width = weight.shape()[2];
        let [x, lows, inverses] = [x, lows, inverses].map(|tensor| tensor.into_primitive());
        let [weight, slope, bias] = [weight, slope, bias].map(|tensor| tensor.into_primitive());
        let y = B::pieces(x.clone(), lows.clone(), inverses.clone(), weight, slope, bias);
        match PiecesBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::UnTracked(prepared) => prepared.finish(y),
            OpsKind::Tracked(prepared) => prepared.finish(Saved { x, lows, inverses, width }, y),
        }
    }
}

#[derive(Debug)]
struct PiecesBackward;

impl<B: PieceKernel> Backward<B, 3> for PiecesBackward {
    type State = Saved<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let found = B::pieces_backward(ops.state, gradient);
        let parents = ops.parents.map(|node| node.map(|node| node.id));
        register::<B, _>(grads, parents, found.map(Some));
    }
}

#[cfg(test)]
mod tests;
