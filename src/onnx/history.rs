//! Months: the measures of a history on one axis, what they are some months back, and the raw
//! numbers of a month, as [`derive::month`](crate::features::derive::month) computes them.

use std::f32::consts::TAU;

use super::graph::{Graph, Value};
use super::inputs::{Holds, Inputs};
use super::proto::ElementType::{F32, I64};
use super::state::State;
use crate::error::{Kind, Result};
use crate::features::derive::{DAYS_PER_MONTH, DELTA_MONTHS, MONTHLY};

/// Steps of the running largest value; 2^11 months is more than a panel may have.
const DOUBLINGS: usize = 11;

/// Days from 1 March of year 0 to 1970-01-01.
const DAYS_TO_1970: f64 = 719_468.0;

/// Before every month.
const NEVER: f64 = -1.0;

/// Which months a value is wanted of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// All T.
    All,
    /// The as-of month, an axis of length 1.
    Last,
}

/// The measures over the months.
pub struct History {
    /// `[N, 1]`, months that a customer has.
    pub length: Value,
    /// `[N, T, M]`, NaN before the history begins; None without measures, and in the step form.
    levels: Option<Value>,
    /// The last of them, `back` at least before the as-of month, NaN before the history begins.
    padded: Option<Value>,
    /// None in the step form.
    axis: Option<TimeAxis>,
    /// Of the step form: the last month in which each measure was active, `[N, 1, M]`, as months since
    /// the first of the history or [`NEVER`].
    last_active: Option<Value>,
}

/// Places of the months; there is one if any column has months.
struct TimeAxis {
    /// `[T]`, 0 and up.
    places: Value,
    /// `[N, T]`, months since the first one of the history; negative before it.
    since: Value,
    /// `[N, T]`.
    valid: Value,
}

impl History {
    /// Of columns over T months. `back`: how many months before the as-of month are looked at one by
    /// one.
    pub fn of_columns(g: &mut Graph, inputs: &Inputs, back: usize) -> Result<Self> {
        let length = inputs.history()?;
        let axis = inputs.any_months().map(|months| {
            g.within("history", |g| {
                let count = g.length(&months, 1);
                let (zero, one) = (g.scalar(0.0, I64), g.scalar(1.0, I64));
                let places = g.op("Range", &[&zero, &count, &one], vec![], I64);
                let start = g.sub(&count, &length);
                let since = g.sub(&places, &start);
                let valid = g.compare("GreaterOrEqual", &since, &zero);
                TimeAxis { places, since, valid }
            })
        });
        let levels = g.within("measures", |g| {
            let (axis, all) = (axis.as_ref()?, side_by_side(g, inputs)?);
            let valid = g.unsqueeze(&axis.valid, &[2]);
            let missing = g.scalar(f64::NAN, F32);
            Some(g.choose(&valid, &all, &missing))
        });
        let padded = levels.as_ref().map(|levels| g.pad_before(levels, back, f64::NAN));
        Ok(History { length, levels, padded, axis, last_active: None })
    }

    /// Of one month and what is kept of those before.
    pub fn of_step(g: &mut Graph, inputs: &Inputs, state: &State, back: usize) -> Self {
        let length = state.length.clone();
        let mut history =
            History { length, levels: None, padded: None, axis: None, last_active: None };
        let Some(now) = g.within("measures", |g| side_by_side(g, inputs)) else { return history };
        let measures = inputs.columns.measures.len();
        g.within("history", |g| {
            let width = back * measures;
            let missing = g.scalar(f64::NAN, F32);
            let (before, slot) = state.before(g, width, &missing);
            let before = g.reshape(&before, &[0, back as i64, measures as i64]);
            let all = g.concat(1, &[before, now.clone()]);
            let latest = g.slice(&all, 1, 1, None);
            state.keep(slot, &g.reshape(&latest, &[0, width as i64]));
            history.padded = Some(all);
        });
        history.last_active = Some(g.within("last_active", |g| {
            let never = g.scalar(NEVER, F32);
            let (before, slot) = state.before(g, measures, &never);
            let now = g.squeeze(&now, &[1]);
            let place = g.add_number(&history.length, -1.0);
            let latest = place_if_active(g, &now, &place);
            let latest = g.most(&[before, latest]);
            state.keep(slot, &latest);
            g.unsqueeze(&latest, &[1])
        }));
        history
    }

    /// The measures `months` before each month of the span, `[N, S, M]`.
    pub fn ago(&self, g: &mut Graph, span: Span, months: usize) -> Option<Value> {
        let back = months as i64;
        Some(match span {
            Span::All if months == 0 => self.levels.clone()?,
            Span::All => {
                let padded = g.pad_before(self.levels.as_ref()?, months, f64::NAN);
                g.slice(&padded, 1, 0, Some(-back))
            }
            Span::Last => {
                let end = (months > 0).then_some(-back);
                g.slice(self.padded.as_ref()?, 1, -1 - back, end)
            }
        })
    }

