//! Bundles made by someone who can write checksums.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{TRAINED, Trained, refused};
use crate::bundle::{copy, forge};

fn input(trained: &Trained) -> [PathBuf; 2] {
    ["customers.csv", "activity.csv"].map(|name| trained.tiny.path(name).into())
}

/// A file of the bundle is replaced and the manifest follows.
#[track_caller]
fn check(attack: &str, file: &str, bytes: &[u8], words: &str) {
    let trained = TRAINED.get(Trained::new);
    let forged = copy(&trained.bundle());
    forge(forged.path(), file, bytes);
    let [customers, activity] = input(&trained);
    refused(attack, forged.path(), &[&customers, &activity], words);
}

/// Something is done to a copy of the bundle.
#[track_caller]
fn damaged(attack: &str, damage: impl FnOnce(&Path), words: &str) {
    let trained = TRAINED.get(Trained::new);
    let copy = copy(&trained.bundle());
    damage(copy.path());
    let [customers, activity] = input(&trained);
    refused(attack, copy.path(), &[&customers, &activity], words);
}

fn of_bundle(file: &str) -> Vec<u8> {
    std::fs::read(TRAINED.get(Trained::new).bundle().join(file)).expect(file)
}

fn changed(file: &str, change: &dyn Fn(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(&of_bundle(file)).expect("JSON");
    change(&mut value);
    serde_json::to_vec(&value).expect("JSON")
}

/// A safetensors file with another header in front of the same numbers.
fn with_header(change: &dyn Fn(&mut Value)) -> Vec<u8> {
    let bytes = of_bundle("mlp.safetensors");
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..end]).expect("JSON");
    change(&mut header);
    let header = serde_json::to_vec(&header).expect("JSON");
    [&(header.len() as u64).to_le_bytes()[..], &header, &bytes[end..]].concat()
}

#[test]
fn safetensors() {
    let sound = of_bundle("mlp.safetensors");
    let length = |claim: u64| [&claim.to_le_bytes()[..], &sound[8..]].concat();
    let tensor = "head.bias";
    let at =
        |field: &'static str, to: Value| with_header(&|header| header[tensor][field] = to.clone());
    let numbers = |number: f32| {
        let mut bytes = sound.clone();
        let end = bytes.len() - 4;
        bytes[end..].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    let deep = [&2_000_000u64.to_le_bytes()[..], "[".repeat(2_000_000).as_bytes()].concat();
    for (attack, bytes) in [
        ("a header of 2^64 bytes", length(u64::MAX)),
        ("a header of 2^40 bytes", length(1 << 40)),
        ("a header of no bytes", length(0)),
        ("a deep header", deep),
        ("empty", vec![]),
        ("cut off", sound[..sound.len() - 4].to_vec()),
        ("overlapping numbers", at("data_offsets", json!([4, 12]))),
        ("numbers beyond the end", at("data_offsets", json!([1u64 << 40, (1u64 << 40) + 8]))),
        ("numbers that end before they begin", at("data_offsets", json!([8, 0]))),
        ("another type", at("dtype", json!("F64"))),
        ("an unknown type", at("dtype", json!("X1"))),
        ("a shape of 2^80", at("shape", json!([1u64 << 40, 1u64 << 40]))),
        ("another shape", at("shape", json!([1, 1, 2]))),
        (
            "a tensor less",
            with_header(&|header| drop(header.as_object_mut().map(|h| h.remove(tensor)))),
        ),
        ("not a number", numbers(f32::NAN)),
        ("infinite", numbers(f32::INFINITY)),
    ] {
        check(attack, "mlp.safetensors", &bytes, "mlp.safetensors");
    }
}

#[test]
fn shapes_that_ask_for_more_than_there_is() {
    for (part, field) in [
        ("mlp", "width"),
        ("mlp", "blocks"),
        ("mlp", "members"),
        ("mlp", "piece_width"),
        ("gru", "hidden"),
        ("gru", "layers"),
    ] {
        for size in [0u64, 1 << 19, 1 << 40, u64::MAX] {
            // An MLP has no recurrent part, and this one no bins: there it is a size as any other.
            if (part == "gru" || field == "piece_width") && size == 1 << 19 {
                continue;
            }
            let bytes = changed("model.json", &|model| {
                model["members"][0]["architecture"][part][field] = size.into();
            });
            check(&format!("{part}.{field} = {size}"), "model.json", &bytes, "error: ");
        }
    }
    let architecture = |field: &'static str, to: Value| {
        changed("model.json", &|model| model["members"][0]["architecture"][field] = to.clone())
    };
    for (attack, bytes) in [
        ("numbers", architecture("numbers", json!(1u64 << 40))),
        ("months", architecture("months", json!(1u64 << 40))),
        ("codes", architecture("categories", json!([1u64 << 40]))),
        ("many categories", architecture("categories", json!(vec![1; 1_000_000]))),
        ("many borders", architecture("borders", json!(vec![json!([]); 1_000_000]))),
        ("another kind", architecture("kind", json!("hybrid"))),
    ] {
        check(attack, "model.json", &bytes, "error: ");
    }
}

