//! The model half of the configuration: features, networks, training, evaluation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auto::Auto;
use super::effort::Effort;

/// What is computed from the panel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureSpec {
    /// How numbers are scaled.
    pub scaling: Scaling,
    /// Take the signed logarithm, sign(x) log(1 + |x|), of a number whose skewness in the train
    /// split is above this; heavy tails otherwise swamp the scale.
    pub log_above_skewness: f64,
    /// A category seen in fewer train snapshots than this falls into the rare bucket.
    pub category_rows_min: u32,
    /// Largest number of named categories a column keeps; the rest is rare.
    pub category_values_max: u32,
    /// Trailing windows, in months, of the aggregates that the MLP sees.
    pub windows: Vec<u32>,
    /// Add sine and cosine of the month of the year of the as-of month.
    pub calendar: bool,
}

impl Default for FeatureSpec {
    fn default() -> Self {
        Self {
            scaling: Scaling::Robust,
            log_above_skewness: 4.0,
            category_rows_min: 10,
            category_values_max: 256,
            windows: vec![3, 6, 12],
            calendar: true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scaling {
    /// (x - mean) / standard deviation.
    Standard,
    /// (x - median) / interquartile range, then the smooth clip x / sqrt(1 + (x/3)^2) of RealMLP
    /// (Holzmüller et al. 2024, arXiv:2407.04491).
    Robust,
    /// Piecewise linear map of the train quantiles to a normal law.
    Quantile,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Attributes alone, without any month.
    Static,
    /// Attributes and trailing-window aggregates at the as-of month.
    Mlp,
    /// Monthly activity, many to many.
    Gru,
    /// The GRU's state joined with the attributes at every month.
    Hybrid,
}

impl ModelKind {
    pub fn name(self) -> &'static str {
        match self {
            ModelKind::Static => "static",
            ModelKind::Mlp => "mlp",
            ModelKind::Gru => "gru",
            ModelKind::Hybrid => "hybrid",
        }
    }

    /// Whether it reads the months one after the other.
    pub fn is_sequence(self) -> bool {
        matches!(self, ModelKind::Gru | ModelKind::Hybrid)
    }
}

/// Which networks to train, and their shapes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Models {
    /// The networks to train. A logistic regression is always trained beside them.
    #[serde(rename = "use")]
    pub kinds: Vec<ModelKind>,
    /// What the networks predict where `label.horizon` is above 1.
    pub head: Head,
    /// Train gradient-boosted trees beside them.
    pub trees: bool,
    /// The model to export: auto (least log loss on the validation part), or its name in the tables.
    pub champion: String,
    /// Quick, normal or thorough: what every value left to `auto` is derived from, with the data's
    /// size.
    pub effort: Effort,
    pub mlp: MlpSpec,
    pub gru: GruSpec,
}

/// What a network predicts of a window of several months.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Head {
    /// The hazard of each month, which gives the whole risk curve.
    Hazard,
    /// The risk of the window alone.
    Window,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            kinds: vec![ModelKind::Mlp, ModelKind::Gru, ModelKind::Hybrid],
            head: Head::Hazard,
            trees: true,
            champion: "auto".into(),
            effort: Effort::Normal,
            mlp: MlpSpec::default(),
            gru: GruSpec::default(),
        }
    }
}

/// The network over attributes: members that share their weights (TabM); also the static branch of
/// the hybrid, which has one member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MlpSpec {
    pub width: Auto<usize>,
    /// Hidden layers; in the hybrid, residual blocks of two layers.
    pub blocks: Auto<usize>,
    pub dropout: Auto<f64>,
    /// Width of a category's embedding: min(this, (values + 1) / 2).
    pub embedding_max: usize,
    /// Members whose risks are averaged.
    pub members: Auto<usize>,
    /// Most bins of a number's piecewise-linear embedding; 0 = the number itself.
    pub bins: Auto<usize>,
    /// Width of a number's embedding.
    pub piece_width: Auto<usize>,
}

impl Default for MlpSpec {
    fn default() -> Self {
        Self {
            width: Auto::Derived,
            blocks: Auto::Derived,
            dropout: Auto::Derived,
            embedding_max: 16,
            members: Auto::Derived,
            bins: Auto::Derived,
            piece_width: Auto::Derived,
        }
    }
}

/// The network over months.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GruSpec {
    pub hidden: usize,
    /// 1 or 2.
    pub layers: usize,
    pub dropout: f64,
    /// What the head sees of the months so far.
    pub history: History,
    /// How the hybrid joins attributes and months.
    pub fusion: Fusion,
}

/// What is read off the states of the months up to the as-of month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum History {
    /// The state of the as-of month.
    Last,
    /// It, and the mean and the largest value of each unit over the months up to it.
    Pooled,
}

