//! What every model predicts: kept by part for the metrics, written row by row as it comes.

use std::path::Path;

use crate::error::Result;
use crate::panel::{Fold, Panel, Part, Snapshots};
use crate::score::curve_columns;
use crate::source::write::{OutColumn, TableDraft};

/// One model's labels and risks of a part.
#[derive(Debug, Clone, Default)]
pub struct Scores {
    pub labels: Vec<bool>,
    /// Before calibration.
    pub raw_risks: Vec<f64>,
    pub risks: Vec<f64>,
}

/// What a model says of some snapshots.
#[derive(Debug, Clone, Default)]
pub struct Forecast {
    /// Before calibration.
    pub raw_risks: Vec<f64>,
    pub risks: Vec<f64>,
    /// Risk up to each month of the horizon, `[snapshots, K]`; empty without a hazard head.
    pub curves: Vec<f64>,
}

impl Forecast {
    /// Months of a curve; 0 without a hazard head.
    pub fn months(&self) -> usize {
        self.curves.len().checked_div(self.risks.len()).unwrap_or(0)
    }
}

/// By part, in the order of [`Part::LABELLED`].
pub type PartScores = [Scores; 3];

/// The customers at hand.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub panel: &'a Panel,
    pub snapshots: &'a Snapshots,
    pub fold: &'a Fold,
}

/// `predictions.parquet`: model, fold, customer_id, as_of, split, label, risk; where networks have a
/// hazard head also risk_1 to risk_K and months_expected, which are null for other models.
pub struct Predictions {
    table: TableDraft,
    /// Months K of the hazard heads; 1 = none.
    hazards: usize,
}

impl Predictions {
    pub fn begin(path: &Path, hazards: usize) -> Result<Self> {
        Ok(Predictions { table: TableDraft::begin(path)?, hazards })
    }

    /// Writes the risks of the `chosen` snapshots and sorts them by part.
    pub fn add(
        &mut self,
        model: &str,
        view: View,
        (chosen, forecast): (&[u32], &Forecast),
        scores: &mut PartScores,
    ) -> Result<()> {
        let View { panel, snapshots, fold } = view;
        let part = |&s: &u32| fold.parts[s as usize];
        for ((s, &risk), &raw) in chosen.iter().zip(&forecast.risks).zip(&forecast.raw_risks) {
            if let Some(at) = Part::LABELLED.iter().position(|of| *of == part(s)) {
                scores[at].raw_risks.push(raw);
                scores[at].labels.push(snapshots.churned[*s as usize]);
                scores[at].risks.push(risk);
            }
        }
        if chosen.is_empty() {
            return Ok(());
        }
        let customer = |&s: &u32| panel.customers[snapshots.customers[s as usize] as usize].clone();
        let month = |&s: &u32| {
            let month = panel.calendar.month(snapshots.months[s as usize] as usize);
            panel.calendar.dated.then(|| month.to_string())
        };
        let label = |&s: &u32| i64::from(snapshots.churned[s as usize]);
        let fold_number = i64::from(fold.number.unwrap_or(0));
        let rows = chosen.len();
        let mut columns = vec![
            ("model", OutColumn::Text(vec![model.to_owned(); rows])),
            ("fold", OutColumn::Integer(vec![fold_number; rows])),
            ("customer_id", OutColumn::Text(chosen.iter().map(customer).collect())),
            ("as_of", OutColumn::MaybeText(chosen.iter().map(month).collect())),
            ("split", OutColumn::Text(chosen.iter().map(|s| part(s).name().to_owned()).collect())),
            ("label", OutColumn::Integer(chosen.iter().map(label).collect())),
            ("risk", OutColumn::Number(forecast.risks.clone())),
        ];
        let curves = curve_columns(&forecast.curves, rows, self.hazards);
        columns.extend(curves.iter().map(|(name, cells)| (name.as_str(), cells.clone())));
        self.table.write(columns)
    }

    pub fn publish(self) -> Result<()> {
        self.table.publish()
    }
}
