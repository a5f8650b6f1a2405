//! The operator TreeEnsembleRegressor of ai.onnx.ml 3, after its specification. tract 0.23.9 has
//! TreeEnsembleClassifier alone, which looks for each tree's leaf from the first leaf of all trees
//! on: with 1,500 trees it takes a second or more for a row.
//!
//! One target and sums of leaves as they are; anything else is refused.

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

pub const NAME: &str = "TreeEnsembleRegressor";

/// Reads a node of the file.
pub fn read(
    _: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    Ok((expand(Regressor(Arc::new(Trees::read(node)?))), vec![]))
}

#[derive(Debug)]
struct Trees {
    base: f64,
    /// Of each tree, in `nodes`.
    roots: Vec<usize>,
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy)]
enum Node {
    Ask { column: usize, mode: Mode, threshold: f32, yes: usize, no: usize, missing: usize },
    Leaf(f32),
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    LessOrEqual,
    Less,
    GreaterOrEqual,
    Greater,
    Equal,
    NotEqual,
}

impl Mode {
    fn read(text: &str) -> TractResult<Self> {
        Ok(match text {
            "BRANCH_LEQ" => Mode::LessOrEqual,
            "BRANCH_LT" => Mode::Less,
            "BRANCH_GTE" => Mode::GreaterOrEqual,
            "BRANCH_GT" => Mode::Greater,
            "BRANCH_EQ" => Mode::Equal,
            "BRANCH_NEQ" => Mode::NotEqual,
            other => bail!("there is no mode `{other}`"),
        })
    }

    fn holds(self, value: f32, threshold: f32) -> bool {
        match self {
            Mode::LessOrEqual => value <= threshold,
            Mode::Less => value < threshold,
            Mode::GreaterOrEqual => value >= threshold,
            Mode::Greater => value > threshold,
            Mode::Equal => value == threshold,
            Mode::NotEqual => value != threshold,
        }
    }
}

impl Trees {
    fn read(node: &NodeProto) -> TractResult<Self> {
        let plain = node.get_attr_opt::<i64>("n_targets")?.unwrap_or(1) == 1
            && node.get_attr_opt::<&str>("aggregate_function")?.unwrap_or("SUM") == "SUM"
            && node.get_attr_opt::<&str>("post_transform")?.unwrap_or("NONE") == "NONE";
        ensure!(plain, "one target, SUM and NONE are known here");
        let ints = |name: &str| node.get_attr_slice::<i64>(name);
        let floats = |name: &str| node.get_attr_slice::<f32>(name);

        let mut weights = HashMap::new();
        let leaves = ints("target_treeids")?.iter().zip(ints("target_nodeids")?);
        for (key, weight) in leaves.zip(floats("target_weights")?) {
            *weights.entry(key).or_insert(0.0) += weight;
        }
        let keys: Vec<_> = ints("nodes_treeids")?.iter().zip(ints("nodes_nodeids")?).collect();
        let places: HashMap<_, usize> = keys.iter().copied().zip(0..).collect();
        let missing = node.get_attr_opt_slice::<i64>("nodes_missing_value_tracks_true")?;
        let modes: Vec<&str> = node.get_attr_vec("nodes_modes")?;
        let (columns, thresholds) = (ints("nodes_featureids")?, floats("nodes_values")?);
        let children = [ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?];
        let nodes = keys.iter().enumerate().map(|(at, key)| {
            if modes[at] == "LEAF" {
                return Ok(Node::Leaf(*weights.get(key).context("a leaf without a weight")?));
            }
            let child = |side: usize| {
                let place = places.get(&(key.0, &children[side][at]));
                place.copied().context("a child that is not there")
            };
            let (yes, no) = (child(0)?, child(1)?);
            Ok(Node::Ask {
                column: columns[at] as usize,
                mode: Mode::read(modes[at])?,
                threshold: thresholds[at],
                yes,
                no,
                missing: if missing.is_some_and(|missing| missing[at] != 0) { yes } else { no },
            })
        });
        let base = node.get_attr_opt_slice::<f32>("base_values")?.unwrap_or_default();
        Ok(Trees {
            base: base.iter().map(|&base| f64::from(base)).sum(),
            roots: (0..keys.len()).filter(|&at| *keys[at].1 == 0).collect(),
            nodes: nodes.collect::<TractResult<_>>()?,
        })
    }

    fn sum(&self, row: tract_ndarray::ArrayView1<f32>) -> f32 {
        let leaf = |&root: &usize| {
            let mut at = root;
            loop {
                match self.nodes[at] {
                    Node::Leaf(weight) => return f64::from(weight),
                    Node::Ask { column, missing, .. } if row[column].is_nan() => at = missing,
                    Node::Ask { column, mode, threshold, yes, no, .. } => {
                        at = if mode.holds(row[column], threshold) { yes } else { no };
                    }
                }
            }
        };
        (self.base + self.roots.iter().map(leaf).sum::<f64>()) as f32
    }
}

/// In the graph as it is read.
#[derive(Debug, Clone)]
struct Regressor(Arc<Trees>);

impl Expansion for Regressor {
    fn name(&self) -> StaticName {
        NAME.into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].rank, 2)?;
        s.equals(&outputs[0].rank, 2)?;
        s.equals(&outputs[0].datum_type, DatumType::F32)?;
        s.equals(&outputs[0].shape[0], &inputs[0].shape[0])?;
        s.equals(&outputs[0].shape[1], 1.to_dim())
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, Sums(self.0.clone()), inputs)
    }
}

/// In the graph as it runs.
#[derive(Debug, Clone)]
struct Sums(Arc<Trees>);

impl PartialEq for Sums {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Sums {}

impl Op for Sums {
    fn name(&self) -> StaticName {
        NAME.into()
    }

    op_as_typed_op!();
}

impl EvalOp for Sums {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let rows = inputs[0].to_plain_array_view::<f32>()?;
        let sums: Vec<f32> = rows
            .into_dimensionality::<tract_ndarray::Ix2>()?
            .outer_iter()
            .map(|row| self.0.sum(row))
            .collect();
        let count = sums.len();
        Ok(tvec!(tensor1(&sums).into_shape(&[count, 1])?.into_tvalue()))
    }
}

impl TypedOp for Sums {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact([inputs[0].shape[0].clone(), 1.to_dim()])))
    }
}
