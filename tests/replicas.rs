//! Several devices, and several batches, make the steps that one device makes of one batch.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{Shared, Small, Tiny, outcome, run, weights_sha256};

/// Of a loss around 0.3, after some dozens of steps: the sums are the same up to their order.
const TOLERANCE: f64 = 1e-5;

static DATA: Shared<Small> = Shared::new();

fn data() -> std::sync::Arc<Small> {
    DATA.get(|| Small::telecom(300, 16))
}

/// Trains the three networks with their default dropout.
fn train(data: &Small, out: &str, devices: &str, more: &[&str]) -> (i32, String) {
    let mut args = data.train_args(&data.path(out));
    let device = args.iter().position(|arg| arg == "--device").expect("one is set");
    args.splice(device..device + 2, ["--devices".to_owned(), devices.to_owned()]);
    args.extend(["--set", "train.epochs_max=5", "--set", "train.log_steps=1"].map(String::from));
    args.extend(["--set", "train.batch_snapshots=100"].map(String::from));
    args.extend(more.iter().map(|&arg| arg.to_owned()));
    let (code, _, stderr) = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    (code, stderr)
}

/// The numbers of each (network, series), by step.
type Curves = BTreeMap<(String, String), Vec<f64>>;

#[track_caller]
fn curves(run: &str) -> Curves {
    let text = fs::read_to_string(Path::new(run).join("metrics.jsonl")).expect("metrics.jsonl");
    let mut curves = Curves::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let text = |name: &str| line[name].as_str().expect("a text").to_owned();
        let value = line["value"].as_f64().expect("finite");
        curves.entry((text("model"), text("name"))).or_default().push(value);
    }
    curves
}

/// Largest difference between two sets of curves.
#[track_caller]
fn distance(a: &Curves, b: &Curves, names: &[&str]) -> f64 {
    let mut worst = 0.0f64;
    for ((model, name), a) in a.iter().filter(|((_, name), _)| names.contains(&name.as_str())) {
        let b = &b[&(model.clone(), name.clone())];
        assert_eq!(a.len(), b.len(), "{model} {name}");
        assert!(!a.is_empty());
        worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(worst, f64::max);
    }
    worst
}

const LOSSES: [&str; 3] = ["train/loss", "epoch/train_loss", "epoch/validation_log_loss"];

#[test]
fn two_devices_learn_what_one_does() {
    let data = data();
    for (out, devices) in [("one", "cpu"), ("two", "cpu,cpu"), ("three", "cpu,cpu,cpu")] {
        let (code, stderr) = train(&data, out, devices, &[]);
        assert_eq!(code, 0, "{stderr}");
        assert_eq!(stderr.matches("device cpu").count(), devices.split(',').count(), "{stderr}");
    }
    let one = curves(&data.path("one"));
    let networks: Vec<&str> = one.keys().map(|(model, _)| model.as_str()).collect();
    assert!(["mlp", "gru", "hybrid"].iter().all(|network| networks.contains(network)));
    for out in ["two", "three"] {
        let off = distance(&one, &curves(&data.path(out)), &LOSSES);
        assert!(off < TOLERANCE, "{out}: {off}");
    }
    // The curves do move, so that their agreement means something.
    let loss = &one[&("mlp".to_owned(), "epoch/train_loss".to_owned())];
    assert!(loss[0] - loss[loss.len() - 1] > 100.0 * TOLERANCE, "{loss:?}");
}

#[test]
fn a_training_on_two_devices_goes_on_with_two_or_one() {
    let data = data();
    let often = ["--set", "train.checkpoint_steps=3"];
    let (code, stderr) = train(&data, "whole", "cpu,cpu", &often);
    assert_eq!(code, 0, "{stderr}");
    for (out, devices) in [("again", "cpu,cpu"), ("alone", "cpu")] {
        let networks = folders(Path::new(&data.path("whole/checkpoints")));
        for network in &networks {
            // The last generation but one, from inside the last epoch.
            let generations = folders(network);
            let [.., before, _] = &generations[..] else { panic!("{generations:?}") };
            let target = data.path(&format!("{out}/checkpoints/{}", name(network)));
            copy(before, &Path::new(&target).join(name(before)));
        }
        let (code, stderr) = train(&data, out, devices, &[&often[..], &["--resume"]].concat());
        assert_eq!(code, 0, "{stderr}");
        assert!(!stderr.contains("epoch 1/"), "it began again: {stderr}");
        let (whole, again) = (data.path("whole"), data.path(out));
        if devices == "cpu,cpu" {
            assert_eq!(weights_sha256(&again), weights_sha256(&whole));
        }
        let last = |run: &str, network: &str| {
            let curves = curves(run);
            let curve = &curves[&(network.to_owned(), "epoch/validation_log_loss".to_owned())];
            *curve.last().expect("an epoch")
        };
        for network in ["mlp", "gru", "hybrid"] {
            let off = (last(&again, network) - last(&whole, network)).abs();
            assert!(off < TOLERANCE, "{out} {network}: {off}");
        }
    }
}

/// The train part is 17 customers with one snapshot each: three batches of six are all of them.
#[test]
fn summed_batches_make_the_step_of_the_large_one() {
    let tiny = Tiny::new();
    let small: [&str; 4] = ["--set", "train.batch_snapshots=6", "--set", "train.batch_customers=6"];
    let summed = [&small[..], &["--set", "train.accumulate=3"]].concat();
    let networks = "\"mlp\",\"gru\",\"hybrid\"";
    for (out, device, more) in [
        ("large", "cpu", &[][..]),
        ("summed", "cpu", &summed),
        ("shared", "cpu,cpu", &summed),
        ("apart", "cpu", &small),
    ] {
        let (code, _, stderr) = outcome(&mut tiny.train(out, device, networks, more));
        assert_eq!(code, 0, "{stderr}");
    }
    let of = |out: &str| curves(&tiny.path(out));
    let large = of("large");
    for out in ["summed", "shared"] {
        let off = distance(&large, &of(out), &LOSSES);
        assert!(off < TOLERANCE, "{out}: {off}");
    }
    // A step each makes another training of the same batches.
    let off = distance(&large, &of("apart"), &LOSSES[1..]);
    assert!(off > 100.0 * TOLERANCE, "{off}");
}

/// More batches than an epoch has are one step an epoch.
#[test]
fn an_epoch_ends_a_step() {
    let tiny = Tiny::new();
    let set = |value: &'static str| ["--set", value];
    let two = [set("train.batch_snapshots=6"), set("train.accumulate=2")].concat();
    let many = [set("train.batch_snapshots=6"), set("train.accumulate=1000")].concat();
    for (out, more, steps) in [("two", two, 12), ("many", many, 6)] {
        let (code, _, stderr) = outcome(&mut tiny.train(out, "cpu", "\"mlp\"", &more));
        assert_eq!(code, 0, "{stderr}");
        let curves = curves(&tiny.path(out));
        assert_eq!(curves[&("mlp".to_owned(), "train/loss".to_owned())].len(), steps, "{out}");
    }
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).unwrap_or_else(|error| panic!("{}: {error}", of.display()));
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.sort();
    found
}

fn name(of: &Path) -> String {
    of.file_name().expect("a name").to_string_lossy().into_owned()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in folders(from) {
        fs::copy(&entry, to.join(name(&entry))).expect("copied");
    }
}
