//! The kernel on tensors of the flex backend.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;

use super::{InputGradient, Keep, Masking, Parts};
use crate::nn::ops::native::gru::{self, Gates, Inputs, Shape, Upstream, Weights};
use crate::nn::ops::native::tensor::{numbers, tensor};

type Flexible = FloatTensor<Flex>;

/// What the backward pass needs.
#[derive(Clone, Debug)]
pub struct Saved {
    /// Contiguous.
    parts: Parts<Flex>,
    states: Flexible,
    gates: Arc<Gates>,
}

pub fn forward(parts: Parts<Flex>, keep: Keep) -> (Flexible, Option<Saved>) {
    let parts = contiguous(parts);
    let shape = shape(&parts);
    let (states, gates) = gru::forward(shape, &inputs(&parts), &weights(&parts), keep);
    let states = tensor(states, [shape.rows, shape.months, shape.hidden]);
    let saved = gates.map(|gates| Saved { parts, states: states.clone(), gates: Arc::new(gates) });
    (states, saved)
}

pub fn backward(
    saved: Saved,
    gradient: Flexible,
    input_gradient: InputGradient,
) -> Parts<Flex, Option<Flexible>> {
    let Saved { parts, states, gates } = saved;
    let gradient = gradient.to_contiguous();
    let shape = shape(&parts);
    let upstream =
        Upstream { states: numbers(&states), gates: &gates, gradient: numbers(&gradient) };
    let found = gru::backward(shape, &inputs(&parts), &weights(&parts), &upstream, input_gradient);
    let Shape { rows, months, inputs, hidden } = shape;
    Parts {
        x: found.x.map(|x| tensor(x, [rows, months, inputs])),
        start: Some(tensor(found.start, [rows, hidden])),
        input: Some(tensor(found.input, [inputs, 3 * hidden])),
        input_bias: Some(tensor(found.input_bias, [1, 3 * hidden])),
        hidden: Some(tensor(found.hidden, [hidden, 3 * hidden])),
        hidden_bias: Some(tensor(found.hidden_bias, [1, 3 * hidden])),
        mask: parts.mask,
        masking: parts.masking,
    }
}

fn contiguous(parts: Parts<Flex>) -> Parts<Flex> {
    Parts {
        x: parts.x.to_contiguous(),
        start: parts.start.to_contiguous(),
        input: parts.input.to_contiguous(),
        input_bias: parts.input_bias.to_contiguous(),
        hidden: parts.hidden.to_contiguous(),
        hidden_bias: parts.hidden_bias.to_contiguous(),
        mask: parts.mask.to_contiguous(),
        masking: parts.masking,
    }
}

fn shape(parts: &Parts<Flex>) -> Shape {
    let (x, hidden) = (parts.x.shape(), parts.hidden.shape());
    Shape { rows: x[0], months: x[1], inputs: x[2], hidden: hidden[0] }
}

fn inputs(parts: &Parts<Flex>) -> Inputs<'_> {
    Inputs {
        x: numbers(&parts.x),
        start: numbers(&parts.start),
        mask: (parts.masking == Masking::ByMonth).then(|| numbers(&parts.mask)),
    }
}

fn weights(parts: &Parts<Flex>) -> Weights<'_> {
    Weights {
        input: numbers(&parts.input),
        input_bias: numbers(&parts.input_bias),
        hidden: numbers(&parts.hidden),
        hidden_bias: numbers(&parts.hidden_bias),
    }
}
