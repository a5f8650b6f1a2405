//! From a model's log-odds to those that hold: learned on the validation part, chosen by log loss.
//!
//! Four maps are tried, from none to any rising curve. Which one is used is decided by log loss on
//! rows that took no part in fitting it, in folds of customers inside the validation part; a map
//! of more freedom must win clearly, so that with few leavers the model is left alone.

use serde::{Deserialize, Serialize};

use crate::train::scaling::{Freedom, Scaling, log_loss_of};

/// Folds of the validation part.
pub const FOLDS: u32 = 5;

/// Fewest leavers and stayers in the validation part from which anything is learned.
const CLASS_MIN: usize = 20;

/// Standard errors by which a map must win against one of less freedom. A change of spread is asked
/// for by all rows and holds in the next month too; a change of level may be that of the validation
/// month alone. Of 24 models on six real sets, eight are changed with these margins, and seven of
/// them gain on test; the eighth, a logistic regression that an isotonic map suits, loses .0012.
const MARGIN_TEMPERATURE: f64 = 1.0;
const MARGIN_LEVEL: f64 = 2.0;

/// Most points of a rising curve; blocks beyond are joined, as no eye or loss sees them.
const POINTS_MAX: usize = 256;

/// A map of log-odds, rising.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Calibrator {
    Identity,
    /// Stretches around the log-odds of the mean risk, which it leaves where it is: around 0 it
    /// would follow a validation part of another churn rate rather than mend the spread.
    Temperature {
        slope: f64,
        center: f64,
    },
    Platt {
        slope: f64,
        intercept: f64,
    },
    /// Linear between points, of slope 1 beyond them.
    Isotonic {
        from: Vec<f64>,
        to: Vec<f64>,
    },
}

/// Validation rows of a model.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    pub log_odds: &'a [f64],
    pub labels: &'a [bool],
    /// Rows of a customer stay together in a fold.
    pub customers: &'a [u32],
}

/// A chosen calibrator.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibrated {
    pub calibrator: Calibrator,
    /// On validation rows that took no part in fitting it.
    pub log_loss: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Identity,
    Temperature,
    Platt,
    Isotonic,
}

impl Calibrator {
    pub fn apply(&self, log_odds: f64) -> f64 {
        match self {
            Calibrator::Identity => log_odds,
            Calibrator::Temperature { slope, center } => center + slope * (log_odds - center),
            Calibrator::Platt { slope, intercept } => slope * log_odds + intercept,
            Calibrator::Isotonic { from, to } => interpolate(from, to, log_odds),
        }
    }

    /// As it is named in tables.
    pub fn name(&self) -> &'static str {
        match self {
            Calibrator::Identity => "identity",
            Calibrator::Temperature { .. } => "temperature",
            Calibrator::Platt { .. } => "platt",
            Calibrator::Isotonic { .. } => "isotonic",
        }
    }

    /// What is wrong with a calibrator that comes from elsewhere, if anything is.
    pub fn fault(&self) -> Option<&'static str> {
        let sound = match self {
            Calibrator::Identity => true,
            Calibrator::Temperature { slope, center } => {
                slope.is_finite() && *slope > 0.0 && center.is_finite()
            }
            Calibrator::Platt { slope, intercept } => {
                slope.is_finite() && *slope > 0.0 && intercept.is_finite()
            }
            Calibrator::Isotonic { from, to } => {
                let finite = from.iter().chain(to).all(|x| x.is_finite());
                let rising = from.windows(2).all(|w| w[0] < w[1]);
                let never_falls = to.windows(2).all(|w| w[0] <= w[1]);
                finite && rising && never_falls && from.len() == to.len() && !from.is_empty()
            }
        };
        (!sound).then_some("the calibrator is not a rising curve of finite numbers")
    }

    fn fit(kind: Kind, log_odds: &[f64], labels: &[bool]) -> Calibrator {
        match kind {
            Kind::Identity => Calibrator::Identity,
            Kind::Temperature => {
                let center = center(log_odds);
                let found = Scaling::fit(log_odds, labels, Freedom::SlopeAround(center));
                Calibrator::Temperature { slope: found.slope, center }
            }
            Kind::Platt => {
                let found = Scaling::fit(log_odds, labels, Freedom::SlopeAndIntercept);
                Calibrator::Platt { slope: found.slope, intercept: found.intercept }
            }
            Kind::Isotonic => isotonic(log_odds, labels),
        }
    }
}

/// The log-odds of the mean risk.
fn center(log_odds: &[f64]) -> f64 {
    let mean = log_odds.iter().map(|&x| crate::train::risk(x)).sum::<f64>() / log_odds.len() as f64;
    (mean / (1.0 - mean)).ln()
}

/// The fold of a customer: numbers are handed out in the order of ids, which may mean something,
/// so they are mixed first.
pub fn fold_of(customer: u32) -> u32 {
    // Multiplicative hashing (Knuth): the high bits are the mixed ones.
    (customer.wrapping_mul(0x9e37_79b1) >> 16) % FOLDS
}

