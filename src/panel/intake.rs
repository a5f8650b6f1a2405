//! What to read, apart from where it lies: the part of the configuration that a bundle carries,
//! so that scoring reads tables exactly as training did.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Config, DataSpec, PanelSpec, SourceSpec};
use crate::error::{Kind, Result};
use crate::source::{self, DataFile, Limits};

/// The declared tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intake {
    pub data: DataSpec,
    pub sources: Vec<SourceSpec>,
    pub panel: PanelSpec,
}

impl From<&Config> for Intake {
    fn from(config: &Config) -> Self {
        Intake {
            // Where the tables lay says nothing about the model, and would make the bundle's id
            // depend on the machine.
            data: DataSpec { root: DataSpec::default().root, ..config.data.clone() },
            sources: config.sources.clone(),
            panel: config.panel.clone(),
        }
    }
}

impl Intake {
    pub fn key<'a>(&'a self, source: &'a SourceSpec) -> &'a str {
        source.key.as_deref().unwrap_or(&self.data.key)
    }

    pub fn source(&self, name: &str) -> Result<&SourceSpec> {
        self.sources
            .iter()
            .find(|source| source.name == name)
            .ok_or_else(|| Kind::Config.msg(format!("there is no source `{name}`")))
    }

    pub fn limits(&self) -> Limits {
        Limits::from(&self.data)
    }
}

/// The files of each source, in the order of [`Intake::sources`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    pub files: Vec<Vec<DataFile>>,
}

impl Inputs {
    /// Finds every source's files under `root`.
    pub fn under(root: &Path, intake: &Intake) -> Result<Self> {
        let find = |source: &SourceSpec| source::expand(root, &source.path, source.format);
        Ok(Inputs { files: intake.sources.iter().map(find).collect::<Result<_>>()? })
    }

    /// Gives the files by hand: each belongs to the source that is named like it, or to the only
    /// source.
    pub fn matched(paths: &[PathBuf], intake: &Intake) -> Result<Self> {
        let mut files = vec![Vec::new(); intake.sources.len()];
        for path in paths {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let named = |source: &SourceSpec| {
                source.name == stem
                    || source.path.iter().any(|p| {
                        Path::new(p).file_stem().is_some_and(|s| s.to_string_lossy() == stem)
                    })
            };
            let at = match intake.sources.iter().position(named) {
                Some(at) => at,
                None if intake.sources.len() == 1 => 0,
                None => {
                    let names: Vec<_> = intake.sources.iter().map(|s| s.name.as_str()).collect();
                    return Err(Kind::Usage
                        .at(path)
                        .msg("belongs to no source of the bundle")
                        .hint(format!("name the files after the sources: {}", names.join(", "))));
                }
            };
            let found = source::expand(
                Path::new(""),
                &crate::config::Paths::One(path.to_string_lossy().into_owned()),
                None,
            )?;
            files[at].extend(found);
        }
        for (source, files) in intake.sources.iter().zip(&files) {
            if files.is_empty() {
                return Err(Kind::Usage
                    .msg(format!("no input file for the source `{}`", source.name))
                    .hint("give a file of that name, or the folder that holds all sources"));
            }
        }
        Ok(Inputs { files })
    }

    /// The files of one source.
    pub fn of(&self, intake: &Intake, name: &str) -> Result<&[DataFile]> {
        let source = intake.source(name)?;
        let at = intake.sources.iter().position(|s| s.name == source.name);
        Ok(&self.files[at.expect("a source that was found has a position")])
    }

    /// Bytes on disk, to decide how many partitions a scoring run needs.
    pub fn bytes(&self) -> u64 {
        let size = |file: &DataFile| std::fs::metadata(&file.path).map_or(0, |m| m.len());
        self.files.iter().flatten().map(size).sum()
    }
}
