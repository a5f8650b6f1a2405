//! How good risk curves are, where some customers are seen for a part of the horizon only.
//!
//! A row's follow-up is the number of months that were seen of it, to the churn or to the end of
//! what is known. Whoever is seen stands for those like him who are not: his weight is one over the
//! probability of having been seen so long (IPCW), which is estimated by Kaplan and Meier with
//! churn and censoring exchanged. Censoring after k months happens behind the churn of month k and
//! before that of month k + 1.
//!
//! The numbers are those of scikit-survival (`brier_score`, `integrated_brier_score`,
//! `cumulative_dynamic_auc`) with time k for a churn in month k and k + 1/2 for censoring after it.

use serde::{Deserialize, Serialize};

use crate::panel::FollowUp;

/// Bins of the calibration error, as in [`metrics`](super::metrics).
const BINS: usize = 15;

/// Risk curves and what happened.
#[derive(Debug, Clone, Copy)]
pub struct Curves<'a> {
    pub follow_ups: &'a [FollowUp],
    /// Risk of churn up to each month, `[rows, months]`.
    pub risks: &'a [f64],
    pub months: usize,
}

/// How good the curves of one model are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurveMetrics {
    pub rows: u64,
    /// Rows without churn that were not seen for the whole horizon.
    pub censored: u64,
    /// The Brier score over the months by the trapezoid rule, per month (Graf et al. 1999).
    pub integrated_brier: f64,
    /// The same with the Kaplan-Meier curve of these very rows as everybody's.
    pub integrated_brier_kaplan_meier: f64,
    /// Mean of the months' AUROC, weighted with the fall of the Kaplan-Meier curve.
    pub auroc: Option<f64>,
    /// The largest of the months.
    pub calibration_error_max: f64,
    pub months: Vec<CurveMonth>,
}

/// One month of the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurveMonth {
    /// From 1.
    pub month: u32,
    /// Rows that were seen in the month and still there before it.
    pub at_risk: u64,
    /// Share of them that churned in it, and the mean of their predicted hazards.
    pub hazard: f64,
    pub hazard_predicted: f64,
    /// Kaplan-Meier estimate of the share that stays beyond the month, and the mean prediction.
    pub survival: f64,
    pub survival_predicted: f64,
    /// Of the risk up to the month, censoring weighted.
    pub brier: f64,
    pub brier_kaplan_meier: f64,
    /// Who has churned by the month against who has not (cumulative/dynamic, Uno et al. 2007); ties
    /// 1/2. None while nobody has churned, or where everybody has.
    pub auroc: Option<f64>,
    /// Mean over rows of |Kaplan-Meier risk - mean predicted risk| up to the month, in 15 bins of
    /// equal size by predicted risk.
    pub calibration_error: f64,
}

