//! Generations: everything that a training needs to go on, published as one folder with checksums.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::EpochRecord;
use crate::error::{Kind, Result};
use crate::fsx;
use crate::nn::params::{Parameters, from_safetensors, to_safetensors};

/// A generation is kept beside its successor, in case that one turns out unreadable.
const KEPT: usize = 2;

/// Largest checkpoint file that is read back.
const BYTES_MAX: u64 = 8 << 30;

/// Where a training stands, apart from its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What is trained, so that a checkpoint of other data or settings is not taken up.
    pub identity: String,
    pub epoch: u64,
    /// Next batch of the epoch.
    pub batch: u64,
    pub steps: u64,
    /// Falls when a step was not finite.
    pub rate_scale: f64,
    pub retries: u32,
    pub best_loss: f64,
    pub best_epoch: u64,
    /// Sum and number of the losses of this epoch so far.
    pub loss_sum: f64,
    pub loss_count: u64,
    pub history: Vec<EpochRecord>,
    pub finished: bool,
    /// Training seconds so far.
    pub seconds: f64,
}

/// A whole generation.
#[derive(Debug, Clone)]
pub struct Generation {
    pub state: State,
    pub weights: Parameters,
    pub best: Parameters,
    pub optimizer: Parameters,
}

/// Publishes a generation and removes those that are no longer needed.
pub fn save(folder: &Path, generation: &Generation) -> Result<()> {
    let state = serde_json::to_vec_pretty(&generation.state)
        .map_err(|error| Kind::Internal.at(folder).msg(error.to_string()))?;
    let files = [
        ("weights.safetensors", to_safetensors(&generation.weights)?),
        ("best.safetensors", to_safetensors(&generation.best)?),
        ("optimizer.safetensors", to_safetensors(&generation.optimizer)?),
        ("state.json", state),
    ];
    let number = generation.state.steps * 2 + u64::from(generation.state.finished);
    let name = folder.join(format!("generation-{number:012}"));
    fsx::publish_folder(&name, |temp| {
        let mut sums = BTreeMap::new();
        for (file, bytes) in &files {
            fsx::publish_bytes(&temp.join(file), bytes)?;
            sums.insert(*file, fsx::sha256_hex(bytes));
        }
        let sums = serde_json::to_vec_pretty(&sums).expect("a map of strings is valid JSON");
        fsx::publish_bytes(&temp.join("sha256.json"), &sums)
    })?;
    let old = list(folder);
    old.iter().rev().skip(KEPT).try_for_each(|path| fsx::remove_folder(path))
}

/// The newest readable generation of this identity; None to start afresh.
///
/// # Errors
/// [`Kind::Corrupt`] if there are generations and none can be read, [`Kind::Config`] if they
/// belong to another training.
pub fn load(folder: &Path, identity: &str) -> Result<Option<Generation>> {
    let generations = list(folder);
    let mut last_error = None;
    for path in generations.iter().rev() {
        match read(path) {
            Ok(generation) if generation.state.identity == identity => return Ok(Some(generation)),
            Ok(_) => {
                return Err(Kind::Config
                    .at(path)
                    .msg("is a checkpoint of other data or other settings")
                    .hint("train into another folder, or leave out --resume"));
            }
            Err(error) => {
                tracing::warn!("skipping a checkpoint: {error}");
                last_error = Some(error);
            }
        }
    }
    last_error.map_or(Ok(None), Err)
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| {
            path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("generation-"))
        })
        .collect();
    found.sort();
    found
}

fn read(path: &Path) -> Result<Generation> {
    let sums = fsx::read_limited(&path.join("sha256.json"), BYTES_MAX)?;
    let wrong = |error: serde_json::Error| Kind::Corrupt.at(path).msg(error.to_string());
    let sums: BTreeMap<String, String> = serde_json::from_slice(&sums).map_err(wrong)?;
    let checked = |name: &str| {
        let file = path.join(name);
        let bytes = fsx::read_limited(&file, BYTES_MAX)?;
        if sums.get(name) != Some(&fsx::sha256_hex(&bytes)) {
            return Err(Kind::Corrupt.at(&file).msg("differs from its checksum"));
        }
        Ok(bytes)
    };
    let tensors = |name: &str| from_safetensors(&checked(name)?, &path.join(name));
    Ok(Generation {
        state: serde_json::from_slice(&checked("state.json")?).map_err(wrong)?,
        weights: tensors("weights.safetensors")?,
        best: tensors("best.safetensors")?,
        optimizer: tensors("optimizer.safetensors")?,
    })
}
