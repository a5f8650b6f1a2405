//! A dense layer on a CPU, its activation inside: y = act(x W + b).
//!
//! Rows are cut into blocks that threads take; weights are packed once per call. The bias and the
//! activation are applied where the product leaves its sums, and the backward pass masks the
//! gradient where it packs it, so that no pass over memory is only for them. Sums run over the
//! rows in their order whatever the number of threads.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::buffer::Buffer;
use super::product::{Tile, columns_times, rows_times, set, vector};

/// Sizes: M rows, K inputs, N outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
}

/// What follows the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    None,
    Relu,
}

/// Rows of a block, a multiple of both tile heights: few enough that all threads get work from a
/// batch of 256, enough to use a packed weight several times from the first cache level.
const BLOCK_ROWS: usize = 48;

/// Rows of a register tile where there are 32 vector registers, and where there are 16.
const TILE_ROWS: usize = 12;
const TILE_ROWS_NARROW: usize = 4;

/// Vectors of a register tile.
const TILE_VECTORS: usize = 2;

/// Columns of a panel.
const fn panel_width<S: Simd>() -> usize {
    TILE_VECTORS * S::F32_LANES
}

/// y `[M, N]` from x `[M, K]`, W `[K, N]` and b `[N]`.
pub fn forward(
    shape: Shape,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    activation: Activation,
) -> Vec<f32> {
    let arch = Arch::new();
    let mut y = vec![0.0; shape.rows * shape.outputs];
    if shape.outputs == 1 {
        arch.dispatch(Dots { shape, x, weight, y: &mut y });
        let finish = |sum: f32| match activation {
            Activation::None => sum + bias[0],
            Activation::Relu => (sum + bias[0]).max(0.0),
        };
        y.iter_mut().for_each(|y| *y = finish(*y));
        return y;
    }
    let packed = arch.dispatch(Pack { rows: shape.inputs, columns: shape.outputs, weight });
    y.par_chunks_mut(BLOCK_ROWS * shape.outputs)
        .zip(x.par_chunks(BLOCK_ROWS * shape.inputs))
        .for_each(|(y, x)| {
            arch.dispatch(ForwardBlock { shape, x, packed: &packed, bias, activation, y });
        });
    y
}

/// Gradients of a layer.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// `[M, K]`; None if not asked for.
    pub x: Option<Vec<f32>>,
    /// `[K, N]`.
    pub weight: Vec<f32>,
    /// `[N]`.
    pub bias: Vec<f32>,
}

/// What the backward pass starts from.
#[derive(Debug, Clone, Copy)]
pub struct Upstream<'a> {
    /// `[M, K]`.
    pub x: &'a [f32],
    /// `[K, N]`.
    pub weight: &'a [f32],
    /// `[M, N]`: the layer's output; where it is 0, relu passes no gradient.
    pub y: &'a [f32],
    /// `[M, N]`: gradient of the loss by the output.
    pub gradient: &'a [f32],
    pub activation: Activation,
}

pub fn backward(shape: Shape, up: &Upstream, with_x: bool) -> Gradients {
    let arch = Arch::new();
    let Shape { rows, inputs, outputs } = shape;
    let mut d_x = vec![0.0; if with_x { rows * inputs } else { 0 }];
    if outputs == 1 {
        let (weight, bias) = arch.dispatch(DotsBackward { shape, up, d_x: &mut d_x });
        return Gradients { x: with_x.then_some(d_x), weight, bias: vec![bias] };
    }
    let transposed = transpose(up.weight, inputs, outputs);
    let blocks = rows.div_ceil(BLOCK_ROWS);
    let wide = arch.dispatch(Padded(outputs));
    let mut d_z = Buffer::zeros(blocks * BLOCK_ROWS * wide);
    let packed =
        with_x.then(|| arch.dispatch(Pack { rows: outputs, columns: inputs, weight: &transposed }));
    let mut d_x_of: Vec<&mut [f32]> = (0..blocks).map(|_| Default::default()).collect();
    if with_x {
        d_x_of = d_x.chunks_mut(BLOCK_ROWS * inputs).collect();
    }
    d_z.par_chunks_mut(BLOCK_ROWS * wide).zip(d_x_of).enumerate().for_each(
        |(block, (d_z, d_x))| {
            let from = block * BLOCK_ROWS * outputs;
            let to = (from + BLOCK_ROWS * outputs).min(rows * outputs);
            let (y, gradient) = (&up.y[from..to], &up.gradient[from..to]);
            let packed = packed.as_deref();
            arch.dispatch(BackwardBlock { shape, up, y, gradient, packed, d_z, d_x });
        },
    );
    // Each thread sums some rows of the weight's gradient over all rows of the batch.
    let groups = rayon::current_num_threads() * 2;
    let group_inputs = inputs.div_ceil(groups).next_multiple_of(TILE_ROWS);
    let mut weight = vec![0.0; inputs * outputs];
    weight.par_chunks_mut(group_inputs * outputs).enumerate().for_each(|(group, d_weight)| {
        let first = group * group_inputs;
        arch.dispatch(WeightGradient { shape, x: up.x, first, d_z: &d_z, d_weight });
    });
    let bias = arch.dispatch(BiasGradient { shape, d_z: &d_z });
    Gradients { x: with_x.then_some(d_x), weight, bias }
}

