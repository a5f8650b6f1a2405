//! The logistic regression: a product with the numbers of a snapshot, and a weight for each code.

use super::blocks::Blocks;
use super::graph::{Graph, Value};
use super::proto::ElementType::F64;
use crate::baseline::Logistic;
use crate::error::Result;

/// Log-odds `[N, 1]`, in 64 bits like the weights. The columns are those of
/// [`features::design`](crate::features::design).
pub fn log_odds(g: &mut Graph, blocks: &mut Blocks, logistic: &Logistic) -> Result<Value> {
    let numbers = blocks.snapshot(g)?;
    let codes = blocks.codes(g);
    let counts = blocks.fitted.category_codes();
    let of_codes: usize = counts.iter().map(|codes| codes - 1).sum();
    let (of_numbers, mut rest) =
        logistic.weights.split_at(logistic.weights.len().saturating_sub(of_codes));
    let bias = g.f64s("bias", &[1], &[logistic.bias]);
    let mut parts = Vec::new();
    match numbers {
        Some(numbers) => {
            let numbers = g.cast(&numbers, F64);
            let weights = g.f64s("weights", &[of_numbers.len(), 1], of_numbers);
            let product = g.matmul(&numbers, &weights);
            parts.push(g.add(&product, &bias));
        }
        None => {
            let any = blocks.inputs.any()?;
            let none = g.zero_column(&any);
            let none = g.cast(&none, F64);
            parts.push(g.add(&none, &bias));
        }
    }
    for ((codes, count), fitted) in codes.iter().zip(counts).zip(&blocks.fitted.static_categories) {
        let (own, others) = rest.split_at(count - 1);
        rest = others;
        // The first code has no column.
        let table: Vec<f64> = std::iter::once(0.0).chain(own.iter().copied()).collect();
        let table = g.f64s(&format!("{}.weights", fitted.name), &[table.len()], &table);
        parts.push(g.gather(&table, codes, 0));
    }
    Ok(g.sum(&parts))
}
