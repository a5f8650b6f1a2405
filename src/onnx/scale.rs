//! Raw numbers to the network's range, as [`FittedNumber::apply`] does it.

use super::graph::{Graph, Value};
use super::proto::ElementType::{F32, F64};
use crate::error::{Kind, Result};
use crate::features::FittedNumber;
use crate::features::scale::{CLIP, Map};

/// Raw numbers `[.., F]` to scaled ones and missing indicators, `[.., width]`.
///
/// # Errors
/// [`Kind::Corrupt`] if the numbers are not all mapped in one way, which no fit does.
pub fn scale(g: &mut Graph, numbers: &[FittedNumber], raw: &Value) -> Result<Value> {
    let missing = g.is_nan(raw);
    let known = g.number_where(&missing, 0.0, raw);
    let logged = g.within("log", |g| logarithms(g, numbers, &known));
    let maps: Vec<&Map> = numbers.iter().map(|number| &number.map).collect();
    let mapped = mapped(g, &maps, &logged)?;
    let values = g.number_where(&missing, 0.0, &mapped);
    let at = |(at, number): (usize, &FittedNumber)| number.indicator.then_some(at as i64);
    let indicators: Vec<i64> = numbers.iter().enumerate().filter_map(at).collect();
    if indicators.is_empty() {
        return Ok(values);
    }
    Ok(g.within("missing", |g| {
        let flags = g.cast(&missing, F32);
        let columns = g.ints(&indicators);
        let flags = g.gather(&flags, &columns, -1);
        g.concat(-1, &[values, flags])
    }))
}

/// sign(x) log(1 + |x|) in the columns that are fitted with it. In 64 bits, where log(1 + x) keeps
/// the digits that log1p keeps in 32.
fn logarithms(g: &mut Graph, numbers: &[FittedNumber], x: &Value) -> Value {
    let with: Vec<bool> = numbers.iter().map(|number| number.log).collect();
    if !with.contains(&true) {
        return x.clone();
    }
    let sign = g.sign(x);
    let size = g.abs(x);
    let size = g.cast(&size, F64);
    let log = g.log_1p(&size);
    let log = g.cast(&log, F32);
    let log = g.mul(&sign, &log);
    if !with.contains(&false) {
        return log;
    }
    let with = g.bools("columns", &[with.len()], &with);
    g.choose(&with, &log, x)
}

fn mapped(g: &mut Graph, maps: &[&Map], x: &Value) -> Result<Value> {
    let mixed = || Kind::Corrupt.msg("the numbers are scaled in more than one way");
    let affine = |map: &&Map| match map {
        Map::Standard { center, scale } => Some((*center, *scale, false)),
        Map::Robust { center, scale } => Some((*center, *scale, true)),
        Map::Quantile { .. } => None,
    };
    match maps.first() {
        Some(Map::Quantile { .. }) => {
            let curve = |map: &&Map| match map {
                Map::Quantile { points, scores } => Some((points.clone(), scores.clone())),
                _ => None,
            };
            let curves: Option<Vec<_>> = maps.iter().map(curve).collect();
            Ok(g.within("quantiles", |g| Ok(along(g, &curves.ok_or_else(mixed)?, x)))?)
        }
        _ => {
            let found: Option<Vec<_>> = maps.iter().map(affine).collect();
            let found = found.ok_or_else(mixed)?;
            let smooth = found.first().is_some_and(|of| of.2);
            if found.iter().any(|of| of.2 != smooth) {
                return Err(mixed());
            }
            Ok(g.within("scale", |g| centred(g, &found, smooth, x)))
        }
    }
}

/// (x - center) / scale, clipped smoothly if asked for.
fn centred(g: &mut Graph, found: &[(f32, f32, bool)], smooth: bool, x: &Value) -> Value {
    let centers: Vec<f32> = found.iter().map(|of| of.0).collect();
    let scales: Vec<f32> = found.iter().map(|of| of.1).collect();
    let centers = g.f32s("centers", &[found.len()], &centers);
    let scales = g.f32s("scales", &[found.len()], &scales);
    let z = g.sub(x, &centers);
    let z = g.quotient(&z, &scales);
    if !smooth {
        return z;
    }
    let most = g.scalar(f64::from(CLIP), F32);
    let clipped = g.quotient(&z, &most);
    let square = g.mul(&clipped, &clipped);
    let sum = g.add_number(&square, 1.0);
    let root = g.sqrt(&sum);
    g.quotient(&z, &root)
}

/// Linear between points: the score of the first one, and of each step the share that x has come.
fn along(g: &mut Graph, curves: &[(Vec<f32>, Vec<f32>)], x: &Value) -> Value {
    let columns = curves.len();
    let first = |curve: &(Vec<f32>, Vec<f32>)| curve.1.first().copied().unwrap_or(0.0);
    let starts: Vec<f32> = curves.iter().map(first).collect();
    let steps = curves.iter().map(|curve| curve.0.len().saturating_sub(1)).max().unwrap_or(0);
    let starts = g.f32s("starts", &[columns], &starts);
    if steps == 0 {
        let none = g.mul_number(x, 0.0);
        return g.add(&none, &starts);
    }
    let (mut lows, mut widths, mut rises) = (Vec::new(), Vec::new(), Vec::new());
    for (points, scores) in curves {
        let end = lows.len() + steps;
        lows.extend(points.windows(2).map(|pair| pair[0]));
        widths.extend(points.windows(2).map(|pair| pair[1] - pair[0]));
        rises.extend(scores.windows(2).map(|pair| pair[1] - pair[0]));
        lows.resize(end, 0.0);
        widths.resize(end, 1.0);
        rises.resize(end, 0.0);
    }
    let lows = g.f32s("points", &[columns, steps], &lows);
    let widths = g.f32s("widths", &[columns, steps], &widths);
    let rises = g.f32s("rises", &[columns, steps], &rises);
    let x = g.unsqueeze(x, &[-1]);
    let share = g.sub(&x, &lows);
    let share = g.div(&share, &widths);
    let share = g.unit(&share);
    let risen = g.mul(&share, &rises);
    let risen = g.reduce_sum(&risen, -1);
    let risen = g.squeeze(&risen, &[-1]);
    g.add(&risen, &starts)
}
