//! The tables: models, data, checks.

use super::html::{self, count, escape, percent};
use super::{Model, QualityLine, Role};
use crate::config::Severity;
use crate::eval::results::{Measure, ModelMetrics, RunMetrics};

/// One column of the models' tables.
struct Column {
    title: &'static str,
    /// For the reader who does not know the name.
    meaning: &'static str,
    better: Better,
    measure: Measure,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Better {
    Higher,
    Lower,
}

#[derive(Debug, Clone, Copy)]
enum Unit {
    /// Written with four decimals: models differ in the third.
    Number,
    Times,
    Percent,
}

const COLUMNS: [Column; 10] = [
    Column {
        title: "AUROC",
        meaning: "probability that a customer who leaves gets a higher risk than one who stays; \
                  0.5 is chance, 1 is perfect",
        better: Better::Higher,
        measure: |m| m.auroc,
        unit: Unit::Number,
    },
    Column {
        title: "Average precision",
        meaning: "share of leavers among those contacted, averaged over all sizes of the contact \
                  list; chance is the churn rate",
        better: Better::Higher,
        measure: |m| m.average_precision,
        unit: Unit::Number,
    },
    Column {
        title: "Log loss",
        meaning: "how far the risks are from what happened; punishes being sure and wrong",
        better: Better::Lower,
        measure: |m| Some(m.log_loss),
        unit: Unit::Number,
    },
    Column {
        title: "Brier score",
        meaning: "mean squared difference between risk and what happened",
        better: Better::Lower,
        measure: |m| Some(m.brier),
        unit: Unit::Number,
    },
    Column {
        title: "ECE",
        meaning: "expected calibration error: mean difference between predicted and actual share \
                  of leavers in groups of similar risk",
        better: Better::Lower,
        measure: |m| Some(m.ece),
        unit: Unit::Number,
    },
    Column {
        title: "Lift at 5\u{a0}%",
        meaning: "churn rate among the 5 % of highest risk, over the churn rate of all; 1 is chance",
        better: Better::Higher,
        measure: |m| m.lift_5,
        unit: Unit::Times,
    },
    Column {
        title: "Lift at 10\u{a0}%",
        meaning: "the same among the 10 % of highest risk",
        better: Better::Higher,
        measure: |m| m.lift_10,
        unit: Unit::Times,
    },
    Column {
        title: "Lift at 20\u{a0}%",
        meaning: "the same among the 20 % of highest risk",
        better: Better::Higher,
        measure: |m| m.lift_20,
        unit: Unit::Times,
    },
    Column {
        title: "Precision",
        meaning: "share of leavers among those contacted, at the configured contact share",
        better: Better::Higher,
        measure: |m| m.precision_at_contact,
        unit: Unit::Percent,
    },
    Column {
        title: "Recall",
        meaning: "share of all leavers that is among those contacted",
        better: Better::Higher,
        measure: |m| m.recall_at_contact,
        unit: Unit::Percent,
    },
];

const BOLD_AND_DASH: &str = "<p>The best value of each column is <b class=\"best\">bold</b>. \
    – means that the number is not defined, for instance a ranking where nobody leaves.</p>\n";

/// Test, validation and cost of all models, and what the columns mean.
pub(super) fn models(metrics: &RunMetrics, cast: &[Model]) -> String {
    if metrics.models.is_empty() {
        return html::empty("No model was measured.");
    }
    let folds = metrics.models.values().map(|model| model.folds.len()).max().unwrap_or(0);
    let spread = if folds > 1 {
        format!("<p>Each number is the mean over {folds} folds ± their standard deviation.</p>\n")
    } else {
        String::new()
    };
    let glossary = COLUMNS.iter().map(|c| format!("<b>{}</b>: {}", c.title, c.meaning));
    [
        split(metrics, cast, ("test", "Test")),
        split(metrics, cast, ("validation", "Validation")),
        BOLD_AND_DASH.to_owned(),
        spread,
        cost(metrics, cast),
        format!(
            "<details>\n<summary>What the columns mean</summary>\n{}</details>\n",
            html::list(&glossary.collect::<Vec<_>>())
        ),
    ]
    .concat()
}

fn split(metrics: &RunMetrics, cast: &[Model], (name, title): (&str, &str)) -> String {
    let measured: Vec<(&Model, &ModelMetrics)> = cast
        .iter()
        .filter_map(|model| Some((model, metrics.models.get(model.name)?)))
        .filter(|(_, m)| m.splits.contains_key(name))
        .collect();
    let Some((_, first)) = measured.first() else {
        return html::empty(&format!("{title}: no model was measured on this split."));
    };
    let (rows, rate) = (first.splits[name].rows, first.splits[name].positive_rate);
    let same =
        |m: &ModelMetrics| m.splits[name].rows == rows && m.splits[name].positive_rate == rate;
    let caption = if measured.iter().all(|(_, m)| same(m)) {
        format!("{title}: {} snapshots, {} churn", count(rows), percent_or_dash(rate))
    } else {
        format!("{title} (the models were measured on different snapshots: do not compare)")
    };
    let columns: Vec<Vec<String>> = COLUMNS
        .iter()
        .map(|column| cells(column, measured.iter().map(|(_, m)| *m), name))
        .collect();
    let row = |(i, (model, _)): (usize, &(&Model, &ModelMetrics))| {
        let values = columns.iter().map(|cells| cells[i].clone());
        std::iter::once(model.legend()).chain(values).collect()
    };
    let rows: Vec<Vec<String>> = measured.iter().enumerate().map(row).collect();
    html::table(&caption, &head(), &rows)
}

fn head() -> Vec<String> {
    let title = |column: &Column| {
        let (arrow, words) = match column.better {
            Better::Higher => ("↑", "higher is better"),
            Better::Lower => ("↓", "lower is better"),
        };
        let tip = format!("{}; {words}", column.meaning);
        format!("<span title=\"{tip}\">{}\u{a0}{arrow}</span>", column.title)
    };
    std::iter::once("Model".to_owned()).chain(COLUMNS.iter().map(title)).collect()
}

/// One column's cells; every model whose written value equals the best one is bold.
fn cells<'a>(
    column: &Column,
    models: impl Iterator<Item = &'a ModelMetrics>,
    split: &str,
) -> Vec<String> {
    let values: Vec<(Option<f64>, Option<f64>)> = models
        .map(|m| {
            let value = (column.measure)(&m.splits[split]).filter(|value| value.is_finite());
            (value, m.sd(split, column.measure))
        })
        .collect();
    let defined = values.iter().filter_map(|(value, _)| *value);
    let comparable = defined.clone().count() > 1;
    let best = match column.better {
        Better::Higher => defined.max_by(f64::total_cmp),
        Better::Lower => defined.min_by(f64::total_cmp),
    };
    let best = best.filter(|_| comparable).map(|value| column.unit.write(value));
    let cell = |(value, sd): &(Option<f64>, Option<f64>)| {
        let Some(value) = value else { return "–".to_owned() };
        let text = column.unit.write(*value);
        let spread = sd.map_or(String::new(), |sd| {
            format!(" <small>±\u{a0}{}</small>", column.unit.write(sd))
        });
        if best.as_ref() == Some(&text) {
            format!("<b class=\"best\">{text}</b>{spread}")
        } else {
            text + &spread
        }
    };
    values.iter().map(cell).collect()
}

