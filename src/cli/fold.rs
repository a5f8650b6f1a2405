//! One fold: fit features, train every network and the baseline, predict every snapshot.

use std::path::Path;
use std::sync::Arc;

use super::data::Data;
use super::progress::Bar;
use crate::baseline::{self, Design};
use crate::clock::Clock;
use crate::config::{Config, ModelKind};
use crate::error::Result;
use crate::features::{self, Encoded, FittedFeatures};
use crate::fsx;
use crate::nn::Architecture;
use crate::nn::params::{self, Parameters};
use crate::panel::{Fold, Part};
use crate::seeds::Seeds;
use crate::tensors::{Chosen, Examples, Resident};
use crate::track::{JsonLines, TensorBoard};
use crate::train::sink::{Sink, Tee};
use crate::train::{self, EpochRecord, Job, Start, Stop, Trained};

/// Name of the logistic regression in all outputs.
pub const LOGISTIC: &str = "logistic";

/// What all folds share.
pub struct Session<'a> {
    pub config: &'a Config,
    pub config_sha256: &'a str,
    pub data: &'a Data,
    pub device: &'a Chosen,
    pub folder: &'a Path,
    pub start: Start,
    pub stop: &'a Stop,
    pub clock: &'a Arc<dyn Clock>,
    /// Settings as (path, value), for the trackers.
    pub hparams: &'a [(String, String)],
}

/// What came out of a fold.
pub struct FoldResult {
    pub features: FittedFeatures,
    pub models: Vec<ModelResult>,
}

/// One model of one fold.
pub struct ModelResult {
    pub name: &'static str,
    /// Risk by snapshot; NaN for purged ones.
    pub risks: Vec<f64>,
    pub seconds: f64,
    pub parameters: u64,
    /// Of networks only.
    pub network: Option<NetworkResult>,
}

pub struct NetworkResult {
    pub architecture: Architecture,
    pub parameters: Parameters,
    pub history: Vec<EpochRecord>,
}

