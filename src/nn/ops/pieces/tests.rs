//! The embedding against composed tensor operations and against sums in f64, and its kernel on
//! other numbers of threads.

use burn::tensor::{Device, Tensor, TensorData};
use rand_distr::{Distribution, Uniform};
use rayon::ThreadPoolBuilder;

use super::native::{self, Bins, Shape, Weights};
use super::{Grid, NO_BIN, PieceWeights, pieces};
use crate::seeds::Seeds;

/// Numbers of a case: x, grid and weights.
struct Case {
    rows: usize,
    shape: Shape,
    x: Vec<f32>,
    lows: Vec<f32>,
    inverses: Vec<f32>,
    weight: Vec<f32>,
    slope: Vec<f32>,
    bias: Vec<f32>,
    probe: Vec<f32>,
}

impl Case {
    /// Multiples of 1/8, and bins whose widths are powers of 2: exact in f32 in any order. Numbers
    /// lie in, between, below and above the bins; every second number has fewer bins than others.
    fn exact(rows: usize, shape: Shape) -> Self {
        let Shape { numbers, bins, width } = shape;
        let law = Uniform::new_inclusive(-8i8, 8).expect("valid");
        let draw = |name: &str, size: usize| -> Vec<f32> {
            let mut rng = Seeds::new(1).stream(name, 0);
            (0..size).map(|_| f32::from(law.sample(&mut rng)) / 8.0).collect()
        };
        let (mut lows, mut inverses) = (Vec::new(), Vec::new());
        for number in 0..numbers {
            let count = if number % 2 == 1 { bins.div_ceil(2) } else { bins };
            let mut low = -0.75;
            for bin in 0..bins {
                let wide = [0.25, 0.5, 0.125][(bin + number) % 3];
                lows.push(if bin < count { low } else { NO_BIN });
                inverses.push(if bin < count { 1.0 / wide } else { 0.0 });
                low += wide;
            }
        }
        Case {
            rows,
            shape,
            x: draw("x", rows * numbers),
            lows,
            inverses,
            weight: draw("weight", numbers * bins * width),
            slope: draw("slope", numbers * width),
            bias: draw("bias", numbers * width),
            probe: draw("probe", rows * numbers * width),
        }
    }

    /// Result, and gradients by weight, slope and bias.
    fn run(
        &self,
        f: fn(Tensor<2>, Grid, PieceWeights) -> Tensor<2>,
        device: &Device,
    ) -> [Vec<f32>; 4] {
        let device = device.clone().autodiff();
        let Shape { numbers: count, bins, width } = self.shape;
        let matrix = |values: &Vec<f32>, shape: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(values.clone(), shape), &device)
        };
        let grid = Grid {
            lows: matrix(&self.lows, [count, bins]),
            inverses: matrix(&self.inverses, [count, bins]),
        };
        let weight = TensorData::new(self.weight.clone(), [count, bins, width]);
        let weights = PieceWeights {
            weight: Tensor::<3>::from_data(weight, &device).require_grad(),
            slope: matrix(&self.slope, [count, width]).require_grad(),
            bias: matrix(&self.bias, [count, width]).require_grad(),
        };
        let y = f(matrix(&self.x, [self.rows, count]), grid, weights.clone());
        let probe = matrix(&self.probe, [self.rows, count * width]);
        let grads = (y.clone() * probe).sum().backward();
        [
            numbers(y),
            numbers(weights.weight.grad(&grads).expect("tracked")),
            numbers(weights.slope.grad(&grads).expect("tracked")),
            numbers(weights.bias.grad(&grads).expect("tracked")),
        ]
    }

    fn kernel(&self) -> Vec<f32> {
        let bins = Bins { lows: &self.lows, inverses: &self.inverses };
        let weights = Weights { weight: &self.weight, slope: &self.slope, bias: &self.bias };
        let y = native::forward(self.shape, bins, &self.x, &weights);
        let found = native::backward(self.shape, bins, &self.x, &self.probe);
        [y, found.concat()].concat()
    }
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec_as().expect("f32")
}

