//! The node against composed tensor operations, finite differences, and windows.

use burn::tensor::activation::{sigmoid, tanh};
use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;
use rand_distr::{Distribution, Normal};

use super::gru_sequence;
use crate::seeds::Seeds;

/// The same recurrence out of plain tensor operations.
fn composed(x: Tensor<3>, start: Tensor<2>, weight: Tensor<2>, bias: Tensor<2>) -> Tensor<3> {
    let [months, rows, gates] = x.dims();
    let hidden = gates / 3;
    let mut state = start;
    let mut states = Vec::new();
    for month in 0..months {
        let x = x.clone().slice([month..month + 1, 0..rows, 0..gates]).reshape([rows, gates]);
        let u = state.clone().matmul(weight.clone()) + bias.clone();
        let part =
            |t: &Tensor<2>, k: usize| t.clone().slice([0..rows, k * hidden..(k + 1) * hidden]);
        let reset = sigmoid(part(&x, 0) + part(&u, 0));
        let update = sigmoid(part(&x, 1) + part(&u, 1));
        let candidate = tanh(part(&x, 2) + reset * part(&u, 2));
        state = candidate.clone() + update * (state - candidate);
        states.push(state.clone());
    }
    Tensor::stack(states, 0)
}

struct Case {
    months: usize,
    rows: usize,
    hidden: usize,
    values: [Vec<f32>; 5],
}

impl Case {
    fn new(months: usize, rows: usize, hidden: usize, seed: u64) -> Self {
        let sizes = [
            months * rows * 3 * hidden,
            rows * hidden,
            hidden * 3 * hidden,
            3 * hidden,
            months * rows * hidden,
        ];
        let draw = |(at, size): (usize, usize)| {
            let mut rng = Seeds::new(seed).stream("case", at as u64);
            let law = Normal::new(0.0f32, 0.7).expect("valid");
            (0..size).map(|_| law.sample(&mut rng)).collect()
        };
        let values = std::array::from_fn(|at| draw((at, sizes[at])));
        Case { months, rows, hidden, values }
    }

    /// Loss (states weighted with fixed numbers), and gradients of the four inputs.
    fn run(
        &self,
        f: fn(Tensor<3>, Tensor<2>, Tensor<2>, Tensor<2>) -> Tensor<3>,
    ) -> (f32, Vec<Vec<f32>>) {
        let device = Device::flex().autodiff();
        let (t, b, h) = (self.months, self.rows, self.hidden);
        let matrix = |at: usize, shape: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(self.values[at].clone(), shape), &device)
                .require_grad()
        };
        let x = TensorData::new(self.values[0].clone(), [t, b, 3 * h]);
        let x = Tensor::<3>::from_data(x, &device).require_grad();
        let (start, weight, bias) =
            (matrix(1, [b, h]), matrix(2, [h, 3 * h]), matrix(3, [1, 3 * h]));
        let probe =
            Tensor::<3>::from_data(TensorData::new(self.values[4].clone(), [t, b, h]), &device);
        let loss = (f(x.clone(), start.clone(), weight.clone(), bias.clone()) * probe).sum();
        let grads = loss.backward();
        let list = |data: TensorData| data.try_into_vec_as::<f32>().expect("f32");
        let gradients = vec![
            list(x.grad(&grads).expect("tracked").into_data()),
            list(start.grad(&grads).expect("tracked").into_data()),
            list(weight.grad(&grads).expect("tracked").into_data()),
            list(bias.grad(&grads).expect("tracked").into_data()),
        ];
        (loss.into_scalar::<f32>(), gradients)
    }

    /// The loss alone, in f64 on the host.
    fn reference(&self, values: &[Vec<f64>]) -> f64 {
        let (b, h) = (self.rows, self.hidden);
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mut state = values[1].clone();
        let mut loss = 0.0;
        for t in 0..self.months {
            for row in 0..b {
                let before = state[row * h..(row + 1) * h].to_vec();
                let u: Vec<f64> = (0..3 * h)
                    .map(|g| {
                        values[3][g]
                            + (0..h).map(|k| before[k] * values[2][k * 3 * h + g]).sum::<f64>()
                    })
                    .collect();
                for j in 0..h {
                    let x = |gate: usize| values[0][(t * b + row) * 3 * h + gate * h + j];
                    let (r, z) = (sigma(x(0) + u[j]), sigma(x(1) + u[h + j]));
                    let n = (x(2) + r * u[2 * h + j]).tanh();
                    state[row * h + j] = n + z * (before[j] - n);
                    loss += state[row * h + j] * f64::from(self.values[4][(t * b + row) * h + j]);
                }
            }
        }
        loss
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]

    #[test]
    fn equals_the_composed_version(months in 1usize..9, rows in 1usize..6, hidden in 1usize..8, seed: u64) {
        let case = Case::new(months, rows, hidden, seed);
        let (loss, node) = case.run(gru_sequence);
        let (reference, graph) = case.run(composed);
        prop_assert!((loss - reference).abs() <= 1e-4 * (1.0 + reference.abs()));
        for (a, b) in node.iter().flatten().zip(graph.iter().flatten()) {
            // Sums over at most 9 * 6 rows in another order: a few units in the last place.
            prop_assert!((a - b).abs() <= 2e-4 * (1.0 + b.abs()), "{a} against {b}");
        }
    }

    #[test]
    fn gradients_equal_finite_differences(months in 1usize..6, rows in 1usize..4, hidden in 1usize..5, seed: u64) {
        let case = Case::new(months, rows, hidden, seed);
        let (_, gradients) = case.run(gru_sequence);
        let exact: Vec<Vec<f64>> =
            case.values.iter().map(|v| v.iter().map(|&x| f64::from(x)).collect()).collect();
        // Central differences in f64: the error is of the order of step^2 = 1e-10.
        let step = 1e-5;
        for (at, gradient) in gradients.iter().enumerate() {
            for (i, &got) in gradient.iter().enumerate() {
                let moved = |by: f64| {
                    let mut values = exact.clone();
                    values[at][i] += by;
                    case.reference(&values)
                };
                let wanted = (moved(step) - moved(-step)) / (2.0 * step);
                prop_assert!((f64::from(got) - wanted).abs() <= 1e-3 * (1.0 + wanted.abs()), "input {at}[{i}]: {got}, expected {wanted}");
            }
        }
    }
}

#[test]
fn one_pass_equals_one_window_per_month() {
    let case = Case::new(12, 4, 8, 1);
    let device = Device::flex();
    let (t, b, h) = (12, 4, 8);
    let tensor2 = |at: usize, shape: [usize; 2]| {
        Tensor::<2>::from_data(TensorData::new(case.values[at].clone(), shape), &device)
    };
    let x = Tensor::<3>::from_data(TensorData::new(case.values[0].clone(), [t, b, 3 * h]), &device);
    let run = |x: Tensor<3>| {
        gru_sequence(x, tensor2(1, [b, h]), tensor2(2, [h, 3 * h]), tensor2(3, [1, 3 * h]))
    };
    let all: Vec<f32> = run(x.clone()).into_data().try_into_vec_as().expect("f32");
    for months in 1..=t {
        let window = x.clone().slice([0..months, 0..b, 0..3 * h]);
        let states: Vec<f32> = run(window).into_data().try_into_vec_as().expect("f32");
        let (last, same) =
            (&states[(months - 1) * b * h..], &all[(months - 1) * b * h..months * b * h]);
        for (a, b) in last.iter().zip(same) {
            assert!((a - b).abs() <= 1e-6, "month {months}: {a} against {b}");
        }
    }
}
