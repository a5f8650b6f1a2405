//! The state of a search as a function of its journal's records.

use serde::{Deserialize, Serialize};

use super::space::{Params, Space};
use super::tpe::{Outcome, Seen};
use crate::error::{Kind, Result};

/// Of the records; a later version that writes others counts up.
pub const FORMAT: u32 = 1;

/// What all workers of a study must agree on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    pub format: u32,
    /// Of everything that decides what is learned, before a trial's parameters are put over it.
    pub config_sha256: String,
    pub data_sha256: String,
    /// Epochs of each rung, the last one `train.epochs_max`.
    pub rungs: Vec<u32>,
    pub reduction: u32,
    pub folds: Vec<u32>,
    pub space: Space,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Record {
    Study(Header),
    /// A worker has come.
    Worker {
        worker: u32,
    },
    /// A worker trains a trial up to a rung. The parameters stand in the trial's first one only.
    Begin {
        trial: u32,
        rung: usize,
        worker: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        params: Option<Params>,
    },
    /// It got there.
    Report {
        trial: u32,
        rung: usize,
        worker: u32,
        seconds: f64,
        fits: Vec<Fit>,
    },
    /// It cannot be trained, whoever tries.
    Fail {
        trial: u32,
        rung: usize,
        worker: u32,
        reason: String,
    },
}

/// One network of one fold, trained as far as its trial's rung.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fit {
    pub network: String,
    pub fold: u32,
    /// Fewer than the rung's where the training stopped early.
    pub epochs: u64,
    /// Validation log loss of the best epoch.
    pub loss: f64,
}

/// One set of parameters and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    pub number: u32,
    pub params: Params,
    /// One for each rung that it reached.
    pub reports: Vec<Report>,
    /// Who trains it, while someone does.
    pub owner: Option<u32>,
    /// Why it cannot be trained.
    pub failure: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub fits: Vec<Fit>,
    /// Of its best network: the median over the folds.
    pub loss: f64,
    pub network: String,
    /// Of this rung alone.
    pub seconds: f64,
}

impl Trial {
    /// Its loss at the highest rung that it reached.
    pub fn last(&self) -> Option<&Report> {
        self.reports.last()
    }

    /// Rungs that someone has begun, reached or not.
    pub fn begun(&self) -> usize {
        self.reports.len() + usize::from(self.owner.is_some() || self.failure.is_some())
    }

    /// Of all networks and folds.
    pub fn epochs(&self) -> u64 {
        self.last().map_or(0, |report| report.fits.iter().map(|fit| fit.epochs).sum())
    }
}

/// A search so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Study {
    pub header: Option<Header>,
    pub trials: Vec<Trial>,
    /// Workers that ever came; they are numbered in order.
    pub workers: u32,
}

impl Study {
    /// Takes up one record.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] for one that cannot follow on those before it.
    pub fn apply(&mut self, record: Record) -> Result<()> {
        let out_of_order = |what: &str| Kind::Corrupt.msg(format!("{what} out of order"));
        match record {
            Record::Study(header) if header.format != FORMAT => {
                return Err(Kind::Corrupt
                    .msg(format!("is of format {}, this program reads {FORMAT}", header.format))
                    .hint("go on with the version that began the study"));
            }
            Record::Study(header) if self.header.is_none() => self.header = Some(header),
            Record::Study(_) => return Err(out_of_order("a second `study`")),
            Record::Worker { worker } if worker == self.workers => self.workers += 1,
            Record::Worker { .. } => return Err(out_of_order("a `worker`")),
            Record::Begin { trial, rung: 0, worker, params: Some(params) } => {
                if trial as usize != self.trials.len() {
                    return Err(out_of_order("a new trial"));
                }
                self.trials.push(Trial {
                    number: trial,
                    params,
                    reports: Vec::new(),
                    owner: Some(worker),
                    failure: None,
                });
            }
            Record::Begin { trial, rung, worker, .. } => match self.trial_at(trial, rung) {
                Some(found) if found.failure.is_none() => found.owner = Some(worker),
                _ => return Err(out_of_order("a `begin`")),
            },
            // The first report of a rung counts. A second one is of a worker that was taken for
            // dead, and says the same.
            Record::Report { trial, rung, seconds, fits, .. } => {
                if let Some(found) = self.trial_at(trial, rung) {
                    let (network, loss) = judge(&fits)?;
                    found.reports.push(Report { fits, loss, network, seconds });
                    found.owner = None;
                }
            }
            Record::Fail { trial, rung, reason, .. } => {
                if let Some(found) = self.trial_at(trial, rung) {
                    found.failure = Some(reason);
                    found.owner = None;
                }
            }
        }
        Ok(())
    }

    /// The trial, if this rung is its next one.
    fn trial_at(&mut self, trial: u32, rung: usize) -> Option<&mut Trial> {
        self.trials.get_mut(trial as usize).filter(|found| found.reports.len() == rung)
    }

    /// What the sampler sees.
    pub fn seen(&self) -> Vec<Seen<'_>> {
        let outcome = |trial: &Trial| match (&trial.failure, trial.last()) {
            (Some(_), _) => Outcome::Loss { rungs: 0, loss: f64::INFINITY },
            (None, Some(report)) => Outcome::Loss { rungs: trial.reports.len(), loss: report.loss },
            (None, None) => Outcome::Running,
        };
        let trials = self.trials.iter();
        trials
            .map(|trial| Seen {
                number: trial.number,
                params: &trial.params,
                outcome: outcome(trial),
            })
            .collect()
    }

    /// The trials that came to something, the best first: by how far they came, then by loss. A
    /// trial that was held back at an earlier rung may have had a lower loss there than another at
    /// the end, but that is not known to hold to the end.
    pub fn ranking(&self) -> Vec<(&Trial, &Report)> {
        let sound = self.trials.iter().filter(|trial| trial.failure.is_none());
        let mut found: Vec<(&Trial, &Report)> =
            sound.filter_map(|trial| Some((trial, trial.last()?))).collect();
        found.sort_by(|(a, x), (b, y)| {
            let further = b.reports.len().cmp(&a.reports.len());
            further.then(x.loss.total_cmp(&y.loss)).then(a.number.cmp(&b.number))
        });
        found
    }

    /// Epochs of all networks, folds and trials.
    pub fn epochs(&self) -> u64 {
        self.trials.iter().map(Trial::epochs).sum()
    }
}

/// The network with the lowest median over folds, and that median.
fn judge(fits: &[Fit]) -> Result<(String, f64)> {
    let mut best: Option<(String, f64)> = None;
    for fit in fits {
        let of_network = fits.iter().filter(|other| other.network == fit.network);
        let median = median(of_network.map(|fit| fit.loss).collect());
        if best.as_ref().is_none_or(|(_, loss)| median < *loss) {
            best = Some((fit.network.clone(), median));
        }
    }
    best.ok_or_else(|| Kind::Corrupt.msg("a `report` without a network"))
}

/// Of two middle values their mean. A fold that went wrong moves it less than it would a mean.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() % 2 {
        0 => 0.5 * (values[half - 1] + values[half]),
        _ => values[half],
    }
}
