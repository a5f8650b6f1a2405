//! The exported model: one folder that never changes, and a loader that trusts nothing in it.
//!
//! | file | holds |
//! |---|---|
//! | `manifest.json` | format, id, sha256 and size of each file, seed, hashes, metrics |
//! | `model.json` | architecture, and what was read: sources, label |
//! | `features.json` | the fitted features |
//! | `weights.safetensors` | the network's parameters |
//! | `golden.jsonl` | raw customers with their risks, scored again on every load |

mod golden;
mod manifest;
mod scorer;

use std::path::Path;

use burn::tensor::Device;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::config::LabelSpec;
use crate::error::{Kind, Result};
use crate::eval::ModelMetrics;
use crate::features::FittedFeatures;
use crate::fsx;
use crate::nn::Architecture;
use crate::nn::params::{self, Parameters};
use crate::panel::Intake;

pub use golden::{GOLDEN_ROWS, GoldenRow};
pub use manifest::{Manifest, Origin};
pub use scorer::{Outlook, Scorer};

const MODEL: &str = "model.json";
const FEATURES: &str = "features.json";
const WEIGHTS: &str = "weights.safetensors";
const GOLDEN: &str = "golden.jsonl";

/// What the files hold, apart from the manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    pub model: Model,
    pub features: FittedFeatures,
    pub parameters: Parameters,
    pub golden: Vec<GoldenRow>,
}

/// What is computed, and from which tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub architecture: Architecture,
    pub intake: Intake,
    /// What the risk is the probability of.
    pub label: LabelSpec,
    /// Added to the network's log-odds, of the window or of each hazard.
    pub log_odds_shift: f32,
}

/// Writes a bundle and returns its id.
pub fn publish(
    folder: &Path,
    contents: &Contents,
    origin: &Origin,
    metrics: &ModelMetrics,
) -> Result<String> {
    let mut golden = Vec::new();
    for row in &contents.golden {
        golden.extend(json(row)?);
        golden.push(b'\n');
    }
    let files = [
        (MODEL, pretty(&contents.model)?),
        (FEATURES, pretty(&contents.features)?),
        (WEIGHTS, params::to_safetensors(&contents.parameters)?),
        (GOLDEN, golden),
    ];
    let manifest = Manifest::new(&files, contents.model.architecture.kind, origin, metrics);
    let bytes = manifest.to_bytes()?;
    fsx::publish_folder(folder, |temp| {
        for (name, bytes) in &files {
            fsx::publish_bytes(&temp.join(name), bytes)?;
        }
        fsx::publish_bytes(&temp.join(manifest::NAME), &bytes)
    })?;
    Ok(manifest.bundle_id)
}

/// A loaded, checked bundle, ready to score.
pub struct Bundle {
    pub manifest: Manifest,
    pub model: Model,
    pub scorer: Scorer,
}

/// Loads a bundle: every file against its checksum, every number against its type, and the golden
/// rows against their risks.
///
/// # Errors
/// [`Kind::Corrupt`] with the file that is not as it was published.
pub fn load(folder: &Path, device: &Device) -> Result<Bundle> {
    if !folder.is_dir() {
        return Err(Kind::Data.at(folder).msg("is no bundle: there is no such folder"));
    }
    let manifest = Manifest::read(folder)?;
    let model: Model = parse(folder, MODEL, &manifest.checked(folder, MODEL)?)?;
    let features: FittedFeatures = parse(folder, FEATURES, &manifest.checked(folder, FEATURES)?)?;
    let weights = manifest.checked(folder, WEIGHTS)?;
    let parameters = params::from_safetensors(&weights, &folder.join(WEIGHTS))?;
    let golden = golden::parse(&manifest.checked(folder, GOLDEN)?, &folder.join(GOLDEN))?;
    let scorer = Scorer::new(&model, features, &parameters, device)
        .map_err(|error| Kind::Corrupt.at(folder.join(WEIGHTS)).msg(error.message))?;
    golden::check(&golden, &scorer, &model, &folder.join(GOLDEN))?;
    Ok(Bundle { manifest, model, scorer })
}

fn parse<T: DeserializeOwned>(folder: &Path, name: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| Kind::Corrupt.at(folder.join(name)).msg(error.to_string()))
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Kind::Internal.msg(error.to_string()))
}

fn pretty<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(|error| Kind::Internal.msg(error.to_string()))
}
