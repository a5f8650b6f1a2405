//! The models that a bundle is made of: as they are stored, and ready to compute.

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::path::Path;

use crate::baseline::Logistic;
use crate::baseline::trees::Trees;
use crate::config::ModelKind;
use crate::error::{Kind, Result};
use crate::features::{self, Encoder, FittedFeatures, RawKind};
use crate::nn::params::{self, Parameters};
use crate::nn::{Architecture, NativeMlp, Network};
use crate::panel::Snapshots;
use crate::seeds::Seeds;
use crate::tensors::{Examples, Resident, Targets};
use crate::train::{self, Reading};

/// Most models in one bundle: more would be an attack, or a mistake of as much cost.
pub(super) const MEMBERS_MAX: usize = 64;

/// Longest name of a model, which is also that of its file.
const NAME_BYTES_MAX: usize = 40;

/// A model and its share in the risk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Small letters, digits and hyphens; its file begins with it.
    pub name: String,
    /// Of its log-odds in the mean.
    pub weight: f64,
    #[serde(flatten)]
    pub form: Form,
}

/// What a member is, apart from the numbers that it learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "form")]
pub enum Form {
    Network {
        architecture: Box<Architecture>,
        /// Added to the network's log-odds, of the window or of each hazard.
        log_odds_shift: f32,
    },
    Trees,
    Logistic,
}

/// The numbers that a member learned; a file each.
#[derive(Debug, Clone, PartialEq)]
pub enum Learned {
    Network(Parameters),
    Trees(Trees),
    Logistic(Logistic),
}

/// A model that can compute.
pub enum Ready {
    /// An MLP on a CPU.
    Mlp {
        kind: ModelKind,
        network: Box<NativeMlp>,
        reading: Reading,
    },
    Network {
        kind: ModelKind,
        network: Box<Network>,
        reading: Reading,
        device: Device,
    },
    Trees(Trees),
    Logistic(Logistic),
}

/// What a model says of snapshots, in their order, before calibration.
#[derive(Debug, Clone, PartialEq)]
pub struct Uncalibrated {
    /// Of churn in the label's window.
    pub log_odds: Vec<f64>,
    /// Risk of churn up to each month of the horizon, `[snapshots, K]`; empty without a hazard head.
    pub curves: Vec<f64>,
}

impl Form {
    /// Months whose hazards it predicts; 1 = the window.
    pub fn hazards(&self) -> usize {
        match self {
            Form::Network { architecture, .. } => architecture.hazards,
            Form::Trees | Form::Logistic => 1,
        }
    }
}

impl Member {
    /// The name of its file.
    pub fn file(&self) -> String {
        match self.form {
            Form::Network { .. } => format!("{}.safetensors", self.name),
            Form::Trees | Form::Logistic => format!("{}.json", self.name),
        }
    }

    pub(super) fn hazards(&self) -> usize {
        self.form.hazards()
    }

    /// What is wrong with a member that comes from elsewhere, if anything is.
    pub(super) fn fault(&self) -> Option<String> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let length = 1..=NAME_BYTES_MAX;
        if !self.name.bytes().all(plain) || !length.contains(&self.name.len()) {
            return Some(format!("`{}` is no name of a model", self.name.escape_default()));
        }
        if super::RESERVED.contains(&&*self.file()) {
            return Some(format!("the name `{}` is taken by a file of the bundle", self.name));
        }
        let share = 0.0..=1.0;
        (!share.contains(&self.weight)).then(|| format!("`{}` has no share in 0..1", self.name))
    }
}

