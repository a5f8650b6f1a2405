//! The loop.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::checkpoint::{self, Generation, State};
use super::feed::{BatchRows, Feed, Lap};
use super::optimizer::AdamW;
use super::predict::Reading;
use super::schedule::Climb;
use super::sink::Sink;
use super::{Stop, guard, loss, predict, schedule};
use crate::clock::Clock;
use crate::config::{Recipe, TrainSpec};
use crate::error::Result;
use crate::nn::ops::on_worker;
use crate::nn::params::{self, Parameters};
use crate::nn::{Architecture, Network};
use crate::seeds::Seeds;
use crate::tensors::Resident;

/// What to train, on what, and whom to tell.
pub struct Job<'a> {
    pub architecture: &'a Architecture,
    pub spec: &'a TrainSpec,
    /// What the settings leave to `auto`, from the data's size.
    pub recipe: &'a Recipe,
    pub train: Feed<'a>,
    pub validation: Feed<'a>,
    /// Share of the train examples that churned, in the window or in each month of the horizon
    /// among those still there; the head's bias starts at the log-odds.
    pub train_rates: &'a [f64],
    pub seeds: Seeds,
    pub device: &'a Device,
    /// Where generations go.
    pub checkpoints: &'a Path,
    pub start: Start,
    /// Hash of all that decides the result; a checkpoint of another identity is refused.
    pub identity: String,
    pub stop: &'a Stop,
    pub clock: &'a dyn Clock,
    /// Pauses after this epoch, behind its checkpoint, as if cut off there: a later job goes on by
    /// [`Start::Resume`]. [`NEVER`] for a training that runs to its end.
    pub pause_after_epoch: u64,
}

/// An epoch that no training reaches.
pub const NEVER: u64 = u64::MAX;

/// Whether to look for a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Fresh,
    Resume,
}

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
    pub learning_rate: f64,
}

/// A finished training, or a paused one as far as it came.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The best epoch's network, in validation mode.
    pub network: Network,
    pub parameters: Parameters,
    pub history: Vec<EpochRecord>,
    pub seconds: f64,
}

/// Trains to the end, or resumes a training that was cut off.
///
/// # Errors
/// [`Kind::Interrupted`](crate::error::Kind) or `Terminated` after a checkpoint, when the stop
/// flag was set; [`Kind::Data`](crate::error::Kind) when the loss does not stay finite.
pub fn run(job: &Job, sink: &mut dyn Sink, progress: &mut dyn Progress) -> Result<Trained> {
    let mut trainer = Trainer::start(job)?;
    let mut begin = trainer.generation();
    while !trainer.state.finished && trainer.state.epoch < job.pause_after_epoch {
        match trainer.epoch(sink, progress)? {
            Outcome::Finite => {
                trainer.end_epoch(sink, progress)?;
                begin = trainer.generation();
                checkpoint::save(job.checkpoints, &begin)?;
            }
            Outcome::NotFinite => {
                begin = guard::back_off(&begin)?;
                trainer = Trainer::resume(job, begin.clone())?;
            }
        }
    }
    sink.flush();
    let fresh = job.architecture.init(&job.seeds, &job.device.clone().autodiff());
    let network = params::load(fresh, &trainer.best)?.valid();
    Ok(Trained {
        network,
        parameters: trainer.best,
        history: trainer.state.history,
        seconds: trainer.state.seconds,
    })
}

fn climb(job: &Job) -> Climb {
    Climb { peak: job.recipe.learning_rate, warmup: job.spec.warmup }
}

enum Outcome {
    Finite,
    NotFinite,
}

struct Pace {
    /// If no early stop happens.
    steps_max: u64,
    /// Labelled months of an average batch.
    snapshots_per_batch: f64,
}

struct Trainer<'a> {
    job: &'a Job<'a>,
    network: Network,
    optimizer: AdamW,
    best: Parameters,
    state: State,
    /// Losses since the last reading, on the device.
    pending: Option<(Tensor<1>, u64)>,
    /// Clock when this process took over, and the seconds trained before.
    since: (Duration, f64),
}

