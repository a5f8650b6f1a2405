//! What can be typed.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::clock::Month;
use crate::config::{self, Overrides, Resolved};
use crate::error::{Kind, Result};
use crate::onnx::Signature;
use crate::tune::Params;

/// From raw customer data to a retention decision.
#[derive(Debug, Parser)]
#[command(
    version,
    before_help = "Example: churn quickstart",
    after_help = "Exit codes: 0 ok, 1 internal error, 2 usage, 3 bad data, config or artifact, \
                  4 a check was not passed, 5 environment (device, disk), 130/143 stopped by signal."
)]
pub struct Args {
    /// Say more on stderr.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Simulate a small telecom, train all models on it, evaluate, export and score.
    #[command(before_help = "Example: churn quickstart --out runs/first")]
    Quickstart(QuickstartArgs),
    /// Write a data set with known true churn hazards.
    #[command(
        before_help = "Example: churn simulate telecom --customers 50000 --months 36 --out data/telecom"
    )]
    Simulate(SimulateArgs),
    /// Run the declared data quality rules.
    #[command(before_help = "Example: churn check configs/telecom.toml")]
    Check(CheckArgs),
    /// Train, evaluate and export every declared model.
    #[command(
        before_help = "Example: churn train configs/telecom.toml --device auto\n         churn train configs/telecom.toml --out runs/a --resume\n         churn train configs/telecom.toml --cv --set 'split={ kind = \"rolling\", origins = 4 }'"
    )]
    Train(TrainArgs),
    /// Compare two models on the same test rows: two runs, two models of a run, or a run and a peer.
    #[command(
        before_help = "Example: churn compare runs/a runs/b\n         churn compare runs/a --model-a hybrid --model-b trees --json\n         churn compare runs/a --peer lightgbm.parquet"
    )]
    Compare(CompareArgs),
    /// Search for good settings: many trials, of which the promising ones are trained on.
    #[command(
        before_help = "Example: churn tune configs/telecom.toml --trials 64 --workers 2\n         churn tune configs/telecom.toml --out runs/tuned --seconds 3600   (again: goes on; elsewhere: joins)"
    )]
    Tune(TuneArgs),
    /// Score customers with a bundle.
    #[command(
        before_help = "Example: churn score --bundle runs/a/bundle --input data/telecom --output scores.csv\n         churn score --bundle runs/a/bundle --stdin arrow --stdout arrow"
    )]
    Score(ScoreArgs),
    /// Write the model of a bundle as a file or folder that other programs run.
    #[command(
        before_help = "Example: churn export runs/a --format onnx --out churn.onnx\n         churn export runs/a/bundle --format mlflow --out churn-mlflow"
    )]
    Export(ExportArgs),
    /// Time training steps: one JSON case per line in, one JSON timing per line out.
    #[command(
        before_help = "Example: echo '{\"model\":\"gru\",\"rows\":512,\"months\":24,\"inputs\":16,\"hidden\":64,\"steps\":20}' | churn bench"
    )]
    Bench(BenchArgs),
    /// Look at a configuration.
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print every value and where it came from.
    #[command(
        before_help = "Example: churn config show configs/telecom.toml --set train.patience=3"
    )]
    Show(ConfigArgs),
    /// Print the JSON Schema, for editors.
    #[command(before_help = "Example: churn config schema > churn.schema.json")]
    Schema,
}

#[derive(Debug, ClapArgs)]
pub struct ConfigArgs {
    /// The configuration file.
    pub config: PathBuf,
    /// Override a value: a.b=c. May be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
}

impl ConfigArgs {
    /// Resolves defaults, file, environment and flags.
    pub fn load(&self) -> Result<Resolved> {
        self.load_with(&[])
    }

