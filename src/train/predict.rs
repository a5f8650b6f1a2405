//! Log-odds of every example of a data set.

use crate::nn::Network;
use crate::nn::ops::on_worker;
use crate::tensors::Resident;

/// Rows in one pass. One number for validation, evaluation and scoring, so that the same rows meet
/// the same shapes of products.
const BATCH_ROWS: usize = 512;

/// Log-odds by example, in rising order of snapshot numbers, from a network in validation mode.
pub fn log_odds(network: &Network, data: &Resident) -> Vec<f32> {
    on_worker(|| in_batches(network, data))
}

fn in_batches(network: &Network, data: &Resident) -> Vec<f32> {
    let mut found: Vec<(u32, f32)> = Vec::with_capacity(data.snapshots);
    for (at, bucket) in data.buckets.iter().enumerate() {
        let mut values = Vec::with_capacity(bucket.rows * bucket.months);
        let in_order: Vec<u32> = (0..bucket.rows as u32).collect();
        for rows in bucket.batches(&in_order, BATCH_ROWS) {
            let batch = data.batch(at, &rows);
            let out = network.forward(&batch).into_data();
            values.extend(out.try_into_vec_as::<f32>().expect("log-odds are f32"));
        }
        let value = |row: u32, month: u32| values[row as usize * bucket.months + month as usize];
        found.extend(bucket.places.iter().map(|&(row, month, s)| (s, value(row, month))));
    }
    found.sort_unstable_by_key(|&(snapshot, _)| snapshot);
    found.into_iter().map(|(_, value)| value).collect()
}

/// Probability of log-odds.
pub fn risk(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}
