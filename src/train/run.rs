//! The loop.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use burn::module::Module;
use burn::tensor::{Device, Gradients, Tensor};

use super::checkpoint::{self, Generation, State};
use super::feed::{BatchRows, Feed, Lap};
use super::optimizer::AdamW;
use super::predict::Reading;
use super::record::{EpochRecord, Progress, Step};
use super::replicas::{self, GradientSum};
use super::scaling::{Level, calibrated_log_loss};
use super::schedule::Climb;
use super::sink::Sink;
use super::{Stop, guard, loss, predict, schedule};
use crate::clock::Clock;
use crate::config::{Loss, Recipe, StopOn, TrainSpec};
use crate::error::Result;
use crate::nn::ops::on_worker;
use crate::nn::params::{self, Parameters};
use crate::nn::{Architecture, Network};
use crate::seeds::Seeds;
use crate::tensors::{Dice, Resident};

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
    /// Each takes a share of every batch; the first also holds the optimizer and validates.
    pub devices: &'a [Device],
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
    let fresh = job.fresh_network();
    let network = params::load(fresh, &trainer.best)?.valid();
    Ok(Trained {
        network,
        parameters: trainer.best,
        history: trainer.state.history,
        seconds: trainer.state.seconds,
    })
}

impl Job<'_> {
    /// The device of optimizer and validation.
    fn device(&self) -> &Device {
        self.devices.first().expect("a training has a device")
    }

    fn fresh_network(&self) -> Network {
        self.architecture.init(&self.seeds, &self.device().clone().autodiff())
    }
}

fn climb(job: &Job) -> Climb {
    Climb { peak: job.recipe.learning_rate, warmup: job.spec.warmup }
}

enum Outcome {
    Finite,
    NotFinite,
}

struct Pace {
    /// Batches of an epoch.
    batches: u64,
    /// Batches of a step.
    accumulate: u64,
    /// If no early stop happens.
    steps_max: u64,
    /// Labelled months of all batches of an average step.
    snapshots_per_step: f64,
}

