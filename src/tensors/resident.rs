//! A data set on the device: encoded once, uploaded once, cut into batches by row numbers.
//!
//! Sequence models take whole customers, bucketed by length and padded at the end to the bucket's
//! length; the MLP takes snapshots, which are sequences of one month. Batches of a bucket all
//! have the same shape: the last one is filled up with rows of weight zero.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::config::ModelKind;
use crate::error::Result;
use crate::features::{Block, Encoded, FittedFeatures, StaticBlock, snapshots_block};
use crate::panel::{Panel, Snapshots};
use crate::seeds::Seeds;

/// Buckets halve in length from the longest history; a bucket is never shorter than this.
const BUCKET_MONTHS_MIN: usize = 3;

/// Which snapshots of which panel to put on the device.
pub struct Examples<'a> {
    pub panel: &'a Panel,
    pub snapshots: &'a Snapshots,
    pub features: &'a FittedFeatures,
    /// Of the whole panel, by these features.
    pub encoded: &'a Encoded,
    /// Rising snapshot numbers.
    pub chosen: &'a [u32],
}

/// One batch, rows B, months T.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[B, F]`; a column of zeros if there are no numbers.
    pub numbers: Tensor<2>,
    /// `[B, C]`; None if there are no categories.
    pub codes: Option<Tensor<2, Int>>,
    /// `[B, T, F]`; None for the MLP.
    pub months: Option<Tensor<3>>,
    /// `[B, T, 1]`: 1 = churned.
    pub targets: Tensor<3>,
    /// `[B, T, 1]`: 1 where there is a label, 0 elsewhere.
    pub weights: Tensor<3>,
}

impl Batch {
    /// The same batch as constants of an autodiff graph.
    pub fn tracked(self) -> Batch {
        Batch {
            numbers: self.numbers.autodiff(),
            codes: self.codes.map(Tensor::autodiff),
            months: self.months.map(Tensor::autodiff),
            targets: self.targets.autodiff(),
            weights: self.weights.autodiff(),
        }
    }
}

/// Rows of equal length.
#[derive(Debug, Clone)]
pub struct Bucket {
    whole: Batch,
    pub rows: usize,
    pub months: usize,
    /// Where each example lies: (row, month, snapshot number).
    pub places: Vec<(u32, u32, u32)>,
}

/// All buckets of a data set.
#[derive(Debug, Clone)]
pub struct Resident {
    pub buckets: Vec<Bucket>,
    pub snapshots: usize,
    device: Device,
}

impl Resident {
    /// Encodes the chosen snapshots for a model and uploads them.
    pub fn upload(examples: &Examples, kind: ModelKind, device: &Device) -> Result<Self> {
        let buckets = match kind {
            ModelKind::Mlp => vec![snapshot_bucket(examples, device)?],
            ModelKind::Gru | ModelKind::Hybrid => customer_buckets(examples, device),
        };
        Ok(Resident { buckets, snapshots: examples.chosen.len(), device: device.clone() })
    }

    /// Batches of one epoch in random order: (bucket, rows), where rows beyond the bucket's end
    /// are filling. The order is a function of (seeds, epoch).
    pub fn epoch(&self, seeds: &Seeds, epoch: u64, batch_rows: usize) -> Vec<(usize, Vec<u32>)> {
        let mut batches = Vec::new();
        for (at, bucket) in self.buckets.iter().enumerate() {
            let order = seeds.child("bucket", at as u64).shuffled("order", epoch, bucket.rows);
            batches.extend(bucket.batches(&order, batch_rows).map(|rows| (at, rows)));
        }
        let order = seeds.shuffled("batches", epoch, batches.len());
        let mut taken: Vec<Option<_>> = batches.into_iter().map(Some).collect();
        let take = |&i: &u32| taken[i as usize].take().expect("a permutation names each once");
        order.iter().map(take).collect()
    }

    /// Gathers rows on the device. Filling repeats the first row with weight zero.
    pub fn batch(&self, bucket: usize, rows: &[u32]) -> Batch {
        let bucket = &self.buckets[bucket];
        let real = |&row: &u32| (row as usize) < bucket.rows;
        let index: Vec<i32> =
            rows.iter().map(|row| if real(row) { *row as i32 } else { 0 }).collect();
        let index = Tensor::<1, Int>::from_data(TensorData::new(index, [rows.len()]), &self.device);
        let whole = &bucket.whole;
        let mut weights = whole.weights.clone().select(0, index.clone());
        if !rows.iter().all(real) {
            let mask: Vec<f32> = rows.iter().map(|row| f32::from(u8::from(real(row)))).collect();
            let mask = TensorData::new(mask, [rows.len(), 1, 1]);
            weights = weights * Tensor::<3>::from_data(mask, &self.device);
        }
        Batch {
            numbers: whole.numbers.clone().select(0, index.clone()),
            codes: whole.codes.clone().map(|t| t.select(0, index.clone())),
            months: whole.months.clone().map(|t| t.select(0, index.clone())),
            targets: whole.targets.clone().select(0, index),
            weights,
        }
    }
}

