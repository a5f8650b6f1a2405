//! The champion beside each other model, over the folds of a run.

use super::Model;
use super::html;
use crate::eval::compare::Resampled;
use crate::eval::compare::runs::{Against, against_champion, describe, shown};
use crate::eval::results::RunMetrics;

/// The section; nothing where there are no folds.
pub(super) fn section(metrics: &RunMetrics, cast: &[Model]) -> String {
    let others = against_champion(metrics);
    let legend = |name: &str| cast.iter().find(|model| model.name == name).map(Model::legend);
    let Some(champion) = metrics.champion.as_deref().filter(|_| !others.is_empty()) else {
        return String::new();
    };
    let folds = metrics.models[champion].folds.len();
    let cell = |test: &Option<Resampled>| test.as_ref().map_or("–".to_owned(), describe);
    let row = |of: &Against| {
        std::iter::once(legend(&of.model).unwrap_or_default())
            .chain(of.tests.iter().map(cell))
            .collect()
    };
    let rows: Vec<Vec<String>> = others.iter().map(row).collect();
    let head: Vec<String> = std::iter::once("Model".to_owned())
        .chain(shown().map(|compared| compared.title.to_owned()))
        .collect();
    let name = legend(champion).unwrap_or_default();
    let caption = format!("Test, mean ± standard deviation over {folds} folds");
    let text = format!(
        "<p>{name} minus each other model. p is of the corrected resampled t-test (Nadeau and \
         Bengio 2003), which allows for the train rows that folds share; several comparisons make \
         a small p more likely. <code>churn compare</code> says more about two of them.</p>\n"
    );
    html::section(
        "folds",
        "The champion over the folds",
        &(text + &html::table(&caption, &head, &rows)),
    )
}
