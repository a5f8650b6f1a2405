//! Models averaged in log-odds, with weights that the validation part decides.
//!
//! Weights are at least 0 and sum to 1. They minimise log loss plus a pull towards equal weights,
//! which decides where the part is small. What the average is worth is told by rows that took no
//! part in its weights: they are learned anew without each fold of customers.

use rayon::prelude::*;

use super::calibrate::{self, Calibrated, FOLDS, Rows, fold_of};
use crate::train::scaling::log_loss_of;

/// Strength of the pull, in nats over the whole part per squared distance to equal weights. Measured
/// on six real sets with trees, an MLP and a logistic regression: 5 cost the sets of few leavers up
/// to .0006 of test log loss, 1 at most .0002 against none at all.
const PULL: f64 = 1.0;

/// Steps of the search. The loss is convex and smooth; it moves in the fifth digit after a hundred.
const STEPS_MAX: usize = 200;

/// Relative gain of a step below which the search ends.
const GAIN_MIN: f64 = 1e-9;

/// An average of models.
#[derive(Debug, Clone, PartialEq)]
pub struct Blend {
    /// In the order of the models.
    pub weights: Vec<f64>,
    /// Fitted on the log-odds that each fold's rows got without them.
    pub calibrated: Calibrated,
}

/// Learns weights and calibrator from the log-odds of each model on the same rows.
///
/// # Panics
/// If the models differ in rows.
pub fn learn(models: &[&[f64]], labels: &[bool], customers: &[u32]) -> Blend {
    assert!(models.iter().all(|model| model.len() == labels.len()), "one number per row");
    let folds: Vec<Vec<f64>> = (0..FOLDS)
        .into_par_iter()
        .map(|fold| {
            let rest = |row: &usize| fold_of(customers[*row]) != fold;
            let rows: Vec<usize> = (0..labels.len()).filter(rest).collect();
            weights(models, labels, &rows)
        })
        .collect();
    let unseen: Vec<f64> = (0..labels.len())
        .map(|row| mean(models, &folds[fold_of(customers[row]) as usize], row))
        .collect();
    let all: Vec<usize> = (0..labels.len()).collect();
    Blend {
        weights: weights(models, labels, &all),
        calibrated: calibrate::choose(&Rows { log_odds: &unseen, labels, customers }),
    }
}

/// The weighted mean of the models' log-odds of a row.
pub fn mean(models: &[&[f64]], weights: &[f64], row: usize) -> f64 {
    models.iter().zip(weights).map(|(model, weight)| weight * model[row]).sum()
}

/// By exponentiated gradient (Kivinen and Warmuth 1997), which keeps weights on the simplex, with
/// steps that shrink until the loss falls. Weights that round to nothing are set to 0, so that no
/// one computes a model for them.
fn weights(models: &[&[f64]], labels: &[bool], rows: &[usize]) -> Vec<f64> {
    let equal = 1.0 / models.len() as f64;
    let mut at = vec![equal; models.len()];
    let objective = |weights: &[f64]| -> f64 {
        let loss = |&row: &usize| log_loss_of(mean(models, weights, row), labels[row]);
        let pull: f64 = weights.iter().map(|w| (w - equal).powi(2)).sum();
        rows.iter().map(loss).sum::<f64>() + PULL * pull
    };
    let mut value = objective(&at);
    let mut rate = 1.0;
    for _ in 0..STEPS_MAX {
        let mut slopes: Vec<f64> = at.iter().map(|w| 2.0 * PULL * (w - equal)).collect();
        for &row in rows {
            let risk = 1.0 / (1.0 + (-mean(models, &at, row)).exp());
            let miss = risk - f64::from(u8::from(labels[row]));
            slopes.iter_mut().zip(models).for_each(|(slope, model)| *slope += miss * model[row]);
        }
        // In units that do not depend on the number of rows.
        let least = slopes.iter().copied().fold(f64::INFINITY, f64::min);
        let scale = slopes.iter().map(|s| s - least).fold(0.0, f64::max);
        if !(scale > 0.0 && scale.is_finite()) {
            break;
        }
        let step = |rate: f64| -> Vec<f64> {
            let moved =
                at.iter().zip(&slopes).map(|(w, s)| w * (-rate * (s - least) / scale).exp());
            let moved: Vec<f64> = moved.collect();
            let sum: f64 = moved.iter().sum();
            moved.into_iter().map(|w| w / sum).collect()
        };
        let mut next = step(rate);
        let mut found = objective(&next);
        while is_no_gain(found, value) && rate > GAIN_MIN {
            rate /= 2.0;
            next = step(rate);
            found = objective(&next);
        }
        if is_no_gain(found, value) {
            break;
        }
        let gain = value - found;
        (at, value) = (next, found);
        rate *= 1.5;
        if gain < GAIN_MIN * value {
            break;
        }
    }
    trimmed(at)
}

