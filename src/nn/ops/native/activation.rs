//! Sigmoid and tanh from multiplications and one division.

use std::hint::black_box;

use pulp::Simd;

/// Beyond this, the rational function below is no longer monotone; tanh differs from 1 by 2.3e-7.
const CLAMP: f32 = 7.998_812;

/// Odd numerator and even denominator of the minimax approximation of tanh that Eigen uses
/// (`generic_fast_tanh_float`); highest power first.
static NUMERATOR: [f32; 7] = [
    -2.760_768_5e-16,
    2.000_188e-13,
    -8.604_672e-11,
    5.122_297e-8,
    1.485_722_4e-5,
    6.372_619_3e-4,
    4.893_524_6e-3,
];
static DENOMINATOR: [f32; 4] = [1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_6e-3, 4.893_525_3e-3];

/// Numerator and denominator of tanh(x).
#[inline(always)]
fn fraction<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    // Not min and max, which would turn a NaN into a number.
    let (low, high) = (simd.splat_f32s(-CLAMP), simd.splat_f32s(CLAMP));
    let x = simd.select_f32s(simd.less_than_f32s(x, low), low, x);
    let x = simd.select_f32s(simd.less_than_f32s(high, x), high, x);
    let square = simd.mul_f32s(x, x);
    let (numerator, denominator) = (black_box(&NUMERATOR), black_box(&DENOMINATOR));
    let mut p = simd.splat_f32s(numerator[0]);
    for c in &numerator[1..] {
        p = simd.mul_add_e_f32s(p, square, simd.splat_f32s(*c));
    }
    let mut q = simd.splat_f32s(denominator[0]);
    for c in &denominator[1..] {
        q = simd.mul_add_e_f32s(q, square, simd.splat_f32s(*c));
    }
    (simd.mul_f32s(x, p), q)
}

/// tanh(x), at most 4e-7 off.
#[inline(always)]
pub fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (p, q) = fraction(simd, x);
    simd.div_f32s(p, q)
}

/// The logistic function of two vectors, at most 2.5e-7 off, with one division for both:
/// sigma(x) = (1 + tanh(x / 2)) / 2.
#[inline(always)]
pub fn sigmoids<S: Simd>(simd: S, x: S::f32s, y: S::f32s) -> (S::f32s, S::f32s) {
    let half = simd.splat_f32s(0.5);
    let (p, q) = fraction(simd, simd.mul_f32s(x, half));
    let (r, s) = fraction(simd, simd.mul_f32s(y, half));
    let inverse = simd.div_f32s(half, simd.mul_f32s(q, s));
    let x = simd.mul_add_e_f32s(simd.mul_f32s(p, s), inverse, half);
    let y = simd.mul_add_e_f32s(simd.mul_f32s(r, q), inverse, half);
    (x, y)
}
