//! One fold: fit features, train every network, the trees and the baseline, then judge them.

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;

use super::curves::CurveScores;
use super::data::{Customers, Data};
use super::judge::Judge;
use super::losses::{self, Settled};
use super::parts::{self, FoldParts};
use super::predictions::{PartScores, Predictions, View};
use super::progress::{Bar, Voice};
use crate::baseline::trees::{self, Table};
use crate::baseline::{self, Design};
use crate::bundle::{Form, Learned, Ready};
use crate::clock::Clock;
use crate::config::{Config, ModelKind, Recipe, TrainSpec, effort};
use crate::error::{Kind, Result};
use crate::eval::{Calibrated, LossTrial};
use crate::features::{self, Block, Encoder, FittedFeatures, RawKind};
use crate::fsx;
use crate::nn::Architecture;
use crate::panel::{Part, Snapshots};
use crate::seeds::Seeds;
use crate::tensors::{Chosen, Examples, Resident};
use crate::track::{JsonLines, TensorBoard};
use crate::train::sink::{Sink, Tee};
use crate::train::{self, EpochRecord, Feed, Job, Reading, Start, Stop, Trained};

/// Names of what is no network in all outputs.
pub const TREES: &str = "trees";
pub const LOGISTIC: &str = "logistic";
pub const ENSEMBLE: &str = "ensemble";

/// Of the budget, what the matrix of the logistic regression may take, and that of the trees.
const DESIGN_SHARE: u64 = 6;

/// Most rows that trees and logistic regression learn from: more move the log loss in the fourth
/// digit, and a million would take trees longer than a network.
const SAMPLE_ROWS_MAX: usize = 200_000;

/// Rows of each part that tell which columns matter.
const RELEVANCE_ROWS_MAX: usize = 20_000;

/// What all folds share.
pub struct Session<'a> {
    pub config: &'a Config,
    pub config_sha256: &'a str,
    pub data: &'a Data,
    /// Bytes that data may take.
    pub budget: u64,
    /// The first predicts; all of them train.
    pub devices: &'a [Chosen],
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
    pub learners: Vec<Learner>,
    /// Of every learner, in their order; then of the ensemble, where there is one.
    pub models: Vec<ModelResult>,
    /// Where the loss was found by trial.
    pub losses: Vec<LossTrial>,
}

/// One trained model.
pub struct Learner {
    pub name: &'static str,
    pub form: Form,
    pub learned: Learned,
    pub ready: Ready,
    pub seconds: f64,
    /// Of networks only.
    pub history: Vec<EpochRecord>,
}

/// What one model, or an average of several, predicts.
pub struct ModelResult {
    /// Shares of the learners.
    pub weights: Vec<f64>,
    pub calibrated: Calibrated,
    pub scores: PartScores,
    /// Only with a hazard head.
    pub curves: CurveScores,
}

impl FoldResult {
    /// Names of the models, in their order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let learners = self.learners.iter().map(|learner| learner.name);
        learners.chain(std::iter::once(ENSEMBLE)).take(self.models.len())
    }
}

/// The epochs of each network so far.
pub type Histories = Vec<(ModelKind, Vec<EpochRecord>)>;

