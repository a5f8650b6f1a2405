//! A small data set, the program, and folders that vanish.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use churn::clock::format_day;
use churn::config::{ColumnType, OnBad, Paths};
use churn::source::{self, Batch, Cells, Limits, Wanted};
use tempfile::TempDir;

/// The program under test.
pub fn churn() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_churn"));
    // Tests decide the device themselves, whatever the machine has.
    command.env_remove("CHURN_DEVICE").env_remove("CHURN_DATA_DIR");
    command
}

/// Runs the program and returns its exit code, stdout and stderr.
#[track_caller]
pub fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = churn().args(args).output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// Like [`run`], for commands that must work.
#[track_caller]
pub fn run_ok(args: &[&str]) -> String {
    let (code, out, err) = run(args);
    assert_eq!(code, 0, "churn {args:?}\n{out}\n{err}");
    out
}

/// A simulated telecom and a configuration that trains on it in a few seconds.
pub struct Small {
    pub folder: TempDir,
    pub data: PathBuf,
    pub config: PathBuf,
}

impl Small {
    pub fn telecom(customers: u32, months: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, config) = (folder.path().join("data"), folder.path().join("telecom.toml"));
        let (customers, months) = (customers.to_string(), months.to_string());
        let out = data.to_str().expect("UTF-8");
        let args = ["--customers", &customers, "--months", &months, "--seed", "5", "--out", out];
        run_ok(&[&["simulate", "telecom"], &args[..]].concat());
        let preset = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/telecom.toml");
        let text = std::fs::read_to_string(preset).expect("the preset");
        std::fs::write(&config, text.replace("../data/telecom", "data")).expect("written");
        Small { folder, data, config }
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// `train` with the arguments that make it short.
    pub fn train_args(&self, out: &str) -> Vec<String> {
        let mut args: Vec<String> =
            ["train", self.config.to_str().expect("UTF-8")].map(String::from).into();
        args.extend(["--out".into(), out.into(), "--device".into(), "cpu".into()]);
        for set in [
            "train.epochs_max=2",
            "train.batch_customers=64",
            "models.mlp.width=16",
            "models.gru.hidden=16",
            "models.trees=false",
        ] {
            args.extend(["--set".into(), set.into()]);
        }
        args
    }
}

/// Something costly that tests share. It is dropped, and its folder vanishes, when no test holds
/// it any more; a test that comes later makes it anew.
pub struct Shared<T>(Mutex<Weak<T>>);

impl<T> Shared<T> {
    pub const fn new() -> Self {
        Shared(Mutex::new(Weak::new()))
    }

    pub fn get(&self, make: impl FnOnce() -> T) -> Arc<T> {
        // If a maker panicked, its test has failed; the next test tries for itself.
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.upgrade().unwrap_or_else(|| {
            let made = Arc::new(make());
            *held = Arc::downgrade(&made);
            made
        })
    }
}

/// A CSV or Parquet table of customers in memory.
pub struct Table {
    pub ids: Vec<String>,
    columns: BTreeMap<String, Cells>,
}

impl Table {
    /// Reads some columns through the library's own reader.
    #[track_caller]
    pub fn read(path: &Path, columns: &[(&str, ColumnType)]) -> Self {
        let one = Paths::One(path.to_str().expect("UTF-8").to_owned());
        let files = source::expand(Path::new(""), &one, None).expect("a file");
        let wanted = |&(name, kind): &(&str, ColumnType)| Wanted {
            name: name.to_owned(),
            kind,
            on_bad: OnBad::Error,
        };
        let wanted: Vec<Wanted> = columns.iter().map(wanted).collect();
        let limits = Limits { columns_max: 100, cell_bytes_max: 1 << 16 };
        let (mut ids, mut all) = (Vec::new(), Vec::<Cells>::new());
        let mut consume = |batch: Batch| {
            ids.extend(batch.keys.iter().map(str::to_owned));
            match all.as_mut_slice() {
                [] => all = batch.cells,
                all => all.iter_mut().zip(batch.cells).for_each(|(all, some)| extend(all, some)),
            }
            Ok(())
        };
        source::scan(&files, "customer_id", &wanted, &limits, &mut consume).expect("a table");
        let names = columns.iter().map(|(name, _)| (*name).to_owned());
        Table { ids, columns: names.zip(all).collect() }
    }

    #[track_caller]
    pub fn numbers(&self, name: &str) -> &[f64] {
        match &self.columns[name] {
            Cells::Number(cells) => cells,
            other => panic!("{name} holds {other:?}"),
        }
    }

