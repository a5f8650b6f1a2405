//! Gradients of a dense layer.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::super::buffer::{Buffer, LINE, Pooled, in_blocks};
use super::super::product::{Tile, columns_times, rows_times, set, vector};
use super::narrow::narrow_backward;
use super::{
    Activation, BLOCK_ROWS, Order, Pack, Shape, TILE_ROWS, TILE_ROWS_NARROW, TILE_VECTORS,
    panel_width, store,
};

/// Rows that a tile of the weight's gradient sums in registers before it is added up in memory.
const SUM_ROWS: usize = 96;

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
    if outputs == 1 {
        return narrow_backward(up, with_x);
    }
    let stride = arch.dispatch(Stride(outputs));
    let mut d_z = Pooled::dirty(rows.next_multiple_of(BLOCK_ROWS) * stride);
    let gradients = up.gradient.par_chunks(BLOCK_ROWS * outputs);
    let blocks = d_z
        .par_chunks_mut(BLOCK_ROWS * stride)
        .zip(gradients.zip(up.y.par_chunks(BLOCK_ROWS * outputs)));
    let d_x = if with_x {
        // The transposed weights: row by row, they are what the weights are column by column.
        let packed = arch.dispatch(Pack {
            rows: outputs,
            columns: inputs,
            matrix: up.weight,
            order: Order::ColumnMajor,
        });
        let make = |_, d_x: &mut [f32], (d_z, (gradient, y)): (&mut [f32], (&[f32], &[f32]))| {
            arch.dispatch(Unactivate { shape, activation: up.activation, y, gradient, d_z });
            arch.dispatch(InputBlock { shape, d_z, packed: &packed, d_x });
        };
        Some(in_blocks(rows * inputs, BLOCK_ROWS * inputs, blocks, make))
    } else {
        blocks.for_each(|(d_z, (gradient, y))| {
            arch.dispatch(Unactivate { shape, activation: up.activation, y, gradient, d_z });
        });
        None
    };
    // Each thread sums some rows of the weight's gradient over all rows of the batch.
    let groups = rayon::current_num_threads();
    let group_inputs = inputs.div_ceil(groups).next_multiple_of(TILE_ROWS);
    let mut weight = vec![0.0; inputs * outputs];
    let of_group = |(group, d_weight): (usize, &mut [f32])| {
        let first = group * group_inputs;
        arch.dispatch(WeightGradient { shape, x: up.x, first, d_z: &d_z, d_weight });
    };
    let groups = weight.par_chunks_mut(group_inputs * outputs).enumerate();
    let bias = BiasGradient { shape, d_z: &d_z };
    let (bias, ()) = rayon::join(|| arch.dispatch(bias), || groups.for_each(of_group));
    Gradients { x: d_x, weight, bias }
}

/// Numbers from one row of the gradient to the next: whole panels and a line more, since rows a
/// power of two apart would share a few places of the first cache level.
pub(super) struct Stride(pub usize);

impl WithSimd for Stride {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        self.0.next_multiple_of(panel_width::<S>()) + LINE
    }
}

/// The gradient before the activation, and zeros around it.
pub(super) struct Unactivate<'a> {
    pub shape: Shape,
    pub activation: Activation,
    pub y: &'a [f32],
    pub gradient: &'a [f32],
    /// `[rows, N]`, padded.
    pub d_z: &'a mut [f32],
}

impl WithSimd for Unactivate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let outputs = self.shape.outputs;
        let stride = Stride(outputs).with_simd(simd);
        let rows = self.gradient.len() / outputs;
        let gradients = self.gradient.chunks_exact(outputs).zip(self.y.chunks_exact(outputs));
        for (d_z, (gradient, y)) in self.d_z.chunks_exact_mut(stride).zip(gradients) {
            match self.activation {
                Activation::None => d_z[..outputs].copy_from_slice(gradient),
                Activation::Relu => {
                    for ((d_z, g), y) in d_z.iter_mut().zip(gradient).zip(y) {
                        *d_z = if *y > 0.0 { *g } else { 0.0 };
                    }
                }
            }
            d_z[outputs..].fill(0.0);
        }
        self.d_z[rows * stride..].fill(0.0);
    }
}

/// d_x = d_z W^T.
pub(super) struct InputBlock<'a> {
    pub shape: Shape,
    pub d_z: &'a [f32],
    /// The transposed weights.
    pub packed: &'a [f32],
    pub d_x: &'a mut [f32],
}

impl WithSimd for InputBlock<'_> {
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

