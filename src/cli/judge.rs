//! The second half of a fold: what the trained models are worth on validation, their calibrators,
//! their average, and then the risks of all customers.

use super::data::Data;
use super::fold::{ENSEMBLE, Learner, ModelResult};
use super::predictions::{PartScores, Predictions, View};
use crate::error::Result;
use crate::eval::blend::{self, Blend};
use crate::eval::calibrate::{self, Calibrated, Rows};
use crate::features::{Encoder, FittedFeatures};
use crate::panel::Part;
use crate::train::risk;

/// Snapshots that are encoded, predicted and written at a time: with 300 numbers each 80 MB.
const PIECE_SNAPSHOTS: usize = 1 << 16;

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
        let scores = self.predict(&weights, &calibrated, predictions)?;
        let result = |((weights, calibrated), scores)| ModelResult { weights, calibrated, scores };
        Ok(weights.into_iter().zip(calibrated).zip(scores).map(result).collect())
    }

    /// Log-odds of all models on the validation part.
    fn validation(&self) -> Result<Seen> {
        let mut seen = Seen { log_odds: vec![Vec::new(); self.learners.len()], ..Seen::default() };
        let mut customers = 0;
        self.each_piece(&[Part::Validation], &mut |view, encoder, chosen| {
            let mut last = None;
            for &s in chosen {
                let customer = Some(view.snapshots.customers[s as usize]);
                if customer != last {
                    (customers, last) = (customers + 1, customer);
                }
                seen.customers.push(customers);
                seen.labels.push(view.snapshots.churned[s as usize]);
            }
            for (learner, found) in self.learners.iter().zip(&mut seen.log_odds) {
                found.extend(learner.ready.log_odds(encoder, view.snapshots, chosen));
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
    ) -> Result<Vec<PartScores>> {
        let mut scores = vec![PartScores::default(); weights.len()];
        self.each_piece(self.data.predicted(), &mut |view, encoder, chosen| {
            let log_odds =
                |learner: &Learner| learner.ready.log_odds(encoder, view.snapshots, chosen);
            let found: Vec<Vec<f64>> = self.learners.iter().map(log_odds).collect();
            let models: Vec<&[f64]> = found.iter().map(Vec::as_slice).collect();
            for (at, (weights, scores)) in weights.iter().zip(&mut scores).enumerate() {
                let name = self.learners.get(at).map_or(ENSEMBLE, |learner| learner.name);
                let mean = |row| blend::mean(&models, weights, row);
                let mean: Vec<f64> = (0..chosen.len()).map(mean).collect();
                let raw: Vec<f64> = mean.iter().map(|&x| risk(x)).collect();
                let calibrator = &calibrated[at].calibrator;
                let risks: Vec<f64> = mean.iter().map(|&x| risk(calibrator.apply(x))).collect();
                predictions.add(name, view, (chosen, &raw, &risks), scores)?;
            }
            Ok(())
        })?;
        Ok(scores)
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
