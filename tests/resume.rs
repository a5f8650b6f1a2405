//! A training that is cut off anywhere goes on to the same weights, bit for bit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use churn::seeds::Seeds;
use serde_json::Value;

use crate::common::{Shared, Small, Tiny, churn, outcome, run, run_ok, weights_sha256};

/// Kills per training.
const KILLS: u64 = 5;

/// A step in the third of the eight epochs: the GRU makes 10 steps in each.
const PAST_FIRST_EPOCH: u64 = 25;

/// No child is waited for longer: it would hang the tests.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// Data that all tests here share.
static DATA: Shared<Small> = Shared::new();

fn data() -> std::sync::Arc<Small> {
    DATA.get(|| Small::telecom(300, 16))
}

/// A training long enough to be hit, with a checkpoint every other step.
struct Training<'a> {
    data: &'a Small,
    network: &'static str,
    more: &'static [&'static str],
}

impl<'a> Training<'a> {
    /// The GRU: every step draws a batch of whole customers.
    fn gru(data: &'a Small) -> Self {
        Training { data, network: "gru", more: &["train.batch_customers=32"] }
    }

    /// The MLP with the dropout of its default, whose masks must be drawn anew alike.
    fn mlp(data: &'a Small) -> Self {
        Training { data, network: "mlp", more: &["models.mlp.dropout=0.2"] }
    }

    fn args(&self, out: &str, more: &[&str]) -> Vec<String> {
        let mut args = self.data.train_args(&self.data.path(out));
        let network = format!("models.use=[\"{}\"]", self.network);
        let own = ["train.epochs_max=8", "train.patience=8", "train.checkpoint_steps=2"];
        let sets = own.iter().chain(self.more).copied().chain([network.as_str()]);
        sets.for_each(|set| args.extend(["--set".to_owned(), set.to_owned()]));
        args.extend(more.iter().map(|&arg| arg.to_owned()));
        args
    }

    /// Runs to the end; exit code and stderr.
    fn run(&self, out: &str, more: &[&str]) -> (i32, String) {
        let args = self.args(out, more);
        let (code, _, stderr) = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        (code, stderr)
    }

    #[track_caller]
    fn finish(&self, out: &str, more: &[&str]) -> String {
        let (code, stderr) = self.run(out, more);
        assert_eq!(code, 0, "{stderr}");
        weights_sha256(&self.data.path(out))
    }

    /// Goes on to the end from a checkpoint after the first epoch, and does not begin again: that
    /// would give the same weights too.
    #[track_caller]
    fn resume(&self, out: &str) -> (String, String) {
        let (code, stderr) = self.run(out, &["--resume"]);
        assert_eq!(code, 0, "{stderr}");
        let first = format!("{} epoch 1/", self.network);
        assert!(!stderr.contains(&first), "it began again: {stderr}");
        (weights_sha256(&self.data.path(out)), stderr)
    }

    fn checkpoints(&self, out: &str) -> PathBuf {
        Path::new(&self.data.path(out)).join("checkpoints").join(self.network)
    }

