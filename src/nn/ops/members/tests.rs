//! Both operations against composed tensor operations, and their kernels on other numbers of
//! threads.

use burn::tensor::{Device, Tensor, TensorData};
use rand_distr::{Distribution, Normal, Uniform};
use rayon::ThreadPoolBuilder;

use super::native::{self, Heads, Spread};
use super::{heads, spread};
use crate::seeds::Seeds;

/// Multiples of 1/8 up to 1: products of three are multiples of 1/512, and sums of 300 of them
/// need 18 bits: exact in f32 in any order.
fn exact(name: &str, size: usize) -> Vec<f32> {
    let law = Uniform::new_inclusive(-8i8, 8).expect("valid");
    let mut rng = Seeds::new(1).stream(name, 0);
    (0..size).map(|_| f32::from(law.sample(&mut rng)) / 8.0).collect()
}

/// Numbers whose sums depend on the order.
fn rough(name: &str, size: usize) -> Vec<f32> {
    let law = Normal::new(0.0f32, 1.0).expect("valid");
    let mut rng = Seeds::new(2).stream(name, 0);
    (0..size).map(|_| law.sample(&mut rng)).collect()
}

fn tensor<const D: usize>(name: &str, shape: [usize; D], device: &Device) -> Tensor<D> {
    let values = exact(name, shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as().expect("f32")
}

/// Rows, members, width, outputs of a member.
const SHAPES: [[usize; 4]; 7] = [
    [1, 1, 1, 1],
    [1, 3, 5, 2],
    [7, 1, 16, 1],
    [5, 16, 17, 1],
    [64, 4, 33, 3],
    [300, 8, 64, 1],
    [31, 2, 130, 12],
];

type SpreadBy = fn(Tensor<2>, Tensor<2>) -> Tensor<2>;

fn composed_spread(x: Tensor<2>, scale: Tensor<2>) -> Tensor<2> {
    let width = x.dims()[1] as isize;
    (x.unsqueeze_dim::<3>(1) * scale.unsqueeze::<3>()).reshape([-1, width])
}

/// Result, and gradients by x and scale.
fn run_spread(f: SpreadBy, shape: [usize; 4], device: &Device) -> [Vec<f32>; 3] {
    let device = device.clone().autodiff();
    let [rows, members, width, _] = shape;
    let x = tensor("x", [rows, width], &device).require_grad();
    let scale = tensor("scale", [members, width], &device).require_grad();
    let probe = tensor("probe", [rows * members, width], &device);
    let y = f(x.clone(), scale.clone());
    let grads = (y.clone() * probe).sum().backward();
    [
        numbers(y),
        numbers(x.grad(&grads).expect("tracked")),
        numbers(scale.grad(&grads).expect("tracked")),
    ]
}

type HeadsBy = fn(Tensor<2>, Tensor<2>, Tensor<1>, usize) -> Tensor<2>;

fn composed_heads(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, members: usize) -> Tensor<2> {
    let [rows, width] = x.dims();
    let outputs = weight.dims()[0];
    let x = x.reshape([rows / members, members, 1, width]);
    let weight = weight.reshape([1, members, outputs / members, width]);
    (x * weight).sum_dim(3).reshape([rows / members, outputs]) + bias.unsqueeze()
}

/// Result, and gradients by x, weight and bias.
fn run_heads(f: HeadsBy, shape: [usize; 4], device: &Device) -> [Vec<f32>; 4] {
    let device = device.clone().autodiff();
    let [rows, members, width, outputs] = shape;
    let x = tensor("x", [rows * members, width], &device).require_grad();
    let weight = tensor("weight", [members * outputs, width], &device).require_grad();
    let bias = tensor("bias", [members * outputs], &device).require_grad();
    let probe = tensor("probe", [rows, members * outputs], &device);
    let y = f(x.clone(), weight.clone(), bias.clone(), members);
    let grads = (y.clone() * probe).sum().backward();
    [
        numbers(y),
        numbers(x.grad(&grads).expect("tracked")),
        numbers(weight.grad(&grads).expect("tracked")),
        numbers(bias.grad(&grads).expect("tracked")),
    ]
}

#[track_caller]
fn check(device: &Device) {
    for shape in SHAPES {
        let found = run_spread(spread, shape, device);
        assert!(found == run_spread(composed_spread, shape, device), "spread {shape:?}");
        let found = run_heads(heads, shape, device);
        assert!(found == run_heads(composed_heads, shape, device), "heads {shape:?}");
    }
}

#[test]
fn equal_the_composed_versions() {
    check(&Device::flex());
}

#[cfg(feature = "ndarray")]
#[test]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
fn equal_the_composed_versions_on_ndarray() {
    check(&Device::ndarray());
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for [rows, members, width, outputs] in SHAPES {
        let on = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            pool.install(|| {
                let (x, scale) = (rough("x", rows * width), rough("scale", members * width));
                let wide = rough("wide", rows * members * width);
                let size = Spread { members, width };
                let y = native::spread(size, &x, &scale);
                let (d_x, d_scale) = native::spread_backward(size, &x, &scale, &wide);
                let weight = rough("weight", members * outputs * width);
                let bias = rough("bias", members * outputs);
                let gradient = rough("gradient", rows * members * outputs);
                let size = Heads { members, width, outputs };
                let out = native::heads(size, &wide, &weight, &bias);
                let (d_wide, d_weight, d_bias) =
                    native::heads_backward(size, &wide, &weight, &gradient);
                [y, d_x, d_scale, out, d_wide, d_weight, d_bias].concat()
            })
        };
        let bits = |all: Vec<f32>| all.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
        let one = bits(on(1));
        for threads in [2, 3] {
            assert!(bits(on(threads)) == one, "{threads} threads");
        }
    }
}

#[test]
fn a_nan_stays_with_its_row() {
    let (size, width) = (Spread { members: 2, width: 17 }, 17);
    let mut x = rough("x", 3 * width);
    x[width] = f32::NAN;
    let y = native::spread(size, &x, &rough("scale", 2 * width));
    let size = Heads { members: 2, width, outputs: 2 };
    let out = native::heads(size, &y, &rough("weight", 4 * width), &rough("bias", 4));
    let lost: Vec<usize> = (0..out.len()).filter(|&at| out[at].is_nan()).collect();
    assert_eq!(lost, [4, 5, 6, 7]);
}
