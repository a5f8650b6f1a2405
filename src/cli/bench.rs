//! `churn bench`: times training steps, one JSON request and one JSON answer per line.

use std::io::BufRead;

use super::args::BenchArgs;
use super::context::Context;
use super::output;
use crate::error::{Kind, Result};
use crate::train::bench;

pub fn run(context: &Context, args: &BenchArgs) -> Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads)
        .build_global()
        .map_err(|error| Kind::Internal.msg(format!("no thread pool: {error}")))?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Kind::Data.msg(format!("stdin: {error}")))?;
        if line.trim().is_empty() {
            continue;
        }
        let answer = serde_json::from_str(&line)
            .map_err(|error| Kind::Usage.msg(format!("not a case: {error}")))
            .and_then(|case| bench::run(&case, context.clock.as_ref()));
        let answer = match answer {
            Ok(timing) => serde_json::to_string(&timing),
            Err(error) => serde_json::to_string(&serde_json::json!({ "error": error.to_string() })),
        };
        output::print(&answer.map_err(|error| Kind::Internal.msg(error.to_string()))?)?;
    }
    Ok(())
}
