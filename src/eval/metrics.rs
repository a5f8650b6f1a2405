//! How good a column of risks is, given what happened.
//!
//! Every number is computed from tie groups, the rows that share one risk, in ascending order of
//! risk. Rows of a group are alike to the model, so a border that cuts a group takes its positives
//! pro rata. No number therefore depends on the order of the rows, not even in its last bit.

use serde::{Deserialize, Deserializer, Serialize};

/// Risks are kept this far from 0 and 1 in the log loss, as in the peers' `run_peers.py`: one sure
/// and wrong row costs 16 nats, not infinity.
const RISK_MIN: f64 = 1e-7;

/// Bins of the calibration error; equal mass, so that each holds enough rows where risks crowd.
const ECE_BINS: u64 = 15;

/// Metrics of one model on one split. `None` is a number that these rows do not define: a ranking
/// measure with only one class, precision and recall with nothing to divide by.
///
/// With no rows at all the means (`positive_rate`, `log_loss`, `brier`, `ece`) are NaN, written
/// to JSON as null and read back as NaN.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub rows: u64,
    /// Share of rows with the label set.
    #[serde(deserialize_with = "nan_if_null")]
    pub positive_rate: f64,
    /// P(risk of a positive > risk of a negative), ties 1/2.
    pub auroc: Option<f64>,
    /// Sum over thresholds of precision times the gain in recall, no interpolation
    /// (sklearn `average_precision_score`).
    pub average_precision: Option<f64>,
    /// Mean of -ln(risk of what happened), in nats.
    #[serde(deserialize_with = "nan_if_null")]
    pub log_loss: f64,
    /// Mean squared difference of risk and label.
    #[serde(deserialize_with = "nan_if_null")]
    pub brier: f64,
    /// Expected calibration error: mean over rows of |mean label - mean risk| of the row's bin, in
    /// 15 bins of equal mass. Where a tie straddles two bins the peers' `run_peers.py` goes by row
    /// order instead, which can move its number by some 1e-4.
    #[serde(deserialize_with = "nan_if_null")]
    pub ece: f64,
    /// Positive rate among the 5 % of highest risk, over the positive rate of all.
    pub lift_5: Option<f64>,
    pub lift_10: Option<f64>,
    pub lift_20: Option<f64>,
    /// The share of rows that would be contacted.
    pub contact_share: f64,
    /// Positive rate among those contacted.
    pub precision_at_contact: Option<f64>,
    /// Share of all positives that is among those contacted.
    pub recall_at_contact: Option<f64>,
}

/// Metrics of `risks` in 0..=1 against `labels`, row by row.
///
/// The top q of n rows is the max(1, ceil(q n)) rows of highest risk, for the lifts and for
/// `contact_share` alike. A NaN risk ranks highest and makes log loss, Brier and ECE NaN.
/// Costs one sort: O(n log n).
///
/// # Panics
/// If the two columns differ in length.
pub fn metrics(labels: &[bool], risks: &[f64], contact_share: f64) -> Metrics {
    assert_eq!(labels.len(), risks.len(), "one risk per label");
    let ranking = Ranking::new(labels, risks);
    let contacted = ranking.top(contact_share);
    Metrics {
        rows: ranking.rows,
        positive_rate: ranking.positive_rate(),
        auroc: ranking.auroc(),
        average_precision: ranking.average_precision(),
        log_loss: ranking.log_loss(),
        brier: ranking.brier(),
        ece: ranking.ece(),
        lift_5: ranking.lift(0.05),
        lift_10: ranking.lift(0.1),
        lift_20: ranking.lift(0.2),
        contact_share,
        precision_at_contact: (contacted.rows > 0)
            .then(|| contacted.positives / contacted.rows as f64),
        recall_at_contact: (ranking.positives > 0)
            .then(|| contacted.positives / ranking.positives as f64),
    }
}

/// JSON has no NaN; serde_json writes it as null.
fn nan_if_null<'de, D: Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or(f64::NAN))
}

/// What one row adds to the log loss.
pub(super) fn row_log_loss(label: bool, risk: f64) -> f64 {
    let risk = risk.clamp(RISK_MIN, 1.0 - RISK_MIN);
    if label { -risk.ln() } else { -(-risk).ln_1p() }
}

/// The rows that share one risk.
#[derive(Clone, Copy)]
struct Group {
    risk: f64,
    rows: u64,
    positives: u64,
}

