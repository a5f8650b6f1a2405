//! The features of a customer at the as-of month, and of its months, in the columns that models
//! were trained on. What no model asks for is not computed.

use std::collections::BTreeMap;

use super::graph::{Graph, Value};
use super::history::{self, History, Span, at_span};
use super::inputs::{Column, Inputs};
use super::proto::ElementType::F32;
use super::scale::scale;
use super::windows::windows;
use crate::error::{Kind, Result};
use crate::features::derive::DELTA_MONTHS;
use crate::features::{FittedCategory, FittedFeatures};

/// What a model reads of the months.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reads {
    Nothing,
    /// Their numbers, month by month.
    Months,
    /// Trailing windows and lags besides.
    Windows,
}

/// Makes each block once, whoever asks.
pub struct Blocks<'a> {
    pub fitted: &'a FittedFeatures,
    pub inputs: Inputs,
    history: Option<History>,
    made: BTreeMap<&'static str, Option<Value>>,
}

impl<'a> Blocks<'a> {
    /// `reads`: the most that a model reads of the months.
    pub fn new(
        g: &mut Graph,
        fitted: &'a FittedFeatures,
        inputs: Inputs,
        reads: Reads,
    ) -> Result<Self> {
        let longest = fitted.spec.windows.iter().copied().max().unwrap_or(1) as usize;
        let back = match reads {
            Reads::Windows => (longest - 1).max(fitted.lags()).max(DELTA_MONTHS),
            Reads::Months | Reads::Nothing => DELTA_MONTHS,
        };
        let history = match (&inputs.state, inputs.columns.dated && reads != Reads::Nothing) {
            (_, false) => None,
            (None, true) => Some(History::of_columns(g, &inputs, back)?),
            (Some(state), true) => Some(History::of_step(g, &inputs, state, back)),
        };
        Ok(Blocks { fitted, inputs, history, made: BTreeMap::new() })
    }

    /// Scaled attributes with their indicators, `[N, static_width]`.
    pub fn fixed(&mut self, g: &mut Graph) -> Result<Option<Value>> {
        self.once(g, "static", |blocks, g| {
            let Some(raw) = blocks.fixed_raw(g) else { return Ok(None) };
            Ok(Some(scale(g, &blocks.fitted.static_numbers, &raw)?))
        })
    }

    /// Codes of each category that does not change, `[N, 1]`.
    pub fn codes(&self, g: &mut Graph) -> Vec<Value> {
        let pairs =
            self.inputs.columns.static_categories.iter().zip(&self.fitted.static_categories);
        pairs.map(|(column, fitted)| self.inputs.codes(g, column, fitted)).collect()
    }

    /// What a network over months reads, `[N, T, month_width]`; in the step form of one month.
    pub fn months(&mut self, g: &mut Graph) -> Result<Value> {
        let months = match self.inputs.state {
            Some(_) => self.month(g)?,
            None => self.once(g, "months", |blocks, g| blocks.scaled_months(g, Span::All))?,
        };
        months.ok_or_else(no_months)
    }

    /// The as-of month, `[N, 1, month_width]`.
    fn month(&mut self, g: &mut Graph) -> Result<Option<Value>> {
        self.once(g, "month", |blocks, g| blocks.scaled_months(g, Span::Last))
    }

    /// The history of a model with months.
    pub fn history(&self) -> Result<&History> {
        self.history.as_ref().ok_or_else(no_months)
    }

    /// What the MLP reads, `[N, snapshot_width]`; None where it has no number at all.
    pub fn snapshot(&mut self, g: &mut Graph) -> Result<Option<Value>> {
        self.once(g, "snapshot", |blocks, g| {
            let fixed = blocks.fixed(g)?;
            let month = blocks.month(g)?;
            let month = month.map(|month| g.squeeze(&month, &[1]));
            let window = match blocks.windows_raw(g)? {
                Some(raw) => {
                    Some(g.within("windows", |g| scale(g, &blocks.fitted.window_numbers, &raw))?)
                }
                None => None,
            };
            Ok(joined(g, [fixed, month, window]))
        })
    }

    /// What trees read, `[N, raw_columns]`.
    pub fn raw_snapshot(&mut self, g: &mut Graph) -> Result<Option<Value>> {
        self.once(g, "raw", |blocks, g| {
            let fixed = blocks.fixed_raw(g);
            let codes: Vec<Value> =
                blocks.codes(g).iter().map(|codes| g.cast(codes, F32)).collect();
            let month = blocks.months_raw(g, Span::Last)?;
            let month = month.map(|month| g.squeeze(&month, &[1]));
            let dated: Vec<Value> =
                blocks.dated_codes(g, Span::Last).iter().map(|codes| g.cast(codes, F32)).collect();
            let window = blocks.windows_raw(g)?;
            let lags = g.within("lags", |g| blocks.lags(g));
            let parts = (fixed.into_iter().chain(codes).chain(month))
                .chain(dated)
                .chain(window)
                .chain(lags);
            Ok(joined(g, parts.map(Some)))
        })
    }

