//! A dense layer on a CPU, its activation inside: y = act(x W + b).
//!
//! Rows are cut into blocks that threads take; weights are packed once per call. The bias and the
//! activation are applied where the product leaves its sums, and the backward pass masks the
//! gradient where it packs it, so that no pass over memory is only for them. Sums run over the
//! rows in their order whatever the number of threads.

mod backward;
mod narrow;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::buffer::{LINE, Pooled, in_blocks};
use super::product::{Tile, rows_times, set};

#[cfg(test)]
pub use backward::Gradients;
pub use backward::{Upstream, backward};

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
const TILE_ROWS: usize = 6;
const TILE_ROWS_NARROW: usize = 3;

/// Vectors of a register tile.
const TILE_VECTORS: usize = 4;

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
    let Shape { rows, inputs, outputs } = shape;
    let blocks = x.par_chunks(BLOCK_ROWS * inputs);
    if outputs == 1 {
        return in_blocks(rows, BLOCK_ROWS, blocks, |_, y, x| {
            arch.dispatch(narrow::Dots { x, weight, bias: bias[0], activation, y });
        });
    }
    let packed = arch.dispatch(Pack {
        rows: inputs,
        columns: outputs,
        matrix: weight,
        order: Order::RowMajor,
    });
    in_blocks(rows * outputs, BLOCK_ROWS * outputs, blocks, |_, y, x| {
        arch.dispatch(ForwardBlock { shape, x, packed: &packed, bias, activation, y });
    })
}

/// A matrix in panels: `[columns / width, rows, width]`, filled up with zeros.
struct Pack<'a> {
    rows: usize,
    columns: usize,
    matrix: &'a [f32],
    order: Order,
}

/// How the matrix lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    RowMajor,
    ColumnMajor,
}

impl WithSimd for Pack<'_> {
    type Output = Pooled;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Pooled {
        /// Rows of a column-major matrix that are turned at a time: a line of each column.
        const TURNED_ROWS: usize = LINE;
        let Pack { rows, columns, matrix, order } = self;
        let width = panel_width::<S>();
        let mut panels = Pooled::dirty(rows * columns.next_multiple_of(width));
        panels.par_chunks_mut(rows * width).enumerate().for_each(|(panel, out)| {
            let first = panel * width;
            let count = width.min(columns - first);
            if count < width {
                out.fill(0.0);
            }
            match order {
                Order::RowMajor => {
                    for (row, out) in out.chunks_exact_mut(width).enumerate() {
                        out[..count].copy_from_slice(&matrix[row * columns + first..][..count]);
                    }
                }
                Order::ColumnMajor => {
                    for (from, out) in out.chunks_mut(TURNED_ROWS * width).enumerate() {
                        for column in 0..count {
                            let lines = &matrix[(first + column) * rows + from * TURNED_ROWS..];
                            for (out, x) in out.chunks_exact_mut(width).zip(lines) {
                                out[column] = *x;
                            }
                        }
                    }
                }
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
                let x: [&[f32]; R] =
                    std::array::from_fn(|r| &self.x[(tile + r).min(rows - 1) * inputs..][..inputs]);
                let mut acc = rows_times(simd, [bias; R], x, weights);
                for r in 0..R {
                    for v in 0..TILE_VECTORS {
                        if self.activation == Activation::Relu {
                            // Not max, which would turn a NaN into 0.
                            let negative = simd.less_than_f32s(acc[r][v], zero);
                            acc[r][v] = simd.select_f32s(negative, zero, acc[r][v]);
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

#[cfg(test)]
mod tests;
