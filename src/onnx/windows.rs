//! Trailing windows, as [`derive::windows`](crate::features::derive::windows) computes them: in 64
//! bits and in the same order of months, so that trees meet the very numbers that they were
//! fitted on.

use super::graph::{Graph, Value};
use super::history::{History, Span};
use super::proto::ElementType::{F32, F64};

/// One month of the longest window, `[N, M]` all.
struct Month {
    level: Value,
    present: Value,
    /// In 64 bits, 0 where it is missing.
    x: Value,
    square: Value,
    count: Value,
}

/// Aggregates of each measure over each window, `[N, M W 5]`, measure by measure; None without
/// measures or windows.
pub fn windows(
    g: &mut Graph,
    history: &History,
    windows: &[u32],
    measures: usize,
) -> Option<Value> {
    let longest = windows.iter().copied().max()? as usize;
    // As-of month first.
    let months: Option<Vec<Month>> = (0..longest)
        .map(|back| g.within(&format!("months_ago_{back}"), |g| month(g, history, back)))
        .collect();
    let months = months?;
    let mut kinds = Vec::new();
    for &window in windows {
        let oldest_first: Vec<&Month> = months[..window as usize].iter().rev().collect();
        let found = g.within(&format!("last_{window}"), |g| {
            let offset = first_place(g, history, window);
            aggregate(g, &oldest_first, &offset)
        });
        kinds.extend(found);
    }
    let kinds: Vec<Value> = kinds.iter().map(|kind| g.unsqueeze(kind, &[2])).collect();
    let count = (measures * kinds.len()) as i64;
    let all = g.concat(2, &kinds);
    Some(g.reshape(&all, &[-1, count]))
}

fn month(g: &mut Graph, history: &History, back: usize) -> Option<Month> {
    let level = history.ago(g, Span::Last, back)?;
    let level = g.squeeze(&level, &[1]);
    let missing = g.is_nan(&level);
    let present = g.not(&missing);
    let x = g.number_where(&missing, 0.0, &level);
    let x = g.cast(&x, F64);
    let square = g.mul(&x, &x);
    let count = g.cast(&present, F64);
    Some(Month { level, present, x, square, count })
}

/// Months of the window that lie before the history, `[N, 1]` in 64 bits.
fn first_place(g: &mut Graph, history: &History, window: u32) -> Value {
    let length = g.cast(&history.length, F64);
    let before = g.neg(&length);
    let before = g.add_number(&before, f64::from(window));
    let none = g.scalar(0.0, F64);
    g.most(&[before, none])
}

/// mean, min, max, standard deviation, slope.
fn aggregate(g: &mut Graph, months: &[&Month], offset: &Value) -> [Value; 5] {
    let (mut t_sums, mut tt_sums, mut tx_sums) = (Vec::new(), Vec::new(), Vec::new());
    for (place, month) in months.iter().enumerate() {
        let place = g.scalar(place as f64, F64);
        let t = g.sub(&place, offset);
        let tp = g.mul(&t, &month.count);
        tt_sums.push(g.mul(&t, &tp));
        t_sums.push(tp);
        tx_sums.push(g.mul(&t, &month.x));
    }
    let of = |part: fn(&Month) -> &Value| -> Vec<Value> {
        months.iter().map(|month| part(month).clone()).collect()
    };
    let n = g.sum(&of(|month| &month.count));
    let sum = g.sum(&of(|month| &month.x));
    let sum_sq = g.sum(&of(|month| &month.square));
    let [sum_t, sum_tt, sum_tx] = [t_sums, tt_sums, tx_sums].map(|terms| g.sum(&terms));

    let mean = g.quotient_by_count(&sum, &n);
    let products = g.mul(&sum_t, &sum_t);
    let products = g.quotient_by_count(&products, &n);
    let spread = g.sub(&sum_tt, &products);
    let along = g.mul(&sum_t, &mean);
    let along = g.sub(&sum_tx, &along);
    let slope = g.div(&along, &spread);
    let spreads = g.compare_number("Greater", &spread, 0.0);
    let flat = g.scalar(0.0, F64);
    let slope = g.choose(&spreads, &slope, &flat);
    let mean_sq = g.mul(&mean, &mean);
    let variance = g.quotient_by_count(&sum_sq, &n);
    let variance = g.sub(&variance, &mean_sq);
    let variance = g.most(&[variance, flat]);
    let deviation = g.sqrt(&variance);

    let mut extreme = |operator: fn(&mut Graph, &[Value]) -> Value, none: f64| {
        let none = g.scalar(none, F32);
        let levels: Vec<Value> =
            months.iter().map(|month| g.choose(&month.present, &month.level, &none)).collect();
        operator(g, &levels)
    };
    let least = extreme(Graph::least, f64::INFINITY);
    let most = extreme(Graph::most, f64::NEG_INFINITY);
    let empty = g.compare_number("Equal", &n, 0.0);
    [mean, least, most, deviation, slope].map(|value| {
        let value = g.cast(&value, F32);
        g.number_where(&empty, f64::NAN, &value)
    })
}
