//! Dated rows aggregated to months. An event counts in the month in which it was known.

use super::activity::{MonthRows, time_columns};
use super::attributes::feature_columns;
use super::build::Reader;
use crate::clock::Month;
use crate::config::{Aggregation, ColumnType, EventMeasure, SourceSpec};
use crate::error::{Kind, Result};
use crate::source::{Cells, Wanted};

/// One event: who, when, and where the values are that its source's measures need.
struct Event {
    customer: u32,
    month: Month,
    day: i32,
    /// Place among the rows of [`Events::values`].
    row: u32,
}

/// All events of a source.
struct Events {
    rows: Vec<Event>,
    /// `[events, measures]` in order of arrival, flat: a vector for each event would cost more than
    /// the values in it. NaN is missing. Text for `distinct` comes as a number of its own.
    values: Vec<f64>,
    width: usize,
}

impl Events {
    fn value(&self, event: &Event, measure: usize) -> f64 {
        self.values[event.row as usize * self.width + measure]
    }
}

impl Reader<'_> {
    /// Reads an event source and aggregates it. Sums do not depend on the order of rows, since
    /// the values of a group are sorted first.
    pub(super) fn events(&mut self, at: usize) -> Result<MonthRows> {
        let source = &self.intake.sources[at];
        let names = source.measures.keys().cloned().collect();
        let measures: Vec<&EventMeasure> = source.measures.values().collect();
        let mut events = self.read_events(at, &measures)?;
        events.rows.sort_by_key(|event| (event.customer, event.month));
        let mut rows = MonthRows::new(source, names);
        let mut room = Vec::new();
        for group in events.rows.chunk_by(|a, b| (a.customer, a.month) == (b.customer, b.month)) {
            rows.customers.push(group[0].customer);
            rows.months.push(group[0].month);
            for (at, measure) in measures.iter().enumerate() {
                // A sum may leave the range of f32, which then holds the largest number.
                let value = events.aggregate(group, at, measure.agg, &mut room);
                rows.values.push(value.clamp(f32::MIN.into(), f32::MAX.into()) as f32);
            }
        }
        Ok(rows)
    }

    fn read_events(&mut self, at: usize, measures: &[&EventMeasure]) -> Result<Events> {
        let source = &self.intake.sources[at];
        let columns = needed_columns(source, measures)?;
        let place = |m: &&EventMeasure| {
            m.column.as_ref().and_then(|name| columns.iter().position(|w| w.name == *name))
        };
        let places: Vec<Option<usize>> = measures.iter().map(place).collect();
        let mut wanted = columns;
        let times_at = wanted.len();
        wanted.extend(time_columns(source)?);
        let mut words = std::collections::HashMap::<String, f64>::new();
        let (mut rows, mut values) = (Vec::new(), Vec::new());
        self.scan(at, &wanted, &mut |reader, batch| {
            for (row, key) in batch.keys.iter().enumerate() {
                let Some(customer) = reader.customer(key) else { continue };
                let happened = reader.day(&batch.cells[times_at], row, &batch)?;
                let day = match batch.cells.get(times_at + 1) {
                    Some(Cells::Date(days)) => days[row].unwrap_or(happened).max(happened),
                    _ => happened,
                };
                let value = |place: &Option<usize>| match place.map(|p| &batch.cells[p]) {
                    None => 1.0,
                    Some(Cells::Number(cells)) => cells[row],
                    Some(Cells::Date(cells)) => cells[row].map_or(f64::NAN, f64::from),
                    Some(Cells::Category(cells)) => cells.get(row).map_or(f64::NAN, |word| {
                        let next = words.len() as f64;
                        match words.get(word) {
                            Some(&number) => number,
                            None => *words.entry(word.to_owned()).or_insert(next),
                        }
                    }),
                };
                values.extend(places.iter().map(value));
                let row = rows.len() as u32;
                rows.push(Event { customer, month: Month::of_day(day), day, row });
            }
            Ok(())
        })?;
        Ok(Events { rows, values, width: places.len() })
    }
}

pub(super) fn needed_columns(
    source: &SourceSpec,
    measures: &[&EventMeasure],
) -> Result<Vec<Wanted>> {
    let declared = feature_columns(source);
    let mut needed: Vec<Wanted> = Vec::new();
    for measure in measures {
        let Some(name) = &measure.column else { continue };
        let column = declared.iter().find(|w| w.name == *name).ok_or_else(|| {
            Kind::Config
                .msg(format!("source `{}` aggregates `{name}`, which is not declared", source.name))
                .hint(format!("add {name} = \"number\" under its columns"))
        })?;
        if measure.agg != Aggregation::Distinct && column.kind != ColumnType::Number {
            return Err(Kind::Config.msg(format!(
                "source `{}`: `{name}` is no number; only `distinct` can aggregate it",
                source.name
            )));
        }
        if !needed.contains(column) {
            needed.push(column.clone());
        }
    }
    Ok(needed)
}

impl Events {
    /// Missing values take no part; a group without any value is 0 for count, sum and distinct, and
    /// missing for the others. `values` is scratch.
    fn aggregate(
        &self,
        group: &[Event],
        at: usize,
        agg: Aggregation,
        values: &mut Vec<f64>,
    ) -> f64 {
        values.clear();
        values.extend(group.iter().map(|e| self.value(e, at)).filter(|v| !v.is_nan()));
        values.sort_unstable_by(f64::total_cmp);
        let sum = || values.iter().sum::<f64>();
        match agg {
            Aggregation::Count => values.len() as f64,
            Aggregation::Sum => sum(),
            Aggregation::Mean => sum() / values.len() as f64,
            Aggregation::Max => values.last().copied().unwrap_or(f64::NAN),
            Aggregation::Distinct => {
                values.dedup();
                values.len() as f64
            }
            Aggregation::Last => {
                let latest = group.iter().filter(|e| !self.value(e, at).is_nan());
                latest
                    .map(|e| (e.day, self.value(e, at)))
                    .max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)))
                    .map_or(f64::NAN, |(_, value)| value)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregations() {
        let events = |values: &[(i32, f64)]| {
            let event = |(row, &(day, _)): (usize, &(i32, f64))| Event {
                customer: 0,
                month: Month(0),
                day,
                row: row as u32,
            };
            let rows = values.iter().enumerate().map(event).collect();
            Events { rows, values: values.iter().map(|(_, value)| *value).collect(), width: 1 }
        };
        let aggregate = |of: &Events, agg| of.aggregate(&of.rows, 0, agg, &mut Vec::new());
        let some = events(&[(3, 5.0), (1, 2.0), (3, f64::NAN), (2, 2.0)]);
        for (agg, expected) in [
            (Aggregation::Count, 3.0),
            (Aggregation::Sum, 9.0),
            (Aggregation::Mean, 3.0),
            (Aggregation::Max, 5.0),
            (Aggregation::Distinct, 2.0),
            (Aggregation::Last, 5.0),
        ] {
            assert_eq!(aggregate(&some, agg), expected, "{agg:?}");
        }
        let nothing = events(&[(1, f64::NAN)]);
        assert_eq!(aggregate(&nothing, Aggregation::Sum), 0.0);
        assert!(aggregate(&nothing, Aggregation::Mean).is_nan());
    }
}
