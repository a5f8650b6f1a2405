//! From a declared path to data files: single files, globs, and hive-partitioned folders.

use std::path::{Path, PathBuf};

use crate::config::{Format, Paths};
use crate::error::{Error, Kind, Result};

/// One file of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    pub path: PathBuf,
    pub format: Format,
    /// Columns that the folder names carry: `month=2024-01/` gives ("month", "2024-01").
    pub hive: Vec<(String, String)>,
}

/// Folders deeper than this are not searched; a partitioned table has two or three levels.
const DEPTH_MAX: usize = 16;

/// All files behind `paths`, relative to `root`, in sorted order.
///
/// # Errors
/// [`Kind::Data`] if a path matches nothing, [`Kind::Config`] if the format cannot be told.
pub fn expand(root: &Path, paths: &Paths, format: Option<Format>) -> Result<Vec<DataFile>> {
    let mut files = Vec::new();
    for path in paths.iter() {
        let full: PathBuf = root.join(path).components().collect();
        let before = files.len();
        if full.is_dir() {
            collect(&full, &mut Vec::new(), format, &mut files)?;
        } else if full.is_file() {
            files.push(data_file(full.clone(), format, &[])?);
        } else if path.contains(['*', '?', '[']) {
            collect_glob(&full, format, &mut files)?;
        }
        if files.len() == before {
            return Err(Kind::Data
                .at(&full)
                .msg("no such file, or no data file under it")
                .hint("check the source's `path` and `data.root`, or --input"));
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup();
    Ok(files)
}

/// The format that a file's extension stands for.
pub fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "csv" => Some(Format::Csv),
        "parquet" | "pq" => Some(Format::Parquet),
        "ndjson" | "jsonl" => Some(Format::Ndjson),
        "arrow" | "ipc" | "feather" => Some(Format::Arrow),
        _ => None,
    }
}

fn data_file(path: PathBuf, format: Option<Format>, hive: &[(String, String)]) -> Result<DataFile> {
    match format.or_else(|| format_of(&path)) {
        Some(format) => Ok(DataFile { path, format, hive: hive.to_vec() }),
        None => Err(unknown_format(&path)),
    }
}

fn unknown_format(path: &Path) -> Error {
    Kind::Config
        .at(path)
        .msg("its extension names no format that we read")
        .hint("set `format` to csv, parquet, ndjson or arrow")
}

fn collect_glob(pattern: &Path, format: Option<Format>, files: &mut Vec<DataFile>) -> Result<()> {
    let wrong = |message: String| Kind::Config.at(pattern).msg(message);
    let text = pattern.to_str().ok_or_else(|| wrong("is not UTF-8".into()))?;
    for entry in glob::glob(text).map_err(|e| wrong(e.to_string()))? {
        let path = entry.map_err(|e| wrong(e.to_string()))?;
        if path.is_dir() {
            collect(&path, &mut Vec::new(), format, files)?;
        } else {
            files.push(data_file(path, format, &[])?);
        }
    }
    Ok(())
}

fn collect(
    folder: &Path,
    hive: &mut Vec<(String, String)>,
    format: Option<Format>,
    files: &mut Vec<DataFile>,
) -> Result<()> {
    if hive.len() > DEPTH_MAX {
        return Err(Kind::Data.at(folder).msg(format!("lies deeper than {DEPTH_MAX} partitions")));
    }
    let at = |error: std::io::Error| Kind::Data.at(folder).io(&error);
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(at)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<std::io::Result<_>>()
        .map_err(at)?;
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(['.', '_']) {
            continue; // Markers such as _SUCCESS, and files that are still being written.
        }
        if path.is_dir() {
            if let Some((key, value)) = name.split_once('=') {
                hive.push((key.into(), value.into()));
                collect(&path, hive, format, files)?;
                hive.pop();
            }
        } else if format_of(&path).is_some() {
            files.push(data_file(path, format, hive)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_and_hive_folders() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in [
            "a/month=2024-01/x.csv",
            "a/month=2024-02/x.csv",
            "a/_SUCCESS",
            "b1.parquet",
            "b2.parquet",
        ] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, "x").expect("written");
        }
        let hive = expand(dir.path(), &Paths::One("a".into()), None).expect("files");
        assert_eq!(hive.len(), 2);
        assert_eq!(hive[1].hive, [("month".to_string(), "2024-02".to_string())]);
        let globbed = expand(dir.path(), &Paths::One("b*.parquet".into()), None).expect("files");
        assert_eq!(globbed.iter().map(|f| f.format).collect::<Vec<_>>(), [Format::Parquet; 2]);
        assert!(expand(dir.path(), &Paths::One("c*.csv".into()), None).is_err());
    }
}
