//! A whole MLP as it predicts on a CPU: weights laid out once, and each row taken through all
//! layers while it is in cache, with nothing in between in memory. Its kernels are those of the
//! operations, in their order of sums: outputs are those of the graph to the bit.

use rayon::prelude::*;

use super::buffer::{Pooled, in_blocks};
use super::linear::{Layer, Room, Scale};
use super::members::{Heads, heads_into};
use super::pieces::Table;

/// Rows that go through the first layer together: they fit the second cache level beside its
/// weights, and each of these is used for many rows.
const BLOCK_ROWS: usize = 48;

/// Writes all numbers and codes of a row, which it is told by its place.
pub type Fill<'a> = dyn Fn(usize, &mut [f32], &mut [u32]) + Sync + 'a;

#[derive(Debug)]
pub struct Mlp {
    pub inputs: Inputs,
    pub layers: Vec<Layer<'static>>,
    pub members: Members,
}

/// How the columns of a row become the inputs of the first layer.
#[derive(Debug)]
pub struct Inputs {
    /// Columns of numbers.
    pub numbers: usize,
    /// Columns with bins, and how they are embedded.
    pub pieces: Option<(Vec<usize>, Table<'static>)>,
    /// Columns that are taken as they are.
    pub plain: Vec<usize>,
    /// Of each category its table `[codes, width]`, and the width.
    pub embeddings: Vec<(Vec<f32>, usize)>,
}

/// What the members have of their own.
#[derive(Debug)]
pub struct Members {
    pub scale: Scale,
    /// Whether they part before the first layer, or behind it.
    pub early: bool,
    /// `[k K, W]`.
    pub weight: Vec<f32>,
    /// `[k K]`.
    pub bias: Vec<f32>,
}

impl Mlp {
    /// Log-odds `[rows, k K]`, each member's after the other's.
    pub fn outputs(&self, rows: usize, fill: &Fill) -> Vec<f32> {
        let outputs = self.members.bias.len();
        let blocks = (0..rows.div_ceil(BLOCK_ROWS)).into_par_iter();
        in_blocks(rows * outputs, BLOCK_ROWS * outputs, blocks, |at, y, _| {
            self.block(y, &|row, numbers, codes| fill(at * BLOCK_ROWS + row, numbers, codes));
        })
    }

    fn block(&self, y: &mut [f32], fill: &Fill) {
        let rows = y.len() / self.members.bias.len();
        let width = self.inputs.width();
        let mut x = Pooled::dirty(BLOCK_ROWS * width);
        let x = &mut x[..rows * width];
        self.inputs.rows(x, fill);
        if self.members.early {
            return self.parted(x, &self.layers, y);
        }
        let (first, rest) = self.layers.split_first().expect("a layer, see `Architecture::fault`");
        let mut hidden = Pooled::dirty(BLOCK_ROWS * first.outputs());
        let hidden = &mut hidden[..rows * first.outputs()];
        first.apply(x, hidden);
        self.parted(hidden, rest, y);
    }

    /// Rows from where the members part, through the layers that are left, one row after the other.
    fn parted(&self, x: &[f32], layers: &[Layer], y: &mut [f32]) {
        let Members { scale, weight, bias, .. } = &self.members;
        let (count, width) = (scale.members(), scale.width());
        let widest = layers.iter().map(Layer::outputs).chain([width]).max().unwrap_or(width);
        let [mut now, mut next] = [(); 2].map(|()| Pooled::dirty(count * widest));
        let mut room = Room::default();
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(bias.len())) {
            let mut wide = width;
            match layers.split_first() {
                None => scale.spread(x, &mut now[..count * width]),
                Some((first, rest)) => {
                    wide = first.outputs();
                    first.apply_to_members(x, scale, &mut now[..count * wide], &mut room);
                    for layer in rest {
                        let out = &mut next[..count * layer.outputs()];
                        layer.apply(&now[..count * wide], out);
                        (now, next, wide) = (next, now, layer.outputs());
                    }
                }
            }
            let size = Heads { members: count, width: wide, outputs: bias.len() / count };
            heads_into(size, &now[..count * wide], (weight, bias), y);
        }
    }
}

impl Inputs {
    fn width(&self) -> usize {
        let embedded = self.pieces.as_ref().map_or(0, |(_, table)| table.width());
        let categories: usize = self.embeddings.iter().map(|(_, width)| width).sum();
        embedded + self.plain.len() + categories
    }

    fn rows(&self, x: &mut [f32], fill: &Fill) {
        let mut numbers = vec![0.0; self.numbers];
        let mut codes = vec![0; self.embeddings.len()];
        let (width, mut binned) = (self.width(), Vec::new());
        let embedded = self.pieces.as_ref().map_or(0, |(_, table)| table.width());
        for (row, x) in x.chunks_exact_mut(width).enumerate() {
            fill(row, &mut numbers, &mut codes);
            if let Some((columns, _)) = &self.pieces {
                binned.extend(columns.iter().map(|&column| numbers[column]));
            }
            let (plain, mut x) = x[embedded..].split_at_mut(self.plain.len());
            plain.iter_mut().zip(&self.plain).for_each(|(to, &column)| *to = numbers[column]);
            for ((table, width), &code) in self.embeddings.iter().zip(&codes) {
                let embedded;
                (embedded, x) = x.split_at_mut(*width);
                embedded.copy_from_slice(&table[code as usize * width..][..*width]);
            }
        }
        if let Some((_, table)) = &self.pieces {
            table.embed(&binned, x, width);
        }
    }
}
