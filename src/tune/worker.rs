//! One process that takes trials from a study, trains them and tells the journal.

use std::path::{Path, PathBuf};

use super::halving::Halving;
use super::journal::Journal;
use super::space::{Params, Space};
use super::study::{Fit, Header, Record, Study};
use super::tpe;
use crate::error::{Kind, Result};
use crate::fsx::{self, Held};
use crate::seeds::Seeds;

/// Folder of the files whose locks say which workers live.
const WORKERS: &str = "workers";

/// How a study is searched, and how far.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub halving: Halving,
    pub space: Space,
    /// Tried first, as the configuration's author thought best; empty where the space does not
    /// hold it: the configuration as it is.
    pub written: Params,
    pub seeds: Seeds,
    /// Trials of the whole study, earlier ones and those of other workers included.
    pub trials_max: u32,
}

/// A trial to train up to a rung.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    pub trial: u32,
    pub rung: usize,
    /// Of the whole training so far.
    pub epochs: u32,
    pub params: Params,
}

/// Trains trials.
pub trait Trials {
    /// Trains up to the assignment's epochs, from where an earlier worker stopped; every network
    /// and fold is told.
    ///
    /// # Errors
    /// Of kind `Data`, `Config` or `Usage` where these parameters cannot be trained: the trial has
    /// failed. Any other one ends the worker, and the trial is left for the next.
    fn train(&mut self, assignment: &Assignment) -> Result<Outcome>;

    /// Called after each trial's rung and each failure, with the study as it then is.
    fn told(&mut self, assignment: &Assignment, study: &Study);

    /// Called while there is nothing to do before other workers have told something.
    ///
    /// # Errors
    /// If the worker shall end.
    fn wait(&mut self) -> Result<()>;
}

/// What a training told.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub fits: Vec<Fit>,
    pub seconds: f64,
}

enum Next {
    Train(Assignment),
    /// Trials of other workers may yet let one go on.
    Wait,
    /// Every trial is finished, failed or held back for good.
    Complete,
}

/// A worker's place in a study, held for as long as it lives.
pub struct Worker {
    folder: PathBuf,
    journal: Journal,
    number: u32,
    _held: Held,
}

impl Worker {
    /// Takes the next number in the study of this folder.
    pub fn join(folder: &Path) -> Result<Self> {
        let mut journal = Journal::open(folder)?;
        let (number, held) = journal.turn(|study| {
            let worker = study.workers;
            let path = lock_file(folder, worker);
            let held = fsx::hold(&path)?.ok_or_else(|| {
                Kind::Corrupt.at(&path).msg("is held, but the journal knows no such worker")
            })?;
            Ok((vec![Record::Worker { worker }], (worker, held)))
        })?;
        Ok(Worker { folder: folder.to_path_buf(), journal, number, _held: held })
    }

    pub fn number(&self) -> u32 {
        self.number
    }

    /// As of the last turn.
    pub fn study(&self) -> &Study {
        self.journal.study()
    }

    /// Begins the study, or makes sure that it is this one.
    ///
    /// # Errors
    /// [`Kind::Usage`] if the folder holds a study of other data or settings.
    pub fn agree(&mut self, header: &Header) -> Result<()> {
        let path = self.folder.clone();
        self.journal.turn(|study| match &study.header {
            None => Ok((vec![Record::Study(header.clone())], ())),
            Some(there) => match difference(there, header) {
                None => Ok((Vec::new(), ())),
                Some(what) => {
                    let error = Kind::Usage.at(&path).msg(format!("is a study of other {what}"));
                    Err(error.hint("choose another --out, or leave the configuration as it was"))
                }
            },
        })
    }

