//! One fold: fit features, train every network and the baseline, predict.

use std::path::Path;
use std::sync::Arc;

use super::curves::CurveScores;
use super::data::{Customers, Data};
use super::parts::{self, FoldParts};
use super::predictions::{Forecast, PartScores, Predictions, View};
use super::progress::Bar;
use crate::baseline::{self, Design};
use crate::clock::Clock;
use crate::config::{Config, ModelKind};
use crate::error::{Kind, Result};
use crate::features::{self, Encoder, FittedFeatures};
use crate::fsx;
use crate::nn::Architecture;
use crate::nn::params::{self, Parameters};
use crate::panel::{Part, Snapshots};
use crate::seeds::Seeds;
use crate::tensors::{Chosen, Examples, Resident, Targets};
use crate::track::{JsonLines, TensorBoard};
use crate::train::sink::{Sink, Tee};
use crate::train::{self, EpochRecord, Feed, Job, Outlook, Reading, Start, Stop, Trained};

/// Name of the logistic regression in all outputs.
pub const LOGISTIC: &str = "logistic";

/// Snapshots that are encoded, predicted and written at a time: with 300 numbers each 80 MB.
const PIECE_SNAPSHOTS: usize = 1 << 16;

/// Of the budget, what the matrix of the logistic regression may take.
const DESIGN_SHARE: u64 = 6;

/// What a model says of some snapshots: encoder, snapshots, and which of them.
type Forecasts<'r> = &'r dyn Fn(&Encoder, &Snapshots, &[u32]) -> Forecast;

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
    pub curves: CurveScores,
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
        let (models, hazards) = (&self.config.models, self.config.hazards());
        let architecture = Architecture::new(kind, models, fitted.features, hazards);
        let trained = self.train(fitted, &architecture)?;
        let reading = Reading { hazards, shift: train::prior_correction(&self.config.train) };
        let device = &self.device.device;
        let (scores, curves) =
            self.predict(fitted, (kind.name(), predictions), &|encoder, snapshots, chosen| {
                let targets = Targets::Window;
                let examples = Examples { encoder, snapshots, chosen, targets };
                let data = Resident::of(&examples, kind, device);
                let Outlook { log_odds, mut curves } =
                    train::outlook(&trained.network, &data, reading);
                let risks: Vec<f64> = log_odds.into_iter().map(train::risk).collect();
                train::end_at(&mut curves, &risks);
                Forecast { risks, curves }
            })?;
        let Trained { parameters, history, seconds, .. } = trained;
        Ok(ModelResult {
            name: kind.name(),
            scores,
            curves,
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
                    let snapshots = view.snapshots;
                    let hazards = architecture.hazards;
                    let (chosen, targets) = parts::examples(snapshots, view.fold, part, hazards);
                    let chosen = &chosen;
                    let examples = Examples { encoder: &encoder, snapshots, chosen, targets };
                    Resident::of(&examples, kind, &self.device.device)
                };
                let (train, validation) = (resident(Part::Train), resident(Part::Validation));
                let feeds = [Feed::Resident(&train), Feed::Resident(&validation)];
                self.run_job(fitted, architecture, feeds)
            }
            Customers::Parts { shards, division, .. } => {
                let batch_rows = train::batch_rows(kind, &self.config.train);
                let [train, validation] = FoldParts::count(
                    shards,
                    division,
                    fitted.features,
                    (architecture, batch_rows),
                )?;
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
        let seed_index = fitted.number.map_or(0, |number| u64::from(number) + 1);
        let identity = format!("{} {} {name}", self.config_sha256, self.data.facts.sha256);
        let job = Job {
            architecture,
            spec: &self.config.train,
            train,
            validation,
            train_rates: &self.train_rates(fitted),
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

    /// Churn rate of the fold's train part, in the window or in each month of the horizon.
    fn train_rates(&self, fitted: &Fitted) -> Vec<f64> {
        if self.config.hazards() > 1 {
            let view = self.data.sample(fitted.fold);
            return view.snapshots.hazard_rates(&view.fold.members(Part::Train));
        }
        let [(_, members, churned), ..] = match &self.data.customers {
            Customers::Whole { shard, folds } => folds[fitted.fold].counts(&shard.snapshots),
            Customers::Parts { .. } => self.data.facts.counts,
        };
        vec![churned as f64 / members as f64]
    }

    /// Predicts all customers, piece by piece.
    fn predict(
        &self,
        fitted: &Fitted,
        (model, predictions): (&str, &mut Predictions),
        forecasts: Forecasts,
    ) -> Result<(PartScores, CurveScores)> {
        let (mut scores, mut curves) = (PartScores::default(), CurveScores::default());
        self.data.each(fitted.fold, &mut |view| {
            let encoder = Encoder::new(fitted.features, view.panel)?;
            let parts = &view.fold.parts;
            let is_asked = |&s: &u32| self.data.predicted().contains(&parts[s as usize]);
            let chosen: Vec<u32> = (0..parts.len() as u32).filter(is_asked).collect();
            let customers = &view.snapshots.customers;
            let mut rest = chosen.as_slice();
            let mut has_curves = false;
            while !rest.is_empty() {
                // A sequence model reads a customer once: no customer in two pieces.
                let last = customers[rest[rest.len().min(PIECE_SNAPSHOTS) - 1] as usize];
                let end = rest.partition_point(|&s| customers[s as usize] <= last);
                let (piece, tail) = rest.split_at(end);
                let found = forecasts(&encoder, view.snapshots, piece);
                predictions.add(model, view, (piece, &found), &mut scores)?;
                curves.add(view, piece, &found);
                has_curves |= found.months() > 1;
                rest = tail;
            }
            if has_curves {
                curves.add_open(view, &|open| {
                    let all: Vec<u32> = (0..open.len() as u32).collect();
                    forecasts(&encoder, open, &all)
                });
            }
            Ok(())
        })?;
        Ok((scores, curves))
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
        let logistic = |encoder: &Encoder, snapshots: &Snapshots, chosen: &[u32]| {
            let risks = model.risks(&features::design(encoder, snapshots, chosen).values);
            Forecast { risks, curves: Vec::new() }
        };
        let (scores, curves) = self.predict(fitted, (LOGISTIC, predictions), &logistic)?;
        Ok(ModelResult {
            name: LOGISTIC,
            scores,
            curves,
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
