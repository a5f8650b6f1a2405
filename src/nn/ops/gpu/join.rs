//! Back through the place where the static branch meets the states: a thread takes one column of
//! one row through all months.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{empty, lines};

/// Gradients by the states `[B, T, W]` and the fixed part `[B, W]`, given the result y: where y is
/// positive, the gradient times the scale, and its sum over the months.
pub fn backward(y: CubeTensor, gradient: CubeTensor, scale: f32) -> (CubeTensor, CubeTensor) {
    let [rows, months, width] = y.shape().dims();
    let (d_states, d_fixed) = (empty(&y, [rows, months, width]), empty(&y, [rows, width]));
    let (count, threads) = lines(rows * width);
    run_backward::launch(
        &y.client.clone(),
        count,
        threads,
        y.into_buffer_arg(),
        gradient.into_buffer_arg(),
        d_states.clone().into_buffer_arg(),
        d_fixed.clone().into_buffer_arg(),
        (rows * width) as u32,
        months as u32,
        width as u32,
        scale,
    );
    (d_states, d_fixed)
}

#[cube(launch)]
fn run_backward(
    y: &[f32],
    gradient: &[f32],
    d_states: &mut [f32],
    d_fixed: &mut [f32],
    count: u32,
    months: u32,
    width: u32,
    scale: f32,
) {
    let at = ABSOLUTE_POS;
    let width = width as usize;
    if at < count as usize {
        let first = (at / width) * months as usize;
        let mut sum = 0.0f32;
        for month in 0..months {
            let place = (first + month as usize) * width + at % width;
            let passed = select(y[place] > 0.0, gradient[place] * scale, 0.0);
            d_states[place] = passed;
            sum += passed;
        }
        d_fixed[at] = sum;
    }
}
