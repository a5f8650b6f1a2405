//! The rules: each sees every batch of its source once and says at the end what it counted.
//!
//! Values are remembered as 64-bit hashes: among 10^8 different values some two share a hash with
//! probability 3e-4 (birthday bound), and one row would then be counted as a repetition.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use super::histories::Histories;
use crate::clock::{Month, format_day};
use crate::source::{Batch, Cells};

/// A rule at work.
pub(super) trait Checker {
    fn observe(&mut self, batch: &Batch);

    /// What was counted. `last` is the last month that the panel can have.
    fn finish(self: Box<Self>, last: Option<Month>) -> Tally;
}

/// What a rule counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub rows: u64,
    pub failed: u64,
    pub first: Option<Offender>,
}

#[derive(Debug)]
pub(super) struct Offender {
    /// File and row from 0; None for what is not in the table at all.
    pub place: Option<(PathBuf, u64)>,
    pub what: String,
}

impl Offender {
    fn at(batch: &Batch, row: usize, slot: Slot) -> Self {
        let customer = format!("customer {}", Value::Text(&batch.keys[row]));
        let what = match (slot, slot.value(batch, row)) {
            (Slot::Key, _) => customer,
            (Slot::Cell(_), Some(value)) => format!("{value}, {customer}"),
            (Slot::Cell(_), None) => format!("no value, {customer}"),
        };
        Offender { place: Some((batch.file.into(), batch.first_row + row as u64)), what }
    }
}

/// Where in a batch a rule looks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Slot {
    Key,
    Cell(usize),
}

impl Slot {
    pub(super) fn value<'b>(self, batch: &'b Batch, row: usize) -> Option<Value<'b>> {
        match self {
            Slot::Key => Some(Value::Text(&batch.keys[row])),
            Slot::Cell(at) => match &batch.cells[at] {
                Cells::Number(cells) => (!cells[row].is_nan()).then(|| Value::number(cells[row])),
                Cells::Category(cells) => cells.get(row).map(Value::Text),
                Cells::Date(cells) => cells[row].map(Value::Day),
            },
        }
    }
}

/// A cell that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Value<'b> {
    /// Bits of a number.
    Number(u64),
    /// Days since 1970-01-01.
    Day(i32),
    Text(&'b str),
}

impl Value<'_> {
    /// Zero has two bit patterns; adding 0 leaves one.
    pub(super) fn number(value: f64) -> Self {
        Value::Number((value + 0.0).to_bits())
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(bits) => write!(f, "{}", f64::from_bits(*bits)),
            Value::Day(days) => write!(f, "{}", format_day(*days)),
            // 60 characters: a line of the report stays a line.
            Value::Text(text) => write!(f, "{:?}", text.chars().take(60).collect::<String>()),
        }
    }
}

/// The same on every machine and in every run.
pub(super) fn hash_of(value: Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not a row that the rule speaks of.
    Skipped,
    Kept,
    Failed,
}

impl Verdict {
    fn of(kept: bool) -> Self {
        if kept { Verdict::Kept } else { Verdict::Failed }
    }
}

/// A rule that judges each row as it comes.
struct PerRow<F> {
    slot: Slot,
    judge: F,
    tally: Tally,
}

impl<F: FnMut(&str, Option<Value>) -> Verdict> Checker for PerRow<F> {
    fn observe(&mut self, batch: &Batch) {
        for (row, customer) in batch.keys.iter().enumerate() {
            let verdict = (self.judge)(customer, self.slot.value(batch, row));
            self.tally.rows += u64::from(verdict != Verdict::Skipped);
            if verdict == Verdict::Failed {
                self.tally.failed += 1;
                self.tally.first.get_or_insert_with(|| Offender::at(batch, row, self.slot));
            }
        }
    }

    fn finish(self: Box<Self>, _last: Option<Month>) -> Tally {
        self.tally
    }
}

/// A rule over the customer and the value of each row.
fn per_row<'c>(
    slot: Slot,
    judge: impl FnMut(&str, Option<Value>) -> Verdict + 'c,
) -> Box<dyn Checker + 'c> {
    Box::new(PerRow { slot, judge, tally: Tally::default() })
}

/// A rule over the values that are there.
fn per_value<'c>(slot: Slot, mut kept: impl FnMut(Value) -> bool + 'c) -> Box<dyn Checker + 'c> {
    per_row(slot, move |_, value| match value {
        None => Verdict::Skipped,
        Some(value) => Verdict::of(kept(value)),
    })
}

pub(super) fn not_null(slot: Slot) -> Box<dyn Checker> {
    per_row(slot, |_, value| Verdict::of(value.is_some()))
}

/// `set` holds the hashes of the values that are kept.
pub(super) fn member_of<'c>(
    slot: Slot,
    set: impl Borrow<HashSet<u64>> + 'c,
) -> Box<dyn Checker + 'c> {
    per_value(slot, move |value| set.borrow().contains(&hash_of(value)))
}

pub(super) fn unique(slot: Slot) -> Box<dyn Checker> {
    let mut seen = HashSet::new();
    per_value(slot, move |value| seen.insert(hash_of(value)))
}

