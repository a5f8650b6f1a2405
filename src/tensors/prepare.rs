//! Examples encoded into buffers of constant shape, on the host and ready to be uploaded.
//!
//! Sequence models take whole customers, bucketed by length and padded at the end to the bucket's
//! length; the MLP takes snapshots, which are sequences of one month.

use rayon::prelude::*;

use super::resident::Resident;
use crate::config::ModelKind;
use crate::features::{Encoder, snapshots_block};
use crate::panel::{Panel, Snapshots};
use burn::tensor::Device;

/// Buckets halve in length from the longest history; a bucket is never shorter than this.
const BUCKET_MONTHS_MIN: usize = 3;

/// Which snapshots of which panel to encode.
#[derive(Clone, Copy)]
pub struct Examples<'a> {
    pub encoder: &'a Encoder<'a>,
    pub snapshots: &'a Snapshots,
    /// Rising snapshot numbers.
    pub chosen: &'a [u32],
    pub targets: Targets,
}

/// What an example's targets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Targets {
    /// One: whether churn falls in the window.
    Window,
    /// One for each month of the horizon: whether churn falls in it, given that the customer was
    /// still there. Months without an answer weigh nothing: those after a churn, and those that
    /// were not known yet, one for each month that the as-of month lies behind `complete_to`
    /// (calendar index).
    Hazards { complete_to: u16 },
}

impl Targets {
    /// Targets of one example.
    fn width(self, snapshots: &Snapshots) -> usize {
        match self {
            Targets::Window => 1,
            Targets::Hazards { .. } => snapshots.horizon,
        }
    }

    /// Fills the targets and weights of one example.
    fn fill(self, snapshots: &Snapshots, snapshot: u32, out: (&mut [f32], &mut [f32])) {
        let (targets, weights) = out;
        let snapshot = snapshot as usize;
        match self {
            Targets::Window => {
                targets.fill(f32::from(u8::from(snapshots.churned[snapshot])));
                weights.fill(1.0);
            }
            Targets::Hazards { complete_to } => {
                let unknown = snapshots.months[snapshot].saturating_sub(complete_to) as usize;
                let known = snapshots.horizon.saturating_sub(unknown);
                let hazards = snapshots.hazards_of(snapshot).iter().take(known);
                for ((hazard, target), weight) in hazards.zip(targets).zip(weights) {
                    *target = f32::from(u8::from(*hazard == 1));
                    *weight = f32::from(u8::from(*hazard >= 0));
                }
            }
        }
    }
}

/// Rows of equal length, row-major on the host.
#[derive(Debug, Clone)]
pub(super) struct HostBucket {
    pub rows: usize,
    pub months: usize,
    /// `[rows, F]`.
    pub numbers: Vec<f32>,
    /// `[rows, C]`.
    pub codes: Vec<i32>,
    /// `[rows, months, F]`; None for the MLP.
    pub sequence: Option<Vec<f32>>,
    /// `[rows, months, K]`, both.
    pub targets: Vec<f32>,
    pub weights: Vec<f32>,
    /// Where each example lies: (row, month, snapshot number).
    pub places: Vec<(u32, u32, u32)>,
}

/// An encoded data set that waits for the device; a prefetch thread makes it.
pub struct Prepared {
    buckets: Vec<HostBucket>,
    churned: Vec<bool>,
}

impl Prepared {
    pub fn encode(examples: &Examples, kind: ModelKind) -> Self {
        let plan = Plan::new(examples, kind);
        let buckets = plan.buckets.iter().map(|bucket| bucket.encode(examples)).collect();
        Prepared { buckets, churned: churned(examples) }
    }

    /// Moves the buffers onto the device, one bucket after the other.
    pub fn upload(self, device: &Device) -> Resident {
        Resident::new(self.buckets.into_iter(), self.churned, device)
    }
}

impl Resident {
    /// Encodes and uploads bucket by bucket, so that on a device with memory of its own only one
    /// bucket at a time stands on the host.
    pub fn of(examples: &Examples, kind: ModelKind, device: &Device) -> Self {
        let plan = Plan::new(examples, kind);
        let buckets = plan.buckets.iter().map(|bucket| bucket.encode(examples));
        Resident::new(buckets, churned(examples), device)
    }
}

/// Batches of one epoch over the chosen snapshots, without encoding them.
pub fn count_batches(
    panel: &Panel,
    snapshots: &Snapshots,
    chosen: &[u32],
    (kind, batch_rows): (ModelKind, usize),
) -> usize {
    let count = |rows: usize| rows.div_ceil(batch_rows.min(rows).max(1));
    match kind {
        ModelKind::Static | ModelKind::Mlp => count(chosen.len()),
        ModelKind::Gru | ModelKind::Hybrid => {
            customer_buckets(panel, snapshots, chosen).iter().map(|b| count(b.0.len())).sum()
        }
    }
}

fn churned(examples: &Examples) -> Vec<bool> {
    examples.chosen.iter().map(|&s| examples.snapshots.churned[s as usize]).collect()
}

/// Which examples stand in which bucket.
struct Plan<'a> {
    buckets: Vec<BucketPlan<'a>>,
}

