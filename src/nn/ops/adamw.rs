//! One AdamW step of one parameter, and the sum of squares that its clipping needs.
//!
//! On the flex backend each is one pass over memory; the eleven tensor primitives of the other
//! backends are fused on a GPU.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use super::native::adamw as native;
pub use super::native::adamw::Rule;
use super::native::tensor::{numbers, tensor};

/// The parameter and its two moments after a step; all `[P]`, `clip [1]`. Not for tensors that
/// are tracked by autodiff.
pub fn adamw(
    parameter: Tensor<1>,
    gradient: Tensor<1>,
    [first, second]: [Tensor<1>; 2],
    clip: Tensor<1>,
    rule: Rule,
) -> (Tensor<1>, [Tensor<1>; 2]) {
    let (parameter, first, second) = <Dispatch as AdamWOps>::adamw(
        parameter.into_dispatch(),
        gradient.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        clip.into_dispatch(),
        rule,
    );
    (Tensor::from_dispatch(parameter), [first, second].map(Tensor::from_dispatch))
}

/// `[1]`.
pub fn sum_of_squares(x: Tensor<1>) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as AdamWOps>::sum_of_squares(x.into_dispatch()))
}

/// The moving average after a step that ended at `new`; both `[P]`.
pub fn averaged(average: Tensor<1>, new: Tensor<1>, keep: f64) -> Tensor<1> {
    let factors = [keep as f32, (1.0 - keep) as f32];
    Tensor::from_dispatch(<Dispatch as AdamWOps>::averaged(
        average.into_dispatch(),
        new.into_dispatch(),
        factors,
    ))
}

/// The operations on every backend that we run on.
#[backend_extension(
    Flex,
    Cube: cfg(feature = "gpu"),
    Fusion: cfg(feature = "gpu"),
    NdArray: cfg(feature = "ndarray")
)]
pub trait AdamWOps: Backend {
    #[fusion(default)]
    fn adamw(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        rule: Rule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let times = |tensor, factor: f32| Self::float_mul_scalar(tensor, factor.into());
        let gradient = Self::float_mul(gradient, clip);
        let square = Self::float_mul(gradient.clone(), gradient.clone());
        let [b1, b2] = rule.betas;
        let first = Self::float_add(times(first, b1), times(gradient, 1.0 - b1));
        let second = Self::float_add(times(second, b2), times(square, 1.0 - b2));
        let spread = Self::float_sqrt(times(second.clone(), rule.spread_scale));
        let spread = Self::float_add_scalar(spread, rule.epsilon.into());
        let change = times(Self::float_div(first.clone(), spread), rule.rate);
        (Self::float_sub(times(parameter, rule.keep), change), first, second)
    }

    /// The sum of both, each times its factor.
    #[fusion(default)]
    fn averaged(
        average: FloatTensor<Self>,
        new: FloatTensor<Self>,
        factors: [f32; 2],
    ) -> FloatTensor<Self> {
        let times = |tensor, factor: f32| Self::float_mul_scalar(tensor, factor.into());
        Self::float_add(times(average, factors[0]), times(new, factors[1]))
    }

    #[fusion(default)]
    fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_sum(Self::float_mul(x.clone(), x))
    }
}

type Flexible = FloatTensor<Flex>;

impl AdamWOps for Flex {
    fn adamw(
        parameter: Flexible,
        gradient: Flexible,
        first: Flexible,
        second: Flexible,
        clip: Flexible,
        rule: Rule,
    ) -> (Flexible, Flexible, Flexible) {
        let gradient = gradient.to_contiguous();
        let clip = numbers(&clip)[0];
        // Updated in place, unless somebody else holds them: then this copies.
        let [mut parameter, mut first, mut second] =
            [parameter, first, second].map(|tensor| tensor.to_contiguous());
        let moments = [first.storage_mut::<f32>(), second.storage_mut::<f32>()];
        native::step(&rule, clip, numbers(&gradient), parameter.storage_mut(), moments);
        (parameter, first, second)
    }

    fn averaged(average: Flexible, new: Flexible, factors: [f32; 2]) -> Flexible {
        // In place, unless somebody else holds it: then this copies.
        let [mut average, new] = [average, new].map(|tensor| tensor.to_contiguous());
        native::average(average.storage_mut(), numbers(&new), factors);
        average
    }

    fn sum_of_squares(x: Flexible) -> Flexible {
        let x = x.to_contiguous();
        tensor(vec![native::sum_of_squares(numbers(&x))], [1])
    }
}

by_primitives!(AdamWOps);
