//! The networks over months, by the standard operator GRU (gates in the order z, r, h,
//! `linear_before_reset` = 1, time first).
//!
//! A shorter history stands at the end of T, and the months before it must leave the state where
//! it is. They carry a flag that opens the update gate, so that the new state is the old one; that
//! needs no `sequence_lens`, which not every runtime knows, and keeps a state from before the first
//! month. For runtimes without the operator it can be written out, month by month, and the step form
//! takes one month at a time.

use super::super::Attr;
use super::super::blocks::Blocks;
use super::super::graph::{Call, Graph, Value};
use super::super::proto::ElementType::F32;
use super::super::state::State;
use super::{Weights, columns};
use crate::config::{Fusion, GruSpec, History};
use crate::error::{Kind, Result};
use crate::nn::Architecture;

/// Weight of the flag in the update gate: its sigmoid is 1 whatever else comes in.
const HOLD: f32 = 1000.0;

/// Below every state, which lies in -1..1.
const NO_STATE: f64 = -2.0;

/// `[N, K]`.
pub fn gru(
    g: &mut Graph,
    blocks: &mut Blocks,
    architecture: &Architecture,
    weights: &Weights,
) -> Result<Value> {
    let history = stack(g, blocks, (&architecture.gru, weights), &[])?;
    weights.dense(g, &history, "head")
}

/// `[N, K]`; see [`HybridNet`](crate::nn::HybridNet) for the ways to join.
pub fn hybrid(
    g: &mut Graph,
    blocks: &mut Blocks,
    architecture: &Architecture,
    weights: &Weights,
) -> Result<Value> {
    let fixed = trunk(g, blocks, architecture, weights)?;
    let from_static = weights.dense(g, &fixed, "from_static")?;
    let spec = &architecture.gru;
    let joined = match spec.fusion {
        Fusion::Initial => {
            let starts = g.tanh(&from_static);
            let hidden = spec.hidden as i64;
            let start =
                |layer: i64| g.slice(&starts, 1, layer * hidden, Some((layer + 1) * hidden));
            let starts: Vec<Value> = (0..spec.layers as i64).map(start).collect();
            let history = stack(g, blocks, (spec, weights), &starts)?;
            weights.dense(g, &history, "from_state")?
        }
        Fusion::Concatenate => {
            let history = stack(g, blocks, (spec, weights), &[])?;
            let states = weights.dense(g, &history, "from_state")?;
            g.add(&states, &from_static)
        }
        Fusion::Gated => {
            let history = stack(g, blocks, (spec, weights), &[])?;
            let states = weights.dense(g, &history, "from_state")?;
            let gate = weights.dense(g, &history, "gate.of_state")?;
            let of_static = weights.dense(g, &fixed, "gate.of_static")?;
            let gate = g.add(&gate, &of_static);
            let gate = g.sigmoid(&gate);
            let apart = g.sub(&states, &from_static);
            let mixed = g.mul(&gate, &apart);
            g.add(&mixed, &from_static)
        }
    };
    let joined = g.relu(&joined);
    weights.dense(g, &joined, "head")
}

/// The static branch, `[N, width]`.
fn trunk(
    g: &mut Graph,
    blocks: &mut Blocks,
    architecture: &Architecture,
    weights: &Weights,
) -> Result<Value> {
    let numbers = blocks.fixed(g)?;
    g.within("trunk", |g| {
        let weights = weights.under("trunk.");
        let row = columns::row(g, blocks, (architecture, &weights), numbers)?;
        let mut x = weights.dense(g, &row, "input")?;
        for block in 0..architecture.mlp.blocks {
            let name = |part: &str| format!("blocks.{block}.{part}");
            let hidden = layer_norm(g, &x, &weights, &name("norm"))?;
            let hidden = weights.dense(g, &hidden, &name("wide"))?;
            let hidden = g.relu(&hidden);
            let hidden = weights.dense(g, &hidden, &name("back"))?;
            x = g.add(&x, &hidden);
        }
        let x = layer_norm(g, &x, &weights, "norm")?;
        Ok(g.relu(&x))
    })
}

/// Of burn's layers.
const EPSILON: f64 = 1e-5;

fn layer_norm(g: &mut Graph, x: &Value, weights: &Weights, name: &str) -> Result<Value> {
    g.within(name, |g| {
        let mean = g.reduce_mean(x, -1);
        let centred = g.sub(x, &mean);
        let squares = g.mul(&centred, &centred);
        let variance = g.reduce_mean(&squares, -1);
        let variance = g.add_number(&variance, EPSILON);
        let deviation = g.sqrt(&variance);
        let normal = g.div(&centred, &deviation);
        let gamma = weights.get(g, &format!("{name}.gamma"))?;
        let beta = weights.get(g, &format!("{name}.beta"))?;
        let scaled = g.mul(&normal, &gamma);
        Ok(g.add(&scaled, &beta))
    })
}

