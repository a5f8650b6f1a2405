//! The functions of the gates and the optimizer's step against f64.

use burn::tensor::{Device, Tensor, TensorData};
use pulp::{Arch, Scalar, Scalar256b, Simd, WithSimd};
use rand_distr::{Distribution, Normal};

use super::activation::{sigmoids, tanh};
use crate::nn::ops::adamw::{Rule, adamw, averaged, squares};
use crate::seeds::Seeds;

struct Tanh<'a>(&'a mut [f32]);

impl WithSimd for Tanh<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (vectors, rest) = S::as_mut_simd_f32s(self.0);
        assert!(rest.is_empty(), "whole vectors");
        vectors.iter_mut().for_each(|x| *x = tanh(simd, *x));
    }
}

/// Both at once, as the gates need them.
struct Sigmoids<'a>(&'a mut [f32], &'a mut [f32]);

impl WithSimd for Sigmoids<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (xs, ys) = (S::as_mut_simd_f32s(self.0).0, S::as_mut_simd_f32s(self.1).0);
        xs.iter_mut().zip(ys).for_each(|(x, y)| (*x, *y) = sigmoids(simd, *x, *y));
    }
}

#[derive(Debug, Clone, Copy)]
enum Unit {
    /// What this machine has.
    Found,
    /// Plain numbers, where nothing is found.
    Plain,
    /// Eight plain numbers at a time and half the registers of AVX-512.
    Eight,
}

const UNITS: [Unit; 3] = [Unit::Found, Unit::Plain, Unit::Eight];

impl Unit {
    fn run<Op: WithSimd>(self, op: Op) -> Op::Output {
        match self {
            Unit::Found => Arch::new().dispatch(op),
            Unit::Plain => op.with_simd(Scalar::new()),
            Unit::Eight => op.with_simd(Scalar256b),
        }
    }

    fn tanh(self, x: &[f32]) -> Vec<f32> {
        let mut y = x.to_vec();
        self.run(Tanh(&mut y));
        y
    }

    /// The logistic function; each number shares its division with one from the other end.
    fn sigmoid(self, x: &[f32]) -> Vec<f32> {
        let (mut y, mut other) = (x.to_vec(), x.iter().rev().copied().collect::<Vec<_>>());
        self.run(Sigmoids(&mut y, &mut other));
        y
    }
}

/// -20 to 20 in steps of 1/1024, then what is special; a multiple of 16 numbers.
fn grid() -> Vec<f32> {
    const SPECIAL: [f32; 15] = [
        0.0,
        -0.0,
        1e-45,
        -1e-45,
        1.1e-38,
        f32::MIN_POSITIVE,
        -f32::MIN_POSITIVE,
        1e-20,
        -1e-5,
        88.8,
        -104.0,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
    ];
    let mut all: Vec<f32> = (-20 * 1024..=20 * 1024).map(|i| i as f32 / 1024.0).collect();
    all.extend(SPECIAL);
    assert!(all.len().is_multiple_of(16));
    all
}

/// The bound that the function's documentation states.
#[track_caller]
fn check(f: fn(Unit, &[f32]) -> Vec<f32>, exact: fn(f64) -> f64, error_max: f64) {
    let grid = grid();
    // The largest error of each unit, and where it is; a NaN is the worst of all.
    let worst = UNITS.map(|unit| {
        let error = |(x, y): (&f32, f32)| ((f64::from(y) - exact(f64::from(*x))).abs(), *x);
        let errors = grid.iter().zip(f(unit, &grid)).map(error);
        errors.max_by(|a, b| a.0.total_cmp(&b.0)).expect("a grid")
    });
    let is_exact = |(error, _): &(f64, f32)| *error <= error_max;
    assert!(worst.iter().all(is_exact), "{UNITS:?} are off by, at: {worst:?}");
}

#[test]
fn tanh_is_as_exact_as_it_says() {
    check(Unit::tanh, f64::tanh, 4e-7);
}

#[test]
fn sigmoid_is_as_exact_as_it_says() {
    check(Unit::sigmoid, |x| 1.0 / (1.0 + (-x).exp()), 2.5e-7);
}

#[test]
fn tanh_is_odd_and_sigmoid_is_symmetric() {
    let grid = grid();
    let turned: Vec<f32> = grid.iter().map(|x| -x).collect();
    for unit in UNITS {
        for ((x, y), z) in grid.iter().zip(unit.tanh(&grid)).zip(unit.tanh(&turned)) {
            assert_eq!(y.to_bits(), (-z).to_bits(), "{unit:?}: tanh({x}) = {y}, tanh(-x) = {z}");
        }
        for ((x, y), z) in grid.iter().zip(unit.sigmoid(&grid)).zip(unit.sigmoid(&turned)) {
            // Three roundings of numbers up to 1: of each value, and of their sum.
            assert!((y + z - 1.0).abs() <= 2.5e-7, "{unit:?}: sigma({x}) = {y}, sigma(-x) = {z}");
        }
    }
}

/// The trainer stops at a loss that is not a number; a clamp that turns NaN into a number would
/// hide it.
#[test]
fn a_nan_goes_through() {
    for unit in UNITS {
        for nan in [f32::NAN, -f32::NAN] {
            assert!(unit.tanh(&[nan; 16]).iter().all(|y| y.is_nan()), "tanh, {unit:?}");
            assert!(unit.sigmoid(&[nan; 16]).iter().all(|y| y.is_nan()), "sigmoid, {unit:?}");
        }
    }
}

