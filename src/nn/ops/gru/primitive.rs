//! The GRU in tensor primitives, for wide layers on GPUs and for backends without a kernel of ours.
//!
//! The inputs of all months are projected by one product, and one product makes each weight
//! gradient; between them stand two products per month, forward and backward.

use burn::backend::Backend;
use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::prelude::Shape;
use burn::tensor::Slice;

use super::{InputGradient, Keep, Masking, Parts};

/// What the backward pass needs.
#[derive(Clone, Debug)]
pub struct Saved<B: Backend> {
    parts: Parts<B>,
    months: Vec<Step<B>>,
}

/// One month, `[B, H]` each.
#[derive(Clone, Debug)]
struct Step<B: Backend> {
    before: FloatTensor<B>,
    reset: FloatTensor<B>,
    update: FloatTensor<B>,
    candidate: FloatTensor<B>,
    /// u_n, the recurrent part of the candidate before the reset gate.
    recurrent: FloatTensor<B>,
    state: FloatTensor<B>,
}

/// States `[B, T, H]`, and the months if they are to be kept.
pub fn forward<B: Backend>(parts: Parts<B>, keep: Keep) -> (FloatTensor<B>, Saved<B>) {
    let shape = parts.x.shape();
    let (rows, months, inputs) = (shape[0], shape[1], shape[2]);
    let gates = parts.input.shape()[1];
    let flat = B::float_reshape(by_month::<B>(&parts.x), Shape::new([months * rows, inputs]));
    let projected = B::float_matmul(flat, parts.input.clone());
    let projected = B::float_add(projected, parts.input_bias.clone());
    let projected = B::float_reshape(projected, Shape::new([months, rows, gates]));
    let mut state = parts.start.clone();
    let (mut states, mut steps) = (Vec::with_capacity(months), Vec::new());
    for month in 0..months {
        let one = B::float_slice(projected.clone(), &[range(month, month + 1), full(), full()]);
        let x = B::float_reshape(one, Shape::new([rows, gates]));
        let done = step::<B>(x, state, &parts, month_mask::<B>(&parts, month));
        state = done.state.clone();
        states.push(with_month_axis::<B>(state.clone()));
        if keep == Keep::Gates {
            steps.push(done);
        }
    }
    (B::float_cat(states, 1), Saved { parts, months: steps })
}

fn step<B: Backend>(
    x: FloatTensor<B>,
    before: FloatTensor<B>,
    parts: &Parts<B>,
    mask: Option<FloatTensor<B>>,
) -> Step<B> {
    let hidden = before.shape()[1];
    let gate = |all: &FloatTensor<B>, from: usize, to: usize| {
        B::float_slice(all.clone(), &[full(), range(from * hidden, to * hidden)])
    };
    let u = B::float_matmul(before.clone(), parts.hidden.clone());
    let u = B::float_add(u, parts.hidden_bias.clone());
    let both = B::sigmoid(B::float_add(gate(&x, 0, 2), gate(&u, 0, 2)));
    let (reset, mut update) = (gate(&both, 0, 1), gate(&both, 1, 2));
    if let Some(mask) = mask {
        // An update gate of 1 keeps the state, and no gradient passes it.
        let skipped = B::float_add_scalar(B::float_neg(mask.clone()), 1.0.into());
        update = B::float_add(B::float_mul(update, mask), skipped);
    }
    let recurrent = gate(&u, 2, 3);
    let candidate =
        B::float_tanh(B::float_add(gate(&x, 2, 3), B::float_mul(reset.clone(), recurrent.clone())));
    // In this form an update gate of exactly 1 gives exactly the state before.
    let rest = B::float_add_scalar(B::float_neg(update.clone()), 1.0.into());
    let change = B::float_mul(rest, B::float_sub(candidate.clone(), before.clone()));
    let state = B::float_add(before.clone(), change);
    Step { before, reset, update, candidate, recurrent, state }
}

