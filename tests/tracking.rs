//! What a training writes for its watchers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common::{Tiny, outcome, say};

const NETWORKS: &str = "\"mlp\",\"gru\"";

/// Told of every network; an epoch of the tiny set is one step.
const SERIES: [&str; 4] =
    ["epoch/learning_rate", "epoch/train_loss", "epoch/validation_log_loss", "train/loss"];

#[track_caller]
fn train(tiny: &Tiny, more: &[&str]) -> String {
    let (code, stdout, stderr) = outcome(&mut tiny.train("run", "cpu", NETWORKS, more));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("mlp") && stdout.contains("gru"), "{stdout}");
    stderr
}

/// CRC-32C (Castagnoli, RFC 3720), bit by bit: no table that could be wrong in both places.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

/// TFRecord's rotated checksum.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The records of an event file: length, its checksum, data, its checksum.
fn records(bytes: &[u8]) -> Result<Vec<&[u8]>, String> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let (length, tail) = rest.split_first_chunk::<8>().ok_or(format!("{at}: no length"))?;
        let (sum, tail) = tail.split_first_chunk::<4>().ok_or(format!("{at}: no checksum"))?;
        if u32::from_le_bytes(*sum) != masked(length) {
            return Err(format!("{at}: checksum of the length"));
        }
        let size = u64::from_le_bytes(*length) as usize;
        let (data, tail) = tail.split_at_checked(size).ok_or(format!("{at}: cut off"))?;
        let (sum, tail) = tail.split_first_chunk::<4>().ok_or(format!("{at}: no checksum"))?;
        if u32::from_le_bytes(*sum) != masked(data) {
            return Err(format!("{at}: checksum of the data"));
        }
        found.push(data);
        rest = tail;
    }
    Ok(found)
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    found.sort();
    found
}

fn holds(data: &[u8], text: &str) -> bool {
    data.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn crc32c_of_rfc_3720() {
    for (bytes, sum) in [
        (vec![0u8; 32], 0x8a91_36aa),
        (vec![0xff; 32], 0x62a8_ab43),
        ((0..32).collect(), 0x46dd_794e),
        (b"123456789".to_vec(), 0xe306_9283),
    ] {
        assert_eq!(crc32c(&bytes), sum, "{bytes:?}");
    }
}

#[test]
fn event_files_are_whole() {
    let tiny = Tiny::new();
    train(&tiny, &[]);
    let folders = files(&tiny.path("run/tensorboard"));
    let names: Vec<_> = folders.iter().map(|f| f.file_name().expect("a name")).collect();
    assert_eq!(names, ["gru", "mlp"]);
    for folder in folders {
        let inside = files(folder.to_str().expect("UTF-8"));
        let [file] = inside.as_slice() else { panic!("not one file: {inside:?}") };
        let name = file.file_name().expect("a name").to_string_lossy();
        assert!(name.starts_with("events.out.tfevents."), "{name}");
        let mut bytes = fs::read(file).expect("a file");
        let found = records(&bytes).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert!(holds(found[0], "brain.Event:2"), "the first record tells the version");
        for series in SERIES {
            let points = found.iter().filter(|data| holds(data, series)).count();
            assert_eq!(points, 6, "{name}: {series} has a point for each of 6 epochs");
        }
        assert!(found.iter().any(|data| holds(data, "train.learning_rate")), "no settings");
        // The check sees a changed byte, wherever it is.
        for at in (0..bytes.len()).step_by(97) {
            bytes[at] ^= 0x40;
            assert!(records(&bytes).is_err(), "a changed byte {at} was not seen");
            bytes[at] ^= 0x40;
        }
    }
}

#[test]
fn metrics_are_one_object_a_line() {
    let tiny = Tiny::new();
    train(&tiny, &[]);
    let text = fs::read_to_string(tiny.path("run/metrics.jsonl")).expect("a file");
    let mut found: BTreeMap<(String, String), Vec<(u64, f64)>> = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        let keys: BTreeSet<&str> =
            line.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys, ["model", "name", "step", "value"].into());
        let text = |key: &str| line[key].as_str().expect("a text").to_owned();
        let point =
            (line["step"].as_u64().expect("a step"), line["value"].as_f64().expect("a number"));
        found.entry((text("model"), text("name"))).or_default().push(point);
    }
    let expected: Vec<(String, String)> = ["gru", "mlp"]
        .iter()
        .flat_map(|model| SERIES.map(|series| ((*model).to_owned(), series.to_owned())))
        .collect();
    assert_eq!(found.keys().cloned().collect::<Vec<_>>(), expected);
    for (series, points) in &found {
        let steps: Vec<u64> = points.iter().map(|p| p.0).collect();
        assert_eq!(steps, [1, 2, 3, 4, 5, 6], "{series:?}");
        assert!(points.iter().all(|p| p.1.is_finite() && p.1 > 0.0), "{series:?}: {points:?}");
    }
    // An epoch of one step: its mean loss is that step's loss.
    for model in ["gru", "mlp"] {
        let of = |name: &str| &found[&(model.to_owned(), name.to_owned())];
        assert_eq!(of("epoch/train_loss"), of("train/loss"));
    }
}

