//! `churn tune`: from a configuration to the best one near it.

mod members;
mod outcome;
mod trainer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::args::TuneArgs;
use super::context::{Context, catch_signals};
use super::data::{self, Data};
use super::memory;
use crate::clock::Clock;
use crate::config::Resolved;
use crate::error::{Kind, Result};
use crate::seeds::Seeds;
use crate::train::Stop;
use crate::tune::study::FORMAT;
use crate::tune::{Halving, Header, Journal, Params, Plan, Space, Worker};
use crate::{fsx, quality, tensors};
use trainer::{SearchedFold, Trainer};

/// Where studies go that were given no folder.
const RUNS: &str = "runs";

/// Value of the stop flag that stands for no signal, but for the end of `--seconds`.
const TIME_UP: usize = usize::MAX;

/// Joins the study, or begins it; then tells how it stands.
pub fn run(context: &Context, args: &TuneArgs) -> Result<()> {
    let base = args.load(&Params::new())?;
    let space = Space::of(&base.config);
    accept(args, &space)?;
    let folder = locate(args, &base)?;
    if let Some(share_of) = args.share_of {
        let stop = catch_signals()?;
        members::end_with_parent(&stop)?;
        return work(
            &Search { args, base: &base, space, folder: &folder, share_of },
            &stop,
            context,
        );
    }
    let stop = catch_signals()?;
    let worked = match args.workers {
        1 => {
            work(&Search { args, base: &base, space, folder: &folder, share_of: 1 }, &stop, context)
        }
        _ => members::supervise(args, &folder, &stop),
    };
    // Also after a signal: what is there is worth having.
    match &worked {
        Err(error) if !matches!(error.kind, Kind::Interrupted | Kind::Terminated) => worked,
        _ => outcome::tell(args, &folder, base.config.epochs_max()).and(worked),
    }
}

/// Every parameter's extreme values must make a configuration.
fn accept(args: &TuneArgs, space: &Space) -> Result<()> {
    for (name, value) in space.extremes() {
        args.load(&[(name.to_owned(), value)].into()).map_err(|error| {
            let message = format!("a value of tune.space is refused: {error}");
            Kind::Config.at(&args.config.config).msg(message)
        })?;
    }
    Ok(())
}

/// # Errors
/// [`Kind::Usage`] if the folder holds something else.
fn locate(args: &TuneArgs, base: &Resolved) -> Result<PathBuf> {
    let unnamed = || {
        let name = format!("tune-{}-{}", base.config.name, &base.sha256()[..8]);
        Path::new(RUNS).join(name)
    };
    let folder = args.out.clone().unwrap_or_else(unnamed);
    let is_used = std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some());
    if is_used && !folder.join(Journal::NAME).exists() {
        let error = Kind::Usage.at(&folder).msg("is not empty and holds no study");
        return Err(error.hint("choose another --out"));
    }
    Ok(folder)
}

/// What a worker is to do.
struct Search<'a> {
    args: &'a TuneArgs,
    base: &'a Resolved,
    space: Space,
    folder: &'a Path,
    /// Workers that share this machine.
    share_of: u32,
}

