//! How much of what each column shows of churn, taken alone, is more than chance.

use super::encode::{Encoder, snapshots_block};
use crate::panel::Snapshots;
use crate::seeds::Seeds;

/// Train rows that are looked at. With so many a column whose halves churn at 4.5 and 5.5 % gets
/// 0.9, and 500 columns take 40 MB.
const ROWS_MAX: usize = 20_000;

/// Groups of equal size that the values of a number are put in, unless it has as few values.
const GROUPS: usize = 16;

/// Of each number that the MLP sees of a snapshot, then of each category, from 0 (no more than
/// chance) to 1: the factor by which a James-Stein estimator with a positive part (Efron and Morris
/// 1973, doi:10.2307/2284155) shrinks the churn rates of the column's groups to their mean.
pub fn relevance(encoder: &Encoder, snapshots: &Snapshots, train: &[u32]) -> Vec<f32> {
    // Which rows these are depends only on how many there are.
    let drawn = Seeds::new(train.len() as u64).drawn("relevance sample", ROWS_MAX, train.len());
    let chosen: Vec<u32> = drawn.iter().map(|&i| train[i as usize]).collect();
    let churned: Vec<bool> = chosen.iter().map(|&s| snapshots.churned[s as usize]).collect();
    let numbers = snapshots_block(encoder, snapshots, &chosen);
    let categories = encoder.fitted().category_codes().len();
    let mut codes = vec![0; chosen.len() * categories];
    for (out, &s) in codes.chunks_mut(categories.max(1)).zip(&chosen) {
        encoder.codes(snapshots.customers[s as usize] as usize, out);
    }
    let of_number = |column: usize| {
        let values = numbers.values.iter().skip(column).step_by(numbers.width.max(1));
        shrinkage(&groups(&values.copied().collect::<Vec<_>>()), &churned)
    };
    let of_category = |column: usize| {
        let codes = codes.iter().skip(column).step_by(categories).map(|&code| code as usize);
        shrinkage(&codes.collect::<Vec<_>>(), &churned)
    };
    (0..numbers.width).map(of_number).chain((0..categories).map(of_category)).collect()
}

/// The group of each value; equal values share one.
fn groups(values: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let runs: Vec<&[usize]> = order.chunk_by(|&a, &b| values[a] == values[b]).collect();
    let rows_min = if runs.len() <= GROUPS { 1 } else { values.len().div_ceil(GROUPS) };
    let (mut found, mut group, mut rows) = (vec![0; values.len()], 0, 0);
    for run in runs {
        run.iter().for_each(|&row| found[row] = group);
        rows += run.len();
        if rows >= rows_min {
            (group, rows) = (group + 1, 0);
        }
    }
    found
}

/// 1 - (degrees of freedom / chi-squared of the groups' rates), at least 0.
fn shrinkage(groups: &[usize], churned: &[bool]) -> f32 {
    let mut counts = vec![(0.0, 0.0); groups.iter().max().map_or(0, |&most| most + 1)];
    for (&group, &churned) in groups.iter().zip(churned) {
        counts[group].0 += 1.0;
        counts[group].1 += f64::from(u8::from(churned));
    }
    counts.retain(|&(rows, _)| rows > 0.0);
    let rate = counts.iter().map(|count| count.1).sum::<f64>() / churned.len().max(1) as f64;
    let variance = rate * (1.0 - rate);
    let squared = |&(rows, churned): &(f64, f64)| (churned - rows * rate).powi(2) / rows;
    let spread = counts.iter().map(squared).sum::<f64>();
    if counts.len() < 2 || variance == 0.0 {
        return 0.0;
    }
    let chance = (counts.len() - 1) as f64 * variance;
    if spread > chance { (1.0 - chance / spread) as f32 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(groups: &[usize], churned: &[u8], expected: f32) {
        let churned: Vec<bool> = churned.iter().map(|&churned| churned == 1).collect();
        let found = shrinkage(groups, &churned);
        assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
    }

    #[test]
    fn shrinkage_is_one_less_freedom_over_chi_squared() {
        // Chi-squared is 4 of 1 degree of freedom where two of two churn and none of two.
        check(&[0, 0, 1, 1], &[1, 1, 0, 0], 0.75);
        check(&[0, 0, 3, 3], &[1, 1, 0, 0], 0.75);
        check(&[0, 0, 1, 1], &[1, 0, 1, 0], 0.0);
        check(&[0, 0, 0, 0], &[1, 0, 1, 0], 0.0);
        check(&[0, 1, 0, 1], &[1, 1, 1, 1], 0.0);
        check(&[], &[], 0.0);
    }

    #[test]
    fn equal_values_share_a_group() {
        assert_eq!(groups(&[3.0, 1.0, 3.0, 2.0]), [2, 0, 2, 1]);
        assert!(groups(&[]).is_empty());
        let many: Vec<f32> = (0..1000).map(|i| (i / 2) as f32).collect();
        let found = groups(&many);
        assert!(found.chunks(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(found.last(), Some(&(GROUPS - 1)));
    }
}
