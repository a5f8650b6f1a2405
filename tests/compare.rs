//! `churn compare` and `churn train --cv`: two models on the same rows, or a refusal.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use churn::config::ColumnType::{Category, Number};
use serde_json::Value;

use crate::common::{Shared, Table, Tiny, churn, outcome, run};

/// Two runs that differ in their seed, one on other folds, on three folds of forty customers.
struct Runs {
    tiny: Tiny,
}

static RUNS: Shared<Runs> = Shared::new();

const FOLDS: usize = 3;

/// A table of folds: customer i tests in fold (i + shift) mod 3.
fn folds(shift: usize) -> String {
    let mut text = String::from("customer_id,split_0,split_1,split_2\n");
    for i in 0..40 {
        let part = |k: usize| ["test", "valid", "train"][(i / 2 + shift + FOLDS - k) % FOLDS];
        writeln!(text, "c{i:02},{},{},{}", part(0), part(1), part(2)).expect("a string");
    }
    text
}

fn runs() -> Arc<Runs> {
    RUNS.get(|| {
        let tiny = Tiny::new();
        std::fs::write(tiny.path("folds.csv"), folds(0)).expect("written");
        std::fs::write(tiny.path("others.csv"), folds(1)).expect("written");
        for (name, table, seed) in [("a", "folds", 1), ("b", "folds", 2), ("c", "others", 1)] {
            let split = format!("split={{ kind = \"folds\", path = \"{table}.csv\" }}");
            let seed = format!("seed={seed}");
            let more = ["--set", &split, "--set", &seed, "--set", "models.trees=false", "--cv"];
            let (code, stdout, stderr) = outcome(&mut tiny.train(name, "cpu", "\"mlp\"", &more));
            assert_eq!(code, 0, "{stderr}");
            assert!(stdout.contains("over 3 folds (corrected resampled t-test)"), "{stdout}");
        }
        Runs { tiny }
    })
}

impl Runs {
    fn compare(&self, args: &[&str]) -> (i32, String, String) {
        outcome(churn().current_dir(self.tiny.folder.path()).arg("compare").args(args))
    }

    #[track_caller]
    fn compare_ok(&self, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.compare(args);
        assert_eq!(code, 0, "{args:?}: {stderr}");
        stdout
    }

    #[track_caller]
    fn fails(&self, args: &[&str], code: i32, parts: &[&str]) {
        let (found, stdout, stderr) = self.compare(args);
        assert_eq!(found, code, "{args:?}: {stdout}\n{stderr}");
        assert_eq!(stdout, "");
        for part in parts {
            assert!(stderr.contains(part), "{args:?}: no `{part}` in\n{stderr}");
        }
    }

    fn json(&self, name: &str) -> Value {
        let bytes = std::fs::read(self.tiny.path(name)).expect("a file");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.tiny.path(name), text).expect("written");
    }

    /// Test rows of a model of run `a` as a peer's table: (customer, fold, label, risk).
    fn rows(&self, model: &str) -> Vec<(String, f64, f64, f64)> {
        let path = self.tiny.path("a/predictions.parquet");
        let columns = [
            ("model", Category),
            ("split", Category),
            ("fold", Number),
            ("label", Number),
            ("risk", Number),
        ];
        let table = Table::read(Path::new(&path), &columns);
        let (models, splits) = (table.texts("model"), table.texts("split"));
        let of = |name: &str, row: usize| table.numbers(name)[row];
        (0..table.ids.len())
            .filter(|&row| models[row] == model && splits[row] == "test")
            .map(|row| (table.ids[row].clone(), of("fold", row), of("label", row), of("risk", row)))
            .collect()
    }

    fn peer(&self, name: &str, head: &str, row: impl Fn(&(String, f64, f64, f64)) -> String) {
        let rows = self.rows("logistic");
        let lines: Vec<String> = rows.iter().map(row).collect();
        self.write(name, &format!("{head}\n{}\n", lines.join("\n")));
    }
}

