//! The network's own operations on a backend without kernels of ours, against the flex backend.
//!
//! A GPU's driver is chosen by the environment of a process, so the test starts itself again. Few
//! shapes, for the reason that `device.rs` gives.

use std::process::Command;

use burn::nn::LayerNormConfig;
use burn::tensor::{Device, Tensor, TensorData};
use churn::nn::ops::adamw::{self, adamw, adamw_averaged, averaged, clip, squares};
use churn::nn::ops::gru::{GruWeights, gru_sequence};
use churn::nn::ops::history::history;
use churn::nn::ops::join::join;
use churn::nn::ops::linear::{Activation, linear};
use churn::nn::ops::loss::{self, loss_sum};
use churn::nn::ops::norm::layer_norm;
use churn::tensors::device::{Want, choose};

use crate::common::say;
use crate::differences::Case;

/// Rows B, months T, inputs F and units H.
const B: usize = 8;
const T: usize = 2;
const F: usize = 8;
const H: usize = 8;

/// Of the GRU, [B, T, F, H]: one small tile of the kernel's; several, with more threads than units
/// and a last tile that is not full; large tiles, with several shares of the sums over rows.
const GRUS: [[usize; 4]; 3] = [[B, T, F, H], [21, 3, 5, 40], [2051, 2, 2, 3]];

/// Of the linear layer, [rows, inputs, outputs]: one tile, and several that are not full.
const LINEARS: [[usize; 3]; 3] = [[B * T, F, 3 * H], [70, 19, 66], [130, 33, 1]];

/// Of a number and 1 together. Sums of products of numbers up to 1, all in f32: 24 * 6e-8, or where
/// they are of thousands of rows that of a random walk. A GPU's exp and tanh are off by some 1e-6,
/// which the months and the gradients multiply a few times. A wrong kernel, a wrong mask or a
/// missing term is off by 1e-2 and more.
const TOLERANCE: f32 = 1e-4;

/// Tells a process that it is the one on the GPU.
const CHILD: &str = "CHURN_TEST_OPS_ON_GPU";

const AGREED: &str = "operations agree within";

/// Tries on the software driver: it may compile for longer than wgpu waits, see `device.rs`.
const TRIES: usize = 4;

/// Numbers between -1 and 1 without a pattern: multiples of the golden ratio.
fn values(from: usize, size: usize) -> Vec<f32> {
    let at = |i: usize| ((i + 1 + 1000 * from) as f64 * 0.618_033_988_749_895).fract();
    (0..size).map(|i| (at(i) * 2.0 - 1.0) as f32).collect()
}

fn tensor<const D: usize>(from: usize, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values(from, shape.iter().product()), shape), device)
}

fn list<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as().expect("f32")
}

