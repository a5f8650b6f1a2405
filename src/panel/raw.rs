//! Customers as plain values: out of a panel and back into one. The golden rows of a bundle are
//! written in this form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::attributes::{AttributeCells, AttributeColumn, AttributeTable};
use super::build::MONTHS_MAX;
use super::{BuildReport, Calendar, Panel};
use crate::clock::{Month, format_day, parse_day};
use crate::config::ColumnType;
use crate::error::{Error, Kind, Result};
use crate::panel::Intake;

/// One customer's history up to an as-of month, as it came from the tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RawCustomer {
    pub customer_id: String,
    /// First month of the history; none without dated sources.
    pub start: Option<Month>,
    /// Values by measure, month by month from `start`; null is missing.
    pub months: BTreeMap<String, Vec<Option<f32>>>,
    /// Number of months; a history without measures still has its length.
    pub length: usize,
    pub attributes: Vec<RawVersion>,
}

/// One row of an attributes source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RawVersion {
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Month>,
    pub values: BTreeMap<String, RawCell>,
}

/// A cell: number, text (a category, or a date as 2024-03-31), or nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RawCell {
    Number(f32),
    Text(String),
    Missing,
}

impl RawCustomer {
    /// A customer of one month of whom nothing is known: a panel of it shows which columns there
    /// are.
    pub fn nobody(dated: bool, measures: &[String]) -> Self {
        RawCustomer {
            customer_id: String::new(),
            start: dated.then(|| Month::new(2000, 1)),
            months: measures.iter().map(|measure| (measure.clone(), vec![None])).collect(),
            length: 1,
            attributes: Vec::new(),
        }
    }
}

impl Panel {
    /// A customer's history up to and with the calendar index `month`.
    pub fn raw(&self, customer: usize, month: usize) -> RawCustomer {
        let start = self.starts[customer] as usize;
        let length = month + 1 - start;
        let first = self.offsets[customer];
        let cell = |row: usize, m: usize| Some(self.at(row)[m]).filter(|v| !v.is_nan());
        let series = |m| (first..first + length).map(|row| cell(row, m)).collect();
        let months =
            self.measures.iter().enumerate().map(|(m, n)| (n.clone(), series(m))).collect();
        let now = self.calendar.month(month);
        RawCustomer {
            customer_id: self.customers[customer].clone(),
            start: self.calendar.dated.then(|| self.calendar.month(start)),
            months,
            length,
            attributes: self.attributes.iter().flat_map(|t| t.raw(customer, now)).collect(),
        }
    }

    /// A panel of plain customers; each history ends where it ends.
    pub fn from_raw(raw: &[RawCustomer], intake: &Intake) -> Result<Panel> {
        let measures = measures_of(intake);
        raw.iter().try_for_each(check)?;
        let starts: Vec<Month> = raw.iter().map(|c| c.start.unwrap_or(Month(0))).collect();
        let first = starts.iter().min().copied().unwrap_or(Month(0));
        let ends = raw.iter().zip(&starts).map(|(c, start)| start.0 + c.length as i32);
        let months = ends.max().unwrap_or(1) - first.0;
        if months > i32::from(u16::MAX) {
            return Err(Kind::Corrupt.msg(format!("raw customers lie {months} months apart")));
        }
        let mut offsets = vec![0];
        let mut values = Vec::new();
        for customer in raw {
            for month in 0..customer.length {
                for measure in &measures {
                    let series = customer.months.get(measure).ok_or_else(|| missing(measure))?;
                    let cell = series.get(month).ok_or_else(|| missing(measure))?;
                    values.push(cell.unwrap_or(f32::NAN));
                }
            }
            offsets.push(offsets[offsets.len() - 1] + customer.length);
        }
        Ok(Panel {
            customers: raw.iter().map(|c| c.customer_id.clone()).collect(),
            calendar: Calendar {
                first,
                months: months.max(1) as u32,
                dated: raw.iter().any(|c| c.start.is_some()),
            },
            measures,
            offsets,
            starts: starts.iter().map(|start| (start.0 - first.0) as u16).collect(),
            values,
            attributes: tables(raw, intake)?,
            report: BuildReport::default(),
        })
    }
}

/// That a customer has months, as many as a panel may have, in years that there are.
fn check(customer: &RawCustomer) -> Result<()> {
    let (id, length) = (&customer.customer_id, customer.length);
    let wrong = |what: String| Err(Kind::Corrupt.msg(format!("the raw customer `{id}` {what}")));
    if !(1..=MONTHS_MAX as usize).contains(&length) {
        return wrong(format!("has {length} months, expected 1 to {MONTHS_MAX}"));
    }
    match customer.start {
        Some(start) if !(0..10_000).contains(&start.year()) => wrong(format!("starts in {start}")),
        _ => Ok(()),
    }
}

