//! A network with its fitted features: panel in, risks out.

use burn::module::Module;
use burn::tensor::Device;

use super::Model;
use crate::config::ModelKind;
use crate::error::Result;
use crate::features::{Encoder, FittedFeatures};
use crate::nn::Network;
use crate::nn::params::{self, Parameters};
use crate::panel::{Panel, Snapshots};
use crate::seeds::Seeds;
use crate::tensors::{Examples, Resident, Targets};
use crate::train::{Reading, end_at, outlook, risk};

pub struct Scorer {
    kind: ModelKind,
    network: Network,
    features: FittedFeatures,
    reading: Reading,
    device: Device,
}

/// What a bundle says of snapshots, in their order.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// Of churn in the label's window.
    pub risks: Vec<f64>,
    /// Of churn up to each month of the horizon, `[snapshots, K]`; empty without a hazard head.
    pub curves: Vec<f64>,
}

impl Scorer {
    /// Puts the parameters on the device.
    pub fn new(
        model: &Model,
        features: FittedFeatures,
        parameters: &Parameters,
        device: &Device,
    ) -> Result<Self> {
        let fresh = model.architecture.init(&Seeds::new(0), device);
        Ok(Scorer {
            kind: model.architecture.kind,
            network: params::load(fresh, parameters)?.valid(),
            features,
            reading: Reading { hazards: model.architecture.hazards, shift: model.log_odds_shift },
            device: device.clone(),
        })
    }

    /// The risk of each snapshot, in their order.
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
        let chosen: Vec<u32> = (0..snapshots.len() as u32).collect();
        let encoder = Encoder::new(&self.features, panel)?;
        let targets = Targets::Window;
        let examples = Examples { encoder: &encoder, snapshots, chosen: &chosen, targets };
        let data = Resident::of(&examples, self.kind, &self.device);
        let mut found = outlook(&self.network, &data, self.reading);
        let risks: Vec<f64> = found.log_odds.into_iter().map(risk).collect();
        end_at(&mut found.curves, &risks);
        Ok(Outlook { risks, curves: found.curves })
    }

    /// Golden rows of some customers, each with its history up to a calendar month.
    pub fn golden(
        &self,
        panel: &Panel,
        places: &[(usize, usize)],
        model: &Model,
    ) -> Result<Vec<super::GoldenRow>> {
        let mut raw: Vec<_> =
            places.iter().map(|&(customer, month)| panel.raw(customer, month)).collect();
        // Who they are is nobody's business.
        for (number, customer) in raw.iter_mut().enumerate() {
            customer.customer_id = format!("golden-{}", number + 1);
        }
        let risks = super::golden::score(&raw, self, model)?;
        let row = |(customer, risk)| super::GoldenRow { risk, customer };
        Ok(raw.into_iter().zip(risks).map(row).collect())
    }
}
