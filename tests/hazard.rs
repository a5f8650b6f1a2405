//! Networks with a hazard head: risk curves from training to scores.

use std::collections::HashMap;

use churn::config::ColumnType::{Category, Number};
use serde_json::Value;

use crate::common::{Shared, Small, Table, run, run_ok, weights_sha256};

static DATA: Shared<Small> = Shared::new();

/// With a horizon of three months: train to as-of month 7, validation 10 to 12, test 15 to 17, and
/// the windows behind month 17 are open.
fn data() -> std::sync::Arc<Small> {
    DATA.get(|| Small::telecom(1500, 20))
}

const MONTHS: usize = 3;
const CURVE: [&str; MONTHS + 1] = ["risk_1", "risk_2", "risk_3", "months_expected"];

#[track_caller]
fn train(data: &Small, out: &str, sets: &[&str]) -> (String, String) {
    let mut args = data.train_args(&data.path(out));
    for set in ["label.horizon=3"].iter().chain(sets) {
        args.extend(["--set".to_owned(), (*set).to_owned()]);
    }
    let (code, stdout, stderr) = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    (stdout, stderr)
}

fn metrics(data: &Small, out: &str) -> Value {
    let bytes = std::fs::read(data.path(&format!("{out}/metrics.json"))).expect("metrics");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn predictions(data: &Small, out: &str, more: &[&str]) -> Table {
    let numbers = more.iter().chain(&["risk", "label"]).map(|&name| (name, Number));
    let texts = [("model", Category), ("split", Category), ("as_of", Category)];
    let columns: Vec<_> = texts.into_iter().chain(numbers).collect();
    Table::read(data.path(&format!("{out}/predictions.parquet")).as_ref(), &columns)
}

/// A curve climbs, ends at the risk, and its expected months are those of its survivals.
#[track_caller]
fn check_curve(curve: [f64; MONTHS + 1], risk: f64) {
    let [one, two, three, months] = curve;
    assert!(0.0 < one && one < two && two < three, "{curve:?}");
    assert_eq!(three, risk);
    // The numbers are written whole.
    assert!((months - (3.0 - one - two)).abs() < 1e-12, "{curve:?}");
}

fn curve_at(table: &Table, row: usize) -> [f64; MONTHS + 1] {
    CURVE.map(|name| table.numbers(name)[row])
}

#[test]
fn every_network_has_a_curve_and_nothing_else_has_one() {
    let data = data();
    let (stdout, _) = train(&data, "all", &["models.champion=hybrid"]);
    let found = predictions(&data, "all", &CURVE);
    let (models, splits) = (found.texts("model"), found.texts("split"));
    for (row, model) in models.iter().enumerate() {
        match model.as_str() {
            "logistic" | "ensemble" => assert!(curve_at(&found, row).iter().all(|x| x.is_nan())),
            _ => check_curve(curve_at(&found, row), found.numbers("risk")[row]),
        }
    }
    let metrics = metrics(&data, "all");
    for model in ["mlp", "gru", "hybrid"] {
        let is_test = |&row: &usize| models[row] == model && splits[row] == "test";
        let tests: Vec<usize> = (0..models.len()).filter(is_test).collect();
        let mean = |name: &str| {
            tests.iter().map(|&row| found.numbers(name)[row]).sum::<f64>() / tests.len() as f64
        };
        // Two epochs from a head that starts at the base hazards: about 250 of 2,500 leave, which
        // has a standard error of 0.006; the season and the short training move it further.
        assert!((mean("risk") - mean("label")).abs() < 0.04, "{model}: {}", mean("risk"));
        let curve = &metrics["models"][model]["curve"];
        let rows = curve["rows"].as_u64().expect("a number") as usize;
        let censored = curve["censored"].as_u64().expect("a number") as usize;
        // Windows of which one or two months are seen stand behind the test part.
        assert!(censored > tests.len() / 3 && rows > tests.len() + censored, "{rows} {censored}");
        let of = |name: &str| curve[name].as_f64().expect("a number");
        let (ours, kaplan_meier) = (of("integrated_brier"), of("integrated_brier_kaplan_meier"));
        assert!(ours < 1.05 * kaplan_meier && ours > 0.5 * kaplan_meier, "{ours} {kaplan_meier}");
        assert!(of("calibration_error_max") < 0.1 && of("auroc") > 0.5, "{curve}");
        assert_eq!(curve["months"].as_array().expect("months").len(), MONTHS);
        assert!(stdout.contains(&format!("{model}, risk curve over 3 months")), "{stdout}");
    }
    for model in ["logistic", "ensemble"] {
        assert!(metrics["models"][model].get("curve").is_none(), "{model}");
    }
    let report = std::fs::read_to_string(data.path("all/report.html")).expect("a report");
    assert!(report.contains("When customers leave"));

    let (bundle, input) = (data.path("all/bundle"), data.data.to_str().expect("UTF-8"));
    for (name, flag) in [("curve.csv", "--curve"), ("horizon.parquet", "--horizon")] {
        let output = data.path(name);
        run_ok(&["score", "--bundle", &bundle, "--input", input, "--output", &output, flag]);
        let columns: Vec<_> = CURVE.iter().chain(&["risk"]).map(|&name| (name, Number)).collect();
        let scores = Table::read(output.as_ref(), &columns);
        assert!(scores.ids.len() > 500);
        for row in 0..scores.ids.len() {
            check_curve(curve_at(&scores, row), scores.numbers("risk")[row]);
        }
    }
}

/// At the last as-of month of the test part, the bundle says what the training said.
#[test]
fn scores_equal_the_predictions_of_the_training() {
    let data = data();
    let sets = ["models.use=[\"gru\"]", "models.champion=gru", "train.epochs_max=1"];
    train(&data, "again", &sets);
    let found = predictions(&data, "again", &CURVE);
    let (models, splits, months) =
        (found.texts("model"), found.texts("split"), found.texts("as_of"));
    let of_test = |&row: &usize| models[row] == "gru" && splits[row] == "test";
    let tests: Vec<usize> = (0..models.len()).filter(of_test).collect();
    let last = tests.iter().map(|&row| months[row].clone()).max().expect("a month");
    let (bundle, input) = (data.path("again/bundle"), data.data.to_str().expect("UTF-8"));
    let output = data.path("again.parquet");
    let ends = ["--output", &output, "--as-of", &last, "--horizon"];
    run_ok(&[&["score", "--bundle", &bundle, "--input", input][..], &ends].concat());
    let columns: Vec<_> = CURVE.iter().map(|&name| (name, Number)).collect();
    let scores = Table::read(output.as_ref(), &columns);
    let place: HashMap<&String, usize> = scores.ids.iter().zip(0..).collect();
    let mut compared = 0;
    for row in tests.into_iter().filter(|&row| months[row] == last) {
        let (wanted, got) = (curve_at(&found, row), curve_at(&scores, place[&found.ids[row]]));
        // f32 log-odds of batches of other shapes; months add three risks.
        let far = wanted.iter().zip(&got).any(|(a, b)| (a - b).abs() > 1e-5);
        assert!(!far, "{}: {wanted:?}, {got:?}", found.ids[row]);
        compared += 1;
    }
    assert!(compared > 500, "{compared}");
}

#[track_caller]
fn check_refused(data: &Small, run_name: &str) {
    let bundle = data.path(&format!("{run_name}/bundle"));
    let (input, output) = (data.data.to_str().expect("UTF-8"), data.path("none.csv"));
    let args = ["score", "--bundle", &bundle, "--input", input, "--output", &output, "--horizon"];
    let (code, _, stderr) = run(&args);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("leave out --curve"), "{stderr}");
    assert!(!std::path::Path::new(&output).exists());
}

