//! From the outputs of models to a calibrated risk, and its course: in 64 bits, as
//! [`train::outlook`](crate::train::outlook) and the bundle's scorer compute them.

use super::graph::{Graph, Value};
use super::proto::ElementType::{F32, F64};
use crate::eval::Calibrator;

/// What a network says, before calibration.
pub struct Uncalibrated {
    /// Of churn in the window, `[N, 1]` in 64 bits.
    pub log_odds: Value,
    /// Risk of churn up to each month of the horizon, `[N, K]` in 64 bits.
    pub curve: Option<Value>,
}

/// Reads the outputs `[N, k K]` of k members and K months of a network.
pub fn read(
    g: &mut Graph,
    outputs: &Value,
    (members, months): (usize, usize),
    shift: f32,
) -> Uncalibrated {
    let shifted = match shift == 0.0 {
        true => outputs.clone(),
        false => g.add_number(outputs, f64::from(shift)),
    };
    let x = g.cast(&shifted, F64);
    if members * months == 1 {
        return Uncalibrated { log_odds: x, curve: None };
    }
    let x = g.reshape(&x, &[-1, members as i64, months as i64]);
    // -log(1 - hazard): sums of it lose nothing where hazards are small.
    let cumulative = g.within("cumulative_hazard", |g| {
        let none = g.scalar(0.0, F64);
        let above = g.most(&[x.clone(), none]);
        let size = g.abs(&x);
        let tail = g.neg(&size);
        let tail = g.exp(&tail);
        let tail = g.log_1p(&tail);
        let hazard = g.add(&above, &tail);
        if months == 1 { hazard } else { g.cumulative_sum(&hazard, 2) }
    });
    let risks = g.one_minus_exp(&cumulative);
    let risk = g.reduce_mean(&risks, 1);
    let risk = g.squeeze(&risk, &[1]);
    let staying = g.neg(&cumulative);
    let staying = g.exp(&staying);
    let staying = g.reduce_mean(&staying, 1);
    let staying = g.squeeze(&staying, &[1]);
    let log_odds = g.within("log_odds", |g| {
        let logs = [&risk, &staying].map(|share| {
            let last = g.slice(share, 1, -1, None);
            let least = g.scalar(f64::MIN_POSITIVE, F64);
            let some = g.most(&[last, least]);
            g.log(&some)
        });
        g.sub(&logs[0], &logs[1])
    });
    Uncalibrated { log_odds, curve: (months > 1).then_some(risk) }
}

/// The weighted mean of the models' log-odds, `[N, 1]` in 64 bits.
pub fn blend(g: &mut Graph, shares: &[(f64, Value)]) -> Value {
    if let [(weight, only)] = shares
        && *weight == 1.0
    {
        return only.clone();
    }
    let weighted: Vec<Value> =
        shares.iter().map(|(weight, log_odds)| g.mul_number(log_odds, *weight)).collect();
    g.sum(&weighted)
}

/// Log-odds that hold.
pub fn calibrated(g: &mut Graph, calibrator: &Calibrator, log_odds: &Value) -> Value {
    match calibrator {
        Calibrator::Identity => log_odds.clone(),
        Calibrator::Temperature { slope, center } => {
            let from_center = g.add_number(log_odds, -center);
            let stretched = g.mul_number(&from_center, *slope);
            g.add_number(&stretched, *center)
        }
        Calibrator::Platt { slope, intercept } => {
            let stretched = g.mul_number(log_odds, *slope);
            g.add_number(&stretched, *intercept)
        }
        Calibrator::Isotonic { from, to } => isotonic(g, (from, to), log_odds),
    }
}

/// Linear between points, of slope 1 beyond them. A step counts by the share of it that x has come.
fn isotonic(g: &mut Graph, (from, to): (&[f64], &[f64]), x: &Value) -> Value {
    let (Some(&first), Some(&last)) = (from.first(), from.last()) else { return x.clone() };
    let none = g.scalar(0.0, F64);
    let below = g.add_number(x, -first);
    let below = g.least(&[below, none.clone()]);
    let beyond = g.add_number(x, -last);
    let beyond = g.most(&[beyond, none]);
    let ends = g.add(&below, &beyond);
    let ends = g.add_number(&ends, to[0]);
    if from.len() == 1 {
        return ends;
    }
    let steps = from.len() - 1;
    let widths: Vec<f64> = from.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let rises: Vec<f64> = to.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let lows = g.f64s("from", &[1, steps], &from[..steps]);
    let widths = g.f64s("widths", &[1, steps], &widths);
    let rises = g.f64s("rises", &[steps, 1], &rises);
    let share = g.sub(x, &lows);
    let share = g.div(&share, &widths);
    let share = g.unit(&share);
    let risen = g.matmul(&share, &rises);
    g.add(&ends, &risen)
}

/// Probability of log-odds.
pub fn risk(g: &mut Graph, log_odds: &Value) -> Value {
    let falling = g.neg(log_odds);
    let falling = g.exp(&falling);
    let sum = g.add_number(&falling, 1.0);
    let one = g.scalar(1.0, F64);
    g.div(&one, &sum)
}

/// Bends curves `[N, K]` so that they end at the risk `[N, 1]` that is shown, see
/// [`train::end_at`](crate::train::end_at).
pub fn end_at(g: &mut Graph, curve: &Value, risk: &Value) -> Value {
    let cumulative = |g: &mut Graph, risk: &Value| {
        let staying = g.neg(risk);
        let log = g.log_1p(&staying);
        g.neg(&log)
    };
    let hazards = cumulative(g, curve);
    let whole = g.slice(&hazards, 1, -1, None);
    let target = cumulative(g, risk);
    let share = g.div(&hazards, &whole);
    // A certain or an impossible churn has no course.
    let no_course = g.is_nan(&share);
    let share = g.unit(&share);
    let bent = g.mul(&share, &target);
    let bent = g.one_minus_exp(&bent);
    let bent = g.choose(&no_course, risk, &bent);
    let before = g.slice(&bent, 1, 0, Some(-1));
    g.concat(1, &[before, risk.clone()])
}

/// What is shown: 32 bits are enough for a probability.
pub fn shown(g: &mut Graph, risk: &Value) -> Value {
    g.cast(risk, F32)
}
