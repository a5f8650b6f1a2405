//! One fold: fit features, train every network and the baseline, predict.

use std::path::Path;
use std::sync::Arc;

use super::data::{Customers, Data};
use super::parts::FoldParts;
use super::predictions::{PartScores, Predictions, View};
use super::progress::{Bar, Voice};
use crate::baseline::{self, Design};
use crate::clock::Clock;
use crate::config::{Config, ModelKind};
use crate::error::{Kind, Result};
use crate::features::{self, Encoder, FittedFeatures};
use crate::fsx;
use crate::nn::Architecture;
use crate::nn::params::{self, Parameters};
use crate::panel::Part;
use crate::seeds::Seeds;
use crate::tensors::{Chosen, Examples, Resident};
use crate::track::{JsonLines, TensorBoard};
use crate::train::sink::{Sink, Tee};
use crate::train::{self, EpochRecord, Feed, Job, Start, Stop, Trained};

/// Name of the logistic regression in all outputs.
pub const LOGISTIC: &str = "logistic";

/// Snapshots that are encoded, predicted and written at a time: with 300 numbers each 80 MB.
const PIECE_SNAPSHOTS: usize = 1 << 16;

/// Of the budget, what the matrix of the logistic regression may take.
const DESIGN_SHARE: u64 = 6;

/// The risks of some snapshots.
type Risks<'r> = &'r dyn Fn(&View, &Encoder, &[u32]) -> Vec<f64>;

/// What all folds share.
pub struct Session<'a> {
    pub config: &'a Config,
    pub config_sha256: &'a str,
    pub data: &'a Data,
    /// Bytes that data may take.
    pub budget: u64,
    pub device: &'a Chosen,
    pub folder: &'a Path,
    pub start: Start,
    pub stop: &'a Stop,
    pub clock: &'a Arc<dyn Clock>,
    /// Settings as (path, value), for the trackers.
    pub hparams: &'a [(String, String)],
    pub voice: Voice,
    /// See [`Job::pause_after_epoch`].
    pub pause_after_epoch: u64,
}

/// What came out of a fold.
pub struct FoldResult {
    pub number: Option<u32>,
    pub features: FittedFeatures,
    pub models: Vec<ModelResult>,
}

/// One model of one fold.
pub struct ModelResult {
    pub name: &'static str,
    pub scores: PartScores,
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

/// The epochs of each network so far.
pub type Histories = Vec<(ModelKind, Vec<EpochRecord>)>;

impl Session<'_> {
    /// Trains the networks of a fold and nothing beside them; the test part is not looked at.
    pub fn histories(&self, fold: usize, number: Option<u32>) -> Result<Histories> {
        let View { panel, snapshots, fold: parts } = self.data.sample(fold);
        let features = features::fit(panel, snapshots, parts, &self.config.features)?;
        let fitted = Fitted { features: &features, fold, number };
        let kinds = self.config.models.kinds.iter();
        kinds
            .map(|&kind| {
                let architecture = Architecture::new(kind, &self.config.models, &features);
                Ok((kind, self.train(&fitted, &architecture)?.history))
            })
            .collect()
    }

    /// Trains all models of a fold.
    pub fn run(
        &self,
        fold: usize,
        number: Option<u32>,
        predictions: &mut Predictions,
    ) -> Result<FoldResult> {
        let View { panel, snapshots, fold: parts } = self.data.sample(fold);
        let features = features::fit(panel, snapshots, parts, &self.config.features)?;
        let fitted = Fitted { features: &features, fold, number };
        let mut models = Vec::new();
        for &kind in &self.config.models.kinds {
            models.push(self.network(&fitted, kind, predictions)?);
        }
        models.push(self.logistic(&fitted, predictions)?);
        Ok(FoldResult { number, features, models })
    }

    fn network(
        &self,
        fitted: &Fitted,
        kind: ModelKind,
        predictions: &mut Predictions,
    ) -> Result<ModelResult> {
        let architecture = Architecture::new(kind, &self.config.models, fitted.features);
        let trained = self.train(fitted, &architecture)?;
        let shift = train::prior_correction(&self.config.train);
        let device = &self.device.device;
        let scores =
            self.predict(fitted, (kind.name(), predictions), &|view, encoder, chosen| {
                let examples = Examples { encoder, snapshots: view.snapshots, chosen };
                let data = Resident::of(&examples, kind, device);
                let found = train::log_odds(&trained.network, &data).into_iter();
                found.map(|log_odds| train::risk(log_odds + shift)).collect()
            })?;
        let Trained { parameters, history, seconds, .. } = trained;
        Ok(ModelResult {
            name: kind.name(),
            scores,
            seconds,
            parameters: params::count(&parameters),
            network: Some(NetworkResult { architecture, parameters, history }),
        })
    }

    fn train(&self, fitted: &Fitted, architecture: &Architecture) -> Result<Trained> {
        let kind = architecture.kind;
        match &self.data.customers {
            Customers::Whole { .. } => {
                let view = self.data.sample(fitted.fold);
                let encoder = Encoder::new(fitted.features, view.panel)?;
                let resident = |part: Part| {
                    let chosen = view.fold.members(part);
                    let snapshots = view.snapshots;
                    let examples = Examples { encoder: &encoder, snapshots, chosen: &chosen };
                    Resident::of(&examples, kind, &self.device.device)
                };
                let (train, validation) = (resident(Part::Train), resident(Part::Validation));
                let feeds = [Feed::Resident(&train), Feed::Resident(&validation)];
                self.run_job(fitted, architecture, feeds)
            }
            Customers::Parts { shards, division, .. } => {
                let batch_rows = train::batch_rows(kind, &self.config.train);
                let [train, validation] =
                    FoldParts::count(shards, division, fitted.features, (kind, batch_rows))?;
                let feeds = [Feed::Parts(&train), Feed::Parts(&validation)];
                self.run_job(fitted, architecture, feeds)
            }
        }
    }