    /// Like [`ConfigArgs::load`] with further overrides.
    pub fn load_with(&self, more: &[(String, String)]) -> Result<Resolved> {
        let mut sets = Vec::new();
        for set in &self.sets {
            let (path, value) = set.split_once('=').ok_or_else(|| {
                Kind::Usage.msg(format!("--set {set} has no `=`")).hint("write --set a.b=value")
            })?;
            sets.push((path.to_owned(), value.to_owned()));
        }
        sets.extend_from_slice(more);
        let env = |name: &str| std::env::var(name).ok();
        config::load(&self.config, &Overrides { sets: &sets, env: &env })
    }
}

#[derive(Debug, ClapArgs)]
pub struct QuickstartArgs {
    /// Folder to make; runs/<id> if left out.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// auto, gpu, gpu:N, cpu or ndarray; several (gpu:0,gpu:1) share every batch.
    #[arg(long, visible_alias = "devices")]
    pub device: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct SimulateArgs {
    /// telecom, saas or finance.
    pub industry: String,
    #[arg(long, default_value_t = 20_000)]
    pub customers: u32,
    #[arg(long, default_value_t = 36)]
    pub months: u32,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Folder to fill.
    #[arg(long)]
    pub out: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub struct CheckArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Where to write the findings as JSON.
    #[arg(long, default_value = "quality.json")]
    pub out: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub struct TrainArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Run folder to make; runs/<id> if left out.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Go on with the run in --out, or with the newest run of this configuration.
    #[arg(long)]
    pub resume: bool,
    /// Cross-validate: refuse a split of one fold. Every fold of a split is trained in any case;
    /// mean, sd and out-of-fold predictions are kept.
    #[arg(long)]
    pub cv: bool,
    /// Show what attributes and months are worth: trains `static` (attributes alone), `gru` (months
    /// alone) and `hybrid` (both) in place of models.use, without trees, and prints a table.
    #[arg(long)]
    pub ablate: bool,
    /// auto, gpu, gpu:N, cpu or ndarray; several (gpu:0,gpu:1) share every batch. Also CHURN_DEVICE
    /// or train.device.
    #[arg(long, visible_alias = "devices")]
    pub device: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct CompareArgs {
    /// Run folder A.
    pub run_a: PathBuf,
    /// Run folder B; run A again if left out.
    #[arg(conflicts_with = "peer")]
    pub run_b: Option<PathBuf>,
    /// Model of A; its champion if left out.
    #[arg(long, value_name = "NAME")]
    pub model_a: Option<String>,
    /// Model of B, or of the peer's table; the champion if left out.
    #[arg(long, value_name = "NAME")]
    pub model_b: Option<String>,
    /// Instead of run B: a table (.parquet or .csv) with customer_id, score or risk, and as_of and
    /// fold where the run has several; y or label, seed and model may be there.
    #[arg(long, value_name = "FILE")]
    pub peer: Option<PathBuf>,
    /// Which seed of a peer's table that holds several.
    #[arg(long, value_name = "N", requires = "peer")]
    pub peer_seed: Option<u64>,
    /// Compare on these folds only.
    #[arg(long, value_name = "K,K", value_delimiter = ',')]
    pub folds: Vec<u32>,
    /// Draws of the bootstrap.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub draws: u32,
    /// Seed of the bootstrap.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Write all numbers to a file; compare.json if none is named.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "compare.json")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub struct TuneArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Folder of the study; runs/tune-<name>-<hash> if left out. A study that is there goes on,
    /// and is joined where others work on it.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Trials of the whole study, those that are there included.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub trials: u32,
    /// Stop after this many seconds; no limit if left out.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Worker processes to start on this machine.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,
    /// auto, gpu, gpu:N, cpu or ndarray; several (gpu:0,gpu:1) share every batch. Also CHURN_DEVICE
    /// or train.device.
    #[arg(long, visible_alias = "devices")]
    pub device: Option<String>,
    /// Of a worker process: how many share the machine. It ends when its stdin closes.
    #[arg(long, hide = true)]
    pub share_of: Option<u32>,
}

impl TuneArgs {
    /// The configuration with a trial's parameters over everything else.
    pub fn load(&self, params: &Params) -> Result<Resolved> {
        let device = self.device.iter().map(|d| ("train.device".to_owned(), d.clone()));
        let params = params.iter().map(|(path, value)| (path.clone(), value.to_string()));
        self.config.load_with(&device.chain(params).collect::<Vec<_>>())
    }
}

#[derive(Debug, ClapArgs)]
pub struct ScoreArgs {
    /// Bundle folder of a run.
    #[arg(long)]
    pub bundle: PathBuf,
    /// Folder with the same tables as in training, or one file per source.
    #[arg(long, required_unless_present_any = ["raw", "stdin"], num_args = 1..)]
    pub input: Vec<PathBuf>,
    /// File to write: .csv, .parquet, .arrow or .ndjson; or, without one of these, a folder of
    /// Parquet files, for tables larger than memory one for each part of the customers.
    #[arg(long, required_unless_present_any = ["raw", "stdin"])]
    pub output: Option<PathBuf>,
    /// Go on with a folder as --output that an earlier run began; start it if there is none.
    #[arg(long, conflicts_with_all = ["raw", "stdin", "rows", "top"])]
    pub resume: bool,
    /// Write only the K customers of the highest risk.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..))]
    pub top: Option<u64>,
    /// Score at the end of this month (2024-06); the last month with data if left out.
    #[arg(long)]
    pub as_of: Option<Month>,
    /// Also write every customer as it came from the tables, with its risk, as one JSON line each
    /// like those of the bundle's golden.jsonl: what another program must reproduce.
    #[arg(long, value_name = "FILE")]
    pub rows: Option<PathBuf>,
    /// Instead of --input: customers as --rows writes them, each at the end of its history. Their
    /// risks go to --rows.
    #[arg(long, value_name = "FILE", requires = "rows", conflicts_with_all = ["input", "output", "as_of", "curve", "top"])]
    pub raw: Option<PathBuf>,
    /// Instead of --input: an Arrow IPC stream on stdin, a row per customer (docs/pipe.md). Scores
    /// leave on stdout batch by batch.
    #[arg(long, value_name = "FORMAT", value_parser = ["arrow"], requires = "stdout", conflicts_with_all = ["input", "output", "as_of", "rows", "raw", "top"])]
    pub stdin: Option<String>,
    /// Format of the scores of --stdin.
    #[arg(long, value_name = "FORMAT", value_parser = ["arrow"], requires = "stdin")]
    pub stdout: Option<String>,
    /// Add the risk up to each month of the horizon, and the months expected within it.
    #[arg(long, alias = "horizon")]
    pub curve: bool,
    /// auto, gpu, gpu:N, cpu or ndarray.
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

#[derive(Debug, ClapArgs)]
pub struct ExportArgs {
    /// Bundle folder, or the run that holds it.
    pub from: PathBuf,
    /// onnx: raw columns in, risk out, in one file. safetensors: the networks' weights with
    /// PyTorch's names. mlflow: a folder that mlflow.pyfunc loads.
    #[arg(long, default_value = "onnx")]
    pub format: String,
    /// File to write; with mlflow the folder.
    #[arg(long, alias = "output")]
    pub out: PathBuf,
    /// Of ONNX. columns: an input for each raw column. matrix: one matrix of numbers, categories as
    /// codes; for models without months. step: one month at a time, state in, state out; for models
    /// with months.
    #[arg(long, default_value = "columns")]
    pub signature: Signature,
    /// Of ONNX. Write the GRU out for this many months, for runtimes without the operator; every
    /// column over months then has this length.
    #[arg(long, value_name = "MONTHS")]
    pub unroll: Option<usize>,
}

#[derive(Debug, ClapArgs)]
pub struct BenchArgs {
    /// Threads of the CPU backend; 0 = all cores.
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
}