/// Tie groups in ascending order of risk.
pub(super) struct Ranking {
    groups: Vec<Group>,
    rows: u64,
    positives: u64,
}

/// The rows of highest risk; positives of a cut tie group count pro rata.
struct Top {
    rows: u64,
    positives: f64,
}

impl Ranking {
    fn new(labels: &[bool], risks: &[f64]) -> Self {
        let mut sorted: Vec<(f64, bool)> =
            risks.iter().copied().zip(labels.iter().copied()).collect();
        sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        Self::of_sorted(sorted.into_iter().map(|(risk, label)| (risk, label, 1)))
    }

    /// From rows in ascending order of risk, each taken so many times.
    pub(super) fn of_sorted(rows: impl Iterator<Item = (f64, bool, u64)>) -> Self {
        let mut ranking = Ranking { groups: Vec::new(), rows: 0, positives: 0 };
        ranking.refill(rows);
        ranking
    }

    /// Like [`Ranking::of_sorted`], in memory that is there.
    pub(super) fn refill(&mut self, rows: impl Iterator<Item = (f64, bool, u64)>) {
        self.groups.clear();
        for (risk, label, times) in rows.filter(|(.., times)| *times > 0) {
            let positives = u64::from(label) * times;
            match self.groups.last_mut() {
                Some(group) if group.risk == risk => {
                    group.rows += times;
                    group.positives += positives;
                }
                _ => self.groups.push(Group { risk, rows: times, positives }),
            }
        }
        self.rows = self.groups.iter().map(|group| group.rows).sum();
        self.positives = self.groups.iter().map(|group| group.positives).sum();
    }

    fn has_both_classes(&self) -> bool {
        self.positives > 0 && self.positives < self.rows
    }

    fn positive_rate(&self) -> f64 {
        self.positives as f64 / self.rows as f64
    }

    /// Mann-Whitney statistic over positives x negatives, counted in halves to stay exact.
    fn auroc(&self) -> Option<f64> {
        if !self.has_both_classes() {
            return None;
        }
        let (mut halves, mut negatives_below) = (0u128, 0u64);
        for group in &self.groups {
            let negatives = group.rows - group.positives;
            halves += u128::from(group.positives) * u128::from(2 * negatives_below + negatives);
            negatives_below += negatives;
        }
        Some(halves as f64 / 2.0 / (self.positives as f64 * negatives_below as f64))
    }

    pub(super) fn average_precision(&self) -> Option<f64> {
        if !self.has_both_classes() {
            return None;
        }
        let (mut rows, mut positives, mut sum) = (0, 0, 0.0);
        for group in self.groups.iter().rev() {
            rows += group.rows;
            positives += group.positives;
            sum += group.positives as f64 * positives as f64 / rows as f64;
        }
        Some(sum / self.positives as f64)
    }

    fn log_loss(&self) -> f64 {
        let loss = |group: &Group| {
            let risk = group.risk.clamp(RISK_MIN, 1.0 - RISK_MIN);
            let negatives = group.rows - group.positives;
            -(group.positives as f64 * risk.ln() + negatives as f64 * (-risk).ln_1p())
        };
        self.groups.iter().map(loss).sum::<f64>() / self.rows as f64
    }

    fn brier(&self) -> f64 {
        let loss = |group: &Group| {
            let (positives, negatives) = (group.positives, group.rows - group.positives);
            positives as f64 * (1.0 - group.risk).powi(2) + negatives as f64 * group.risk.powi(2)
        };
        self.groups.iter().map(loss).sum::<f64>() / self.rows as f64
    }

    /// Bin sizes as numpy's `array_split`: the first rows % 15 bins hold one row more.
    pub(super) fn ece(&self) -> f64 {
        let mut groups = self.groups.iter();
        // The part of the current group that no bin has taken yet.
        let (mut left, mut risk, mut rate) = (0, 0.0, 0.0);
        let mut sum = 0.0;
        for bin in 0..ECE_BINS {
            let mut room = self.rows / ECE_BINS + u64::from(bin < self.rows % ECE_BINS);
            let (mut risks, mut positives) = (0.0, 0.0);
            while room > 0 {
                if left == 0 {
                    let group = groups.next().expect("bins hold as many rows as groups");
                    left = group.rows;
                    risk = group.risk;
                    rate = group.positives as f64 / group.rows as f64;
                }
                let taken = room.min(left);
                risks += taken as f64 * risk;
                positives += taken as f64 * rate;
                left -= taken;
                room -= taken;
            }
            sum += f64::abs(positives - risks);
        }
        sum / self.rows as f64
    }

