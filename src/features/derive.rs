//! Raw features of a panel row and of a snapshot. All of them look back only: the value at an
//! as-of month is a function of the months up to it.

use std::f32::consts::TAU;

use crate::panel::{AttributeCells, AttributeColumn, AttributeTable, Panel};

/// Months over which the trailing mean of a delta is taken.
pub const DELTA_MONTHS: usize = 3;

/// Days in a mean Gregorian month.
pub const DAYS_PER_MONTH: f32 = 30.436_875;

/// Raw features of each measure at each month, in this order.
pub const MONTHLY: [&str; 4] = ["level", "delta", "delta_mean", "months_since"];

/// Aggregates of each measure over each trailing window, in this order.
pub const WINDOWED: [&str; 5] = ["mean", "min", "max", "std", "slope"];

/// Whether and how a feature exists; decided by the declared sources, before any fitting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub measures: usize,
    pub calendar: bool,
    /// Attribute columns as (table, column) that change from month to month: dates, and numbers
    /// of versioned tables.
    pub dated_numbers: Vec<(usize, usize)>,
    /// Categories of versioned tables.
    pub dated_categories: Vec<(usize, usize)>,
    pub static_numbers: Vec<(usize, usize)>,
    pub static_categories: Vec<(usize, usize)>,
}

impl Layout {
    pub fn new(panel: &Panel, calendar: bool) -> Self {
        let mut layout = Layout {
            measures: panel.measures.len(),
            calendar: calendar && panel.calendar.dated,
            dated_numbers: Vec::new(),
            dated_categories: Vec::new(),
            static_numbers: Vec::new(),
            static_categories: Vec::new(),
        };
        for (t, table) in panel.attributes.iter().enumerate() {
            for (c, column) in table.columns.iter().enumerate() {
                let place = match (&column.cells, table.versioned) {
                    (AttributeCells::Date(_), _) | (AttributeCells::Number(_), true) => {
                        &mut layout.dated_numbers
                    }
                    (AttributeCells::Number(_), false) => &mut layout.static_numbers,
                    (AttributeCells::Category { .. }, true) => &mut layout.dated_categories,
                    (AttributeCells::Category { .. }, false) => &mut layout.static_categories,
                };
                place.push((t, c));
            }
        }
        layout
    }

    /// Names of the raw numbers of a month, in the order in which [`month`] writes them.
    pub fn month_names(&self, panel: &Panel) -> Vec<String> {
        let mut names = Vec::new();
        for measure in &panel.measures {
            names.extend(MONTHLY.map(|kind| format!("{measure}.{kind}")));
        }
        if panel.calendar.dated {
            names.push("tenure".into());
        }
        if self.calendar {
            names.extend(["calendar.sin".into(), "calendar.cos".into()]);
        }
        names.extend(self.dated_numbers.iter().map(|&at| column_name(panel, at)));
        names
    }

    /// Names of the raw numbers of a window, in the order in which [`windows`] writes them.
    pub fn window_names(&self, panel: &Panel, months: &[u32]) -> Vec<String> {
        let mut names = Vec::new();
        for measure in &panel.measures {
            for window in months {
                names.extend(WINDOWED.map(|kind| format!("{measure}.{kind}_{window}")));
            }
        }
        names
    }
}

/// The column behind a (table, column) pair.
pub fn column(
    panel: &Panel,
    (table, column): (usize, usize),
) -> (&AttributeTable, &AttributeColumn) {
    let table = &panel.attributes[table];
    (table, &table.columns[column])
}

pub fn column_name(panel: &Panel, at: (usize, usize)) -> String {
    column(panel, at).1.name.clone()
}

/// Writes the raw numbers of a customer's `since`-th month (0 = its first row). NaN is missing.
pub fn month(panel: &Panel, layout: &Layout, customer: usize, since: usize, out: &mut [f32]) {
    let first = panel.offsets[customer];
    let mut at = 0;
    for measure in 0..layout.measures {
        let level = |back: usize| panel.at(first + since - back)[measure];
        out[at] = level(0);
        out[at + 1] = if since > 0 { level(0) - level(1) } else { f32::NAN };
        out[at + 2] = level(0) - mean((1..=DELTA_MONTHS.min(since)).map(level));
        let silent =
            (0..=since).take_while(|&back| !(level(back) != 0.0 && level(back).is_finite()));
        out[at + 3] = silent.count() as f32;
        at += MONTHLY.len();
    }
    if panel.calendar.dated {
        out[at] = since as f32;
        at += 1;
    }
    let now = panel.calendar.month(panel.starts[customer] as usize + since);
    if layout.calendar {
        let angle = TAU * (now.of_year() - 1) as f32 / 12.0;
        out[at] = angle.sin();
        out[at + 1] = angle.cos();
        at += 2;
    }
    for &place in &layout.dated_numbers {
        let (table, column) = column(panel, place);
        out[at] = match (table.version(customer, now), &column.cells) {
            (Some(version), AttributeCells::Number(cells)) => cells[version],
            (Some(version), AttributeCells::Date(cells)) => {
                months_since(cells[version], now, panel)
            }
            _ => f32::NAN,
        };
        at += 1;
    }
}

