//! AdamW in one pass over parameter, gradient and both moments.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Numbers that a thread takes at a time: all four streams of them fit the second cache level.
const CHUNK: usize = 1 << 14;

/// The numbers of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Decay of the first and the second moment.
    pub betas: [f32; 2],
    /// Learning rate over 1 - beta1^steps.
    pub rate: f32,
    /// 1 / (1 - beta2^steps).
    pub spread_scale: f32,
    pub epsilon: f32,
    /// What is left of the parameter before the step: 1 - rate * decay.
    pub keep: f32,
}

/// Updates all but the gradient, which is multiplied with `clip` first.
pub fn step(
    rule: &Rule,
    clip: f32,
    gradient: &[f32],
    parameter: &mut [f32],
    [first, second]: [&mut [f32]; 2],
) {
    let arch = Arch::new();
    parameter
        .par_chunks_mut(CHUNK)
        .zip(gradient.par_chunks(CHUNK))
        .zip(first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK)))
        .for_each(|((parameter, gradient), (first, second))| {
            arch.dispatch(Chunk { rule, clip, gradient, parameter, first, second });
        });
}

struct Chunk<'a> {
    rule: &'a Rule,
    clip: f32,
    gradient: &'a [f32],
    parameter: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl WithSimd for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let constants = Constants::new(simd, self.rule, self.clip);
        let (g, g_rest) = S::as_simd_f32s(self.gradient);
        let (p, p_rest) = S::as_mut_simd_f32s(self.parameter);
        let (m, m_rest) = S::as_mut_simd_f32s(self.first);
        let (v, v_rest) = S::as_mut_simd_f32s(self.second);
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            [*p, *m, *v] = constants.update(simd, [*p, *m, *v], *g);
        }
        if !g_rest.is_empty() {
            let rest = [&*p_rest, &*m_rest, &*v_rest].map(|rest| simd.partial_load_f32s(rest));
            let [p, m, v] = constants.update(simd, rest, simd.partial_load_f32s(g_rest));
            simd.partial_store_f32s(p_rest, p);
            simd.partial_store_f32s(m_rest, m);
            simd.partial_store_f32s(v_rest, v);
        }
    }
}

/// The rule in all lanes.
struct Constants<S: Simd> {
    clip: S::f32s,
    betas: [S::f32s; 2],
    rests: [S::f32s; 2],
    rate: S::f32s,
    spread_scale: S::f32s,
    epsilon: S::f32s,
    keep: S::f32s,
}

impl<S: Simd> Constants<S> {
    #[inline(always)]
    fn new(simd: S, rule: &Rule, clip: f32) -> Self {
        let [b1, b2] = rule.betas;
        Constants {
            clip: simd.splat_f32s(clip),
            betas: [simd.splat_f32s(b1), simd.splat_f32s(b2)],
            rests: [simd.splat_f32s(1.0 - b1), simd.splat_f32s(1.0 - b2)],
            rate: simd.splat_f32s(-rule.rate),
            spread_scale: simd.splat_f32s(rule.spread_scale),
            epsilon: simd.splat_f32s(rule.epsilon),
            keep: simd.splat_f32s(rule.keep),
        }
    }

    #[inline(always)]
    fn update(&self, simd: S, [p, m, v]: [S::f32s; 3], g: S::f32s) -> [S::f32s; 3] {
        let g = simd.mul_f32s(g, self.clip);
        let m = simd.mul_add_e_f32s(self.betas[0], m, simd.mul_f32s(self.rests[0], g));
        let square = simd.mul_f32s(g, g);
        let v = simd.mul_add_e_f32s(self.betas[1], v, simd.mul_f32s(self.rests[1], square));
        let spread = simd.sqrt_f32s(simd.mul_f32s(v, self.spread_scale));
        let change = simd.div_f32s(m, simd.add_f32s(spread, self.epsilon));
        let p = simd.mul_add_e_f32s(self.rate, change, simd.mul_f32s(self.keep, p));
        [p, m, v]
    }
}

/// `average` becomes the sum of both, each times its factor.
pub fn average(average: &mut [f32], new: &[f32], factors: [f32; 2]) {
    let arch = Arch::new();
    average
        .par_chunks_mut(CHUNK)
        .zip(new.par_chunks(CHUNK))
        .for_each(|(average, new)| arch.dispatch(Average { average, new, factors }));
}

struct Average<'a> {
    average: &'a mut [f32],
    new: &'a [f32],
    factors: [f32; 2],
}

impl WithSimd for Average<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let [of_average, of_new] = self.factors;
        for (average, new) in self.average.iter_mut().zip(self.new) {
            *average = *average * of_average + *new * of_new;
        }
    }
}

/// Sum of squares; chunks are added in their order, whatever the number of threads.
pub fn sum_of_squares(x: &[f32]) -> f32 {
    let arch = Arch::new();
    let sums: Vec<f32> = x.par_chunks(CHUNK).map(|x| arch.dispatch(Squares(x))).collect();
    sums.iter().sum()
}

struct Squares<'a>(&'a [f32]);

impl WithSimd for Squares<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (x, rest) = S::as_simd_f32s(self.0);
        let mut sum = simd.splat_f32s(0.0);
        for x in x {
            sum = simd.mul_add_e_f32s(*x, *x, sum);
        }
        simd.reduce_sum_f32s(sum) + rest.iter().map(|x| x * x).sum::<f32>()
    }
}
