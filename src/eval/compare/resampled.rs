//! The corrected resampled t-test: whether a difference holds over trainings.
//!
//! Folds of one data set share train rows, so that their differences are not independent and the
//! plain t-test is too sure. Nadeau and Bengio 2003 (Machine Learning 52) widen the variance of the
//! mean from s²/k to s² (1/k + test rows / train rows).

use std::f64::consts::PI;

use serde::Serialize;

use super::OUTSIDE;

/// A mean over folds, and its test against zero.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resampled {
    pub folds: usize,
    pub mean: f64,
    /// Sample standard deviation over folds.
    pub sd: f64,
    /// None where all folds agree to the last bit.
    pub t: Option<f64>,
    /// 95 %.
    pub interval: [f64; 2],
    /// Two-sided.
    pub p: Option<f64>,
}

/// `test_to_train` is test rows by train rows. `None` with fewer than two differences.
pub fn test(differences: &[f64], test_to_train: f64) -> Option<Resampled> {
    let folds = differences.len();
    if folds < 2 {
        return None;
    }
    let count = folds as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
    let variance = squares / (count - 1.0);
    let error = (variance * (1.0 / count + test_to_train)).sqrt();
    let freedom = folds as u32 - 1;
    let t = (error > 0.0).then(|| mean / error);
    let half = quantile(freedom) * error;
    let certain = (mean == 0.0).then_some(1.0);
    Some(Resampled {
        folds,
        mean,
        sd: variance.sqrt(),
        t,
        interval: [mean - half, mean + half],
        p: t.map(|t| two_sided(t, freedom)).or(certain),
    })
}

/// P(|T| > |t|) of Student's law: the regularized incomplete beta function at
/// freedom / (freedom + t²) with parameters freedom/2 and 1/2.
pub fn two_sided(t: f64, freedom: u32) -> f64 {
    let (a, b) = (f64::from(freedom) / 2.0, 0.5);
    let square = t * t;
    let (x, rest) = (2.0 * a / (2.0 * a + square), square / (2.0 * a + square));
    if square == 0.0 {
        return 1.0;
    }
    // x^a (1 - x)^b / B(a, b), which both sides share.
    let scale = x.powf(a) * rest.powf(b) / beta_with_half(freedom);
    if x < (a + 1.0) / (a + b + 2.0) {
        scale * fraction(x, a, b) / a
    } else {
        1.0 - scale * fraction(rest, b, a) / b
    }
}

/// The |t| that is exceeded with probability [`OUTSIDE`].
fn quantile(freedom: u32) -> f64 {
    // 12.7 with one degree of freedom, and less with more.
    let (mut low, mut high) = (0.0, 16.0);
    // Halved to the last bit of a number below 16.
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if two_sided(middle, freedom) > OUTSIDE {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// B(freedom / 2, 1/2), from B(1/2, 1/2) = π or B(1, 1/2) = 2 by B(a + 1, b) = B(a, b) a / (a + b).
fn beta_with_half(freedom: u32) -> f64 {
    let (mut a, mut beta) = if freedom % 2 == 1 { (0.5, PI) } else { (1.0, 2.0) };
    while a < f64::from(freedom) / 2.0 {
        beta *= a / (a + 0.5);
        a += 1.0;
    }
    beta
}

/// Terms after which the fraction has long converged, on the side of x on which it is used.
const TERMS_MAX: u32 = 300;

/// The continued fraction of the incomplete beta function (Abramowitz and Stegun 26.5.8) by the
/// method of Lentz.
fn fraction(x: f64, a: f64, b: f64) -> f64 {
    // Lentz's denominators must not vanish.
    let kept = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut c, mut d) = (1.0, 1.0 / kept(1.0 - (a + b) * x / (a + 1.0)));
    let mut value = d;
    for m in (1..=TERMS_MAX).map(f64::from) {
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / kept(1.0 + term * d);
            c = kept(1.0 + term / c);
            change = c * d;
            value *= change;
        }
        if (change - 1.0).abs() < 1e-16 {
            break;
        }
    }
    value
}
