//! `churn quickstart`: the whole way on simulated customers, in about a minute.

use std::path::{Path, PathBuf};

use super::args::QuickstartArgs;
use super::context::Context;
use super::run_folder;
use super::{output, train};
use crate::bundle;
use crate::config::{self, Overrides};
use crate::error::Result;
use crate::panel::Inputs;
use crate::simulate::{self, Industry, SimulateSpec};
use crate::train::Start;
use crate::{fsx, score, tensors};

/// The preset that every user can read and copy.
const CONFIG: &str = include_str!("../../configs/telecom.toml");

const CUSTOMERS: u32 = 8000;
const MONTHS: u32 = 30;
const SEED: u64 = 7;

/// Less of everything than the preset trains with.
const OVERRIDES: [(&str, &str); 4] = [
    ("models.effort", "quick"),
    ("train.epochs_max", "10"),
    ("train.patience", "3"),
    ("train.batch_customers", "128"),
];

pub fn run(context: &Context, args: &QuickstartArgs) -> Result<()> {
    let folder = run_folder::locate(
        args.out.as_deref(),
        Start::Fresh,
        "quickstart",
        context.clock.as_ref(),
    )?;
    let out = &folder.path;
    let (data, config_file) = (out.join("data"), out.join("telecom.toml"));
    let spec = SimulateSpec {
        industry: Industry::Telecom,
        customers: CUSTOMERS,
        months: MONTHS,
        seed: SEED,
    };
    tracing::info!("simulating {CUSTOMERS} telecom customers over {MONTHS} months");
    let summary = simulate::run(&spec, &data)?;
    fsx::publish_bytes(&config_file, CONFIG.as_bytes())?;
    let resolved = config::load(
        &config_file,
        &Overrides { sets: &overrides(&data, args), env: &|name| std::env::var(name).ok() },
    )?;
    let run = train::train(&resolved, Some(&out.join("run")), Start::Fresh, &context.clock)?;
    let scores_file = out.join("scores.csv");
    score_all(&run.folder.join("bundle"), &data, &scores_file)?;

    output::print(&run.metrics.table("test"))?;
    output::print(&format!(
        "Bayes-optimal over all months: AUROC {:.4}, log loss {:.5} (base rate alone {:.5})\n",
        summary.bayes_auroc, summary.bayes_log_loss, summary.base_log_loss
    ))?;
    output::print(&listing(out, &run.folder, &scores_file))
}

fn overrides(data: &Path, args: &QuickstartArgs) -> Vec<(String, String)> {
    let mut sets: Vec<(String, String)> =
        OVERRIDES.iter().map(|(path, value)| ((*path).into(), (*value).into())).collect();
    sets.push(("data.root".into(), data.to_string_lossy().into_owned()));
    sets.extend(args.device.iter().map(|d| ("train.device".to_owned(), d.clone())));
    sets
}

fn score_all(bundle: &Path, data: &Path, output: &Path) -> Result<()> {
    let cpu = tensors::choose(tensors::Want::Cpu)?;
    let bundle = bundle::load(bundle, &cpu.device)?;
    let inputs = Inputs::under(data, &bundle.model.intake)?;
    let scratch = fsx::scratch_beside(output)?;
    let scores = score::score(&score::Job::new(&bundle, &inputs, &scratch))?;
    score::write(&scores, &bundle.manifest.bundle_id, output)
}

fn listing(out: &Path, run: &Path, scores: &Path) -> String {
    let line = |what: &str, path: PathBuf| format!("{what:<12} {}\n", path.display());
    [
        line("data", out.join("data")),
        line("config", run.join(run_folder::CONFIG)),
        line("metrics", run.join("metrics.json")),
        line("predictions", run.join("predictions.parquet")),
        line("report", run.join("report.html")),
        line("bundle", run.join("bundle")),
        line("scores", scores.to_path_buf()),
    ]
    .concat()
}