/// The next whole number of panels.
struct Padded(usize);

impl WithSimd for Padded {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        self.0.next_multiple_of(panel_width::<S>())
    }
}

fn transpose(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    /// Both sides of a square stay in the first cache level.
    const SQUARE: usize = 32;
    let mut out = vec![0.0; rows * columns];
    out.par_chunks_mut(SQUARE * rows).enumerate().for_each(|(strip, out)| {
        let first = strip * SQUARE;
        for from in (0..rows).step_by(SQUARE) {
            for (at, out) in out.chunks_exact_mut(rows).enumerate() {
                for row in from..rows.min(from + SQUARE) {
                    out[row] = matrix[row * columns + first + at];
                }
            }
        }
    });
    out
}

/// A matrix in panels: `[columns / width, rows, width]`, filled up with zeros.
struct Pack<'a> {
    rows: usize,
    columns: usize,
    weight: &'a [f32],
}

impl WithSimd for Pack<'_> {
    type Output = Buffer;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Buffer {
        let width = panel_width::<S>();
        let mut panels = Buffer::zeros(self.rows * self.columns.next_multiple_of(width));
        panels.par_chunks_mut(self.rows * width).enumerate().for_each(|(panel, out)| {
            let first = panel * width;
            let count = width.min(self.columns - first);
            for (row, out) in out.chunks_exact_mut(width).enumerate() {
                out[..count].copy_from_slice(&self.weight[row * self.columns + first..][..count]);
            }
        });
        panels
    }
}

struct ForwardBlock<'a> {
    shape: Shape,
    x: &'a [f32],
    packed: &'a [f32],
    bias: &'a [f32],
    activation: Activation,
    y: &'a mut [f32],
}

impl WithSimd for ForwardBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            self.run::<S, TILE_ROWS>(simd)
        } else {
            self.run::<S, TILE_ROWS_NARROW>(simd)
        }
    }
}

impl ForwardBlock<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) {
        let Shape { inputs, outputs, .. } = self.shape;
        let width = panel_width::<S>();
        let rows = self.y.len() / outputs;
        let zero = simd.splat_f32s(0.0);
        for (panel, weights) in self.packed.chunks_exact(inputs * width).enumerate() {
            let first = panel * width;
            let weights = S::as_simd_f32s(weights).0.as_chunks::<TILE_VECTORS>().0;
            let bias: [S::f32s; TILE_VECTORS] = std::array::from_fn(|v| {
                let from = (first + v * S::F32_LANES).min(outputs);
                let to = (from + S::F32_LANES).min(outputs);
                simd.partial_load_f32s(&self.bias[from..to])
            });
            for tile in (0..rows).step_by(R) {
                let x: [&[f32]; R] = std::array::from_fn(|r| {
                    &self.x[(tile + r).min(rows - 1) * inputs..][..inputs]
                });
                let mut acc = rows_times(simd, [bias; R], x, weights);
                for r in 0..R {
                    for v in 0..TILE_VECTORS {
                        if self.activation == Activation::Relu {
                            acc[r][v] = simd.max_f32s(acc[r][v], zero);
                        }
                    }
                }
                let out = (&mut self.y[tile * outputs..], outputs, rows - tile);
                store::<S, R>(simd, acc, out, first);
            }
        }
    }
}

