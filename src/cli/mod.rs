//! The command line: what was typed, and the table of contents of each verb.
//!
//! Data goes to stdout, everything said on the way to stderr. Exit codes are a contract
//! ([`Kind::exit_code`](crate::error::Kind::exit_code)).

mod args;
mod bench;
mod compare;
pub mod config;
mod context;
mod curves;
mod data;
mod export;
mod fold;
mod judge;
mod losses;
mod memory;
mod output;
mod parts;
mod portable;
mod predictions;
mod progress;
mod quickstart;
mod run_folder;
mod score;
mod train;
mod tune;

use std::process::ExitCode;

use clap::Parser;

use crate::error::{Error, Kind, Result};
use crate::simulate;
use args::{Args, ConfigVerb, Verb};
use context::Context;

/// Runs the program on the process's arguments.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Kind::Usage.exit_code() } else { 0 });
        }
    };
    output::start_log(args.verbose);
    end_with_device_threads();
    match std::panic::catch_unwind(|| run(args.verb)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            output::complain(&error);
            ExitCode::from(exit_code(&error))
        }
        // A bug of ours, already told by the panic hook; 1 is what the contract says for it.
        Err(_) => ExitCode::from(Kind::Internal.exit_code()),
    }
}

/// A thread that dies in a GPU driver's callbacks (wgpu's poll thread has no name) leaves the rest
/// waiting for it for ever: a job that hangs is worse than one that fails. Threads with a name are
/// left alone, since cubecl catches the panics of its own and rejects the kernel instead.
fn end_with_device_threads() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if std::thread::current().name().is_none() {
            let error = Kind::Internal.msg("a worker thread failed, see above");
            output::complain(&error.hint("go on with --resume, or use --device cpu").into());
            std::process::exit(i32::from(Kind::Internal.exit_code()));
        }
    }));
}

/// The library's kind decides; what carries none is ours.
fn exit_code(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<Error>().map_or(Kind::Internal, |error| error.kind).exit_code()
}

fn run(verb: Verb) -> anyhow::Result<()> {
    let context = Context::new();
    match verb {
        Verb::Quickstart(args) => quickstart::run(&context, &args)?,
        Verb::Simulate(args) => simulate(&args)?,
        Verb::Check(args) => check(&args)?,
        Verb::Train(args) => train::run(&context, &args)?,
        Verb::Compare(args) => compare::run(&args)?,
        Verb::Tune(args) => tune::run(&context, &args)?,
        Verb::Score(args) => score::run(&args)?,
        Verb::Export(args) => portable::run(&args)?,
        Verb::Bench(args) => bench::run(&context, &args)?,
        Verb::Config { verb: ConfigVerb::Show(args) } => {
            output::print(&config::show(&args.load()?))?;
        }
        Verb::Config { verb: ConfigVerb::Schema } => output::print(&config::schema())?,
    }
    Ok(())
}

fn simulate(args: &args::SimulateArgs) -> Result<()> {
    let spec = simulate::SimulateSpec {
        industry: args.industry.parse()?,
        customers: args.customers,
        months: args.months,
        seed: args.seed,
    };
    let summary = simulate::run(&spec, &args.out)?;
    output::print(&output::simulated(&summary))
}

/// Exit code 4 if an error-level rule is broken; the report is printed and written either way.
fn check(args: &args::CheckArgs) -> Result<()> {
    let resolved = args.config.load()?;
    let report = crate::quality::run(&resolved.config, &resolved.root())?;
    crate::fsx::publish_bytes(&args.out, report.to_json().as_bytes())?;
    output::print(&report.to_text())?;
    data::gate(&report)
}
