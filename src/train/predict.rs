//! From a network's outputs to the risk of every example of a data set, and its course by month.

use crate::nn::Network;
use crate::nn::ops::on_worker;
use crate::tensors::Resident;

/// Most rows in one pass. All passes of a bucket are equally long.
const BATCH_ROWS_MAX: usize = 512;

/// How outputs are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Months K whose hazards a network predicts; 1 = the window.
    pub hazards: usize,
    /// Added to every output, see [`prior_correction`](super::prior_correction).
    pub shift: f32,
}

/// What a network says of the examples of a data set, in rising order of snapshot numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// Of churn in the window, `[examples]`.
    pub log_odds: Vec<f32>,
    /// Risk of churn up to each month of the horizon, `[examples, K]`; empty for K = 1.
    pub curves: Vec<f64>,
}

/// Log-odds of churn in the window, from a network in validation mode.
pub fn log_odds(network: &Network, data: &Resident, reading: Reading) -> Vec<f32> {
    outlook(network, data, reading).log_odds
}

/// The whole outlook, from a network in validation mode.
pub fn outlook(network: &Network, data: &Resident, reading: Reading) -> Outlook {
    on_worker(|| in_batches(network, data, reading))
}

/// What the outputs `[examples, members K]` of a network say, in their order.
pub fn read(outputs: &[f32], examples: usize, reading: Reading) -> Outlook {
    let mut outlook = Outlook { log_odds: Vec::with_capacity(examples), curves: Vec::new() };
    for outputs in outputs.chunks_exact((outputs.len() / examples.max(1)).max(1)) {
        outlook.log_odds.push(collapse(outputs, reading, &mut outlook.curves));
    }
    outlook
}

fn in_batches(network: &Network, data: &Resident, reading: Reading) -> Outlook {
    let mut found: Vec<(u32, f32)> = Vec::with_capacity(data.snapshots);
    let mut curves = Vec::new();
    for (at, bucket) in data.buckets.iter().enumerate() {
        let mut values = Vec::with_capacity(bucket.rows * bucket.months * reading.hazards);
        let in_order: Vec<u32> = (0..bucket.rows as u32).collect();
        let mut width = reading.hazards;
        let batch_rows = bucket.rows.div_ceil(bucket.rows.div_ceil(BATCH_ROWS_MAX).max(1));
        for rows in bucket.batches(&in_order, batch_rows) {
            let out = network.forward(&data.batch(at, &rows));
            width = out.dims()[2];
            values.extend(out.into_data().try_into_vec_as::<f32>().expect("log-odds are f32"));
        }
        for &(row, month, snapshot) in &bucket.places {
            let place = row as usize * bucket.months + month as usize;
            let outputs = &values[place * width..][..width];
            found.push((snapshot, collapse(outputs, reading, &mut curves)));
        }
    }
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_unstable_by_key(|&at| found[at].0);
    let curve = |&at: &usize| curves.iter().skip(at * reading.hazards).take(reading.hazards);
    Outlook {
        log_odds: order.iter().map(|&at| found[at].1).collect(),
        curves: order.iter().flat_map(curve).copied().collect(),
    }
}

/// Log-odds of churn in the window, from the log-odds of the hazards of one example; output
/// m K + k is member m's of month k, and the risk is the mean over members. Appends the risk up to
/// each month to `curves` where there is more than one.
fn collapse(outputs: &[f32], reading: Reading, curves: &mut Vec<f64>) -> f32 {
    if let [window] = outputs {
        return window + reading.shift;
    }
    let members = outputs.len() / reading.hazards;
    let (mut risk, mut survival) = (0.0, 1.0);
    let mut hazards = vec![0.0; members];
    for month in 0..reading.hazards {
        (risk, survival) = (0.0, 0.0);
        for (member, cumulative) in hazards.iter_mut().enumerate() {
            let x = f64::from(outputs[member * reading.hazards + month] + reading.shift);
            // -log(1 - hazard): sums of it lose nothing where hazards are small.
            *cumulative += x.max(0.0) + (-x.abs()).exp().ln_1p();
            risk -= (-*cumulative).exp_m1();
            survival += (-*cumulative).exp();
        }
        if reading.hazards > 1 {
            curves.push(risk / members as f64);
        }
    }
    // Not max, which would turn a NaN into a number.
    let log = |x: f64| x.clamp(f64::MIN_POSITIVE, f64::INFINITY).ln();
    (log(risk) - log(survival)) as f32
}

