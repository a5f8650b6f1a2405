//! From polars columns to typed cells, with the place of every cell that does not fit.

use polars::prelude::*;

use super::texts::Texts;
use crate::clock::{Month, parse_day};
use crate::config::ColumnType;

/// A column of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Cells {
    /// NaN is missing.
    Number(Vec<f64>),
    Category(Texts),
    /// Days since 1970-01-01.
    Date(Vec<Option<i32>>),
}

/// A cell that could not be read as its type: row in the batch, and the value as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadCell {
    pub row: usize,
    pub value: String,
}

impl Cells {
    pub fn len(&self) -> usize {
        match self {
            Cells::Number(cells) => cells.len(),
            Cells::Category(cells) => cells.len(),
            Cells::Date(cells) => cells.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No cells yet.
    pub fn none(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Number => Cells::Number(Vec::new()),
            ColumnType::Category => Cells::Category(Texts::default()),
            ColumnType::Date => Cells::Date(Vec::new()),
        }
    }

    pub fn clear(&mut self) {
        match self {
            Cells::Number(cells) => cells.clear(),
            Cells::Category(cells) => cells.clear(),
            Cells::Date(cells) => cells.clear(),
        }
    }

    /// The cells of another order; those that stand nowhere in the column are missing.
    pub fn placed(&self, places: &[Option<usize>]) -> Self {
        let places = places.iter();
        match self {
            Cells::Number(cells) => {
                Cells::Number(places.map(|place| place.map_or(f64::NAN, |at| cells[at])).collect())
            }
            Cells::Category(cells) => {
                Cells::Category(places.map(|place| place.map_or("", |at| &cells[at])).collect())
            }
            Cells::Date(cells) => {
                Cells::Date(places.map(|place| place.and_then(|at| cells[at])).collect())
            }
        }
    }

    /// Appends the cells of some rows of another column.
    ///
    /// # Panics
    /// If that column is of another type.
    pub fn take(&mut self, from: &Cells, rows: &[usize]) {
        match (self, from) {
            (Cells::Number(to), Cells::Number(from)) => to.extend(rows.iter().map(|&r| from[r])),
            (Cells::Category(to), Cells::Category(from)) => {
                to.extend(rows.iter().map(|&r| &from[r]));
            }
            (Cells::Date(to), Cells::Date(from)) => to.extend(rows.iter().map(|&r| from[r])),
            _ => unreachable!("a column keeps its type from batch to batch"),
        }
    }

    /// Gives cell `i` to the column `to[places[i]]`.
    ///
    /// # Panics
    /// If a column is of another type.
    pub fn deal(&self, places: &[usize], to: &mut [&mut Cells]) {
        match self {
            Cells::Number(cells) => {
                for (&cell, &place) in cells.iter().zip(places) {
                    let Cells::Number(to) = &mut *to[place] else { unreachable!("of one type") };
                    to.push(cell);
                }
            }
            Cells::Category(cells) => {
                for (cell, &place) in cells.iter().zip(places) {
                    let Cells::Category(to) = &mut *to[place] else { unreachable!("of one type") };
                    to.push(cell);
                }
            }
            Cells::Date(cells) => {
                for (&cell, &place) in cells.iter().zip(places) {
                    let Cells::Date(to) = &mut *to[place] else { unreachable!("of one type") };
                    to.push(cell);
                }
            }
        }
    }

    /// Reads a polars column as `kind`. Cells that do not fit become missing and are listed.
    pub fn read(column: &Column, kind: ColumnType) -> PolarsResult<(Cells, Vec<BadCell>)> {
        match kind {
            ColumnType::Number => numbers(column),
            ColumnType::Category => Ok((Cells::Category(texts(column)?), Vec::new())),
            ColumnType::Date => dates(column),
        }
    }

    /// The same value in every row; for columns that a folder's name carries.
    pub fn constant(value: &str, kind: ColumnType, rows: usize) -> (Cells, Vec<BadCell>) {
        let column = Column::new("hive".into(), vec![value; rows]);
        Cells::read(&column, kind).expect("a text column can be read as any type")
    }
}

fn numbers(column: &Column) -> PolarsResult<(Cells, Vec<BadCell>)> {
    if column.dtype() == &DataType::String {
        return Ok(numbers_of_texts(column.str()?));
    }
    if !column.dtype().is_primitive_numeric() && column.dtype() != &DataType::Boolean {
        return Ok(all_bad(column, Cells::Number(vec![f64::NAN; column.len()])));
    }
    let cast = column.cast(&DataType::Float64)?;
    let cast = cast.f64()?;
    let mut values = Vec::with_capacity(column.len());
    for array in cast.downcast_iter() {
        match array.validity() {
            // A whole piece of memory at a time.
            None => values.extend_from_slice(array.values()),
            Some(_) => {
                values.extend(array.iter().map(|cell| cell.copied().unwrap_or(f64::NAN)));
            }
        }
    }
    let mut bad = Vec::new();
    for (row, value) in values.iter_mut().enumerate().filter(|(_, value)| is_no_number(**value)) {
        bad.push(BadCell { row, value: cell_text(column, row) });
        *value = f64::NAN;
    }
    Ok((Cells::Number(values), bad))
}

fn numbers_of_texts(texts: &StringChunked) -> (Cells, Vec<BadCell>) {
    let mut bad = Vec::new();
    let mut values = Vec::with_capacity(texts.len());
    for (row, cell) in texts.iter().enumerate() {
        let text = cell.unwrap_or_default();
        let value = match text.trim() {
            "" => Some(f64::NAN),
            text => text.parse().ok().filter(|value| !is_no_number(*value)),
        };
        if value.is_none() {
            bad.push(BadCell { row, value: text.to_owned() });
        }
        values.push(value.unwrap_or(f64::NAN));
    }
    (Cells::Number(values), bad)
}

/// NaN counts as missing; an infinite number is no measurement, and neither is one that the
/// network's 32 bits cannot hold.
fn is_no_number(value: f64) -> bool {
    (value as f32).is_infinite()
}

/// Whole numbers print without a decimal point, so that a code is the same text from CSV,
/// integers and floats.
pub(super) fn texts(column: &Column) -> PolarsResult<Texts> {
    let column = match column.dtype() {
        DataType::Float32 | DataType::Float64 => {
            let cast = column.cast(&DataType::Float64)?;
            let mut texts = Texts::default();
            for cell in cast.f64()?.iter() {
                match cell.filter(|value| !value.is_nan()) {
                    Some(value) => texts.push(&value.to_string()),
                    None => texts.push(""),
                }
            }
            return Ok(texts);
        }
        DataType::String => column.clone(),
        _ => column.cast(&DataType::String)?,
    };
    Ok(column.str()?.iter().map(Option::unwrap_or_default).collect())
}

fn dates(column: &Column) -> PolarsResult<(Cells, Vec<BadCell>)> {
    match column.dtype() {
        DataType::Date | DataType::Datetime(..) => {
            let days = column.cast(&DataType::Date)?;
            let days = days.cast(&DataType::Int32)?;
            Ok((Cells::Date(days.i32()?.iter().collect()), Vec::new()))
        }
        DataType::String => {
            let mut bad = Vec::new();
            let mut days = Vec::with_capacity(column.len());
            for (row, cell) in column.str()?.iter().enumerate() {
                let text = cell.map(str::trim).filter(|text| !text.is_empty());
                let day = text.map(|text| {
                    parse_day(text).or_else(|| text.parse::<Month>().ok().map(Month::first_day))
                });
                if day == Some(None) {
                    bad.push(BadCell { row, value: cell_text(column, row) });
                }
                days.push(day.flatten());
            }
            Ok((Cells::Date(days), bad))
        }
        _ => Ok(all_bad(column, Cells::Date(vec![None; column.len()]))),
    }
}

/// A column of a type that cannot hold what is asked: every cell that is there is bad.
fn all_bad(column: &Column, missing: Cells) -> (Cells, Vec<BadCell>) {
    let present = column.is_not_null();
    let bad = present.iter().enumerate().filter(|(_, there)| *there == Some(true));
    let bad = bad.map(|(row, _)| BadCell { row, value: cell_text(column, row) }).collect();
    (missing, bad)
}

fn cell_text(column: &Column, row: usize) -> String {
    column.get(row).map_or_else(|_| "?".into(), |value| value.str_value().into_owned())
}
