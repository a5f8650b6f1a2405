//! The next trial of a search: a tree-structured Parzen estimator (Bergstra et al. 2011) with the
//! defaults of Optuna 5's `TPESampler`: multivariate, 10 trials at random, the best tenth against
//! the rest, 24 candidates, trials under way counted among the rest.

use super::parzen::{Parzen, uniform};
use super::space::{Domain, Params, Space};
use crate::seeds::Seeds;

/// Trials at random before anything is concluded.
const STARTUP_TRIALS: usize = 10;

/// Points drawn from the density of the good trials; the one that is most typical of them wins.
const CANDIDATES: usize = 24;

/// Of the trials, the share and the largest number that count as good.
const GOOD_SHARE: f64 = 0.1;
const GOOD_MAX: usize = 25;

/// A trial as the sampler sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen<'a> {
    pub number: u32,
    pub params: &'a Params,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// How far it came (more is better, whatever the loss) and its loss there.
    Loss { rungs: usize, loss: f64 },
    /// Nothing is known yet. It counts as bad, so that workers keep apart ("constant liar",
    /// Ginsbourger et al. 2010).
    Running,
}

/// Draws the parameters of trial `number`: a function of the seeds, the number and what was seen.
pub fn suggest(space: &Space, seeds: &Seeds, number: u32, seen: &[Seen]) -> Params {
    let mut rng = seeds.stream("tpe", u64::from(number));
    let mut finished: Vec<&Seen> =
        seen.iter().filter(|trial| trial.outcome != Outcome::Running).collect();
    if finished.len() < STARTUP_TRIALS {
        let anywhere = |domain: &Domain| match (domain, domain.bounds()) {
            (_, Some((low, high))) => low + (high - low) * uniform(&mut rng),
            (Domain::Choices(choices), _) => (choices.len() as f64 * uniform(&mut rng)).floor(),
            (_, None) => unreachable!("only choices have no bounds"),
        };
        let coordinates: Vec<f64> = space.0.values().map(anywhere).collect();
        return space.params(&coordinates);
    }
    finished.sort_by(|a, b| rank(a).total_cmp(&rank(b)).then(loss(a).total_cmp(&loss(b))));
    let good = ((GOOD_SHARE * finished.len() as f64).ceil() as usize).min(GOOD_MAX);
    let numbers: Vec<u32> = finished[..good].iter().map(|trial| trial.number).collect();
    let (good, bad): (Vec<&Seen>, Vec<&Seen>) =
        seen.iter().partition(|trial| numbers.contains(&trial.number));
    let density = |mut side: Vec<&Seen>| {
        side.sort_by_key(|trial| trial.number);
        let points: Vec<Vec<f64>> =
            side.iter().filter_map(|trial| space.coordinates(trial.params)).collect();
        Parzen::new(space, &points.iter().map(Vec::as_slice).collect::<Vec<_>>())
    };
    let (good, bad) = (density(good), density(bad));
    let mut best = (f64::NEG_INFINITY, Vec::new());
    for _ in 0..CANDIDATES {
        let candidate = good.sample(&mut rng);
        let gain = good.ln_density(&candidate) - bad.ln_density(&candidate);
        if best.1.is_empty() || gain > best.0 {
            best = (gain, candidate);
        }
    }
    space.params(&best.1)
}

/// Smaller is better.
fn rank(trial: &Seen) -> f64 {
    match trial.outcome {
        Outcome::Loss { rungs, .. } => -(rungs as f64),
        Outcome::Running => f64::INFINITY,
    }
}

fn loss(trial: &Seen) -> f64 {
    match trial.outcome {
        Outcome::Loss { loss, .. } => loss,
        Outcome::Running => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests;
