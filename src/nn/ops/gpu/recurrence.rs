//! The recurrence of the GRU on a GPU: one launch for all months forward, one backward.
//!
//! A workgroup owns a tile of rows from the first month to the last, so that none waits for
//! another. Along x each thread has a unit, along y a group of rows; a thread keeps the states of
//! its rows and unit in registers. What all units of a row need in the next product (the states
//! forward, the gradients of the gates backward) stands in the workgroup's memory, four rows to a
//! vector; the hidden weights are read through the caches, where all workgroups share them.
//! Nothing assumes how many threads run in step.

use cubecl::prelude::*;

use super::Quad;

/// Steps of a product that stand one below the other, so that their weights, which come from far,
/// are all asked for before the first is used.
const AHEAD: usize = 8;

/// Groups of rows in a workgroup.
pub const GROUPS: usize = 2;

/// Units up to which a workgroup has a thread for each: two groups of 128 are the 256 threads that
/// WebGPU guarantees, and the memory of [`Tile::new`] its 16 KiB.
pub const HIDDEN_MAX: usize = 128;

/// Rows up to which there are as many workgroups as WebGPU allows along an axis.
pub const ROWS_MAX: usize = 65_535 * 4 * GROUPS;

/// Rows from which on a tile has 16 of them: 128 workgroups, which keeps a large GPU busy. With
/// fewer rows smaller tiles fill it better.
const ROWS_MANY: usize = 2048;

/// Gradients of the gates of 16 rows fit the 16 KiB up to this many units.
const HIDDEN_OF_LARGE_TILES: usize = 85;

/// How rows and units are laid out over a workgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// H.
    pub hidden: usize,
    /// Of four rows each, in every group.
    pub quads: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Forward,
    Backward,
}

impl Tile {
    pub fn new(rows: usize, hidden: usize, way: Way) -> Self {
        let fits = way == Way::Forward || hidden <= HIDDEN_OF_LARGE_TILES;
        Tile { hidden, quads: if fits && rows >= ROWS_MANY { 2 } else { 1 } }
    }

    pub fn cubes(self, rows: usize) -> CubeCount {
        CubeCount::Static(rows.div_ceil(4 * self.quads * GROUPS) as u32, 1, 1)
    }

    /// Threads along x in whole vectors of any GPU.
    pub fn threads(self) -> CubeDim {
        CubeDim::new_2d(self.hidden.next_multiple_of(32) as u32, GROUPS as u32)
    }
}

/// What the forward pass writes besides the states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mode {
    pub masked: bool,
    pub keeps_gates: bool,
}

