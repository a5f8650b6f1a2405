//! When customers leave: mean predicted survival beside Kaplan-Meier.

use plotters::style::RGBColor;

use super::Model;
use super::figures::{figure, reference};
use super::html::{self, count};
use super::plot::{Axis, Dot, Line, Plot, Size, Unit};
use crate::error::Result;
use crate::eval::results::RunMetrics;
use crate::eval::survival::{CurveMetrics, CurveMonth};

/// What happened is drawn over all models, in none of their colors.
const OBSERVED: RGBColor = RGBColor(0, 0, 0);

/// The section; nothing where no model has a risk curve.
pub(super) fn section(metrics: &RunMetrics, cast: &[Model]) -> Result<String> {
    let curve = |model| Some((model, curve_of(metrics, model)?));
    let curves: Vec<(&Model, &CurveMetrics)> = cast.iter().filter_map(curve).collect();
    let Some((_, first)) = curves.first() else { return Ok(String::new()) };
    let body = format!("{}{}", plot(&curves, first)?, table(&curves, first));
    Ok(html::section("curve", "When customers leave", &body))
}

fn curve_of<'a>(metrics: &'a RunMetrics, model: &Model) -> Option<&'a CurveMetrics> {
    metrics.models.get(model.name)?.curve.as_ref()
}

fn plot(curves: &[(&Model, &CurveMetrics)], first: &CurveMetrics) -> Result<String> {
    let line = |curve: &CurveMetrics, of: fn(&CurveMonth) -> f64| -> Vec<(f64, f64)> {
        let after = curve.months.iter().map(|month| (f64::from(month.month), of(month)));
        std::iter::once((0.0, 1.0)).chain(after).collect()
    };
    let observed = line(first, |month| month.survival);
    let predicted = |(model, curve): &(&Model, &CurveMetrics)| Line {
        points: line(curve, |month| month.survival_predicted),
        color: model.color,
        stroke: model.stroke(),
    };
    let lines: Vec<Line> = curves.iter().map(predicted).collect();
    let all = || lines.iter().flat_map(|line| &line.points).chain(&observed);
    let low = all().map(|(_, survival)| *survival).fold(1.0, f64::min);
    let legend: String =
        curves.iter().map(|(model, _)| format!("<li>{}</li>", model.legend())).collect();
    let dots = observed.iter().map(|&at| Dot { at, radius: 3.0, color: OBSERVED });
    let names: Vec<&str> = curves.iter().map(|(model, _)| model.name).collect();
    let svg = Plot {
        description: format!("Mean predicted survival of {} and Kaplan-Meier", names.join(", ")),
        size: Size::Wide,
        x: Axis {
            title: "month of the horizon",
            range: 0.0..first.months.len() as f64,
            unit: Unit::Whole,
        },
        y: Axis {
            title: "share still there",
            range: (low - (1.0 - low) * 0.1).max(0.0)..1.0,
            unit: Unit::Percent,
        },
        dots: dots.collect(),
        lines: std::iter::once(reference(observed)).chain(lines).collect(),
    }
    .svg()?;
    let caption = format!(
        "Share of customers that the models expect to be still there, and the share that was \
         (dots, Kaplan-Meier), over {} test windows, of which {} were seen in part only.",
        count(first.rows),
        count(first.censored)
    );
    let figure =
        figure("Survival", &format!("<ul class=\"legend\">{legend}</ul>\n"), &svg, &caption);
    Ok(format!("<div class=\"grid\">\n{figure}</div>\n"))
}

fn table(curves: &[(&Model, &CurveMetrics)], first: &CurveMetrics) -> String {
    let number = |value: f64| format!("{value:.4}");
    let row = |(model, curve): &(&Model, &CurveMetrics)| {
        vec![
            model.legend(),
            format!("{:.5}", curve.integrated_brier),
            curve.auroc.map_or_else(|| "–".to_owned(), number),
            number(curve.calibration_error_max),
        ]
    };
    let mut rows: Vec<Vec<String>> = curves.iter().map(row).collect();
    let same_for_all = format!("{:.5}", first.integrated_brier_kaplan_meier);
    let dash = || "–".to_owned();
    rows.push(vec!["Kaplan-Meier of these rows".to_owned(), same_for_all, dash(), dash()]);
    let head = ["Model", "Integrated Brier score ↓", "AUROC over time ↑", "Calibration error ↓"];
    let caption = "Risk curves: the calibration error is that of the worst month";
    html::table(caption, &head.map(String::from), &rows)
}