    fn run_job(
        &self,
        fitted: &Fitted,
        architecture: &Architecture,
        [train, validation]: [Feed; 2],
    ) -> Result<Trained> {
        let kind = architecture.kind;
        let name = &fitted.job_name(kind);
        let (leavers, members) = self.train_counts(fitted);
        let seed_index = fitted.number.map_or(0, |number| u64::from(number) + 1);
        let identity = format!("{} {} {name}", self.config_sha256, self.data.facts.sha256);
        let job = Job {
            architecture,
            spec: &self.config.train,
            train,
            validation,
            train_rate: leavers as f64 / members as f64,
            seeds: Seeds::new(self.config.seed).child(kind.name(), seed_index),
            device: &self.device.device,
            checkpoints: &self.folder.join("checkpoints").join(name),
            start: self.start,
            identity: fsx::sha256_hex(identity.as_bytes()),
            stop: self.stop,
            clock: self.clock.as_ref(),
            pause_after_epoch: self.pause_after_epoch,
        };
        let mut sinks = Tee(vec![
            Box::new(JsonLines::open(&self.folder.join("metrics.jsonl"), name)),
            Box::new(TensorBoard::open(
                &self.folder.join("tensorboard").join(name),
                self.clock.clone(),
            )),
        ]);
        sinks.hparams(self.hparams);
        train::run(&job, &mut sinks, &mut Bar::new(name, self.voice))
    }

    /// Leavers and members of the fold's train part.
    fn train_counts(&self, fitted: &Fitted) -> (u64, u64) {
        let [(_, members, churned), ..] = match &self.data.customers {
            Customers::Whole { shard, folds } => folds[fitted.fold].counts(&shard.snapshots),
            Customers::Parts { .. } => self.data.facts.counts,
        };
        (churned, members)
    }

    /// Predicts all customers, piece by piece.
    fn predict(
        &self,
        fitted: &Fitted,
        (model, predictions): (&str, &mut Predictions),
        risks: Risks,
    ) -> Result<PartScores> {
        let mut scores = PartScores::default();
        self.data.each(fitted.fold, &mut |view| {
            let encoder = Encoder::new(fitted.features, view.panel)?;
            let parts = &view.fold.parts;
            let is_asked = |&s: &u32| self.data.predicted().contains(&parts[s as usize]);
            let chosen: Vec<u32> = (0..parts.len() as u32).filter(is_asked).collect();
            let customers = &view.snapshots.customers;
            let mut rest = chosen.as_slice();
            while !rest.is_empty() {
                // A sequence model reads a customer once: no customer in two pieces.
                let last = customers[rest[rest.len().min(PIECE_SNAPSHOTS) - 1] as usize];
                let end = rest.partition_point(|&s| customers[s as usize] <= last);
                let (piece, tail) = rest.split_at(end);
                let found = risks(&view, &encoder, piece);
                predictions.add(model, view, (piece, &found), &mut scores)?;
                rest = tail;
            }
            Ok(())
        })?;
        Ok(scores)
    }

    fn logistic(&self, fitted: &Fitted, predictions: &mut Predictions) -> Result<ModelResult> {
        let start = self.clock.elapsed();
        let view = self.data.sample(fitted.fold);
        let encoder = Encoder::new(fitted.features, view.panel)?;
        let row_bytes = 4 * features::design_width(fitted.features).max(1) as u64;
        let rows_max = (self.budget / DESIGN_SHARE / row_bytes) as usize;
        let design = |part: Part| {
            let members = view.fold.members(part);
            if members.is_empty() {
                let message = format!("the sample holds no snapshot of the {} part", part.name());
                return Err(Kind::Data.msg(message).hint("raise train.memory_gb"));
            }
            let chosen = thinned(members, rows_max);
            let block = features::design(&encoder, view.snapshots, &chosen);
            let label = |&s: &u32| f32::from(u8::from(view.snapshots.churned[s as usize]));
            let labels = chosen.iter().map(label).collect();
            Ok(Owned { values: block.values, columns: block.width, labels })
        };
        let model = {
            let (train, validation) = (design(Part::Train)?, design(Part::Validation)?);
            baseline::fit(&train.view(), &validation.view())?
        };
        let scores = self.predict(fitted, (LOGISTIC, predictions), &|view, encoder, chosen| {
            model.risks(&features::design(encoder, view.snapshots, chosen).values)
        })?;
        Ok(ModelResult {
            name: LOGISTIC,
            scores,
            seconds: (self.clock.elapsed() - start).as_secs_f64(),
            parameters: model.weights.len() as u64 + 1,
            network: None,
        })
    }
}

/// At most `rows_max` snapshots, drawn at random where there are more.
fn thinned(members: Vec<u32>, rows_max: usize) -> Vec<u32> {
    if members.len() <= rows_max {
        return members;
    }
    tracing::info!("the logistic regression learns from {rows_max} of {} snapshots", members.len());
    let order = Seeds::new(members.len() as u64).shuffled("logistic", 0, members.len());
    let mut chosen: Vec<u32> = order[..rows_max].iter().map(|&i| members[i as usize]).collect();
    chosen.sort_unstable();
    chosen
}

/// Features fitted on a fold.
struct Fitted<'a> {
    features: &'a FittedFeatures,
    /// Place among the folds, and the number that it is known by.
    fold: usize,
    number: Option<u32>,
}

impl Fitted<'_> {
    fn job_name(&self, kind: ModelKind) -> String {
        match self.number {
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