/// `projected [B, T, 3H]` (without bias), `start [B, H]`, the biases `[3H]`, `hidden [H, 3H]`,
/// `mask [B, T]` to `states [B, T, H]` and `gates [B, T, 4H]`: r, z, n and u_n.
#[cube(launch)]
pub fn forward(
    projected: &[f32],
    start: &[f32],
    input_bias: &[f32],
    hidden: &[f32],
    hidden_bias: &[f32],
    mask: &[f32],
    states: &mut [f32],
    gates: &mut [f32],
    rows: u32,
    months: u32,
    #[comptime] tile: Tile,
    #[comptime] mode: Mode,
) {
    let rows = rows as usize;
    let months = months as usize;
    let h = comptime!(tile.hidden);
    let quads = comptime!(tile.quads);
    let lanes = comptime!(tile.quads * 4);
    let line = comptime!(tile.quads * GROUPS);
    let unit = UNIT_POS_X as usize;
    let group = UNIT_POS_Y as usize;
    // Threads beyond the last unit compute it again and write nothing: barriers need them all.
    let is_unit = unit < h;
    let j = select(is_unit, unit, h - 1);
    let first = (CUBE_POS_X as usize * GROUPS + group) * lanes;

    // Two copies: a month reads one and writes the other, so that it needs one barrier.
    let mut memory = Shared::<[Quad]>::new_slice(comptime!(2 * h * line));
    let mut own = Array::<f32>::new(lanes);
    #[unroll]
    for q in 0..quads {
        let mut quad = Quad::new(0.0);
        #[unroll]
        for i in 0..4 {
            let row = first + q * 4 + i;
            let mut value = 0.0f32;
            if row < rows {
                value = start[row * h + j];
            }
            own[q * 4 + i] = value;
            quad.insert(i, value);
        }
        if is_unit {
            memory[j * line + group * quads + q] = quad;
        }
    }
    let bias_r = input_bias[j] + hidden_bias[j];
    let bias_z = input_bias[h + j] + hidden_bias[h + j];
    let bias_n = input_bias[2 * h + j];
    let bias_u = hidden_bias[2 * h + j];
    sync_cube();

    for month in 0..months {
        let from = (month % 2) * (h * line);
        let to = h * line - from;
        let mut reset = Array::<Quad>::new(quads);
        let mut update = Array::<Quad>::new(quads);
        let mut recurrent = Array::<Quad>::new(quads);
        let mut input = Array::<f32>::new(lanes);
        #[unroll]
        for q in 0..quads {
            let mut r = Quad::new(bias_r);
            let mut z = Quad::new(bias_z);
            #[unroll]
            for i in 0..4 {
                let row = first + q * 4 + i;
                let mut n = bias_n;
                if row < rows {
                    let at = (row * months + month) * (3 * h) + j;
                    r.insert(i, bias_r + projected[at]);
                    z.insert(i, bias_z + projected[at + h]);
                    n += projected[at + 2 * h];
                }
                input[q * 4 + i] = n;
            }
            reset[q] = r;
            update[q] = z;
            recurrent[q] = Quad::new(bias_u);
        }
        let mine = from + group * quads;
        for step in 0..comptime!(h / AHEAD) {
            #[unroll]
            for ahead in 0..AHEAD {
                let k = step * AHEAD + ahead;
                let at = k * (3 * h) + j;
                add_product(&memory, mine + k * line, hidden[at], &mut reset);
                add_product(&memory, mine + k * line, hidden[at + h], &mut update);
                add_product(&memory, mine + k * line, hidden[at + 2 * h], &mut recurrent);
            }
        }
        for k in comptime!(h / AHEAD * AHEAD)..h {
            let at = k * (3 * h) + j;
            add_product(&memory, mine + k * line, hidden[at], &mut reset);
            add_product(&memory, mine + k * line, hidden[at + h], &mut update);
            add_product(&memory, mine + k * line, hidden[at + 2 * h], &mut recurrent);
        }
        #[unroll]
        for q in 0..quads {
            let mut quad = Quad::new(0.0);
            #[unroll]
            for i in 0..4 {
                let row = first + q * 4 + i;
                if row < rows {
                    let place = row * months + month;
                    let r = sigmoid(reset[q].extract(i));
                    let mut z = sigmoid(update[q].extract(i));
                    if comptime!(mode.masked) {
                        // An update gate of 1 keeps the state, and no gradient passes it.
                        let lived = mask[place];
                        z = z * lived + (1.0 - lived);
                    }
                    let u = recurrent[q].extract(i);
                    let n = f32::tanh(input[q * 4 + i] + r * u);
                    let before = own[q * 4 + i];
                    // In this form an update gate of exactly 1 gives exactly the state before.
                    let state = before + (1.0 - z) * (n - before);
                    own[q * 4 + i] = state;
                    quad.insert(i, state);
                    if is_unit {
                        states[place * h + j] = state;
                        if comptime!(mode.keeps_gates) {
                            let at = place * (4 * h) + j;
                            gates[at] = r;
                            gates[at + h] = z;
                            gates[at + 2 * h] = n;
                            gates[at + 3 * h] = u;
                        }
                    }
                }
            }
            if is_unit {
                memory[to + j * line + group * quads + q] = quad;
            }
        }
        sync_cube();
    }
}

/// Adds the product of a group's rows, which begin at `at`, and one weight.
#[cube]
fn add_product(memory: &Shared<[Quad]>, at: usize, weight: f32, sums: &mut Array<Quad>) {
    let weight = Quad::new(weight);
    #[unroll]
    for q in 0..sums.len() {
        sums[q] += memory[at + q] * weight;
    }
}

#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + f32::exp(-x))
}

