//! The node against composed tensor operations, on the native kernel and by primitives, and
//! against its meaning.

use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;
use rand_distr::{Distribution, Normal};

use super::history;
use crate::seeds::Seeds;

type History = fn(Tensor<3>) -> Tensor<3>;

/// Out of plain tensor operations.
fn composed(states: Tensor<3>) -> Tensor<3> {
    let [_, months, _] = states.dims();
    let up_to = |month: usize| states.clone().narrow(1, 0, month + 1);
    let means = (0..months).map(|month| up_to(month).mean_dim(1)).collect();
    let mosts = (0..months).map(|month| up_to(month).max_dim(1)).collect();
    Tensor::cat(vec![states.clone(), Tensor::cat(means, 1), Tensor::cat(mosts, 1)], 2)
}

fn draw(name: &str, size: usize, seed: u64) -> Vec<f32> {
    let law = Normal::new(0.0, 1.0).expect("valid");
    let mut rng = Seeds::new(seed).stream(name, 0);
    (0..size).map(|_| law.sample(&mut rng)).collect()
}

fn tensor(values: Vec<f32>, shape: [usize; 3], device: &Device) -> Tensor<3> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn numbers(tensor: Tensor<3>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as().expect("f32")
}

/// Result, and gradient by the states under a fixed random weighting of the result.
fn run(f: History, [rows, months, hidden]: [usize; 3], seed: u64) -> [Vec<f32>; 2] {
    let device = Device::flex().autodiff();
    let count = rows * months * hidden;
    let states = tensor(draw("states", count, seed), [rows, months, hidden], &device);
    let states = states.require_grad();
    let y = f(states.clone());
    let probe = tensor(draw("probe", 3 * count, seed), [rows, months, 3 * hidden], &device);
    let grads = (y.clone() * probe).sum().backward();
    [numbers(y), numbers(states.grad(&grads).expect("tracked"))]
}

proptest! {
    /// Means of up to 40 numbers around 1 differ by a few 1e-7 in the order of their sums, and a
    /// gradient sums up to 40 of them.
    #[test]
    fn node_and_composed_operations_agree(
        rows in 1usize..6, months in 1usize..40, hidden in 1usize..35, seed in 0u64..1000,
    ) {
        let shape = [rows, months, hidden];
        let (node, graph) = (run(history, shape, seed), run(composed, shape, seed));
        for (got, wanted) in node.iter().zip(&graph) {
            prop_assert_eq!(got.len(), wanted.len());
            for (a, b) in got.iter().zip(wanted) {
                prop_assert!((a - b).abs() < 2e-5, "{} and {}", a, b);
            }
        }
    }
}

/// A later month, and padding behind a customer's last one, changes nothing before it.
#[test]
fn it_looks_back_only() {
    let (rows, months, hidden) = (2, 6, 3);
    let device = Device::flex();
    let all = draw("states", rows * months * hidden, 3);
    let whole = numbers(history(tensor(all.clone(), [rows, months, hidden], &device)));
    let short: Vec<f32> =
        all.chunks(months * hidden).flat_map(|row| &row[..4 * hidden]).copied().collect();
    let short = numbers(history(tensor(short, [rows, 4, hidden], &device)));
    for (whole, short) in whole.chunks(months * 3 * hidden).zip(short.chunks(4 * 3 * hidden)) {
        assert_eq!(whole[..4 * 3 * hidden], *short);
    }
}

#[test]
fn the_first_of_equals_has_the_gradient() {
    let device = Device::flex().autodiff();
    let states = tensor(vec![1.0, 3.0, 3.0, 2.0], [1, 4, 1], &device).require_grad();
    let y = history(states.clone());
    let grads = y.clone().narrow(2, 2, 1).sum().backward();
    assert_eq!(numbers(y.narrow(2, 2, 1)), [1.0, 3.0, 3.0, 3.0]);
    assert_eq!(numbers(states.grad(&grads).expect("tracked")), [1.0, 3.0, 0.0, 0.0]);
}

/// The bodies that GPUs run.
#[test]
fn primitives_agree_with_the_kernel() {
    use burn::backend::Flex;
    use burn::backend::tensor::FloatTensor;

    use super::super::native::history as native;
    use super::super::native::tensor::{numbers, tensor};

    let [rows, months, hidden] = [3, 7, 5];
    let count = rows * months * hidden;
    let (states, gradient) = (draw("states", count, 8), draw("gradient", 3 * count, 8));
    let y = native::forward((months, hidden), &states);
    let d_states = native::backward((months, hidden), &y, &gradient);
    let on_flex = |values: Vec<f32>, width: usize| -> FloatTensor<Flex> {
        tensor(values, [rows, months, width])
    };
    let composed = super::composed::<Flex>(on_flex(states, hidden));
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-6);
    assert!(near(numbers(&composed), &y));
    let gradient = on_flex(gradient, 3 * hidden);
    let composed = super::composed_backward::<Flex>(on_flex(y, 3 * hidden), gradient);
    assert!(near(numbers(&composed), &d_states));
}