#[test]
fn two_runs_on_the_same_rows() {
    let runs = runs();
    let args = ["a", "b", "--model-a", "mlp", "--model-b", "mlp", "--draws", "300"];
    let stdout = runs.compare_ok(&[&args[..], &["--json", "ab.json"]].concat());
    for part in ["A  mlp of a\nB  mlp of b\n", "40 test rows of 40 customers, 3 folds", "DeLong"] {
        assert!(stdout.contains(part), "no `{part}` in\n{stdout}");
    }
    let told = runs.json("ab.json");
    let metrics = [runs.json("a/metrics.json"), runs.json("b/metrics.json")];
    for contrast in told["measures"].as_array().expect("measures") {
        let name = contrast["measure"].as_str().expect("a name");
        for (side, metrics) in ["a", "b"].iter().zip(&metrics) {
            let expected = metrics["models"]["mlp"]["test"][name].as_f64().expect("a number");
            let got = contrast[side].as_f64().expect("a number");
            assert!((got - expected).abs() < 1e-12, "{name} of {side}: {got}, {expected}");
        }
        // Two seeds of the same network on forty customers: no p can be near zero.
        let p = contrast["p"].as_f64().expect("a number");
        assert!((0.005..=1.0).contains(&p), "{contrast}");
        assert_eq!(contrast["across_folds"]["folds"], 3);
        assert_eq!(contrast["by_fold"].as_array().map(Vec::len), Some(3));
    }
    // A third of 40 tests, a third trains.
    let ratio = told["test_to_train"]["ratio"].as_f64().expect("a number");
    assert!((0.9..1.1).contains(&ratio) && told["test_to_train"]["known"] == true, "{ratio}");
    assert_eq!(runs.compare_ok(&args), stdout, "the bootstrap is drawn anew");
}

#[test]
fn models_of_one_run_and_the_champion() {
    let runs = runs();
    let metrics = runs.json("a/metrics.json");
    let champion = metrics["champion"].as_str().expect("a name");
    let other = if champion == "mlp" { "logistic" } else { "mlp" };
    let stdout = runs.compare_ok(&["a", "--model-b", other]);
    assert!(stdout.contains(&format!("A  {champion} of a\nB  {other} of a\n")), "{stdout}");
    runs.fails(&["a"], 2, &["compared with itself", "--model-a"]);
    let parts = ["holds no model `gbm`", "there are ensemble, logistic, mlp"];
    runs.fails(&["a", "--model-b", "gbm"], 2, &parts);
    runs.compare_ok(&["a", "b", "--json"]);
    assert_eq!(runs.json("compare.json")["rows"], 40);
}

#[test]
fn other_rows_are_refused() {
    let runs = runs();
    let args = ["a", "c", "--model-a", "mlp", "--model-b", "mlp"];
    let parts =
        ["the test rows are not the same: 40 only in mlp of a (customer `c", "40 only in mlp of c"];
    runs.fails(&args, 3, &parts);
    runs.fails(
        &["a", "nowhere", "--model-b", "mlp"],
        3,
        &["nowhere/predictions.parquet", "no such file"],
    );
    runs.fails(&["a", "nowhere"], 3, &["nowhere/metrics.json", "no such file"]);
    runs.fails(&[&args[..], &["--folds", "7"]].concat(), 2, &["no test row of fold 7", "0, 1, 2"]);
}

#[test]
fn a_peers_table() {
    let runs = runs();
    // What the peer says is what our logistic regression says.
    let plain =
        |(id, fold, label, risk): &(String, f64, f64, f64)| format!("{id},{fold},{label},{risk}");
    runs.peer("same.csv", "customer_id,fold,y,score", plain);
    let stdout = runs.compare_ok(&["a", "--model-a", "logistic", "--peer", "same.csv"]);
    assert!(
        stdout.contains("B  same.csv\n") && stdout.contains("No measure tells A and B"),
        "{stdout}"
    );
    // Without labels; with months; from the other way around.
    runs.peer("months.csv", "as_of,score,customer_id,fold", |(id, fold, _, risk)| {
        format!("2024-04-30,{},{id},{fold}", 1.0 - risk)
    });
    let args = ["a", "--model-a", "logistic", "--peer", "months.csv", "--json", "months.json"];
    runs.compare_ok(&args);
    let told = runs.json("months.json");
    let auroc = |side: &str| told["measures"][0][side].as_f64().expect("a number");
    assert!((auroc("a") + auroc("b") - 1.0).abs() < 1e-12, "{told}");
    // Two folds of three, and two seeds.
    let rows = runs.rows("logistic");
    let mut text = String::from("customer_id,fold,seed,y,risk\n");
    for (id, fold, label, risk) in rows.iter().filter(|row| row.1 < 2.0) {
        writeln!(text, "{id},{fold},0,{label},{risk}\n{id},{fold},1,{label},0.5")
            .expect("a string");
    }
    runs.write("seeds.csv", &text);
    let args = ["a", "--model-a", "logistic", "--peer", "seeds.csv"];
    runs.fails(&args, 2, &["holds the seeds 0, 1", "--peer-seed"]);
    let of_seed = |seed: &'static str| [&args[..], &["--peer-seed", seed]].concat();
    runs.fails(&of_seed("4"), 2, &["holds no seed 4", "0, 1"]);
    runs.fails(&of_seed("1"), 3, &["only in logistic of a", "--folds 0,1"]);
    let stdout = runs.compare_ok(&[&of_seed("0")[..], &["--folds", "0,1"]].concat());
    assert!(stdout.contains("2 folds") && stdout.contains("B  seeds.csv, seed 0"), "{stdout}");
}

