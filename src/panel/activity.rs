//! Monthly rows as they come: one per customer and month.

use super::attributes::feature_columns;
use super::build::Reader;
use crate::clock::Month;
use crate::config::{Absent, ColumnType, SourceSpec};
use crate::error::{Kind, Result};
use crate::source::{Cells, Wanted};

/// The measures of one source on months, in any order.
pub(super) struct MonthRows {
    pub source: String,
    pub absent: Absent,
    pub measures: Vec<String>,
    /// Customer, by order of arrival.
    pub customers: Vec<u32>,
    pub months: Vec<Month>,
    /// `[rows, measures]`; NaN is missing.
    pub values: Vec<f32>,
    pub late: u64,
}

impl MonthRows {
    pub(super) fn new(source: &SourceSpec, measures: Vec<String>) -> Self {
        MonthRows {
            source: source.name.clone(),
            absent: source.absent,
            measures,
            customers: Vec::new(),
            months: Vec::new(),
            values: Vec::new(),
            late: 0,
        }
    }
}

impl Reader<'_> {
    /// Reads an activity source. A row that was known only after its month keeps its place, with
    /// every measure missing: at that as-of month nobody had it.
    pub(super) fn activity(&mut self, at: usize) -> Result<MonthRows> {
        let source = &self.intake.sources[at];
        let mut wanted = feature_columns(source);
        let measures = wanted.iter().map(|w| w.name.clone()).collect();
        wanted.extend(time_columns(source)?);
        let mut rows = MonthRows::new(source, measures);
        self.scan(at, &wanted, &mut |reader, batch| {
            let (columns, times) = batch.cells.split_at(rows.measures.len());
            for (row, key) in batch.keys.iter().enumerate() {
                let Some(customer) = reader.customer(key) else { continue };
                let month = reader.month(&times[0], row, &batch)?;
                let known = match times.get(1) {
                    Some(Cells::Date(days)) => days[row].map_or(month, Month::of_day),
                    _ => month,
                };
                rows.customers.push(customer);
                rows.months.push(month);
                rows.late += u64::from(known > month);
                for column in columns {
                    let Cells::Number(cells) = column else {
                        return Err(Kind::Config
                            .msg(format!("an activity column of `{}` is no number", source.name))
                            .hint("declare it as number, or put categories into attributes"));
                    };
                    rows.values.push(if known > month { f32::NAN } else { cells[row] as f32 });
                }
            }
            Ok(())
        })?;
        Ok(rows)
    }
}

/// The time column and, if declared, the known-at column.
pub(super) fn time_columns(source: &SourceSpec) -> Result<Vec<Wanted>> {
    let time = source.time.as_ref().ok_or_else(|| {
        Kind::Config.msg(format!("source `{}` needs `time`, the column of its dates", source.name))
    })?;
    let wanted = |name: &String| Wanted {
        name: name.clone(),
        kind: ColumnType::Date,
        on_bad: source.on_bad,
    };
    Ok(std::iter::once(time).chain(&source.known_at).map(wanted).collect())
}
