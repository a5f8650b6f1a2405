//! What a run compares: the parts of the input, the losses, the shapes of the hybrid.

use std::path::Path;

use serde_json::Value;

use crate::common::{Shared, Small, Tiny, outcome, run, run_ok};

static DATA: Shared<Small> = Shared::new();

fn data() -> std::sync::Arc<Small> {
    DATA.get(|| Small::telecom(600, 18))
}

#[track_caller]
fn train(data: &Small, out: &str, more: &[&str]) -> (String, String) {
    let mut args = data.train_args(&data.path(out));
    args.extend(more.iter().map(|&arg| arg.to_owned()));
    let (code, stdout, stderr) = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    (stdout, stderr)
}

#[track_caller]
fn metrics(run: &str) -> Value {
    let bytes = std::fs::read(Path::new(run).join("metrics.json")).expect("metrics");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[track_caller]
fn report(run: &str) -> String {
    std::fs::read_to_string(Path::new(run).join("report.html")).expect("a report")
}

#[test]
fn an_ablation_sets_each_part_against_both() {
    let data = data();
    let run = data.path("ablation");
    let (stdout, _) = train(&data, "ablation", &["--ablate", "--set", "models.champion=mlp"]);
    let metrics = metrics(&run);
    let models: Vec<&String> = metrics["models"].as_object().expect("a map").keys().collect();
    assert_eq!(models, ["ensemble", "gru", "hybrid", "logistic", "static"]);
    let rows = metrics["ablation"].as_array().expect("rows");
    let loss = |row: &Value, name: &str| row[name].as_f64().expect("a number");
    for (row, (part, model)) in
        rows.iter().zip([("static", "static"), ("sequence", "gru"), ("both", "hybrid")])
    {
        assert_eq!((row["part"].as_str(), row["model"].as_str()), (Some(part), Some(model)));
        let of_model = &metrics["models"][model]["test"];
        assert_eq!(row["test_log_loss"], of_model["log_loss"]);
        assert_eq!(row["test_auroc"], of_model["auroc"]);
        let over = loss(row, "test_log_loss") - loss(&rows[2], "test_log_loss");
        assert_eq!(loss(row, "loss_without_the_rest"), over);
        assert!(stdout.lines().any(|line| line.starts_with(part) && line.contains(model)));
    }
    assert!(report(&run).contains("Ablation, on test"));

    // A model without months scores a customer table like any other.
    let scores = data.path("scores.csv");
    let only = data.path("static-only");
    train(
        &data,
        "static-only",
        &["--set", "models.use=[\"static\"]", "--set", "models.champion=static"],
    );
    let bundle = format!("{only}/bundle");
    let input = data.data.to_str().expect("UTF-8");
    run_ok(&["score", "--bundle", &bundle, "--input", input, "--output", &scores]);
    let text = std::fs::read_to_string(&scores).expect("scores");
    assert!(text.lines().count() > 100);
}

/// Its months may say anything: a static network does not look at them.
#[test]
fn a_static_network_sees_no_month() {
    let tiny = Tiny::new();
    let risks = |out: &str| -> Vec<String> {
        let more = ["--set", "models.champion=static", "--set", "models.trees=false"];
        let (code, _, stderr) = outcome(&mut tiny.train(out, "cpu", "\"static\"", &more));
        assert_eq!(code, 0, "{stderr}");
        let scores = tiny.path(&format!("{out}.csv"));
        let bundle = tiny.path(&format!("{out}/bundle"));
        let tables = tiny.folder.path().to_str().expect("UTF-8");
        run_ok(&["score", "--bundle", &bundle, "--input", tables, "--output", &scores]);
        let text = std::fs::read_to_string(&scores).expect("scores");
        let risk = |line: &str| line.split(',').nth(2).expect("a risk").to_owned();
        text.lines().map(risk).collect()
    };
    let before = risks("before");
    let table = tiny.path("activity.csv");
    let text = std::fs::read_to_string(&table).expect("the activity");
    let shuffled: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(at, line)| match line.rsplit_once(',') {
            Some((rest, _)) if at > 0 => format!("{rest},{}", at * 7919 % 101),
            _ => line.to_owned(),
        })
        .collect();
    std::fs::write(&table, shuffled.join("\n")).expect("written");
    assert_eq!(before, risks("after"));
    assert!(before.iter().skip(1).any(|risk| risk != &before[1]), "{before:?}");
}

