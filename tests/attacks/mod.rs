//! Hostile and broken files: each ends in a typed error, soon, in little memory, and with nothing
//! half-written.

mod bundles;
mod tables;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::common::{Shared, Tiny, churn, outcome};

/// Of all threads. Tests run beside each other, so that seconds on the wall say little.
const CPU_SECONDS_MAX: f64 = 2.0;
const WALL_MAX: Duration = Duration::from_secs(60);
const RESIDENT_KB_MAX: u64 = 512 << 10;

/// Bad data, bundles and configurations.
const REFUSED: i32 = 3;

/// A small model, which is attacked in copies.
struct Trained {
    tiny: Tiny,
}

static TRAINED: Shared<Trained> = Shared::new();

impl Trained {
    fn new() -> Self {
        let tiny = Tiny::new();
        let sets = ["models.champion=mlp", "models.trees=false", "train.epochs_max=2"];
        let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        let (code, _, err) = outcome(&mut tiny.train("run", "cpu", "\"mlp\"", &sets));
        assert_eq!(code, 0, "{err}");
        Trained { tiny }
    }

    fn bundle(&self) -> PathBuf {
        PathBuf::from(self.tiny.path("run")).join("bundle")
    }
}

/// What a process cost.
struct Cost {
    code: i32,
    cpu_seconds: f64,
    resident_kb: u64,
}

/// Waits for the end of a process; one that does not end is killed.
#[expect(unsafe_code, reason = "wait4 is the only call that tells what another process cost")]
fn cost(child: &Child) -> Cost {
    let pid = i32::try_from(child.id()).expect("a process id");
    let start = Instant::now();
    let mut resident_kb = 0;
    loop {
        resident_kb = resident_kb_of(pid).unwrap_or(0).max(resident_kb);
        let mut status = 0;
        // SAFETY: a rusage is plain numbers; both pointers are to values of ours.
        let (found, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage), usage)
        };
        if found == pid {
            let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -1 };
            let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
            let cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
            return Cost { code, cpu_seconds, resident_kb };
        }
        if start.elapsed() > WALL_MAX {
            // SAFETY: the child is ours and was not waited for yet.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The peak so far. That of `wait4` begins with the memory of the process that forked, which is
/// this one; nothing fills 512 MB between two looks.
fn resident_kb_of(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    peak.trim().strip_suffix(" kB")?.parse().ok()
}

/// Scores with a bundle and tables; it must be refused with these words, within the limits.
#[expect(clippy::zombie_processes, reason = "`cost` waits for it")]
#[track_caller]
fn refused(attack: &str, bundle: &Path, inputs: &[&Path], words: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let said = folder.path().join("said");
    let out = folder.path().join("out");
    std::fs::create_dir(&out).expect("a folder");
    let mut command = churn();
    command.args(["score", "--bundle"]).arg(bundle).arg("--input").args(inputs);
    command.arg("--output").arg(out.join("scores.csv"));
    let err = File::create(&said).expect("a file");
    let child = command.stderr(err).spawn().expect("it starts");
    let cost = cost(&child);
    let said = String::from_utf8_lossy(&std::fs::read(&said).expect("said")).into_owned();
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(cost.code, REFUSED, "{attack}: {said}");
    assert!(last.starts_with("error: ") && last.contains(words), "{attack}: {said}");
    assert!(!said.contains("panicked"), "{attack}: {said}");
    assert!(cost.resident_kb > 0, "{attack}: it was gone before it was looked at");
    assert!(cost.cpu_seconds <= CPU_SECONDS_MAX, "{attack}: {} s", cost.cpu_seconds);
    assert!(cost.resident_kb <= RESIDENT_KB_MAX, "{attack}: {} KB", cost.resident_kb);
    let left = std::fs::read_dir(&out).expect("a folder").count();
    assert_eq!(left, 0, "{attack}: it left files behind");
}