impl Learned {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        match self {
            Learned::Network(parameters) => params::to_safetensors(parameters),
            Learned::Trees(trees) => super::json(trees),
            Learned::Logistic(logistic) => super::json(logistic),
        }
    }

    /// Out of the checked bytes of a file; `path` is for messages.
    pub(super) fn parse(form: &Form, bytes: &[u8], path: &Path) -> Result<Self> {
        Ok(match form {
            Form::Network { .. } => Learned::Network(params::from_safetensors(bytes, path)?),
            Form::Trees => Learned::Trees(parse(bytes, path)?),
            Form::Logistic => Learned::Logistic(parse(bytes, path)?),
        })
    }

    /// Puts the numbers where they compute, if they fit the features.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if they do not.
    pub fn ready(&self, form: &Form, fitted: &FittedFeatures, device: &Device) -> Result<Ready> {
        match (self, form) {
            (Learned::Network(parameters), Form::Network { architecture, log_odds_shift }) => {
                let fault = architecture.fault().or_else(|| architecture.misfit(fitted));
                if let Some(fault) = fault {
                    return Err(Kind::Corrupt.msg(fault));
                }
                // Before a network is made that nothing holds.
                let (have, need) = (params::count(parameters), architecture.parameters());
                if have != need {
                    let message = format!("holds {have} numbers, the network needs {need}");
                    return Err(Kind::Corrupt.msg(message));
                }
                if !params::are_finite(parameters) {
                    return Err(Kind::Corrupt.msg("holds a number that is not finite"));
                }
                let fresh = architecture.init(&Seeds::new(0), device);
                let network = params::load(fresh, parameters)?.valid();
                let kind = architecture.kind;
                let reading = Reading { hazards: architecture.hazards, shift: *log_odds_shift };
                Ok(match network {
                    Network::Mlp(network) if *device == Device::flex() => {
                        let network = Box::new(network.native(architecture.numbers));
                        Ready::Mlp { kind, network, reading }
                    }
                    network => {
                        let (network, device) = (Box::new(network), device.clone());
                        Ready::Network { kind, network, reading, device }
                    }
                })
            }
            (Learned::Trees(trees), Form::Trees) => {
                let is_category = |kind| matches!(kind, RawKind::Category { .. });
                let columns = fitted.raw_columns().into_iter().map(|column| column.kind);
                if trees.categories != columns.map(is_category).collect::<Vec<_>>() {
                    return Err(Kind::Corrupt.msg("trees were fitted on other features"));
                }
                match trees.fault() {
                    Some(fault) => Err(Kind::Corrupt.msg(fault)),
                    None => Ok(Ready::Trees(trees.clone())),
                }
            }
            (Learned::Logistic(logistic), Form::Logistic) => {
                let numbers = logistic.weights.iter().chain([&logistic.bias]);
                if logistic.weights.len() != features::design_width(fitted)
                    || !numbers.into_iter().all(|x| x.is_finite())
                {
                    return Err(Kind::Corrupt.msg("the weights do not fit the features"));
                }
                Ok(Ready::Logistic(logistic.clone()))
            }
            _ => Err(Kind::Corrupt.msg("the member is of another form than its file")),
        }
    }

    /// How many they are.
    pub fn count(&self) -> u64 {
        match self {
            Learned::Network(parameters) => params::count(parameters),
            Learned::Trees(trees) => trees.parameters(),
            Learned::Logistic(logistic) => logistic.weights.len() as u64 + 1,
        }
    }
}

impl Ready {
    /// Log-odds of the chosen snapshots, in their order, before calibration.
    pub fn log_odds(&self, encoder: &Encoder, snapshots: &Snapshots, chosen: &[u32]) -> Vec<f64> {
        self.outlook(encoder, snapshots, chosen).log_odds
    }

    /// The same with their course.
    pub fn outlook(
        &self,
        encoder: &Encoder,
        snapshots: &Snapshots,
        chosen: &[u32],
    ) -> Uncalibrated {
        let log_odds = match self {
            Ready::Mlp { kind, network, reading } => {
                let outputs = network.outputs(chosen.len(), &|row, numbers, codes| {
                    let (customer, since) = snapshots.place(encoder.panel(), chosen[row] as usize);
                    match kind {
                        ModelKind::Static => encoder.fixed(customer, numbers),
                        _ => encoder.snapshot(customer, since, numbers),
                    }
                    encoder.codes(customer, codes);
                });
                let train::Outlook { log_odds, curves } =
                    train::read(&outputs, chosen.len(), *reading);
                let log_odds = log_odds.into_iter().map(f64::from).collect();
                return Uncalibrated { log_odds, curves };
            }
            Ready::Network { kind, network, reading, device } => {
                let targets = Targets::Window;
                let examples = Examples { encoder, snapshots, chosen, targets };
                let data = Resident::of(&examples, *kind, device);
                let train::Outlook { log_odds, curves } = train::outlook(network, &data, *reading);
                let log_odds = log_odds.into_iter().map(f64::from).collect();
                return Uncalibrated { log_odds, curves };
            }
            Ready::Trees(trees) => {
                trees.log_odds(&features::raw_block(encoder, snapshots, chosen).values)
            }
            Ready::Logistic(logistic) => {
                logistic.log_odds(&features::design(encoder, snapshots, chosen).values)
            }
        };
        Uncalibrated { log_odds, curves: Vec::new() }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Kind::Corrupt.at(path).msg(error.to_string()))
}
