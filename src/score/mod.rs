//! Batch scoring: files in, one risk per customer out.
//!
//! Where the tables are large, customers are hashed into partitions: every table is read once and
//! dealt to scratch files, and each core has one partition in memory at a time, so that the input
//! need not be sorted and memory does not grow with it. What stays are ids and risks.

mod curve;
mod folder;
mod partitions;
pub mod pipe;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::slice::ParallelSliceMut;

use crate::bundle::Bundle;
use crate::clock::Month;
use crate::error::{Error, Kind, Result};
use crate::panel::{self, BuildReport, Inputs};
use crate::source::write::{OutColumn, TableDraft};

pub use curve::curve_columns;
pub use folder::{Filled, Manifest, PartFile, score_into};
use partitions::{Divided, PartScores, Use};
pub use partitions::{Part, partitions};

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
    /// What was mended or left out.
    pub report: BuildReport,
}

/// What to score, and how.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub bundle: &'a Bundle,
    pub inputs: &'a Inputs,
    /// At the end of this month, or of the last month with data.
    pub as_of: Option<Month>,
    pub detail: Detail,
    /// The numbers are the same for any.
    pub partitions: usize,
    /// A folder for the divided tables while they are scored. What is there is replaced.
    pub scratch: &'a Path,
}

impl<'a> Job<'a> {
    /// In as many partitions as memory asks for.
    pub fn new(bundle: &'a Bundle, inputs: &'a Inputs, scratch: &'a Path) -> Self {
        let (detail, partitions) = (Detail::Risk, partitions(inputs));
        Job { bundle, inputs, as_of: None, detail, partitions, scratch }
    }

    /// Length of the curves that are asked for; 0 for none.
    fn curve_months(&self) -> Result<usize> {
        match self.detail {
            Detail::Risk => Ok(0),
            Detail::Curve => curve_months(self.bundle),
        }
    }
}

/// Scores all customers of the inputs.
///
/// # Errors
/// [`Kind::Usage`] for a curve that the bundle does not know.
pub fn score(job: &Job) -> Result<Scores> {
    all(job, &mut |divided, partitions| {
        in_parts(job, partitions, |at, cores| divided.scored(at, cores, &mut |_| Ok(())))
    })
}

/// What `make` makes of each partition, in their order; a fault ends it early.
fn in_parts<T: Send>(
    job: &Job,
    partitions: usize,
    make: impl Fn(usize, Use) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let failed = AtomicBool::new(false);
    let cores = if partitions == 1 { Use::AllCores } else { Use::ThisCore };
    let made = job.bundle.scorer.in_parts(partitions, |at| {
        // What the other cores have begun is in vain.
        if failed.load(Ordering::Relaxed) {
            return None;
        }
        let made = make(at, cores);
        failed.fetch_or(made.is_err(), Ordering::Relaxed);
        Some(made)
    });
    made.into_iter().flatten().collect()
}

/// Like [`score`], handing each partition on once it is scored, in their order.
pub fn score_with_rows(job: &Job, consume: &mut dyn FnMut(&Part) -> Result<()>) -> Result<Scores> {
    all(job, &mut |divided, partitions| {
        (0..partitions).map(|at| divided.scored(at, Use::AllCores, consume)).collect()
    })
}

/// Makes the scores of each partition.
type Parts<'a> = dyn FnMut(&Divided, usize) -> Result<Vec<Option<PartScores>>> + 'a;

fn all(job: &Job, parts: &mut Parts) -> Result<Scores> {
    let partitions = job.partitions.clamp(1, panel::PARTITIONS_MAX);
    let months = job.curve_months()?;
    let job = &Job { partitions, ..*job };
    let divided = Divided::new(job)?;
    let report = divided.report.clone();
    let mut scores = Scores { as_of: divided.as_of, rows: Vec::new(), months, gone: 0, report };
    let parts = parts(&divided, partitions)?;
    scores.rows.reserve_exact(parts.iter().flatten().map(|part| part.rows.len()).sum());
    for part in parts.into_iter().flatten() {
        scores.rows.extend(part.rows);
        scores.gone += part.gone;
        scores.report.add(&part.report);
    }
    if scores.rows.is_empty() {
        return Err(nobody());
    }
    // No two rows are equal, and a stable sort would take as much memory again.
    scores.rows.par_sort_unstable_by(by_risk);
    Ok(scores)
}

fn nobody() -> Error {
    Kind::Data
        .msg("the input holds no customer who could still leave")
        .hint("are the files empty, or does the data begin after the as-of month?")
}

/// Highest first.
fn by_risk(a: &Scored, b: &Scored) -> std::cmp::Ordering {
    b.risk.total_cmp(&a.risk).then_with(|| a.customer_id.cmp(&b.customer_id))
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

/// Rows that are written at a time, so that the columns of a file need not stand in memory.
const WRITTEN_ROWS: usize = 1 << 17;

/// Writes scores as CSV or Parquet: customer_id, as_of, risk, rank (1 = highest risk), bundle_id,
/// and the columns of [`curve_columns`] where curves were asked for.
pub fn write(scores: &Scores, bundle_id: &str, output: &Path) -> Result<()> {
    let mut table = TableDraft::begin(output)?;
    for (piece, from) in scores.rows.chunks(WRITTEN_ROWS).zip((1..).step_by(WRITTEN_ROWS)) {
        table.write(columns(piece, scores.as_of, Some(from), bundle_id, scores.months))?;
    }
    table.publish()
}

/// Those of [`write`]; the ranks begin at `rank_from`, and are left out without it.
fn columns(
    rows: &[Scored],
    as_of: Option<Month>,
    rank_from: Option<i64>,
    bundle_id: &str,
    months: usize,
) -> Vec<(String, OutColumn)> {
    let count = rows.len();
    let as_of = as_of.map(|month| month.to_string());
    let ids = rows.iter().map(|row| row.customer_id.clone()).collect();
    let risks = rows.iter().map(|row| row.risk).collect();
    let mut columns = vec![
        ("customer_id".into(), OutColumn::Text(ids)),
        ("as_of".into(), OutColumn::MaybeText(vec![as_of; count])),
        ("risk".into(), OutColumn::Number(risks)),
    ];
    if let Some(from) = rank_from {
        columns.push(("rank".into(), OutColumn::Integer((from..from + count as i64).collect())));
    }
    columns.push(("bundle_id".into(), OutColumn::Text(vec![bundle_id.to_owned(); count])));
    let curves: Vec<f64> = rows.iter().flat_map(|row| &row.curve).copied().collect();
    columns.extend(curve_columns(&curves, count, months));
    columns
}
