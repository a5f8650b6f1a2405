//! Scores as a folder of files: those of one file, and a run that was cut off is gone on with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use churn::bundle::{self, Bundle};
use churn::config::ColumnType::Number;
use churn::error::{Kind, Result};
use churn::panel::Inputs;
use churn::score::{self, Job, Manifest};
use churn::tensors;

use crate::common::{Table, Tiny, outcome, run, run_ok};

const PARTITIONS: usize = 7;

struct World {
    tiny: Tiny,
    bundle: Bundle,
    /// The scores in one file.
    whole: BTreeMap<String, u64>,
}

impl World {
    fn new() -> Self {
        let tiny = Tiny::new();
        let more = ["--set", "models.trees=false", "--set", "models.champion=mlp"];
        let trained = outcome(&mut tiny.train("run", "cpu", "\"mlp\"", &more));
        assert_eq!(trained.0, 0, "{}", trained.2);
        let device = tensors::choose(tensors::Want::Cpu).expect("a CPU").device;
        let bundle = bundle::load(Path::new(&tiny.path("run/bundle")), &device).expect("a bundle");
        let mut world = World { tiny, bundle, whole: BTreeMap::new() };
        run_ok(&world.command("whole.csv", &[]).iter().map(String::as_str).collect::<Vec<_>>());
        world.whole = read(&world.path("whole.csv"));
        assert_eq!(world.whole.len(), 40);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tiny.path(name).into()
    }

    fn command(&self, output: &str, more: &[&str]) -> Vec<String> {
        let (bundle, input) = (self.tiny.path("run/bundle"), self.tiny.path(""));
        let output = self.tiny.path(output);
        let args = ["score", "--bundle", &bundle, "--input", &input, "--output", &output];
        args.iter().chain(more).map(|&word| word.to_owned()).collect()
    }

    fn inputs(&self) -> Inputs {
        Inputs::under(self.tiny.folder.path(), &self.bundle.model.intake).expect("files")
    }

    /// Scores into a folder, in parts, as a table larger than memory would be.
    fn score_into(&self, folder: &str, resume: bool) -> Result<(Manifest, usize)> {
        let (inputs, scratch) = (self.inputs(), self.path("scratch"));
        let job = Job { partitions: PARTITIONS, ..Job::new(&self.bundle, &inputs, &scratch) };
        let filled = score::score_into(&job, &self.path(folder), resume)?;
        Ok((filled.manifest, filled.before))
    }
}

/// The bits of the risks of a file or of all files of a folder.
fn read(path: &Path) -> BTreeMap<String, u64> {
    let table = Table::read(path, &[("risk", Number)]);
    let bits = table.numbers("risk").iter().map(|risk| risk.to_bits());
    let risks: BTreeMap<String, u64> = table.ids.iter().cloned().zip(bits).collect();
    assert_eq!(risks.len(), table.ids.len(), "nobody is there twice");
    risks
}

fn modified(folder: &Path, manifest: &Manifest) -> Vec<SystemTime> {
    let when = |path: PathBuf| path.metadata().and_then(|facts| facts.modified()).expect("a time");
    manifest.files.iter().map(|file| when(folder.join(&file.name))).collect()
}

