//! The list of what a bundle holds, with a checksum of everything, itself included.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Kind, Result};
use crate::eval::ModelMetrics;
use crate::fsx;

pub const NAME: &str = "manifest.json";

/// Raised when a reader of the old format would misread the new one.
const FORMAT_VERSION: u32 = 2;

/// Largest file of weights or trees that is read: 67 million weights, a hundred times what training
/// makes.
const LEARNED_BYTES_MAX: u64 = 256 << 20;

/// Largest file of settings, statistics and golden rows that is read. Their JSON takes up to ten
/// times as much memory.
const FACTS_BYTES_MAX: u64 = 32 << 20;

/// Files that a bundle may list, many times those that it has.
const FILES_MAX: usize = 1000;

/// The manifest is small; a large one is an attack.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// What stands in the place of the manifest's own checksum while it is computed.
const BLANK: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Where a bundle comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub data_set: String,
    pub run_id: String,
    pub seed: u64,
    /// Of the resolved configuration.
    pub config_sha256: String,
    /// Of the panel.
    pub data_sha256: String,
    /// The fold whose weights these are, where there are folds.
    pub fold: Option<u32>,
}

/// The model that is exported.
#[derive(Debug, Clone, Copy)]
pub struct Champion<'a> {
    pub name: &'a str,
    pub metrics: &'a ModelMetrics,
    pub microseconds_per_row: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format_version: u32,
    /// First half of the sha256 over the checksums of the files that the rest is made from.
    pub bundle_id: String,
    /// The champion's name in the run's tables.
    pub model: String,
    /// What scoring one snapshot took where the bundle was made, on its CPU, in microseconds:
    /// features and models, not reading and writing of files.
    pub microseconds_per_row: f64,
    pub code_version: String,
    pub origin: Origin,
    pub files: BTreeMap<String, FileEntry>,
    pub metrics: ModelMetrics,
    /// Sha256 of this file with zeros in this place.
    pub manifest_sha256: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    pub sha256: String,
    pub bytes: u64,
}

impl FileEntry {
    fn of(bytes: &[u8]) -> Self {
        FileEntry { sha256: fsx::sha256_hex(bytes), bytes: bytes.len() as u64 }
    }
}

/// What an exported file belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    pub bundle_id: &'a str,
    /// The champion's name in the run's tables.
    pub model: &'a str,
}

impl Manifest {
    pub fn identity(&self) -> Identity<'_> {
        Identity { bundle_id: &self.bundle_id, model: &self.model }
    }

    pub fn new(files: &[(String, Vec<u8>)], champion: &Champion, origin: &Origin) -> Self {
        let files: BTreeMap<String, FileEntry> =
            files.iter().map(|(name, bytes)| (name.clone(), FileEntry::of(bytes))).collect();
        let sums: String = files.iter().map(|(n, f)| format!("{n} {}\n", f.sha256)).collect();
        Manifest {
            format_version: FORMAT_VERSION,
            bundle_id: fsx::sha256_hex(sums.as_bytes())[..32].to_owned(),
            model: champion.name.to_owned(),
            microseconds_per_row: champion.microseconds_per_row,
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            origin: origin.clone(),
            files,
            metrics: champion.metrics.clone(),
            manifest_sha256: BLANK.to_owned(),
        }
    }

    /// Lists a file that was made from the others.
    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) {
        self.files.insert(name.to_owned(), FileEntry::of(bytes));
    }

    /// The file's bytes, with its own checksum filled in.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Kind::Internal.at(NAME).msg(error.to_string()))?;
        let sum = fsx::sha256_hex(text.as_bytes());
        Ok(text.replace(&field(BLANK), &field(&sum)).into_bytes())
    }

    /// Reads and checks a manifest.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let corrupt = |message: String| Kind::Corrupt.at(&path).msg(message);
        let bytes = read(&path, MANIFEST_BYTES_MAX)?;
        let text = String::from_utf8(bytes).map_err(|_| corrupt("is not UTF-8".into()))?;
        // The version first: a newer format may have other fields.
        let version: Version =
            serde_json::from_str(&text).map_err(|error| corrupt(error.to_string()))?;
        if version.format_version != FORMAT_VERSION {
            let found = version.format_version;
            return Err(corrupt(format!(
                "has format {found}, this program reads {FORMAT_VERSION}"
            ))
            .hint("use the version of churn that wrote it"));
        }
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|error| corrupt(error.to_string()))?;
        let blanked = text.replacen(&field(&manifest.manifest_sha256), &field(BLANK), 1);
        if fsx::sha256_hex(blanked.as_bytes()) != manifest.manifest_sha256 {
            return Err(corrupt("differs from its own checksum".into()));
        }
        if manifest.files.len() > FILES_MAX {
            return Err(corrupt(format!("lists {} files", manifest.files.len())));
        }
        let outside = |name: &&String| name.contains(['/', '\\']) || name.starts_with('.');
        if let Some(name) = manifest.files.keys().find(outside) {
            return Err(corrupt(format!("lists `{}`, outside of it", name.escape_default())));
        }
        Ok(manifest)
    }

    /// The bytes of a file, if they are those that were published.
    pub fn checked(&self, folder: &Path, name: &str) -> Result<Vec<u8>> {
        let path = folder.join(name);
        let entry = self
            .files
            .get(name)
            .ok_or_else(|| Kind::Corrupt.at(&path).msg("is not listed in the manifest"))?;
        let is_fact = super::RESERVED.contains(&name) && name != super::ONNX;
        let most = if is_fact { FACTS_BYTES_MAX } else { LEARNED_BYTES_MAX };
        if entry.bytes > most {
            let message = format!("has {} bytes, at most {most} are read", entry.bytes);
            return Err(Kind::Corrupt.at(&path).msg(message));
        }
        let bytes = read(&path, entry.bytes)?;
        if fsx::sha256_hex(&bytes) != entry.sha256 {
            return Err(Kind::Corrupt.at(&path).msg("differs from its checksum in the manifest"));
        }
        Ok(bytes)
    }
}

/// A whole file, and nothing that waits for a writer or has no end, such as a pipe or a device.
fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let meta = std::fs::metadata(path).map_err(|error| Kind::Corrupt.at(path).io(&error))?;
    if !meta.is_file() {
        return Err(Kind::Corrupt.at(path).msg("is no file"));
    }
    fsx::read_limited(path, bytes_max).map_err(|error| Kind::Corrupt.at(path).msg(error.message))
}

#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

fn field(sum: &str) -> String {
    format!("\"manifest_sha256\": \"{sum}\"")
}