/// Bends each curve so that it ends at the risk that is shown, which a calibration may have moved:
/// its cumulative hazards, -log(1 - risk), are all multiplied by one factor.
pub fn end_at(curves: &mut [f64], risks: &[f64]) {
    let Some(months) = curves.len().checked_div(risks.len()).filter(|&months| months > 0) else {
        return;
    };
    for (curve, &risk) in curves.chunks_exact_mut(months).zip(risks) {
        let whole = -(-curve[months - 1]).ln_1p();
        let target = -(-risk).ln_1p();
        for at in curve.iter_mut() {
            let share = (-(-*at).ln_1p() / whole).clamp(0.0, 1.0);
            // A certain or an impossible churn has no course.
            *at = if share.is_finite() { -(-target * share).exp_m1() } else { risk };
        }
        curve[months - 1] = risk;
    }
}

/// Probability of log-odds.
pub fn risk(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sigmoid(x: f32) -> f64 {
        risk(f64::from(x))
    }

    /// Against products of f64 probabilities. The log-odds are f32: half a unit in the last place
    /// of a number below 32 is 1e-6.
    #[track_caller]
    fn check(outputs: &[f32], hazards: usize, shift: f32) {
        let mut curves = Vec::new();
        let got = collapse(outputs, Reading { hazards, shift }, &mut curves);
        let members = outputs.len() / hazards;
        let up_to = |month: usize| {
            let survival = |member: &[f32]| -> f64 {
                member[..=month].iter().map(|x| 1.0 - sigmoid(x + shift)).product()
            };
            1.0 - outputs.chunks(hazards).map(survival).sum::<f64>() / members as f64
        };
        let wanted = up_to(hazards - 1);
        assert!((got - (wanted / (1.0 - wanted)).ln() as f32).abs() < 2e-6, "{outputs:?}: {got}");
        let months = if hazards > 1 { hazards } else { 0 };
        assert_eq!(curves.len(), months);
        for (month, risk) in curves.iter().enumerate() {
            assert!((risk - up_to(month)).abs() < 1e-12, "{outputs:?}, month {month}: {risk}");
        }
    }

    #[test]
    fn hazards_become_a_risk() {
        check(&[-3.0, -2.5, 0.5], 3, 0.0);
        check(&[-3.0, -2.5, 0.5], 3, -0.7);
        check(&[-3.0, -2.5, 0.5, -1.0, 0.0, 1.0], 3, 0.0);
        check(&[-3.0, 0.5, 1.0], 1, 0.2);
        // Far out, where 1 - risk is no f64 any more.
        let mut curves = Vec::new();
        let reading = Reading { hazards: 2, shift: 0.0 };
        let sure = collapse(&[60.0, 60.0], reading, &mut curves);
        assert!((sure - 120.0).abs() < 1e-3 && collapse(&[-90.0; 2], reading, &mut curves) < -88.0);
        assert!(collapse(&[f32::NAN, 0.0], reading, &mut curves).is_nan());
    }

    #[test]
    fn the_output_of_a_window_is_its_log_odds() {
        let mut curves = Vec::new();
        let got = collapse(&[-1.25], Reading { hazards: 1, shift: 0.5 }, &mut curves);
        assert_eq!((got, curves.len()), (-0.75, 0));
    }

    #[test]
    fn a_curve_ends_where_it_is_told() {
        let mut curves = vec![0.1, 0.19, 0.271, 0.0, 0.0, 0.0];
        end_at(&mut curves, &[0.271, 0.3]);
        // Constant hazards stay constant; 1e-12 is many roundings.
        let wanted = [0.1, 0.19, 0.271, 0.3, 0.3, 0.3];
        assert!(curves.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12), "{curves:?}");
        end_at(&mut curves[..3], &[0.488]);
        let wanted = [0.2, 0.36, 0.488];
        assert!(curves.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12), "{curves:?}");
        end_at(&mut [], &[0.2]);
    }
}
