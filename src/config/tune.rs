//! The search half of the configuration: what `churn tune` varies, and how it spends epochs.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use toml::Value;

/// How `churn tune` searches. A trial trains for `train.epochs_max` epochs at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TuneSpec {
    /// Rungs below `train.epochs_max` at which trials pause and only the best are trained on.
    /// 0 = every trial is trained to the end.
    pub halvings: u32,
    /// One in this many of the trials of a rung goes on to the next, which has so many times the
    /// epochs.
    pub reduction: u32,
    /// Numbers of the folds that are searched in; empty = all.
    pub folds: Vec<u32>,
    /// What is varied, by dotted path of the configuration: `"train.learning_rate" = { log =
    /// [1e-4, 1e-2] }`. Empty = the default space for the networks in use.
    pub space: BTreeMap<String, ParameterSpec>,
}

impl Default for TuneSpec {
    fn default() -> Self {
        Self { halvings: 2, reduction: 3, folds: Vec::new(), space: BTreeMap::new() }
    }
}

/// The values of one parameter: exactly one of the keys is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ParameterSpec {
    /// Real numbers between two bounds, uniformly.
    pub real: Option<Vec<f64>>,
    /// Real numbers between two positive bounds, uniformly in the logarithm.
    pub log: Option<Vec<f64>>,
    /// Whole numbers between two bounds, both included.
    pub int: Option<Vec<u32>>,
    /// Whole numbers between two positive bounds, uniformly in the logarithm.
    pub log_int: Option<Vec<u32>>,
    /// A list of values of any kind.
    #[schemars(schema_with = "any_values")]
    pub choices: Option<Vec<Value>>,
}

fn any_values(_: &mut SchemaGenerator) -> Schema {
    let any = ["string", "number", "integer", "boolean", "array"];
    json_schema!({ "type": ["array", "null"], "items": { "type": any } })
}
