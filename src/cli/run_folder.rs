//! Where a run lies, and how it is found again.

use std::path::{Path, PathBuf};

use crate::clock::{Clock, format_day};
use crate::error::{Kind, Result};
use crate::train::Start;

const RUNS: &str = "runs";

/// Of a run that has begun to train.
pub const CONFIG: &str = "config.toml";

/// Of one that has checked its data.
pub const QUALITY: &str = "quality.json";

/// The folder of a run that is about to begin or to go on.
pub struct RunFolder {
    pub path: PathBuf,
    pub id: String,
    pub start: Start,
}

/// Finds or names the folder. `stem` is what all runs of this configuration share.
///
/// # Errors
/// [`Kind::Usage`] if a fresh run would mix with what is there, or there is nothing to resume.
pub fn locate(
    out: Option<&Path>,
    start: Start,
    stem: &str,
    clock: &dyn Clock,
) -> Result<RunFolder> {
    let path = match (out, start) {
        (Some(out), _) => out.to_path_buf(),
        (None, Start::Fresh) => Path::new(RUNS).join(format!("{}-{stem}", stamp(clock))),
        (None, Start::Resume) => newest(stem)?,
    };
    if start == Start::Fresh && has_files(&path) {
        let hint = match path.join(CONFIG).exists() {
            true => "go on with --resume, or choose another --out",
            false => "choose another --out",
        };
        return Err(Kind::Usage.at(&path).msg("is not empty").hint(hint));
    }
    let id = path.file_name().map_or_else(|| stem.to_owned(), |n| n.to_string_lossy().into_owned());
    Ok(RunFolder { path, id, start })
}

/// `20240331-142501`, UTC.
fn stamp(clock: &dyn Clock) -> String {
    let seconds = clock.unix_seconds();
    let (day, rest) = (seconds / 86_400, seconds % 86_400);
    let date = format_day(day as i32).replace('-', "");
    format!("{date}-{:02}{:02}{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

fn newest(stem: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(RUNS).into_iter().flatten().flatten().map(|e| e.path());
    let of_stem = |path: &PathBuf| path.to_string_lossy().ends_with(&format!("-{stem}"));
    entries.filter(of_stem).max().ok_or_else(|| {
        Kind::Usage
            .msg(format!("there is no run `{RUNS}/*-{stem}` to resume"))
            .hint("start it without --resume, or name its folder with --out")
    })
}

/// Whether there is anything but what a run leaves that ends at the checks of its data.
fn has_files(path: &Path) -> bool {
    let mut entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name() != QUALITY)
}

/// The folder itself, or the bundle inside a run.
pub fn bundle_of(folder: &Path) -> PathBuf {
    let inside = folder.join("bundle");
    if inside.is_dir() { inside } else { folder.to_owned() }
}
