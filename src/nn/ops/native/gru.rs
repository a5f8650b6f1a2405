//! The GRU on a CPU: customers in blocks, each block through all months in one thread.
//!
//! A block's states stay in the first cache levels, nothing waits for another thread, and the
//! gates are computed where the product leaves its sums, in registers. Widths are padded to whole
//! cache lines: a padded unit has zero weights, so its state and all its gradients stay zero.
//! The number of rows in a block follows from the batch alone, and blocks are summed in order, so
//! that gradients do not depend on the number of threads.

mod backward;

use super::activation::{sigmoids, tanh};
use super::buffer::{Buffer, Pooled, in_blocks, padded};
use super::product::{Tile, rows_times, set, vector};
use pulp::{Arch, Simd, WithSimd};

#[cfg(test)]
pub use backward::Gradients;
pub use backward::{InputGradient, Upstream, backward};

/// Sizes of a sequence: B rows, T months, F inputs, H hidden units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub rows: usize,
    pub months: usize,
    pub inputs: usize,
    pub hidden: usize,
}

/// Parameters, gates in the order r, z, n.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// `[F, 3H]`.
    pub input: &'a [f32],
    /// `[3H]`.
    pub input_bias: &'a [f32],
    /// `[H, 3H]`.
    pub hidden: &'a [f32],
    /// `[3H]`.
    pub hidden_bias: &'a [f32],
}

/// What is computed on, row-major.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// `[B, T, F]`.
    pub x: &'a [f32],
    /// `[B, H]`.
    pub start: &'a [f32],
    /// `[B, T]`, 1 or 0; a month of 0 keeps the state.
    pub mask: Option<&'a [f32]>,
}

/// Whether the gates are kept for the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Gates,
    Nothing,
}

/// Gates r, z, n and the recurrent part of n, per block `[T, rows, 4, H]`, H padded.
pub type Gates = Pooled;

/// Rows that go through all months together: enough to use a weight many times while it is in the
/// first cache level, few enough that the states of a block stay in the second.
const BLOCK_ROWS: usize = 64;

/// The same for small batches, so that there is a block for more than one thread.
const BLOCK_ROWS_SMALL: usize = 32;

/// Rows of a register tile where there are 32 vector registers, and where there are 16: with four
/// rows of three vectors the compiler would keep one of the sums in memory.
const TILE_ROWS: usize = 8;
const TILE_ROWS_NARROW: usize = 3;

/// What the rows of scratch are rounded up to, so that every tile of either pass is whole.
const ROWS_STEP: usize = 24;

/// Vectors of a register tile: one for each gate.
const GATES: usize = 3;

impl Shape {
    /// Rows of all blocks but the last.
    fn block_size(&self) -> usize {
        if self.rows >= 4 * BLOCK_ROWS { BLOCK_ROWS } else { BLOCK_ROWS_SMALL }
    }

    fn blocks(&self) -> usize {
        self.rows.div_ceil(self.block_size())
    }

    /// Rows of scratch, if this is the shape of a block.
    fn scratch_rows(&self) -> usize {
        self.rows.next_multiple_of(ROWS_STEP)
    }

    fn wide(&self) -> usize {
        padded(self.hidden)
    }

    fn block_gates(&self) -> usize {
        self.months * self.rows.min(self.block_size()) * 4 * self.wide()
    }
}

