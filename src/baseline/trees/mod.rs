//! Gradient-boosted decision trees on raw snapshots: the model that a network must beat where
//! thresholds matter.
//!
//! Leaf-wise trees on histograms (Ke et al. 2017, LightGBM), on random rows and columns (Friedman
//! 2002), stopped by the validation part. Several settings are drawn and trained, and the best few
//! averaged in log-odds: which setting is best differs from data set to data set more than an
//! average of good ones does. The result is one sum of trees, whatever it was averaged from.
//!
//! | file | holds |
//! |---|---|
//! | `bins` | values as small whole numbers, since trees see only their order |
//! | `grow` | one tree |
//! | `boost` | the trees of one setting |
//! | `search` | settings, and which of them are averaged |
//! | `importance` | how much of what trees find is found in each column |

mod bins;
mod boost;
mod grow;
mod importance;
mod search;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::features::RawKind;

pub use importance::importance;
pub use search::fit;

/// Rows that one task scores, tree by tree: a tree stays in the first cache level while all of them
/// go through it, and so do as many rows of some hundred columns in the second.
const ROWS_PER_TASK: usize = 64;

/// Raw snapshots with their labels; a view, nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// Row-major `[rows, columns]`; NaN is missing.
    pub values: &'a [f32],
    pub kinds: &'a [RawKind],
    /// `[rows]`.
    pub labels: &'a [bool],
}

impl Table<'_> {
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    fn value(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.kinds.len() + column]
    }
}

/// A fitted sum of trees: log-odds = bias + one leaf of every tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trees {
    /// Per column, whether it is a category, whose nodes ask for equality.
    pub categories: Vec<bool>,
    pub bias: f64,
    pub trees: Vec<Tree>,
}

/// One tree. Its node 0 is the root; a tree without nodes is its only leaf.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tree {
    /// Per node, the column that it asks.
    pub columns: Vec<u32>,
    /// Per node: is the number above this, or the category equal to it? Missing numbers are not.
    pub thresholds: Vec<f32>,
    /// Per node, where no and yes lead: to a node if at least 0, else to leaf -1 - this.
    pub children: Vec<[i32; 2]>,
    /// Log-odds per leaf.
    pub leaves: Vec<f32>,
}

impl Trees {
    /// Log-odds of `values`, row-major `[rows, columns]`.
    pub fn log_odds(&self, values: &[f32]) -> Vec<f64> {
        let columns = self.categories.len().max(1);
        let mut log_odds = vec![0.0; values.len() / columns];
        let tasks = values.par_chunks(ROWS_PER_TASK * columns);
        tasks.zip(log_odds.par_chunks_mut(ROWS_PER_TASK)).for_each(|(rows, sums)| {
            for tree in &self.trees {
                for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(columns)) {
                    *sum += f64::from(tree.leaf(row, &self.categories));
                }
            }
            sums.iter_mut().for_each(|sum| *sum += self.bias);
        });
        log_odds
    }

    /// Numbers that were learned: thresholds and leaves.
    pub fn parameters(&self) -> u64 {
        self.trees.iter().map(|tree| (tree.thresholds.len() + tree.leaves.len()) as u64).sum()
    }

    /// What is wrong with trees that come from elsewhere, if anything is: columns that are not
    /// there, children that do not exist or lead back, numbers that are not finite.
    pub fn fault(&self) -> Option<String> {
        if !self.bias.is_finite() {
            return Some("the bias is not finite".into());
        }
        let fault = |(at, tree): (usize, &Tree)| {
            tree.fault(self.categories.len()).map(|fault| format!("tree {at}: {fault}"))
        };
        self.trees.iter().enumerate().find_map(fault)
    }
}

impl Tree {
    fn leaf(&self, row: &[f32], categories: &[bool]) -> f32 {
        let mut at = if self.columns.is_empty() { -1 } else { 0 };
        while at >= 0 {
            let node = at as usize;
            let column = self.columns[node] as usize;
            let (value, threshold) = (row[column], self.thresholds[node]);
            let yes = if categories[column] { value == threshold } else { value > threshold };
            at = self.children[node][usize::from(yes)];
        }
        self.leaves[(-1 - at) as usize]
    }

    fn fault(&self, columns: usize) -> Option<&'static str> {
        let nodes = self.columns.len();
        if self.thresholds.len() != nodes || self.children.len() != nodes {
            return Some("its lists differ in length");
        }
        if self.leaves.len() != nodes + 1 {
            return Some("it must have one leaf more than nodes");
        }
        if self.columns.iter().any(|&column| column as usize >= columns) {
            return Some("a node asks a column that is not there");
        }
        let leads_on = |(node, child): (usize, i32)| match child {
            0.. => child as usize > node && (child as usize) < nodes,
            _ => ((-1 - child) as usize) < self.leaves.len(),
        };
        let children = self.children.iter().enumerate().flat_map(|(n, c)| c.map(|c| (n, c)));
        if !children.into_iter().all(leads_on) {
            return Some("a node leads back or to nothing");
        }
        let finite = self.thresholds.iter().chain(&self.leaves).all(|x| x.is_finite());
        (!finite).then_some("a number is not finite")
    }
}

#[cfg(test)]
mod tests;
