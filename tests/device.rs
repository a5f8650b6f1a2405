//! The GPU path on Mesa's software driver, and what happens where there is none.
//!
//! The Vulkan driver of Mesa is hidden (it crashes on some kernels), so that wgpu takes OpenGL:
//! Debian's packages libegl1, libegl-mesa0, libgl1-mesa-dri, libgles2. That driver compiles every
//! kernel on the CPU, in up to ten seconds each, which is nearly all the time that these tests
//! take; hence the tiny data whose parts all have the same shape, and an MLP of two members: with
//! sixteen its products are large enough for kernels that the driver compiles for longer than wgpu
//! waits.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use churn::config::ColumnType::{Category, Number};

use crate::common::{Table, Tiny, outcome, say, weights_sha256};

const NETWORKS: [&str; 3] = ["mlp", "gru", "hybrid"];

/// Largest difference of a risk between GPU and CPU after six steps. Both compute in f32, so one
/// pass differs by about 1e-6; but AdamW divides a gradient by its own size, so that a weight
/// whose gradient is rounding noise moves a learning rate (0.01) a step in a direction of its own.
/// Such weights matter little to the risk. Measured: 4e-8. A wrong kernel or a wrong mask moves
/// risks by 1e-2 and more.
const TOLERANCE: f64 = 1e-4;

/// A hang, not slowness: 73 s were measured on one of two shared cores with an empty shader cache, 345 s
/// on a machine with load 13.
const TRAINING_MAX: Duration = Duration::from_secs(900);

/// Tries on the software driver, see [`train_on_gpu`].
const TRIES: usize = 4;

/// Hides Mesa's Vulkan driver.
fn software(command: &mut Command) -> &mut Command {
    command.env("VK_DRIVER_FILES", "/dev/null").env_remove("VK_ICD_FILENAMES")
}

/// Hides every driver of the machine.
fn no_adapter(command: &mut Command) -> &mut Command {
    software(command).env("__EGL_VENDOR_LIBRARY_FILENAMES", "/dev/null")
}