impl<'a> Trainer<'a> {
    fn start(job: &'a Job<'a>) -> Result<Self> {
        if job.start == Start::Resume
            && let Some(generation) = checkpoint::load(job.checkpoints, &job.identity)?
        {
            return Self::resume(job, generation);
        }
        crate::fsx::remove_folder(job.checkpoints)?;
        let (network, best) = Self::first(job)?;
        let state = State {
            identity: job.identity.clone(),
            epoch: 0,
            batch: 0,
            steps: 0,
            rate_scale: 1.0,
            retries: 0,
            best_loss: f64::MAX,
            best_epoch: 0,
            loss_sum: 0.0,
            loss_count: 0,
            history: Vec::new(),
            finished: job.recipe.epochs_max == 0,
            seconds: 0.0,
        };
        let since = (job.clock.elapsed(), 0.0);
        let optimizer = AdamW::default();
        Ok(Trainer { job, network, optimizer, best, state, pending: None, since })
    }

    /// Random weights, and a head that starts at the base rate, so that the first epoch is not
    /// spent on learning how rare churn is.
    fn first(job: &Job) -> Result<(Network, Parameters)> {
        let network = job.architecture.init(&job.seeds, &job.device.clone().autodiff());
        let mut first = params::collect(&network);
        let correction = loss::prior_correction(job.spec);
        let prior = |rate: &f64| (rate / (1.0 - rate)).ln() as f32 - correction;
        let priors = job.train_rates.iter().map(prior).cycle();
        let head = first.get_mut("head.bias").expect("every network has a head");
        head.values.iter_mut().zip(priors).for_each(|(bias, prior)| *bias = prior);
        Ok((params::load(network, &first)?, first))
    }

    fn resume(job: &'a Job<'a>, generation: Generation) -> Result<Self> {
        let fresh = job.architecture.init(&job.seeds, &job.device.clone().autodiff());
        let state = generation.state;
        Ok(Trainer {
            job,
            network: params::load(fresh, &generation.weights)?,
            optimizer: AdamW::from_host(&generation.optimizer, state.steps, job.device)?,
            best: generation.best,
            pending: None,
            since: (job.clock.elapsed(), state.seconds),
            state,
        })
    }

    fn generation(&self) -> Generation {
        Generation {
            state: self.state.clone(),
            weights: params::collect(&self.network),
            best: self.best.clone(),
            optimizer: self.optimizer.to_host(),
        }
    }

    /// What one step is of the whole.
    fn pace(&self) -> Pace {
        let (spec, train) = (self.job.spec, &self.job.train);
        let batches = train.batches(self.job.recipe.batch_rows) as u64;
        let steps = batches * u64::from(self.job.recipe.epochs_max);
        Pace {
            steps_max: if spec.steps_max > 0 { steps.min(spec.steps_max) } else { steps },
            snapshots_per_batch: train.snapshots() as f64 / batches as f64,
        }
    }