/// Where the static branch meets the months.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fusion {
    /// Both side by side before the head.
    Concatenate,
    /// Attributes are the state before the first month.
    Initial,
    /// A gate of both decides, unit by unit and month by month, how much of each the head sees.
    Gated,
}

impl Default for GruSpec {
    fn default() -> Self {
        Self {
            hidden: 64,
            layers: 1,
            dropout: 0.1,
            history: History::Last,
            fusion: Fusion::Concatenate,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// Binary cross-entropy.
    Bce,
    /// Focal loss (Lin et al. 2017, arXiv:1708.02002).
    Focal,
    /// Cross-entropy in which leavers weigh more, see `positive_weight`.
    Weighted,
    /// The best of the three on the validation part, found by short trainings beforehand.
    Auto,
}

/// When the best epoch of a training is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StopOn {
    /// By validation log loss as the network gives it.
    Plain,
    /// By validation log loss after a temperature is fitted: refine, then calibrate (Berta et al.
    /// 2025, arXiv:2501.19195).
    Calibrated,
}

/// What computes: one device, or several that share the rows of every batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Devices {
    /// A name, or several with commas between.
    One(String),
    Many(Vec<String>),
}

impl Devices {
    /// The single names, in their order.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Devices::One(names) => names.split(',').map(str::trim).collect(),
            Devices::Many(names) => names.iter().map(String::as_str).collect(),
        }
    }
}

impl std::fmt::Display for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

/// How networks are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSpec {
    /// auto, gpu, gpu:N, cpu or ndarray; or several of them, which then share every batch.
    pub device: Devices,
    pub epochs_max: Auto<u32>,
    /// Training ends after this many optimizer steps, also inside an epoch; 0 = no limit.
    pub steps_max: u64,
    /// Gigabytes (2^30 bytes) that panel and encoded data may take. Above it, by estimate before
    /// anything is built, a training works by partitions of customers. 0 = half of the machine's
    /// memory.
    pub memory_gb: f64,
    /// Snapshots in a batch of the MLP.
    pub batch_snapshots: Auto<usize>,
    /// Customers in a batch of the sequence models.
    pub batch_customers: usize,
    /// Batches whose gradients are summed for one step of the optimizer.
    pub accumulate: u32,
    /// The highest of a training, see `warmup`.
    pub learning_rate: Auto<f64>,
    pub weight_decay: f64,
    /// Share of all steps in which the rate climbs; then it falls as a cosine.
    pub warmup: f64,
    /// Global gradient norm above which gradients are scaled down.
    pub clip_norm: f64,
    /// What a step keeps of the moving average of the weights, which is what is validated and
    /// exported (Polyak and Juditsky 1992); 0 = no average.
    pub average: f64,
    /// Epochs without a better validation log loss before training stops.
    pub patience: u32,
    /// The validation log loss that decides which epoch is the best.
    pub stop_on: StopOn,
    pub loss: Loss,
    pub focal_gamma: f64,
    /// Weight of positive examples; the log-odds are corrected for it (prior correction). With the
    /// loss `weighted`, 1 stands for stayers over leavers of the train part.
    pub positive_weight: f64,
    /// Steps between checkpoints inside an epoch; 0 = only at the end of each epoch.
    pub checkpoint_steps: u32,
    /// Steps between two readings of the loss from the device.
    pub log_steps: u32,
}

impl TrainSpec {
    /// What decides which epoch is the best. The focal loss's own probabilities grow better the more
    /// the network overfits, so that they never do.
    pub fn decided_by(&self) -> StopOn {
        match self.loss {
            Loss::Focal => StopOn::Calibrated,
            _ => self.stop_on,
        }
    }
}

impl Default for TrainSpec {
    fn default() -> Self {
        Self {
            device: Devices::One("auto".into()),
            epochs_max: Auto::Derived,
            steps_max: 0,
            memory_gb: 0.0,
            batch_snapshots: Auto::Derived,
            batch_customers: 64,
            accumulate: 1,
            learning_rate: Auto::Derived,
            weight_decay: 1e-2,
            warmup: 0.1,
            clip_norm: 1.0,
            average: 0.995,
            patience: 5,
            stop_on: StopOn::Plain,
            loss: Loss::Bce,
            focal_gamma: 2.0,
            positive_weight: 1.0,
            checkpoint_steps: 0,
            log_steps: 20,
        }
    }
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvalSpec {
    /// Share of customers that would be contacted; precision and recall are given there.
    pub contact_share: f64,
}

impl Default for EvalSpec {
    fn default() -> Self {
        Self { contact_share: 0.1 }
    }
}
