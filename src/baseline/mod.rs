//! The models that a network must beat: [`trees`], and here a logistic regression with an L2
//! penalty.
//!
//! Minimises  sum over rows of log loss + l2/2 |weights|²  (sklearn's `LogisticRegression` with
//! C = 1/l2; the bias goes free) by L-BFGS, and picks `l2` by the validation split's log loss.

mod curvature;
mod lbfgs;
mod objective;
pub mod trees;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Kind, Result};
use objective::{Objective, ROWS_PER_BLOCK, dot, log_loss_of, sigmoid};

/// Penalties that are tried, from strong to weak: each fit starts where the last one ended, and a
/// strong penalty is the easiest problem. Five decades, since a good value scales with the rows.
const L2_PATH: [f64; 5] = [1000.0, 100.0, 10.0, 1.0, 0.1];

/// A dense design matrix; a view, nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Design<'a> {
    /// Row-major `[rows, columns]`.
    pub values: &'a [f32],
    pub columns: usize,
    /// `[rows]`, 0 or 1.
    pub labels: &'a [f32],
}

impl Design<'_> {
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    fn check(&self, split: &str) -> Result<()> {
        assert_eq!(self.values.len(), self.rows() * self.columns, "design is [rows, columns]");
        let error = |what: &str| Err(Kind::Data.msg(format!("logistic regression: {what}")));
        if self.rows() == 0 || self.columns == 0 {
            return error(&format!("the {split} split has no rows or no columns"));
        }
        if !self.values.par_iter().all(|x| x.is_finite()) {
            return error(&format!("a feature of the {split} split is not finite"));
        }
        if !self.labels.iter().all(|&y| y == 0.0 || y == 1.0) {
            return error(&format!("a label of the {split} split is neither 0 nor 1"));
        }
        Ok(())
    }
}

/// A fitted logistic regression: risk = sigmoid(weights · x + bias).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logistic {
    /// `[columns]`, in log-odds per unit of the column.
    pub weights: Vec<f64>,
    pub bias: f64,
    /// The penalty that the validation split chose.
    pub l2: f64,
}

/// Fits one model per penalty and keeps the one of least validation log loss; of equals, the
/// more strongly penalised. The result does not depend on the number of threads.
///
/// # Errors
/// `Kind::Data` if a split has no rows, no columns, a non-finite value or a label that is neither
/// 0 nor 1, or if the train split has only one class.
///
/// # Panics
/// If a design's lengths do not fit together, or the two differ in columns.
pub fn fit(train: &Design, validation: &Design) -> Result<Logistic> {
    assert_eq!(train.columns, validation.columns, "the two splits have the same columns");
    train.check("train")?;
    validation.check("validation")?;
    let positives = train.labels.iter().filter(|&&y| y == 1.0).count();
    if positives == 0 || positives == train.rows() {
        return Err(Kind::Data
            .msg("logistic regression: the train split has only one class")
            .hint("check the label and the split"));
    }

    let mut model = Logistic::of_base_rate(train, positives);
    let mut best: Option<(f64, Logistic)> = None;
    for l2 in L2_PATH {
        model = model.refit(train, l2);
        let loss = model.log_loss(validation);
        if best.as_ref().is_none_or(|(least, _)| loss < *least) {
            best = Some((loss, model.clone()));
        }
    }
    Ok(best.expect("the path is not empty").1)
}

impl Logistic {
    /// Log-odds of `values`, row-major `[rows, weights.len()]`.
    pub fn log_odds(&self, values: &[f32]) -> Vec<f64> {
        let rows = values.par_chunks_exact(self.weights.len()).with_min_len(ROWS_PER_BLOCK);
        rows.map(|row| dot(&self.weights, row) + self.bias).collect()
    }

    /// Risks in 0..=1 of `values`, row-major `[rows, weights.len()]`.
    pub fn risks(&self, values: &[f32]) -> Vec<f64> {
        self.log_odds(values).into_iter().map(sigmoid).collect()
    }

    /// Mean log loss in nats, unclipped.
    pub fn log_loss(&self, design: &Design) -> f64 {
        let rows = design.values.par_chunks_exact(design.columns).zip(design.labels);
        // Collected before it is summed: the order of a parallel sum would change its last bits.
        let losses: Vec<f64> = rows
            .with_min_len(ROWS_PER_BLOCK)
            .map(|(row, &y)| log_loss_of(dot(&self.weights, row) + self.bias, f64::from(y)))
            .collect();
        losses.iter().sum::<f64>() / losses.len() as f64
    }

    /// Knows nothing but the share of positives.
    fn of_base_rate(train: &Design, positives: usize) -> Self {
        let negatives = train.rows() - positives;
        let bias = (positives as f64 / negatives as f64).ln();
        Self { weights: vec![0.0; train.columns], bias, l2: f64::INFINITY }
    }

    /// The minimum under another penalty, sought from here.
    fn refit(mut self, train: &Design, l2: f64) -> Self {
        self.weights.push(self.bias);
        let mut weights = lbfgs::minimise(&Objective { design: train, l2 }, self.weights);
        let bias = weights.pop().expect("the bias is the last parameter");
        Self { weights, bias, l2 }
    }
}

#[cfg(test)]
mod tests;
