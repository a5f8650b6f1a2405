//! Right factors of products in panels, so that a tile reads them as one stream.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::super::buffer::Pooled;

/// Numbers below which one thread packs: it takes less time than to wake another.
const ALONE_MAX: usize = 1 << 15;

/// Side of a square that is turned in registers.
const SIDE: usize = 8;

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
        // All panels but the last are equally wide, so that chunks of that width are panels. A
        // thread packs as many together as it can, so that it reads its lines in one go.
        let alone = all.len() <= ALONE_MAX;
        let width = widest::<S>() * S::F32_LANES;
        let threads = if alone { 1 } else { rayon::current_num_threads() };
        let together = self.columns.div_ceil(threads).next_multiple_of(width);
        let group = |(at, out): (usize, &mut [f32])| self.group(at * together, width, out);
        if alone {
            all.chunks_mut(self.rows * together).enumerate().for_each(group);
        } else {
            all.par_chunks_mut(self.rows * together).enumerate().for_each(group);
        }
        all
    }
}

impl Pack<'_> {
    /// Some panels, from the column `first` on; the last one may be narrower than `width`.
    #[inline(always)]
    fn group(&self, first: usize, width: usize, out: &mut [f32]) {
        let Pack { rows, columns, matrix, order } = *self;
        match order {
            Order::RowMajor => {
                for (row, line) in matrix.chunks_exact(columns).enumerate() {
                    let numbers = line[first..].chunks(width);
                    for (panel, numbers) in out.chunks_mut(rows * width).zip(numbers) {
                        let width = panel.len() / rows;
                        let panel = &mut panel[row * width..][..width];
                        // In arrays, since a call for each line would take longer.
                        let (whole, rest) = numbers.as_chunks::<SIDE>();
                        let (out, _) = panel.as_chunks_mut::<SIDE>();
                        out.iter_mut().zip(whole).for_each(|(out, x)| *out = *x);
                        panel[numbers.len() - rest.len()..numbers.len()].copy_from_slice(rest);
                        panel[numbers.len()..].fill(0.0);
                    }
                }
            }
            Order::ColumnMajor => {
                for (at, panel) in out.chunks_mut(rows * width).enumerate() {
                    let first = first + at * width;
                    let width = panel.len() / rows;
                    let count = width.min(columns - first);
                    if count < width {
                        panel.fill(0.0);
                    }
                    turn(&matrix[first * rows..][..count * rows], rows, panel, width);
                }
            }
        }
    }
}

/// Columns of a length, one after the other, become the first numbers of lines.
#[inline(always)]
fn turn(columns: &[f32], length: usize, lines: &mut [f32], width: usize) {
    let whole = length - length % SIDE;
    for (at, square) in columns.chunks(SIDE * length).enumerate() {
        let at = at * SIDE;
        let count = square.len() / length;
        let turned = if count == SIDE { whole } else { 0 };
        for from in (0..turned).step_by(SIDE) {
            let square: [[f32; SIDE]; SIDE] = std::array::from_fn(|column| {
                *square[column * length + from..].first_chunk().expect("whole squares")
            });
            for (row, line) in lines[from * width..].chunks_exact_mut(width).take(SIDE).enumerate()
            {
                let line = line[at..].first_chunk_mut().expect("whole squares");
                *line = std::array::from_fn::<f32, SIDE, _>(|column| square[column][row]);
            }
        }
        for (row, line) in lines.chunks_exact_mut(width).enumerate().skip(turned) {
            for column in 0..count {
                line[at + column] = square[column * length + row];
            }
        }
    }
}
