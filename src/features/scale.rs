//! One raw number to the network's range: logarithm, scaling, clip, missing indicator. Every step
//! is a few element-wise operations, so that an ONNX graph can hold it.

use serde::{Deserialize, Serialize};

use crate::config::effort::BINS_MAX;
use crate::config::model::Scaling;

/// Standard deviations (or quartile ranges) at which the smooth clip begins to bite (RealMLP).
pub const CLIP: f32 = 3.0;

/// Points of the quantile map.
const QUANTILES: usize = 64;

/// How one number is mapped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedNumber {
    pub name: String,
    /// Take sign(x) log(1 + |x|) first.
    pub log: bool,
    pub map: Map,
    /// Train rows held missing values: a second column says where.
    pub indicator: bool,
    /// Borders of the bins of its scaled values, rising; empty for one with two values or fewer.
    #[serde(default)]
    pub borders: Vec<f32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Map {
    /// (x - center) / scale.
    Standard { center: f32, scale: f32 },
    /// z = (x - center) / scale, then z / sqrt(1 + (z / 3)^2).
    Robust { center: f32, scale: f32 },
    /// Linear between `points`, to the normal scores of their ranks.
    Quantile { points: Vec<f32>, scores: Vec<f32> },
}

impl FittedNumber {
    /// Learns a map from the train values of a raw number; NaN is missing. Their order does not
    /// matter.
    pub fn fit(name: String, values: &mut Vec<f32>, scaling: Scaling, log_above: f64) -> Self {
        let rows = values.len();
        values.retain(|v| !v.is_nan());
        let indicator = values.len() < rows;
        values.sort_by(f32::total_cmp);
        let log = skewness(values).abs() > log_above;
        if log {
            values.iter_mut().for_each(|v| *v = signed_log(*v)); // Monotone: stays sorted.
        }
        let map = Map::fit(values, scaling);
        let borders = borders(values, &map);
        FittedNumber { name, log, map, indicator, borders }
    }

    /// What is wrong with one that comes from elsewhere, if anything is.
    pub(super) fn fault(&self) -> Option<String> {
        let rise = |values: &[f32]| {
            values.iter().all(|x| x.is_finite()) && values.is_sorted_by(|a, b| a < b)
        };
        let sound = match &self.map {
            Map::Standard { center, scale } | Map::Robust { center, scale } => {
                center.is_finite() && scale.is_finite() && *scale > 0.0
            }
            Map::Quantile { points, scores } => {
                points.len() == scores.len() && rise(points) && rise(scores)
            }
        };
        (!sound).then(|| format!("`{}` cannot be scaled as it says", self.name))
    }

    /// Columns that it fills.
    pub fn width(&self) -> usize {
        1 + usize::from(self.indicator)
    }

    /// The scaled value. Missing becomes 0, the centre of the train values.
    pub fn apply(&self, raw: f32) -> f32 {
        if raw.is_nan() {
            return 0.0;
        }
        self.map.apply(if self.log { signed_log(raw) } else { raw })
    }
}

impl Map {
    fn fit(sorted: &[f32], scaling: Scaling) -> Map {
        match scaling {
            Scaling::Standard => {
                let (center, scale) = moments(sorted);
                Map::Standard { center, scale: usable(scale) }
            }
            Scaling::Robust => {
                let center = quantile(sorted, 0.5);
                let spread = quantile(sorted, 0.75) - quantile(sorted, 0.25);
                // Half of the values equal: the full range is the next best measure of spread,
                // halved as in RealMLP's preprocessing.
                let scale = if spread > 0.0 {
                    spread
                } else {
                    (quantile(sorted, 1.0) - quantile(sorted, 0.0)) / 2.0
                };
                Map::Robust { center, scale: usable(scale) }
            }
            Scaling::Quantile => {
                let rank = |i: usize| (i as f64 + 0.5) / QUANTILES as f64;
                let mut points: Vec<f32> = Vec::new();
                let mut scores: Vec<f32> = Vec::new();
                for i in 0..QUANTILES {
                    let point = quantile(sorted, rank(i));
                    if points.last().is_none_or(|last| point > *last) {
                        points.push(point);
                        scores.push(normal_quantile(rank(i)) as f32);
                    }
                }
                Map::Quantile { points, scores }
            }
        }
    }

    fn apply(&self, x: f32) -> f32 {
        match self {
            Map::Standard { center, scale } => (x - center) / scale,
            Map::Robust { center, scale } => {
                let z = (x - center) / scale;
                let clipped = z / CLIP;
                z / (1.0 + clipped * clipped).sqrt()
            }
            Map::Quantile { points, scores } => {
                let above = points.partition_point(|&p| p <= x);
                match above {
                    0 => scores.first().copied().unwrap_or(0.0),
                    n if n == points.len() => scores[n - 1],
                    n => {
                        let share = (x - points[n - 1]) / (points[n] - points[n - 1]);
                        scores[n - 1] + share * (scores[n] - scores[n - 1])
                    }
                }
            }
        }
    }
}

/// The borders of at most [`BINS_MAX`] bins: every value where they are few, so that none of a
/// small count is blurred, quantiles where they are many.
fn borders(sorted: &[f32], map: &Map) -> Vec<f32> {
    let mut borders: Vec<f32> = Vec::new();
    for values in sorted.chunk_by(|a, b| a == b).take(BINS_MAX + 2) {
        borders.push(values[0]);
    }
    if borders.len() > BINS_MAX + 1 {
        let at = |border| quantile(sorted, border as f64 / BINS_MAX as f64);
        borders = (0..=BINS_MAX).map(at).collect();
    }
    borders.iter_mut().for_each(|border| *border = map.apply(*border));
    borders.dedup_by(|border, before| *border <= *before);
    if borders.len() < 3 { Vec::new() } else { borders }
}

