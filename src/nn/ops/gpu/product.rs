//! A product with what stands before and behind it in a dense layer.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{DEPTH, Quad, SIDE, THREADS, empty};

/// Quads between two steps of a factor in a workgroup's memory: one more than it holds, so that
/// threads that write one below the other do not wait for the same bank.
const LINE: usize = THREADS + 1;

/// Workgroups along an axis, of which WebGPU allows 65,535; more rows go on along another.
const DOWN_MAX: usize = 32_768;

/// What is done where a sum leaves the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    Nothing,
    Bias,
    BiasRelu,
}

/// How the weight is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weight {
    /// `[K, N]`.
    Plain,
    /// `[N, K]`.
    Transposed,
}

/// All contiguous.
pub struct Factors {
    /// `[M, K]`.
    pub x: CubeTensor,
    /// `[M, K]`; where it is not positive, x counts as 0: the mask of a relu.
    pub gate: Option<CubeTensor>,
    pub weight: CubeTensor,
    /// `[N]`.
    pub bias: Option<CubeTensor>,
}

/// What makes another kernel of it; sizes do not, so that few are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Plan {
    gated: bool,
    weight: Weight,
    ending: Ending,
}

/// `[M, N]`: the ending of x times the weight.
pub fn product(factors: Factors, stored: Weight, ending: Ending) -> CubeTensor {
    let Factors { x, gate, weight, bias } = factors;
    let [rows, inner] = x.shape().dims();
    let [a, b] = weight.shape().dims::<2>();
    let width = if stored == Weight::Plain { b } else { a };
    let y = empty(&x, [rows, width]);
    let plan = Plan { gated: gate.is_some(), weight: stored, ending };
    let client = x.client.clone();
    let (down, across) = (rows.div_ceil(SIDE), width.div_ceil(SIDE));
    tiles::launch(
        &client,
        CubeCount::Static(down.min(DOWN_MAX) as u32, across as u32, down.div_ceil(DOWN_MAX) as u32),
        CubeDim::new_2d(THREADS as u32, THREADS as u32),
        x.clone().into_buffer_arg(),
        gate.unwrap_or(x).into_buffer_arg(),
        weight.clone().into_buffer_arg(),
        bias.unwrap_or(weight).into_buffer_arg(),
        y.clone().into_buffer_arg(),
        rows as u32,
        inner as u32,
        width as u32,
        plan,
    );
    y
}

#[cube(launch)]
fn tiles(
    x: &[f32],
    gate: &[f32],
    weight: &[f32],
    bias: &[f32],
    y: &mut [f32],
    rows: u32,
    inner: u32,
    width: u32,
    #[comptime] plan: Plan,
) {
    let rows = rows as usize;
    let inner = inner as usize;
    let width = width as usize;
    let thread_x = UNIT_POS_X as usize;
    let thread_y = UNIT_POS_Y as usize;
    let first_row = (CUBE_POS_Z as usize * DOWN_MAX + CUBE_POS_X as usize) * SIDE;
    let first_column = CUBE_POS_Y as usize * SIDE;
    let mut xs = Shared::<[Quad]>::new_slice(DEPTH * LINE);
    let mut weights = Shared::<[Quad]>::new_slice(DEPTH * LINE);
    let mut sums = Array::<Quad>::new(4usize);
    #[unroll]
    for i in 0..4 {
        sums[i] = Quad::new(0.0);
    }
    for step in 0..inner.div_ceil(DEPTH) {
        // Neighbours in a row of x are brought by neighbours among the threads.
        let k = step * DEPTH + thread_x;
        let mut from_x = Quad::new(0.0);
        #[unroll]
        for i in 0..4 {
            let row = first_row + thread_y * 4 + i;
            if k < inner && row < rows {
                let at = row * inner + k;
                if comptime!(plan.gated) {
                    from_x.insert(i, select(gate[at] > 0.0, x[at], 0.0));
                } else {
                    from_x.insert(i, x[at]);
                }
            }
        }
        xs[thread_x * LINE + thread_y] = from_x;
        let mut from_weight = Quad::new(0.0);
        if comptime!(plan.weight == Weight::Transposed) {
            #[unroll]
            for i in 0..4 {
                let column = first_column + thread_y * 4 + i;
                if k < inner && column < width {
                    from_weight.insert(i, weight[column * inner + k]);
                }
            }
            weights[thread_x * LINE + thread_y] = from_weight;
        } else {
            let k = step * DEPTH + thread_y;
            #[unroll]
            for i in 0..4 {
                let column = first_column + thread_x * 4 + i;
                if k < inner && column < width {
                    from_weight.insert(i, weight[k * width + column]);
                }
            }
            weights[thread_y * LINE + thread_x] = from_weight;
        }
        sync_cube();
        #[unroll]
        for k in 0..DEPTH {
            let a = xs[k * LINE + thread_y];
            let b = weights[k * LINE + thread_x];
            #[unroll]
            for i in 0..4 {
                sums[i] += b * Quad::new(a.extract(i));
            }
        }
        sync_cube();
    }
    #[unroll]
    for i in 0..4 {
        let row = first_row + thread_y * 4 + i;
        #[unroll]
        for n in 0..4 {
            let column = first_column + thread_x * 4 + n;
            if row < rows && column < width {
                let mut value = sums[i].extract(n);
                if comptime!(plan.ending != Ending::Nothing) {
                    value += bias[column];
                }
                if comptime!(plan.ending == Ending::BiasRelu) {
                    // In this form a NaN stays one.
                    value = select(value < 0.0, 0.0, value);
                }
                y[row * width + column] = value;
            }
        }
    }
}
