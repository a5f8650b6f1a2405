//! Settings, and which of them are averaged.

use rayon::prelude::*;

use super::bins::Borders;
use super::boost::{Boosted, Part, Setting, boost};
use super::grow::Shape::{self, Leafwise, Symmetric};
use super::{Table, Tree, Trees};
use crate::error::{Kind, Result};
use crate::features::RawKind;
use crate::seeds::Seeds;

/// Rows on which all settings are tried; only the best ones see more. Which setting is best moves
/// little with the rows, and ten settings on a million would take an hour.
const SEARCH_ROWS_MAX: usize = 20_000;

/// Fits trees: every setting on the train rows, stopped by the validation rows, and the average
/// of the best `averaged`. The result does not depend on the number of threads.
///
/// On four real sets an average of four gained .0007 of test log loss over the best one on three,
/// and lost .0001 on the fourth; picking greedily (Caruana et al. 2004) was worse by up to .0002 on
/// three and better by .0003 on one.
///
/// # Errors
/// `Kind::Data` if a part has no rows, or the train part only one class.
///
/// # Panics
/// If a table's lengths do not fit together, or the two differ in columns.
pub fn fit(train: &Table, validation: &Table, averaged: usize, seeds: &Seeds) -> Result<Trees> {
    assert!(averaged > 0, "an average of something");
    assert_eq!(train.kinds, validation.kinds, "both parts have the same columns");
    for (table, part) in [(train, "train"), (validation, "validation")] {
        assert_eq!(table.values.len(), table.rows() * table.kinds.len(), "[rows, columns]");
        if table.rows() == 0 {
            return Err(Kind::Data.msg(format!("trees: the {part} part has no rows")));
        }
    }
    if train.labels.iter().all(|&y| y == train.labels[0]) {
        return Err(Kind::Data
            .msg("trees: the train part has only one class")
            .hint("check the label and the split"));
    }
    let borders = Borders::learn(train);
    let whole = [train, validation].map(|table| Part::new(&borders, table));
    let all: Vec<usize> = (0..SETTINGS.len()).collect();
    if train.rows() <= SEARCH_ROWS_MAX {
        let best = best(boost_all(&borders, [&whole[0], &whole[1]], &all, seeds), averaged);
        return Ok(average(best, train.kinds));
    }
    let searched = whole.each_ref().map(|part| part.thinned(SEARCH_ROWS_MAX, seeds));
    let found = best(boost_all(&borders, [&searched[0], &searched[1]], &all, seeds), averaged);
    let settings: Vec<usize> = found.into_iter().map(|(setting, _)| setting).collect();
    Ok(average(boost_all(&borders, [&whole[0], &whole[1]], &settings, seeds), train.kinds))
}

/// Tried on every data set. Sets of few rows, or with effects that add up, want small trees and
/// strong shrinkage; sharp thresholds in several columns want large ones with little of it.
#[rustfmt::skip]
const SETTINGS: [Setting; 11] = [
    //               leaves depth rate  l2   rows rows% columns%
    setting(Leafwise,  3,    2,   0.10, 1.0, 10., 0.8,  0.6),
    setting(Leafwise,  4,    3,   0.08, 5.0, 10., 0.8,  0.4),
    setting(Leafwise,  4,    3,   0.08, 20., 20., 0.65, 0.4),
    setting(Leafwise,  8,    4,   0.06, 10., 20., 0.65, 0.3),
    setting(Leafwise,  8,    6,   0.06, 3.0, 5.0, 0.8,  0.5),
    setting(Leafwise,  16,   5,   0.06, 1.0, 1.0, 0.8,  1.0),
    setting(Leafwise,  16,   8,   0.06, 1.0, 3.0, 0.8,  0.6),
    setting(Leafwise,  31,   10,  0.05, 1.0, 1.0, 0.8,  0.6),
    setting(Symmetric, 16,   4,   0.05, 1.0, 0.0, 0.8,  0.6),
    setting(Symmetric, 32,   5,   0.05, 1.0, 0.0, 0.8,  0.6),
    setting(Symmetric, 64,   6,   0.05, 8.0, 0.0, 0.8,  0.6),
];

#[expect(clippy::too_many_arguments, reason = "a row of the table above")]
const fn setting(
    shape: Shape,
    leaves_max: usize,
    depth_max: u32,
    learning_rate: f64,
    l2: f64,
    rows_min: f64,
    rows_share: f64,
    columns_share: f64,
) -> Setting {
    Setting { shape, leaves_max, depth_max, learning_rate, l2, rows_min, rows_share, columns_share }
}

/// Trains some settings side by side; each is a function of its own seed.
fn boost_all(
    borders: &Borders,
    parts: [&Part; 2],
    settings: &[usize],
    seeds: &Seeds,
) -> Vec<(usize, Boosted)> {
    let one = |&at: &usize| {
        (at, boost(borders, parts, &SETTINGS[at], &seeds.child("setting", at as u64)))
    };
    settings.par_iter().map(one).collect()
}

/// The `count` of least validation log loss.
fn best(mut boosted: Vec<(usize, Boosted)>, count: usize) -> Vec<(usize, Boosted)> {
    boosted.sort_by(|a, b| a.1.log_loss.total_cmp(&b.1.log_loss));
    boosted.truncate(count);
    boosted
}

/// An average of sums of trees is a sum of trees with smaller leaves.
fn average(boosted: Vec<(usize, Boosted)>, kinds: &[RawKind]) -> Trees {
    let share = 1.0 / boosted.len() as f64;
    let bias = boosted.iter().map(|(_, boosted)| share * boosted.bias).sum();
    let scaled = |mut tree: Tree| {
        tree.leaves.iter_mut().for_each(|leaf| *leaf *= share as f32);
        tree
    };
    let trees = boosted.into_iter().flat_map(|(_, boosted)| boosted.trees).map(scaled).collect();
    let categories = kinds.iter().map(|kind| matches!(kind, RawKind::Category { .. })).collect();
    Trees { categories, bias, trees }
}
