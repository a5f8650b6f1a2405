//! The curves behind a report: ROC, precision-recall, lift and reliability.
//!
//! Every function takes labels (true = churned) and risks (any increasing score; a probability for
//! [`calibration`]) of the same snapshots, does not depend on their order, and treats snapshots of
//! equal risk as one threshold. The answer is empty where the curve is not defined: no snapshot,
//! one class only, or a risk that is not a number. Columns of different length are a panic.

/// A curve keeps at most this many points: more than a plot has pixels to show.
pub const POINTS_MAX: usize = 512;

/// Some snapshots of neighbouring risk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CalibrationBin {
    /// Mean predicted risk.
    pub mean_risk: f64,
    /// Share that did churn.
    pub rate: f64,
    /// Snapshots in the bin.
    pub rows: u64,
}

/// (false positive rate, true positive rate) from (0, 0) to (1, 1), the highest risks first.
pub fn roc(labels: &[bool], risks: &[f64]) -> Vec<(f64, f64)> {
    let Some(ranked) = Ranked::new(labels, risks) else { return Vec::new() };
    let (churners, stayers) = (ranked.churners(), ranked.rows() - ranked.churners());
    let mut points = vec![(0.0, 0.0)];
    points.extend(
        ranked.steps.iter().map(|step| {
            (ratio(step.rows - step.churners, stayers), ratio(step.churners, churners))
        }),
    );
    // Steep and flat parts count alike along fpr + tpr.
    thin(points, |(fpr, tpr)| (fpr + tpr) / 2.0)
}

/// (recall, precision), the highest risks first. It starts at recall 0 with the precision of the
/// highest risk, and ends at (1, churn rate).
pub fn precision_recall(labels: &[bool], risks: &[f64]) -> Vec<(f64, f64)> {
    let Some(ranked) = Ranked::new(labels, risks) else { return Vec::new() };
    let churners = ranked.churners();
    let points = ranked
        .steps
        .iter()
        .map(|step| (ratio(step.churners, churners), ratio(step.churners, step.rows)));
    thin(from_zero(points), |(recall, _)| recall)
}

/// (share contacted, lift): the churn rate among the contacted over that of all, highest risks
/// first. It starts at share 0 with the lift of the highest risk, and ends at (1, 1).
pub fn lift(labels: &[bool], risks: &[f64]) -> Vec<(f64, f64)> {
    let Some(ranked) = Ranked::new(labels, risks) else { return Vec::new() };
    let rate = ratio(ranked.churners(), ranked.rows());
    let points = ranked
        .steps
        .iter()
        .map(|step| (ratio(step.rows, ranked.rows()), ratio(step.churners, step.rows) / rate));
    thin(from_zero(points), |(share, _)| share)
}

/// At most `bins` bins of equal size by increasing risk. Snapshots of equal risk share a bin, so
/// that bins can be larger than others, and fewer than asked for.
pub fn calibration(labels: &[bool], risks: &[f64], bins: usize) -> Vec<CalibrationBin> {
    let Some(ranked) = Ranked::new(labels, risks) else { return Vec::new() };
    let (rows, bins) = (ranked.rows(), bins.max(1));
    let mut out = Vec::with_capacity(bins);
    let mut open = (0.0, 0usize, 0usize);
    let mut below = 0;
    for group in ranked.groups_ascending() {
        open.0 += group.risk * group.rows as f64;
        open.1 += group.churners;
        open.2 += group.rows;
        below += group.rows;
        // Bin k ends at the first group that reaches k / bins of the rows.
        let before = (below - group.rows) * bins / rows;
        if below * bins / rows > before {
            let (risk_sum, churners, size) = std::mem::take(&mut open);
            let mean_risk = risk_sum / size as f64;
            let rate = ratio(churners, size);
            out.push(CalibrationBin { mean_risk, rate, rows: size as u64 });
        }
    }
    out
}

/// Counts of all snapshots at or above one risk.
struct Step {
    risk: f64,
    churners: usize,
    rows: usize,
}

/// Cumulative counts at each distinct risk, the highest first.
struct Ranked {
    steps: Vec<Step>,
}

