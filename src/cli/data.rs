//! From a configuration to a labelled, divided panel.

use std::path::PathBuf;

use crate::config::Resolved;
use crate::error::{Kind, Result};
use crate::panel::{self, BuildReport, Extent, Fold, Inputs, Intake, Panel, Part, Snapshots};
use crate::quality;
use crate::seeds::Seeds;

/// Everything that models learn from.
pub struct Data {
    pub intake: Intake,
    pub panel: Panel,
    pub snapshots: Snapshots,
    pub folds: Vec<Fold>,
    pub sha256: String,
}

/// Reads, labels and divides.
pub fn load(resolved: &Resolved) -> Result<Data> {
    let config = &resolved.config;
    let root: PathBuf = resolved.root();
    let intake = Intake::from(config);
    let inputs = Inputs::under(&root, &intake)?;
    let panel = panel::build(&intake, &inputs, &Extent::all())?;
    repairs(&panel.report).for_each(|(name, count)| tracing::info!("{name}: {count}"));
    let snapshots = panel::label(&panel, &intake, &root, &config.label, &config.split)?;
    let declared = panel::split::Declared {
        intake: &intake,
        root: &root,
        label: &config.label,
        split: &config.split,
        seeds: &Seeds::new(config.seed),
    };
    let folds = panel::split(&panel, &snapshots, &declared)?;
    let sha256 = panel.sha256();
    Ok(Data { intake, panel, snapshots, folds, sha256 })
}

/// What was mended or left out while the panel was built, and how often.
fn repairs(report: &BuildReport) -> impl Iterator<Item = (&'static str, u64)> {
    let all = [
        ("unreadable cells set missing", report.cells_nulled),
        ("activity rows known too late, left out", report.rows_late),
        ("rows outside the panel's months", report.rows_outside),
        ("rows of unknown customers", report.rows_orphan),
    ];
    all.into_iter().filter(|(_, count)| *count > 0)
}

/// Stops on a broken rule of error level.
pub fn gate(report: &quality::Report) -> Result<()> {
    match report.errors() {
        0 => Ok(()),
        n => Err(Kind::Gate
            .msg(format!("{n} data quality rule(s) of error level are broken"))
            .hint("mend the data, or lower `severity` or `mostly` of the rule")),
    }
}

impl Data {
    /// What the report says about the data.
    pub fn summary(&self) -> Vec<(String, String)> {
        let calendar = self.panel.calendar;
        let report = &self.panel.report;
        let mut lines = vec![("customers".to_owned(), self.panel.customers.len().to_string())];
        if calendar.dated {
            let span = format!("{} to {} ({})", calendar.first, calendar.last(), calendar.months);
            lines.push(("months".into(), span));
            lines.push(("customer-months".into(), self.panel.rows().to_string()));
            lines.push(("monthly measures".into(), self.panel.measures.join(", ")));
        }
        lines.push(("labelled snapshots".into(), self.snapshots.len().to_string()));
        for part in [Part::Train, Part::Validation, Part::Test] {
            lines.push((format!("{} snapshots", part.name()), self.part_summary(part)));
        }
        lines.extend(repairs(report).map(|(name, count)| (name.into(), count.to_string())));
        lines.push(("data sha256".into(), self.sha256.clone()));
        lines
    }

    fn part_summary(&self, part: Part) -> String {
        let of = |fold: &Fold| {
            let members = fold.members(part);
            let churned = members.iter().filter(|&&s| self.snapshots.churned[s as usize]).count();
            format!(
                "{} ({:.2} % churn)",
                members.len(),
                100.0 * churned as f64 / members.len() as f64
            )
        };
        match self.folds.as_slice() {
            [one] => of(one),
            many => format!("{} in each of {} folds, about", of(&many[0]), many.len()),
        }
    }
}
