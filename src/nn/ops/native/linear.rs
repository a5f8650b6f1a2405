//! A dense layer on a CPU, its activation inside: y = act(x W + b).
//!
//! Weights are packed once per call into panels as wide as a register tile (`pack`). Rows are cut
//! into blocks that threads take, and a block's product (`tile`) goes through the inner dimension
//! in pieces, so that a panel's piece stays in the first cache level for all rows of the block.
//! Bias and activation are applied where the product leaves its sums. The backward pass masks the
//! gradient of a block just before its product reads it. Every number is summed in the order of
//! the inner dimension, however rows are cut, so that no result depends on the number of threads.

mod backward;
mod members;
mod narrow;
mod pack;
mod tile;
mod weights;

use std::borrow::Cow;

use pulp::Arch;
use rayon::prelude::*;

use super::buffer::{Pooled, in_blocks};

#[cfg(test)]
pub use backward::Gradients;
pub use backward::{Upstream, backward};
use members::Members;
pub use members::{Room, Scale};
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
    let Shape { rows, inputs, outputs } = shape;
    let block = block_rows(rows);
    let layer = Layer::new((inputs, outputs), weight.into(), bias.into(), activation);
    let blocks = x.par_chunks(block * inputs);
    in_blocks(rows * outputs, block * outputs, blocks, |_, y, x| layer.apply(x, y))
}

/// A layer with its weights packed.
#[derive(Debug)]
pub struct Layer<'a> {
    inputs: usize,
    outputs: usize,
    weight: Weight<'a>,
    bias: Cow<'a, [f32]>,
    activation: Activation,
}

#[derive(Debug)]
enum Weight<'a> {
    /// Of a single output.
    Column(Cow<'a, [f32]>),
    Panels(Pooled),
}

impl<'a> Layer<'a> {
    /// W `[K, N]`, b `[N]`.
    pub fn new(
        (inputs, outputs): (usize, usize),
        weight: Cow<'a, [f32]>,
        bias: Cow<'a, [f32]>,
        activation: Activation,
    ) -> Self {
        let weight = match outputs {
            1 => Weight::Column(weight),
            _ => {
                let size = (inputs, outputs);
                Weight::Panels(packed(Arch::new(), size, &weight, Order::RowMajor))
            }
        };
        Layer { inputs, outputs, weight, bias, activation }
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// x `[M, K]` to y `[M, N]`, on this thread.
    pub fn apply(&self, x: &[f32], y: &mut [f32]) {
        let (bias, activation) = (&*self.bias, self.activation);
        match &self.weight {
            Weight::Column(weight) => {
                Arch::new().dispatch(narrow::Dots { x, weight, bias: bias[0], activation, y });
            }
            Weight::Panels(packed) => Arch::new().dispatch(BlockProduct {
                a: x,
                depth: self.inputs,
                packed,
                columns: self.outputs,
                bias: Some(bias),
                activation,
                out: y,
            }),
        }
    }

    /// One row x `[K]` in k versions, each times the scale of a member, to y `[k, N]`; `room` is
    /// scratch.
    pub fn apply_to_members(&self, x: &[f32], scale: &Scale, y: &mut [f32], room: &mut Room) {
        match &self.weight {
            Weight::Column(_) => {
                let mut scaled = vec![0.0; scale.members() * x.len()];
                scale.spread(x, &mut scaled);
                self.apply(&scaled, y);
            }
            Weight::Panels(packed) => {
                let (bias, activation) = (&*self.bias, self.activation);
                Arch::new().dispatch(Members { x, scale, packed, bias, activation, y, room });
            }
        }
    }
}

#[cfg(test)]
mod tests;
