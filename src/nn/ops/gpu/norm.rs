//! Layer norm: a workgroup takes a row; the gradients of gain and bias are one more launch, in
//! which a workgroup takes sixteen columns.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{THREADS, block_sum, empty};
use crate::nn::ops::norm::EPSILON;

/// `x [B, W]`, `gamma [W]`, `beta [W]`.
pub fn forward(x: CubeTensor, gamma: CubeTensor, beta: CubeTensor) -> CubeTensor {
    let [rows, width] = x.shape().dims();
    let y = empty(&x, [rows, width]);
    let client = x.client.clone();
    let (count, threads) = per_row(rows);
    run_forward::launch(
        &client,
        count,
        threads,
        x.into_buffer_arg(),
        gamma.into_buffer_arg(),
        beta.into_buffer_arg(),
        y.clone().into_buffer_arg(),
        rows as u32,
        width as u32,
    );
    y
}

/// Gradients by x, gamma and beta.
pub fn backward(
    x: CubeTensor,
    gamma: CubeTensor,
    gradient: CubeTensor,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let [rows, width] = x.shape().dims();
    // `normal` is x without its mean and deviation, for the second launch.
    let (d_x, normal) = (empty(&x, [rows, width]), empty(&x, [rows, width]));
    let (d_gamma, d_beta) = (empty(&x, [width]), empty(&x, [width]));
    let client = x.client.clone();
    let (count, threads) = per_row(rows);
    run_backward::launch(
        &client,
        count,
        threads,
        x.into_buffer_arg(),
        gamma.into_buffer_arg(),
        gradient.clone().into_buffer_arg(),
        d_x.clone().into_buffer_arg(),
        normal.clone().into_buffer_arg(),
        rows as u32,
        width as u32,
    );
    sum_columns::launch(
        &client,
        CubeCount::Static(width.div_ceil(THREADS) as u32, 1, 1),
        CubeDim::new_2d(THREADS as u32, THREADS as u32),
        gradient.into_buffer_arg(),
        normal.into_buffer_arg(),
        d_gamma.clone().into_buffer_arg(),
        d_beta.clone().into_buffer_arg(),
        rows as u32,
        width as u32,
    );
    (d_x, d_gamma, d_beta)
}

/// Workgroups along an axis, of which WebGPU allows 65,535.
const ROWS_MAX: usize = 65_535;

fn per_row(rows: usize) -> (CubeCount, CubeDim) {
    let down = rows.div_ceil(ROWS_MAX).max(1);
    (
        CubeCount::Static(rows.div_ceil(down) as u32, down as u32, 1),
        CubeDim::new_1d((THREADS * THREADS) as u32),
    )
}

/// Mean of a row, and one over its deviation.
#[cube]
fn moments(x: &[f32], first: usize, width: usize) -> (f32, f32) {
    let unit = UNIT_POS as usize;
    let mut sum = 0.0f32;
    for at in range_stepped(unit, width, THREADS * THREADS) {
        sum += x[first + at];
    }
    let mean = block_sum(sum) / f32::cast_from(width);
    let mut squares = 0.0f32;
    for at in range_stepped(unit, width, THREADS * THREADS) {
        let centered = x[first + at] - mean;
        squares += centered * centered;
    }
    let variance = block_sum(squares) / f32::cast_from(width);
    (mean, 1.0 / f32::sqrt(variance + EPSILON))
}

#[cube(launch)]
fn run_forward(x: &[f32], gamma: &[f32], beta: &[f32], y: &mut [f32], rows: u32, width: u32) {
    let width = width as usize;
    // The grid may be a little larger than the rows; a barrier needs all threads of a workgroup.
    let row = CUBE_POS % rows as usize;
    let first = row * width;
    let (mean, scale) = moments(x, first, width);
    for at in range_stepped(UNIT_POS as usize, width, THREADS * THREADS) {
        y[first + at] = (x[first + at] - mean) * scale * gamma[at] + beta[at];
    }
}

#[cube(launch)]
fn run_backward(
    x: &[f32],
    gamma: &[f32],
    gradient: &[f32],
    d_x: &mut [f32],
    normal: &mut [f32],
    rows: u32,
    width: u32,
) {
    let width = width as usize;
    let row = CUBE_POS % rows as usize;
    let first = row * width;
    let (mean, scale) = moments(x, first, width);
    let mut sum = 0.0f32;
    let mut along = 0.0f32;
    for at in range_stepped(UNIT_POS as usize, width, THREADS * THREADS) {
        let scaled = gradient[first + at] * gamma[at];
        sum += scaled;
        along += scaled * (x[first + at] - mean) * scale;
    }
    let sum = block_sum(sum) / f32::cast_from(width);
    let along = block_sum(along) / f32::cast_from(width);
    for at in range_stepped(UNIT_POS as usize, width, THREADS * THREADS) {
        let n = (x[first + at] - mean) * scale;
        normal[first + at] = n;
        d_x[first + at] = (gradient[first + at] * gamma[at] - sum - n * along) * scale;
    }
}

#[cube(launch)]
fn sum_columns(
    gradient: &[f32],
    normal: &[f32],
    d_gamma: &mut [f32],
    d_beta: &mut [f32],
    rows: u32,
    width: u32,
) {
    let rows = rows as usize;
    let width = width as usize;
    let column = CUBE_POS_X as usize * THREADS + UNIT_POS_X as usize;
    let lane = UNIT_POS_Y as usize;
    let mut of_gamma = 0.0f32;
    let mut of_beta = 0.0f32;
    if column < width {
        for row in range_stepped(lane, rows, THREADS) {
            let g = gradient[row * width + column];
            of_gamma += g * normal[row * width + column];
            of_beta += g;
        }
    }
    let mut gammas = Shared::<[f32]>::new_slice(THREADS * THREADS);
    let mut betas = Shared::<[f32]>::new_slice(THREADS * THREADS);
    let unit = UNIT_POS as usize;
    gammas[unit] = of_gamma;
    betas[unit] = of_beta;
    sync_cube();
    if lane == 0 && column < width {
        let mut of_gamma = 0.0f32;
        let mut of_beta = 0.0f32;
        for other in 0..THREADS {
            of_gamma += gammas[other * THREADS + unit];
            of_beta += betas[other * THREADS + unit];
        }
        d_gamma[column] = of_gamma;
        d_beta[column] = of_beta;
    }
}
