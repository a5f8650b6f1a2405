//! The ONNX file: in every bundle, the same each time, and equal to ours in another runtime.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use churn::bundle::{self, Champion, Contents, Manifest};
use churn::eval::Calibrator;
use churn::tensors;

use crate::common::{Small, run, run_ok, say};
use crate::tables::Tables;

/// A Python with onnx and onnxruntime, or None, which is said.
fn python() -> Option<String> {
    let python = std::env::var("CHURN_TEST_PYTHON").unwrap_or_default();
    let has_them = !python.is_empty()
        && Command::new(&python)
            .args(["-c", "import onnx, onnxruntime"])
            .output()
            .is_ok_and(|output| output.status.success());
    if !has_them {
        say("note: CHURN_TEST_PYTHON names no Python with onnx and onnxruntime, so that the \
             exported models were not run");
    }
    has_them.then_some(python)
}

/// All rows and their variants at most 1e-5 apart in onnxruntime, and in tract where
/// `CHURN_TEST_TRACT` names a `tract-run`; says which.
#[track_caller]
fn check(python: &str, bundle: &Path, data: &Path, more: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/interop/onnx_parity.py");
    let tract = std::env::var("CHURN_TEST_TRACT").unwrap_or_default();
    let mut command = Command::new(python);
    command.arg(&script);
    if tract.is_empty() {
        say("note: CHURN_TEST_TRACT names no tract-run, so that tract was not tried");
    } else {
        command.args(["--tract", &tract]);
    }
    command.args(["--churn", env!("CARGO_BIN_EXE_churn"), "--variants", "100"]);
    command.arg("--run").arg(bundle).arg("--data").arg(data).args(more);
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}{err}", bundle.display());
    for variant in ["all rows", "unknown strings", "missing values", "nothing known"] {
        assert!(text.contains(variant), "no `{variant}` in\n{text}");
    }
    text
}

