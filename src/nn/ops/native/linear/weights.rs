//! The gradient of a dense layer's weights and bias: x^T d_z, and the sums of d_z's columns.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::super::buffer::{LINE, Pooled};
use super::super::product::columns_times;
use super::pack::{panels, widest};
use super::tile::{load, store};
use super::{DEPTH, Shape, TILE_ROWS};

/// Some rows of the weight's gradient, summed over all rows of the batch in their order.
///
/// A piece of the batch at a time is cut from x in strips as high as a tile, which the second
/// cache level holds, and from d_z in panels, which the first holds for all strips.
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
        let mut panel = Pooled::dirty(DEPTH * widest::<S>() * S::F32_LANES);
        for from in (0..self.shape.rows).step_by(DEPTH) {
            let rows = from..(from + DEPTH).min(self.shape.rows);
            self.cut(rows.clone(), &mut strips);
            for (first, vectors) in panels::<S>(self.shape.outputs) {
                let panel = &mut panel[..rows.len() * vectors * S::F32_LANES];
                let at = (from, first);
                match vectors {
                    4 => self.panel::<S, 4>(simd, at, &strips, panel),
                    2 => self.panel::<S, 2>(simd, at, &strips, panel),
                    _ => self.panel::<S, 1>(simd, at, &strips, panel),
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

    /// Adds up a panel of the gradient, from row `from` and column `first` on.
    #[inline(always)]
    fn panel<S: Simd, const V: usize>(
        &mut self,
        simd: S,
        (from, first): (usize, usize),
        strips: &[f32],
        panel: &mut [f32],
    ) {
        let outputs = self.shape.outputs;
        let width = V * S::F32_LANES;
        let rows = panel.len() / width;
        self.fill(panel, width, (from, first));
        if let Some(bias) = self.d_bias.as_deref_mut() {
            let mut sums = [simd.splat_f32s(0.0); V];
            for row in S::as_simd_f32s(panel).0.as_chunks::<V>().0 {
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
            let start = match from {
                0 => [[simd.splat_f32s(0.0); V]; TILE_ROWS],
                _ => load::<S, V>(simd, (&*out, outputs, there), first),
            };
            let a = (&strip[..rows * TILE_ROWS], TILE_ROWS, 0);
            let acc = columns_times(simd, start, a, (&*panel, width, 0));
            store::<S, V>(simd, acc, (out, outputs, there), first);
        }
    }

    /// The panel of the gradient, masked if that is still to be done, filled up with zeros.
    #[inline(always)]
    fn fill(&self, panel: &mut [f32], width: usize, (from, first): (usize, usize)) {
        let outputs = self.shape.outputs;
        let count = width.min(outputs - first);
        for (row, out) in panel.chunks_exact_mut(width).enumerate() {
            let at = (from + row) * outputs + first;
            let (there, filling) = out.split_at_mut(count);
            match self.masked_by {
                None => there.copy_from_slice(&self.gradient[at..at + count]),
                Some(y) => {
                    let (gradient, y) = (&self.gradient[at..at + count], &y[at..at + count]);
                    for ((out, g), y) in there.iter_mut().zip(gradient).zip(y) {
                        *out = if *y > 0.0 { *g } else { 0.0 };
                    }
                }
            }
            filling.fill(0.0);
        }
    }
}