    /// Takes trial after trial until there is nothing left to do.
    pub fn work(&mut self, plan: &Plan, trials: &mut dyn Trials) -> Result<()> {
        loop {
            let worker = self.number;
            let folder = &self.folder;
            let next = self.journal.turn(|study| {
                let next = next(study, plan, &|owner| is_gone(folder, owner, worker))?;
                let records = match &next {
                    Next::Train(Assignment { trial, rung, params, .. }) => {
                        let is_new = *trial as usize == study.trials.len();
                        let params = is_new.then(|| params.clone());
                        vec![Record::Begin { trial: *trial, rung: *rung, worker, params }]
                    }
                    Next::Wait | Next::Complete => Vec::new(),
                };
                Ok((records, next))
            })?;
            let assignment = match next {
                Next::Train(assignment) => assignment,
                Next::Wait => {
                    trials.wait()?;
                    continue;
                }
                Next::Complete => return Ok(()),
            };
            let record = told(&assignment, worker, trials.train(&assignment))?;
            self.journal.turn(|_| Ok((vec![record], ())))?;
            trials.told(&assignment, self.journal.study());
        }
    }
}

fn lock_file(folder: &Path, worker: u32) -> PathBuf {
    folder.join(WORKERS).join(format!("{worker:04}.lock"))
}

/// Whether nobody holds a worker's lock any more.
fn is_gone(folder: &Path, owner: u32, me: u32) -> Result<bool> {
    Ok(owner != me && fsx::hold(&lock_file(folder, owner))?.is_some())
}

/// What a training's end is to the journal.
fn told(assignment: &Assignment, worker: u32, outcome: Result<Outcome>) -> Result<Record> {
    let Assignment { trial, rung, .. } = *assignment;
    let fail = |reason: String| Record::Fail { trial, rung, worker, reason };
    match outcome {
        Ok(Outcome { fits, .. }) if fits.iter().any(|fit| !fit.loss.is_finite()) => {
            Ok(fail("the validation log loss is not finite".into()))
        }
        Ok(Outcome { fits, seconds }) => Ok(Record::Report { trial, rung, worker, seconds, fits }),
        Err(error) if matches!(error.kind, Kind::Data | Kind::Config | Kind::Usage) => {
            Ok(fail(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

/// What is to be done next, in this order: what a dead worker left behind, the trial that goes on,
/// a new one. With one worker it is a function of the reports so far: what was being trained when
/// the worker was killed is trained again before anything else is decided.
fn next(study: &Study, plan: &Plan, is_gone: &dyn Fn(u32) -> Result<bool>) -> Result<Next> {
    let assign = |trial: u32, rung: usize, params: Params| {
        let epochs = plan.halving.rungs[rung];
        Next::Train(Assignment { trial, rung, epochs, params })
    };
    let params = |trial: u32| study.trials[trial as usize].params.clone();
    let mut others = 0;
    for trial in &study.trials {
        let Some(owner) = trial.owner else { continue };
        if is_gone(owner)? {
            return Ok(assign(trial.number, trial.reports.len(), trial.params.clone()));
        }
        others += 1;
    }
    if let Some((trial, rung)) = plan.halving.promoted(study) {
        return Ok(assign(trial, rung, params(trial)));
    }
    let number = study.trials.len() as u32;
    if number < plan.trials_max {
        let params = match number {
            0 => plan.written.clone(),
            _ => tpe::suggest(&plan.space, &plan.seeds, number, &study.seen()),
        };
        return Ok(assign(number, 0, params));
    }
    Ok(if others > 0 { Next::Wait } else { Next::Complete })
}

/// In a word, where two studies part.
fn difference(there: &Header, here: &Header) -> Option<&'static str> {
    if there.data_sha256 != here.data_sha256 {
        return Some("data");
    }
    if there.config_sha256 != here.config_sha256 {
        return Some("settings");
    }
    if there.space != here.space {
        return Some("parameters (tune.space)");
    }
    if (&there.rungs, there.reduction) != (&here.rungs, here.reduction) {
        return Some("rungs (tune.halvings, tune.reduction, train.epochs_max)");
    }
    (there.folds != here.folds).then_some("folds (tune.folds)")
}

#[cfg(test)]
mod tests;
