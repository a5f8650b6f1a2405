//! The paired bootstrap: customers are drawn with replacement, with all of their rows and for both
//! models at once, and the differences of the models are measured on each draw.
//!
//! Customers are drawn within folds, so that every draw has the folds' sizes; where a customer is
//! tested in several folds (rolling origins), out of all, and its rows in all folds go with it.
//!
//! A draw is a count per customer. Rows are sorted once: what needs their order (average precision,
//! ECE, lift) is counted off in it, and what is a mean (log loss, Brier) is summed by customer.

use std::array;

use rand_chacha::rand_core::Rng;
use rayon::prelude::*;
use serde::Serialize;

use super::{Doubt, OUTSIDE, Paired, PairedFold, mean};
use crate::eval::metrics::{Ranking, row_log_loss};
use crate::seeds::Seeds;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Settings {
    pub draws: u32,
    pub seed: u64,
}

/// Model A minus model B, the mean over the folds that define them: log loss, Brier, average
/// precision, ECE, lift at 10 %.
pub type Differences = [Option<f64>; MEASURES];

const MEASURES: usize = 5;

/// Test rows, ready to be drawn from.
pub struct Resampler {
    customers: usize,
    /// Customers that are drawn among each other.
    strata: Vec<Vec<u32>>,
    folds: Vec<FoldRows>,
}

struct FoldRows {
    customers: Vec<CustomerRows>,
    /// By model: (risk, label, customer) in ascending order of risk.
    sorted: [Vec<(f64, bool, u32)>; 2],
}

/// One customer's rows in a fold.
struct CustomerRows {
    customer: u32,
    rows: u64,
    /// Sums of log loss and Brier score, A minus B.
    losses: [f64; 2],
}

impl Resampler {
    pub fn new(paired: &Paired) -> Self {
        let folds: Vec<FoldRows> = paired.folds.iter().map(FoldRows::new).collect();
        let mut of_folds: Vec<Vec<u32>> = folds.iter().map(FoldRows::members).collect();
        if of_folds.iter().map(Vec::len).sum::<usize>() > paired.customers {
            of_folds = vec![(0..paired.customers as u32).collect()];
        }
        Resampler { customers: paired.customers, strata: of_folds, folds }
    }

    /// What the draws say about each measure, in the order of [`Differences`].
    pub fn run(&self, settings: Settings, seeds: &Seeds) -> [Doubt; MEASURES] {
        let draw = |draw: u32| self.differences(&self.draw(seeds, u64::from(draw)));
        let drawn: Vec<Differences> = (0..settings.draws).into_par_iter().map(draw).collect();
        array::from_fn(|at| doubt(drawn.iter().filter_map(|differences| differences[at]).collect()))
    }

    /// How many times each customer is taken.
    fn draw(&self, seeds: &Seeds, index: u64) -> Vec<u64> {
        let mut rng = seeds.stream("bootstrap", index);
        let mut times = vec![0; self.customers];
        for members in &self.strata {
            for _ in 0..members.len() {
                // The upper half of the product: even to one part in 2^64 / members.
                let at = (u128::from(rng.next_u64()) * members.len() as u128) >> 64;
                times[members[at as usize] as usize] += 1;
            }
        }
        times
    }

    /// The differences with each customer taken so many times.
    pub fn differences(&self, times: &[u64]) -> Differences {
        let by_fold: Vec<Differences> =
            self.folds.iter().map(|fold| fold.differences(times)).collect();
        array::from_fn(|at| {
            let defined: Vec<f64> = by_fold.iter().filter_map(|fold| fold[at]).collect();
            mean(defined.into_iter())
        })
    }
}

impl FoldRows {
    fn new(fold: &PairedFold) -> Self {
        let sorted = fold.risks.each_ref().map(|risks| {
            let rows = risks.iter().zip(&fold.labels).zip(&fold.customers);
            let mut sorted: Vec<(f64, bool, u32)> =
                rows.map(|((&risk, &label), &customer)| (risk, label, customer)).collect();
            sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            sorted
        });
        let mut order: Vec<usize> = (0..fold.labels.len()).collect();
        order.sort_by_key(|&row| fold.customers[row]);
        let of_customer = |rows: &[usize]| {
            let mut losses = [0.0; 2];
            for &row in rows {
                let [a, b] = fold.risks.each_ref().map(|risks| risks[row]);
                let label = fold.labels[row];
                let target = f64::from(u8::from(label));
                losses[0] += row_log_loss(label, a) - row_log_loss(label, b);
                losses[1] += (a - target).powi(2) - (b - target).powi(2);
            }
            CustomerRows { customer: fold.customers[rows[0]], rows: rows.len() as u64, losses }
        };
        let grouped = order.chunk_by(|&a, &b| fold.customers[a] == fold.customers[b]);
        FoldRows { customers: grouped.map(of_customer).collect(), sorted }
    }

    fn members(&self) -> Vec<u32> {
        self.customers.iter().map(|of| of.customer).collect()
    }

    fn differences(&self, times: &[u64]) -> Differences {
        let (mut rows, mut losses) = (0, [0.0; 2]);
        for of in &self.customers {
            let times = times[of.customer as usize];
            rows += times * of.rows;
            losses[0] += times as f64 * of.losses[0];
            losses[1] += times as f64 * of.losses[1];
        }
        if rows == 0 {
            return [None; MEASURES];
        }
        let mut ranking = Ranking::of_sorted(std::iter::empty());
        let ranked = self.sorted.each_ref().map(|sorted| {
            let row = |&(risk, label, customer): &(f64, bool, u32)| {
                (risk, label, times[customer as usize])
            };
            ranking.refill(sorted.iter().map(row));
            [ranking.average_precision(), Some(ranking.ece()), ranking.lift(0.1)]
        });
        let of_mean = |sum: f64| Some(sum / rows as f64);
        let of_ranked = |at: usize| Some(ranked[0][at]? - ranked[1][at]?);
        [of_mean(losses[0]), of_mean(losses[1]), of_ranked(0), of_ranked(1), of_ranked(2)]
    }
}

/// Percentile interval; two-sided p from the share of draws on the other side of zero, the
/// observation counted as one of them (Davison and Hinkley 1997, 4.2), so that it is never zero.
pub fn doubt(mut draws: Vec<f64>) -> Doubt {
    draws.sort_unstable_by(f64::total_cmp);
    let count = draws.len();
    let below = draws.iter().filter(|&&d| d <= 0.0).count();
    let above = draws.iter().filter(|&&d| d >= 0.0).count();
    let p = (2.0 * (1 + below.min(above)) as f64 / (count + 1) as f64).min(1.0);
    let interval = || [OUTSIDE / 2.0, 1.0 - OUTSIDE / 2.0].map(|q| quantile(&draws, q));
    Doubt {
        method: "bootstrap",
        standard_error: sd(&draws),
        interval: (count > 0).then(interval),
        p: (count > 0).then_some(p),
        draws: Some(count),
    }
}

fn sd(draws: &[f64]) -> Option<f64> {
    let mean = mean(draws.iter().copied())?;
    let squares: f64 = draws.iter().map(|d| (d - mean).powi(2)).sum();
    (draws.len() > 1).then(|| (squares / (draws.len() - 1) as f64).sqrt())
}

/// Linear between the values on both sides, as numpy's `quantile`.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (at - at.floor()) * (sorted[high] - sorted[low])
}
