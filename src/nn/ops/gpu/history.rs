//! Mean and largest value so far: a thread takes one unit of one row through all months.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{empty, lines};

/// States `[B, T, H]` to `[B, T, 3H]`, as the native kernel does.
pub fn forward(states: CubeTensor) -> CubeTensor {
    let [rows, months, hidden] = states.shape().dims();
    let y = empty(&states, [rows, months, 3 * hidden]);
    let (count, threads) = lines(rows * hidden);
    run_forward::launch(
        &states.client.clone(),
        count,
        threads,
        states.into_buffer_arg(),
        y.clone().into_buffer_arg(),
        (rows * hidden) as u32,
        months as u32,
        hidden as u32,
    );
    y
}

/// Gradient of the states, given the result and its gradient `[B, T, 3H]`.
pub fn backward(y: CubeTensor, gradient: CubeTensor) -> CubeTensor {
    let [rows, months, width] = y.shape().dims();
    let hidden = width / 3;
    let d_states = empty(&y, [rows, months, hidden]);
    let (count, threads) = lines(rows * hidden);
    run_backward::launch(
        &y.client.clone(),
        count,
        threads,
        y.into_buffer_arg(),
        gradient.into_buffer_arg(),
        d_states.clone().into_buffer_arg(),
        (rows * hidden) as u32,
        months as u32,
        hidden as u32,
    );
    d_states
}

#[cube(launch)]
fn run_forward(states: &[f32], y: &mut [f32], count: u32, months: u32, hidden: u32) {
    let at = ABSOLUTE_POS;
    let hidden = hidden as usize;
    if at < count as usize {
        let unit = at % hidden;
        let first = (at / hidden) * months as usize;
        let mut mean = 0.0f32;
        let mut most = states[first * hidden + unit];
        for month in 0..months {
            let place = first + month as usize;
            let state = states[place * hidden + unit];
            mean += (state - mean) / f32::cast_from(month + 1);
            most = select(state > most, state, most);
            y[place * 3 * hidden + unit] = state;
            y[(place * 3 + 1) * hidden + unit] = mean;
            y[(place * 3 + 2) * hidden + unit] = most;
        }
    }
}

#[cube(launch)]
fn run_backward(
    y: &[f32],
    gradient: &[f32],
    d_states: &mut [f32],
    count: u32,
    months: u32,
    hidden: u32,
) {
    let at = ABSOLUTE_POS;
    let hidden = hidden as usize;
    if at < count as usize {
        let unit = at % hidden;
        let first = (at / hidden) * months as usize;
        // What later months ask of the mean, and of the largest value, up to the month at hand.
        let mut of_mean = 0.0f32;
        let mut of_most = 0.0f32;
        for step in 0..months {
            let month = months - 1 - step;
            let place = first + month as usize;
            of_mean += gradient[(place * 3 + 1) * hidden + unit] / f32::cast_from(month + 1);
            of_most += gradient[(place * 3 + 2) * hidden + unit];
            let mut taken = of_most;
            if month > 0 {
                let most = y[(place * 3 + 2) * hidden + unit];
                let before = y[(place * 3 - 1) * hidden + unit];
                taken = select(most > before, of_most, 0.0);
            }
            of_most -= taken;
            d_states[place * hidden + unit] = gradient[place * 3 * hidden + unit] + of_mean + taken;
        }
    }
}