    fn once(
        &mut self,
        g: &mut Graph,
        name: &'static str,
        make: impl FnOnce(&mut Self, &mut Graph) -> Result<Option<Value>>,
    ) -> Result<Option<Value>> {
        if let Some(made) = self.made.get(name) {
            return Ok(made.clone());
        }
        let made = g.within(name, |g| make(self, g))?;
        self.made.insert(name, made.clone());
        Ok(made)
    }

    fn fixed_raw(&self, g: &mut Graph) -> Option<Value> {
        let columns = &self.inputs.columns.static_numbers;
        let numbers = columns.iter().map(|column| Some(self.inputs.number(column)));
        joined(g, numbers)
    }

    /// `[N, S, F]`.
    fn months_raw(&self, g: &mut Graph, span: Span) -> Result<Option<Value>> {
        if let Some(history) = &self.history {
            return history.numbers(g, &self.inputs, span);
        }
        // Without months only dates are left, as numbers of their own.
        let days = self.inputs.columns.dated_numbers.iter().map(|column| {
            let day = self.inputs.number(column);
            Some(history::months_of(g, &day))
        });
        let days: Vec<_> = days.collect();
        Ok(joined(g, days).map(|days| g.unsqueeze(&days, &[1])))
    }

    /// Scaled numbers, indicators, one-hot categories, `[N, S, month_width]`.
    fn scaled_months(&mut self, g: &mut Graph, span: Span) -> Result<Option<Value>> {
        let mut parts = Vec::new();
        if let Some(raw) = self.months_raw(g, span)? {
            parts.push(scale(g, &self.fitted.month_numbers, &raw)?);
        }
        let codes = self.dated_codes(g, span);
        for (codes, fitted) in codes.iter().zip(&self.fitted.month_categories) {
            parts.push(g.within(&fitted.name, |g| one_hot(g, codes, fitted)));
        }
        Ok((!parts.is_empty()).then(|| g.concat(2, &parts)))
    }

    /// Codes of each category that changes, `[N, S]`.
    fn dated_codes(&self, g: &mut Graph, span: Span) -> Vec<Value> {
        let pairs = self.inputs.columns.dated_categories.iter().zip(&self.fitted.month_categories);
        let codes = pairs.map(|(column, fitted): (&Column, _)| {
            let codes = self.inputs.codes(g, column, fitted);
            at_span(g, &codes, (column.monthly, span))
        });
        codes.collect()
    }

    fn windows_raw(&mut self, g: &mut Graph) -> Result<Option<Value>> {
        self.once(g, "windows", |blocks, g| {
            let measures = blocks.fitted.measures.len();
            let Some(history) = blocks.history.as_ref().filter(|_| measures > 0) else {
                return Ok(None);
            };
            Ok(windows(g, history, &blocks.fitted.spec.windows, measures))
        })
    }

    /// Each measure some months back, `[N, M L]`, measure by measure.
    fn lags(&self, g: &mut Graph) -> Option<Value> {
        let (lags, measures) = (self.fitted.lags(), self.fitted.measures.len());
        let history = self.history.as_ref().filter(|_| lags > 0 && measures > 0)?;
        let levels: Option<Vec<Value>> =
            (1..=lags).map(|lag| history.ago(g, Span::Last, lag)).collect();
        let levels: Vec<Value> =
            levels?.iter().map(|level| g.transpose(level, &[0, 2, 1])).collect();
        let levels = g.concat(2, &levels);
        Some(g.reshape(&levels, &[-1, (lags * measures) as i64]))
    }
}

/// Columns side by side; None without any.
fn joined(g: &mut Graph, parts: impl IntoIterator<Item = Option<Value>>) -> Option<Value> {
    let parts: Vec<Value> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| g.concat(1, &parts))
}

fn one_hot(g: &mut Graph, codes: &Value, fitted: &FittedCategory) -> Value {
    let all: Vec<i64> = (0..fitted.codes() as i64).collect();
    let all = g.ints(&all);
    let codes = g.unsqueeze(codes, &[2]);
    let equal = g.compare("Equal", &codes, &all);
    g.cast(&equal, F32)
}

fn no_months() -> crate::error::Error {
    Kind::Corrupt.msg("a network over months where the bundle's sources have none")
}