    /// Missing cells are empty texts, dates are written as 2024-03-31.
    #[track_caller]
    pub fn texts(&self, name: &str) -> Vec<String> {
        match &self.columns[name] {
            Cells::Category(cells) => cells.iter().map(str::to_owned).collect(),
            Cells::Date(cells) => {
                cells.iter().map(|c| c.map_or(String::new(), format_day)).collect()
            }
            Cells::Number(cells) => {
                let text = |x: &f64| if x.is_nan() { String::new() } else { x.to_string() };
                cells.iter().map(text).collect()
            }
        }
    }
}

fn extend(all: &mut Cells, some: Cells) {
    match (all, some) {
        (Cells::Number(all), Cells::Number(some)) => all.extend(some),
        (Cells::Category(all), Cells::Category(some)) => all.extend(some.iter()),
        (Cells::Date(all), Cells::Date(some)) => all.extend(some),
        _ => unreachable!("a column keeps its type from batch to batch"),
    }
}

/// Forty customers over four months, all in CSV, with labels and split from a table: trains in a
/// tenth of a second. Parts are of 17, 17 and 6 customers, so that on a GPU nearly all shapes are
/// alike; every new one costs seconds of compiling on a software driver.
pub struct Tiny {
    pub folder: TempDir,
}

impl Tiny {
    pub const TABLES: [&str; 3] = ["customers.csv", "activity.csv", "labels.csv"];

    const CONFIG: &str = r#"
name = "tiny"
[[source]]
name = "customers"
kind = "attributes"
path = "customers.csv"
columns = { plan = "category", age = "number" }
[[source]]
name = "activity"
kind = "activity"
path = "activity.csv"
time = "month"
columns = { calls = "number" }
[label]
kind = "snapshots"
path = "labels.csv"
[split]
kind = "snapshots"
[features]
windows = [3]
calendar = false
category_rows_min = 1
[models]
mlp = { width = 8, blocks = 1, dropout = 0.0, members = 2 }
gru = { hidden = 8, dropout = 0.0 }
[train]
epochs_max = 6
batch_snapshots = 64
batch_customers = 64
learning_rate = 0.01
log_steps = 1
"#;

    pub fn new() -> Self {
        let mut tables = [
            String::from("customer_id,plan,age\n"),
            String::from("customer_id,month,calls\n"),
            String::from("customer_id,as_of,churned,split\n"),
        ];
        for i in 0..40 {
            let churned = usize::from(i * 7 % 10 < 4);
            let plan = ["a", "b", "c"][(i + churned * (i % 2)) % 3];
            tables[0] += &format!("c{i:02},{plan},{}\n", 20 + i * 11 % 50);
            for month in 0..4 {
                let calls = (i * 5 + month * 3) % 11 + (1 - churned) * month * 2;
                tables[1] += &format!("c{i:02},2024-{:02}-01,{calls}\n", month + 1);
            }
            let part = ["train", "validation", "test"][i / 17];
            tables[2] += &format!("c{i:02},2024-04-30,{churned},{part}\n");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let tiny = Tiny { folder };
        for (name, text) in Self::TABLES.iter().zip(tables) {
            std::fs::write(tiny.path(name), text).expect("written");
        }
        std::fs::write(tiny.path("tiny.toml"), Self::CONFIG).expect("written");
        tiny
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// A command that trains some networks into a run folder.
    pub fn train(&self, out: &str, device: &str, networks: &str, more: &[&str]) -> Command {
        let mut command = churn();
        command.args(["train", &self.path("tiny.toml"), "--out", &self.path(out)]);
        command.args(["--device", device, "--set", &format!("models.use=[{networks}]")]);
        command.args(more);
        command
    }
}

/// Exit code, stdout and stderr of a command.
#[track_caller]
pub fn outcome(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// Sha256 of the best weights of all networks of a finished run, out of their last checkpoints.
#[track_caller]
pub fn weights_sha256(run: &str) -> String {
    let entries = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{run}: {error}"));
        let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
        paths.sort();
        paths
    };
    let of_network = |network: &PathBuf| {
        let last = entries(network).pop().expect("a checkpoint").join("best.safetensors");
        churn::fsx::sha256_file(&last).unwrap_or_else(|error| panic!("{error}")).0
    };
    let networks = entries(&Path::new(run).join("checkpoints"));
    networks.iter().map(of_network).collect::<Vec<_>>().join(" ")
}

/// Says something that is seen even when the test passes: the harness holds back what the print
/// macros write, not this.
pub fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