/// What the recurrent layers say at the as-of month, `[N, H]` or `[N, 3H]`. `starts` are states
/// before the first month, `[N, H]` of each layer; none for zeros.
fn stack(
    g: &mut Graph,
    blocks: &mut Blocks,
    (spec, weights): (&GruSpec, &Weights),
    starts: &[Value],
) -> Result<Value> {
    let months = blocks.months(g)?;
    if let Some(state) = &blocks.inputs.state {
        return stepped(g, (state, &months), (spec, weights), starts);
    }
    let valid = blocks.history()?.valid()?;
    let valid = g.transpose(&valid, &[1, 0]);
    let valid = g.unsqueeze(&valid, &[2]);
    // Time first, `[T, N, ..]`, from here on.
    let mut x = g.transpose(&months, &[1, 0, 2]);
    let mut last = None;
    for layer in 0..spec.layers {
        let start = starts.get(layer);
        let found = g.within(&format!("gru.{layer}"), |g| match blocks.inputs.unroll {
            None => operator(g, (&x, &valid), (spec, weights, layer), start),
            Some(months) => unrolled(g, (&x, &valid), (spec, weights, layer), (start, months)),
        })?;
        x = found.0;
        last = Some(found.1);
    }
    let last = last.ok_or_else(|| Kind::Corrupt.msg("a GRU without layers"))?;
    Ok(match spec.history {
        History::Last => last,
        History::Pooled => g.within("history", |g| {
            let none = g.scalar(0.0, F32);
            let shown = g.choose(&valid, &x, &none);
            let sum = g.reduce_sum(&shown, 0);
            let count = g.cast(&valid, F32);
            let count = g.reduce_sum(&count, 0);
            let mean = g.div(&sum, &count);
            let mean = g.squeeze(&mean, &[0]);
            let most = g.scalar(NO_STATE, F32);
            let most = g.choose(&valid, &x, &most);
            let most = g.reduce_max(&most, 0);
            let most = g.squeeze(&most, &[0]);
            g.concat(1, &[last, mean, most])
        }),
    })
}

/// All states `[T, N, H]` and the last one `[N, H]`.
fn operator(
    g: &mut Graph,
    (x, valid): (&Value, &Value),
    (spec, weights, layer): (&GruSpec, &Weights, usize),
    start: Option<&Value>,
) -> Result<(Value, Value)> {
    let hidden = spec.hidden;
    let name = |part: &str| format!("stack.layers.{layer}.{part}");
    let before = g.not(valid);
    let hold = g.cast(&before, F32);
    let flagged = g.concat(2, &[x.clone(), hold]);
    let input = weights.tensor(&name("input_weight"))?;
    let width = input.shape[0];
    let mut turned = gates(&input.values, width, hidden);
    // One more input: the flag, in the update gate alone.
    turned = (turned.chunks(width.max(1)).enumerate())
        .flat_map(|(row, values)| {
            let flag = if row < hidden { HOLD } else { 0.0 };
            values.iter().copied().chain([flag])
        })
        .collect();
    let input = g.f32s(&name("W"), &[1, 3 * hidden, width + 1], &turned);
    let recurrent = weights.tensor(&name("hidden_weight"))?;
    let turned = gates(&recurrent.values, hidden, hidden);
    let recurrent = g.f32s(&name("R"), &[1, 3 * hidden, hidden], &turned);
    let mut biases = gates(&weights.tensor(&name("input_bias"))?.values, 1, hidden);
    biases.extend(gates(&weights.tensor(&name("hidden_bias"))?.values, 1, hidden));
    let biases = g.f32s(&name("B"), &[1, 6 * hidden], &biases);
    let start = start.map(|start| g.unsqueeze(start, &[0]));
    let call = Call {
        operator: "GRU",
        domain: "",
        inputs: &[
            Some(&flagged),
            Some(&input),
            Some(&recurrent),
            Some(&biases),
            None,
            start.as_ref(),
        ],
        attributes: vec![
            ("hidden_size", Attr::Int(hidden as i64)),
            ("linear_before_reset", Attr::Int(1)),
        ],
        outputs: &[F32, F32],
    };
    let found = g.call(call);
    Ok((g.squeeze(&found[0], &[1]), g.squeeze(&found[1], &[0])))
}