impl InputBlock<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) {
        let Shape { inputs, outputs, .. } = self.shape;
        let width = panel_width::<S>();
        let stride = Stride(outputs).with_simd(simd);
        let rows = self.d_x.len() / inputs;
        for (panel, weights) in self.packed.chunks_exact(outputs * width).enumerate() {
            let weights = S::as_simd_f32s(weights).0.as_chunks::<TILE_VECTORS>().0;
            for tile in (0..rows).step_by(R) {
                let d_z: [&[f32]; R] =
                    std::array::from_fn(|r| &self.d_z[(tile + r) * stride..][..outputs]);
                let acc = [[simd.splat_f32s(0.0); TILE_VECTORS]; R];
                let acc = rows_times(simd, acc, d_z, weights);
                let out = (&mut self.d_x[tile * inputs..], inputs, rows - tile);
                store::<S, R>(simd, acc, out, panel * width);
            }
        }
    }
}

pub(super) struct WeightGradient<'a> {
    pub shape: Shape,
    pub x: &'a [f32],
    /// First input, row of the weight's gradient.
    pub first: usize,
    pub d_z: &'a [f32],
    /// Some rows of it.
    pub d_weight: &'a mut [f32],
}

impl WithSimd for WeightGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let Shape { inputs, outputs, .. } = self.shape;
        let stride = Stride(outputs).with_simd(simd);
        let count = self.d_weight.len() / outputs;
        let blocks = self.x.chunks(SUM_ROWS * inputs).zip(self.d_z.chunks(SUM_ROWS * stride));
        let mut strips = Buffer::zeros(SUM_ROWS * count);
        for (x, d_z) in blocks {
            let rows = x.len() / inputs;
            // Strip by strip, as the tiles read them; the last ones are narrower.
            let mut from = 0;
            for (at, width) in tiles::<S>(count) {
                let strip = &mut strips[from..from + rows * width];
                let first = self.first + at;
                match width {
                    TILE_ROWS => cut::<TILE_ROWS>(x, inputs, first, strip),
                    TILE_ROWS_NARROW => cut::<TILE_ROWS_NARROW>(x, inputs, first, strip),
                    _ => cut::<1>(x, inputs, first, strip),
                }
                from += rows * width;
            }
            for column in (0..outputs).step_by(panel_width::<S>()) {
                let mut from = 0;
                for (at, width) in tiles::<S>(count) {
                    let strip = &strips[from..from + rows * width];
                    match width {
                        TILE_ROWS => self.tile::<S, TILE_ROWS>(simd, at, strip, d_z, column),
                        TILE_ROWS_NARROW => {
                            self.tile::<S, TILE_ROWS_NARROW>(simd, at, strip, d_z, column)
                        }
                        _ => self.tile::<S, 1>(simd, at, strip, d_z, column),
                    }
                    from += rows * width;
                }
            }
        }
    }
}

/// R columns of x, from `first` on, row by row.
#[inline(always)]
fn cut<const R: usize>(x: &[f32], inputs: usize, first: usize, strip: &mut [f32]) {
    for (strip, row) in strip.as_chunks_mut::<R>().0.iter_mut().zip(x.chunks_exact(inputs)) {
        strip.copy_from_slice(&row[first..first + R]);
    }
}

/// Cuts rows of a gradient into tiles: first row and height of each.
#[inline(always)]
fn tiles<S: Simd>(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let height = match rows - at {
            0 => return None,
            left if S::REGISTER_COUNT >= 32 && left >= TILE_ROWS => TILE_ROWS,
            left if left >= TILE_ROWS_NARROW => TILE_ROWS_NARROW,
            _ => 1,
        };
        at += height;
        Some((at - height, height))
    })
}

impl WeightGradient<'_> {
    /// Some rows of the gradient, a panel of its columns, from one block.
    #[inline(always)]
    fn tile<S: Simd, const R: usize>(
        &mut self,
        simd: S,
        at: usize,
        strip: &[f32],
        d_z: &[f32],
        column: usize,
    ) {
        let stride = Stride(self.shape.outputs).with_simd(simd);
        let acc = [[simd.splat_f32s(0.0); TILE_VECTORS]; R];
        let acc = columns_times(simd, acc, (strip, R, 0), (d_z, stride, column));
        self.add::<S, R>(simd, acc, at, column);
    }

    #[inline(always)]
    fn add<S: Simd, const R: usize>(
        &mut self,
        simd: S,
        acc: Tile<S, R, TILE_VECTORS>,
        at: usize,
        column: usize,
    ) {
        let outputs = self.shape.outputs;
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

pub(super) struct BiasGradient<'a> {
    pub shape: Shape,
    pub d_z: &'a [f32],
}

impl WithSimd for BiasGradient<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
        let stride = Stride(self.shape.outputs).with_simd(simd);
        let mut sums = Buffer::zeros(stride);
        let lanes = S::as_mut_simd_f32s(&mut sums).0;
        // Rows of filling hold zeros.
        for row in self.d_z.chunks_exact(stride) {
            for (sum, x) in lanes.iter_mut().zip(S::as_simd_f32s(row).0) {
                *sum = simd.add_f32s(*sum, *x);
            }
        }
        sums[..self.shape.outputs].to_vec()
    }
}