/// Fits all kinds and keeps one.
pub fn choose(rows: &Rows) -> Calibrated {
    let Rows { log_odds, labels, .. } = *rows;
    let leavers = labels.iter().filter(|&&churned| churned).count();
    let usable = log_odds.iter().all(|x| x.is_finite());
    let mut best = (Kind::Identity, losses(rows, Kind::Identity));
    if usable && leavers.min(labels.len() - leavers) >= CLASS_MIN {
        for (kind, margin) in [
            (Kind::Temperature, MARGIN_TEMPERATURE),
            (Kind::Platt, MARGIN_LEVEL),
            (Kind::Isotonic, MARGIN_LEVEL),
        ] {
            let found = losses(rows, kind);
            if wins((&found, &best.1), margin) {
                best = (kind, found);
            }
        }
    }
    let calibrator = Calibrator::fit(best.0, log_odds, labels);
    Calibrated { calibrator, log_loss: best.1.iter().sum::<f64>() / best.1.len() as f64 }
}

/// Log loss of each row under a calibrator that was fitted on the other folds.
fn losses(rows: &Rows, kind: Kind) -> Vec<f64> {
    let Rows { log_odds, labels, customers } = *rows;
    let mut losses = vec![0.0; labels.len()];
    let folds = if kind == Kind::Identity { 1 } else { FOLDS };
    for fold in 0..folds {
        let is_out = |row: usize| folds == 1 || fold_of(customers[row]) == fold;
        let rest: Vec<usize> = (0..labels.len()).filter(|&row| !is_out(row)).collect();
        let of_rest: Vec<f64> = rest.iter().map(|&row| log_odds[row]).collect();
        let labels_of_rest: Vec<bool> = rest.iter().map(|&row| labels[row]).collect();
        let calibrator = Calibrator::fit(kind, &of_rest, &labels_of_rest);
        for row in (0..labels.len()).filter(|&row| is_out(row)) {
            losses[row] = log_loss_of(calibrator.apply(log_odds[row]), labels[row]);
        }
    }
    losses
}

/// Whether `a` is lower than `b` by more than some standard errors of their difference.
fn wins((a, b): (&[f64], &[f64]), margin: f64) -> bool {
    let rows = a.len() as f64;
    let gains = || a.iter().zip(b).map(|(a, b)| b - a);
    let mean = gains().sum::<f64>() / rows;
    let variance = gains().map(|gain| (gain - mean).powi(2)).sum::<f64>() / (rows - 1.0);
    mean > margin * (variance / rows).sqrt()
}

/// One block of pooled rows.
struct Block {
    rows: f64,
    leavers: f64,
    log_odds: f64,
}

impl Block {
    fn rate(&self) -> f64 {
        self.leavers / self.rows
    }

    fn join(&mut self, other: &Block) {
        self.rows += other.rows;
        self.leavers += other.leavers;
        self.log_odds += other.log_odds;
    }
}

/// Pool adjacent violators (Ayer et al. 1955), linear between the blocks' centres so that the
/// ranking inside a block stays, and each rate half a leaver away from 0 and 1.
fn isotonic(log_odds: &[f64], labels: &[bool]) -> Calibrator {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_unstable_by(|&a, &b| log_odds[a].total_cmp(&log_odds[b]));
    // Blocks start with this many rows, which bounds the points.
    let least = labels.len().div_ceil(POINTS_MAX).max(1);
    let mut blocks: Vec<Block> = Vec::new();
    for rows in order.chunks(least) {
        blocks.push(Block {
            rows: rows.len() as f64,
            leavers: rows.iter().filter(|&&row| labels[row]).count() as f64,
            log_odds: rows.iter().map(|&row| log_odds[row]).sum(),
        });
        while let [.., below, last] = &mut blocks[..] {
            if below.rate() < last.rate() {
                break;
            }
            below.join(last);
            blocks.pop();
        }
    }
    let (mut from, mut to): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    for block in &blocks {
        let at = block.log_odds / block.rows;
        let rate = (block.leavers + 0.5) / (block.rows + 1.0);
        let value = (rate / (1.0 - rate)).ln();
        // Equal log-odds in two blocks give one point; a small block may be pulled below its
        // neighbour by the half leaver.
        if from.last().is_none_or(|&last| last < at) {
            from.push(at);
            to.push(to.last().map_or(value, |&last| value.max(last)));
        }
    }
    if from.is_empty() { Calibrator::Identity } else { Calibrator::Isotonic { from, to } }
}

fn interpolate(from: &[f64], to: &[f64], x: f64) -> f64 {
    match from.partition_point(|&point| point <= x) {
        0 => to[0] + x - from[0],
        n if n == from.len() => to[n - 1] + x - from[n - 1],
        n => {
            let share = (x - from[n - 1]) / (from[n] - from[n - 1]);
            to[n - 1] + share * (to[n] - to[n - 1])
        }
    }
}

#[cfg(test)]
mod tests;
