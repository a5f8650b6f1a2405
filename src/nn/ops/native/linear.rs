//! A dense layer on a CPU, its activation inside: y = act(x W + b).
//!
//! Weights are packed once per call into panels as wide as a register tile (`pack`). Rows are cut
//! into blocks that threads take, and a block's product (`tile`) goes through the inner dimension
//! in pieces, so that a panel's piece stays in the first cache level for all rows of the block.
//! Bias and activation are applied where the product leaves its sums. The backward pass masks the
//! gradient of a block just before its product reads it. Every number is summed in the order of
//! the inner dimension, however rows are cut, so that no result depends on the number of threads.

mod backward;
mod narrow;
mod pack;
mod tile;
mod weights;

use pulp::Arch;
use rayon::prelude::*;

use super::buffer::in_blocks;

#[cfg(test)]
pub use backward::Gradients;
pub use backward::{Upstream, backward};
use pack::{Order, packed};
use tile::BlockProduct;

/// Sizes: M rows, K inputs, N outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub rows: usize,
    pub inputs: usize,
    pub outputs: usize,
}

/// What follows the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    None,
    Relu,
}

/// Rows of a register tile.
const TILE_ROWS: usize = 6;

/// Rows of the largest block: with 512 inputs and outputs, its rows of x and y fit a second cache
/// level of half a MiB, and every packed weight is used 16 times from the first.
const BLOCK_ROWS_MAX: usize = 96;

/// Pieces of the inner dimension, of which all sums of a tile are made before the next one. A
/// panel's piece takes 16 KiB with AVX2, half of the first cache level; with AVX-512 it comes from
/// the second, which gives what the products ask for.
const DEPTH: usize = 256;

/// Rows of a block: as many for each thread, in whole tiles.
fn block_rows(rows: usize) -> usize {
    let of_thread = rows.div_ceil(rayon::current_num_threads()).max(1);
    let blocks = of_thread.div_ceil(BLOCK_ROWS_MAX);
    of_thread.div_ceil(blocks).next_multiple_of(TILE_ROWS)
}

/// y `[M, N]` from x `[M, K]`, W `[K, N]` and b `[N]`.
pub fn forward(
    shape: Shape,
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    activation: Activation,
) -> Vec<f32> {
    let arch = Arch::new();
    let Shape { rows, inputs, outputs } = shape;
    let block = block_rows(rows);
    let blocks = x.par_chunks(block * inputs);
    if outputs == 1 {
        return in_blocks(rows, block, blocks, |_, y, x| {
            arch.dispatch(narrow::Dots { x, weight, bias: bias[0], activation, y });
        });
    }
    let packed = packed(arch, (inputs, outputs), weight, Order::RowMajor);
    in_blocks(rows * outputs, block * outputs, blocks, |_, out, a| {
        let (depth, columns) = (inputs, outputs);
        let bias = Some(bias);
        arch.dispatch(BlockProduct { a, depth, packed: &packed, columns, bias, activation, out });
    })
}

#[cfg(test)]
mod tests;
