//! The node against composed tensor operations, finite differences, and windows; its kernel
//! against itself on other numbers of threads.

use burn::tensor::activation::{sigmoid, tanh};
use burn::tensor::{Device, Tensor, TensorData};
use proptest::prelude::*;
use rand_distr::{Distribution, Normal};
use rayon::ThreadPoolBuilder;

use super::{GruWeights, gru_sequence};
use crate::nn::ops::native::gru::{
    Gradients, InputGradient, Inputs, Keep, Shape, Upstream, Weights, backward, forward,
};
use crate::seeds::Seeds;

type Sequence = fn(Tensor<3>, Tensor<2>, GruWeights, Option<Tensor<2>>) -> Tensor<3>;

/// The same recurrence out of plain tensor operations.
fn composed(
    x: Tensor<3>,
    start: Tensor<2>,
    weights: GruWeights,
    mask: Option<Tensor<2>>,
) -> Tensor<3> {
    let [rows, months, inputs] = x.dims();
    let hidden = start.dims()[1];
    let part = |t: &Tensor<2>, k: usize| t.clone().slice([0..rows, k * hidden..(k + 1) * hidden]);
    let mut state = start;
    let mut states = Vec::new();
    for month in 0..months {
        let x = x.clone().slice([0..rows, month..month + 1, 0..inputs]).reshape([rows, inputs]);
        let i = x.matmul(weights.input.clone()) + weights.input_bias.clone();
        let u = state.clone().matmul(weights.hidden.clone()) + weights.hidden_bias.clone();
        let reset = sigmoid(part(&i, 0) + part(&u, 0));
        let update = sigmoid(part(&i, 1) + part(&u, 1));
        let candidate = tanh(part(&i, 2) + reset * part(&u, 2));
        let new = candidate.clone() + update * (state.clone() - candidate);
        state = match &mask {
            Some(mask) => {
                let lived = mask.clone().slice([0..rows, month..month + 1]);
                new * lived.clone() + state * (lived.neg() + 1.0)
            }
            None => new,
        };
        states.push(state.clone());
    }
    Tensor::stack(states, 1)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Start {
    Zero,
    Random,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Masked {
    Nothing,
    AtRandom,
    Everything,
}

const STARTS: [Start; 2] = [Start::Zero, Start::Random];
const MASKS: [Masked; 3] = [Masked::Nothing, Masked::AtRandom, Masked::Everything];

/// What is differentiated, in the order of [`Case::values`].
const NAMES: [&str; 6] = ["x", "start", "input", "input_bias", "hidden", "hidden_bias"];

struct Case {
    shape: Shape,
    /// Those of [`NAMES`].
    values: [Vec<f32>; 6],
    /// `[B, T]`.
    mask: Option<Vec<f32>>,
    /// What the states are weighted with in the loss.
    probe: Vec<f32>,
}

impl Case {
    /// Matrices are drawn with a variance of 1 / their height, as trained ones have it, so that
    /// neither gates nor gradients run away over the months.
    fn new(shape: Shape, start: Start, masked: Masked, seed: u64) -> Self {
        let Shape { rows, months, inputs, hidden } = shape;
        let draw = |name: &str, size: usize, deviation: f32| -> Vec<f32> {
            let mut rng = Seeds::new(seed).stream(name, 0);
            let law = Normal::new(0.0, deviation).expect("valid");
            (0..size).map(|_| law.sample(&mut rng)).collect()
        };
        let per = |height: usize| (height as f32).powf(-0.5);
        let bit = |odds: f32| if odds < 0.0 { 0.0 } else { 1.0 };
        Case {
            shape,
            values: [
                draw("x", rows * months * inputs, 1.0),
                match start {
                    Start::Zero => vec![0.0; rows * hidden],
                    Start::Random => draw("start", rows * hidden, 0.7),
                },
                draw("input", inputs * 3 * hidden, per(inputs)),
                draw("input_bias", 3 * hidden, 0.3),
                draw("hidden", hidden * 3 * hidden, per(hidden)),
                draw("hidden_bias", 3 * hidden, 0.3),
            ],
            mask: match masked {
                Masked::Nothing => None,
                Masked::AtRandom => {
                    Some(draw("mask", rows * months, 1.0).into_iter().map(bit).collect())
                }
                Masked::Everything => Some(vec![0.0; rows * months]),
            },
            probe: draw("probe", rows * months * hidden, 1.0),
        }
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs { x: &self.values[0], start: &self.values[1], mask: self.mask.as_deref() }
    }

    fn weights(&self) -> Weights<'_> {
        let [_, _, input, input_bias, hidden, hidden_bias] = &self.values;
        Weights { input, input_bias, hidden, hidden_bias }
    }

    /// Loss (states weighted with fixed numbers), and its gradients by those of [`NAMES`].
    fn run(&self, device: &Device, f: Sequence) -> (f32, Vec<Vec<f32>>) {
        let device = device.clone().autodiff();
        let Shape { rows, months, inputs, hidden } = self.shape;
        let x = tensor(&self.values[0], [rows, months, inputs], &device).require_grad();
        let shapes = [
            [rows, hidden],
            [inputs, 3 * hidden],
            [1, 3 * hidden],
            [hidden, 3 * hidden],
            [1, 3 * hidden],
        ];
        let others: Vec<Tensor<2>> = self.values[1..]
            .iter()
            .zip(shapes)
            .map(|(values, shape)| tensor(values, shape, &device).require_grad())
            .collect();
        let weights = GruWeights {
            input: others[1].clone(),
            input_bias: others[2].clone(),
            hidden: others[3].clone(),
            hidden_bias: others[4].clone(),
        };
        let mask = self.mask.as_ref().map(|mask| tensor(mask, [rows, months], &device));
        let probe = tensor(&self.probe, [rows, months, hidden], &device);
        let loss = (f(x.clone(), others[0].clone(), weights, mask) * probe).sum();
        let grads = loss.backward();
        let mut gradients = vec![numbers(x.grad(&grads).expect("tracked"))];
        gradients.extend(others.iter().map(|t| numbers(t.grad(&grads).expect("tracked"))));
        (loss.into_scalar::<f32>(), gradients)
    }

    /// The node against the composed version.
    ///
    /// Both compute in f32 and differ in the order of their sums and in tanh and sigmoid, which
    /// are off by a few 1e-7. Over 8 months that makes about 1e-6 of a state; a gradient of a
    /// weight sums up to 9 * 257 such differences of random sign, some 5e-5 of a sum that is
    /// itself larger than 1.
    fn check(&self, device: &Device) -> Result<(), String> {
        let (loss, node) = self.run(device, gru_sequence);
        let (reference, graph) = self.run(device, composed);
        let size = self.probe.len() as f32;
        near("loss", &[loss], &[reference], 1e-5 * size.sqrt())?;
        for ((name, got), wanted) in NAMES.iter().zip(&node).zip(&graph) {
            near(name, got, wanted, 2e-4)?;
        }
        Ok(())
    }

    /// The loss alone, in f64 on the host.
    fn reference(&self, values: &[Vec<f64>]) -> f64 {
        let Shape { rows, months, inputs, hidden: h } = self.shape;
        let [x, start, wi, bi, wh, bh] = values else { panic!("six") };
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        let product = |row: &[f64], weight: &[f64], bias: &[f64]| -> Vec<f64> {
            let sum = |g: usize| {
                row.iter().enumerate().map(|(k, x)| x * weight[k * 3 * h + g]).sum::<f64>()
            };
            (0..3 * h).map(|g| bias[g] + sum(g)).collect()
        };
        let mut loss = 0.0;
        for row in 0..rows {
            let mut state = start[row * h..(row + 1) * h].to_vec();
            for place in row * months..(row + 1) * months {
                let i = product(&x[place * inputs..(place + 1) * inputs], wi, bi);
                let u = product(&state, wh, bh);
                let lived = self.mask.as_ref().is_none_or(|mask| mask[place] == 1.0);
                for j in 0..h {
                    let (r, z) = (sigma(i[j] + u[j]), sigma(i[h + j] + u[h + j]));
                    let n = (i[2 * h + j] + r * u[2 * h + j]).tanh();
                    if lived {
                        state[j] = n + z * (state[j] - n);
                    }
                    loss += state[j] * f64::from(self.probe[place * h + j]);
                }
            }
        }
        loss
    }

    /// All gradients of the node against central differences in f64, whose own error is of the
    /// order of step^2 = 1e-10; what remains is f32, see [`Case::check`].
    fn check_differences(&self) -> Result<(), String> {
        let (loss, gradients) = self.run(&Device::flex(), gru_sequence);
        let exact: Vec<Vec<f64>> =
            self.values.iter().map(|v| v.iter().map(|&x| f64::from(x)).collect()).collect();
        near("loss", &[loss], &[self.reference(&exact) as f32], 1e-5)?;
        let step = 1e-5;
        for (at, (name, gradient)) in NAMES.iter().zip(&gradients).enumerate() {
            let mut values = exact.clone();
            let wanted: Vec<f32> = (0..gradient.len())
                .map(|i| {
                    let mut moved = |by: f64| {
                        values[at][i] = exact[at][i] + by;
                        self.reference(&values)
                    };
                    let slope = (moved(step) - moved(-step)) / (2.0 * step);
                    values[at][i] = exact[at][i];
                    slope as f32
                })
                .collect();
            near(name, gradient, &wanted, 5e-5)?;
        }
        Ok(())
    }

    /// States and gradients of the kernel below the tensors.
    fn kernel(&self, wanted: InputGradient) -> (Vec<f32>, Gradients) {
        let (inputs, weights) = (self.inputs(), self.weights());
        let (states, gates) = forward(self.shape, &inputs, &weights, Keep::Gates);
        let gates = gates.expect("kept");
        let upstream = Upstream { states: &states, gates: &gates, gradient: &self.probe };
        let gradients = backward(self.shape, &inputs, &weights, &upstream, wanted);
        (states, gradients)
    }
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as().expect("f32")
}

fn near(what: &str, got: &[f32], wanted: &[f32], tolerance: f32) -> Result<(), String> {
    if got.len() != wanted.len() {
        return Err(format!("{what}: {} numbers, expected {}", got.len(), wanted.len()));
    }
    let is_far = |(_, (a, b)): &(usize, (&f32, &f32))| {
        // In this order, a NaN is far from everything.
        let is_near = (*a - *b).abs() <= tolerance * (1.0 + b.abs());
        !is_near
    };
    match got.iter().zip(wanted).enumerate().find(is_far) {
        Some((at, (a, b))) => Err(format!("{what}[{at}]: {a}, expected {b}")),
        None => Ok(()),
    }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

/// States, then gradients.
fn all_bits((states, gradients): &(Vec<f32>, Gradients)) -> Vec<Vec<u32>> {
    let Gradients { x, start, input, input_bias, hidden, hidden_bias } = gradients;
    let x = x.as_deref().unwrap_or_default();
    [states, x, start, input, input_bias, hidden, hidden_bias].map(bits).to_vec()
}

/// Rows around tiles (8) and blocks (32, and 64 from 256 rows on), and any others.
fn any_rows() -> impl Strategy<Value = usize> {
    prop_oneof![prop::sample::select(vec![1usize, 7, 8, 9, 31, 33, 63, 64, 65, 66]), 1..70usize]
}

/// Units around vectors of 16, and any others.
fn any_hidden() -> impl Strategy<Value = usize> {
    prop_oneof![prop::sample::select(vec![15usize, 16, 17, 33]), 1..36usize]
}

prop_compose! {
    fn any_case()(
        months in 1..9usize,
        rows in any_rows(),
        inputs in 1..20usize,
        hidden in any_hidden(),
        start in prop::sample::select(&STARTS[..]),
        masked in prop::sample::select(&MASKS[..]),
        seed: u64,
    ) -> (Shape, Start, Masked, u64) {
        (Shape { rows, months, inputs, hidden }, start, masked, seed)
    }
}

prop_compose! {
    /// Every number is moved twice: few of them.
    fn small_case()(
        months in 1..6usize,
        rows in 1..4usize,
        inputs in 1..5usize,
        hidden in 1..5usize,
        start in prop::sample::select(&STARTS[..]),
        masked in prop::sample::select(&MASKS[..]),
        seed: u64,
    ) -> (Shape, Start, Masked, u64) {
        (Shape { rows, months, inputs, hidden }, start, masked, seed)
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..Default::default() }
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn equals_the_composed_version((shape, start, masked, seed) in any_case()) {
        let checked = Case::new(shape, start, masked, seed).check(&Device::flex());
        prop_assert_eq!(checked, Ok(()));
    }

    #[test]
    fn gradients_equal_finite_differences((shape, start, masked, seed) in small_case()) {
        prop_assert_eq!(Case::new(shape, start, masked, seed).check_differences(), Ok(()));
    }
}

#[cfg(feature = "ndarray")]
proptest! {
    #![proptest_config(config(24))]

    #[test]
    #[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
    fn equals_the_composed_version_on_ndarray((shape, start, masked, seed) in any_case()) {
        let checked = Case::new(shape, start, masked, seed).check(&Device::ndarray());
        prop_assert_eq!(checked, Ok(()));
    }
}

/// Whatever proptest draws, these are tried: a row of every tile and block edge with units of
/// every vector edge, and batches of the large blocks.
#[test]
fn equals_the_composed_version_at_the_edges() {
    let rows = [1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 66, 255, 256, 257];
    let hidden = [15, 16, 17, 33, 1];
    for (at, rows) in rows.into_iter().enumerate() {
        let shape = Shape { rows, months: 3, inputs: 1 + 7 * (at % 3), hidden: hidden[at % 5] };
        let case = Case::new(shape, STARTS[at % 2], MASKS[at % 2], at as u64);
        assert_eq!(case.check(&Device::flex()), Ok(()), "{shape:?}");
    }
}

/// A mask of one month of one row is a mask too.
#[test]
fn a_single_masked_month_keeps_the_state() {
    let shape = Shape { rows: 1, months: 1, inputs: 3, hidden: 4 };
    let case = Case::new(shape, Start::Random, Masked::Everything, 4);
    assert_eq!(case.check(&Device::flex()), Ok(()));
}

/// A window's states are those of one pass over all months: a row's block has as many months as
/// are asked for, but the sums are the same.
#[test]
fn one_pass_equals_one_window_per_month() {
    let (rows, months, inputs, hidden) = (41, 12, 5, 17);
    let shape = Shape { rows, months, inputs, hidden };
    let case = Case::new(shape, Start::Random, Masked::AtRandom, 1);
    let device = Device::flex();
    let [x, start, input, input_bias, rest @ ..] = &case.values;
    let weights = GruWeights {
        input: tensor(input, [inputs, 3 * hidden], &device),
        input_bias: tensor(input_bias, [1, 3 * hidden], &device),
        hidden: tensor(&rest[0], [hidden, 3 * hidden], &device),
        hidden_bias: tensor(&rest[1], [1, 3 * hidden], &device),
    };
    let x = tensor(x, [rows, months, inputs], &device);
    let start = tensor(start, [rows, hidden], &device);
    let mask = tensor(case.mask.as_ref().expect("masked"), [rows, months], &device);
    let run = |months: usize| {
        let x = x.clone().slice([0..rows, 0..months, 0..inputs]);
        let mask = mask.clone().slice([0..rows, 0..months]);
        gru_sequence(x, start.clone(), weights.clone(), Some(mask))
    };
    let last = |states: Tensor<3>, month: usize| {
        numbers(states.slice([0..rows, month..month + 1, 0..hidden]))
    };
    let all = run(months);
    for count in 1..=months {
        let window = last(run(count), count - 1);
        let checked = near("state", &window, &last(all.clone(), count - 1), 1e-6);
        assert_eq!(checked, Ok(()), "{count} months");
    }
}

/// Each row lives for a number of months of its own, from none to all of them.
#[test]
fn a_masked_tail_keeps_the_last_state_exactly() {
    for start in STARTS {
        let (months, hidden) = (6, 19);
        let shape = Shape { rows: 37, months, inputs: 4, hidden };
        let mut case = Case::new(shape, start, Masked::Nothing, 2);
        let unmasked = case.kernel(InputGradient::Unused).0;
        let lived = |row: usize| row % (months + 1);
        let places = (0..shape.rows).flat_map(|row| (0..months).map(move |month| (row, month)));
        case.mask = Some(
            places.clone().map(|(row, month)| f32::from(u8::from(month < lived(row)))).collect(),
        );
        let masked = case.kernel(InputGradient::Unused).0;
        for (row, month) in places {
            let at = |states: &[f32], month: usize| {
                bits(&states[(row * months + month) * hidden..][..hidden])
            };
            let wanted = match month.min(lived(row).wrapping_sub(1)) {
                // Less than none is more than any month: this row never lived.
                _ if lived(row) == 0 => bits(&case.values[1][row * hidden..][..hidden]),
                last => at(&unmasked, last),
            };
            assert_eq!(at(&masked, month), wanted, "{start:?}: row {row}, month {month}");
        }
    }
}

/// Small and large blocks, whole and broken ones.
const MANY_ROWS: [usize; 3] = [70, 256, 300];

#[track_caller]
fn case_of_rows(rows: usize) -> Case {
    let shape = Shape { rows, months: 3, inputs: 11, hidden: 33 };
    Case::new(shape, Start::Random, Masked::AtRandom, rows as u64)
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for rows in MANY_ROWS {
        let case = case_of_rows(rows);
        let on = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            all_bits(&pool.install(|| case.kernel(InputGradient::Wanted)))
        };
        let one = on(1);
        for threads in [2, 3] {
            assert!(on(threads) == one, "{rows} rows on {threads} threads");
        }
    }
}

#[test]
fn states_are_the_same_when_no_gates_are_kept() {
    for rows in MANY_ROWS {
        let case = case_of_rows(rows);
        let run = |keep: Keep| forward(case.shape, &case.inputs(), &case.weights(), keep);
        let ((with, gates), (without, nothing)) = (run(Keep::Gates), run(Keep::Nothing));
        assert!(gates.is_some() && nothing.is_none());
        assert!(bits(&with) == bits(&without), "{rows} rows");
    }
}

#[test]
fn other_gradients_do_not_depend_on_whether_that_of_x_is_wanted() {
    for rows in MANY_ROWS {
        let case = case_of_rows(rows);
        let (with, mut without) =
            (case.kernel(InputGradient::Wanted), case.kernel(InputGradient::Unused));
        assert!(without.1.x.is_none());
        without.1.x = with.1.x.clone();
        assert!(all_bits(&with) == all_bits(&without), "{rows} rows");
    }
}

/// The trainer stops at a loss that is not a number; a gate that turns NaN into a number would
/// hide it.
#[test]
fn a_nan_goes_through() {
    let shape = Shape { rows: 9, months: 2, inputs: 3, hidden: 17 };
    for (at, name) in NAMES.iter().enumerate() {
        let mut case = Case::new(shape, Start::Random, Masked::Nothing, 3);
        case.values[at][0] = f32::NAN;
        let states = case.kernel(InputGradient::Unused).0;
        assert!(states.iter().any(|x| x.is_nan()), "a NaN in {name} is lost");
    }
}
