//! What every model predicts: kept by part for the metrics, written row by row as it comes.

use std::path::Path;

use crate::error::Result;
use crate::panel::{Fold, Panel, Part, Snapshots};
use crate::source::write::{OutColumn, TableDraft};

/// One model's labels and risks of a part.
#[derive(Debug, Clone, Default)]
pub struct Scores {
    pub labels: Vec<bool>,
    /// Before calibration.
    pub raw_risks: Vec<f64>,
    pub risks: Vec<f64>,
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

/// `predictions.parquet`: model, fold, customer_id, as_of, split, label, risk.
pub struct Predictions(TableDraft);

impl Predictions {
    pub fn begin(path: &Path) -> Result<Self> {
        TableDraft::begin(path).map(Predictions)
    }

    /// Writes the risks of the `chosen` snapshots and sorts them by part.
    pub fn add(
        &mut self,
        model: &str,
        view: View,
        (chosen, raw_risks, risks): (&[u32], &[f64], &[f64]),
        scores: &mut PartScores,
    ) -> Result<()> {
        let View { panel, snapshots, fold } = view;
        let part = |&s: &u32| fold.parts[s as usize];
        for ((s, &risk), &raw) in chosen.iter().zip(risks).zip(raw_risks) {
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
        self.0.write(vec![
            ("model", OutColumn::Text(vec![model.to_owned(); rows])),
            ("fold", OutColumn::Integer(vec![fold_number; rows])),
            ("customer_id", OutColumn::Text(chosen.iter().map(customer).collect())),
            ("as_of", OutColumn::MaybeText(chosen.iter().map(month).collect())),
            ("split", OutColumn::Text(chosen.iter().map(|s| part(s).name().to_owned()).collect())),
            ("label", OutColumn::Integer(chosen.iter().map(label).collect())),
            ("risk", OutColumn::Number(risks.to_vec())),
        ])
    }

    pub fn publish(self) -> Result<()> {
        self.0.publish()
    }
}
