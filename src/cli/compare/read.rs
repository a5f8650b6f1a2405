//! Test rows of one model, from a run folder or from a table of a peer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Name;
use crate::clock::Month;
use crate::config::{ColumnType, OnBad, Paths};
use crate::error::{Error, Kind, Result};
use crate::eval::RunMetrics;
use crate::eval::compare::rows::{Predicted, Row};
use crate::fsx;
use crate::source::{self, Batch, Cells, DataFile, Limits, Wanted, read::column_names, scan};

/// A run's `metrics.json` holds some kilobytes a model and fold.
const METRICS_BYTES_MAX: u64 = 64 << 20;

/// A table of predictions has some ten columns; a peer's may stand among features.
const LIMITS: Limits = Limits { columns_max: 4096, cell_bytes_max: 1 << 16 };

const KEY: &str = "customer_id";

/// Names under which a column is known, the first one that a table has counts.
const RISK: &[&str] = &["risk", "score"];
const LABEL: &[&str] = &["label", "y", "churned"];

/// Where predictions lie.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    Run(&'a Path),
    Peer(&'a Path),
}

/// Which of them.
pub struct Asked<'a> {
    /// None: the champion of a run, the only model of a peer's table.
    pub model: Option<&'a str>,
    pub seed: Option<u64>,
    /// All if empty.
    pub folds: &'a [u32],
}

/// # Errors
/// [`Kind::Usage`] for a model, seed or fold that is not there, [`Kind::Data`] or [`Kind::Schema`]
/// for a table that holds no predictions.
pub fn predicted(source: Source, asked: &Asked) -> Result<(Name, Predicted)> {
    let (path, model) = match source {
        Source::Run(folder) => {
            let model = match asked.model {
                Some(name) => name.to_owned(),
                None => champion(folder)?,
            };
            (in_run(folder, "predictions.parquet")?, Some(model))
        }
        Source::Peer(file) if !file.is_file() => return Err(missing(file)),
        Source::Peer(file) => (file.to_path_buf(), asked.model.map(str::to_owned)),
    };
    let mut table = Table { model, seed: asked.seed, ..Table::open(&path)? };
    table.read()?;
    table.choose(asked)
}

/// A file that a finished training leaves in its run folder.
fn in_run(run: &Path, name: &str) -> Result<PathBuf> {
    let path = run.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(missing(&path).hint("a finished training has put it into its run folder"))
}

fn missing(path: &Path) -> Error {
    Kind::Data.at(path).msg("there is no such file")
}

fn champion(run: &Path) -> Result<String> {
    let path = in_run(run, "metrics.json")?;
    let bytes = fsx::read_limited(&path, METRICS_BYTES_MAX)?;
    let metrics: RunMetrics = serde_json::from_slice(&bytes)
        .map_err(|error| Kind::Corrupt.at(&path).msg(format!("is no metrics file: {error}")))?;
    metrics.champion.ok_or_else(|| {
        Kind::Data.at(&path).msg("names no champion").hint("name models by --model-a and --model-b")
    })
}

/// A table of predictions while it is read.
struct Table {
    files: Vec<DataFile>,
    columns: Columns,
    model: Option<String>,
    seed: Option<u64>,
    rows: Vec<Row>,
    /// Rows of the train part, by fold.
    train_rows: BTreeMap<u32, u64>,
    models: BTreeSet<String>,
    seeds: BTreeSet<u64>,
    /// Folds of test rows.
    folds: BTreeSet<u32>,
}

/// Names of the columns that the table has.
struct Columns {
    risk: &'static str,
    label: Option<&'static str>,
    others: Vec<&'static str>,
}

impl Columns {
    fn of(path: &Path, names: &[String]) -> Result<Self> {
        let first = |known: &[&'static str]| {
            known.iter().copied().find(|name| names.iter().any(|have| have == name))
        };
        let missing = |what: &str| {
            let text = format!("has no column {what}");
            Kind::Schema.at(path).msg(text).hint("see churn compare --help for a peer's columns")
        };
        first(&[KEY]).ok_or_else(|| missing("`customer_id`"))?;
        let risk = first(RISK).ok_or_else(|| missing("`risk` or `score`"))?;
        let others = ["model", "split", "as_of", "fold", "seed"].into_iter();
        let others = others.filter(|name| first(&[name]).is_some()).collect();
        Ok(Columns { risk, label: first(LABEL), others })
    }

    fn wanted(&self) -> Vec<Wanted> {
        let of = |name: &str, kind| Wanted { name: name.into(), kind, on_bad: OnBad::Error };
        let number = |name: &str| of(name, ColumnType::Number);
        let kind = |name: &str| match name {
            "fold" | "seed" => ColumnType::Number,
            _ => ColumnType::Category,
        };
        let others = self.others.iter().map(|name| of(name, kind(name)));
        std::iter::once(number(self.risk)).chain(self.label.map(number)).chain(others).collect()
    }
}

impl Table {
    fn open(path: &Path) -> Result<Self> {
        let text = path.to_str().ok_or_else(|| Kind::Data.at(path).msg("its name is not UTF-8"))?;
        let files = source::expand(Path::new(""), &Paths::One(text.to_owned()), None)?;
        let columns = Columns::of(path, &column_names(&files[0], &LIMITS)?)?;
        Ok(Table {
            files,
            columns,
            model: None,
            seed: None,
            rows: Vec::new(),
            train_rows: BTreeMap::new(),
            models: BTreeSet::new(),
            seeds: BTreeSet::new(),
            folds: BTreeSet::new(),
        })
    }

