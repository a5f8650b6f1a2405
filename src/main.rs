//! The `churn` program: see `churn --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    keep_memory();
    churn::cli::main()
}

/// Tells glibc to keep freed memory for the next step instead of giving it back to the system:
/// every training step asks for the same megabytes again, and each page would have to be mapped
/// and cleared anew (measured on the MLP step of the benchmarks: 23 % of the time).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a setting of the C library has no safe wrapper")]
fn keep_memory() {
    /// The largest value that glibc takes.
    const MAPPED_ABOVE_BYTES: i32 = 32 << 20;
    const KEPT_BYTES_MAX: i32 = 256 << 20;
    // SAFETY: called first in `main`, when no other thread exists; both values are in range.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_ABOVE_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES_MAX);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_memory() {}
