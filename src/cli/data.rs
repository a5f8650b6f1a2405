//! From a configuration to labelled, divided customers: all in memory, or in partitions.

use std::path::Path;

use super::predictions::View;
use crate::config::Resolved;
use crate::error::{Kind, Result};
use crate::panel::{
    self, BuildReport, Calendar, Cut, Declared, Division, Extent, Fold, Inputs, Intake, Part,
    PartCounts, Shard, Shards,
};
use crate::quality;
use crate::seeds::Seeds;

/// Scratch folder of a run that works by partitions.
const SCRATCH: &str = "scratch";

/// Everything that models learn from.
pub struct Data {
    pub intake: Intake,
    pub customers: Customers,
    pub facts: Facts,
}

/// Where the customers are.
pub enum Customers {
    Whole {
        shard: Shard,
        folds: Vec<Fold>,
    },
    /// `sampled` holds the divisions of the sample.
    Parts {
        shards: Shards,
        divisions: Vec<Division>,
        sampled: Vec<Fold>,
    },
}

/// What the report and the checkpoints say about the data.
pub struct Facts {
    pub customers: usize,
    pub rows: usize,
    pub calendar: Calendar,
    pub measures: Vec<String>,
    /// By fold.
    pub counts: Vec<PartCounts>,
    pub snapshots: u64,
    pub report: BuildReport,
    pub sha256: String,
}

/// Reads, labels and divides.
pub fn load(resolved: &Resolved, cut: Option<Cut>, folder: &Path) -> Result<Data> {
    let config = &resolved.config;
    let root = resolved.root();
    let intake = Intake::from(config);
    let inputs = Inputs::under(&root, &intake)?;
    let declared = Declared {
        intake: &intake,
        inputs: &inputs,
        root: &root,
        label: &config.label,
        split: &config.split,
        seeds: &Seeds::new(config.seed),
    };
    let (customers, facts) = match cut {
        None => whole(&declared)?,
        Some(cut) => {
            tracing::info!(
                "by estimate the data is larger than train.memory_gb: working by {} partitions",
                cut.partitions
            );
            parts(&declared, cut, &folder.join(SCRATCH))?
        }
    };
    tell(&facts.report);
    Ok(Data { intake, customers, facts })
}

fn whole(declared: &Declared) -> Result<(Customers, Facts)> {
    let panel = panel::build(declared.intake, declared.inputs, &Extent::all())?;
    let snapshots = panel::label(&panel, declared)?;
    if snapshots.is_empty() {
        return Err(panel::nothing_labelled(&panel.calendar, declared.label));
    }
    let folds = panel::split(&panel, &snapshots, declared)?;
    let (cells, bytes) = (panel.values.len().max(1), panel.bytes());
    tracing::info!(
        "panel {:.1} MB, {:.2} bytes for each customer, month and measure",
        bytes as f64 / f64::from(1 << 20),
        bytes as f64 / cells as f64
    );
    let facts = Facts {
        customers: panel.customers.len(),
        rows: panel.rows(),
        calendar: panel.calendar,
        measures: panel.measures.clone(),
        counts: folds.iter().map(|fold| fold.counts(&snapshots)).collect(),
        snapshots: snapshots.len() as u64,
        report: panel.report.clone(),
        sha256: panel.sha256(),
    };
    Ok((Customers::Whole { shard: Shard { panel, snapshots }, folds }, facts))
}

fn parts(declared: &Declared, cut: Cut, scratch: &Path) -> Result<(Customers, Facts)> {
    let shards = Shards::build(declared, cut, scratch)?;
    let by_month = shards.by_month();
    let last = by_month.iter().rposition(|[snapshots, _]| *snapshots > 0).unwrap_or(0);
    let calendar = shards.sample.panel.calendar;
    let divisions = Division::all(calendar, last as u16, declared)?;
    let counts: Vec<PartCounts> = divisions.iter().map(|of| of.counts(&by_month)).collect();
    for (division, counts) in divisions.iter().zip(&counts) {
        panel::split::check(division.number, counts)?;
    }
    let facts = Facts {
        customers: shards.customers(),
        rows: shards.rows(),
        calendar,
        measures: shards.sample.panel.measures.clone(),
        counts,
        snapshots: by_month.iter().map(|[snapshots, _]| snapshots).sum(),
        report: shards.report.clone(),
        sha256: shards.sha256(),
    };
    let sampled = divisions.iter().map(|of| of.fold(&shards.sample.snapshots)).collect();
    Ok((Customers::Parts { shards, divisions, sampled }, facts))
}

/// Says what was mended or left out while a panel was built.
pub fn tell(report: &BuildReport) {
    report.repairs().for_each(|(name, count)| tracing::info!("{name}: {count}"));
    for (source, rows) in report.astray() {
        tracing::warn!(
            "{} of {} rows of `{source}` belong to no customer of the attributes table: compare how \
             the two write their keys",
            rows.orphan,
            rows.read
        );
    }
}