#[test]
fn facts() {
    let features = |change: &dyn Fn(&mut Value)| changed("features.json", change);
    let nested = "[".repeat(1_000_000).into_bytes();
    let bare: Vec<u8> = format!("[{}1]", "[],".repeat(5_000_000)).into_bytes();
    for (attack, file, bytes) in [
        ("brackets", "model.json", nested.clone()),
        ("brackets", "features.json", nested.clone()),
        ("brackets", "golden.jsonl", nested),
        ("five million lists", "model.json", bare.clone()),
        ("five million lists", "features.json", bare.clone()),
        ("five million lists", "golden.jsonl", bare),
        (
            "a window of 2^32 months",
            "features.json",
            features(&|f| f["spec"]["windows"] = json!([u32::MAX])),
        ),
        ("a window of no month", "features.json", features(&|f| f["spec"]["windows"] = json!([0]))),
        (
            "more windows than numbers",
            "features.json",
            features(&|f| f["spec"]["windows"] = json!([3, 4])),
        ),
        ("no numbers of windows", "features.json", features(&|f| f["window_numbers"] = json!([]))),
        (
            "a scale of 0",
            "features.json",
            features(&|f| {
                f["static_numbers"][0]["map"] = json!({"standard": {"center": 0.0, "scale": 0.0}})
            }),
        ),
        (
            "more points than scores",
            "features.json",
            features(&|f| {
                f["static_numbers"][0]["map"] =
                    json!({"quantile": {"points": [1.0, 2.0, 3.0], "scores": [0.0]}});
            }),
        ),
    ] {
        check(attack, file, &bytes, file);
    }
}

#[test]
fn manifests() {
    let write = |bytes: Vec<u8>| {
        move |folder: &Path| {
            std::fs::write(folder.join("manifest.json"), bytes).expect("written");
        }
    };
    let manifest = |change: &dyn Fn(&mut Value)| write(changed("manifest.json", change));
    damaged("brackets", write("[".repeat(1_000_000).into_bytes()), "manifest.json");
    damaged("2 MB", write(format!("[{}1]", "1,".repeat(1 << 20)).into_bytes()), "manifest.json");
    damaged("another version", manifest(&|m| m["format_version"] = 9.into()), "has format 9");
    damaged(
        "a negative size",
        manifest(&|m| m["files"]["model.json"]["bytes"] = (-1).into()),
        "manifest.json",
    );
    damaged(
        "no file",
        |folder| std::fs::remove_file(folder.join("manifest.json")).expect("removed"),
        "manifest.json",
    );
    damaged(
        "a folder",
        |folder| {
            std::fs::remove_file(folder.join("manifest.json")).expect("removed");
            std::fs::create_dir(folder.join("manifest.json")).expect("a folder");
        },
        "is no file",
    );
    damaged(
        "a pipe that nobody writes to",
        |folder| {
            std::fs::remove_file(folder.join("manifest.json")).expect("removed");
            let made = Command::new("mkfifo").arg(folder.join("manifest.json")).status();
            assert!(made.expect("mkfifo").success());
        },
        "is no file",
    );
    damaged(
        "a device without an end",
        |folder| {
            std::fs::remove_file(folder.join("model.json")).expect("removed");
            std::os::unix::fs::symlink("/dev/zero", folder.join("model.json")).expect("a link");
        },
        "is no file",
    );
    let mut listed =
        churn::bundle::Manifest::read(&TRAINED.get(Trained::new).bundle()).expect("read");
    let entry = listed.files["model.json"].clone();
    for (attack, name, bytes, words) in [
        ("a file outside", "../../../etc/passwd", 10, "manifest.json"),
        ("a model of 2^60 bytes", "model.json", 1 << 60, "at most"),
    ] {
        let mut forged = listed.clone();
        forged.manifest_sha256 = "0".repeat(64);
        forged.files.insert(name.to_owned(), churn::bundle::FileEntry { bytes, ..entry.clone() });
        let bytes = forged.to_bytes().expect("bytes");
        damaged(attack, write(bytes), words);
    }
    listed.manifest_sha256 = "0".repeat(64);
    listed.files.extend((0..1200).map(|at| (format!("f{at}"), entry.clone())));
    damaged("many files", write(listed.to_bytes().expect("bytes")), "lists ");
    // It is as large as it says, and holds nothing.
    damaged(
        "a model of 4 GB",
        |folder| {
            File::create(folder.join("model.json"))
                .expect("a file")
                .set_len(4 << 30)
                .expect("longer")
        },
        "model.json",
    );
}
