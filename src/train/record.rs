//! What a training tells of itself while it goes.

use serde::{Deserialize, Serialize};

/// Told about the training as it goes.
pub trait Progress {
    fn step(&mut self, at: Step);
    fn epoch(&mut self, record: &EpochRecord, epochs_max: u32);
}

/// A moment of a training, for a progress bar.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub step: u64,
    /// If no early stop happens.
    pub steps_max: u64,
    pub loss: Option<f64>,
}

/// One finished epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: u64,
    pub train_loss: f64,
    pub validation_log_loss: f64,
    /// The same after a temperature is fitted, where that decides (`train.stop_on`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibrated_log_loss: Option<f64>,
    pub learning_rate: f64,
}

impl EpochRecord {
    /// The loss by which epochs are compared.
    pub fn decisive(&self) -> f64 {
        self.calibrated_log_loss.unwrap_or(self.validation_log_loss)
    }
}