/// The whole encoding as a tensor, `[B, F, E, 1]`, times the weights.
fn composed(x: Tensor<2>, grid: Grid, weights: PieceWeights) -> Tensor<2> {
    let [rows, count] = x.dims();
    let x: Tensor<3> = x.unsqueeze_dim(2);
    let shares = (x.clone() - grid.lows.unsqueeze()) * grid.inverses.unsqueeze();
    let shares: Tensor<4> = shares.clamp(0.0, 1.0).unsqueeze_dim(3);
    let sum = (shares * weights.weight.unsqueeze()).sum_dim(2).squeeze_dim::<3>(2);
    let line = x * weights.slope.unsqueeze() + weights.bias.unsqueeze();
    let width = line.dims()[2];
    (sum + line).reshape([rows, count * width])
}

/// Around the rows of a block: 2^13 numbers.
const SHAPES: [(usize, Shape); 6] = [
    (1, Shape { numbers: 1, bins: 1, width: 1 }),
    (5, Shape { numbers: 3, bins: 2, width: 4 }),
    (33, Shape { numbers: 7, bins: 9, width: 5 }),
    (64, Shape { numbers: 4, bins: 48, width: 16 }),
    (300, Shape { numbers: 10, bins: 6, width: 8 }),
    (130, Shape { numbers: 130, bins: 3, width: 2 }),
];

#[track_caller]
fn check(device: &Device) {
    for (rows, shape) in SHAPES {
        let case = Case::exact(rows, shape);
        let (found, wanted) = (case.run(pieces, device), case.run(composed, device));
        for (name, (found, wanted)) in
            ["y", "weight", "slope", "bias"].iter().zip(found.iter().zip(&wanted))
        {
            assert!(found == wanted, "{name} of {rows} rows, {shape:?}");
        }
    }
}

#[test]
fn equals_the_composed_version() {
    check(&Device::flex());
}

#[cfg(feature = "ndarray")]
#[test]
#[expect(deprecated, reason = "kept selectable on purpose, see ARCHITECTURE.md")]
fn equals_the_composed_version_on_ndarray() {
    check(&Device::ndarray());
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for (rows, shape) in SHAPES {
        let mut case = Case::exact(rows, shape);
        // Thirds make sums depend on their order.
        case.probe.iter_mut().for_each(|probe| *probe /= 3.0);
        let on = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            let found = pool.install(|| case.kernel());
            found.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        };
        let one = on(1);
        for threads in [2, 3] {
            assert!(on(threads) == one, "{shape:?} on {threads} threads");
        }
    }
}

/// Weights that are the widths of their bins make the number itself, as far as the bins go.
#[test]
fn a_number_is_the_sum_of_its_pieces() {
    let borders = [-1.0f32, -0.5, 0.25, 2.0];
    let widths: Vec<f32> = borders.windows(2).map(|bin| bin[1] - bin[0]).collect();
    let inverses: Vec<f32> = widths.iter().map(|width| 1.0 / width).collect();
    let shape = Shape { numbers: 1, bins: 3, width: 1 };
    let bins = Bins { lows: &borders[..3], inverses: &inverses };
    let weights = Weights { weight: &widths, slope: &[0.0], bias: &[-1.0] };
    let x = [-7.0, -1.0, -0.75, -0.5, 0.0, 0.25, 1.5, 2.0, 9.0];
    let found = native::forward(shape, bins, &x, &weights);
    for (x, found) in x.iter().zip(&found) {
        let wanted = x.clamp(-1.0, 2.0);
        assert!((found - wanted).abs() < 1e-6, "{x}: {found}"); // A few roundings of f32.
    }
    let lost = native::forward(shape, bins, &[f32::NAN, 0.0], &weights);
    assert!(lost[0].is_nan() && !lost[1].is_nan(), "a number that is none shows: {lost:?}");
}
