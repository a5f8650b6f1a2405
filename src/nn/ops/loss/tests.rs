//! Loss and gradient against the textbook formulas in f64.

use burn::tensor::{Device, Tensor, TensorData};
use rand_distr::{Distribution, Normal, Uniform};

use super::{Rule, loss_sum};
use crate::seeds::Seeds;

const RULES: [Rule; 5] = [
    Rule::CrossEntropy,
    Rule::Focal { gamma: 0.0 },
    Rule::Focal { gamma: 0.5 },
    Rule::Focal { gamma: 1.0 },
    Rule::Focal { gamma: 2.0 },
];

/// log(1 + exp(x)), without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// One loss in f64: by -y log sigma(x) - (1 - y) log(1 - sigma(x)), and p of its exponential.
fn reference(rule: Rule, x: f64, y: f64) -> f64 {
    let entropy = y * softplus(-x) + (1.0 - y) * softplus(x);
    match rule {
        Rule::CrossEntropy => entropy,
        Rule::Focal { gamma } => (-(-entropy).exp_m1()).powf(f64::from(gamma)) * entropy,
    }
}

/// Central difference; its own error is of the order of step^2 = 1e-10 and 100 * 1e-16 / step.
fn slope(rule: Rule, x: f64, y: f64) -> f64 {
    let step = 1e-5;
    (reference(rule, x + step, y) - reference(rule, x - step, y)) / (2.0 * step)
}

/// The loss, and the gradient of three times it by the log-odds.
fn run(rule: Rule, device: &Device, [x, y, weights]: [&[f32]; 3]) -> (f32, Vec<f32>) {
    let device = device.clone().autodiff();
    let of = |values: &[f32]| {
        Tensor::<1>::from_data(TensorData::new(values.to_vec(), [values.len()]), &device)
    };
    let x = of(x).require_grad();
    let loss = loss_sum(x.clone(), of(y), of(weights), rule);
    let grads = (loss.clone() * 3.0).backward();
    let gradient = x.grad(&grads).expect("tracked").into_data();
    (loss.into_scalar::<f32>(), gradient.try_into_vec_as().expect("f32"))
}

const LOG_ODDS: [f32; 15] =
    [-100.0, -88.0, -50.0, -17.0, -5.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 5.0, 17.0, 50.0, 88.0, 100.0];

/// Every log-odds against every label and weight, alone. In f32 the largest number here is 2.5 *
/// 100, with a relative error of 1e-7; 1 - p is off by 6e-8 where p is near 1, and the focal loss
/// multiplies that with at most a loss of 1e-6 / (1e-6)^0.5.
#[track_caller]
fn check(rule: Rule, device: &Device) {
    for x in LOG_ODDS {
        for y in [0.0f32, 0.1, 1.0] {
            for weight in [0.0f32, 0.3, 2.5] {
                let (loss, gradient) = run(rule, device, [&[x], &[y], &[weight]]);
                let (x, y, w) = (f64::from(x), f64::from(y), f64::from(weight));
                let pairs = [
                    ("loss", loss, w * reference(rule, x, y)),
                    ("gradient", gradient[0], 3.0 * w * slope(rule, x, y)),
                ];
                for (what, got, wanted) in pairs {
                    let distance = (f64::from(got) - wanted).abs();
                    let tolerance = if w == 0.0 { 0.0 } else { 2e-6 * (1.0 + wanted.abs()) };
                    assert!(
                        distance <= tolerance,
                        "{what} of {rule:?} at x {x}, y {y}, weight {w}: {got}, expected {wanted}"
                    );
                }
            }
        }
    }
}

#[test]
fn equals_the_formulas() {
    RULES.iter().for_each(|&rule| check(rule, &Device::flex()));
}

#[cfg(feature = "ndarray")]
#[test]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
fn equals_the_formulas_on_ndarray() {
    RULES.iter().for_each(|&rule| check(rule, &Device::ndarray()));
}

/// More examples than a chunk of 4096 holds, and not a multiple of it.
#[test]
fn sums_over_all_examples() {
    let count = 10_001;
    let mut rng = Seeds::new(1).stream("loss", 0);
    let (normal, unit) = (Normal::new(0.0f32, 2.0).expect("valid"), Uniform::new(0.0f32, 1.0));
    let unit = unit.expect("valid");
    let x: Vec<f32> = (0..count).map(|_| normal.sample(&mut rng)).collect();
    let y: Vec<f32> =
        (0..count).map(|_| f32::from(u8::from(unit.sample(&mut rng) < 0.3))).collect();
    let weights: Vec<f32> =
        (0..count).map(|_| (unit.sample(&mut rng) * 2.0 - 0.5).max(0.0)).collect();
    for rule in RULES {
        let (loss, gradient) = run(rule, &Device::flex(), [&x, &y, &weights]);
        let each = |f: fn(Rule, f64, f64) -> f64, at: usize| {
            f64::from(weights[at]) * f(rule, f64::from(x[at]), f64::from(y[at]))
        };
        let wanted: f64 = (0..count).map(|at| each(reference, at)).sum();
        // Sums of 4096 positive numbers one after the other: at most 4096 half units in the last
        // place, 2e-4; their signs are random, which makes it the root of that.
        let distance = (f64::from(loss) - wanted).abs();
        assert!(distance <= 2e-5 * wanted, "{rule:?}: {loss}, expected {wanted}");
        for (at, got) in gradient.iter().enumerate() {
            let wanted = 3.0 * each(slope, at);
            let distance = (f64::from(*got) - wanted).abs();
            assert!(distance <= 2e-6 * (1.0 + wanted.abs()), "{rule:?}[{at}]: {got}, {wanted}");
        }
    }
}

/// The trainer stops at a loss that is not a number.
#[test]
fn a_nan_goes_through() {
    for rule in RULES {
        let (loss, gradient) =
            run(rule, &Device::flex(), [&[0.5, f32::NAN], &[1.0, 1.0], &[1.0, 1.0]]);
        assert!(loss.is_nan() && gradient[1].is_nan() && !gradient[0].is_nan(), "{rule:?}");
    }
}