/// One worker, from the files to the end of the study or of its time.
fn work(search: &Search, stop: &Stop, context: &Context) -> Result<()> {
    let (args, base, folder) = (search.args, search.base, search.folder);
    if let Some(seconds) = args.seconds {
        end_after(Duration::from_secs(seconds), stop)?;
    }
    // Before the data is read, whose scratch files are the worker's own.
    let mut worker = Worker::join(folder)?;
    let devices = tensors::choose_all(&base.config.train.device.names())?;
    for device in &devices {
        tracing::info!("worker {}: device {}", worker.number(), device.reason);
    }
    let budget = memory::budget(&base.config) / u64::from(search.share_of);
    let data = read(base, folder, (budget, worker.number()))?;
    let folds = searched_folds(base, &data)?;
    let config = &base.config;
    let halving = Halving::new(config.epochs_max(), config.tune.halvings, config.tune.reduction);
    worker.agree(&Header {
        format: FORMAT,
        config_sha256: base.sha256(),
        data_sha256: data.facts.sha256.clone(),
        rungs: halving.rungs.clone(),
        reduction: halving.reduction,
        folds: folds.iter().map(SearchedFold::name).collect(),
        space: search.space.clone(),
    })?;
    fsx::publish_bytes(&folder.join("config.toml"), base.to_toml().as_bytes())?;
    let plan = Plan {
        halving,
        space: search.space.clone(),
        written: written(base, &search.space),
        seeds: Seeds::new(config.seed),
        trials_max: args.trials,
    };
    let clock: Arc<dyn Clock> = context.clock.clone();
    let mut trainer = Trainer {
        args,
        data: &data,
        folds: &folds,
        devices: &devices,
        budget,
        folder,
        stop,
        clock: &clock,
        space: &plan.space,
        rungs: &plan.halving.rungs,
        trials_max: args.trials,
    };
    match worker.work(&plan, &mut trainer) {
        Err(error) if error.kind == Kind::Interrupted && is_time_up(stop) => {
            tracing::info!("worker {}: the time is up", worker.number());
            Ok(())
        }
        other => other,
    }
}

/// As for a training.
fn read(base: &Resolved, folder: &Path, (budget, worker): (u64, u32)) -> Result<Data> {
    let findings = quality::run(&base.config, &base.root())?;
    fsx::publish_bytes(&folder.join("quality.json"), findings.to_json().as_bytes())?;
    if worker == 0 && findings.errors() + findings.warnings() > 0 {
        tracing::warn!("data quality:\n{}", findings.to_text());
    }
    data::gate(&findings)?;
    let cut = memory::cut(&base.config, findings.size, budget);
    data::load(base, cut, &folder.join("workers").join(format!("{worker:04}")))
}

fn searched_folds(base: &Resolved, data: &Data) -> Result<Vec<SearchedFold>> {
    let all = data.folds().into_iter().enumerate();
    let all: Vec<SearchedFold> = all.map(|(at, number)| SearchedFold { at, number }).collect();
    let asked = &base.config.tune.folds;
    if let Some(missing) = asked.iter().find(|&&n| !all.iter().any(|fold| fold.name() == n)) {
        let error = Kind::Config.at(&base.path).msg(format!("`tune.folds`: no fold {missing}"));
        let names: Vec<String> = all.iter().map(|fold| fold.name().to_string()).collect();
        return Err(error.hint(format!("there are {}", names.join(", "))));
    }
    let is_asked = |fold: &SearchedFold| asked.is_empty() || asked.contains(&fold.name());
    Ok(all.into_iter().filter(is_asked).collect())
}

/// The configuration's own values of the searched parameters; none where the space does not hold
/// all of them.
fn written(base: &Resolved, space: &Space) -> Params {
    let leaves = base.leaves();
    let own = |name: &String| Some((name.clone(), leaves.get(name)?.clone()));
    let params: Params = space.0.keys().filter_map(own).collect();
    match space.coordinates(&params) {
        Some(_) => params,
        None => Params::new(),
    }
}

/// Stops the worker behind a checkpoint, as a signal would.
fn end_after(time: Duration, stop: &Stop) -> Result<()> {
    let flag = stop.0.clone();
    let timer = std::thread::Builder::new().name("timer".into()).spawn(move || {
        std::thread::sleep(time);
        // A signal that came before stays what it is.
        let _ = flag.compare_exchange(0, TIME_UP, Ordering::Relaxed, Ordering::Relaxed);
    });
    timer
        .map(|_| ())
        .map_err(|error| Kind::Environment.msg(format!("cannot start a thread: {error}")))
}

fn is_time_up(stop: &Stop) -> bool {
    stop.0.load(Ordering::Relaxed) == TIME_UP
}
