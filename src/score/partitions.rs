//! The tables of a scoring run, divided by customer where they are larger than memory.

use super::{Job, Scored};
use crate::bundle::{GoldenRow, Outlook};
use crate::clock::Month;
use crate::error::{Error, Kind, Result};
use crate::fsx::Scratch;
use crate::panel::{self, BuildReport, Extent, Inputs, Intake, Panel, Sampled, Snapshots, Tables};

/// Bytes of tables, panel and tensors that a partition may take, by estimate. Each core has one in
/// work.
const PARTITION_BYTES_MAX: u64 = 128 << 20;

/// What a byte on disk becomes in memory: columns are compressed, and features are wider.
const EXPANSION: u64 = 16;

/// How many partitions a scoring run takes: as many for each core.
pub fn partitions(inputs: &Inputs) -> usize {
    match (inputs.bytes() * EXPANSION).div_ceil(PARTITION_BYTES_MAX) as usize {
        0..=1 => 1,
        count => {
            let cores = rayon::current_num_threads().min(panel::PARTITIONS_MAX);
            count.next_multiple_of(cores).min(panel::PARTITIONS_MAX)
        }
    }
}

/// The tables, whole or each partition's by itself.
pub struct Divided<'a> {
    job: &'a Job<'a>,
    /// Where the divided tables lie; they vanish with this value.
    scratch: Option<Scratch>,
    /// None without dated sources.
    pub as_of: Option<Month>,
    /// First month of all customers' rows.
    first: Option<Month>,
    /// What was mended while they were divided.
    pub report: BuildReport,
}

/// Who computes a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// The calling thread; the other cores have partitions of their own.
    ThisCore,
    AllCores,
}

/// The scores of a partition.
#[derive(Default)]
pub struct PartScores {
    pub rows: Vec<Scored>,
    /// Customers who had left before.
    pub gone: usize,
    pub report: BuildReport,
}

/// The customers of a partition that were scored.
pub struct Part<'a> {
    panel: &'a Panel,
    /// Into the panel, and their risks.
    customers: &'a [usize],
    risks: &'a [f64],
}

impl Part<'_> {
    /// As they came from the tables, each with its risk.
    pub fn rows(&self) -> impl Iterator<Item = GoldenRow> {
        let last = self.panel.calendar.months as usize - 1;
        let row = move |(&customer, &risk): (&usize, &f64)| GoldenRow {
            risk,
            customer: self.panel.raw(customer, last),
        };
        self.customers.iter().zip(self.risks).map(row)
    }
}

impl<'a> Divided<'a> {
    /// Reads every table once and divides it, if there is more than one partition.
    pub fn new(job: &'a Job) -> Result<Self> {
        let (intake, inputs) = (&job.bundle.model.intake, job.inputs);
        let dated = intake.sources.iter().any(|s| s.time.is_some());
        if job.as_of.is_some() && !dated {
            return Err(
                Kind::Usage.msg("--as-of needs dated sources; this model has attributes only")
            );
        }
        if job.partitions <= 1 {
            let last = dated.then(|| panel::last_month(intake, inputs)).transpose()?;
            let (as_of, report) = (as_of(last, job.as_of)?, BuildReport::default());
            return Ok(Divided { job, scratch: None, as_of, first: None, report });
        }
        let label = &job.bundle.model.label;
        let label = panel::tells_who_left(intake, inputs, label)?.then_some(label);
        let scratch = Scratch::make(job.scratch)?;
        let into = Sampled { partitions: job.partitions, one_in: None };
        let scattered = panel::scatter(&Tables { intake, inputs, label }, into, &scratch)?;
        if dated && scattered.last.is_none() {
            return Err(panel::no_dated_row());
        }
        let as_of = as_of(scattered.last, job.as_of)?;
        let first = scattered.months.map(|(first, _)| first.min(as_of.unwrap_or(first)));
        let report = BuildReport { cells_nulled: scattered.cells_nulled, ..BuildReport::default() };
        Ok(Divided { job, scratch: Some(scratch), as_of, first, report })
    }

    /// Builds and scores one partition; None if it holds nobody.
    pub fn scored(
        &self,
        partition: usize,
        cores: Use,
        consume: &mut dyn FnMut(&Part) -> Result<()>,
    ) -> Result<Option<PartScores>> {
        let Job { bundle, inputs, .. } = *self.job;
        let intake = &bundle.model.intake;
        let of_partition =
            self.scratch.as_ref().map(|scratch| panel::inputs(intake, scratch, partition));
        let inputs = of_partition.as_ref().unwrap_or(inputs);
        let first = intake.panel.first.or(self.first);
        let extent = Extent { first, last: self.as_of, keep: &|_| true };
        let Some(mut panel) = build(intake, inputs, &extent)? else { return Ok(None) };
        let there = panel::still_there(&panel, intake, inputs, &bundle.model.label)?;
        if let Some(scratch) = &self.scratch {
            panel::forget(intake, scratch, partition)?;
        }
        let there: Vec<usize> = (0..panel.customers.len()).filter(|&c| there[c]).collect();
        let index = panel.calendar.months as usize - 1;
        let snapshots = Snapshots::unlabelled(there.iter().map(|&customer| (customer, index)));
        let Outlook { risks, curves } = match cores {
            Use::AllCores => bundle.scorer.outlook(&panel, &snapshots)?,
            Use::ThisCore => bundle.scorer.outlook_alone(&panel, &snapshots)?,
        };
        consume(&Part { panel: &panel, customers: &there, risks: &risks })?;
        let months = self.job.curve_months()?;
        let gone = panel.customers.len() - there.len();
        let report = std::mem::take(&mut panel.report);
        let scored = |(row, (&customer, risk)): (usize, (&usize, f64))| Scored {
            customer_id: std::mem::take(&mut panel.customers[customer]),
            risk,
            curve: curves[row * months..][..months].to_vec(),
        };
        let rows = there.iter().zip(risks).enumerate().map(scored).collect();
        Ok(Some(PartScores { rows, gone, report }))
    }
}

/// The month asked for, or the last one with data. After that one every customer would look silent.
fn as_of(last: Option<Month>, asked: Option<Month>) -> Result<Option<Month>> {
    match (last, asked) {
        (Some(last), Some(asked)) if asked > last => Err(too_late(last, asked)),
        (last, asked) => Ok(asked.or(last)),
    }
}

fn too_late(last: Month, asked: Month) -> Error {
    Kind::Data
        .msg(format!("the as-of month {asked} lies after the data, which ends in {last}"))
        .hint("leave out --as-of to score at the end of the data")
}

/// A partition may be empty where the whole is not.
fn build(intake: &Intake, inputs: &Inputs, extent: &Extent) -> Result<Option<Panel>> {
    match panel::build(intake, inputs, extent) {
        Ok(panel) => Ok(Some(panel)),
        Err(error) if panel::is_empty_panel(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
