//! How a training looks while it runs: a bar on a terminal, a line per epoch elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::train::{EpochRecord, Progress, Step};

pub struct Bar {
    name: String,
    voice: Voice,
    bar: Option<ProgressBar>,
    epoch: String,
}

/// How much is told of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    Epochs,
    /// For trainings that are many.
    Silent,
}

impl Bar {
    pub fn new(name: &str, voice: Voice) -> Self {
        let shown = voice == Voice::Epochs && std::io::stderr().is_terminal();
        let bar = shown.then(|| {
            let style = "{prefix:>10} {wide_bar} {pos}/{len} steps, {per_sec}, ETA {eta}, {msg}";
            let style = ProgressStyle::with_template(style).expect("the template is valid");
            ProgressBar::new(0).with_style(style).with_prefix(name.to_owned())
        });
        Bar { name: name.to_owned(), voice, bar, epoch: String::new() }
    }
}

impl Progress for Bar {
    fn step(&mut self, at: Step) {
        if let Some(bar) = &self.bar {
            bar.set_length(at.steps_max);
            bar.set_position(at.step);
            if let Some(loss) = at.loss {
                bar.set_message(format!("loss {loss:.4}{}", self.epoch));
            }
        }
    }

    fn epoch(&mut self, record: &EpochRecord, epochs_max: u32) {
        let EpochRecord { epoch, train_loss, validation_log_loss, .. } = record;
        let calibrated = record.calibrated_log_loss;
        let calibrated = calibrated.map_or(String::new(), |x| format!(", calibrated {x:.5}"));
        self.epoch = format!(", validation {validation_log_loss:.4}");
        if self.bar.is_none() && self.voice == Voice::Epochs {
            let name = &self.name;
            tracing::info!(
                "{name} epoch {epoch}/{epochs_max}: train loss {train_loss:.5}, \
                 validation log loss {validation_log_loss:.5}{calibrated}"
            );
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
