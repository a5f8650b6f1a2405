//! AdamW (Loshchilov and Hutter 2019) with clipping of the global gradient norm.
//!
//! Its state is kept by parameter name in flat tensors on the device, so that a checkpoint holds
//! it in safetensors and loading never touches burn's default device. Nothing is read back from
//! the device during a step.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use crate::config::TrainSpec;
use crate::error::{Kind, Result};
use crate::nn::ops::adamw::{Rule, adamw, adamw_averaged, clip, squares};
use crate::nn::params::{HostTensor, Parameters};

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
/// As in PyTorch.
const EPSILON: f32 = 1e-8;

/// First and second moments of each parameter.
#[derive(Debug, Clone, Default)]
pub struct AdamW {
    moments: BTreeMap<String, [Tensor<1>; 2]>,
    /// Exponential moving averages of the parameters; empty without averaging.
    averages: BTreeMap<String, Tensor<1>>,
    steps: u64,
}

impl AdamW {
    /// One step down the gradients.
    pub fn step<M: Module>(
        &mut self,
        network: M,
        gradients: Gradients,
        rate: f64,
        spec: &TrainSpec,
    ) -> M {
        self.steps += 1;
        let mut norm = SquaredNorm { gradients: &gradients, sum: None };
        network.visit(&mut norm);
        let Some(sum) = norm.sum else { return network };
        let clip = clip(sum, spec.clip_norm);
        let mut update = Update {
            path: Vec::new(),
            gradients,
            clip,
            moments: &mut self.moments,
            averages: &mut self.averages,
            average_keep: average_keep(spec, self.steps),
            rule: Rule {
                betas: [BETA_1 as f32, BETA_2 as f32],
                rate: (rate / (1.0 - BETA_1.powf(self.steps as f64))) as f32,
                spread_scale: (1.0 / (1.0 - BETA_2.powf(self.steps as f64))) as f32,
                epsilon: EPSILON,
                keep: (1.0 - rate * spec.weight_decay) as f32,
            },
        };
        network.map(&mut update)
    }

    /// Replaces parameters by their averages over the last steps, where there are any.
    pub fn average_into(&self, parameters: &mut Parameters) {
        for (name, average) in &self.averages {
            // Ours begin with the kind of network, as burn's own paths do.
            let (_, name) = name.split_once('.').expect("a path of two steps or more");
            let parameter = parameters.get_mut(name).expect("the names of one network");
            parameter.values = download(average);
        }
    }

    /// The state as named tensors, `first.NAME`, `second.NAME` and `average.NAME`.
    pub fn to_host(&self) -> Parameters {
        let mut host = Parameters::new();
        let mut put = |kind: &str, name: &str, tensor: &Tensor<1>| {
            let values = download(tensor);
            host.insert(format!("{kind}.{name}"), HostTensor { shape: vec![values.len()], values });
        };
        for (name, [first, second]) in &self.moments {
            put("first", name, first);
            put("second", name, second);
        }
        for (name, average) in &self.averages {
            put("average", name, average);
        }
        host
    }

    /// The inverse of [`AdamW::to_host`] after `steps` steps.
    pub fn from_host(host: &Parameters, steps: u64, device: &Device) -> Result<Self> {
        let upload = |tensor: &HostTensor| {
            let data = TensorData::new(tensor.values.clone(), [tensor.values.len()]);
            Tensor::<1>::from_data(data, device)
        };
        let mut moments = BTreeMap::new();
        for (name, first) in host.iter().filter_map(|(n, t)| Some((n.strip_prefix("first.")?, t))) {
            let second = host.get(&format!("second.{name}")).ok_or_else(|| {
                Kind::Corrupt.msg(format!("the optimizer has no second moment of `{name}`"))
            })?;
            moments.insert(name.to_owned(), [upload(first), upload(second)]);
        }
        let average = |(name, tensor): (&String, &HostTensor)| {
            Some((name.strip_prefix("average.")?.to_owned(), upload(tensor)))
        };
        let averages = host.iter().filter_map(average).collect();
        Ok(AdamW { moments, averages, steps })
    }
}

fn download(tensor: &Tensor<1>) -> Vec<f32> {
    tensor.clone().into_data().try_into_vec_as::<f32>().expect("parameters are f32")
}

/// What is kept of the averages at a step; less in the first steps, which would otherwise hold
/// the random start (as in TensorFlow's `ExponentialMovingAverage`).
fn average_keep(spec: &TrainSpec, step: u64) -> Option<f64> {
    let warm = (1.0 + step as f64) / (10.0 + step as f64);
    (spec.average > 0.0).then(|| spec.average.min(warm))
}

struct SquaredNorm<'a> {
    gradients: &'a Gradients,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for SquaredNorm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            self.sum = Some(squares(gradient.reshape([-1]), self.sum.take()));
        }
    }
}

struct Update<'a> {
    path: Vec<String>,
    gradients: Gradients,
    /// `[1]`: what gradients are multiplied with.
    clip: Tensor<1>,
    moments: &'a mut BTreeMap<String, [Tensor<1>; 2]>,
    averages: &'a mut BTreeMap<String, Tensor<1>>,
    /// None without averaging.
    average_keep: Option<f64>,
    rule: Rule,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = param.val().grad_remove(&mut self.gradients) else { return param };
        let shape = gradient.dims();
        let gradient = gradient.reshape([-1]);
        let name = self.path.join(".");
        let moments = self
            .moments
            .remove(&name)
            .unwrap_or_else(|| [gradient.zeros_like(), gradient.zeros_like()]);
        // Biases, norms and other vectors are not decayed.
        let rule = if D >= 2 { self.rule } else { Rule { keep: 1.0, ..self.rule } };
        let clip = self.clip.clone();
        let (kept, averages, average_keep) =
            (&mut self.moments, &mut self.averages, self.average_keep);
        param.map(|old| {
            let old = old.inner().reshape([-1]);
            let (new, moments) = match (average_keep, averages.remove(&name)) {
                (Some(keep), Some(average)) => {
                    let average = (average, keep);
                    let (new, moments, average) =
                        adamw_averaged(old, gradient, moments, clip, rule, average);
                    averages.insert(name.clone(), average);
                    (new, moments)
                }
                (keep, _) => {
                    let (new, moments) = adamw(old, gradient, moments, clip, rule);
                    if keep.is_some() {
                        averages.insert(name.clone(), new.clone());
                    }
                    (new, moments)
                }
            };
            kept.insert(name, moments);
            Tensor::from_inner(new.reshape(shape)).require_grad()
        })
    }
}
