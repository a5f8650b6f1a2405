//! Models with their fitted features: panel in, risks out.

use burn::tensor::Device;

use super::cores::Cores;
use super::member::{Learned, Ready};
use super::{Model, golden};
use crate::error::Result;
use crate::eval::Calibrator;
use crate::features::{Encoder, FittedFeatures};
use crate::panel::{Intake, Panel, Snapshots};
use crate::train::{end_at, risk};

/// Snapshots that one thread encodes and computes together. What they take in memory is a few
/// megabytes, whatever the number of customers. No number depends on it: every kernel sums a row by
/// itself, in the same order wherever it stands.
const CHUNK_SNAPSHOTS: usize = 2048;

pub struct Scorer {
    /// Each with its weight.
    members: Vec<(f64, Ready)>,
    calibrator: Calibrator,
    features: FittedFeatures,
    /// None on a device of its own, which takes one chunk after the other.
    cores: Option<Cores>,
}

/// What a bundle says of snapshots, in their order, after calibration.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// Of churn in the label's window.
    pub risks: Vec<f64>,
    /// Of churn up to each month of the horizon, `[snapshots, K]`; empty without a hazard head.
    pub curves: Vec<f64>,
}

impl Scorer {
    /// Puts what was learned on the device, one entry per member of the model.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind) if something does not fit the features.
    pub fn new(
        model: &Model,
        features: FittedFeatures,
        learned: &[Learned],
        device: &Device,
    ) -> Result<Self> {
        let ready = |(member, learned): (&super::Member, &Learned)| {
            Ok((member.weight, learned.ready(&member.form, &features, device)?))
        };
        let members = model.members.iter().zip(learned).map(ready).collect::<Result<Vec<_>>>()?;
        let cores = (*device == Device::flex()).then(Cores::new).transpose()?;
        Ok(Scorer { members, calibrator: model.calibrator.clone(), features, cores })
    }

    pub fn features(&self) -> &FittedFeatures {
        &self.features
    }

    /// The calibrated risk of each snapshot, in their order.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind) if the panel has other columns than the model.
    pub fn risks(&self, panel: &Panel, snapshots: &Snapshots) -> Result<Vec<f64>> {
        self.outlook(panel, snapshots).map(|outlook| outlook.risks)
    }

    /// The risks with their course.
    ///
    /// # Errors
    /// Those of [`Scorer::risks`].
    pub fn outlook(&self, panel: &Panel, snapshots: &Snapshots) -> Result<Outlook> {
        self.by(panel, snapshots, |count, chunk| self.in_parts(count, chunk))
    }

    /// The same on the calling thread, for a part of [`Scorer::in_parts`].
    ///
    /// # Errors
    /// Those of [`Scorer::risks`].
    pub fn outlook_alone(&self, panel: &Panel, snapshots: &Snapshots) -> Result<Outlook> {
        self.by(panel, snapshots, |count, chunk| (0..count).map(chunk).collect())
    }

    /// What `work` makes of each of `count` parts, in their order: each part on a core of its own, or
    /// one after the other where a device of its own computes.
    pub fn in_parts<R: Send>(&self, count: usize, work: impl Fn(usize) -> R + Sync) -> Vec<R> {
        match &self.cores {
            Some(cores) if count > 1 => cores.map(count, work),
            _ => (0..count).map(work).collect(),
        }
    }

    fn by(
        &self,
        panel: &Panel,
        snapshots: &Snapshots,
        run: impl FnOnce(usize, &(dyn Fn(usize) -> Outlook + Sync)) -> Vec<Outlook>,
    ) -> Result<Outlook> {
        let encoder = Encoder::new(&self.features, panel)?;
        let chunk = |at: usize| {
            let from = at * CHUNK_SNAPSHOTS;
            let chosen = from..(from + CHUNK_SNAPSHOTS).min(snapshots.len());
            self.chunk(&encoder, snapshots, &chosen.map(|at| at as u32).collect::<Vec<_>>())
        };
        let count = snapshots.len().div_ceil(CHUNK_SNAPSHOTS);
        let parts = run(count, &chunk);
        let mut outlook =
            Outlook { risks: Vec::with_capacity(snapshots.len()), curves: Vec::new() };
        for part in parts {
            outlook.risks.extend(part.risks);
            outlook.curves.extend(part.curves);
        }
        Ok(outlook)
    }

    fn chunk(&self, encoder: &Encoder, snapshots: &Snapshots, chosen: &[u32]) -> Outlook {
        let (mut mean, mut curves) = (vec![0.0; chosen.len()], Vec::new());
        for (weight, member) in &self.members {
            let found = member.outlook(encoder, snapshots, chosen);
            mean.iter_mut().zip(found.log_odds).for_each(|(mean, x)| *mean += weight * x);
            curves = found.curves;
        }
        // An average of models has no curve, see `Model::curve_months`.
        if self.members.len() > 1 {
            curves.clear();
        }
        let risks: Vec<f64> = mean.into_iter().map(|x| risk(self.calibrator.apply(x))).collect();
        end_at(&mut curves, &risks);
        Outlook { risks, curves }
    }

    /// Golden rows of some customers, each with its history up to a calendar month.
    pub fn golden(
        &self,
        panel: &Panel,
        places: &[(usize, usize)],
        intake: &Intake,
    ) -> Result<Vec<super::GoldenRow>> {
        let mut raw: Vec<_> =
            places.iter().map(|&(customer, month)| panel.raw(customer, month)).collect();
        // Who they are is nobody's business.
        for (number, customer) in raw.iter_mut().enumerate() {
            customer.customer_id = format!("golden-{}", number + 1);
        }
        let risks = golden::score(&raw, self, intake)?;
        let row = |(customer, risk)| super::GoldenRow { risk, customer };
        Ok(raw.into_iter().zip(risks).map(row).collect())
    }
}
