//! Figures: plots with what to read in them. Here those that have one plot per model.

use super::html::{self, count};
use super::plot::{Axis, Dot, GREY, Line, Plot, Size, Stroke, Unit};
use super::{Model, ModelScores, ReportInput, TrainingCurve, tables};
use crate::error::Result;
use crate::eval::curves::{self, CalibrationBin};

/// Bins of the reliability plots: enough to see a bend, few enough to hold many snapshots each.
const BINS: usize = 10;
/// One reliability plot per model, all on the same axes.
pub(super) fn calibration(input: &ReportInput, cast: &[Model]) -> Result<String> {
    let reliability = |model| {
        let scores = scores_of(input, model)?;
        let before = curves::calibration(scores.labels, scores.raw_risks, BINS);
        let after = curves::calibration(scores.labels, scores.risks, BINS);
        Some((model, [before, after]))
    };
    let all: Vec<(&Model, [Vec<CalibrationBin>; 2])> =
        cast.iter().filter_map(reliability).collect();
    let bins = all.iter().flat_map(|(_, bins)| bins).flatten();
    let shown = bins.flat_map(|bin| [bin.mean_risk, bin.rate]);
    let shown: Vec<f64> = shown.filter(|share| share.is_finite()).collect();
    if shown.is_empty() {
        return Ok(html::empty(
            "No test risks were given, or nobody (or everybody) leaves in them: risks cannot be \
             compared with what happened.",
        ));
    }
    let top = shown.iter().copied().fold(0.001, f64::max) * 1.1;
    let figures: Result<String> = all
        .iter()
        .map(|(model, [before, after])| reliability_figure(model, (before, after), top))
        .collect();
    Ok(format!(
        "<p>Snapshots in up to {BINS} groups of similar risk. On the diagonal, as many leave as \
         predicted; below it, the model is too pessimistic, above it too optimistic. A dot's area \
         is the size of its group. The dashed line is the model before its calibration on the \
         validation split.</p>\n<div class=\"grid small\">\n{}</div>\n{}",
        figures?,
        tables::calibration(input.metrics, cast)
    ))
}

fn reliability_figure(
    model: &Model,
    (before, bins): (&[CalibrationBin], &[CalibrationBin]),
    top: f64,
) -> Result<String> {
    let (Some(least), Some(most)) =
        (bins.iter().map(|bin| bin.rows).min(), bins.iter().map(|bin| bin.rows).max())
    else {
        return Ok(figure(&model.legend(), "", &nothing(), ""));
    };
    let points = |bins: &[CalibrationBin]| -> Vec<(f64, f64)> {
        bins.iter().map(|bin| (bin.mean_risk, bin.rate)).collect()
    };
    let mut lines = vec![reference(vec![(0.0, 0.0), (top, top)])];
    if before != bins {
        lines.push(Line { points: points(before), color: GREY, stroke: Stroke::Dashed });
    }
    lines.push(Line { points: points(bins), color: model.color, stroke: model.stroke() });
    let dot = |bin: &CalibrationBin| Dot {
        at: (bin.mean_risk, bin.rate),
        radius: (36.0 * bin.rows as f64 / most as f64).sqrt().max(1.5),
        color: model.color,
    };
    let axis = |title| Axis { title, range: 0.0..top, unit: Unit::Percent };
    let svg = Plot {
        description: format!("Reliability of {}: predicted risk against actual share", model.name),
        size: Size::Small,
        x: axis("predicted risk"),
        y: axis("actual share of leavers"),
        lines,
        dots: bins.iter().map(dot).collect(),
    }
    .svg()?;
    let sizes = if least == most {
        format!("{} groups of {} snapshots", bins.len(), count(most))
    } else {
        format!("{} groups of {} to {} snapshots", bins.len(), count(least), count(most))
    };
    Ok(figure(&model.legend(), "", &svg, &sizes))
}

