//! Raw customers with the risks they had when the bundle was made. Scoring them again on every
//! load proves that this program on this machine still computes what was trained.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Scorer;
use crate::error::{Kind, Result};
use crate::panel::{Intake, Panel, RawCustomer, Snapshots};

/// Enough to meet every kind of feature, few enough to add nothing to the load time.
pub const GOLDEN_ROWS: usize = 16;

/// Allowed difference of a risk. f32 sums in another order (other batch, CPU or GPU) move a
/// log-odds of size 10 by about 1e-5, a probability by a quarter of that at most.
const TOLERANCE: f64 = 1e-5;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoldenRow {
    pub risk: f64,
    pub customer: RawCustomer,
}

pub fn parse(bytes: &[u8], path: &Path) -> Result<Vec<GoldenRow>> {
    let lines = bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    lines
        .enumerate()
        .map(|(at, line)| {
            serde_json::from_slice(line)
                .map_err(|error| Kind::Corrupt.at(path).line(at as u64 + 1).msg(error.to_string()))
        })
        .collect()
}

/// Scores the golden rows.
pub fn score(rows: &[RawCustomer], scorer: &Scorer, intake: &Intake) -> Result<Vec<f64>> {
    let panel = Panel::from_raw(rows, intake)?;
    let last = |c: usize| panel.starts[c] as usize + panel.months_of(c) - 1;
    let snapshots = Snapshots::unlabelled((0..rows.len()).map(|c| (c, last(c))));
    scorer.risks(&panel, &snapshots)
}

pub fn check(rows: &[GoldenRow], scorer: &Scorer, intake: &Intake, path: &Path) -> Result<()> {
    let raw: Vec<RawCustomer> = rows.iter().map(|row| row.customer.clone()).collect();
    let risks = score(&raw, scorer, intake)?;
    for (row, risk) in rows.iter().zip(risks) {
        if (row.risk - risk).abs() > TOLERANCE || risk.is_nan() {
            return Err(Kind::Corrupt
                .at(path)
                .msg(format!(
                    "customer `{}` had risk {}, this program computes {risk}",
                    row.customer.customer_id, row.risk
                ))
                .hint("the bundle and this program do not belong together"));
        }
    }
    Ok(())
}
