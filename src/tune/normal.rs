//! The normal law.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// From here on the continued fraction of erfc is used; both forms agree there to 1e-15.
const TAIL: f64 = 2.0;

/// Terms of the series below [`TAIL`] and of the continued fraction above it, both of which have
/// then converged to the last bit.
const SERIES_TERMS: u32 = 60;
const FRACTION_TERMS: u32 = 80;

/// P(X <= z) of the standard normal law; relative error below 1e-12, also far on the left.
pub fn cdf(z: f64) -> f64 {
    0.5 * erfc(-z * FRAC_1_SQRT_2)
}

/// P(low < X <= high), without cancellation on either side.
pub fn mass(low: f64, high: f64) -> f64 {
    if low > 0.0 { cdf(-low) - cdf(-high) } else { cdf(high) - cdf(low) }
}

/// Logarithm of the density.
pub fn ln_density(z: f64) -> f64 {
    -0.5 * z * z - 0.5 * (2.0 * PI).ln()
}

/// Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.6 and 7.1.14.
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    let scale = (-x * x).exp() / PI.sqrt();
    if x < TAIL {
        let (mut term, mut sum) = (x, x);
        for n in 1..SERIES_TERMS {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
            if term < sum * f64::EPSILON * 0.1 {
                break;
            }
        }
        return 1.0 - 2.0 * scale * sum;
    }
    let mut fraction = x;
    for n in (1..FRACTION_TERMS).rev() {
        fraction = x + 0.5 * f64::from(n) / fraction;
    }
    scale / fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden numbers: `scipy.stats.norm.cdf`.
    #[test]
    fn as_scipy() {
        for (z, expected) in [
            (-12.5, 3.732564298877714e-36),
            (-5.0, 2.866515718791933e-07),
            (-2.9, 0.0018658133003840375),
            (-2.8, 0.002555130330427932),
            (-1.0, 0.15865525393145707),
            (-0.25, 0.4012936743170763),
            (0.0, 0.5),
            (0.5, 0.6914624612740131),
            (2.83, 0.9976725997932685),
            (4.0, 0.9999683287581669),
        ] {
            let off = (cdf(z) / expected - 1.0).abs();
            assert!(off < 1e-12, "{z}: {} is off by {off}", cdf(z));
        }
    }

    #[test]
    fn masses_keep_their_digits_in_both_tails() {
        for (low, high) in [(5.0, 6.0), (8.0, 8.1), (0.1, 30.0), (-0.3, 0.2)] {
            let (right, left) = (mass(low, high), mass(-high, -low));
            assert!((right / left - 1.0).abs() < 1e-12, "{low} to {high}: {right}, {left}");
        }
        assert!((mass(-40.0, 40.0) - 1.0).abs() < 1e-15);
    }
}
