//! What a study came to: `trials.csv`, `best.toml` and a table.

use std::path::Path;

use toml::Value;

use crate::cli::args::TuneArgs;
use crate::cli::output;
use crate::error::Result;
use crate::fsx;
use crate::source::write::{OutColumn, write_table};
use crate::tune::study::Report;
use crate::tune::{Journal, Study, Trial};

/// Trials of the table on stdout; all of them are in `trials.csv`.
const SHOWN: usize = 10;

/// Writes the files and prints the table, as far as the study has come.
pub fn tell(args: &TuneArgs, folder: &Path, epochs_max: u32) -> Result<()> {
    let mut journal = Journal::open(folder)?;
    journal.turn(|_| Ok((Vec::new(), ())))?;
    let study = journal.study();
    if !study.trials.is_empty() {
        write_table(&folder.join("trials.csv"), columns(study))?;
    }
    let ranking = study.ranking();
    let Some((best, _)) = ranking.first() else {
        tracing::warn!("no trial has told anything yet");
        return Ok(());
    };
    let file = folder.join("best.toml");
    fsx::publish_bytes(&file, args.load(&best.params)?.to_toml().as_bytes())?;
    output::print(&table(&ranking))?;
    output::print(&spent(study, epochs_max))?;
    output::print(&format!(
        "best     {} (trial {}); train it with `churn train {}`",
        file.display(),
        best.number,
        file.display()
    ))
}

fn table(ranking: &[(&Trial, &Report)]) -> String {
    let mut text = String::from("   trial  epochs  log loss  network  parameters\n");
    for (trial, report) in ranking.iter().take(SHOWN) {
        let params: Vec<String> =
            trial.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let params = if params.is_empty() { "as configured".into() } else { params.join(" ") };
        let epochs = report.fits.iter().map(|fit| fit.epochs).max().unwrap_or(0);
        text += &format!(
            "{:>8}  {epochs:>6}  {:>8.5}  {:<7}  {params}\n",
            trial.number, report.loss, report.network
        );
    }
    text
}

/// Epochs, beside those of a search that trains every trial to the end.
fn spent(study: &Study, epochs_max: u32) -> String {
    let fits = study.trials.iter().filter_map(Trial::last).map(|report| report.fits.len() as u64);
    let full = fits.sum::<u64>() * u64::from(epochs_max);
    let share = 100.0 * study.epochs() as f64 / full.max(1) as f64;
    format!(
        "trials   {}, {} epochs, {share:.1} % of {full} epochs of all of them to the end\n",
        study.trials.len(),
        study.epochs()
    )
}

fn columns(study: &Study) -> Vec<(&str, OutColumn)> {
    let trials = &study.trials;
    let last = |of: fn(&Report) -> f64| {
        OutColumn::MaybeNumber(trials.iter().map(|trial| trial.last().map(of)).collect())
    };
    let network = |trial: &Trial| trial.last().map(|report| report.network.clone());
    let mut columns = vec![
        ("trial", OutColumn::Integer(trials.iter().map(|t| i64::from(t.number)).collect())),
        ("state", OutColumn::Text(trials.iter().map(|t| state(t, study).to_owned()).collect())),
        ("rungs", OutColumn::Integer(trials.iter().map(|t| t.reports.len() as i64).collect())),
        ("epochs", OutColumn::Integer(trials.iter().map(|t| t.epochs() as i64).collect())),
        ("log_loss", last(|report| report.loss)),
        ("network", OutColumn::MaybeText(trials.iter().map(network).collect())),
        ("seconds", OutColumn::Number(trials.iter().map(seconds).collect())),
    ];
    let names = study.header.iter().flat_map(|header| header.space.0.keys());
    for name in names {
        let values: Vec<Option<&Value>> = trials.iter().map(|t| t.params.get(name)).collect();
        let number = |value: &Value| value.as_float().or(value.as_integer().map(|n| n as f64));
        let column = match values.iter().flatten().all(|value| number(value).is_some()) {
            true => OutColumn::MaybeNumber(values.iter().map(|v| v.and_then(number)).collect()),
            false => {
                OutColumn::MaybeText(values.iter().map(|v| v.map(ToString::to_string)).collect())
            }
        };
        columns.push((name.as_str(), column));
    }
    columns
}

fn seconds(trial: &Trial) -> f64 {
    trial.reports.iter().map(|report| report.seconds).sum()
}

fn state(trial: &Trial, study: &Study) -> &'static str {
    let rungs = study.header.as_ref().map_or(1, |header| header.rungs.len());
    match (&trial.failure, trial.owner) {
        (Some(_), _) => "failed",
        (None, Some(_)) => "running",
        (None, None) if trial.reports.len() == rungs => "finished",
        (None, None) => "held back",
    }
}
