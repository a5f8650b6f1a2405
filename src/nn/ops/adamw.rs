//! One AdamW step of one parameter, the clipping of the gradients' norm, and moving averages.
//!
//! On the flex backend and on GPUs each is one pass over memory.

#![expect(
    clippy::too_many_arguments,
    reason = "a backend operation takes each of its tensors by itself"
)]

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

/// [`adamw`], and [`averaged`] of the parameter that it ends at: parameter, moments and average.
pub fn adamw_averaged(
    parameter: Tensor<1>,
    gradient: Tensor<1>,
    [first, second]: [Tensor<1>; 2],
    clip: Tensor<1>,
    rule: Rule,
    (average, keep): (Tensor<1>, f64),
) -> (Tensor<1>, [Tensor<1>; 2], Tensor<1>) {
    let (parameter, first, second, average) = <Dispatch as AdamWOps>::adamw_averaged(
        parameter.into_dispatch(),
        gradient.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        clip.into_dispatch(),
        average.into_dispatch(),
        rule,
        factors(keep),
    );
    let moments = [first, second].map(Tensor::from_dispatch);
    (Tensor::from_dispatch(parameter), moments, Tensor::from_dispatch(average))
}

fn factors(keep: f64) -> [f32; 2] {
    [keep as f32, (1.0 - keep) as f32]
}

/// The sum of the squares of x and those before, or parts of it, as many as the backend likes.
pub fn squares(x: Tensor<1>, before: Option<Tensor<1>>) -> Tensor<1> {
    let x = x.into_dispatch();
    Tensor::from_dispatch(match before {
        Some(before) => <Dispatch as AdamWOps>::add_squares(x, before.into_dispatch()),
        None => <Dispatch as AdamWOps>::squares(x),
    })
}

/// `[1]`: what gradients with these [`squares`] are multiplied with to keep their norm within the
/// limit.
pub fn clip(squares: Tensor<1>, limit: f64) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as AdamWOps>::clip(squares.into_dispatch(), limit as f32))
}

/// The moving average after a step that ended at `new`; both `[P]`.
pub fn averaged(average: Tensor<1>, new: Tensor<1>, keep: f64) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as AdamWOps>::averaged(
        average.into_dispatch(),
        new.into_dispatch(),
        factors(keep),
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
    #[fusion(meta = |parameter, _gradient, first, second, _clip, _rule| {
        (parameter.clone(), first.clone(), second.clone())
    })]
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

    /// Both in one.
    #[fusion(meta = |parameter, _gradient, first, second, _clip, average, _rule, _factors| {
        (parameter.clone(), first.clone(), second.clone(), average.clone())
    })]
    fn adamw_averaged(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        clip: FloatTensor<Self>,
        average: FloatTensor<Self>,
        rule: Rule,
        factors: [f32; 2],
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (new, first, second) = Self::adamw(parameter, gradient, first, second, clip, rule);
        let average = Self::averaged(average, new.clone(), factors);
        (new, first, second, average)
    }

    /// The sum of both, each times its factor.
    #[fusion(dtype = average, shape = average)]
    fn averaged(
        average: FloatTensor<Self>,
        new: FloatTensor<Self>,
        factors: [f32; 2],
    ) -> FloatTensor<Self> {
        let times = |tensor, factor: f32| Self::float_mul_scalar(tensor, factor.into());
        Self::float_add(times(average, factors[0]), times(new, factors[1]))
    }

    #[fusion(dtype = x, shape = parts())]
    fn squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_sum(Self::float_mul(x.clone(), x))
    }

    #[fusion(dtype = x, shape = before)]
    fn add_squares(x: FloatTensor<Self>, before: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_add(before, Self::squares(x))
    }

    #[fusion(dtype = squares, shape = [1].into())]
    fn clip(squares: FloatTensor<Self>, limit: f32) -> FloatTensor<Self> {
        // A division by zero is none.
        let norm = Self::float_add_scalar(Self::float_sqrt(squares), 1e-6.into());
        let factor = Self::float_mul_scalar(Self::float_recip(norm), limit.into());
        Self::float_clamp_max(factor, 1.0.into())
    }
}

#[cfg(feature = "gpu")]
fn parts() -> burn::prelude::Shape {
    [super::gpu::PARTS].into()
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

    fn squares(x: Flexible) -> Flexible {
        let x = x.to_contiguous();
        tensor(vec![native::sum_of_squares(numbers(&x))], [1])
    }
}

#[cfg(feature = "gpu")]
mod cube {
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;
    use burn_cubecl::tensor::CubeTensor;

    use super::{AdamWOps, Rule};
    use crate::nn::ops::gpu::optimizer;

    impl AdamWOps for CubeBackend {
        fn adamw(
            parameter: CubeTensor,
            gradient: CubeTensor,
            first: CubeTensor,
            second: CubeTensor,
            clip: CubeTensor,
            rule: Rule,
        ) -> (CubeTensor, CubeTensor, CubeTensor) {
            let [parameter, gradient] = [parameter, gradient].map(into_contiguous);
            let moments = [first, second].map(into_contiguous);
            let step = optimizer::Step { parameter, gradient, moments, clip, average: None };
            let ([parameter, first, second], _) = optimizer::adamw(step, rule);
            (parameter, first, second)
        }

        fn adamw_averaged(
            parameter: CubeTensor,
            gradient: CubeTensor,
            first: CubeTensor,
            second: CubeTensor,
            clip: CubeTensor,
            average: CubeTensor,
            rule: Rule,
            factors: [f32; 2],
        ) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
            let [parameter, gradient] = [parameter, gradient].map(into_contiguous);
            let moments = [first, second].map(into_contiguous);
            let average = Some((into_contiguous(average), factors));
            let step = optimizer::Step { parameter, gradient, moments, clip, average };
            let ([parameter, first, second], average) = optimizer::adamw(step, rule);
            (parameter, first, second, average)
        }

        fn averaged(average: CubeTensor, new: CubeTensor, factors: [f32; 2]) -> CubeTensor {
            let [average, new] = [average, new].map(into_contiguous);
            optimizer::averaged(average, new, factors)
        }

        fn squares(x: CubeTensor) -> CubeTensor {
            optimizer::squares(into_contiguous(x), None)
        }

        fn add_squares(x: CubeTensor, before: CubeTensor) -> CubeTensor {
            optimizer::squares(into_contiguous(x), Some(before))
        }

        fn clip(squares: CubeTensor, limit: f32) -> CubeTensor {
            optimizer::clip(squares, limit)
        }
    }
}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
impl AdamWOps for burn_ndarray::NdArray {}
