//! Worker processes on this machine: each is this program with the same arguments.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cli::args::TuneArgs;
use crate::error::{Kind, Result};
use crate::train::{SIGTERM, Stop};

/// Between two looks at the processes.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Starts the workers and waits for all of them.
///
/// # Errors
/// Of the kind of the first one that failed, if none came to the end; `Interrupted` or
/// `Terminated` after a signal.
pub fn supervise(args: &TuneArgs, folder: &Path, stop: &Stop) -> Result<()> {
    let mut children: Vec<Child> = Vec::new();
    for _ in 0..args.workers {
        children.push(spawn(args, folder)?);
    }
    let mut statuses: Vec<Option<ExitStatus>> = vec![None; children.len()];
    loop {
        if stop.requested().is_some() {
            // They stop behind a checkpoint when their stdin closes.
            children.iter_mut().for_each(|child| drop(child.stdin.take()));
        }
        for (child, status) in children.iter_mut().zip(&mut statuses) {
            if status.is_none() {
                let error = |error: std::io::Error| {
                    Kind::Environment.msg(format!("cannot wait for a worker: {error}"))
                };
                *status = child.try_wait().map_err(error)?;
                match status {
                    Some(ended) if !ended.success() && stop.requested().is_none() => {
                        tracing::warn!("a worker ended with {ended}; others take up its trial");
                    }
                    _ => {}
                }
            }
        }
        if statuses.iter().all(Option::is_some) {
            break;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    if let Some(kind) = stop.requested() {
        return Err(kind.msg("stopped").hint("go on with the same command"));
    }
    let mut ended = statuses.into_iter().flatten();
    match ended.clone().any(|status| status.success()) {
        true => Ok(()),
        false => Err(kind(ended.next()).msg("no worker came to the end, see above")),
    }
}

fn spawn(args: &TuneArgs, folder: &Path) -> Result<Child> {
    let failed =
        |error: std::io::Error| Kind::Environment.msg(format!("cannot start a worker: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.arg("tune").arg(&args.config.config).arg("--out").arg(folder);
    command.args(["--trials", &args.trials.to_string()]);
    command.args(["--share-of", &args.workers.to_string()]);
    args.config.sets.iter().for_each(|set| {
        command.args(["--set", set]);
    });
    if let Some(device) = &args.device {
        command.args(["--device", device]);
    }
    if let Some(seconds) = args.seconds {
        command.args(["--seconds", &seconds.to_string()]);
    }
    // Each its part of the machine: more threads than cores only wait for each other.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (cores / args.workers as usize).max(1).to_string();
    for variable in ["RAYON_NUM_THREADS", "POLARS_MAX_THREADS"] {
        if std::env::var_os(variable).is_none() {
            command.env(variable, &threads);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(failed)
}

/// Of a process that failed, by the contract of exit codes.
fn kind(status: Option<ExitStatus>) -> Kind {
    match status.and_then(|status| status.code()) {
        Some(2) => Kind::Usage,
        Some(3) => Kind::Data,
        Some(4) => Kind::Gate,
        Some(5) => Kind::Environment,
        _ => Kind::Internal,
    }
}

/// Sets the stop flag when stdin closes: the parent has been stopped, or has died.
pub fn end_with_parent(stop: &Stop) -> Result<()> {
    let flag = stop.0.clone();
    let watch = std::thread::Builder::new().name("parent".into()).spawn(move || {
        let mut byte = [0];
        // Nothing is ever sent: it returns when the other end is gone.
        while matches!(std::io::stdin().read(&mut byte), Ok(1..)) {}
        let _ = flag.compare_exchange(0, SIGTERM, Ordering::Relaxed, Ordering::Relaxed);
    });
    watch
        .map(|_| ())
        .map_err(|error| Kind::Environment.msg(format!("cannot start a thread: {error}")))
}
