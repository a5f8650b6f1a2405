//! Scores on an engine of several workers, of which one is killed: those of one `churn score`.

use std::path::Path;
use std::process::Command;

use crate::common::{Small, say};
use crate::onnx::train_small;

/// A Python with some packages, and Java, or None, which is said.
fn python(packages: &str) -> Option<String> {
    let python = std::env::var("CHURN_TEST_ENGINES_PYTHON").unwrap_or_default();
    let starts = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output();
        output.is_ok_and(|output| output.status.success())
    };
    let has_them = !python.is_empty()
        && starts(&python, &["-c", &format!("import {packages}")])
        && starts("java", &["-version"]);
    if !has_them {
        say(&format!(
            "note: CHURN_TEST_ENGINES_PYTHON names no Python with {packages}, or Java is missing, so \
             that no customers were scored there"
        ));
    }
    has_them.then_some(python)
}

#[test]
fn spark_gives_the_scores_of_one_run_also_when_workers_are_killed() {
    let Some(python) = python("pyspark, pyarrow, pandas") else { return };
    let small = Small::telecom(4000, 15);
    let bundle = train_small(&small, "mlp", &["models.use=[\"mlp\"]", "models.champion=mlp"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/spark/check.py");
    let mut command = Command::new(python);
    command.arg(&script).args(["--churn", env!("CARGO_BIN_EXE_churn")]);
    command.arg("--bundle").arg(&bundle).arg("--data").arg(&small.data);
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{err}");
    assert!(said.contains("2 of 2 killed"), "{said}");
}
