//! Training by partitions: more customers than memory holds, and the same data all the same.

use std::collections::BTreeMap;
use std::path::Path;

use churn::config::{self, Overrides};
use churn::panel::{self, AttributeCells, Cut, Declared, Extent, Inputs, Intake, Panel, Shards};
use churn::seeds::Seeds;
use serde_json::Value;

use crate::common::{Shared, Small, run, run_ok, weights_sha256};

static DATA: Shared<Small> = Shared::new();

fn data() -> std::sync::Arc<Small> {
    DATA.get(|| Small::telecom(1500, 20))
}

/// A budget of 4 MB cuts 1,500 customers x 20 months into about 17 partitions.
const TINY: &str = "train.memory_gb=0.004";

fn args(data: &Small, out: &str, sets: &[&str]) -> Vec<String> {
    let mut args = data.train_args(&data.path(out));
    for set in ["models.use=[\"hybrid\"]"].iter().chain(sets) {
        args.extend(["--set".to_owned(), (*set).to_owned()]);
    }
    args
}

#[track_caller]
fn train(data: &Small, out: &str, sets: &[&str]) -> String {
    let args = args(data, out, sets);
    let (code, stdout, stderr) = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    stderr
}

fn metrics(data: &Small, out: &str) -> Value {
    let bytes = std::fs::read(data.path(&format!("{out}/metrics.json"))).expect("metrics");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[test]
fn partitions_give_a_model_as_good() {
    let data = data();
    let long = ["train.epochs_max=6", "train.patience=6"];
    let said = train(&data, "whole", &long);
    assert!(!said.contains("partitions"), "{said}");
    let said = train(&data, "parts", &[&long[..], &[TINY]].concat());
    assert!(said.contains("partitions"), "{said}");
    if cfg!(target_os = "linux") {
        assert!(said.contains("peak memory "), "{said}");
    }
    let (whole, parts) = (metrics(&data, "whole"), metrics(&data, "parts"));
    for model in ["hybrid", "logistic"] {
        let of = |run: &Value, split: &str, name: &str| run["models"][model][split][name].as_f64();
        for split in ["validation", "test"] {
            assert_eq!(of(&whole, split, "rows"), of(&parts, split, "rows"), "{model} {split}");
            assert_eq!(
                of(&whole, split, "positive_rate"),
                of(&parts, split, "positive_rate"),
                "{model} {split}: the same customers with the same labels"
            );
        }
        assert_eq!(of(&parts, "train", "auroc"), None, "{model}: left out, and said so");
    }
    // Two trainings of another order on 1,500 customers, about 100 churners in the test part: the
    // standard error of each AUROC is 0.03.
    let auroc = |run: &Value| run["models"]["hybrid"]["test"]["auroc"].as_f64().expect("a number");
    assert!((auroc(&whole) - auroc(&parts)).abs() < 0.06, "{} {}", auroc(&whole), auroc(&parts));
    let report = std::fs::read_to_string(data.path("parts/report.html")).expect("a report");
    assert!(report.contains("partitions of customers"));
    assert!(!Path::new(&data.path("parts/scratch")).exists(), "the scratch folder is gone");
    // The bundle checks its golden rows when it is loaded.
    let (bundle, input) =
        (data.path("parts/bundle"), data.data.to_str().expect("UTF-8").to_owned());
    let scores = data.path("parts.csv");
    run_ok(&["score", "--bundle", &bundle, "--input", &input, "--output", &scores]);
}

#[test]
fn a_training_that_lost_its_last_steps_ends_with_the_same_weights() {
    let data = data();
    let often = [TINY, "train.checkpoint_steps=9"];
    train(&data, "cut", &often);
    let expected = weights_sha256(&data.path("cut"));
    let folder = data.path("cut/checkpoints/hybrid");
    let mut generations: Vec<_> =
        std::fs::read_dir(&folder).expect("a folder").flatten().map(|entry| entry.path()).collect();
    generations.sort();
    // What is left was saved inside the last epoch, in the middle of a partition or behind it.
    assert!(generations.len() >= 2, "{generations:?}");
    std::fs::remove_dir_all(generations.pop().expect("two")).expect("removed");
    let state = std::fs::read_to_string(generations[0].join("state.json")).expect("a state");
    let state: Value = serde_json::from_str(&state).expect("JSON");
    assert_eq!(state["finished"], false);
    assert!(state["batch"].as_u64().expect("a number") > 0, "inside an epoch: {state}");
    let mut args = args(&data, "cut", &often);
    args.push("--resume".into());
    let (code, _, stderr) = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 0, "{stderr}");
    assert!(!stderr.contains("hybrid epoch 1/"), "it began again: {stderr}");
    assert_eq!(weights_sha256(&data.path("cut")), expected);
}

