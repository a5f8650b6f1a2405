//! Batch scoring: files in, one risk per customer out.
//!
//! Customers are hashed into partitions and one partition is in memory at a time, so that the
//! input need not be sorted and memory does not grow with it. What stays are ids and risks.

mod curve;
pub mod pipe;

use std::path::Path;

use crate::bundle::{Bundle, GoldenRow, Outlook};
use crate::clock::Month;
use crate::error::{Kind, Result};
use crate::panel::{self, Extent, Inputs, Intake, Panel, Snapshots};
use crate::source::write::{OutColumn, write_table};

pub use curve::curve_columns;

/// Bytes of panel and tensors that a partition may take, by estimate.
const PARTITION_BYTES_MAX: u64 = 512 << 20;

/// What a byte on disk becomes in memory: columns are compressed, and features are wider.
const EXPANSION: u64 = 16;

/// A scored customer.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    pub customer_id: String,
    pub risk: f64,
    /// Risk up to each month of the horizon, where it was asked for.
    pub curve: Vec<f64>,
}

/// What to say of each customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Risk,
    /// The risk and its course; only bundles with a hazard head know it.
    Curve,
}

/// All customers, highest risk first.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// None without dated sources.
    pub as_of: Option<Month>,
    pub rows: Vec<Scored>,
    /// Length of each curve; 0 where there is none.
    pub months: usize,
    /// Customers who had left by then, as far as the input tells; they are not scored.
    pub gone: usize,
}

/// Scores all customers of the inputs at the end of `as_of`, or of the last month with data.
///
/// # Errors
/// [`Kind::Usage`] for a curve that the bundle does not know.
pub fn score(
    bundle: &Bundle,
    inputs: &Inputs,
    as_of: Option<Month>,
    detail: Detail,
) -> Result<Scores> {
    score_in_partitions(bundle, inputs, as_of, (detail, partitions(inputs)))
}

/// Like [`score`], in a given number of partitions; the numbers are the same for any.
pub fn score_in_partitions(
    bundle: &Bundle,
    inputs: &Inputs,
    as_of: Option<Month>,
    how: (Detail, u64),
) -> Result<Scores> {
    score_with_rows(bundle, inputs, (as_of, how), &mut |_| Ok(()))
}

/// The customers of a partition that were scored.
pub struct Part<'a> {
    panel: &'a Panel,
    /// Into the panel, and their risks.
    customers: &'a [usize],
    risks: &'a [f64],
}

impl Part<'_> {
    /// As they came from the tables, each with its risk.
    pub fn rows(&self) -> impl Iterator<Item = GoldenRow> {
        let last = self.panel.calendar.months as usize - 1;
        let row = move |(&customer, &risk): (&usize, &f64)| GoldenRow {
            risk,
            customer: self.panel.raw(customer, last),
        };
        self.customers.iter().zip(self.risks).map(row)
    }
}

/// How many partitions [`score`] takes.
pub fn partitions(inputs: &Inputs) -> u64 {
    (inputs.bytes() * EXPANSION).div_ceil(PARTITION_BYTES_MAX).max(1)
}