struct Trainer<'a> {
    job: &'a Job<'a>,
    network: Network,
    /// On the other devices.
    copies: Vec<Network>,
    /// Of the batches of this step so far, on the first device.
    gradients: GradientSum,
    optimizer: AdamW,
    best: Parameters,
    state: State,
    /// Losses since the last reading, summed on each device, and steps since then.
    pending: (Vec<Tensor<1>>, u64),
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
        Ok(Self::new(job, network, AdamW::default(), best, state, since))
    }

    fn new(
        job: &'a Job<'a>,
        network: Network,
        optimizer: AdamW,
        best: Parameters,
        state: State,
        since: (Duration, f64),
    ) -> Self {
        let copies = replicas::copies(&network, &job.devices[1..]);
        let gradients = GradientSum::default();
        let pending = (Vec::new(), 0);
        Trainer { job, network, copies, gradients, optimizer, best, state, pending, since }
    }

    /// Random weights, and a head that starts at the base rate, so that the first epoch is not
    /// spent on learning how rare churn is.
    fn first(job: &Job) -> Result<(Network, Parameters)> {
        let network = job.fresh_network();
        let mut first = params::collect(&network);
        let correction = loss::prior_correction(job.spec);
        let prior = |rate: &f64| (rate / (1.0 - rate)).ln() as f32 - correction;
        let priors = job.train_rates.iter().map(prior).cycle();
        let head = first.get_mut("head.bias").expect("every network has a head");
        head.values.iter_mut().zip(priors).for_each(|(bias, prior)| *bias = prior);
        Ok((params::load(network, &first)?, first))
    }

    fn resume(job: &'a Job<'a>, generation: Generation) -> Result<Self> {
        let state = generation.state;
        let network = params::load(job.fresh_network(), &generation.weights)?;
        let optimizer = AdamW::from_host(&generation.optimizer, state.steps, job.device())?;
        let since = (job.clock.elapsed(), state.seconds);
        Ok(Self::new(job, network, optimizer, generation.best, state, since))
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
        let recipe = self.job.recipe;
        let batches = train.batches(recipe.batch_rows) as u64;
        // An epoch of fewer batches is one step.
        let accumulate = u64::from(spec.accumulate).clamp(1, batches.max(1));
        let steps = batches.div_ceil(accumulate) * u64::from(recipe.epochs_max);
        let per_batch = train.snapshots() as f64 / batches as f64;
        Pace {
            batches,
            accumulate,
            steps_max: if spec.steps_max > 0 { steps.min(spec.steps_max) } else { steps },
            snapshots_per_step: per_batch * accumulate as f64,
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
        job.train.epoch(&lap, job.devices, &mut |copies, batches| {
            for batch in batches {
                if self.state.steps >= pace.steps_max {
                    return Ok(ControlFlow::Break(()));
                }
                if !on_worker(|| self.batch(copies, batch, &pace)) {
                    continue;
                }
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

    /// Takes the gradients of a batch, and with the last batch of a step makes it; says whether.
    fn batch(&mut self, copies: &[Resident], (bucket, rows): &BatchRows, pace: &Pace) -> bool {
        let mut gradients = self.backward(copies, (*bucket, rows), pace);
        self.state.batch += 1;
        let at = self.state.batch;
        if !at.is_multiple_of(pace.accumulate) && at < pace.batches {
            self.gradients.add(&self.network, &gradients, self.job.device());
            return false;
        }
        self.gradients.drain_into(&self.network, &mut gradients);
        let (job, state) = (self.job, &mut self.state);
        let rate = state.rate_scale * schedule::rate(climb(job), state.steps, pace.steps_max);
        self.network = self.optimizer.step(self.network.clone(), gradients, rate, job.spec);
        self.copies = replicas::copies(&self.network, &job.devices[1..]);
        self.pending.1 += 1;
        state.steps += 1;
        state.seconds = self.since.1 + (job.clock.elapsed() - self.since.0).as_secs_f64();
        true
    }

    /// Gradients of the first device's share of a batch; those of the others are on their way into
    /// the sum. All devices are at work before the first result is asked for.
    fn backward(
        &mut self,
        copies: &[Resident],
        (bucket, rows): (usize, &[u32]),
        pace: &Pace,
    ) -> Gradients {
        let job = self.job;
        // Dropout masks are a function of the batch's place among all, so that a resumed training
        // draws the same.
        let batches = self.state.steps * pace.accumulate + self.state.batch % pace.accumulate;
        let seed = job.seeds.number("dropout", batches);
        let networks = std::iter::once(&self.network).chain(&self.copies);
        let mut first_row = 0;
        let mut found = Vec::new();
        let shares = replicas::shares(rows, job.devices.len());
        for (at, ((rows, part), network)) in shares.zip(copies).zip(networks).enumerate() {
            // The kernels of ours draw from the seed, other backends from their own generator.
            job.devices[at].seed(seed.wrapping_add(at as u64));
            let batch = part.batch(bucket, rows).tracked(Dice { seed, first_row });
            first_row += rows.len();
            let out = network.forward(&batch);
            let loss = loss::batch_loss(out, &batch, pace.snapshots_per_step, job.spec);
            found.push((network, loss.backward()));
            // Without its graph, or every step of the epoch would stay in memory.
            let loss = loss.inner();
            match self.pending.0.get_mut(at) {
                Some(sum) => *sum = sum.clone() + loss,
                None => self.pending.0.push(loss),
            }
        }
        let mut found = found.into_iter();
        let (_, first) = found.next().expect("no batch is without rows");
        for (network, gradients) in found {
            self.gradients.add(network, &gradients, job.device());
        }
        first
    }

    /// Mean loss since the last reading; waits for the devices.
    fn read_loss(&mut self) -> Option<f64> {
        let (sums, steps) = std::mem::take(&mut self.pending);
        let sum: f64 = sums.into_iter().map(|sum| f64::from(sum.into_scalar::<f32>())).sum();
        self.state.loss_sum += sum;
        self.state.loss_count += steps;
        (steps > 0).then(|| sum / steps as f64)
    }

    /// Log loss on the validation part, and that after a temperature where it is asked for.
    fn validate(&self, parameters: &Parameters) -> Result<(f64, Option<f64>)> {
        let job = self.job;
        let network = params::load(self.network.clone(), parameters)?.valid();
        let reading =
            Reading { hazards: job.architecture.hazards, shift: loss::prior_correction(job.spec) };
        let (mut mean, mut count) = (0.0, 0);
        let (mut log_odds, mut churned) = (Vec::new(), Vec::new());
        job.validation.each(job.device(), &mut |part| {
            let found = predict::log_odds(&network, part, reading);
            let loss = loss::log_loss(&found, part.churned.iter().copied());
            count += found.len();
            // A running mean: the first part's is its own, bit for bit.
            mean += (loss - mean) * (found.len() as f64 / count as f64);
            if job.spec.decided_by() == StopOn::Calibrated {
                log_odds.extend(found.into_iter().map(f64::from));
                churned.extend_from_slice(&part.churned);
            }
            Ok(())
        })?;
        let calibrated = match job.spec.decided_by() {
            StopOn::Plain => None,
            StopOn::Calibrated => {
                // What the focal loss learns is off in its level too.
                let level = if job.spec.loss == Loss::Focal { Level::Fitted } else { Level::Kept };
                Some(calibrated_log_loss(&log_odds, &churned, level))
            }
        };
        Ok((mean, calibrated))
    }

    fn end_epoch(&mut self, sink: &mut dyn Sink, progress: &mut dyn Progress) -> Result<()> {
        let job = self.job;
        let mut parameters = params::collect(&self.network);
        self.optimizer.average_into(&mut parameters);
        let ((validation, calibrated), pace) = (self.validate(&parameters)?, self.pace());
        let state = &mut self.state;
        let steps = state.steps;
        let record = EpochRecord {
            epoch: state.epoch + 1,
            train_loss: state.loss_sum / state.loss_count.max(1) as f64,
            validation_log_loss: validation,
            calibrated_log_loss: calibrated,
            learning_rate: state.rate_scale * schedule::rate(climb(job), steps, pace.steps_max),
        };
        if record.decisive() < state.best_loss {
            state.best_loss = record.decisive();
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
        if let Some(calibrated) = calibrated {
            sink.scalar("epoch/calibrated_log_loss", steps, calibrated);
        }
        sink.scalar("epoch/learning_rate", steps, record.learning_rate);
        progress.epoch(&record, job.recipe.epochs_max);
        state.history.push(record);
        Ok(())
    }
}
