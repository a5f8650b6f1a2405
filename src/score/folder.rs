//! Scores as a folder of Parquet files, one for each partition of customers: a run that was killed
//! leaves whole files, and the next one makes those that are missing.
//!
//! `_plan.json` says what is scored and with what; a line of `_done.jsonl` follows each file, and
//! `_manifest.json` closes the folder once all are there. Readers of folders pass over these names.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::partitions::{Divided, PartScores};
use super::{Detail, Job, by_risk, columns, in_parts, nobody};
use crate::clock::Month;
use crate::error::{Kind, Result};
use crate::fsx;
use crate::panel::{self, BuildReport};
use crate::source::write::TableDraft;

const PLAN: &str = "_plan.json";
const DONE: &str = "_done.jsonl";
const MANIFEST: &str = "_manifest.json";

const FORMAT: u32 = 1;

/// A line for each of at most a thousand files, or for each input.
const BYTES_MAX: u64 = 16 << 20;

/// What the files of a folder have in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Plan {
    format: u32,
    bundle_id: String,
    /// As it was asked for.
    as_of: Option<Month>,
    curve: bool,
    partitions: usize,
    inputs: Vec<Input>,
}

/// A file that is scored. Whether it is still the same is told without reading it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Input {
    path: PathBuf,
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u64,
}

/// One file of scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartFile {
    pub name: String,
    pub customers: usize,
    /// Customers who had left before; they are not scored.
    pub gone: usize,
    pub bytes: u64,
    pub sha256: String,
}

/// `_manifest.json` of a folder that is complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub bundle_id: String,
    /// None without dated sources.
    pub as_of: Option<Month>,
    pub customers: usize,
    pub gone: usize,
    pub files: Vec<PartFile>,
}

/// A folder of scores that is whole.
pub struct Filled {
    pub manifest: Manifest,
    /// How many of the files were there before.
    pub before: usize,
    /// What was mended or left out for those that were not.
    pub report: BuildReport,
}

/// Scores all customers into `folder`: `part-00000.parquet` and so on with the columns of
/// [`write`](super::write) but `rank`, which no file knows, each with its highest risk first. Which
/// customer is in which file follows from its id.
///
/// With `resume` a folder that was begun with the same bundle, inputs and options is gone on with.
///
/// # Errors
/// [`Kind::Usage`] if the folder holds something else or another process writes into it, and those
/// of [`score`](super::score).
pub fn score_into(job: &Job, folder: &Path, resume: bool) -> Result<Filled> {
    let (plan, begun) = agree(job, folder, resume)?;
    let job = &Job { partitions: plan.partitions, ..*job };
    let Some(_held) = fsx::hold(&folder.join(PLAN))? else {
        return Err(Kind::Usage.at(folder).msg("is being written by another process"));
    };
    if begun && folder.join(MANIFEST).exists() {
        let manifest: Manifest = read(&folder.join(MANIFEST))?;
        let files = manifest.files.len();
        return Ok(Filled { manifest, before: files, report: BuildReport::default() });
    }
    let there = if begun { done_before(folder, plan.partitions)? } else { BTreeMap::new() };
    let divided = Divided::new(job)?;
    let report = Mutex::new(divided.report.clone());
    let log = Mutex::new(fsx::open_append(&folder.join(DONE))?);
    let files = in_parts(job, plan.partitions, |part, cores| {
        if let Some(file) = there.get(&part) {
            return Ok(file.clone());
        }
        let scored = divided.scored(part, cores, &mut |_| Ok(()))?;
        let scored = scored.unwrap_or_default();
        report.lock().unwrap_or_else(PoisonError::into_inner).add(&scored.report);
        let file = write_part(job, divided.as_of, part, scored, folder)?;
        // What a killed run left of its last line ends here.
        let line = [b"\n", json(&file)?.as_slice()].concat();
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        let written = log.write_all(&line).and_then(|()| log.sync_data());
        written.map_err(|error| Kind::Environment.at(folder.join(DONE)).io(&error))?;
        Ok(file)
    })?;
    let sum = |of: fn(&PartFile) -> usize| files.iter().map(of).sum();
    let manifest = Manifest {
        format: FORMAT,
        bundle_id: plan.bundle_id,
        as_of: divided.as_of,
        customers: sum(|file| file.customers),
        gone: sum(|file| file.gone),
        files,
    };
    if manifest.customers == 0 {
        return Err(nobody());
    }
    fsx::publish_bytes(&folder.join(MANIFEST), &json(&manifest)?)?;
    let report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Filled { manifest, before: there.len(), report })
}

