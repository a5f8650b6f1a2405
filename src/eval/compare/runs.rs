//! The champion of a run beside each other model, over the run's folds.

use super::{COMPARED, Compared, Resampled, resampled};
use crate::eval::results::{FoldMetrics, RunMetrics, align};

/// What is shown of each model: ranking and risks.
const SHOWN: [&str; 2] = ["auroc", "log_loss"];

/// One model of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Against {
    pub model: String,
    /// Champion minus this model on test, for each of [`shown`].
    pub tests: Vec<Option<Resampled>>,
}

/// The measures by which [`against_champion`] compares.
pub fn shown() -> impl Iterator<Item = &'static Compared> {
    COMPARED.iter().filter(|compared| SHOWN.contains(&compared.name))
}

/// Every model beside the champion, by the corrected resampled t-test. Empty unless the run has a
/// champion and several folds.
pub fn against_champion(run: &RunMetrics) -> Vec<Against> {
    let champion = run.champion.as_deref().and_then(|name| Some((name, run.models.get(name)?)));
    let Some((name, champion)) = champion.filter(|(_, model)| model.folds.len() > 1) else {
        return Vec::new();
    };
    let ratio = test_to_train(&champion.folds);
    let against = |model: &str| {
        let other = &run.models[model].folds;
        let test = |compared: &Compared| {
            let of = |fold: &FoldMetrics| {
                let value = (compared.measure)(fold.splits.get("test")?)?;
                value.is_finite().then_some(value)
            };
            let pairs = champion.folds.iter().zip(other);
            let differences = pairs.filter_map(|(a, b)| Some(of(a)? - of(b)?));
            resampled::test(&differences.collect::<Vec<_>>(), ratio)
        };
        Against { model: model.to_owned(), tests: shown().map(test).collect() }
    };
    run.names().into_iter().filter(|model| *model != name).map(against).collect()
}

/// Test rows by train rows; where the train part was not predicted, as in plain cross-validation.
fn test_to_train(folds: &[FoldMetrics]) -> f64 {
    let of = |fold: &FoldMetrics| {
        let rows = |split: &str| Some(fold.splits.get(split)?.rows as f64);
        Some(rows("test")? / rows("train").filter(|&rows| rows > 0.0)?)
    };
    let ratios: Option<Vec<f64>> = folds.iter().map(of).collect();
    ratios.map_or(1.0 / (folds.len() - 1) as f64, |ratios| {
        ratios.iter().sum::<f64>() / folds.len() as f64
    })
}

/// `+0.0012 ± 0.0030 (p 0.41)`
pub fn describe(test: &Resampled) -> String {
    let p = test.p.map_or("-".into(), p_value);
    format!("{:+.4} ± {:.4} (p {p})", test.mean, test.sd)
}

/// Two digits, or how small it is.
pub fn p_value(p: f64) -> String {
    match p {
        p if p < 0.0001 => "<0.0001".into(),
        p if p < 0.01 => format!("{p:.4}"),
        p => format!("{p:.2}"),
    }
}

/// An aligned text table of [`against_champion`]; empty where there is nothing to compare.
pub fn table(run: &RunMetrics) -> String {
    let rows = against_champion(run);
    let (Some(champion), false) = (&run.champion, rows.is_empty()) else {
        return String::new();
    };
    let folds = run.models[champion].folds.len();
    let head = std::iter::once("model").chain(shown().map(|compared| compared.title));
    let mut lines = vec![head.map(str::to_owned).collect::<Vec<_>>()];
    for Against { model, tests } in rows {
        let cells = tests.iter().map(|test| test.as_ref().map_or("-".into(), describe));
        lines.push(std::iter::once(model).chain(cells).collect());
    }
    format!(
        "{champion} minus each other model on test, mean ± sd over {folds} folds (corrected \
         resampled t-test)\n{}",
        align(&lines)
    )
}