/// From the gradient of the states `[B, T, H]` to those of the gates before their activations:
/// `d_input [B, T, 3H]` of the projected inputs, `d_recurrent [B, T, 3H]` of the recurrent part;
/// and `d_start [B, H]`. `transposed` are the hidden weights `[3H, H]`.
#[cube(launch)]
pub fn backward(
    gradient: &[f32],
    start: &[f32],
    states: &[f32],
    gates: &[f32],
    transposed: &[f32],
    d_input: &mut [f32],
    d_recurrent: &mut [f32],
    d_start: &mut [f32],
    rows: u32,
    months: u32,
    #[comptime] tile: Tile,
) {
    let rows = rows as usize;
    let months = months as usize;
    let h = comptime!(tile.hidden);
    let quads = comptime!(tile.quads);
    let lanes = comptime!(tile.quads * 4);
    let line = comptime!(tile.quads * GROUPS);
    let unit = UNIT_POS_X as usize;
    let group = UNIT_POS_Y as usize;
    let is_unit = unit < h;
    let j = select(is_unit, unit, h - 1);
    let first = (CUBE_POS_X as usize * GROUPS + group) * lanes;

    let mut memory = Shared::<[Quad]>::new_slice(comptime!(3 * h * line));
    let mut later = Array::<f32>::new(lanes);
    #[unroll]
    for lane in 0..lanes {
        later[lane] = 0.0f32;
    }
    for step in 0..months {
        let month = months - 1 - step;
        #[unroll]
        for q in 0..quads {
            let mut quad_r = Quad::new(0.0);
            let mut quad_z = Quad::new(0.0);
            let mut quad_u = Quad::new(0.0);
            #[unroll]
            for i in 0..4 {
                let row = first + q * 4 + i;
                if row < rows {
                    let place = row * months + month;
                    let r = gates[place * (4 * h) + j];
                    let z = gates[place * (4 * h) + h + j];
                    let n = gates[place * (4 * h) + 2 * h + j];
                    let u = gates[place * (4 * h) + 3 * h + j];
                    let mut before = start[row * h + j];
                    if month > 0 {
                        before = states[(place - 1) * h + j];
                    }
                    let d_state = later[q * 4 + i] + gradient[place * h + j];
                    let d_kept = d_state * z;
                    let d_n = (d_state - d_kept) * (1.0 - n * n);
                    let d_z = d_state * (before - n) * z * (1.0 - z);
                    let d_r = d_n * u * r * (1.0 - r);
                    let d_u = d_n * r;
                    later[q * 4 + i] = d_kept;
                    quad_r.insert(i, d_r);
                    quad_z.insert(i, d_z);
                    quad_u.insert(i, d_u);
                    if is_unit {
                        let at = place * (3 * h) + j;
                        d_input[at] = d_r;
                        d_input[at + h] = d_z;
                        d_input[at + 2 * h] = d_n;
                        d_recurrent[at] = d_r;
                        d_recurrent[at + h] = d_z;
                        d_recurrent[at + 2 * h] = d_u;
                    }
                }
            }
            if is_unit {
                let at = j * line + group * quads + q;
                memory[at] = quad_r;
                memory[at + h * line] = quad_z;
                memory[at + 2 * h * line] = quad_u;
            }
        }
        sync_cube();
        let mut through = Array::<Quad>::new(quads);
        #[unroll]
        for q in 0..quads {
            through[q] = Quad::new(0.0);
        }
        let mine = group * quads;
        for step in 0..comptime!(3 * h / AHEAD) {
            #[unroll]
            for ahead in 0..AHEAD {
                let gate = step * AHEAD + ahead;
                add_product(&memory, mine + gate * line, transposed[gate * h + j], &mut through);
            }
        }
        for gate in comptime!(3 * h / AHEAD * AHEAD)..3 * h {
            add_product(&memory, mine + gate * line, transposed[gate * h + j], &mut through);
        }
        #[unroll]
        for q in 0..quads {
            #[unroll]
            for i in 0..4 {
                later[q * 4 + i] += through[q].extract(i);
            }
        }
        // The next month overwrites what this one still reads.
        sync_cube();
    }
    #[unroll]
    for lane in 0..lanes {
        let row = first + lane;
        if row < rows && is_unit {
            d_start[row * h + j] = later[lane];
        }
    }
}