/// Writes the part of a tile that exists: of `rows` rows, the columns from `first` on.
#[inline(always)]
fn store<S: Simd, const R: usize>(
    simd: S,
    acc: Tile<S, R, TILE_VECTORS>,
    (out, columns, rows): (&mut [f32], usize, usize),
    first: usize,
) {
    for r in 0..R {
        for v in 0..TILE_VECTORS {
            let from = first + v * S::F32_LANES;
            if r < rows && from < columns {
                let to = (from + S::F32_LANES).min(columns);
                let out = &mut out[r * columns + from..r * columns + to];
                if out.len() == S::F32_LANES {
                    set::<S>(out, 0, acc[r][v]);
                } else {
                    simd.partial_store_f32s(out, acc[r][v]);
                }
            }
        }
    }
}

struct BackwardBlock<'a> {
    shape: Shape,
    up: &'a Upstream<'a>,
    /// Of the block.
    y: &'a [f32],
    gradient: &'a [f32],
    /// The transposed weights, if the gradient by x is wanted.
    packed: Option<&'a [f32]>,
    /// `[panels, rows, width]`: gradient before the activation, as the next two products read it.
    d_z: &'a mut [f32],
    d_x: &'a mut [f32],
}

impl WithSimd for BackwardBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            self.run::<S, TILE_ROWS>(simd)
        } else {
            self.run::<S, TILE_ROWS_NARROW>(simd)
        }
    }
}

impl BackwardBlock<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) {
        let Shape { inputs, outputs, .. } = self.shape;
        let width = panel_width::<S>();
        let rows = self.gradient.len() / outputs;
        for (panel, d_z) in self.d_z.chunks_exact_mut(BLOCK_ROWS * width).enumerate() {
            let first = panel * width;
            let count = width.min(outputs - first);
            for (row, d_z) in d_z.chunks_exact_mut(width).take(rows).enumerate() {
                let at = row * outputs + first;
                let gradient = &self.gradient[at..at + count];
                match self.up.activation {
                    Activation::None => d_z[..count].copy_from_slice(gradient),
                    Activation::Relu => {
                        let y = &self.y[at..at + count];
                        for ((d_z, g), y) in d_z.iter_mut().zip(gradient).zip(y) {
                            *d_z = if *y > 0.0 { *g } else { 0.0 };
                        }
                    }
                }
            }
        }
        let Some(packed) = self.packed else { return };
        for (panel, weights) in packed.chunks_exact(outputs * width).enumerate() {
            let weights = S::as_simd_f32s(weights).0.as_chunks::<TILE_VECTORS>().0;
            for tile in (0..rows).step_by(R) {
                let mut acc: Tile<S, R, TILE_VECTORS> = [[simd.splat_f32s(0.0); TILE_VECTORS]; R];
                let pieces = self.d_z.chunks_exact(BLOCK_ROWS * width).zip(weights.chunks(width));
                for (d_z, weights) in pieces {
                    let rows: [&[f32]; R] =
                        std::array::from_fn(|r| &d_z[(tile + r) * width..][..weights.len()]);
                    acc = rows_times(simd, acc, rows, weights);
                }
                let out = (&mut self.d_x[tile * inputs..], inputs, rows - tile);
                store::<S, R>(simd, acc, out, panel * width);
            }
        }
    }
}

struct WeightGradient<'a> {
    shape: Shape,
    x: &'a [f32],
    /// First input, row of the weight's gradient.
    first: usize,
    d_z: &'a [f32],
    /// Some rows of it.
    d_weight: &'a mut [f32],
}

impl WithSimd for WeightGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let Shape { inputs, outputs, .. } = self.shape;
        let width = panel_width::<S>();
        let wide = outputs.next_multiple_of(width);
        let count = self.d_weight.len() / outputs;
        let blocks = self.x.chunks(BLOCK_ROWS * inputs).zip(self.d_z.chunks(BLOCK_ROWS * wide));
        for (x, d_z) in blocks {
            for (panel, d_z) in d_z.chunks_exact(BLOCK_ROWS * width).enumerate() {
                let mut at = 0;
                if S::REGISTER_COUNT >= 32 {
                    while at + TILE_ROWS <= count {
                        self.tile::<S, TILE_ROWS>(simd, at, x, d_z, panel * width);
                        at += TILE_ROWS;
                    }
                }
                while at + TILE_ROWS_NARROW <= count {
                    self.tile::<S, TILE_ROWS_NARROW>(simd, at, x, d_z, panel * width);
                    at += TILE_ROWS_NARROW;
                }
                while at < count {
                    self.tile::<S, 1>(simd, at, x, d_z, panel * width);
                    at += 1;
                }
            }
        }
    }
}

