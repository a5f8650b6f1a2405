//! `churn train`: from a configuration to a run folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::args::TrainArgs;
use super::context::{Context, catch_signals};
use super::curves::CurveScores;
use super::data::{self, Data};
use super::export::export;
use super::fold::{FoldResult, ModelResult, Session};
use super::predictions::{Predictions, Scores};
use super::progress::Voice;
use super::run_folder::{self, RunFolder};
use super::{memory, output};
use crate::clock::Clock;
use crate::config::{LabelSpec, Resolved};
use crate::error::{Kind, Result};
use crate::eval::{
    Ablation, Calibration, FoldMetrics, LossTrial, Metrics, ModelMetrics, RunMetrics, compare,
    metrics,
};
use crate::fsx;
use crate::panel::{self, Intake, Part};
use crate::quality;
use crate::report::{self, ModelScores, QualityLine, ReportInput, TrainingCurve};
use crate::tensors;
use crate::train::{NEVER, Start};

/// What `--ablate` sets: each part of the input alone, and both.
const ABLATION: [(&str, &str); 3] = [
    ("models.use", "[\"static\", \"gru\", \"hybrid\"]"),
    ("models.trees", "false"),
    ("models.champion", "auto"),
];

/// Parses, trains, prints the table of test metrics.
pub fn run(context: &Context, args: &TrainArgs) -> Result<()> {
    let device = args.device.iter().map(|d| ("train.device".to_owned(), d.clone()));
    let ablation = ABLATION.map(|(path, value)| (path.to_owned(), value.to_owned()));
    let ablation = ablation.into_iter().filter(|_| args.ablate);
    let resolved = args.config.load_with(&device.chain(ablation).collect::<Vec<_>>())?;
    if args.cv {
        cross_validates(&resolved)?;
    }
    let start = if args.resume { Start::Resume } else { Start::Fresh };
    let run = train(&resolved, args.out.as_deref(), start, &context.clock)?;
    let (table, curves) = (run.metrics.table("test"), run.metrics.curve_lines());
    let choices = run.metrics.choices();
    let across = compare::runs::table(&run.metrics);
    let across = if across.is_empty() { across } else { format!("\n{across}") };
    let folder = run.folder.display();
    output::print(&format!("{table}{curves}{choices}{across}\nrun      {folder}\n"))?;
    let champion = run.metrics.champion.as_deref().unwrap_or("none");
    let bundle = format!("{}/bundle ({})", run.folder.display(), run.bundle_id);
    output::print(&format!("champion {champion}\nbundle   {bundle}"))
}

/// # Errors
/// [`Kind::Usage`] if the split declares one fold.
fn cross_validates(resolved: &Resolved) -> Result<()> {
    let config = &resolved.config;
    if panel::declared_folds(&Intake::from(config), &resolved.root(), &config.split)? > 1 {
        return Ok(());
    }
    let over_time = !matches!(config.label, LabelSpec::Column { .. });
    let rolling = "split.kind = \"rolling\" with `origins` (out of time, several times), ";
    Err(Kind::Usage
        .at(&resolved.path)
        .msg("--cv needs several folds, and [split] declares one")
        .hint(format!(
            "declare {}split.kind = \"random\" with `folds` (customers, stratified), or \
             split.kind = \"folds\" with a table of `split_0`, `split_1`, ...",
            if over_time { rolling } else { "" }
        )))
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
    let devices = tensors::choose_all(&resolved.config.train.device.names())?;
    devices.iter().for_each(|device| tracing::info!("device {}", device.reason));
    let findings = quality::run(&resolved.config, &resolved.root())?;
    fsx::publish_bytes(&folder.path.join(run_folder::QUALITY), findings.to_json().as_bytes())?;
    if findings.errors() + findings.warnings() > 0 {
        tracing::warn!("data quality:\n{}", findings.to_text());
    }
    data::gate(&findings)?;
    let budget = memory::budget(&resolved.config);
    let cut = memory::cut(&resolved.config, findings.size, budget);
    let data = data::load(resolved, cut, &folder.path)?;
    let write_config =
        || fsx::publish_bytes(&folder.path.join(run_folder::CONFIG), resolved.to_toml().as_bytes());
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
        devices: &devices,
        folder: &folder.path,
        start: folder.start,
        stop: &catch_signals()?,
        clock,
        hparams: &hparams,
        voice: Voice::Epochs,
        pause_after_epoch: NEVER,
    };
    let path = folder.path.join("predictions.parquet");
    let mut predictions = Predictions::begin(&path, resolved.config.hazards())?;
    let folds = train_folds(&session, &mut predictions)?;
    write_config()?;
    predictions.publish()?;
    let metrics = evaluate(resolved, &folds);
    let outcome = Outcome { resolved, sha256, folder, data, findings, folds, metrics };
    let run = publish(&outcome, clock.as_ref())?;
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
pub struct Outcome<'a> {
    pub resolved: &'a Resolved,
    pub sha256: String,
    pub folder: RunFolder,
    pub data: Data,
    pub findings: quality::Report,
    pub folds: Vec<FoldResult>,
    pub metrics: RunMetrics,
}