/// Gradients, given that of the states `[B, T, H]`.
pub fn backward<B: Backend>(
    saved: Saved<B>,
    gradient: FloatTensor<B>,
    input_gradient: InputGradient,
) -> Parts<B, Option<FloatTensor<B>>> {
    let Saved { parts, months } = saved;
    let transposed = B::float_transpose(parts.hidden);
    let mut later: Option<FloatTensor<B>> = None;
    let (mut d_inputs, mut d_recurrents, mut befores) = (Vec::new(), Vec::new(), Vec::new());
    for (month, step) in months.into_iter().enumerate().rev() {
        let here = month_of::<B>(&gradient, month);
        let d_state = match later.take() {
            Some(later) => B::float_add(later, here),
            None => here,
        };
        befores.push(step.before.clone());
        let (d_input, d_recurrent, d_kept) = step_backward(step, d_state);
        let through = B::float_matmul(d_recurrent.clone(), transposed.clone());
        later = Some(B::float_add(d_kept, through));
        d_inputs.push(d_input);
        d_recurrents.push(d_recurrent);
    }
    let shape = parts.x.shape();
    let (rows, count, inputs) = (shape[0], shape[1], shape[2]);
    d_inputs.reverse();
    let d_input = B::float_cat(d_inputs, 0); // [T * B, 3H]
    let d_recurrent = B::float_cat(d_recurrents, 0);
    let before = B::float_transpose(B::float_cat(befores, 0));
    let flat = B::float_reshape(by_month::<B>(&parts.x), Shape::new([count * rows, inputs]));
    let d_x = match input_gradient {
        InputGradient::Wanted => {
            let d_x = B::float_matmul(d_input.clone(), B::float_transpose(parts.input));
            let d_x = B::float_reshape(d_x, Shape::new([count, rows, inputs]));
            Some(B::float_swap_dims(d_x, 0, 1))
        }
        InputGradient::Unused => None,
    };
    Parts {
        x: d_x,
        start: later,
        input: Some(B::float_matmul(B::float_transpose(flat), d_input.clone())),
        input_bias: Some(B::float_sum_dim(d_input, 0)),
        hidden: Some(B::float_matmul(before, d_recurrent.clone())),
        hidden_bias: Some(B::float_sum_dim(d_recurrent, 0)),
        mask: parts.mask,
        masking: parts.masking,
    }
}

/// Gradients of one month's gates before their activations: of i `[B, 3H]`, of u `[B, 3H]`, and
/// of the state before it as far as it was kept `[B, H]`.
fn step_backward<B: Backend>(
    step: Step<B>,
    d_state: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let Step { before, reset, update, candidate, recurrent, .. } = step;
    let d_kept = B::float_mul(d_state.clone(), update.clone());
    let d_candidate = B::float_sub(d_state.clone(), d_kept.clone());
    let square = B::float_mul(candidate.clone(), candidate.clone());
    let one_less = B::float_add_scalar(B::float_neg(square), 1.0.into());
    let d_n = B::float_mul(d_candidate, one_less);
    let d_update = B::float_mul(d_state, B::float_sub(before, candidate));
    let d_z = B::sigmoid_backward(update, d_update);
    let d_r = B::sigmoid_backward(reset.clone(), B::float_mul(d_n.clone(), recurrent));
    let d_u_n = B::float_mul(d_n.clone(), reset);
    let d_input = B::float_cat(vec![d_r.clone(), d_z.clone(), d_n], 1);
    let d_recurrent = B::float_cat(vec![d_r, d_z, d_u_n], 1);
    (d_input, d_recurrent, d_kept)
}

fn range(from: usize, to: usize) -> Slice {
    Slice::new(from as isize, Some(to as isize), 1)
}

fn full() -> Slice {
    Slice::new(0, None, 1)
}

/// `[B, T, K]` to `[T, B, K]`.
fn by_month<B: Backend>(all: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_swap_dims(all.clone(), 0, 1)
}

/// `[B, T, K]` to the `[B, K]` of one month.
fn month_of<B: Backend>(all: &FloatTensor<B>, month: usize) -> FloatTensor<B> {
    let shape = all.shape();
    let one = B::float_slice(all.clone(), &[full(), range(month, month + 1), full()]);
    B::float_reshape(one, Shape::new([shape[0], shape[2]]))
}

/// `[B, 1]` of one month; None if nothing is masked.
fn month_mask<B: Backend>(parts: &Parts<B>, month: usize) -> Option<FloatTensor<B>> {
    (parts.masking == Masking::ByMonth)
        .then(|| B::float_slice(parts.mask.clone(), &[full(), range(month, month + 1)]))
}

/// `[B, K]` to `[B, 1, K]`.
fn with_month_axis<B: Backend>(one: FloatTensor<B>) -> FloatTensor<B> {
    let shape = one.shape();
    B::float_reshape(one, Shape::new([shape[0], 1, shape[1]]))
}