#[test]
fn losses_are_compared_and_the_best_is_used() {
    let data = data();
    let auto = ["--set", "train.loss=auto", "--set", "models.use=[\"mlp\"]"];
    let (stdout, stderr) = train(&data, "auto", &auto);
    let run = data.path("auto");
    let metrics = metrics(&run);
    let trials = metrics["losses"].as_array().expect("rows");
    let names: Vec<&str> = trials.iter().map(|t| t["loss"].as_str().expect("a name")).collect();
    assert_eq!(names, ["bce", "weighted", "focal"]);
    let loss = |trial: &Value| trial["validation_log_loss"].as_f64().expect("a number");
    let best = trials.iter().min_by(|a, b| loss(a).total_cmp(&loss(b))).expect("three");
    assert_eq!(best["chosen"], 1);
    let best = best["loss"].as_str().expect("a name");
    assert!(stderr.contains(&format!("loss {best} is used")), "{stderr}");
    assert!(stdout.contains("validation log loss  chosen by folds"), "{stdout}");
    assert!(report(&run).contains("Short trainings with each loss"));

    // The network is the one that the chosen loss gives by itself.
    let alone = format!("train.loss={best}");
    train(&data, "alone", &["--set", &alone, "--set", "models.use=[\"mlp\"]"]);
    let of = |run: &str, model: &str| crate::choices::metrics(run)["models"][model]["test"].clone();
    assert_eq!(of(&run, "mlp"), of(&data.path("alone"), "mlp"));
    assert_ne!(loss(&trials[0]), loss(&trials[1]));
    assert_ne!(loss(&trials[1]), loss(&trials[2]));
}

/// Weighted or not, the risks have the level of what happened.
#[test]
fn a_weighted_loss_keeps_the_level() {
    let data = data();
    for loss in ["bce", "weighted"] {
        let set = format!("train.loss={loss}");
        let more = ["--set", &set, "--set", "train.epochs_max=8", "--set", "models.use=[\"gru\"]"];
        train(&data, loss, &more);
        let metrics = metrics(&data.path(loss));
        let ece = metrics["models"]["gru"]["calibration"]["test_ece_before"].as_f64();
        // Without the correction the mean risk would be near a half, where a tenth leaves.
        assert!(ece.expect("a number") < 0.1, "{loss}: {ece:?}");
    }
}

/// Where it is asked for, and of the focal loss always.
#[test]
fn epochs_may_be_compared_after_calibration() {
    let tiny = Tiny::new();
    for (run, set) in [("asked", "train.stop_on=calibrated"), ("focal", "train.loss=focal")] {
        let (code, _, stderr) = outcome(&mut tiny.train(run, "cpu", "\"gru\"", &["--set", set]));
        assert_eq!(code, 0, "{stderr}");
        assert!(stderr.contains(", calibrated 0."), "{stderr}");
        let metrics = tiny.path(&format!("{run}/metrics.jsonl"));
        let text = std::fs::read_to_string(metrics).expect("metrics");
        let of = |series: &str| -> Vec<f64> {
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            let of_series = lines.filter(|line| line["name"] == series);
            of_series.map(|line| line["value"].as_f64().expect("finite")).collect()
        };
        let (plain, calibrated) =
            (of("epoch/validation_log_loss"), of("epoch/calibrated_log_loss"));
        assert_eq!((plain.len(), calibrated.len()), (6, 6));
        // What is fitted to these very rows can only lower their loss, but for the weight of a row
        // that holds it back.
        assert!(plain.iter().zip(&calibrated).all(|(plain, calibrated)| calibrated <= plain));
        assert_ne!(plain, calibrated);
    }
}

/// Every shape of the hybrid goes all the way: training, bundle with its golden rows, scoring.
#[test]
fn shapes_of_the_hybrid_train_and_score() {
    let tiny = Tiny::new();
    for history in ["last", "pooled"] {
        for fusion in ["concatenate", "initial", "gated"] {
            let out = format!("{history}-{fusion}");
            let sets = [
                format!("models.gru.history={history}"),
                format!("models.gru.fusion={fusion}"),
                "models.champion=hybrid".to_owned(),
                "models.gru.layers=2".to_owned(),
            ];
            let more: Vec<&str> = sets.iter().flat_map(|set| ["--set", set.as_str()]).collect();
            let (code, _, stderr) = outcome(&mut tiny.train(&out, "cpu", "\"hybrid\"", &more));
            assert_eq!(code, 0, "{stderr}");
            let (bundle, scores) = (tiny.path(&format!("{out}/bundle")), tiny.path("scores.csv"));
            let tables = tiny.folder.path().to_str().expect("UTF-8");
            run_ok(&["score", "--bundle", &bundle, "--input", tables, "--output", &scores]);
        }
    }
}
