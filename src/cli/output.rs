//! The only place that prints.

use std::io::{IsTerminal, Write};

use tracing::Level;

use crate::error::{Kind, Result};
use crate::simulate::Summary;

/// Log lines go to stderr.
pub fn start_log(verbose: bool) {
    let level = if verbose { Level::DEBUG } else { Level::INFO };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
}

/// Writes to stdout. A reader that has gone away is no error.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Kind::Environment.msg(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// The last words of a failed run, on stderr.
pub fn complain(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
}

/// The same for a program that reads along.
pub fn complain_json(fault: &impl serde::Serialize) {
    if let Ok(line) = serde_json::to_string(fault) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// What a simulation made, and the best that any model could reach on it.
pub fn simulated(summary: &Summary) -> String {
    let mut text = format!(
        "customers        {}\ncustomer-months  {}\nevents           {}\nchurned          {} \
         ({:.2} % a month)\nbase rate        {:.4} (horizon {})\nBayes-optimal    AUROC {:.4}, \
         log loss {:.5} (base rate alone {:.5})\n",
        summary.customers,
        summary.customer_months,
        summary.events,
        summary.churned,
        100.0 * summary.monthly_churn,
        summary.base_rate,
        summary.horizon,
        summary.bayes_auroc,
        summary.bayes_log_loss,
        summary.base_log_loss,
    );
    for file in &summary.files {
        text += &format!("{}\n", file.display());
    }
    text
}
