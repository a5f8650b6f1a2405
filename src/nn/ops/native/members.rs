//! The members of a network that share its weights: where they part, and where each has a head of
//! its own.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::buffer::in_blocks;

/// Numbers that a thread takes at a time: a block and what it is made from fit the second cache
/// level.
const CHUNK: usize = 1 << 14;

/// Sizes: k members, width W.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    pub members: usize,
    pub width: usize,
}

/// Every row once for each member, times the member's scale: x `[B, W]`, scale `[k, W]` to
/// `[B k, W]`.
pub fn spread(size: Spread, x: &[f32], scale: &[f32]) -> Vec<f32> {
    let arch = Arch::new();
    let Spread { members, width } = size;
    let block = (CHUNK / (members * width)).max(1);
    let rows = x.par_chunks(block * width);
    in_blocks(x.len() * members, block * members * width, rows, |_, y, x| {
        arch.dispatch(SpreadBlock { size, x, scale, y });
    })
}

struct SpreadBlock<'a> {
    size: Spread,
    x: &'a [f32],
    scale: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for SpreadBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Spread { members, width } = self.size;
        for (y, x) in self.y.chunks_exact_mut(members * width).zip(self.x.chunks_exact(width)) {
            for (y, scale) in y.chunks_exact_mut(width).zip(self.scale.chunks_exact(width)) {
                for ((y, x), scale) in y.iter_mut().zip(x).zip(scale) {
                    *y = x * scale;
                }
            }
        }
    }
}

/// Gradients by x and scale.
pub fn spread_backward(
    size: Spread,
    x: &[f32],
    scale: &[f32],
    gradient: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let arch = Arch::new();
    let Spread { members, width } = size;
    let block = (CHUNK / (members * width)).max(1);
    let rows = gradient.par_chunks(block * members * width);
    let d_x = in_blocks(x.len(), block * width, rows, |_, d_x, gradient| {
        arch.dispatch(SpreadBackX { size, scale, gradient, d_x });
    });
    let mut d_scale = vec![0.0; scale.len()];
    d_scale.par_chunks_mut(width).enumerate().for_each(|(member, d_scale)| {
        arch.dispatch(SpreadBackScale { size, member, x, gradient, d_scale });
    });
    (d_x, d_scale)
}

struct SpreadBackX<'a> {
    size: Spread,
    scale: &'a [f32],
    gradient: &'a [f32],
    d_x: &'a mut [f32],
}

impl WithSimd for SpreadBackX<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Spread { members, width } = self.size;
        let rows = self.d_x.chunks_exact_mut(width);
        for (d_x, gradient) in rows.zip(self.gradient.chunks_exact(members * width)) {
            d_x.fill(0.0);
            for (gradient, scale) in
                gradient.chunks_exact(width).zip(self.scale.chunks_exact(width))
            {
                for ((d, gradient), scale) in d_x.iter_mut().zip(gradient).zip(scale) {
                    *d += gradient * scale;
                }
            }
        }
    }
}

/// One member's scale: sums run over the rows in their order.
struct SpreadBackScale<'a> {
    size: Spread,
    member: usize,
    x: &'a [f32],
    gradient: &'a [f32],
    d_scale: &'a mut [f32],
}

impl WithSimd for SpreadBackScale<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Spread { members, width } = self.size;
        let rows = self.x.chunks_exact(width);
        for (x, gradient) in rows.zip(self.gradient.chunks_exact(members * width)) {
            let gradient = &gradient[self.member * width..][..width];
            for ((d, x), gradient) in self.d_scale.iter_mut().zip(x).zip(gradient) {
                *d += x * gradient;
            }
        }
    }
}

/// Sizes: k members with W inputs and K outputs each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    pub members: usize,
    pub width: usize,
    pub outputs: usize,
}

/// A linear layer of each member's own: x `[B k, W]`, weight `[k K, W]`, bias `[k K]` to
/// `[B, k K]`.
pub fn heads(size: Heads, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let Heads { members, width, outputs } = size;
    let rows = x.len() / (members * width);
    let block = (CHUNK / (members * width)).max(1);
    let with = x.par_chunks(block * members * width);
    in_blocks(rows * members * outputs, block * members * outputs, with, |_, y, x| {
        heads_into(size, x, (weight, bias), y);
    })
}

/// The same on this thread.
pub fn heads_into(size: Heads, x: &[f32], (weight, bias): (&[f32], &[f32]), y: &mut [f32]) {
    Arch::new().dispatch(HeadsBlock { size, x, weight, bias, y });
}

struct HeadsBlock<'a> {
    size: Heads,
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for HeadsBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Heads { members, width, outputs } = self.size;
        let rows = self.x.chunks_exact(members * width);
        for (y, x) in self.y.chunks_exact_mut(members * outputs).zip(rows) {
            for (at, y) in y.iter_mut().enumerate() {
                let x = &x[at / outputs * width..][..width];
                *y = self.bias[at] + dot(simd, x, &self.weight[at * width..][..width]);
            }
        }
    }
}

#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sum = simd.splat_f32s(0.0);
    for (a, b) in a.iter().zip(b) {
        sum = simd.mul_add_e_f32s(*a, *b, sum);
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sum) + rest
}

/// Gradients by x, weight and bias.
pub fn heads_backward(
    size: Heads,
    x: &[f32],
    weight: &[f32],
    gradient: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let arch = Arch::new();
    let Heads { members, width, outputs } = size;
    let block = (CHUNK / (members * width)).max(1);
    let rows = gradient.par_chunks(block * members * outputs);
    let d_x = in_blocks(x.len(), block * members * width, rows, |_, d_x, gradient| {
        arch.dispatch(HeadsBackX { size, weight, gradient, d_x });
    });
    let (mut d_weight, mut d_bias) = (vec![0.0; weight.len()], vec![0.0; members * outputs]);
    let pairs = d_weight.par_chunks_mut(width).zip(&mut d_bias);
    pairs.enumerate().for_each(|(at, (d_weight, d_bias))| {
        arch.dispatch(HeadsBackWeight { size, at, x, gradient, d_weight, d_bias });
    });
    (d_x, d_weight, d_bias)
}

struct HeadsBackX<'a> {
    size: Heads,
    weight: &'a [f32],
    gradient: &'a [f32],
    d_x: &'a mut [f32],
}

impl WithSimd for HeadsBackX<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Heads { members, width, outputs } = self.size;
        let rows = self.d_x.chunks_exact_mut(members * width);
        for (d_x, gradient) in rows.zip(self.gradient.chunks_exact(members * outputs)) {
            d_x.fill(0.0);
            for (at, gradient) in gradient.iter().enumerate() {
                let d_x = &mut d_x[at / outputs * width..][..width];
                for (d, weight) in d_x.iter_mut().zip(&self.weight[at * width..][..width]) {
                    *d += gradient * weight;
                }
            }
        }
    }
}

/// One output: sums run over the rows in their order.
struct HeadsBackWeight<'a> {
    size: Heads,
    at: usize,
    x: &'a [f32],
    gradient: &'a [f32],
    d_weight: &'a mut [f32],
    d_bias: &'a mut f32,
}

impl WithSimd for HeadsBackWeight<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Heads { members, width, outputs } = self.size;
        let rows = self.x.chunks_exact(members * width);
        for (x, gradient) in rows.zip(self.gradient.chunks_exact(members * outputs)) {
            let (x, gradient) = (&x[self.at / outputs * width..][..width], gradient[self.at]);
            *self.d_bias += gradient;
            for (d, x) in self.d_weight.iter_mut().zip(x) {
                *d += gradient * x;
            }
        }
    }
}
