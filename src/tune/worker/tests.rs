use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::tune::parzen::uniform;
use crate::tune::space::Domain;

const TRIALS: u32 = 24;

fn plan() -> Plan {
    let domains =
        [("train.warmup", Domain::Real(0.0, 1.0)), ("models.gru.layers", Domain::Int(1, 2))];
    let domains = domains.into_iter().map(|(name, domain)| (name.to_owned(), domain));
    Plan {
        halving: Halving::new(27, 2, 3),
        space: Space(domains.collect()),
        written: Params::new(),
        seeds: Seeds::new(5),
        trials_max: TRIALS,
    }
}

/// Trains nothing: the loss is a function of parameters and epochs. It ends as if killed when its
/// time has come.
struct Fake<'a> {
    /// Trainings that may still be begun; shared by all workers of a test.
    left: &'a AtomicU32,
    begun: Vec<(u32, usize)>,
}

impl Trials for Fake<'_> {
    fn train(&mut self, assignment: &Assignment) -> Result<Outcome> {
        let Assignment { trial, rung, epochs, ref params } = *assignment;
        self.begun.push((trial, rung));
        let all = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if all.is_err() {
            return Err(Kind::Interrupted.msg("killed"));
        }
        let Some(warmup) = params.get("train.warmup").and_then(toml::Value::as_float) else {
            return Ok(outcome(0.5, epochs));
        };
        if warmup > 0.95 {
            return Err(Kind::Data.msg("the loss was not finite"));
        }
        let noise = uniform(&mut Seeds::new(u64::from(trial)).stream("noise", rung as u64));
        Ok(outcome((warmup - 0.3).abs() + 0.1 * noise / f64::from(epochs), epochs))
    }

    fn told(&mut self, _: &Assignment, _: &Study) {}

    fn wait(&mut self) -> Result<()> {
        std::thread::yield_now();
        Ok(())
    }
}

fn outcome(loss: f64, epochs: u32) -> Outcome {
    let fit = Fit { network: "mlp".into(), fold: 0, epochs: u64::from(epochs), loss };
    Outcome { fits: vec![fit], seconds: 0.0 }
}

/// A worker that begins at most so many trainings and is cut off in the one after them.
fn live(folder: &Path, left: u32) -> (Result<()>, Vec<(u32, usize)>) {
    let left = AtomicU32::new(left);
    let mut fake = Fake { left: &left, begun: Vec::new() };
    let mut worker = Worker::join(folder).expect("joined");
    let end = worker.work(&plan(), &mut fake);
    (end, fake.begun)
}

fn study(folder: &Path) -> Study {
    let mut journal = Journal::open(folder).expect("opened");
    journal.turn(|_| Ok((Vec::new(), ()))).expect("read");
    journal.study().clone()
}

fn whole() -> (Study, Vec<(u32, usize)>) {
    let dir = tempfile::tempdir().expect("a folder");
    let (end, begun) = live(dir.path(), u32::MAX);
    end.expect("to the end");
    (study(dir.path()), begun)
}

#[test]
fn a_study_comes_to_its_end() {
    let (study, begun) = whole();
    assert_eq!(study.trials.len(), TRIALS as usize);
    assert!(study.trials.iter().all(|trial| trial.owner.is_none()), "someone still trains");
    assert!(study.trials.iter().any(|trial| trial.failure.is_some()), "the test needs a failure");
    let finished = study.trials.iter().filter(|trial| trial.reports.len() == 3).count();
    assert!((2..=TRIALS as usize / 4).contains(&finished), "{finished}");
    let unique: std::collections::BTreeSet<_> = begun.iter().collect();
    assert_eq!(unique.len(), begun.len(), "{begun:?}");
    let (best, report) = study.ranking()[0];
    assert_eq!(best.reports.len(), 3);
    assert!(report.loss < 0.1, "{}", report.loss);
}

/// Cut off after any number of trainings, and once more after three: the same trials with the
/// same parameters and losses, in the same order.
#[test]
fn a_killed_worker_changes_nothing() {
    let (expected, begun) = whole();
    for lives in (0..begun.len() as u32).step_by(3) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut all = Vec::new();
        for left in [lives, 3, u32::MAX] {
            let (end, mut some) = live(dir.path(), left);
            if end.is_err() {
                // The training that was cut off is begun again.
                some.pop();
            }
            all.extend(some);
        }
        assert_eq!(all, begun, "cut off after {lives}");
        assert_eq!(study(dir.path()).trials, expected.trials, "cut off after {lives}");
    }
}

/// Three workers at once, two of which are cut off; then a fourth one ends what is left.
#[test]
fn workers_share_a_study() {
    let dir = tempfile::tempdir().expect("a folder");
    let (folder, lives) = (dir.path(), [u32::MAX, 4, 7]);
    let mut begun: Vec<Vec<(u32, usize)>> = std::thread::scope(|scope| {
        let start = |left| scope.spawn(move || live(folder, left).1);
        let workers: Vec<_> = lives.into_iter().map(start).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
    });
    let (end, last) = live(folder, u32::MAX);
    end.expect("to the end");
    begun.push(last);
    let study = study(folder);
    assert_eq!(study.trials.len(), TRIALS as usize);
    assert!(study.trials.iter().all(|trial| trial.owner.is_none()), "someone still trains");
    assert_eq!(study.workers, 4);
    // Only what was cut off was begun twice.
    let mut times: BTreeMap<(u32, usize), usize> = BTreeMap::new();
    begun.into_iter().flatten().for_each(|training| *times.entry(training).or_default() += 1);
    let twice = times.values().filter(|&&n| n > 1).count();
    assert!(twice <= 2 && times.values().all(|&n| n <= 3), "{times:?}");
    let reached: usize = study.trials.iter().map(|trial| trial.reports.len()).sum();
    let failed = study.trials.iter().filter(|trial| trial.failure.is_some()).count();
    assert_eq!(times.len(), reached + failed);
}

#[test]
fn a_study_of_something_else_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let header = Header {
        format: crate::tune::study::FORMAT,
        config_sha256: "a".into(),
        data_sha256: "b".into(),
        rungs: vec![3, 9, 27],
        reduction: 3,
        folds: vec![0],
        space: plan().space,
    };
    Worker::join(dir.path()).expect("joined").agree(&header).expect("begun");
    Worker::join(dir.path()).expect("joined").agree(&header).expect("the same");
    let data = Header { data_sha256: "c".into(), ..header.clone() };
    let settings = Header { config_sha256: "c".into(), ..header.clone() };
    let rungs = Header { rungs: vec![27], ..header.clone() };
    let folds = Header { folds: vec![1], ..header.clone() };
    let space = Header { space: Space::default(), ..header };
    for (other, what) in [
        (data, "data"),
        (settings, "settings"),
        (rungs, "rungs"),
        (folds, "folds"),
        (space, "parameters"),
    ] {
        let refused = Worker::join(dir.path()).expect("joined").agree(&other);
        let error = refused.expect_err("refused");
        assert_eq!(error.kind, Kind::Usage);
        assert!(error.message.contains(&format!("other {what}")), "{error}");
    }
}