fn signed_log(x: f32) -> f32 {
    x.signum() * x.abs().ln_1p()
}

fn usable(scale: f32) -> f32 {
    if scale.is_finite() && scale > 0.0 { scale } else { 1.0 }
}

fn moments(values: &[f32]) -> (f32, f32) {
    if values.is_empty() {
        return (0.0, 1.0);
    }
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    (mean as f32, variance.sqrt() as f32)
}

fn skewness(values: &[f32]) -> f64 {
    let (mean, sd) = moments(values);
    if sd == 0.0 {
        return 0.0;
    }
    let cube = |&v: &f32| (f64::from(v - mean) / f64::from(sd)).powi(3);
    values.iter().map(cube).sum::<f64>() / values.len() as f64
}

/// Linear interpolation between order statistics (Hyndman and Fan's type 7); 0 for no values.
fn quantile(sorted: &[f32], q: f64) -> f32 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = q * last as f64;
    let (low, share) = (at.floor() as usize, (at - at.floor()) as f32);
    sorted[low] + share * (sorted[(low + 1).min(last)] - sorted[low])
}

/// Inverse of the normal distribution function, relative error under 1.2e-9 (P. J. Acklam).
fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
    ];
    let poly = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |q: f64| poly(&C, q) / (poly(&D, q) * q + 1.0);
    match p {
        p if p < 0.02425 => tail((-2.0 * p.ln()).sqrt()),
        p if p > 1.0 - 0.02425 => -tail((-2.0 * (1.0 - p).ln()).sqrt()),
        p => {
            let q = p - 0.5;
            let r = q * q;
            poly(&A, r) * q / (poly(&B, r) * r + 1.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(mut values: Vec<f32>, scaling: Scaling) -> FittedNumber {
        FittedNumber::fit("x".into(), &mut values, scaling, 4.0)
    }

    #[test]
    fn maps() {
        let values: Vec<f32> = (0..101).map(|i| i as f32).collect();
        for (scaling, raw, expected) in [
            (Scaling::Standard, 50.0, 0.0),
            (Scaling::Standard, 50.0 + 29.154_76, 1.0),
            (Scaling::Robust, 50.0, 0.0),
            // z = 150 / 50 = 3, so z / sqrt(2).
            (Scaling::Robust, 200.0, 3.0 / 2f32.sqrt()),
            (Scaling::Quantile, 50.0, 0.0),
            (Scaling::Quantile, 50.0 + 34.134, 1.0),
        ] {
            let got = fit(values.clone(), scaling).apply(raw);
            assert!((got - expected).abs() < 0.01, "{scaling:?} {raw}: {got}, expected {expected}");
        }
    }

    #[test]
    fn odd_inputs_stay_finite() {
        for scaling in [Scaling::Standard, Scaling::Robust, Scaling::Quantile] {
            for values in [vec![], vec![f32::NAN], vec![7.0; 9], vec![0.0, 0.0, 0.0, 1e30]] {
                let number = fit(values.clone(), scaling);
                for raw in [f32::NAN, 0.0, 7.0, -1e30, 1e30] {
                    assert!(number.apply(raw).is_finite(), "{scaling:?} {values:?} {raw}");
                }
            }
        }
        assert!(fit(vec![1.0, f32::NAN], Scaling::Robust).indicator);
        assert!(!fit(vec![1.0, 2.0], Scaling::Robust).indicator);
    }

    #[test]
    fn borders_rise_and_hold_few_values_apart() {
        let borders = |values: Vec<f32>| fit(values, Scaling::Robust).borders;
        assert!(borders(vec![]).is_empty());
        assert!(borders(vec![1.0; 9]).is_empty());
        assert!(borders(vec![0.0, 1.0, 1.0, f32::NAN]).is_empty());
        // The median is 2 and the quartiles lie 1 apart: robust scaling moves 2 to 0.
        let few = borders(vec![1.0, 2.0, 2.0, 3.0, 3.0]);
        assert_eq!((few.len(), few[1]), (3, 0.0));
        for scaling in [Scaling::Standard, Scaling::Robust, Scaling::Quantile] {
            let many = fit((0..1000).map(|i| (i * i) as f32).collect(), scaling).borders;
            assert!(many.is_sorted_by(|a, b| a < b), "{many:?}");
            assert!((40..=BINS_MAX + 1).contains(&many.len()), "{scaling:?}: {}", many.len());
            // Half of the values alike are one border.
            let heap = (0..1000).map(|i| (i - 500).max(0) as f32).collect();
            let heap = fit(heap, scaling).borders;
            assert!((15..=BINS_MAX / 2 + 2).contains(&heap.len()), "{scaling:?}: {}", heap.len());
        }
    }

    #[test]
    fn heavy_tails_are_logged() {
        let heavy: Vec<f32> = (0..1000).map(|i| (i as f32 / 20.0).exp()).collect();
        assert!(fit(heavy, Scaling::Robust).log);
        assert!(!fit((0..1000).map(|i| i as f32).collect(), Scaling::Robust).log);
    }
}
