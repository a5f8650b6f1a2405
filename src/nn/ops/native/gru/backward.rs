//! Backpropagation through time, block by block.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::super::buffer::{Buffer, padded};
use super::super::product::{Tile, columns_times, rows_times, set, vector};
use super::{GATES, Gates, Inputs, Shape, Weights};

/// Gradients, shaped like what they are of.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// None if not asked for.
    pub x: Option<Vec<f32>>,
    pub start: Vec<f32>,
    pub input: Vec<f32>,
    pub input_bias: Vec<f32>,
    pub hidden: Vec<f32>,
    pub hidden_bias: Vec<f32>,
}

/// What the backward pass starts from, besides the inputs.
#[derive(Debug, Clone, Copy)]
pub struct Upstream<'a> {
    /// `[B, T, H]`, as the forward pass returned them.
    pub states: &'a [f32],
    pub gates: &'a Gates,
    /// `[B, T, H]`: gradient of the loss by each state.
    pub gradient: &'a [f32],
}

/// Whether the gradient by x is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputGradient {
    Wanted,
    Unused,
}

/// Backpropagation through time.
pub fn backward(
    shape: Shape,
    inputs: &Inputs,
    weights: &Weights,
    upstream: &Upstream,
    wanted: InputGradient,
) -> Gradients {
    let arch = Arch::new();
    let Shape { rows, months: t, inputs: f, hidden: h } = shape;
    let packed = arch.dispatch(PackBackward { shape, weights, wanted });
    let sums = Sums::layout(&shape);
    let mut partial = Buffer::zeros(shape.blocks() * sums.len);
    let mut d_start = vec![0.0; rows * h];
    let mut d_x = vec![0.0; if wanted == InputGradient::Wanted { rows * t * f } else { 0 }];
    let mut d_x_of: Vec<&mut [f32]> = (0..shape.blocks()).map(|_| Default::default()).collect();
    if wanted == InputGradient::Wanted {
        d_x_of = d_x.chunks_mut(shape.block_size() * t * f).collect();
    }
    partial
        .par_chunks_mut(sums.len)
        .zip(d_start.par_chunks_mut(shape.block_size() * h))
        .zip(d_x_of)
        .enumerate()
        .for_each(|(block, ((partial, d_start), d_x))| {
            let states = block * shape.block_size() * t * h..;
            let shape_here = Shape { rows: d_start.len() / h, ..shape };
            arch.dispatch(BackwardBlock {
                shape: shape_here,
                inputs: inputs.block(block, &shape),
                packed: &packed,
                states: &upstream.states[states.clone()],
                gradient: &upstream.gradient[states],
                gates: &upstream.gates[block * shape.block_gates()..],
                sums: partial,
                d_start,
                d_x,
            });
        });
    let total = add_up(&partial, sums.len);
    let x = (wanted == InputGradient::Wanted).then_some(d_x);
    sums.unpack(&total, &shape, d_start, x)
}

/// Sums of the blocks, in their order.
pub(super) fn add_up(partial: &[f32], len: usize) -> Vec<f32> {
    let mut total = vec![0.0; len];
    total.par_chunks_mut(4096).enumerate().for_each(|(at, total)| {
        for block in partial.chunks_exact(len) {
            let block = &block[at * 4096..][..total.len()];
            total.iter_mut().zip(block).for_each(|(sum, x)| *sum += x);
        }
    });
    total
}

/// Where a block puts its sums: `[H, 3H]` by gate order recurrent n, r, z; `[F, 3H]` by r, z, n;
/// `[4, H]` biases by recurrent n, r, z, n; all padded.
pub(super) struct Sums {
    pub input_from: usize,
    pub biases_from: usize,
    pub len: usize,
}

impl Sums {
    pub fn layout(shape: &Shape) -> Sums {
        let wide = shape.wide();
        let input_from = wide * GATES * wide;
        let biases_from = input_from + shape.inputs.next_multiple_of(COLUMNS) * GATES * wide;
        Sums { input_from, biases_from, len: biases_from + 4 * wide }
    }

