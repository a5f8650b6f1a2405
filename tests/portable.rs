//! Models for PyTorch and MLflow: what `churn export` writes, and that both say what we say.

use std::path::Path;
use std::process::Command;

use churn::nn::params::{self, Parameters};
use serde_json::Value;

use crate::common::{Small, run, run_ok, say};
use crate::onnx::{text, train_small};
use crate::tables::Tables;

/// A Python with some packages, or None, which is said.
fn python(packages: &str) -> Option<String> {
    let python = std::env::var("CHURN_TEST_PYTHON").unwrap_or_default();
    let has_them = !python.is_empty()
        && Command::new(&python)
            .args(["-c", &format!("import {packages}")])
            .output()
            .is_ok_and(|output| output.status.success());
    if !has_them {
        say(&format!(
            "note: CHURN_TEST_PYTHON names no Python with {packages}, so that exported models were \
             not run there"
        ));
    }
    has_them.then_some(python)
}

/// All rows and their variants at most 1e-5 apart.
#[track_caller]
fn check(python: &str, script: &str, bundle: &Path, data: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/interop").join(script);
    let mut command = Command::new(python);
    command.arg(&script).args(["--churn", env!("CARGO_BIN_EXE_churn"), "--run"]).arg(bundle);
    let output = command.arg("--data").arg(data).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}{err}", bundle.display());
    assert!(said.matches("largest difference").count() >= 4, "{said}");
}

fn tensors(path: &Path) -> Parameters {
    params::from_safetensors(&std::fs::read(path).expect("written"), path).expect("safetensors")
}

/// The text that stands in a safetensors header under `churn`.
fn facts(path: &Path) -> Value {
    let bytes = std::fs::read(path).expect("written");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
    let facts = header["__metadata__"]["churn"].as_str().expect("a text");
    serde_json::from_str(facts).expect("JSON")
}

#[test]
fn safetensors_hold_the_names_and_the_layout_of_pytorch() {
    let small = Small::telecom(250, 15);
    for (name, sets, expected) in [
        (
            "gru",
            &["models.gru.layers=2", "models.gru.hidden=8", "models.gru.history=pooled"][..],
            &[
                ("gru.gru.weight_hh_l1", &[24, 8][..]),
                ("gru.gru.bias_ih_l0", &[24]),
                ("gru.head.weight", &[1, 24]),
            ][..],
        ),
        (
            "hybrid",
            &["models.gru.fusion=gated", "models.mlp.width=12", "label.horizon=3"],
            &[
                ("hybrid.trunk.norm.weight", &[12]),
                ("hybrid.gate.of_static.weight", &[12, 12]),
                ("hybrid.head.weight", &[3, 12]),
            ],
        ),
        (
            "hybrid",
            &["models.gru.fusion=initial", "models.gru.hidden=8", "features.scaling=quantile"],
            &[("hybrid.from_static.weight", &[8, 32])],
        ),
        (
            "mlp",
            &["models.mlp.members=3", "label.horizon=3", "features.scaling=standard"],
            &[("mlp.head.bias", &[9]), ("mlp.head.weight", &[9, 32])],
        ),
    ] {
        let (use_, champion) =
            (format!("models.use=[\"{name}\"]"), format!("models.champion={name}"));
        let sets =
            [&[&*use_, &champion, "models.mlp.width=32", "train.epochs_max=1"], sets].concat();
        let bundle = train_small(&small, name, &sets);
        let out = small.path("model.safetensors");
        run_ok(&["export", text(&bundle), "--format", "safetensors", "--out", &out]);
        let (out, found) = (Path::new(&out), tensors(Path::new(&out)));
        for (tensor, shape) in expected {
            assert_eq!(found[*tensor].shape, *shape, "{tensor}");
        }
        // Transposed or not, the numbers are those of the bundle.
        let inside = tensors(&bundle.join(format!("{name}.safetensors")));
        assert_eq!(params::count(&found), params::count(&inside));
        let (ours, theirs) = match name {
            "mlp" => ("layers.0.weight", "mlp.layers.0.weight".to_owned()),
            _ => ("stack.layers.0.input_weight", format!("{name}.gru.weight_ih_l0")),
        };
        let (ours, theirs) = (&inside[ours], &found[&theirs]);
        let [rows, columns] = ours.shape[..] else { panic!("no matrix") };
        assert_eq!(ours.values[1], theirs.values[rows], "row 0, column 1 of {columns}");
        let said = facts(out);
        assert_eq!(said["members"][0]["name"], name);
        assert!(said["features"]["measures"].is_array() && said["calibrator"]["kind"].is_string());
        let first = std::fs::read(out).expect("written");
        run_ok(&["export", text(&bundle), "--format", "safetensors", "--out", text(out)]);
        assert!(first == std::fs::read(out).expect("written"), "the same bytes");
        if let Some(python) = python("torch, safetensors, numpy") {
            check(&python, "torch_parity.py", &bundle, &small.data);
        }
        std::fs::remove_dir_all(small.path(name)).expect("removed");
    }
}