/// States after each month, `[B, T, H]`, and the gates if they are to be kept.
pub fn forward(
    shape: Shape,
    inputs: &Inputs,
    weights: &Weights,
    keep: Keep,
) -> (Vec<f32>, Option<Gates>) {
    let arch = Arch::new();
    let Shape { rows, months: t, inputs: f, hidden: h } = shape;
    let mut gates =
        (keep == Keep::Gates).then(|| Pooled::dirty(shape.blocks() * shape.block_gates()));
    let packed = arch.dispatch(PackForward { shape, weights });
    let mut no_gates: Vec<&mut [f32]> = (0..shape.blocks()).map(|_| Default::default()).collect();
    let gates_of: Vec<&mut [f32]> = match gates.as_mut() {
        Some(gates) => gates.chunks_mut(shape.block_gates()).collect(),
        None => std::mem::take(&mut no_gates),
    };
    let block_len = shape.block_size() * t * h;
    let states = in_blocks(rows * t * h, block_len, gates_of, |block, states, gates| {
        let inputs = inputs.block(block, &shape);
        let shape = Shape { rows: states.len() / (t * h), inputs: f, ..shape };
        arch.dispatch(ForwardBlock { shape, inputs, packed: &packed, states, gates });
    });
    (states, gates)
}

impl<'a> Inputs<'a> {
    fn block(&self, block: usize, shape: &Shape) -> Inputs<'a> {
        let size = shape.block_size();
        let rows = block * size..shape.rows.min((block + 1) * size);
        let cut = |all: &'a [f32], width: usize| &all[rows.start * width..rows.end * width];
        Inputs {
            x: cut(self.x, shape.months * shape.inputs),
            start: cut(self.start, shape.hidden),
            mask: self.mask.map(|mask| cut(mask, shape.months)),
        }
    }
}

/// Weights as the tiles of the forward pass read them.
struct PackedForward {
    /// For each group of lanes: `[F, 3]` vectors, then `[H, 3]` vectors.
    groups: Buffer,
    /// `[4, H]`: r, z, the input's part of n, the recurrent part of n.
    biases: Buffer,
}

struct PackForward<'a> {
    shape: Shape,
    weights: &'a Weights<'a>,
}

impl WithSimd for PackForward<'_> {
    type Output = PackedForward;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> PackedForward {
        let Shape { inputs, hidden, .. } = self.shape;
        let (wide, lanes) = (self.shape.wide(), S::F32_LANES);
        let mut groups = Buffer::zeros((inputs + hidden) * GATES * wide);
        for (group, panel) in groups.chunks_exact_mut((inputs + hidden) * GATES * lanes).enumerate()
        {
            let first = group * lanes;
            let units = hidden.saturating_sub(first).min(lanes);
            let rows = self.weights.input.chunks_exact(GATES * hidden);
            let rows = rows.chain(self.weights.hidden.chunks_exact(GATES * hidden));
            for (row, vectors) in rows.zip(panel.chunks_exact_mut(GATES * lanes)) {
                for (gate, vector) in
                    vectors.chunks_exact_mut(lanes).enumerate().filter(|_| units > 0)
                {
                    vector[..units].copy_from_slice(&row[gate * hidden + first..][..units]);
                }
            }
        }
        let mut biases = Buffer::zeros(4 * wide);
        for unit in 0..hidden {
            let (x, u) = (self.weights.input_bias, self.weights.hidden_bias);
            biases[unit] = x[unit] + u[unit];
            biases[wide + unit] = x[hidden + unit] + u[hidden + unit];
            biases[2 * wide + unit] = x[2 * hidden + unit];
            biases[3 * wide + unit] = u[2 * hidden + unit];
        }
        PackedForward { groups, biases }
    }
}

struct ForwardBlock<'a> {
    /// Of the block.
    shape: Shape,
    inputs: Inputs<'a>,
    packed: &'a PackedForward,
    states: &'a mut [f32],
    /// Empty if they are not kept.
    gates: &'a mut [f32],
}

impl WithSimd for ForwardBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            self.run::<S, TILE_ROWS>(simd)
        } else {
            self.run::<S, TILE_ROWS_NARROW>(simd)
        }
    }
}