    pub fn unpack(
        &self,
        total: &[f32],
        shape: &Shape,
        start: Vec<f32>,
        x: Option<Vec<f32>>,
    ) -> Gradients {
        let (wide, h) = (shape.wide(), shape.hidden);
        let matrix = |from: usize, rows: usize, order: [usize; GATES]| {
            let mut out = Vec::with_capacity(rows * GATES * h);
            for row in 0..rows {
                for gate in order {
                    out.extend_from_slice(&total[from + (row * GATES + gate) * wide..][..h]);
                }
            }
            out
        };
        let hidden = matrix(0, h, [1, 2, 0]);
        let input = matrix(self.input_from, shape.inputs, [0, 1, 2]);
        let bias = |order: [usize; GATES]| {
            let part = |gate: usize| &total[self.biases_from + gate * wide..][..h];
            order.into_iter().flat_map(|gate| part(gate).to_vec()).collect()
        };
        Gradients {
            x,
            start,
            input,
            input_bias: bias([1, 2, 3]),
            hidden,
            hidden_bias: bias([1, 2, 0]),
        }
    }
}

/// Transposed weights as the tiles of the backward pass read them.
pub(super) struct PackedBackward {
    /// `[3H, H]`, gates in the order n, r, z, in panels of [`across`] vectors.
    pub hidden: Buffer,
    /// `[3H, F]`, gates in the order r, z, n; empty if not wanted.
    pub input: Buffer,
}

/// Vectors of a panel that covers a padded width.
const fn across(wide: usize, lanes: usize) -> usize {
    if (wide / lanes).is_multiple_of(2) { 2 } else { 1 }
}

pub(super) struct PackBackward<'a> {
    pub shape: Shape,
    pub weights: &'a Weights<'a>,
    pub wanted: InputGradient,
}

impl WithSimd for PackBackward<'_> {
    type Output = PackedBackward;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> PackedBackward {
        let Shape { inputs, hidden, .. } = self.shape;
        let wide = self.shape.wide();
        let transposed = |weights: &[f32], columns: usize, order: [usize; GATES]| {
            let width = across(padded(columns), S::F32_LANES) * S::F32_LANES;
            let mut panels = Buffer::zeros(GATES * wide * padded(columns));
            for (panel, out) in panels.chunks_exact_mut(GATES * wide * width).enumerate() {
                for (at, gate) in order.into_iter().enumerate() {
                    for unit in 0..hidden {
                        for lane in 0..width.min(columns.saturating_sub(panel * width)) {
                            let row = panel * width + lane;
                            out[(at * wide + unit) * width + lane] =
                                weights[row * GATES * hidden + gate * hidden + unit];
                        }
                    }
                }
            }
            panels
        };
        PackedBackward {
            hidden: transposed(self.weights.hidden, hidden, [2, 0, 1]),
            input: match self.wanted {
                InputGradient::Wanted => transposed(self.weights.input, inputs, [0, 1, 2]),
                InputGradient::Unused => Buffer::default(),
            },
        }
    }
}

pub(super) struct BackwardBlock<'a> {
    /// Of the block.
    pub shape: Shape,
    pub inputs: Inputs<'a>,
    pub packed: &'a PackedBackward,
    pub states: &'a [f32],
    pub gates: &'a [f32],
    pub gradient: &'a [f32],
    pub sums: &'a mut [f32],
    pub d_start: &'a mut [f32],
    /// Empty if it is not wanted.
    pub d_x: &'a mut [f32],
}

/// Columns of a register tile where there are 32 vector registers, and where there are 16.
const COLUMNS: usize = 8;
const COLUMNS_NARROW: usize = 4;

/// Numbers between rows that a product reads column by column: without them, rows of a power of
/// two would all fall into a few sets of the first cache level and drive each other out.
const GAP: usize = 16;

/// What a block works on, padded.
struct Scratch {
    /// `[rows, H]`: the gradient that comes from the months after.
    d_state: Buffer,
    /// `[rows, 4, H]`: gradients before the activations: recurrent n, r, z, n.
    d_gates: Buffer,
    /// `[rows, H]`: the state before the month.
    before: Buffer,
    /// `[rows, F]`.
    x: Buffer,
    /// `[rows, F]`.
    d_x: Buffer,
}

impl WithSimd for BackwardBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            self.run::<S, 8, COLUMNS>(simd)
        } else {
            self.run::<S, 6, COLUMNS_NARROW>(simd)
        }
    }
}