/// Bounds are inclusive; the cells are numbers.
pub(super) fn between(slot: Slot, min: Option<f64>, max: Option<f64>) -> Box<dyn Checker> {
    per_value(slot, move |value| match value {
        Value::Number(bits) => {
            let number = f64::from_bits(bits);
            min.is_none_or(|min| min <= number) && max.is_none_or(|max| number <= max)
        }
        Value::Day(_) | Value::Text(_) => false,
    })
}

/// The cells are dates. A row without a month is no second row of any month.
pub(super) fn duplicate_month(slot: Slot) -> Box<dyn Checker> {
    let mut seen = Histories::default();
    per_row(slot, move |customer, value| match value {
        Some(Value::Day(day)) => {
            let customer = hash_of(Value::Text(customer));
            Verdict::of(seen.insert(customer, Month::of_day(day)).new_month)
        }
        _ => Verdict::Skipped,
    })
}

/// Counts months between first and last row, and those of them without a row.
struct Gaps {
    slot: Slot,
    histories: Histories,
    /// In order of arrival, one behind the other, so that an offender can be named.
    names: String,
    ends: Vec<usize>,
}

pub(super) fn gap_months(slot: Slot) -> Box<dyn Checker> {
    let (names, ends) = (String::new(), Vec::new());
    Box::new(Gaps { slot, histories: Histories::default(), names, ends })
}

impl Checker for Gaps {
    fn observe(&mut self, batch: &Batch) {
        for (row, customer) in batch.keys.iter().enumerate() {
            if let Some(Value::Day(day)) = self.slot.value(batch, row) {
                let hash = hash_of(Value::Text(customer));
                if self.histories.insert(hash, Month::of_day(day)).new_customer {
                    self.names.push_str(customer);
                    self.ends.push(self.names.len());
                }
            }
        }
    }

    fn finish(self: Box<Self>, _last: Option<Month>) -> Tally {
        let mut tally = Tally::default();
        let mut first: Option<(&str, Month)> = None;
        let mut start = 0;
        for ((expected, found, gap), &end) in self.histories.gaps().zip(&self.ends) {
            let customer = &self.names[start..end];
            start = end;
            tally.rows += expected;
            tally.failed += expected - found;
            if let Some(month) = gap
                && first.is_none_or(|(other, _)| customer < other)
            {
                first = Some((customer, month));
            }
        }
        tally.first = first.map(|(customer, month)| Offender {
            place: None,
            what: format!("no row of {month}, customer {}", Value::Text(customer)),
        });
        tally
    }
}

/// Breaks on all rows or on none.
struct NotConstant {
    slot: Slot,
    rows: u64,
    /// Hash of the first value met, and the value as text.
    value: Option<(u64, String)>,
    varies: bool,
}

pub(super) fn not_constant(slot: Slot) -> Box<dyn Checker> {
    Box::new(NotConstant { slot, rows: 0, value: None, varies: false })
}

impl Checker for NotConstant {
    fn observe(&mut self, batch: &Batch) {
        self.rows += batch.keys.len() as u64;
        for row in 0..batch.keys.len() {
            if self.varies {
                return;
            }
            let Some(value) = self.slot.value(batch, row) else { continue };
            let hash = hash_of(value);
            match &self.value {
                None => self.value = Some((hash, value.to_string())),
                Some((first, _)) => self.varies = hash != *first,
            }
        }
    }

    fn finish(self: Box<Self>, _last: Option<Month>) -> Tally {
        let failed = if self.varies { 0 } else { self.rows };
        let what = match self.value {
            Some((_, value)) => format!("every value is {value}"),
            None => "there is no value".into(),
        };
        let first = (failed > 0).then_some(Offender { place: None, what });
        Tally { rows: self.rows, failed, first }
    }
}

/// Dates by month: the last month may be known only when every source has been read.
struct FutureDates {
    slot: Slot,
    rows: u64,
    months: BTreeMap<Month, Dated>,
}

struct Dated {
    rows: u64,
    /// How many dates had come before the first of this month.
    before: u64,
    first: Offender,
}

pub(super) fn future_dates(slot: Slot) -> Box<dyn Checker> {
    Box::new(FutureDates { slot, rows: 0, months: BTreeMap::new() })
}

impl Checker for FutureDates {
    fn observe(&mut self, batch: &Batch) {
        for row in 0..batch.keys.len() {
            let Some(Value::Day(day)) = self.slot.value(batch, row) else { continue };
            let dated = self.months.entry(Month::of_day(day)).or_insert_with(|| Dated {
                rows: 0,
                before: self.rows,
                first: Offender::at(batch, row, self.slot),
            });
            dated.rows += 1;
            self.rows += 1;
        }
    }

    fn finish(self: Box<Self>, last: Option<Month>) -> Tally {
        let future = self.months.into_iter().filter(|(month, _)| last.is_some_and(|l| *month > l));
        let future: Vec<Dated> = future.map(|(_, dated)| dated).collect();
        let failed = future.iter().map(|dated| dated.rows).sum();
        let first = future.into_iter().min_by_key(|dated| dated.before).map(|dated| dated.first);
        Tally { rows: self.rows, failed, first }
    }
}
