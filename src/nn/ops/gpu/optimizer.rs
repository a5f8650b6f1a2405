//! The optimizer's passes: one launch a parameter for its part of the gradient norm, one for its
//! step, one for its average.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{PARTS, THREADS, block_sum, empty, lines};
use crate::nn::ops::native::adamw::Rule;

/// Buffers of a step that averages: ten tensors, and one of numbers. WebGPU guarantees eight; where
/// a device has no more, the average is a launch of its own.
const BINDINGS_AVERAGED: u32 = 11;

/// Adds the squares of x to `before`, in [`PARTS`] sums of their own.
pub fn squares(x: CubeTensor, before: Option<CubeTensor>) -> CubeTensor {
    let sums = empty(&x, [PARTS]);
    let size = x.shape().num_elements() as u32;
    let adds = before.is_some();
    add_squares::launch(
        &x.client.clone(),
        CubeCount::Static(PARTS as u32, 1, 1),
        CubeDim::new_1d((THREADS * THREADS) as u32),
        x.clone().into_buffer_arg(),
        before.unwrap_or(x).into_buffer_arg(),
        sums.clone().into_buffer_arg(),
        size,
        adds,
    );
    sums
}

/// What gradients are multiplied with, `[1]`, so that their norm stays within the limit.
pub fn clip(squares: CubeTensor, limit: f32) -> CubeTensor {
    let factor = empty(&squares, [1]);
    limit_norm::launch(
        &squares.client.clone(),
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(1),
        squares.into_buffer_arg(),
        factor.clone().into_buffer_arg(),
        limit,
    );
    factor
}

/// What a step needs; all contiguous.
pub struct Step {
    pub parameter: CubeTensor,
    pub gradient: CubeTensor,
    pub moments: [CubeTensor; 2],
    /// `[1]`.
    pub clip: CubeTensor,
    /// The moving average, and the factors of [`averaged`].
    pub average: Option<(CubeTensor, [f32; 2])>,
}

/// The parameter and its moments after a step, and the average, or something of no meaning.
pub fn adamw(step: Step, rule: Rule) -> ([CubeTensor; 3], CubeTensor) {
    let Step { parameter, gradient, moments, clip, average } = step;
    let size = parameter.shape().num_elements();
    let found = [(); 3].map(|()| empty(&parameter, [size]));
    let client = parameter.client.clone();
    let fits = client.properties().hardware.max_bindings >= BINDINGS_AVERAGED;
    let (now, later) = if fits { (average, None) } else { (None, average) };
    let averages = now.is_some();
    let (average, factors) = now.unwrap_or_else(|| (parameter.clone(), [0.0; 2]));
    let new_average = empty(&parameter, [if averages { size } else { 1 }]);
    let [first, second] = moments;
    let (count, threads) = lines(size);
    adamw_step::launch(
        &client,
        count,
        threads,
        parameter.into_buffer_arg(),
        gradient.into_buffer_arg(),
        first.into_buffer_arg(),
        second.into_buffer_arg(),
        clip.into_buffer_arg(),
        average.into_buffer_arg(),
        found[0].clone().into_buffer_arg(),
        found[1].clone().into_buffer_arg(),
        found[2].clone().into_buffer_arg(),
        new_average.clone().into_buffer_arg(),
        size as u32,
        NumbersLaunch::new(
            rule.betas[0],
            rule.betas[1],
            rule.rate,
            rule.spread_scale,
            rule.epsilon,
            rule.keep,
            factors[0],
            factors[1],
        ),
        averages,
    );
    match later {
        Some((average, factors)) => {
            let average = averaged(average, found[0].clone(), factors);
            (found, average)
        }
        None => (found, new_average),
    }
}

/// The sum of both, each times its factor.
pub fn averaged(average: CubeTensor, new: CubeTensor, factors: [f32; 2]) -> CubeTensor {
    let size = average.shape().num_elements();
    let out = empty(&average, [size]);
    let (count, threads) = lines(size);
    mix::launch(
        &average.client.clone(),
        count,
        threads,
        average.into_buffer_arg(),
        new.into_buffer_arg(),
        out.clone().into_buffer_arg(),
        size as u32,
        factors[0],
        factors[1],
    );
    out
}

/// Those of a [`Rule`], and the factors of the average.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Numbers {
    beta_1: f32,
    beta_2: f32,
    rate: f32,
    spread_scale: f32,
    epsilon: f32,
    keep: f32,
    average_keep: f32,
    average_rest: f32,
}

#[cube(launch)]
fn add_squares(x: &[f32], before: &[f32], sums: &mut [f32], size: u32, #[comptime] adds: bool) {
    let size = size as usize;
    let mut sum = 0.0f32;
    for at in range_stepped(ABSOLUTE_POS, size, PARTS * THREADS * THREADS) {
        sum += x[at] * x[at];
    }
    let sum = block_sum(sum);
    if UNIT_POS == 0 {
        let slot = CUBE_POS_X as usize;
        if comptime!(adds) {
            sums[slot] = before[slot] + sum;
        } else {
            sums[slot] = sum;
        }
    }
}

#[cube(launch)]
fn limit_norm(squares: &[f32], factor: &mut [f32], limit: f32) {
    let mut sum = 0.0f32;
    for slot in 0..PARTS {
        sum += squares[slot];
    }
    let wanted = limit / (f32::sqrt(sum) + 1e-6);
    // In this form a NaN stays one.
    factor[0] = select(wanted > 1.0, 1.0, wanted);
}

#[cube(launch)]
fn adamw_step(
    parameter: &[f32],
    gradient: &[f32],
    first: &[f32],
    second: &[f32],
    clip: &[f32],
    average: &[f32],
    new_parameter: &mut [f32],
    new_first: &mut [f32],
    new_second: &mut [f32],
    new_average: &mut [f32],
    size: u32,
    rule: Numbers,
    #[comptime] averages: bool,
) {
    let at = ABSOLUTE_POS;
    if at < size as usize {
        let g = gradient[at] * clip[0];
        let m = first[at] * rule.beta_1 + g * (1.0 - rule.beta_1);
        let v = second[at] * rule.beta_2 + g * g * (1.0 - rule.beta_2);
        let spread = f32::sqrt(v * rule.spread_scale) + rule.epsilon;
        let new = parameter[at] * rule.keep - rule.rate * m / spread;
        new_first[at] = m;
        new_second[at] = v;
        new_parameter[at] = new;
        if comptime!(averages) {
            new_average[at] = average[at] * rule.average_keep + new * rule.average_rest;
        }
    }
}

#[cube(launch)]
fn mix(average: &[f32], new: &[f32], out: &mut [f32], size: u32, keep: f32, rest: f32) {
    let at = ABSOLUTE_POS;
    if at < size as usize {
        out[at] = average[at] * keep + new[at] * rest;
    }
}