impl BackwardBlock<'_> {
    /// ROWS of the gradients of states, and C columns of what meets them, make a register tile.
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const C: usize>(mut self, simd: S) {
        let Shape { rows, months, inputs, hidden } = self.shape;
        let (wide, all_rows) = (self.shape.wide(), self.shape.scratch_rows());
        let inputs_wide = inputs.next_multiple_of(COLUMNS);
        let sums = Sums::layout(&self.shape);
        let mut s = Scratch {
            d_state: Buffer::zeros(all_rows * wide),
            d_gates: Buffer::zeros(all_rows * (4 * wide + GAP)),
            before: Buffer::zeros(all_rows * (wide + GAP)),
            x: Buffer::zeros(all_rows * inputs_wide),
            d_x: Buffer::zeros(all_rows * padded(inputs)),
        };
        let fresh = self.inputs.start.iter().all(|&x| x == 0.0);
        for month in (0..months).rev() {
            for row in 0..rows {
                let state = match month {
                    0 => &self.inputs.start[row * hidden..][..hidden],
                    _ => &self.states[(row * months + month - 1) * hidden..][..hidden],
                };
                s.before[row * (wide + GAP)..][..hidden].copy_from_slice(state);
                s.x[row * inputs_wide..][..inputs]
                    .copy_from_slice(&self.inputs.x[(row * months + month) * inputs..][..inputs]);
            }
            self.gates_backward::<S>(simd, month, &mut s, sums.biases_from);
            let (of_hidden, rest) = self.sums.split_at_mut(sums.input_from);
            let of_input = &mut rest[..sums.biases_from - sums.input_from];
            let d_gates = |from: usize| Part { numbers: &s.d_gates, width: 4 * wide + GAP, from };
            let whole = rows.next_multiple_of(ROWS);
            let into = (&mut s.d_state[..whole * wide], wide);
            add_rows_times::<S, ROWS>(simd, into, d_gates(0), &self.packed.hidden);
            if month > 0 || !fresh {
                let before = Part { numbers: &s.before, width: wide + GAP, from: 0 };
                add_columns_times::<S, C>(simd, (of_hidden, wide), rows, (before, d_gates(0)));
            }
            let x = Part { numbers: &s.x, width: inputs_wide, from: 0 };
            add_columns_times::<S, C>(simd, (of_input, inputs_wide), rows, (x, d_gates(wide)));
            if !self.d_x.is_empty() {
                s.d_x.fill(0.0);
                let into = (&mut s.d_x[..whole * padded(inputs)], padded(inputs));
                add_rows_times::<S, ROWS>(simd, into, d_gates(wide), &self.packed.input);
                for row in 0..rows {
                    self.d_x[(row * months + month) * inputs..][..inputs]
                        .copy_from_slice(&s.d_x[row * padded(inputs)..][..inputs]);
                }
            }
        }
        for row in 0..rows {
            self.d_start[row * hidden..][..hidden]
                .copy_from_slice(&s.d_state[row * wide..][..hidden]);
        }
    }

    /// From the gradient of the state after a month to those of its gates, and to what of it
    /// passes straight to the state before.
    #[inline(always)]
    fn gates_backward<S: Simd>(
        &mut self,
        simd: S,
        month: usize,
        s: &mut Scratch,
        biases_from: usize,
    ) {
        let Shape { rows, months, hidden, .. } = self.shape;
        let (wide, lanes) = (self.shape.wide(), S::F32_LANES);
        let one = simd.splat_f32s(1.0);
        for row in 0..rows {
            let gradient = &self.gradient[(row * months + month) * hidden..][..hidden];
            let saved = &self.gates[(month * rows + row) * 4 * wide..][..4 * wide];
            let before = &s.before[row * (wide + GAP)..][..wide];
            let d_state = &mut s.d_state[row * wide..][..wide];
            let d_gates = &mut s.d_gates[row * (4 * wide + GAP)..][..4 * wide];
            let sums = &mut self.sums[biases_from..][..4 * wide];
            for first in (0..hidden).step_by(lanes) {
                let upstream = &gradient[first..hidden.min(first + lanes)];
                let upstream = if upstream.len() == lanes {
                    vector::<S>(upstream, 0)
                } else {
                    simd.partial_load_f32s(upstream)
                };
                let d = simd.add_f32s(vector::<S>(d_state, first), upstream);
                let gate = |kind: usize| vector::<S>(saved, kind * wide + first);
                let (reset, update, candidate, recurrent) = (gate(0), gate(1), gate(2), gate(3));
                let before = vector::<S>(before, first);
                let rest = simd.sub_f32s(one, update);
                let slope = simd.sub_f32s(one, simd.mul_f32s(candidate, candidate));
                let d_n = simd.mul_f32s(simd.mul_f32s(d, rest), slope);
                let d_z = simd.mul_f32s(
                    simd.mul_f32s(d, simd.sub_f32s(before, candidate)),
                    simd.mul_f32s(update, rest),
                );
                let d_r = simd.mul_f32s(
                    simd.mul_f32s(d_n, recurrent),
                    simd.mul_f32s(reset, simd.sub_f32s(one, reset)),
                );
                let d_u = simd.mul_f32s(d_n, reset);
                set::<S>(d_state, first, simd.mul_f32s(d, update));
                for (kind, value) in [d_u, d_r, d_z, d_n].into_iter().enumerate() {
                    let at = kind * wide + first;
                    set::<S>(d_gates, at, value);
                    let so_far = vector::<S>(sums, at);
                    set::<S>(sums, at, simd.add_f32s(so_far, value));
                }
            }
        }
    }
}