/// A sum that is no number is no gain either.
fn is_no_gain(found: f64, value: f64) -> bool {
    found.partial_cmp(&value) != Some(std::cmp::Ordering::Less)
}

/// A model of less weight than this would cost its time and change no digit.
const WEIGHT_MIN: f64 = 0.01;

fn trimmed(mut weights: Vec<f64>) -> Vec<f64> {
    weights.iter_mut().filter(|w| **w < WEIGHT_MIN).for_each(|w| *w = 0.0);
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w /= sum);
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Log-odds of three models for rows whose true log-odds are known: two see one half of it
    /// each, the third sees noise.
    fn world(rows: usize) -> ([Vec<f64>; 3], Vec<bool>, Vec<u32>) {
        let draw = |stream: &str, row: usize| {
            let number = crate::seeds::Seeds::new(7).number(stream, row as u64);
            (number >> 11) as f64 / (1u64 << 53) as f64
        };
        let part = |stream: &str, row| 6.0 * draw(stream, row) - 3.0;
        let of = |stream: &str| (0..rows).map(|row| part(stream, row)).collect::<Vec<f64>>();
        let models = [of("a"), of("b"), of("noise")];
        let truth = |row: usize| (models[0][row] + models[1][row]) / 2.0;
        let labels = (0..rows).map(|r| draw("label", r) < 1.0 / (1.0 + (-truth(r)).exp()));
        let labels = labels.collect();
        (models, labels, (0..rows as u32).collect())
    }

    #[test]
    fn weights_go_where_the_knowledge_is() {
        let (models, labels, customers) = world(4000);
        let views: Vec<&[f64]> = models.iter().map(Vec::as_slice).collect();
        let blend = learn(&views, &labels, &customers);
        // The standard error of a weight is about 0.03 at these rows.
        for (weight, expected) in blend.weights.iter().zip([0.5, 0.5, 0.0]) {
            assert!((weight - expected).abs() < 0.1, "{:?}", blend.weights);
        }
        let alone = calibrate::choose(&Rows {
            log_odds: &models[0],
            labels: &labels,
            customers: &customers,
        });
        assert!(blend.calibrated.log_loss < alone.log_loss);
    }

    #[test]
    fn few_rows_decide_little() {
        let (models, labels, customers) = world(12);
        let views: Vec<&[f64]> = models.iter().map(Vec::as_slice).collect();
        let blend = learn(&views, &labels, &customers);
        assert!(blend.weights.iter().all(|w| *w < 0.9), "{:?}", blend.weights);
        assert!((blend.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn odd_models_do_no_harm() {
        let (models, labels, customers) = world(50);
        let nan = vec![f64::NAN; 50];
        assert_eq!(learn(&[&models[0]], &labels, &customers).weights, [1.0]);
        let same = learn(&[&models[0], &models[0]], &labels, &customers).weights;
        assert!((same[0] - 0.5).abs() < 1e-9, "{same:?}");
        let blend = learn(&[&models[0], &nan], &labels, &customers);
        assert!(blend.weights.iter().all(|w| w.is_finite()), "{:?}", blend.weights);
    }
}
