use expect_test::{Expect, expect};

use super::*;

const SMALL: &str = r#"name = "a"
[data]
root = "${DIR:-../data}/a"
[[source]]
name = "customers"
kind = "attributes"
path = "customers.csv"
columns = { plan = "category", "monthly fee" = { type = "number", on_bad = "null" } }
[[source]]
name = "activity"
kind = "activity"
path = ["a.csv", "b.csv"]
time = "month"
columns = { calls = "number" }
[label]
kind = "event"
source = "customers"
column = "left_on"
horizon = 3
[split]
kind = "time"
[train]
patience = 4
"#;

fn sets(sets: &[(&str, &str)]) -> Vec<(String, String)> {
    sets.iter().map(|&(path, value)| (path.to_owned(), value.to_owned())).collect()
}

/// Loads `text` from `a.toml` in a folder of its own; messages lose the folder's name.
fn load_text(text: &str, set: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Resolved, String> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.toml");
    std::fs::write(&path, text).expect("written");
    let env = |name: &str| {
        let found = env.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let loaded = load(&path, &Overrides { sets: &sets(set), env: &env });
    let folder = format!("{}/", dir.path().display());
    loaded.map_err(|error| format!("{:?} {}", error.kind, error.to_string().replace(&folder, "")))
}

#[track_caller]
fn refused(text: &str, set: &[(&str, &str)], expect: Expect) {
    expect.assert_eq(&load_text(text, set, &[]).expect_err("refused"));
}

/// The small configuration with `from` replaced.
fn with(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "{from}");
    SMALL.replacen(from, to, 1)
}

#[test]
fn flags_beat_env_beat_file_beat_defaults() {
    let device = |file: &str, env: &[(&str, &str)], set: &[(&str, &str)]| {
        let resolved = load_text(&with("[train]\n", &format!("[train]\n{file}")), set, env);
        let resolved = resolved.expect("loaded");
        let origin = resolved.origins["train.device"].to_string();
        format!("{} {origin}", resolved.config.train.device)
    };
    let (file, env, set) =
        ("device = \"cpu\"\n", [("CHURN_DEVICE", "ndarray")], [("train.device", "gpu")]);
    assert_eq!(device("", &[], &[]), "auto default");
    assert_eq!(device(file, &[], &[]), "cpu a.toml:23");
    assert_eq!(device(file, &env, &[]), "ndarray env CHURN_DEVICE");
    assert_eq!(device(file, &env, &set), "gpu flag --set");
    assert_eq!(device(file, &[("CHURN_DEVICE", "")], &[]), "cpu a.toml:23");
}

