//! Losses on log-odds.

use burn::tensor::Tensor;

use crate::config::TrainSpec;
use crate::config::model::Loss;

/// Mean loss over the labelled months of a batch: log-odds, targets and weights `[B, T, 1]` to
/// `[1]`. Stable for large log-odds: max(x, 0) - x y + log(1 + exp(-|x|)).
pub fn batch_loss(
    log_odds: Tensor<3>,
    targets: Tensor<3>,
    weights: Tensor<3>,
    spec: &TrainSpec,
) -> Tensor<1> {
    let labelled = weights.clone().sum().clamp_min(1.0);
    let softplus = log_odds.clone().abs().neg().exp().log1p();
    let cross_entropy = log_odds.clone().clamp_min(0.0) - log_odds * targets.clone() + softplus;
    let per_month = match spec.loss {
        Loss::Bce => cross_entropy,
        // Lin et al. 2017: (1 - p_t)^gamma times the cross-entropy, whose p_t is exp(-ce).
        Loss::Focal => {
            let miss = cross_entropy.clone().neg().exp().neg().add_scalar(1.0).clamp_min(1e-6);
            miss.powf_scalar(spec.focal_gamma as f32) * cross_entropy
        }
    };
    let weights = weights * (targets * (spec.positive_weight - 1.0) + 1.0);
    (per_month * weights).sum() / labelled
}

/// The log-odds that a loss with weighted positives learns are too high by log(weight)
/// (prior correction, King and Zeng 2001).
pub fn prior_correction(spec: &TrainSpec) -> f32 {
    -(spec.positive_weight.ln() as f32)
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