impl Unit {
    fn write(self, value: f64) -> String {
        match self {
            Unit::Number => format!("{value:.4}"),
            Unit::Times => format!("{value:.2}"),
            // Always with tenths, so that a column's digits stand under each other.
            Unit::Percent => format!("{:.1}\u{a0}%", value * 100.0),
        }
    }
}

fn percent_or_dash(share: f64) -> String {
    if share.is_finite() { percent(share) } else { "–".into() }
}

/// Kind, size, epochs and time of each model; nothing where none of these is known.
fn cost(metrics: &RunMetrics, cast: &[Model]) -> String {
    let known = |m: &ModelMetrics| {
        m.parameters.is_some() || m.training_seconds.is_some() || m.epochs.is_some()
    };
    if !metrics.models.values().any(known) {
        return String::new();
    }
    let dash = || "–".to_owned();
    let row = |model: &Model| {
        let m = metrics.models.get(model.name)?;
        let kind = match model.role {
            Role::Network => "network",
            Role::Baseline => "baseline",
            Role::Ensemble => "average",
        };
        Some(vec![
            model.legend(),
            kind.to_owned(),
            m.parameters.map_or_else(dash, count),
            m.epochs.map_or_else(dash, html::trimmed),
            m.training_seconds.map_or_else(dash, html::duration),
        ])
    };
    let rows: Vec<Vec<String>> = cast.iter().filter_map(row).collect();
    let head = ["Model", "Kind", "Parameters", "Epochs", "Training time"].map(String::from);
    html::table("What the models cost", &head, &rows)
}

