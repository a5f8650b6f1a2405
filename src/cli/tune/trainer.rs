//! A trial as a training: the same way as `churn train`, without what stands beside the networks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::args::TuneArgs;
use crate::cli::data::Data;
use crate::cli::fold::Session;
use crate::cli::progress::Voice;
use crate::clock::Clock;
use crate::config::Resolved;
use crate::error::{Kind, Result};
use crate::fsx;
use crate::tensors::Chosen;
use crate::train::{EpochRecord, Start, Stop};
use crate::tune::{Assignment, Fit, Outcome, Space, Study, Trials};

/// Between two looks at what other workers have told.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A fold whose train and validation parts are used.
pub struct SearchedFold {
    /// Place among the folds, and the number that it is known by.
    pub at: usize,
    pub number: Option<u32>,
}

impl SearchedFold {
    /// Its number; 0 where there is only one division.
    pub fn name(&self) -> u32 {
        self.number.unwrap_or(0)
    }
}

/// All that trials share.
pub struct Trainer<'a> {
    pub args: &'a TuneArgs,
    pub data: &'a Data,
    pub folds: &'a [SearchedFold],
    pub devices: &'a [Chosen],
    pub budget: u64,
    /// Of the study.
    pub folder: &'a Path,
    pub stop: &'a Stop,
    pub clock: &'a Arc<dyn Clock>,
    pub space: &'a Space,
    pub rungs: &'a [u32],
    pub trials_max: u32,
}

impl Trials for Trainer<'_> {
    fn train(&mut self, assignment: &Assignment) -> Result<Outcome> {
        self.go_on()?;
        let start = self.clock.elapsed();
        let resolved = self.args.load(&assignment.params)?;
        let fits = match self.fits(&resolved, assignment) {
            // The same numbers come out of a training from the beginning.
            Err(error) if error.kind == Kind::Corrupt => {
                tracing::warn!("trial {} begins again: {error}", assignment.trial);
                fsx::remove_folder(&self.folder_of(assignment).join("checkpoints"))?;
                self.fits(&resolved, assignment)
            }
            other => other,
        };
        let fits = fits.map_err(|error| match self.stop.requested() {
            Some(kind) if kind == error.kind => {
                let message = format!("stopped within trial {}", assignment.trial);
                kind.msg(message).hint("go on with the same command")
            }
            _ => error,
        })?;
        let seconds = (self.clock.elapsed() - start).as_secs_f64();
        Ok(Outcome { fits, seconds })
    }

    fn told(&mut self, assignment: &Assignment, study: &Study) {
        let Assignment { trial: number, rung, epochs, .. } = *assignment;
        let Some(trial) = study.trials.get(number as usize) else { return };
        let epochs_max = self.rungs[self.rungs.len() - 1];
        let best = study.ranking().first().map_or(String::new(), |(best, report)| {
            format!("; best {:.5}, trial {}", report.loss, best.number)
        });
        let of = self.trials_max;
        match (&trial.failure, trial.reports.get(rung)) {
            (Some(reason), _) => tracing::warn!("trial {number} of {of} failed: {reason}"),
            (None, Some(report)) => tracing::info!(
                "trial {number} of {of}, {epochs} of {epochs_max} epochs: validation log loss \
                 {:.5} ({}){best}",
                report.loss,
                report.network
            ),
            (None, None) => {}
        }
        if trial.failure.is_some() || rung + 1 == self.rungs.len() {
            // Nobody goes on from them any more.
            let removed = fsx::remove_folder(&self.folder_of(assignment).join("checkpoints"));
            if let Err(error) = removed {
                tracing::warn!("{error}");
            }
        }
    }

    fn wait(&mut self) -> Result<()> {
        std::thread::sleep(LOOK_AGAIN);
        self.go_on()
    }
}

impl Trainer<'_> {
    fn go_on(&self) -> Result<()> {
        match self.stop.requested() {
            None => Ok(()),
            Some(kind) => {
                Err(kind.msg("stopped between two trials").hint("go on with the same command"))
            }
        }
    }

    fn folder_of(&self, assignment: &Assignment) -> std::path::PathBuf {
        self.folder.join("trials").join(format!("{:04}", assignment.trial))
    }

    fn fits(&self, resolved: &Resolved, assignment: &Assignment) -> Result<Vec<Fit>> {
        // Also those of a trial that is the configuration as written.
        let leaves = resolved.leaves();
        let value = |path: &String| Some((path.clone(), leaves.get(path)?.to_string()));
        let hparams: Vec<(String, String)> = self.space.0.keys().filter_map(value).collect();
        let session = Session {
            config: &resolved.config,
            config_sha256: &resolved.sha256(),
            data: self.data,
            budget: self.budget,
            devices: self.devices,
            folder: &self.folder_of(assignment),
            start: Start::Resume,
            stop: self.stop,
            clock: self.clock,
            hparams: &hparams,
            voice: Voice::Silent,
            pause_after_epoch: u64::from(assignment.epochs),
        };
        let mut fits = Vec::new();
        for fold in self.folds {
            for (network, history) in session.histories(fold.at, fold.number)? {
                let losses = history.iter().map(EpochRecord::decisive);
                fits.push(Fit {
                    network: network.name().to_owned(),
                    fold: fold.name(),
                    epochs: history.len() as u64,
                    loss: losses.fold(f64::INFINITY, f64::min),
                });
            }
        }
        Ok(fits)
    }
}