fn draw(name: &str, index: u64, size: usize) -> Vec<f32> {
    let mut rng = Seeds::new(1).stream(name, index);
    let law = Normal::new(0.0f32, 1.0).expect("valid");
    (0..size).map(|_| law.sample(&mut rng)).collect()
}

fn vector(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

fn numbers(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as().expect("f32")
}

const STEPS: i32 = 10;
const BETAS: [f64; 2] = [0.9, 0.999];
const RATE: f64 = 0.01;
const DECAY: f64 = 0.1;
const EPSILON: f64 = 1e-8;
const CLIP: f32 = 0.7;

/// The step as the trainer writes it.
fn rule(step: i32) -> Rule {
    Rule {
        betas: BETAS.map(|beta| beta as f32),
        rate: (RATE / (1.0 - BETAS[0].powi(step))) as f32,
        spread_scale: (1.0 / (1.0 - BETAS[1].powi(step))) as f32,
        epsilon: EPSILON as f32,
        keep: (1.0 - RATE * DECAY) as f32,
    }
}

/// Loshchilov and Hutter 2019 (arXiv:1711.05101), algorithm 2, one number, in f64.
fn reference([p, m, v]: [f64; 3], gradient: f64, step: i32) -> [f64; 3] {
    let g = gradient * f64::from(CLIP);
    let m = BETAS[0] * m + (1.0 - BETAS[0]) * g;
    let v = BETAS[1] * v + (1.0 - BETAS[1]) * g * g;
    let m_hat = m / (1.0 - BETAS[0].powi(step));
    let v_hat = v / (1.0 - BETAS[1].powi(step));
    [p - RATE * DECAY * p - RATE * m_hat / (v_hat.sqrt() + EPSILON), m, v]
}

/// Each step rounds the parameter twice, 6e-8 of it each time: 1.2e-6 after ten steps if all went
/// one way. 1 - 0.999 in f32 is off by 5e-5 of itself, which is 2e-5 of the root of v and thereby
/// of each change of about 0.01: 2e-6 after ten steps, and 5e-5 of v.
#[track_caller]
fn check_adamw(size: usize, device: &Device) {
    let mut wanted: Vec<[f64; 3]> =
        draw("parameter", 0, size).iter().map(|&p| [f64::from(p), 0.0, 0.0]).collect();
    let mut parameter = vector(&draw("parameter", 0, size), device);
    let mut moments = [(); 2].map(|()| Tensor::<1>::zeros([size], device));
    for step in 1..=STEPS {
        let gradient = draw("gradient", step as u64, size);
        let before = (parameter.clone(), numbers(parameter.clone()));
        let clip = vector(&[CLIP], device);
        (parameter, moments) =
            adamw(parameter, vector(&gradient, device), moments, clip, rule(step));
        // Somebody else holds the parameter: it must not have been updated in place.
        assert!(numbers(before.0) == before.1, "step {step} wrote to what others hold");
        wanted.iter_mut().zip(&gradient).for_each(|(all, g)| {
            *all = reference(*all, f64::from(*g), step);
        });
    }
    let [first, second] = moments;
    let found = [(parameter, 4e-6), (first, 1e-6), (second, 1e-6)];
    for (kind, (got, tolerance)) in found.into_iter().enumerate() {
        let name = ["parameter", "first moment", "second moment"][kind];
        let got = numbers(got);
        assert_eq!(got.len(), size);
        for (at, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
            let (got, wanted) = (f64::from(*got), wanted[kind]);
            assert!(
                (got - wanted).abs() <= tolerance * (1.0 + wanted.abs()),
                "{name} {at} of {size}: {got}, expected {wanted}"
            );
        }
    }
}

/// Less than a vector, not a whole number of them, and several chunks of 2^14.
const SIZES: [usize; 3] = [1, 17, 40_000];

#[test]
fn ten_steps_of_adamw_equal_the_paper() {
    SIZES.iter().for_each(|&size| check_adamw(size, &Device::flex()));
}

#[cfg(feature = "ndarray")]
#[test]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
fn ten_steps_of_adamw_equal_the_paper_on_ndarray() {
    SIZES.iter().for_each(|&size| check_adamw(size, &Device::ndarray()));
}

#[test]
fn an_average_moves_in_place_unless_others_hold_it() {
    let device = Device::flex();
    for size in SIZES {
        let (old, new) = (draw("average", 0, size), draw("average", 1, size));
        let held = vector(&old, &device);
        let got = numbers(averaged(held.clone(), vector(&new, &device), 0.75));
        // Three roundings of numbers up to about 5.
        for ((got, old), new) in got.iter().zip(&old).zip(&new) {
            assert!((got - (0.75 * old + 0.25 * new)).abs() <= 1e-6, "{got} of {old} and {new}");
        }
        assert!(numbers(held) == old, "{size}: wrote to what others hold");
    }
}

/// Sums of positive numbers, 2^14 in a row at most: roundings of random sign make the root of
/// that times 6e-8, 8e-6.
#[test]
fn sum_of_squares_is_one() {
    for size in SIZES {
        let x = draw("square", 0, size);
        let got = f64::from(numbers(squares(vector(&x, &Device::flex()), None))[0]);
        let wanted: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
        assert!((got - wanted).abs() <= 1e-5 * wanted, "{size}: {got}, expected {wanted}");
        let mut lost = x;
        lost[size / 2] = f32::NAN;
        assert!(numbers(squares(vector(&lost, &Device::flex()), None))[0].is_nan());
    }
}
