//! Piecewise-linear embeddings of numbers on a CPU. A number touches the weights of its own bin
//! and a prefix sum of those below it, however many bins there are.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::buffer::in_blocks;

/// Numbers that a thread writes at a time.
const CHUNK: usize = 1 << 13;

/// Sizes: F numbers, E bins at most, embedded in D numbers each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub numbers: usize,
    pub bins: usize,
    pub width: usize,
}

/// Where the bins lie: lower borders and inverse widths, both `[F, E]`. A number with fewer bins
/// is filled up with borders above all numbers and inverse widths of zero.
#[derive(Debug, Clone, Copy)]
pub struct Bins<'a> {
    pub lows: &'a [f32],
    pub inverses: &'a [f32],
}

impl Bins<'_> {
    /// The bin of a number, and how far in it the number lies, 0..=1.
    #[inline(always)]
    fn place(&self, shape: Shape, number: usize, x: f32) -> (usize, f32) {
        let lows = &self.lows[number * shape.bins..][..shape.bins];
        let bin = lows.partition_point(|low| *low <= x).saturating_sub(1);
        let share = (x - lows[bin]) * self.inverses[number * shape.bins + bin];
        (bin, share.clamp(0.0, 1.0))
    }
}

/// What is learned: `weight [F, E, D]`, `slope [F, D]`, `bias [F, D]`.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    pub weight: &'a [f32],
    pub slope: &'a [f32],
    pub bias: &'a [f32],
}

/// x `[B, F]` to `[B, F D]`.
pub fn forward(shape: Shape, bins: Bins, x: &[f32], weights: &Weights) -> Vec<f32> {
    let arch = Arch::new();
    let Shape { numbers, width, .. } = shape;
    let below = below(shape, weights);
    let block = (CHUNK / (numbers * width)).max(1);
    let rows = x.par_chunks(block * numbers);
    in_blocks(x.len() * width, block * numbers * width, rows, |_, y, x| {
        arch.dispatch(Forward { shape, bins, weights, below: &below, x, y });
    })
}

/// The bias plus the weights of all bins below one, `[F, E, D]`.
fn below(shape: Shape, weights: &Weights) -> Vec<f32> {
    let Shape { bins, width, .. } = shape;
    let mut below = vec![0.0; weights.weight.len()];
    for (number, below) in below.chunks_exact_mut(bins * width).enumerate() {
        let weight = &weights.weight[number * bins * width..];
        below[..width].copy_from_slice(&weights.bias[number * width..][..width]);
        for at in width..bins * width {
            below[at] = below[at - width] + weight[at - width];
        }
    }
    below
}

struct Forward<'a> {
    shape: Shape,
    bins: Bins<'a>,
    weights: &'a Weights<'a>,
    below: &'a [f32],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Shape { numbers, bins, width } = self.shape;
        let rows = self.y.chunks_exact_mut(numbers * width).zip(self.x.chunks_exact(numbers));
        for (y, x) in rows {
            for (number, (y, x)) in y.chunks_exact_mut(width).zip(x).enumerate() {
                let (bin, share) = self.bins.place(self.shape, number, *x);
                let at = (number * bins + bin) * width;
                let parts = self.below[at..at + width].iter().zip(&self.weights.weight[at..]);
                let slope = &self.weights.slope[number * width..];
                for ((y, (below, weight)), slope) in y.iter_mut().zip(parts).zip(slope) {
                    *y = below + share * weight + x * slope;
                }
            }
        }
    }
}

/// Gradients by weight, slope and bias.
pub fn backward(shape: Shape, bins: Bins, x: &[f32], gradient: &[f32]) -> [Vec<f32>; 3] {
    let arch = Arch::new();
    let Shape { numbers, bins: count, width } = shape;
    let mut weight = vec![0.0; numbers * count * width];
    let [mut slope, mut bias] = [(); 2].map(|()| vec![0.0; numbers * width]);
    weight
        .par_chunks_mut(count * width)
        .zip(slope.par_chunks_mut(width).zip(bias.par_chunks_mut(width)))
        .enumerate()
        .for_each(|(number, (weight, (slope, bias)))| {
            let rows = Rows { shape, bins, number, x, gradient };
            arch.dispatch(Backward { rows, weight, slope, bias });
        });
    [weight, slope, bias]
}

/// One number of all rows.
struct Rows<'a> {
    shape: Shape,
    bins: Bins<'a>,
    number: usize,
    x: &'a [f32],
    gradient: &'a [f32],
}

/// Sums run over the rows in their order.
struct Backward<'a> {
    rows: Rows<'a>,
    weight: &'a mut [f32],
    slope: &'a mut [f32],
    bias: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Rows { shape, bins, number, x, gradient } = self.rows;
        let Shape { numbers, bins: count, width } = shape;
        // By bin, the gradients of all rows in it: each bin below it is passed by all of them.
        let mut above = vec![0.0f32; count * width];
        let rows = x.chunks_exact(numbers).zip(gradient.chunks_exact(numbers * width));
        for (x, gradient) in rows {
            let (x, gradient) = (x[number], &gradient[number * width..][..width]);
            let (bin, share) = bins.place(shape, number, x);
            let (weight, above) =
                (&mut self.weight[bin * width..][..width], &mut above[bin * width..][..width]);
            for at in 0..width {
                weight[at] += share * gradient[at];
                above[at] += gradient[at];
                self.slope[at] += x * gradient[at];
            }
        }
        for bin in (0..count).rev() {
            for at in 0..width {
                // So far the gradients of all rows in the bins above this one.
                self.weight[bin * width + at] += self.bias[at];
                self.bias[at] += above[bin * width + at];
            }
        }
    }
}
