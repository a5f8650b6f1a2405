//! Cross-entropy of log-odds and its gradient in one pass.

use rayon::prelude::*;

/// Examples of a chunk; chunks are added in their order, whatever the number of threads.
const CHUNK: usize = 4096;

/// Which loss, of log-odds x and label y with p the probability of the label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// -log p.
    CrossEntropy,
    /// (1 - p)^gamma (-log p), Lin et al. 2017 (arXiv:1708.02002).
    Focal { gamma: f32 },
}

/// Below this, 1 - p is not told from 0 and its powers below 1 have no finite slope.
pub const MISS_MIN: f32 = 1e-6;

/// The weighted sum of the losses, and its derivative by each x.
pub fn sum(rule: Rule, x: &[f32], y: &[f32], weights: &[f32]) -> (f32, Vec<f32>) {
    let mut gradient = vec![0.0; x.len()];
    let sums: Vec<f32> = gradient
        .par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK).zip(y.par_chunks(CHUNK)).zip(weights.par_chunks(CHUNK)))
        .map(|(gradient, ((x, y), weights))| {
            let mut sum = 0.0;
            for (d, ((x, y), w)) in gradient.iter_mut().zip(x.iter().zip(y).zip(weights)) {
                if *w != 0.0 {
                    let (loss, slope) = one(rule, *x, *y);
                    sum += w * loss;
                    *d = w * slope;
                }
            }
            sum
        })
        .collect();
    (sums.iter().sum(), gradient)
}

/// Loss and derivative. Stable for large log-odds: with e = exp(-|x|), the cross-entropy is
/// max(x, 0) - x y + log(1 + e), and its derivative sigma(x) - y.
fn one(rule: Rule, x: f32, y: f32) -> (f32, f32) {
    let e = (-x.abs()).exp();
    let entropy = x.max(0.0) - x * y + e.ln_1p();
    let sigma = if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
    let slope = sigma - y;
    match rule {
        Rule::CrossEntropy => (entropy, slope),
        Rule::Focal { gamma } => {
            let p = (-entropy).exp();
            let miss = (1.0 - p).max(MISS_MIN);
            let focus = miss.powf(gamma);
            (focus * entropy, slope * (focus + entropy * gamma * focus / miss * p))
        }
    }
}
