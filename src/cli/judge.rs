//! The second half of a fold: what the trained models are worth on validation, their calibrators,
//! their average, and then the risks of all customers.

use super::curves::CurveScores;
use super::data::Data;
use super::fold::{ENSEMBLE, Learner, ModelResult};
use super::predictions::{Forecast, PartScores, Predictions, View};
use crate::bundle::Uncalibrated;
use crate::error::Result;
use crate::eval::blend::{self, Blend};
use crate::eval::calibrate::{self, Calibrated, Calibrator, Rows};
use crate::features::{Encoder, FittedFeatures};
use crate::panel::Part;
use crate::train::{end_at, risk};

/// Snapshots that are encoded, predicted and written at a time: with 300 numbers each 80 MB.
const PIECE_SNAPSHOTS: usize = 1 << 16;

/// Validation snapshots that calibrators and weights are learned from, about. Where there are more,
/// every so many-th customer gives all of its own: the rest would move neither by a tenth of its
/// standard error, and take hundreds of megabytes.
const SEEN_SNAPSHOTS_MAX: u64 = 1_000_000;

/// A fold whose models are trained.
pub struct Judge<'a> {
    pub data: &'a Data,
    pub fold: usize,
    pub features: &'a FittedFeatures,
    pub learners: &'a [Learner],
}

/// The validation part as all models see it.
#[derive(Default)]
struct Seen {
    /// By model.
    log_odds: Vec<Vec<f64>>,
    labels: Vec<bool>,
    customers: Vec<u32>,
}

/// Told some snapshots of the customers at hand.
type Take<'t> = &'t mut dyn FnMut(View, &Encoder, &[u32]) -> Result<()>;

impl Judge<'_> {
    /// Results of every model, and of their average where there are several.
    pub fn run(&self, predictions: &mut Predictions) -> Result<Vec<ModelResult>> {
        let seen = self.validation()?;
        let (labels, customers) = (&seen.labels[..], &seen.customers[..]);
        let choose = |log_odds: &Vec<f64>| calibrate::choose(&Rows { log_odds, labels, customers });
        let mut calibrated: Vec<Calibrated> = seen.log_odds.iter().map(choose).collect();
        let models: Vec<&[f64]> = seen.log_odds.iter().map(Vec::as_slice).collect();
        let one = |at: usize| (0..models.len()).map(|m| f64::from(u8::from(m == at))).collect();
        let mut weights: Vec<Vec<f64>> = (0..models.len()).map(one).collect();
        if models.len() > 1 {
            let Blend { weights: found, calibrated: of_mean } =
                blend::learn(&models, labels, customers);
            weights.push(found);
            calibrated.push(of_mean);
        }
        let (scores, curves) = self.predict(&weights, &calibrated, predictions)?;
        let result = |(((weights, calibrated), scores), curves)| ModelResult {
            weights,
            calibrated,
            scores,
            curves,
        };
        Ok(weights.into_iter().zip(calibrated).zip(scores).zip(curves).map(result).collect())
    }

    /// Log-odds of all models on the validation part, or on a sample of its customers.
    fn validation(&self) -> Result<Seen> {
        let mut seen = Seen { log_odds: vec![Vec::new(); self.learners.len()], ..Seen::default() };
        let [_, (_, snapshots, _), ..] = self.data.facts.counts[self.fold];
        let mut customers = 0;
        self.each_piece(&[Part::Validation], &mut |view, encoder, piece| {
            let (mut last, mut chosen) = (None, Vec::with_capacity(piece.len()));
            for &s in piece {
                let customer = Some(view.snapshots.customers[s as usize]);
                if customer != last {
                    (customers, last) = (customers + 1, customer);
                }
                if is_seen(customers, snapshots) {
                    chosen.push(s);
                    seen.customers.push(customers);
                    seen.labels.push(view.snapshots.churned[s as usize]);
                }
            }
            for (learner, found) in self.learners.iter().zip(&mut seen.log_odds) {
                found.extend(learner.ready.log_odds(encoder, view.snapshots, &chosen));
            }
            Ok(())
        })?;
        Ok(seen)
    }

    /// Predicts all customers, and writes every model's risks.
    fn predict(
        &self,
        weights: &[Vec<f64>],
        calibrated: &[Calibrated],
        predictions: &mut Predictions,
    ) -> Result<(Vec<PartScores>, Vec<CurveScores>)> {
        let mut scores = vec![PartScores::default(); weights.len()];
        let mut curves = vec![CurveScores::default(); weights.len()];
        self.each_piece(self.data.predicted(), &mut |view, encoder, chosen| {
            let outlook =
                |learner: &Learner| learner.ready.outlook(encoder, view.snapshots, chosen);
            let mut found: Vec<Uncalibrated> = self.learners.iter().map(outlook).collect();
            let mut courses: Vec<Vec<f64>> =
                found.iter_mut().map(|found| std::mem::take(&mut found.curves)).collect();
            let models: Vec<&[f64]> = found.iter().map(|found| &found.log_odds[..]).collect();
            for (at, (weights, scores)) in weights.iter().zip(&mut scores).enumerate() {
                let name = self.learners.get(at).map_or(ENSEMBLE, |learner| learner.name);
                let mean = |row| blend::mean(&models, weights, row);
                let mean: Vec<f64> = (0..chosen.len()).map(mean).collect();
                // The average has no curve: it would be another one than that of its risk.
                let course = courses.get_mut(at).map(std::mem::take).unwrap_or_default();
                let forecast = forecast(&calibrated[at].calibrator, &mean, course);
                predictions.add(name, view, (chosen, &forecast), scores)?;
                curves[at].add(view, chosen, &forecast);
            }
            Ok(())
        })?;
        self.open_windows(calibrated, &mut curves)?;
        Ok((scores, curves))
    }

    /// Curves of the windows behind the test part that were seen in part.
    fn open_windows(&self, calibrated: &[Calibrated], curves: &mut [CurveScores]) -> Result<()> {
        if !self.learners.iter().any(has_curve) {
            return Ok(());
        }
        self.data.each(self.fold, &mut |view| {
            let encoder = Encoder::new(self.features, view.panel)?;
            let models = self.learners.iter().zip(calibrated).zip(curves.iter_mut());
            for ((learner, calibrated), curves) in models.filter(|((of, _), _)| has_curve(of)) {
                curves.add_open(view, &|open| {
                    let all: Vec<u32> = (0..open.len() as u32).collect();
                    let Uncalibrated { log_odds, curves } =
                        learner.ready.outlook(&encoder, open, &all);
                    forecast(&calibrated.calibrator, &log_odds, curves)
                });
            }
            Ok(())
        })
    }

    /// Hands out the snapshots of some parts, piece by piece.
    fn each_piece(&self, parts: &[Part], take: Take) -> Result<()> {
        self.data.each(self.fold, &mut |view| {
            let encoder = Encoder::new(self.features, view.panel)?;
            let of = &view.fold.parts;
            let is_asked = |&s: &u32| parts.contains(&of[s as usize]);
            let chosen: Vec<u32> = (0..of.len() as u32).filter(is_asked).collect();
            let customers = &view.snapshots.customers;
            let mut rest = chosen.as_slice();
            while !rest.is_empty() {
                // A sequence model reads a customer once: no customer in two pieces.
                let last = customers[rest[rest.len().min(PIECE_SNAPSHOTS) - 1] as usize];
                let end = rest.partition_point(|&s| customers[s as usize] <= last);
                let (piece, tail) = rest.split_at(end);
                take(view, &encoder, piece)?;
                rest = tail;
            }
            Ok(())
        })
    }
}