impl Ranked {
    /// `None` where no curve is defined.
    fn new(labels: &[bool], risks: &[f64]) -> Option<Self> {
        assert_eq!(labels.len(), risks.len(), "one risk per label");
        if risks.iter().any(|risk| risk.is_nan()) {
            return None;
        }
        let mut order: Vec<usize> = (0..labels.len()).collect();
        order.sort_unstable_by(|&a, &b| risks[b].total_cmp(&risks[a]));
        let mut steps: Vec<Step> = Vec::new();
        for (above, &row) in order.iter().enumerate() {
            let churners = steps.last().map_or(0, |step| step.churners) + usize::from(labels[row]);
            let step = Step { risk: risks[row], churners, rows: above + 1 };
            match steps.last_mut() {
                Some(last) if last.risk == step.risk => *last = step,
                _ => steps.push(step),
            }
        }
        let both = steps.last().is_some_and(|all| 0 < all.churners && all.churners < all.rows);
        both.then_some(Self { steps })
    }

    fn rows(&self) -> usize {
        self.steps.last().map_or(0, |step| step.rows)
    }

    fn churners(&self) -> usize {
        self.steps.last().map_or(0, |step| step.churners)
    }

    /// The distinct risks with their own counts, the lowest first.
    fn groups_ascending(&self) -> impl Iterator<Item = Step> {
        (0..self.steps.len()).rev().map(|i| {
            let step = &self.steps[i];
            let (churners, rows) = match i.checked_sub(1).map(|above| &self.steps[above]) {
                Some(above) => (step.churners - above.churners, step.rows - above.rows),
                None => (step.churners, step.rows),
            };
            Step { risk: step.risk, churners, rows }
        })
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

/// Puts a point at x = 0 before the curve: inside the group of highest risk, any part drawn at
/// random has the group's rate.
fn from_zero(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let points: Vec<_> = points.collect();
    points.first().map(|&(_, y)| (0.0, y)).into_iter().chain(points.iter().copied()).collect()
}

/// Keeps the first point of each of `POINTS_MAX - 1` equal steps of `along`, which must not fall
/// along the curve and lie in 0..=1, and the last point.
fn thin(points: Vec<(f64, f64)>, along: impl Fn((f64, f64)) -> f64) -> Vec<(f64, f64)> {
    if points.len() <= POINTS_MAX {
        return points;
    }
    let steps = POINTS_MAX - 1;
    let step_of = |point| ((along(point) * steps as f64) as usize).min(steps - 1);
    let last = points.len() - 1;
    let keep = |i: usize| i == 0 || i == last || step_of(points[i]) != step_of(points[i - 1]);
    (0..points.len()).filter(|&i| keep(i)).map(|i| points[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // By hand: risks 0.9+ 0.8- (0.5+ 0.5-) 0.1-, two churners of five.
    const LABELS: [bool; 5] = [true, false, true, false, false];
    const RISKS: [f64; 5] = [0.9, 0.8, 0.5, 0.5, 0.1];

    #[track_caller]
    fn check(got: &[(f64, f64)], want: &[(f64, f64)]) {
        // Sums and ratios of small integers: rounding only.
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        let same = got.iter().zip(want).all(|(g, w)| close(g.0, w.0) && close(g.1, w.1));
        assert!(same && got.len() == want.len(), "{got:?} instead of {want:?}");
    }

    /// `rows` pseudo-random snapshots (Weyl sequence) that churn more often at high risk.
    fn sample(rows: usize) -> (Vec<bool>, Vec<f64>) {
        let draw = |i: usize, step: f64| (i as f64 * step).fract();
        let risks: Vec<f64> = (0..rows).map(|i| draw(i, 0.618_033_988_749_894_9)).collect();
        let labels = (0..rows).map(|i| draw(i, 0.754_877_666_246_692_7) < risks[i]).collect();
        (labels, risks)
    }

    #[test]
    fn curves_of_five_snapshots() {
        let third = 1.0 / 3.0;
        let want = [(0.0, 0.0), (0.0, 0.5), (third, 0.5), (2.0 * third, 1.0), (1.0, 1.0)];
        check(&roc(&LABELS, &RISKS), &want);
        let want = [(0.0, 1.0), (0.5, 1.0), (0.5, 0.5), (1.0, 0.5), (1.0, 0.4)];
        check(&precision_recall(&LABELS, &RISKS), &want);
        let want = [(0.0, 2.5), (0.2, 2.5), (0.4, 1.25), (0.8, 1.25), (1.0, 1.0)];
        check(&lift(&LABELS, &RISKS), &want);
    }

    #[test]
    fn calibration_keeps_equal_risks_together() {
        let bins = |bins| {
            let list = calibration(&LABELS, &RISKS, bins);
            list.iter().map(|b| (b.mean_risk, b.rate, b.rows)).collect::<Vec<_>>()
        };
        let (low, high) = ((1.1 / 3.0, 1.0 / 3.0, 3), ((0.9 + 0.8) / 2.0, 0.5, 2));
        for (got, want) in bins(2).iter().zip([low, high]) {
            assert!((got.0 - want.0).abs() < 1e-12 && (got.1 - want.1).abs() < 1e-12, "{got:?}");
            assert_eq!(got.2, want.2);
        }
        assert_eq!(bins(1).len(), 1);
        assert_eq!(bins(0).len(), 1);
        // Four distinct risks cannot fill more than four bins.
        assert_eq!(bins(50).iter().map(|b| b.2).collect::<Vec<_>>(), [1, 2, 1, 1]);
        let (labels, risks) = sample(1000);
        let sizes: Vec<u64> = calibration(&labels, &risks, 10).iter().map(|b| b.rows).collect();
        assert_eq!(sizes, [100; 10]);
    }

    #[test]
    fn undefined_curves_are_empty() {
        let nan = [0.1, f64::NAN];
        let cases: [(&[bool], &[f64]); 4] =
            [(&[], &[]), (&[true, true], &[0.1, 0.2]), (&[false], &[0.3]), (&[true, false], &nan)];
        for (labels, risks) in cases {
            assert!(roc(labels, risks).is_empty(), "{labels:?}");
            assert!(precision_recall(labels, risks).is_empty(), "{labels:?}");
            assert!(lift(labels, risks).is_empty(), "{labels:?}");
            assert!(calibration(labels, risks, 10).is_empty(), "{labels:?}");
        }
    }

    #[test]
    fn the_order_of_rows_does_not_matter() {
        let (labels, mut risks) = sample(3000);
        // Ties across classes are where an order could leak in.
        risks.iter_mut().for_each(|risk| *risk = (*risk * 50.0).round() / 50.0);
        let back = |n: usize| (0..n).rev();
        let reversed_labels: Vec<bool> = back(3000).map(|i| labels[i]).collect();
        let reversed_risks: Vec<f64> = back(3000).map(|i| risks[i]).collect();
        assert_eq!(roc(&labels, &risks), roc(&reversed_labels, &reversed_risks));
        assert_eq!(lift(&labels, &risks), lift(&reversed_labels, &reversed_risks));
        let reversed = precision_recall(&reversed_labels, &reversed_risks);
        assert_eq!(precision_recall(&labels, &risks), reversed);
        let reversed = calibration(&reversed_labels, &reversed_risks, 10);
        assert_eq!(calibration(&labels, &risks, 10), reversed);
    }

    #[test]
    fn long_curves_are_thinned_and_keep_their_area() {
        let (labels, risks) = sample(50_000);
        let area = |points: &[(f64, f64)]| -> f64 {
            points.windows(2).map(|w| (w[1].0 - w[0].0) * (w[1].1 + w[0].1) / 2.0).sum()
        };
        let curve = roc(&labels, &risks);
        assert!(curve.len() > POINTS_MAX / 2 && curve.len() <= POINTS_MAX, "{}", curve.len());
        assert_eq!((curve[0], curve[curve.len() - 1]), ((0.0, 0.0), (1.0, 1.0)));
        // P(churn) = risk, risks even on 0..1: densities 2r and 2(1 - r), so
        // AUROC = E[F_stay(r_churn)] = integral of (2r - r^2) 2r = 5/6. 50,000 rows leave about
        // 0.002 of noise, 511 chords of a smooth curve less than 1e-4.
        assert!((area(&curve) - 5.0 / 6.0).abs() < 5e-3, "{}", area(&curve));
        for curve in [precision_recall(&labels, &risks), lift(&labels, &risks)] {
            assert!(curve.len() > POINTS_MAX / 2 && curve.len() <= POINTS_MAX, "{}", curve.len());
            assert_eq!((curve[0].0, curve[curve.len() - 1].0), (0.0, 1.0));
        }
    }
}