impl ForwardBlock<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(mut self, simd: S) {
        let Shape { rows, months, hidden, .. } = self.shape;
        let (wide, all_rows) = (self.shape.wide(), self.shape.scratch_rows());
        let mut before = Buffer::zeros(all_rows * wide);
        let mut after = Buffer::zeros(all_rows * wide);
        let mut sums = Buffer::zeros(R * 4 * S::F32_LANES);
        for row in 0..rows {
            before[row * wide..][..hidden]
                .copy_from_slice(&self.inputs.start[row * hidden..][..hidden]);
        }
        let fresh = self.inputs.start.iter().all(|&x| x == 0.0);
        for month in 0..months {
            let recur = month > 0 || !fresh;
            for group in 0..wide / S::F32_LANES {
                for tile in (0..rows).step_by(R) {
                    let buffers = (&*before, &mut *after, &mut *sums);
                    self.tile::<S, R>(simd, (month, group, tile), recur, buffers);
                }
            }
            std::mem::swap(&mut before, &mut after);
        }
    }

    /// One month of R rows and as many units as a vector has lanes.
    #[inline(always)]
    fn tile<S: Simd, const R: usize>(
        &mut self,
        simd: S,
        (month, group, tile): (usize, usize, usize),
        recur: bool,
        (before, after, sums): (&[f32], &mut [f32], &mut [f32]),
    ) {
        let Shape { rows, months, inputs, hidden } = self.shape;
        let (wide, lanes) = (self.shape.wide(), S::F32_LANES);
        let first = group * lanes;
        let panel = &self.packed.groups[group * (inputs + hidden) * GATES * lanes..]
            [..(inputs + hidden) * GATES * lanes];
        let panel = S::as_simd_f32s(panel).0.as_chunks::<GATES>().0;
        let (of_input, of_hidden) = panel.split_at(inputs);
        let bias = |kind: usize| vector::<S>(&self.packed.biases, kind * wide + first);
        // Rows of filling compute what the last row computes; nobody reads them.
        let x: [&[f32]; R] = std::array::from_fn(|r| {
            let row = (tile + r).min(rows - 1);
            &self.inputs.x[(row * months + month) * inputs..][..inputs]
        });
        // The sums go through memory: a tile that a loop indexes would not stay in registers.
        let mut acc: Tile<S, R, GATES> = [[bias(0), bias(1), bias(2)]; R];
        acc = rows_times(simd, acc, x, of_input);
        for r in 0..R {
            set::<S>(sums, (r * 4 + 3) * lanes, acc[r][2]);
            acc[r][2] = bias(3);
        }
        if recur {
            let state: [&[f32]; R] =
                std::array::from_fn(|r| &before[(tile + r) * wide..][..hidden]);
            acc = rows_times(simd, acc, state, of_hidden);
        }
        for r in 0..R {
            for gate in 0..GATES {
                set::<S>(sums, (r * 4 + gate) * lanes, acc[r][gate]);
            }
        }
        let one = simd.splat_f32s(1.0);
        for r in 0..R {
            let row = tile + r;
            let sum = |kind: usize| vector::<S>(sums, (r * 4 + kind) * lanes);
            let (reset, mut update) = sigmoids(simd, sum(0), sum(1));
            let recurrent = sum(2);
            let candidate = tanh(simd, simd.mul_add_e_f32s(reset, recurrent, sum(3)));
            if let Some(mask) = self.inputs.mask
                && row < rows
                && mask[row * months + month] == 0.0
            {
                update = one;
            }
            let old = vector::<S>(before, row * wide + first);
            let change = simd.mul_f32s(simd.sub_f32s(one, update), simd.sub_f32s(candidate, old));
            let new = simd.add_f32s(old, change);
            set::<S>(after, row * wide + first, new);
            if row < rows && first < hidden {
                let here = (row * months + month) * hidden;
                let end = here + hidden.min(first + lanes);
                let out = &mut self.states[here + first..end];
                if out.len() == lanes {
                    set::<S>(out, 0, new);
                } else {
                    simd.partial_store_f32s(out, new);
                }
            }
            if row < rows && !self.gates.is_empty() {
                let at = (month * rows + row) * 4 * wide + first;
                for (gate, value) in [reset, update, candidate, recurrent].into_iter().enumerate() {
                    set::<S>(self.gates, at + gate * wide, value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