    /// The rest of the current epoch, or of the steps that the settings allow.
    fn epoch(&mut self, sink: &mut dyn Sink, progress: &mut dyn Progress) -> Result<Outcome> {
        let (job, pace) = (self.job, self.pace());
        let lap = Lap {
            seeds: &job.seeds,
            epoch: self.state.epoch,
            batch_rows: job.recipe.batch_rows,
            skip: self.state.batch as usize,
        };
        let mut diverged = false;
        job.train.epoch(&lap, job.device, &mut |part, batches| {
            for batch in batches {
                if self.state.steps >= pace.steps_max {
                    return Ok(ControlFlow::Break(()));
                }
                on_worker(|| self.step(part, batch, &pace));
                if let Outcome::NotFinite = self.after_step(&pace, sink, progress)? {
                    diverged = true;
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(match self.read_loss() {
            _ if diverged => Outcome::NotFinite,
            Some(loss) if !loss.is_finite() => Outcome::NotFinite,
            _ => Outcome::Finite,
        })
    }

    /// Reads the loss, saves and stops where it is time to.
    fn after_step(
        &mut self,
        pace: &Pace,
        sink: &mut dyn Sink,
        progress: &mut dyn Progress,
    ) -> Result<Outcome> {
        let (job, step) = (self.job, self.state.steps);
        let at_log = step.is_multiple_of(u64::from(job.spec.log_steps.max(1)));
        let stop = job.stop.requested();
        let every = u64::from(job.spec.checkpoint_steps);
        let at_checkpoint = every > 0 && step.is_multiple_of(every);
        if at_log || at_checkpoint || stop.is_some() {
            let loss = self.read_loss();
            if !loss.is_none_or(f64::is_finite) {
                return Ok(Outcome::NotFinite);
            }
            if let Some(loss) = loss {
                sink.scalar("train/loss", step, loss);
            }
            progress.step(Step { step, steps_max: pace.steps_max, loss });
        }
        if at_checkpoint || stop.is_some() {
            checkpoint::save(job.checkpoints, &self.generation())?;
        }
        if let Some(kind) = stop {
            sink.flush();
            return Err(kind.msg(format!("stopped after step {step}")).hint("go on with --resume"));
        }
        Ok(Outcome::Finite)
    }

    fn step(&mut self, part: &Resident, (bucket, rows): &BatchRows, pace: &Pace) {
        let job = self.job;
        let rate = schedule::rate(climb(job), self.state.steps, pace.steps_max);
        // Dropout masks are a function of the step, so that a resumed training draws the same.
        let noise = job.seeds.number("dropout", self.state.steps);
        // The kernels of ours draw from `noise`, other backends from their own generator.
        job.device.seed(noise);
        let batch = part.batch(*bucket, rows).tracked(noise);
        let per_batch = pace.snapshots_per_batch;
        let loss = loss::batch_loss(self.network.forward(&batch), &batch, per_batch, job.spec);
        let gradients = loss.backward();
        let rate = rate * self.state.rate_scale;
        self.network = self.optimizer.step(self.network.clone(), gradients, rate, job.spec);
        // Without its graph, or every step of the epoch would stay in memory.
        let loss = loss.inner();
        self.pending = Some(match self.pending.take() {
            Some((sum, count)) => (sum + loss, count + 1),
            None => (loss, 1),
        });
        self.state.steps += 1;
        self.state.batch += 1;
        self.state.seconds = self.since.1 + (job.clock.elapsed() - self.since.0).as_secs_f64();
    }

    /// Mean loss since the last reading; waits for the device.
    fn read_loss(&mut self) -> Option<f64> {
        let (sum, count) = self.pending.take()?;
        let sum = f64::from(sum.into_scalar::<f32>());
        self.state.loss_sum += sum;
        self.state.loss_count += count;
        Some(sum / count as f64)
    }

    /// Log loss on the validation part.
    fn validate(&self, parameters: &Parameters) -> Result<f64> {
        let job = self.job;
        let network = params::load(self.network.clone(), parameters)?.valid();
        let reading =
            Reading { hazards: job.architecture.hazards, shift: loss::prior_correction(job.spec) };
        let (mut mean, mut count) = (0.0, 0);
        job.validation.each(job.device, &mut |part| {
            let found = predict::log_odds(&network, part, reading);
            let loss = loss::log_loss(&found, part.churned.iter().copied());
            count += found.len();
            // A running mean: the first part's is its own, bit for bit.
            mean += (loss - mean) * (found.len() as f64 / count as f64);
            Ok(())
        })?;
        Ok(mean)
    }

    fn end_epoch(&mut self, sink: &mut dyn Sink, progress: &mut dyn Progress) -> Result<()> {
        let job = self.job;
        let mut parameters = params::collect(&self.network);
        self.optimizer.average_into(&mut parameters);
        let (validation, pace) = (self.validate(&parameters)?, self.pace());
        let state = &mut self.state;
        let steps = state.steps;
        let record = EpochRecord {
            epoch: state.epoch + 1,
            train_loss: state.loss_sum / state.loss_count.max(1) as f64,
            validation_log_loss: validation,
            learning_rate: state.rate_scale * schedule::rate(climb(job), steps, pace.steps_max),
        };
        if validation < state.best_loss {
            state.best_loss = validation;
            state.best_epoch = record.epoch;
            self.best = parameters;
        }
        let waited = record.epoch - state.best_epoch;
        state.finished = record.epoch >= u64::from(job.recipe.epochs_max)
            || waited >= u64::from(job.spec.patience)
            || steps >= pace.steps_max;
        state.epoch += 1;
        state.batch = 0;
        state.loss_sum = 0.0;
        state.loss_count = 0;
        state.seconds = self.since.1 + (job.clock.elapsed() - self.since.0).as_secs_f64();
        sink.scalar("epoch/train_loss", steps, record.train_loss);
        sink.scalar("epoch/validation_log_loss", steps, validation);
        sink.scalar("epoch/learning_rate", steps, record.learning_rate);
        progress.epoch(&record, job.recipe.epochs_max);
        state.history.push(record);
        Ok(())
    }
}