#[test]
fn steps_max_ends_a_training_inside_an_epoch() {
    let data = data();
    for (out, more) in [("steps-whole", &[][..]), ("steps-parts", &[TINY][..])] {
        let sets = [&["train.steps_max=7", "train.log_steps=1"][..], more].concat();
        train(&data, out, &sets);
        let log =
            std::fs::read_to_string(data.path(&format!("{out}/metrics.jsonl"))).expect("a log");
        let steps = log.lines().filter(|line| line.contains("train/loss")).count();
        assert_eq!(steps, 7, "{log}");
        assert!(log.contains("epoch/validation_log_loss"), "it still validates: {log}");
        let loss = &metrics(&data, out)["models"]["hybrid"]["test"]["log_loss"];
        assert!(loss.is_number(), "{out}");
    }
}

#[test]
fn what_needs_all_customers_at_once_is_refused() {
    let data = data();
    let args = args(&data, "random", &[TINY, "split={kind=\"random\"}"]);
    let (code, _, stderr) = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("split.kind = \"random\"") && stderr.contains("train.memory_gb"),
        "{stderr}"
    );
}

/// Attribute cells as text, since each panel has a code table of its own.
fn attributes(panel: &Panel, customer: usize) -> Vec<String> {
    let mut cells = Vec::new();
    for table in &panel.attributes {
        for version in table.offsets[customer]..table.offsets[customer + 1] {
            for column in &table.columns {
                let version = version as usize;
                cells.push(match &column.cells {
                    AttributeCells::Number(cells) => format!("{:?}", cells[version].to_bits()),
                    AttributeCells::Date(cells) => format!("{:?}", cells[version]),
                    AttributeCells::Category { codes, values } => {
                        format!("{:?}", codes[version].map(|code| &values[code as usize]))
                    }
                });
            }
        }
    }
    cells
}