/// Months from a day to the end of the as-of month. A day after it is not known yet: missing.
/// Without a calendar there is no as-of month, and the day itself is the feature.
fn months_since(day: Option<i32>, now: crate::clock::Month, panel: &Panel) -> f32 {
    let Some(day) = day else { return f32::NAN };
    if !panel.calendar.dated {
        return day as f32 / DAYS_PER_MONTH;
    }
    let days = now.plus(1).first_day() - day;
    if days <= 0 { f32::NAN } else { days as f32 / DAYS_PER_MONTH }
}

/// Writes the aggregates of each measure over trailing windows that end at `since`. A window
/// longer than the history covers what there is; missing months take no part.
pub fn windows(panel: &Panel, months: &[u32], place: (usize, usize), out: &mut [f32]) {
    let (customer, since) = place;
    let (first, width) = (panel.offsets[customer], panel.measures.len());
    let history = &panel.values[first * width..(first + since + 1) * width];
    let mut at = 0;
    for measure in 0..width {
        for &window in months {
            let from = (since + 1).saturating_sub(window as usize);
            let values = history[from * width + measure..].iter().step_by(width).copied();
            aggregate(values, &mut out[at..at + WINDOWED.len()]);
            at += WINDOWED.len();
        }
    }
}

/// mean, min, max, standard deviation and least-squares slope per month, in one pass.
fn aggregate(values: impl Iterator<Item = f32>, out: &mut [f32]) {
    let (mut n, mut sum, mut sum_sq, mut sum_t, mut sum_tt, mut sum_tx) =
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    let (mut min, mut max) = (f32::NAN, f32::NAN);
    for (t, x) in values.enumerate().filter(|(_, x)| !x.is_nan()) {
        (min, max) = (min.min(x), max.max(x));
        let (t, x) = (t as f64, f64::from(x));
        n += 1.0;
        sum += x;
        sum_sq += x * x;
        sum_t += t;
        sum_tt += t * t;
        sum_tx += t * x;
    }
    let mean = sum / n; // NaN for no values, which is what missing means.
    let spread_t = sum_tt - sum_t * sum_t / n;
    let slope = if spread_t > 0.0 { (sum_tx - sum_t * mean) / spread_t } else { 0.0 };
    let variance = (sum_sq / n - mean * mean).max(0.0);
    let missing = n == 0.0;
    out[0] = mean as f32;
    out[1] = min;
    out[2] = max;
    out[3] = if missing { f32::NAN } else { variance.sqrt() as f32 };
    out[4] = if missing { f32::NAN } else { slope as f32 };
}

fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (mut n, mut sum) = (0, 0.0);
    for value in values.filter(|v| !v.is_nan()) {
        n += 1;
        sum += value;
    }
    if n == 0 { f32::NAN } else { sum / n as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregates_of_a_window() {
        for (values, expected) in [
            (vec![1.0, 2.0, 3.0], [2.0, 1.0, 3.0, (2.0f32 / 3.0).sqrt(), 1.0]),
            (vec![1.0, f32::NAN, 5.0], [3.0, 1.0, 5.0, 2.0, 2.0]),
            (vec![4.0], [4.0, 4.0, 4.0, 0.0, 0.0]),
        ] {
            let mut out = [0.0; 5];
            aggregate(values.iter().copied(), &mut out);
            for (got, want) in out.iter().zip(expected) {
                assert!((got - want).abs() < 1e-6, "{values:?}: {out:?}, expected {expected:?}");
            }
        }
        let mut out = [0.0; 5];
        aggregate(std::iter::empty(), &mut out);
        assert!(out.iter().all(|x| x.is_nan()));
    }
}