/// Stops on a broken rule of error level.
pub fn gate(report: &quality::Report) -> Result<()> {
    match report.errors() {
        0 => Ok(()),
        n => Err(Kind::Gate
            .msg(format!("{n} data quality rule(s) of error level are broken"))
            .hint(
                "mend the data; what cannot be read in a declared column may count as missing \
                 (`on_bad = \"null\"`), and a rule of yours may have another `severity` or `mostly`",
            )),
    }
}

impl Data {
    /// One training each.
    pub fn folds(&self) -> Vec<Option<u32>> {
        match &self.customers {
            Customers::Whole { folds, .. } => folds.iter().map(|fold| fold.number).collect(),
            Customers::Parts { divisions, .. } => divisions.iter().map(|of| of.number).collect(),
        }
    }

    /// The customers from whom statistics are learned: all, or the sample.
    pub fn sample(&self, fold: usize) -> View<'_> {
        match &self.customers {
            Customers::Whole { shard, folds } => view(shard, &folds[fold]),
            Customers::Parts { shards, sampled, .. } => view(&shards.sample, &sampled[fold]),
        }
    }

    /// Hands out all customers, one partition after the other.
    pub fn each(&self, fold: usize, take: &mut dyn FnMut(View) -> Result<()>) -> Result<()> {
        match &self.customers {
            Customers::Whole { shard, folds } => take(view(shard, &folds[fold])),
            Customers::Parts { shards, divisions, .. } => {
                for at in 0..shards.count() {
                    let shard = shards.load(at)?;
                    take(view(&shard, &divisions[fold].fold(&shard.snapshots)))?;
                }
                Ok(())
            }
        }
    }

    /// Parts that models predict. The train part of a data set in partitions is left out: it is
    /// the largest, and nothing is decided by how well it was learned by heart.
    pub fn predicted(&self) -> &'static [Part] {
        match &self.customers {
            Customers::Whole { .. } => &Part::LABELLED,
            Customers::Parts { .. } => &Part::LABELLED[1..],
        }
    }

    /// What the report must say about how the run worked.
    pub fn notes(&self) -> Vec<String> {
        let Customers::Parts { shards, .. } = &self.customers else { return Vec::new() };
        let sample = shards.sample.panel.customers.len();
        vec![format!(
            "The data was larger than train.memory_gb allows, so that the run worked by {} \
             partitions of customers. Feature statistics and the logistic regression were learned \
             from {sample} customers drawn by hash; networks were trained and all models judged on \
             all customers. Metrics of the train part were not computed.",
            shards.count()
        )]
    }

    /// What the report says about the data.
    pub fn summary(&self) -> Vec<(String, String)> {
        let Facts { calendar, .. } = self.facts;
        let mut lines = vec![("customers".to_owned(), self.facts.customers.to_string())];
        if calendar.dated {
            let span = format!("{} to {} ({})", calendar.first, calendar.last(), calendar.months);
            lines.push(("months".into(), span));
            lines.push(("customer-months".into(), self.facts.rows.to_string()));
            lines.push(("monthly measures".into(), self.facts.measures.join(", ")));
        }
        lines.push(("labelled snapshots".into(), self.facts.snapshots.to_string()));
        for (at, part) in Part::LABELLED.iter().enumerate() {
            let of_fold = |counts: &PartCounts| (counts[at].1, counts[at].2);
            let of_folds: Vec<(u64, u64)> = self.facts.counts.iter().map(of_fold).collect();
            lines.push((format!("{} snapshots", part.name()), part_line(&of_folds)));
        }
        let repairs = self.facts.report.repairs();
        lines.extend(repairs.map(|(name, count)| (name.into(), count.to_string())));
        lines.push(("data sha256".into(), self.facts.sha256.clone()));
        lines
    }
}

/// Snapshots of a part and those that churned, by fold, in words.
fn part_line(of_folds: &[(u64, u64)]) -> String {
    let share = |&(members, churned): &(u64, u64)| 100.0 * churned as f64 / members as f64;
    let shares: Vec<f64> = of_folds.iter().map(share).collect();
    let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let members: Vec<f64> = of_folds.iter().map(|(members, _)| *members as f64).collect();
    let span =
        |low: String, high: String| if low == high { low } else { format!("{low} to {high}") };
    let rows = span(least(&members).to_string(), most(&members).to_string());
    let rates = span(format!("{:.2}", least(&shares)), format!("{:.2}", most(&shares)));
    match of_folds.len() {
        1 => format!("{rows} ({rates} % churn)"),
        many => format!("{rows} ({rates} % churn) in each of {many} folds"),
    }
}

fn view<'a>(shard: &'a Shard, fold: &'a Fold) -> View<'a> {
    View { panel: &shard.panel, snapshots: &shard.snapshots, fold }
}