#[test]
fn a_champion_without_a_curve_says_so() {
    let data = data();
    for champion in ["logistic", "ensemble"] {
        let set = format!("models.champion={champion}");
        train(&data, champion, &["models.use=[\"mlp\"]", "train.epochs_max=1", &set]);
        check_refused(&data, champion);
    }
}

#[test]
fn partitions_see_the_same_windows() {
    let data = data();
    let hybrid = "models.use=[\"hybrid\"]";
    train(&data, "whole", &[hybrid]);
    let (_, said) = train(&data, "parts", &[hybrid, "train.memory_gb=0.004"]);
    assert!(said.contains("partitions"), "{said}");
    let of = |run: &str, name: &str| metrics(&data, run)["models"]["hybrid"]["curve"][name].clone();
    for name in ["rows", "censored"] {
        assert_eq!(of("whole", name), of("parts", name), "{name}");
    }
    let brier = |run: &str| of(run, "integrated_brier").as_f64().expect("a number");
    // The same rows, another training.
    assert!((brier("whole") / brier("parts") - 1.0).abs() < 0.1);
}

#[test]
fn a_training_that_lost_its_last_steps_ends_with_the_same_weights() {
    let data = data();
    let sets = ["models.use=[\"gru\"]", "train.checkpoint_steps=7"];
    train(&data, "cut", &sets);
    let expected = weights_sha256(&data.path("cut"));
    let folder = data.path("cut/checkpoints/gru");
    let mut generations: Vec<_> =
        std::fs::read_dir(&folder).expect("a folder").flatten().map(|entry| entry.path()).collect();
    generations.sort();
    std::fs::remove_dir_all(generations.pop().expect("one")).expect("removed");
    let mut args = data.train_args(&data.path("cut"));
    for set in ["label.horizon=3"].iter().chain(&sets) {
        args.extend(["--set".to_owned(), (*set).to_owned()]);
    }
    args.push("--resume".into());
    let (code, _, stderr) = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 0, "{stderr}");
    assert!(!stderr.contains("gru epoch 1/"), "it began again: {stderr}");
    assert_eq!(weights_sha256(&data.path("cut")), expected);
}

#[test]
fn folds_of_customers_have_curves_too() {
    let data = data();
    let split = "split={ kind = \"random\", folds = 3 }";
    train(&data, "folds", &["models.use=[\"gru\"]", "train.epochs_max=1", split]);
    let metrics = metrics(&data, "folds");
    let curve = &metrics["models"]["gru"]["curve"];
    let tests = metrics["models"]["gru"]["test"]["rows"].as_u64().expect("a number");
    // All folds together: every customer tests once, and so do the open windows.
    let censored = curve["censored"].as_u64().expect("a number");
    assert!(censored > 500 && curve["rows"].as_u64().expect("a number") > tests + censored);
}

#[test]
fn a_window_head_has_no_curve() {
    let data = data();
    let gru = ["models.use=[\"gru\"]", "models.champion=gru", "train.epochs_max=1"];
    let sets = [&gru[..], &["models.head=window"]].concat();
    let (stdout, _) = train(&data, "window", &sets);
    assert!(!stdout.contains("risk curve"), "{stdout}");
    assert!(metrics(&data, "window")["models"]["gru"].get("curve").is_none());
    let found = predictions(&data, "window", &[]);
    assert!(found.numbers("risk").iter().all(|risk| (0.0..1.0).contains(risk)));
    check_refused(&data, "window");
}
