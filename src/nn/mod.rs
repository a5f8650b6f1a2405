//! The networks: an MLP over attributes, a GRU over months, and both joined.
//!
//! All of them map a [`Batch`](crate::tensors::Batch) to log-odds `[B, T, K]`: at each of the T
//! months of each of the B customers (T = 1 for the MLP, whose rows are snapshots), of churn in the
//! window (K = 1) or of the hazards of the K months of the horizon.

mod blocks;
mod gru;
mod init;
mod mlp;
pub mod ops;
pub mod params;
mod plain;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::{GruSpec, MlpSpec, ModelKind, Models};
use crate::features::FittedFeatures;
use crate::seeds::Seeds;
use crate::tensors::Batch;

pub use gru::{GruNet, HybridNet};
pub use mlp::MlpNet;
pub use plain::PlainMlp;

/// What a network's shape follows from; it is stored in the bundle.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Architecture {
    pub kind: ModelKind,
    pub mlp: MlpSpec,
    pub gru: GruSpec,
    /// Numbers per customer (hybrid) or snapshot (mlp).
    pub numbers: usize,
    /// Codes of each category.
    pub categories: Vec<usize>,
    /// Numbers per month.
    pub months: usize,
    /// Months of the horizon whose hazards are predicted; 1 = the window.
    #[serde(default = "one")]
    pub hazards: usize,
}

/// Networks from before there were hazards predict the window.
fn one() -> usize {
    1
}

impl Architecture {
    pub fn new(
        kind: ModelKind,
        models: &Models,
        features: &FittedFeatures,
        hazards: usize,
    ) -> Self {
        let numbers = match kind {
            ModelKind::Mlp => {
                features.static_width() + features.month_width() + features.window_width()
            }
            ModelKind::Static | ModelKind::Gru | ModelKind::Hybrid => features.static_width(),
        };
        Architecture {
            kind,
            mlp: models.mlp.clone(),
            gru: models.gru.clone(),
            numbers,
            categories: features.category_codes(),
            months: features.month_width(),
            hazards,
        }
    }

    /// A network with random weights, the same on every device.
    pub fn init(&self, seeds: &Seeds, device: &Device) -> Network {
        let network = match self.kind {
            ModelKind::Static | ModelKind::Mlp => Network::Mlp(MlpNet::new(self, device)),
            ModelKind::Gru => Network::Gru(GruNet::new(self, device)),
            ModelKind::Hybrid => Network::Hybrid(HybridNet::new(self, device)),
        };
        init::randomise(network, seeds)
    }
}

/// One of the three networks.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "one value per run; boxing buys nothing")]
pub enum Network {
    Mlp(MlpNet),
    Gru(GruNet),
    Hybrid(HybridNet),
}

impl Network {
    /// Log-odds `[B, T, K]`.
    pub fn forward(&self, batch: &Batch) -> Tensor<3> {
        match self {
            Network::Mlp(net) => net.forward(batch),
            Network::Gru(net) => net.forward(batch),
            Network::Hybrid(net) => net.forward(batch),
        }
    }
}