/// Whether a customer is of the sample, spread evenly over all, where there are so many snapshots.
fn is_seen(customer: u32, snapshots: u64) -> bool {
    let before = |n: u64| n * SEEN_SNAPSHOTS_MAX / snapshots.max(SEEN_SNAPSHOTS_MAX);
    before(u64::from(customer) + 1) > before(u64::from(customer))
}

fn has_curve(learner: &Learner) -> bool {
    learner.form.hazards() > 1
}

/// Risks before and after calibration; curves end at the calibrated risk.
fn forecast(calibrator: &Calibrator, log_odds: &[f64], mut curves: Vec<f64>) -> Forecast {
    let raw_risks = log_odds.iter().map(|&x| risk(x)).collect();
    let risks: Vec<f64> = log_odds.iter().map(|&x| risk(calibrator.apply(x))).collect();
    end_at(&mut curves, &risks);
    Forecast { raw_risks, risks, curves }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_all_seen_and_many_as_a_sample_of_bounded_size() {
        let seen = |snapshots: u64| (1..=6_000u32).filter(|&c| is_seen(c, snapshots)).count();
        for few in [0, 6_000, SEEN_SNAPSHOTS_MAX] {
            assert_eq!(seen(few), 6_000);
        }
        assert_eq!(seen(6 * SEEN_SNAPSHOTS_MAX), 1_000);
        assert!((1_998..=2_002).contains(&seen(3 * SEEN_SNAPSHOTS_MAX)));
        // In every fold alike.
        let kept = (1..=30_000u32).filter(|&c| is_seen(c, 6 * SEEN_SNAPSHOTS_MAX));
        let mut folds = [0; calibrate::FOLDS as usize];
        kept.for_each(|c| folds[calibrate::fold_of(c) as usize] += 1);
        assert!(folds.iter().all(|&n| (900..1_100).contains(&n)), "{folds:?}");
    }
}