#[test]
fn a_folder_holds_the_scores_of_one_file_and_is_gone_on_with() {
    let world = World::new();
    let folder = world.path("scores");
    let (all, before) = world.score_into("scores", false).expect("scores");
    assert_eq!((all.customers, all.gone, all.files.len(), before), (40, 0, PARTITIONS, 0));
    assert_eq!(read(&folder), world.whole);

    // A second run says so, and with --resume it finds all that it would make.
    let refused = world.score_into("scores", false).expect_err("it is there");
    assert!(refused.kind == Kind::Usage && refused.to_string().contains("--resume"), "{refused}");
    assert_eq!(world.score_into("scores", true).expect("scores"), (all.clone(), PARTITIONS));

    // As a killed run leaves it: two files are told of, of which one has rotted, a third one lacks
    // its line, which is torn, and there is no manifest.
    let line = |at: usize| serde_json::to_string(&all.files[at]).expect("a line");
    let torn = &line(2)[..40];
    let done = format!("\n{}\n{}\n{torn}", line(0), line(1));
    std::fs::write(folder.join("_done.jsonl"), done).expect("written");
    std::fs::remove_file(folder.join("_manifest.json")).expect("removed");
    std::fs::write(folder.join(&all.files[1].name), "rotten").expect("written");
    for file in &all.files[3..] {
        std::fs::remove_file(folder.join(&file.name)).expect("removed");
    }
    let kept = modified(&folder, &Manifest { files: all.files[..1].to_vec(), ..all.clone() });
    let (again, before) = world.score_into("scores", true).expect("scores");
    assert_eq!((&again, before), (&all, 1), "the same files, of which one was whole");
    assert_eq!(modified(&folder, &again)[..1], kept, "what was whole is left alone");
    assert_eq!(read(&folder), world.whole);

    // Killed once more: the lines after the torn one count.
    std::fs::remove_file(folder.join("_manifest.json")).expect("removed");
    assert_eq!(world.score_into("scores", true).expect("scores"), (all, PARTITIONS));

    // Other customers than it was begun with.
    std::fs::remove_file(folder.join("_manifest.json")).expect("removed");
    let customers = world.path("customers.csv");
    let text = std::fs::read_to_string(&customers).expect("text");
    std::fs::write(&customers, text.replace("c01,", "c99,")).expect("written");
    let refused = world.score_into("scores", true).expect_err("other inputs");
    assert!(refused.to_string().contains("other input files"), "{refused}");
}

#[test]
fn the_program_scores_into_a_folder() {
    let world = World::new();
    let said = |output: &str, more: &[&str]| {
        let args = world.command(output, more);
        run(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (code, out, err) = said("new/scores", &["--resume"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("40 customers scored") && out.contains("in 1 files"), "{out}");
    assert_eq!(read(&world.path("new/scores")), world.whole);
    let (code, out, err) = said("new/scores", &["--resume"]);
    assert!(code == 0 && out.contains("1 of them from before"), "{out}{err}");

    std::fs::write(world.path("new/mine.txt"), "mine").expect("written");
    for (output, more, says) in [
        ("new/scores", &[][..], "--resume"),
        ("new/scores", &["--resume", "--as-of", "2024-03"], "another --as-of"),
        ("new", &["--resume"], "holds no scores"),
        ("other", &["--top", "3"], "--top"),
        ("whole.csv", &["--resume"], "name a folder"),
    ] {
        let (code, _, err) = said(output, more);
        assert!(code == 2 && err.contains(says), "{output} {more:?}: {code} {err}");
    }
    assert_eq!(std::fs::read_to_string(world.path("new/mine.txt")).expect("text"), "mine");
    assert!(!world.path("other").exists());
}

#[test]
fn what_was_mended_is_told_for_any_number_of_partitions() {
    let tiny = Tiny::new();
    let change = |file: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(tiny.path(file)).expect("text");
        assert!(text.contains(from), "{file} holds no {from:?}");
        std::fs::write(tiny.path(file), text.replacen(from, to, 1)).expect("written");
    };
    change("tiny.toml", "calls = \"number\"", "calls = { type = \"number\", on_bad = \"null\" }");
    let more = ["--set", "models.trees=false", "--set", "models.champion=mlp"];
    let trained = outcome(&mut tiny.train("run", "cpu", "\"mlp\"", &more));
    assert_eq!(trained.0, 0, "{}", trained.2);
    change("activity.csv", "c00,2024-01-01,", "c00,2024-01-01,odd");
    change("activity.csv", "\nc01", "\nzz,2024-01-01,3\nc01");

    let device = tensors::choose(tensors::Want::Cpu).expect("a CPU").device;
    let bundle = bundle::load(Path::new(&tiny.path("run/bundle")), &device).expect("a bundle");
    let inputs = Inputs::under(tiny.folder.path(), &bundle.model.intake).expect("files");
    let scratch = PathBuf::from(tiny.path("scratch"));
    for partitions in [1, PARTITIONS] {
        let job = Job { partitions, ..Job::new(&bundle, &inputs, &scratch) };
        let folder = PathBuf::from(tiny.path(&format!("parts{partitions}")));
        let found = [
            score::score(&job).expect("scores").report,
            score::score_into(&job, &folder, false).expect("scores").report,
        ];
        for report in found {
            let repairs: Vec<_> = report.repairs().collect();
            let expected = [("unreadable cells set missing", 1), ("rows of unknown customers", 1)];
            assert_eq!(repairs, expected, "{partitions} partitions");
        }
    }
}