fn missing(measure: &str) -> Error {
    Kind::Corrupt.msg(format!("a raw customer lacks months of the measure `{measure}`"))
}

/// The measures that a panel built from these sources has, in its order.
fn measures_of(intake: &Intake) -> Vec<String> {
    use crate::config::SourceKind;
    let of = |source: &crate::config::SourceSpec| -> Vec<String> {
        match source.kind {
            SourceKind::Attributes => Vec::new(),
            SourceKind::Activity => source.columns.keys().cloned().collect(),
            SourceKind::Events => source.measures.keys().cloned().collect(),
        }
    };
    intake.sources.iter().flat_map(of).collect()
}

impl AttributeTable {
    fn raw(&self, customer: usize, now: Month) -> Vec<RawVersion> {
        let versions = self.offsets[customer] as usize..self.offsets[customer + 1] as usize;
        versions
            .filter(|&version| !self.versioned || self.valid_from[version] <= now)
            .map(|version| RawVersion {
                source: self.source.clone(),
                valid_from: self.versioned.then(|| self.valid_from[version]),
                values: self.columns.iter().map(|c| (c.name.clone(), c.raw(version))).collect(),
            })
            .collect()
    }
}

impl AttributeColumn {
    fn raw(&self, version: usize) -> RawCell {
        match &self.cells {
            AttributeCells::Number(cells) if !cells[version].is_nan() => {
                RawCell::Number(cells[version])
            }
            AttributeCells::Category { codes, values } => codes[version]
                .map_or(RawCell::Missing, |code| RawCell::Text(values[code as usize].clone())),
            AttributeCells::Date(cells) => {
                cells[version].map_or(RawCell::Missing, |day| RawCell::Text(format_day(day)))
            }
            AttributeCells::Number(_) => RawCell::Missing,
        }
    }
}

fn tables(raw: &[RawCustomer], intake: &Intake) -> Result<Vec<AttributeTable>> {
    let attributes =
        intake.sources.iter().filter(|s| s.kind == crate::config::SourceKind::Attributes);
    attributes
        .map(|source| {
            let mut offsets = vec![0u32];
            let mut versions: Vec<&RawVersion> = Vec::new();
            for customer in raw {
                versions.extend(customer.attributes.iter().filter(|v| v.source == source.name));
                offsets.push(versions.len() as u32);
            }
            let column = |(name, spec): (&String, &crate::config::ColumnSpec)| {
                let cells: Vec<&RawCell> = versions
                    .iter()
                    .map(|v| v.values.get(name).unwrap_or(&RawCell::Missing))
                    .collect();
                Ok(AttributeColumn { name: name.clone(), cells: read(name, &cells, spec.kind())? })
            };
            Ok(AttributeTable {
                source: source.name.clone(),
                versioned: source.valid_from.is_some(),
                offsets,
                valid_from: versions
                    .iter()
                    .map(|v| v.valid_from.unwrap_or(Month(i32::MIN)))
                    .collect(),
                columns: source.columns.iter().map(column).collect::<Result<_>>()?,
            })
        })
        .collect()
}

fn read(name: &str, cells: &[&RawCell], kind: ColumnType) -> Result<AttributeCells> {
    let wrong = |cell: &RawCell| {
        Kind::Corrupt.msg(format!("column `{name}` holds {cell:?}, expected {kind:?}"))
    };
    Ok(match kind {
        ColumnType::Number => {
            let number = |cell: &&RawCell| match cell {
                RawCell::Number(value) => Ok(*value),
                RawCell::Missing => Ok(f32::NAN),
                RawCell::Text(_) => Err(wrong(cell)),
            };
            AttributeCells::Number(cells.iter().map(number).collect::<Result<_>>()?)
        }
        ColumnType::Date => {
            let day = |cell: &&RawCell| match cell {
                RawCell::Text(text) => parse_day(text).map(Some).ok_or_else(|| wrong(cell)),
                RawCell::Missing => Ok(None),
                RawCell::Number(_) => Err(wrong(cell)),
            };
            AttributeCells::Date(cells.iter().map(day).collect::<Result<_>>()?)
        }
        ColumnType::Category => {
            let text = |cell: &&RawCell| match cell {
                RawCell::Text(text) => Ok(Some(text.clone())),
                RawCell::Missing => Ok(None),
                RawCell::Number(value) => Ok(Some(value.to_string())),
            };
            let texts: Vec<Option<String>> = cells.iter().map(text).collect::<Result<_>>()?;
            AttributeCells::categories(texts.iter().map(Option::as_deref))
        }
    })
}