/// Over the months in which somebody was seen and still there; None where these are not two.
///
/// # Panics
/// If there is not one curve per row.
pub fn curve_metrics(curves: &Curves) -> Option<CurveMetrics> {
    let Curves { follow_ups, risks, months: width } = *curves;
    assert_eq!(risks.len(), follow_ups.len() * width, "one curve per row");
    let longest = follow_ups.iter().map(|f| usize::from(f.months)).max().unwrap_or(0);
    let months = longest.min(width);
    if months < 2 {
        return None;
    }
    let survival = kaplan_meier(follow_ups, months);
    let seen = seen(follow_ups, months);
    let month = |at: usize| {
        let risk = |row: usize| risks[row * width + at];
        let up_to = UpTo { follow_ups, month: at + 1, seen: &seen };
        let at_risk = || {
            let rows = follow_ups.iter().enumerate();
            rows.filter(move |(_, f)| usize::from(f.months) > at)
        };
        let count = at_risk().count();
        let churned = at_risk().filter(|(_, f)| f.churned && usize::from(f.months) == at + 1);
        let hazard = |row: usize| match at {
            0 => risk(row),
            _ => 1.0 - (1.0 - risk(row)) / (1.0 - risks[row * width + at - 1]).max(f64::EPSILON),
        };
        let all = follow_ups.len();
        CurveMonth {
            month: at as u32 + 1,
            at_risk: count as u64,
            hazard: churned.count() as f64 / count as f64,
            hazard_predicted: at_risk().map(|(row, _)| hazard(row)).sum::<f64>() / count as f64,
            survival: survival[at],
            survival_predicted: (0..all).map(|row| 1.0 - risk(row)).sum::<f64>() / all as f64,
            brier: up_to.brier(risk),
            brier_kaplan_meier: up_to.brier(|_| 1.0 - survival[at]),
            auroc: up_to.auroc(risk),
            calibration_error: calibration_error(follow_ups, at + 1, risk),
        }
    };
    let all: Vec<CurveMonth> = (0..months).map(month).collect();
    let is_censored = |f: &&FollowUp| !f.churned && usize::from(f.months) < months;
    Some(CurveMetrics {
        rows: follow_ups.len() as u64,
        censored: follow_ups.iter().filter(is_censored).count() as u64,
        integrated_brier: trapezoid(all.iter().map(|m| m.brier)),
        integrated_brier_kaplan_meier: trapezoid(all.iter().map(|m| m.brier_kaplan_meier)),
        auroc: mean_auroc(&all),
        calibration_error_max: all.iter().map(|m| m.calibration_error).fold(0.0, f64::max),
        months: all,
    })
}

/// Months of the horizon that begin with the customer still there, in expectation: the restricted
/// mean E[min(T, K)] of the month T of the churn, from the risks up to months 1 to K.
pub fn months_expected(curve: &[f64]) -> f64 {
    let Some((_, before_last)) = curve.split_last() else { return 0.0 };
    1.0 + before_last.iter().map(|risk| 1.0 - risk).sum::<f64>()
}

/// Probability of staying beyond each of the months (Kaplan and Meier 1958).
pub fn kaplan_meier(follow_ups: &[FollowUp], months: usize) -> Vec<f64> {
    let Counts { at_risk, churned, .. } = Counts::of(follow_ups.iter().copied(), months);
    let mut survival = 1.0;
    let beyond = |(&at_risk, &churned): (&u64, &u64)| {
        if at_risk > 0 {
            survival *= 1.0 - churned as f64 / at_risk as f64;
        }
        survival
    };
    at_risk.iter().zip(&churned).map(beyond).collect()
}

/// Probability of being seen in each of the months, if still there.
fn seen(follow_ups: &[FollowUp], months: usize) -> Vec<f64> {
    let Counts { at_risk, churned, censored } = Counts::of(follow_ups.iter().copied(), months);
    let mut seen = 1.0;
    let of_month = |month: usize| {
        let now = seen;
        let left = at_risk[month] - churned[month];
        if left > 0 {
            seen *= 1.0 - censored[month] as f64 / left as f64;
        }
        now
    };
    (0..months).map(of_month).collect()
}

/// By month: rows that were seen in it, those that churned in it, those not seen any more after it.
struct Counts {
    at_risk: Vec<u64>,
    churned: Vec<u64>,
    censored: Vec<u64>,
}

impl Counts {
    fn of(follow_ups: impl Iterator<Item = FollowUp>, months: usize) -> Self {
        let zeros = vec![0; months];
        let mut counts = Counts { at_risk: zeros.clone(), churned: zeros.clone(), censored: zeros };
        for FollowUp { months: until, churned } in follow_ups {
            let until = usize::from(until);
            counts.at_risk.iter_mut().take(until).for_each(|count| *count += 1);
            let ends = if churned { &mut counts.churned } else { &mut counts.censored };
            if let Some(count) = until.checked_sub(1).and_then(|last| ends.get_mut(last)) {
                *count += 1;
            }
        }
        counts
    }
}

/// What is known by the end of a month.
struct UpTo<'a> {
    follow_ups: &'a [FollowUp],
    /// From 1.
    month: usize,
    seen: &'a [f64],
}

