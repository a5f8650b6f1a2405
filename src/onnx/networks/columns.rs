//! The columns of a batch as one row for a dense layer, as [`Inputs`](crate::nn) joins them.

use super::super::blocks::Blocks;
use super::super::graph::{Graph, Value};
use super::Weights;
use crate::error::Result;
use crate::nn::Architecture;

/// Embedded numbers, numbers as they are, embedded categories: `[N, W]`. `numbers` is `[N, F]`.
pub fn row(
    g: &mut Graph,
    blocks: &Blocks,
    (architecture, weights): (&Architecture, &Weights),
    numbers: Option<Value>,
) -> Result<Value> {
    g.within("inputs", |g| {
        let mut parts = match numbers {
            Some(numbers) => embedded(g, (architecture, weights), &numbers)?,
            // A batch without numbers holds one column of zeros.
            None => {
                let any = blocks.inputs.any()?;
                vec![g.zero_column(&any)]
            }
        };
        for (at, codes) in blocks.codes(g).iter().enumerate() {
            let name = format!("inputs.embeddings.{at}.weight");
            let table = weights.get(g, &name)?;
            let width = weights.tensor(&name)?.shape[1] as i64;
            let found = g.gather(&table, codes, 0);
            parts.push(g.reshape(&found, &[-1, width]));
        }
        Ok(g.concat(1, &parts))
    })
}

/// Numbers with bins by piecewise-linear embeddings, then numbers without.
fn embedded(
    g: &mut Graph,
    (architecture, weights): (&Architecture, &Weights),
    numbers: &Value,
) -> Result<Vec<Value>> {
    let all = 0..architecture.borders.len();
    let (binned, plain): (Vec<i64>, Vec<i64>) = all
        .map(|column| column as i64)
        .partition(|&column| !architecture.borders[column as usize].is_empty());
    if binned.is_empty() {
        return Ok(vec![numbers.clone()]);
    }
    let mut pick = |columns: &[i64]| {
        let columns = g.ints(columns);
        g.gather(numbers, &columns, 1)
    };
    let x = if plain.is_empty() { numbers.clone() } else { pick(&binned) };
    let mut parts = vec![];
    let rest = (!plain.is_empty()).then(|| pick(&plain));
    parts.push(g.within("pieces", |g| pieces(g, (architecture, weights), &binned, &x))?);
    parts.extend(rest);
    Ok(parts)
}

/// bias + x slope + sum over bins of weight clamp((x - low) / width, 0, 1), `[N, F D]`.
fn pieces(
    g: &mut Graph,
    (architecture, weights): (&Architecture, &Weights),
    binned: &[i64],
    x: &Value,
) -> Result<Value> {
    let tensor = weights.tensor("inputs.pieces.weight")?;
    let (count, most, width) = (binned.len(), tensor.shape[1], tensor.shape[2]);
    let (mut lows, mut inverses) = (Vec::new(), Vec::new());
    for &column in binned {
        let bins = architecture.borders[column as usize].windows(2);
        let end = lows.len() + most;
        lows.extend(bins.clone().map(|bin| bin[0]));
        inverses.extend(bins.map(|bin| 1.0 / (bin[1] - bin[0])));
        // A bin that is not there is never entered.
        lows.resize(end, 0.0);
        inverses.resize(end, 0.0);
    }
    let lows = g.f32s("borders", &[count, most], &lows);
    let inverses = g.f32s("inverse_widths", &[count, most], &inverses);
    let one_by_one = g.unsqueeze(x, &[2]);
    let share = g.sub(&one_by_one, &lows);
    let share = g.mul(&share, &inverses);
    let share = g.unit(&share);
    let share = g.transpose(&share, &[1, 0, 2]);
    let weight = weights.get(g, "inputs.pieces.weight")?;
    let sum = g.matmul(&share, &weight);
    let sum = g.transpose(&sum, &[1, 0, 2]);
    let slope = weights.get(g, "inputs.pieces.slope")?;
    let bias = weights.get(g, "inputs.pieces.bias")?;
    let line = g.mul(&one_by_one, &slope);
    let sum = g.add(&sum, &line);
    let sum = g.add(&sum, &bias);
    Ok(g.reshape(&sum, &[-1, (count * width) as i64]))
}
