//! One self-contained HTML page per run: what the model is worth, in words, numbers and plots.
//!
//! The page needs no network and no scripts, is readable on a phone, on paper, in light and in
//! dark, and is the same bytes for the same input. Everything that comes from the user (names,
//! configuration) is escaped. Where a number or a curve does not exist, the page says so.

mod choices;
mod figures;
mod folds;
mod headline;
mod html;
mod plot;
mod ranking;
mod survival;
mod tables;

use std::collections::BTreeSet;

use plotters::style::RGBColor;

use crate::config::{ModelKind, Severity};
use crate::error::Result;
use crate::eval::results::RunMetrics;
use html::escape;

/// Everything that the page shows.
#[derive(Debug, Clone, Copy)]
pub struct ReportInput<'a> {
    pub title: &'a str,
    pub run_id: &'a str,
    pub bundle_id: Option<&'a str>,
    /// What it is to leave, in words.
    pub label: &'a str,
    /// Label and value, in the order of the page.
    pub data_summary: &'a [(String, String)],
    pub quality: &'a [QualityLine],
    pub metrics: &'a RunMetrics,
    pub scores: &'a [ModelScores<'a>],
    pub training: &'a [TrainingCurve],
    /// The resolved configuration.
    pub config_toml: &'a str,
    pub notes: &'a [String],
}

/// The outcome of one data check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QualityLine {
    pub name: String,
    pub severity: Severity,
    pub passed: bool,
    pub detail: String,
}

/// One model's predictions for the test snapshots, all folds behind one another.
#[derive(Debug, Clone, Copy)]
pub struct ModelScores<'a> {
    pub name: &'a str,
    /// True = churned.
    pub labels: &'a [bool],
    /// Risk of the same snapshots, 0..=1.
    pub risks: &'a [f64],
    /// The same before calibration.
    pub raw_risks: &'a [f64],
}

/// The losses of one training.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingCurve {
    pub model: String,
    /// `None` where the split has no folds.
    pub fold: Option<u32>,
    /// (epoch, train loss, validation loss); a loss that is not finite is left out of the plot.
    pub points: Vec<(f64, f64, f64)>,
}

/// The page, from `<!doctype html>` to `</html>`.
///
/// # Errors
/// `Internal` where a plot cannot be drawn. Missing numbers are no error.
///
/// # Panics
/// If a model's labels and risks differ in length.
pub fn render(input: &ReportInput) -> Result<String> {
    let cast = cast(input);
    let body = [
        header(input, &cast),
        html::section("models", "The models", &tables::models(input.metrics, &cast)),
        folds::section(input.metrics, &cast),
        choices::section(input.metrics),
        html::section("ranking", "Who is contacted first", &ranking::figures(input, &cast)?),
        html::section("calibration", "Are the risks right", &figures::calibration(input, &cast)?),
        survival::section(input.metrics, &cast)?,
        html::section("training", "Training", &figures::training(input.training, &cast)?),
        html::section("data", "The data", &tables::data(input.data_summary)),
        html::section("quality", "Data checks", &tables::quality(input.quality)),
        notes(input.notes),
        configuration(input.config_toml),
    ]
    .concat();
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escape(input.title),
        include_str!("style.css"),
    ))
}

fn header(input: &ReportInput, cast: &[Model]) -> String {
    let bundle = input
        .bundle_id
        .map_or(String::new(), |id| format!(" · bundle <code>{}</code>", escape(id)));
    format!(
        "<header>\n<h1>{}</h1>\n<p class=\"ids\">run <code>{}</code>{bundle}</p>\n{}</header>\n",
        escape(input.title),
        escape(input.run_id),
        headline::headline(input, cast),
    )
}

fn notes(notes: &[String]) -> String {
    if notes.is_empty() {
        return String::new();
    }
    let items: Vec<String> = notes.iter().map(|note| escape(note)).collect();
    html::section("notes", "Notes", &html::list(&items))
}

fn configuration(toml: &str) -> String {
    let body = format!(
        "<details>\n<summary>Show the configuration of this run</summary>\n\
         <pre>{}</pre>\n</details>\n",
        escape(toml)
    );
    html::section("config", "Configuration", &body)
}

/// A model as the page shows it: one name and one color everywhere.
struct Model<'a> {
    name: &'a str,
    /// HTML.
    label: String,
    role: Role,
    color: RGBColor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Network,
    Baseline,
    /// An average of the others, which it cannot be set against.
    Ensemble,
}

impl Model<'_> {
    /// A baseline's curves are dashed, so that they are told apart on paper too.
    fn stroke(&self) -> plot::Stroke {
        match self.role {
            Role::Network | Role::Ensemble => plot::Stroke::Solid,
            Role::Baseline => plot::Stroke::Dashed,
        }
    }

    /// The name behind a patch of the model's color; a baseline's patch is dashed like its curves.
    fn legend(&self) -> String {
        let dash = if self.role == Role::Baseline { " dashed" } else { "" };
        format!(
            "<span class=\"key{dash}\" style=\"color:{}\"></span>{}",
            css(self.color),
            self.label
        )
    }
}

/// Colors that people with any of the common color blindnesses tell apart: Okabe and Ito 2008,
/// without its yellow, which is lost on white, and its black, which is the logistic regression's.
const COLORS: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
];
/// The name of the logistic regression in [`RunMetrics`].
const LOGISTIC: &str = "logistic";

/// All models that the input names: those with metrics in the order of their tables, then others.
fn cast<'a>(input: &ReportInput<'a>) -> Vec<Model<'a>> {
    let mut names: Vec<&str> = input.metrics.names();
    let scored = input.scores.iter().map(|scores| scores.name);
    let trained = input.training.iter().map(|curve| curve.model.as_str());
    let others: BTreeSet<&str> =
        scored.chain(trained).filter(|name| !names.contains(name)).collect();
    names.extend(others);
    let mut colors = COLORS.into_iter().cycle();
    let mut color = |name| match name {
        LOGISTIC => Some(RGBColor(0, 0, 0)),
        _ => colors.next(),
    };
    let model = |name| Model {
        name,
        label: label(name),
        role: role(name),
        color: color(name).unwrap_or(plot::GREY),
    };
    names.into_iter().map(model).collect()
}

fn role(name: &str) -> Role {
    let networks = [ModelKind::Static, ModelKind::Mlp, ModelKind::Gru, ModelKind::Hybrid];
    let networks = networks.map(ModelKind::name);
    match name {
        "ensemble" => Role::Ensemble,
        _ if networks.contains(&name) => Role::Network,
        _ => Role::Baseline,
    }
}

fn label(name: &str) -> String {
    match name {
        "mlp" | "gru" => name.to_uppercase(),
        "static" => "Static".into(),
        "hybrid" => "Hybrid".into(),
        "trees" => "Trees".into(),
        "ensemble" => "Ensemble".into(),
        LOGISTIC => "Logistic regression".into(),
        _ => escape(name),
    }
}

fn css(color: RGBColor) -> String {
    format!("#{:02x}{:02x}{:02x}", color.0, color.1, color.2)
}

#[cfg(test)]
mod tests;
