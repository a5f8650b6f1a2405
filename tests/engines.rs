//! Engines of several workers, of which some are killed: the scores of one `churn score`, and searches
//! in which no trial is lost.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{Shared, Small, say};
use crate::onnx::{text, train_small};

/// Tables and a bundle to score them with.
static SCORED: Shared<(Small, PathBuf)> = Shared::new();

/// A Python with some packages and what else they need, or None, which is said.
fn python(packages: &str, needs: Option<&str>) -> Option<String> {
    let python = std::env::var("CHURN_TEST_ENGINES_PYTHON").unwrap_or_default();
    let starts = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output();
        output.is_ok_and(|output| output.status.success())
    };
    let has_them = !python.is_empty()
        && starts(&python, &["-c", &format!("import {packages}")])
        && needs.is_none_or(|program| starts(program, &["-version"]));
    if !has_them {
        let or = needs.map_or_else(String::new, |program| format!(", or {program} is missing"));
        say(&format!(
            "note: CHURN_TEST_ENGINES_PYTHON names no Python with {packages}{or}, so that nothing \
             was run there"
        ));
    }
    has_them.then_some(python)
}

/// Runs a check of `scripts` to its end; it must find nothing wrong and have killed as it should.
#[track_caller]
fn check(python: &str, script: &str, args: &[&str], kills: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script);
    let mut command = Command::new(python);
    command.arg(&script).args(["--churn", env!("CARGO_BIN_EXE_churn")]).args(args);
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{err}");
    assert!(said.contains(kills), "{said}");
}

#[track_caller]
fn check_scores(python: &str, script: &str) {
    let scored = SCORED.get(|| {
        let small = Small::telecom(4000, 15);
        let sets = ["models.use=[\"mlp\"]", "models.champion=mlp"];
        let bundle = train_small(&small, "mlp", &sets);
        (small, bundle)
    });
    let (small, bundle) = &*scored;
    let args = ["--bundle", text(bundle), "--data", text(&small.data)];
    check(python, script, &args, "2 of 2 killed");
}

#[test]
fn spark_gives_the_scores_of_one_run_also_when_workers_are_killed() {
    let Some(python) = python("pyspark, pyarrow, pandas", Some("java")) else { return };
    check_scores(&python, "spark/check.py");
}

#[test]
fn ray_gives_the_scores_of_one_run_also_when_workers_are_killed() {
    let Some(python) = python("ray.data, pyarrow, pandas", None) else { return };
    check_scores(&python, "ray/check.py");
}

#[test]
fn ray_searches_to_the_end_also_when_trials_and_workers_are_killed() {
    let Some(python) = python("ray.tune", None) else { return };
    let small = Small::telecom(1000, 15);
    let root = format!("data.root={}", text(&small.data));
    let args = [text(&small.config), "--set", &root];
    check(&python, "ray/check_tune.py", &args, "3 of 3 killed");
}