/// The same month by month, in operators that every runtime has.
fn unrolled(
    g: &mut Graph,
    (x, valid): (&Value, &Value),
    (spec, weights, layer): (&GruSpec, &Weights, usize),
    (start, months): (Option<&Value>, usize),
) -> Result<(Value, Value)> {
    let layer = Layer::new(g, (spec, weights, layer))?;
    let from_input = layer.outer(g, x);
    let mut state = match start {
        Some(start) => start.clone(),
        None => {
            let first = at_month(g, x, 0);
            g.zeros(&first, spec.hidden)
        }
    };
    let mut states = Vec::with_capacity(months);
    for month in 0..months {
        let next = g.within(&format!("month_{month}"), |g| {
            let outer = at_month(g, &from_input, month);
            let next = layer.next(g, &outer, &state);
            let known = at_month(g, valid, month);
            g.choose(&known, &next, &state)
        });
        states.push(g.unsqueeze(&next, &[0]));
        state = next;
    }
    Ok((g.concat(0, &states), state))
}

/// One month from the states of the month before, which are kept. `months` is `[N, 1, W]`.
fn stepped(
    g: &mut Graph,
    (state, months): (&State, &Value),
    (spec, weights): (&GruSpec, &Weights),
    starts: &[Value],
) -> Result<Value> {
    let none = g.scalar(0.0, F32);
    let mut x = g.squeeze(months, &[1]);
    for layer in 0..spec.layers {
        let start = starts.get(layer).unwrap_or(&none);
        x = g.within(&format!("gru.{layer}"), |g| {
            let layer = Layer::new(g, (spec, weights, layer))?;
            let outer = layer.outer(g, &x);
            let (before, slot) = state.before(g, spec.hidden, start);
            let next = layer.next(g, &outer, &before);
            state.keep(slot, &next);
            Ok(next)
        })?;
    }
    Ok(match spec.history {
        History::Last => x,
        History::Pooled => g.within("history", |g| {
            let (before, slot) = state.before(g, spec.hidden, &none);
            let sum = g.add(&before, &x);
            state.keep(slot, &sum);
            let count = g.cast(&state.length, F32);
            let mean = g.div(&sum, &count);
            let least = g.scalar(NO_STATE, F32);
            let (before, slot) = state.before(g, spec.hidden, &least);
            let most = g.most(&[before, x.clone()]);
            state.keep(slot, &most);
            g.concat(1, &[x, mean, most])
        }),
    })
}

/// A recurrent layer in operators that every runtime has.
struct Layer {
    input: Value,
    input_bias: Value,
    recurrent: Value,
    recurrent_bias: Value,
    hidden: i64,
}

impl Layer {
    fn new(g: &mut Graph, (spec, weights, at): (&GruSpec, &Weights, usize)) -> Result<Self> {
        let mut get = |part: &str| weights.get(g, &format!("stack.layers.{at}.{part}"));
        Ok(Layer {
            input: get("input_weight")?,
            input_bias: get("input_bias")?,
            recurrent: get("hidden_weight")?,
            recurrent_bias: get("hidden_bias")?,
            hidden: spec.hidden as i64,
        })
    }

    /// What the input gives each gate: r, z, n.
    fn outer(&self, g: &mut Graph, x: &Value) -> Value {
        let product = g.matmul(x, &self.input);
        g.add(&product, &self.input_bias)
    }

    /// The next state, `[N, H]`.
    fn next(&self, g: &mut Graph, outer: &Value, state: &Value) -> Value {
        let inner = g.matmul(state, &self.recurrent);
        let inner = g.add(&inner, &self.recurrent_bias);
        let gate = |g: &mut Graph, of: &Value, at: i64| {
            g.slice(of, 1, at * self.hidden, Some((at + 1) * self.hidden))
        };
        let [reset, update] = [0, 1].map(|at| {
            let parts = [gate(g, outer, at), gate(g, &inner, at)];
            let sum = g.add(&parts[0], &parts[1]);
            g.sigmoid(&sum)
        });
        let remembered = gate(g, &inner, 2);
        let remembered = g.mul(&reset, &remembered);
        let new = gate(g, outer, 2);
        let new = g.add(&new, &remembered);
        let new = g.tanh(&new);
        let back = g.sub(state, &new);
        let back = g.mul(&update, &back);
        g.add(&new, &back)
    }
}

/// One month of `[T, N, W]`, `[N, W]`.
fn at_month(g: &mut Graph, x: &Value, month: usize) -> Value {
    let month = month as i64;
    let one = g.slice(x, 0, month, Some(month + 1));
    g.squeeze(&one, &[0])
}

/// `[inputs, 3H]` in the order r, z, n to `[3H, inputs]` in the order z, r, n.
fn gates(weight: &[f32], inputs: usize, hidden: usize) -> Vec<f32> {
    let mut turned = Vec::with_capacity(weight.len());
    for gate in [1, 0, 2] {
        for unit in 0..hidden {
            let column = gate * hidden + unit;
            turned.extend((0..inputs).map(|input| weight[input * 3 * hidden + column]));
        }
    }
    turned
}
