//! The weighted sum of cross-entropies as one autodiff node, whose gradient falls out of the
//! forward pass: a dozen passes over small tensors, forward and backward, become one.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
#[cfg(feature = "gpu")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

use super::native::loss as native;
pub use super::native::loss::Rule;
use super::native::tensor::{numbers, tensor};

/// Sum of the weighted losses of `log_odds` against `targets`, `[1]`; all `[N]`. Targets and
/// weights are constants.
pub fn loss_sum(
    log_odds: Tensor<1>,
    targets: Tensor<1>,
    weights: Tensor<1>,
    rule: Rule,
) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as LossOps>::loss_sum(
        log_odds.into_dispatch(),
        targets.into_dispatch(),
        weights.into_dispatch(),
        rule,
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
pub trait LossOps: Backend {
    #[fusion(meta = |log_odds, _targets, _weights, _rule| one(log_odds))]
    fn loss_sum(
        log_odds: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        rule: Rule,
    ) -> FloatTensor<Self> {
        composed::<Self>(log_odds, targets, weights, rule).0
    }
}

#[cfg(feature = "gpu")]
fn one(like: &TensorSpec) -> TensorSpec {
    TensorSpec::new([1].into(), like.dtype)
}

/// Loss and gradient of a backend.
pub trait LossKernel: LossOps {
    fn loss_and_gradient(
        log_odds: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        rule: Rule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        composed::<Self>(log_odds, targets, weights, rule)
    }
}

/// In tensor primitives, by the formulas of the native kernel.
fn composed<B: Backend>(
    x: FloatTensor<B>,
    y: FloatTensor<B>,
    weights: FloatTensor<B>,
    rule: Rule,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let softplus = B::float_log1p(B::float_exp(B::float_neg(B::float_abs(x.clone()))));
    let entropy = B::float_sub(B::relu(x.clone()), B::float_mul(x.clone(), y.clone()));
    let entropy = B::float_add(entropy, softplus);
    let slope = B::float_sub(B::sigmoid(x), y);
    let (loss, slope) = match rule {
        Rule::CrossEntropy => (entropy, slope),
        Rule::Focal { gamma } => {
            let p = B::float_exp(B::float_neg(entropy.clone()));
            let miss = B::float_add_scalar(B::float_neg(p.clone()), 1.0.into());
            let miss = B::float_clamp_min(miss, native::MISS_MIN.into());
            let focus = B::float_powf_scalar(miss.clone(), gamma.into());
            let extra = B::float_mul_scalar(B::float_mul(entropy.clone(), p), gamma.into());
            let extra = B::float_div(B::float_mul(extra, focus.clone()), miss);
            let factor = B::float_add(focus.clone(), extra);
            (B::float_mul(focus, entropy), B::float_mul(slope, factor))
        }
    };
    (B::float_sum(B::float_mul(loss, weights.clone())), B::float_mul(slope, weights))
}

type Flexible = FloatTensor<Flex>;

impl LossOps for Flex {
    fn loss_sum(log_odds: Flexible, targets: Flexible, weights: Flexible, rule: Rule) -> Flexible {
        Self::loss_and_gradient(log_odds, targets, weights, rule).0
    }
}

impl LossKernel for Flex {
    fn loss_and_gradient(
        log_odds: Flexible,
        targets: Flexible,
        weights: Flexible,
        rule: Rule,
    ) -> (Flexible, Flexible) {
        let [x, y, weights] = [log_odds, targets, weights].map(|tensor| tensor.to_contiguous());
        let (loss, gradient) = native::sum(rule, numbers(&x), numbers(&y), numbers(&weights));
        let count = gradient.len();
        (tensor(vec![loss], [1]), tensor(gradient, [count]))
    }
}

/// Both as an operation that burn's fusion takes as it is.
#[cfg(feature = "gpu")]
#[backend_extension(Cube, Fusion)]
pub trait LossAndGradient: Backend {
    #[fusion(meta = |log_odds, _targets, _weights, _rule| (one(log_odds), log_odds.clone()))]
    fn fused_loss_and_gradient(
        log_odds: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        rule: Rule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

#[cfg(feature = "gpu")]
mod cube {
    use burn::backend::fusion::Fusion;
    use burn::backend::tensor::FloatTensor;
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;
    use burn_cubecl::tensor::CubeTensor;

    use super::{LossAndGradient, LossKernel, LossOps, Rule};
    use crate::nn::ops::gpu::loss;

    impl LossOps for CubeBackend {
        fn loss_sum(x: CubeTensor, y: CubeTensor, weights: CubeTensor, rule: Rule) -> CubeTensor {
            Self::fused_loss_and_gradient(x, y, weights, rule).0
        }
    }

    impl LossAndGradient for CubeBackend {
        fn fused_loss_and_gradient(
            x: CubeTensor,
            y: CubeTensor,
            weights: CubeTensor,
            rule: Rule,
        ) -> (CubeTensor, CubeTensor) {
            let [x, y, weights] = [x, y, weights].map(into_contiguous);
            loss::sum(x, y, weights, rule)
        }
    }

    impl LossKernel for CubeBackend {
        fn loss_and_gradient(
            x: CubeTensor,
            y: CubeTensor,
            weights: CubeTensor,
            rule: Rule,
        ) -> (CubeTensor, CubeTensor) {
            Self::fused_loss_and_gradient(x, y, weights, rule)
        }
    }

    impl LossKernel for Fusion<CubeBackend> {
        fn loss_and_gradient(
            x: FloatTensor<Self>,
            y: FloatTensor<Self>,
            weights: FloatTensor<Self>,
            rule: Rule,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            Self::fused_loss_and_gradient(x, y, weights, rule)
        }
    }
}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
impl LossOps for burn_ndarray::NdArray {}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
impl LossKernel for burn_ndarray::NdArray {}

impl<B: LossKernel, C: CheckpointStrategy> LossOps for Autodiff<B, C> {
    fn loss_sum(
        log_odds: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        rule: Rule,
    ) -> FloatTensor<Self> {
        let parents = [log_odds.node()];
        let [log_odds, targets, weights] =
            [log_odds, targets, weights].map(|tensor| tensor.into_primitive());
        match LossBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::loss_sum(log_odds, targets, weights, rule))
            }
            OpsKind::Tracked(prepared) => {
                let (loss, gradient) = B::loss_and_gradient(log_odds, targets, weights, rule);
                prepared.finish(gradient, loss)
            }
        }
    }
}

#[derive(Debug)]
struct LossBackward;

impl<B: LossKernel> Backward<B, 1> for LossBackward {
    /// By the log-odds.
    type State = FloatTensor<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let upstream = grads.consume::<B>(&ops.node); // [1]
        debug_assert_eq!(upstream.shape().num_elements(), 1);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::float_mul(ops.state, upstream));
        }
    }
}

#[cfg(test)]
mod tests;