/// What `--device auto` says about a machine.
fn auto_says(tiny: &Tiny, out: &str, hide: fn(&mut Command) -> &mut Command) -> String {
    let (code, _, stderr) = outcome(hide(&mut tiny.train(out, "auto", "\"mlp\"", &[])));
    assert_eq!(code, 0, "auto must train anywhere: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let line = stderr.lines().find(|line| line.contains("device ")).expect("a line on the device");
    line.to_owned()
}

/// Trains on the software driver; stderr.
///
/// wgpu gives up a lock of OpenGL after six seconds, with a panic, and the driver holds it while
/// it compiles: on a busy machine a kernel can take longer. What was compiled stays in the
/// driver's cache, so that the next try gets past it.
#[track_caller]
fn train_on_gpu(tiny: &Tiny, out: &str, networks: &str) -> String {
    let log = tiny.path("gpu.log");
    for _ in 0..TRIES {
        let mut command = tiny.train(out, "gpu", networks, &[]);
        software(&mut command)
            .env("CUBECL_AUTOTUNE_LEVEL", "minimal")
            .env("MESA_SHADER_CACHE_DIR", tiny.path("shaders"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).expect("a log"));
        let mut child = command.spawn().expect("it starts");
        let since = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break Some(status);
            }
            if since.elapsed() > TRAINING_MAX {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let stderr = fs::read_to_string(&log).expect("a log");
        match status {
            Some(status) if status.success() => return stderr,
            Some(_) if stderr.contains("Could not lock adapter context") => {
                say("note: the driver compiled for more than 6 s; trying again with its cache");
                fs::remove_dir_all(tiny.path(out)).expect("removed");
            }
            Some(status) => panic!("{status}: {stderr}"),
            None => panic!("not finished in {TRAINING_MAX:?}: {stderr}"),
        }
    }
    panic!("{TRIES} tries, each stopped by a kernel that compiled for more than 6 s");
}

/// (network, split, customer, risk), sorted.
fn risks(tiny: &Tiny, out: &str) -> Vec<(String, String, String, f64)> {
    let file = tiny.path(&format!("{out}/predictions.parquet"));
    let columns = [("model", Category), ("split", Category), ("risk", Number)];
    let table = Table::read(Path::new(&file), &columns);
    let (models, splits) = (table.texts("model"), table.texts("split"));
    let mut rows: Vec<_> = (0..table.ids.len())
        .map(|i| {
            let (model, split) = (models[i].clone(), splits[i].clone());
            (model, split, table.ids[i].clone(), table.numbers("risk")[i])
        })
        .filter(|(model, ..)| NETWORKS.contains(&model.as_str()))
        .collect();
    rows.sort_by(|a, b| (&a.0, &a.2).cmp(&(&b.0, &b.2)));
    rows
}

#[test]
fn gpu_and_cpu_agree() {
    let tiny = Tiny::new();
    let found = auto_says(&tiny, "probe", software);
    if !found.contains("llvmpipe") && !found.contains("softpipe") {
        say(&format!(
            "note: no software OpenGL driver here, so the GPU path was NOT tried (install \
             libegl1 libegl-mesa0 libgl1-mesa-dri libgles2). Found: {found}"
        ));
        return;
    }
    let networks = "\"mlp\",\"gru\",\"hybrid\"";
    let since = Instant::now();
    let stderr = train_on_gpu(&tiny, "gpu", networks);
    let seconds = since.elapsed().as_secs_f64();
    assert!(stderr.contains("device gpu: "), "{stderr}");
    let (code, _, stderr) = outcome(&mut tiny.train("cpu", "cpu", networks, &[]));
    assert_eq!(code, 0, "{stderr}");

    let (gpu, cpu) = (risks(&tiny, "gpu"), risks(&tiny, "cpu"));
    assert_eq!(cpu.len(), 40 * NETWORKS.len());
    let mut worst = 0.0f64;
    for (a, b) in gpu.iter().zip(&cpu) {
        assert_eq!((&a.0, &a.1, &a.2), (&b.0, &b.1, &b.2));
        let distance = (a.3 - b.3).abs();
        assert!(distance <= TOLERANCE, "{} {}: gpu {}, cpu {}", a.0, a.2, a.3, b.3);
        worst = worst.max(distance);
    }
    assert_eq!(gpu.len(), cpu.len());
    say(&format!("gpu and cpu agree within {worst:.1e}; the gpu took {seconds:.0} s ({found})"));
    // Agreement of two trainings that did nothing would mean nothing.
    let idle = ["--set", "train.learning_rate=1e-9"];
    let (code, _, stderr) = outcome(&mut tiny.train("idle", "cpu", networks, &idle));
    assert_eq!(code, 0, "{stderr}");
    for network in NETWORKS {
        let of = |rows: &[(String, String, String, f64)]| -> Vec<f64> {
            rows.iter().filter(|row| row.0 == network).map(|row| row.3).collect()
        };
        let (before, after) = (of(&risks(&tiny, "idle")), of(&cpu));
        let moved = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(moved > 100.0 * TOLERANCE, "training moved the risks of {network} by {moved} only");
    }
}

#[test]
fn gpu_without_an_adapter_is_refused() {
    let tiny = Tiny::new();
    let mut command = tiny.train("run", "gpu", "\"mlp\"", &[]);
    let (code, stdout, stderr) = outcome(no_adapter(&mut command));
    assert_eq!(code, 5, "{stderr}");
    assert_eq!(stdout, "");
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 1, "one line, no panic, no warning: {stderr}");
    assert!(lines[0].starts_with("error: no usable GPU"), "{stderr}");
    assert!(lines[0].contains("--device cpu"), "says what to do: {stderr}");
}

#[test]
fn auto_without_an_adapter_trains_on_the_cpu() {
    let tiny = Tiny::new();
    let line = auto_says(&tiny, "auto", no_adapter);
    assert!(line.contains("device cpu (flex backend): no usable GPU"), "{line}");
    assert_eq!(outcome(&mut tiny.train("cpu", "cpu", "\"mlp\"", &[])).0, 0);
    assert_eq!(weights_sha256(&tiny.path("auto")), weights_sha256(&tiny.path("cpu")));
}