impl WeightGradient<'_> {
    #[inline(always)]
    fn tile<S: Simd, const R: usize>(
        &mut self,
        simd: S,
        at: usize,
        x: &[f32],
        d_z: &[f32],
        column: usize,
    ) {
        let Shape { inputs, outputs, .. } = self.shape;
        let mut acc: Tile<S, R, TILE_VECTORS> = [[simd.splat_f32s(0.0); TILE_VECTORS]; R];
        let width = panel_width::<S>();
        acc = columns_times(simd, acc, (x, inputs, self.first + at), (d_z, width, 0));
        let out = &mut self.d_weight[at * outputs..];
        for r in 0..R {
            for v in 0..TILE_VECTORS {
                let from = column + v * S::F32_LANES;
                if from < outputs {
                    let to = (from + S::F32_LANES).min(outputs);
                    let out = &mut out[r * outputs + from..r * outputs + to];
                    if out.len() == S::F32_LANES {
                        let sum = simd.add_f32s(vector::<S>(out, 0), acc[r][v]);
                        set::<S>(out, 0, sum);
                    } else {
                        let sum = simd.add_f32s(simd.partial_load_f32s(out), acc[r][v]);
                        simd.partial_store_f32s(out, sum);
                    }
                }
            }
        }
    }
}

struct BiasGradient<'a> {
    shape: Shape,
    d_z: &'a [f32],
}

impl WithSimd for BiasGradient<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let width = panel_width::<S>();
        let wide = self.shape.outputs.next_multiple_of(width);
        let mut sums = Buffer::zeros(wide);
        // Rows of filling hold zeros.
        for block in self.d_z.chunks_exact(BLOCK_ROWS * wide) {
            let panels = block.chunks_exact(BLOCK_ROWS * width);
            for (panel, sums) in panels.zip(sums.chunks_exact_mut(width)) {
                let sums = S::as_mut_simd_f32s(sums).0;
                for row in S::as_simd_f32s(panel).0.chunks_exact(TILE_VECTORS) {
                    for (sum, x) in sums.iter_mut().zip(row) {
                        *sum = simd.add_f32s(*sum, *x);
                    }
                }
            }
        }
        sums[..self.shape.outputs].to_vec()
    }
}

/// One output: a dot product per row, without the bias.
struct Dots<'a> {
    shape: Shape,
    x: &'a [f32],
    weight: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (y, x) in self.y.iter_mut().zip(self.x.chunks_exact(self.shape.inputs)) {
            let (x, x_rest) = S::as_simd_f32s(x);
            let (w, w_rest) = S::as_simd_f32s(self.weight);
            let mut sum = simd.splat_f32s(0.0);
            for (x, w) in x.iter().zip(w) {
                sum = simd.mul_add_e_f32s(*x, *w, sum);
            }
            let rest: f32 = x_rest.iter().zip(w_rest).map(|(x, w)| x * w).sum();
            *y = simd.reduce_sum_f32s(sum) + rest;
        }
    }
}

struct DotsBackward<'a> {
    shape: Shape,
    up: &'a Upstream<'a>,
    /// Empty if it is not wanted.
    d_x: &'a mut [f32],
}

impl WithSimd for DotsBackward<'_> {
    type Output = (Vec<f32>, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (Vec<f32>, f32) {
        let inputs = self.shape.inputs;
        let (mut weight, mut bias) = (vec![0.0; inputs], 0.0);
        for (row, x) in self.up.x.chunks_exact(inputs).enumerate() {
            let passed = self.up.activation == Activation::None || self.up.y[row] > 0.0;
            let gradient = if passed { self.up.gradient[row] } else { 0.0 };
            bias += gradient;
            let g = simd.splat_f32s(gradient);
            let (x, x_rest) = S::as_simd_f32s(x);
            let (sums, sums_rest) = S::as_mut_simd_f32s(&mut weight);
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum = simd.mul_add_e_f32s(g, *x, *sum);
            }
            sums_rest.iter_mut().zip(x_rest).for_each(|(sum, x)| *sum += gradient * x);
            if !self.d_x.is_empty() {
                let d_x = &mut self.d_x[row * inputs..][..inputs];
                let (d_x, d_x_rest) = S::as_mut_simd_f32s(d_x);
                let (w, w_rest) = S::as_simd_f32s(self.up.weight);
                d_x.iter_mut().zip(w).for_each(|(d, w)| *d = simd.mul_f32s(g, *w));
                d_x_rest.iter_mut().zip(w_rest).for_each(|(d, w)| *d = gradient * w);
            }
        }
        (weight, bias)
    }
}
