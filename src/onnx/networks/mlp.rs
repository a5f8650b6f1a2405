//! The network over one row: members that share their layers.

use super::super::blocks::Blocks;
use super::super::graph::{Graph, Value};
use super::{Weights, columns};
use crate::config::ModelKind;
use crate::error::Result;
use crate::nn::Architecture;

/// `[N, k K]`: output m K + j is member m's of month j.
pub fn outputs(
    g: &mut Graph,
    blocks: &mut Blocks,
    architecture: &Architecture,
    weights: &Weights,
) -> Result<Value> {
    let numbers = match architecture.kind {
        ModelKind::Static => blocks.fixed(g)?,
        _ => blocks.snapshot(g)?,
    };
    let mut x = columns::row(g, blocks, (architecture, weights), numbers)?;
    if architecture.mlp.early {
        x = spread(g, &x, weights)?;
    }
    for layer in 0..architecture.mlp.blocks {
        x = weights.dense(g, &x, &format!("layers.{layer}"))?;
        x = g.relu(&x);
        if layer == 0 && !architecture.mlp.early {
            x = spread(g, &x, weights)?;
        }
    }
    g.within("heads", |g| heads(g, &x, weights, (architecture.mlp.members, architecture.hazards)))
}

/// Every row once for each member, times the member's scale: `[N, W]` to `[N, k, W]`.
fn spread(g: &mut Graph, x: &Value, weights: &Weights) -> Result<Value> {
    g.within("members", |g| {
        let scale = weights.get(g, "scale.weight")?;
        let x = g.unsqueeze(x, &[1]);
        Ok(g.mul(&x, &scale))
    })
}

/// A linear layer of each member's own: `[N, k, W]` to `[N, k K]`.
fn heads(
    g: &mut Graph,
    x: &Value,
    weights: &Weights,
    (members, months): (usize, usize),
) -> Result<Value> {
    let tensor = weights.tensor("head.weight")?;
    let width = tensor.shape[1];
    // Member by member, `[k, W, K]`.
    let mut turned = vec![0.0; tensor.values.len()];
    for (output, row) in tensor.values.chunks(width.max(1)).enumerate() {
        let (member, month) = (output / months, output % months);
        for (column, &value) in row.iter().enumerate() {
            turned[(member * width + column) * months + month] = value;
        }
    }
    let weight = g.f32s("head.weight", &[members, width, months], &turned);
    let by_member = g.transpose(x, &[1, 0, 2]);
    let product = g.matmul(&by_member, &weight);
    let product = g.transpose(&product, &[1, 0, 2]);
    let product = g.reshape(&product, &[-1, (members * months) as i64]);
    let bias = weights.get(g, "head.bias")?;
    Ok(g.add(&product, &bias))
}