    fn axis(&self) -> Result<&TimeAxis> {
        self.axis.as_ref().ok_or_else(|| {
            Kind::Usage
                .msg("a network over months without any monthly column cannot be exported to ONNX")
                .hint("add a measure, or export another model, for example the mlp")
        })
    }

    /// Whether each month belongs to the history, `[N, T]`.
    pub fn valid(&self) -> Result<Value> {
        Ok(self.axis()?.valid.clone())
    }

    /// Months since the first of the history, `[N, S, 1]`.
    fn since(&self, g: &mut Graph, span: Span) -> Result<Value> {
        let since = match span {
            Span::All => self.axis()?.since.clone(),
            Span::Last => g.add_number(&self.length, -1.0),
        };
        Ok(g.unsqueeze(&since, &[2]))
    }

    /// The raw numbers of the months of a span, `[N, S, F]`; None without any.
    pub fn numbers(&self, g: &mut Graph, inputs: &Inputs, span: Span) -> Result<Option<Value>> {
        let columns = &inputs.columns;
        let mut parts = Vec::new();
        if let Some(level) = self.ago(g, span, 0) {
            parts.push(self.of_measures(g, span, &level, columns.measures.len())?);
        }
        let since = g.within("tenure", |g| self.since(g, span))?;
        parts.push(g.within("tenure", |g| g.cast(&since, F32)));
        let needs_month = columns.calendar
            || columns.dated_numbers.iter().any(|column| column.holds == Holds::Date);
        let now = match needs_month {
            true => Some(g.within("as_of", |g| self.month(g, inputs, span))?),
            false => None,
        };
        if let Some(now) = now.as_ref().filter(|_| columns.calendar) {
            parts.extend(g.within("calendar", |g| season(g, now)));
        }
        for column in &columns.dated_numbers {
            let value = at_span(g, &inputs.number(column), (column.monthly, span));
            let value = g.unsqueeze(&value, &[2]);
            let number = match (column.holds, &now) {
                (Holds::Date, Some(now)) => g
                    .within(&format!("months_since/{}", column.name), |g| {
                        since_day(g, &value, now)
                    }),
                _ => value,
            };
            parts.push(match span {
                Span::All => {
                    // One value for all months becomes one for each.
                    let zeros = g.cast(&since, F32);
                    let zeros = g.mul_number(&zeros, 0.0);
                    g.add(&number, &zeros)
                }
                Span::Last => number,
            });
        }
        Ok(Some(g.concat(2, &parts)))
    }

    /// Level, delta, delta to the mean of the months before, months since activity: `[N, S, 4M]`,
    /// measure by measure.
    fn of_measures(&self, g: &mut Graph, span: Span, level: &Value, count: usize) -> Result<Value> {
        let before: Vec<Value> =
            (1..=DELTA_MONTHS).filter_map(|months| self.ago(g, span, months)).collect();
        let delta = g.within("delta", |g| g.sub(level, &before[0]));
        let delta_mean = g.within("delta_mean", |g| {
            let mean = mean(g, &before);
            g.sub(level, &mean)
        });
        let silent = g.within("months_since", |g| self.silent(g, span))?;
        let kinds = [level.clone(), delta, delta_mean, silent];
        assert_eq!(kinds.len(), MONTHLY.len(), "a value for each raw feature of a measure");
        let kinds: Vec<Value> = kinds.iter().map(|kind| g.unsqueeze(kind, &[3])).collect();
        let kinds = g.concat(3, &kinds);
        Ok(g.reshape(&kinds, &[0, 0, (count * MONTHLY.len()) as i64]))
    }

    /// Months since the last one in which a measure was neither 0 nor missing, `[N, S, M]`; since
    /// before the first month where there is none.
    fn silent(&self, g: &mut Graph, span: Span) -> Result<Value> {
        let since = self.since(g, span)?;
        let last = match (span, &self.last_active) {
            (Span::Last, Some(last)) => last.clone(),
            (Span::Last, None) => {
                let active = self.active(g)?;
                g.reduce_max(&active, 1)
            }
            (Span::All, _) => (0..DOUBLINGS).fold(self.active(g)?, |last, step| {
                let padded = g.pad_before(&last, 1 << step, NEVER);
                let earlier = g.slice(&padded, 1, 0, Some(-(1 << step)));
                g.most(&[last, earlier])
            }),
        };
        let since = g.cast(&since, F32);
        Ok(g.sub(&since, &last))
    }

    /// The months in which a measure is neither 0 nor missing, as months since the first of the
    /// history, others [`NEVER`], `[N, T, M]`.
    fn active(&self, g: &mut Graph) -> Result<Value> {
        let levels = self.levels.as_ref().ok_or_else(|| Kind::Internal.msg("no measures"))?;
        let place = g.unsqueeze(&self.axis()?.since, &[2]);
        Ok(place_if_active(g, levels, &place))
    }

