//! Times training steps of given shapes: forward, loss, backward and AdamW, on random data that
//! can be learned.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use super::loss;
use super::optimizer::AdamW;
use crate::clock::Clock;
use crate::config::{Fusion, GruSpec, History, MlpShape, ModelKind, TrainSpec};
use crate::error::{Kind, Result};
use crate::nn::ops::on_worker;
use crate::nn::{Architecture, Network, PlainMlp};
use crate::seeds::Seeds;
use crate::tensors::{Batch, Dice, choose};

/// Of a timed step; its size changes no time.
const LEARNING_RATE: f64 = 1e-3;

/// What to time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Case {
    #[serde(flatten)]
    pub shape: Shape,
    pub steps: u32,
    #[serde(default)]
    pub warmup: u32,
    #[serde(default)]
    pub seed: u64,
    #[serde(default = "cpu")]
    pub device: String,
}

fn cpu() -> String {
    "cpu".into()
}

/// A network and a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "model", rename_all = "lowercase")]
pub enum Shape {
    /// One layer over all months, and a linear head at each of them.
    Gru { rows: usize, months: usize, inputs: usize, hidden: usize },
    /// Dense layers with relu, and a linear head.
    Mlp { rows: usize, inputs: usize, width: usize, layers: usize },
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timing {
    /// Milliseconds of each timed step.
    pub step_ms: Vec<f64>,
    /// Of the first step, warm-up included, and of the last.
    pub loss_first: f64,
    pub loss_last: f64,
    pub parameters: usize,
    pub device: String,
}

/// Runs the warm-up, then the timed steps.
///
/// # Errors
/// [`Kind::Environment`] without the device; [`Kind::Usage`] for a shape without numbers.
pub fn run(case: &Case, clock: &dyn Clock) -> Result<Timing> {
    let chosen = choose(case.device.parse()?)?;
    let device = chosen.device.clone().autodiff();
    let seeds = Seeds::new(case.seed);
    let (rows, months, inputs) = match case.shape {
        Shape::Gru { rows, months, inputs, .. } => (rows, months, inputs),
        Shape::Mlp { rows, inputs, .. } => (rows, 1, inputs),
    };
    if rows * months * inputs == 0 || case.steps == 0 {
        return Err(Kind::Usage.msg("a case needs rows, months, inputs and steps above 0"));
    }
    let batch = batch((rows, months, inputs), &seeds, &chosen.device);
    match case.shape {
        Shape::Gru { inputs, hidden, .. } => {
            let architecture = Architecture {
                kind: ModelKind::Gru,
                mlp: MlpShape::default(),
                gru: GruSpec {
                    hidden,
                    layers: 1,
                    dropout: 0.0,
                    history: History::Last,
                    fusion: Fusion::Concatenate,
                },
                numbers: 0,
                borders: Vec::new(),
                categories: Vec::new(),
                months: inputs,
                hazards: 1,
            };
            let network: Network = architecture.init(&seeds, &device);
            time(network, &batch, case, &chosen, clock, |network, batch| network.forward(batch))
        }
        Shape::Mlp { inputs, width, layers, .. } => {
            let network = PlainMlp::new((inputs, width, layers), &seeds, &device);
            let forward = |network: &PlainMlp, batch: &Batch| {
                let [rows, _, inputs] = [rows, 1, inputs];
                let months = batch.months.clone().expect("made below");
                network.forward(months.reshape([rows, inputs]))
            };
            time(network, &batch, case, &chosen, clock, forward)
        }
    }
}

fn time<M: Module + Send>(
    mut network: M,
    batch: &Batch,
    case: &Case,
    chosen: &crate::tensors::Chosen,
    clock: &dyn Clock,
    forward: impl Fn(&M, &Batch) -> Tensor<3> + Sync,
) -> Result<Timing> {
    let spec = TrainSpec::default();
    let mut optimizer = AdamW::default();
    let examples = batch.weights.dims().iter().product::<usize>() as f64;
    let (mut step_ms, mut losses) = (Vec::new(), Vec::new());
    for step in 0..case.warmup + case.steps {
        let start = clock.elapsed();
        let loss;
        (network, loss) = on_worker(|| {
            let dice = Dice { seed: case.seed, first_row: 0 };
            let batch = batch.clone().tracked(dice);
            let loss = loss::batch_loss(forward(&network, &batch), &batch, examples, &spec);
            let gradients = loss.backward();
            (optimizer.step(network, gradients, LEARNING_RATE, &spec), loss)
        });
        let _ = chosen.device.sync();
        if step >= case.warmup {
            step_ms.push((clock.elapsed() - start).as_secs_f64() * 1e3);
        }
        losses.push(loss.inner());
    }
    let value = |loss: &Tensor<1>| f64::from(loss.clone().into_scalar::<f32>());
    Ok(Timing {
        step_ms,
        loss_first: value(&losses[0]),
        loss_last: value(&losses[losses.len() - 1]),
        parameters: network.num_params(),
        device: chosen.reason.clone(),
    })
}

/// Normal numbers; the label says whether the first of them are positive in the mean.
fn batch((rows, months, inputs): (usize, usize, usize), seeds: &Seeds, device: &Device) -> Batch {
    let mut rng = seeds.stream("bench", 0);
    let values: Vec<f32> =
        (0..rows * months * inputs).map(|_| StandardNormal.sample(&mut rng)).collect();
    let churned = |row: &[f32]| f32::from(u8::from(row.iter().take(4).sum::<f32>() > 0.0));
    let targets: Vec<f32> = values.chunks_exact(inputs).map(churned).collect();
    let upload = |values: Vec<f32>, width: usize| {
        Tensor::<3>::from_data(TensorData::new(values, [rows, months, width]), device)
    };
    Batch {
        noise: None,
        numbers: Tensor::zeros([rows, 1], device),
        codes: None,
        months: Some(upload(values, inputs)),
        targets: upload(targets, 1),
        weights: upload(vec![1.0; rows * months], 1),
    }
}