#[test]
fn partitions_together_are_the_whole_panel() {
    let data = data();
    let resolved = config::load(&data.config, &Overrides { sets: &[], env: &|_| None });
    let resolved = resolved.expect("the preset");
    let (config, root) = (&resolved.config, resolved.root());
    let intake = Intake::from(config);
    let inputs = Inputs::under(&root, &intake).expect("files");
    let declared = Declared {
        intake: &intake,
        inputs: &inputs,
        root: &root,
        label: &config.label,
        split: &config.split,
        seeds: &Seeds::new(1),
    };
    let whole = panel::build(&intake, &inputs, &Extent::all()).expect("a panel");
    let labels = panel::label(&whole, &declared).expect("labels");
    let scratch = data.path("scratch-of-a-test");
    let cut = Cut { partitions: 7, sample_one_in: 3 };
    let shards = Shards::build(&declared, cut, Path::new(&scratch)).expect("partitions");
    let mut seen = BTreeMap::new();
    let mut snapshots = 0;
    for at in 0..shards.count() {
        let shard = shards.load(at).expect("as it was written");
        let panel = &shard.panel;
        assert_eq!((panel.calendar, &panel.measures), (whole.calendar, &whole.measures));
        for customer in 0..panel.customers.len() {
            let id = &panel.customers[customer];
            let same = whole.customer(id).expect("a customer of the whole");
            assert_eq!(panel.starts[customer], whole.starts[same], "{id}");
            let bits = |panel: &Panel, customer: usize| -> Vec<u32> {
                let rows = panel.offsets[customer]..panel.offsets[customer + 1];
                rows.flat_map(|row| panel.at(row).iter().map(|value| value.to_bits())).collect()
            };
            assert_eq!(bits(panel, customer), bits(&whole, same), "{id}");
            assert_eq!(attributes(panel, customer), attributes(&whole, same), "{id}");
            assert_eq!(seen.insert(id.clone(), at), None, "{id} is in two partitions");
        }
        for s in 0..shard.snapshots.len() {
            let id = &panel.customers[shard.snapshots.customers[s] as usize];
            let same = whole.customer(id).expect("known") as u32;
            let of_whole = labels.customers.partition_point(|&c| c < same);
            let month = shard.snapshots.months[s];
            let found = (of_whole..labels.len())
                .take_while(|&l| labels.customers[l] == same)
                .find(|&l| labels.months[l] == month)
                .expect("a snapshot of the whole");
            assert_eq!(shard.snapshots.churned[s], labels.churned[found], "{id} {month}");
        }
        snapshots += shard.snapshots.len();
    }
    assert_eq!((seen.len(), snapshots), (whole.customers.len(), labels.len()));
    assert_eq!(shards.rows(), whole.rows());
    let sampled = shards.sample.panel.customers.len() as f64 / whole.customers.len() as f64;
    assert!((0.28..0.39).contains(&sampled), "one in three was asked for, got {sampled}");
    assert!(Path::new(&scratch).is_dir());
    drop(shards);
    assert!(!Path::new(&scratch).exists());
}

#[test]
fn a_panel_takes_four_bytes_a_cell_and_little_more() {
    let data = Small::telecom(400, 36);
    let args = args(&data, "run", &["train.epochs_max=1", "panel.start=calendar"]);
    let (code, _, stderr) = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 0, "{stderr}");
    let said = stderr.split(" MB, ").nth(1).and_then(|text| text.split(' ').next());
    let bytes: f64 = said.expect("a line about the panel").parse().expect("a number");
    assert!((4.0..4.6).contains(&bytes), "at most 15 % more than the cells: {bytes}");
}

#[test]
fn a_rolling_origin_tests_the_same_rows_by_partitions() {
    let data = data();
    let split = "split={ kind = \"rolling\", origins = 2, embargo_months = 1 }";
    let short = ["train.epochs_max=1", split];
    train(&data, "rolling-whole", &short);
    let said = train(&data, "rolling-parts", &[&short[..], &[TINY]].concat());
    assert!(said.contains("partitions"), "{said}");
    let runs = ["rolling-whole", "rolling-parts"].map(|out| metrics(&data, out));
    for model in ["hybrid", "logistic"] {
        let folds = |run: &Value| run["models"][model]["folds"].as_array().cloned().expect("folds");
        let [whole, parts] = [folds(&runs[0]), folds(&runs[1])];
        assert_eq!((whole.len(), parts.len()), (2, 2));
        for (whole, parts) in whole.iter().zip(&parts) {
            for (split, name) in
                [("validation", "rows"), ("test", "rows"), ("test", "positive_rate")]
            {
                assert_eq!(whole[split][name], parts[split][name], "{model} {split}");
            }
        }
    }
    // The bundle is that of the newest origin.
    let manifest =
        std::fs::read(data.path("rolling-parts/bundle/manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    assert_eq!(manifest["origin"]["fold"], 1, "{manifest}");
    let folders = ["rolling-whole", "rolling-parts"].map(|out| data.path(out));
    let args = ["compare", &folders[0], &folders[1], "--model-a", "hybrid", "--model-b", "hybrid"];
    let stdout = run_ok(&args);
    assert!(stdout.contains("2 folds"), "{stdout}");
}
