//! `churn train`: from a configuration to a run folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::args::TrainArgs;
use super::context::{Context, catch_signals};
use super::data::{self, Data};
use super::fold::{FoldResult, ModelResult, NetworkResult, Session};
use super::predictions::{Predictions, Scores, View};
use super::progress::Voice;
use super::run_folder::{self, RunFolder};
use super::{memory, output};
use crate::bundle::{self, Contents, GOLDEN_ROWS, Model, Origin, Scorer};
use crate::clock::Clock;
use crate::config::Resolved;
use crate::error::{Kind, Result};
use crate::eval::{FoldMetrics, Metrics, ModelMetrics, RunMetrics, metrics};
use crate::fsx;
use crate::panel::Part;
use crate::quality;
use crate::report::{self, ModelScores, QualityLine, ReportInput, TrainingCurve};
use crate::tensors;
use crate::train::{NEVER, Start, prior_correction};

/// Parses, trains, prints the table of test metrics.
pub fn run(context: &Context, args: &TrainArgs) -> Result<()> {
    let device = args.device.iter().map(|d| ("train.device".to_owned(), d.clone()));
    let resolved = args.config.load_with(&device.collect::<Vec<_>>())?;
    let start = if args.resume { Start::Resume } else { Start::Fresh };
    let run = train(&resolved, args.out.as_deref(), start, &context.clock)?;
    output::print(&format!("{}\nrun      {}\n", run.metrics.table("test"), run.folder.display()))?;
    output::print(&format!("bundle   {}/bundle ({})", run.folder.display(), run.bundle_id))
}

/// A finished run.
pub struct Run {
    pub folder: std::path::PathBuf,
    pub metrics: RunMetrics,
    pub bundle_id: String,
}

/// The whole way from files to a published run folder.
pub fn train(
    resolved: &Resolved,
    out: Option<&Path>,
    start: Start,
    clock: &Arc<dyn Clock>,
) -> Result<Run> {
    let sha256 = resolved.sha256();
    let stem = format!("{}-{}", resolved.config.name, &sha256[..8]);
    let folder = run_folder::locate(out, start, &stem, clock.as_ref())?;
    let device = tensors::choose(resolved.config.train.device.parse()?)?;
    tracing::info!("device {}", device.reason);
    let findings = quality::run(&resolved.config, &resolved.root())?;
    fsx::publish_bytes(&folder.path.join("quality.json"), findings.to_json().as_bytes())?;
    if findings.errors() + findings.warnings() > 0 {
        tracing::warn!("data quality:\n{}", findings.to_text());
    }
    data::gate(&findings)?;
    let budget = memory::budget(&resolved.config);
    let cut = memory::cut(&resolved.config, findings.size, budget);
    let data = data::load(resolved, cut, &folder.path)?;
    let write_config =
        || fsx::publish_bytes(&folder.path.join("config.toml"), resolved.to_toml().as_bytes());
    // A run that may not be resumed with these settings keeps the file that tells its own.
    if folder.start == Start::Fresh {
        write_config()?;
    }
    let hparams: Vec<(String, String)> = resolved.leaves().into_iter().map(text).collect();
    let session = Session {
        config: &resolved.config,
        config_sha256: &sha256,
        data: &data,
        budget,
        device: &device,
        folder: &folder.path,
        start: folder.start,
        stop: &catch_signals()?,
        clock,
        hparams: &hparams,
        voice: Voice::Epochs,
        pause_after_epoch: NEVER,
    };
    let mut predictions = Predictions::begin(&folder.path.join("predictions.parquet"))?;
    let folds = train_folds(&session, &mut predictions)?;
    write_config()?;
    predictions.publish()?;
    let metrics = evaluate(resolved, &folds);
    let run = publish(&Outcome { resolved, sha256, folder, data, findings, folds, metrics })?;
    if let Some(bytes) = memory::peak() {
        tracing::info!("peak memory {} MB", bytes.div_ceil(1 << 20));
    }
    Ok(run)
}

fn text((path, value): (String, toml::Value)) -> (String, String) {
    (path, value.to_string())
}

fn train_folds(session: &Session, predictions: &mut Predictions) -> Result<Vec<FoldResult>> {
    let folds = session.data.folds().into_iter().enumerate();
    folds.map(|(at, number)| session.run(at, number, predictions)).collect()
}

/// All that a run produced, before it is written.
struct Outcome<'a> {
    resolved: &'a Resolved,
    sha256: String,
    folder: RunFolder,
    data: Data,
    findings: quality::Report,
    folds: Vec<FoldResult>,
    metrics: RunMetrics,
}

fn publish(outcome: &Outcome) -> Result<Run> {
    let path = &outcome.folder.path;
    let bundle_id = export(outcome, &path.join("bundle"))?;
    let json = serde_json::to_vec_pretty(&outcome.metrics)
        .map_err(|error| Kind::Internal.msg(error.to_string()))?;
    fsx::publish_bytes(&path.join("report.html"), write_report(outcome, &bundle_id)?.as_bytes())?;
    // Last, so that a folder with metrics is a finished run.
    fsx::publish_bytes(&path.join("metrics.json"), &json)?;
    Ok(Run { folder: path.clone(), metrics: outcome.metrics.clone(), bundle_id })
}

