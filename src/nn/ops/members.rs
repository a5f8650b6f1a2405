//! An ensemble in one network (TabM, Gorishniy et al. 2024, arXiv:2410.24210): `spread` is the
//! place where its members part, and `heads` gives each an output of its own. All layers between
//! them are shared, and see the members as rows.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::prelude::Shape;
use burn::tensor::Tensor;

use super::native::members as native;
use super::native::tensor::{numbers, tensor};
use super::register;

/// Every row once for each of k members, times the member's scale: `x [B, W]`, `scale [k, W]` to
/// `[B k, W]`.
pub fn spread(x: Tensor<2>, scale: Tensor<2>) -> Tensor<2> {
    let (x, scale) = (x.into_dispatch(), scale.into_dispatch());
    Tensor::from_dispatch(<Dispatch as MemberOps>::spread(x, scale))
}

/// A linear layer of each member's own: `x [B k, W]`, `weight [k K, W]`, `bias [k K]` to
/// `[B, k K]`, where output m K + j is member m's j-th.
pub fn heads(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, members: usize) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as MemberOps>::heads(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.unsqueeze::<2>().into_dispatch(),
        members,
    ))
}

/// The operations on every backend that we run on.
#[backend_extension(
    Autodiff,
    Flex,
    Cube: cfg(feature = "gpu"),
    Fusion: cfg(feature = "gpu"),
    NdArray: cfg(feature = "ndarray")
)]
pub trait MemberOps: Backend {
    #[fusion(default)]
    fn spread(x: FloatTensor<Self>, scale: FloatTensor<Self>) -> FloatTensor<Self> {
        let [rows, width, members] = [x.shape()[0], x.shape()[1], scale.shape()[0]];
        let product = Self::float_mul(by_row::<Self>(x), by_member::<Self>(scale));
        Self::float_reshape(product, Shape::new([rows * members, width]))
    }

    /// The bias is `[1, k K]`.
    #[fusion(default)]
    fn heads(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        members: usize,
    ) -> FloatTensor<Self> {
        let size = sizes::<Self>(&x, &weight, members);
        let product = Self::float_mul(size.rows::<Self>(x), size.outputs::<Self>(weight));
        let shape = Shape::new([size.rows, members * size.outputs]);
        Self::float_add(Self::float_reshape(Self::float_sum_dim(product, 3), shape), bias)
    }
}

/// Backward passes of a backend.
pub trait MemberKernel: MemberOps {
    /// Gradients by x and scale.
    fn spread_backward(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [rows, width, members] = [x.shape()[0], x.shape()[1], scale.shape()[0]];
        let gradient = Self::float_reshape(gradient, Shape::new([rows, members, width]));
        let d_x = Self::float_mul(gradient.clone(), by_member::<Self>(scale));
        let d_x = Self::float_reshape(Self::float_sum_dim(d_x, 1), Shape::new([rows, width]));
        let d_scale = Self::float_sum_dim(Self::float_mul(gradient, by_row::<Self>(x)), 0);
        (d_x, Self::float_reshape(d_scale, Shape::new([members, width])))
    }

    /// Gradients by x, weight and bias.
    fn heads_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        members: usize,
    ) -> [FloatTensor<Self>; 3] {
        let size = sizes::<Self>(&x, &weight, members);
        let d_bias = Self::float_sum_dim(gradient.clone(), 0);
        let shape = Shape::new([size.rows, members, size.outputs, 1]);
        let gradient = Self::float_reshape(gradient, shape);
        let d_x = Self::float_mul(gradient.clone(), size.outputs::<Self>(weight));
        let d_x = Self::float_sum_dim(d_x, 2);
        let d_x = Self::float_reshape(d_x, Shape::new([size.rows * members, size.width]));
        let d_weight = Self::float_mul(gradient, size.rows::<Self>(x));
        let d_weight = Self::float_sum_dim(d_weight, 0);
        let shape = Shape::new([members * size.outputs, size.width]);
        [d_x, Self::float_reshape(d_weight, shape), d_bias]
    }
}

/// Rows B, width W, outputs K of each of k members.
struct Sizes {
    rows: usize,
    members: usize,
    width: usize,
    outputs: usize,
}

/// Outputs are few, so that products are sums over a broadcast, which a GPU fuses.
impl Sizes {
    /// `[B k, W]` to `[B, k, 1, W]`.
    fn rows<B: Backend>(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        B::float_reshape(x, Shape::new([self.rows, self.members, 1, self.width]))
    }

    /// `[k K, W]` to `[1, k, K, W]`.
    fn outputs<B: Backend>(&self, weight: FloatTensor<B>) -> FloatTensor<B> {
        B::float_reshape(weight, Shape::new([1, self.members, self.outputs, self.width]))
    }
}

fn sizes<B: Backend>(x: &FloatTensor<B>, weight: &FloatTensor<B>, members: usize) -> Sizes {
    let (x, weight) = (x.shape(), weight.shape());
    Sizes { rows: x[0] / members, members, width: x[1], outputs: weight[0] / members }
}

