//! The exported model: one folder that never changes, and a loader that trusts nothing in it.
//!
//! | file | holds |
//! |---|---|
//! | `manifest.json` | format, id, sha256 and size of each file, seed, hashes, metrics |
//! | `model.json` | its members with their weights, the calibrator, and what was read: sources, label |
//! | `features.json` | the fitted features |
//! | `<member>.safetensors` | parameters of a network |
//! | `<member>.json` | nodes of trees, or weights of a logistic regression |
//! | `golden.jsonl` | raw customers with their risks, scored again on every load |
//! | `model.onnx` | all of it for other runtimes; made from the rest; here it is checked only |

mod cores;
mod golden;
mod manifest;
mod member;
mod scorer;

use std::collections::BTreeSet;
use std::path::Path;

use burn::tensor::Device;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::config::LabelSpec;
use crate::error::{Kind, Result};
use crate::eval::Calibrator;
use crate::features::FittedFeatures;
use crate::fsx;
use crate::panel::Intake;

pub use golden::{GOLDEN_ROWS, GoldenRow, parse as parse_rows, score as score_rows};
pub use manifest::{Champion, FileEntry, Identity, Manifest, Origin};
pub use member::{Form, Learned, Member, Ready, Uncalibrated};
pub use scorer::{Outlook, Scorer};

const MODEL: &str = "model.json";
const FEATURES: &str = "features.json";
const GOLDEN: &str = "golden.jsonl";

/// The file for other runtimes.
pub const ONNX: &str = "model.onnx";

/// Names that no member's file may have.
const RESERVED: [&str; 5] = [manifest::NAME, MODEL, FEATURES, GOLDEN, ONNX];

/// What the files hold, apart from the manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Contents {
    pub model: Model,
    pub features: FittedFeatures,
    /// One per member of the model.
    pub learned: Vec<Learned>,
    pub golden: Vec<GoldenRow>,
}

/// What is computed, and from which tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Their log-odds are averaged by weight; weights sum to 1.
    pub members: Vec<Member>,
    /// Applied to the mean.
    pub calibrator: Calibrator,
    pub intake: Intake,
    /// What the risk is the probability of.
    pub label: LabelSpec,
}

/// Rounding of a sum of weights.
const WEIGHTS_TOLERANCE: f64 = 1e-6;

impl Model {
    /// What is wrong with a model that comes from elsewhere, if anything is.
    fn fault(&self) -> Option<String> {
        let members = 1..=member::MEMBERS_MAX;
        if !members.contains(&self.members.len()) {
            return Some(format!("it has {} members", self.members.len()));
        }
        let sum: f64 = self.members.iter().map(|member| member.weight).sum();
        let names: BTreeSet<&str> = self.members.iter().map(|member| &*member.name).collect();
        let fault = self.members.iter().find_map(Member::fault);
        let checks = [
            (names.len() < self.members.len()).then(|| "two members share a name".to_owned()),
            ((sum - 1.0).abs() > WEIGHTS_TOLERANCE).then(|| format!("its weights sum to {sum}")),
            self.calibrator.fault().map(str::to_owned),
        ];
        fault.or_else(|| checks.into_iter().flatten().next()).or_else(|| self.fault_of_months())
    }

    fn fault_of_months(&self) -> Option<String> {
        let horizon = self.label.horizon() as usize;
        let differs = |member: &&Member| ![1, horizon].contains(&member.hazards());
        let member = self.members.iter().find(differs)?;
        let (name, months) = (&member.name, member.hazards());
        Some(format!("`{name}` predicts {months} months, where the window has {horizon}"))
    }

    /// Months of its risk curve; 1 = it knows the risk of the whole window only. An average of
    /// models has no curve, even where one of them has.
    pub fn curve_months(&self) -> usize {
        match &self.members[..] {
            [member] => member.hazards(),
            _ => 1,
        }
    }
}

/// Makes files out of the contents of a bundle, given its id.
pub type Derive<'a> = &'a dyn Fn(&str) -> Result<Vec<(String, Vec<u8>)>>;

/// Writes a bundle and returns its id. What `derive` makes lies beside the contents and stands in
/// the manifest, but takes no part in the id.
pub fn publish(
    folder: &Path,
    contents: &Contents,
    (champion, origin): (&Champion, &Origin),
    derive: Derive,
) -> Result<String> {
    let mut golden = Vec::new();
    for row in &contents.golden {
        golden.extend(json(row)?);
        golden.push(b'\n');
    }
    let mut files = vec![
        (MODEL.to_owned(), pretty(&contents.model)?),
        (FEATURES.to_owned(), pretty(&contents.features)?),
        (GOLDEN.to_owned(), golden),
    ];
    for (member, learned) in contents.model.members.iter().zip(&contents.learned) {
        files.push((member.file(), learned.to_bytes()?));
    }
    let mut manifest = Manifest::new(&files, champion, origin);
    for (name, bytes) in derive(&manifest.bundle_id)? {
        manifest.add(&name, &bytes);
        files.push((name, bytes));
    }
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
    open(folder, device).map(|(bundle, _)| bundle)
}

/// Like [`load`], with what the files hold.
pub fn open(folder: &Path, device: &Device) -> Result<(Bundle, Contents)> {
    if !folder.is_dir() {
        return Err(Kind::Data.at(folder).msg("is no bundle: there is no such folder"));
    }
    let manifest = Manifest::read(folder)?;
    let model: Model = parse(folder, MODEL, &manifest.checked(folder, MODEL)?)?;
    let features: FittedFeatures = parse(folder, FEATURES, &manifest.checked(folder, FEATURES)?)?;
    if let Some(fault) = model.fault() {
        return Err(Kind::Corrupt.at(folder.join(MODEL)).msg(fault));
    }
    if let Some(fault) = features.fault() {
        return Err(Kind::Corrupt.at(folder.join(FEATURES)).msg(fault));
    }
    let golden = golden::parse(&manifest.checked(folder, GOLDEN)?, &folder.join(GOLDEN))?;
    let mut learned = Vec::new();
    for member in &model.members {
        let (file, path) = (member.file(), folder.join(member.file()));
        let found = Learned::parse(&member.form, &manifest.checked(folder, &file)?, &path)?;
        // Alone first, so that a fault is told with its file.
        found
            .ready(&member.form, &features, device)
            .map_err(|error| Kind::Corrupt.at(&path).msg(error.message))?;
        learned.push(found);
    }
    if manifest.files.contains_key(ONNX) {
        manifest.checked(folder, ONNX)?;
    }
    let scorer = Scorer::new(&model, features.clone(), &learned, device)?;
    golden::check(&golden, &scorer, &model.intake, &folder.join(GOLDEN))?;
    let contents = Contents { model: model.clone(), features, learned, golden };
    Ok((Bundle { manifest, model, scorer }, contents))
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
