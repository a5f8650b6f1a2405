//! `churn compare`: two models on the same test rows.

mod read;

use std::path::Path;

use serde::Serialize;

use super::args::CompareArgs;
use super::output;
use crate::error::{Kind, Result};
use crate::eval::compare::rows::pair;
use crate::eval::compare::runs::{describe, p_value};
use crate::eval::compare::{COMPARED, Comparison, Contrast, Settings, Side, compare};
use crate::eval::results::align;
use crate::fsx;
use read::{Asked, Source};

/// Reads both, lays their rows on each other, compares, prints.
pub fn run(args: &CompareArgs) -> Result<()> {
    let folds = args.folds.as_slice();
    let asked_a = Asked { model: args.model_a.as_deref(), seed: None, folds };
    let asked_b = Asked { model: args.model_b.as_deref(), seed: args.peer_seed, folds };
    let (name_a, a) = read::predicted(Source::Run(&args.run_a), &asked_a)?;
    let source = match (&args.peer, &args.run_b) {
        (Some(file), _) => Source::Peer(file),
        (None, other) => Source::Run(other.as_ref().unwrap_or(&args.run_a)),
    };
    let (name_b, b) = read::predicted(source, &asked_b)?;
    if name_a == name_b {
        return Err(Kind::Usage
            .msg(format!("{} would be compared with itself", name_a.describe()))
            .hint("name another run, a --peer, or models by --model-a and --model-b"));
    }
    let settings = Settings { draws: args.draws, seed: args.seed };
    let comparison = compare(&pair(a, b)?, settings);
    let told = Told { a: name_a, b: name_b, comparison };
    if let Some(path) = &args.json {
        write(path, &told)?;
    }
    output::print(&told.text())
}

fn write(path: &Path, told: &Told) -> Result<()> {
    let json = serde_json::to_vec_pretty(told);
    fsx::publish_bytes(path, &json.map_err(|error| Kind::Internal.msg(error.to_string()))?)
}

/// Which model, of which run or file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Name {
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Name {
    fn describe(&self) -> String {
        let seed = self.seed.map_or(String::new(), |seed| format!(", seed {seed}"));
        match &self.model {
            Some(model) => format!("{model} of {}{seed}", self.path),
            None => format!("{}{seed}", self.path),
        }
    }
}

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Told {
    a: Name,
    b: Name,
    #[serde(flatten)]
    comparison: Comparison,
}

impl Told {
    fn text(&self) -> String {
        let of = &self.comparison;
        let folds = match of.folds.len() {
            1 => String::new(),
            many => format!(", {many} folds"),
        };
        [
            format!("A  {}\nB  {}\n", self.a.describe(), self.b.describe()),
            format!("{} test rows of {} customers{folds}\n\n", of.rows, of.customers),
            align(&self.table()),
            format!("\n{}\n", self.method()),
            self.verdict(),
        ]
        .concat()
    }

    fn table(&self) -> Vec<Vec<String>> {
        let of = &self.comparison;
        let several = of.folds.len() > 1;
        let head = ["", "A", "B", "A - B", "95 % interval", "p", "better"];
        let across = several.then(|| "mean ± sd over folds".to_owned());
        let mut lines = vec![head.map(String::from).into_iter().chain(across).collect::<Vec<_>>()];
        for (contrast, compared) in of.measures.iter().zip(&COMPARED) {
            let number = |value: Option<f64>| value.map_or("-".into(), |x| format!("{x:.4}"));
            let doubt = &contrast.doubt;
            let interval =
                doubt.interval.map_or("-".into(), |[low, high]| format!("{low:+.4} to {high:+.4}"));
            let better = match contrast.winner() {
                Some(Side::A) => "A",
                Some(Side::B) => "B",
                None => "",
            };
            let mut line = vec![
                compared.title.to_owned(),
                number(contrast.a),
                number(contrast.b),
                contrast.difference.map_or("-".into(), |d| format!("{d:+.4}")),
                interval,
                doubt.p.map_or("-".into(), p_value),
                better.to_owned(),
            ];
            line.extend(several.then(|| across_folds(contrast)));
            lines.push(line);
        }
        lines
    }

    fn method(&self) -> String {
        let of = &self.comparison;
        let mut text = format!(
            "AUROC by DeLong's test, the rest by {} bootstrap draws of customers (seed {}): both \
             take the models as trained.",
            of.settings.draws, of.settings.seed
        );
        if let Some(ratio) = of.test_to_train {
            let taken = if ratio.known { "" } else { ", as in plain cross-validation" };
            text += &format!(
                "\nOver folds by the corrected resampled t-test (test to train rows {:.2}{taken}).",
                ratio.ratio
            );
        }
        text
    }

    /// In words, for those who read one line.
    fn verdict(&self) -> String {
        let of = |side: Side| {
            let is_won = |(contrast, _): &(&Contrast, _)| contrast.winner() == Some(side);
            let won = self.comparison.measures.iter().zip(&COMPARED).filter(is_won);
            won.map(|(_, compared)| compared.title).collect::<Vec<_>>().join(", ")
        };
        match (of(Side::A), of(Side::B)) {
            (a, b) if a.is_empty() && b.is_empty() => {
                "No measure tells A and B apart (p < 0.05).\n".into()
            }
            (a, b) if b.is_empty() => format!("A is better in {a} (p < 0.05).\n"),
            (a, b) if a.is_empty() => format!("B is better in {b} (p < 0.05).\n"),
            (a, b) => format!("A is better in {a}, B in {b} (p < 0.05).\n"),
        }
    }
}

fn across_folds(contrast: &Contrast) -> String {
    contrast.across_folds.as_ref().map_or("-".into(), describe)
}
