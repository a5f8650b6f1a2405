//! What was compared within the run: the parts of the input, and the losses.

use super::html::{self, escape};
use crate::eval::results::RunMetrics;
use crate::eval::{Ablation, LossTrial};

const ABLATION: &str = "<p>The same networks with a part of the input taken away: attributes alone, \
    months alone, and both. “Over both” is what is lost in test log loss without the rest.</p>\n";

const LOSSES: &str = "<p>Short trainings with each loss, compared by log loss on the validation \
    split after calibration; the networks above learned by the best one.</p>\n";

/// The section; nothing where nothing was compared.
pub(super) fn section(metrics: &RunMetrics) -> String {
    let mut body = String::new();
    if !metrics.ablation.is_empty() {
        body += ABLATION;
        body += &table("Ablation, on test", Ablation::cells(&metrics.ablation));
    }
    if !metrics.losses.is_empty() {
        body += LOSSES;
        body += &table("Losses", LossTrial::cells(&metrics.losses));
    }
    match body.is_empty() {
        true => body,
        false => html::section("choices", "What was compared", &body),
    }
}

fn table(caption: &str, cells: Vec<Vec<String>>) -> String {
    let escaped = |row: &Vec<String>| row.iter().map(|cell| escape(cell)).collect();
    let rows: Vec<Vec<String>> = cells.iter().map(escaped).collect();
    html::table(caption, &rows[0], &rows[1..])
}
