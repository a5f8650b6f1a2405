//! The loss of all examples and its gradient: one launch for the gradient and the parts of the
//! sum, one that adds the parts.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{PARTS, THREADS, block_sum, empty};
use crate::nn::ops::native::loss::{MISS_MIN, Rule};

/// The weighted sum `[1]` and its derivative by each x, `[N]`; all contiguous.
pub fn sum(
    x: CubeTensor,
    y: CubeTensor,
    weights: CubeTensor,
    rule: Rule,
) -> (CubeTensor, CubeTensor) {
    let size = x.shape().num_elements();
    let (gradient, parts, loss) = (empty(&x, [size]), empty(&x, [PARTS]), empty(&x, [1]));
    let (focal, gamma) = match rule {
        Rule::CrossEntropy => (false, 0.0),
        Rule::Focal { gamma } => (true, gamma),
    };
    let client = x.client.clone();
    losses::launch(
        &client,
        CubeCount::Static(PARTS as u32, 1, 1),
        CubeDim::new_1d((THREADS * THREADS) as u32),
        x.into_buffer_arg(),
        y.into_buffer_arg(),
        weights.into_buffer_arg(),
        gradient.clone().into_buffer_arg(),
        parts.clone().into_buffer_arg(),
        size as u32,
        gamma,
        focal,
    );
    add_parts::launch(
        &client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(1),
        parts.into_buffer_arg(),
        loss.clone().into_buffer_arg(),
    );
    (loss, gradient)
}

/// By the formulas of the native kernel.
#[cube(launch)]
fn losses(
    log_odds: &[f32],
    labels: &[f32],
    weights: &[f32],
    gradient: &mut [f32],
    parts: &mut [f32],
    size: u32,
    gamma: f32,
    #[comptime] focal: bool,
) {
    let mut sum = 0.0f32;
    for at in range_stepped(ABSOLUTE_POS, size as usize, PARTS * THREADS * THREADS) {
        let x = log_odds[at];
        let y = labels[at];
        let w = weights[at];
        let e = f32::exp(-f32::abs(x));
        let sign = select(x > 0.0, x, 0.0);
        let mut loss = sign - x * y + f32::log1p(e);
        let mut slope = select(x < 0.0, e, 1.0) / (1.0 + e) - y;
        if comptime!(focal) {
            let entropy = loss;
            let p = f32::exp(-entropy);
            let rest = 1.0 - p;
            let miss = select(rest < MISS_MIN, MISS_MIN, rest);
            let focus = f32::powf(miss, gamma);
            loss = focus * entropy;
            slope *= focus + entropy * gamma * focus / miss * p;
        }
        // As on the CPU, an example of weight 0 counts for nothing, whatever its numbers are.
        sum += select(w == 0.0, 0.0, w * loss);
        gradient[at] = select(w == 0.0, 0.0, w * slope);
    }
    let sum = block_sum(sum);
    if UNIT_POS == 0 {
        parts[CUBE_POS_X as usize] = sum;
    }
}

#[cube(launch)]
fn add_parts(parts: &[f32], total: &mut [f32]) {
    let mut sum = 0.0f32;
    for slot in 0..PARTS {
        sum += parts[slot];
    }
    total[0] = sum;
}
