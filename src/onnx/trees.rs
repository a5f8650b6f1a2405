//! Trees by the operator TreeEnsembleRegressor. Columns, thresholds and leaves are 32-bit numbers
//! there as here, so that every row goes the same way.

use super::blocks::Blocks;
use super::graph::{Attr, Call, Graph, ML, Value};
use super::proto::ElementType::F32;
use crate::baseline::trees::{Tree, Trees};
use crate::error::{Kind, Result};

/// Log-odds `[N, 1]`.
pub fn log_odds(g: &mut Graph, blocks: &mut Blocks, trees: &Trees) -> Result<Value> {
    let raw = blocks.raw_snapshot(g)?;
    let raw = raw.ok_or_else(|| Kind::Corrupt.msg("trees without a column"))?;
    let mut nodes = Nodes::default();
    let mut bias = trees.bias;
    for tree in &trees.trees {
        match tree.columns.is_empty() {
            // A tree that asks nothing is a number.
            true => bias += tree.leaves.iter().map(|&leaf| f64::from(leaf)).sum::<f64>(),
            false => nodes.push(tree, &trees.categories),
        }
    }
    if nodes.trees.is_empty() {
        let any = blocks.inputs.any()?;
        let none = g.zero_column(&any);
        return Ok(g.add_number(&none, bias));
    }
    let attributes = nodes.attributes(bias);
    let call = Call {
        operator: "TreeEnsembleRegressor",
        domain: ML,
        inputs: &[Some(&raw)],
        attributes,
        outputs: &[F32],
    };
    Ok(g.call(call).remove(0))
}

/// The nodes of all trees, leaves among them, as the operator wants them: one list per property.
#[derive(Default)]
struct Nodes {
    trees: Vec<i64>,
    ids: Vec<i64>,
    columns: Vec<i64>,
    modes: Vec<String>,
    thresholds: Vec<f32>,
    yes: Vec<i64>,
    no: Vec<i64>,
    leaf_trees: Vec<i64>,
    leaf_ids: Vec<i64>,
    leaves: Vec<f32>,
    count: i64,
}

impl Nodes {
    /// Leaves are numbered behind the nodes that ask.
    fn push(&mut self, tree: &Tree, categories: &[bool]) {
        let asking = tree.columns.len();
        let place = |child: i32| match child {
            0.. => i64::from(child),
            _ => asking as i64 - 1 - i64::from(child),
        };
        for node in 0..asking {
            let column = tree.columns[node] as usize;
            // Missing numbers are not greater than anything, and so go with no.
            let mode = if categories[column] { "BRANCH_EQ" } else { "BRANCH_GT" };
            let [no, yes] = tree.children[node].map(place);
            self.add(node, (column, mode, tree.thresholds[node]), (yes, no));
        }
        for (leaf, &value) in tree.leaves.iter().enumerate() {
            self.add(asking + leaf, (0, "LEAF", 0.0), (0, 0));
            self.leaf_trees.push(self.count);
            self.leaf_ids.push((asking + leaf) as i64);
            self.leaves.push(value);
        }
        self.count += 1;
    }

    fn add(&mut self, id: usize, ask: (usize, &str, f32), (yes, no): (i64, i64)) {
        self.trees.push(self.count);
        self.ids.push(id as i64);
        self.columns.push(ask.0 as i64);
        self.modes.push(ask.1.to_owned());
        self.thresholds.push(ask.2);
        self.yes.push(yes);
        self.no.push(no);
    }

    fn attributes(self, bias: f64) -> Vec<(&'static str, Attr<'static>)> {
        let nodes = self.ids.len();
        vec![
            ("n_targets", Attr::Int(1)),
            ("aggregate_function", Attr::Text("SUM")),
            ("post_transform", Attr::Text("NONE")),
            ("base_values", Attr::Floats(vec![bias as f32])),
            ("nodes_treeids", Attr::Ints(self.trees)),
            ("nodes_nodeids", Attr::Ints(self.ids)),
            ("nodes_featureids", Attr::Ints(self.columns)),
            ("nodes_modes", Attr::Texts(self.modes)),
            ("nodes_values", Attr::Floats(self.thresholds)),
            ("nodes_truenodeids", Attr::Ints(self.yes)),
            ("nodes_falsenodeids", Attr::Ints(self.no)),
            ("nodes_missing_value_tracks_true", Attr::Ints(vec![0; nodes])),
            ("target_treeids", Attr::Ints(self.leaf_trees)),
            ("target_nodeids", Attr::Ints(self.leaf_ids)),
            ("target_ids", Attr::Ints(vec![0; self.leaves.len()])),
            ("target_weights", Attr::Floats(self.leaves)),
        ]
    }
}