/// The plan that holds, and whether it was there before.
fn agree(job: &Job, folder: &Path, resume: bool) -> Result<(Plan, bool)> {
    let path = folder.join(PLAN);
    let plan = Plan::of(job)?;
    if path.exists() {
        if !resume {
            let error = Kind::Usage.at(folder).msg("holds scores already");
            return Err(error.hint("--resume makes what is missing there, or name another folder"));
        }
        let there: Plan = read(&path)?;
        if let Some(what) = there.differs(&plan) {
            let error = Kind::Usage.at(folder).msg(format!("was begun with {what}"));
            return Err(error.hint("score into another folder"));
        }
        return Ok((there, true));
    }
    let used = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if used {
        let error = Kind::Usage.at(folder).msg("is there and holds no scores");
        return Err(error.hint("name a new folder, or a file: .csv, .parquet, .arrow or .ndjson"));
    }
    fsx::create_folder(folder)?;
    fsx::publish_bytes(&path, &json(&plan)?)?;
    Ok((plan, false))
}

impl Plan {
    fn of(job: &Job) -> Result<Self> {
        let inputs = job.inputs.files.iter().flatten().map(|file| Input::of(&file.path));
        Ok(Plan {
            format: FORMAT,
            bundle_id: job.bundle.manifest.bundle_id.clone(),
            as_of: job.as_of,
            curve: job.detail == Detail::Curve,
            partitions: job.partitions.clamp(1, panel::PARTITIONS_MAX),
            inputs: inputs.collect::<Result<_>>()?,
        })
    }

    /// Why what is there cannot be gone on with. How many files it has is its own affair.
    fn differs(&self, asked: &Plan) -> Option<&'static str> {
        let countable = (1..=panel::PARTITIONS_MAX).contains(&self.partitions);
        let reasons = [
            (self.format != asked.format || !countable, "another version of this program"),
            (self.bundle_id != asked.bundle_id, "another bundle"),
            (self.as_of != asked.as_of, "another --as-of"),
            (self.curve != asked.curve, "another --curve"),
            (self.inputs != asked.inputs, "other input files, or they were changed since"),
        ];
        reasons.into_iter().find_map(|(differs, what)| differs.then_some(what))
    }
}

impl Input {
    fn of(path: &Path) -> Result<Self> {
        let at = |error: std::io::Error| Kind::Data.at(path).io(&error);
        let facts = path.metadata().map_err(at)?;
        let modified = facts.modified().map_err(at)?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let path = path.canonicalize().map_err(at)?;
        Ok(Input { path, bytes: facts.len(), modified: modified.as_nanos() as u64 })
    }
}

/// The files that a run before this one finished, by partition. What its last moment left half
/// written, as a line or as a file, is not among them.
fn done_before(folder: &Path, partitions: usize) -> Result<BTreeMap<usize, PartFile>> {
    let path = folder.join(DONE);
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let mut done = BTreeMap::new();
    let names: BTreeMap<String, usize> = (0..partitions).map(|part| (name(part), part)).collect();
    for line in fsx::read_limited(&path, BYTES_MAX)?.split(|byte| *byte == b'\n') {
        let Ok(file) = serde_json::from_slice::<PartFile>(line) else { continue };
        let Some(&part) = names.get(&file.name) else { continue };
        let is = fsx::sha256_file(&folder.join(&file.name));
        if is.is_ok_and(|(sha256, bytes)| sha256 == file.sha256 && bytes == file.bytes) {
            done.insert(part, file);
        }
    }
    Ok(done)
}

fn name(part: usize) -> String {
    format!("part-{part:05}.parquet")
}

fn write_part(
    job: &Job,
    as_of: Option<Month>,
    part: usize,
    scored: PartScores,
    folder: &Path,
) -> Result<PartFile> {
    let PartScores { mut rows, gone, .. } = scored;
    rows.sort_by(by_risk);
    let name = name(part);
    let path = folder.join(&name);
    let mut table = TableDraft::begin(&path)?;
    let bundle_id = &job.bundle.manifest.bundle_id;
    table.write(columns(&rows, as_of, None, bundle_id, job.curve_months()?))?;
    table.publish()?;
    let (sha256, bytes) = fsx::sha256_file(&path)?;
    Ok(PartFile { name, customers: rows.len(), gone, bytes, sha256 })
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Kind::Internal.msg(error.to_string()))
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let bytes = fsx::read_limited(path, BYTES_MAX)?;
    serde_json::from_slice(&bytes).map_err(|error| Kind::Corrupt.at(path).msg(error.to_string()))
}
