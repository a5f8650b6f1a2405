//! Golden customers as rows of a data frame, in the orientation that pandas calls split.

use serde_json::{Value, json};

use super::Inputs;
use crate::bundle::GoldenRow;
use crate::clock::Month;
use crate::error::Result;
use crate::onnx::{AS_OF, Column, HISTORY, Holds};
use crate::panel::{RawCell, RawCustomer};

/// Enough to see every column filled.
const ROWS_MAX: usize = 5;

pub fn split(inputs: &Inputs, golden: &[GoldenRow]) -> Result<Value> {
    let mut names: Vec<&str> = inputs.columns.iter().map(|column| &*column.name).collect();
    names.extend(inputs.history.then_some(HISTORY));
    names.extend(inputs.as_of.then_some(AS_OF));
    let rows: Vec<Value> =
        golden.iter().take(ROWS_MAX).map(|row| of_customer(inputs, &row.customer)).collect();
    Ok(json!({ "columns": names, "data": rows }))
}

fn of_customer(inputs: &Inputs, customer: &RawCustomer) -> Value {
    let end = customer.start.map(|start| start.plus(customer.length as i32 - 1));
    let mut cells: Vec<Value> =
        inputs.columns.iter().map(|column| of_column(column, customer, end)).collect();
    cells.extend(inputs.history.then(|| json!(customer.length)));
    let as_of = end.map(|end| end.year() * 100 + end.of_year() as i32);
    cells.extend(inputs.as_of.then(|| json!(as_of)));
    Value::Array(cells)
}

fn of_column(column: &Column, customer: &RawCustomer, end: Option<Month>) -> Value {
    match (&column.source, customer.start) {
        (None, _) => json!(customer.months.get(&column.raw)),
        (Some(source), Some(start)) if column.monthly => (0..customer.length as i32)
            .map(|since| at(customer, (source, &column.raw), Some(start.plus(since))))
            .map(|cell| in_list(column, cell))
            .collect(),
        (Some(source), _) => at(customer, (source, &column.raw), end),
    }
}

/// MLflow makes "None" of a missing text in a list; an empty one stays.
fn in_list(column: &Column, cell: Value) -> Value {
    if cell.is_null() && column.holds != Holds::Number { json!("") } else { cell }
}

/// The cell that holds at the end of a month.
fn at(customer: &RawCustomer, (source, column): (&str, &str), month: Option<Month>) -> Value {
    let holds = |begins: Option<Month>| begins.is_none() || month.is_none() || begins <= month;
    let mut versions = customer.attributes.iter().filter(|version| version.source == source);
    let version = versions.rfind(|version| holds(version.valid_from));
    match version.and_then(|version| version.values.get(column)) {
        Some(RawCell::Number(number)) => json!(number),
        Some(RawCell::Text(text)) => json!(text),
        Some(RawCell::Missing) | None => Value::Null,
    }
}
