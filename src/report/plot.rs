//! Line plots as inline SVG.
//!
//! plotters draws; text is measured by nobody here (no font is loaded), so a plot holds only tick
//! labels and axis titles, whose anchors need no measure. Legends are HTML.

use std::ops::Range;

use plotters::prelude::*;

use super::html::escape;
use crate::error::{Error, Kind, Result};

/// A plot is drawn on a canvas this many times its size on the page: plotters rounds to whole
/// pixels, and a curve rounded to screen pixels looks like stairs.
const SCALE: u32 = 2;
/// plotters divides font sizes by 1.24 on the way to SVG.
const FONT_SIZE: f64 = 12.0 * SCALE as f64 * 1.24;
const INK: RGBColor = RGBColor(60, 60, 60);
const GRID: RGBColor = RGBColor(228, 228, 228);
pub(super) const GREY: RGBColor = RGBColor(130, 130, 130);

/// The plot's size on the page in CSS pixels, when there is room.
#[derive(Debug, Clone, Copy)]
pub(super) enum Size {
    /// Several models in one plot.
    Wide,
    /// One of several plots beside each other.
    Small,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stroke {
    Solid,
    Dashed,
    /// For what the curves are to be compared with.
    Reference,
}

pub(super) struct Line {
    pub points: Vec<(f64, f64)>,
    pub color: RGBColor,
    pub stroke: Stroke,
}

/// A filled circle; the radius is in CSS pixels.
pub(super) struct Dot {
    pub at: (f64, f64),
    pub radius: f64,
    pub color: RGBColor,
}

pub(super) struct Axis<'a> {
    pub title: &'a str,
    pub range: Range<f64>,
    pub unit: Unit,
}

/// How an axis writes its numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit {
    Percent,
    Number,
    Whole,
}

pub(super) struct Plot<'a> {
    /// What the plot shows, for those who cannot see it.
    pub description: String,
    pub size: Size,
    pub x: Axis<'a>,
    pub y: Axis<'a>,
    pub lines: Vec<Line>,
    pub dots: Vec<Dot>,
}

impl Plot<'_> {
    /// The `<svg>` element.
    ///
    /// # Errors
    /// `Internal` where plotters cannot draw.
    pub fn svg(&self) -> Result<String> {
        let (width, height) = match self.size {
            Size::Wide => (420 * SCALE, 310 * SCALE),
            Size::Small => (280 * SCALE, 235 * SCALE),
        };
        let mut svg = String::new();
        self.draw(SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area())?;
        // The tag that plotters opens fixes the size and declares the XML namespace, which a page
        // in HTML does not want.
        let (_, shapes) = svg
            .split_once('>')
            .ok_or_else(|| Kind::Internal.msg("plotters wrote no SVG element"))?;
        let description = escape(&self.description);
        Ok(format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{description}\">{shapes}"
        ))
    }

    fn draw(&self, area: DrawingArea<SVGBackend, plotters::coord::Shift>) -> Result<()> {
        let mut chart = ChartBuilder::on(&area)
            .margin_top(8 * SCALE)
            .margin_right(22 * SCALE)
            .x_label_area_size(42 * SCALE)
            .y_label_area_size(56 * SCALE)
            .build_cartesian_2d(self.x.range.clone(), self.y.range.clone())
            .map_err(failed)?;
        let x_labels = match self.size {
            Size::Wide => 6,
            Size::Small => 5,
        };
        chart
            .configure_mesh()
            .x_labels(x_labels)
            .y_labels(6)
            .bold_line_style(GRID.stroke_width(SCALE))
            .light_line_style(TRANSPARENT)
            .axis_style(INK.stroke_width(SCALE))
            .set_all_tick_mark_size(4 * SCALE)
            .label_style(("sans-serif", FONT_SIZE, &INK))
            .axis_desc_style(("sans-serif", FONT_SIZE, &INK))
            .x_desc(self.x.title)
            .y_desc(self.y.title)
            .x_label_formatter(&|x| self.x.label(*x))
            .y_label_formatter(&|y| self.y.label(*y))
            .draw()
            .map_err(failed)?;
        for line in &self.lines {
            let points = line.points.iter().copied();
            match line.stroke {
                Stroke::Solid => {
                    let style = line.color.stroke_width(2 * SCALE);
                    chart.draw_series(LineSeries::new(points, style)).map_err(failed)?;
                }
                Stroke::Dashed => {
                    let style = line.color.stroke_width(2 * SCALE);
                    let dashes = DashedLineSeries::new(points, 6 * SCALE, 4 * SCALE, style);
                    chart.draw_series(dashes).map_err(failed)?;
                }
                Stroke::Reference => {
                    let style = line.color.stroke_width(SCALE);
                    let dashes = DashedLineSeries::new(points, 3 * SCALE, 3 * SCALE, style);
                    chart.draw_series(dashes).map_err(failed)?;
                }
            }
        }
        let dots = self.dots.iter().map(|dot| {
            Circle::new(dot.at, dot.radius * f64::from(SCALE), dot.color.mix(0.75).filled())
        });
        chart.draw_series(dots).map_err(failed)?;
        area.present().map_err(failed)
    }
}

impl Axis<'_> {
    fn label(&self, value: f64) -> String {
        let span = self.range.end - self.range.start;
        // Around six ticks: the step is about a fifth of the span.
        let decimals = |span: f64| (-(span / 5.0).log10().floor()).clamp(0.0, 6.0) as usize;
        // No tick at minus zero.
        let value = value + 0.0;
        match self.unit {
            Unit::Percent => format!("{:.*} %", decimals(span * 100.0), value * 100.0),
            Unit::Number => format!("{value:.*}", decimals(span)),
            Unit::Whole if (value - value.round()).abs() < 1e-9 => format!("{value:.0}"),
            Unit::Whole => String::new(),
        }
    }
}

fn failed<E: std::error::Error + Send + Sync>(
    error: plotters::drawing::DrawingAreaErrorKind<E>,
) -> Error {
    Kind::Internal.msg(format!("a plot of the report failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_writes_the_decimals_its_step_needs() {
        let label = |range: Range<f64>, unit, value| Axis { title: "", range, unit }.label(value);
        assert_eq!(label(0.0..1.0, Unit::Percent, 0.2), "20 %");
        assert_eq!(label(0.0..0.02, Unit::Percent, 0.005), "0.5 %");
        assert_eq!(label(0.2..0.3, Unit::Number, 0.22), "0.22");
        assert_eq!(label(0.0..8.0, Unit::Number, 2.0), "2");
        assert_eq!(label(0.0..30.0, Unit::Whole, 5.0), "5");
        assert_eq!(label(0.0..2.0, Unit::Whole, 0.5), "");
        assert_eq!(label(-1.0..1.0, Unit::Number, -0.0), "0.0");
    }
}
