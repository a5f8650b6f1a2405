//! Right factors of products in panels, so that a tile reads them as one stream.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::super::buffer::{LINE, Pooled};

/// Numbers below which one thread packs: it takes less time than to wake another.
const ALONE_MAX: usize = 1 << 15;

/// How a matrix lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    RowMajor,
    ColumnMajor,
}

/// Panels of a number of columns: the first column of each, and its width in vectors. All are as
/// wide as the widest register tile but for the last, which is no wider than it has to be.
#[inline(always)]
pub(super) fn panels<S: Simd>(columns: usize) -> impl Iterator<Item = (usize, usize)> {
    let widest = widest::<S>();
    let mut first = 0;
    std::iter::from_fn(move || {
        let vectors = match columns.saturating_sub(first).div_ceil(S::F32_LANES) {
            0 => return None,
            left @ 1..=2 => left,
            _ => widest,
        };
        first += vectors * S::F32_LANES;
        Some((first - vectors * S::F32_LANES, vectors))
    })
}

/// Vectors of the widest register tile: six rows of it leave room for a row of the panel.
#[inline(always)]
pub(super) fn widest<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 4 } else { 2 }
}

/// The panels of a matrix one after the other, each `[rows, width]`, filled up with zeros.
pub(super) fn packed(
    arch: Arch,
    (rows, columns): (usize, usize),
    matrix: &[f32],
    order: Order,
) -> Pooled {
    arch.dispatch(Pack { rows, columns, matrix, order })
}

pub(super) struct Pack<'a> {
    pub rows: usize,
    pub columns: usize,
    pub matrix: &'a [f32],
    pub order: Order,
}

impl WithSimd for Pack<'_> {
    type Output = Pooled;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Pooled {
        let (last, vectors) = panels::<S>(self.columns).last().expect("a column");
        let mut all = Pooled::dirty(self.rows * (last + vectors * S::F32_LANES));
        // All panels but the last are equally wide, so that chunks of that width are panels.
        let width = widest::<S>() * S::F32_LANES;
        let panel =
            |(at, out): (usize, &mut [f32])| self.panel(at * width, out.len() / self.rows, out);
        if all.len() <= ALONE_MAX {
            all.chunks_mut(self.rows * width).enumerate().for_each(panel);
        } else {
            all.par_chunks_mut(self.rows * width).enumerate().for_each(panel);
        }
        all
    }
}

impl Pack<'_> {
    /// The columns from `first` on.
    #[inline(always)]
    fn panel(&self, first: usize, width: usize, out: &mut [f32]) {
        /// Rows of a column-major matrix that are turned at a time: a line of each column.
        const TURNED_ROWS: usize = LINE;
        let Pack { rows, columns, matrix, order } = *self;
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
    }
}
