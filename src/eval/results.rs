//! `metrics.json`: what every model of a run scored on every split.
//!
//! ```json
//! {"models": {"hybrid": {"test": {"auroc": 0.81, "log_loss": 0.30}, "validation": {}}}}
//! ```
//!
//! With several folds a split's numbers are means over the folds, and `folds` holds each.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::choices::{Ablation, LossTrial};
use super::metrics::Metrics;
use super::survival::CurveMetrics;

/// The order in which tables name the models; others follow by name.
const MODEL_ORDER: [&str; 7] = ["static", "mlp", "gru", "hybrid", "trees", "logistic", "ensemble"];

/// One number of [`Metrics`]; `None` where the rows do not define it.
pub type Measure = fn(&Metrics) -> Option<f64>;

/// The columns of [`RunMetrics::table`] after model and rows: heading, number, decimals.
const COLUMNS: [(&str, Measure, usize); 7] = [
    ("base rate", |m| Some(m.positive_rate), 4),
    ("AUROC", |m| m.auroc, 4),
    ("AP", |m| m.average_precision, 4),
    ("log loss", |m| Some(m.log_loss), 4),
    ("Brier", |m| Some(m.brier), 4),
    ("ECE", |m| Some(m.ece), 4),
    ("lift@10", |m| m.lift_10, 2),
];

/// The whole document, models by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunMetrics {
    /// The model that is exported: of least [`Calibration::validation_log_loss`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub champion: Option<String>,
    pub models: BTreeMap<String, ModelMetrics>,
    /// Of `churn train --ablate`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ablation: Vec<Ablation>,
    /// Of `train.loss = "auto"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<LossTrial>,
}

/// One model's numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelMetrics {
    /// By split: `train`, `validation`, `test`. With folds: the mean over them, and `rows` the sum.
    #[serde(flatten)]
    pub splits: BTreeMap<String, Metrics>,
    /// One entry per fold; empty where there is only one split of the data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<FoldMetrics>,
    /// Of the risk curves of the test part, all folds together; only with a hazard head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curve: Option<CurveMetrics>,
    /// Wall time of training, all folds together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_seconds: Option<f64>,
    /// What the validation part put right, and what the model is worth there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Of an ensemble: the share of each model; the mean over folds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, f64>,
    /// Trained numbers in one model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// Epochs trained; the mean over folds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
}

/// How a model's log-odds were calibrated; means over folds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// How many folds chose each kind of calibrator.
    pub kinds: BTreeMap<String, u32>,
    /// On validation rows that took no part in fitting calibrator and weights. The champion is
    /// chosen by it.
    pub validation_log_loss: f64,
    /// On test, before calibration.
    pub test_log_loss_before: f64,
    pub test_ece_before: f64,
}

/// One fold's numbers, by split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoldMetrics {
    pub fold: u32,
    #[serde(flatten)]
    pub splits: BTreeMap<String, Metrics>,
}

impl RunMetrics {
    /// The model of least log loss on validation rows that were not fitted to, of those that have
    /// such a number; of equals, the first in the tables' order.
    pub fn best_on_validation(&self) -> Option<&str> {
        let measured = self.names().into_iter().filter_map(|name| {
            let loss = self.models[name].calibration.as_ref()?.validation_log_loss;
            loss.is_finite().then_some((name, loss))
        });
        measured.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(name, _)| name)
    }

    /// Names of the models in the order in which they are shown.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.models.keys().map(String::as_str).collect();
        // The sort is stable: models without a place keep the map's order.
        names.sort_by_key(|name| MODEL_ORDER.iter().position(|m| m == name).unwrap_or(usize::MAX));
        names
    }

    /// An aligned text table of one split, a line per model that has it; with folds each number is
    /// mean ± standard deviation. A number that is not defined is `-`.
    pub fn table(&self, split: &str) -> String {
        let head = ["model", "rows"].into_iter().chain(COLUMNS.map(|c| c.0));
        let mut lines = vec![head.map(String::from).collect::<Vec<_>>()];
        for name in self.names() {
            let model = &self.models[name];
            if let Some(metrics) = model.splits.get(split) {
                let cells = COLUMNS.map(|(_, measure, decimals)| {
                    cell(measure(metrics), model.sd(split, measure), decimals)
                });
                lines.push(
                    [name.to_owned(), metrics.rows.to_string()].into_iter().chain(cells).collect(),
                );
            }
        }
        align(&lines)
    }
}

