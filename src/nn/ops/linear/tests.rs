//! The node against composed tensor operations, and its kernel against itself on other numbers of
//! threads.

use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor, TensorData};
use rand_distr::{Distribution, Normal, Uniform};
use rayon::ThreadPoolBuilder;

use super::native::{Gradients, backward, forward};
use super::{Activation, Shape, Upstream, linear};
use crate::seeds::Seeds;

type Layer = fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>, Activation) -> Tensor<2>;

fn composed(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    activation: Activation,
) -> Tensor<2> {
    let product = x.matmul(weight);
    let sum = match bias {
        Some(bias) => product + bias.unsqueeze(),
        None => product,
    };
    match activation {
        Activation::None => sum,
        Activation::Relu => relu(sum),
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Input {
    Tracked,
    Constant,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bias {
    There,
    Missing,
}

/// x, weight, bias and probe (what the output is weighted with in the loss).
struct Case {
    shape: Shape,
    values: [Vec<f32>; 4],
}

impl Case {
    fn new(shape: Shape, draw: impl Fn(usize, usize) -> Vec<f32>) -> Self {
        let Shape { rows, inputs, outputs } = shape;
        let sizes = [rows * inputs, inputs * outputs, outputs, rows * outputs];
        Case { shape, values: std::array::from_fn(|at| draw(at, sizes[at])) }
    }

    /// Multiples of 1/8 up to 1. Their products are multiples of 1/64, and sums of up to 200 of
    /// them need 14 bits: exact in f32 in any order, and zeros before relu are common.
    fn exact(shape: Shape) -> Self {
        let law = Uniform::new_inclusive(-8i8, 8).expect("valid");
        Case::new(shape, |at, size| {
            let mut rng = Seeds::new(1).stream("exact", at as u64);
            (0..size).map(|_| f32::from(law.sample(&mut rng)) / 8.0).collect()
        })
    }

    /// Numbers whose sums depend on the order.
    fn rough(shape: Shape) -> Self {
        let law = Normal::new(0.0f32, 1.0).expect("valid");
        Case::new(shape, |at, size| {
            let mut rng = Seeds::new(2).stream("rough", at as u64);
            (0..size).map(|_| law.sample(&mut rng)).collect()
        })
    }

    /// Output, and gradients by x, weight and bias.
    fn run(
        &self,
        f: Layer,
        device: &Device,
        (input, bias, activation): (Input, Bias, Activation),
    ) -> [Option<Vec<f32>>; 4] {
        let device = device.clone().autodiff();
        let Shape { rows, inputs, outputs } = self.shape;
        let matrix = |at: usize, shape: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(self.values[at].clone(), shape), &device)
        };
        let mut x = matrix(0, [rows, inputs]);
        if input == Input::Tracked {
            x = x.require_grad();
        }
        let weight = matrix(1, [inputs, outputs]).require_grad();
        let bias = (bias == Bias::There)
            .then(|| matrix(2, [1, outputs]).reshape([outputs]).detach().require_grad());
        let y = f(x.clone(), weight.clone(), bias.clone(), activation);
        let grads = (y.clone() * matrix(3, [rows, outputs])).sum().backward();
        [
            Some(numbers(y)),
            x.grad(&grads).map(numbers),
            weight.grad(&grads).map(numbers),
            bias.and_then(|bias| bias.grad(&grads)).map(numbers),
        ]
    }

    fn kernel(&self, activation: Activation) -> (Vec<f32>, Gradients) {
        let [x, weight, bias, gradient] = &self.values;
        let y = forward(self.shape, x, weight, bias, activation);
        let up = Upstream { x, weight, y: &y, activation };
        let gradients = backward(self.shape, &up, &mut gradient.clone(), true);
        (y, gradients)
    }
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as().expect("f32")
}

const ACTIVATIONS: [Activation; 2] = [Activation::None, Activation::Relu];

/// Around tiles of 6 rows and blocks of up to 96, half of the batch on two threads.
const ROWS: [usize; 8] = [1, 5, 47, 48, 49, 96, 97, 200];
const INPUTS: [usize; 6] = [1, 5, 6, 7, 36, 64];
/// Around vectors of 8 and 16 and panels of 1, 2 and 4 of them.
const OUTPUTS: [usize; 11] = [1, 2, 8, 15, 16, 17, 33, 63, 64, 65, 130];

#[track_caller]
fn check(shape: Shape, device: &Device) {
    let case = Case::exact(shape);
    for activation in ACTIVATIONS {
        for input in [Input::Tracked, Input::Constant] {
            for bias in [Bias::There, Bias::Missing] {
                let how = (input, bias, activation);
                let got = case.run(linear, device, how);
                assert_eq!(got[1].is_some(), input == Input::Tracked, "{shape:?} {how:?}");
                assert_eq!(got[3].is_some(), bias == Bias::There, "{shape:?} {how:?}");
                let wanted = case.run(composed, device, how);
                for ((name, got), wanted) in
                    ["y", "x", "weight", "bias"].iter().zip(&got).zip(&wanted)
                {
                    assert!(got == wanted, "{name} of {shape:?} {how:?}");
                }
            }
        }
    }
}

#[test]
fn equals_the_composed_version() {
    for rows in ROWS {
        for inputs in INPUTS {
            for outputs in OUTPUTS {
                check(Shape { rows, inputs, outputs }, &Device::flex());
            }
        }
    }
}

/// Sums that are made in pieces of 256: along rows, inputs and outputs. Of 600 products,
/// multiples of 1/64, a sum needs 16 bits.
#[test]
fn equals_the_composed_version_in_pieces() {
    for (rows, inputs, outputs) in
        [(255, 6, 16), (256, 7, 17), (257, 5, 9), (600, 13, 40), (3, 257, 512), (50, 520, 300)]
    {
        check(Shape { rows, inputs, outputs }, &Device::flex());
    }
}

#[cfg(feature = "ndarray")]
#[test]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
fn equals_the_composed_version_on_ndarray() {
    for outputs in [1, 17, 65] {
        check(Shape { rows: 49, inputs: 7, outputs }, &Device::ndarray());
    }
}

/// The composed version could be wrong in the same way: sums of products in f64.
#[test]
fn equals_sums_of_products() {
    for outputs in OUTPUTS {
        let shape = Shape { rows: 49, inputs: 7, outputs };
        let case = Case::exact(shape);
        let [x, weight, bias, _] = &case.values;
        let sum = |row: usize, column: usize| -> f64 {
            let products = (0..shape.inputs).map(|k| {
                f64::from(x[row * shape.inputs + k]) * f64::from(weight[k * outputs + column])
            });
            products.sum::<f64>() + f64::from(bias[column])
        };
        for (at, y) in forward(shape, x, weight, bias, Activation::Relu).iter().enumerate() {
            let wanted = sum(at / outputs, at % outputs).max(0.0);
            assert_eq!(f64::from(*y), wanted, "{shape:?} at {at}");
        }
    }
}

#[test]
fn leading_dimensions_are_kept() {
    let case = Case::exact(Shape { rows: 12, inputs: 5, outputs: 7 });
    let device = Device::flex();
    let of = |at: usize, shape: &[usize]| TensorData::new(case.values[at].clone(), shape.to_vec());
    let x = Tensor::<3>::from_data(of(0, &[4, 3, 5]), &device);
    let weight = Tensor::<2>::from_data(of(1, &[5, 7]), &device);
    let y = linear(x.clone(), weight.clone(), None, Activation::None);
    assert_eq!(y.dims(), [4, 3, 7]);
    assert_eq!(numbers(y), numbers(x.reshape([12, 5]).matmul(weight)));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    // More rows than one block, sums in pieces, and more inputs than one tile; one output is
    // computed by other means, 1024 rows at a time.
    for (rows, inputs, outputs) in
        [(200, 64, 130), (97, 7, 65), (2100, 36, 1), (49, 100, 17), (700, 300, 270)]
    {
        let shape = Shape { rows, inputs, outputs };
        let case = Case::rough(shape);
        let on = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let (y, found) = pool.install(|| case.kernel(Activation::Relu));
            [y, found.x.expect("wanted"), found.weight, found.bias]
                .map(|all| all.iter().map(|x| x.to_bits()).collect::<Vec<u32>>())
        };
        let one = on(1);
        for threads in [2, 3] {
            assert!(on(threads) == one, "{shape:?} on {threads} threads");
        }
    }
}

/// The trainer stops at a loss that is not a number; a relu that turns NaN into 0 would hide it.
#[test]
fn a_nan_goes_through() {
    for outputs in [1, 2, 17, 65] {
        for activation in ACTIVATIONS {
            let mut case = Case::rough(Shape { rows: 7, inputs: 5, outputs });
            case.values[0][0] = f32::NAN;
            let (y, _) = case.kernel(activation);
            let lost = y[..outputs].iter().filter(|y| !y.is_nan()).count();
            assert_eq!(lost, 0, "{outputs} outputs, {activation:?}");
            assert!(y[outputs..].iter().all(|y| !y.is_nan()), "it stays in its row");
        }
    }
}
