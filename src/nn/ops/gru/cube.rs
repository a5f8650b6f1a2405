//! The GRU on a GPU, by the kernels of [`gpu`](crate::nn::ops::gpu): a product for the inputs of
//! all months, one launch for the recurrence; backward the recurrence, and for each weight a
//! product over all rows and months.

#![expect(clippy::type_complexity, reason = "burn's macro must see the tuple, not its name")]

use burn::backend::fusion::Fusion;
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::prelude::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::{GruKernel, InputGradient, Keep, Masking, Parts, Saved, primitive};
use crate::nn::ops::gpu::empty;
use crate::nn::ops::gpu::product::{Ending, Factors, Weight, product};
use crate::nn::ops::gpu::recurrence::{self, HIDDEN_MAX, Mode, ROWS_MAX, Tile, Way};
use crate::nn::ops::gpu::row_products::{Left, Right, row_products};

/// What the backward pass needs.
#[derive(Debug, Clone)]
pub struct Kept<B: Backend> {
    parts: Parts<B>,
    /// `[B, T, H]`.
    states: FloatTensor<B>,
    /// `[B, T, 4H]`.
    gates: FloatTensor<B>,
}

/// The passes as operations that burn's fusion takes as they are. Arguments are those of
/// [`Parts`], for H up to [`HIDDEN_MAX`].
#[backend_extension(Cube, Fusion)]
pub trait Recurrence: Backend {
    #[fusion(meta = |x, start, _input, _input_bias, _hidden, _hidden_bias, _mask, _masking| {
        wide(x, start, 1)
    })]
    fn gru_states(
        x: FloatTensor<Self>,
        start: FloatTensor<Self>,
        input: FloatTensor<Self>,
        input_bias: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        hidden_bias: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        masking: Masking,
    ) -> FloatTensor<Self>;

    /// States and gates `[B, T, 4H]`.
    #[fusion(meta = |x, start, _input, _input_bias, _hidden, _hidden_bias, _mask, _masking| {
        (wide(x, start, 1), wide(x, start, 4))
    })]
    fn gru_states_and_gates(
        x: FloatTensor<Self>,
        start: FloatTensor<Self>,
        input: FloatTensor<Self>,
        input_bias: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        hidden_bias: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        masking: Masking,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// From the gradient of the states to those of the projected inputs `[B, T, 3H]`, of `start`,
    /// and of input, input bias, hidden and hidden bias.
    #[fusion(meta = |x, start, hidden, _states, _gates, _gradient| {
        let input = flat(&[x.shape[2], hidden.shape[1]], x);
        let bias = flat(&[1, hidden.shape[1]], x);
        (wide(x, start, 3), start.clone(), input, bias.clone(), hidden.clone(), bias)
    })]
    fn gru_gradients(
        x: FloatTensor<Self>,
        start: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        states: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );
}