#[test]
fn auto_refuses_a_software_adapter() {
    let tiny = Tiny::new();
    let line = auto_says(&tiny, "auto", software);
    if line.contains("software adapter") {
        assert!(line.contains("device cpu (flex backend): no usable GPU"), "{line}");
    } else {
        say(&format!(
            "note: no software adapter here, so its refusal was not tried. Found: {line}"
        ));
    }
}

/// Nothing on the way may open burn's default device, which here is a GPU that is not there.
#[test]
fn a_cpu_run_is_resumed_without_an_adapter() {
    let tiny = Tiny::new();
    let long: &[&str] = &["--set", "train.epochs_max=40", "--set", "train.patience=40"];
    let all = "\"mlp\",\"gru\",\"hybrid\"";
    let (code, _, stderr) = outcome(no_adapter(&mut tiny.train("whole", "auto", all, long)));
    assert_eq!(code, 0, "{stderr}");
    // Checkpoints of the middle of a training: the whole run's last but one, without what follows.
    copy(Path::new(&tiny.path("whole/checkpoints")), Path::new(&tiny.path("cut/checkpoints")));
    for network in NETWORKS {
        let newest = fs::read_dir(tiny.path(&format!("cut/checkpoints/{network}")))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .max()
            .expect("a generation");
        fs::remove_dir_all(newest).expect("removed");
    }
    let resume = [long, &["--resume"]].concat();
    let (code, _, stderr) = outcome(no_adapter(&mut tiny.train("cut", "auto", all, &resume)));
    assert_eq!(code, 0, "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    for network in NETWORKS {
        assert!(stderr.contains(&format!("{network} epoch 40/40")), "{stderr}");
        assert!(!stderr.contains(&format!("{network} epoch 39/40")), "{stderr}");
    }
    assert_eq!(weights_sha256(&tiny.path("cut")), weights_sha256(&tiny.path("whole")));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("copied")),
        }
    }
}

#[test]
fn an_unknown_device_is_refused() {
    let tiny = Tiny::new();
    let flag = outcome(&mut tiny.train("run", "nonsense", "\"mlp\"", &[]));
    let mut command = crate::common::churn();
    command.args(["train", &tiny.path("tiny.toml"), "--out", &tiny.path("run")]);
    let env = outcome(command.env("CHURN_DEVICE", "nonsense"));
    for ((got, stdout, stderr), code) in [(flag, 2), (env, 3)] {
        assert_eq!(got, code, "{stderr}");
        assert_eq!(stdout, "");
        assert!(stderr.contains("there is no device `nonsense`"), "{stderr}");
        for device in ["auto", "gpu", "cpu", "ndarray"] {
            assert!(stderr.contains(device), "{device} is not listed: {stderr}");
        }
    }
}

#[cfg(not(feature = "ndarray"))]
#[test]
fn ndarray_needs_its_feature() {
    let tiny = Tiny::new();
    let (code, _, stderr) = outcome(&mut tiny.train("run", "ndarray", "\"mlp\"", &[]));
    assert_eq!(code, 5, "{stderr}");
    assert!(stderr.contains("no ndarray backend") && stderr.contains("--features"), "{stderr}");
}

#[cfg(feature = "ndarray")]
#[test]
fn ndarray_agrees_with_flex() {
    let tiny = Tiny::new();
    for device in ["ndarray", "cpu"] {
        let (code, _, stderr) = outcome(&mut tiny.train(device, device, "\"mlp\",\"gru\"", &[]));
        assert_eq!(code, 0, "{stderr}");
    }
    for (a, b) in risks(&tiny, "ndarray").iter().zip(&risks(&tiny, "cpu")) {
        assert!((a.3 - b.3).abs() <= TOLERANCE, "{} {}: {} and {}", a.0, a.2, a.3, b.3);
    }
}
