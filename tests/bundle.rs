//! The exported model: refused when a byte of it changed, and equal to what was trained when not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use churn::bundle::Manifest;
use churn::clock::Month;
use churn::config::ColumnType::{Category, Date, Number};
use churn::config::LabelSpec;
use churn::panel::Inputs;
use churn::{bundle, eval, fsx, score, tensors};
use serde_json::Value;

use crate::common::{Shared, Small, Table, run, run_ok};

/// Files of every bundle; beside them stands one for each member.
const FILES: [&str; 5] =
    ["manifest.json", "model.json", "features.json", "golden.jsonl", "model.onnx"];

/// All files of a bundle.
fn files(bundle: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(bundle).expect("a bundle");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

/// Files of members.
fn member_files(bundle: &Path) -> Vec<String> {
    files(bundle).into_iter().filter(|name| !FILES.contains(&name.as_str())).collect()
}

/// The model of a run's bundle.
fn champion(bundle: &Path) -> String {
    Manifest::read(bundle).expect("a manifest").model
}

/// Writes the checksums of a forged file into the manifest.
pub fn forge(bundle: &Path, file: &str, bytes: &[u8]) {
    std::fs::write(bundle.join(file), bytes).expect("written");
    let mut manifest = Manifest::read(bundle).expect("a manifest");
    let entry = manifest.files.get_mut(file).expect("listed");
    (entry.sha256, entry.bytes) = (fsx::sha256_hex(bytes), bytes.len() as u64);
    manifest.manifest_sha256 = "0".repeat(64);
    let bytes = manifest.to_bytes().expect("bytes");
    std::fs::write(bundle.join("manifest.json"), bytes).expect("written");
}

/// A run of each kind of network over monthly data, and one over attributes alone.
struct Trained {
    telecom: Small,
    fixed: Fixed,
}

static TRAINED: Shared<Trained> = Shared::new();

const KINDS: [&str; 3] = ["mlp", "gru", "hybrid"];

impl Trained {
    fn new() -> Self {
        let telecom = Small::telecom(300, 18);
        let train = |out: &str, more: &[&str]| {
            let args = telecom.train_args(&telecom.path(out));
            run_ok(&[&texts(&args)[..], more].concat());
        };
        train("all", &[]);
        for kind in KINDS {
            let only = format!("models.use=[\"{kind}\"]");
            let champion = format!("models.champion={kind}");
            let set = ["--set", &only, "--set", &champion];
            train(kind, &set);
        }
        train("logistic", &["--set", "models.champion=logistic", "--set", "models.use=[\"mlp\"]"]);
        Trained { telecom, fixed: Fixed::new() }
    }

    fn bundle(&self, run: &str) -> PathBuf {
        PathBuf::from(self.telecom.path(run)).join("bundle")
    }

    /// A bundle that holds a file, with an input that it can score.
    #[track_caller]
    fn bundle_with(&self, file: &str) -> (PathBuf, PathBuf) {
        let has = |(bundle, _): &(PathBuf, PathBuf)| bundle.join(file).exists();
        self.bundles().into_iter().find(has).unwrap_or_else(|| panic!("no bundle holds {file}"))
    }

    /// Every bundle with an input that it can score.
    fn bundles(&self) -> [(PathBuf, PathBuf); 3] {
        let fixed = self.fixed.folder.path().to_path_buf();
        let telecom = |run: &str| (self.bundle(run), self.telecom.data.clone());
        [telecom("hybrid"), (fixed.join("run/bundle"), fixed), telecom("logistic")]
    }
}

/// Attributes with one label per customer, and folds at random.
struct Fixed {
    folder: tempfile::TempDir,
}

impl Fixed {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut table = "customer_id,plan,age,balance,churned\n".to_owned();
        for i in 0..200 {
            let (plan, age) = (["a", "b", "c"][i % 3], 20 + i * 7 % 60);
            let balance =
                if i % 11 == 0 { String::new() } else { format!("{:.2}", (i * i) as f64 / 7.0) };
            let churned = u8::from(i % 6 == 0 || (age > 60 && i % 2 == 0));
            writeln!(table, "F{i:04},{plan},{age},{balance},{churned}").expect("text");
        }
        std::fs::write(folder.path().join("customers.csv"), table).expect("written");
        let config = r#"
name = "fixed"
[[source]]
name = "customers"
kind = "attributes"
path = "customers.csv"
columns = { plan = "category", age = "number", balance = "number" }
[label]
kind = "column"
source = "customers"
column = "churned"
[split]
kind = "random"
folds = 3
[models]
use = ["mlp"]
champion = "trees"
mlp = { width = 16 }
[train]
epochs_max = 3
device = "cpu"
"#;
        let path = folder.path().join("fixed.toml");
        std::fs::write(&path, config).expect("written");
        let out = folder.path().join("run");
        run_ok(&["train", text(&path), "--out", text(&out)]);
        Fixed { folder }
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn texts(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// `churn score`; exit code and stderr.
fn score_with(bundle: &Path, inputs: &[&Path], output: &Path, more: &[&str]) -> (i32, String) {
    let inputs: Vec<&str> = inputs.iter().map(|path| text(path)).collect();
    let head = ["score", "--bundle", text(bundle), "--output", text(output), "--input"];
    let (code, _, err) = run(&[&head[..], &inputs, more].concat());
    (code, err)
}

/// Scores of a valid bundle, by customer, after what every score file must hold was checked.
#[track_caller]
fn scores(bundle: &Path, inputs: &[&Path], more: &[&str]) -> BTreeMap<String, f64> {
    let out = tempfile::tempdir().expect("a folder");
    let output = out.path().join("scores.csv");
    let (code, err) = score_with(bundle, inputs, &output, more);
    assert_eq!(code, 0, "{err}");
    let header = std::fs::read_to_string(&output).expect("scores");
    assert_eq!(header.lines().next(), Some("customer_id,as_of,risk,rank,bundle_id"));
    by_customer(&read_scores(&output))
}

fn read_scores(path: &Path) -> Table {
    let columns =
        [("as_of", Category), ("risk", Number), ("rank", Number), ("bundle_id", Category)];
    Table::read(path, &columns)
}

#[track_caller]
fn by_customer(table: &Table) -> BTreeMap<String, f64> {
    let pairs = table.ids.iter().cloned().zip(table.numbers("risk").iter().copied());
    let map: BTreeMap<String, f64> = pairs.collect();
    assert_eq!(map.len(), table.ids.len(), "a customer was scored twice");
    map
}

#[track_caller]
fn close(a: &BTreeMap<String, f64>, b: &BTreeMap<String, f64>, tolerance: f64) {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (id, risk) in a {
        assert!((risk - b[id]).abs() <= tolerance, "{id}: {risk} and {}", b[id]);
    }
}

/// A copy of a bundle that may be damaged.
pub fn copy(bundle: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in files(bundle) {
        std::fs::copy(bundle.join(&name), folder.path().join(&name)).expect("copied");
    }
    folder
}

/// Scoring with the bundle must end 3, name the file and write nothing.
#[track_caller]
fn refused(bundle: &Path, input: &Path, file: &str, damage: &str) {
    let out = tempfile::tempdir().expect("a folder");
    let (code, err) = score_with(bundle, &[input], &out.path().join("scores.csv"), &[]);
    assert_eq!(code, 3, "{file}, {damage}: {err}");
    let named = format!("error: {}", bundle.join(file).display());
    assert!(err.contains(&named), "{file}, {damage}: {err}");
    assert!(!err.contains("panicked"), "{file}, {damage}: {err}");
    assert_eq!(std::fs::read_dir(out.path()).expect("a listing").count(), 0, "{file}, {damage}");
}

#[test]
fn a_damaged_file_is_refused_and_named() {
    let trained = TRAINED.get(Trained::new);
    for (bundle, input) in trained.bundles() {
        for file in files(&bundle) {
            let file = file.as_str();
            let whole = std::fs::read(bundle.join(file)).expect("bytes");
            let mut places = vec![0, 1, whole.len() / 3, whole.len() / 2, whole.len() - 1];
            if file == "manifest.json" {
                let text = std::str::from_utf8(&whole).expect("UTF-8");
                let key = "\"manifest_sha256\": \"";
                places.push(text.find(key).expect("its checksum") + key.len() + 5);
            }
            let flipped = |&at: &usize| {
                let mut bytes = whole.clone();
                bytes[at] ^= 1;
                (format!("byte {at} of {} flipped", whole.len()), Some(bytes))
            };
            let mut damages: Vec<(String, Option<Vec<u8>>)> = places.iter().map(flipped).collect();
            damages.push(("cut in half".into(), Some(whole[..whole.len() / 2].to_vec())));
            damages.push(("one byte cut off".into(), Some(whole[..whole.len() - 1].to_vec())));
            damages.push(("empty".into(), Some(Vec::new())));
            damages.push(("one byte more".into(), Some([&whole[..], b"\n"].concat())));
            damages.push(("removed".into(), None));
            for (damage, bytes) in damages {
                let copy = copy(&bundle);
                let path = copy.path().join(file);
                match bytes {
                    Some(bytes) => std::fs::write(path, bytes).expect("written"),
                    None => std::fs::remove_file(path).expect("removed"),
                }
                refused(copy.path(), &input, file, &damage);
            }
        }
        let (code, err) = score_with(
            copy(&bundle).path(),
            &[&input],
            &tempfile::tempdir().expect("a folder").path().join("scores.csv"),
            &[],
        );
        assert_eq!(code, 0, "an undamaged copy: {err}");
    }
}

/// Every byte of the manifest, three of its bits.
#[test]
fn no_byte_of_the_manifest_can_change() {
    let trained = TRAINED.get(Trained::new);
    let (bundle, _) = &trained.bundles()[0];
    let whole = std::fs::read(bundle.join("manifest.json")).expect("bytes");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("manifest.json");
    std::fs::write(&path, &whole).expect("written");
    Manifest::read(folder.path()).expect("the manifest itself is sound");
    for at in 0..whole.len() {
        for bit in [0x01, 0x20, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            std::fs::write(&path, bytes).expect("written");
            assert!(Manifest::read(folder.path()).is_err(), "byte {at}, bit {bit:#x}");
        }
    }
}

#[test]
fn files_of_two_bundles_do_not_mix() {
    let trained = TRAINED.get(Trained::new);
    for file in FILES {
        let mixed = copy(&trained.bundle("hybrid"));
        std::fs::copy(trained.bundles()[1].0.join(file), mixed.path().join(file)).expect("copied");
        let (code, err) = score_with(
            mixed.path(),
            &[&trained.telecom.data],
            &mixed.path().join("scores.csv"),
            &[],
        );
        assert!(code == 3 && !mixed.path().join("scores.csv").exists(), "{file}: {code} {err}");
    }
}

/// Someone changed what was learned and wrote the checksums anew: the golden rows disagree.
#[test]
fn forged_checksums_do_not_help() {
    let trained = TRAINED.get(Trained::new);
    let mut forms = BTreeSet::new();
    for (bundle, input) in trained.bundles() {
        for file in member_files(&bundle) {
            let forged = copy(&bundle);
            let path = forged.path().join(&file);
            let mut bytes = std::fs::read(&path).expect("bytes");
            if file.ends_with(".safetensors") {
                // The length of the header, the header, then the numbers.
                let header = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
                bytes[8 + header..].fill(0);
                forms.insert("network");
            } else {
                let mut learned: Value = serde_json::from_slice(&bytes).expect("JSON");
                learned["bias"] = (learned["bias"].as_f64().expect("a bias") + 1.0).into();
                forms.insert(if learned.get("trees").is_some() { "trees" } else { "logistic" });
                bytes = serde_json::to_vec(&learned).expect("JSON");
            }
            forge(forged.path(), &file, &bytes);
            refused(forged.path(), &input, "golden.jsonl", &format!("{file} changed"));
        }
    }
    // Or the forms are not tested.
    assert_eq!(forms, BTreeSet::from(["logistic", "network", "trees"]));
}

/// A network's months are those of the window, whatever else the file says.
#[test]
fn months_beyond_the_window_are_refused() {
    let trained = TRAINED.get(Trained::new);
    let (bundle, input) = trained.bundle_with("hybrid.safetensors");
    for hazards in [0_u64, 7, 1 << 40] {
        let mut model = read_json(&bundle.join("model.json"));
        model["members"][0]["architecture"]["hazards"] = hazards.into();
        let forged = copy(&bundle);
        forge(forged.path(), "model.json", &serde_json::to_vec(&model).expect("JSON"));
        refused(forged.path(), &input, "model.json", &format!("{hazards} months"));
    }
}

/// Whoever can write checksums can write anything: it must end in an error all the same.
#[test]
fn hostile_members_are_refused() {
    let trained = TRAINED.get(Trained::new);
    let (bundle, input) = trained.bundle_with("trees.json");
    let trees = |change: &dyn Fn(&mut Value)| {
        let bytes = std::fs::read(bundle.join("trees.json")).expect("trees");
        let mut trees: Value = serde_json::from_slice(&bytes).expect("JSON");
        let with_nodes = |tree: &Value| tree["columns"].as_array().is_some_and(|c| !c.is_empty());
        let all = trees["trees"].as_array_mut().expect("trees");
        change(all.iter_mut().find(|tree| with_nodes(tree)).expect("a tree with nodes"));
        serde_json::to_vec(&trees).expect("JSON")
    };
    let model = |change: &dyn Fn(&mut Value)| {
        let mut model = read_json(&bundle.join("model.json"));
        change(&mut model);
        serde_json::to_vec(&model).expect("JSON")
    };
    let name = |to: &'static str| move |m: &mut Value| m["members"][0]["name"] = to.into();
    for (damage, file, bytes) in [
        ("a loop", "trees.json", trees(&|tree| tree["children"][0] = serde_json::json!([0, 0]))),
        ("a leaf beyond", "trees.json", trees(&|tree| tree["children"][0][0] = (-9999).into())),
        ("a column beyond", "trees.json", trees(&|tree| tree["columns"][0] = 9999.into())),
        ("no leaves", "trees.json", trees(&|tree| tree["leaves"] = serde_json::json!([]))),
        ("a huge leaf", "trees.json", trees(&|tree| tree["leaves"][0] = 1e300.into())),
        ("no JSON", "trees.json", b"[[[[[[[[".to_vec()),
        ("another folder", "model.json", model(&name("../../secret"))),
        ("a taken name", "model.json", model(&name("manifest"))),
        ("a long name", "model.json", model(&|m| m["members"][0]["name"] = "a".repeat(99).into())),
        ("no member", "model.json", model(&|m| m["members"] = serde_json::json!([]))),
        ("a share of 2", "model.json", model(&|m| m["members"][0]["weight"] = 2.0.into())),
        (
            "a falling calibrator",
            "model.json",
            model(&|m| {
                m["calibrator"] =
                    serde_json::json!({"kind": "platt", "slope": -1.0, "intercept": 0.0});
            }),
        ),
    ] {
        let forged = copy(&bundle);
        forge(forged.path(), file, &bytes);
        refused(forged.path(), &input, file, damage);
    }
}

#[test]
fn the_manifest_lists_every_file() {
    let trained = TRAINED.get(Trained::new);
    for (bundle, _) in trained.bundles() {
        let manifest = Manifest::read(&bundle).expect("a manifest");
        let entries = std::fs::read_dir(&bundle).expect("a listing");
        let names: BTreeSet<String> = entries
            .map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect();
        let model = read_json(&bundle.join("model.json"));
        let of_member = |member: &Value| {
            let ending = if member["form"] == "network" { "safetensors" } else { "json" };
            format!("{}.{ending}", member["name"].as_str().expect("a name"))
        };
        let members = model["members"].as_array().expect("members").iter().map(of_member);
        assert_eq!(names, FILES.iter().map(|name| (*name).to_owned()).chain(members).collect());
        assert!(manifest.microseconds_per_row > 0.0, "{}", manifest.microseconds_per_row);
        let listed: BTreeSet<String> = manifest.files.keys().cloned().collect();
        assert_eq!(listed, &names - &BTreeSet::from(["manifest.json".to_owned()]));
        for (name, entry) in &manifest.files {
            let found = fsx::sha256_file(&bundle.join(name)).expect("a checksum");
            assert_eq!(found, (entry.sha256.clone(), entry.bytes), "{name}");
        }
        let golden = std::fs::read_to_string(bundle.join("golden.jsonl")).expect("rows");
        assert_eq!(golden.lines().count(), bundle::GOLDEN_ROWS);
        let loaded: Value = read_json(&bundle.join("manifest.json"));
        assert!(loaded["metrics"]["test"]["auroc"].is_number(), "{loaded}");
        assert_eq!(loaded["origin"]["data_sha256"].as_str().map(str::len), Some(64));
    }
}

/// `predictions.parquet` of a run.
struct Predictions {
    table: Table,
    model: Vec<String>,
    split: Vec<String>,
    as_of: Vec<Option<Month>>,
}

impl Predictions {
    fn read(run: &Path) -> Self {
        let columns = [
            ("model", Category),
            ("fold", Number),
            ("as_of", Category),
            ("split", Category),
            ("label", Number),
            ("risk", Number),
        ];
        let table = Table::read(&run.join("predictions.parquet"), &columns);
        let month = |text: &String| text.parse::<Month>().ok();
        let as_of = table.texts("as_of").iter().map(month).collect();
        Predictions { model: table.texts("model"), split: table.texts("split"), as_of, table }
    }

    /// Rows of one model and fold.
    fn rows<'a>(&'a self, model: &'a str, fold: f64) -> impl Iterator<Item = usize> + 'a {
        let folds = self.table.numbers("fold");
        (0..self.model.len()).filter(move |&row| self.model[row] == model && folds[row] == fold)
    }

    fn risks(&self, rows: impl Iterator<Item = usize>) -> BTreeMap<String, f64> {
        let risk = self.table.numbers("risk");
        rows.map(|row| (self.table.ids[row].clone(), risk[row])).collect()
    }
}

/// The numbers that training wrote for an as-of month are those that scoring gives.
#[test]
fn scores_equal_the_predictions_of_the_training() {
    let trained = TRAINED.get(Trained::new);
    for kind in KINDS {
        let predictions = Predictions::read(Path::new(&trained.telecom.path(kind)));
        let months: BTreeSet<Month> = predictions.as_of.iter().flatten().copied().collect();
        let months: Vec<Month> = months.into_iter().collect();
        for month in [months[months.len() - 1], months[months.len() - 3], months[4]] {
            let model = champion(&trained.bundle(kind));
            let rows =
                predictions.rows(&model, 0.0).filter(|&r| predictions.as_of[r] == Some(month));
            let expected = predictions.risks(rows);
            assert!(expected.len() > 50, "{kind} {month}: {} predictions", expected.len());
            let as_of = month.to_string();
            let found =
                scores(&trained.bundle(kind), &[&trained.telecom.data], &["--as-of", &as_of]);
            let found = found.into_iter().filter(|(id, _)| expected.contains_key(id)).collect();
            // Batches of other sizes add in another order: f32 risks agree to about 1e-7.
            close(&expected, &found, 1e-6);
        }
    }
    let (bundle, input) = &trained.bundles()[1];
    let predictions = Predictions::read(&trained.fixed.run());
    let expected = predictions.risks(predictions.rows(&champion(bundle), 0.0));
    assert_eq!(expected.len(), 200);
    close(&expected, &scores(bundle, &[input], &[]), 1e-6);
}

#[test]
fn ranks_and_formats() {
    let trained = TRAINED.get(Trained::new);
    for (bundle, input) in trained.bundles() {
        let out = tempfile::tempdir().expect("a folder");
        let [csv, parquet] = ["scores.csv", "scores.parquet"].map(|name| out.path().join(name));
        for output in [&csv, &parquet] {
            let (code, err) = score_with(&bundle, &[&input], output, &[]);
            assert_eq!(code, 0, "{err}");
        }
        assert_eq!(std::fs::read_dir(out.path()).expect("a listing").count(), 2);
        let (csv, parquet) = (read_scores(&csv), read_scores(&parquet));
        assert_eq!(csv.ids, parquet.ids);
        for column in ["as_of", "risk", "rank", "bundle_id"] {
            assert_eq!(csv.texts(column), parquet.texts(column), "{column}");
        }
        let risks = parquet.numbers("risk");
        assert!(risks.iter().all(|risk| (0.0..=1.0).contains(risk)));
        assert!(risks.windows(2).all(|pair| pair[0] >= pair[1]), "not by falling risk");
        let ranks: Vec<f64> = (1..=risks.len()).map(|rank| rank as f64).collect();
        assert_eq!(parquet.numbers("rank"), ranks);
        let id = Manifest::read(&bundle).expect("a manifest").bundle_id;
        assert!(parquet.texts("bundle_id").iter().all(|found| *found == id));
    }
}

/// The data's files given one by one, in another order, in pieces, in another format, with their
/// rows shuffled, in folders named like the files: the same scores.
#[test]
fn scores_do_not_depend_on_how_the_rows_come() {
    let trained = TRAINED.get(Trained::new);
    let data = &trained.telecom.data;
    let [customers, activity, tickets] =
        ["customers.csv", "activity.parquet", "tickets.parquet"].map(|name| data.join(name));
    let pieces = tempfile::tempdir().expect("a folder");
    let measures = [
        "active_days",
        "data_gb",
        "care_calls",
        "price_rise_pct",
        "voice_minutes",
        "sms",
        "roaming_days",
        "bill",
    ];
    let columns: Vec<(&str, _)> = measures
        .map(|name| (name, Number))
        .into_iter()
        .chain([("month", Date), ("loaded_at", Date)])
        .collect();
    in_pieces(&Table::read(&activity, &columns), &columns, &pieces.path().join("activity.parquet"));
    let columns = [
        ("topic", Category),
        ("channel", Category),
        ("hours_to_solve", Number),
        ("satisfaction", Number),
        ("opened_on", Date),
    ];
    in_pieces(&Table::read(&tickets, &columns), &columns, &pieces.path().join("tickets.parquet"));
    let text = std::fs::read_to_string(&customers).expect("text");
    let mut lines: Vec<&str> = text.lines().collect();
    lines[1..].reverse();
    std::fs::write(pieces.path().join("customers.csv"), lines.join("\n")).expect("written");

    for kind in KINDS {
        let bundle = trained.bundle(kind);
        let whole = scores(&bundle, &[data], &[]);
        // Of 300; the others have left.
        assert!((150..300).contains(&whole.len()), "{} customers", whole.len());
        close(&whole, &scores(&bundle, &[&customers, &activity, &tickets], &[]), 0.0);
        close(&whole, &scores(&bundle, &[&tickets, &customers, &activity], &[]), 0.0);
        close(&whole, &scores(&bundle, &[pieces.path()], &[]), 0.0);
    }
}

/// Writes a table as a folder of three CSV files with the rows dealt out backwards.
fn in_pieces(table: &Table, columns: &[(&str, churn::config::ColumnType)], folder: &Path) {
    std::fs::create_dir(folder).expect("made");
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let cells: Vec<Vec<String>> = names.iter().map(|name| table.texts(name)).collect();
    let mut pieces = vec![format!("customer_id,{}\n", names.join(",")); 3];
    for row in (0..table.ids.len()).rev() {
        let line: Vec<&str> = cells.iter().map(|column| column[row].as_str()).collect();
        writeln!(pieces[row * 7 % 3], "{},{}", table.ids[row], line.join(",")).expect("text");
    }
    for (number, piece) in pieces.iter().enumerate() {
        std::fs::write(folder.join(format!("part-{number}.csv")), piece).expect("written");
    }
}

#[test]
fn scores_do_not_depend_on_the_number_of_partitions() {
    let trained = TRAINED.get(Trained::new);
    let cpu = tensors::choose(tensors::Want::Cpu).expect("a CPU");
    for (folder, input) in trained.bundles() {
        let bundle = bundle::load(&folder, &cpu.device).expect("a bundle");
        let inputs = Inputs::under(&input, &bundle.model.intake).expect("files");
        let by = |partitions| {
            let scratch = folder.with_file_name("scratch");
            let job = score::Job { partitions, ..score::Job::new(&bundle, &inputs, &scratch) };
            let scores = score::score(&job).expect("scores");
            assert!(!scratch.exists());
            assert!(scores.rows.windows(2).all(|pair| pair[0].risk >= pair[1].risk));
            scores.rows.into_iter().map(|row| (row.customer_id, row.risk)).collect()
        };
        let whole: BTreeMap<String, f64> = by(1);
        // More partitions than customers: some are empty.
        for partitions in [2, 7, 1000] {
            assert_eq!(whole, by(partitions), "{partitions} partitions");
        }
    }
}

/// Every format holds the same rows, and `--top` the first of them.
#[test]
fn scores_are_written_in_every_format() {
    let trained = TRAINED.get(Trained::new);
    let (bundle, input) = &trained.bundles()[1];
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, more: &[&str]| {
        let path = folder.path().join(name);
        let texts = [bundle, input, &path].map(|path| path.to_str().expect("UTF-8"));
        let args = ["score", "--bundle", texts[0], "--input", texts[1], "--output", texts[2]];
        run_ok(&[&args[..], more].concat());
        let table = Table::read(&path, &[("risk", Number), ("rank", Number)]);
        let risks: Vec<u64> = table.numbers("risk").iter().map(|risk| risk.to_bits()).collect();
        (table.ids.clone(), risks, table.numbers("rank").to_vec())
    };
    let (ids, risks, ranks) = write("all.csv", &[]);
    assert_eq!(ids.len(), 200);
    for name in ["all.parquet", "all.arrow", "all.ndjson"] {
        assert_eq!(write(name, &[]), (ids.clone(), risks.clone(), ranks.clone()), "{name}");
    }
    let top = (ids[..7].to_vec(), risks[..7].to_vec(), ranks[..7].to_vec());
    assert_eq!(write("top.parquet", &["--top", "7"]), top);
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}

/// Names and columns are a contract with whoever reads the run folder.
#[test]
fn metrics_and_predictions_keep_their_contract() {
    let trained = TRAINED.get(Trained::new);
    let all = PathBuf::from(trained.telecom.path("all"));
    let metrics = read_json(&all.join("metrics.json"));
    let predictions = Predictions::read(&all);
    let models: Vec<&String> = metrics["models"].as_object().expect("a map").keys().collect();
    assert_eq!(models, ["ensemble", "gru", "hybrid", "logistic", "mlp"]);
    for model in models {
        let splits = &metrics["models"][model];
        assert!(splits.get("folds").is_none(), "there is one division only");
        let rows: Vec<usize> = predictions.rows(model, 0.0).collect();
        check_metrics(&predictions, &rows, splits);
    }

    let metrics = read_json(&trained.fixed.run().join("metrics.json"));
    let predictions = Predictions::read(&trained.fixed.run());
    assert!(predictions.as_of.iter().all(Option::is_none), "there is no month");
    for model in ["mlp", "trees", "logistic", "ensemble"] {
        let entry = &metrics["models"][model];
        let folds = entry["folds"].as_array().expect("folds");
        assert_eq!(folds.len(), 3);
        for (number, fold) in folds.iter().enumerate() {
            assert_eq!(fold["fold"], number);
            let rows: Vec<usize> = predictions.rows(model, number as f64).collect();
            assert_eq!(rows.len(), 200, "every customer has a part in every fold");
            check_metrics(&predictions, &rows, fold);
        }
        let of = |fold: &Value| fold["test"]["auroc"].as_f64().expect("a number");
        let mean = folds.iter().map(of).sum::<f64>() / 3.0;
        assert!((entry["test"]["auroc"].as_f64().expect("a number") - mean).abs() < 1e-12);
    }
}

/// Every number of the contract is there, and it is the one that the predictions give.
#[track_caller]
fn check_metrics(predictions: &Predictions, rows: &[usize], splits: &Value) {
    const NAMES: [&str; 12] = [
        "positive_rate",
        "auroc",
        "average_precision",
        "log_loss",
        "brier",
        "ece",
        "lift_5",
        "lift_10",
        "lift_20",
        "contact_share",
        "precision_at_contact",
        "recall_at_contact",
    ];
    let (labels, risks) = (predictions.table.numbers("label"), predictions.table.numbers("risk"));
    let mut seen = 0;
    for split in ["train", "validation", "test"] {
        let rows: Vec<usize> =
            rows.iter().copied().filter(|&r| predictions.split[r] == split).collect();
        seen += rows.len();
        let found = &splits[split];
        for name in NAMES {
            assert!(found[name].is_number(), "{split}.{name} in {splits}");
        }
        assert_eq!(found["rows"], rows.len());
        let labels: Vec<bool> = rows.iter().map(|&r| labels[r] == 1.0).collect();
        let risks: Vec<f64> = rows.iter().map(|&r| risks[r]).collect();
        let share = found["contact_share"].as_f64().expect("a number");
        let expected = serde_json::to_value(eval::metrics(&labels, &risks, share)).expect("JSON");
        assert_eq!(*found, expected, "{split}");
    }
    assert_eq!(seen, rows.len(), "a prediction is in no part");
}

/// Out of time: what a part learned from was over before the next part begins.
#[test]
fn label_windows_of_different_parts_do_not_overlap() {
    let trained = TRAINED.get(Trained::new);
    // `hybrid` looks one month ahead; a longer window and a gap widen the distance.
    let telecom = &trained.telecom;
    let args = telecom.train_args(&telecom.path("ahead"));
    let more = ["models.use=[\"mlp\"]", "label.gap=1", "label.horizon=2"];
    let sets: Vec<&str> = more.iter().flat_map(|set| ["--set", *set]).collect();
    run_ok(&[&texts(&args)[..], &sets].concat());
    for (run, ahead) in [("hybrid", 1), ("ahead", 3)] {
        let model = read_json(&trained.bundle(run).join("model.json"));
        let label: LabelSpec = serde_json::from_value(model["label"].clone()).expect("a label");
        assert_eq!(label.gap() + label.window(), ahead);
        let predictions = Predictions::read(Path::new(&telecom.path(run)));
        let months = |split: &str| -> Vec<Month> {
            let rows = (0..predictions.split.len()).filter(|&r| predictions.split[r] == split);
            let mut months: Vec<Month> = rows.filter_map(|r| predictions.as_of[r]).collect();
            months.sort();
            months
        };
        let [train, validation, test] = ["train", "validation", "test"].map(months);
        for (early, late) in [(&train, &validation), (&validation, &test)] {
            let (end, begin) = (early[early.len() - 1].plus(ahead as i32), late[0]);
            assert!(end <= begin, "{run}: a window ends in {end}, the next part begins in {begin}");
        }
    }
    std::fs::remove_dir_all(telecom.path("ahead")).expect("removed");
}