pub fn train_small(small: &Small, name: &str, sets: &[&str]) -> PathBuf {
    let out = small.path(name);
    let mut args = small.train_args(&out);
    for set in sets {
        args.extend(["--set".to_owned(), (*set).to_owned()]);
    }
    run_ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    PathBuf::from(out).join("bundle")
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn the_bundle_holds_what_export_writes() {
    let small = Small::telecom(200, 14);
    let sets = ["models.use=[\"gru\"]", "models.champion=gru", "train.epochs_max=1"];
    let bundle = train_small(&small, "gru", &sets);
    let manifest = Manifest::read(&bundle).expect("a manifest");
    let inside = manifest.checked(&bundle, "model.onnx").expect("listed and whole");
    let out = small.path("gru.onnx");
    // The run holds the bundle.
    let said = run_ok(&["export", &small.path("gru"), "--format", "onnx", "--out", &out]);
    assert!(said.contains("history_months") && said.contains("opset 17"), "{said}");
    assert!(inside == std::fs::read(&out).expect("written"), "the same bytes");
    // Its metadata names the bundle, and nothing lies outside of it.
    let has = |part: &str| inside.windows(part.len()).any(|bytes| bytes == part.as_bytes());
    assert!(has(&manifest.bundle_id) && has("\"horizon\":1") && !has("external_data"));

    let unrolled = small.path("unrolled.onnx");
    run_ok(&["export", text(&bundle), "--unroll", "3", "--out", &unrolled]);
    let unrolled = std::fs::read(unrolled).expect("written");
    let operator = b"\x22\x03GRU";
    let counts = [&inside, &unrolled]
        .map(|file| file.windows(operator.len()).filter(|bytes| bytes == operator).count());
    assert_eq!(counts, [1, 0], "a GRU that is written out is none");

    for (args, code, expected) in [
        (["--format", "onnx", "--unroll", "0"], 2, "not within 1"),
        (["--format", "onnx", "--unroll", "100000"], 2, "not within 1"),
        (["--format", "safetensors", "--unroll", "3"], 2, "belong to --format onnx"),
        (["--format", "pmml", "--signature", "columns"], 2, "no format `pmml`"),
        (["--format", "onnx", "--signature", "matrix"], 2, "leave out --signature"),
        (["--signature", "step", "--unroll", "3"], 2, "a step has one month"),
        (["--format", "onnx", "--signature", "rows"], 2, "neither columns, matrix nor step"),
    ] {
        let wrong = small.path("wrong.onnx");
        let start = ["export", text(&bundle), "--out", &wrong];
        let (found, _, err) = run(&[&start[..], &args].concat());
        assert!(found == code && err.contains(expected), "{args:?}: {found} {err}");
        assert!(!Path::new(&wrong).exists(), "{args:?}");
    }
}

#[test]
fn raw_rows_that_make_no_sense_are_refused() {
    let tables = Tables::new();
    let bundle = tables.train("logistic", &[]);
    let rows = tables.path("rows.jsonl");
    let cell = r#"{"risk":0,"customer":{"customer_id":"a","start":START,"months":{},"length":LENGTH,"attributes":[]}}"#;
    for (start, length, expected) in [
        ("\"2024-01\"", "0", "has 0 months"),
        ("\"2024-01\"", "99999999", "has 99999999 months"),
        ("\"2024-01\"", "1", "lacks months of the measure"),
        ("\"99999-01\"", "1", ""),
        ("7", "1", ""),
    ] {
        let line = cell.replace("START", start).replace("LENGTH", length);
        std::fs::write(&rows, line).expect("written");
        let out = tables.path("out.jsonl");
        let args = ["--raw", text(&rows), "--rows", text(&out)];
        let (code, _, err) = run(&[&["score", "--bundle", text(&bundle)], &args[..]].concat());
        assert!(code == 3 && err.contains(expected), "{start} {length}: {code} {err}");
        assert!(!out.exists(), "{start} {length}");
    }
}

#[test]
fn networks_over_months_agree_with_onnxruntime() {
    let Some(python) = python() else { return };
    let small = Small::telecom(250, 15);
    for (name, sets) in [
        ("gru", &["models.gru.layers=2", "models.gru.history=pooled", "label.horizon=3"][..]),
        ("hybrid", &["models.gru.fusion=gated", "features.scaling=quantile"]),
        ("hybrid", &["models.gru.fusion=initial", "models.gru.layers=2", "features.calendar=true"]),
        ("mlp", &["label.horizon=3", "models.mlp.members=3", "features.scaling=standard"]),
    ] {
        let kinds = format!("models.use=[\"{name}\"]");
        let champion = format!("models.champion={name}");
        let bundle = train_small(&small, name, &[&[&*kinds, &champion], sets].concat());
        let said = check(&python, &bundle, &small.data, &[]);
        assert!(said.contains("shorter histories") && said.contains("padding"), "{said}");
        if name != "mlp" {
            check(&python, &bundle, &small.data, &["--unroll", "20"]);
        }
        let said = check(&python, &bundle, &small.data, &["--signature", "step"]);
        assert!(said.contains("shorter histories"), "{said}");
        std::fs::remove_dir_all(small.path(name)).expect("removed");
    }
}

#[test]
fn every_kind_of_column_agrees_with_onnxruntime() {
    let Some(python) = python() else { return };
    let tables = Tables::new();
    let data = tables.path("data");
    let bundles =
        ["mlp", "gru", "hybrid", "trees", "logistic", "static"].map(|name| tables.train(name, &[]));
    bundles.iter().for_each(|bundle| drop(check(&python, bundle, &data, &[])));
    let average = tables.path("average");
    averaged(&bundles, &[0.3, 0.1, 0.2, 0.2, 0.1, 0.1], &average);
    check(&python, &average, &data, &[]);
    let file = tables.path("average.onnx");
    run_ok(&["export", text(&average), "--out", text(&file)]);
    let file = std::fs::read(file).expect("written");
    let operator = b"\x22\x0eCategoryMapper";
    let looked_up = file.windows(operator.len()).filter(|bytes| bytes == operator).count();
    assert_eq!(looked_up, 2, "a text is looked up once for all members");
    // A month in which half of the customers were there, and fewer versions.
    check(&python, &average, &data, &["--as-of", "2023-09"]);
    check(&python, &average, &data, &["--signature", "step"]);
}

/// A bundle like another one, changed; its golden rows are scored anew.
fn republished(bundle: &Path, change: impl FnOnce(&mut Contents), out: &Path) {
    let cpu = tensors::choose(tensors::Want::Cpu).expect("a CPU");
    let (old, mut contents) = bundle::open(bundle, &cpu.device).expect("a bundle");
    change(&mut contents);
    let features = contents.features.clone();
    let scorer = bundle::Scorer::new(&contents.model, features, &contents.learned, &cpu.device)
        .expect("they fit together");
    let raw: Vec<_> = contents.golden.iter().map(|row| row.customer.clone()).collect();
    let risks = bundle::score_rows(&raw, &scorer, &contents.model.intake).expect("risks");
    contents.golden.iter_mut().zip(risks).for_each(|(row, risk)| row.risk = risk);
    let champion = Champion {
        name: &old.manifest.model,
        metrics: &old.manifest.metrics,
        microseconds_per_row: 1.0,
    };
    let nothing = |_: &str| Ok(Vec::new());
    bundle::publish(out, &contents, (&champion, &old.manifest.origin), &nothing)
        .expect("published");
}

/// What the bundles hold, averaged; they were fitted on the same features.
fn averaged(bundles: &[PathBuf], weights: &[f64], out: &Path) {
    let cpu = tensors::choose(tensors::Want::Cpu).expect("a CPU");
    let open = |bundle: &PathBuf| bundle::open(bundle, &cpu.device).expect("a bundle").1;
    let mut all: Vec<Contents> = bundles.iter().map(open).collect();
    republished(
        &bundles[0],
        |contents| {
            assert!(all.iter().all(|one| one.features == contents.features), "one fit");
            contents.learned = all.iter_mut().map(|one| one.learned.remove(0)).collect();
            contents.model.members =
                all.iter_mut().map(|one| one.model.members.remove(0)).collect();
            let members = contents.model.members.iter_mut().zip(weights);
            members.for_each(|(member, weight)| member.weight = *weight);
        },
        out,
    );
}

#[test]
fn calibrators_and_the_matrix_agree_with_onnxruntime() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    let mut table = "customer_id,plan,age,since,churned\n".to_owned();
    for i in 0..240 {
        let plan = ["a", "b", "", "c"][i % 4];
        let age = if i % 7 == 0 { String::new() } else { (20 + i * 7 % 60).to_string() };
        let churned = u8::from(i % 5 == 0 || (i % 4 == 1 && i % 3 == 0));
        writeln!(table, "F{i:04},{plan},{age},20{:02}-03-1{},{churned}", i % 24, i % 10)
            .expect("text");
    }
    std::fs::write(data.join("customers.csv"), table).expect("written");
    let config = r#"
name = "fixed"
[data]
root = "data"
[[source]]
name = "customers"
kind = "attributes"
path = "customers.csv"
columns = { plan = "category", age = "number", since = "date" }
[label]
kind = "column"
source = "customers"
column = "churned"
[split]
kind = "random"
folds = 3
[models]
use = ["mlp"]
champion = "mlp"
trees = false
mlp = { width = 16 }
[train]
epochs_max = 3
device = "cpu"
"#;
    let (path, run) = (folder.path().join("fixed.toml"), folder.path().join("run"));
    std::fs::write(&path, config).expect("written");
    run_ok(&["train", text(&path), "--out", text(&run)]);
    check(&python, &run, &data, &[]);
    check(&python, &run, &data, &["--signature", "matrix"]);
    let out = folder.path().join("step.onnx");
    let args = ["export", text(&run), "--signature", "step", "--out", text(&out)];
    let (code, _, err) = crate::common::run(&args);
    assert!(code == 2 && err.contains("this one has none") && !out.exists(), "{code} {err}");
    for calibrator in [
        Calibrator::Identity,
        Calibrator::Temperature { slope: 3.5, center: -1.25 },
        Calibrator::Platt { slope: 0.4, intercept: 0.75 },
        Calibrator::Isotonic { from: vec![-1.0], to: vec![0.5] },
        Calibrator::Isotonic { from: vec![-2.0, -1.1, -1.0, -0.2], to: vec![-3.0, -3.0, 0.5, 2.0] },
    ] {
        let out = folder.path().join("recalibrated");
        let change = |contents: &mut Contents| contents.model.calibrator = calibrator;
        republished(&run.join("bundle"), change, &out);
        check(&python, &out, &data, &[]);
        std::fs::remove_dir_all(&out).expect("removed");
    }
}
