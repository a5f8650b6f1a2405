//! A search: killed and gone on with, shared by workers, stopped, refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use churn::seeds::Seeds;
use serde_json::Value;

use crate::common::{Tiny, churn, outcome, say};

/// Kills of one search; `scripts/kill_tune.sh` does twenty.
const KILLS: u64 = 3;

/// The least of which one is trained to the end: a third of them pass each rung.
const TRIALS: &str = "9";

fn tune(tiny: &Tiny, out: &str, more: &[&str]) -> Command {
    let mut command = churn();
    command.args(["tune", &tiny.path("tiny.toml"), "--out", &tiny.path(out)]);
    command.args(["--device", "cpu", "--trials", TRIALS, "--set", "models.use=[\"mlp\"]"]);
    command.args(more);
    command
}

#[track_caller]
fn finish(tiny: &Tiny, out: &str, more: &[&str]) -> (String, String) {
    let (code, stdout, stderr) = outcome(&mut tune(tiny, out, more));
    assert_eq!(code, 0, "{stderr}");
    (stdout, stderr)
}

/// The table of trials without the column of seconds.
#[track_caller]
fn trials(tiny: &Tiny, out: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(tiny.path(&format!("{out}/trials.csv"))).expect("a table");
    let rows = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let mut rows: Vec<Vec<String>> = rows.collect();
    let seconds = rows[0].iter().position(|name| name == "seconds").expect("a column");
    rows.iter_mut().for_each(|row| drop(row.remove(seconds)));
    rows
}