fn publish(outcome: &Outcome, clock: &dyn Clock) -> Result<Run> {
    let path = &outcome.folder.path;
    let bundle_id = export(outcome, clock, &path.join("bundle"))?;
    let json = serde_json::to_vec_pretty(&outcome.metrics)
        .map_err(|error| Kind::Internal.msg(error.to_string()))?;
    fsx::publish_bytes(&path.join("report.html"), write_report(outcome, &bundle_id)?.as_bytes())?;
    // Last, so that a folder with metrics is a finished run.
    fsx::publish_bytes(&path.join("metrics.json"), &json)?;
    Ok(Run { folder: path.clone(), metrics: outcome.metrics.clone(), bundle_id })
}

fn evaluate(resolved: &Resolved, folds: &[FoldResult]) -> RunMetrics {
    let mut run = RunMetrics::default();
    for (at, name) in folds[0].names().enumerate() {
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
        entry.curve = CurveScores::metrics(folds.iter().map(|fold| &fold.models[at].curves));
        entry.calibration = Some(calibration(resolved, folds, at));
        if at < folds[0].learners.len() {
            let all = || folds.iter().map(|fold| &fold.learners[at]);
            entry.training_seconds = Some(all().map(|learner| learner.seconds).sum());
            entry.parameters = Some(folds[0].learners[at].learned.count());
            let epochs: usize = all().map(|learner| learner.history.len()).sum();
            entry.epochs = (epochs > 0).then(|| epochs as f64 / folds.len() as f64);
        } else {
            let share = |learner| mean(folds, |fold| fold.models[at].weights[learner]);
            let learners = folds[0].learners.iter().enumerate();
            entry.weights = learners.map(|(l, of)| (of.name.to_owned(), share(l))).collect();
        }
        run.models.insert(name.to_owned(), entry);
    }
    run.ablation = Ablation::of(&run);
    run.losses = LossTrial::over_folds(folds.iter().map(|fold| &fold.losses[..]));
    run.champion = match resolved.config.models.champion.as_str() {
        "auto" => run.best_on_validation().map(str::to_owned),
        name => Some(name.to_owned()),
    };
    run
}

fn mean(folds: &[FoldResult], of: impl Fn(&FoldResult) -> f64) -> f64 {
    folds.iter().map(of).sum::<f64>() / folds.len() as f64
}

fn calibration(resolved: &Resolved, folds: &[FoldResult], at: usize) -> Calibration {
    let mut kinds = BTreeMap::new();
    for fold in folds {
        *kinds.entry(fold.models[at].calibrated.calibrator.name().to_owned()).or_default() += 1;
    }
    let before = |fold: &FoldResult| {
        let [.., test] = &fold.models[at].scores;
        metrics(&test.labels, &test.raw_risks, resolved.config.eval.contact_share)
    };
    Calibration {
        kinds,
        validation_log_loss: mean(folds, |fold| fold.models[at].calibrated.log_loss),
        test_log_loss_before: mean(folds, |fold| before(fold).log_loss),
        test_ece_before: mean(folds, |fold| before(fold).ece),
    }
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

fn write_report(outcome: &Outcome, bundle_id: &str) -> Result<String> {
    let Outcome { resolved, data, findings, folds, metrics, .. } = outcome;
    let mut scores: Vec<(&str, Scores)> = Vec::new();
    let mut training = Vec::new();
    for (at, name) in folds[0].names().enumerate() {
        let mut test = Scores::default();
        for result in folds {
            let [.., of_fold] = &result.models[at].scores;
            test.labels.extend(&of_fold.labels);
            test.risks.extend(&of_fold.risks);
            test.raw_risks.extend(&of_fold.raw_risks);
            let history = result.learners.get(at).map_or(&[][..], |learner| &learner.history);
            if !history.is_empty() {
                let point = |e: &crate::train::EpochRecord| {
                    (e.epoch as f64, e.train_loss, e.validation_log_loss)
                };
                let points = history.iter().map(point).collect();
                training.push(TrainingCurve { model: name.into(), fold: result.number, points });
            }
        }
        scores.push((name, test));
    }
    let scores: Vec<ModelScores> = scores
        .iter()
        .map(|(name, test)| ModelScores {
            name,
            labels: &test.labels,
            risks: &test.risks,
            raw_risks: &test.raw_risks,
        })
        .collect();
    let quality: Vec<QualityLine> = findings.findings.iter().map(quality_line).collect();
    report::render(&ReportInput {
        title: &resolved.config.name,
        run_id: &outcome.folder.id,
        bundle_id: Some(bundle_id),
        label: &resolved.config.label.in_words(),
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
