//! The data set in partitions of customers: scattered once, each partition's panel built alone
//! and kept in a scratch file. All share one calendar and one set of measures.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::labels::{label, nothing_labelled};
use super::scatter::{PARTITIONS_MAX, Sampled, Tables, forget, inputs, scatter};
use super::store::{self, Shared};
use super::{BuildReport, Declared, Extent, Panel, Snapshots, build, is_empty_panel};
use crate::config::{LabelSpec, SplitSpec};
use crate::error::{Kind, Result};
use crate::fsx::{self, Scratch};

/// Some customers: their months and their labels.
#[derive(Debug, Clone)]
pub struct Shard {
    pub panel: Panel,
    pub snapshots: Snapshots,
}

/// How many partitions, and which customers stand for all where statistics are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub partitions: usize,
    /// One customer in so many is drawn, by hash.
    pub sample_one_in: u64,
}

/// What is known of a partition without reading it.
#[derive(Debug, Clone, PartialEq)]
struct Facts {
    /// In the name of its file.
    number: usize,
    customers: usize,
    rows: usize,
    /// Snapshots by as-of month, and how many of them churned.
    by_month: Vec<[u64; 2]>,
    sha256: String,
}

/// The partitions, and the sample of all of them. Their files vanish with this value.
pub struct Shards {
    scratch: Scratch,
    shared: Shared,
    facts: Vec<Facts>,
    pub sample: Shard,
    pub report: BuildReport,
}

impl Shards {
    /// Reads every source once, then builds, labels and stores partition by partition.
    ///
    /// # Errors
    /// [`Kind::Config`] for a label or split that needs all customers at once, else what
    /// [`build`] and [`label`] find.
    pub fn build(declared: &Declared, cut: Cut, scratch: &Path) -> Result<Self> {
        refuse(declared)?;
        if cut.partitions > PARTITIONS_MAX {
            return Err(Kind::Config
                .msg(format!(
                    "{} partitions would be needed, at most {PARTITIONS_MAX} are made",
                    cut.partitions
                ))
                .hint("raise train.memory_gb"));
        }
        let scratch = Scratch::make(scratch)?;
        let into = Sampled { partitions: cut.partitions, one_in: Some(cut.sample_one_in) };
        let Declared { intake, inputs, label, .. } = *declared;
        let scattered = scatter(&Tables { intake, inputs, label: Some(label) }, into, &scratch)?;
        let extent = Extent {
            first: declared.intake.panel.first.or(scattered.months.map(|(first, _)| first)),
            last: declared.intake.panel.last.or(scattered.months.map(|(_, last)| last)),
            keep: &|_| true,
        };
        let mut sample = None;
        let mut facts = Vec::new();
        let mut report =
            BuildReport { cells_nulled: scattered.cells_nulled, ..BuildReport::default() };
        for at in 0..=cut.partitions {
            let shard = one(declared, &extent, &scratch, at)?;
            forget(intake, &scratch, at)?;
            match shard {
                Some(shard) if at == cut.partitions => sample = Some(shard),
                Some(shard) => {
                    store::write(&shard, &scratch, &store_name(at))?;
                    report.add(&shard.panel.report);
                    facts.push(Facts::of(at, &shard));
                }
                None => {} // It drew nobody.
            }
        }
        let sample = sample.ok_or_else(|| {
            Kind::Data
                .msg("no customer was drawn to learn statistics from")
                .hint("raise train.memory_gb")
        })?;
        let (calendar, measures) = (sample.panel.calendar, sample.panel.measures.clone());
        if facts.iter().all(|facts| facts.snapshots() == 0) {
            return Err(nothing_labelled(&calendar, declared.label));
        }
        Ok(Shards { scratch, shared: Shared { calendar, measures }, facts, sample, report })
    }

    /// Partitions that hold a customer.
    pub fn count(&self) -> usize {
        self.facts.len()
    }

    /// Reads one partition.
    pub fn load(&self, at: usize) -> Result<Shard> {
        store::read(&self.scratch.path().join(store_name(self.facts[at].number)), &self.shared)
    }

    pub fn customers(&self) -> usize {
        self.facts.iter().map(|facts| facts.customers).sum()
    }

    /// Customer-months.
    pub fn rows(&self) -> usize {
        self.facts.iter().map(|facts| facts.rows).sum()
    }

    /// Snapshots by as-of month (calendar index), and how many of them churned.
    pub fn by_month(&self) -> Vec<[u64; 2]> {
        let mut all = vec![[0, 0]; self.shared.calendar.months as usize];
        for facts in &self.facts {
            for (all, some) in all.iter_mut().zip(&facts.by_month) {
                all[0] += some[0];
                all[1] += some[1];
            }
        }
        all
    }

    /// Over all partitions. Another number of them is another training, and another hash.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        self.facts.iter().for_each(|facts| hash.update(facts.sha256.as_bytes()));
        fsx::hex(&hash.finalize())
    }
}

impl Facts {
    fn of(number: usize, shard: &Shard) -> Self {
        let Shard { panel, snapshots } = shard;
        let mut by_month = vec![[0, 0]; panel.calendar.months as usize];
        for (&month, &churned) in snapshots.months.iter().zip(&snapshots.churned) {
            by_month[month as usize][0] += 1;
            by_month[month as usize][1] += u64::from(churned);
        }
        Facts {
            number,
            customers: panel.customers.len(),
            rows: panel.rows(),
            by_month,
            sha256: panel.sha256(),
        }
    }

    fn snapshots(&self) -> u64 {
        self.by_month.iter().map(|[snapshots, _]| snapshots).sum()
    }
}

fn store_name(at: usize) -> String {
    format!("panel-{at:03}")
}

fn one(
    declared: &Declared,
    extent: &Extent,
    scratch: &Scratch,
    at: usize,
) -> Result<Option<Shard>> {
    let inputs = inputs(declared.intake, scratch, at);
    let panel = match build(declared.intake, &inputs, extent) {
        Ok(panel) => panel,
        Err(error) if is_empty_panel(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let snapshots = label(&panel, &Declared { inputs: &inputs, ..*declared })?;
    Ok(Some(Shard { panel, snapshots }))
}

/// What cannot be told from one customer alone.
fn refuse(declared: &Declared) -> Result<()> {
    let what = match (declared.label, declared.split) {
        (LabelSpec::Snapshots { .. }, _) => "label.kind = \"snapshots\"",
        (_, SplitSpec::Folds { .. }) => "split.kind = \"folds\"",
        (_, SplitSpec::Random { .. }) => "split.kind = \"random\"",
        (_, SplitSpec::Snapshots { .. }) => "split.kind = \"snapshots\"",
        (_, SplitSpec::Time { .. } | SplitSpec::Rolling { .. }) => return Ok(()),
    };
    Err(Kind::Config
        .msg(format!("{what} needs all customers in memory at once, more than train.memory_gb"))
        .hint(
            "raise train.memory_gb, or set split.kind = \"time\" or \"rolling\" with a label by event or inactivity",
        ))
}
