//! The plots of a ranking: how many leavers a contact list of any length holds.

use super::figures::{figure, nothing, reference, scores_of};
use super::html::{self, percent};
use super::plot::{Axis, Line, Plot, Size, Unit};
use super::{Model, ModelScores, ReportInput};
use crate::error::Result;
use crate::eval::curves;

/// The head of a contact list is noise (precision 0 or 1 after one customer) that would set the
/// scale of its plots: this many snapshots, and this share, are taken as one group.
const HEAD_ROWS: f64 = 30.0;
const HEAD_SHARE: f64 = 0.01;

/// Leavers reached, lift, precision-recall and ROC of all models with scores.
pub(super) fn figures(input: &ReportInput, cast: &[Model]) -> Result<String> {
    if input.scores.is_empty() {
        return Ok(html::empty("No test risks were given, so there are no curves."));
    }
    let folds = input.metrics.models.values().any(|model| model.folds.len() > 1);
    let note = if folds {
        "<p>The curves take the test snapshots of all folds together; the tables above give means \
         over folds, so that the two can differ a little.</p>\n"
    } else {
        ""
    };
    let figures = [
        gains(input, cast)?,
        lift(input, cast)?,
        precision_recall(input, cast)?,
        roc(input, cast)?,
    ];
    Ok(format!("{note}<div class=\"grid\">\n{}</div>\n", figures.concat()))
}

fn gains(input: &ReportInput, cast: &[Model]) -> Result<String> {
    // Share contacted times lift is the share of leavers reached.
    let gains = |scores: &ModelScores| {
        let points = curves::lift(scores.labels, scores.risks);
        points.into_iter().map(|(share, lift)| (share, share * lift)).collect()
    };
    let mut caption = String::from(
        "Share of all leavers on the contact list, by the length of the list. The diagonal is a \
         list drawn at random.",
    );
    let mut references = vec![reference(vec![(0.0, 0.0), (1.0, 1.0)])];
    if let Some(share) = contact_share(input) {
        references.push(reference(vec![(share, 0.0), (share, 1.0)]));
        caption +=
            &format!(" The upright line is the configured contact share, {}.", percent(share));
    }
    Overlay {
        title: "Leavers reached",
        caption: &caption,
        x: Axis { title: "share of customers contacted", range: 0.0..1.0, unit: Unit::Percent },
        y: Axis { title: "share of leavers reached", range: 0.0..1.0, unit: Unit::Percent },
        references,
    }
    .figure(curves_of(input, cast, gains))
}

fn lift(input: &ReportInput, cast: &[Model]) -> Result<String> {
    let curves = curves_of(input, cast, |scores| {
        let points = curves::lift(scores.labels, scores.risks);
        without_head(points, head(scores), |(share, _)| share)
    });
    let top = highest(&curves).max(1.0) * 1.05;
    let mut references = vec![reference(vec![(0.0, 1.0), (1.0, 1.0)])];
    if let Some(share) = contact_share(input) {
        references.push(reference(vec![(share, 0.0), (share, top)]));
    }
    Overlay {
        title: "Lift",
        caption: "How many times as many leavers the contact list holds as a list of the same \
                  length drawn at random (the level line at 1). The first 1 % of the list, 30 \
                  snapshots at least, is taken together.",
        x: Axis { title: "share of customers contacted", range: 0.0..1.0, unit: Unit::Percent },
        y: Axis { title: "times as many as at random", range: 0.0..top, unit: Unit::Number },
        references,
    }
    .figure(curves)
}

fn precision_recall(input: &ReportInput, cast: &[Model]) -> Result<String> {
    let curves = curves_of(input, cast, |scores| {
        let rate = churn_rate(scores.labels);
        // Share contacted = leavers among them, recall times rate, over precision.
        let contacted =
            |(recall, precision)| if recall > 0.0 { recall * rate / precision } else { 0.0 };
        let points = curves::precision_recall(scores.labels, scores.risks);
        without_head(points, head(scores), contacted)
    });
    let rate = input.scores.iter().find(|s| !s.labels.is_empty()).map(|s| churn_rate(s.labels));
    let top = (highest(&curves).max(rate.unwrap_or(0.0)) * 1.05).clamp(0.001, 1.0);
    let level = |rate| reference(vec![(0.0, rate), (1.0, rate)]);
    Overlay {
        title: "Precision and recall",
        caption: "Share of leavers among those contacted, against the share of all leavers \
                  reached. The level line is the churn rate, which chance gives. The first 1 % of \
                  the list, 30 snapshots at least, is taken together.",
        x: Axis { title: "recall", range: 0.0..1.0, unit: Unit::Percent },
        y: Axis { title: "precision", range: 0.0..top, unit: Unit::Percent },
        references: rate.map(level).into_iter().collect(),
    }
    .figure(curves)
}

