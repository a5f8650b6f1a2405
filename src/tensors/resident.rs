//! A data set on the device: uploaded once, cut into batches by row numbers. Batches of a bucket
//! all have the same shape: the last one is filled up with rows of weight zero.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::prepare::HostBucket;
use crate::seeds::Seeds;

/// One batch, rows B, months T.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[B, F]`; a column of zeros if there are no numbers.
    pub numbers: Tensor<2>,
    /// `[B, C]`; None if there are no categories.
    pub codes: Option<Tensor<2, Int>>,
    /// `[B, T, F]`; None for the MLP.
    pub months: Option<Tensor<3>>,
    /// `[B, T, K]`: 1 = churned, in the window (K = 1) or in each month of the horizon.
    pub targets: Tensor<3>,
    /// `[B, T, K]`: 1 where there is a label, 0 elsewhere.
    pub weights: Tensor<3>,
    /// What dropout masks are drawn with; None outside of training.
    pub noise: Option<Dice>,
}

/// What dropout masks are drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dice {
    pub seed: u64,
    /// Rows of the batch before these ones, where several devices share it: a row's mask is the
    /// same on whichever it lies.
    pub first_row: usize,
}

impl Batch {
    /// The same batch as constants of an autodiff graph, with dropout.
    pub fn tracked(self, noise: Dice) -> Batch {
        Batch {
            noise: Some(noise),
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
    /// Label of each example, in rising order of snapshot numbers.
    pub churned: Vec<bool>,
    device: Device,
}

impl Resident {
    pub(super) fn new(
        buckets: impl Iterator<Item = HostBucket>,
        churned: Vec<bool>,
        device: &Device,
    ) -> Self {
        let buckets = buckets.map(|bucket| Bucket::upload(bucket, device)).collect();
        Resident { buckets, snapshots: churned.len(), churned, device: device.clone() }
    }

    /// The same on another device.
    pub fn copy_to(&self, device: &Device) -> Resident {
        let buckets = self.buckets.iter().map(|bucket| bucket.copy_to(device)).collect();
        Resident { buckets, device: device.clone(), churned: Vec::new(), ..*self }
    }

    /// Number of batches of one epoch.
    pub fn batches(&self, batch_rows: usize) -> usize {
        let of = |bucket: &Bucket| bucket.rows.div_ceil(batch_rows.min(bucket.rows).max(1));
        self.buckets.iter().map(of).sum()
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
            noise: None,
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

impl Bucket {
    fn copy_to(&self, device: &Device) -> Bucket {
        let Batch { noise, numbers, codes, months, targets, weights } = self.whole.clone();
        let whole = Batch {
            noise,
            numbers: numbers.to_device(device),
            codes: codes.map(|codes| codes.to_device(device)),
            months: months.map(|months| months.to_device(device)),
            targets: targets.to_device(device),
            weights: weights.to_device(device),
        };
        Bucket { whole, places: Vec::new(), ..*self }
    }

    fn upload(host: HostBucket, device: &Device) -> Self {
        let HostBucket { rows, months, numbers, codes, sequence, .. } = host;
        let width = |values: usize| values.checked_div(rows * months).unwrap_or(0);
        let columns = codes.len().checked_div(rows).unwrap_or(0);
        let targets = width(host.targets.len());
        let whole = Batch {
            noise: None,
            numbers: upload_numbers(numbers, rows, device),
            codes: (columns > 0)
                .then(|| Tensor::from_data(TensorData::new(codes, [rows, columns]), device)),
            months: sequence.map(|values| {
                let width = width(values.len());
                upload(values, [rows, months, width], device)
            }),
            targets: upload(host.targets, [rows, months, targets], device),
            weights: upload(host.weights, [rows, months, targets], device),
        };
        Bucket { whole, rows, months, places: host.places }
    }
}

/// A matrix without columns becomes one column of zeros, so that a layer has something to read.
fn upload_numbers(values: Vec<f32>, rows: usize, device: &Device) -> Tensor<2> {
    if values.is_empty() {
        return Tensor::from_data(TensorData::new(vec![0.0f32; rows], [rows, 1]), device);
    }
    let width = values.len() / rows;
    Tensor::from_data(TensorData::new(values, [rows, width]), device)
}

fn upload<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}
