//! Gradients of weights on a GPU: `left^T right`, and the sum of `right`, over very many rows.
//!
//! The result is small and the sum long, a row for each customer and month. A product whose
//! workgroups own parts of the result alone would have a dozen of them; here each also takes a
//! share of the rows, and a second launch adds the shares, in order, so that the same numbers
//! give the same bits.

use burn::backend::TensorMetadata;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{DEPTH, Quad, SIDE, THREADS, empty};

/// Workgroups that keep a large GPU busy.
const CUBES: usize = 512;
/// A share has at least so many rows, or adding the shares would cost more than they save.
const SHARE_MIN: usize = 64;

/// The right factor `[K, N]`, contiguous.
pub struct Right {
    pub values: CubeTensor,
    /// Of the same shape; where it is not positive, values count as 0: the mask of a relu.
    pub gate: Option<CubeTensor>,
}

/// The left factor, contiguous.
pub struct Left {
    /// `[K, M]`, or with a start states `[B, T, M]`.
    pub values: CubeTensor,
    /// `[B, M]`: row (b, t) of the factor is then the state before month t of row b.
    pub start: Option<CubeTensor>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Plan {
    /// Whether the left factor is one month behind.
    behind: bool,
    gated: bool,
}

/// The product `[M, N]` and the sums `[1, N]`.
pub fn row_products(left: Left, right: Right) -> (CubeTensor, CubeTensor) {
    let Right { values: right, gate } = right;
    let Left { values: left, start } = left;
    let behind = start.is_some();
    let months = if behind { left.shape()[1] } else { 1 };
    let start = start.unwrap_or_else(|| left.clone());
    let height = left.shape()[left.rank() - 1];
    let [rows, width] = right.shape().dims();
    let (tiles_x, tiles_y) = (width.div_ceil(SIDE), height.div_ceil(SIDE));
    let shares = (CUBES / (tiles_x * tiles_y)).clamp(1, rows.div_ceil(SHARE_MIN).max(1));
    let share = rows.div_ceil(shares).max(1);
    let shares = rows.div_ceil(share);

    let plan = Plan { behind, gated: gate.is_some() };
    let partial = empty(&right, [shares, (height + 1) * width]);
    let (product, sums) = (empty(&right, [height, width]), empty(&right, [1, width]));
    let client = right.client.clone();
    partial_products::launch(
        &client,
        CubeCount::Static(tiles_x as u32, tiles_y as u32, shares as u32),
        CubeDim::new_2d(THREADS as u32, THREADS as u32),
        left.into_buffer_arg(),
        start.into_buffer_arg(),
        right.clone().into_buffer_arg(),
        gate.unwrap_or(right).into_buffer_arg(),
        partial.clone().into_buffer_arg(),
        rows as u32,
        share as u32,
        months as u32,
        height as u32,
        width as u32,
        plan,
    );
    let threads = THREADS * THREADS;
    let cubes = ((height + 1) * width).div_ceil(threads);
    add_shares::launch(
        &client,
        CubeCount::Static(cubes as u32, 1, 1),
        CubeDim::new_1d(threads as u32),
        partial.into_buffer_arg(),
        product.clone().into_buffer_arg(),
        sums.clone().into_buffer_arg(),
        shares as u32,
        (height * width) as u32,
        width as u32,
    );
    (product, sums)
}

/// `partial [shares, M + 1, N]`: the product over a share, and below it the sums.
#[cube(launch)]
fn partial_products(
    left: &[f32],
    start: &[f32],
    right: &[f32],
    gate: &[f32],
    partial: &mut [f32],
    rows: u32,
    share: u32,
    months: u32,
    height: u32,
    width: u32,
    #[comptime] plan: Plan,
) {
    let height = height as usize;
    let width = width as usize;
    let months = months as usize;
    let thread_x = UNIT_POS_X as usize;
    let thread_y = UNIT_POS_Y as usize;
    let column = CUBE_POS_X as usize * SIDE;
    let line = CUBE_POS_Y as usize * SIDE;
    let slot = CUBE_POS_Z as usize;
    let first = slot * share as usize;
    let end = usize::min(first + share as usize, rows as usize);

    let mut lefts = Shared::<[Quad]>::new_slice(DEPTH * THREADS);
    let mut rights = Shared::<[Quad]>::new_slice(DEPTH * THREADS);
    let mut sums = Array::<Quad>::new(4usize);
    let mut total = Quad::new(0.0);
    #[unroll]
    for i in 0..4 {
        sums[i] = Quad::new(0.0);
    }
    let steps = (end - first).div_ceil(DEPTH);
    for step in 0..steps {
        // Each thread brings four neighbours of one row, of either factor.
        let row = first + step * DEPTH + thread_y;
        let mut from_left = Quad::new(0.0);
        let mut from_right = Quad::new(0.0);
        if row < end {
            #[unroll]
            for i in 0..4 {
                let at = line + thread_x * 4 + i;
                if at < height {
                    if comptime!(plan.behind) {
                        if row % months == 0 {
                            from_left.insert(i, start[(row / months) * height + at]);
                        } else {
                            from_left.insert(i, left[(row - 1) * height + at]);
                        }
                    } else {
                        from_left.insert(i, left[row * height + at]);
                    }
                }
                let at = column + thread_x * 4 + i;
                if at < width {
                    let from = row * width + at;
                    if comptime!(plan.gated) {
                        from_right.insert(i, select(gate[from] > 0.0, right[from], 0.0));
                    } else {
                        from_right.insert(i, right[from]);
                    }
                }
            }
        }
        lefts[thread_y * THREADS + thread_x] = from_left;
        rights[thread_y * THREADS + thread_x] = from_right;
        sync_cube();
        #[unroll]
        for k in 0..DEPTH {
            let a = lefts[k * THREADS + thread_y];
            let b = rights[k * THREADS + thread_x];
            #[unroll]
            for i in 0..4 {
                sums[i] += b * Quad::new(a.extract(i));
            }
            total += b;
        }
        sync_cube();
    }
    let base = slot * (height + 1) * width;
    #[unroll]
    for i in 0..4 {
        let at = line + thread_y * 4 + i;
        #[unroll]
        for k in 0..4 {
            let to = column + thread_x * 4 + k;
            if at < height && to < width {
                partial[base + at * width + to] = sums[i].extract(k);
            }
        }
    }
    #[unroll]
    for k in 0..4 {
        let to = column + thread_x * 4 + k;
        if line + thread_y == 0 && to < width {
            partial[base + height * width + to] = total.extract(k);
        }
    }
}

/// Adds the shares up; `size` is M N.
#[cube(launch)]
fn add_shares(
    partial: &[f32],
    product: &mut [f32],
    sums: &mut [f32],
    shares: u32,
    size: u32,
    width: u32,
) {
    let at = ABSOLUTE_POS;
    let size = size as usize;
    let whole = size + width as usize;
    if at < whole {
        let mut sum = 0.0f32;
        for share in 0..shares as usize {
            sum += partial[share * whole + at];
        }
        if at < size {
            product[at] = sum;
        } else {
            sums[at - size] = sum;
        }
    }
}
