//! The networks: an MLP over attributes, a GRU over months, and both joined.
//!
//! All of them map a [`Batch`](crate::tensors::Batch) to log-odds `[B, T, K]`: at each of the T
//! months of each of the B customers (T = 1 for the MLP, whose rows are snapshots), of churn in the
//! window (K = 1) or of the hazards of the K months of the horizon. The MLP gives those of each of
//! its members, `[B, T, members K]`, the first member's first.

mod blocks;
mod gru;
mod init;
mod inputs;
mod mlp;
pub mod ops;
pub mod params;
mod plain;
mod size;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::effort::{self, Size};
use crate::config::{GruSpec, MlpShape, ModelKind, Models};
use crate::features::FittedFeatures;
use crate::seeds::Seeds;
use crate::tensors::Batch;

pub use gru::{GruNet, HybridNet};
pub use mlp::MlpNet;
pub use ops::native::mlp::Mlp as NativeMlp;
pub use plain::PlainMlp;

/// What a network's shape follows from; it is stored in the bundle.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Architecture {
    pub kind: ModelKind,
    pub mlp: MlpShape,
    pub gru: GruSpec,
    /// Numbers per customer (hybrid) or snapshot (mlp).
    pub numbers: usize,
    /// Borders of each number's bins, rising; empty for a number that is taken as it is.
    #[serde(default)]
    pub borders: Vec<Vec<f32>>,
    /// Codes of each category.
    pub categories: Vec<usize>,
    /// Of each number, then of each category, from 0 to 1: how near to its full size it begins in
    /// the dense network. Empty: all do at full size. Nothing but a training's start looks at it.
    #[serde(skip)]
    pub relevance: Vec<f32>,
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
    /// `examples`: of the train part, from which the sizes left to `auto` follow.
    pub fn new(
        kind: ModelKind,
        models: &Models,
        features: &FittedFeatures,
        (hazards, examples): (usize, usize),
    ) -> Self {
        let (numbers, mut borders) = match kind {
            ModelKind::Mlp => {
                let months = features.month_width() + features.window_width();
                (features.static_width() + months, features.snapshot_borders())
            }
            ModelKind::Static | ModelKind::Gru | ModelKind::Hybrid => {
                (features.static_width(), features.static_borders())
            }
        };
        let categories = features.category_codes();
        let mlp = effort::shape(
            kind,
            models,
            Size {
                examples,
                numbers: borders.iter().filter(|borders| !borders.is_empty()).count(),
                others: borders.iter().filter(|borders| borders.is_empty()).count()
                    + inputs::embedded_width(&categories, models.mlp.embedding_max),
            },
        );
        borders.iter_mut().for_each(|borders| thin(borders, mlp.bins));
        Architecture {
            kind,
            mlp,
            gru: models.gru.clone(),
            numbers,
            borders,
            categories,
            relevance: Vec::new(),
            months: features.month_width(),
            hazards,
        }
    }

    /// What is wrong with one that comes from elsewhere, if anything is.
    pub fn fault(&self) -> Option<String> {
        let rises = |borders: &Vec<f32>| {
            let finite = borders.iter().all(|border| border.is_finite());
            finite && borders.len() != 1 && borders.is_sorted_by(|low, high| low < high)
        };
        if self.borders.len() != self.numbers || !self.borders.iter().all(rises) {
            return Some("the borders of the bins do not rise, or are not of all numbers".into());
        }
        let members = self.mlp.members > 0 && (!self.kind.is_sequence() || self.mlp.members == 1);
        if !members {
            return Some("the network has no members, or too many".into());
        }
        self.fault_of_sizes()
    }

    /// Of each column that the inputs make.
    fn column_relevance(&self) -> Vec<f32> {
        let (numbers, categories) = self.relevance.split_at(self.numbers);
        inputs::spread_over(self, numbers, categories)
    }

    /// A network with random weights, the same on every device.
    pub fn init(&self, seeds: &Seeds, device: &Device) -> Network {
        let network = match self.kind {
            ModelKind::Static | ModelKind::Mlp => Network::Mlp(MlpNet::new(self, device)),
            ModelKind::Gru => Network::Gru(GruNet::new(self, device)),
            ModelKind::Hybrid => Network::Hybrid(HybridNet::new(self, device)),
        };
        match init::randomise(network, seeds) {
            Network::Mlp(network) if !self.relevance.is_empty() => {
                Network::Mlp(network.favour(&self.column_relevance()))
            }
            network => network,
        }
    }
}

/// Leaves the borders of at most `bins` bins, evenly among those that there are.
fn thin(borders: &mut Vec<f32>, bins: usize) {
    let have = borders.len().saturating_sub(1);
    if bins == 0 {
        borders.clear();
    } else if have > bins {
        *borders = (0..=bins).map(|border| borders[border * have / bins]).collect();
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
    /// Log-odds `[B, T, members K]`.
    pub fn forward(&self, batch: &Batch) -> Tensor<3> {
        match self {
            Network::Mlp(net) => net.forward(batch),
            Network::Gru(net) => net.forward(batch),
            Network::Hybrid(net) => net.forward(batch),
        }
    }
}
