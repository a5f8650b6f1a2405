//! Penalised log loss of a design, its gradient and its curvature, in parallel blocks of rows.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::Design;

/// Rows that one task sums up. Large enough that a task is worth its dispatch, small enough that
/// every core gets many; fixed, since the blocks decide how sums are rounded.
pub(super) const ROWS_PER_BLOCK: usize = 1024;

/// Independent sums in a dot product, so that the compiler may keep them in vector registers.
const LANES: usize = 8;

/// Log loss + l2/2 |weights|², divided by the rows. Parameters are `[columns + 1]`, bias last.
///
/// The division does not move the minimum; it makes one tolerance fit every number of rows.
pub(super) struct Objective<'a> {
    pub design: &'a Design<'a>,
    pub l2: f64,
}

/// A value with its gradient `[columns + 1]`.
pub(super) struct Point {
    pub value: f64,
    pub gradient: Vec<f64>,
}

impl Objective<'_> {
    pub fn at(&self, parameters: &[f64]) -> Point {
        let (weights, bias) = split(parameters);
        let sums = self.sum_rows(
            #[inline(always)]
            |row, y, sums| {
                let margin = dot(weights, row) + bias;
                let residual = sigmoid(margin) - y;
                add_scaled(&mut sums[..row.len()], residual, row);
                sums[row.len()] += residual;
                sums[row.len() + 1] += log_loss_of(margin, y);
            },
        );
        let (loss, mut gradient) = (sums[parameters.len()], sums);
        gradient.truncate(parameters.len());
        for (slope, &weight) in gradient.iter_mut().zip(weights) {
            *slope += self.l2 * weight;
        }
        let rows = self.design.rows() as f64;
        gradient.iter_mut().for_each(|slope| *slope /= rows);
        let penalty = 0.5 * self.l2 * weights.iter().map(|w| w * w).sum::<f64>();
        Point { value: (loss + penalty) / rows, gradient }
    }

    /// Diagonal of the Hessian `[columns + 1]`; positive.
    pub fn diagonal(&self, parameters: &[f64]) -> Vec<f64> {
        let (weights, bias) = split(parameters);
        let mut sums = self.sum_rows(
            #[inline(always)]
            |row, _, sums| {
                let risk = sigmoid(dot(weights, row) + bias);
                let variance = risk * (1.0 - risk);
                for (sum, &x) in sums.iter_mut().zip(row) {
                    *sum += variance * f64::from(x) * f64::from(x);
                }
                sums[row.len()] += variance;
            },
        );
        sums.truncate(parameters.len());
        for sum in &mut sums[..weights.len()] {
            *sum += self.l2;
        }
        // A bias whose every row is saturated has no curvature in f64; keep the division finite.
        sums.iter()
            .map(|sum| sum.max(f64::MIN_POSITIVE.sqrt()) / self.design.rows() as f64)
            .collect()
    }

    /// `[columns + 2]` sums over all rows. Blocks run in parallel, their sums are added in the
    /// order of the rows: the result is the same bits for any number of threads.
    fn sum_rows(&self, add: impl Fn(&[f32], f64, &mut [f64]) + Sync) -> Vec<f64> {
        let Design { values, columns, labels } = *self.design;
        let blocks: Vec<Vec<f64>> = values
            .par_chunks(columns * ROWS_PER_BLOCK)
            .zip(labels.par_chunks(ROWS_PER_BLOCK))
            .map(|(rows, labels)| Arch::new().dispatch(Rows { rows, columns, labels, add: &add }))
            .collect();
        let mut sums = vec![0.0; columns + 2];
        for block in &blocks {
            sums.iter_mut().zip(block).for_each(|(sum, part)| *sum += part);
        }
        sums
    }
}

/// Some rows, summed; compiled once for each vector unit, in an order that [`LANES`] fixes.
struct Rows<'a, F> {
    rows: &'a [f32],
    columns: usize,
    labels: &'a [f32],
    add: &'a F,
}

impl<F: Fn(&[f32], f64, &mut [f64])> WithSimd for Rows<'_, F> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f64> {
        let mut sums = vec![0.0; self.columns + 2];
        for (row, &y) in self.rows.chunks_exact(self.columns).zip(self.labels) {
            (self.add)(row, f64::from(y), &mut sums);
        }
        sums
    }
}

fn split(parameters: &[f64]) -> (&[f64], f64) {
    let (bias, weights) = parameters.split_last().expect("the bias is the last parameter");
    (weights, *bias)
}

/// weights · row, summed in f64.
#[inline(always)]
pub(super) fn dot(weights: &[f64], row: &[f32]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (weight_chunks, weight_rest) = weights.as_chunks::<LANES>();
    let (row_chunks, row_rest) = row.as_chunks::<LANES>();
    for (ws, xs) in weight_chunks.iter().zip(row_chunks) {
        for lane in 0..LANES {
            lanes[lane] += ws[lane] * f64::from(xs[lane]);
        }
    }
    let rest: f64 = weight_rest.iter().zip(row_rest).map(|(w, &x)| w * f64::from(x)).sum();
    lanes.iter().sum::<f64>() + rest
}

#[inline(always)]
pub(super) fn add_scaled(sums: &mut [f64], scale: f64, row: &[f32]) {
    for (sum, &x) in sums.iter_mut().zip(row) {
        *sum += scale * f64::from(x);
    }
}

/// a · b, with independent sums as in [`dot`].
pub(super) fn inner(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + rest
}

/// Never overflows: the exponent is not positive.
pub(super) fn sigmoid(margin: f64) -> f64 {
    let e = (-margin.abs()).exp();
    if margin >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// -ln of the probability that the margin gives to `label`: ln(1 + e^margin) - label · margin.
pub(super) fn log_loss_of(margin: f64, label: f64) -> f64 {
    margin.max(0.0) - label * margin + (-margin.abs()).exp().ln_1p()
}