    fn top(&self, share: f64) -> Top {
        let rows = ((share * self.rows as f64).ceil() as u64).max(1).min(self.rows);
        let (mut left, mut positives) = (rows, 0.0);
        for group in self.groups.iter().rev() {
            let taken = left.min(group.rows);
            positives += group.positives as f64 * taken as f64 / group.rows as f64;
            left -= taken;
            if left == 0 {
                break;
            }
        }
        Top { rows, positives }
    }

    pub(super) fn lift(&self, share: f64) -> Option<f64> {
        let top = self.top(share);
        self.has_both_classes().then(|| top.positives / top.rows as f64 / self.positive_rate())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        labels: Vec<u8>,
        risks: Vec<f64>,
        contact_share: f64,
        expected: Metrics,
    }

    fn cases() -> Vec<Case> {
        serde_json::from_str(include_str!("golden.json")).expect("the golden file is ours")
    }

    fn numbers(m: &Metrics) -> [(&'static str, Option<f64>); 13] {
        [
            ("rows", Some(m.rows as f64)),
            ("positive_rate", Some(m.positive_rate)),
            ("auroc", m.auroc),
            ("average_precision", m.average_precision),
            ("log_loss", Some(m.log_loss)),
            ("brier", Some(m.brier)),
            ("ece", Some(m.ece)),
            ("lift_5", m.lift_5),
            ("lift_10", m.lift_10),
            ("lift_20", m.lift_20),
            ("contact_share", Some(m.contact_share)),
            ("precision_at_contact", m.precision_at_contact),
            ("recall_at_contact", m.recall_at_contact),
        ]
    }

    /// Sums of at most a few hundred terms of size 1 to 16: f64 leaves about 1e-13.
    #[track_caller]
    fn check(case: &Case, got: &Metrics) {
        for ((what, got), (_, expected)) in numbers(got).into_iter().zip(numbers(&case.expected)) {
            match (got, expected) {
                (Some(got), Some(expected)) => assert!(
                    (got - expected).abs() <= 1e-9,
                    "{}: {what} is {got}, sklearn says {expected}",
                    case.name
                ),
                _ => assert_eq!(got, expected, "{}: {what}", case.name),
            }
        }
    }

    #[test]
    fn sklearn_and_the_peers_agree() {
        let cases = cases();
        assert!(cases.len() >= 10);
        for case in &cases {
            let labels: Vec<bool> = case.labels.iter().map(|&y| y == 1).collect();
            check(case, &metrics(&labels, &case.risks, case.contact_share));
        }
    }

    #[test]
    fn the_order_of_rows_changes_no_bit() {
        for case in &cases() {
            let labels: Vec<bool> = case.labels.iter().map(|&y| y == 1).collect();
            let ours = metrics(&labels, &case.risks, case.contact_share);
            // 7919 is prime and no case's length: i -> 7919 i mod n is a permutation.
            let n = labels.len();
            let order: Vec<usize> = (0..n).map(|i| i * 7919 % n).collect();
            let labels: Vec<bool> = order.iter().map(|&i| labels[i]).collect();
            let risks: Vec<f64> = order.iter().map(|&i| case.risks[i]).collect();
            assert_eq!(ours, metrics(&labels, &risks, case.contact_share), "{}", case.name);
        }
    }

    #[test]
    fn no_rows_is_nan_and_none_and_survives_json() {
        let none = metrics(&[], &[], 0.1);
        assert_eq!((none.rows, none.auroc, none.lift_10), (0, None, None));
        assert_eq!((none.precision_at_contact, none.recall_at_contact), (None, None));
        let text = serde_json::to_string(&none).expect("plain numbers");
        let back: Metrics = serde_json::from_str(&text).expect("null reads as NaN");
        assert!(none.log_loss.is_nan() && back.log_loss.is_nan() && back.ece.is_nan());
    }

    #[test]
    fn a_nan_risk_is_seen() {
        let got = metrics(&[true, false, true], &[0.2, f64::NAN, 0.4], 0.5);
        assert!(got.log_loss.is_nan() && got.brier.is_nan() && got.ece.is_nan());
    }
}