/// One plot of losses per model, all on the same axes.
pub(super) fn training(curves: &[TrainingCurve], cast: &[Model]) -> Result<String> {
    let finite = |p: &&Epoch| p.0.is_finite() && (p.1.is_finite() || p.2.is_finite());
    let curves: Vec<(&str, Vec<Epoch>)> = curves
        .iter()
        .map(|curve| (&*curve.model, curve.points.iter().filter(finite).copied().collect()))
        .collect();
    let all: Vec<Epoch> = curves.iter().flat_map(|(_, points)| points).copied().collect();
    if all.is_empty() {
        return Ok(html::empty("No training curves were recorded."));
    }
    let x = span(all.iter().map(|p| p.0));
    let y = span(all.iter().flat_map(|p| [p.1, p.2]));
    let mut figures = String::new();
    for model in cast {
        let own: Vec<&[Epoch]> = curves
            .iter()
            .filter(|(name, points)| *name == model.name && !points.is_empty())
            .map(|(_, points)| points.as_slice())
            .collect();
        if !own.is_empty() {
            figures += &losses(model, &own, (x.clone(), y.clone()))?;
        }
    }
    Ok(format!(
        "<p>Loss on the train split (dashed) and on the validation split (solid) after each epoch. \
         The dot is the lowest validation loss; where the solid line climbs while the dashed one \
         falls, the network learns by heart.</p>\n<div class=\"grid small\">\n{figures}</div>\n"
    ))
}

type Span = std::ops::Range<f64>;
/// Epoch, train loss, validation loss.
type Epoch = (f64, f64, f64);

fn losses(model: &Model, folds: &[&[Epoch]], (x, y): (Span, Span)) -> Result<String> {
    let (mut lines, mut dots) = (Vec::new(), Vec::new());
    for points in folds {
        let curve = |of: fn(&Epoch) -> f64| -> Vec<(f64, f64)> {
            points.iter().map(|p| (p.0, of(p))).filter(|p| p.1.is_finite()).collect()
        };
        let (train, validation) = (curve(|p| p.1), curve(|p| p.2));
        let lowest = validation.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1));
        dots.extend(lowest.map(|at| Dot { at, radius: 4.0, color: model.color }));
        if let [only] = train[..] {
            // A line of one point shows nothing.
            dots.push(Dot { at: only, radius: 2.0, color: model.color });
        }
        lines.push(Line { points: train, color: model.color, stroke: Stroke::Dashed });
        lines.push(Line { points: validation, color: model.color, stroke: Stroke::Solid });
    }
    let svg = Plot {
        description: format!("Train and validation loss of {} by epoch", model.name),
        size: Size::Small,
        x: Axis { title: "epoch", range: x, unit: Unit::Whole },
        y: Axis { title: "loss", range: y, unit: Unit::Number },
        lines,
        dots,
    }
    .svg()?;
    let caption = if folds.len() > 1 { format!("{} folds", folds.len()) } else { String::new() };
    Ok(figure(&model.legend(), "", &svg, &caption))
}

/// All arguments are HTML.
pub(super) fn figure(title: &str, legend: &str, body: &str, caption: &str) -> String {
    let caption = match caption {
        "" => String::new(),
        text => format!("<figcaption>{text}</figcaption>\n"),
    };
    format!("<figure>\n<h3>{title}</h3>\n{legend}{body}{caption}</figure>\n")
}

pub(super) fn nothing() -> String {
    html::empty(
        "Not defined: there is no test snapshot, a risk is not a number, or nobody (or \
                 everybody) leaves.",
    )
}

pub(super) fn scores_of<'a>(input: &ReportInput<'a>, model: &Model) -> Option<&'a ModelScores<'a>> {
    input.scores.iter().find(|scores| scores.name == model.name)
}

pub(super) fn reference(points: Vec<(f64, f64)>) -> Line {
    Line { points, color: GREY, stroke: Stroke::Reference }
}

/// From the smallest to the largest finite value with a little air; never empty.
fn span(values: impl Iterator<Item = f64>) -> Span {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let air = if high > low { (high - low) * 0.04 } else { high.abs().max(1.0) * 0.5 };
    low - air..high + air
}
