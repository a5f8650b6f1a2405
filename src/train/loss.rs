//! Losses on log-odds.

use burn::tensor::Tensor;

use crate::config::TrainSpec;
use crate::config::model::Loss;
use crate::nn::ops::loss::{Rule, loss_sum};
use crate::tensors::Batch;

/// Loss of a batch, `[1]`, from log-odds `[B, T, members K]`: the mean over members of the sum over its examples divided by
/// `per_batch`, the examples of an average batch. Divided by its own count, a batch of short
/// histories would weigh its months more than one of long histories, and short histories are those
/// of customers who left.
///
/// Of a hazard head it is the likelihood of what was seen of the window: a cross-entropy for each
/// month in which the customer was still there and the outcome is known (Gensheimer and Narasimhan
/// 2019, doi:10.7717/peerj.6257).
pub fn batch_loss(
    log_odds: Tensor<3>,
    batch: &Batch,
    per_batch: f64,
    spec: &TrainSpec,
) -> Tensor<1> {
    let (mut targets, mut weights) = (batch.targets.clone(), batch.weights.clone());
    // Each member has a loss of its own: that of the mean would let them lean on each other.
    let members = log_odds.dims()[2] / targets.dims()[2];
    if members > 1 {
        [targets, weights] = [targets, weights].map(|t| t.repeat_dim(2, members));
    }
    let weights = match spec.positive_weight {
        1.0 => weights,
        positive => weights * (targets.clone() * (positive - 1.0) + 1.0),
    };
    let rule = match spec.loss {
        Loss::Bce | Loss::Weighted | Loss::Auto => Rule::CrossEntropy,
        Loss::Focal => Rule::Focal { gamma: spec.focal_gamma as f32 },
    };
    let [log_odds, targets, weights] = [log_odds, targets, weights].map(|t| t.reshape([-1]));
    loss_sum(log_odds, targets, weights, rule) / (per_batch * members as f64)
}

/// Largest weight of leavers; where they are rarer still, single rows would make the steps.
const WEIGHT_MAX: f64 = 100.0;

/// The settings with the weight that the loss `weighted` leaves to the data: stayers over leavers,
/// given the rates of the train part.
pub fn weighed(spec: &TrainSpec, train_rates: &[f64]) -> TrainSpec {
    let rate = train_rates.iter().sum::<f64>() / train_rates.len() as f64;
    let balance = ((1.0 - rate) / rate).clamp(1.0 / WEIGHT_MAX, WEIGHT_MAX);
    let is_open = spec.loss == Loss::Weighted && spec.positive_weight == 1.0;
    let positive_weight = if is_open { balance } else { spec.positive_weight };
    TrainSpec { positive_weight, ..spec.clone() }
}

/// The log-odds that a cross-entropy with weighted positives learns are too high by log(weight)
/// (prior correction, King and Zeng 2001). What the focal loss learns has no such closed form.
pub fn prior_correction(spec: &TrainSpec) -> f32 {
    match spec.loss {
        Loss::Bce | Loss::Weighted | Loss::Auto => -(spec.positive_weight.ln() as f32),
        Loss::Focal => 0.0,
    }
}

/// Mean log loss of log-odds against labels, in f64 on the host.
pub fn log_loss(log_odds: &[f32], churned: impl Iterator<Item = bool>) -> f64 {
    let mut sum = 0.0;
    for (&x, y) in log_odds.iter().zip(churned) {
        let x = f64::from(x);
        sum += x.max(0.0) - if y { x } else { 0.0 } + (-x.abs()).exp().ln_1p();
    }
    sum / log_odds.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weighted_loss_balances_the_classes() {
        for (loss, weight, rates, wanted) in [
            (Loss::Weighted, 1.0, &[0.2][..], 4.0),
            (Loss::Weighted, 1.0, &[0.1, 0.3], 4.0),
            (Loss::Weighted, 1.0, &[1e-6], WEIGHT_MAX),
            (Loss::Weighted, 3.0, &[0.2], 3.0),
            (Loss::Bce, 1.0, &[0.2], 1.0),
            (Loss::Bce, 3.0, &[0.2], 3.0),
        ] {
            let spec = TrainSpec { loss, positive_weight: weight, ..TrainSpec::default() };
            let found = weighed(&spec, rates);
            assert!((found.positive_weight - wanted).abs() < 1e-9, "{loss:?} {rates:?}");
            let shift = prior_correction(&found);
            assert!((f64::from(shift) + wanted.ln()).abs() < 1e-6, "{loss:?}: {shift}");
        }
    }
}
