//! The trees of one setting: each on the slopes that those before it leave, until the validation
//! part stops them.

use std::borrow::Cow;

use rand_chacha::rand_core::Rng;
use rayon::prelude::*;

use super::bins::{Binned, Borders};
use super::grow::{Grown, Limits, Shape, grow};
use super::{Table, Tree};
use crate::seeds::Seeds;

/// Trees after which a setting ends even if it still gains.
const TREES_MAX: usize = 1500;

/// Trees without a better validation log loss after which a setting ends.
const PATIENCE: usize = 60;

/// Rows whose leaves one task looks up.
const ROWS_PER_TASK: usize = 4096;

/// Shape and pace of the trees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Setting {
    pub shape: Shape,
    pub leaves_max: usize,
    pub depth_max: u32,
    pub learning_rate: f64,
    /// Added to the curvature of a leaf, and to its rows where a split is chosen.
    pub l2: f64,
    /// Fewest rows of a leaf.
    pub rows_min: f64,
    /// Share of rows and of columns, drawn anew for each tree.
    pub rows_share: f64,
    pub columns_share: f64,
}

/// A part of the data as trees read it.
pub(super) struct Part<'a> {
    pub binned: Binned,
    pub labels: Cow<'a, [bool]>,
}

impl<'a> Part<'a> {
    pub fn new(borders: &Borders, table: &Table<'a>) -> Self {
        Part { binned: borders.apply(table), labels: Cow::Borrowed(table.labels) }
    }

    /// At most `rows_max` of the rows, drawn at random.
    pub fn thinned(&self, rows_max: usize, seeds: &Seeds) -> Part<'static> {
        let rows = seeds.drawn("search rows", rows_max, self.labels.len());
        let of = |column: &Vec<u8>| rows.iter().map(|&row| column[row as usize]).collect();
        Part {
            binned: Binned { columns: self.binned.columns.iter().map(of).collect() },
            labels: rows.iter().map(|&row| self.labels[row as usize]).collect(),
        }
    }
}

/// What a setting came to.
pub(super) struct Boosted {
    pub bias: f64,
    pub trees: Vec<Tree>,
    /// Of each column, summed over the splits of all trees.
    pub gains: Vec<f64>,
    /// On the validation part.
    pub log_loss: f64,
}

/// Trains one setting. Both classes are in the train part.
pub(super) fn boost(
    borders: &Borders,
    [train, validation]: [&Part; 2],
    setting: &Setting,
    seeds: &Seeds,
) -> Boosted {
    let positives = train.labels.iter().filter(|&&churned| churned).count() as f64;
    let bias = (positives / (train.labels.len() as f64 - positives)).ln();
    let mut at = vec![bias; train.labels.len()];
    let mut seen = vec![bias; validation.labels.len()];
    let mut best = Boosted {
        bias,
        trees: Vec::new(),
        gains: vec![0.0; borders.columns()],
        log_loss: log_loss(&seen, &validation.labels),
    };
    let (mut trees, mut gains) = (Vec::new(), best.gains.clone());
    let usable: Vec<usize> =
        (0..borders.columns()).filter(|&column| borders.bins(column) > 1).collect();
    while trees.len() < TREES_MAX && trees.len() - best.trees.len() < PATIENCE {
        let mut rng = seeds.stream("tree", trees.len() as u64);
        let rows = drawn(&mut rng, train.labels.len(), setting.rows_share);
        let columns = some_of(&mut rng, &usable, setting.columns_share);
        let slopes: Vec<f64> = at
            .iter()
            .zip(train.labels.iter())
            .map(|(&x, &y)| f64::from(u8::from(y)) - risk(x))
            .collect();
        let limits = Limits {
            shape: setting.shape,
            columns: &columns,
            leaves_max: setting.leaves_max,
            depth_max: setting.depth_max,
            rows_min: setting.rows_min,
            l2: setting.l2,
        };
        let grown = grow(borders, &train.binned, (rows, &slopes), &limits);
        let leaves = newton(borders, &grown, train, (&mut at, &slopes), setting);
        seen.par_iter_mut().with_min_len(ROWS_PER_TASK).enumerate().for_each(|(row, x)| {
            *x += f64::from(leaves[grown.leaf(borders, &validation.binned, row)]);
        });
        grown.splits().for_each(|split| gains[split.column] += split.gain);
        trees.push(grown.tree(borders, leaves));
        let loss = log_loss(&seen, &validation.labels);
        if loss < best.log_loss {
            best.log_loss = loss;
            best.trees.extend_from_slice(&trees[best.trees.len()..]);
            best.gains.clone_from(&gains);
        }
    }
    best
}

/// One Newton step in each leaf over all rows, those too that did not grow the tree, times the
/// learning rate; moves the rows by it.
fn newton(
    borders: &Borders,
    grown: &Grown,
    train: &Part,
    (at, slopes): (&mut [f64], &[f64]),
    setting: &Setting,
) -> Vec<f32> {
    let places: Vec<u32> = (0..at.len())
        .into_par_iter()
        .with_min_len(ROWS_PER_TASK)
        .map(|row| grown.leaf(borders, &train.binned, row) as u32)
        .collect();
    let mut sums = vec![(0.0, 0.0); grown.leaves];
    for ((&leaf, &x), &slope) in places.iter().zip(at.iter()).zip(slopes) {
        let sum = &mut sums[leaf as usize];
        let risk = risk(x);
        sum.0 += slope;
        sum.1 += risk * (1.0 - risk);
    }
    let value = |&(slope, curvature): &(f64, f64)| {
        (setting.learning_rate * slope / (curvature + setting.l2)) as f32
    };
    let leaves: Vec<f32> = sums.iter().map(value).collect();
    for (x, &leaf) in at.iter_mut().zip(&places) {
        *x += f64::from(leaves[leaf as usize]);
    }
    leaves
}

/// Rows that a tree is grown on, in order.
fn drawn(rng: &mut impl Rng, rows: usize, share: f64) -> Vec<u32> {
    let limit = (share * f64::from(u32::MAX)) as u32;
    (0..rows as u32).filter(|_| rng.next_u32() <= limit).collect()
}

/// A share of the columns, at least one where there is one, in their order.
fn some_of(rng: &mut impl Rng, columns: &[usize], share: f64) -> Vec<usize> {
    let wanted = ((columns.len() as f64 * share).ceil() as usize).min(columns.len());
    let mut left = columns.to_vec();
    for i in 0..wanted {
        let j = i + (rng.next_u64() % (left.len() - i) as u64) as usize;
        left.swap(i, j);
    }
    left.truncate(wanted);
    left.sort_unstable();
    left
}

fn risk(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

/// Mean log loss in nats.
fn log_loss(log_odds: &[f64], labels: &[bool]) -> f64 {
    let loss =
        |(&x, &y): (&f64, &bool)| x.max(0.0) - if y { x } else { 0.0 } + (-x.abs()).exp().ln_1p();
    log_odds.iter().zip(labels).map(loss).sum::<f64>() / labels.len() as f64
}