impl Bucket {
    /// Cuts rows into batches of constant shape; the last one is filled up with a row number that
    /// does not exist.
    pub fn batches(&self, rows: &[u32], batch_rows: usize) -> impl Iterator<Item = Vec<u32>> {
        let size = batch_rows.min(self.rows);
        let none = self.rows as u32;
        rows.chunks(size).map(move |rows| {
            let mut rows = rows.to_vec();
            rows.resize(size, none);
            rows
        })
    }
}

fn snapshot_bucket(examples: &Examples, device: &Device) -> Result<Bucket> {
    let Examples { panel, snapshots, features, encoded, chosen } = *examples;
    let fixed = &encoded.fixed;
    let (block, codes) = snapshots_block(features, panel, fixed, snapshots, chosen)?;
    let rows = chosen.len();
    let targets = chosen.iter().map(|&s| truth(snapshots, s)).collect();
    let whole = Batch {
        numbers: numbers(block.values, rows, block.width, device),
        codes: upload_codes(&codes, rows, fixed.categories, device),
        months: None,
        targets: upload(targets, [rows, 1, 1], device),
        weights: upload(vec![1.0; rows], [rows, 1, 1], device),
    };
    let places = chosen.iter().enumerate().map(|(row, &s)| (row as u32, 0, s)).collect();
    Ok(Bucket { whole, rows, months: 1, places })
}

/// A matrix without columns becomes one column of zeros, so that a layer has something to read.
fn numbers(values: Vec<f32>, rows: usize, width: usize, device: &Device) -> Tensor<2> {
    if width == 0 {
        return Tensor::from_data(TensorData::new(vec![0.0f32; rows], [rows, 1]), device);
    }
    Tensor::from_data(TensorData::new(values, [rows, width]), device)
}

fn customer_buckets(examples: &Examples, device: &Device) -> Vec<Bucket> {
    let Examples { panel, snapshots, encoded, chosen, .. } = *examples;
    let fixed = &encoded.fixed;
    let months = &encoded.months.as_ref().expect("encoded for sequence models").0;
    // Snapshots of a customer stand together; its sequence ends with the last of them.
    let groups: Vec<&[u32]> = chosen
        .chunk_by(|&a, &b| snapshots.customers[a as usize] == snapshots.customers[b as usize])
        .collect();
    let length = |group: &[u32]| {
        let last = group[group.len() - 1] as usize;
        let start = panel.starts[snapshots.customers[last] as usize];
        (snapshots.months[last] - start) as usize + 1
    };
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
            buckets.push(customer_bucket(examples, (fixed, months), (&members, to), device));
        }
        below = from + 1;
    }
    buckets
}

fn customer_bucket(
    examples: &Examples,
    (fixed, months): (&StaticBlock, &Block),
    (members, length): (&[&[u32]], usize),
    device: &Device,
) -> Bucket {
    let Examples { panel, snapshots, .. } = *examples;
    let rows = members.len();
    let width = months.width;
    let mut sequence = vec![0.0f32; rows * length * width];
    let mut targets = vec![0.0f32; rows * length];
    let mut weights = vec![0.0f32; rows * length];
    let mut static_numbers = Vec::with_capacity(rows * fixed.numbers.width);
    let mut codes = Vec::with_capacity(rows * fixed.categories);
    let mut places = Vec::new();
    for (row, group) in members.iter().enumerate() {
        let customer = snapshots.customers[group[0] as usize] as usize;
        let first = panel.offsets[customer];
        let count = panel.months_of(customer).min(length);
        sequence[row * length * width..][..count * width]
            .copy_from_slice(&months.values[first * width..][..count * width]);
        static_numbers.extend_from_slice(fixed.numbers.row(customer));
        codes.extend_from_slice(&fixed.codes[customer * fixed.categories..][..fixed.categories]);
        for &snapshot in *group {
            let month = (snapshots.months[snapshot as usize] - panel.starts[customer]) as usize;
            targets[row * length + month] = truth(snapshots, snapshot);
            weights[row * length + month] = 1.0;
            places.push((row as u32, month as u32, snapshot));
        }
    }
    let whole = Batch {
        numbers: numbers(static_numbers, rows, fixed.numbers.width, device),
        codes: upload_codes(&codes, rows, fixed.categories, device),
        months: Some(upload(sequence, [rows, length, width], device)),
        targets: upload(targets, [rows, length, 1], device),
        weights: upload(weights, [rows, length, 1], device),
    };
    Bucket { whole, rows, months: length, places }
}

fn truth(snapshots: &Snapshots, snapshot: u32) -> f32 {
    f32::from(u8::from(snapshots.churned[snapshot as usize]))
}

fn upload<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn upload_codes(
    codes: &[u32],
    rows: usize,
    columns: usize,
    device: &Device,
) -> Option<Tensor<2, Int>> {
    let codes: Vec<i32> = codes.iter().map(|&code| code as i32).collect();
    (columns > 0).then(|| Tensor::from_data(TensorData::new(codes, [rows, columns]), device))
}