#[test]
fn every_kind_of_column_agrees_with_pytorch_and_mlflow() {
    let tables = Tables::new();
    for name in ["mlp", "hybrid", "trees", "static"] {
        let bundle = tables.train(name, &[]);
        if let (Some(python), true) = (python("torch, safetensors, numpy"), name != "trees") {
            check(&python, "torch_parity.py", &bundle, &tables.path("data"));
        }
        if let Some(python) = python("mlflow, onnxruntime, pandas, numpy") {
            check(&python, "mlflow_parity.py", &bundle, &tables.path("data"));
        }
    }
}

#[test]
fn an_mlflow_folder_says_what_it_is() {
    let tables = Tables::new();
    let bundle = tables.train("hybrid", &["features.calendar=true"]);
    let out = tables.path("model");
    run_ok(&["export", text(&bundle), "--format", "mlflow", "--output", text(&out)]);
    let read = |name: &str| std::fs::read_to_string(out.join(name)).expect(name);
    let mlmodel = read("MLmodel");
    for part in ["loader_module: churn_pyfunc", "data: model.onnx", "code: code", "model_uuid: "] {
        assert!(mlmodel.contains(part), "no `{part}` in\n{mlmodel}");
    }
    // A text within a text, as MLflow writes it.
    let line =
        mlmodel.lines().find_map(|line| line.trim().strip_prefix("inputs: ")).expect("inputs");
    let inner: String = serde_json::from_str(line).expect("a text");
    let schema: Vec<Value> = serde_json::from_str(&inner).expect("JSON");
    let of = |name: &str| {
        let found = schema.iter().find(|column| column["name"] == name);
        found.unwrap_or_else(|| panic!("no `{name}` in {inner}"))
    };
    assert_eq!(of("region")["type"], "string");
    assert_eq!(of("customers.risk")["type"], "double");
    assert_eq!(
        (&of("usage")["type"], &of("usage")["items"]["type"]),
        (&"array".into(), &"double".into())
    );
    assert_eq!(of("plan")["items"]["type"], "string");
    assert_eq!((&of("as_of")["type"], &of("as_of")["required"]), (&"long".into(), &true.into()));
    assert_eq!(of("history_months")["required"], false);
    // The example has these columns, and a cell in each of each row.
    let example: Value = serde_json::from_str(&read("input_example.json")).expect("JSON");
    let names: Vec<&Value> = schema.iter().map(|column| &column["name"]).collect();
    assert_eq!(example["columns"].as_array().expect("columns").iter().collect::<Vec<_>>(), names);
    let rows = example["data"].as_array().expect("rows");
    assert!(!rows.is_empty());
    for row in rows {
        let row = row.as_array().expect("a row");
        assert_eq!(row.len(), names.len());
        let months = row[names.iter().position(|name| *name == "history_months").expect("there")]
            .as_u64()
            .expect("a number");
        let lists = row.iter().filter_map(Value::as_array);
        assert!(
            lists.clone().count() >= 4 && lists.clone().all(|list| list.len() as u64 == months)
        );
    }
    let requirements = read("requirements.txt");
    assert!(
        requirements.lines().count() >= 4 && requirements.lines().all(|line| line.contains("=="))
    );
    run_ok(&["export", text(&bundle), "--out", text(&tables.path("model.onnx"))]);
    let onnx = std::fs::read(tables.path("model.onnx")).expect("written");
    assert!(onnx == std::fs::read(out.join("model.onnx")).expect("written"));

    // Such a folder is replaced, any other is left alone.
    std::fs::write(out.join("code/left_over.py"), "").expect("written");
    run_ok(&["export", text(&bundle), "--format", "mlflow", "--out", text(&out)]);
    assert!(!out.join("code/left_over.py").exists());
    let data = tables.path("data");
    let (code, _, err) =
        run(&["export", text(&bundle), "--format", "mlflow", "--out", text(&data)]);
    assert!(code == 2 && err.contains("is no MLflow model"), "{code} {err}");
    assert!(data.join("customers.csv").exists());
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let tables = Tables::new();
    let bundle = tables.train("trees", &[]);
    let out = tables.path("wrong");
    for (format, more, expected) in [
        ("safetensors", &[][..], "`trees` is no network"),
        ("safetensors", &["--signature", "matrix"], "--unroll belong to --format onnx"),
        ("mlflow", &["--signature", "matrix"], "--unroll belong to --format onnx"),
        ("tensorflow", &[], "write --format onnx, safetensors or mlflow"),
    ] {
        let start = ["export", text(&bundle), "--format", format, "--out", text(&out)];
        let (code, _, err) = run(&[&start[..], more].concat());
        assert!(code == 2 && err.contains(expected), "{format}: {code} {err}");
        assert!(!out.exists(), "{format}");
    }
}
