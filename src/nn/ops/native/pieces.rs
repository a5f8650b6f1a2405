//! Piecewise-linear embeddings of numbers on a CPU. A number touches the weights of its own bin
//! and a prefix sum of those below it, however many bins there are.

use std::borrow::Cow;

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
    /// The bin of a number, and how far in it the number lies, 0..=1. The borders rise, but to
    /// count them all in vectors takes less time than to search, whose branches nobody foresees.
    #[inline(always)]
    fn place(&self, shape: Shape, number: usize, x: f32) -> (usize, f32) {
        let lows = &self.lows[number * shape.bins..][..shape.bins];
        let below: u32 = lows.iter().map(|low| u32::from(*low <= x)).sum();
        let bin = (below as usize).saturating_sub(1);
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
    let Shape { numbers, width, .. } = shape;
    let table = Table::new(shape, bins, weights);
    let block = (CHUNK / (numbers * width)).max(1);
    let rows = x.par_chunks(block * numbers);
    in_blocks(x.len() * width, block * numbers * width, rows, |_, y, x| {
        table.embed(x, y, numbers * width);
    })
}

/// Numbers whose bins are looked for at once, one in each lane of the widest vector.
const LANES: usize = 16;

/// Weights laid out for a forward pass.
#[derive(Debug)]
pub struct Table<'a> {
    shape: Shape,
    /// Lower borders of [`LANES`] numbers side by side, `[F / LANES, E, LANES]`.
    lows: Vec<[f32; LANES]>,
    inverses: Cow<'a, [f32]>,
    weight: Cow<'a, [f32]>,
    slope: Cow<'a, [f32]>,
    /// See [`below`].
    below: Vec<f32>,
}

impl<'a> Table<'a> {
    pub fn new(shape: Shape, bins: Bins<'a>, weights: &Weights<'a>) -> Self {
        let Shape { numbers, bins: count, .. } = shape;
        let mut lows = vec![[f32::MAX; LANES]; numbers.div_ceil(LANES) * count];
        for (number, of_number) in bins.lows.chunks_exact(count).enumerate() {
            let lines = &mut lows[number / LANES * count..];
            lines.iter_mut().zip(of_number).for_each(|(line, low)| line[number % LANES] = *low);
        }
        Table {
            shape,
            lows,
            inverses: bins.inverses.into(),
            weight: weights.weight.into(),
            slope: weights.slope.into(),
            below: below(shape, weights),
        }
    }

    /// The same with numbers of its own.
    pub fn into_owned(self) -> Table<'static> {
        let own = |numbers: Cow<[f32]>| Cow::Owned(numbers.into_owned());
        Table {
            shape: self.shape,
            lows: self.lows,
            inverses: own(self.inverses),
            weight: own(self.weight),
            slope: own(self.slope),
            below: self.below,
        }
    }

    /// Numbers that a row becomes.
    pub fn width(&self) -> usize {
        self.shape.numbers * self.shape.width
    }

    /// x `[B, F]` to the first F D numbers of the rows of y, each of `stride` numbers.
    pub fn embed(&self, x: &[f32], y: &mut [f32], stride: usize) {
        Arch::new().dispatch(Forward { table: self, x, y, stride });
    }
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
    table: &'a Table<'a>,
    x: &'a [f32],
    y: &'a mut [f32],
    stride: usize,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let width = self.table.shape.width;
        // What is known of a few numbers stays in the first cache level for all rows.
        for from in (0..self.table.shape.numbers).step_by(LANES) {
            match width {
                2 => self.lanes::<S, 2>(simd, from, 2),
                4 => self.lanes::<S, 4>(simd, from, 4),
                _ => self.lanes::<S, 0>(simd, from, width),
            }
        }
    }
}

impl Forward<'_> {
    /// The numbers from `from` on of all rows, with a width D that the compiler knows, or 0 for one
    /// that it does not: a loop over two numbers takes longer than the numbers.
    #[inline(always)]
    fn lanes<S: Simd, const D: usize>(&mut self, simd: S, from: usize, width: usize) {
        let width = if D == 0 { width } else { D };
        let Table { shape, lows, inverses, weight, slope, below } = self.table;
        let Shape { numbers, bins, .. } = *shape;
        let lanes = LANES.min(numbers - from);
        let lows = &lows[from / LANES * bins..][..bins];
        let rows = self.y.chunks_exact_mut(self.stride).zip(self.x.chunks_exact(numbers));
        for (y, x) in rows {
            let mut all = [0.0; LANES];
            all[..lanes].copy_from_slice(&x[from..from + lanes]);
            let bins_of = bins_of(simd, &all, lows);
            for lane in 0..lanes {
                let (number, x, bin) = (from + lane, all[lane], bins_of[lane] as usize);
                let share = (x - lows[bin][lane]) * inverses[number * bins + bin];
                let share = share.clamp(0.0, 1.0);
                let at = (number * bins + bin) * width;
                let (below, weight) = (&below[at..at + width], &weight[at..at + width]);
                let slope = &slope[number * width..][..width];
                let y = &mut y[number * width..][..width];
                for at in 0..width {
                    y[at] = below[at] + share * weight[at] + x * slope[at];
                }
            }
        }
    }
}

/// See [`Bins::place`].
#[inline(always)]
fn bins_of<S: Simd>(simd: S, x: &[f32; LANES], lows: &[[f32; LANES]]) -> [f32; LANES] {
    let [zero, one] = [0.0, 1.0].map(|x| simd.splat_f32s(x));
    let mut bins = [0.0; LANES];
    let vectors = S::as_mut_simd_f32s(&mut bins).0.iter_mut().zip(S::as_simd_f32s(x).0);
    for (at, (bin, x)) in vectors.enumerate() {
        let mut below = zero;
        for low in lows {
            let is_below = simd.less_than_or_equal_f32s(S::as_simd_f32s(low).0[at], *x);
            below = simd.add_f32s(below, simd.select_f32s(is_below, one, zero));
        }
        *bin = simd.sub_f32s(below, one);
    }
    // Below all borders lies the first bin too.
    bins.map(|bin| bin.max(0.0))
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
