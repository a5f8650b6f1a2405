//! The Hessian that starts L-BFGS off: estimated on a sample of rows, factorised once per penalty.
//!
//! Features of one measure over several windows are nearly collinear, and one-hot columns of rare
//! categories are nearly empty: 100,000 rows x 150 such columns took 54 iterations a penalty from a
//! diagonal, and 7 from this. (Subsampled Newton: Byrd, Chin, Neveitt and
//! Nocedal 2011, SIAM J. Optim. 21:977.)

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::Design;
use super::objective::{Objective, add_scaled, dot, inner, sigmoid};

/// Rows sampled per column: with 16 the sampled spectrum is within a factor 1.6 of the true one
/// (Marchenko and Pastur: (1 ± 1/4)²).
const ROWS_PER_COLUMN: usize = 16;

/// Fewest rows sampled, so that a narrow design too meets its rare categories.
const ROWS_MIN: usize = 8192;

/// Wider designs use the diagonal alone: sampling and factorising cost columns³ (20,000 rows of
/// 1000 columns: 20 s with the sample, 1 s without).
const COLUMNS_MAX: usize = 512;

/// Rows of the sample that one task sums up.
const ROWS_PER_TASK: usize = 2048;

/// A sampled diagonal entry below this share of the true one has missed its rare category.
const MISSED: f64 = 0.5;

/// Pivots are kept above this share of their diagonal: exactly collinear columns leave only the
/// penalty there, which rounding can swallow.
const PIVOT_MIN: f64 = 1e-11;

/// An approximate Hessian of an [`Objective`], ready to be solved with.
pub(super) enum Curvature {
    Diagonal(Vec<f64>),
    /// Rows of the Cholesky factor: row i holds i + 1 numbers.
    Factor(Vec<Vec<f64>>),
}

impl Curvature {
    /// Of `objective` at `parameters`.
    pub fn at(objective: &Objective, parameters: &[f64]) -> Self {
        let diagonal = objective.diagonal(parameters);
        if objective.design.columns > COLUMNS_MAX {
            return Self::Diagonal(diagonal);
        }
        let mut hessian = sampled(objective, parameters);
        for (i, &entry) in diagonal.iter().enumerate() {
            if hessian[i][i] < MISSED * entry {
                hessian[i][i] = entry;
            }
        }
        Self::Factor(cholesky(hessian))
    }

    /// The inverse Hessian times `vector`, in place.
    pub fn solve(&self, vector: &mut [f64]) {
        match self {
            Self::Diagonal(diagonal) => {
                vector.iter_mut().zip(diagonal).for_each(|(v, d)| *v /= d);
            }
            Self::Factor(rows) => {
                for (i, row) in rows.iter().enumerate() {
                    vector[i] = (vector[i] - inner(&row[..i], &vector[..i])) / row[i];
                }
                for (i, row) in rows.iter().enumerate().rev() {
                    vector[i] /= row[i];
                    let (above, rest) = vector.split_at_mut(i);
                    above.iter_mut().zip(row).for_each(|(v, l)| *v -= rest[0] * l);
                }
            }
        }
    }
}

/// Lower triangle, by rows, of the Hessian over a sample; bias last.
fn sampled(objective: &Objective, parameters: &[f64]) -> Vec<Vec<f64>> {
    let design = objective.design;
    let size = design.columns + 1;
    let sample = sample(design.rows(), (ROWS_PER_COLUMN * size).max(ROWS_MIN));
    let parts: Vec<Vec<Vec<f64>>> = sample
        .par_chunks(ROWS_PER_TASK)
        .map(|rows| Arch::new().dispatch(SampledRows { design, rows, parameters }))
        .collect();
    let mut hessian: Vec<Vec<f64>> = (0..size).map(|i| vec![0.0; i + 1]).collect();
    for part in parts {
        for (sums, part) in hessian.iter_mut().zip(&part) {
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part / sample.len() as f64);
        }
    }
    for (i, row) in hessian[..size - 1].iter_mut().enumerate() {
        row[i] += objective.l2 / design.rows() as f64;
    }
    hessian
}

/// The part of the sums that some rows make.
struct SampledRows<'a> {
    design: &'a Design<'a>,
    rows: &'a [usize],
    parameters: &'a [f64],
}

impl WithSimd for SampledRows<'_> {
    type Output = Vec<Vec<f64>>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<Vec<f64>> {
        let SampledRows { design, rows, parameters } = self;
        let size = design.columns + 1;
        let (bias, weights) = parameters.split_last().expect("the bias is the last parameter");
        let mut sums: Vec<Vec<f64>> = (0..size).map(|i| vec![0.0; i + 1]).collect();
        for &row in rows {
            let row = &design.values[row * design.columns..][..design.columns];
            let risk = sigmoid(dot(weights, row) + bias);
            let variance = risk * (1.0 - risk);
            for (i, &x) in row.iter().enumerate().filter(|(_, x)| **x != 0.0) {
                add_scaled(&mut sums[i], variance * f64::from(x), &row[..=i]);
            }
            add_scaled(&mut sums[size - 1][..size - 1], variance, row);
            sums[size - 1][size - 1] += variance;
        }
        sums
    }
}

/// `wanted` of `rows` rows, or all: one from each of as many equal stretches, at a place within it
/// that varies, since a fixed stride could meet only one month of a panel's calendar.
fn sample(rows: usize, wanted: usize) -> Vec<usize> {
    if rows <= wanted {
        return (0..rows).collect();
    }
    let stretch = rows as f64 / wanted as f64;
    // Multiples of the golden ratio's fraction spread evenly (Weyl).
    let place = |i: usize| (i as f64 + (i as f64 * 0.618_033_988_749_895).fract()) * stretch;
    (0..wanted).map(|i| (place(i) as usize).min(rows - 1)).collect()
}

/// The factor L of L Lᵀ, in place of the lower triangle.
fn cholesky(mut rows: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    for i in 0..rows.len() {
        let (done, rest) = rows.split_at_mut(i);
        let row = &mut rest[0];
        for (j, other) in done.iter().enumerate() {
            row[j] = (row[j] - inner(&row[..j], &other[..j])) / other[j];
        }
        let pivot = row[i] - inner(&row[..i], &row[..i]);
        row[i] = pivot.max(PIVOT_MIN * row[i]).sqrt();
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solving_undoes_multiplying() {
        // [[4, 2, 0.6], [2, 5, 1], [0.6, 1, 3]] times (1, -2, 3).
        let factor = cholesky(vec![vec![4.0], vec![2.0, 5.0], vec![0.6, 1.0, 3.0]]);
        let mut vector = [1.8, -5.0, 7.6];
        Curvature::Factor(factor).solve(&mut vector);
        for (got, expected) in vector.iter().zip([1.0, -2.0, 3.0]) {
            assert!((got - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn a_sample_covers_rows_and_phases() {
        assert_eq!(sample(5, 8), [0, 1, 2, 3, 4]);
        let rows = sample(120_000, 10_000);
        assert!(rows.is_sorted_by(|a, b| a < b) && rows[9_999] < 120_000);
        for month in 0..12 {
            let met = rows.iter().filter(|&&row| row % 12 == month).count();
            assert!((800..900).contains(&met), "month {month}: {met}");
        }
    }
}
