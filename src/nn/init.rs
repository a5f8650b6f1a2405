//! Random weights that depend on the seed and the parameter's name only, not on the device.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};
use rand::RngExt;
use rand_distr::{Distribution, Normal, Uniform};

use super::params::{name, replace};
use crate::seeds::Seeds;

/// Standard deviation of fresh embeddings: small, so that a category starts as a slight shift.
const EMBEDDING_SD: f32 = 0.1;

/// Draws all matrices anew: uniform in ±1/sqrt(fan-in) as PyTorch does for linear layers, in
/// ±1/sqrt(H) for recurrent ones, normal for embeddings, signs for the scales of members. Biases
/// and the bins of numbers start at zero.
pub fn randomise<M: Module>(network: M, seeds: &Seeds) -> M {
    let mut mapper = Randomise { seeds: *seeds, path: Vec::new(), containers: Vec::new() };
    network.map(&mut mapper)
}

struct Randomise {
    seeds: Seeds,
    path: Vec<String>,
    containers: Vec<String>,
}

impl ModuleMapper for Randomise {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push(name.to_owned());
        self.containers.push(container.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
        self.containers.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = name(&self.path);
        let within = |container: &str| self.containers.iter().any(|c| c.contains(container));
        let shape = param.lazy_shape();
        let [rows, columns] = match shape.as_slice() {
            [rows, columns] => [*rows, *columns],
            _ if within("LayerNorm") => return param, // Ones and zeros, as they are.
            shape => {
                let zeros = vec![0.0f32; shape.iter().product()];
                return replace(param, TensorData::new(zeros, shape.to_vec()));
            }
        };
        let mut rng = self.seeds.stream(&name, 0);
        let values: Vec<f32> = if within("Embedding") {
            let law = Normal::new(0.0, EMBEDDING_SD).expect("a positive deviation");
            (0..rows * columns).map(|_| law.sample(&mut rng)).collect()
        } else if within("MemberScale") {
            (0..rows * columns).map(|_| if rng.random::<bool>() { 1.0 } else { -1.0 }).collect()
        } else {
            let fan_in = if within("GruLayer") {
                columns / 3
            } else if within("MemberHeads") || within("Pieces") {
                columns
            } else {
                rows
            };
            let bound = 1.0 / (fan_in.max(1) as f32).sqrt();
            let law = Uniform::new_inclusive(-bound, bound).expect("a positive bound");
            (0..rows * columns).map(|_| law.sample(&mut rng)).collect()
        };
        replace(param, TensorData::new(values, [rows, columns]))
    }
}
