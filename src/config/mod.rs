//! What the user declared: TOML text in, one checked [`Config`] out, every value with its origin.
//!
//! [`schema`] holds the data half (sources, panel, label, split), [`model`] the half that says
//! what is learned from it, [`tune`] what is searched, [`resolve`] the one place where defaults, file, environment and flags
//! meet.

mod auto;
pub mod effort;
pub mod model;
pub mod resolve;
pub mod schema;
pub mod tune;
pub mod validate;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use auto::Auto;
pub use effort::{Effort, MlpShape, Recipe};
pub use model::{
    Devices, EvalSpec, FeatureSpec, Fusion, GruSpec, Head, History, Loss, MlpSpec, ModelKind,
    Models, StopOn, TrainSpec,
};
pub use resolve::{Origin, Overrides, Resolved, load};
pub use schema::{
    Absent, Aggregation, Check, CheckRule, ColumnSpec, ColumnType, DataSpec, EventMeasure, Format,
    LabelSpec, OnBad, PanelSpec, PanelStart, Paths, Severity, SourceKind, SourceSpec, SplitSpec,
};
pub use tune::{ParameterSpec, TuneSpec};

/// A whole training configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the data set; part of the run id.
    pub name: String,
    /// Master seed: every random draw is a function of it.
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub data: DataSpec,
    /// The tables to read.
    #[serde(rename = "source")]
    pub sources: Vec<SourceSpec>,
    #[serde(default)]
    pub panel: PanelSpec,
    pub label: LabelSpec,
    pub split: SplitSpec,
    /// Data quality rules, run by `churn check` and before every training.
    #[serde(default, rename = "check")]
    pub checks: Vec<Check>,
    #[serde(default)]
    pub features: FeatureSpec,
    #[serde(default)]
    pub models: Models,
    #[serde(default)]
    pub train: TrainSpec,
    #[serde(default)]
    pub eval: EvalSpec,
    #[serde(default)]
    pub tune: TuneSpec,
}

impl Config {
    /// Epochs after which a training ends.
    pub fn epochs_max(&self) -> u32 {
        self.train.epochs_max.or(self.models.effort.epochs_max())
    }

    /// Months whose hazards the networks predict; with 1 they predict the risk of the window.
    pub fn hazards(&self) -> usize {
        match self.models.head {
            Head::Hazard => self.label.horizon() as usize,
            Head::Window => 1,
        }
    }
}

/// The JSON Schema of [`Config`], for editors.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}
