//! Difference of two AUROCs on the same rows, and its variance.
//!
//! DeLong, DeLong and Clarke-Pearson 1988, with placement values from ranks (Sun and Xu 2014):
//! O(n log n). Where a customer has several rows they move together, and the variance is that of
//! Obuchowski 1997 (Biometrics 53), of which DeLong's is the case of one row each. Folds are
//! averaged; a customer who is tested in several of them (rolling origins) ties those together.

use std::collections::BTreeMap;

use super::{Doubt, Paired, PairedFold, mean};
use crate::tune::normal;

/// The normal law's 97.5 % quantile.
const Z_95: f64 = 1.959_963_984_540_054;

/// Of one fold.
struct Difference {
    /// AUROC of A minus that of B.
    value: f64,
    /// `None` unless both classes have two customers.
    variance: Option<f64>,
    /// What each customer adds to the difference; they sum to zero.
    influence: Vec<(u32, f64)>,
}

/// DeLong's test on the mean over folds.
pub fn doubt(paired: &Paired) -> Doubt {
    let folds: Vec<Difference> = paired.folds.iter().filter_map(of_fold).collect();
    let value = mean(folds.iter().map(|fold| fold.value));
    let error = variance_of_mean(&folds).map(f64::sqrt);
    let test = value.zip(error);
    Doubt {
        method: "DeLong",
        standard_error: error,
        interval: test.map(|(d, error)| [d - Z_95 * error, d + Z_95 * error]),
        p: test.and_then(|(d, error)| two_sided(d, error)),
        draws: None,
    }
}

/// No difference is no evidence, whatever its error; a difference without an error has no test.
fn two_sided(difference: f64, error: f64) -> Option<f64> {
    match (difference, error) {
        (0.0, _) => Some(1.0),
        (_, 0.0) => None,
        _ => Some(2.0 * normal::cdf(-(difference / error).abs())),
    }
}

/// Var of the mean of the folds: their variances, and the products of a customer's influences in
/// two different folds.
fn variance_of_mean(folds: &[Difference]) -> Option<f64> {
    if folds.is_empty() {
        return None;
    }
    // Ordered, so that the sum has the same bits in every run.
    let mut by_customer: BTreeMap<u32, [f64; 2]> = BTreeMap::new();
    for &(customer, influence) in folds.iter().flat_map(|fold| &fold.influence) {
        let sums = by_customer.entry(customer).or_default();
        sums[0] += influence;
        sums[1] += influence * influence;
    }
    let shared: f64 = match folds.len() {
        1 => 0.0,
        _ => by_customer.values().map(|[sum, squares]| sum * sum - squares).sum(),
    };
    let own = folds.iter().map(|fold| fold.variance).sum::<Option<f64>>()?;
    Some((own + shared).max(0.0) / (folds.len() as f64).powi(2))
}

/// `None` where one class is missing.
fn of_fold(fold: &PairedFold) -> Option<Difference> {
    let positives = fold.labels.iter().filter(|&&label| label).count() as f64;
    let negatives = fold.labels.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let placed = fold.risks.each_ref().map(|risks| placements(&fold.labels, risks));
    let differences = placed[0].iter().zip(&placed[1]).map(|(a, b)| a - b);
    let differences: Vec<f64> = differences.collect();
    let of_positives = differences.iter().zip(&fold.labels).filter(|(_, label)| **label);
    let value = of_positives.map(|(d, _)| d).sum::<f64>() / positives;

    // A customer's placement values beside their mean, by label, and whether it has any.
    let mut customers: BTreeMap<u32, [Option<f64>; 2]> = BTreeMap::new();
    for ((d, label), customer) in differences.iter().zip(&fold.labels).zip(&fold.customers) {
        let class = &mut customers.entry(*customer).or_default()[usize::from(!*label)];
        *class = Some(class.unwrap_or(0.0) + d - value);
    }
    let squares = |class: usize| {
        let sums: Vec<f64> = customers.values().filter_map(|sums| sums[class]).collect();
        let count = sums.len() as f64;
        (count > 1.0).then(|| count / (count - 1.0) * sums.iter().map(|x| x * x).sum::<f64>())
    };
    let both = customers.values().filter_map(|[a, b]| a.zip(*b)).map(|(a, b)| a * b);
    let count = customers.len() as f64;
    let products = count / (count - 1.0) * both.sum::<f64>();
    let variance = squares(0).zip(squares(1)).map(|(of_positives, of_negatives)| {
        of_positives / positives.powi(2)
            + of_negatives / negatives.powi(2)
            + 2.0 * products / (positives * negatives)
    });
    let share =
        |[a, b]: &[Option<f64>; 2]| a.unwrap_or(0.0) / positives + b.unwrap_or(0.0) / negatives;
    let influence = customers.iter().map(|(&customer, sums)| (customer, share(sums))).collect();
    Some(Difference { value, variance, influence })
}

/// Of a positive: the share of negatives of lower risk; of a negative: the share of positives of
/// higher risk. Equal risks count half.
fn placements(labels: &[bool], risks: &[f64]) -> Vec<f64> {
    let all = midranks(risks);
    let of_class = |class: bool| {
        let own: Vec<usize> = (0..labels.len()).filter(|&row| labels[row] == class).collect();
        let risks: Vec<f64> = own.iter().map(|&row| risks[row]).collect();
        (midranks(&risks), own)
    };
    let mut placed = vec![0.0; labels.len()];
    let [(among_positives, positives), (among_negatives, negatives)] = [true, false].map(of_class);
    let (m, n) = (positives.len() as f64, negatives.len() as f64);
    for (&row, rank) in positives.iter().zip(among_positives) {
        placed[row] = (all[row] - rank) / n;
    }
    for (&row, rank) in negatives.iter().zip(among_negatives) {
        placed[row] = 1.0 - (all[row] - rank) / m;
    }
    placed
}

/// Ranks from 1; equal values share the mean of theirs.
fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = below as f64 + (tied.len() + 1) as f64 / 2.0;
        tied.iter().for_each(|&at| ranks[at] = rank);
        below += tied.len();
    }
    ranks
}