/// With the reader that users have. `CHURN_TEST_PYTHON` names a Python with `tensorboard`.
#[test]
fn tensorboard_reads_the_files() {
    let python = std::env::var("CHURN_TEST_PYTHON").unwrap_or_default();
    if python.is_empty() {
        say("note: CHURN_TEST_PYTHON is not set, so TensorBoard's own reader was not tried");
        return;
    }
    let tiny = Tiny::new();
    train(&tiny, &[]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/check_tensorboard.py");
    let read = || {
        let mut command = Command::new(&python);
        outcome(command.arg(&script).arg(tiny.path("run/tensorboard")))
    };
    let (code, stdout, stderr) = read();
    assert_eq!(code, 0, "{stdout}\n{stderr}");
    for line in [
        "2 folders, 48 points, ",
        "  scalar epoch/validation_log_loss: 6 points",
        "  hparam train.learning_rate = 0.01",
    ] {
        assert!(stdout.contains(line), "no `{line}` in\n{stdout}");
    }
    // It does complain: about a file that is cut off.
    let file = files(&tiny.path("run/tensorboard/mlp")).remove(0);
    let bytes = fs::read(&file).expect("a file");
    fs::write(&file, &bytes[..bytes.len() - 3]).expect("written");
    assert_eq!(read().0, 1);
}

/// A file stands where the folder should be: even root cannot write below it. The folder of a run
/// must be empty but for --resume, which here finds nothing to go on with.
#[test]
fn tensorboard_that_cannot_be_written_does_not_stop_training() {
    let tiny = Tiny::new();
    fs::create_dir(tiny.path("run")).expect("made");
    fs::write(tiny.path("run/tensorboard"), "").expect("written");
    let stderr = train(&tiny, &["--resume"]);
    assert!(stderr.contains("no more TensorBoard events are written"), "{stderr}");
    assert!(Path::new(&tiny.path("run/bundle/manifest.json")).exists());
    assert!(Path::new(&tiny.path("run/metrics.json")).exists());
}

/// Linux's device whose every write fails with "no space left" stands for a full disk.
#[cfg(unix)]
#[test]
fn a_full_disk_under_the_metrics_does_not_stop_training() {
    if !Path::new("/dev/full").exists() {
        say("note: there is no /dev/full, so a full disk was not tried");
        return;
    }
    let tiny = Tiny::new();
    fs::create_dir(tiny.path("run")).expect("made");
    std::os::unix::fs::symlink("/dev/full", tiny.path("run/metrics.jsonl")).expect("a link");
    let stderr = train(&tiny, &["--resume"]);
    assert!(stderr.contains("are no longer written"), "{stderr}");
    assert!(stderr.contains("No space left"), "{stderr}");
    assert!(Path::new(&tiny.path("run/metrics.json")).exists());
}