#[test]
fn nonsense_is_refused() {
    let runs = runs();
    let head = "customer_id,fold,y,score";
    let fails = |name: &str, code: i32, parts: &[&str]| {
        runs.fails(&["a", "--model-a", "mlp", "--peer", name], code, parts);
    };
    runs.peer("label.csv", head, |(id, fold, label, risk)| {
        format!("{id},{fold},{},{risk}", 1.0 - label)
    });
    fails("label.csv", 3, &["40 with another label"]);
    runs.peer("risk.csv", head, |(id, fold, label, _)| format!("{id},{fold},{label},1.5"));
    fails("risk.csv", 3, &["risk.csv:2", "`score` is 1.5", "0 to 1"]);
    runs.peer("empty.csv", head, |(id, fold, label, _)| format!("{id},{fold},{label},"));
    fails("empty.csv", 3, &["empty.csv:2", "`score` is NaN"]);
    runs.peer("text.csv", head, |(id, fold, label, _)| format!("{id},{fold},{label},high"));
    fails("text.csv", 3, &["text.csv:2", "high"]);
    runs.peer("fold.csv", head, |(id, _, label, risk)| format!("{id},0.5,{label},{risk}"));
    fails("fold.csv", 3, &["`fold` is 0.5"]);
    runs.peer("labels.csv", head, |(id, fold, _, risk)| format!("{id},{fold},2,{risk}"));
    fails("labels.csv", 3, &["the label is 2"]);
    runs.peer("unfolded.csv", "customer_id,score", |(id, .., risk)| format!("{id},{risk}"));
    fails("unfolded.csv", 3, &["only in mlp of a"]);
    runs.peer("no_risk.csv", "customer_id,fold", |(id, fold, ..)| format!("{id},{fold}"));
    fails("no_risk.csv", 3, &["no column `risk` or `score`"]);
    runs.write("no_key.csv", "id,score\nx,0.5\n");
    fails("no_key.csv", 3, &["no column `customer_id`"]);
    runs.write("nothing.parquet", "this is no parquet file");
    fails("nothing.parquet", 3, &["nothing.parquet"]);
    fails("nowhere.csv", 3, &["nowhere.csv", "no such file"]);
    runs.fails(&["a", "b", "--peer", "same.csv"], 2, &["cannot be used with"]);
    runs.fails(&["a", "b", "--draws", "3"], 2, &["draws"]);
}

#[test]
fn cross_validation_needs_folds() {
    let tiny = Tiny::new();
    let (code, _, stderr) = outcome(&mut tiny.train("one", "cpu", "\"mlp\"", &["--cv"]));
    assert_eq!(code, 2, "{stderr}");
    for part in ["tiny.toml", "--cv needs several folds", "\"rolling\"", "\"random\"", "\"folds\""]
    {
        assert!(stderr.contains(part), "no `{part}` in\n{stderr}");
    }
    assert!(!Path::new(&tiny.path("one")).exists());
}

/// Out-of-fold predictions: every customer is tested once, by a model that did not see it.
#[test]
fn out_of_fold_predictions_are_kept() {
    let runs = runs();
    let mut ids: Vec<String> = runs.rows("mlp").into_iter().map(|row| row.0).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((runs.rows("mlp").len(), ids.len()), (40, 40));
    let report = std::fs::read_to_string(runs.tiny.path("a/report.html")).expect("a report");
    assert!(report.contains("The champion over the folds"));
    let (code, _, stderr) = run(&["compare", "--help"]);
    assert_eq!(code, 0, "{stderr}");
}
