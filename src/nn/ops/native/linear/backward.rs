//! Gradients of a dense layer.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::super::buffer::in_blocks;
use super::narrow::narrow_backward;
use super::pack::{Order, packed};
use super::tile::BlockProduct;
use super::weights::WeightGradient;
use super::{Activation, Shape, TILE_ROWS, block_rows};

/// Gradients of a layer.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// `[M, K]`; None if not asked for.
    pub x: Option<Vec<f32>>,
    /// `[K, N]`.
    pub weight: Vec<f32>,
    /// `[N]`.
    pub bias: Vec<f32>,
}

/// What the backward pass starts from, beside the gradient.
#[derive(Debug, Clone, Copy)]
pub struct Upstream<'a> {
    /// `[M, K]`.
    pub x: &'a [f32],
    /// `[K, N]`.
    pub weight: &'a [f32],
    /// `[M, N]`: the layer's output; where it is 0, relu passes no gradient.
    pub y: &'a [f32],
    pub activation: Activation,
}

/// The gradients from `gradient` `[M, N]` of the loss by the output, which is overwritten.
pub fn backward(shape: Shape, up: &Upstream, gradient: &mut [f32], with_x: bool) -> Gradients {
    let Shape { outputs, .. } = shape;
    if outputs == 1 {
        return narrow_backward(up, gradient, with_x);
    }
    let masked_by = (up.activation == Activation::Relu).then_some(up.y);
    let (x, masked_by) = match with_x {
        // The mask is done where a block's gradient is read first.
        true => (Some(by_input(shape, up.weight, gradient, masked_by)), None),
        false => (None, masked_by),
    };
    let (weight, bias) = by_weight(shape, up.x, gradient, masked_by);
    Gradients { x, weight, bias }
}

/// d_x = d_z W^T; the gradient becomes d_z, masked.
fn by_input(
    shape: Shape,
    weight: &[f32],
    gradient: &mut [f32],
    masked_by: Option<&[f32]>,
) -> Vec<f32> {
    let arch = Arch::new();
    let Shape { rows, inputs, outputs } = shape;
    // The transposed weights: row by row, they are what the weights are column by column.
    let packed = packed(arch, (outputs, inputs), weight, Order::ColumnMajor);
    let block = block_rows(rows);
    let blocks = gradient.par_chunks_mut(block * outputs);
    in_blocks(rows * inputs, block * inputs, blocks, |at, out, d_z| {
        if let Some(y) = masked_by {
            let y = &y[at * block * outputs..][..d_z.len()];
            arch.dispatch(Mask { y, gradient: d_z });
        }
        arch.dispatch(BlockProduct {
            a: d_z,
            depth: outputs,
            packed: &packed,
            columns: inputs,
            bias: None,
            activation: Activation::None,
            out,
        });
    })
}

/// The gradient before relu from the one after it.
pub(super) struct Mask<'a> {
    pub y: &'a [f32],
    pub gradient: &'a mut [f32],
}

impl WithSimd for Mask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (g, y) in self.gradient.iter_mut().zip(self.y) {
            *g = if *y > 0.0 { *g } else { 0.0 };
        }
    }
}

/// x^T d_z and the sums of d_z's columns; each thread makes the rows of some inputs.
fn by_weight(
    shape: Shape,
    x: &[f32],
    gradient: &[f32],
    masked_by: Option<&[f32]>,
) -> (Vec<f32>, Vec<f32>) {
    let arch = Arch::new();
    let Shape { inputs, outputs, .. } = shape;
    let of_thread = inputs.div_ceil(rayon::current_num_threads()).next_multiple_of(TILE_ROWS);
    let mut bias = vec![0.0; outputs];
    // The first one sums the bias too.
    let mut biases: Vec<Option<&mut [f32]>> = Vec::new();
    biases.resize_with(inputs.div_ceil(of_thread), || None);
    biases[0] = Some(&mut bias);
    let (len, part) = (inputs * outputs, of_thread * outputs);
    let weight = in_blocks(len, part, biases, |at, d_weight, d_bias| {
        let first = at * of_thread;
        let inputs = first..first + d_weight.len() / outputs;
        arch.dispatch(WeightGradient { shape, x, gradient, masked_by, inputs, d_weight, d_bias });
    });
    (weight, bias)
}