/// A product with a transposed weight, for the gradient of the input.
#[backend_extension(Cube, Fusion)]
pub trait TransposedProduct: Backend {
    /// `x [B, T, K]`, `weight [N, K]` to `[B, T, N]`.
    #[fusion(meta = |x, weight| flat(&[x.shape[0], x.shape[1], weight.shape[0]], x))]
    fn times_transposed(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl TransposedProduct for CubeBackend {
    fn times_transposed(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let [rows, months, inner] = x.shape().dims();
        let [x, weight] = [x, weight].map(into_contiguous);
        let width = weight.shape()[0];
        let x = reshape(x, [rows * months, inner]);
        let factors = Factors { x, gate: None, weight, bias: None };
        reshape(product(factors, Weight::Transposed, Ending::Nothing), [rows, months, width])
    }
}

/// `[B, T, times H]`.
fn wide(x: &TensorSpec, start: &TensorSpec, times: usize) -> TensorSpec {
    flat(&[x.shape[0], x.shape[1], times * start.shape[1]], x)
}

fn flat(dims: &[usize], like: &TensorSpec) -> TensorSpec {
    TensorSpec::new(Shape::from(dims.to_vec()), like.dtype)
}

impl Recurrence for CubeBackend {
    fn gru_states(
        x: FloatTensor<Self>,
        start: FloatTensor<Self>,
        input: FloatTensor<Self>,
        input_bias: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        hidden_bias: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        masking: Masking,
    ) -> FloatTensor<Self> {
        let parts = Parts { x, start, input, input_bias, hidden, hidden_bias, mask, masking };
        run(parts, Keep::Nothing).0
    }

    fn gru_states_and_gates(
        x: FloatTensor<Self>,
        start: FloatTensor<Self>,
        input: FloatTensor<Self>,
        input_bias: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        hidden_bias: FloatTensor<Self>,
        mask: FloatTensor<Self>,
        masking: Masking,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let parts = Parts { x, start, input, input_bias, hidden, hidden_bias, mask, masking };
        run(parts, Keep::Gates)
    }

    fn gru_gradients(
        x: FloatTensor<Self>,
        start: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        states: FloatTensor<Self>,
        gates: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let [x, start, states, gates, gradient] =
            [x, start, states, gates, gradient].map(into_contiguous);
        let [rows, months, inputs] = x.shape().dims();
        let units = start.shape()[1];
        let transposed = into_contiguous(Self::float_transpose(hidden));
        let d_input = empty(&x, [rows, months, 3 * units]);
        let d_recurrent = empty(&x, [rows, months, 3 * units]);
        let d_start = empty(&x, [rows, units]);
        let tile = Tile::new(rows, units, Way::Backward);
        recurrence::backward::launch(
            &x.client,
            tile.cubes(rows),
            tile.threads(),
            gradient.into_buffer_arg(),
            start.clone().into_buffer_arg(),
            states.clone().into_buffer_arg(),
            gates.into_buffer_arg(),
            transposed.into_buffer_arg(),
            d_input.clone().into_buffer_arg(),
            d_recurrent.clone().into_buffer_arg(),
            d_start.clone().into_buffer_arg(),
            rows as u32,
            months as u32,
            tile,
        );
        let d_gates = reshape(d_input.clone(), [rows * months, 3 * units]);
        let x = Left { values: reshape(x, [rows * months, inputs]), start: None };
        let (d_weight, d_bias) = row_products(x, Right { values: d_gates, gate: None });
        let values = reshape(d_recurrent, [rows * months, 3 * units]);
        let before = Left { values: states, start: Some(start) };
        let (d_hidden, d_hidden_bias) = row_products(before, Right { values, gate: None });
        (d_input, d_start, d_weight, d_bias, d_hidden, d_hidden_bias)
    }
}

/// States, and gates if they are kept, else something of no meaning.
fn run(parts: Parts<CubeBackend>, keep: Keep) -> (CubeTensor, CubeTensor) {
    let [rows, months, inputs] = parts.x.shape().dims();
    let units = parts.start.shape()[1];
    let [x, start, input, hidden] =
        [parts.x, parts.start, parts.input, parts.hidden].map(into_contiguous);
    let [input_bias, hidden_bias, mask] =
        [parts.input_bias, parts.hidden_bias, parts.mask].map(into_contiguous);
    let x = reshape(x, [rows * months, inputs]);
    // Its bias is added by the recurrence.
    let factors = Factors { x, gate: None, weight: input, bias: None };
    let projected = product(factors, Weight::Plain, Ending::Nothing);
    let states = empty(&start, [rows, months, units]);
    let gates = match keep {
        Keep::Gates => empty(&start, [rows, months, 4 * units]),
        Keep::Nothing => empty(&start, [1, 1, 1]),
    };
    let tile = Tile::new(rows, units, Way::Forward);
    recurrence::forward::launch(
        &start.client.clone(),
        tile.cubes(rows),
        tile.threads(),
        projected.into_buffer_arg(),
        start.into_buffer_arg(),
        input_bias.into_buffer_arg(),
        hidden.into_buffer_arg(),
        hidden_bias.into_buffer_arg(),
        mask.into_buffer_arg(),
        states.clone().into_buffer_arg(),
        gates.clone().into_buffer_arg(),
        rows as u32,
        months as u32,
        tile,
        Mode { masked: parts.masking == Masking::ByMonth, keeps_gates: keep == Keep::Gates },
    );
    (states, gates)
}

fn reshape<const D: usize>(tensor: CubeTensor, shape: [usize; D]) -> CubeTensor {
    CubeBackend::float_reshape(tensor, Shape::new(shape))
}

/// Whether the kernels take these parts.
fn fits<B: Backend>(parts: &Parts<B>) -> bool {
    let (x, hidden) = (parts.x.shape(), parts.start.shape()[1]);
    let is_some = x.num_elements() > 0 && hidden > 0;
    is_some
        && x[0] <= ROWS_MAX
        && hidden <= HIDDEN_MAX
        && parts.x.dtype() == burn::tensor::DType::F32
}

impl GruKernel for CubeBackend {
    fn gru_forward(parts: Parts<Self>, keep: Keep) -> (FloatTensor<Self>, Option<Saved<Self>>) {
        forward(parts, keep)
    }

    fn gru_backward(
        saved: Saved<Self>,
        gradient: FloatTensor<Self>,
        input_gradient: InputGradient,
    ) -> Parts<Self, Option<FloatTensor<Self>>> {
        backward(saved, gradient, input_gradient)
    }
}

impl GruKernel for Fusion<CubeBackend> {
    fn gru_forward(parts: Parts<Self>, keep: Keep) -> (FloatTensor<Self>, Option<Saved<Self>>) {
        forward(parts, keep)
    }

    fn gru_backward(
        saved: Saved<Self>,
        gradient: FloatTensor<Self>,
        input_gradient: InputGradient,
    ) -> Parts<Self, Option<FloatTensor<Self>>> {
        backward(saved, gradient, input_gradient)
    }
}

/// The states without a graph.
pub fn states<B: Recurrence>(parts: Parts<B>) -> FloatTensor<B> {
    forward(parts, Keep::Nothing).0
}

fn forward<B: Recurrence>(parts: Parts<B>, keep: Keep) -> (FloatTensor<B>, Option<Saved<B>>) {
    if !fits(&parts) {
        let (states, saved) = primitive::forward::<B>(parts, keep);
        return (states, Some(Saved::Primitive(saved)));
    }
    let kept = parts.clone();
    let Parts { x, start, input, input_bias, hidden, hidden_bias, mask, masking } = parts;
    match keep {
        Keep::Nothing => {
            (B::gru_states(x, start, input, input_bias, hidden, hidden_bias, mask, masking), None)
        }
        Keep::Gates => {
            let (states, gates) = B::gru_states_and_gates(
                x,
                start,
                input,
                input_bias,
                hidden,
                hidden_bias,
                mask,
                masking,
            );
            let kept = Kept { parts: kept, states: states.clone(), gates };
            (states, Some(Saved::Kernel(Box::new(kept))))
        }
    }
}

fn backward<B: Recurrence + TransposedProduct>(
    saved: Saved<B>,
    gradient: FloatTensor<B>,
    input_gradient: InputGradient,
) -> Parts<B, Option<FloatTensor<B>>> {
    let kept = match saved {
        Saved::Primitive(saved) => {
            return primitive::backward::<B>(saved, gradient, input_gradient);
        }
        Saved::Kernel(kept) => *kept,
        Saved::Native(_) => unreachable!("only flex saves so"),
    };
    let Kept { parts, states, gates } = kept;
    let (d_projected, d_start, d_input, d_input_bias, d_hidden, d_hidden_bias) =
        B::gru_gradients(parts.x, parts.start, parts.hidden, states, gates, gradient);
    let d_x = match input_gradient {
        InputGradient::Wanted => Some(B::times_transposed(d_projected, parts.input)),
        InputGradient::Unused => None,
    };
    Parts {
        x: d_x,
        start: Some(d_start),
        input: Some(d_input),
        input_bias: Some(d_input_bias),
        hidden: Some(d_hidden),
        hidden_bias: Some(d_hidden_bias),
        mask: parts.mask,
        masking: parts.masking,
    }
}