/// Numbers of a matrix from the column `from` on.
#[derive(Clone, Copy)]
struct Part<'a> {
    numbers: &'a [f32],
    width: usize,
    from: usize,
}

/// C += A B: `c [rows, N]`, a whole number of tiles, and the packed B in `panels` `[K, N]`.
#[inline(always)]
fn add_rows_times<S: Simd, const R: usize>(
    simd: S,
    (c, n): (&mut [f32], usize),
    a: Part,
    panels: &[f32],
) {
    match across(n, S::F32_LANES) {
        2 => add_rows_times_across::<S, R, 2>(simd, (c, n), a, panels),
        _ => add_rows_times_across::<S, R, 1>(simd, (c, n), a, panels),
    }
}

#[inline(always)]
fn add_rows_times_across<S: Simd, const R: usize, const V: usize>(
    simd: S,
    (c, n): (&mut [f32], usize),
    a: Part,
    panels: &[f32],
) {
    let across = V * S::F32_LANES;
    let k = panels.len() / n;
    for (at, panel) in panels.chunks_exact(k * across).enumerate() {
        let panel = S::as_simd_f32s(panel).0.as_chunks::<V>().0;
        for (c, rows) in c.chunks_exact_mut(R * n).zip(a.numbers.chunks_exact(R * a.width)) {
            let rows: [&[f32]; R] = std::array::from_fn(|r| &rows[r * a.width + a.from..][..k]);
            let mut acc: Tile<S, R, V> = [[simd.splat_f32s(0.0); V]; R];
            for r in 0..R {
                for v in 0..V {
                    acc[r][v] = vector::<S>(c, r * n + at * across + v * S::F32_LANES);
                }
            }
            acc = rows_times(simd, acc, rows, panel);
            for r in 0..R {
                for v in 0..V {
                    set::<S>(c, r * n + at * across + v * S::F32_LANES, acc[r][v]);
                }
            }
        }
    }
}

/// C += A^T B: `c [M, 3H]`, summed over the first `rows` of A and B.
#[inline(always)]
fn add_columns_times<S: Simd, const R: usize>(
    simd: S,
    (c, m): (&mut [f32], usize),
    rows: usize,
    (a, b): (Part, Part),
) {
    let lanes = S::F32_LANES;
    let n = c.len() / m;
    let (a_rows, b_rows) = (&a.numbers[..rows * a.width], &b.numbers[..rows * b.width]);
    for first in (0..n).step_by(GATES * lanes) {
        for (at, c) in c.chunks_exact_mut(R * n).enumerate() {
            let mut acc: Tile<S, R, GATES> = [[simd.splat_f32s(0.0); GATES]; R];
            let left = (a_rows, a.width, a.from + at * R);
            acc = columns_times(simd, acc, left, (b_rows, b.width, b.from + first));
            for r in 0..R {
                for v in 0..GATES {
                    let at = r * n + first + v * lanes;
                    let sum = simd.add_f32s(vector::<S>(c, at), acc[r][v]);
                    set::<S>(c, at, sum);
                }
            }
        }
    }
}
