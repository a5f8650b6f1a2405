//! A dense layer with one output: dot products, for which tiles would be mostly filling.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::super::buffer::in_blocks;
use super::Activation;
use super::backward::{Gradients, Mask, Upstream};

/// One output: a dot product per row.
pub(super) struct Dots<'a> {
    pub x: &'a [f32],
    pub weight: &'a [f32],
    pub bias: f32,
    pub activation: Activation,
    pub y: &'a mut [f32],
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let inputs = self.weight.len();
        let (w, w_rest) = S::as_simd_f32s(self.weight);
        for (y, x) in self.y.iter_mut().zip(self.x.chunks_exact(inputs)) {
            let (x, x_rest) = S::as_simd_f32s(x);
            let mut sum = simd.splat_f32s(0.0);
            for (x, w) in x.iter().zip(w) {
                sum = simd.mul_add_e_f32s(*x, *w, sum);
            }
            let rest: f32 = x_rest.iter().zip(w_rest).map(|(x, w)| x * w).sum();
            *y = simd.reduce_sum_f32s(sum) + rest + self.bias;
            // Not max, which would turn a NaN into 0.
            if self.activation == Activation::Relu && *y < 0.0 {
                *y = 0.0;
            }
        }
    }
}

/// Rows whose sums one thread makes; the sums are added in the order of the rows.
const NARROW_ROWS: usize = 1024;

/// The backward pass of a layer with one output.
pub(super) fn narrow_backward(up: &Upstream, gradient: &mut [f32], with_x: bool) -> Gradients {
    let arch = Arch::new();
    let inputs = up.weight.len();
    if up.activation == Activation::Relu {
        arch.dispatch(Mask { y: up.y, gradient });
    }
    let gradient = &*gradient;
    let blocks = || gradient.par_chunks(NARROW_ROWS);
    let sums: Vec<(Vec<f32>, f32)> = blocks()
        .zip(up.x.par_chunks(NARROW_ROWS * inputs))
        .map(|(gradient, x)| arch.dispatch(WeightedSum { x, gradient, inputs }))
        .collect();
    let (mut weight, mut bias) = (vec![0.0; inputs], 0.0);
    for (of_block, bias_of_block) in sums {
        weight.iter_mut().zip(of_block).for_each(|(sum, x)| *sum += x);
        bias += bias_of_block;
    }
    let x = with_x.then(|| {
        in_blocks(gradient.len() * inputs, NARROW_ROWS * inputs, blocks(), |_, d_x, gradient| {
            arch.dispatch(Outer { gradient, weight: up.weight, d_x });
        })
    });
    Gradients { x, weight, bias: vec![bias] }
}

/// Sum of the rows of x, each times its gradient, and the sum of the gradients.
pub(super) struct WeightedSum<'a> {
    pub x: &'a [f32],
    pub gradient: &'a [f32],
    pub inputs: usize,
}

impl WithSimd for WeightedSum<'_> {
    type Output = (Vec<f32>, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (Vec<f32>, f32) {
        let mut sum = vec![0.0; self.inputs];
        let (lanes, rest) = S::as_mut_simd_f32s(&mut sum);
        for (gradient, x) in self.gradient.iter().zip(self.x.chunks_exact(self.inputs)) {
            let g = simd.splat_f32s(*gradient);
            let (x, x_rest) = S::as_simd_f32s(x);
            for (sum, x) in lanes.iter_mut().zip(x) {
                *sum = simd.mul_add_e_f32s(g, *x, *sum);
            }
            rest.iter_mut().zip(x_rest).for_each(|(sum, x)| *sum += gradient * x);
        }
        (sum, self.gradient.iter().sum())
    }
}

/// d_x: the weights times each row's gradient.
pub(super) struct Outer<'a> {
    pub gradient: &'a [f32],
    pub weight: &'a [f32],
    pub d_x: &'a mut [f32],
}

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (w, w_rest) = S::as_simd_f32s(self.weight);
        let rows = self.d_x.chunks_exact_mut(self.weight.len());
        for (gradient, d_x) in self.gradient.iter().zip(rows) {
            let g = simd.splat_f32s(*gradient);
            let (d_x, rest) = S::as_mut_simd_f32s(d_x);
            for (d_x, w) in d_x.iter_mut().zip(w) {
                *d_x = simd.mul_f32s(g, *w);
            }
            rest.iter_mut().zip(w_rest).for_each(|(d_x, w)| *d_x = gradient * w);
        }
    }
}