#[test]
fn every_value_has_its_origin() {
    let set = [
        ("source.activity.absent", "missing"),
        ("source.0.path", "c.csv"),
        ("label", "{ kind = \"inactivity\", measure = \"calls\", months = 2 }"),
        ("models.use", "[\"gru\"]"),
        ("name", "5"),
    ];
    let resolved = load_text(SMALL, &set, &[("DIR", "/x")]).expect("loaded");
    let lines = resolved.leaves().into_iter().map(|(path, value)| {
        let origin = &resolved.origins[&path];
        (*origin != Origin::Default).then(|| format!("{path} = {value} # {origin}\n"))
    });
    expect![[r#"
        data.root = "/x/a" # env DIR
        label.kind = "inactivity" # flag --set
        label.measure = "calls" # flag --set
        label.months = 2 # flag --set
        models.use = ["gru"] # flag --set
        name = "5" # flag --set
        source.0.columns."monthly fee".on_bad = "null" # a.toml:8
        source.0.columns."monthly fee".type = "number" # a.toml:8
        source.0.columns.plan = "category" # a.toml:8
        source.0.kind = "attributes" # a.toml:6
        source.0.name = "customers" # a.toml:5
        source.0.path = "c.csv" # flag --set
        source.1.absent = "missing" # flag --set
        source.1.columns.calls = "number" # a.toml:14
        source.1.kind = "activity" # a.toml:11
        source.1.name = "activity" # a.toml:10
        source.1.path = ["a.csv", "b.csv"] # a.toml:12
        source.1.time = "month" # a.toml:13
        split.kind = "time" # a.toml:21
        train.patience = 4 # a.toml:23
    "#]]
    .assert_eq(&lines.flatten().collect::<String>());
    assert_eq!(resolved.origins.len(), resolved.leaves().len());
}

#[test]
fn what_is_written_is_refused_with_its_line() {
    refused(
        &with("patience = 4", "patiance = 4"),
        &[],
        expect!["Config a.toml:23: unknown key `patiance` in [train]; did you mean `patience`?"],
    );
    refused(
        &with("patience = 4", "zzz = 4"),
        &[],
        expect![
            "Config a.toml:23: unknown key `zzz` in [train]; known are accumulate, average, batch_customers, batch_snapshots, checkpoint_steps, clip_norm, device, epochs_max, focal_gamma, learning_rate, log_steps, loss, memory_gb, patience, positive_weight, steps_max, stop_on, warmup, weight_decay"
        ],
    );
    refused(
        &with("patience = 4", "patience = \"4\""),
        &[],
        expect![
            "Config a.toml:23: `train.patience`: expected a whole number from 0 to 4294967295, found text"
        ],
    );
    refused(
        &with("patience = 4", "patience = -4"),
        &[],
        expect![
            "Config a.toml:23: `train.patience`: expected a whole number from 0 to 4294967295, found -4"
        ],
    );
    refused(
        &with("patience = 4", "patience = 5000000000"),
        &[],
        expect![
            "Config a.toml:23: `train.patience`: expected a whole number from 0 to 4294967295, found 5000000000"
        ],
    );
    refused(
        &with("horizon = 3", "horizont = 3"),
        &[],
        expect![
            "Config a.toml:19: unknown key `horizont` in [label] of kind `event`; did you mean `horizon`?"
        ],
    );
    refused(
        &with("kind = \"event\"", "kind = \"events\""),
        &[],
        expect!["Config a.toml:16: `label.kind`: there is no `events`; did you mean `event`?"],
    );
    refused(
        &with("kind = \"event\"\n", ""),
        &[],
        expect![
            "Config a.toml:15: missing key `kind` in [label]; one of column, snapshots, event, inactivity"
        ],
    );
    refused(
        &with("plan = \"category\"", "plan = \"text\""),
        &[],
        expect![
            "Config a.toml:8: `source.0.columns.plan`: there is no `text`; known are number, category, date"
        ],
    );
    refused(
        &with("type = \"number\"", "typ = \"number\""),
        &[],
        expect![[r#"
        Config a.toml:8: unknown key `typ` in [source.0.columns."monthly fee"]; did you mean `type`?
        a.toml:8: missing key `type` in [source.0.columns."monthly fee"]"#]],
    );
    refused(
        &with("path = \"customers.csv\"", "path = 3"),
        &[],
        expect!["Config a.toml:7: `source.0.path`: expected text or a list, found 3"],
    );
    refused(
        &with("path = \"customers.csv\"\n", "\n"),
        &[],
        expect!["Config a.toml:4: missing key `path` in [[source]]"],
    );
    refused(
        &with("name = \"a\"\n", "nane = \"a\"\n"),
        &[],
        expect![[r#"
        Config a.toml: missing key `name` at the top level
        a.toml:1: unknown key `nane` at the top level; did you mean `name`?"#]],
    );
    refused(
        &with("[train]", "[panel]\nfirst = \"2017-13\"\n[train]"),
        &[],
        expect!["Config a.toml:23: `panel.first`: `2017-13` is no month; write it as 2017-03"],
    );
    refused(
        &with("[train]", "[panel]\nfirst = 2017-01-01\n[train]"),
        &[],
        expect![
            "Config a.toml:23: `panel.first`: expected text, found a date; put the date in quotes"
        ],
    );
    refused(
        &with("[train]", "[train"),
        &[],
        expect!["Config a.toml:22: is no valid TOML: unclosed table, expected `]`"],
    );
    refused(
        &with("patience = 4", "patience = 0"),
        &[],
        expect!["Config a.toml:23: `train.patience`: must lie in [1, 100000], is 0"],
    );
    refused(
        &with("${DIR:-../data}", "${DIR}"),
        &[],
        expect![
            "Config a.toml:3: `data.root`: the environment variable DIR is not set; set it, or write ${DIR:-folder}"
        ],
    );
}

#[test]
fn what_a_flag_says_is_refused_by_its_name() {
    let check = |path: &str, value: &str, expect: Expect| refused(SMALL, &[(path, value)], expect);
    check(
        "train.patiance",
        "4",
        expect![
            "Usage --set train.patiance: unknown key `patiance` in [train]; did you mean `patience`?"
        ],
    );
    check(
        "source.actvity.absent",
        "zero",
        expect![
            "Usage --set source.actvity.absent: there is no `actvity` in source; did you mean `activity`?"
        ],
    );
    check(
        "source.7.absent",
        "zero",
        expect![
            "Usage --set source.7.absent: there is no `7` in source; known are customers, activity"
        ],
    );
    check(
        "train.patience.x",
        "4",
        expect!["Usage --set train.patience.x: `train.patience` is a value, not a table"],
    );
    check(
        "train.patience",
        "many",
        expect![
            "Usage --set train.patience: `train.patience`: expected a whole number from 0 to 4294967295, found text"
        ],
    );
    check(
        "train..patience",
        "4",
        expect![
            "Usage --set train..patience: a path is names with dots between, such as `train.patience`"
        ],
    );
    check(
        "split",
        "{ kind = \"folds\" }",
        expect!["Usage --set split.path: missing key `path` in [split] of kind `folds`"],
    );
    check(
        "train.device",
        "tpu",
        expect![
            "Usage --set train.device: `train.device`: there is no device `tpu`; one of auto, gpu, gpu:N, cpu, ndarray"
        ],
    );
    check(
        "panel.first",
        "2017-13",
        expect![
            "Usage --set panel.first: `panel.first`: `2017-13` is no month; write it as 2017-03"
        ],
    );
}

#[test]
fn files_that_are_no_configuration() {
    let env = |_: &str| None;
    let overrides = Overrides { sets: &[], env: &env };
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.toml");
    let missing = load(&path, &overrides).expect_err("missing");
    assert_eq!(missing.kind, Kind::Config);
    assert!(missing.to_string().contains("No such file"), "{missing}");
    std::fs::write(&path, b"name = \"a\"\n# \xff\n").expect("written");
    let binary = load(&path, &overrides).expect_err("no text");
    assert_eq!((binary.line, &binary.message[..]), (Some(2), "is not UTF-8 text"));
    std::fs::write(&path, "#".repeat(FILE_BYTES_MAX as usize + 1)).expect("written");
    assert!(load(&path, &overrides).expect_err("large").message.contains("larger than"));
}

#[test]
fn all_faults_are_told_at_once() {
    let text = with("patience = 4", "patience = 0\nwarmup = 1.0\nlearning_rate = nan");
    refused(
        &text,
        &[],
        expect![[r#"
        Config a.toml:23: `train.patience`: must lie in [1, 100000], is 0
        a.toml:24: `train.warmup`: must lie in [0, 1), is 1
        a.toml:25: `train.learning_rate`: must lie in (0, 1], is NaN"#]],
    );
}

#[test]
fn the_resolved_text_loads_to_the_same() {
    let set = [("data.key", "k.e\"y"), ("features.log_above_skewness", "inf")];
    let first = load_text(SMALL, &set, &[]).expect("loaded");
    let text = first.to_toml();
    let second = load_text(&text, &[], &[]).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(second.config.data.root.is_absolute());
    let mut config = second.config.clone();
    config.data.root = first.config.data.root.clone();
    assert_eq!(config, first.config);
    assert_eq!(second.sha256(), first.sha256());
    assert_eq!(second.to_toml(), text);
}

#[test]
fn a_root_is_relative_to_what_named_it() {
    let root = |set: &[(&str, &str)], env: &[(&str, &str)]| {
        let resolved = load_text(SMALL, set, env).expect("loaded");
        let root = resolved.root();
        let folder = resolved.path.parent().expect("a folder").to_path_buf();
        root.strip_prefix(&folder).map_or(root.clone(), |rest| Path::new("CONFIG").join(rest))
    };
    assert_eq!(root(&[], &[]), Path::new("CONFIG/../data/a"));
    assert_eq!(root(&[], &[("DIR", "x")]), Path::new("CONFIG/x/a"));
    assert_eq!(root(&[], &[("DIR", "/x")]), Path::new("/x/a"));
    assert_eq!(root(&[("data.root", "here")], &[]), Path::new("here"));
    assert_eq!(root(&[("data.root", "${DIR}/b")], &[("DIR", "y")]), Path::new("y/b"));
}

#[test]
fn the_hash_is_of_what_decides_the_model() {
    let hash = |set: &[(&str, &str)]| load_text(SMALL, set, &[]).expect("loaded").sha256();
    let plain = hash(&[]);
    for same in [("data.root", "/elsewhere"), ("train.device", "cpu"), ("train.patience", "4")] {
        assert_eq!(hash(&[same]), plain, "{same:?}");
    }
    for other in [("seed", "1"), ("train.patience", "5"), ("source.activity.path", "x.csv")] {
        assert_ne!(hash(&[other]), plain, "{other:?}");
    }
}

#[test]
fn the_configurations_of_the_real_sets_load() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/real");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the configurations") {
        let path = entry.expect("an entry").path();
        let env = |name: &str| (name == "CHURN_DATA_DIR").then(|| "/sets".to_owned());
        let resolved = load(&path, &Overrides { sets: &[], env: &env });
        let resolved = resolved.unwrap_or_else(|error| panic!("{error}"));
        let name = resolved.config.name.clone();
        assert_eq!(path.file_stem().and_then(|stem| stem.to_str()), Some(&*name));
        assert_eq!(resolved.root(), Path::new("/sets").join(&name));
        names.push(name);
    }
    assert_eq!(names.len(), 6, "{names:?}");
}
