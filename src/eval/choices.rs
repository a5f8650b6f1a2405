//! What was compared within a run: the parts of the input, and the losses.

use serde::{Deserialize, Serialize};

use super::results::{RunMetrics, align};

/// Name of a part in the table, and the model that sees it alone.
const PARTS: [(&str, &str); 3] = [("static", "static"), ("sequence", "gru"), ("both", "hybrid")];

/// What attributes and months are worth, alone and together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ablation {
    pub part: String,
    /// Its name among the models.
    pub model: String,
    /// Cross-validated after calibration, see
    /// [`Calibration`](super::results::Calibration::validation_log_loss).
    pub validation_log_loss: Option<f64>,
    pub test_log_loss: f64,
    pub test_auroc: Option<f64>,
    pub test_average_precision: Option<f64>,
    /// Test log loss over that of both parts together.
    pub loss_without_the_rest: f64,
}

/// A loss in a short training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossTrial {
    pub loss: String,
    pub network: String,
    /// After calibration, best epoch; the mean over folds.
    pub validation_log_loss: f64,
    /// Folds that chose it.
    pub chosen: u32,
}

impl Ablation {
    /// A line for each part, if all of their models were trained and tested.
    pub fn of(run: &RunMetrics) -> Vec<Ablation> {
        let test = |model: &str| run.models.get(model).and_then(|model| model.splits.get("test"));
        let Some(both) = test("hybrid") else { return Vec::new() };
        let part = |(part, model): (&str, &str)| {
            let calibration = run.models.get(model)?.calibration.as_ref();
            let metrics = test(model)?;
            Some(Ablation {
                part: part.to_owned(),
                model: model.to_owned(),
                validation_log_loss: calibration.map(|c| c.validation_log_loss),
                test_log_loss: metrics.log_loss,
                test_auroc: metrics.auroc,
                test_average_precision: metrics.average_precision,
                loss_without_the_rest: metrics.log_loss - both.log_loss,
            })
        };
        PARTS.into_iter().map(part).collect::<Option<_>>().unwrap_or_default()
    }

    /// Headings and cells, as they are printed and shown in the report.
    pub fn cells(rows: &[Ablation]) -> Vec<Vec<String>> {
        let head = ["part", "model", "log loss", "over both", "AUROC", "AP", "validation"];
        let number = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.4}"));
        let line = |row: &Ablation| {
            vec![
                row.part.clone(),
                row.model.clone(),
                number(Some(row.test_log_loss)),
                format!("{:+.4}", row.loss_without_the_rest),
                number(row.test_auroc),
                number(row.test_average_precision),
                number(row.validation_log_loss),
            ]
        };
        std::iter::once(head.map(String::from).into()).chain(rows.iter().map(line)).collect()
    }
}

impl LossTrial {
    /// Means over folds, in the order of the first fold's.
    pub fn over_folds<'a>(folds: impl Iterator<Item = &'a [LossTrial]>) -> Vec<LossTrial> {
        let folds: Vec<&[LossTrial]> = folds.collect();
        let mut means = folds.first().map_or(Vec::new(), |first| first.to_vec());
        for (at, mean) in means.iter_mut().enumerate() {
            let of_folds = || folds.iter().map(|fold| &fold[at]);
            let sum: f64 = of_folds().map(|trial| trial.validation_log_loss).sum();
            mean.validation_log_loss = sum / folds.len() as f64;
            mean.chosen = of_folds().map(|trial| trial.chosen).sum();
        }
        means
    }

    /// Headings and cells, as they are printed and shown in the report.
    pub fn cells(rows: &[LossTrial]) -> Vec<Vec<String>> {
        let head = ["loss", "network", "validation log loss", "chosen by folds"];
        let line = |row: &LossTrial| {
            let LossTrial { loss, network, validation_log_loss, chosen } = row;
            let value = format!("{validation_log_loss:.5}");
            vec![loss.clone(), network.clone(), value, chosen.to_string()]
        };
        std::iter::once(head.map(String::from).into()).chain(rows.iter().map(line)).collect()
    }
}

impl RunMetrics {
    /// The comparisons that were made, as text; empty if there were none.
    pub fn choices(&self) -> String {
        let mut text = String::new();
        if !self.ablation.is_empty() {
            text += &format!("\nablation, test\n{}", align(&Ablation::cells(&self.ablation)));
        }
        if !self.losses.is_empty() {
            text += &format!("\nlosses\n{}", align(&LossTrial::cells(&self.losses)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::eval::metrics::metrics;
    use crate::eval::results::ModelMetrics;

    fn run(risks: &[(&str, [f64; 4])]) -> RunMetrics {
        let labels = [false, false, true, true];
        let model = |(name, risks): &(&str, [f64; 4])| {
            let test = ("test".to_owned(), metrics(&labels, risks, 0.5));
            ((*name).to_owned(), ModelMetrics::single([test].into()))
        };
        RunMetrics { models: risks.iter().map(model).collect(), ..RunMetrics::default() }
    }

    #[test]
    fn each_part_is_set_against_both() {
        let all = [
            ("hybrid", [0.1, 0.2, 0.8, 0.9]),
            ("static", [0.4, 0.5, 0.45, 0.6]),
            ("gru", [0.2, 0.3, 0.6, 0.7]),
        ];
        let mut metrics = run(&all);
        assert_eq!(metrics.choices(), "");
        metrics.ablation = Ablation::of(&metrics);
        metrics.losses = LossTrial::over_folds(
            [(0.25, 1), (0.35, 0)]
                .map(|(validation_log_loss, chosen)| {
                    vec![LossTrial {
                        loss: "bce".into(),
                        network: "mlp".into(),
                        validation_log_loss,
                        chosen,
                    }]
                })
                .iter()
                .map(Vec::as_slice),
        );
        expect![[r#"

            ablation, test
            part       model  log loss  over both   AUROC      AP  validation
            static    static    0.6283    +0.4641  0.7500  0.8333           -
            sequence     gru    0.3618    +0.1976  1.0000  1.0000           -
            both      hybrid    0.1643    +0.0000  1.0000  1.0000           -

            losses
            loss  network  validation log loss  chosen by folds
            bce       mlp              0.30000                1
        "#]]
        .assert_eq(&metrics.choices());
        assert!(Ablation::of(&run(&all[..2])).is_empty());
        assert!(Ablation::of(&run(&all[1..])).is_empty());
    }
}