    /// The months as counted from January of year 0, `[N, S, 1]`.
    fn month(&self, g: &mut Graph, inputs: &Inputs, span: Span) -> Result<Value> {
        let as_of = inputs.as_of()?;
        let hundred = g.scalar(100.0, I64);
        let year = g.div(&as_of, &hundred);
        let of_year = g.modulo(&as_of, 100);
        let months = g.mul_number(&year, 12.0);
        let months = g.add(&months, &of_year);
        let now = g.add_number(&months, -1.0);
        let now = match span {
            Span::Last => now,
            Span::All => {
                let axis = self.axis()?;
                let last = g.reduce_max(&axis.places, 0);
                let back = g.sub(&axis.places, &last);
                g.add(&now, &back)
            }
        };
        Ok(g.unsqueeze(&now, &[2]))
    }
}

/// The measures as they come, `[N, T, M]`; None without any.
fn side_by_side(g: &mut Graph, inputs: &Inputs) -> Option<Value> {
    let each = inputs.columns.measures.iter().map(|column| {
        let values = inputs.number(column);
        g.unsqueeze(&values, &[2])
    });
    let each: Vec<Value> = each.collect();
    (!each.is_empty()).then(|| g.concat(2, &each))
}

/// The place of a month where a measure is neither 0 nor missing, else [`NEVER`], in 32 bits.
fn place_if_active(g: &mut Graph, level: &Value, place: &Value) -> Value {
    let size = g.abs(level);
    let some = g.compare_number("Greater", &size, 0.0);
    let finite = g.compare_number("LessOrEqual", &size, f64::from(f32::MAX));
    let active = g.and(&some, &finite);
    let place = g.cast(place, F32);
    let never = g.scalar(NEVER, F32);
    g.choose(&active, &place, &never)
}

/// A value `[N, 1]` or `[N, T]` at the months of a span: `[N, 1]` or `[N, S]`.
pub fn at_span(g: &mut Graph, value: &Value, (monthly, span): (bool, Span)) -> Value {
    match (monthly, span) {
        (true, Span::Last) => g.slice(value, 1, -1, None),
        _ => value.clone(),
    }
}

/// Mean of the values that are there, in the order in which they are given.
fn mean(g: &mut Graph, values: &[Value]) -> Value {
    let (mut sums, mut counts) = (Vec::new(), Vec::new());
    for value in values {
        let missing = g.is_nan(value);
        sums.push(g.number_where(&missing, 0.0, value));
        let present = g.not(&missing);
        counts.push(g.cast(&present, F32));
    }
    let (sum, count) = (g.sum(&sums), g.sum(&counts));
    g.quotient(&sum, &count) // 0 / 0 is NaN, which is what missing means.
}

/// Sine and cosine of the month of the year.
fn season(g: &mut Graph, now: &Value) -> [Value; 2] {
    let at = g.modulo(now, 12);
    let angle = |month: u32| TAU * month as f32 / 12.0;
    let sines: Vec<f32> = (0..12).map(|month| angle(month).sin()).collect();
    let cosines: Vec<f32> = (0..12).map(|month| angle(month).cos()).collect();
    let tables = [g.f32s("sines", &[12], &sines), g.f32s("cosines", &[12], &cosines)];
    tables.map(|table| g.gather(&table, &at, 0))
}

/// Months from a day to the end of a month; a day after it is not known yet.
fn since_day(g: &mut Graph, day: &Value, now: &Value) -> Value {
    let end = first_day_after(g, now);
    let end = g.cast(&end, F32);
    let days = g.sub(&end, day);
    let months = months_of(g, &days);
    let known = g.compare_number("Greater", &days, 0.0);
    let missing = g.scalar(f64::NAN, F32);
    g.choose(&known, &months, &missing)
}

/// The first day of the next month, in days since 1970-01-01 (H. Hinnant's `days_from_civil`, in
/// years that begin with March).
fn first_day_after(g: &mut Graph, now: &Value) -> Value {
    let shifted = g.add_number(now, -1.0); // + 1 month, - 2 from January to March.
    let twelve = g.scalar(12.0, I64);
    let year = g.div(&shifted, &twelve);
    let of_year = g.modulo(&shifted, 12);
    let days = g.mul_number(&of_year, 153.0);
    let days = g.add_number(&days, 2.0);
    let days = g.div_number(&days, 5.0);
    let of_years = g.mul_number(&year, 365.0);
    let leap = [4.0, 100.0, 400.0].map(|every| g.div_number(&year, every));
    let sum = g.add(&days, &of_years);
    let sum = g.add(&sum, &leap[0]);
    let sum = g.sub(&sum, &leap[1]);
    let sum = g.add(&sum, &leap[2]);
    g.add_number(&sum, -DAYS_TO_1970)
}

/// Days as months.
pub fn months_of(g: &mut Graph, days: &Value) -> Value {
    let month = g.scalar(f64::from(DAYS_PER_MONTH), F32);
    g.quotient(days, &month)
}