/// Records of a study, in order; a line that was cut off is none.
fn journal(tiny: &Tiny, out: &str) -> Vec<Value> {
    let text = fs::read_to_string(tiny.path(&format!("{out}/journal.jsonl"))).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn of_kind(records: &[Value], kind: &str) -> Vec<Value> {
    records.iter().filter(|record| record["kind"] == kind).cloned().collect()
}

/// The (trial, rung) of records.
fn places(records: &[Value]) -> Vec<(u64, u64)> {
    let number = |record: &Value, key: &str| record[key].as_u64().expect("a number");
    records.iter().map(|record| (number(record, "trial"), number(record, "rung"))).collect()
}

#[test]
fn a_search_ends_in_a_configuration_that_trains() {
    let tiny = Tiny::new();
    let more = ["--set", "models.mlp.width=32"];
    let (stdout, stderr) = finish(&tiny, "study", &more);
    for part in ["log loss  network  parameters", "trials   9, ", "best.toml"] {
        assert!(stdout.contains(part), "no `{part}` in\n{stdout}");
    }
    assert!(stderr.contains("trial 0 of 9, 1 of 6 epochs: validation log loss"), "{stderr}");
    let records = journal(&tiny, "study");
    let reports = places(&of_kind(&records, "report"));
    // Rungs of 1, 2 and 6 epochs: a third of the trials goes on, at most a half.
    let at = |rung: u64| reports.iter().filter(|place| place.1 == rung).count();
    assert_eq!(at(0), 9);
    assert!((3..=4).contains(&at(1)) && (1..=2).contains(&at(2)), "{reports:?}");
    // The settings of the file come first.
    let first = &of_kind(&records, "begin")[0]["params"];
    assert_eq!(first["models.mlp.width"], 32, "{first}");
    assert_eq!(first["train.learning_rate"], 0.01, "{first}");
    // Every trial has its curves, and the settings by which TensorBoard compares it.
    for trial in ["0000", "0008"] {
        let folder = tiny.path(&format!("study/trials/{trial}/tensorboard/mlp"));
        let file = fs::read_dir(folder).expect("a folder").next().expect("a file").expect("a file");
        let bytes = fs::read(file.path()).expect("read");
        let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(holds("_hparams_/session_start_info") && holds("models.mlp.dropout"), "{trial}");
        assert!(holds("epoch/validation_log_loss"), "{trial}");
    }
    let (best, run) = (tiny.path("study/best.toml"), tiny.path("best"));
    let (code, _, stderr) = outcome(churn().args(["train", &best, "--out", &run]));
    assert_eq!(code, 0, "{stderr}");
    // The trial's network, bit for bit: the search trained it the same way.
    let metrics = fs::read_to_string(tiny.path("best/metrics.json")).expect("metrics");
    let metrics: Value = serde_json::from_str(&metrics).expect("JSON");
    let loss = metrics["models"]["mlp"]["validation"]["log_loss"].as_f64().expect("a number");
    let table = trials(&tiny, "study");
    let best = table[1..].iter().filter(|row| row[1] == "finished");
    let best = best.map(|row| row[4].parse::<f64>().expect("a number")).fold(f64::MAX, f64::min);
    // One from the log-odds, the other one from the risks.
    assert!((loss - best).abs() < 1e-6, "{loss} of the run, {best} of the trial");
}

#[test]
fn more_trials_go_on_with_a_study() {
    let tiny = Tiny::new();
    finish(&tiny, "at_once", &[]);
    let short = ["--trials", "5"];
    let mut command = churn();
    command.args(["tune", &tiny.path("tiny.toml"), "--out", &tiny.path("grown")]);
    command.args(["--device", "cpu", "--set", "models.use=[\"mlp\"]"]).args(short);
    assert_eq!(outcome(&mut command).0, 0);
    assert_eq!(trials(&tiny, "grown").len(), 1 + 5);
    finish(&tiny, "grown", &[]);
    assert_eq!(trials(&tiny, "grown"), trials(&tiny, "at_once"));
}

/// Whatever the moment: what was reported stays, no number comes twice, and the end is the same.
#[test]
fn a_killed_search_goes_on_where_it_was() {
    let tiny = Tiny::new();
    let start = std::time::Instant::now();
    finish(&tiny, "whole", &[]);
    let whole = start.elapsed();
    let mut before: Vec<Value> = Vec::new();
    for kill in 0..KILLS {
        let mut child = tune(&tiny, "killed", &[])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let share = Seeds::new(11).number("kill", kill) % 1000;
        std::thread::sleep(whole.mul_f64(0.1 + 0.5 * share as f64 / 1000.0));
        // It may have ended already; then the kill hits nothing.
        let _ = child.kill();
        child.wait().expect("it ends");
        let after = journal(&tiny, "killed");
        assert!(after.len() >= before.len(), "lines are gone");
        assert_eq!(after[..before.len()], before[..], "what was written has changed");
        before = after;
    }
    finish(&tiny, "killed", &[]);
    assert_eq!(trials(&tiny, "killed"), trials(&tiny, "whole"));
    let read =
        |out: &str| fs::read_to_string(tiny.path(&format!("{out}/best.toml"))).expect("a file");
    assert_eq!(read("killed"), read("whole"));
    let order = |out: &str| places(&of_kind(&journal(&tiny, out), "report"));
    assert_eq!(order("killed"), order("whole"));
}

/// Two workers by `--workers`, and a process that joins them from outside.
#[test]
fn workers_share_a_study() {
    let tiny = Tiny::new();
    let mut outside = tune(&tiny, "study", &[])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    finish(&tiny, "study", &["--workers", "2"]);
    assert!(outside.wait().expect("it ends").success());
    let records = journal(&tiny, "study");
    assert_eq!(of_kind(&records, "worker").len(), 3);
    let (begun, reported) = (of_kind(&records, "begin"), of_kind(&records, "report"));
    // Every training was begun once and reported once, by the same worker.
    let by = |records: &[Value]| -> BTreeMap<(u64, u64), Value> {
        let workers = records.iter().map(|record| record["worker"].clone());
        places(records).into_iter().zip(workers).collect()
    };
    assert_eq!(by(&begun), by(&reported));
    assert_eq!((by(&begun).len(), by(&reported).len()), (begun.len(), reported.len()));
    let numbers: Vec<u64> = places(&begun).iter().filter(|p| p.1 == 0).map(|p| p.0).collect();
    assert_eq!(numbers, (0..9).collect::<Vec<u64>>());
    let rows = trials(&tiny, "study");
    assert!(rows[1..].iter().all(|row| row[1] == "finished" || row[1] == "held back"), "{rows:?}");
}

#[test]
fn time_is_a_limit() {
    let tiny = Tiny::new();
    let more = ["--seconds", "0"];
    let (_, stderr) = finish(&tiny, "study", &more);
    assert!(stderr.contains("the time is up"), "{stderr}");
    let (_, stderr) = finish(&tiny, "shared", &["--seconds", "0", "--workers", "2"]);
    assert!(stderr.contains("the time is up"), "{stderr}");
    finish(&tiny, "study", &[]);
    assert_eq!(trials(&tiny, "study").len(), 1 + 9);
}

/// Also where the signal reaches the parent only.
#[cfg(unix)]
#[test]
fn a_signal_leaves_a_study_that_goes_on() {
    let tiny = Tiny::new();
    finish(&tiny, "whole", &[]);
    for (out, workers) in [("alone", "1"), ("shared", "2")] {
        let slow = ["--workers", workers];
        let mut child = tune(&tiny, out, &slow)
            .stdout(Stdio::null())
            .stderr(fs::File::create(tiny.path(&format!("{out}.log"))).expect("a log"))
            .spawn()
            .expect("it starts");
        let wait = |is: &dyn Fn() -> bool| {
            for _ in 0..600 {
                if is() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            panic!("{out}: nothing happened");
        };
        wait(&|| !of_kind(&journal(&tiny, out), "report").is_empty());
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        let code = child.wait().expect("it ends").code();
        if code == Some(0) {
            say("note: the search had ended before the signal came");
        } else {
            assert_eq!(code, Some(143), "{out}");
        }
        finish(&tiny, out, &[]);
    }
    assert_eq!(trials(&tiny, "alone"), trials(&tiny, "whole"));
}

#[test]
fn what_is_refused() {
    let tiny = Tiny::new();
    let space = |text: &str| format!("tune.space={{{text}}}");
    let full = tiny.path("full");
    fs::create_dir(&full).expect("made");
    fs::write(Path::new(&full).join("a"), "").expect("written");
    finish(&tiny, "study", &["--set", "tune.halvings=1"]);
    let unknown = space("\"train.lerning_rate\" = { log = [1e-4, 1e-2] }");
    let wide = space("\"models.mlp.dropout\" = { real = [0.0, 1.5] }");
    let typo = space("\"train.warmup\" = { reel = [0.0, 0.5] }");
    let fixed = space("\"train.epochs_max\" = { int = [1, 2] }");
    for (out, set, code, expected) in [
        ("full", "seed=1", 2, "is not empty and holds no study"),
        ("study", "seed=1", 2, "is a study of other settings"),
        ("study", "tune.halvings=2", 2, "is a study of other rungs"),
        ("study", "train.epochs_max=7", 2, "is a study of other"),
        ("new", unknown.as_str(), 3, "unknown key `lerning_rate`"),
        ("new", wide.as_str(), 3, "`models.mlp.dropout`: must lie in [0, 1), is 1.5"),
        ("new", typo.as_str(), 2, "unknown key `reel`"),
        ("new", fixed.as_str(), 2, "is the same for all trials"),
        ("new", "tune.folds=[3]", 3, "no fold 3"),
        ("new", "tune.redution=3", 2, "did you mean `reduction`?"),
    ] {
        let (got, _, stderr) = outcome(&mut tune(&tiny, out, &["--set", set]));
        assert_eq!(got, code, "{set}: {stderr}");
        assert!(stderr.contains(expected), "{set}: {stderr}");
    }
}

/// A trial that cannot be trained is told and left; the others go on.
#[test]
fn a_trial_that_diverges_fails_alone() {
    let tiny = Tiny::new();
    // Infinite as a 32-bit number.
    let space = "tune.space={\"train.positive_weight\" = { choices = [1.0, 1e39] }, \
                 \"train.average\" = { real = [0.0, 0.5] }}";
    let (stdout, stderr) = finish(&tiny, "study", &["--set", space]);
    assert!(stdout.contains("trials   9, "), "{stdout}");
    assert!(stderr.contains("failed: the loss was not finite"), "{stderr}");
    let states: BTreeMap<String, usize> =
        trials(&tiny, "study")[1..].iter().fold(BTreeMap::new(), |mut states, row| {
            *states.entry(row[1].clone()).or_default() += 1;
            states
        });
    // Of the few that are left, too few for one to pass both rungs.
    assert!(states["failed"] >= 1 && states["held back"] >= 1, "{states:?}");
    assert_eq!(states.values().sum::<usize>(), 9);
}