fn roc(input: &ReportInput, cast: &[Model]) -> Result<String> {
    Overlay {
        title: "ROC",
        caption: "Share of leavers found, against share of stayers contacted in vain. The diagonal \
                  is chance; the nearer to the upper left corner, the better.",
        x: Axis { title: "false positive rate", range: 0.0..1.0, unit: Unit::Percent },
        y: Axis { title: "true positive rate", range: 0.0..1.0, unit: Unit::Percent },
        references: vec![reference(vec![(0.0, 0.0), (1.0, 1.0)])],
    }
    .figure(curves_of(input, cast, |scores| curves::roc(scores.labels, scores.risks)))
}

/// The contact share of the test metrics, if it is one.
fn contact_share(input: &ReportInput) -> Option<f64> {
    let tests = input.metrics.models.values().filter_map(|model| model.splits.get("test"));
    tests.map(|m| m.contact_share).find(|share| (0.0..=1.0).contains(share))
}

fn churn_rate(labels: &[bool]) -> f64 {
    labels.iter().filter(|&&label| label).count() as f64 / labels.len() as f64
}

/// Share of the snapshots that a plot takes as one group.
fn head(scores: &ModelScores) -> f64 {
    (HEAD_ROWS / scores.labels.len() as f64).clamp(HEAD_SHARE, 1.0)
}

/// Replaces the points up to a contacted share of `head` by the level of the first one after: the
/// expectation for a part of the head drawn at random.
fn without_head(
    points: Vec<(f64, f64)>,
    head: f64,
    contacted: impl Fn((f64, f64)) -> f64,
) -> Vec<(f64, f64)> {
    let kept = points.into_iter().skip_while(|&point| contacted(point) < head);
    let kept: Vec<(f64, f64)> = kept.collect();
    kept.first().map(|&(_, y)| (0.0, y)).into_iter().chain(kept.iter().copied()).collect()
}

/// Several models' curves in one plot.
struct Overlay<'a> {
    title: &'a str,
    caption: &'a str,
    x: Axis<'a>,
    y: Axis<'a>,
    references: Vec<Line>,
}

impl Overlay<'_> {
    fn figure(self, curves: Vec<(&Model, Vec<(f64, f64)>)>) -> Result<String> {
        let (drawn, missing): (Vec<_>, Vec<_>) =
            curves.into_iter().partition(|(_, points)| !points.is_empty());
        if drawn.is_empty() {
            return Ok(figure(self.title, "", &nothing(), ""));
        }
        let names: Vec<&str> = drawn.iter().map(|(model, _)| model.name).collect();
        let description = format!("{} of {}", self.title, names.join(", "));
        let legend: String =
            drawn.iter().map(|(model, _)| format!("<li>{}</li>", model.legend())).collect();
        let mut caption = self.caption.to_owned();
        if !missing.is_empty() {
            let names: Vec<&str> = missing.iter().map(|(model, _)| model.label.as_str()).collect();
            caption += &format!(" Not defined for {}.", names.join(", "));
        }
        let lines = drawn.into_iter().map(|(model, points)| Line {
            points,
            color: model.color,
            stroke: model.stroke(),
        });
        let svg = Plot {
            description,
            size: Size::Wide,
            x: self.x,
            y: self.y,
            lines: self.references.into_iter().chain(lines).collect(),
            dots: Vec::new(),
        }
        .svg()?;
        Ok(figure(self.title, &format!("<ul class=\"legend\">{legend}</ul>\n"), &svg, &caption))
    }
}

fn curves_of<'m, 'a>(
    input: &ReportInput,
    cast: &'m [Model<'a>],
    curve: impl Fn(&ModelScores) -> Vec<(f64, f64)>,
) -> Vec<(&'m Model<'a>, Vec<(f64, f64)>)> {
    cast.iter().filter_map(|model| Some((model, curve(scores_of(input, model)?)))).collect()
}

/// The largest y, 0 at least.
fn highest(curves: &[(&Model, Vec<(f64, f64)>)]) -> f64 {
    curves.iter().flat_map(|(_, points)| points).map(|p| p.1).fold(0.0, f64::max)
}
