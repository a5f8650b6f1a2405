//! The one place where defaults, file, environment and flags meet; flags beat the environment,
//! the environment beats the file, the file beats the defaults.

mod document;
mod layer;
mod layers;
pub(super) mod path;
pub(super) mod shape;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::Config;
use super::validate;
use crate::error::{Kind, Result};
use crate::fsx;
use layers::Layers;

/// 1 MB: a thousand times a long configuration, and small enough to be held several times.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    /// Name of the file and one-based line.
    File {
        file: String,
        line: Option<u64>,
    },
    /// The variable.
    Env(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => write!(f, "default"),
            Origin::File { file, line: Some(line) } => write!(f, "{file}:{line}"),
            Origin::File { file, line: None } => write!(f, "{file}"),
            Origin::Env(variable) => write!(f, "env {variable}"),
            Origin::Flag => write!(f, "flag --set"),
        }
    }
}

/// What lies over the file.
pub struct Overrides<'a> {
    /// Dotted path and value text of each `--set`, later ones over earlier ones. Items of an array
    /// of tables are named by place or by their `name`: `source.activity.absent`.
    pub sets: &'a [(String, String)],
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

/// A configuration in which nothing is left to be decided.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub config: Config,
    /// The file it was read from.
    pub path: PathBuf,
    /// Where each value came from, by dotted path (`source.0.name`). A list of plain values is one
    /// value; what was left out and has no default is not there.
    pub origins: BTreeMap<String, Origin>,
}

/// Reads, resolves and checks a configuration.
///
/// # Errors
/// `Config` (`Usage` where a flag is at fault) with file and line: unreadable file, no UTF-8, no
/// TOML, unknown or missing key, wrong type, or a value that [`validate`] refuses. All faults of
/// one kind are told at once.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Resolved> {
    let text = read(path)?;
    let mut layers = Layers::of_file(&text, path)?;
    layers.apply_env(overrides)?;
    for (at, text) in overrides.sets {
        layers.apply_set(at, text)?;
    }
    layers.expand_root(overrides)?;
    let config = layers.config()?;
    layers.refuse(validate::faults(&config))?;
    let origins = leaves(&config).into_keys().map(|at| {
        let origin = layers.origin(&at);
        (at, origin)
    });
    let origins = origins.collect();
    Ok(Resolved { config, path: path.to_path_buf(), origins })
}

impl Resolved {
    /// The data folder: absolute, or relative to the current folder. A relative root in the file
    /// is relative to the file's folder, one that was set by a flag to the current folder.
    pub fn root(&self) -> PathBuf {
        let root = &self.config.data.root;
        match (self.origins.get("data.root"), self.path.parent()) {
            (Some(Origin::Flag), _) | (_, None) => root.clone(),
            (_, Some(folder)) => folder.join(root),
        }
    }

    /// The resolved configuration as TOML that loads to the same [`Config`] from any folder: the
    /// data root is made absolute for that.
    pub fn to_toml(&self) -> String {
        let mut config = self.config.clone();
        let root = self.root();
        config.data.root = std::path::absolute(&root).unwrap_or(root);
        toml::to_string(&config).expect("a configuration that was read from TOML is TOML")
    }

    /// Sha256 of all that decides what is learned: every value but `data.root` and `train.device`,
    /// which say where the same data lies and what computes the same numbers, and those of `tune`,
    /// which a training does not look at.
    pub fn sha256(&self) -> String {
        let mut text = String::new();
        for (at, value) in leaves(&self.config) {
            if at != "data.root" && at != "train.device" && !path::is_within(&at, "tune") {
                text.push_str(&format!("{at} = {value}\n"));
            }
        }
        fsx::sha256_hex(text.as_bytes())
    }

    /// Every value by dotted path.
    pub fn leaves(&self) -> BTreeMap<String, Value> {
        leaves(&self.config)
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = fsx::read_limited(path, FILE_BYTES_MAX).map_err(|mut error| {
        if error.kind == Kind::Data {
            error.kind = Kind::Config;
        }
        error.hint("give the path of a configuration in TOML, at most 1 MB")
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].iter().filter(|&&byte| byte == b'\n').count() as u64;
        Kind::Config.at(path).line(line + 1).msg("is not UTF-8 text").hint("save it as UTF-8")
    })
}

/// Every value of a configuration by dotted path; lists of plain values are one value.
fn leaves(config: &Config) -> BTreeMap<String, Value> {
    let tree = Table::try_from(config).expect("a configuration that was read from TOML is TOML");
    let mut found = BTreeMap::new();
    note_leaves(&Value::Table(tree), "", &mut found);
    found
}

fn note_leaves(value: &Value, at: &str, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                note_leaves(value, &path::join(at, key), found);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_table) => {
            for (index, item) in items.iter().enumerate() {
                note_leaves(item, &path::join(at, &index.to_string()), found);
            }
        }
        _ => {
            found.insert(at.to_owned(), value.clone());
        }
    }
}
