//! Times training steps of given shapes: forward, loss, backward and AdamW, on random data that
//! can be learned. And the products that such steps consist of, alone.

mod products;

use std::time::Duration;

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
    /// Processor time of all threads in place of the time that passes, for busy machines.
    #[serde(default)]
    pub cpu_time: bool,
}

impl Case {
    fn now(&self, clock: &dyn Clock) -> Duration {
        if self.cpu_time { clock.busy() } else { clock.elapsed() }
    }
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
    /// The three products of a dense layer, by the `gemm` crate alone and by our kernels.
    Product { rows: usize, inputs: usize, outputs: usize },
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    Step(Timing),
    Products(products::Timing),
}

/// Training steps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timing {
    /// Milliseconds of each timed step.
    pub step_ms: Vec<f64>,
    /// Mean processor time of the timed steps, all threads together, in milliseconds.
    pub cpu_ms: f64,
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
pub fn run(case: &Case, clock: &dyn Clock) -> Result<Answer> {
    match case.shape {
        Shape::Product { rows, inputs, outputs } => {
            let shape = crate::nn::ops::kernels::Shape { rows, inputs, outputs };
            products::run(shape, case, clock).map(Answer::Products)
        }
        _ => steps(case, clock).map(Answer::Step),
    }
}

fn steps(case: &Case, clock: &dyn Clock) -> Result<Timing> {
    let chosen = choose(case.device.parse()?)?;
    let device = chosen.device.clone().autodiff();
    let seeds = Seeds::new(case.seed);
    let (rows, months, inputs) = match case.shape {
        Shape::Gru { rows, months, inputs, .. } => (rows, months, inputs),
        Shape::Mlp { rows, inputs, .. } | Shape::Product { rows, inputs, .. } => (rows, 1, inputs),
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
                relevance: Vec::new(),
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
        Shape::Product { .. } => unreachable!("these are no steps"),
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
    // No average of the weights, which is no part of AdamW.
    let spec = TrainSpec { average: 0.0, ..TrainSpec::default() };
    let mut optimizer = AdamW::default();
    let examples = batch.weights.dims().iter().product::<usize>() as f64;
    let (mut step_ms, mut losses) = (Vec::new(), Vec::new());
    let mut busy = Duration::ZERO;
    for step in 0..case.warmup + case.steps {
        let (start, busy_before) = (case.now(clock), clock.busy());
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
            step_ms.push((case.now(clock) - start).as_secs_f64() * 1e3);
            busy += clock.busy() - busy_before;
        }
        losses.push(loss.inner());
    }
    let value = |loss: &Tensor<1>| f64::from(loss.clone().into_scalar::<f32>());
    Ok(Timing {
        step_ms,
        cpu_ms: busy.as_secs_f64() * 1e3 / f64::from(case.steps),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[track_caller]
    fn answer(case: &str) -> serde_json::Value {
        let case: Case = serde_json::from_str(case).expect("a case");
        let answer = run(&case, &SystemClock::new()).expect("an answer");
        serde_json::to_value(answer).expect("json")
    }

    fn times(answer: &serde_json::Value, name: &str) -> usize {
        let times = answer[name].as_array().unwrap_or_else(|| panic!("no {name} in {answer}"));
        assert!(times.iter().all(|ms| ms.as_f64().is_some_and(|ms| ms > 0.0)), "{answer}");
        times.len()
    }

    #[test]
    fn steps_learn_and_are_timed() {
        for model in [
            r#""model":"mlp","rows":40,"inputs":8,"width":16,"layers":2"#,
            r#""model":"gru","rows":40,"months":3,"inputs":8,"hidden":16,"cpu_time":true"#,
        ] {
            let answer = answer(&format!("{{{model},\"steps\":30,\"warmup\":2}}"));
            assert_eq!(times(&answer, "step_ms"), 30);
            let [first, last] =
                ["loss_first", "loss_last"].map(|name| answer[name].as_f64().expect("a loss"));
            assert!(last < first, "{answer}");
        }
    }

    #[test]
    fn products_are_timed_one_by_one() {
        let case = r#"{"model":"product","rows":40,"inputs":8,"outputs":16,"steps":4,"warmup":1}"#;
        let answer = answer(case);
        for name in ["y_ms", "d_x_ms", "d_weight_ms", "forward_ms", "backward_ms"] {
            assert_eq!(times(&answer, name), 4, "{name}");
        }
    }

    #[test]
    fn a_case_without_numbers_is_refused() {
        for model in [
            r#""model":"product","rows":0,"inputs":8,"outputs":16"#,
            r#""model":"mlp","rows":0,"inputs":8,"width":16,"layers":2"#,
        ] {
            let case: Case =
                serde_json::from_str(&format!("{{{model},\"steps\":1}}")).expect("a case");
            let error = run(&case, &SystemClock::new()).expect_err("no numbers");
            assert_eq!(error.kind, Kind::Usage);
        }
    }
}
