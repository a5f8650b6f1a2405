//! The `churn` program: see `churn --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    churn::cli::main()
}
