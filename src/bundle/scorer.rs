//! Models with their fitted features: panel in, risks out.

use burn::tensor::Device;

use super::member::{Learned, Ready};
use super::{Model, golden};
use crate::error::Result;
use crate::eval::Calibrator;
use crate::features::{Encoder, FittedFeatures};
use crate::panel::{Intake, Panel, Snapshots};
use crate::train::risk;

pub struct Scorer {
    /// Each with its weight.
    members: Vec<(f64, Ready)>,
    calibrator: Calibrator,
    features: FittedFeatures,
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
        Ok(Scorer { members, calibrator: model.calibrator.clone(), features })
    }

    /// The calibrated risk of each snapshot, in their order.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::error::Kind) if the panel has other columns than the model.
    pub fn risks(&self, panel: &Panel, snapshots: &Snapshots) -> Result<Vec<f64>> {
        let chosen: Vec<u32> = (0..snapshots.len() as u32).collect();
        let encoder = Encoder::new(&self.features, panel)?;
        let mut mean = vec![0.0; chosen.len()];
        for (weight, member) in &self.members {
            let found = member.log_odds(&encoder, snapshots, &chosen);
            mean.iter_mut().zip(found).for_each(|(mean, x)| *mean += weight * x);
        }
        Ok(mean.into_iter().map(|x| risk(self.calibrator.apply(x))).collect())
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