    /// Reads the rows of the asked model and seed; of the others only what they are.
    fn read(&mut self) -> Result<()> {
        let (files, wanted) = (self.files.clone(), self.columns.wanted());
        let read = scan(&files, KEY, &wanted, &LIMITS, &mut |batch| self.take(&batch));
        // The hint of a bad cell is about the columns of a declared source.
        read.map(|_| ()).map_err(|error| match error.kind {
            Kind::Schema => Error { hint: None, ..error },
            _ => error,
        })
    }

    fn take(&mut self, batch: &Batch) -> Result<()> {
        let names = self.columns.wanted();
        let cells = |name: &str| {
            let at = names.iter().position(|wanted| wanted.name == name)?;
            Some(&batch.cells[at])
        };
        let number = |name: &str, row: usize| match cells(name) {
            Some(Cells::Number(cells)) => Some(cells[row]),
            _ => None,
        };
        let text = |name: &str, row: usize| match cells(name) {
            Some(Cells::Category(cells)) => cells.get(row),
            _ => None,
        };
        for (row, customer) in batch.keys.iter().enumerate() {
            let fail = |message: String| batch.error(Kind::Data, row, message);
            let whole = |name: &str| match number(name, row) {
                None => Ok(None),
                Some(x) if x >= 0.0 && x <= f64::from(u32::MAX) && x.fract() == 0.0 => {
                    Ok(Some(x as u32))
                }
                Some(x) => Err(fail(format!("`{name}` is {x}, expected a whole number from 0"))),
            };
            let fold = whole("fold")?.unwrap_or(0);
            let seed = whole("seed")?.map(u64::from);
            let model = text("model", row);
            if let Some(model) = model.filter(|model| !self.models.contains(*model)) {
                self.models.insert(model.to_owned());
            }
            if model.is_some() && self.model.as_deref().is_some_and(|of| Some(of) != model) {
                continue;
            }
            match text("split", row) {
                Some("train") => *self.train_rows.entry(fold).or_default() += 1,
                Some("test") | None => {
                    self.seeds.extend(seed);
                    self.folds.insert(fold);
                    if self.seed.is_some() && seed.is_some() && self.seed != seed {
                        continue;
                    }
                    let risk = number(self.columns.risk, row).unwrap_or(f64::NAN);
                    if !(0.0..=1.0).contains(&risk) {
                        let name = self.columns.risk;
                        let text =
                            format!("`{name}` is {risk}, expected a probability from 0 to 1");
                        return Err(fail(text));
                    }
                    let label = self.columns.label.and_then(|name| number(name, row));
                    let label = match label.filter(|label| !label.is_nan()) {
                        None => None,
                        Some(0.0) => Some(false),
                        Some(1.0) => Some(true),
                        Some(x) => return Err(fail(format!("the label is {x}, expected 0 or 1"))),
                    };
                    let month = |text: &str| text.parse::<Month>().map_err(|e| fail(e.message));
                    let as_of = text("as_of", row).map(month).transpose()?;
                    self.rows.push(Row { fold, customer: customer.to_owned(), as_of, label, risk });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The rows that were asked for, once it is known what there is.
    fn choose(mut self, asked: &Asked) -> Result<(Name, Predicted)> {
        let path = self.files[0].path.clone();
        let usage = |text: String| Kind::Usage.at(&path).msg(text);
        let models: Vec<&str> = self.models.iter().map(String::as_str).collect();
        let model = match (&self.model, models.as_slice()) {
            (Some(name), []) => {
                return Err(usage(format!("its rows name no model, so that there is no `{name}`")));
            }
            (Some(name), all) if !all.contains(&name.as_str()) => {
                let error = usage(format!("holds no model `{name}`"));
                return Err(error.hint(format!("there are {}", all.join(", "))));
            }
            (None, [_, _, ..]) => {
                let error = usage(format!("holds the models {}", models.join(", ")));
                return Err(error.hint("choose one by --model-b"));
            }
            (name, all) => name.clone().or_else(|| all.first().map(|&one| one.to_owned())),
        };
        let seed = self.chosen_seed(&usage)?;
        if let Some(missing) = asked.folds.iter().find(|&fold| !self.folds.contains(fold)) {
            let there: Vec<String> = self.folds.iter().map(u32::to_string).collect();
            let error = usage(format!("holds no test row of fold {missing}"));
            return Err(error.hint(format!("there are folds {}", there.join(", "))));
        }
        self.rows.retain(|row| asked.folds.is_empty() || asked.folds.contains(&row.fold));
        let shown = match path.file_name().is_some_and(|name| name == "predictions.parquet") {
            true => path.parent().unwrap_or(&path),
            false => &path,
        };
        let name = Name { path: shown.display().to_string(), model, seed };
        let predicted =
            Predicted { name: name.describe(), rows: self.rows, train_rows: self.train_rows };
        Ok((name, predicted))
    }

    /// A table that holds several seeds is asked for one of them.
    fn chosen_seed(&self, usage: &dyn Fn(String) -> Error) -> Result<Option<u64>> {
        let all: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        match (self.seed, all.len()) {
            (Some(seed), _) if !self.seeds.contains(&seed) => {
                let error = usage(format!("holds no seed {seed}"));
                Err(error.hint(format!("there are seeds {}", all.join(", "))))
            }
            (None, 2..) => Err(usage(format!("holds the seeds {}", all.join(", ")))
                .hint("choose one by --peer-seed")),
            (seed, _) => Ok(seed),
        }
    }
}