impl Session<'_> {
    /// Trains all models of a fold.
    pub fn run(&self, fold: &Fold) -> Result<FoldResult> {
        let Data { panel, snapshots, .. } = self.data;
        let features = features::fit(panel, snapshots, fold, &self.config.features)?;
        let encoded = Encoded::new(&features, panel, &self.config.models.kinds)?;
        let fitted = Fitted { features: &features, encoded: &encoded, fold };
        let mut models = Vec::new();
        for &kind in &self.config.models.kinds {
            models.push(self.network(&fitted, kind)?);
        }
        models.push(self.logistic(&fitted)?);
        Ok(FoldResult { features, models })
    }

    fn network(&self, fitted: &Fitted, kind: ModelKind) -> Result<ModelResult> {
        let snapshots = &self.data.snapshots;
        let architecture = Architecture::new(kind, &self.config.models, fitted.features);
        let name = fitted.job_name(kind);
        let trained = self.train(fitted, &architecture, &name)?;
        let chosen: Vec<u32> = fitted.labelled();
        let all = self.upload(fitted, kind, &chosen)?;
        let shift = train::prior_correction(&self.config.train);
        let mut risks = vec![f64::NAN; snapshots.len()];
        let found = train::log_odds(&trained.network, &all);
        for (&snapshot, log_odds) in chosen.iter().zip(found) {
            risks[snapshot as usize] = train::risk(log_odds + shift);
        }
        let Trained { parameters, history, seconds, .. } = trained;
        Ok(ModelResult {
            name: kind.name(),
            risks,
            seconds,
            parameters: params::count(&parameters),
            network: Some(NetworkResult { architecture, parameters, history }),
        })
    }

    fn train(&self, fitted: &Fitted, architecture: &Architecture, name: &str) -> Result<Trained> {
        let snapshots = &self.data.snapshots;
        let kind = architecture.kind;
        let validating = fitted.fold.members(Part::Validation);
        let churned: Vec<bool> =
            validating.iter().map(|&s| snapshots.churned[s as usize]).collect();
        let training = fitted.fold.members(Part::Train);
        let leavers = training.iter().filter(|&&s| snapshots.churned[s as usize]).count();
        let seed_index = fitted.fold.number.map_or(0, |number| u64::from(number) + 1);
        let identity = format!("{} {} {name}", self.config_sha256, self.data.sha256);
        let job = Job {
            architecture,
            spec: &self.config.train,
            train: &self.upload(fitted, kind, &training)?,
            train_rate: leavers as f64 / training.len() as f64,
            validation: &self.upload(fitted, kind, &validating)?,
            validation_churned: &churned,
            seeds: Seeds::new(self.config.seed).child(kind.name(), seed_index),
            device: &self.device.device,
            checkpoints: &self.folder.join("checkpoints").join(name),
            start: self.start,
            identity: fsx::sha256_hex(identity.as_bytes()),
            stop: self.stop,
            clock: self.clock.as_ref(),
        };
        let mut sinks = Tee(vec![
            Box::new(JsonLines::open(&self.folder.join("metrics.jsonl"), name)),
            Box::new(TensorBoard::open(
                &self.folder.join("tensorboard").join(name),
                self.clock.clone(),
            )),
        ]);
        sinks.hparams(self.hparams);
        train::run(&job, &mut sinks, &mut Bar::new(name))
    }

    fn upload(&self, fitted: &Fitted, kind: ModelKind, chosen: &[u32]) -> Result<Resident> {
        let examples = Examples {
            panel: &self.data.panel,
            snapshots: &self.data.snapshots,
            features: fitted.features,
            encoded: fitted.encoded,
            chosen,
        };
        Resident::upload(&examples, kind, &self.device.device)
    }

    fn logistic(&self, fitted: &Fitted) -> Result<ModelResult> {
        let start = self.clock.elapsed();
        let [train, validation] = [Part::Train, Part::Validation]
            .map(|part| self.design(fitted, &fitted.fold.members(part)));
        let (train, validation) = (train?, validation?);
        let model = baseline::fit(&train.view(), &validation.view())?;
        let chosen = fitted.labelled();
        let mut risks = vec![f64::NAN; self.data.snapshots.len()];
        // In pieces, so that the matrix of all snapshots never stands in memory at once.
        for piece in chosen.chunks(1 << 16) {
            let found = model.risks(&self.design(fitted, piece)?.values);
            for (&snapshot, risk) in piece.iter().zip(found) {
                risks[snapshot as usize] = risk;
            }
        }
        Ok(ModelResult {
            name: LOGISTIC,
            risks,
            seconds: (self.clock.elapsed() - start).as_secs_f64(),
            parameters: model.weights.len() as u64 + 1,
            network: None,
        })
    }

    fn design(&self, fitted: &Fitted, chosen: &[u32]) -> Result<Owned> {
        let Data { panel, snapshots, .. } = self.data;
        let block = features::design(fitted.features, panel, fitted.encoded, snapshots, chosen)?;
        let label = |&s: &u32| f32::from(u8::from(snapshots.churned[s as usize]));
        let labels = chosen.iter().map(label).collect();
        Ok(Owned { values: block.values, columns: block.width, labels })
    }
}

/// Features fitted on a fold.
struct Fitted<'a> {
    features: &'a FittedFeatures,
    encoded: &'a Encoded,
    fold: &'a Fold,
}

impl Fitted<'_> {
    /// All snapshots that belong to a part.
    fn labelled(&self) -> Vec<u32> {
        let parts = &self.fold.parts;
        (0..parts.len() as u32).filter(|&s| parts[s as usize] != Part::Purged).collect()
    }

    fn job_name(&self, kind: ModelKind) -> String {
        match self.fold.number {
            Some(number) => format!("{}-fold{number}", kind.name()),
            None => kind.name().to_owned(),
        }
    }
}

struct Owned {
    values: Vec<f32>,
    columns: usize,
    labels: Vec<f32>,
}

impl Owned {
    fn view(&self) -> Design<'_> {
        Design { values: &self.values, columns: self.columns, labels: &self.labels }
    }
}
