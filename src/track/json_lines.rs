//! `metrics.jsonl`: one number a line.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::Result;
use crate::fsx;
use crate::train::sink::Sink;

/// Appends lines of `{"step":20,"name":"train/loss","value":0.43,"model":"gru"}`; a value that is
/// not finite is `null`. Several models, each with its own sink, may share a file: a line is one
/// write. The hyper-parameters are not repeated here, they stand in the run's configuration.
pub struct JsonLines {
    path: PathBuf,
    model: String,
    /// None once a write has failed.
    file: Option<File>,
}

#[derive(Serialize)]
struct Line<'a> {
    step: u64,
    name: &'a str,
    value: f64,
    model: &'a str,
}

impl JsonLines {
    /// A file that cannot be opened is a warning, see [`Sink`].
    pub fn open(path: &Path, model: &str) -> Self {
        let mut sink = Self { path: path.to_path_buf(), model: model.to_owned(), file: None };
        match open_at_line_start(path) {
            Ok(file) => sink.file = Some(file),
            Err(error) => sink.give_up(&error.to_string()),
        }
        sink
    }

    fn give_up(&mut self, why: &str) {
        self.file = None;
        let (path, model) = (self.path.display(), &self.model);
        tracing::warn!("{path}: the metrics of {model} are no longer written: {why}");
    }
}

impl Sink for JsonLines {
    fn scalar(&mut self, name: &str, step: u64, value: f64) {
        let Some(file) = &mut self.file else { return };
        let line = Line { step, name, value, model: &self.model };
        let mut line = serde_json::to_vec(&line).expect("numbers and texts are JSON");
        line.push(b'\n');
        if let Err(error) = file.write_all(&line) {
            self.give_up(&error.to_string());
        }
    }

    fn hparams(&mut self, _pairs: &[(String, String)]) {}

    /// Each line has left the process already; a crash of the machine may cost the last ones.
    fn flush(&mut self) {}
}

/// Opens for appending; a line that an earlier process left half written (a full disk) is closed,
/// so that it does not swallow the next one.
fn open_at_line_start(path: &Path) -> Result<File> {
    let mut file = fsx::open_append(path)?;
    let is_torn = last_byte(path).is_some_and(|byte| byte != b'\n');
    if is_torn {
        let at = |error: std::io::Error| crate::error::Kind::Environment.at(path).io(&error);
        file.write_all(b"\n").map_err(at)?;
    }
    Ok(file)
}

fn last_byte(path: &Path) -> Option<u8> {
    let mut file = File::open(path).ok()?;
    let mut byte = [0];
    file.seek(SeekFrom::End(-1)).ok()?;
    file.read_exact(&mut byte).ok()?;
    Some(byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_a_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("new/metrics.jsonl");
        for model in ["mlp", "gru"] {
            let mut sink = JsonLines::open(&path, model);
            sink.hparams(&[("train.patience".into(), "8".into())]);
            sink.scalar("train/loss", 20, 0.1 + 0.2);
            sink.scalar("train/loss", 40, f64::NAN);
            sink.flush();
        }
        let text = std::fs::read_to_string(&path).expect("written");
        expect_test::expect![[r#"
            {"step":20,"name":"train/loss","value":0.30000000000000004,"model":"mlp"}
            {"step":40,"name":"train/loss","value":null,"model":"mlp"}
            {"step":20,"name":"train/loss","value":0.30000000000000004,"model":"gru"}
            {"step":40,"name":"train/loss","value":null,"model":"gru"}
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn a_torn_line_is_closed() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":1,\"na").expect("written");
        JsonLines::open(&path, "mlp").scalar("a", 2, 1.0);
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(
            text,
            "{\"step\":1,\"na\n{\"step\":2,\"name\":\"a\",\"value\":1.0,\"model\":\"mlp\"}\n"
        );
    }

    #[test]
    fn what_cannot_be_written_does_not_stop() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("written");
        let mut sink = JsonLines::open(&file.join("below/metrics.jsonl"), "mlp");
        sink.scalar("a", 1, 1.0);
        assert!(sink.file.is_none());

        // Linux's device whose every write fails with "no space left".
        if let Ok(full) = File::options().append(true).open("/dev/full") {
            let file = Some(full);
            let mut sink = JsonLines { path: "/dev/full".into(), model: "mlp".into(), file };
            sink.scalar("a", 1, 1.0);
            assert!(sink.file.is_none());
            sink.scalar("a", 2, 1.0);
        }
    }
}
