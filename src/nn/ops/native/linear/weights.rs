//! The gradient of a dense layer's weights and bias: x^T d_z, and the sums of d_z's columns.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::super::buffer::{LINE, Pooled};
use super::super::product::vector;
use super::pack::{panels, widest};
use super::tile::{load, store};
use super::{DEPTH, Shape, TILE_ROWS};

/// Some rows of the weight's gradient, summed over all rows of the batch in their order.
///
/// A piece of the batch at a time is cut, row by row, from x in strips as high as a tile, and from
/// d_z in panels as wide as one. The first cache level holds a panel while it meets all strips.
pub(super) struct WeightGradient<'a> {
    pub shape: Shape,
    /// `[M, K]`.
    pub x: &'a [f32],
    /// `[M, N]`.
    pub gradient: &'a [f32],
    /// `[M, N]`: the layer's output if relu has yet to mask the gradient.
    pub masked_by: Option<&'a [f32]>,
    /// The inputs whose rows these are.
    pub inputs: Range<usize>,
    /// `[inputs, N]`, with any content.
    pub d_weight: &'a mut [f32],
    /// `[N]`, zeros; None for whom another one sums the bias.
    pub d_bias: Option<&'a mut [f32]>,
}

/// Numbers between the strips of x, a line more than they hold: their rows would share a few
/// places of the first cache level otherwise.
const STRIP: usize = DEPTH * TILE_ROWS + LINE;

impl WithSimd for WeightGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let mut strips = Pooled::dirty(STRIP * self.inputs.len().div_ceil(TILE_ROWS));
        let widest = widest::<S>() * S::F32_LANES;
        let mut cut = Pooled::dirty(DEPTH * self.shape.outputs.next_multiple_of(widest));
        for from in (0..self.shape.rows).step_by(DEPTH) {
            let rows = from..(from + DEPTH).min(self.shape.rows);
            self.cut(rows.clone(), &mut strips);
            self.cut_gradient::<S>(simd, rows.clone(), &mut cut);
            for (first, vectors) in panels::<S>(self.shape.outputs) {
                let width = vectors * S::F32_LANES;
                let panel = S::as_simd_f32s(&cut[first * rows.len()..][..rows.len() * width]).0;
                let at = (from, first);
                match vectors {
                    4 => self.panel::<S, 4>(simd, at, &strips, panel.as_chunks().0),
                    2 => self.panel::<S, 2>(simd, at, &strips, panel.as_chunks().0),
                    _ => self.panel::<S, 1>(simd, at, &strips, panel.as_chunks().0),
                }
            }
        }
    }
}

impl WeightGradient<'_> {
    /// Strips of x, row by row, filled up with zeros.
    #[inline(always)]
    fn cut(&self, rows: Range<usize>, strips: &mut [f32]) {
        let width = self.shape.inputs;
        for (at, row) in
            self.x[rows.start * width..rows.end * width].chunks_exact(width).enumerate()
        {
            let (whole, rest) = row[self.inputs.clone()].as_chunks::<TILE_ROWS>();
            for (strip, x) in strips.chunks_exact_mut(STRIP).zip(whole) {
                strip[at * TILE_ROWS..][..TILE_ROWS].copy_from_slice(x);
            }
            if !rest.is_empty() {
                let strip = &mut strips[whole.len() * STRIP + at * TILE_ROWS..][..TILE_ROWS];
                strip[..rest.len()].copy_from_slice(rest);
                strip[rest.len()..].fill(0.0);
            }
        }
    }

    /// Panels of the gradient, one after the other, masked if that is still to be done, filled up
    /// with zeros.
    #[inline(always)]
    fn cut_gradient<S: Simd>(&self, simd: S, rows: Range<usize>, cut: &mut [f32]) {
        let outputs = self.shape.outputs;
        let zero = simd.splat_f32s(0.0);
        for (row, at) in rows.clone().enumerate() {
            let gradient = &self.gradient[at * outputs..][..outputs];
            let masked_by = self.masked_by.map(|y| &y[at * outputs..][..outputs]);
            for (first, vectors) in panels::<S>(outputs) {
                let width = vectors * S::F32_LANES;
                let out = &mut cut[first * rows.len() + row * width..][..width];
                for (v, out) in S::as_mut_simd_f32s(out).0.iter_mut().enumerate() {
                    let from = first + v * S::F32_LANES;
                    let read = |all: &[f32]| match all.get(from..from + S::F32_LANES) {
                        Some(whole) => vector::<S>(whole, 0),
                        None => simd.partial_load_f32s(all.get(from..).unwrap_or_default()),
                    };
                    let g = read(gradient);
                    *out = match masked_by {
                        Some(y) => simd.select_f32s(simd.less_than_f32s(zero, read(y)), g, zero),
                        None => g,
                    };
                }
            }
        }
    }

    /// Adds up a panel of the gradient, from row `from` and column `first` on.
    #[inline(always)]
    fn panel<S: Simd, const V: usize>(
        &mut self,
        simd: S,
        (from, first): (usize, usize),
        strips: &[f32],
        panel: &[[S::f32s; V]],
    ) {
        let outputs = self.shape.outputs;
        if let Some(bias) = self.d_bias.as_deref_mut() {
            let mut sums = [simd.splat_f32s(0.0); V];
            for row in panel {
                for v in 0..V {
                    sums[v] = simd.add_f32s(sums[v], row[v]);
                }
            }
            for v in 0..V {
                let at = (first + v * S::F32_LANES).min(outputs);
                let bias = &mut bias[at..(at + S::F32_LANES).min(outputs)];
                let sum = simd.add_f32s(simd.partial_load_f32s(bias), sums[v]);
                simd.partial_store_f32s(bias, sum);
            }
        }
        let tiles = self.d_weight.chunks_mut(TILE_ROWS * outputs);
        for (strip, out) in strips.chunks_exact(STRIP).zip(tiles) {
            let there = out.len() / outputs;
            let mut acc = match from {
                0 => [[simd.splat_f32s(0.0); V]; TILE_ROWS],
                _ => load::<S, V>(simd, (&*out, outputs, there), first),
            };
            for (x, d_z) in strip.as_chunks::<TILE_ROWS>().0.iter().zip(panel) {
                for r in 0..TILE_ROWS {
                    let x = simd.splat_f32s(x[r]);
                    for v in 0..V {
                        acc[r][v] = simd.mul_add_e_f32s(x, d_z[v], acc[r][v]);
                    }
                }
            }
            store::<S, TILE_ROWS, V>(simd, acc, (out, outputs, there), first);
        }
    }
}