impl RunMetrics {
    /// A line for each model that has risk curves, in one text.
    pub fn curve_lines(&self) -> String {
        let line = |name: &str| {
            let curve = self.models[name].curve.as_ref()?;
            let auroc = curve.auroc.map_or("-".into(), |auroc| format!("{auroc:.4}"));
            Some(format!(
                "{name}, risk curve over {} months: integrated Brier {:.5} (Kaplan-Meier {:.5}), \
                 AUROC {auroc}, calibration error of a month at most {:.4}\n",
                curve.months.len(),
                curve.integrated_brier,
                curve.integrated_brier_kaplan_meier,
                curve.calibration_error_max,
            ))
        };
        self.names().into_iter().filter_map(line).collect()
    }
}

impl ModelMetrics {
    /// Of a model trained once.
    pub fn single(splits: BTreeMap<String, Metrics>) -> Self {
        Self { splits, ..Self::default() }
    }

    /// Of a model trained once per fold: the mean over the folds that have a split and define the
    /// number. A single fold is no fold: it gives the same as [`ModelMetrics::single`].
    pub fn of_folds(mut folds: Vec<FoldMetrics>) -> Self {
        if folds.len() <= 1 {
            return Self::single(folds.pop().map(|fold| fold.splits).unwrap_or_default());
        }
        let names: BTreeSet<&String> = folds.iter().flat_map(|fold| fold.splits.keys()).collect();
        let splits = names.into_iter().map(|name| (name.clone(), mean(&of_split(&folds, name))));
        Self { splits: splits.collect(), folds, ..Self::default() }
    }

    /// Sample standard deviation (n - 1) over the folds that define the number; `None` with fewer
    /// than two of them.
    pub fn sd(&self, split: &str, measure: Measure) -> Option<f64> {
        let values = defined(&of_split(&self.folds, split), measure);
        if values.len() < 2 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        Some((squares / (values.len() - 1) as f64).sqrt())
    }
}

fn of_split<'a>(folds: &'a [FoldMetrics], split: &str) -> Vec<&'a Metrics> {
    folds.iter().filter_map(|fold| fold.splits.get(split)).collect()
}

/// The values that exist; a fold without rows has NaN means, which would poison the others.
fn defined(folds: &[&Metrics], measure: Measure) -> Vec<f64> {
    folds.iter().filter_map(|m| measure(m)).filter(|v| v.is_finite()).collect()
}

