//! Two models on the same rows: how far apart they are, and whether by more than chance.
//!
//! AUROC is compared by DeLong's test ([`delong`]), every other measure by a paired bootstrap over
//! customers ([`bootstrap`]). Both take the fitted models as given: they say whether other
//! customers would have changed the order, not whether another training would. Over folds, each of
//! which is a training, the corrected resampled t-test ([`resampled`]) says that.
//!
//! Differences are always model A minus model B, and the mean over the folds that define them.

pub mod bootstrap;
pub mod delong;
pub mod resampled;
pub mod rows;
pub mod runs;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::metrics::{Metrics, metrics};
use super::results::Measure;
use crate::seeds::Seeds;
use bootstrap::Resampler;
pub use bootstrap::Settings;
pub use resampled::Resampled;

/// Two-sided level of every interval here, as a probability outside of it.
pub const OUTSIDE: f64 = 0.05;

/// Which way a measure is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Higher,
    Lower,
}

/// A number by which models are compared.
#[derive(Clone, Copy)]
pub struct Compared {
    /// As in `metrics.json`.
    pub name: &'static str,
    pub title: &'static str,
    pub better: Better,
    pub measure: Measure,
}

/// AUROC, and then what the bootstrap compares, in the order of [`bootstrap::Differences`].
pub const COMPARED: [Compared; 6] = [
    Compared { name: "auroc", title: "AUROC", better: Better::Higher, measure: |m| m.auroc },
    Compared {
        name: "log_loss",
        title: "log loss",
        better: Better::Lower,
        measure: |m| Some(m.log_loss),
    },
    Compared { name: "brier", title: "Brier", better: Better::Lower, measure: |m| Some(m.brier) },
    Compared {
        name: "average_precision",
        title: "AP",
        better: Better::Higher,
        measure: |m| m.average_precision,
    },
    Compared { name: "ece", title: "ECE", better: Better::Lower, measure: |m| Some(m.ece) },
    Compared { name: "lift_10", title: "lift@10", better: Better::Higher, measure: |m| m.lift_10 },
];

/// Test rows that both models predict, by fold.
#[derive(Debug, Clone, PartialEq)]
pub struct Paired {
    pub folds: Vec<PairedFold>,
    /// Different customers; those of the rows are numbered below it.
    pub customers: usize,
}

/// One fold's rows; the columns are of one length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PairedFold {
    pub number: u32,
    pub labels: Vec<bool>,
    /// Of each row; one customer has one number in all folds.
    pub customers: Vec<u32>,
    /// Of model A and of model B.
    pub risks: [Vec<f64>; 2],
    /// Rows that were trained on; None where the predictions do not tell.
    pub train_rows: Option<u64>,
}

impl Paired {
    pub fn rows(&self) -> usize {
        self.folds.iter().map(|fold| fold.labels.len()).sum()
    }

    /// Test rows by train rows, the mean over folds. Where a fold does not know its train rows, as
    /// in plain cross-validation: the rows of the other folds.
    pub fn test_to_train(&self) -> TestToTrain {
        let folds = self.folds.len() as f64;
        let known = |fold: &PairedFold| {
            let train = fold.train_rows.filter(|&rows| rows > 0)?;
            Some(fold.labels.len() as f64 / train as f64)
        };
        let ratios: Option<Vec<f64>> = self.folds.iter().map(known).collect();
        match ratios {
            Some(ratios) => TestToTrain { ratio: ratios.iter().sum::<f64>() / folds, known: true },
            None => TestToTrain { ratio: 1.0 / (folds - 1.0), known: false },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TestToTrain {
    pub ratio: f64,
    /// False if it was taken as in plain cross-validation.
    pub known: bool,
}

/// What sets two models apart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    pub rows: usize,
    pub customers: usize,
    pub folds: Vec<u32>,
    /// Of the bootstrap.
    pub settings: Settings,
    /// With several folds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_to_train: Option<TestToTrain>,
    pub measures: Vec<Contrast>,
}

/// Two models in one measure. `None` is a number that the rows do not define.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contrast {
    pub measure: &'static str,
    pub better: Better,
    /// Means over the folds that define both.
    pub a: Option<f64>,
    pub b: Option<f64>,
    /// A minus B.
    pub difference: Option<f64>,
    #[serde(flatten)]
    pub doubt: Doubt,
    /// A minus B in each fold, in the order of [`Comparison::folds`].
    pub by_fold: Vec<Option<f64>>,
    /// With several folds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub across_folds: Option<Resampled>,
}

/// How sure a difference is, the models taken as given.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Doubt {
    pub method: &'static str,
    /// Standard error of the difference.
    pub standard_error: Option<f64>,
    /// 95 %.
    pub interval: Option<[f64; 2]>,
    /// Two-sided.
    pub p: Option<f64>,
    /// Draws of the bootstrap that defined the measure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draws: Option<usize>,
}

impl Contrast {
    /// The model that is better at the 5 % level.
    pub fn winner(&self) -> Option<Side> {
        let (difference, p) = (self.difference?, self.doubt.p?);
        let a_is_better = (difference > 0.0) == (self.better == Better::Higher);
        (p < OUTSIDE && difference != 0.0).then_some(if a_is_better { Side::A } else { Side::B })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    A,
    B,
}

/// Compares two models in every measure. The same rows, settings and seeds give the same bits for
/// any number of threads.
pub fn compare(paired: &Paired, settings: Settings) -> Comparison {
    let by_fold: Vec<[Metrics; 2]> = paired.folds.iter().map(of_fold).collect();
    let drawn = Resampler::new(paired).run(settings, &Seeds::new(settings.seed));
    let doubts = std::iter::once(delong::doubt(paired)).chain(drawn);
    let several = (paired.folds.len() > 1).then(|| paired.test_to_train());
    let contrast = |(compared, doubt): (&Compared, Doubt)| {
        let of = |m: &Metrics| (compared.measure)(m).filter(|value| value.is_finite());
        let pairs = by_fold.iter().map(|[a, b]| of(a).zip(of(b)));
        let pairs: Vec<Option<(f64, f64)>> = pairs.collect();
        let defined: Vec<(f64, f64)> = pairs.iter().copied().flatten().collect();
        let by_fold: Vec<Option<f64>> = pairs.iter().map(|pair| pair.map(|(a, b)| a - b)).collect();
        let differences: Vec<f64> = by_fold.iter().copied().flatten().collect();
        Contrast {
            measure: compared.name,
            better: compared.better,
            a: mean(defined.iter().map(|pair| pair.0)),
            b: mean(defined.iter().map(|pair| pair.1)),
            difference: mean(differences.iter().copied()),
            doubt,
            by_fold,
            across_folds: several.and_then(|of| resampled::test(&differences, of.ratio)),
        }
    };
    Comparison {
        rows: paired.rows(),
        customers: paired.customers,
        folds: paired.folds.iter().map(|fold| fold.number).collect(),
        settings,
        test_to_train: several,
        measures: COMPARED.iter().zip(doubts).map(contrast).collect(),
    }
}

/// The share of customers that is contacted is in none of the compared measures.
fn of_fold(fold: &PairedFold) -> [Metrics; 2] {
    [0, 1].map(|model: usize| metrics(&fold.labels, &fold.risks[model], 0.1))
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}