enum BucketPlan<'a> {
    Snapshots(&'a [u32], Columns),
    /// Snapshots of each customer, and the months of the longest.
    Customers(Vec<&'a [u32]>, usize),
}

/// What is encoded of a snapshot.
#[derive(Debug, Clone, Copy)]
enum Columns {
    /// All that an MLP sees.
    All,
    /// What does not change from month to month.
    Fixed,
}

impl<'a> Plan<'a> {
    fn new(examples: &Examples<'a>, kind: ModelKind) -> Self {
        let Examples { encoder, snapshots, chosen, .. } = *examples;
        let buckets = match kind {
            ModelKind::Static => vec![BucketPlan::Snapshots(chosen, Columns::Fixed)],
            ModelKind::Mlp => vec![BucketPlan::Snapshots(chosen, Columns::All)],
            ModelKind::Gru | ModelKind::Hybrid => {
                customer_buckets(encoder.panel(), snapshots, chosen)
                    .into_iter()
                    .map(|(members, months)| BucketPlan::Customers(members, months))
                    .collect()
            }
        };
        Plan { buckets }
    }
}

impl BucketPlan<'_> {
    fn encode(&self, examples: &Examples) -> HostBucket {
        match self {
            BucketPlan::Snapshots(chosen, columns) => snapshot_bucket(examples, chosen, *columns),
            BucketPlan::Customers(members, months) => customer_bucket(examples, members, *months),
        }
    }
}

/// Snapshots of a customer stand together; its sequence ends with the last of them.
fn customer_buckets<'a>(
    panel: &Panel,
    snapshots: &Snapshots,
    chosen: &'a [u32],
) -> Vec<(Vec<&'a [u32]>, usize)> {
    let groups: Vec<&[u32]> = chosen
        .chunk_by(|&a, &b| snapshots.customers[a as usize] == snapshots.customers[b as usize])
        .collect();
    let length = |group: &[u32]| snapshots.place(panel, group[group.len() - 1] as usize).1 + 1;
    let longest = groups.iter().map(|group| length(group)).max().unwrap_or(1);
    let mut buckets = Vec::new();
    let mut below = longest + 1;
    while below > 1 {
        let to = below - 1;
        let half = to / 2;
        let from = if half < BUCKET_MONTHS_MIN { 0 } else { half };
        let members: Vec<&[u32]> =
            groups.iter().copied().filter(|g| (from + 1..=to).contains(&length(g))).collect();
        if !members.is_empty() {
            let to = members.iter().map(|group| length(group)).max().unwrap_or(to);
            buckets.push((members, to));
        }
        below = from + 1;
    }
    buckets
}

fn snapshot_bucket(examples: &Examples, chosen: &[u32], columns: Columns) -> HostBucket {
    let Examples { encoder, snapshots, targets: kind, .. } = *examples;
    let rows = chosen.len();
    let width = kind.width(snapshots);
    let (mut targets, mut weights) = (vec![0.0f32; rows * width], vec![0.0f32; rows * width]);
    let pairs = targets.chunks_exact_mut(width).zip(weights.chunks_exact_mut(width));
    pairs.zip(chosen).for_each(|(out, &s)| kind.fill(snapshots, s, out));
    let customers = chosen.iter().map(|&s| snapshots.customers[s as usize] as usize);
    HostBucket {
        rows,
        months: 1,
        numbers: match columns {
            Columns::All => snapshots_block(encoder, snapshots, chosen).values,
            Columns::Fixed => fixed(encoder, customers.clone()),
        },
        codes: codes(encoder, customers),
        sequence: None,
        targets,
        weights,
        places: chosen.iter().enumerate().map(|(row, &s)| (row as u32, 0, s)).collect(),
    }
}

fn customer_bucket(examples: &Examples, members: &[&[u32]], length: usize) -> HostBucket {
    let Examples { encoder, snapshots, targets: kind, .. } = *examples;
    let (panel, rows) = (encoder.panel(), members.len());
    let customer = |group: &&[u32]| snapshots.customers[group[0] as usize] as usize;
    let width = encoder.fitted().month_width();
    let mut sequence = vec![0.0f32; rows * length * width];
    let pieces = sequence.par_chunks_mut((length * width).max(1)).zip(members);
    pieces.for_each(|(out, group)| {
        let months = panel.months_of(customer(group)).min(length);
        encoder.months(customer(group), &mut out[..months * width]);
    });
    let numbers = fixed(encoder, members.iter().map(customer));
    let wide = kind.width(snapshots);
    let mut targets = vec![0.0f32; rows * length * wide];
    let mut weights = vec![0.0f32; rows * length * wide];
    let mut places = Vec::with_capacity(members.iter().map(|group| group.len()).sum());
    for (row, group) in members.iter().enumerate() {
        for &snapshot in *group {
            let month = snapshots.place(panel, snapshot as usize).1;
            let at = (row * length + month) * wide;
            let out = (&mut targets[at..at + wide], &mut weights[at..at + wide]);
            kind.fill(snapshots, snapshot, out);
            places.push((row as u32, month as u32, snapshot));
        }
    }
    let codes = codes(encoder, members.iter().map(customer));
    HostBucket {
        rows,
        months: length,
        numbers,
        codes,
        sequence: Some(sequence),
        targets,
        weights,
        places,
    }
}

/// `[customers, static_width]`.
fn fixed(encoder: &Encoder, customers: impl Iterator<Item = usize>) -> Vec<f32> {
    let width = encoder.fitted().static_width();
    let customers: Vec<usize> = customers.collect();
    let mut numbers = vec![0.0f32; customers.len() * width];
    let rows = numbers.par_chunks_mut(width.max(1)).zip(&customers);
    rows.for_each(|(out, &customer)| encoder.fixed(customer, out));
    numbers
}

fn codes(encoder: &Encoder, customers: impl Iterator<Item = usize>) -> Vec<i32> {
    let mut row = vec![0u32; encoder.fitted().static_categories.len()];
    let mut codes = Vec::with_capacity(customers.size_hint().0 * row.len());
    for customer in customers {
        encoder.codes(customer, &mut row);
        codes.extend(row.iter().map(|&code| code as i32));
    }
    codes
}