    /// Whole generations, oldest first.
    fn generations(&self, out: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.checkpoints(out)).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| file_name(path).starts_with("generation-"))
            .collect();
        found.sort();
        found
    }

    /// Optimizer steps of the newest generation; 0 if there is none.
    fn steps(&self, out: &str) -> u64 {
        let newest = self.generations(out).pop();
        let number = newest.map(|path| file_name(&path).replace("generation-", ""));
        number.map_or(0, |number| number.parse::<u64>().expect("a number") / 2)
    }

    fn spawn(&self, out: &str, more: &[&str]) -> Running {
        let log = PathBuf::from(self.data.path(&format!("{out}.log")));
        let stderr = fs::File::create(&log).expect("a log");
        let child = churn()
            .args(self.args(out, more))
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("it starts");
        Running { child, log }
    }

    /// Starts, and comes back once the checkpoints have reached a step.
    #[track_caller]
    fn spawn_until(&self, out: &str, more: &[&str], steps: u64) -> Running {
        let mut running = self.spawn(out, more);
        let since = Instant::now();
        while self.steps(out) < steps {
            let ended = running.child.try_wait().expect("a child");
            assert!(ended.is_none(), "ended before step {steps}: {}", running.stderr());
            assert!(since.elapsed() < WAIT_MAX, "no step {steps}: {}", running.stderr());
            std::thread::sleep(Duration::from_millis(2));
        }
        running
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

/// A training in a process of its own. It is killed when the test is over, however that ends.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn stderr(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    /// `kill -9`: the process gets no chance to do anything more.
    fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Sends a signal by its name; exit code and stderr.
    #[track_caller]
    fn signal(mut self, name: &str) -> (Option<i32>, String) {
        // The shell's own `kill`: a bare machine may lack the program.
        let line = format!("kill -{name} {}", self.child.id());
        let sent = std::process::Command::new("sh").args(["-c", &line]).status();
        assert!(sent.expect("a shell").success(), "{line}");
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return (status.code(), self.stderr());
            }
            assert!(since.elapsed() < WAIT_MAX, "SIG{name} did not end it: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills at random moments of the training: the k-th anywhere in the k-th part of its steps, and
/// up to two steps' time after the checkpoint, so that some fall into the writing of the next.
#[track_caller]
fn check_kills(training: &Training, seed: u64) {
    let name = training.network;
    let expected = training.finish(&format!("{name}-whole"), &[]);
    let steps = training.steps(&format!("{name}-whole"));
    assert!(steps >= 4 * KILLS, "{steps} steps are too few to be hit {KILLS} times");
    let (out, seeds) = (format!("{name}-killed"), Seeds::new(seed));
    let part = steps / (KILLS + 1);
    for kill in 0..KILLS {
        let at = kill * part + 1 + seeds.number("step", kill) % part;
        let more: &[&str] = if kill == 0 { &[] } else { &["--resume"] };
        let running = training.spawn_until(&out, more, at);
        std::thread::sleep(Duration::from_micros(seeds.number("moment", kill) % 20_000));
        running.kill();
        assert!(training.steps(&out) < steps, "kill {kill} came after the end");
    }
    assert_eq!(training.resume(&out).0, expected, "{name}, kills of seed {seed}");
}

#[test]
fn a_killed_gru_ends_with_the_same_weights() {
    check_kills(&Training::gru(&data()), 11);
}

#[test]
fn a_killed_mlp_with_dropout_ends_with_the_same_weights() {
    check_kills(&Training::mlp(&data()), 12);
}

#[test]
fn a_signal_leaves_a_checkpoint() {
    let data = data();
    let training = Training::gru(&data);
    let expected = training.finish("signal-whole", &[]);
    // With no checkpoint in between, only the signal can have left one inside an epoch.
    let training = Training {
        more: &["train.batch_customers=32", "train.checkpoint_steps=0"],
        ..Training::gru(&data)
    };
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let out = format!("signal-{name}");
        let running = training.spawn_until(&out, &[], 1);
        let (got, stderr) = running.signal(name);
        assert_eq!(got, Some(code), "SIG{name}: {stderr}");
        assert!(stderr.contains("error: stopped after step"), "{stderr}");
        assert!(stderr.contains("--resume"), "{stderr}");
        let said = stderr.split("stopped after step ").nth(1).expect("just seen");
        let said: String = said.chars().take_while(char::is_ascii_digit).collect();
        assert_eq!(said, training.steps(&out).to_string(), "the step said is the step saved");
        assert_eq!(training.resume(&out).0, expected, "after SIG{name}");
    }
}

#[test]
fn a_checkpoint_of_other_settings_is_refused() {
    let data = data();
    let training = Training::gru(&data);
    training.spawn_until("changed", &[], PAST_FIRST_EPOCH).kill();
    let before = fs::read(data.path("changed/config.toml")).expect("a file");
    for set in ["train.learning_rate=0.01", "seed=2"] {
        let (code, stderr) = training.run("changed", &["--resume", "--set", set]);
        assert_eq!(code, 3, "{set}: {stderr}");
        assert!(stderr.contains("other data or other settings"), "{set}: {stderr}");
        assert!(stderr.contains("generation-"), "{set}: {stderr}");
    }
    let after = fs::read(data.path("changed/config.toml")).expect("a file");
    assert!(before == after, "a refused run has overwritten the configuration of the run");
    let expected = training.finish("unchanged", &[]);
    assert_eq!(training.resume("changed").0, expected);
}

/// Turns one bit of a byte in the middle of a file.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).expect("written");
}

#[test]
fn a_damaged_generation_falls_back_to_the_one_before() {
    let data = data();
    let training = Training::gru(&data);
    let expected = training.finish("damage-whole", &[]);
    let files = ["weights.safetensors", "best.safetensors", "optimizer.safetensors", "state.json"];
    for (at, file) in files.into_iter().chain(["sha256.json"]).enumerate() {
        let out = format!("damage-{at}");
        training.spawn_until(&out, &[], PAST_FIRST_EPOCH).kill();
        let generations = training.generations(&out);
        assert!(generations.len() >= 2, "{generations:?}");
        let newest = generations.last().expect("two");
        damage(&newest.join(file));
        let (weights, stderr) = training.resume(&out);
        assert_eq!(weights, expected, "{file}");
        assert!(stderr.contains("skipping a checkpoint"), "{file}: {stderr}");
        assert!(stderr.contains(&file_name(newest)), "{file}: {stderr}");
    }
    training.spawn_until("damage-all", &[], PAST_FIRST_EPOCH).kill();
    for generation in training.generations("damage-all") {
        damage(&generation.join("weights.safetensors"));
    }
    let (code, stderr) = training.run("damage-all", &["--resume"]);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("error: ") && stderr.contains("weights.safetensors"), "{stderr}");
}