impl Session<'_> {
    /// Trains the networks of a fold and nothing beside them; the test part is not looked at.
    pub fn histories(&self, fold: usize, number: Option<u32>) -> Result<Histories> {
        let View { panel, snapshots, fold: parts } = self.data.sample(fold);
        let features = features::fit(panel, snapshots, parts, &self.config.features)?;
        let fitted = Fitted { features: &features, fold, number, relevance: OnceCell::new() };
        let spec = losses::settle(self, &fitted)?.spec;
        let kinds = self.config.models.kinds.iter();
        kinds
            .map(|&kind| {
                let how = (&spec, &*fitted.job_name(kind));
                let trained = self.train(&fitted, &self.architecture(&fitted, kind)?, how)?;
                Ok((kind, trained.history))
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
        let fitted = Fitted { features: &features, fold, number, relevance: OnceCell::new() };
        let Settled { spec, trials: losses } = losses::settle(self, &fitted)?;
        let mut learners = Vec::new();
        for &kind in &self.config.models.kinds {
            learners.push(self.network(&fitted, kind, &spec)?);
        }
        if self.config.models.trees {
            learners.push(self.trees(&fitted)?);
        }
        learners.push(self.logistic(&fitted)?);
        let judge = Judge { data: self.data, fold, features: &features, learners: &learners };
        let models = judge.run(predictions)?;
        Ok(FoldResult { number, features, learners, models, losses })
    }

    fn first(&self) -> &Chosen {
        self.devices.first().expect("a session has a device")
    }

    pub(super) fn architecture(&self, fitted: &Fitted, kind: ModelKind) -> Result<Architecture> {
        let hazards = self.config.hazards();
        let size = (hazards, self.train_examples(fitted));
        let mut architecture = Architecture::new(kind, &self.config.models, fitted.features, size);
        if kind == ModelKind::Mlp && architecture.mlp.early {
            architecture.relevance = self.relevance(fitted)?;
        }
        Ok(architecture)
    }

    /// Of each column of the MLP: its share in what trees find in the train part.
    fn relevance(&self, fitted: &Fitted) -> Result<Vec<f32>> {
        if let Some(found) = fitted.relevance.get() {
            return Ok(found.clone());
        }
        let kinds = features::dense_kinds(fitted.features);
        let sample = |part| {
            let rows = ("relevance", RELEVANCE_ROWS_MAX);
            self.matrix(fitted, part, (rows, kinds.len()), &features::dense_block)
        };
        let [train, validation] = [sample(Part::Train)?, sample(Part::Validation)?];
        let seeds = Seeds::new(self.config.seed).child("relevance", fitted.seed_index());
        let found = trees::importance(&table(&train, &kinds), &table(&validation, &kinds), &seeds);
        Ok(fitted.relevance.get_or_init(|| found).clone())
    }

    fn recipe(&self, fitted: &Fitted, kind: ModelKind, spec: &TrainSpec) -> Recipe {
        let examples = self.train_examples(fitted);
        effort::recipe(kind, self.config.models.effort, spec, examples)
    }

    /// Snapshots of the fold's train part.
    fn train_examples(&self, fitted: &Fitted) -> usize {
        let [(_, members, _), ..] = self.data.facts.counts[fitted.fold];
        members as usize
    }

    fn network(&self, fitted: &Fitted, kind: ModelKind, spec: &TrainSpec) -> Result<Learner> {
        let architecture = self.architecture(fitted, kind)?;
        let hazards = architecture.hazards;
        let trained = self.train(fitted, &architecture, (spec, &fitted.job_name(kind)))?;
        let Trained { parameters, history, seconds, network } = trained;
        let log_odds_shift = train::prior_correction(spec);
        let reading = Reading { hazards, shift: log_odds_shift };
        let device = self.first().device.clone();
        Ok(Learner {
            name: kind.name(),
            form: Form::Network { architecture: Box::new(architecture), log_odds_shift },
            learned: Learned::Network(parameters),
            ready: Ready::Network { kind, network: Box::new(network), reading, device },
            seconds,
            history,
        })
    }

    /// Trains a network with the settings and under the name given.
    pub(super) fn train(
        &self,
        fitted: &Fitted,
        architecture: &Architecture,
        how: (&TrainSpec, &str),
    ) -> Result<Trained> {
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
                    Resident::of(&examples, kind, &self.first().device)
                };
                let first = resident(Part::Train);
                let others = self.devices[1..].iter().map(|chosen| first.copy_to(&chosen.device));
                let others: Vec<Resident> = others.collect();
                let train: Vec<Resident> = std::iter::once(first).chain(others).collect();
                let validation = [resident(Part::Validation)];
                let feeds = [Feed::Resident(&train), Feed::Resident(&validation)];
                self.run_job(fitted, architecture, how, feeds)
            }
            Customers::Parts { shards, divisions, .. } => {
                let division = &divisions[fitted.fold];
                let batch_rows = self.recipe(fitted, kind, how.0).batch_rows;
                let [train, validation] = FoldParts::count(
                    shards,
                    division,
                    fitted.features,
                    (architecture, batch_rows),
                )?;
                let feeds = [Feed::Parts(&train), Feed::Parts(&validation)];
                self.run_job(fitted, architecture, how, feeds)
            }
        }
    }

    fn run_job(
        &self,
        fitted: &Fitted,
        architecture: &Architecture,
        (spec, name): (&TrainSpec, &str),
        [train, validation]: [Feed; 2],
    ) -> Result<Trained> {
        let kind = architecture.kind;
        let identity = format!("{} {} {name}", self.config_sha256, self.data.facts.sha256);
        let job = Job {
            architecture,
            spec,
            recipe: &self.recipe(fitted, architecture.kind, spec),
            train,
            validation,
            train_rates: &self.train_rates(fitted),
            seeds: Seeds::new(self.config.seed).child(kind.name(), fitted.seed_index()),
            devices: &self.devices.iter().map(|c| c.device.clone()).collect::<Vec<_>>(),
            checkpoints: &self.folder.join("checkpoints").join(name),
            start: self.start,
            identity: fsx::sha256_hex(identity.as_bytes()),
            stop: self.stop,
            clock: self.clock.as_ref(),
            pause_after_epoch: self.pause_after_epoch,
        };
        self.tell_settings(&job, name)?;
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

    /// What `auto` came to: a line, and a file in the run's folder.
    fn tell_settings(&self, job: &Job, name: &str) -> Result<()> {
        let Architecture { kind, mlp, gru, numbers, categories, months, hazards, .. } =
            job.architecture;
        let settings = serde_json::json!({
            "network": kind,
            "mlp": (*kind != ModelKind::Gru).then_some(mlp),
            "gru": kind.is_sequence().then_some(gru),
            "numbers": numbers,
            "categories": categories.len(),
            "months": months,
            "hazards": hazards,
            "recipe": job.recipe,
        });
        if let Voice::Epochs = self.voice {
            let Recipe { learning_rate, batch_rows, .. } = job.recipe;
            let shape = if *kind == ModelKind::Gru { String::new() } else { format!("{mlp}, ") };
            tracing::info!("{name}: {shape}learning rate {learning_rate}, batches of {batch_rows}");
        }
        let json = serde_json::to_vec_pretty(&settings)
            .map_err(|error| Kind::Internal.msg(error.to_string()))?;
        fsx::publish_bytes(&self.folder.join("settings").join(format!("{name}.json")), &json)
    }

    /// Churn rate of the fold's train part, in the window or in each month of the horizon.
    pub(super) fn train_rates(&self, fitted: &Fitted) -> Vec<f64> {
        if self.config.hazards() > 1 {
            let view = self.data.sample(fitted.fold);
            return view.snapshots.hazard_rates(&view.fold.members(Part::Train));
        }
        let [(_, members, churned), ..] = self.data.facts.counts[fitted.fold];
        vec![churned as f64 / members as f64]
    }

    fn trees(&self, fitted: &Fitted) -> Result<Learner> {
        let start = self.clock.elapsed();
        let columns = fitted.features.raw_columns();
        let kinds: Vec<_> = columns.into_iter().map(|column| column.kind).collect();
        let sample = |part| {
            let rows = (TREES, SAMPLE_ROWS_MAX);
            self.matrix(fitted, part, (rows, kinds.len()), &features::raw_block)
        };
        let seeds = Seeds::new(self.config.seed).child(TREES, fitted.seed_index());
        let trees = {
            let [train, validation] = [sample(Part::Train)?, sample(Part::Validation)?];
            let averaged = self.config.models.effort.trees_averaged();
            if self.voice == Voice::Epochs {
                let (rows, columns) = (train.1.len(), kinds.len());
                tracing::info!("{TREES}: {rows} snapshots, {columns} columns");
            }
            trees::fit(&table(&train, &kinds), &table(&validation, &kinds), averaged, &seeds)?
        };
        Ok(Learner {
            name: TREES,
            form: Form::Trees,
            learned: Learned::Trees(trees.clone()),
            ready: Ready::Trees(trees),
            seconds: (self.clock.elapsed() - start).as_secs_f64(),
            history: Vec::new(),
        })
    }

    fn logistic(&self, fitted: &Fitted) -> Result<Learner> {
        let start = self.clock.elapsed();
        let columns = features::design_width(fitted.features);
        let sample = |part| {
            let rows = (LOGISTIC, SAMPLE_ROWS_MAX);
            self.matrix(fitted, part, (rows, columns), &features::design)
        };
        let logistic = {
            let [train, validation] = [sample(Part::Train)?, sample(Part::Validation)?];
            let numbers = |of: &Matrix| of.1.iter().map(|&y| f32::from(u8::from(y))).collect();
            let labels: [Vec<f32>; 2] = [numbers(&train), numbers(&validation)];
            let [train, validation] = [(&train, &labels[0]), (&validation, &labels[1])]
                .map(|(of, labels)| Design { values: &of.0.values, columns, labels });
            baseline::fit(&train, &validation)?
        };
        Ok(Learner {
            name: LOGISTIC,
            form: Form::Logistic,
            learned: Learned::Logistic(logistic.clone()),
            ready: Ready::Logistic(logistic),
            seconds: (self.clock.elapsed() - start).as_secs_f64(),
            history: Vec::new(),
        })
    }

    /// Encoded rows of a part with their labels: all of the sample, or at most as many as are asked
    /// for and as the budget allows.
    fn matrix(
        &self,
        fitted: &Fitted,
        part: Part,
        ((what, rows_max), columns): ((&str, usize), usize),
        encode: &dyn Fn(&Encoder, &Snapshots, &[u32]) -> Block,
    ) -> Result<Matrix> {
        let view = self.data.sample(fitted.fold);
        let members = view.fold.members(part);
        if members.is_empty() {
            let message = format!("the sample holds no snapshot of the {} part", part.name());
            return Err(Kind::Data.msg(message).hint("raise train.memory_gb"));
        }
        let affordable = self.budget / DESIGN_SHARE / (4 * columns.max(1) as u64);
        let (rows, all) = (rows_max.min(affordable as usize), members.len());
        if rows < all {
            tracing::info!("{what}: {rows} of {all} snapshots of the {} part", part.name());
        }
        let chosen = thinned(members, rows);
        let encoder = Encoder::new(fitted.features, view.panel)?;
        let labels = chosen.iter().map(|&s| view.snapshots.churned[s as usize]).collect();
        Ok((encode(&encoder, view.snapshots, &chosen), labels))
    }
}