enum Known {
    /// With its weight.
    Churned(f64),
    Stayed,
    Unknown,
}

impl UpTo<'_> {
    fn of(&self, follow_up: FollowUp) -> Known {
        let FollowUp { months, churned } = follow_up;
        match usize::from(months) {
            until if churned && until <= self.month => Known::Churned(1.0 / self.seen[until - 1]),
            until if churned || until >= self.month => Known::Stayed,
            _ => Known::Unknown,
        }
    }

    fn brier(&self, risk: impl Fn(usize) -> f64) -> f64 {
        let stayed = 1.0 / self.seen[self.month - 1];
        let score = |(row, &follow_up): (usize, &FollowUp)| match self.of(follow_up) {
            Known::Churned(weight) => weight * (1.0 - risk(row)).powi(2),
            Known::Stayed => stayed * risk(row).powi(2),
            Known::Unknown => 0.0,
        };
        self.follow_ups.iter().enumerate().map(score).sum::<f64>() / self.follow_ups.len() as f64
    }

    /// Weighted share of (churned, stayed) pairs in which the churned one had the higher risk. The
    /// weight of those who stayed is the same for all and cancels.
    fn auroc(&self, risk: impl Fn(usize) -> f64) -> Option<f64> {
        let mut known: Vec<(f64, f64)> = Vec::with_capacity(self.follow_ups.len());
        for (row, &follow_up) in self.follow_ups.iter().enumerate() {
            match self.of(follow_up) {
                Known::Churned(weight) => known.push((risk(row), weight)),
                Known::Stayed => known.push((risk(row), 0.0)),
                Known::Unknown => {}
            }
        }
        // By weight where risks are equal, so that the sum does not depend on the order of rows.
        known.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let (mut wins, mut cases, mut below) = (0.0, 0.0, 0.0);
        for group in known.chunk_by(|a, b| a.0 == b.0) {
            let weight: f64 = group.iter().map(|(_, weight)| weight).sum();
            let stayed = group.iter().filter(|(_, weight)| *weight == 0.0).count() as f64;
            wins += weight * (below + stayed / 2.0);
            cases += weight;
            below += stayed;
        }
        (cases > 0.0 && below > 0.0).then(|| wins / (cases * below))
    }
}

/// Bins by rising risk; rows of equal risk by their order, which is that of the customers.
fn calibration_error(follow_ups: &[FollowUp], month: usize, risk: impl Fn(usize) -> f64) -> f64 {
    let mut order: Vec<(f64, usize)> = (0..follow_ups.len()).map(|row| (risk(row), row)).collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let (rows, mut from, mut sum) = (order.len(), 0, 0.0);
    for bin in 0..BINS {
        let size = rows / BINS + usize::from(bin < rows % BINS);
        let members = &order[from..from + size];
        from += size;
        let seen: Vec<FollowUp> = members.iter().map(|&(_, row)| follow_ups[row]).collect();
        let mean = members.iter().map(|(risk, _)| risk).sum::<f64>() / size.max(1) as f64;
        let observed = 1.0 - kaplan_meier(&seen, month)[month - 1];
        sum += size as f64 * (observed - mean).abs();
    }
    sum / rows as f64
}

/// Over months 1 to K, divided by their distance K - 1.
fn trapezoid(values: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let steps = values.len() - 1;
    let pairs = values.clone().zip(values.skip(1));
    pairs.map(|(a, b)| (a + b) / 2.0).sum::<f64>() / steps as f64
}

fn mean_auroc(months: &[CurveMonth]) -> Option<f64> {
    let (mut sum, mut fallen, mut before) = (0.0, 0.0, 1.0);
    for month in months {
        if let Some(auroc) = month.auroc {
            sum += auroc * (before - month.survival);
            fallen += before - month.survival;
            before = month.survival;
        }
    }
    (fallen > 0.0).then(|| sum / fallen)
}

#[cfg(test)]
mod tests;