type Found = Vec<(&'static str, Vec<f32>)>;

/// Values and gradients of all operations.
fn everything(device: &Device) -> Found {
    let mut found: Found =
        grus().flat_map(|(shape, masked)| of_gru(device, shape, masked)).collect();
    found.extend(LINEARS.into_iter().flat_map(|shape| of_linear(device, shape)));
    found.extend(of_join(device));
    found.extend(of_norm(device));
    found.extend([of_history(device), of_losses(device), of_adamw(device)].concat());
    found
}

/// Shapes, and whether some months are masked.
fn grus() -> impl Iterator<Item = ([usize; 4], bool)> {
    GRUS.into_iter().zip([true, false, true]).chain(random_grus())
}

/// Shapes without a pattern, half of them masked. Units are those of [`GRUS`], since the driver
/// compiles for every new number of them.
fn random_grus() -> impl Iterator<Item = ([usize; 4], bool)> {
    let drawn = |at: usize, below: usize| {
        1 + (((at + 1) as f64 * 59.949_296_908_739_9).fract() * below as f64) as usize
    };
    (0..6).map(move |at| {
        let hidden = [H, 40, 3][at % 3];
        ([drawn(3 * at, 40), drawn(3 * at + 1, 5), drawn(3 * at + 2, 9), hidden], at % 2 == 0)
    })
}

fn of_gru(device: &Device, [b, t, f, h]: [usize; 4], masked: bool) -> Found {
    let plain = device;
    let device = &device.clone().autodiff();
    let x = tensor(0, [b, t, f], device).require_grad();
    let matrices = [[b, h], [f, 3 * h], [1, 3 * h], [h, 3 * h], [1, 3 * h]];
    let parts: Vec<Tensor<2>> = (1..)
        .zip(matrices)
        .map(|(from, shape)| tensor(from, shape, device).require_grad())
        .collect();
    let weights = GruWeights {
        input: parts[1].clone(),
        input_bias: parts[2].clone(),
        hidden: parts[3].clone(),
        hidden_bias: parts[4].clone(),
    };
    let mask = |device: &Device| {
        masked.then(|| Tensor::<2>::from_data(TensorData::new(mask(b * t), [b, t]), device))
    };
    let states = gru_sequence(x.clone(), parts[0].clone(), weights.clone(), mask(device));
    let grads = (states.clone() * tensor(6, [b, t, h], device)).sum().backward();
    let GruWeights { input, input_bias, hidden, hidden_bias } = weights;
    let [input, input_bias, hidden, hidden_bias] =
        [input, input_bias, hidden, hidden_bias].map(Tensor::inner);
    let weights = GruWeights { input, input_bias, hidden, hidden_bias };
    let ungraphed = gru_sequence(x.clone().inner(), parts[0].clone().inner(), weights, mask(plain));
    let states =
        vec![("gru states", list(states)), ("gru states without a graph", list(ungraphed))];
    let of_others = parts.into_iter().map(|t| list(t.grad(&grads).expect("tracked")));
    let gradients = std::iter::once(list(x.grad(&grads).expect("tracked"))).chain(of_others);
    states.into_iter().chain(GRU_GRADIENTS.into_iter().zip(gradients)).collect()
}

/// Of which [`of_gru`] finds the gradients.
const GRU_GRADIENTS: [&str; 6] = ["x", "start", "input", "input bias", "hidden", "hidden bias"];

/// Each month of some row is masked, and each row in some month is not.
fn mask(places: usize) -> Vec<f32> {
    (0..places).map(|i| f32::from(u8::from(i % 3 != 1))).collect()
}

/// The same values and gradients against central differences in f64; how many shapes were small
/// enough for that.
#[track_caller]
fn check_differences(device: &Device) -> usize {
    let mut checked = 0;
    for (shape @ [b, t, f, h], masked) in grus() {
        let sizes = [b * t * f, b * h, f * 3 * h, 3 * h, h * 3 * h, 3 * h];
        let case = Case {
            shape,
            values: std::array::from_fn(|at| values(at, sizes[at])),
            mask: masked.then(|| mask(b * t)),
            probe: values(6, b * t * h),
        };
        let Some(wanted) = case.gradients() else { continue };
        let found = of_gru(device, shape, masked);
        let gradients = &found[found.len() - GRU_GRADIENTS.len()..];
        for ((name, got), wanted) in gradients.iter().zip(&wanted) {
            check_near(name, got, wanted, "differences in f64 say");
        }
        checked += 1;
    }
    assert!(checked > 1, "shapes small enough");
    checked
}

/// The largest distance of a pair.
#[track_caller]
fn check_near(name: &str, got: &[f32], wanted: &[f32], say: &str) -> f32 {
    assert_eq!(got.len(), wanted.len(), "{name}");
    assert!(wanted.iter().any(|x| x.abs() > 0.01), "{name} is nothing to agree on");
    got.iter().zip(wanted).enumerate().fold(0.0, |worst, (at, (a, b))| {
        let distance = (a - b).abs() / (1.0 + b.abs());
        assert!(distance <= TOLERANCE, "{name}[{at}]: {a}, {say} {b}");
        distance.max(worst)
    })
}

fn of_linear(device: &Device, [rows, inputs, outputs]: [usize; 3]) -> Found {
    let device = &device.clone().autodiff();
    let x = tensor(10, [rows, inputs], device).require_grad();
    let weight = tensor(11, [inputs, outputs], device).require_grad();
    let bias = tensor(12, [outputs], device).require_grad();
    let activation = if outputs == 1 { Activation::None } else { Activation::Relu };
    let y = linear(x.clone(), weight.clone(), Some(bias.clone()), activation);
    // Of one sign, so that the sum over rows is not nearly 0.
    let grads = (y.clone() * (tensor(13, [rows, outputs], device) + 1.5)).sum().backward();
    vec![
        ("linear", list(y)),
        ("linear gradient of x", list(x.grad(&grads).expect("tracked"))),
        ("linear gradient of the weight", list(weight.grad(&grads).expect("tracked"))),
        ("linear gradient of the bias", list(bias.grad(&grads).expect("tracked"))),
    ]
}

fn of_join(device: &Device) -> Found {
    let device = &device.clone().autodiff();
    let states = tensor(20, [B, T, H], device).require_grad();
    let fixed = tensor(21, [B, H], device).require_grad();
    let y = join(states.clone(), fixed.clone(), None);
    let grads = (y.clone() * tensor(22, [B, T, H], device)).sum().backward();
    vec![
        ("join", list(y)),
        ("join gradient of the states", list(states.grad(&grads).expect("tracked"))),
        ("join gradient of the fixed part", list(fixed.grad(&grads).expect("tracked"))),
    ]
}

fn of_history(device: &Device) -> Found {
    let device = &device.clone().autodiff();
    let states = tensor(25, [B, 5, H], device).require_grad();
    let y = history(states.clone());
    let grads = (y.clone() * tensor(26, [B, 5, 3 * H], device)).sum().backward();
    vec![
        ("history", list(y)),
        ("history gradient of the states", list(states.grad(&grads).expect("tracked"))),
    ]
}

/// More columns than a workgroup has threads.
fn of_norm(device: &Device) -> Found {
    let device = &device.clone().autodiff();
    let (rows, width) = (B + 11, 300);
    let layer = LayerNormConfig::new(width).init(device);
    let x = tensor(27, [rows, width], device).require_grad();
    let y = layer_norm(&layer, x.clone());
    let grads = (y.clone() * tensor(28, [rows, width], device)).sum().backward();
    let beta = layer.beta.expect("a bias").val();
    vec![
        ("norm", list(y)),
        ("norm gradient of x", list(x.grad(&grads).expect("tracked"))),
        ("norm gradient of gamma", list(layer.gamma.val().grad(&grads).expect("tracked"))),
        ("norm gradient of beta", list(beta.grad(&grads).expect("tracked"))),
    ]
}

fn of_losses(device: &Device) -> Found {
    let device = &device.clone().autodiff();
    let mut found = Vec::new();
    for rule in [loss::Rule::CrossEntropy, loss::Rule::Focal { gamma: 2.0 }] {
        let log_odds = (tensor(30, [B * T], device) * 5.0).detach().require_grad();
        let labels = (0..B * T).map(|i| f32::from(u8::from(i % 3 == 0))).collect::<Vec<f32>>();
        let labels = Tensor::<1>::from_data(TensorData::new(labels, [B * T]), device);
        let weights = tensor(31, [B * T], device).abs();
        let loss = loss_sum(log_odds.clone(), labels, weights, rule);
        let grads = loss.backward();
        found.push(("loss", list(loss)));
        found.push(("loss gradient", list(log_odds.grad(&grads).expect("tracked"))));
    }
    found
}

fn of_adamw(device: &Device) -> Found {
    let size = 3 * H * F;
    let mut parameter = tensor(40, [size], device);
    let mut moments = [(); 2].map(|()| Tensor::<1>::zeros([size], device));
    let mut average = tensor(39, [size], device);
    for step in 1..=3 {
        let rule = adamw::Rule {
            // A second moment that three steps fill, so that there is something to compare.
            betas: [0.9, 0.9],
            rate: 0.01 / (1.0 - 0.9f32.powi(step)),
            spread_scale: 1.0 / (1.0 - 0.9f32.powi(step)),
            epsilon: 1e-8,
            keep: 0.999,
        };
        let gradient = tensor(40 + step as usize, [size], device);
        let clip = Tensor::<1>::from_data([0.7], device);
        (parameter, moments, average) = match step {
            1 => {
                let (new, moments) = adamw(parameter, gradient, moments, clip, rule);
                (new, moments, average)
            }
            _ => adamw_averaged(parameter, gradient, moments, clip, rule, (average, 0.9)),
        };
    }
    let [first, second] = moments;
    vec![
        ("clip", list(clip(squares(second.clone(), Some(squares(parameter.clone(), None))), 0.5))),
        ("average in one", list(average)),
        ("average", list(averaged(first.clone(), parameter.clone(), 0.9))),
        ("adamw", list(parameter)),
        ("first moment", list(first)),
        ("second moment", list(second)),
    ]
}

/// The largest difference to the flex backend.
#[track_caller]
fn check(device: &Device) -> f32 {
    let mut worst = 0.0f32;
    let (found, expected) = (everything(device), everything(&Device::flex()));
    assert_eq!(found.len(), expected.len());
    for ((name, got), (_, wanted)) in found.iter().zip(&expected) {
        worst = worst.max(check_near(name, got, wanted, "flex says"));
    }
    say(&format!("gradients of {} GRUs are those of differences", check_differences(device)));
    worst
}

/// In the process whose driver is chosen.
fn on_the_gpu() {
    match choose(Want::Gpu) {
        Ok(chosen) => {
            let worst = check(&chosen.device);
            // burn refuses to open an adapter twice; `churn bench` asks for it with every shape.
            assert_eq!(choose(Want::Gpu).expect("it was there before").reason, chosen.reason);
            say(&format!("{AGREED} {worst:.1e} ({})", chosen.reason));
        }
        Err(error) => say(&format!("no software driver: {}", error.message)),
    }
}

#[test]
fn operations_on_a_gpu_agree_with_flex() {
    if std::env::var_os(CHILD).is_some() {
        return on_the_gpu();
    }
    let shaders = tempfile::tempdir().expect("a folder");
    for _ in 0..TRIES {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["ops::operations_on_a_gpu_agree_with_flex", "--exact", "--nocapture"]);
        // Hides Mesa's Vulkan driver, see `device.rs`.
        command.env("VK_DRIVER_FILES", "/dev/null").env_remove("VK_ICD_FILENAMES");
        command.env("CUBECL_AUTOTUNE_LEVEL", "minimal").env(CHILD, "1");
        command.env("MESA_SHADER_CACHE_DIR", shaders.path());
        let output = command.output().expect("it starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            let line = stderr.lines().find(|line| line.contains(AGREED));
            return say(line.unwrap_or(&format!(
                "note: the operations were NOT tried on a GPU, see device.rs: {stderr}"
            )));
        }
        if !stderr.contains("Could not lock adapter context") {
            panic!("{stderr}");
        }
        say("note: the driver compiled for more than 6 s; trying again with its cache");
    }
    panic!("{TRIES} tries, each stopped by a kernel that compiled for more than 6 s");
}

#[cfg(feature = "ndarray")]
#[test]
fn operations_on_ndarray_agree_with_flex() {
    let chosen = choose(Want::NdArray).expect("it is compiled in");
    say(&format!("{AGREED} {:.1e} ({})", check(&chosen.device), chosen.reason));
}