/// What calibration changed on test; nothing where it is not known.
pub(super) fn calibration(metrics: &RunMetrics, cast: &[Model]) -> String {
    let number = |value: f64| Unit::Number.write(value);
    let row = |model: &Model| {
        let m = metrics.models.get(model.name)?;
        let (before, after) = (m.calibration.as_ref()?, m.splits.get("test")?);
        let kinds = before.kinds.iter().map(|(kind, folds)| match before.kinds.len() {
            1 => kind.clone(),
            _ => format!("{kind} ({folds})"),
        });
        Some(vec![
            model.legend(),
            escape(&kinds.collect::<Vec<_>>().join(", ")),
            number(before.test_ece_before),
            number(after.ece),
            number(before.test_log_loss_before),
            number(after.log_loss),
            number(before.validation_log_loss),
        ])
    };
    let rows: Vec<Vec<String>> = cast.iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = [
        "Model",
        "Calibrator",
        "ECE before",
        "after",
        "Log loss before",
        "after",
        "Validation log loss, cross-validated",
    ];
    let caption = "Calibration, learned on the validation split and measured on test. The last \
                   column chooses the champion";
    html::table(caption, &head.map(String::from), &rows)
}

/// The summary of the data, label and value.
pub(super) fn data(summary: &[(String, String)]) -> String {
    if summary.is_empty() {
        return html::empty("No summary of the data was recorded.");
    }
    let line = |(label, value): &(String, String)| {
        format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(label), escape(value))
    };
    format!("<dl>\n{}</dl>\n", summary.iter().map(line).collect::<String>())
}

/// One line per data check, failures first.
pub(super) fn quality(lines: &[QualityLine]) -> String {
    if lines.is_empty() {
        return html::empty("No data checks were run.");
    }
    let mut lines: Vec<&QualityLine> = lines.iter().collect();
    let rank = |line: &QualityLine| match (line.passed, line.severity) {
        (false, Severity::Error) => 0,
        (false, Severity::Warn) => 1,
        (true, _) => 2,
    };
    lines.sort_by_key(|line| rank(line));
    let row = |line: &&QualityLine| {
        let (class, outcome) = match rank(line) {
            0 => ("bad", "✗\u{a0}error"),
            1 => ("warn", "!\u{a0}warning"),
            _ => ("good", "✓\u{a0}passed"),
        };
        vec![
            escape(&line.name),
            format!("<span class=\"{class}\">{outcome}</span>"),
            escape(&line.detail),
        ]
    };
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    let failed = lines.iter().filter(|line| !line.passed).count();
    let caption = format!("{failed} of {} checks did not pass", lines.len());
    format!(
        "<div class=\"text\">{}</div>\n",
        html::table(&caption, &["Check", "Outcome", "Detail"].map(String::from), &rows,)
    )
}