/// Encoded rows with their labels.
type Matrix = (Block, Vec<bool>);

fn table<'a>((block, labels): &'a Matrix, kinds: &'a [RawKind]) -> Table<'a> {
    Table { values: &block.values, kinds, labels }
}

/// At most `rows_max` snapshots, drawn at random where there are more.
fn thinned(members: Vec<u32>, rows_max: usize) -> Vec<u32> {
    if members.len() <= rows_max {
        return members;
    }
    let drawn = Seeds::new(members.len() as u64).drawn("logistic", rows_max, members.len());
    let mut chosen: Vec<u32> = drawn.iter().map(|&i| members[i as usize]).collect();
    chosen.sort_unstable();
    chosen
}

/// Features fitted on a fold.
pub struct Fitted<'a> {
    features: &'a FittedFeatures,
    /// Place among the folds, and the number that it is known by.
    fold: usize,
    number: Option<u32>,
    /// As found once; see [`Session::relevance`].
    relevance: OnceCell<Vec<f32>>,
}

impl Fitted<'_> {
    fn seed_index(&self) -> u64 {
        self.number.map_or(0, |number| u64::from(number) + 1)
    }

    pub(super) fn job_name(&self, kind: ModelKind) -> String {
        match self.number {
            Some(number) => format!("{}-fold{number}", kind.name()),
            None => kind.name().to_owned(),
        }
    }
}
