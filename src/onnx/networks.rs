//! The networks: their parameters as constants, their layers as operators.

mod columns;
mod mlp;
mod sequence;

use super::blocks::Blocks;
use super::graph::{Graph, Value};
use crate::config::ModelKind;
use crate::error::{Kind, Result};
use crate::nn::Architecture;
use crate::nn::params::{HostTensor, Parameters};

/// The outputs of a network at the as-of month, `[N, members K]`, before the shift of its
/// log-odds.
pub fn outputs(
    g: &mut Graph,
    blocks: &mut Blocks,
    architecture: &Architecture,
    weights: &Weights,
) -> Result<Value> {
    match architecture.kind {
        ModelKind::Static | ModelKind::Mlp => mlp::outputs(g, blocks, architecture, weights),
        ModelKind::Gru => sequence::gru(g, blocks, architecture, weights),
        ModelKind::Hybrid => sequence::hybrid(g, blocks, architecture, weights),
    }
}

/// The parameters of a network by name.
#[derive(Clone)]
pub struct Weights<'a> {
    pub parameters: &'a Parameters,
    /// In front of every name.
    pub prefix: &'static str,
}

impl Weights<'_> {
    /// Those of a part of the network.
    fn under(&self, prefix: &'static str) -> Self {
        Weights { prefix, ..self.clone() }
    }

    fn tensor(&self, name: &str) -> Result<&HostTensor> {
        let name = format!("{}{name}", self.prefix);
        let missing = || Kind::Corrupt.msg(format!("the network has no parameter `{name}`"));
        self.parameters.get(&name).ok_or_else(missing)
    }

    /// As it is stored.
    fn get(&self, g: &mut Graph, name: &str) -> Result<Value> {
        let tensor = self.tensor(name)?;
        Ok(g.f32s(name, &tensor.shape, &tensor.values))
    }

    fn has(&self, name: &str) -> bool {
        self.parameters.contains_key(&format!("{}{name}", self.prefix))
    }

    /// x times a layer's weight, plus its bias if it has one.
    fn dense(&self, g: &mut Graph, x: &Value, layer: &str) -> Result<Value> {
        let weight = self.get(g, &format!("{layer}.weight"))?;
        let bias = format!("{layer}.bias");
        let bias = if self.has(&bias) { Some(self.get(g, &bias)?) } else { None };
        Ok(g.within(layer, |g| {
            let product = g.matmul(x, &weight);
            match bias {
                Some(bias) => g.add(&product, &bias),
                None => product,
            }
        }))
    }
}
