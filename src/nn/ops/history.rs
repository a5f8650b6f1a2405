//! The history of each unit of a recurrent layer: beside its state at a month, the mean and the
//! largest of its states up to that month. One autodiff node; it looks back only.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
#[cfg(feature = "gpu")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Slice, Tensor};

use super::native::history as native;
use super::native::tensor::{numbers, tensor};

/// States `[B, T, H]` to state, mean and largest value `[B, T, 3H]`.
pub fn history(states: Tensor<3>) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as HistoryOps>::history(states.into_dispatch()))
}

/// The operation on every backend that we run on.
#[backend_extension(
    Autodiff,
    Flex,
    Cube: cfg(feature = "gpu"),
    Fusion: cfg(feature = "gpu"),
    NdArray: cfg(feature = "ndarray")
)]
pub trait HistoryOps: Backend {
    #[fusion(meta = |states| columns(states, 3, 1))]
    fn history(states: FloatTensor<Self>) -> FloatTensor<Self> {
        composed::<Self>(states)
    }
}

#[cfg(feature = "gpu")]
fn columns(of: &TensorSpec, times: usize, over: usize) -> TensorSpec {
    let [rows, months, width] = [of.shape[0], of.shape[1], of.shape[2]];
    TensorSpec::new([rows, months, width * times / over].into(), of.dtype)
}

/// The backward pass as an operation that burn's fusion takes as it is.
#[cfg(feature = "gpu")]
#[backend_extension(Cube, Fusion)]
pub trait HistoryGradient: Backend {
    #[fusion(meta = |y, _gradient| columns(y, 1, 3))]
    fn history_d_states(y: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[cfg(feature = "gpu")]
mod cube {
    use burn::backend::fusion::Fusion;
    use burn::backend::tensor::FloatTensor;
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;
    use burn_cubecl::tensor::CubeTensor;

    use super::{HistoryGradient, HistoryKernel, HistoryOps};
    use crate::nn::ops::gpu::history;

    impl HistoryOps for CubeBackend {
        fn history(states: CubeTensor) -> CubeTensor {
            history::forward(into_contiguous(states))
        }
    }

    impl HistoryGradient for CubeBackend {
        fn history_d_states(y: CubeTensor, gradient: CubeTensor) -> CubeTensor {
            let [y, gradient] = [y, gradient].map(into_contiguous);
            history::backward(y, gradient)
        }
    }

    impl HistoryKernel for CubeBackend {
        fn history_backward(y: CubeTensor, gradient: CubeTensor) -> CubeTensor {
            Self::history_d_states(y, gradient)
        }
    }

    impl HistoryKernel for Fusion<CubeBackend> {
        fn history_backward(
            y: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
        ) -> FloatTensor<Self> {
            Self::history_d_states(y, gradient)
        }
    }
}

/// The backward pass of a backend.
pub trait HistoryKernel: HistoryOps {
    /// Gradient of the states, given the result and its gradient.
    fn history_backward(y: FloatTensor<Self>, gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        composed_backward::<Self>(y, gradient)
    }
}

/// In tensor primitives.
fn composed<B: Backend>(states: FloatTensor<B>) -> FloatTensor<B> {
    let (months, hidden) = (states.shape()[1], states.shape()[2]);
    let mut mean = part::<B>(&states, hidden, 0, 0);
    let mut most = mean.clone();
    let (mut means, mut mosts) = (vec![mean.clone()], vec![most.clone()]);
    for month in 1..months {
        let state = part::<B>(&states, hidden, month, 0);
        let change = B::float_sub(state.clone(), mean.clone());
        let share = 1.0 / (month + 1) as f32;
        mean = B::float_add(mean, B::float_mul_scalar(change, share.into()));
        let rise = B::relu(B::float_sub(state, most.clone()));
        most = B::float_add(most, rise);
        means.push(mean.clone());
        mosts.push(most.clone());
    }
    let (means, mosts) = (B::float_cat(means, 1), B::float_cat(mosts, 1));
    B::float_cat(vec![states, means, mosts], 2)
}

fn composed_backward<B: Backend>(y: FloatTensor<B>, gradient: FloatTensor<B>) -> FloatTensor<B> {
    let (months, hidden) = (y.shape()[1], y.shape()[2] / 3);
    let mut later: Option<[FloatTensor<B>; 2]> = None;
    let mut found = Vec::with_capacity(months);
    for month in (0..months).rev() {
        let share = 1.0 / (month + 1) as f32;
        let of = |place| part::<B>(&gradient, hidden, month, place);
        let mut of_mean = B::float_mul_scalar(of(1), share.into());
        let mut of_most = of(2);
        if let Some([mean, most]) = later.take() {
            of_mean = B::float_add(of_mean, mean);
            of_most = B::float_add(of_most, most);
        }
        let taken = match month {
            0 => of_most.clone(),
            _ => {
                let [now, before] = [month, month - 1].map(|at| part::<B>(&y, hidden, at, 2));
                B::relu_backward(B::float_sub(now, before), of_most.clone())
            }
        };
        let d = B::float_add(B::float_add(of(0), of_mean.clone()), taken.clone());
        found.push(d);
        later = Some([of_mean, B::float_sub(of_most, taken)]);
    }
    found.reverse();
    B::float_cat(found, 1)
}

/// One month `[B, 1, H]` of columns `place` H and up.
fn part<B: Backend>(
    of: &FloatTensor<B>,
    hidden: usize,
    month: usize,
    place: usize,
) -> FloatTensor<B> {
    let range = |from: usize, to: usize| Slice::new(from as isize, Some(to as isize), 1);
    let columns = range(place * hidden, (place + 1) * hidden);
    B::float_slice(of.clone(), &[Slice::new(0, None, 1), range(month, month + 1), columns])
}

type Flexible = FloatTensor<Flex>;

impl HistoryOps for Flex {
    fn history(states: Flexible) -> Flexible {
        let (states, shape) = (states.to_contiguous(), states.shape());
        let y = native::forward((shape[1], shape[2]), numbers(&states));
        tensor(y, [shape[0], shape[1], 3 * shape[2]])
    }
}

impl HistoryKernel for Flex {
    fn history_backward(y: Flexible, gradient: Flexible) -> Flexible {
        let (gradient, shape) = (gradient.to_contiguous(), y.shape());
        let size = (shape[1], shape[2] / 3);
        let d_states = native::backward(size, numbers(&y), numbers(&gradient));
        tensor(d_states, [shape[0], shape[1], shape[2] / 3])
    }
}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
impl HistoryOps for burn_ndarray::NdArray {}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
impl HistoryKernel for burn_ndarray::NdArray {}

impl<B: HistoryKernel, C: CheckpointStrategy> HistoryOps for Autodiff<B, C> {
    fn history(states: FloatTensor<Self>) -> FloatTensor<Self> {
        let parents = [states.node()];
        let y = B::history(states.into_primitive());
        match HistoryBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::UnTracked(prepared) => prepared.finish(y),
            OpsKind::Tracked(prepared) => prepared.finish(y.clone(), y),
        }
    }
}

#[derive(Debug)]
struct HistoryBackward;

impl<B: HistoryKernel> Backward<B, 1> for HistoryBackward {
    /// The result.
    type State = FloatTensor<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::history_backward(ops.state, gradient));
        }
    }
}

#[cfg(test)]
mod tests;
