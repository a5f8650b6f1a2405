//! `churn score`.

use std::io::Write;
use std::path::Path;

use super::args::ScoreArgs;
use super::run_folder::bundle_of;
use super::{data, output};
use crate::bundle::{self, Bundle, GoldenRow};
use crate::error::{Kind, Result};
use crate::panel::Inputs;
use crate::score::{Detail, Filled, Job, pipe};
use crate::{fsx, score, tensors};

/// Largest file of raw customers.
const RAW_BYTES_MAX: u64 = 2 << 30;

pub fn run(args: &ScoreArgs) -> Result<()> {
    let device = tensors::choose(args.device.parse()?)?;
    let bundle = bundle::load(&bundle_of(&args.bundle), &device.device)?;
    if args.stdin.is_some() {
        return score_pipe(&bundle, args);
    }
    match (&args.raw, &args.rows, &args.output) {
        (Some(raw), Some(rows), _) => score_raw(&bundle, raw, rows),
        (None, _, Some(output)) => score_tables(&bundle, args, output),
        _ => Err(Kind::Usage.msg("give --input and --output, or --raw and --rows")),
    }
}

/// Arrow batches in, Arrow batches out. What ends it early is told twice on stderr, as a line of
/// JSON for programs and as every error is for people.
fn score_pipe(bundle: &Bundle, args: &ScoreArgs) -> Result<()> {
    let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    match pipe::pipe(bundle, detail(args), input, output) {
        Ok(piped) => {
            tracing::info!("{} customers scored in {} batches", piped.rows, piped.batches);
            Ok(())
        }
        Err(fault) => {
            output::complain_json(&fault);
            Err(fault.told())
        }
    }
}

fn detail(args: &ScoreArgs) -> Detail {
    if args.curve { Detail::Curve } else { Detail::Risk }
}

fn score_tables(bundle: &Bundle, args: &ScoreArgs, to: &Path) -> Result<()> {
    let intake = &bundle.model.intake;
    let inputs = match args.input.as_slice() {
        [folder] if folder.is_dir() => Inputs::under(folder, intake)?,
        files => Inputs::matched(files, intake)?,
    };
    let scratch = fsx::scratch_beside(to)?;
    let job = Job::new(bundle, &inputs, &scratch);
    let job = Job { as_of: args.as_of, detail: detail(args), ..job };
    if to.extension().is_none() {
        return score_into(&job, args, to);
    }
    if args.resume {
        let error = Kind::Usage.at(to).msg("is one file, of which nothing is there before all is");
        return Err(error.hint("leave out --resume, or name a folder as --output"));
    }
    let scores = match &args.rows {
        None => score::score(&job)?,
        Some(path) => {
            let draft = fsx::Draft::begin(path)?;
            let mut out = draft.out();
            let scores = score::score_with_rows(&job, &mut |part| {
                part.rows().try_for_each(|row| write_line(&mut out, &row, path))
            })?;
            draft.publish()?;
            scores
        }
    };
    data::tell(&scores.report);
    let mut scores = scores;
    let (rows, gone, as_of) = (scores.rows.len(), scores.gone, scores.as_of);
    let written = args.top.map_or(rows, |top| rows.min(usize::try_from(top).unwrap_or(rows)));
    scores.rows.truncate(written);
    score::write(&scores, &bundle.manifest.bundle_id, to)?;
    let when = as_of.map_or(String::new(), |month| format!(" at the end of {month}"));
    let left = if gone > 0 { format!(", {gone} had left before") } else { String::new() };
    let top = if written < rows { format!(", the first {written} written") } else { String::new() };
    output::print(&format!("{rows} customers scored{when}{left}{top}: {}", to.display()))
}

/// A folder, which can be gone on with.
fn score_into(job: &Job, args: &ScoreArgs, folder: &Path) -> Result<()> {
    if args.rows.is_some() || args.top.is_some() {
        return Err(Kind::Usage
            .at(folder)
            .msg("is a folder, for which there is neither --top nor --rows")
            .hint("name a file as --output: .csv, .parquet, .arrow or .ndjson"));
    }
    let Filled { manifest, before, report } = score::score_into(job, folder, args.resume)?;
    data::tell(&report);
    let (files, there) = (
        manifest.files.len(),
        if before > 0 { format!(", {before} of them from before") } else { String::new() },
    );
    let when = manifest.as_of.map_or(String::new(), |month| format!(" at the end of {month}"));
    let left = if manifest.gone > 0 {
        format!(", {} had left before", manifest.gone)
    } else {
        String::new()
    };
    let customers = manifest.customers;
    output::print(&format!(
        "{customers} customers scored{when}{left}, in {files} files{there}: {}",
        folder.display()
    ))
}

/// Customers as JSON lines in, the same with new risks out.
fn score_raw(bundle: &Bundle, raw: &Path, path: &Path) -> Result<()> {
    let rows = bundle::parse_rows(&fsx::read_limited(raw, RAW_BYTES_MAX)?, raw)?;
    let customers: Vec<_> = rows.into_iter().map(|row| row.customer).collect();
    let risks = bundle::score_rows(&customers, &bundle.scorer, &bundle.model.intake)?;
    let draft = fsx::Draft::begin(path)?;
    let mut out = draft.out();
    let count = customers.len();
    for (customer, risk) in customers.into_iter().zip(risks) {
        write_line(&mut out, &GoldenRow { risk, customer }, path)?;
    }
    draft.publish()?;
    output::print(&format!("{count} customers scored: {}", path.display()))
}

fn write_line(out: &mut dyn Write, row: &GoldenRow, path: &Path) -> Result<()> {
    let line = serde_json::to_string(row).map_err(|error| Kind::Internal.msg(error.to_string()))?;
    writeln!(out, "{line}").map_err(|error| Kind::Environment.at(path).io(&error))
}
