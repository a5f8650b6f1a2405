//! The Arrow pipe: a stream of batches in, one row per customer, and a stream of risks out, batch
//! by batch. It is for programs that keep this one running and hand it pieces of a table.
//!
//! A row holds the columns that `model.onnx` takes by name: attributes, a list of months for each
//! monthly measure, the as-of month. `rows` lays a batch out as a panel, so that the scores are those
//! of `churn score` on files, bit by bit, however the rows are cut into batches.

mod rows;

use std::io::{ErrorKind, Read, Write};

use polars::prelude::{DataFrame, PlSmallStr, PolarsError, PolarsResult};

use super::{Detail, curve_columns, curve_months};
use crate::bundle::{Bundle, Outlook};
use crate::error::{Error, Kind};
use crate::panel::Snapshots;
use crate::source::stream::{ArrowInput, ArrowOutput};
use crate::source::write::OutColumn;
use rows::Plan;

/// Passed through, so that a row can be told.
pub const CUSTOMER: &str = "customer_id";

/// What ended a stream early.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// Counted from 1; none before the first batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// Of the batch, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    #[serde(rename = "error", serialize_with = "message")]
    pub error: Box<Error>,
}

fn message<S: serde::Serializer>(error: &Error, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(error)
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault { batch: None, column: None, row: None, error: error.into() }
    }
}

impl Fault {
    fn of(column: &str, row: Option<usize>, message: String) -> Self {
        let row = row.map(|row| row as u64 + 1);
        let column = Some(column.to_owned());
        Fault { batch: None, column, row, error: Kind::Data.msg(message).into() }
    }

    fn in_batch(self, batch: u64) -> Self {
        Fault { batch: Some(batch), ..self }
    }

    /// As an error for people.
    pub fn told(self) -> Error {
        let place = |what: &str, at: Option<String>| at.map(|at| format!("{what} {at}"));
        let places = [
            place("batch", self.batch.map(|batch| batch.to_string())),
            place("row", self.row.map(|row| row.to_string())),
            place("column", self.column.map(|column| format!("`{column}`"))),
        ];
        let places: Vec<String> = places.into_iter().flatten().collect();
        match places.is_empty() {
            true => *self.error,
            false => Error {
                message: format!("{}: {}", places.join(", "), self.error.message),
                ..*self.error
            },
        }
    }
}

/// What went through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Piped {
    pub batches: u64,
    pub rows: u64,
}

/// Scores a stream until its end, or until nobody reads the scores any more, which is no error.
///
/// # Errors
/// The first batch that cannot be scored; those before it are out.
pub fn pipe(
    bundle: &Bundle,
    detail: Detail,
    input: impl Read,
    output: impl Write,
) -> Result<Piped, Fault> {
    let months = match detail {
        Detail::Risk => 0,
        Detail::Curve => curve_months(bundle)?,
    };
    let plan = Plan::new(bundle)?;
    let wanted = |name: &str| plan.wants(name);
    let (mut input, columns) = ArrowInput::open(input, &wanted).map_err(|e| unreadable(&e))?;
    plan.check(&columns)?;
    let scores = Scores { bundle, plan: &plan, months };
    let nobody = scores.of_none(&columns)?;
    let mut piped = Piped::default();
    let mut output = match ArrowOutput::begin(output, &nobody) {
        Ok(output) => output,
        Err(error) => return closed(error, piped),
    };
    loop {
        let number = piped.batches + 1;
        let batch = input.read().map_err(|error| unreadable(&error).in_batch(number))?;
        let Some(batch) = batch else { break };
        let rows = batch.height() as u64;
        let scores = scores.of(batch).map_err(|fault| fault.in_batch(number))?;
        if let Err(error) = output.write(scores) {
            return closed(error, piped);
        }
        piped = Piped { batches: number, rows: piped.rows + rows };
    }
    match output.finish() {
        Ok(()) => Ok(piped),
        Err(error) => closed(error, piped),
    }
}

/// Whether a failed write only means that the reader has gone.
fn closed(error: PolarsError, piped: Piped) -> Result<Piped, Fault> {
    match error {
        PolarsError::IO { error, .. } if error.kind() == ErrorKind::BrokenPipe => Ok(piped),
        error => Err(Kind::Environment.msg(format!("cannot write scores: {error}")).into()),
    }
}

fn unreadable(error: &PolarsError) -> Fault {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or("unknown error");
    let error = Kind::Schema.msg(format!("cannot read the Arrow stream: {first}"));
    error.hint("pipe in an IPC stream, as pyarrow.ipc.new_stream writes it").into()
}

struct Scores<'a> {
    bundle: &'a Bundle,
    plan: &'a Plan,
    /// Of a curve; 0 for none.
    months: usize,
}

impl Scores<'_> {
    fn of(&self, batch: DataFrame) -> Result<DataFrame, Fault> {
        let panel = self.plan.panel(&batch)?;
        let last = |c: usize| panel.starts[c] as usize + panel.months_of(c) - 1;
        let places = (0..batch.height()).map(|c| (c, last(c)));
        let snapshots = Snapshots::unlabelled(places);
        let outlook = self.bundle.scorer.outlook(&panel, &snapshots)?;
        self.table(&batch, outlook).map_err(|error| Kind::Internal.msg(error.to_string()).into())
    }

    /// The table of no customers.
    fn of_none(&self, columns: &crate::source::stream::ArrowColumns) -> Result<DataFrame, Fault> {
        let ids = self.plan.no_ids(columns)?;
        let none = Outlook { risks: Vec::new(), curves: Vec::new() };
        self.table(&ids, none).map_err(|error| Kind::Internal.msg(error.to_string()).into())
    }

    fn table(&self, batch: &DataFrame, outlook: Outlook) -> PolarsResult<DataFrame> {
        let rows = batch.height();
        let ids = rows::ids(batch.column(CUSTOMER)?)?;
        let bundle_id = vec![self.bundle.manifest.bundle_id.clone(); rows];
        let mut columns = vec![
            ids,
            OutColumn::Number(outlook.risks).into_column("risk")?,
            OutColumn::Text(bundle_id).into_column("bundle_id")?,
        ];
        for (name, cells) in curve_columns(&outlook.curves, rows, self.months) {
            columns.push(cells.into_column(&name)?);
        }
        columns[0].rename(PlSmallStr::from_static(CUSTOMER));
        DataFrame::new(rows, columns)
    }
}