fn mean(folds: &[&Metrics]) -> Metrics {
    let maybe = |measure: Measure| {
        let values = defined(folds, measure);
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let always = |measure: Measure| maybe(measure).unwrap_or(f64::NAN);
    Metrics {
        rows: folds.iter().map(|m| m.rows).sum(),
        positive_rate: always(|m| Some(m.positive_rate)),
        auroc: maybe(|m| m.auroc),
        average_precision: maybe(|m| m.average_precision),
        log_loss: always(|m| Some(m.log_loss)),
        brier: always(|m| Some(m.brier)),
        ece: always(|m| Some(m.ece)),
        lift_5: maybe(|m| m.lift_5),
        lift_10: maybe(|m| m.lift_10),
        lift_20: maybe(|m| m.lift_20),
        contact_share: always(|m| Some(m.contact_share)),
        precision_at_contact: maybe(|m| m.precision_at_contact),
        recall_at_contact: maybe(|m| m.recall_at_contact),
    }
}

fn cell(value: Option<f64>, sd: Option<f64>, decimals: usize) -> String {
    match (value.filter(|v| v.is_finite()), sd) {
        (Some(value), Some(sd)) => format!("{value:.decimals$} ± {sd:.decimals$}"),
        (Some(value), None) => format!("{value:.decimals$}"),
        (None, _) => "-".into(),
    }
}

/// Two spaces between columns, the first flush left, the others flush right.
pub(crate) fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    // Rust pads by characters, so ± counts as the one column it takes on a terminal.
    let width = |c: usize| lines.iter().map(|line| line[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (c, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            match c {
                0 => text += &format!("{cell:<width$}"),
                _ => text += &format!("  {cell:>width$}"),
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::eval::metrics::metrics;

    fn scored(labels: &[bool], risks: &[f64]) -> BTreeMap<String, Metrics> {
        BTreeMap::from([("test".to_owned(), metrics(labels, risks, 0.5))])
    }

    fn good() -> BTreeMap<String, Metrics> {
        scored(&[false, false, true, true], &[0.1, 0.2, 0.7, 0.9])
    }

    fn poor() -> BTreeMap<String, Metrics> {
        scored(&[false, true, false, true], &[0.1, 0.2, 0.7, 0.9])
    }

    fn one_class() -> BTreeMap<String, Metrics> {
        scored(&[false, false], &[0.1, 0.2])
    }

    fn fold((fold, splits): (usize, BTreeMap<String, Metrics>)) -> FoldMetrics {
        FoldMetrics { fold: fold as u32, splits }
    }

    fn run() -> RunMetrics {
        let folds = [good(), poor(), one_class()].into_iter().enumerate().map(fold).collect();
        let single = |splits| ModelMetrics {
            training_seconds: Some(1.5),
            parameters: Some(7),
            ..ModelMetrics::single(splits)
        };
        let only_train = [("train".to_owned(), good()["test"].clone())].into();
        let models = [
            ("a_tree", single(poor())),
            ("logistic", single(good())),
            ("hybrid", ModelMetrics::of_folds(folds)),
            ("mlp", single(one_class())),
            ("gru", single(only_train)),
        ];
        RunMetrics {
            models: models.map(|(n, model)| (n.to_owned(), model)).into(),
            ..RunMetrics::default()
        }
    }

    #[test]
    fn models_stand_in_their_order_and_columns_under_each_other() {
        expect![[r#"
            model     rows        base rate            AUROC               AP         log loss            Brier              ECE      lift@10
            mlp          2           0.0000                -                -           0.1643           0.0250           0.1500            -
            hybrid      10  0.3333 ± 0.2887  0.8750 ± 0.1768  0.9167 ± 0.1179  0.3726 ± 0.3324  0.1167 ± 0.1481  0.2500 ± 0.1521  2.00 ± 0.00
            logistic     4           0.5000           1.0000           1.0000           0.1976           0.0375           0.1750         2.00
            a_tree       4           0.5000           0.7500           0.8333           0.7560           0.2875           0.4250         2.00
        "#]]
        .assert_eq(&run().table("test"));
    }

    #[test]
    fn json_comes_back_whole() {
        let text = serde_json::to_string_pretty(&run()).expect("plain numbers");
        let back: RunMetrics = serde_json::from_str(&text).expect("our own document");
        assert_eq!(back, run());

        let json: serde_json::Value = serde_json::from_str(&text).expect("our own document");
        assert_eq!(json["models"]["logistic"]["test"]["auroc"], 1.0);
        assert_eq!(json["models"]["hybrid"]["folds"][1]["fold"], 1);
        assert_eq!(json["models"]["hybrid"]["folds"][1]["test"]["auroc"], 0.75);
        let keys: Vec<&String> =
            json["models"]["a_tree"].as_object().expect("a map").keys().collect();
        assert_eq!(keys, ["parameters", "test", "training_seconds"]);
    }

    #[test]
    fn a_fold_that_lacks_a_number_is_left_out_of_its_mean() {
        let model = &run().models["hybrid"];
        assert_eq!(model.splits["test"].auroc, Some((1.0 + 0.75) / 2.0));
        assert_eq!(model.splits["test"].rows, 10);
        assert_eq!(model.sd("test", |m| m.auroc), Some(0.125 * 2f64.sqrt()));
        assert_eq!(model.sd("train", |m| m.auroc), None);
    }

    #[test]
    fn one_fold_is_a_single_training() {
        let one = ModelMetrics::of_folds(vec![fold((0, good()))]);
        assert_eq!(one, ModelMetrics::single(good()));
        assert_eq!(ModelMetrics::of_folds(Vec::new()), ModelMetrics::default());
    }
}