#[test]
fn a_folder_with_files_needs_resume() {
    let tiny = Tiny::new();
    assert_eq!(outcome(&mut tiny.train("run", "cpu", "\"mlp\"", &[])).0, 0);
    let metrics = fs::read(tiny.path("run/metrics.json")).expect("metrics");
    let (code, _, stderr) = outcome(&mut tiny.train("run", "cpu", "\"mlp\"", &[]));
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("is not empty") && stderr.contains("--resume"), "{stderr}");
    assert_eq!(fs::read(tiny.path("run/metrics.json")).expect("metrics"), metrics);
}

#[test]
fn nothing_to_resume_is_said() {
    let tiny = Tiny::new();
    let mut command = churn();
    // Without --out, the newest run below the working folder is looked for.
    command.current_dir(tiny.folder.path()).args(["train", "tiny.toml", "--resume"]);
    let (code, _, stderr) = outcome(&mut command);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("to resume"), "{stderr}");
}

#[test]
fn a_finished_run_can_be_resumed() {
    let tiny = Tiny::new();
    let mut first = tiny.train("run", "cpu", "\"mlp\",\"gru\"", &[]);
    assert_eq!(outcome(&mut first).0, 0);
    let weights = weights_sha256(&tiny.path("run"));
    let mut again = tiny.train("run", "cpu", "\"mlp\",\"gru\"", &["--resume"]);
    let (code, _, stderr) = outcome(&mut again);
    assert_eq!(code, 0, "{stderr}");
    assert!(!stderr.contains("epoch"), "it trained again: {stderr}");
    assert_eq!(weights_sha256(&tiny.path("run")), weights);
}

#[test]
fn the_seed_decides_the_weights() {
    let data = data();
    for training in [Training::gru(&data), Training::mlp(&data)] {
        let weights = |out: &str, seed: &str| {
            let out = format!("seed-{}-{out}", training.network);
            let seed = format!("seed={seed}");
            training.finish(&out, &["--set", &seed, "--set", "train.epochs_max=1"])
        };
        let (one, again, other) = (weights("a", "1"), weights("b", "1"), weights("c", "2"));
        assert_eq!(one, again, "{}", training.network);
        assert_ne!(one, other, "{}", training.network);
    }
}

/// Shuffles the lines of a table below its header.
fn shuffle(file: &str, seed: u64) {
    let text = fs::read_to_string(file).expect("a table");
    let (header, body) = text.split_once('\n').expect("a header");
    let lines: Vec<&str> = body.lines().collect();
    let order = Seeds::new(seed).shuffled("lines", 0, lines.len());
    let shuffled: Vec<&str> = order.iter().map(|&i| lines[i as usize]).collect();
    assert_ne!(lines, shuffled);
    fs::write(file, format!("{header}\n{}\n", shuffled.join("\n"))).expect("written");
}

#[test]
fn the_order_of_rows_does_not_matter() {
    let tiny = Tiny::new();
    let train = |out: &str| {
        let (code, _, stderr) = outcome(&mut tiny.train(out, "cpu", "\"hybrid\"", &[]));
        assert_eq!(code, 0, "{stderr}");
        let manifest = fs::read(tiny.path(&format!("{out}/bundle/manifest.json")));
        let manifest: Value = serde_json::from_slice(&manifest.expect("a file")).expect("JSON");
        let hash = manifest["origin"]["data_sha256"].as_str().expect("a hash").to_owned();
        assert_eq!(hash.len(), 64);
        (hash, weights_sha256(&tiny.path(out)))
    };
    let before = train("ordered");
    for (at, table) in Tiny::TABLES.iter().enumerate() {
        shuffle(&tiny.path(table), at as u64);
    }
    assert_eq!(train("shuffled"), before);
    // The hash does see the values.
    let table = tiny.path("activity.csv");
    let text = fs::read_to_string(&table).expect("a table").replacen("-01-01,", "-01-01,1", 1);
    fs::write(&table, text).expect("written");
    assert_ne!(train("changed").0, before.0);
}

#[test]
fn a_bad_override_is_no_resume() {
    let tiny = Tiny::new();
    let config = tiny.path("tiny.toml");
    run_ok(&["config", "show", &config]);
    let (code, _, stderr) = run(&["train", &config, "--resume", "--set", "train.patience"]);
    assert_eq!(code, 2, "{stderr}");
}