fn evaluate(resolved: &Resolved, folds: &[FoldResult]) -> RunMetrics {
    let mut run = RunMetrics::default();
    for (at, model) in folds[0].models.iter().enumerate() {
        let of_fold = |result: &FoldResult| split_metrics(resolved, &result.models[at]);
        let by_fold: Vec<BTreeMap<String, Metrics>> = folds.iter().map(of_fold).collect();
        let mut entry = match (&folds[0].number, by_fold.len()) {
            (None, 1) => ModelMetrics::single(by_fold.into_iter().next().unwrap_or_default()),
            _ => {
                let fold = |(number, splits)| FoldMetrics { fold: number, splits };
                let numbers = folds.iter().map(|fold| fold.number.unwrap_or(0));
                ModelMetrics::of_folds(numbers.zip(by_fold).map(fold).collect())
            }
        };
        let all = || folds.iter().map(|fold| &fold.models[at]);
        entry.training_seconds = Some(all().map(|m| m.seconds).sum());
        entry.parameters = Some(model.parameters);
        let epochs: Vec<f64> =
            all().filter_map(|m| m.network.as_ref()).map(|n| n.history.len() as f64).collect();
        entry.epochs =
            (!epochs.is_empty()).then(|| epochs.iter().sum::<f64>() / epochs.len() as f64);
        run.models.insert(model.name.to_owned(), entry);
    }
    run
}

/// Of the parts that were predicted.
fn split_metrics(resolved: &Resolved, model: &ModelResult) -> BTreeMap<String, Metrics> {
    let share = resolved.config.eval.contact_share;
    let scores = Part::LABELLED.iter().zip(&model.scores);
    scores
        .filter(|(_, scores)| !scores.labels.is_empty())
        .map(|(part, scores)| {
            (part.name().to_owned(), metrics(&scores.labels, &scores.risks, share))
        })
        .collect()
}

/// Exports the network with the best validation log loss; where there are folds, the weights of
/// the first one, which were learned without its validation and test customers.
fn export(outcome: &Outcome, path: &Path) -> Result<String> {
    let Outcome { resolved, data, folds, metrics, .. } = outcome;
    let loss = |model: &&ModelResult| metrics.models[model.name].splits["validation"].log_loss;
    let networks = folds[0].models.iter().filter(|model| model.network.is_some());
    let best = networks
        .min_by(|a, b| loss(a).total_cmp(&loss(b)))
        .ok_or_else(|| Kind::Config.msg("models.use names no network to export"))?;
    let network: &NetworkResult = best.network.as_ref().expect("filtered above");
    let model = Model {
        architecture: network.architecture.clone(),
        intake: data.intake.clone(),
        label: resolved.config.label.clone(),
        log_odds_shift: prior_correction(&resolved.config.train),
    };
    let features = folds[0].features.clone();
    let cpu = tensors::choose(tensors::Want::Cpu)?;
    let scorer = Scorer::new(&model, features.clone(), &network.parameters, &cpu.device)?;
    let sample = data.sample(0);
    let golden = scorer.golden(sample.panel, &golden_places(sample)?, &model)?;
    let contents = Contents { model, features, parameters: network.parameters.clone(), golden };
    let origin = Origin {
        data_set: resolved.config.name.clone(),
        run_id: outcome.folder.id.clone(),
        seed: resolved.config.seed,
        config_sha256: outcome.sha256.clone(),
        data_sha256: data.facts.sha256.clone(),
        fold: folds[0].number,
    };
    bundle::publish(path, &contents, &origin, &metrics.models[best.name])
}

/// Test snapshots, evenly over all of them.
fn golden_places(sample: View) -> Result<Vec<(usize, usize)>> {
    let members = sample.fold.members(Part::Test);
    if members.is_empty() {
        let error = Kind::Data.msg("the sample of customers holds no snapshot of the test part");
        return Err(error.hint("raise train.memory_gb"));
    }
    let rows = GOLDEN_ROWS.min(members.len());
    let place = |&s: &u32| {
        let s = s as usize;
        (sample.snapshots.customers[s] as usize, sample.snapshots.months[s] as usize)
    };
    Ok((0..rows).map(|row| place(&members[row * members.len() / rows])).collect())
}

fn write_report(outcome: &Outcome, bundle_id: &str) -> Result<String> {
    let Outcome { resolved, data, findings, folds, metrics, .. } = outcome;
    let mut scores: Vec<(&str, Scores)> = Vec::new();
    let mut training = Vec::new();
    for (at, model) in folds[0].models.iter().enumerate() {
        let mut test = Scores::default();
        for result in folds {
            let [.., of_fold] = &result.models[at].scores;
            test.labels.extend(&of_fold.labels);
            test.risks.extend(&of_fold.risks);
            if let Some(network) = &result.models[at].network {
                let point = |e: &crate::train::EpochRecord| {
                    (e.epoch as f64, e.train_loss, e.validation_log_loss)
                };
                let points = network.history.iter().map(point).collect();
                let model = model.name.to_owned();
                training.push(TrainingCurve { model, fold: result.number, points });
            }
        }
        scores.push((model.name, test));
    }
    let scores: Vec<ModelScores> = scores
        .iter()
        .map(|(name, test)| ModelScores { name, labels: &test.labels, risks: &test.risks })
        .collect();
    let quality: Vec<QualityLine> = findings.findings.iter().map(quality_line).collect();
    report::render(&ReportInput {
        title: &resolved.config.name,
        run_id: &outcome.folder.id,
        bundle_id: Some(bundle_id),
        data_summary: &data.summary(),
        quality: &quality,
        metrics,
        scores: &scores,
        training: &training,
        config_toml: &resolved.to_toml(),
        notes: &data.notes(),
    })
}

fn quality_line(finding: &quality::Finding) -> QualityLine {
    let column = finding.column.as_ref().map_or(String::new(), |c| format!(".{c}"));
    let example = finding.example.as_ref().map_or(String::new(), |e| format!(", first: {e}"));
    QualityLine {
        name: format!("{} {}{column}", finding.rule, finding.source),
        severity: finding.severity,
        passed: finding.passed,
        detail: format!("{} of {} rows broken{example}", finding.failed, finding.rows),
    }
}