/// `[B, W]` to `[B, 1, W]`.
fn by_row<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let shape = x.shape();
    B::float_reshape(x, Shape::new([shape[0], 1, shape[1]]))
}

/// `[k, W]` to `[1, k, W]`.
fn by_member<B: Backend>(scale: FloatTensor<B>) -> FloatTensor<B> {
    let shape = scale.shape();
    B::float_reshape(scale, Shape::new([1, shape[0], shape[1]]))
}

type Flexible = FloatTensor<Flex>;

fn spread_size(x: &Flexible, scale: &Flexible) -> native::Spread {
    native::Spread { members: scale.shape()[0], width: x.shape()[1] }
}

fn heads_size(x: &Flexible, weight: &Flexible, members: usize) -> native::Heads {
    let Sizes { width, outputs, .. } = sizes::<Flex>(x, weight, members);
    native::Heads { members, width, outputs }
}

impl MemberOps for Flex {
    fn spread(x: Flexible, scale: Flexible) -> Flexible {
        let [x, scale] = [x, scale].map(|tensor| tensor.to_contiguous());
        let size = spread_size(&x, &scale);
        let rows = x.shape()[0] * size.members;
        tensor(native::spread(size, numbers(&x), numbers(&scale)), [rows, size.width])
    }

    fn heads(x: Flexible, weight: Flexible, bias: Flexible, members: usize) -> Flexible {
        let [x, weight, bias] = [x, weight, bias].map(|tensor| tensor.to_contiguous());
        let size = heads_size(&x, &weight, members);
        let y = native::heads(size, numbers(&x), numbers(&weight), numbers(&bias));
        tensor(y, [x.shape()[0] / members, members * size.outputs])
    }
}

impl MemberKernel for Flex {
    fn spread_backward(x: Flexible, scale: Flexible, gradient: Flexible) -> (Flexible, Flexible) {
        let [x, scale, gradient] = [x, scale, gradient].map(|tensor| tensor.to_contiguous());
        let size = spread_size(&x, &scale);
        let (d_x, d_scale) =
            native::spread_backward(size, numbers(&x), numbers(&scale), numbers(&gradient));
        let rows = x.shape()[0];
        (tensor(d_x, [rows, size.width]), tensor(d_scale, [size.members, size.width]))
    }

    fn heads_backward(
        x: Flexible,
        weight: Flexible,
        gradient: Flexible,
        members: usize,
    ) -> [Flexible; 3] {
        let [x, weight, gradient] = [x, weight, gradient].map(|tensor| tensor.to_contiguous());
        let size = heads_size(&x, &weight, members);
        let (d_x, d_weight, d_bias) =
            native::heads_backward(size, numbers(&x), numbers(&weight), numbers(&gradient));
        let outputs = members * size.outputs;
        [
            tensor(d_x, [x.shape()[0], size.width]),
            tensor(d_weight, [outputs, size.width]),
            tensor(d_bias, [1, outputs]),
        ]
    }
}

by_primitives!(MemberOps, MemberKernel);

impl<B: MemberKernel, C: CheckpointStrategy> MemberOps for Autodiff<B, C> {
    fn spread(x: FloatTensor<Self>, scale: FloatTensor<Self>) -> FloatTensor<Self> {
        let parents = [x.node(), scale.node()];
        let (x, scale) = (x.into_primitive(), scale.into_primitive());
        let y = B::spread(x.clone(), scale.clone());
        match SpreadBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::UnTracked(prepared) => prepared.finish(y),
            OpsKind::Tracked(prepared) => prepared.finish((x, scale), y),
        }
    }

    fn heads(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        members: usize,
    ) -> FloatTensor<Self> {
        let parents = [x.node(), weight.node(), bias.node()];
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let y = B::heads(x.clone(), weight.clone(), bias.into_primitive(), members);
        match HeadsBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::UnTracked(prepared) => prepared.finish(y),
            OpsKind::Tracked(prepared) => prepared.finish((x, weight, members), y),
        }
    }
}

#[derive(Debug)]
struct SpreadBackward;

impl<B: MemberKernel> Backward<B, 2> for SpreadBackward {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let (x, scale) = ops.state;
        let (d_x, d_scale) = B::spread_backward(x, scale, gradient);
        let parents = ops.parents.map(|node| node.map(|node| node.id));
        register::<B, _>(grads, parents, [Some(d_x), Some(d_scale)]);
    }
}

#[derive(Debug)]
struct HeadsBackward;

impl<B: MemberKernel> Backward<B, 3> for HeadsBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, usize);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let (x, weight, members) = ops.state;
        let found = B::heads_backward(x, weight, gradient, members);
        let parents = ops.parents.map(|node| node.map(|node| node.id));
        register::<B, _>(grads, parents, found.map(Some));
    }
}

#[cfg(test)]
mod tests;