/// Like [`score_in_partitions`], handing each partition on once it is scored.
pub fn score_with_rows(
    bundle: &Bundle,
    inputs: &Inputs,
    (as_of, (detail, partitions)): (Option<Month>, (Detail, u64)),
    consume: &mut dyn FnMut(&Part) -> Result<()>,
) -> Result<Scores> {
    let months = match detail {
        Detail::Risk => 0,
        Detail::Curve => curve_months(bundle)?,
    };
    let intake = &bundle.model.intake;
    let dated = intake.sources.iter().any(|s| s.time.is_some());
    if as_of.is_some() && !dated {
        return Err(Kind::Usage.msg("--as-of needs dated sources; this model has attributes only"));
    }
    let last = if dated { Some(as_of_month(intake, inputs, as_of)?) } else { None };
    let (mut rows, mut gone) = (Vec::new(), 0);
    for partition in 0..partitions {
        let keep = |id: &str| panel::partition(id, partitions as usize) == partition as usize;
        let Some(panel) = build(intake, inputs, &Extent { first: None, last, keep: &keep })? else {
            continue;
        };
        let there = panel::still_there(&panel, intake, inputs, &bundle.model.label)?;
        let chosen: Vec<usize> = (0..panel.customers.len()).filter(|&c| there[c]).collect();
        gone += panel.customers.len() - chosen.len();
        let index = panel.calendar.months as usize - 1;
        let snapshots = Snapshots::unlabelled(chosen.iter().map(|&customer| (customer, index)));
        let Outlook { risks, curves } = bundle.scorer.outlook(&panel, &snapshots)?;
        consume(&Part { panel: &panel, customers: &chosen, risks: &risks })?;
        let scored = |(row, (&customer, risk)): (usize, (&usize, f64))| Scored {
            customer_id: panel.customers[customer].clone(),
            risk,
            curve: curves.iter().skip(row * months).take(months).copied().collect(),
        };
        rows.extend(chosen.iter().zip(risks).enumerate().map(scored));
    }
    if rows.is_empty() {
        return Err(Kind::Data
            .msg("the input holds no customer who could still leave")
            .hint("are the files empty, or does the data begin after the as-of month?"));
    }
    rows.sort_by(|a, b| b.risk.total_cmp(&a.risk).then_with(|| a.customer_id.cmp(&b.customer_id)));
    Ok(Scores { as_of: last, rows, months, gone })
}

fn curve_months(bundle: &Bundle) -> Result<usize> {
    match bundle.model.curve_months() {
        0 | 1 => Err(Kind::Usage
            .msg("this bundle knows the risk of the whole window only, not its course")
            .hint(
                "leave out --curve, or train with label.horizon above 1 and a network as \
                 models.champion, for example \"hybrid\"",
            )),
        months => Ok(months),
    }
}

/// The month asked for, or the last one with data. After that one every customer would look silent.
fn as_of_month(intake: &Intake, inputs: &Inputs, asked: Option<Month>) -> Result<Month> {
    let last = panel::last_month(intake, inputs)?;
    match asked {
        Some(month) if month > last => Err(Kind::Data
            .msg(format!("the as-of month {month} lies after the data, which ends in {last}"))
            .hint("leave out --as-of to score at the end of the data")),
        asked => Ok(asked.unwrap_or(last)),
    }
}

/// A partition may be empty where the whole is not.
fn build(intake: &Intake, inputs: &Inputs, extent: &Extent) -> Result<Option<Panel>> {
    match panel::build(intake, inputs, extent) {
        Ok(panel) => Ok(Some(panel)),
        Err(error) if panel::is_empty_panel(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes scores as CSV or Parquet: customer_id, as_of, risk, rank (1 = highest risk), bundle_id,
/// and the columns of [`curve_columns`] where curves were asked for.
pub fn write(scores: Scores, bundle_id: &str, output: &Path) -> Result<()> {
    let rows = scores.rows.len();
    let as_of = scores.as_of.map(|month| month.to_string());
    let curves: Vec<f64> = scores.rows.iter().flat_map(|row| &row.curve).copied().collect();
    let (ids, risks) = scores.rows.into_iter().map(|row| (row.customer_id, row.risk)).unzip();
    let mut columns = vec![
        ("customer_id", OutColumn::Text(ids)),
        ("as_of", OutColumn::MaybeText(vec![as_of; rows])),
        ("risk", OutColumn::Number(risks)),
        ("rank", OutColumn::Integer((1..=rows as i64).collect())),
        ("bundle_id", OutColumn::Text(vec![bundle_id.to_owned(); rows])),
    ];
    let curves = curve_columns(&curves, rows, scores.months);
    columns.extend(curves.iter().map(|(name, cells)| (name.as_str(), cells.clone())));
    write_table(output, columns)
}
