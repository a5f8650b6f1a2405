//! A block of rows times a packed matrix, in register tiles.

use pulp::{Simd, WithSimd};

use super::super::product::{Tile, rows_times, set, vector};
use super::pack::panels;
use super::{Activation, DEPTH, TILE_ROWS};

/// act(A B + bias) for some rows of A.
pub(super) struct BlockProduct<'a> {
    /// `[rows, depth]`.
    pub a: &'a [f32],
    pub depth: usize,
    /// `[depth, columns]`, packed.
    pub packed: &'a [f32],
    pub columns: usize,
    /// `[columns]`.
    pub bias: Option<&'a [f32]>,
    pub activation: Activation,
    /// `[rows, columns]`.
    pub out: &'a mut [f32],
}

impl WithSimd for BlockProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for from in (0..self.depth).step_by(DEPTH) {
            let to = (from + DEPTH).min(self.depth);
            for (first, vectors) in panels::<S>(self.columns) {
                let width = vectors * S::F32_LANES;
                let piece = &self.packed[first * self.depth..][from * width..to * width];
                let piece = S::as_simd_f32s(piece).0;
                match vectors {
                    4 => self.panel::<S, 4>(simd, (from, first), piece.as_chunks().0),
                    2 => self.panel::<S, 2>(simd, (from, first), piece.as_chunks().0),
                    _ => self.panel::<S, 1>(simd, (from, first), piece.as_chunks().0),
                }
            }
        }
    }
}

impl BlockProduct<'_> {
    /// Adds up a piece of a panel, from row `from` of the right factor and column `first` on.
    #[inline(always)]
    fn panel<S: Simd, const V: usize>(
        &mut self,
        simd: S,
        (from, first): (usize, usize),
        piece: &[[S::f32s; V]],
    ) {
        let Self { a, depth, columns, activation, .. } = *self;
        let rows = self.out.len() / columns;
        let bias = match self.bias {
            Some(all) => bias(simd, all, first),
            None => [simd.splat_f32s(0.0); V],
        };
        let ends = from + piece.len() == depth;
        for tile in (0..rows).step_by(TILE_ROWS) {
            let a: [&[f32]; TILE_ROWS] =
                std::array::from_fn(|r| &a[(tile + r).min(rows - 1) * depth + from..]);
            let out = (&mut self.out[tile * columns..], columns, rows - tile);
            let start = match from {
                0 => [bias; TILE_ROWS],
                _ => load::<S, V>(simd, (&*out.0, out.1, out.2), first),
            };
            let mut acc = rows_times(simd, start, a, piece);
            if ends && activation == Activation::Relu {
                relu(simd, &mut acc);
            }
            store::<S, TILE_ROWS, V>(simd, acc, out, first);
        }
    }
}

#[inline(always)]
pub(super) fn bias<S: Simd, const V: usize>(simd: S, all: &[f32], first: usize) -> [S::f32s; V] {
    std::array::from_fn(|v| {
        let from = (first + v * S::F32_LANES).min(all.len());
        let to = (from + S::F32_LANES).min(all.len());
        simd.partial_load_f32s(&all[from..to])
    })
}

#[inline(always)]
pub(super) fn relu<S: Simd, const R: usize, const V: usize>(simd: S, tile: &mut Tile<S, R, V>) {
    let zero = simd.splat_f32s(0.0);
    for r in 0..R {
        for v in 0..V {
            // Not max, which would turn a NaN into 0.
            let negative = simd.less_than_f32s(tile[r][v], zero);
            tile[r][v] = simd.select_f32s(negative, zero, tile[r][v]);
        }
    }
}

/// The tile that [`store`] wrote; what does not exist is 0.
#[inline(always)]
pub(super) fn load<S: Simd, const V: usize>(
    simd: S,
    (from, columns, rows): (&[f32], usize, usize),
    first: usize,
) -> Tile<S, TILE_ROWS, V> {
    let mut tile = [[simd.splat_f32s(0.0); V]; TILE_ROWS];
    let whole = first + V * S::F32_LANES <= columns;
    for r in 0..TILE_ROWS {
        for v in 0..V {
            let at = first + v * S::F32_LANES;
            if r < rows && whole {
                tile[r][v] = vector::<S>(from, r * columns + at);
            } else if r < rows && at < columns {
                let to = (at + S::F32_LANES).min(columns);
                tile[r][v] = simd.partial_load_f32s(&from[r * columns + at..r * columns + to]);
            }
        }
    }
    tile
}

/// Writes the part of a tile that exists: of `rows` rows, the columns from `first` on.
#[inline(always)]
pub(super) fn store<S: Simd, const R: usize, const V: usize>(
    simd: S,
    acc: Tile<S, R, V>,
    (out, columns, rows): (&mut [f32], usize, usize),
    first: usize,
) {
    let whole = first + V * S::F32_LANES <= columns;
    for r in 0..R {
        for v in 0..V {
            let at = first + v * S::F32_LANES;
            if r < rows && whole {
                set::<S>(out, r * columns + at, acc[r][v]);
            } else if r < rows && at < columns {
                let to = (at + S::F32_LANES).min(columns);
                simd.partial_store_f32s(&mut out[r * columns + at..r * columns + to], acc[r][v]);
            }
        }
    }
}
